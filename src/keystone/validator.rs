//! Whether a token that somebody shows is good, and whose it is.
//!
//! Keystone is asked once for each token, then not for `token_cache_time`: so long
//! may a token that was revoked still be taken, as with keystonemiddleware. A
//! token that has ended is refused at once. That one is bad is kept for
//! [`REFUSED_FOR`] only, where keystonemiddleware keeps it not at all: a client that
//! comes again and again costs Keystone little, a Keystone that was wrong nobody much.
//!
//! Tokens are kept by their SHA-256, never by themselves: so the time in which one is
//! looked up tells nothing about another.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use hashlink::LruCache;
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tracing::{error, warn};

use super::{KeystoneError, Session, Token, Wanted, memcached::Memcached};
use crate::{
    config::sections::keystone_authtoken::KeystoneAuthtoken, http, instruments::Asked, time::Clock,
};

/// Good tokens that are remembered at most.
const MOST: usize = 20_000;

/// Bad ones, which push no good one out, and for how long.
const MOST_REFUSED: usize = 2_000;
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// Questions to Keystone at a time; more wait.
const AT_ONCE: usize = 16;

/// Longest token, in bytes. Keystone's own have some hundreds.
const LONGEST: usize = 8_192;

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// It is no token, or no good any more.
    Invalid,
    /// Keystone cannot be asked.
    Unavailable,
}

/// Digest of a token.
type Key = [u8; 32];

/// What Keystone said, and until when that is not asked again.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    /// Nothing: the token is bad.
    token: Option<Arc<Token>>,
    /// Whether it was asked for though it may have ended: if not, one that is bad may
    /// be good with a service's token beside it.
    with_ended: bool,
    until: DateTime<Utc>,
}

/// Asks a Keystone about tokens.
pub struct Validator {
    session: Arc<Session>,
    /// Where Keystone is, as its catalog says.
    identity: Wanted,
    /// For how long answers are kept.
    cache_time: Option<Duration>,
    service_type: Option<String>,
    clock: Arc<dyn Clock>,
    known: Mutex<LruCache<Key, Known>>,
    refused: Mutex<LruCache<Key, Known>>,
    shared: Option<Memcached>,
    at_once: Semaphore,
}

impl std::fmt::Debug for Validator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Validator over {:?}", self.session)
    }
}

impl Validator {
    /// One that asks as the user of `session`.
    pub fn new(config: &KeystoneAuthtoken, session: Arc<Session>, clock: Arc<dyn Clock>) -> Self {
        Self {
            session,
            identity: Wanted {
                service_type: "identity".to_owned(),
                interfaces: vec![config.interface.clone()],
                region: config.region_name.clone(),
            },
            cache_time: config.token_cache_time,
            service_type: config.service_type.clone(),
            clock,
            known: Mutex::new(LruCache::new(MOST)),
            refused: Mutex::new(LruCache::new(MOST_REFUSED)),
            shared: config.memcached.as_ref().map(Memcached::new),
            at_once: Semaphore::new(AT_ONCE),
        }
    }

    /// What Keystone says about a token. With `allow_expired`, one that has ended is
    /// good, too: a service shows it for somebody whose request began before.
    ///
    /// # Errors
    /// [`Rejected`]
    pub async fn validate(&self, token: &str, allow_expired: bool) -> Result<Arc<Token>, Rejected> {
        // What Keystone never gave out need not be asked for.
        let is_fine = |byte: u8| byte.is_ascii_graphic();
        if token.is_empty() || token.len() > LONGEST || !token.bytes().all(is_fine) {
            return Err(Rejected::Invalid);
        }
        let key: Key = Sha256::digest(token).into();
        let answers = |known: &Known| known.token.is_some() || known.with_ended || !allow_expired;
        if let Some(known) = self.remembered(&key).await.filter(answers) {
            return self.told(&known, allow_expired);
        }
        let Ok(_permit) = self.at_once.acquire().await else { return Err(Rejected::Unavailable) };
        // Somebody else may have asked while we waited.
        if let Some(known) = self.in_memory(&key).filter(answers) {
            return self.told(&known, allow_expired);
        }
        let token = self.ask(token, allow_expired).await.map_err(|problem| {
            error!(error = %problem, "Cannot validate a token: {problem}");
            Rejected::Unavailable
        })?;
        let most = if token.is_some() { Duration::MAX } else { REFUSED_FOR };
        let known = Known {
            token: token.map(Arc::new),
            with_ended: allow_expired,
            until: self.clock.now() + self.cache_time.unwrap_or_default().min(most),
        };
        if self.cache_time.is_some() && !(allow_expired && self.has_ended(&known)) {
            self.remember(key, &known).await;
        }
        self.told(&known, allow_expired)
    }

    /// Asks about our own token, as one does that may be validated.
    ///
    /// # Errors
    /// What Keystone does instead.
    pub async fn probe(&self) -> Result<(), KeystoneError> {
        let access = self.session.access().await?;
        let Some(token) = access.secret() else { return Ok(()) };
        match self.ask(token, false).await? {
            Some(_) => Ok(()),
            None => Err(self.session.misread("it does not know the token that it gave")),
        }
    }

    fn has_ended(&self, known: &Known) -> bool {
        known.token.as_ref().is_some_and(|token| token.expires_at <= self.clock.now())
    }

    fn told(&self, known: &Known, allow_expired: bool) -> Result<Arc<Token>, Rejected> {
        match &known.token {
            Some(token) if allow_expired || !self.has_ended(known) => Ok(token.clone()),
            _ => Err(Rejected::Invalid),
        }
    }

    fn in_memory(&self, key: &Key) -> Option<Known> {
        [&self.known, &self.refused].into_iter().find_map(|kept| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let found = kept.get(key)?;
            if found.until > self.clock.now() {
                return Some(found.clone());
            }
            kept.remove(key);
            None
        })
    }

    fn keep(&self, key: Key, known: Known) {
        let kept = if known.token.is_some() { &self.known } else { &self.refused };
        kept.lock().unwrap_or_else(PoisonError::into_inner).insert(key, known);
    }

    async fn remembered(&self, key: &Key) -> Option<Known> {
        self.cache_time?;
        if let Some(known) = self.in_memory(key) {
            return Some(known);
        }
        let known = self.shared.as_ref()?.get(key).await?;
        let known: Known = serde_json::from_slice(&known).ok()?;
        // Nothing is kept for longer than this program is told to.
        let latest = self.clock.now() + self.cache_time?;
        if known.until <= self.clock.now() || known.until > latest {
            return None;
        }
        self.keep(*key, known.clone());
        Some(known)
    }

    async fn remember(&self, key: Key, known: &Known) {
        self.keep(key, known.clone());
        if let (Some(_), Some(shared), Some(time), Ok(value)) =
            (&known.token, &self.shared, self.cache_time, serde_json::to_vec(known))
        {
            shared.set(&key, &value, time).await;
        }
    }

    /// Asks Keystone; nothing if the token is bad.
    async fn ask(&self, token: &str, allow_expired: bool) -> Result<Option<Token>, KeystoneError> {
        http::retry::retry(
            self.session.retry_budget(),
            Asked::Keystone,
            "Validating a token",
            || self.try_ask(token, allow_expired),
        )
        .await
    }

    async fn try_ask(
        &self,
        token: &str,
        allow_expired: bool,
    ) -> Result<Option<Token>, KeystoneError> {
        let mut query: Vec<&str> = Vec::new();
        if self.service_type.is_none() {
            query.push("nocatalog=1");
        }
        if allow_expired {
            query.push("allow_expired=1");
        }
        let headers = [
            ("x-subject-token", SecretString::from(token.to_owned())),
            ("openstack-identity-access-rules", SecretString::from("1.0".to_owned())),
        ];
        let path = format!("/auth/tokens?{}", query.join("&"));
        let place = self.identity_url().await?;
        let asked = self.session.identity_api_at(&place, Method::GET, &path, &headers).await?;
        match asked {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, body) if status.is_success() => {
                let read = Token::from_answer(&body);
                let mut token = read.map_err(|reason| self.session.misread(reason))?;
                token.forget_catalog(self.service_type.as_deref());
                Ok(Some(token))
            }
            (StatusCode::FORBIDDEN, body) => Err(KeystoneError::Forbidden {
                what: "validating tokens",
                group: self.session.group(),
                body: http::excerpt(&body),
                needs: "the role admin or service",
            }),
            (StatusCode::UNAUTHORIZED, body) => Err(KeystoneError::Login {
                url: self.session.url(),
                group: self.session.group(),
                status: 401,
                body: http::excerpt(&body),
            }),
            (status, body) => Err(KeystoneError::Status {
                url: self.session.url(),
                status: status.as_u16(),
                body: http::excerpt(&body),
            }),
        }
    }

    /// Where tokens are validated: where the catalog says, else where we log in.
    async fn identity_url(&self) -> Result<String, KeystoneError> {
        match self.session.endpoint(&self.identity).await {
            Ok(url) => {
                let url = url.strip_suffix("/v2.0").unwrap_or(&url);
                Ok(if url.ends_with("/v3") { url.to_owned() } else { format!("{url}/v3") })
            }
            Err(problem @ (KeystoneError::NoEndpoint { .. } | KeystoneError::NoCatalog { .. })) => {
                warn!("{problem}; tokens are validated where [{}] logs in", self.session.group());
                Ok(self.session.identity().await?.to_owned())
            }
            Err(problem) => Err(problem),
        }
    }
}
