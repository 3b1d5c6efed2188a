//! Scopes from the labels of a metric.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;

use super::{BuildError, FetchError, Fetcher};
use crate::{
    config::{Config, ConfigError},
    prometheus::{PrometheusClient, PrometheusClientBase, promql},
};

/// Fetcher over a Prometheus.
pub struct PrometheusFetcher {
    client: Arc<dyn PrometheusClientBase>,
    query: String,
    attribute: String,
}

impl PrometheusFetcher {
    /// A fetcher that asks `client` for the values of the label `attribute` of `metric`.
    pub fn new(
        client: Arc<dyn PrometheusClientBase>,
        metric: &str,
        filters: &[(String, String)],
        attribute: &str,
    ) -> Self {
        Self {
            client,
            query: promql::scopes_query(metric, filters, attribute),
            attribute: attribute.to_owned(),
        }
    }

    /// The fetcher of `[fetcher_prometheus]`.
    ///
    /// # Errors
    /// An option that is missing, certificate authorities that cannot be read.
    pub(super) fn from_config(config: &Config) -> Result<Self, BuildError> {
        let section = &config.fetcher_prometheus;
        let missing = |option, why: &str| ConfigError::Missing {
            group: "fetcher_prometheus",
            option,
            why: why.to_owned(),
        };
        let metric = section.metric.as_ref().ok_or_else(|| {
            missing("metric", "name the metric whose labels tell which scopes there are")
        })?;
        let url = section.endpoint.url.as_ref().ok_or_else(|| {
            missing(
                "prometheus_url",
                "write the base of the API, such as http://localhost:9090/api/v1",
            )
        })?;
        let client = PrometheusClient::new(
            url,
            &section.endpoint,
            config.ratekitty.http_retry_budget,
            config.ratekitty.max_response_bytes,
        )?;
        Ok(Self::new(Arc::new(client), metric, &section.filters, &section.scope_attribute))
    }
}

#[async_trait]
impl Fetcher for PrometheusFetcher {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    async fn scopes(&self) -> Result<Vec<String>, FetchError> {
        let samples = self.client.get_instant(&self.query, None).await?;
        // A series without the label belongs to no scope.
        let scopes: BTreeSet<String> = samples
            .into_iter()
            .filter_map(|mut sample| sample.metric.remove(&self.attribute))
            .filter(|scope| !scope.is_empty())
            .collect();
        Ok(scopes.into_iter().collect())
    }
}
