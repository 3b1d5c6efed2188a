//! `[fetcher]`: who tells which scopes there are.

use crate::config::{
    ConfigError, Reader,
    opts::{Kind, Opt},
};

/// Options of the section.
pub const OPTIONS: &[Opt] = &[Opt::new(
    "fetcher",
    "backend",
    Kind::Str,
    "keystone",
    "Fetcher to use; available: keystone, prometheus, source.",
)];

/// `[fetcher]`.
#[derive(Debug, Clone)]
pub struct Fetcher {
    /// Name of the fetcher.
    pub backend: String,
}

impl Fetcher {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let backend = reader
            .filled("fetcher", "backend")?
            .ok_or_else(|| reader.refuse("fetcher", "backend", "the name of a fetcher"))?;
        Ok(Self { backend })
    }
}
