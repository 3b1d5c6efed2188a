//! The processor: the only module that joins the four stages.
//!
//! A cycle asks the fetcher for the scopes and works off, scope by scope in
//! random order, every period that is due. A scope that fails is left until
//! the next cycle and stops no other. State moves only after storage said yes.

mod period;
mod progress;
mod schedule;
mod skip_expr;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use rand::seq::SliceRandom;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{debug, error, info, warn};

use crate::{
    collector::Collector,
    config::{
        Config,
        metrics_yml::{MetricDefinition, MetricsConf},
        sections::ratekitty::FirstPeriod,
    },
    fetcher::{FetchError, Fetcher},
    rating::Rater,
    state::{
        Database,
        scopes::{self, ScopeKeys},
    },
    storage::Storage,
    time::{Clock, Period, month_of},
};

pub use period::PeriodError;
pub use progress::Progress;
pub use schedule::Schedule;
pub use skip_expr::{Skip, UnsupportedExpression};

/// Pause before the fetcher is asked again after it failed.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

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
    /// The time.
    pub clock: Arc<dyn Clock>,
    settings: Settings,
    keys: ScopeKeys,
    metrics: Vec<(Arc<MetricDefinition>, Skip)>,
}

/// What the processor takes from the configuration.
#[derive(Debug, Clone)]
struct Settings {
    schedule: Schedule,
    first_period: FirstPeriod,
    scopes_at_once: usize,
    metrics_at_once: usize,
    collect_timeout: Duration,
    shutdown_grace: Duration,
}

/// What a cycle came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Scopes that the fetcher knows.
    pub scopes: usize,
    /// Scopes of which a period failed.
    pub failed: usize,
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
        database: Database,
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
            metrics_at_once: config.orchestrator.max_threads,
            collect_timeout: config.orchestrator.collector_request_timeout,
            shutdown_grace: config.ratekitty.shutdown_grace,
        };
        let rater = Rater::new(database.clone());
        Ok(Self {
            fetcher,
            collector,
            rater,
            storage,
            database,
            clock,
            settings,
            keys,
            metrics: definitions,
        })
    }

    /// Begin of the first period of a scope that has none.
    fn first_begin(&self) -> DateTime<Utc> {
        match self.settings.first_period {
            FirstPeriod::Month => month_of(self.clock.now()).0,
            FirstPeriod::At(begin) => begin,
        }
    }

    /// Rates every period that is due, of every scope, and returns. When told to
    /// stop, running periods are finished within the grace time, or given up.
    ///
    /// # Errors
    /// Scopes that are not known: then there was nothing to rate.
    pub async fn run_once(
        self: &Arc<Self>,
        progress: &Arc<Progress>,
        stop: &CancellationToken,
    ) -> Result<Outcome, FetchError> {
        let mut outcome = Outcome::default();
        if self.settings.scopes_at_once == 0 {
            warn!("[orchestrator] max_workers is 0: nothing is rated");
            return Ok(outcome);
        }
        let mut scopes = tokio::select! {
            scopes = self.fetcher.scopes() => scopes?,
            () = stop.cancelled() => return Ok(Outcome { stopped: true, ..outcome }),
        };
        scopes.shuffle(&mut rand::rng());
        outcome.scopes = scopes.len();
        if progress.is_shown() {
            progress.expect(scopes.len() as u64, self.backlog(&scopes).await);
        }
        let results = stream::iter(scopes)
            .map(|scope_id| {
                let (this, progress, stop) = (self.clone(), progress.clone(), stop.clone());
                // A task each, so that rating uses more than one core; it goes
                // with the stream.
                AbortOnDropHandle::new(tokio::spawn(async move {
                    let result = this.work_off(&scope_id, &progress, &stop).await;
                    progress.scope_done();
                    this.tell(&scope_id, result)
                }))
            })
            .buffer_unordered(self.settings.scopes_at_once)
            .for_each(|result| {
                match result {
                    Ok(Some(due)) => {
                        outcome.next_due = Some(outcome.next_due.map_or(due, |next| next.min(due)));
                    }
                    Ok(None) => outcome.failed += 1,
                    Err(error) => {
                        error!("A scope's task ended early: {error}");
                        outcome.failed += 1;
                    }
                }
                std::future::ready(())
            });
        let grace = self.settings.shutdown_grace;
        let deadline = async {
            stop.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        let given_up = tokio::select! {
            () = results => false,
            () = deadline => true,
        };
        progress.finish();
        if given_up {
            warn!(
                "Running periods took longer than [ratekitty] shutdown_grace = {} s and are given up; they will be rated again",
                grace.as_secs()
            );
        }
        outcome.stopped = stop.is_cancelled();
        Ok(outcome)
    }

    /// Tells what became of a scope: when its next period is due, `None` if it failed.
    fn tell(
        &self,
        scope_id: &str,
        result: Result<DateTime<Utc>, PeriodError>,
    ) -> Option<DateTime<Utc>> {
        match result {
            Ok(due) => Some(due),
            Err(error) => {
                error!(
                    scope.id = %scope_id, error = %error,
                    "Scope `{scope_id}` is not rated, and is tried again in the next cycle: {error}"
                );
                None
            }
        }
    }

    /// How many periods are due in all, for the progress bar.
    async fn backlog(&self, scopes: &[String]) -> u64 {
        let now = self.clock.now();
        let mut periods = 0;
        for scope in scopes {
            let last = match scopes::get(&self.database, scope, &self.keys).await {
                Ok(Some(state)) if !state.active => continue,
                Ok(Some(state)) => state.last_processed,
                Ok(None) => {
                    let period = chrono::TimeDelta::seconds(self.settings.schedule.period.into());
                    self.first_begin() - period
                }
                // It will be told when the scope's turn comes.
                Err(_) => continue,
            };
            periods += self.settings.schedule.backlog(last, now);
        }
        periods
    }

    /// Rates the due periods of one scope, oldest first, and tells when the next
    /// one is due.
    async fn work_off(
        &self,
        scope_id: &str,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<DateTime<Utc>, PeriodError> {
        let schedule = self.settings.schedule;
        let mut rater = None;
        loop {
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
            if due > now || stop.is_cancelled() {
                return Ok(due);
            }
            let period = Period::starting(begin, schedule.period);
            let points = self.rate_period(scope_id, state.as_ref(), period, &mut rater).await?;
            progress.period_done(points);
            debug!(
                scope.id = scope_id, %period, points,
                "Rated {points} data points of scope `{scope_id}` in the period {period}"
            );
        }
    }

    /// Rates period after period until it is told to stop.
    pub async fn run(self: &Arc<Self>, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let progress = Arc::new(Progress::quiet());
            let pause = match self.run_once(&progress, stop).await {
                Ok(outcome) => {
                    info!(
                        scopes = outcome.scopes,
                        failed = outcome.failed,
                        "Finished a cycle: {} periods of {} scopes, {} scopes failed",
                        progress.periods(),
                        outcome.scopes,
                        outcome.failed
                    );
                    self.pause(&outcome)
                }
                Err(error) => {
                    error!(error = %error, "Cannot begin a cycle, trying again: {error}");
                    RETRY_PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Time until the next period of some scope is due, but no longer than a
    /// period, so that new scopes are found; failed ones are tried again sooner.
    fn pause(&self, outcome: &Outcome) -> Duration {
        let now = self.clock.now();
        let longest = Duration::from_secs(self.settings.schedule.period.into());
        let wait = outcome.next_due.map_or(longest, |due| (due - now).to_std().unwrap_or_default());
        let longest = if outcome.failed > 0 { longest.min(RETRY_PAUSE * 6) } else { longest };
        wait.clamp(Duration::from_secs(1), longest.max(Duration::from_secs(1)))
    }
}
