//! `/v1/info`: the metrics file, as it is and as it is understood.

use axum::{
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tracing::warn;

use super::{
    Call, Fault, unrouted,
    wsme::{Attribute, Kind, answer, no_arguments},
};
use crate::config::metrics_yml::{self, MetricDefinition, MetricsError};

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
    no_arguments(call.uri.query())?;
    let config = metrics_yml::read_json(&call.state.metrics_conf);
    Ok(answer(StatusCode::OK, &config.map_err(|error| unusable(&error))?))
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
        let metrics: Vec<Value> = known.iter().map(show).collect();
        return Ok(answer(StatusCode::OK, &json!({"metrics": metrics})));
    };
    match known.iter().find(|metric| metric.frame_type == name) {
        Some(metric) => Ok(answer(StatusCode::OK, &show(metric))),
        None => Err(Fault::Client(StatusCode::NOT_FOUND, name)),
    }
}

fn show(metric: &MetricDefinition) -> Value {
    json!({
        "metric_id": metric.frame_type,
        "metadata": metric.metadata,
        "unit": metric.unit,
    })
}
