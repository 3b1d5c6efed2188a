//! Scopes from Keystone: the projects in which our user has the role `rating`.
//!
//! The reference asks for the roles in each project. We ask for all assignments of
//! our user at once, and count those that it counts: given to the user itself, for
//! the project itself.
//! <https://docs.openstack.org/api-ref/identity/v3/#list-role-assignments>

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use reqwest::Method;
use serde::{Deserialize, de::DeserializeOwned};
use tracing::debug;

use super::{BuildError, FetchError, Fetcher};
use crate::{
    config::{Config, ConfigError},
    http::{self, retry::retry},
    instruments::Asked,
    keystone::{KeystoneError, Session, Sessions},
};

/// The role of those who are rated.
const ROLE: &str = "rating";

/// Fetcher over a Keystone.
pub struct KeystoneFetcher {
    session: Arc<Session>,
    ignore_rating_role: bool,
    ignore_disabled_tenants: bool,
}

#[derive(Deserialize)]
struct Projects {
    projects: Vec<Project>,
    #[serde(default)]
    links: Links,
    #[serde(default)]
    truncated: bool,
}

#[derive(Deserialize)]
struct Project {
    id: String,
    #[serde(default = "yes")]
    enabled: bool,
}

fn yes() -> bool {
    true
}

#[derive(Default, Deserialize)]
struct Links {
    next: Option<String>,
}

#[derive(Deserialize)]
struct Assignments {
    role_assignments: Vec<Assignment>,
}

#[derive(Deserialize)]
struct Assignment {
    role: Role,
    scope: AssignedTo,
}

#[derive(Deserialize)]
struct Role {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct AssignedTo {
    project: Option<ProjectId>,
    #[serde(rename = "OS-INHERIT:inherited_to")]
    inherited_to: Option<String>,
}

#[derive(Deserialize)]
struct ProjectId {
    id: String,
}

impl KeystoneFetcher {
    /// The fetcher of `[fetcher_keystone]`.
    ///
    /// # Errors
    /// A login that is not configured, certificates that cannot be read.
    pub(super) fn from_config(config: &Config, sessions: &Sessions) -> Result<Self, BuildError> {
        let section = &config.fetcher_keystone;
        let missing = |why: &str| ConfigError::Missing {
            group: "fetcher_keystone",
            option: "auth_type",
            why: why.to_owned(),
        };
        let auth = section.auth.as_ref().ok_or_else(|| {
            missing(
                "write how to log in at Keystone, or name the section that does by auth_section",
            )
        })?;
        if auth.auth_url.is_empty() {
            return Err(missing("projects are asked for with a login, not with none").into());
        }
        Ok(Self {
            session: sessions.of(auth, config.ratekitty.http_retry_budget)?,
            ignore_rating_role: section.ignore_rating_role,
            ignore_disabled_tenants: section.ignore_disabled_tenants,
        })
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        what: &'static str,
    ) -> Result<T, KeystoneError> {
        retry(self.session.retry_budget(), Asked::Keystone, "A request to Keystone", || {
            self.try_get(path, what)
        })
        .await
    }

    async fn try_get<T: DeserializeOwned>(
        &self,
        path: &str,
        what: &'static str,
    ) -> Result<T, KeystoneError> {
        let (status, body) = self.session.identity_api(Method::GET, path, &[]).await?;
        match status.as_u16() {
            200 => serde_json::from_slice(&body)
                .map_err(|error| self.session.misread(format!("{what}: {error}"))),
            403 => Err(KeystoneError::Forbidden {
                what,
                group: self.session.group(),
                body: http::excerpt(&body),
                needs: "the role admin",
            }),
            status => Err(KeystoneError::Status {
                url: self.session.url(),
                status,
                body: http::excerpt(&body),
            }),
        }
    }

    /// All projects, page by page if Keystone pages.
    async fn projects(&self) -> Result<Vec<Project>, KeystoneError> {
        let mut projects: Vec<Project> = Vec::new();
        let mut path = "/projects".to_owned();
        loop {
            let page: Projects = self.get(&path, "the list of projects").await?;
            let count = page.projects.len();
            projects.extend(page.projects);
            let query = page.links.next.as_deref().and_then(|next| next.split_once('?'));
            match query {
                Some((_, query)) if count > 0 => path = format!("/projects?{query}"),
                // A scope that is left out is not billed.
                _ if page.truncated => {
                    return Err(self.session.misread(
                        "it cuts the list of projects; raise list_limit in Keystone's configuration",
                    ));
                }
                _ => return Ok(projects),
            }
        }
    }

    /// Projects in which our user has the role itself.
    async fn rated(&self) -> Result<HashSet<String>, KeystoneError> {
        let access = self.session.access().await?;
        let user = access.user_id().unwrap_or_default();
        let path = format!("/role_assignments?user.id={user}&include_names=true");
        let found: Assignments = self.get(&path, "the roles of our user").await?;
        let rated = found.role_assignments.into_iter().filter(|assignment| {
            assignment.role.name == ROLE && assignment.scope.inherited_to.is_none()
        });
        Ok(rated
            .filter_map(|assignment| assignment.scope.project)
            .map(|project| project.id)
            .collect())
    }
}

#[async_trait]
impl Fetcher for KeystoneFetcher {
    fn name(&self) -> &'static str {
        "keystone"
    }

    async fn scopes(&self) -> Result<Vec<String>, FetchError> {
        let projects = self.projects().await?;
        let rated = match self.ignore_rating_role {
            true => None,
            false => Some(self.rated().await?),
        };
        let count = projects.len();
        let scopes: Vec<String> = projects
            .into_iter()
            .filter(|project| project.enabled || !self.ignore_disabled_tenants)
            .filter(|project| rated.as_ref().is_none_or(|rated| rated.contains(&project.id)))
            .map(|project| project.id)
            .collect();
        debug!("Of {count} projects in Keystone, {} are rated", scopes.len());
        Ok(scopes)
    }
}
