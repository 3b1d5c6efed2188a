//! Reprocessing: times of scopes that are rated again, as
//! `storage_scope_reprocessing_schedule` has them.
//!
//! Period after period, the new rating takes the place of the old one in one
//! transaction with the note how far it is. So readers see each period once, old
//! or new, a stop loses nothing, and schedules that overlap do no harm. The
//! scope's state stays where it is; periods that it has not come to are left to
//! the processor.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    Pipeline, Progress, TRIES, TURN, pause_a_little,
    period::PeriodError,
    queue::{self, Turn},
};
use crate::{
    instruments::{Work, instruments},
    lock::{Lock, LockName},
    rating::ScopeRater,
    state::{
        StateError, Step,
        reprocessing::{self, Reprocessing},
        scopes,
    },
    time::Period,
};

/// Pause before it is looked again what is scheduled.
const PAUSE: Duration = Duration::from_secs(10);

/// A schedule that waits for its turn.
struct Waiting {
    id: i64,
    scope_id: String,
    rater: Option<ScopeRater>,
}

/// What became of schedules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reprocessed {
    /// How many were not finished.
    pub scheduled: usize,
    /// How many failed.
    pub failed: usize,
}

/// How far a schedule came in a turn.
enum Progressed {
    /// To its end, or as far as it can be done now.
    Done,
    /// There is more.
    More,
}

impl Pipeline {
    pub(super) async fn run_reprocessing(self: &Arc<Self>, stop: &CancellationToken) {
        if self.settings.reprocessings_at_once == 0 {
            info!("[orchestrator] max_workers_reprocessing is 0: nothing is reprocessed");
            return;
        }
        while !stop.is_cancelled() {
            self.pulses.reprocessing.beat();
            let progress = Arc::new(Progress::quiet());
            match self.reprocess_once(&progress, stop).await {
                Ok(done) if done.scheduled > 0 => info!(
                    "Reprocessed {} periods of {} schedules, {} schedules failed",
                    progress.periods(),
                    done.scheduled,
                    done.failed
                ),
                Ok(_) => {}
                Err(error) => {
                    error!(error = %error, "Cannot look what to reprocess, trying again: {error}");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Works off all that is scheduled now.
    ///
    /// # Errors
    /// A database that fails.
    pub async fn reprocess_once(
        self: &Arc<Self>,
        progress: &Arc<Progress>,
        stop: &CancellationToken,
    ) -> Result<Reprocessed, StateError> {
        let schedules = reprocessing::unfinished(&self.database).await?;
        let scheduled = schedules.len();
        let waiting: Vec<_> = schedules
            .into_iter()
            .map(|schedule| Waiting { id: schedule.id, scope_id: schedule.scope_id, rater: None })
            .collect();
        let failed = Arc::new(AtomicUsize::new(0));
        let turn = {
            let (this, progress, stop) = (self.clone(), progress.clone(), stop.clone());
            let failed = failed.clone();
            move |waiting: Waiting| {
                let (this, progress, stop) = (this.clone(), progress.clone(), stop.clone());
                let failed = failed.clone();
                async move { this.reprocessing_turn(waiting, &progress, &stop, &failed).await }
            }
        };
        let workers = self.settings.reprocessings_at_once.min(scheduled);
        let work = queue::work_off(waiting, workers, turn, || true);
        let ended_early = self.within_grace(stop, work).await.unwrap_or_default();
        Ok(Reprocessed { scheduled, failed: failed.load(Ordering::Relaxed) + ended_early })
    }

    async fn reprocessing_turn(
        &self,
        mut waiting: Waiting,
        progress: &Progress,
        stop: &CancellationToken,
        failed: &AtomicUsize,
    ) -> Turn<Waiting> {
        if stop.is_cancelled() {
            return Turn::Halt;
        }
        match self.reprocess(&mut waiting, progress, stop).await {
            Ok(Progressed::More) => Turn::more(waiting),
            Ok(Progressed::Done) => Turn::DONE,
            Err(error) => {
                let Waiting { id, scope_id, .. } = &waiting;
                instruments().failed(Work::Reprocessing, error.reason(), 1);
                error!(
                    scope.id = %scope_id, error = %error,
                    "Reprocessing {id} of scope `{scope_id}` does not go on, and is tried again: {error}"
                );
                failed.fetch_add(1, Ordering::Relaxed);
                Turn::DONE
            }
        }
    }

    async fn reprocess(
        &self,
        waiting: &mut Waiting,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Progressed, PeriodError> {
        let Some(schedule) = reprocessing::get(&self.database, waiting.id).await? else {
            return Ok(Progressed::Done);
        };
        let keys = &self.keys;
        let name = LockName::reprocessing(
            (schedule.id, &schedule.scope_id),
            (schedule.start, schedule.end),
            (&keys.collector, &keys.fetcher, &keys.scope_key),
        );
        let Some(mut lock) = self.locks.try_lock(&name).await? else {
            debug!(
                "Reprocessing {} of scope `{}` is being done by someone else",
                schedule.id, schedule.scope_id
            );
            return Ok(Progressed::Done);
        };
        let result = self.reprocess_locked(waiting, &mut lock, progress, stop).await;
        lock.release().await;
        result
    }

    /// Rates periods again for the length of a turn.
    async fn reprocess_locked(
        &self,
        waiting: &mut Waiting,
        lock: &mut Lock,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Progressed, PeriodError> {
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            self.pulses.reprocessing.beat();
            let Some(schedule) = reprocessing::get(&self.database, waiting.id).await? else {
                return Ok(Progressed::Done);
            };
            let Some(period) = self.next_to_reprocess(&schedule).await? else {
                return Ok(Progressed::Done);
            };
            if stop.is_cancelled() || (begun.elapsed() >= TURN && tries == 0) {
                return Ok(Progressed::More);
            }
            match self.reprocess_period(&schedule, period, lock, &mut waiting.rater).await {
                Ok(points) => {
                    tries = 0;
                    progress.period_done(points);
                    instruments().rated(Work::Reprocessing, points);
                    debug!(
                        scope.id = %schedule.scope_id, %period, points,
                        "Rated {points} data points of scope `{}` again in the period {period}",
                        schedule.scope_id
                    );
                }
                Err(error) if error.is_passing() && tries + 1 < TRIES => {
                    tries += 1;
                    pause_a_little(tries).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next period of a schedule; `None` if there is none, or none yet.
    async fn next_to_reprocess(
        &self,
        schedule: &Reprocessing,
    ) -> Result<Option<Period>, PeriodError> {
        let scope_id = &schedule.scope_id;
        let Some(state) = scopes::get(&self.database, scope_id, &self.keys).await? else {
            warn!(
                scope.id = %scope_id,
                "Scope `{scope_id}` is scheduled for reprocessing ({}), but no scope of that name is rated here; delete the schedule, or correct it",
                schedule.id
            );
            return Ok(None);
        };
        if !reprocessing::means(&self.database, schedule, &state).await? {
            return Ok(None);
        }
        // Periods are where the scope's are: between them they would overlap them.
        let length = i64::from(self.settings.schedule.period);
        let aligned = |date: DateTime<Utc>| {
            date - TimeDelta::seconds(
                (date - state.last_processed).num_seconds().rem_euclid(length),
            )
        };
        let begin = match schedule.current {
            Some(current) => {
                // Behind what is done, which may end between the begins of periods.
                let done = current + TimeDelta::seconds(length);
                let begin = aligned(done);
                if begin < done { begin + TimeDelta::seconds(length) } else { begin }
            }
            None => aligned(schedule.start),
        };
        // The end is the begin of the last period, as in the reference, or in it.
        if begin > schedule.end {
            return Ok(None);
        }
        if !state.active || begin > state.last_processed {
            debug!("Reprocessing {} of scope `{scope_id}` waits", schedule.id);
            return Ok(None);
        }
        let period = Period::starting(begin, self.settings.schedule.period);
        // What was rated in longer periods is rated again in these, as a whole.
        let rated = self.storage.crossing(scope_id, &self.keys.writer(), period).await?;
        Ok(Some(rated.unwrap_or(period)))
    }

    async fn reprocess_period(
        &self,
        schedule: &Reprocessing,
        period: Period,
        lock: &mut Lock,
        rater: &mut Option<ScopeRater>,
    ) -> Result<usize, PeriodError> {
        let frame = self.rated(&schedule.scope_id, period, rater).await?;
        lock.check().await?;
        let seconds = self.settings.schedule.period.into();
        let step = Step::Reprocess { schedule, keys: &self.keys, period, seconds };
        self.storage.replace(&schedule.scope_id, &frame, &step).await?;
        Ok(frame.len())
    }
}
