//! Stage 2: what a scope used.
//!
//! `(metric definition, scope, period) → Vec<DataPoint>`
//!
//! One question may be about many scopes and periods ([`Collector::collect_many`]).
//! Its answer is what the questions about each would give, or there is none: then
//! each is asked for by itself.

mod aetos;
mod prometheus;
mod prometheus_base;
mod usage;

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    config::{Config, ConfigError, metrics_yml::MetricDefinition},
    dataframe::DataPoint,
    http::ClientError,
    keystone::{Sessions, SetUpError},
    prometheus::PrometheusError,
    time::{Period, Periods},
};

pub use aetos::AetosCollector;
pub use prometheus::PrometheusCollector;
pub use prometheus_base::{PrometheusCollectorBase, Settings};
pub use usage::Usage;

/// Collectors by their names in `[collect] collector`.
const KNOWN: &str = "aetos, prometheus";

/// Why a metric was not collected. Every one of these fails the scope's
/// period, which is tried again later; nothing is stored of it.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// Prometheus did not tell.
    #[error("cannot collect metric `{metric}`: {source}")]
    Prometheus {
        /// The metric's definition.
        metric: String,
        /// What Prometheus did instead.
        source: PrometheusError,
    },
    /// A sample's value is no number.
    #[error(
        "cannot collect metric `{metric}`: Prometheus gave the value `{value}`, which is no number"
    )]
    Value {
        /// The metric's definition.
        metric: String,
        /// The value.
        value: String,
    },
    /// A series belongs to another scope than the one asked for.
    #[error(
        "cannot collect metric `{metric}` of scope `{asked}`: a series belongs to scope `{got}`; check query_prefix and query_suffix"
    )]
    Scope {
        /// The metric's definition.
        metric: String,
        /// The scope asked for.
        asked: String,
        /// The scope in the answer.
        got: String,
    },
}

impl CollectError {
    /// Whether a question about fewer scopes or periods may have an answer.
    pub fn asks_for_less(&self) -> bool {
        matches!(self, Self::Prometheus { source, .. } if source.asks_for_less())
    }

    /// Whether nobody answers, whatever the question.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Prometheus { source, .. } if source.is_outage())
    }
}

/// Why there is no collector.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration names an unknown one.
    #[error("[collect] collector = `{0}` is not known; known collectors: {KNOWN}")]
    Unknown(String),
    /// An option is missing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its HTTP client cannot be built.
    #[error("[collector_prometheus]: {0}")]
    Client(#[from] ClientError),
    /// Its login cannot be set up.
    #[error(transparent)]
    Login(#[from] SetUpError),
}

/// Someone who knows what scopes used.
#[async_trait]
pub trait Collector: Send + Sync {
    /// Name in the configuration and in the state database.
    fn name(&self) -> &'static str;

    /// Whether its peer answers.
    ///
    /// # Errors
    /// What the peer does instead.
    async fn probe(&self) -> Result<(), PrometheusError>;

    /// The data points of one metric, scope and period; none when nothing was used.
    ///
    /// # Errors
    /// [`CollectError`]
    async fn collect(
        &self,
        metric: &MetricDefinition,
        scope_id: &str,
        period: Period,
    ) -> Result<Vec<DataPoint>, CollectError>;

    /// What several scopes used in several periods, by one question; `None` where one
    /// question cannot be proved to give what many would.
    ///
    /// # Errors
    /// [`CollectError`]; of no value, which [`Self::points`] looks at.
    async fn collect_many(
        &self,
        metric: &MetricDefinition,
        scopes: &[&str],
        periods: Periods,
    ) -> Result<Option<Usage>, CollectError>;

    /// The data points of a scope in each of the periods.
    ///
    /// # Errors
    /// A value that is no number.
    fn points(
        &self,
        metric: &MetricDefinition,
        scope_id: &str,
        usage: &Usage,
    ) -> Result<Vec<Vec<DataPoint>>, CollectError>;

    /// How many of these scopes one question may name, at least one.
    fn fitting(&self, scopes: &mut dyn Iterator<Item = &str>) -> usize;
}

/// The collector that the configuration names.
///
/// # Errors
/// [`BuildError`]
pub fn build(config: &Config, sessions: &Sessions) -> Result<Arc<dyn Collector>, BuildError> {
    match config.collect.collector.as_str() {
        "aetos" => Ok(Arc::new(AetosCollector::from_config(config, sessions)?)),
        "prometheus" => Ok(Arc::new(PrometheusCollector::from_config(config)?)),
        other => Err(BuildError::Unknown(other.to_owned())),
    }
}
