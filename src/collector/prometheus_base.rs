//! What all collectors over PromQL share: query, fetch, format.
//!
//! A collector supplies [`PrometheusCollectorBase::client`] and
//! [`PrometheusCollectorBase::settings`] and gets the rest, as
//! CloudKitty's specification of the Aetos collector asks. The steps are apart, so that one query for
//! many scopes and periods can take the place of the first two and still use
//! the third.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tracing::warn;

use super::{CollectError, Collector};
use crate::{
    config::metrics_yml::{MetricDefinition, QuantityError},
    dataframe::{DataPoint, Labels},
    prometheus::{PrometheusClientBase, PrometheusError, Sample, promql},
    time::{Period, calendar_labels, local},
};

/// What a collector over PromQL needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name in the configuration and in the state database.
    pub name: &'static str,
    /// Label that names the scope.
    pub scope_key: String,
}

/// A collector over PromQL.
#[async_trait]
pub trait PrometheusCollectorBase: Send + Sync {
    /// Who answers the queries.
    fn client(&self) -> &dyn PrometheusClientBase;

    /// Name and scope key.
    fn settings(&self) -> &Settings;

    /// The query for one scope and period, to be evaluated at the period's end.
    fn query(&self, metric: &MetricDefinition, scope_id: &str, period: Period) -> String {
        promql::collect_query(metric, &self.settings().scope_key, scope_id, period.seconds())
    }

    /// The series of one scope and period.
    ///
    /// # Errors
    /// [`CollectError`]
    async fn fetch(
        &self,
        metric: &MetricDefinition,
        scope_id: &str,
        period: Period,
    ) -> Result<Vec<Sample>, CollectError> {
        let query = self.query(metric, scope_id, period);
        self.client()
            .get_instant(&query, Some(period.end))
            .await
            .map_err(|source| CollectError::Prometheus { metric: metric.conf_key.clone(), source })
    }

    /// The data points of a scope's series. Series whose value is NaN or
    /// infinite, which nobody can be billed for, are left out with a warning.
    ///
    /// # Errors
    /// A value that is no number, a series of another scope.
    fn format(
        &self,
        metric: &MetricDefinition,
        scope_id: &str,
        period: Period,
        samples: &[Sample],
    ) -> Result<Vec<DataPoint>, CollectError> {
        let scope_key = &self.settings().scope_key;
        let unit: Arc<str> = metric.unit.as_str().into();
        let calendar = calendar_labels(local(period.begin));
        let mut points = Vec::with_capacity(samples.len());
        for sample in samples {
            let qty = match metric.quantity(&sample.value.1) {
                Ok(qty) => qty,
                Err(QuantityError::NotFinite(value)) => {
                    warn!(
                        scope.id = scope_id, metric = metric.conf_key, %period,
                        "Metric `{}` of scope `{scope_id}` has the value `{value}` in the period {period}; this series is not rated: {:?}",
                        metric.conf_key,
                        sample.metric
                    );
                    continue;
                }
                Err(QuantityError::Decimal(_)) => {
                    return Err(CollectError::Value {
                        metric: metric.conf_key.clone(),
                        value: sample.value.1.clone(),
                    });
                }
            };
            let label = |name: &String| {
                let value = sample.metric.get(name).cloned().unwrap_or_default();
                (name.clone(), Value::String(value))
            };
            match sample.metric.get(scope_key).map(String::as_str) {
                // A query prefix or suffix may drop the label; the query asked
                // for this scope alone.
                None | Some("") => {}
                Some(got) if got == scope_id => {}
                Some(got) => {
                    return Err(CollectError::Scope {
                        metric: metric.conf_key.clone(),
                        asked: scope_id.to_owned(),
                        got: got.to_owned(),
                    });
                }
            }
            let mut groupby = Labels::new();
            groupby.insert(scope_key.clone(), Value::String(scope_id.to_owned()));
            groupby.extend(metric.groupby.iter().filter(|name| *name != scope_key).map(label));
            for (name, value) in &calendar {
                groupby.insert((*name).to_owned(), Value::String(value.clone()));
            }
            let metadata = metric.metadata.iter().map(label).collect();
            points.push(DataPoint::new(unit.clone(), qty, groupby, metadata));
        }
        Ok(points)
    }
}

#[async_trait]
impl<T: PrometheusCollectorBase> Collector for T {
    fn name(&self) -> &'static str {
        self.settings().name
    }

    async fn probe(&self) -> Result<(), PrometheusError> {
        self.client().get_instant("vector(1)", None).await.map(drop)
    }

    async fn collect(
        &self,
        metric: &MetricDefinition,
        scope_id: &str,
        period: Period,
    ) -> Result<Vec<DataPoint>, CollectError> {
        let samples = self.fetch(metric, scope_id, period).await?;
        self.format(metric, scope_id, period, &samples)
    }
}
