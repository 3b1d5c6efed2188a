//! Signals: SIGTERM and SIGINT ask for a clean stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A token that is cancelled by SIGTERM or SIGINT.
pub fn on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let (terminate, interrupt) =
            match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
                (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
                (Err(error), _) | (_, Err(error)) => {
                    warn!("Signals cannot be caught, a stop will not be clean: {error}");
                    return;
                }
            };
        let (mut terminate, mut interrupt) = (terminate, interrupt);
        tokio::select! {
            _ = terminate.recv() => info!("Received SIGTERM, stopping"),
            _ = interrupt.recv() => info!("Received SIGINT, stopping"),
        }
        stop.cancel();
    });
    token
}
