//! Prometheus' HTTP API: the one seam between us and whoever answers PromQL.
//!
//! [`PrometheusClientBase`] is what fetchers and collectors use;
//! [`client::PrometheusClient`] asks a Prometheus, [`aetos::AetosClient`] one that
//! stands behind Keystone's tokens. Format of answers: <https://prometheus.io/docs/prometheus/latest/querying/api/>.

pub mod aetos;
pub mod client;
pub mod promql;
mod series;

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tracing::debug;

use crate::{
    http::{
        self,
        retry::{Retryable, retry},
    },
    instruments::Asked,
    keystone::KeystoneError,
    time::isoformat,
};

pub use aetos::AetosClient;
pub use client::PrometheusClient;
use series::{Cutter, SeriesSeed};
pub use series::{Series, Steps, Values};

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

/// Words with which Prometheus refuses a query for its size.
const LIMITS: [&str; 4] = [
    "too many samples",
    "exceeded maximum resolution",
    "query timed out",
    "expanding series: context deadline exceeded",
];

impl PrometheusError {
    /// Whether a question about less may have an answer.
    pub fn asks_for_less(&self) -> bool {
        match self {
            Self::TooLarge { .. } => true,
            // Bodies, URLs and headers that are too long; gateways that wait no longer.
            Self::Status { status, .. } | Self::Refused { status, .. } => {
                matches!(status, 413 | 414 | 431 | 504)
            }
            Self::Query { kind, message, .. } => {
                kind == "timeout" || LIMITS.iter().any(|words| message.contains(words))
            }
            Self::Transport { .. }
            | Self::Format { .. }
            | Self::Keystone(_)
            | Self::Partial { .. } => false,
        }
    }

    /// Whether nobody answers, whatever the question.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Refused { .. } | Self::Keystone(_) => true,
            // An endpoint that is not there says nothing about the others.
            Self::Status { .. } | Self::Query { .. } | Self::Partial { .. } => self.is_retryable(),
            Self::Format { .. } | Self::TooLarge { .. } => false,
        }
    }
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
    // Of series over time there are only those that were cut out before.
    Matrix(#[serde(deserialize_with = "null_is_empty")] Vec<serde::de::IgnoredAny>),
    Scalar(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    input: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// Whoever answers PromQL.
#[async_trait]
pub trait PrometheusClientBase: Send + Sync {
    /// URL for messages, without credentials.
    fn url(&self) -> &str;

    /// As what its requests are counted.
    fn asked(&self) -> Asked {
        Asked::Prometheus
    }

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

    /// Asks an endpoint once, hands on the body as it arrives, and gives the HTTP
    /// status.
    ///
    /// # Errors
    /// [`PrometheusError`]
    async fn read(
        &self,
        endpoint: &str,
        params: &[(&str, String)],
        sink: &mut dyn BodySink,
    ) -> Result<u16, PrometheusError> {
        let answer = self.get(endpoint, params).await?;
        sink.take(&answer.body)?;
        Ok(answer.status)
    }

    /// Time within which requests are tried again.
    fn retry_budget(&self) -> Duration {
        Duration::ZERO
    }

    /// The most bytes of a query in which it may be asked for several scopes.
    fn longest_query(&self) -> usize {
        48 << 10
    }

    /// How a query is evaluated at several steps; `None` if it cannot be.
    fn at_steps(&self, query: &str, steps: Steps) -> Option<AtSteps> {
        Some(AtSteps {
            endpoint: "query_range",
            params: vec![
                ("query", query.to_owned()),
                ("start", isoformat(steps.first)),
                ("end", isoformat(steps.last())),
                ("step", steps.seconds.to_string()),
            ],
            may_exceed: false,
        })
    }

    /// Evaluates a query at several instants, and gives the series with the values
    /// of `labels`. `None` if it cannot be asked for so.
    ///
    /// # Errors
    /// [`PrometheusError`]; one that asks for less ([`PrometheusError::asks_for_less`])
    /// comes at once, all others after further tries.
    async fn get_series(
        &self,
        query: &str,
        steps: Steps,
        labels: &[&str],
    ) -> Result<Option<Vec<Series>>, PrometheusError> {
        let asked = match steps.count {
            0 => return Ok(Some(Vec::new())),
            1 => Some(AtSteps::once(query, steps.first)),
            _ => self.at_steps(query, steps),
        };
        let Some(AtSteps { endpoint, params, may_exceed }) = asked else { return Ok(None) };
        let what = format!("A request to Prometheus at {}", self.url());
        let result = retry(self.retry_budget(), self.asked(), &what, || async {
            let mut sink = SeriesSink {
                url: self.url(),
                seed: SeriesSeed { labels, steps, may_exceed },
                cutter: Cutter::default(),
                series: Vec::new(),
            };
            let read = async {
                let status = self.read(endpoint, &params, &mut sink).await?;
                let body = sink.cutter.finish();
                match (parse(self.url(), query, &Answer { status, body })?, steps.count) {
                    (Data::Vector(rest), 1) if rest.is_empty() => Ok(sink.series),
                    (Data::Matrix(rest), 2..) if rest.is_empty() => Ok(sink.series),
                    _ => {
                        Err(misread(self.url(), b"", "the result is not what was asked for".into()))
                    }
                }
            };
            match read.await {
                Err(error) if error.asks_for_less() => Ok(Err(error)),
                other => other.map(Ok),
            }
        });
        result.await?.map(Some)
    }
}

/// A query at several steps, as an endpoint takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtSteps {
    /// The endpoint of the API.
    pub endpoint: &'static str,
    /// Its parameters.
    pub params: Vec<(&'static str, String)>,
    /// Whether the answer may have one step more at the start.
    pub may_exceed: bool,
}

impl AtSteps {
    /// A query at one instant.
    fn once(query: &str, instant: DateTime<Utc>) -> Self {
        let params = vec![("query", query.to_owned()), ("time", isoformat(instant))];
        Self { endpoint: "query", params, may_exceed: false }
    }
}

/// Takes a body as it arrives.
pub trait BodySink: Send {
    /// The next part.
    ///
    /// # Errors
    /// What cannot be read, which ends the answer.
    fn take(&mut self, part: &[u8]) -> Result<(), PrometheusError>;
}

/// Makes series of a body.
struct SeriesSink<'a> {
    url: &'a str,
    seed: SeriesSeed<'a>,
    cutter: Cutter,
    series: Vec<Series>,
}

impl BodySink for SeriesSink<'_> {
    fn take(&mut self, part: &[u8]) -> Result<(), PrometheusError> {
        let Self { url, seed, cutter, series } = self;
        cutter.push(part, |element| {
            let read =
                seed.read(element).map_err(|error| misread(url, element, error.to_string()))?;
            if !read.values.is_empty() {
                series.push(read);
            }
            Ok(())
        })
    }
}

fn misread(url: &str, body: &[u8], reason: String) -> PrometheusError {
    PrometheusError::Format { url: url.to_owned(), reason, body: http::excerpt(body) }
}

/// Hands a body on as it arrives, up to a limit: its series are kept. What has an
/// error status is read by `whole`, which knows what it means. Gives the status.
async fn read_into<F: Future<Output = Result<Answer, PrometheusError>> + Send>(
    mut response: reqwest::Response,
    sink: &mut dyn BodySink,
    (params, limit): (&[(&str, String)], usize),
    transport: impl Fn(reqwest::Error) -> PrometheusError,
    whole: impl FnOnce(reqwest::Response) -> F,
) -> Result<u16, PrometheusError> {
    let status = response.status().as_u16();
    if status >= 400 {
        let answer = whole(response).await?;
        sink.take(&answer.body)?;
        return Ok(status);
    }
    let mut length = 0;
    while let Some(part) = response.chunk().await.map_err(&transport)? {
        length += part.len();
        if length > limit {
            return Err(too_large(params, limit));
        }
        sink.take(&part)?;
    }
    Ok(status)
}

fn too_large(params: &[(&str, String)], limit: usize) -> PrometheusError {
    let query = params.iter().find(|(name, _)| *name == "query");
    let query = query.map(|(_, query)| query.clone()).unwrap_or_default();
    PrometheusError::TooLarge { query, limit }
}

fn parse_instant(url: &str, query: &str, answer: &Answer) -> Result<Vec<Sample>, PrometheusError> {
    match parse(url, query, answer)? {
        Data::Vector(samples) => Ok(samples),
        _ => Err(misread(url, &answer.body, "the result is no vector".to_owned())),
    }
}

fn parse(url: &str, query: &str, answer: &Answer) -> Result<Data, PrometheusError> {
    let misread = |reason: String| misread(url, &answer.body, reason);
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
        ("success", Some(data)) => Ok(data),
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
