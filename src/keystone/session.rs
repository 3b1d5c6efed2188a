//! A login that all requests to a cloud's services share.
//!
//! There is one token at a time. It is renewed shortly before it ends, and once
//! when a service does not take it any more; who asks meanwhile waits for the new
//! one.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use reqwest::{Method, StatusCode, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::{
    sync::{Mutex, OnceCell},
    time::Instant,
};
use tracing::debug;

use super::{KeystoneError, SetUpError, Token, Wanted, login};
use crate::{
    config::sections::keystone_auth::{KeystoneAuth, Login, Reach},
    http::{self, ClientSettings, Redirects, retry::Retryable},
    time::Clock,
};

/// How long before its end a token is renewed.
const EARLY: TimeDelta = TimeDelta::seconds(60);

/// For how long a login that failed is not tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Longest wait for an answer, unless the configuration says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// Largest answer taken from Keystone, in bytes: a long list of projects.
const LARGEST: usize = 64 << 20;

/// A token and what it says.
#[derive(Debug)]
pub struct Access {
    /// The token itself; nothing for who does not log in.
    secret: Option<SecretString>,
    /// What Keystone says about it.
    token: Option<Token>,
}

impl Access {
    /// Identifier of the user who logged in.
    pub fn user_id(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.user.id.as_str())
    }

    /// The token itself.
    pub(super) fn secret(&self) -> Option<&str> {
        self.secret.as_ref().map(|secret| secret.expose_secret())
    }

    /// Adds the token to a request.
    fn add_to(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.secret {
            Some(secret) => {
                match HeaderValue::from_str(secret.expose_secret()) {
                    Ok(mut value) => {
                        // Never shown by Debug.
                        value.set_sensitive(true);
                        request.header("x-auth-token", value)
                    }
                    Err(_) => request,
                }
            }
            None => request,
        }
    }
}

/// Why a request with a token has no answer.
#[derive(Debug)]
pub enum SendError {
    /// There is no token.
    Keystone(KeystoneError),
    /// The service was not reached.
    Transport(reqwest::Error),
}

/// The logins of a process: who logs in as the same user in the same way, shares
/// one.
pub struct Sessions {
    clock: Arc<dyn Clock>,
    made: std::sync::Mutex<Vec<Arc<Session>>>,
}

impl Sessions {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, made: std::sync::Mutex::new(Vec::new()) }
    }

    /// The session of a login; see [`Session::new`].
    ///
    /// # Errors
    /// Certificates that cannot be read.
    pub fn of(
        &self,
        auth: &KeystoneAuth,
        retry_budget: Duration,
    ) -> Result<Arc<Session>, SetUpError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let known = made.iter().find(|session| {
            session.auth.group == auth.group
                && session.auth.reach == auth.reach
                && session.retry_budget == retry_budget
        });
        if let Some(session) = known {
            return Ok(session.clone());
        }
        let session = Arc::new(Session::new(auth, retry_budget, self.clock.clone())?);
        made.push(session.clone());
        Ok(session)
    }
}

/// A login at a Keystone.
pub struct Session {
    http: reqwest::Client,
    auth: KeystoneAuth,
    clock: Arc<dyn Clock>,
    retry_budget: Duration,
    /// URL of version 3 of the Identity API, once it is known.
    identity: OnceCell<String>,
    access: Mutex<Held>,
}

/// What a session has.
#[derive(Default)]
struct Held {
    access: Option<Arc<Access>>,
    /// When a login failed that may succeed later, and how.
    failed: Option<(Instant, String)>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session at {}", self.url())
    }
}

#[derive(Deserialize)]
struct Versions {
    versions: Values,
}

#[derive(Deserialize)]
struct Values {
    values: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    id: String,
    #[serde(default)]
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    rel: String,
    href: String,
}

impl Session {
    /// A session that logs in when it is first needed. What fails and may pass is
    /// tried again for `retry_budget`.
    ///
    /// # Errors
    /// Certificates that cannot be read.
    pub fn new(
        auth: &KeystoneAuth,
        retry_budget: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetUpError> {
        let http =
            client(&auth.reach).map_err(|source| SetUpError { group: auth.group, source })?;
        Ok(Self {
            http,
            auth: auth.clone(),
            clock,
            retry_budget,
            identity: OnceCell::new(),
            access: Mutex::default(),
        })
    }

    /// Keystone's URL for messages, without credentials.
    pub fn url(&self) -> String {
        http::without_credentials(&self.auth.auth_url)
    }

    /// Section with the login, for messages.
    pub fn group(&self) -> &'static str {
        self.auth.group
    }

    /// For how long what fails is tried again.
    pub fn retry_budget(&self) -> Duration {
        self.retry_budget
    }

    /// The token, which is good for a while yet.
    ///
    /// # Errors
    /// A Keystone that is not reached, or does not take the login.
    pub async fn access(&self) -> Result<Arc<Access>, KeystoneError> {
        let mut held = self.access.lock().await;
        if let Some(access) = &held.access
            && access.token.as_ref().is_none_or(|token| token.expires_at - EARLY > self.clock.now())
        {
            return Ok(access.clone());
        }
        self.log_in(&mut held).await
    }

    /// Another token in place of one that was refused.
    ///
    /// # Errors
    /// As [`Self::access`].
    pub async fn renewed(&self, refused: &Arc<Access>) -> Result<Arc<Access>, KeystoneError> {
        let mut held = self.access.lock().await;
        match &held.access {
            // Someone else was refused, too, and has renewed it already.
            Some(access) if !Arc::ptr_eq(access, refused) => Ok(access.clone()),
            _ => self.log_in(&mut held).await,
        }
    }

    /// Logs in, once: who asks tries again. Those who waited for a login that failed
    /// do not wait for one of their own.
    async fn log_in(&self, held: &mut Held) -> Result<Arc<Access>, KeystoneError> {
        // What is no good any more is not handed out while Keystone is away.
        held.access = None;
        if let Some((when, reason)) = &held.failed
            && when.elapsed() < AGAIN
        {
            return Err(KeystoneError::Away { reason: reason.clone() });
        }
        match self.try_log_in().await {
            Ok(access) => {
                let access = Arc::new(access);
                *held = Held { access: Some(access.clone()), failed: None };
                Ok(access)
            }
            Err(error) => {
                if error.is_retryable() {
                    held.failed = Some((Instant::now(), error.to_string()));
                }
                Err(error)
            }
        }
    }

    async fn try_log_in(&self) -> Result<Access, KeystoneError> {
        let Some(body) = login::body(&self.auth) else {
            return Ok(Access { secret: None, token: None });
        };
        let url = format!("{}/auth/tokens", self.identity().await?);
        let request = self
            .http
            .post(&url)
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .body(body.to_string());
        let response = request.send().await.map_err(|error| self.transport(error))?;
        let status = response.status();
        let secret = response
            .headers()
            .get("x-subject-token")
            .and_then(|secret| secret.to_str().ok())
            .map(|secret| SecretString::from(secret.to_owned()));
        let body = self.read(response).await?;
        if !status.is_success() {
            return Err(KeystoneError::Login {
                url: self.url(),
                group: self.auth.group,
                status: status.as_u16(),
                body: http::excerpt(&body),
            });
        }
        let secret = secret.ok_or_else(|| self.misread("there is no X-Subject-Token"))?;
        let token = Token::from_answer(&body).map_err(|reason| self.misread(reason))?;
        debug!("Logged in at Keystone as {}, until {}", token.user.id, token.expires_at);
        Ok(Access { secret: Some(secret), token: Some(token) })
    }

    /// URL of version 3 of the Identity API, without a slash at its end.
    pub(super) async fn identity(&self) -> Result<&str, KeystoneError> {
        let identity = self.identity.get_or_try_init(|| async {
            let given = self.auth.auth_url.trim_end_matches('/').to_owned();
            if self.auth.is_v3_url || given.ends_with("/v3") {
                return Ok(given);
            }
            self.discover(&given).await
        });
        Ok(identity.await?)
    }

    /// Asks which versions there are: `300 Multiple Choices`, or 200 behind some
    /// proxies.
    async fn discover(&self, given: &str) -> Result<String, KeystoneError> {
        let request = self.http.get(format!("{given}/")).header("accept", "application/json");
        let response = request.send().await.map_err(|error| self.transport(error))?;
        let status = response.status();
        let body = self.read(response).await?;
        if status.is_server_error() {
            let (url, body) = (self.url(), http::excerpt(&body));
            return Err(KeystoneError::Status { url, status: status.as_u16(), body });
        }
        let versions: Versions = serde_json::from_slice(&body)
            .map_err(|error| self.misread(format!("no list of versions: {error}")))?;
        let version = versions.versions.values.into_iter().find(|known| known.id.starts_with("v3"));
        let version = version.ok_or_else(|| self.misread("it has no version 3"))?;
        let link = version.links.into_iter().find(|link| link.rel == "self").map(|link| link.href);
        let url = match link {
            Some(href) if href.starts_with("http://") || href.starts_with("https://") => href,
            _ => format!("{given}/v3"),
        };
        Ok(url.trim_end_matches('/').to_owned())
    }

    /// URL of a service, from the catalog.
    ///
    /// # Errors
    /// As [`Self::access`], and a catalog that has no such endpoint.
    pub async fn endpoint(&self, wanted: &Wanted) -> Result<String, KeystoneError> {
        if let Login::Nobody { endpoint } = &self.auth.login {
            let endpoint = endpoint.as_ref().map(|url| url.trim_end_matches('/').to_owned());
            return endpoint.ok_or_else(|| KeystoneError::NoEndpoint {
                wanted: wanted.to_string(),
                found: format!(
                    "no services, as [{}] auth_type = none has no endpoint",
                    self.auth.group
                ),
            });
        }
        let access = self.access().await?;
        let token = access.token.as_ref().filter(|token| !token.catalog.is_empty());
        let token = token.ok_or(KeystoneError::NoCatalog { group: self.auth.group })?;
        token.catalog.endpoint(wanted)
    }

    /// Sends a request with the token; a second time, with a new token, if the
    /// service does not take the first one.
    ///
    /// # Errors
    /// No token, or a service that is not reached.
    pub async fn send(
        &self,
        request: impl Fn(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, SendError> {
        let access = self.access().await.map_err(SendError::Keystone)?;
        let send = async |access: &Access| {
            let sent = access.add_to(request(&self.http)).send().await;
            sent.map_err(|error| SendError::Transport(error.without_url()))
        };
        let response = send(&access).await?;
        if response.status() != StatusCode::UNAUTHORIZED || access.secret.is_none() {
            return Ok(response);
        }
        let access = self.renewed(&access).await.map_err(SendError::Keystone)?;
        send(&access).await
    }

    /// Asks the Identity API itself: `path` begins with a slash and may have a query.
    /// An HTTP error is an answer, too.
    ///
    /// # Errors
    /// As [`Self::access`].
    pub async fn identity_api(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, SecretString)],
    ) -> Result<(StatusCode, Vec<u8>), KeystoneError> {
        let place = self.identity().await?;
        self.identity_api_at(place, method, path, headers).await
    }

    /// The same, at another URL of version 3 of the Identity API.
    pub(super) async fn identity_api_at(
        &self,
        place: &str,
        method: Method,
        path: &str,
        headers: &[(&'static str, SecretString)],
    ) -> Result<(StatusCode, Vec<u8>), KeystoneError> {
        let url = format!("{place}{path}");
        let response = self.send(|http| {
            let mut request =
                http.request(method.clone(), &url).header("accept", "application/json");
            for (name, value) in headers {
                if let Ok(mut value) = HeaderValue::from_str(value.expose_secret()) {
                    value.set_sensitive(true);
                    request = request.header(*name, value);
                }
            }
            request
        });
        let response = response.await.map_err(|error| match error {
            SendError::Keystone(error) => error,
            SendError::Transport(error) => self.transport(error),
        })?;
        let status = response.status();
        debug!("Keystone answers {} to {method} {path}", status.as_u16());
        Ok((status, self.read(response).await?))
    }

    async fn read(&self, response: reqwest::Response) -> Result<Vec<u8>, KeystoneError> {
        http::read_body(response, LARGEST).await.map_err(|error| match error {
            http::BodyError::Transport(error) => self.transport(error),
            http::BodyError::TooLarge => self.misread(format!("more than {LARGEST} bytes")),
        })
    }

    fn transport(&self, error: reqwest::Error) -> KeystoneError {
        KeystoneError::Transport { url: self.url(), source: error.without_url().into() }
    }

    /// The error that tells of an answer which is not Keystone's.
    pub(crate) fn misread(&self, reason: impl Into<String>) -> KeystoneError {
        KeystoneError::Format { url: self.url(), group: self.auth.group, reason: reason.into() }
    }
}

fn client(reach: &Reach) -> Result<reqwest::Client, http::ClientError> {
    http::client(&ClientSettings {
        cafile: reach.cafile.clone(),
        insecure: reach.insecure,
        identity: reach.identity.clone(),
        redirects: Redirects::SameHost,
        timeout: Some(reach.timeout.unwrap_or(PATIENCE)),
    })
}
