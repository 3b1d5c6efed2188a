//! A cycle while it runs: what its scopes came to.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::{Outcome, Progress, notes::Notes, period::PeriodError};
use crate::{
    instruments::{Work, instruments},
    lock::LockError,
};

/// A cycle while it runs.
pub(super) struct Cycle {
    pub progress: Arc<Progress>,
    pub stop: CancellationToken,
    pub outcome: Mutex<Outcome>,
    pub notes: Arc<Notes>,
}

impl Cycle {
    pub fn tally(&self, count: impl FnOnce(&mut Outcome)) {
        count(&mut self.outcome.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A scope is up to date until then.
    pub fn done_until(&self, due: DateTime<Utc>) {
        self.progress.scope_done();
        self.tally(|outcome| {
            outcome.next_due = Some(outcome.next_due.map_or(due, |next| next.min(due)));
        });
    }

    pub fn busy(&self, scope_id: &str) {
        debug!(scope.id = %scope_id, "Scope `{scope_id}` is being rated by someone else");
        instruments().busy();
        self.progress.scope_done();
        self.tally(|outcome| outcome.busy += 1);
    }

    pub fn no_locks(&self, error: &LockError) {
        error!(error = %error, "Nothing is rated until locks can be had: {error}");
        instruments().failed(Work::Rating, "lock", 1);
        self.notes.cannot_rate(error);
        self.tally(|outcome| outcome.failed += 1);
    }

    /// Scopes fail, in the period that begins at `begin`, as far as that is known.
    pub fn failed(&self, scopes: &[String], begin: Option<DateTime<Utc>>, error: &PeriodError) {
        let Some((scope_id, others)) = scopes.split_first() else { return };
        match others.len() {
            0 => error!(
                scope.id = %scope_id, error = %error,
                "Scope `{scope_id}` is not rated, and is tried again in the next cycle: {error}"
            ),
            count => error!(
                scope.id = %scope_id, error = %error,
                "Scope `{scope_id}` and {count} more are not rated, and are tried again in the next cycle: {error}"
            ),
        }
        instruments().failed(Work::Rating, error.reason(), scopes.len());
        self.notes.failed(scopes, begin, error);
        scopes.iter().for_each(|_| self.progress.scope_done());
        self.tally(|outcome| outcome.failed += scopes.len());
    }
}
