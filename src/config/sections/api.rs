//! `[api]`: the REST API.

use crate::config::{
    ConfigError, Reader,
    opts::{Kind, Opt, PORT},
};

/// Options of the section.
pub const OPTIONS: &[Opt] = &[
    Opt::new("api", "port", PORT, "8889", "TCP port on which the API listens."),
    Opt::new(
        "api",
        "host_ip",
        Kind::Str,
        "0.0.0.0",
        "Address on which the API listens. Ours: the reference leaves it to the web server.",
    ),
    Opt::new(
        "api",
        "pecan_debug",
        Kind::Bool,
        "false",
        "Debug mode of the reference's web framework; has no effect.",
    ),
];

/// `[api]`.
#[derive(Debug, Clone)]
pub struct Api {
    /// Port to listen on.
    pub port: u16,
    /// Address to listen on.
    pub host: String,
}

impl Api {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        reader.flag("api", "pecan_debug")?;
        Ok(Self {
            port: reader.required_int("api", "port")?,
            host: reader
                .filled("api", "host_ip")?
                .ok_or_else(|| reader.refuse("api", "host_ip", "an address, such as 0.0.0.0"))?,
        })
    }
}
