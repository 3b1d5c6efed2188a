//! One period of one scope: collect → rate → skip → store → advance.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use tracing::info;

use super::{Pipeline, skip_expr::EvalError};
use crate::{
    collector::CollectError,
    config::metrics_yml::MetricDefinition,
    dataframe::{DataFrame, DataPoint},
    instruments::instruments,
    lock::{Lock, LockError},
    rating::{RatingError, ScopeRater},
    state::{StateError, Step, scopes::ScopeState},
    storage::StorageError,
    time::{Period, local_naive},
};

/// Why a period of a scope is not rated. It is tried again in the next cycle,
/// and nothing of it counts.
#[derive(Debug, thiserror::Error)]
pub enum PeriodError {
    /// A metric was not collected.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// Collecting a metric took too long.
    #[error(
        "collecting metric `{metric}` took longer than [orchestrator] collector_request_timeout = {}", .limit.as_secs()
    )]
    Timeout {
        /// The metric's definition.
        metric: String,
        /// The limit.
        limit: Duration,
    },
    /// The points have no prices.
    #[error("cannot rate: {0}")]
    Rating(#[from] RatingError),
    /// It cannot be told which points to store.
    #[error(transparent)]
    Skip(#[from] EvalError),
    /// They are not stored.
    #[error("cannot store the dataframe: {0}")]
    Storage(#[from] StorageError),
    /// The state did not move.
    #[error(transparent)]
    State(#[from] StateError),
    /// Someone else may be at it.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl PeriodError {
    /// What failed, in one word: for counting.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Collect(_) => "collect",
            Self::Timeout { .. } => "timeout",
            Self::Rating(_) => "rating",
            Self::Skip(_) => "skip",
            Self::Storage(_) => "storage",
            Self::State(_) => "state",
            Self::Lock(_) => "lock",
        }
    }

    /// Whether someone else was in the way, so that it may do better at once.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::State(error) | Self::Storage(StorageError::State(error)) => error.is_passing(),
            Self::Rating(RatingError::State(error)) => error.is_passing(),
            Self::Storage(StorageError::Overtaken(_)) => true,
            _ => false,
        }
    }
}

impl Pipeline {
    /// Rates a period of a scope. When it returns, the period is stored and the
    /// scope's state says so; both come to be in one transaction.
    ///
    /// `state` is the scope's row by which the period was chosen; `lock` is the
    /// scope's, and `rater` is kept from period to period.
    pub(super) async fn rate_period(
        &self,
        scope_id: &str,
        state: Option<&ScopeState>,
        period: Period,
        lock: &mut Lock,
        rater: &mut Option<ScopeRater>,
    ) -> Result<usize, PeriodError> {
        let frame = self.rated(scope_id, period, rater).await?;
        let step = Step::Advance {
            scope_id,
            keys: &self.keys,
            known: state,
            begin: period.begin,
            seconds: period.seconds(),
            now: self.clock.now(),
        };
        lock.check().await?;
        let begun = Instant::now();
        // Also without points: what an earlier try may have left must go.
        self.storage.replace(scope_id, &frame, &step).await?;
        instruments().stored(begun.elapsed());
        Ok(frame.len())
    }

    /// What a scope used in a period, with prices, and without what is to be
    /// skipped.
    pub(super) async fn rated(
        &self,
        scope_id: &str,
        period: Period,
        rater: &mut Option<ScopeRater>,
    ) -> Result<DataFrame, PeriodError> {
        let mut frame = self.collect(scope_id, period).await?;
        self.rate_frame(scope_id, &mut frame, rater).await?;
        Ok(frame)
    }

    /// Gives prices to what a scope used, and drops what is to be skipped.
    pub(super) async fn rate_frame(
        &self,
        scope_id: &str,
        frame: &mut DataFrame,
        rater: &mut Option<ScopeRater>,
    ) -> Result<(), PeriodError> {
        let period = frame.period;
        if frame.is_empty() {
            info!(scope.id = scope_id, %period, "Scope `{scope_id}` used nothing in the period {period}");
            return Ok(());
        }
        let at = local_naive(period.begin);
        let modules = self.rater.scope(scope_id, at, rater.take()).await?;
        let rated = modules.rate(frame).await;
        *rater = Some(modules);
        rated?;
        Ok(self.drop_skipped(frame)?)
    }

    /// The points of one metric.
    pub(super) async fn collect_one(
        &self,
        metric: &MetricDefinition,
        scope_id: &str,
        period: Period,
    ) -> Result<Vec<DataPoint>, PeriodError> {
        let limit = self.settings.collect_timeout;
        let collect = self.collector.collect(metric, scope_id, period);
        let points = tokio::time::timeout(limit, collect).await;
        let timeout = |_| PeriodError::Timeout { metric: metric.conf_key.clone(), limit };
        Ok(points.map_err(timeout)??)
    }

    /// Collects all metrics, several at a time. The first error ends it.
    async fn collect(&self, scope_id: &str, period: Period) -> Result<DataFrame, PeriodError> {
        let collected: Vec<(Arc<MetricDefinition>, Vec<DataPoint>)> =
            stream::iter(self.metrics.iter().cloned())
                .map(|(metric, _)| async move {
                    let points = self.collect_one(&metric, scope_id, period).await?;
                    Ok::<_, PeriodError>((metric, points))
                })
                // In the order of definitions, whoever answers first.
                .buffered(self.settings.metrics_at_once)
                .try_collect()
                .await?;
        let mut frame = DataFrame::new(period);
        for (metric, points) in collected {
            frame.add(&metric.frame_type, points);
        }
        Ok(frame)
    }

    /// Drops the rated points that are not to be stored.
    fn drop_skipped(&self, frame: &mut DataFrame) -> Result<(), EvalError> {
        let mut failed = None;
        frame.retain(|frame_type, point| {
            let definition =
                self.metrics.iter().find(|(metric, _)| metric.frame_type == frame_type);
            let skipped = definition.map_or(Ok(false), |(_, skip)| skip.skips(point));
            skipped.map_or_else(
                |error| {
                    failed = Some(error);
                    true
                },
                |skipped| !skipped,
            )
        });
        failed.map_or(Ok(()), Err)
    }
}
