//! Reset: a scope goes back, and is rated again from there.
//!
//! What was rated after the period that it goes back to is deleted, and the
//! scope moved, in one transaction, under the scope's lock: a processor that is
//! rating the scope either ends before, or finds it moved.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tracing::info;

use crate::{
    lock::{Coordinator, LockError, LockName},
    state::{
        Database, StateError, Step,
        scopes::{self, ScopeKeys},
    },
    storage::{Storage, StorageError},
    time::{isoformat, seconds},
};

/// Longest wait for a processor that is rating the scope.
const PATIENCE: Duration = Duration::from_secs(600);

/// An instant after all periods: the year 9999.
const FOREVER: i64 = 253_000_000_000;

/// Why a scope was not reset. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// There is no such scope.
    #[error("there is no scope `{0}` that is rated here")]
    Unknown(String),
    /// No period begins there.
    #[error(
        "scope `{scope_id}` cannot be reset to {}: no period of it begins there; the ones next to it begin at {} and {}",
        isoformat(*.wanted), isoformat(*.before), isoformat(*.after)
    )]
    NotOnPeriod {
        /// The scope.
        scope_id: String,
        /// Where it was to go.
        wanted: DateTime<Utc>,
        /// Begin of the period before.
        before: DateTime<Utc>,
        /// Begin of the period after.
        after: DateTime<Utc>,
    },
    /// Someone is at it for long.
    #[error("scope `{scope_id}` was being rated for {} s; try again", PATIENCE.as_secs())]
    Busy {
        /// The scope.
        scope_id: String,
    },
    /// Someone else may be at it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Resets a scope: the period that begins at `last` stays as its last one, what
/// comes after is forgotten. `period` is the length of periods in seconds.
///
/// # Errors
/// [`ResetError`]
pub async fn reset(
    (database, storage, locks): (&Database, &dyn Storage, &Coordinator),
    (scope_id, keys): (&str, &ScopeKeys),
    last: DateTime<Utc>,
    period: u32,
) -> Result<(), ResetError> {
    let unknown = || ResetError::Unknown(scope_id.to_owned());
    let name = LockName::scope(scope_id, &keys.collector, &keys.fetcher, &keys.scope_key);
    let lock = locks.lock(&name, PATIENCE).await?;
    let mut lock = lock.ok_or_else(|| ResetError::Busy { scope_id: scope_id.to_owned() })?;
    let reset = async {
        let scope = scopes::get(database, scope_id, keys).await?.ok_or_else(unknown)?;
        let off = (last - scope.last_processed).num_seconds().rem_euclid(period.into());
        if off != 0 {
            let before = last - TimeDelta::seconds(off);
            return Err(ResetError::NotOnPeriod {
                scope_id: scope_id.to_owned(),
                wanted: last,
                before,
                after: before + TimeDelta::seconds(period.into()),
            });
        }
        lock.check().await?;
        let step = Step::Reset { scope: &scope, last };
        // The period that begins at `last` itself counts as done and stays.
        let from = last + TimeDelta::seconds(1);
        storage.delete(scope_id, from, seconds(FOREVER), &step).await?;
        info!(scope.id = scope_id, "Scope `{scope_id}` was reset to {}", isoformat(last));
        Ok(())
    };
    let result = reset.await;
    lock.release().await;
    result
}
