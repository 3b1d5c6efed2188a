//! Locks that a session of a database server holds.
//!
//! One session takes all locks of a place, so that a try is one question and no
//! handshake. When the session dies all its locks are lost; the next try begins
//! a new session.

use std::sync::Arc;

use async_trait::async_trait;
use sea_orm::sqlx;
use tokio::sync::Mutex;

use super::{Driver, Held, LockName, TIMEOUT, in_time};

/// What differs between servers.
#[async_trait]
pub(super) trait Server: Send + Sync + 'static {
    type Session: Send;

    async fn connect(&self) -> Result<Self::Session, sqlx::Error>;

    /// What the server knows a lock by.
    fn key(&self, name: &LockName) -> String;

    /// Takes a lock that the session does not have.
    async fn take(&self, session: &mut Self::Session, key: &str) -> Result<bool, sqlx::Error>;

    /// Whether the session has it.
    async fn has(&self, session: &mut Self::Session, key: &str) -> Result<bool, sqlx::Error>;

    async fn release(&self, session: &mut Self::Session, key: &str) -> Result<(), sqlx::Error>;
}

struct Shared<S: Server> {
    server: S,
    session: Mutex<Current<S::Session>>,
}

/// The session of now, and how many there were.
struct Current<T> {
    session: Option<T>,
    generation: u64,
}

/// Locks in sessions of a server.
pub(super) struct SessionLocks<S: Server>(Arc<Shared<S>>);

impl<S: Server> SessionLocks<S> {
    pub fn new(server: S) -> Self {
        let session = Mutex::new(Current { session: None, generation: 0 });
        Self(Arc::new(Shared { server, session }))
    }
}

#[async_trait]
impl<S: Server> Driver for SessionLocks<S> {
    fn key(&self, place: &str, name: &LockName) -> String {
        format!("{place} {}", self.0.server.key(name))
    }

    async fn take(&self, name: &LockName) -> Result<Option<Box<dyn Held>>, String> {
        let key = self.0.server.key(name);
        let mut current = self.0.session.lock().await;
        // A session that is found dead is replaced once.
        let mut was_there = current.session.is_some();
        loop {
            let mut session = match current.session.take() {
                Some(session) => session,
                None => {
                    current.generation += 1;
                    in_time(TIMEOUT, self.0.server.connect()).await?
                }
            };
            match in_time(TIMEOUT, self.0.server.take(&mut session, &key)).await {
                Ok(taken) => {
                    current.session = Some(session);
                    let generation = current.generation;
                    let held = HeldKey { shared: self.0.clone(), key, generation };
                    return Ok(taken.then(|| Box::new(held) as _));
                }
                Err(_) if was_there => was_there = false,
                Err(problem) => return Err(problem),
            }
        }
    }
}

struct HeldKey<S: Server> {
    shared: Arc<Shared<S>>,
    key: String,
    generation: u64,
}

#[async_trait]
impl<S: Server> Held for HeldKey<S> {
    async fn check(&mut self) -> Result<(), String> {
        let mut current = self.shared.session.lock().await;
        let mut session = match current.session.take() {
            Some(session) if current.generation == self.generation => session,
            other => {
                current.session = other;
                return Err("the session that held it has ended".to_owned());
            }
        };
        let has = in_time(TIMEOUT, self.shared.server.has(&mut session, &self.key)).await?;
        current.session = Some(session);
        if has { Ok(()) } else { Err("the server does not know it any more".to_owned()) }
    }

    async fn release(self: Box<Self>) -> Result<(), String> {
        let mut current = self.shared.session.lock().await;
        if current.generation != self.generation {
            return Ok(());
        }
        let Some(mut session) = current.session.take() else { return Ok(()) };
        // On an error the session ends, and its locks with it.
        in_time(TIMEOUT, self.shared.server.release(&mut session, &self.key)).await?;
        current.session = Some(session);
        Ok(())
    }
}
