//! `/v1/info`: the metrics file, as it is and as it is understood.

use axum::{
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tracing::warn;

use super::{
    Call, Fault,
    fault::Told,
    unrouted,
    written::answer,
    wsme::{Attribute, Kind},
};
use crate::{
    api::{answer::Answer, openapi::Operation},
    config::metrics_yml::{self, MetricDefinition, MetricsError},
};

/// Answers every request below info. Services are what metrics were called.
pub(super) async fn route(call: Call) -> Response {
    let parts = call.parts();
    let answer = match (&call.method, parts.as_slice()) {
        (&Method::GET, ["config"]) => config(&call),
        (_, ["metrics", rest @ ..]) => metrics(&call, "metric_name", rest),
        (_, ["services", rest @ ..]) => metrics(&call, "service_name", rest),
        _ => Ok(unrouted(&call, &[])),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

fn unusable(error: &MetricsError) -> Fault {
    warn!("The metrics file cannot be shown: {error}");
    let text = "Invalid endpoint: no metrics in current configuration.";
    Fault::Client(StatusCode::METHOD_NOT_ALLOWED, text.to_owned())
}

fn config(call: &Call) -> Result<Response, Fault> {
    call.input(&[]).arguments(&[])?;
    call.caller.may("info:get_config", &[])?;
    let config = metrics_yml::read_json(&call.state.metrics_conf);
    Ok(answer(StatusCode::OK, &MetricsFile(config.map_err(|error| unusable(&error))?)))
}

fn metrics(call: &Call, argument: &'static str, path: &[&str]) -> Result<Response, Fault> {
    let name: &[Attribute] = &[(argument, Kind::Text, true)];
    let name = match (&call.method, path) {
        (&Method::GET, []) => {
            call.input(&[]).arguments(&[])?;
            None
        }
        (&Method::GET, [_]) => call.input(path).arguments(name)?.text(argument).map(str::to_owned),
        _ => return Ok(unrouted(call, path)),
    };
    let (file, scope_key) = (&call.state.metrics_conf, &call.state.keys.scope_key);
    let known = metrics_yml::read(file, scope_key).map_err(|error| unusable(&error))?.metrics;
    let Some(name) = name else {
        call.caller.may("info:list_metrics_info", &[])?;
        let metrics = known.iter().map(Metric::of).collect();
        return Ok(answer(StatusCode::OK, &Metrics { metrics }));
    };
    call.caller.may("info:get_metric_info", &[])?;
    match known.iter().find(|metric| metric.frame_type == name) {
        Some(metric) => Ok(answer(StatusCode::OK, &Metric::of(metric))),
        None => Err(Fault::Client(StatusCode::NOT_FOUND, name)),
    }
}

/// The metrics file as it is.
#[derive(Serialize, JsonSchema)]
#[schemars(extend("type" = "object", "additionalProperties" = true))]
struct MetricsFile(Value);

impl Answer for MetricsFile {}

/// Metrics.
#[derive(Serialize, JsonSchema)]
struct Metrics<'a> {
    metrics: Vec<Metric<'a>>,
}

impl Answer for Metrics<'_> {}

/// A metric, as data points are made of it.
#[derive(Serialize, JsonSchema)]
struct Metric<'a> {
    /// Type of its data points.
    metric_id: &'a str,
    /// Names of labels.
    metadata: &'a [String],
    unit: &'a str,
}

impl Answer for Metric<'_> {}

impl<'a> Metric<'a> {
    fn of(metric: &'a MetricDefinition) -> Self {
        Self { metric_id: &metric.frame_type, metadata: &metric.metadata, unit: &metric.unit }
    }
}

/// Operations on the metrics file.
pub(super) fn describe() -> Vec<Operation> {
    // The file cannot be read.
    let unusable =
        |operation: Operation| operation.answers::<Told>(405, "There is no metrics file.");
    let list = |path: &str, summary| {
        unusable(Operation::new("get", path, summary).answers::<Metrics>(200, "Metrics."))
    };
    let one = |path: &str| {
        let operation = Operation::new("get", path, "A metric");
        unusable(operation.answers::<Metric>(200, "The metric.").may_miss())
    };
    vec![
        unusable(
            Operation::new("get", "/v1/info/config", "The metrics file as it is")
                .answers::<MetricsFile>(200, "Its content."),
        ),
        list("/v1/info/metrics", "Metrics"),
        one("/v1/info/metrics/{metric_name}"),
        list("/v1/info/services", "Metrics, by their older name"),
        one("/v1/info/services/{service_name}"),
    ]
}
