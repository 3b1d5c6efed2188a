//! `[collector_aetos]`: the Aetos, a Prometheus behind Keystone's tokens, from
//! which usage is collected.

use super::keystone_auth::{KeystoneAuth, Reach, common_options, login_options, session_options};
use crate::config::{
    ConfigError, Reader,
    opts::{Kind, Opt},
};

/// The section.
pub const GROUP: &str = "collector_aetos";

const OWN: &[Opt] = &[
    Opt::new(
        GROUP,
        "interface",
        Kind::Choice { words: &["internal", "public", "admin"], ignore_case: false },
        "public",
        "Interface of Aetos (service type metric-storage) in Keystone's catalog.",
    ),
    Opt::unset(
        GROUP,
        "region_name",
        Kind::Str,
        "Region of Aetos in Keystone's catalog; unset: any.",
    ),
];

/// Options of the section.
pub fn options() -> Vec<Opt> {
    [OWN.to_vec(), common_options(GROUP), login_options(GROUP), session_options(GROUP)].concat()
}

/// `[collector_aetos]`.
#[derive(Debug, Clone)]
pub struct CollectorAetos {
    /// How to log in; nothing if it is not configured.
    pub auth: Option<KeystoneAuth>,
    /// Interface of Aetos in the catalog.
    pub interface: String,
    /// Region of Aetos in the catalog.
    pub region_name: Option<String>,
}

impl CollectorAetos {
    pub(in crate::config) fn read(
        reader: &Reader<'_>,
        login: &'static str,
    ) -> Result<Self, ConfigError> {
        let reach = Reach::read_with_timeout(reader, GROUP)?;
        Ok(Self {
            auth: KeystoneAuth::read(reader, login, reach)?,
            interface: reader.text(GROUP, "interface")?.unwrap_or_default(),
            region_name: reader.filled(GROUP, "region_name")?,
        })
    }
}
