//! A Prometheus behind Aetos, which asks for a token of Keystone.
//!
//! Aetos stands in the catalog as `metric-storage`, without the `/api/v1` that
//! Prometheus' URL has. It takes `query`, `time` and `timeout` of an instant query
//! and nothing else, and tells errors with Prometheus' status in a body of its own.
//! <https://docs.openstack.org/aetos/latest/>

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tracing::debug;

use super::{
    Answer, AtSteps, BodySink, PrometheusClientBase, PrometheusError, Steps, read_into, too_large,
};
use crate::{
    http::{self, BodyError, retry::retry},
    instruments::Asked,
    keystone::{SendError, Session, Wanted},
    time::isoformat,
};

/// Length of a query: it stands in a URL.
const LONGEST_QUERY: usize = 1_500;

/// Type of Aetos in the catalog.
const SERVICE_TYPE: &str = "metric-storage";

/// Client of the Aetos that a Keystone's catalog names.
#[derive(Debug)]
pub struct AetosClient {
    session: Arc<Session>,
    wanted: Wanted,
    /// What is asked, for messages.
    shown: String,
    retry_budget: Duration,
    max_response_bytes: usize,
}

impl AetosClient {
    /// A client that finds Aetos by interface, of which the first is liked best, and
    /// region in the catalog of `session`.
    pub fn new(
        session: Arc<Session>,
        interfaces: &[String],
        region: Option<&str>,
        retry_budget: Duration,
        max_response_bytes: usize,
    ) -> Self {
        let wanted = Wanted {
            service_type: SERVICE_TYPE.to_owned(),
            interfaces: interfaces.to_vec(),
            region: region.map(str::to_owned),
        };
        Self { session, shown: format!("the {wanted}"), wanted, retry_budget, max_response_bytes }
    }

    /// Sends a request. Gives the answer and the URL for messages.
    async fn send(
        &self,
        endpoint: &str,
        params: &[(&str, String)],
    ) -> Result<(reqwest::Response, String), PrometheusError> {
        let base = self.session.endpoint(&self.wanted).await?;
        let shown = http::without_credentials(&base);
        let url = format!("{base}/api/v1/{endpoint}");
        let sent = self.session.send(|http| {
            // Without it, some errors are pages for people.
            http.get(&url).header("accept", "application/json").query(params)
        });
        let response = sent.await.map_err(|error| match error {
            SendError::Keystone(error) => error.into(),
            SendError::Transport(error) => transport(&shown, error),
        })?;
        Ok((response, shown))
    }

    async fn try_get(
        &self,
        endpoint: &str,
        params: &[(&str, String)],
    ) -> Result<Answer, PrometheusError> {
        let (response, shown) = self.send(endpoint, params).await?;
        self.whole(response, &shown, params).await
    }

    /// The whole of an answer.
    async fn whole(
        &self,
        response: reqwest::Response,
        shown: &str,
        params: &[(&str, String)],
    ) -> Result<Answer, PrometheusError> {
        let status = response.status().as_u16();
        let body = match http::read_body(response, self.max_response_bytes).await {
            Ok(body) => body,
            Err(BodyError::Transport(error)) => return Err(transport(shown, error)),
            Err(BodyError::TooLarge) => return Err(too_large(params, self.max_response_bytes)),
        };
        if status < 400 {
            return Ok(Answer { status, body });
        }
        let query = params.iter().find(|(name, _)| *name == "query");
        Err(refusal(
            shown,
            status,
            &body,
            query.map_or("", |(_, query)| query),
            self.session.group(),
        ))
    }
}

fn transport(shown: &str, source: reqwest::Error) -> PrometheusError {
    PrometheusError::Transport { url: shown.to_owned(), source: source.without_url().into() }
}

/// What an error of Aetos means. Its body need not be JSON, and has several forms.
fn refusal(
    url: &str,
    status: u16,
    body: &[u8],
    query: &str,
    group: &'static str,
) -> PrometheusError {
    let told: Option<Value> = serde_json::from_slice(body).ok();
    let reason = told.as_ref().and_then(|told| match &told["error_message"] {
        Value::String(text) => Some(text.clone()),
        other => other["faultstring"].as_str().map(str::to_owned),
    });
    let reason = reason.unwrap_or_else(|| http::excerpt(body));
    match status {
        // Prometheus' own refusals, of which Aetos passes on status and text.
        400 | 422 => PrometheusError::Query {
            query: query.to_owned(),
            kind: format!("HTTP status {status}"),
            message: reason,
        },
        401 => PrometheusError::Refused {
            url: url.to_owned(),
            status,
            reason,
            hint: format!(
                "it takes no token of [{group}]: check that Aetos asks the same Keystone"
            ),
        },
        403 => PrometheusError::Refused {
            url: url.to_owned(),
            status,
            reason,
            hint: format!(
                "the user of [{group}] needs the role admin or service in the project of its login"
            ),
        },
        404 | 405 => PrometheusError::Refused {
            url: url.to_owned(),
            status,
            reason,
            hint: "the endpoint in Keystone's catalog must be Aetos' URL without /api/v1"
                .to_owned(),
        },
        _ => PrometheusError::Status { url: url.to_owned(), status, body: reason },
    }
}

#[async_trait]
impl PrometheusClientBase for AetosClient {
    fn url(&self) -> &str {
        &self.shown
    }

    fn asked(&self) -> Asked {
        Asked::Aetos
    }

    async fn get(
        &self,
        endpoint: &str,
        params: &[(&str, String)],
    ) -> Result<Answer, PrometheusError> {
        debug!("Asking Aetos for {endpoint}: {params:?}");
        retry(self.retry_budget, Asked::Aetos, "A request to Aetos", || {
            self.try_get(endpoint, params)
        })
        .await
    }

    async fn read(
        &self,
        endpoint: &str,
        params: &[(&str, String)],
        sink: &mut dyn BodySink,
    ) -> Result<u16, PrometheusError> {
        debug!("Asking Aetos for {endpoint}: {params:?}");
        let (response, shown) = self.send(endpoint, params).await?;
        let transport = |error| transport(&shown, error);
        let whole = |response| self.whole(response, &shown, params);
        read_into(response, sink, (params, self.max_response_bytes), transport, whole).await
    }

    fn retry_budget(&self) -> Duration {
        self.retry_budget
    }

    fn longest_query(&self) -> usize {
        LONGEST_QUERY
    }

    /// A subquery, whose steps are multiples of their distance whatever the time at
    /// which it is asked. Prometheus 2 gives one more at the start.
    fn at_steps(&self, query: &str, steps: Steps) -> Option<AtSteps> {
        let is_aligned = steps.first.timestamp().rem_euclid(i64::from(steps.seconds)) == 0;
        let range = u64::from(steps.count) * u64::from(steps.seconds);
        is_aligned.then(|| AtSteps {
            endpoint: "query",
            params: vec![
                ("query", format!("({query})[{range}s:{}s]", steps.seconds)),
                ("time", isoformat(steps.last())),
            ],
            may_exceed: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::retry::Retryable;

    fn told(status: u16, body: &str) -> (String, bool) {
        let error = refusal("http://a", status, body.as_bytes(), "up", "collector_aetos");
        (error.to_string(), error.is_retryable())
    }

    #[test]
    fn tells_what_to_do() {
        let body = r#"{"error_message":{"faultcode":"Client","faultstring":"[422] too many samples","debuginfo":null}}"#;
        assert_eq!(
            told(422, body),
            (
                "Prometheus refused the query `up`: HTTP status 422: [422] too many samples".into(),
                false
            )
        );
        let body = r#"{"error_message":{"faultstring":"RBAC Authorization Failed"}}"#;
        let (text, is_retryable) = told(403, body);
        assert!(text.contains("needs the role admin or service"), "{text}");
        assert!(!is_retryable);
        let (text, is_retryable) = told(503, "<html><h1>Service Unavailable</h1></html>");
        assert!(text.contains("503"), "{text}");
        assert!(is_retryable);
        assert!(told(404, r#"{"error_message":"[404] no"}"#).0.contains("without /api/v1"));
    }
}
