//! A Prometheus asked directly, with basic authentication if configured.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use tracing::debug;

use super::{Answer, PrometheusClientBase, PrometheusError, too_large};
use crate::{
    config::sections::PrometheusEndpoint,
    http::{self, BodyError, ClientError, ClientSettings, Redirects, retry::retry},
};

/// Client of one Prometheus.
#[derive(Debug, Clone)]
pub struct PrometheusClient {
    http: reqwest::Client,
    /// Base of the API without a slash at the end.
    base: String,
    shown_base: String,
    credentials: Option<(String, SecretString)>,
    retry_budget: Duration,
    max_response_bytes: usize,
}

impl PrometheusClient {
    /// A client for `url`, the base of the API.
    ///
    /// # Errors
    /// Certificate authorities that cannot be read.
    pub fn new(
        url: &str,
        endpoint: &PrometheusEndpoint,
        retry_budget: Duration,
        max_response_bytes: usize,
    ) -> Result<Self, ClientError> {
        let settings = ClientSettings {
            cafile: endpoint.cafile.clone(),
            insecure: endpoint.insecure,
            identity: None,
            redirects: Redirects::Followed,
            timeout: endpoint.timeout,
        };
        Ok(Self {
            http: http::client(&settings)?,
            base: url.trim_end_matches('/').to_owned(),
            shown_base: http::without_credentials(url.trim_end_matches('/')),
            credentials: endpoint.user.clone().zip(endpoint.password.clone()),
            retry_budget,
            max_response_bytes,
        })
    }

    async fn try_get(
        &self,
        endpoint: &str,
        params: &[(&str, String)],
    ) -> Result<Answer, PrometheusError> {
        let transport = |error: reqwest::Error| PrometheusError::Transport {
            url: self.shown_base.clone(),
            source: error.without_url().into(),
        };
        let mut request = self
            .http
            .get(format!("{}/{endpoint}", self.base))
            .header("accept", "application/json")
            .query(params);
        if let Some((user, password)) = &self.credentials {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        let response = request.send().await.map_err(transport)?;
        let status = response.status().as_u16();
        let body = match http::read_body(response, self.max_response_bytes).await {
            Ok(body) => body,
            Err(BodyError::Transport(error)) => return Err(transport(error)),
            Err(BodyError::TooLarge) => return Err(too_large(params, self.max_response_bytes)),
        };
        // Prometheus explains its own refusals in JSON; anything else with an
        // error status comes from something before it.
        let explained = body.starts_with(b"{") && status < 500 && status != 429;
        if status >= 400 && !explained {
            return Err(PrometheusError::Status {
                url: self.shown_base.clone(),
                status,
                body: http::excerpt(&body),
            });
        }
        Ok(Answer { status, body })
    }
}

#[async_trait]
impl PrometheusClientBase for PrometheusClient {
    fn url(&self) -> &str {
        &self.shown_base
    }

    async fn get(
        &self,
        endpoint: &str,
        params: &[(&str, String)],
    ) -> Result<Answer, PrometheusError> {
        debug!("Asking Prometheus for {endpoint}: {params:?}");
        let what = format!("A request to Prometheus at {}", self.shown_base);
        retry(self.retry_budget, &what, || self.try_get(endpoint, params)).await
    }
}
