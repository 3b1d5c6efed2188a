//! How a program logs in to Keystone: the options that keystoneauth adds to a
//! section, and the struct that they are read into.
//!
//! The section that needs a login may hold the options itself, or name another
//! one by `auth_section`, which several share (`[ks_auth]`, say). How to reach
//! Keystone (`cafile`, `insecure`, `timeout`, ...) stands in the first one always,
//! as keystoneauth has it.
//! <https://docs.openstack.org/keystoneauth/latest/plugin-options.html>

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::read_timeout;
use crate::config::{
    ConfigError, Reader,
    opts::{Kind, Opt, SECONDS},
};

/// Ways to log in.
const KNOWN: &str = "password, v3password, v3applicationcredential, token, v3token or none";

/// `auth_type` and `auth_section`, which every section has that needs a login.
pub fn common_options(group: &'static str) -> Vec<Opt> {
    vec![
        Opt::unset(
            group,
            "auth_type",
            Kind::Str,
            "How to log in: password, v3password, v3applicationcredential, token, v3token, none.",
        )
        .renamed(&[("", "auth_plugin")]),
        Opt::unset(group, "auth_section", Kind::Str, "Another section that holds these options."),
    ]
}

/// Options that say who logs in, and to what.
pub fn login_options(group: &'static str) -> Vec<Opt> {
    let text = |name, help| Opt::unset(group, name, Kind::Str, help);
    vec![
        text("auth_url", "Keystone's URL, such as http://keystone:5000/v3."),
        text("user_id", "Identifier of the user."),
        text("username", "Name of the user.").renamed(&[("", "user_name"), ("", "user-name")]),
        text("user_domain_id", "Identifier of the user's domain."),
        text("user_domain_name", "Name of the user's domain."),
        text("password", "Password of the user.").secret(),
        text("token", "Token to log in with, for auth_type token and v3token.").secret(),
        text("application_credential_id", "Identifier of the application credential."),
        text("application_credential_name", "Name of the application credential; needs a user."),
        text("application_credential_secret", "Secret of the application credential.").secret(),
        text("project_id", "Identifier of the project to work in.")
            .renamed(&[("", "tenant_id"), ("", "tenant-id")]),
        text("project_name", "Name of the project to work in.")
            .renamed(&[("", "tenant_name"), ("", "tenant-name")]),
        text("project_domain_id", "Identifier of the project's domain."),
        text("project_domain_name", "Name of the project's domain."),
        text("domain_id", "Identifier of the domain to work in, in place of a project."),
        text("domain_name", "Name of the domain to work in, in place of a project."),
        text("system_scope", "`all`, to work on the whole cloud in place of a project."),
        text("trust_id", "Identifier of a trust to use."),
        text(
            "default_domain_id",
            "Identifier of the domain of user and project, where they name none.",
        ),
        text(
            "default_domain_name",
            "Name of the domain of user and project, where they name none.",
        ),
        text("endpoint", "URL to use in place of the catalog's, for auth_type none."),
    ]
}

/// Options that say how to reach Keystone and what its catalog names.
pub fn session_options(group: &'static str) -> Vec<Opt> {
    let text = |name, help| Opt::unset(group, name, Kind::Str, help);
    vec![
        text("cafile", "File with certificate authorities (PEM) to trust; wins over insecure."),
        text("certfile", "File with our certificate (PEM)."),
        text("keyfile", "File with its key (PEM)."),
        Opt::new(
            group,
            "insecure",
            Kind::Bool,
            "false",
            "Whether HTTPS certificates are left unchecked.",
        ),
        Opt::unset(group, "timeout", SECONDS, "Longest wait for an answer, in seconds."),
        Opt::new(group, "collect_timing", Kind::Bool, "false", "Has no effect."),
        Opt::new(group, "split_loggers", Kind::Bool, "false", "Has no effect."),
        text("tls_ciphers", "Has no effect."),
        text("tls_min_version", "Has no effect: TLS 1.2 or later."),
    ]
}

/// A user, a project or the like, by identifier or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// By identifier.
    Id(String),
    /// By name, with its domain, unless that is not needed.
    Name(String, Option<Domain>),
}

/// A domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domain {
    /// By identifier.
    Id(String),
    /// By name.
    Name(String),
}

/// Who logs in.
#[derive(Debug, Clone)]
pub enum Login {
    /// A user with a password.
    Password {
        /// The user.
        user: Named,
        /// The password.
        password: SecretString,
    },
    /// Whoever has this token.
    Token(SecretString),
    /// An application credential, which works in its own project.
    ApplicationCredential {
        /// The credential: an identifier, or a name of this user's.
        credential: String,
        /// The user, if the credential is told by name.
        user: Option<Named>,
        /// Its secret.
        secret: SecretString,
    },
    /// Nobody: requests carry no token.
    Nobody {
        /// URL of the service, which no catalog tells then.
        endpoint: Option<String>,
    },
}

/// What the token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Nothing in particular; an application credential brings its own project.
    Unscoped,
    /// A project.
    Project(Named),
    /// A domain.
    Domain(Domain),
    /// The whole cloud.
    System,
    /// A trust.
    Trust(String),
}

/// How a program logs in to Keystone.
#[derive(Debug, Clone)]
pub struct KeystoneAuth {
    /// Section with the login, for messages.
    pub group: &'static str,
    /// Keystone's URL; empty for [`Login::Nobody`].
    pub auth_url: String,
    /// Whether `auth_url` is that of version 3 already, as `v3...` types have it.
    pub is_v3_url: bool,
    /// Who logs in.
    pub login: Login,
    /// What the token is for.
    pub scope: Scope,
    /// How to reach Keystone, and services with its tokens.
    pub reach: Reach,
}

/// How to reach Keystone, and services with its tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Certificate authorities to trust.
    pub cafile: Option<PathBuf>,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether certificates are left unchecked.
    pub insecure: bool,
    /// Longest wait for an answer.
    pub timeout: Option<Duration>,
}

impl Reach {
    /// Reads the session options of `group`. `timeout` may be called otherwise.
    pub(super) fn read(reader: &Reader<'_>, group: &'static str) -> Result<Self, ConfigError> {
        let path = |name| Ok::<_, ConfigError>(reader.filled(group, name)?.map(PathBuf::from));
        let (certificate, key) = (path("certfile")?, path("keyfile")?);
        Ok(Self {
            cafile: path("cafile")?,
            // A certificate file may hold its key, too.
            identity: certificate.map(|file| (file.clone(), key.unwrap_or(file))),
            insecure: reader.flag(group, "insecure")?,
            timeout: None,
        })
    }

    pub(super) fn read_with_timeout(
        reader: &Reader<'_>,
        group: &'static str,
    ) -> Result<Self, ConfigError> {
        Ok(Self { timeout: read_timeout(reader, group)?, ..Self::read(reader, group)? })
    }
}

impl KeystoneAuth {
    /// The login that section `owner` needs, from it or from the section `group` that
    /// its `auth_section` names; nothing if it has no `auth_type`.
    ///
    /// # Errors
    /// A way to log in that is not known, or lacks what it needs.
    pub(in crate::config) fn read(
        reader: &Reader<'_>,
        group: &'static str,
        reach: Reach,
    ) -> Result<Option<Self>, ConfigError> {
        let Some(kind) = reader.filled(group, "auth_type")? else { return Ok(None) };
        let text = |name| reader.filled(group, name);
        let missing = |option, why: &str| {
            Err(ConfigError::Missing {
                group,
                option,
                why: format!("auth_type = {kind} needs it{why}"),
            })
        };
        let secret = |name| Ok::<_, ConfigError>(text(name)?.map(SecretString::from));
        let login = match kind.as_str() {
            "password" | "v3password" => {
                let Some(user) = Named::read(reader, group, "user")? else {
                    return missing("username", ", or user_id");
                };
                let Some(password) = secret("password")? else { return missing("password", "") };
                Login::Password { user, password }
            }
            "token" | "v3token" => match secret("token")? {
                Some(token) => Login::Token(token),
                None => return missing("token", ""),
            },
            "v3applicationcredential" => {
                let Some(secret) = secret("application_credential_secret")? else {
                    return missing("application_credential_secret", "");
                };
                let user = Named::read(reader, group, "user")?;
                match (text("application_credential_id")?, text("application_credential_name")?) {
                    (Some(credential), _) => {
                        Login::ApplicationCredential { credential, user: None, secret }
                    }
                    (None, Some(credential)) if user.is_some() => {
                        Login::ApplicationCredential { credential, user, secret }
                    }
                    (None, Some(_)) => return missing("username", ", or user_id"),
                    (None, None) => return missing("application_credential_id", ""),
                }
            }
            "none" => {
                return Ok(Some(Self {
                    group,
                    auth_url: String::new(),
                    is_v3_url: true,
                    login: Login::Nobody { endpoint: text("endpoint")? },
                    scope: Scope::Unscoped,
                    reach,
                }));
            }
            _ => return Err(reader.refuse(group, "auth_type", KNOWN)),
        };
        let Some(auth_url) = text("auth_url")? else { return missing("auth_url", "") };
        if !auth_url.starts_with("http://") && !auth_url.starts_with("https://") {
            return Err(reader.refuse(
                group,
                "auth_url",
                "a URL that begins with http:// or https://",
            ));
        }
        Ok(Some(Self {
            group,
            auth_url,
            is_v3_url: kind.starts_with("v3"),
            login,
            scope: Scope::read(reader, group)?,
            reach,
        }))
    }
}

impl Named {
    /// The user or project of a section.
    fn read(reader: &Reader<'_>, group: &str, what: &str) -> Result<Option<Self>, ConfigError> {
        if let Some(id) = reader.filled(group, &format!("{what}_id"))? {
            return Ok(Some(Self::Id(id)));
        }
        let name = if what == "user" { "username".to_owned() } else { format!("{what}_name") };
        let Some(name) = reader.filled(group, &name)? else { return Ok(None) };
        let mut domain = Domain::read(reader, group, &format!("{what}_domain"))?;
        if domain.is_none() {
            domain = Domain::read(reader, group, "default_domain")?;
        }
        Ok(Some(Self::Name(name, domain)))
    }
}

impl Domain {
    fn read(reader: &Reader<'_>, group: &str, what: &str) -> Result<Option<Self>, ConfigError> {
        if let Some(id) = reader.filled(group, &format!("{what}_id"))? {
            return Ok(Some(Self::Id(id)));
        }
        Ok(reader.filled(group, &format!("{what}_name"))?.map(Self::Name))
    }
}

impl Scope {
    fn read(reader: &Reader<'_>, group: &'static str) -> Result<Self, ConfigError> {
        let trust = reader.filled(group, "trust_id")?;
        let system = reader.filled(group, "system_scope")?;
        let domain = Domain::read(reader, group, "domain")?;
        let project = Named::read(reader, group, "project")?;
        if system.as_deref().is_some_and(|scope| scope != "all") {
            return Err(reader.refuse(group, "system_scope", "all"));
        }
        let mut scopes = [
            trust.map(Self::Trust),
            system.map(|_| Self::System),
            domain.map(Self::Domain),
            project.map(Self::Project),
        ]
        .into_iter()
        .flatten();
        let scope = scopes.next().unwrap_or(Self::Unscoped);
        match scopes.next() {
            None => Ok(scope),
            // Keystone would say so at the first login.
            Some(_) => Err(ConfigError::Conflict {
                group,
                options: "project, domain, system_scope and trust_id",
            }),
        }
    }
}
