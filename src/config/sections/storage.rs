//! `[storage]`: where rated dataframes go.

use crate::config::{
    ConfigError, Reader,
    opts::{INT, Kind, Opt},
};

/// Options of the section.
pub const OPTIONS: &[Opt] = &[
    Opt::new(
        "storage",
        "backend",
        Kind::Str,
        "sql",
        "Storage of dataframes; available: sql, loki. The reference's default is influxdb.",
    ),
    Opt::new(
        "storage",
        "version",
        INT,
        "2",
        "Version of the storage interface; only 2 is supported.",
    ),
    Opt::new(
        "storage",
        "retention_period",
        INT,
        "2400",
        "Hours for which dataframes are kept, for backends that drop old ones; sql keeps all, and a Loki follows its own retention.",
    ),
];

/// `[storage]`.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Name of the backend.
    pub backend: String,
    /// Whether the configuration names a backend.
    pub backend_is_set: bool,
    /// Hours for which dataframes are kept.
    pub retention_period: i64,
}

impl Storage {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let group = "storage";
        if reader.required_int::<i64>(group, "version")? != 2 {
            return Err(reader.refuse(group, "version", "2"));
        }
        Ok(Self {
            backend: reader
                .filled(group, "backend")?
                .ok_or_else(|| reader.refuse(group, "backend", "the name of a storage backend"))?,
            backend_is_set: reader.is_set(group, "backend")?,
            retention_period: reader.required_int(group, "retention_period")?,
        })
    }
}
