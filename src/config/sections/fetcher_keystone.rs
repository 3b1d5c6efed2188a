//! `[fetcher_keystone]`: the Keystone whose projects are scopes.

use super::keystone_auth::{KeystoneAuth, Reach, common_options, login_options, session_options};
use crate::config::{
    ConfigError, Reader,
    opts::{Kind, Opt},
};

/// The section.
pub const GROUP: &str = "fetcher_keystone";

const OWN: &[Opt] = &[
    Opt::new(GROUP, "keystone_version", Kind::Str, "3", "Version of Keystone's API; only 3."),
    Opt::new(
        GROUP,
        "ignore_rating_role",
        Kind::Bool,
        "false",
        "Whether all projects are rated, and not those alone in which our user has the role rating.",
    ),
    Opt::new(
        GROUP,
        "ignore_disabled_tenants",
        Kind::Bool,
        "false",
        "Whether disabled projects are left out.",
    ),
];

/// Options of the section.
pub fn options() -> Vec<Opt> {
    [OWN.to_vec(), common_options(GROUP), login_options(GROUP), session_options(GROUP)].concat()
}

/// `[fetcher_keystone]`.
#[derive(Debug, Clone)]
pub struct FetcherKeystone {
    /// How to log in; nothing if it is not configured.
    pub auth: Option<KeystoneAuth>,
    /// Whether all projects are rated.
    pub ignore_rating_role: bool,
    /// Whether disabled projects are left out.
    pub ignore_disabled_tenants: bool,
}

impl FetcherKeystone {
    pub(in crate::config) fn read(
        reader: &Reader<'_>,
        login: &'static str,
    ) -> Result<Self, ConfigError> {
        let version = reader.text(GROUP, "keystone_version")?.unwrap_or_default();
        if !matches!(version.trim_start_matches('v'), "3" | "3.0") {
            return Err(reader.refuse(GROUP, "keystone_version", "3"));
        }
        let reach = Reach::read_with_timeout(reader, GROUP)?;
        Ok(Self {
            auth: KeystoneAuth::read(reader, login, reach)?,
            ignore_rating_role: reader.flag(GROUP, "ignore_rating_role")?,
            ignore_disabled_tenants: reader.flag(GROUP, "ignore_disabled_tenants")?,
        })
    }
}
