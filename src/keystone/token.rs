//! What a token says about who has it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Catalog;

/// A user, a project or a domain, as a token names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Identifier.
    pub id: String,
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Domain of a user or a project.
    #[serde(default)]
    pub domain: Option<Box<Reference>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Role {
    name: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct System {
    #[serde(default)]
    all: bool,
}

/// One rule of an application credential: what may be asked of whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRule {
    /// Type of the service.
    pub service: String,
    /// Path, of which `*` and `**` and `{name}` stand for parts.
    pub path: String,
    /// Method.
    pub method: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct ApplicationCredential {
    #[serde(default)]
    access_rules: Option<Vec<AccessRule>>,
}

fn yes() -> bool {
    true
}

/// A token of Keystone's, without the secret itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Token {
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// Whose it is.
    pub user: Reference,
    /// The project that it is for.
    #[serde(default)]
    pub project: Option<Reference>,
    /// The domain that it is for.
    #[serde(default)]
    pub domain: Option<Reference>,
    #[serde(default)]
    system: Option<System>,
    #[serde(default)]
    roles: Vec<Role>,
    /// Whether its project is that of the cloud's admins; so it is for all where
    /// Keystone names none.
    #[serde(default = "yes")]
    pub is_admin_project: bool,
    #[serde(default)]
    application_credential: Option<ApplicationCredential>,
    /// Services; empty for tokens without scope.
    #[serde(default, skip_serializing)]
    pub(super) catalog: Catalog,
    /// Types of the services in the catalog, kept when the catalog itself is not.
    #[serde(default)]
    service_types: Vec<String>,
}

impl Token {
    /// Reads `{"token": ...}`.
    ///
    /// # Errors
    /// What is no token.
    pub(super) fn from_answer(body: &[u8]) -> Result<Self, String> {
        let mut answer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let token = answer.get_mut("token").map(Value::take).ok_or("there is no `token`")?;
        serde_json::from_value(token).map_err(|error| error.to_string())
    }

    /// Names of its roles, those implied by others included.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(|role| role.name.as_str())
    }

    /// Whether it is for the whole cloud.
    pub fn is_system(&self) -> bool {
        self.system.as_ref().is_some_and(|system| system.all)
    }

    /// Rules to which its application credential is held; `None`: no such rules.
    pub fn access_rules(&self) -> Option<&[AccessRule]> {
        self.application_credential.as_ref()?.access_rules.as_deref()
    }

    /// Whether its catalog has a service of this type.
    pub fn knows_service(&self, service_type: &str) -> bool {
        self.catalog.has(service_type) || self.service_types.iter().any(|kind| kind == service_type)
    }

    /// Leaves out the catalog but for one service's type, to be kept small.
    pub(super) fn forget_catalog(&mut self, service_type: Option<&str>) {
        let known = service_type.filter(|kind| self.catalog.has(kind));
        self.service_types = known.map(str::to_owned).into_iter().collect();
        self.catalog = Catalog::default();
    }
}
