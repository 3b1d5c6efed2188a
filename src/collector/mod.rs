//! Stage 2: what a scope used.
//!
//! `(metric definition, scope, period) → Vec<DataPoint>`

mod aetos;
mod prometheus;
mod prometheus_base;

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    config::{Config, ConfigError, metrics_yml::MetricDefinition},
    dataframe::DataPoint,
    http::ClientError,
    keystone::{Sessions, SetUpError},
    prometheus::PrometheusError,
    time::Period,
};

pub use aetos::AetosCollector;
pub use prometheus::PrometheusCollector;
pub use prometheus_base::{PrometheusCollectorBase, Settings};

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
