//! A Prometheus asked directly, with basic authentication if configured.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use tracing::debug;

use super::{Answer, BodySink, PrometheusClientBase, PrometheusError, read_into, too_large};
use crate::{
    config::sections::PrometheusEndpoint,
    http::{self, BodyError, ClientError, ClientSettings, Redirects, retry::retry},
    instruments::Asked,
};

/// Length of the parameters that are sent in a URL; longer ones go into the body.
const LONGEST_URL: usize = 2_000;

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

    fn transport(&self, error: reqwest::Error) -> PrometheusError {
        let source = error.without_url().into();
        PrometheusError::Transport { url: self.shown_base.clone(), source }
    }

    async fn send(
        &self,
        endpoint: &str,
        params: &[(&str, String)],
    ) -> Result<reqwest::Response, PrometheusError> {
        let url = format!("{}/{endpoint}", self.base);
        let length: usize = params.iter().map(|(_, value)| value.len()).sum();
        // Servers and what is before them bound the length of a URL.
        let request = match length > LONGEST_URL {
            true => self.http.post(url).form(params),
            false => self.http.get(url).query(params),
        };
        let mut request = request.header("accept", "application/json");
        if let Some((user, password)) = &self.credentials {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        request.send().await.map_err(|error| self.transport(error))
    }

    async fn try_get(
        &self,
        endpoint: &str,
        params: &[(&str, String)],
    ) -> Result<Answer, PrometheusError> {
        let response = self.send(endpoint, params).await?;
        self.whole(response, params).await
    }

    /// The whole of an answer.
    async fn whole(
        &self,
        response: reqwest::Response,
        params: &[(&str, String)],
    ) -> Result<Answer, PrometheusError> {
        let status = response.status().as_u16();
        let body = match http::read_body(response, self.max_response_bytes).await {
            Ok(body) => body,
            Err(BodyError::Transport(error)) => return Err(self.transport(error)),
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
        retry(self.retry_budget, Asked::Prometheus, &what, || self.try_get(endpoint, params)).await
    }

    async fn read(
        &self,
        endpoint: &str,
        params: &[(&str, String)],
        sink: &mut dyn BodySink,
    ) -> Result<u16, PrometheusError> {
        debug!("Asking Prometheus for {endpoint}: {params:?}");
        let response = self.send(endpoint, params).await?;
        let transport = |error| self.transport(error);
        let whole = |response| self.whole(response, params);
        read_into(response, sink, (params, self.max_response_bytes), transport, whole).await
    }

    fn retry_budget(&self) -> Duration {
        self.retry_budget
    }
}
