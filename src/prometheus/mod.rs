//! Prometheus' HTTP API: the one seam between us and whoever answers PromQL.
//!
//! [`PrometheusClientBase`] is what fetchers and collectors use;
//! [`client::PrometheusClient`] asks a Prometheus, [`aetos::AetosClient`] one that
//! stands behind Keystone's tokens. Format of answers: <https://prometheus.io/docs/prometheus/latest/querying/api/>.

pub mod aetos;
pub mod client;
pub mod promql;

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tracing::debug;

use crate::{
    http::{self, retry::Retryable},
    keystone::KeystoneError,
    time::isoformat,
};

pub use aetos::AetosClient;
pub use client::PrometheusClient;

/// Why Prometheus gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// It was not reached, or the connection broke.
    #[error("cannot reach Prometheus at {url}: {source:#}")]
    Transport {
        /// Base URL, without credentials.
        url: String,
        /// What went wrong, with its causes.
        #[source]
        source: anyhow::Error,
    },
    /// It answered with an HTTP error and no reason in JSON.
    #[error("Prometheus at {url} answered HTTP status {status}: {body}")]
    Status {
        /// Base URL, without credentials.
        url: String,
        /// HTTP status code.
        status: u16,
        /// Start of the answer.
        body: String,
    },
    /// It answered with something else than the JSON of its API.
    #[error(
        "{url} did not answer as Prometheus' API does ({reason}); check that the URL ends in /api/v1. Answer: {body}"
    )]
    Format {
        /// Base URL, without credentials.
        url: String,
        /// What is wrong.
        reason: String,
        /// Start of the answer.
        body: String,
    },
    /// It refused the query.
    #[error("Prometheus refused the query `{query}`: {kind}: {message}")]
    Query {
        /// The query.
        query: String,
        /// Prometheus' word for the kind of error, such as `bad_data`.
        kind: String,
        /// Its message.
        message: String,
    },
    /// Whoever stands before Prometheus refuses the request.
    #[error("{url} refuses the request (HTTP status {status}): {reason}; {hint}")]
    Refused {
        /// Base URL, without credentials.
        url: String,
        /// HTTP status code.
        status: u16,
        /// What it says.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// There is no token to ask with, or no service to ask.
    #[error(transparent)]
    Keystone(#[from] KeystoneError),
    /// Prometheus says that its answer is not whole.
    #[error("Prometheus cannot answer the query `{query}` whole: {warning}")]
    Partial {
        /// The query.
        query: String,
        /// Its warning, such as that of a remote storage that failed.
        warning: String,
    },
    /// The answer is larger than the limit.
    #[error("the answer to `{query}` is larger than [ratekitty] max_response_bytes = {limit}")]
    TooLarge {
        /// The query.
        query: String,
        /// The limit in bytes.
        limit: usize,
    },
}

impl Retryable for PrometheusError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Partial { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            // Prometheus' own words for being stopped or overloaded.
            Self::Query { kind, .. } => {
                matches!(kind.as_str(), "timeout" | "canceled" | "unavailable" | "internal")
            }
            Self::Keystone(error) => error.is_retryable(),
            Self::Format { .. } | Self::TooLarge { .. } | Self::Refused { .. } => false,
        }
    }
}

/// One series of an instant query's answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Sample {
    /// Labels of the series.
    pub metric: HashMap<String, String>,
    /// Time of the sample and its value as text, which may be `NaN` or `+Inf`.
    pub value: (f64, String),
}

/// An answer of the API as it came.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

#[derive(Deserialize)]
struct Envelope {
    status: String,
    data: Option<Data>,
    #[serde(rename = "errorType", default)]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    // Null stands for no series; a result that is missing does not.
    Vector(#[serde(deserialize_with = "null_is_empty")] Vec<Sample>),
    Matrix(serde::de::IgnoredAny),
    Scalar(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<Sample>, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// Whoever answers PromQL.
#[async_trait]
pub trait PrometheusClientBase: Send + Sync {
    /// URL for messages, without credentials.
    fn url(&self) -> &str;

    /// Asks an endpoint of the API (such as `query`), trying again what can be
    /// tried again.
    ///
    /// # Errors
    /// [`PrometheusError`]
    async fn get(
        &self,
        endpoint: &str,
        params: &[(&str, String)],
    ) -> Result<Answer, PrometheusError>;

    /// Evaluates a query at one instant; without a time, at the present.
    ///
    /// # Errors
    /// [`PrometheusError`], also for answers that are no vector.
    async fn get_instant(
        &self,
        query: &str,
        time: Option<DateTime<Utc>>,
    ) -> Result<Vec<Sample>, PrometheusError> {
        let mut params = vec![("query", query.to_owned())];
        params.extend(time.map(|time| ("time", isoformat(time))));
        let answer = self.get("query", &params).await?;
        parse_instant(self.url(), query, &answer)
    }
}

fn too_large(params: &[(&str, String)], limit: usize) -> PrometheusError {
    let query = params.iter().find(|(name, _)| *name == "query");
    let query = query.map(|(_, query)| query.clone()).unwrap_or_default();
    PrometheusError::TooLarge { query, limit }
}

fn parse_instant(url: &str, query: &str, answer: &Answer) -> Result<Vec<Sample>, PrometheusError> {
    let misread = |reason: String| PrometheusError::Format {
        url: url.to_owned(),
        reason,
        body: http::excerpt(&answer.body),
    };
    let envelope: Envelope =
        serde_json::from_slice(&answer.body).map_err(|error| misread(error.to_string()))?;
    if answer.status >= 400 && envelope.status == "success" {
        return Err(misread(format!("`success` with HTTP status {}", answer.status)));
    }
    // Warnings tell of data that could not be had, unless they are about the
    // query's own text: then the answer is whole.
    let about_query = |warning: &&String| warning.starts_with("PromQL ");
    for warning in envelope.warnings.iter().filter(about_query) {
        debug!(query, "Prometheus remarks on the query `{query}`: {warning}");
    }
    if let Some(warning) = envelope.warnings.iter().find(|warning| !about_query(warning)) {
        return Err(PrometheusError::Partial { query: query.to_owned(), warning: warning.clone() });
    }
    match (envelope.status.as_str(), envelope.data) {
        ("success", Some(Data::Vector(samples))) => Ok(samples),
        ("success", Some(_)) => Err(misread("the result is no vector".to_owned())),
        ("success", None) => Err(misread("there is no data".to_owned())),
        ("error", _) => Err(PrometheusError::Query {
            query: query.to_owned(),
            kind: envelope.error_type,
            message: envelope.error,
        }),
        (status, _) => Err(misread(format!("status `{status}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(status: u16, body: &str) -> Result<Vec<Sample>, PrometheusError> {
        let answer = Answer { status, body: body.as_bytes().to_vec() };
        parse_instant("http://p/api/v1", "up", &answer)
    }

    #[test]
    fn reads_vectors() {
        let body = r#"{"status":"success","data":{"resultType":"vector","result":
            [{"metric":{"a":"b\n\"c"},"value":[1.5,"NaN"]}]}}"#;
        let samples = parse(200, body).unwrap();
        assert_eq!(samples[0].metric["a"], "b\n\"c");
        assert_eq!(samples[0].value, (1.5, "NaN".to_owned()));
        let body = r#"{"status":"success","data":{"resultType":"vector","result":null}}"#;
        assert!(parse(200, body).unwrap().is_empty());
    }

    #[test]
    fn takes_no_part_for_the_whole() {
        let body = |warning: &str| {
            format!(
                r#"{{"status":"success","warnings":["{warning}"],"data":{{"resultType":"vector","result":[]}}}}"#
            )
        };
        let error = parse(200, &body("remote_read: connection refused")).unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("connection refused"));
        assert!(parse(200, &body("PromQL info: metric might not be a counter")).is_ok());
    }

    #[test]
    fn tells_what_is_wrong() {
        let html = parse(200, "<html>\n not found</html>").unwrap_err().to_string();
        assert!(html.contains("check that the URL ends in /api/v1"), "{html}");
        assert!(html.contains("<html> not found</html>"), "{html}");
        let refused = parse(400, r#"{"status":"error","errorType":"bad_data","error":"no"}"#);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "Prometheus refused the query `up`: bad_data: no"
        );
        for body in [
            "",
            "{}",
            r#"{"status":"success"}"#,
            r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#,
            r#"{"status":"success","data":{"resultType":"vector"}}"#,
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{}}]}}"#,
        ] {
            assert!(matches!(parse(200, body), Err(PrometheusError::Format { .. })), "{body}");
        }
    }
}
