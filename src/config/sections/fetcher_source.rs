//! `[fetcher_source]`: scopes that the configuration itself names.

use crate::config::{
    ConfigError, Reader,
    opts::{Kind, Opt},
};

/// Options of the section.
pub const OPTIONS: &[Opt] =
    &[Opt::new("fetcher_source", "sources", Kind::List, "", "Identifiers of the scopes.")];

/// `[fetcher_source]`.
#[derive(Debug, Clone)]
pub struct FetcherSource {
    /// Identifiers of the scopes.
    pub sources: Vec<String>,
}

impl FetcherSource {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        Ok(Self { sources: reader.list("fetcher_source", "sources")? })
    }
}
