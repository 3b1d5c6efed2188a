//! Loki's HTTP API. Knows entries, selectors and queries, and nothing of
//! dataframes.
//!
//! <https://grafana.com/docs/loki/latest/reference/loki-http-api/>

use std::{collections::BTreeMap, time::Duration};

use reqwest::RequestBuilder;
use secrecy::ExposeSecret;
use serde::Deserialize;
use tokio::{sync::Semaphore, time::Instant};
use tracing::debug;

use super::{
    error::{LokiError, QueryLimit},
    logql,
    push::{self, Body, StreamEntries},
};
use crate::{
    config::sections::storage_loki::{Login, PushFormat, StorageLoki},
    http::{
        self, BodyError, ClientError, ClientSettings, Redirects,
        retry::{retry, retry_after},
    },
    instruments::Asked,
};

/// Characters of Loki's words that are kept.
const LONGEST_MESSAGE: usize = 1_000;

/// Longest query that goes into a URL; longer ones are posted as a form.
const LONGEST_IN_URL: usize = 2_000;

/// Client of one Loki.
#[derive(Debug)]
pub struct LokiClient {
    http: reqwest::Client,
    write_url: String,
    read_url: String,
    delete_url: String,
    tenant: String,
    login: Login,
    format: PushFormat,
    retry_budget: Duration,
    max_response_bytes: usize,
    pushes: Semaphore,
    queries: Semaphore,
}

/// One series of a metric query at one instant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Sample {
    /// Labels of the series.
    #[serde(default)]
    pub metric: BTreeMap<String, String>,
    /// Time, and value as text.
    pub value: (serde::de::IgnoredAny, String),
}

/// Lines of one label set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Lines {
    /// Labels, structured metadata and what the query extracted.
    pub stream: BTreeMap<String, String>,
    /// Nanoseconds since the epoch as text, and the line.
    pub values: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Sample>),
    Streams(Vec<Lines>),
}

/// Which part of Loki a request is for.
#[derive(Clone, Copy)]
enum Part {
    Write,
    Read,
    Delete,
}

impl LokiClient {
    /// The format of pushes.
    pub fn format(&self) -> PushFormat {
        self.format
    }

    /// A client as configured.
    ///
    /// # Errors
    /// Certificates and keys that cannot be read.
    pub fn new(settings: &StorageLoki, max_response_bytes: usize) -> Result<Self, ClientError> {
        let client = ClientSettings {
            cafile: settings.cafile.clone(),
            insecure: settings.insecure,
            identity: settings.identity.clone(),
            timeout: settings.timeout,
            // A redirected push would arrive as a GET, and be taken for done.
            redirects: Redirects::Refused,
        };
        Ok(Self {
            http: http::client(&client)?,
            write_url: settings.write_url.clone(),
            read_url: settings.read_url.clone(),
            delete_url: settings.delete_url.clone(),
            tenant: settings.tenant.clone(),
            login: settings.login.clone(),
            format: settings.format,
            retry_budget: settings.retry_budget,
            max_response_bytes,
            pushes: Semaphore::new(settings.pushes_at_once),
            queries: Semaphore::new(settings.queries_at_once),
        })
    }

    fn url(&self, part: Part) -> &str {
        match part {
            Part::Write => &self.write_url,
            Part::Read => &self.read_url,
            Part::Delete => &self.delete_url,
        }
    }

    /// Sends one request and reads its answer: the body of a success, or the
    /// error that the status and the words of Loki mean.
    async fn send(
        &self,
        part: Part,
        request: RequestBuilder,
        explain: impl Fn(u16, String) -> Option<LokiError>,
    ) -> Result<Vec<u8>, LokiError> {
        let url = || http::without_credentials(self.url(part));
        let transport = |error: reqwest::Error| LokiError::Transport {
            url: url(),
            source: error.without_url().into(),
        };
        let request = match &self.login {
            Login::Anonymous => request,
            Login::Basic(user, password) => {
                request.basic_auth(user, Some(password.expose_secret()))
            }
            Login::Bearer(token) => request.bearer_auth(token.expose_secret()),
        };
        // A result that was cached before a flush would be a part of the whole.
        let request =
            request.header("X-Scope-OrgID", &self.tenant).header("Cache-Control", "no-cache");
        let response = request.send().await.map_err(transport)?;
        let status = response.status().as_u16();
        let wait = retry_after(response.headers());
        let body = match http::read_body(response, self.max_response_bytes).await {
            Ok(body) => body,
            Err(BodyError::Transport(error)) => return Err(transport(error)),
            Err(BodyError::TooLarge) => {
                let limit = self.max_response_bytes;
                return Err(LokiError::TooLarge { query: String::new(), limit });
            }
        };
        // Anything else than Loki's own word for a push is no acknowledgement.
        let is_good = match part {
            Part::Write => status == 204,
            Part::Read | Part::Delete => (200..300).contains(&status),
        };
        if is_good {
            return Ok(body);
        }
        let message: String =
            String::from_utf8_lossy(&body).trim().chars().take(LONGEST_MESSAGE).collect();
        let explained = if status == 400 { explain(status, message.clone()) } else { None };
        Err(explained.unwrap_or_else(|| LokiError::Status {
            url: url(),
            status,
            body: message,
            retry_after: wait,
        }))
    }

    /// Pushes entries; returns when Loki has acknowledged all of them. Pushing
    /// the same entries again does no harm.
    ///
    /// # Errors
    /// [`LokiError`]; then any of the entries may be stored or not.
    pub async fn push(&self, streams: &[StreamEntries<'_>]) -> Result<(), LokiError> {
        // Parts that are still to be pushed, last one first. All of them have
        // the time of a few retries, not each.
        let deadline = Instant::now() + self.retry_budget * 3;
        let mut todo = vec![streams.to_vec()];
        while let Some(streams) = todo.pop() {
            let body = push::encode(self.format, &streams).map_err(|error| LokiError::Format {
                url: self.shown(Part::Write),
                reason: format!("a push cannot be encoded: {error}"),
                body: String::new(),
            })?;
            let pushed = {
                let _turn = self.pushes.acquire().await;
                let what = format!("A push to Loki at {}", self.shown(Part::Write));
                retry(self.retry_budget, Asked::LokiPush, &what, || self.try_push(&streams, &body))
                    .await
            };
            match pushed {
                Ok(()) => {}
                Err(error) if error.asks_for_less() && Instant::now() < deadline => {
                    match halves(&streams) {
                        Some((first, second)) => todo.extend([second, first]),
                        None => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn try_push(&self, streams: &[StreamEntries<'_>], body: &Body) -> Result<(), LokiError> {
        let mut request = self
            .http
            .post(format!("{}/push", self.write_url))
            .header("content-type", body.content_type)
            .body(body.bytes.clone());
        if let Some(encoding) = body.encoding {
            request = request.header("content-encoding", encoding);
        }
        let refused = |_, message| {
            // What Loki says names the streams.
            let stream = match streams {
                [stream] => logql::labels(stream.labels),
                streams => format!("({} streams)", streams.len()),
            };
            Some(LokiError::Refused { stream, message })
        };
        self.send(Part::Write, request, refused).await.map(drop)
    }

    /// A metric query at one instant (nanoseconds since the epoch).
    ///
    /// # Errors
    /// [`LokiError`]
    pub async fn query(&self, query: &str, time: i64) -> Result<Vec<Sample>, LokiError> {
        let parameters = [("time", time.to_string())];
        match self.ask("query", query, &parameters).await? {
            Data::Vector(samples) => Ok(samples),
            Data::Streams(_) => Err(self.unexpected("lines where a vector was asked for")),
        }
    }

    /// The first `limit` lines with timestamps in `[start, end)` (nanoseconds
    /// since the epoch), oldest first within each label set.
    ///
    /// # Errors
    /// [`LokiError`]
    pub async fn lines(
        &self,
        query: &str,
        (start, end): (i64, i64),
        limit: usize,
    ) -> Result<Vec<Lines>, LokiError> {
        let parameters = [
            ("start", start.to_string()),
            ("end", end.to_string()),
            ("limit", limit.to_string()),
            ("direction", "forward".to_owned()),
        ];
        match self.ask("query_range", query, &parameters).await? {
            Data::Streams(lines) => Ok(lines),
            // An empty result has the type of no lines in some releases.
            Data::Vector(samples) if samples.is_empty() => Ok(Vec::new()),
            Data::Vector(_) => Err(self.unexpected("a vector where lines were asked for")),
        }
    }

    async fn ask(
        &self,
        endpoint: &str,
        query: &str,
        parameters: &[(&str, String)],
    ) -> Result<Data, LokiError> {
        debug!("Asking Loki for {endpoint} {parameters:?}: {query}");
        let _turn = self.queries.acquire().await;
        let what = format!("A query to Loki at {}", self.shown(Part::Read));
        let body = retry(self.retry_budget, Asked::LokiQuery, &what, || {
            let url = format!("{}/{endpoint}", self.read_url);
            let text = [("query", query.to_owned())];
            let request = if query.len() <= LONGEST_IN_URL {
                self.http.get(url).query(&text).query(parameters)
            } else {
                let form: Vec<_> = text.iter().chain(parameters).collect();
                self.http.post(url).form(&form)
            };
            self.send(Part::Read, request, |_, message| {
                let query = query.to_owned();
                Some(match QueryLimit::of(&message) {
                    Some(limit) => LokiError::Limit { limit, query, message },
                    None => LokiError::Query { query, message },
                })
            })
        });
        let body = body.await.map_err(|error| match error {
            LokiError::TooLarge { limit, .. } => {
                LokiError::TooLarge { query: query.to_owned(), limit }
            }
            // Between Loki's own parts, or between it and us.
            LokiError::Status { status, body, .. }
                if status == 413 || body.contains("larger than") =>
            {
                LokiError::TooLarge { query: query.to_owned(), limit: self.max_response_bytes }
            }
            error => error,
        })?;
        let envelope: Envelope<Data> =
            serde_json::from_slice(&body).map_err(|error| LokiError::Format {
                url: self.shown(Part::Read),
                reason: error.to_string(),
                body: http::excerpt(&body),
            })?;
        // Sums over a part are wrong sums.
        if let Some(warning) = envelope.warnings.into_iter().find(|one| one.contains("partial")) {
            return Err(LokiError::Partial { query: query.to_owned(), warning });
        }
        Ok(envelope.data)
    }

    fn shown(&self, part: Part) -> String {
        http::without_credentials(self.url(part))
    }

    fn unexpected(&self, reason: &str) -> LokiError {
        LokiError::Format {
            url: self.shown(Part::Read),
            reason: reason.to_owned(),
            body: String::new(),
        }
    }

    /// Asks for the deletion of lines in a time (seconds since the epoch, both
    /// included). When Loki acts on it is Loki's affair.
    ///
    /// # Errors
    /// [`LokiError`]
    pub async fn delete(&self, selector: &str, begin: i64, end: i64) -> Result<(), LokiError> {
        let parameters = [
            ("query", selector.to_owned()),
            ("start", begin.to_string()),
            ("end", end.to_string()),
        ];
        let request = self.http.post(format!("{}/delete", self.delete_url)).query(&parameters);
        self.send(Part::Delete, request, |_, _| None).await.map(drop)
    }

    /// What a path answers to a GET, from the root of the server of reads, such
    /// as `/ready`.
    ///
    /// # Errors
    /// [`LokiError`]
    pub async fn read_root(&self, path: &str) -> Result<String, LokiError> {
        let root = self.read_url.strip_suffix("/loki/api/v1").unwrap_or(&self.read_url);
        let request = self.http.get(format!("{root}{path}"));
        let body = self.send(Part::Read, request, |_, _| None).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// The requests for deletion that the compactor knows, as JSON: whether it
    /// takes any.
    ///
    /// # Errors
    /// [`LokiError`]
    pub async fn deletions(&self) -> Result<String, LokiError> {
        let request = self.http.get(format!("{}/delete", self.delete_url));
        let body = self.send(Part::Delete, request, |_, _| None).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

/// Two parts of a push; `None` if it is one entry.
fn halves<'a>(
    streams: &[StreamEntries<'a>],
) -> Option<(Vec<StreamEntries<'a>>, Vec<StreamEntries<'a>>)> {
    match streams {
        [] => None,
        [StreamEntries { entries, .. }] if entries.len() < 2 => None,
        [StreamEntries { labels, entries }] => {
            let (first, second) = entries.split_at(entries.len() / 2);
            let half = |entries| vec![StreamEntries { labels, entries }];
            Some((half(first), half(second)))
        }
        streams => {
            let (first, second) = streams.split_at(streams.len() / 2);
            Some((first.to_vec(), second.to_vec()))
        }
    }
}
