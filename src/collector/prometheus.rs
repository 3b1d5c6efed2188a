//! Usage from a Prometheus asked directly.

use std::sync::Arc;

use super::{BuildError, PrometheusCollectorBase, Settings};
use crate::{
    config::{Config, ConfigError},
    prometheus::{PrometheusClient, PrometheusClientBase},
};

/// Collector over a Prometheus.
pub struct PrometheusCollector {
    client: Arc<dyn PrometheusClientBase>,
    settings: Settings,
}

impl PrometheusCollector {
    /// A collector that asks `client`.
    pub fn new(client: Arc<dyn PrometheusClientBase>, scope_key: &str) -> Self {
        Self { client, settings: Settings { name: "prometheus", scope_key: scope_key.to_owned() } }
    }

    /// The collector of `[collector_prometheus]`.
    ///
    /// # Errors
    /// A URL that is missing, certificate authorities that cannot be read.
    pub(super) fn from_config(config: &Config) -> Result<Self, BuildError> {
        let endpoint = &config.collector_prometheus.endpoint;
        let url = endpoint.url.as_ref().ok_or_else(|| ConfigError::Missing {
            group: "collector_prometheus",
            option: "prometheus_url",
            why: "write the base of the API, such as http://localhost:9090/api/v1".to_owned(),
        })?;
        let client = PrometheusClient::new(
            url,
            endpoint,
            config.ratekitty.http_retry_budget,
            config.ratekitty.max_response_bytes,
        )?;
        Ok(Self::new(Arc::new(client), &config.collect.scope_key))
    }
}

impl PrometheusCollectorBase for PrometheusCollector {
    fn client(&self) -> &dyn PrometheusClientBase {
        self.client.as_ref()
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }
}
