//! Keystone: how the program logs in, finds services, and has tokens validated.
//!
//! ```text
//! [section] auth_* → Session ─ one token, shared and renewed ─→ catalog → Aetos, projects
//!                       └────── Validator: tokens of the API's users → Token
//! ```
//!
//! What a request answers is in the Identity API reference,
//! <https://docs.openstack.org/api-ref/identity/v3/>; how options are meant is
//! keystoneauth's and keystonemiddleware's behaviour. `openstack_sdk` was weighed:
//! `docs/adr/0007-keystone.md`.

pub mod access_rules;
mod catalog;
mod login;
mod memcached;
mod session;
mod token;
mod validator;

use crate::http::{ClientError, retry::Retryable};

pub use catalog::{Catalog, Wanted};
pub use session::{Access, SendError, Session, Sessions};
pub use token::Token;
pub use validator::{Rejected, Validator};

/// Why Keystone, or a service behind its tokens, gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum KeystoneError {
    /// It was not reached, or the connection broke.
    #[error("cannot reach Keystone at {url}: {source:#}")]
    Transport {
        /// URL, without credentials.
        url: String,
        /// What went wrong, with its causes.
        #[source]
        source: anyhow::Error,
    },
    /// Somebody else has just found it away.
    #[error("{reason} (a moment ago)")]
    Away {
        /// How the login failed.
        reason: String,
    },
    /// It does not take our login.
    #[error(
        "Keystone at {url} refuses the login of [{group}] (HTTP status {status}): {body}; check user, password, domains and project"
    )]
    Login {
        /// URL.
        url: String,
        /// Section with the login.
        group: &'static str,
        /// HTTP status code.
        status: u16,
        /// Start of the answer.
        body: String,
    },
    /// It answered with an HTTP error.
    #[error("Keystone at {url} answered HTTP status {status}: {body}")]
    Status {
        /// URL.
        url: String,
        /// HTTP status code.
        status: u16,
        /// Start of the answer.
        body: String,
    },
    /// It answered with something else than its API does.
    #[error("{url} did not answer as Keystone does ({reason}); check [{group}] auth_url")]
    Format {
        /// URL.
        url: String,
        /// Section with the login.
        group: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Our user may not do it.
    #[error("Keystone refuses {what} to the user of [{group}]: {body}; the user needs {needs}")]
    Forbidden {
        /// What was asked for.
        what: &'static str,
        /// Section with the login.
        group: &'static str,
        /// Start of the answer.
        body: String,
        /// The role that is needed.
        needs: &'static str,
    },
    /// The catalog has no such service.
    #[error("Keystone's catalog has no {wanted}; it has {found}")]
    NoEndpoint {
        /// What was looked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// The catalog that comes with the token is empty.
    #[error(
        "the token of [{group}] has no catalog: set project_name (or project_id) and its domain"
    )]
    NoCatalog {
        /// Section with the login.
        group: &'static str,
    },
}

impl Retryable for KeystoneError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Away { .. } => true,
            Self::Login { status, .. } | Self::Status { status, .. } => {
                *status >= 500 || *status == 429
            }
            Self::Format { .. }
            | Self::Forbidden { .. }
            | Self::NoEndpoint { .. }
            | Self::NoCatalog { .. } => false,
        }
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
#[error("[{group}]: {source}")]
pub struct SetUpError {
    /// The section.
    pub group: &'static str,
    /// What is wrong with its certificates.
    #[source]
    pub source: ClientError,
}
