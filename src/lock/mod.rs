//! Locks that keep processors off each other's scopes.
//!
//! `[orchestrator] coordination_url` says where they are, in the forms that the
//! tooz library of the reference takes. Place, names and protocol are tooz's, so
//! that a Python processor and this one exclude each other:
//!
//! | scheme | the lock is |
//! |---|---|
//! | `file` | a POSIX record lock on a file of that name |
//! | `mysql` | `GET_LOCK` of that name, in a session |
//! | `postgresql` | an advisory lock by two bytes of its MD5, in a session |
//! | `redis`, `rediss` | a key that runs out unless it is renewed |
//! | `etcd3+http`, `etcd3+https`, `etcd3` | a key on a lease that is kept alive |
//!
//! A lock spares work. That nothing is billed twice does not depend on it: a
//! scope moves only from where it stood (`state::Step`).

mod etcd3;
mod file;
mod lease;
mod mysql;
mod place;
mod postgresql;
mod redis;
mod session;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use crate::instruments::instruments;
use place::Place;

/// Longest time for one question to a server.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a lock cannot be taken, or is not held any more.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The URL is not one for locks.
    #[error("[orchestrator] coordination_url: {0}")]
    Url(String),
    /// The place of the locks does not answer, or refuses.
    #[error(
        "locks cannot be had from {place}: {problem}; check that it is there and may be used, and [orchestrator] coordination_url"
    )]
    Unavailable {
        /// Where, without password.
        place: String,
        /// What went wrong.
        problem: String,
    },
    /// The lock was held, and someone else may have it now.
    #[error(
        "the lock of {what} at {place} was lost: {problem}; what was being done is given up, and done again"
    )]
    Lost {
        /// What was locked.
        what: String,
        /// Where, without password.
        place: String,
        /// How it was noticed.
        problem: String,
    },
}

/// Name of a lock: 64 hex digits, made of what it locks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LockName {
    digest: String,
    what: String,
}

impl LockName {
    /// The lock of a scope, as the reference's processors name it.
    pub fn scope(scope_id: &str, collector: &str, fetcher: &str, scope_key: &str) -> Self {
        Self::new(
            &format!("cloudkitty-{scope_id}-{collector}-{fetcher}-{scope_key}"),
            format!("scope `{scope_id}`"),
        )
    }

    /// The lock of a reprocessing, as the reference's workers name it: its dates
    /// are in UTC, without zone.
    pub fn reprocessing(
        (id, scope_id): (i64, &str),
        (start, end): (DateTime<Utc>, DateTime<Utc>),
        (collector, fetcher, scope_key): (&str, &str, &str),
    ) -> Self {
        let date = |date: DateTime<Utc>| date.format("%Y-%m-%d %H:%M:%S").to_string();
        let scope = format!(
            "<class 'cloudkitty.orchestrator.ReprocessingWorker'>-id={scope_id}-start={}-end={}",
            date(start),
            date(end)
        );
        Self::new(
            &format!("cloudkitty-{scope}-{collector}-{fetcher}-{scope_key}"),
            format!("reprocessing {id} of scope `{scope_id}`"),
        )
    }

    fn new(text: &str, what: String) -> Self {
        let digest = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { digest, what }
    }

    /// The 64 hex digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// How locks of one kind are taken.
#[async_trait]
trait Driver: Send + Sync {
    /// What tells a lock from all others, among those at `place`: two names of
    /// one key are one lock.
    fn key(&self, place: &str, name: &LockName) -> String {
        format!("{place} {}", name.digest)
    }

    /// Takes a lock that no other task of this process holds.
    async fn take(&self, name: &LockName) -> Result<Option<Box<dyn Held>>, String>;
}

/// A lock that is held.
#[async_trait]
trait Held: Send + Sync {
    /// Asks the place whether it still is.
    async fn check(&mut self) -> Result<(), String>;

    /// Gives it back.
    async fn release(self: Box<Self>) -> Result<(), String>;
}

/// Locks that tasks of this process hold. Places cannot tell tasks apart: a
/// record lock is the process', and a session may take its own lock again.
static CLAIMED: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// The right to ask for a lock, among the tasks of this process.
struct Claim(String);

impl Claim {
    fn new(key: String) -> Option<Self> {
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.get_or_insert_default().insert(key.clone()).then(|| Self(key))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.get_or_insert_default().remove(&self.0);
    }
}

/// A place where locks are taken.
#[derive(Clone)]
pub struct Coordinator {
    place: Arc<str>,
    driver: Arc<dyn Driver>,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Coordinator({})", self.place)
    }
}

impl Coordinator {
    /// The place that a URL names. Nothing is asked of it yet.
    ///
    /// # Errors
    /// A scheme or option that is not known, a value that is not one.
    pub fn new(url: &str) -> Result<Self, LockError> {
        let place = Place::parse(url).map_err(LockError::Url)?;
        let driver: Result<Arc<dyn Driver>, String> = match place.scheme.as_str() {
            "file" => file::FileLocks::new(&place).map(|driver| Arc::new(driver) as _),
            "mysql" => mysql::driver(&place).map(|driver| Arc::new(driver) as _),
            "postgresql" => postgresql::driver(&place).map(|driver| Arc::new(driver) as _),
            "redis" | "rediss" => {
                redis::RedisLocks::new(&place).map(|driver| Arc::new(driver) as _)
            }
            "etcd3+http" | "etcd3+https" | "etcd3" => {
                etcd3::EtcdLocks::new(&place).map(|driver| Arc::new(driver) as _)
            }
            _ => Err(place.unknown_scheme()),
        };
        Ok(Self { place: place.shown().into(), driver: driver.map_err(LockError::Url)? })
    }

    /// Where the locks are, without password.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Takes a lock; `None` if somebody has it.
    ///
    /// # Errors
    /// A place that does not answer, or refuses.
    pub async fn try_lock(&self, name: &LockName) -> Result<Option<Lock>, LockError> {
        let Some(claim) = Claim::new(self.driver.key(&self.place, name)) else {
            return Ok(None);
        };
        let begun = Instant::now();
        let held = self.driver.take(name).await;
        if let Ok(held) = &held {
            instruments().locked(held.is_some(), begun.elapsed());
        }
        let held = held
            .map_err(|problem| LockError::Unavailable { place: self.place.to_string(), problem })?;
        Ok(held.map(|held| Lock {
            held: Some((held, claim)),
            what: name.what.clone(),
            place: self.place.clone(),
        }))
    }

    /// Takes a lock, and waits for who has it.
    ///
    /// # Errors
    /// As [`Self::try_lock`]; `None` if it was not to be had in time.
    pub async fn lock(
        &self,
        name: &LockName,
        patience: Duration,
    ) -> Result<Option<Lock>, LockError> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            match self.try_lock(name).await? {
                None if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                lock => return Ok(lock),
            }
        }
    }

    /// Takes a lock of its own and gives it back, to see that it can be done.
    ///
    /// # Errors
    /// As [`Self::try_lock`].
    pub async fn probe(&self) -> Result<(), LockError> {
        let text = format!("ratekitty-probe-{:x}", rand::random::<u128>());
        match self.try_lock(&LockName::new(&text, "a probe".to_owned())).await? {
            Some(mut lock) => {
                lock.check().await?;
                lock.release().await;
                Ok(())
            }
            None => Err(LockError::Unavailable {
                place: self.place.to_string(),
                problem: "a lock that nobody knows is taken".to_owned(),
            }),
        }
    }
}

/// A lock that is held until it is released or dropped.
pub struct Lock {
    held: Option<(Box<dyn Held>, Claim)>,
    what: String,
    place: Arc<str>,
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lock({} at {})", self.what, self.place)
    }
}

impl Lock {
    /// Sees to it that the lock is still held: to be asked before anything is
    /// written.
    ///
    /// # Errors
    /// [`LockError::Lost`]
    pub async fn check(&mut self) -> Result<(), LockError> {
        let Some((held, _)) = &mut self.held else { return Ok(()) };
        held.check().await.map_err(|problem| LockError::Lost {
            what: self.what.clone(),
            place: self.place.to_string(),
            problem,
        })
    }

    /// Gives the lock back.
    pub async fn release(mut self) {
        if let Some((held, claim)) = self.held.take() {
            give_back(held, claim, &self.what, &self.place).await;
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let Some((held, claim)) = self.held.take() else { return };
        let (what, place) = (std::mem::take(&mut self.what), self.place.clone());
        // Without a runtime the process ends, and the lock with it or its lease.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { give_back(held, claim, &what, &place).await });
        }
    }
}

async fn give_back(held: Box<dyn Held>, claim: Claim, what: &str, place: &str) {
    if let Err(problem) = held.release().await {
        tracing::debug!("The lock of {what} at {place} was not given back: {problem}");
    }
    drop(claim);
}

/// Bounds a question to a server.
async fn in_time<T, E: std::fmt::Display>(
    limit: Duration,
    question: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match tokio::time::timeout(limit, question).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_references() {
        let name = LockName::scope("p1", "prometheus", "prometheus", "project_id");
        assert_eq!(
            name.digest(),
            "6e81f1847b5610396df7768bf9127edbbc9cb46a0bb607e30f1d4e7404479f53"
        );
    }

    #[test]
    fn refuses_what_is_not_known_by_name() {
        let cases = [
            ("zookeeper://h", "`zookeeper` is not supported"),
            ("memcached://h", "`memcached` is not supported"),
            ("etcd://h", "`etcd` is not supported"),
            ("nonsense://h", "`nonsense` is not known"),
            ("/var/lib/locks", "no scheme"),
            ("", "no scheme"),
            ("file://", "no folder"),
            ("mysql://u:secret@h:x/d", "port"),
            ("redis://:secret@h/?lock_timeout=soon", "lock_timeout"),
            ("redis://:secret@h/?db=x", "db"),
            ("etcd3+http://h?nonsense=1", "`nonsense`"),
        ];
        for (url, expected) in cases {
            let error = Coordinator::new(url).unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn places_are_told_without_passwords() {
        for (url, shown) in [
            ("mysql://ck:secret@db/locks", "mysql://ck@db/locks"),
            ("redis://:secret@h:6380/?sentinel=m&sentinel_password=secret", "redis://h:6380/"),
            ("file:///var/lib/cloudkitty/locks", "file:///var/lib/cloudkitty/locks"),
        ] {
            let coordinator = Coordinator::new(url).unwrap();
            assert_eq!(coordinator.place(), shown);
        }
    }
}
