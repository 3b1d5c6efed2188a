//! Reset: a scope goes back, and is rated again from there. Who asks for it over
//! the API leaves a row, which processors work off.
//!
//! What was rated after the period that it goes back to is deleted, and the
//! scope moved, in one transaction, under the scope's lock: a processor that is
//! rating the scope either ends before, or finds it moved.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::Pipeline;
use crate::{
    lock::{Coordinator, LockError, LockName},
    state::{
        Database, StateError, Step, resets,
        scopes::{self, ScopeKeys, ScopeState},
    },
    storage::{Storage, StorageError},
    time::{Period, isoformat, seconds},
};

/// Time between two looks at what is to be reset.
const PAUSE: Duration = Duration::from_secs(5);

/// Longest wait for a processor that is rating the scope. What waits longer is
/// tried again with the next look, so that no scope holds up the others.
const PATIENCE: Duration = Duration::from_secs(20);

/// An instant after all periods: the year 9999.
const FOREVER: i64 = 253_000_000_000;

/// Why a scope was not reset. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// There is no such scope.
    #[error("there is no scope `{0}` that is rated here")]
    Unknown(String),
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

/// Resets a scope: the period in which `last` lies stays as its last one, what
/// comes after is forgotten. `period` is the length of periods in seconds;
/// `request` is the row that asked for it, if one did, and the scope's row that it
/// means.
///
/// # Errors
/// [`ResetError`]
pub async fn reset(
    (database, storage, locks): (&Database, &dyn Storage, &Coordinator),
    (scope_id, keys): (&str, &ScopeKeys),
    last: DateTime<Utc>,
    period: u32,
    request: Option<(i64, i64)>,
) -> Result<(), ResetError> {
    let unknown = || ResetError::Unknown(scope_id.to_owned());
    let name = LockName::scope(scope_id, &keys.collector, &keys.fetcher, &keys.scope_key);
    let lock = locks.lock(&name, PATIENCE).await?;
    let mut lock = lock.ok_or_else(|| ResetError::Busy { scope_id: scope_id.to_owned() })?;
    let reset = async {
        let scope = scopes::get(database, scope_id, keys).await?;
        // Another row of this name may have come to have our keys.
        let is_meant = |scope: &ScopeState| request.is_none_or(|(_, row)| row == scope.id);
        let scope = scope.filter(is_meant).ok_or_else(unknown)?;
        // Periods go on where they were: between others they would overlap them.
        let length = TimeDelta::seconds(period.into());
        let aligned = |date: DateTime<Utc>| {
            let off = (date - scope.last_processed).num_seconds().rem_euclid(period.into());
            date - TimeDelta::seconds(off)
        };
        let mut last = aligned(last);
        // Nor may they begin within one that was rated in another length: that goes,
        // too, and is rated again as a whole.
        loop {
            let next = Period { begin: last + length, end: last + length };
            match storage.crossing(scope_id, &keys.writer(), next).await? {
                Some(rated) => last = aligned(rated.begin) - length,
                None => break,
            }
        }
        lock.check().await?;
        let step = Step::Reset { scope: &scope, last, request: request.map(|(id, _)| id) };
        // The period that begins at `last` itself counts as done and stays.
        let from = last + length;
        storage.delete(scope_id, from, seconds(FOREVER), &step).await?;
        info!(scope.id = scope_id, "Scope `{scope_id}` was reset to {}", isoformat(last));
        if last > scope.last_processed {
            warn!(
                scope.id = scope_id,
                "The time from {} to {} of scope `{scope_id}` will not be rated",
                isoformat(scope.last_processed + TimeDelta::seconds(period.into())),
                isoformat(last + TimeDelta::seconds(period.into()))
            );
        }
        Ok(())
    };
    let result = reset.await;
    lock.release().await;
    result
}

impl Pipeline {
    pub(super) async fn run_resets(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            self.pulses.resets.beat();
            if let Err(error) = self.reset_once(stop).await {
                error!(error = %error, "Cannot look what to reset, trying again: {error}");
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Resets the scopes for which that was asked over the API, and tells how
    /// many there were. Those that belong to processors with other keys are left
    /// to them.
    ///
    /// # Errors
    /// A database that fails.
    pub async fn reset_once(&self, stop: &CancellationToken) -> Result<usize, StateError> {
        let mut count = 0;
        for request in resets::pending(&self.database).await? {
            self.pulses.resets.beat();
            let scope = scopes::by_row(&self.database, request.scope).await?;
            let Some(scope) = scope else {
                warn!("Scope `{}` is to be reset, and is not there any more", request.scope_id);
                resets::done(self.database.connection(), request.id).await?;
                continue;
            };
            let is_ours = |its: &Option<String>, ours| its.as_ref().is_none_or(|its| its == ours);
            let keys = &self.keys;
            if !is_ours(&scope.scope_key, &keys.scope_key)
                || !is_ours(&scope.fetcher, &keys.fetcher)
                || !is_ours(&scope.collector, &keys.collector)
            {
                continue;
            }
            let place = (&self.database, &*self.storage, &self.locks);
            let period = self.settings.schedule.period;
            let of = (request.scope_id.as_str(), keys);
            let asked = Some((request.id, request.scope));
            let reset = reset(place, of, request.last, period, asked);
            let result = tokio::select! {
                result = reset => result,
                () = stop.cancelled() => return Ok(count),
            };
            match result {
                Ok(()) => count += 1,
                // Another processor has done it meanwhile.
                Err(ResetError::Storage(StorageError::State(StateError::Moved(_)))) => {}
                Err(ResetError::Busy { scope_id }) => {
                    debug!("Scope `{scope_id}` is being rated, and is reset after that");
                }
                Err(ResetError::Unknown(scope_id)) => {
                    warn!(
                        "Scope `{scope_id}` is to be reset, and is not rated here; that is dropped"
                    );
                    resets::done(self.database.connection(), request.id).await?;
                }
                Err(error) => error!(
                    scope.id = %request.scope_id, error = %error,
                    "Scope `{}` is not reset, and that is tried again: {error}", request.scope_id
                ),
            }
        }
        Ok(count)
    }
}
