//! What all collectors over PromQL share: query, fetch, format.
//!
//! A collector supplies [`PrometheusCollectorBase::client`] and
//! [`PrometheusCollectorBase::settings`] and gets the rest, as
//! CloudKitty's specification of the Aetos collector asks.
//!
//! One query for many scopes and periods takes the place of the first two. Its
//! selectors and functions are those of the queries for each, it tells the scopes
//! apart by one more label to group by, and it is evaluated at the end of each
//! period, as they are; so each group is made of the same series and samples.
//!
//! One thing may differ: Prometheus adds up in the order in which its blocks hold the
//! series, which is another one where a query reaches over several blocks, and sums
//! of binary fractions depend on the order in their last bits. So what is added up is
//! asked for period by period, of all scopes, and over time only what has no order.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use tracing::warn;

use super::{CollectError, Collector, Usage};
use crate::{
    config::metrics_yml::{MetricDefinition, QuantityError},
    dataframe::{DataPoint, Labels},
    decimal::Decimal,
    prometheus::{PrometheusClientBase, PrometheusError, Sample, Series, Steps, Values, promql},
    time::{Period, Periods, calendar_labels, local},
};

/// Questions about single periods that are asked at the same time.
const QUESTIONS_AT_ONCE: usize = 4;

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

    /// The series of several scopes and periods.
    ///
    /// # Errors
    /// [`CollectError`]
    async fn fetch_many(
        &self,
        metric: &MetricDefinition,
        scopes: &[&str],
        periods: Periods,
    ) -> Result<Option<Vec<Series>>, CollectError> {
        if periods.count == 1 || !adds_up(metric) {
            return self.fetch_at_once(metric, scopes, periods).await;
        }
        let mut merged: HashMap<Box<[Box<str>]>, Values> = HashMap::new();
        let mut answers = stream::iter(0_u32..)
            .zip(stream::iter(periods.iter()))
            .map(|(number, period)| async move {
                let one = Periods { begin: period.begin, count: 1, ..periods };
                self.fetch_at_once(metric, scopes, one).await.map(|series| (number, series))
            })
            .buffered(QUESTIONS_AT_ONCE);
        while let Some((number, series)) = answers.try_next().await? {
            let Some(series) = series else { return Ok(None) };
            for Series { labels, values } in series {
                let of_all = merged.entry(labels).or_default();
                values.iter().for_each(|(_, value)| of_all.push(number, value));
            }
        }
        let series = merged.into_iter().map(|(labels, values)| Series { labels, values });
        Ok(Some(series.collect()))
    }

    /// The series of several scopes and periods, by one query.
    ///
    /// # Errors
    /// [`CollectError`]
    async fn fetch_at_once(
        &self,
        metric: &MetricDefinition,
        scopes: &[&str],
        periods: Periods,
    ) -> Result<Option<Vec<Series>>, CollectError> {
        let scope_key = &self.settings().scope_key;
        let labels = labels_of(metric, scope_key);
        let seconds = i64::from(periods.seconds);
        let Some(query) = promql::collect_many_query(metric, scope_key, scopes, &labels, seconds)
        else {
            return Ok(None);
        };
        // Each period is told at its end.
        let first = Period::starting(periods.begin, periods.seconds).end;
        let steps = Steps { first, seconds: periods.seconds, count: periods.count };
        self.client()
            .get_series(&query, steps, &labels)
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
        let format = Format::new(metric, scope_key, scope_id);
        let calendar = calendar_labels(local(period.begin));
        let mut points = Vec::with_capacity(samples.len());
        for sample in samples {
            let label = |name: &str| sample.metric.get(name).map_or("", String::as_str);
            match label(scope_key) {
                // A query prefix or suffix may drop the label; the query asked
                // for this scope alone.
                got if got.is_empty() || got == scope_id => {}
                got => {
                    return Err(CollectError::Scope {
                        metric: metric.conf_key.clone(),
                        asked: scope_id.to_owned(),
                        got: got.to_owned(),
                    });
                }
            }
            if let Some(qty) = format.quantity(&sample.value.1, period, label)? {
                let (groupby, metadata) =
                    (format.groupby(&calendar, label), format.metadata(label));
                points.push(DataPoint::new(format.unit.clone(), qty, groupby, metadata));
            }
        }
        Ok(points)
    }
}

/// Whether values depend on the order in which series are added up.
fn adds_up(metric: &MetricDefinition) -> bool {
    !matches!(metric.args.aggregation_method.as_str(), "max" | "min" | "count")
}

/// Labels that tell the points of a metric apart, that of the scope first.
fn labels_of<'a>(metric: &'a MetricDefinition, scope_key: &'a str) -> Vec<&'a str> {
    let others = metric.groupby.iter().chain(&metric.metadata).map(String::as_str);
    std::iter::once(scope_key).chain(others.filter(|name| *name != scope_key)).collect()
}

/// Calendar labels of a period.
type Calendar = [(&'static str, String); 4];

/// Makes data points of a metric and scope.
struct Format<'a> {
    metric: &'a MetricDefinition,
    scope_key: &'a str,
    scope_id: &'a str,
    unit: Arc<str>,
}

impl<'a> Format<'a> {
    fn new(metric: &'a MetricDefinition, scope_key: &'a str, scope_id: &'a str) -> Self {
        Self { metric, scope_key, scope_id, unit: metric.unit.as_str().into() }
    }

    /// The quantity of a value; none where it is NaN or infinite.
    fn quantity<'l>(
        &self,
        value: &str,
        period: Period,
        label: impl Fn(&str) -> &'l str,
    ) -> Result<Option<Decimal>, CollectError> {
        let Self { metric, scope_id, .. } = self;
        match metric.quantity(value) {
            Ok(qty) => Ok(Some(qty)),
            Err(QuantityError::NotFinite(value)) => {
                let labels = metric.groupby.iter().chain(&metric.metadata);
                let labels: Vec<_> = labels.map(|name| (name, label(name))).collect();
                warn!(
                    scope.id = scope_id, metric = metric.conf_key, %period,
                    "Metric `{}` of scope `{scope_id}` has the value `{value}` in the period {period}; this series is not rated: {labels:?}",
                    metric.conf_key,
                );
                Ok(None)
            }
            Err(QuantityError::Decimal(_)) => {
                let (metric, value) = (metric.conf_key.clone(), value.to_owned());
                Err(CollectError::Value { metric, value })
            }
        }
    }

    fn groupby<'l>(&self, calendar: &Calendar, label: impl Fn(&str) -> &'l str) -> Labels {
        let mut groupby = Labels::new();
        groupby.insert(self.scope_key.to_owned(), Value::String(self.scope_id.to_owned()));
        let names = self.metric.groupby.iter().filter(|name| *name != self.scope_key);
        groupby.extend(names.map(|name| (name.clone(), Value::String(label(name).to_owned()))));
        for (name, value) in calendar {
            groupby.insert((*name).to_owned(), Value::String(value.clone()));
        }
        groupby
    }

    fn metadata<'l>(&self, label: impl Fn(&str) -> &'l str) -> Labels {
        let names = self.metric.metadata.iter();
        names.map(|name| (name.clone(), Value::String(label(name).to_owned()))).collect()
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
    async fn collect_many(
        &self,
        metric: &MetricDefinition,
        scopes: &[&str],
        periods: Periods,
    ) -> Result<Option<Usage>, CollectError> {
        let series = self.fetch_many(metric, scopes, periods).await?;
        Ok(series.map(|series| Usage::new(periods, series)))
    }

    fn points(
        &self,
        metric: &MetricDefinition,
        scope_id: &str,
        usage: &Usage,
    ) -> Result<Vec<Vec<DataPoint>>, CollectError> {
        let scope_key = &self.settings().scope_key;
        let labels = labels_of(metric, scope_key);
        let format = Format::new(metric, scope_key, scope_id);
        let periods: Vec<Period> = usage.periods.iter().collect();
        let calendars: Vec<Calendar> =
            periods.iter().map(|period| calendar_labels(local(period.begin))).collect();
        let mut points: Vec<Vec<DataPoint>> = periods.iter().map(|_| Vec::new()).collect();
        for series in usage.of(scope_id) {
            let label = |name: &str| {
                let at = labels.iter().position(|label| *label == name);
                at.and_then(|at| series.labels.get(at)).map_or("", |value| &**value)
            };
            // One copy for the points of a day.
            let mut day: Option<(&Calendar, Arc<Labels>)> = None;
            let metadata = Arc::new(format.metadata(label));
            for (number, value) in series.values.iter() {
                let number = number as usize;
                let (Some(period), Some(points)) = (periods.get(number), points.get_mut(number))
                else {
                    continue;
                };
                let Some(qty) = format.quantity(value, *period, label)? else { continue };
                let calendar = &calendars[number];
                let groupby = match &day {
                    Some((of, groupby)) if *of == calendar => groupby.clone(),
                    _ => Arc::new(format.groupby(calendar, label)),
                };
                day = Some((calendar, groupby.clone()));
                let metadata = metadata.clone();
                points.push(DataPoint::new(format.unit.clone(), qty, groupby, metadata));
            }
        }
        Ok(points)
    }

    fn fitting(&self, scopes: &mut dyn Iterator<Item = &str>) -> usize {
        let limit = self.client().longest_query();
        let mut bytes = 0;
        let fits = |scope: &&str| {
            bytes += promql::listed_bytes(scope);
            bytes <= limit
        };
        scopes.take_while(fits).count().max(1)
    }
}
