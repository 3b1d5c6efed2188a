//! What tests stand on: a state database and configuration of their own, the
//! API without a socket, and real programs.

mod app;
mod authority;
pub mod cloud;
pub mod databases;
pub mod fake_loki;
mod prometheus;
mod running;
pub mod servers;

pub use app::TestApp;
pub use authority::Authority;
pub use cloud::Cloud;
pub use databases::Db;
pub use fake_loki::{FakeLoki, TlsListener};
pub use prometheus::Prometheus;
pub use running::Running;

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use ratekitty::{
    dataframe::DataFrame,
    state::Step,
    storage::{Storage, StorageError},
};

/// What `make test` has set up: the value of an environment variable.
pub fn set_up(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests with `make test`"))
}

/// Writing to a storage without a processor, and without state.
pub trait StorageExt {
    /// Keeps a period in place of what was kept of it.
    fn put(
        &self,
        scope_id: &str,
        frame: &DataFrame,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Forgets periods.
    fn remove(
        &self,
        scope_id: &str,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;
}

impl<T: Storage + ?Sized> StorageExt for T {
    async fn put(&self, scope_id: &str, frame: &DataFrame) -> Result<(), StorageError> {
        self.replace(scope_id, frame, &Step::Stay { scope_id }).await
    }

    async fn remove(
        &self,
        scope_id: &str,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        self.delete(scope_id, begin, end, &Step::Stay { scope_id }).await
    }
}

/// Where `make test` puts what it downloads.
pub fn peers() -> PathBuf {
    set_up("RATEKITTY_PEERS").into()
}

/// Waits until something holds, at most half a minute.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) {
    until_in(Duration::from_secs(30), what, condition).await;
}

/// Waits until something holds, at most about that long.
pub async fn until_in<F: Future<Output = bool>>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    for _ in 0..patience.as_millis() / 50 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("timed out waiting for {what}");
}
