//! How the daemon does, for who watches it: the page that Prometheus reads, whether it
//! is alive, and whether it can do its work.
//!
//! The page is what the process has counted (`instruments`) and what the state
//! database says at that moment. So how far behind scopes are is also told by a
//! process that is stuck, or that does not rate itself.

use std::{
    collections::HashSet,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::{
    instruments::instruments,
    schedule::Schedule,
    state::{
        Database, StateError, reprocessing,
        scopes::{self, ScopeKeys, ScopeState},
    },
    supervisor::Pulse,
    time::Clock,
};

/// Longest wait for the state database. Prometheus gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The scopes that the fetcher named last. Clones are of one.
#[derive(Debug, Clone, Default)]
pub struct Found(Arc<Mutex<Option<Arc<HashSet<String>>>>>);

impl Found {
    /// They are named.
    pub fn set(&self, scopes: &[String]) {
        let scopes = Arc::new(scopes.iter().cloned().collect());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(scopes);
    }

    /// `None` before they were named.
    fn get(&self) -> Option<Arc<HashSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Who is watched.
#[derive(Debug)]
pub struct Watch {
    /// Where scopes stand.
    pub database: Database,
    /// What tells the scopes of this configuration from others.
    pub keys: ScopeKeys,
    /// When their periods are due.
    pub schedule: Schedule,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Loops that must go on.
    pub pulses: Vec<Pulse>,
    /// The scopes that are rated; without a processor in this process, all that are active.
    pub found: Found,
    /// Whether the program is told to stop.
    pub stop: CancellationToken,
    /// What the storage is, such as `loki`.
    pub storage: String,
}

/// Why the program cannot do its work now.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// It ends.
    #[error("the program is told to stop")]
    Stopping,
    /// The state database fails.
    #[error(transparent)]
    State(#[from] StateError),
    /// It does not answer.
    #[error("the state database has not answered for {} s", PATIENCE.as_secs())]
    Slow,
}

/// Where scopes stand.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Standing {
    active: usize,
    inactive: usize,
    /// Active ones of which a period is due.
    behind: usize,
    /// Their periods that are due.
    periods: u64,
    /// Seconds since the oldest of these became due.
    lag: i64,
}

impl Standing {
    fn of<'a>(
        scopes: impl Iterator<Item = &'a ScopeState>,
        found: Option<&HashSet<String>>,
        schedule: Schedule,
        now: DateTime<Utc>,
    ) -> Self {
        let mut standing = Self::default();
        for scope in scopes {
            if !scope.active {
                standing.inactive += 1;
                continue;
            }
            // Of one that the cloud does not have any more, nothing is rated.
            if found.is_some_and(|found| !found.contains(&scope.identifier)) {
                continue;
            }
            standing.active += 1;
            let periods = schedule.backlog(scope.last_processed, now);
            if periods > 0 {
                standing.behind += 1;
                standing.periods += periods;
                let due = schedule.due(schedule.after(scope.last_processed));
                standing.lag = standing.lag.max((now - due).num_seconds());
            }
        }
        standing
    }
}

impl Watch {
    /// The page for Prometheus, in its text format, version 0.0.4. It is whole but for
    /// what the state database would have to tell, if that fails.
    pub async fn page(&self) -> String {
        let mut page = instruments().page();
        let version = env!("CARGO_PKG_VERSION");
        let storage = &self.storage;
        let _ = writeln!(
            page,
            "# HELP ratekitty_build_info The program\n# TYPE ratekitty_build_info gauge\n\
             ratekitty_build_info{{version=\"{version}\",storage=\"{storage}\"}} 1"
        );
        let mut gauge = |name: &str, help: &str, value: i128| {
            let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        };
        let told = tokio::time::timeout(PATIENCE, self.standing()).await;
        let (standing, reprocessing) = match told {
            Ok(Ok(told)) => told,
            Ok(Err(_)) | Err(_) => {
                gauge("ratekitty_state_database_up", "Whether the state database answers", 0);
                return page;
            }
        };
        gauge("ratekitty_state_database_up", "Whether the state database answers", 1);
        let Standing { active, inactive, behind, periods, lag } = standing;
        gauge("ratekitty_scopes_active", "Scopes that are rated", active as i128);
        gauge("ratekitty_scopes_inactive", "Scopes that are switched off", inactive as i128);
        gauge(
            "ratekitty_scopes_behind",
            "Scopes that are rated and of which a period is due",
            behind as i128,
        );
        gauge("ratekitty_periods_behind", "Periods of scopes that are due", periods.into());
        gauge(
            "ratekitty_lag_seconds",
            "Seconds since the oldest period that is due became so, 0 if none is",
            lag.into(),
        );
        gauge(
            "ratekitty_reprocessing_unfinished",
            "Scopes that are scheduled to be rated again and are not done",
            reprocessing as i128,
        );
        page
    }

    async fn standing(&self) -> Result<(Standing, usize), StateError> {
        let scopes = scopes::overview(&self.database, &self.keys).await?;
        let reprocessing = reprocessing::unfinished(&self.database).await?.len();
        let (found, now) = (self.found.get(), self.clock.now());
        let standing = Standing::of(scopes.values(), found.as_deref(), self.schedule, now);
        Ok((standing, reprocessing))
    }

    /// A loop that does not go on: the program is to be started anew.
    pub fn stuck(&self) -> Option<&'static str> {
        self.pulses.iter().find(|pulse| pulse.is_overdue()).map(Pulse::name)
    }

    /// Whether it can do its work: a balancer may send requests.
    ///
    /// # Errors
    /// [`NotReady`]
    pub async fn ready(&self) -> Result<(), NotReady> {
        if self.stop.is_cancelled() {
            return Err(NotReady::Stopping);
        }
        match tokio::time::timeout(PATIENCE, self.database.ping()).await {
            Ok(answered) => Ok(answered?),
            Err(_) => Err(NotReady::Slow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::seconds;

    #[test]
    fn who_is_behind_and_by_how_much() {
        let schedule = Schedule { period: 3_600, wait_periods: 2 };
        let now = seconds(1_000_800);
        let scope = |identifier: &str, hours: i64, active| ScopeState {
            id: 1,
            identifier: identifier.to_owned(),
            scope_key: None,
            fetcher: None,
            collector: None,
            last_processed: seconds(1_000_800 - hours * 3_600),
            toggled: seconds(0).naive_utc(),
            active,
        };
        let scopes = [
            // The next period is due with the end of the third hour.
            scope("a", 3, true),
            scope("b", 4, true),
            scope("c", 30, false),
            scope("gone", 300, true),
        ];
        let found = HashSet::from(["a", "b", "c", "new"].map(str::to_owned));
        let standing = Standing::of(scopes.iter(), Some(&found), schedule, now);
        let expected = Standing { active: 2, inactive: 1, behind: 1, periods: 1, lag: 3_599 };
        assert_eq!(standing, expected);
        let all = Standing::of(scopes.iter(), None, schedule, now);
        assert_eq!((all.active, all.behind, all.periods), (3, 2, 1 + 297));
    }
}
