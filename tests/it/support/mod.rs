//! What tests stand on: a state database and configuration of their own, the
//! API without a socket, and real programs.

mod app;
pub mod fake_loki;
mod prometheus;

pub use app::TestApp;
pub use fake_loki::FakeLoki;
pub use prometheus::Prometheus;

use std::{path::PathBuf, time::Duration};

/// Where `make test` puts what it downloads.
pub fn peers() -> PathBuf {
    std::env::var_os("RATEKITTY_PEERS")
        .map(PathBuf::from)
        .expect("RATEKITTY_PEERS is not set: run the tests with `make test`")
}

/// Waits until something holds, at most half a minute.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    for _ in 0..600 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("timed out waiting for {what}");
}
