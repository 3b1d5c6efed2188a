//! Locks that run out unless they are renewed.
//!
//! A task renews each one at a third of its time. Once it may have run out by
//! our own clock it counts as lost, whatever the server would say: the server
//! may have given it away already.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use super::Held;

/// What a server is asked about a lock.
#[async_trait]
pub(super) trait Lease: Send + Sync + 'static {
    /// Gives it its full time again, if it is still ours.
    async fn renew(&self) -> Result<bool, String>;

    /// Gives it back, if it is still ours.
    async fn give_back(&self) -> Result<(), String>;
}

/// A lock on a lease, kept alive.
pub(super) struct HeldLease<L> {
    lease: Arc<L>,
    lifetime: Duration,
    /// When it was last known to have its full time.
    renewed: Arc<Mutex<Result<Instant, String>>>,
    _keeper: AbortOnDropHandle<()>,
}

impl<L: Lease> HeldLease<L> {
    /// Keeps a lock that was asked for at `taken`.
    pub fn new(lease: L, lifetime: Duration, taken: Instant) -> Self {
        let (lease, renewed) = (Arc::new(lease), Arc::new(Mutex::new(Ok(taken))));
        let keeper = tokio::spawn(keep(lease.clone(), lifetime, renewed.clone()));
        Self { lease, lifetime, renewed, _keeper: AbortOnDropHandle::new(keeper) }
    }
}

async fn keep(
    lease: Arc<impl Lease>,
    lifetime: Duration,
    renewed: Arc<Mutex<Result<Instant, String>>>,
) {
    loop {
        sleep(lifetime / 3).await;
        let asked = Instant::now();
        // A server that does not answer is asked again until time is up.
        let result = tokio::time::timeout(lifetime / 3, lease.renew()).await;
        let mut renewed = renewed.lock().await;
        match (&*renewed, result) {
            (Err(_), _) => return,
            (Ok(_), Ok(Ok(true))) => *renewed = Ok(asked),
            (Ok(_), Ok(Ok(false))) => {
                *renewed = Err("it ran out, or was taken away".to_owned());
                return;
            }
            (Ok(last), _) if last.elapsed() >= lifetime => {
                *renewed = Err("it could not be renewed in time".to_owned());
                return;
            }
            (Ok(_), _) => {}
        }
    }
}

#[async_trait]
impl<L: Lease> Held for HeldLease<L> {
    async fn check(&mut self) -> Result<(), String> {
        let asked = Instant::now();
        let mut renewed = self.renewed.lock().await;
        if let Err(problem) = &*renewed {
            return Err(problem.clone());
        }
        let answer = match tokio::time::timeout(self.lifetime / 3, self.lease.renew()).await {
            Ok(Ok(true)) => Ok(asked),
            Ok(Ok(false)) => Err("it ran out, or was taken away".to_owned()),
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err("the server does not answer".to_owned()),
        };
        renewed.clone_from(&answer);
        answer.map(|_| ())
    }

    async fn release(self: Box<Self>) -> Result<(), String> {
        self.lease.give_back().await
    }
}
