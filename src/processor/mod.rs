//! The processor: the only module that joins the four stages.
//!
//! A cycle asks the fetcher for the scopes, looks up how far they are, and works
//! off what is due: in [`chunk`]s of scopes in random order, and of scopes by
//! themselves where that is not possible, each in turns ([`queue`]), so that none
//! starves. A scope is locked for its turn, so that processors share the work. One
//! that fails is left until the next cycle and stops no other. Periods are stored
//! and their scopes moved in one transaction.
//!
//! Beside the cycles, [`reprocess`] rates again what is scheduled for it.

mod chunk;
mod cycle;
mod notes;
mod period;
mod progress;
mod queue;
mod reprocess;
pub mod reset;
mod skip_expr;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use rand::{Rng, seq::SliceRandom};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    collector::Collector,
    config::{
        Config,
        metrics_yml::{MetricDefinition, MetricsConf},
        sections::ratekitty::FirstPeriod,
    },
    fetcher::{FetchError, Fetcher},
    instruments::{Work, instruments},
    lock::{Coordinator, Lock, LockName},
    rating::{Rater, ScopeRater},
    schedule::Schedule,
    state::{
        Database, StateError, periods,
        scopes::{self, ScopeKeys, ScopeState},
    },
    storage::Storage,
    supervisor::Pulse,
    time::{Clock, Period, month_of},
    watch::Found,
};

use chunk::{Chunk, Pace};
use cycle::Cycle;
use notes::Notes;
pub use period::PeriodError;
pub use progress::Progress;
use queue::Turn;
pub use skip_expr::{Skip, UnsupportedExpression};

/// Pause before the fetcher is asked again after it failed.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// Time after which a scope that has more due periods gives way to others.
const TURN: Duration = Duration::from_secs(10);

/// Time after which a cycle that has given every scope a turn ends, though there
/// is more to do, so that new scopes and those that are due again get theirs.
const LONG_CYCLE: Duration = Duration::from_secs(60);

/// Longest time without a sign of life, beside what the configuration allows for
/// collecting and for scripts: what fetches scopes, stores a period or deletes many
/// may take its time, and a restart would begin it again.
const LONGEST_SILENCE: Duration = Duration::from_secs(30 * 60);

/// Tries of one period, when others were in its way.
const TRIES: u32 = 4;

/// The four stages and what they need to know.
pub struct Pipeline {
    /// Stage 1.
    pub fetcher: Arc<dyn Fetcher>,
    /// Stage 2.
    pub collector: Arc<dyn Collector>,
    /// Stage 3.
    pub rater: Rater,
    /// Stage 4.
    pub storage: Arc<dyn Storage>,
    /// How far scopes are.
    pub database: Database,
    /// What keeps processors off each other's scopes.
    pub locks: Coordinator,
    /// The time.
    pub clock: Arc<dyn Clock>,
    settings: Settings,
    keys: ScopeKeys,
    metrics: Vec<(Arc<MetricDefinition>, Skip)>,
    pace: Pace,
    pulses: Pulses,
    found: Found,
    notes: Arc<Notes>,
}

/// Of the loops of [`Pipeline::run`].
struct Pulses {
    cycles: Pulse,
    reprocessing: Pulse,
    resets: Pulse,
}

/// What the processor takes from the configuration.
#[derive(Debug, Clone)]
struct Settings {
    schedule: Schedule,
    first_period: FirstPeriod,
    scopes_at_once: usize,
    reprocessings_at_once: usize,
    metrics_at_once: usize,
    collect_timeout: Duration,
    shutdown_grace: Duration,
}

/// Why a cycle cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum CycleError {
    /// It is not known which scopes there are.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It is not known how far they are.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What waits for its turn.
enum Task {
    /// Scopes that stand at the same period.
    Chunk(Chunk),
    /// A scope by itself.
    Scope(Waiting),
}

/// A scope that waits for its turn.
struct Waiting {
    scope_id: String,
    /// Kept from period to period.
    rater: Option<ScopeRater>,
}

/// What a cycle came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Scopes that the fetcher knows.
    pub scopes: usize,
    /// Scopes of which a period failed.
    pub failed: usize,
    /// Scopes that someone else was rating.
    pub busy: usize,
    /// Whether something that is due was left for the next cycle.
    pub unfinished: bool,
    /// Whether it was told to stop before all was done.
    pub stopped: bool,
    /// When the next period of one of the scopes is due.
    pub next_due: Option<DateTime<Utc>>,
}

impl Pipeline {
    /// Joins the stages.
    ///
    /// # Errors
    /// A skip expression that is not understood, and two of them for one type.
    pub fn new(
        config: &Config,
        metrics: MetricsConf,
        (fetcher, collector, storage): (Arc<dyn Fetcher>, Arc<dyn Collector>, Arc<dyn Storage>),
        (database, locks): (Database, Coordinator),
        clock: Arc<dyn Clock>,
    ) -> Result<Self, UnsupportedExpression> {
        let default_skip = &config.orchestrator.skip_datapoints_expression;
        let mut definitions: Vec<(Arc<MetricDefinition>, Skip)> = Vec::new();
        for metric in metrics.metrics {
            let expression = metric.skip_datapoints_expression.as_ref().unwrap_or(default_skip);
            let skip = Skip::parse(expression)?;
            // Once rated, points of one type are told apart no more.
            let other = definitions.iter().find(|(other, _)| other.frame_type == metric.frame_type);
            if other.is_some_and(|(_, other)| *other != skip) {
                return Err(UnsupportedExpression::Several(metric.frame_type));
            }
            definitions.push((Arc::new(metric), skip));
        }
        let keys = ScopeKeys {
            scope_key: config.collect.scope_key.clone(),
            fetcher: fetcher.name().to_owned(),
            collector: collector.name().to_owned(),
        };
        let settings = Settings {
            schedule: Schedule {
                period: config.collect.period,
                wait_periods: config.collect.wait_periods,
            },
            first_period: config.ratekitty.first_period,
            scopes_at_once: config.orchestrator.max_workers,
            reprocessings_at_once: config.orchestrator.max_workers_reprocessing,
            metrics_at_once: config.orchestrator.max_threads,
            collect_timeout: config.orchestrator.collector_request_timeout,
            shutdown_grace: config.ratekitty.shutdown_grace,
        };
        let rater = Rater::new(config, database.clone());
        // What one period may take: metrics are collected some at a time.
        let rounds = definitions.len().div_ceil(settings.metrics_at_once.max(1));
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        let silence = LONGEST_SILENCE
            .saturating_add(settings.collect_timeout.saturating_mul(rounds))
            .saturating_add(config.ratekitty.pyscripts_timeout);
        let pulses = Pulses {
            cycles: Pulse::new("Rating", silence),
            reprocessing: Pulse::new("Reprocessing", silence),
            resets: Pulse::new("Resetting scopes", silence),
        };
        Ok(Self {
            fetcher,
            collector,
            rater,
            storage,
            database,
            locks,
            clock,
            settings,
            keys,
            metrics: definitions,
            pace: Pace::default(),
            pulses,
            found: Found::default(),
            notes: Arc::default(),
        })
    }

    /// By which the loops of [`Self::run`] show that they go on.
    pub fn pulses(&self) -> Vec<Pulse> {
        let Pulses { cycles, reprocessing, resets } = &self.pulses;
        [cycles, reprocessing, resets].map(Clone::clone).into()
    }

    /// The scopes that the fetcher named last.
    pub fn found(&self) -> Found {
        self.found.clone()
    }

    /// Begin of the first period of a scope that has none.
    fn first_begin(&self) -> DateTime<Utc> {
        match self.settings.first_period {
            FirstPeriod::Month => month_of(self.clock.now()).0,
            FirstPeriod::At(begin) => begin,
        }
    }

    /// What tells its scopes from others.
    pub fn keys(&self) -> &ScopeKeys {
        &self.keys
    }

    /// Sees to it that scopes are rated in periods of one length: to be done
    /// before anything is rated.
    ///
    /// # Errors
    /// Another length than before.
    pub async fn claim_period(&self) -> Result<(), StateError> {
        periods::claim(&self.database, &self.keys, self.settings.schedule.period).await
    }

    /// Resets the scopes for which that is asked, rates every period that is due,
    /// of every scope, and returns. When told to
    /// stop, running periods are finished within the grace time, or given up.
    ///
    /// # Errors
    /// Scopes that are not known: then there was nothing to rate.
    pub async fn run_once(
        self: &Arc<Self>,
        progress: &Arc<Progress>,
        stop: &CancellationToken,
    ) -> Result<Outcome, CycleError> {
        self.reset_once(stop).await?;
        let outcome = self.cycle(progress, stop, None).await;
        self.write_failures().await;
        outcome
    }

    /// One cycle. After `longest`, scopes that had a turn get no other.
    async fn cycle(
        self: &Arc<Self>,
        progress: &Arc<Progress>,
        stop: &CancellationToken,
        longest: Option<Duration>,
    ) -> Result<Outcome, CycleError> {
        let mut outcome = Outcome::default();
        if self.settings.scopes_at_once == 0 {
            warn!("[orchestrator] max_workers is 0: nothing is rated");
            return Ok(outcome);
        }
        let scopes = tokio::select! {
            scopes = self.fetcher.scopes() => scopes?,
            () = stop.cancelled() => return Ok(Outcome { stopped: true, ..outcome }),
        };
        outcome.scopes = scopes.len();
        instruments().scopes_found.set(i64::try_from(scopes.len()).unwrap_or(i64::MAX));
        self.found.set(&scopes);
        self.pulses.cycles.beat();
        let states = scopes::overview(&self.database, &self.keys).await?;
        self.notes.can_rate();
        let (mut due, next_due) = self.due(scopes, &states);
        outcome.next_due = next_due;
        due.shuffle(&mut rand::rng());
        if progress.is_shown() {
            let backlog = due.iter().map(|scope| self.backlog(states.get(scope))).sum();
            progress.expect(due.len() as u64, backlog);
        }
        let due: Vec<_> = self.chunks(due).into_iter().map(Task::Chunk).collect();
        let workers = self.settings.scopes_at_once.min(outcome.scopes);
        let (progress, stop) = (progress.clone(), stop.clone());
        let notes = self.notes.clone();
        let cycle = Arc::new(Cycle { progress, stop, outcome: Mutex::new(outcome), notes });
        let begun = Instant::now();
        let turn = {
            let (this, cycle) = (self.clone(), cycle.clone());
            move |task: Task| {
                let (this, cycle) = (this.clone(), cycle.clone());
                async move {
                    match task {
                        Task::Chunk(chunk) => this.turn_of_chunk(chunk, &cycle).await,
                        Task::Scope(waiting) => this.turn(waiting, &cycle).await,
                    }
                }
            }
        };
        let goes_on = {
            let cycle = cycle.clone();
            move || {
                let goes_on = longest.is_none_or(|longest| begun.elapsed() < longest);
                if !goes_on {
                    cycle.tally(|outcome| outcome.unfinished = true);
                }
                goes_on
            }
        };
        let work = queue::work_off(due, workers, turn, goes_on);
        let ended_early = self.within_grace(&cycle.stop, work).await.unwrap_or_default();
        cycle.progress.finish();
        let mut outcome = *cycle.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.failed += ended_early;
        outcome.stopped = cycle.stop.is_cancelled();
        Ok(outcome)
    }

    /// Waits for work; once told to stop, no longer than the grace time. `None`
    /// if it was given up.
    async fn within_grace<T>(
        &self,
        stop: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let grace = self.settings.shutdown_grace;
        let deadline = async {
            stop.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            done = work => Some(done),
            () = deadline => {
                warn!(
                    "Running periods took longer than [ratekitty] shutdown_grace = {} s and are given up; they will be rated again",
                    grace.as_secs()
                );
                None
            }
        }
    }

    /// The scopes of which a period is due, and when the next one of the others is.
    fn due(
        &self,
        scopes: Vec<String>,
        states: &HashMap<String, ScopeState>,
    ) -> (Vec<String>, Option<DateTime<Utc>>) {
        let (now, schedule) = (self.clock.now(), self.settings.schedule);
        let mut next_due: Option<DateTime<Utc>> = None;
        let mut due = Vec::new();
        for scope in scopes {
            let at = match states.get(&scope) {
                Some(state) if !state.active => continue,
                Some(state) => schedule.due(schedule.after(state.last_processed)),
                None => schedule.due(self.first_begin()),
            };
            if at <= now {
                due.push(scope);
            } else {
                next_due = Some(next_due.map_or(at, |next| next.min(at)));
            }
        }
        (due, next_due)
    }

    /// One turn of a scope by itself.
    async fn turn(&self, mut waiting: Waiting, cycle: &Cycle) -> Turn<Task> {
        if cycle.stop.is_cancelled() {
            return Turn::Halt;
        }
        let scope_id = waiting.scope_id.clone();
        let keys = &self.keys;
        let name = LockName::scope(&scope_id, &keys.collector, &keys.fetcher, &keys.scope_key);
        let mut lock = match self.locks.try_lock(&name).await {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                cycle.busy(&scope_id);
                return Turn::DONE;
            }
            Err(error) => {
                cycle.no_locks(&error);
                return Turn::Halt;
            }
        };
        let mut begin = None;
        let work = self.work_off(&scope_id, &mut lock, &mut waiting.rater, &mut begin, cycle);
        let result = work.await;
        lock.release().await;
        match result {
            Ok(due) if due <= self.clock.now() && !cycle.stop.is_cancelled() => {
                Turn::more(Task::Scope(waiting))
            }
            Ok(due) => {
                cycle.done_until(due);
                Turn::DONE
            }
            Err(error) => {
                cycle.failed(&[scope_id], begin, &error);
                Turn::DONE
            }
        }
    }

    /// How many periods of a scope are due, for the progress bar.
    fn backlog(&self, state: Option<&ScopeState>) -> u64 {
        let schedule = self.settings.schedule;
        let last = match state {
            Some(state) => state.last_processed,
            None => self.first_begin() - chrono::TimeDelta::seconds(schedule.period.into()),
        };
        schedule.backlog(last, self.clock.now())
    }

    /// Rates due periods of one scope, oldest first, for the length of a turn,
    /// and tells when the next one is due. `tried` is the begin of the last one.
    async fn work_off(
        &self,
        scope_id: &str,
        lock: &mut Lock,
        rater: &mut Option<ScopeRater>,
        tried: &mut Option<DateTime<Utc>>,
        cycle: &Cycle,
    ) -> Result<DateTime<Utc>, PeriodError> {
        let Cycle { progress, stop, .. } = cycle;
        let schedule = self.settings.schedule;
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            self.pulses.cycles.beat();
            let now = self.clock.now();
            let state = scopes::get(&self.database, scope_id, &self.keys).await?;
            let begin = match &state {
                Some(state) => schedule.after(state.last_processed),
                None => self.first_begin(),
            };
            let due = schedule.due(begin);
            // Looked at before each period, so that a deactivation holds at once.
            if state.as_ref().is_some_and(|state| !state.active) {
                return Ok(schedule.due(now));
            }
            if due > now || stop.is_cancelled() || (begun.elapsed() >= TURN && tries == 0) {
                return Ok(due);
            }
            *tried = Some(begin);
            let period = Period::starting(begin, schedule.period);
            match self.rate_period(scope_id, state.as_ref(), period, lock, rater).await {
                Ok(points) => {
                    tries = 0;
                    progress.period_done(points);
                    instruments().rated(Work::Rating, points);
                    debug!(
                        scope.id = scope_id, %period, points,
                        "Rated {points} data points of scope `{scope_id}` in the period {period}"
                    );
                }
                // Someone was in the way; it may be done from where it stands now.
                Err(error) if error.is_passing() && tries + 1 < TRIES => {
                    tries += 1;
                    debug!(scope.id = scope_id, %period, error = %error, "Trying again: {error}");
                    pause_a_little(tries).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Rates period after period, and again what is scheduled for it, and resets
    /// scopes, until told to stop.
    pub async fn run(self: &Arc<Self>, stop: &CancellationToken) {
        let work = async {
            tokio::join!(self.run_cycles(stop), self.run_reprocessing(stop), self.run_resets(stop));
        };
        self.noted(work).await;
    }

    async fn run_cycles(self: &Arc<Self>, stop: &CancellationToken) {
        let mut failures = 0;
        while !stop.is_cancelled() {
            self.pulses.cycles.beat();
            let progress = Arc::new(Progress::quiet());
            let begun = Instant::now();
            let pause = match self.cycle(&progress, stop, Some(LONG_CYCLE)).await {
                Ok(outcome) => {
                    instruments().cycle_ended(begun.elapsed());
                    info!(
                        scopes = outcome.scopes,
                        failed = outcome.failed,
                        busy = outcome.busy,
                        "Finished a cycle: {} periods of {} scopes, {} scopes failed, {} were being rated by others",
                        progress.periods(),
                        outcome.scopes,
                        outcome.failed,
                        outcome.busy
                    );
                    failures = if outcome.failed > 0 { failures + 1 } else { 0 };
                    self.pause(&outcome, failures)
                }
                Err(error) => {
                    instruments().cycles_failed.inc();
                    self.notes.cannot_rate(&error);
                    error!(error = %error, "Cannot begin a cycle, trying again: {error}");
                    RETRY_PAUSE
                }
            };
            self.pulses.cycles.pause(pause);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Time until the next period of some scope is due, but no longer than a
    /// period, so that new scopes are found; those of others, who may die, are
    /// tried again sooner, and those that failed at first soon and then, when
    /// cycles keep failing, once a minute.
    fn pause(&self, outcome: &Outcome, failures: u32) -> Duration {
        if outcome.unfinished {
            return Duration::ZERO;
        }
        let now = self.clock.now();
        let longest = Duration::from_secs(self.settings.schedule.period.into());
        let wait = outcome.next_due.map_or(longest, |due| (due - now).to_std().unwrap_or_default());
        let longest = match outcome.failed {
            0 => longest,
            _ => longest.min(RETRY_PAUSE * failures.clamp(1, 6)),
        };
        let longest = if outcome.busy > 0 { longest.min(RETRY_PAUSE) } else { longest };
        wait.clamp(Duration::from_secs(1), longest.max(Duration::from_secs(1)))
    }
}

/// A random time, longer with each try, so that two who were in each other's way
/// do not meet again.
async fn pause_a_little(tries: u32) {
    let milliseconds = rand::rng().random_range(5..50) << tries;
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}
