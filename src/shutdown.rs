//! Signals: SIGTERM and SIGINT ask for a clean stop, a second one ends it at
//! once; SIGHUP, which log rotation sends, changes nothing.

use std::time::Duration;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Time within which further signals mean the same stop: a terminal and a
/// supervisor may both send theirs.
const SAME_STOP: Duration = Duration::from_secs(1);

/// Has a token cancelled by SIGTERM or SIGINT.
pub fn on_signal(token: &CancellationToken) {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    match kinds.map(signal) {
        [Ok(terminate), Ok(interrupt), Ok(hangup)] => {
            tokio::spawn(watch(terminate, interrupt, hangup, token.clone()));
        }
        _ => warn!("Signals cannot be caught: a stop will not be clean"),
    }
}

async fn watch(
    mut terminate: Signal,
    mut interrupt: Signal,
    mut hangup: Signal,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            _ = terminate.recv() => info!("Received SIGTERM, stopping"),
            _ = interrupt.recv() => info!("Received SIGINT, stopping"),
            _ = hangup.recv() => {
                info!("Received SIGHUP: configuration is read at the start only, restart to change it");
                continue;
            }
        }
        break;
    }
    stop.cancel();
    sleep(SAME_STOP).await;
    let ended = std::future::pending::<()>();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = ended => {}
    }
    warn!("Received a second signal, stopping at once");
    // Nothing is lost: a period that was not finished is rated again.
    std::process::exit(1);
}
