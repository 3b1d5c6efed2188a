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
    rating::Rater,
    state::{
        Database,
        scopes::{self, ScopeKeys},
    },
    storage::Storage,
    time::{Clock, month_of},
};

pub use period::PeriodError;
pub use progress::Progress;
pub use schedule::Schedule;
pub use skip_expr::{Skip, UnsupportedExpression};

/// Pause before the fetcher is asked again after it failed.
const FETCH_PAUSE: Duration = Duration::from_secs(10);

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
}

impl Pipeline {
    /// Joins the stages.
    ///
    /// # Errors
    /// A skip expression that is not understood.
    pub fn new(
        config: &Config,
        metrics: MetricsConf,
        (fetcher, collector, storage): (Arc<dyn Fetcher>, Arc<dyn Collector>, Arc<dyn Storage>),
        database: Database,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, UnsupportedExpression> {
        let default_skip = &config.orchestrator.skip_datapoints_expression;
        let metrics = metrics
            .metrics
            .into_iter()
            .map(|metric| {
                let expression = metric.skip_datapoints_expression.as_ref().unwrap_or(default_skip);
                let skip = Skip::parse(expression)?;
                Ok((Arc::new(metric), skip))
            })
            .collect::<Result<_, UnsupportedExpression>>()?;
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
        Ok(Self { fetcher, collector, rater, storage, database, clock, settings, keys, metrics })
    }

    /// Begin of the first period of a scope that has none.
    fn first_begin(&self) -> DateTime<Utc> {
        match self.settings.first_period {
            FirstPeriod::Month => month_of(self.clock.now()).0,
            FirstPeriod::At(begin) => begin,
        }
    }

    /// Rates every period that is due, of every scope, and returns.
    ///
    /// # Errors
    /// Scopes that are not known: then there was nothing to rate.
    pub async fn run_once(
        &self,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Outcome, FetchError> {
        if self.settings.scopes_at_once == 0 {
            warn!("[orchestrator] max_workers is 0: nothing is rated");
            return Ok(Outcome::default());
        }
        let mut scopes = self.fetcher.scopes().await?;
        scopes.shuffle(&mut rand::rng());
        progress.expect(scopes.len() as u64, self.backlog(&scopes).await);
        let results = stream::iter(&scopes)
            .map(|scope_id| async move {
                let result = self.work_off(scope_id, progress, stop).await;
                progress.scope_done();
                if let Err(error) = &result {
                    error!(
                        scope.id = %scope_id, error = %error,
                        "Scope `{scope_id}` is not rated, and is tried again in the next cycle: {error}"
                    );
                }
                result.is_err()
            })
            .buffer_unordered(self.settings.scopes_at_once)
            .collect::<Vec<bool>>()
            .await;
        progress.finish();
        let failed = results.into_iter().filter(|failed| *failed).count();
        Ok(Outcome { scopes: scopes.len(), failed })
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

    /// Rates the due periods of one scope, oldest first.
    async fn work_off(
        &self,
        scope_id: &str,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<(), PeriodError> {
        let mut rater = None;
        while !stop.is_cancelled() {
            let now = self.clock.now();
            let state = scopes::get(&self.database, scope_id, &self.keys).await?;
            let period = match &state {
                // Looked at before each period, so that a deactivation holds at once.
                Some(state) if !state.active => return Ok(()),
                Some(state) => self.settings.schedule.next(state.last_processed, now),
                None => self.settings.schedule.first(self.first_begin(), now),
            };
            let Some(period) = period else { return Ok(()) };
            let points = self.rate_period(scope_id, period, &mut rater).await?;
            progress.period_done(points);
            debug!(
                scope.id = scope_id, %period, points,
                "Rated {points} data points of scope `{scope_id}` in the period {period}"
            );
        }
        Ok(())
    }

    /// Rates period after period until it is told to stop; a running period is
    /// then finished within the grace time.
    pub async fn run(&self, stop: &CancellationToken) {
        let cycles = self.cycles(stop);
        tokio::pin!(cycles);
        tokio::select! {
            () = &mut cycles => return,
            () = stop.cancelled() => {}
        }
        let grace = self.settings.shutdown_grace;
        if tokio::time::timeout(grace, cycles).await.is_err() {
            warn!(
                "Running periods took longer than [ratekitty] shutdown_grace = {} and are given up; they will be rated again",
                grace.as_secs()
            );
        }
    }

    async fn cycles(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let progress = Progress::quiet();
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
                    self.pause(outcome.failed > 0)
                }
                Err(error) => {
                    error!(error = %error, "Cannot begin a cycle, trying again: {error}");
                    FETCH_PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Time until the next period is due: on the grid of periods, so that
    /// cycles do not drift. Failed scopes are tried again sooner than that.
    fn pause(&self, failed: bool) -> Duration {
        let now = self.clock.now();
        let next = self.settings.schedule.next_due(self.first_begin(), now);
        let wait = (next - now).to_std().unwrap_or(FETCH_PAUSE);
        if failed { wait.min(FETCH_PAUSE * 6) } else { wait }
    }
}
