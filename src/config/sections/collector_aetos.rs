//! `[collector_aetos]`: the Aetos, a Prometheus behind Keystone's tokens, from
//! which usage is collected.

use super::keystone_auth::{KeystoneAuth, Reach, common_options, login_options, session_options};
use crate::config::{
    ConfigError, Reader,
    opts::{Kind, Opt},
};

/// The section.
pub const GROUP: &str = "collector_aetos";

const INTERFACES: &[&str] = &["internal", "public", "admin"];

const OWN: &[Opt] = &[
    Opt::new(
        GROUP,
        "interface",
        Kind::Choice { words: INTERFACES, ignore_case: false },
        "public",
        "Interface of Aetos (service type metric-storage) in Keystone's catalog.",
    ),
    Opt::unset(
        GROUP,
        "valid_interfaces",
        Kind::List,
        "Interfaces of Aetos in Keystone's catalog, the one that is liked best first; wins over interface.",
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
    /// Interfaces of Aetos in the catalog, the one that is liked best first.
    pub interfaces: Vec<String>,
    /// Region of Aetos in the catalog.
    pub region_name: Option<String>,
}

impl CollectorAetos {
    pub(in crate::config) fn read(
        reader: &Reader<'_>,
        login: &'static str,
    ) -> Result<Self, ConfigError> {
        let reach = Reach::read_with_timeout(reader, GROUP)?;
        let mut interfaces = reader.list(GROUP, "valid_interfaces")?;
        if let Some(other) =
            interfaces.iter().find(|interface| !INTERFACES.contains(&interface.as_str()))
        {
            let allowed = format!("a list of {}, without `{other}`", INTERFACES.join(", "));
            return Err(reader.refuse(GROUP, "valid_interfaces", allowed));
        }
        if interfaces.is_empty() {
            interfaces.extend(reader.text(GROUP, "interface")?);
        }
        Ok(Self {
            auth: KeystoneAuth::read(reader, login, reach)?,
            interfaces,
            region_name: reader.filled(GROUP, "region_name")?,
        })
    }
}
