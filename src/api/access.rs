//! Who asks, and what they may do.
//!
//! ```text
//! X-Auth-Token → Validator → Caller (in the request) → Caller::may(rule, target) in the handler
//! ```
//!
//! Tokens are taken as keystonemiddleware takes them, with its answers; rules are
//! asked as the reference asks them: `policy::defaults` names rule and requests.
//! With `auth_strategy = noauth` everyone is admin.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::{debug, info, warn};

use super::answer::{self, Answer};
use crate::{
    config::{Config, ConfigError, sections::default::AuthStrategy},
    keystone::{KeystoneError, Rejected, Session, SetUpError, Token, Validator, access_rules},
    policy::{
        Credentials, Decision, Target,
        store::{LivePolicy, LoadError, Place},
    },
    time::Clock,
};

/// Paths that everyone may ask for, those of our own among them.
const PUBLIC: [&str; 11] = [
    "/",
    "/v1",
    "/v2",
    "/openapi.json",
    "/docs",
    "/docs/docs.js",
    "/docs/docs.css",
    "/ui",
    "/ui/ui.js",
    "/ui/chart.js",
    "/ui/ui.css",
];

/// Name of someone whom nobody named.
const UNKNOWN: &str = "unknown";

/// Why users cannot be told apart.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// There is no login by which tokens could be validated.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificates cannot be read.
    #[error(transparent)]
    SetUp(#[from] SetUpError),
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] LoadError),
}

/// How users are known, and what they may do.
#[derive(Debug)]
pub struct Access {
    /// Nothing: everyone is admin.
    keystone: Option<Keystone>,
}

#[derive(Debug)]
struct Keystone {
    validator: Validator,
    policy: LivePolicy,
    /// `WWW-Authenticate` of who has no good token.
    challenge: HeaderValue,
    delay_auth_decision: bool,
    service_token_roles: Vec<String>,
    service_token_roles_required: bool,
    service_type: Option<String>,
}

impl Access {
    /// Everyone is admin.
    pub fn open() -> Self {
        Self { keystone: None }
    }

    /// As `[DEFAULT] auth_strategy` says; `search` are the folders in which
    /// configuration files are looked for.
    ///
    /// # Errors
    /// [`AccessError`]
    pub fn new(
        config: &Config,
        search: &[std::path::PathBuf],
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, AccessError> {
        if config.default.auth_strategy == AuthStrategy::Noauth {
            return Ok(Self::open());
        }
        let section = &config.keystone_authtoken;
        let missing = |why: &str| ConfigError::Missing {
            group: "keystone_authtoken",
            option: "auth_type",
            why: why.to_owned(),
        };
        let auth = section.auth.as_ref().ok_or_else(|| {
            missing(
                "with [DEFAULT] auth_strategy = keystone, write how to log in at Keystone to validate \
                 tokens; to serve everyone as admin, set auth_strategy = noauth",
            )
        })?;
        if auth.auth_url.is_empty() {
            return Err(missing("tokens are validated with a login, not with none").into());
        }
        let session = Arc::new(Session::new(auth, section.retry_budget(), clock.clone())?);
        let uri = section.www_authenticate_uri.clone().unwrap_or_else(|| session.url());
        let challenge = HeaderValue::from_str(&format!("Keystone uri=\"{uri}\""));
        let challenge = challenge.unwrap_or(HeaderValue::from_static("Keystone"));
        let place = Place::new(&config.oslo_policy, &config.files, search);
        Ok(Self {
            keystone: Some(Keystone {
                validator: Validator::new(section, session, clock.clone()),
                policy: LivePolicy::new(place)?,
                challenge,
                delay_auth_decision: section.delay_auth_decision,
                service_token_roles: section.service_token_roles.clone(),
                service_token_roles_required: section.service_token_roles_required,
                service_type: section.service_type.clone(),
            }),
        })
    }
}

impl Access {
    /// What rules can ask about the owner of a token.
    ///
    /// # Errors
    /// A token that is no good, a Keystone that cannot be asked.
    pub async fn credentials(&self, token: &str) -> Result<Credentials, CredentialsError> {
        let keystone = self.keystone.as_ref().ok_or(CredentialsError::NoKeystone)?;
        match keystone.validator.validate(token, false).await {
            Ok(token) => Ok(credentials(Some(&token), None)),
            Err(Rejected::Invalid) => Err(CredentialsError::Invalid),
            Err(Rejected::Unavailable) => Err(CredentialsError::Unavailable),
        }
    }

    /// Whether tokens can be validated: our own one is.
    ///
    /// # Errors
    /// What Keystone does instead.
    pub async fn probe(&self) -> Result<(), KeystoneError> {
        match &self.keystone {
            Some(keystone) => keystone.validator.probe().await,
            None => Ok(()),
        }
    }
}

/// Why nothing is known of the owner of a token.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// There is no Keystone.
    #[error("[DEFAULT] auth_strategy is noauth: there are no tokens, and everyone is admin")]
    NoKeystone,
    /// The token is no good.
    #[error("Keystone does not take the token: it is wrong, revoked, or has ended")]
    Invalid,
    /// Keystone cannot be asked.
    #[error("Keystone cannot be asked; the log says why")]
    Unavailable,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    access: Arc<Access>,
    /// What is known of them; nothing if everyone is admin.
    known: Option<Arc<Known>>,
}

#[derive(Debug)]
struct Known {
    credentials: Credentials,
    user_id: Option<String>,
    project_id: Option<String>,
    is_admin: bool,
}

/// They may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Forbidden {
    /// The rule that does not allow it.
    pub rule: &'static str,
}

impl Caller {
    /// Whether they may do what a rule is for. `target` are the attributes of what
    /// they want to do it to.
    ///
    /// # Errors
    /// [`Forbidden`]
    pub fn may(&self, rule: &'static str, target: &[(&str, Value)]) -> Result<(), Forbidden> {
        let (Some(keystone), Some(known)) = (&self.access.keystone, &self.known) else {
            return Ok(());
        };
        let target: Target =
            target.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        match keystone.policy.present().decide(rule, &target, &known.credentials) {
            Decision::Allowed => Ok(()),
            Decision::Denied => Err(Forbidden { rule }),
            // The reference fails on these; they are no rights, either way.
            Decision::WrongScope { scope, .. } => {
                info!("A token of scope {scope} is not for rule {rule}");
                Err(Forbidden { rule })
            }
            Decision::Failed(problem) => {
                warn!("Rule {rule} has no answer, and allows nobody anything: {problem}");
                Err(Forbidden { rule })
            }
        }
    }

    /// Whether they see all projects.
    pub fn is_admin(&self) -> bool {
        self.known.as_ref().is_none_or(|known| known.is_admin)
    }

    /// The project of their token.
    pub fn project_id(&self) -> Option<&str> {
        self.known.as_ref().and_then(|known| known.project_id.as_deref())
    }

    /// Filters with which they see what they may see: others than admins see their
    /// own project, whatever they ask for. `None`: nothing at all.
    pub fn narrow(
        &self,
        mut filters: Vec<(String, Vec<String>)>,
        scope_key: &str,
    ) -> Option<Vec<(String, Vec<String>)>> {
        if !self.is_admin() {
            let own = self.project_id()?.to_owned();
            filters.retain(|(name, _)| name != scope_key);
            filters.push((scope_key.to_owned(), vec![own]));
        }
        Some(filters)
    }

    /// Identifier of the user, as it is kept with what they make.
    pub fn user(&self) -> &str {
        let user = self.known.as_ref().and_then(|known| known.user_id.as_deref());
        user.unwrap_or(UNKNOWN)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        // It is there for every route that is not public.
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| StatusCode::UNAUTHORIZED.into_response())
    }
}

/// Finds out who asks; those who show no good token get no further.
pub(super) async fn authenticate(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let trimmed = path.trim_end_matches('/');
    let is_public = PUBLIC.contains(&if trimmed.is_empty() { "/" } else { trimmed });
    let known = match &access.keystone {
        None => None,
        // Nobody asks: a handler that wants to know who does gets no answer.
        Some(_) if is_public => return next.run(request).await,
        Some(keystone) => {
            match keystone.identify(request.headers(), request.method().as_str(), path).await {
                Ok(known) => Some(Arc::new(known)),
                Err(response) => return response,
            }
        }
    };
    if let Some(known) = &known {
        debug!(
            user = known.user_id,
            project = known.project_id,
            "The request is of user {:?} in project {:?}",
            known.user_id,
            known.project_id
        );
    }
    request.extensions_mut().insert(Caller { access: access.clone(), known });
    next.run(request).await
}

fn token<'a>(headers: &'a HeaderMap, names: &[&str]) -> Option<&'a str> {
    let value = names.iter().find_map(|name| headers.get(*name))?;
    // What is no text is no token.
    Some(value.to_str().unwrap_or(" ")).filter(|token| !token.is_empty())
}

impl Keystone {
    async fn identify(
        &self,
        headers: &HeaderMap,
        method: &str,
        path: &str,
    ) -> Result<Known, Response> {
        let unavailable = |problem| match problem {
            Rejected::Invalid => None,
            Rejected::Unavailable => Some(unavailable()),
        };
        let (mut service, mut service_is_good, mut allow_expired) = (None, true, false);
        if let Some(shown) = token(headers, &["x-service-token"]) {
            match self.validator.validate(shown, false).await {
                Ok(token) => {
                    allow_expired = token
                        .roles()
                        .any(|role| self.service_token_roles.iter().any(|r| r == role));
                    service_is_good = allow_expired || !self.service_token_roles_required;
                    service = Some(token).filter(|_| service_is_good);
                }
                Err(problem) => {
                    if let Some(response) = unavailable(problem) {
                        return Err(response);
                    }
                    service_is_good = false;
                }
            }
        }
        let mut user = None;
        if let Some(shown) = token(headers, &["x-auth-token", "x-storage-token"]) {
            match self.validator.validate(shown, allow_expired).await {
                Ok(token) if self.access_rules_allow(&token, method, path) => user = Some(token),
                Ok(_) => {}
                Err(problem) => {
                    if let Some(response) = unavailable(problem) {
                        return Err(response);
                    }
                }
            }
        }
        if (user.is_none() || !service_is_good) && !self.delay_auth_decision {
            return Err(self.unauthorized());
        }
        Ok(self.known(user.as_deref(), service.as_deref()))
    }

    /// Whether the rules of an application credential, if it has any, allow a request.
    fn access_rules_allow(&self, token: &Token, method: &str, path: &str) -> bool {
        let Some(rules) = token.access_rules() else { return true };
        match &self.service_type {
            Some(kind) => {
                token.knows_service(kind) && access_rules::allow(rules, kind, method, path)
            }
            None => {
                warn!(
                    "A token with access rules is refused: set [keystone_authtoken] service_type, \
                     so that they can be checked"
                );
                false
            }
        }
    }

    fn known(&self, user: Option<&Token>, service: Option<&Token>) -> Known {
        let credentials = credentials(user, service);
        Known {
            user_id: user.map(|token| token.user.id.clone()),
            project_id: user.and_then(|token| Some(token.project.as_ref()?.id.clone())),
            is_admin: self.policy.present().is_admin(&credentials),
            credentials,
        }
    }

    fn unauthorized(&self) -> Response {
        let body = KeystoneFault::body(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "The request you have made requires authentication.",
        );
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::WWW_AUTHENTICATE, self.challenge.clone()),
        ];
        (StatusCode::UNAUTHORIZED, headers, body).into_response()
    }
}

fn unavailable() -> Response {
    let body = KeystoneFault::body(
        StatusCode::SERVICE_UNAVAILABLE,
        "Service Unavailable",
        "The Keystone service is temporarily unavailable.",
    );
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::RETRY_AFTER, "5")];
    (StatusCode::SERVICE_UNAVAILABLE, headers, body).into_response()
}

/// An error that has to do with Keystone.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KeystoneError")]
pub(super) struct KeystoneFault {
    error: KeystoneProblem,
}

/// What is wrong.
#[derive(Serialize, JsonSchema)]
struct KeystoneProblem {
    code: u16,
    title: &'static str,
    message: &'static str,
}

impl Answer for KeystoneFault {}

impl KeystoneFault {
    fn body(status: StatusCode, title: &'static str, message: &'static str) -> String {
        answer::json(&Self { error: KeystoneProblem { code: status.as_u16(), title, message } })
    }
}

/// What rules can ask about a caller.
fn credentials(user: Option<&Token>, service: Option<&Token>) -> Credentials {
    let of_user = |token: Option<&Token>, prefix: &str| {
        let domain_of = |token: Option<&Token>| {
            token.and_then(|token| token.user.domain.as_ref()).map(|domain| domain.id.clone())
        };
        let project = token.and_then(|token| token.project.as_ref());
        let project_domain = project.and_then(|project| project.domain.as_ref());
        let roles: Vec<String> =
            token.map(|token| token.roles().map(str::to_owned).collect()).unwrap_or_default();
        vec![
            (format!("{prefix}user_id"), json!(token.map(|token| &token.user.id))),
            (format!("{prefix}user_domain_id"), json!(domain_of(token))),
            (format!("{prefix}project_id"), json!(project.map(|project| &project.id))),
            (format!("{prefix}project_domain_id"), json!(project_domain.map(|domain| &domain.id))),
            (format!("{prefix}roles"), json!(roles)),
        ]
    };
    let mut credentials: Credentials = of_user(user, "").into_iter().collect();
    credentials.extend(of_user(service, "service_"));
    let system = user.is_some_and(Token::is_system).then_some("all");
    credentials.insert("system_scope".to_owned(), json!(system));
    let domain = user.and_then(|token| token.domain.as_ref()).map(|domain| &domain.id);
    credentials.insert("domain_id".to_owned(), json!(domain));
    let is_admin_project = user.is_none_or(|token| token.is_admin_project);
    credentials.insert("is_admin_project".to_owned(), Value::Bool(is_admin_project));
    credentials
}
