//! Stage 1: which scopes (projects) there are.
//!
//! `() → Vec<scope identifier>`

mod keystone;
mod prometheus;
mod source;

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    config::{Config, ConfigError},
    http::ClientError,
    keystone::{KeystoneError, Sessions, SetUpError},
    prometheus::PrometheusError,
};

pub use keystone::KeystoneFetcher;
pub use prometheus::PrometheusFetcher;
pub use source::SourceFetcher;

/// Fetchers by their names in `[fetcher] backend`.
const KNOWN: &str = "keystone, prometheus, source";

/// Why the scopes are not known.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Prometheus did not tell.
    #[error("cannot fetch the scopes: {0}")]
    Prometheus(#[from] PrometheusError),
    /// Keystone did not tell.
    #[error("cannot fetch the scopes: {0}")]
    Keystone(#[from] KeystoneError),
}

/// Why there is no fetcher.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration names an unknown one.
    #[error("[fetcher] backend = `{0}` is not known; known fetchers: {KNOWN}")]
    Unknown(String),
    /// An option is missing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its HTTP client cannot be built.
    #[error("[fetcher_prometheus]: {0}")]
    Client(#[from] ClientError),
    /// Its login cannot be set up.
    #[error(transparent)]
    Login(#[from] SetUpError),
}

/// Someone who knows the scopes.
#[async_trait]
pub trait Fetcher: Send + Sync {
    /// Name in the configuration and in the state database.
    fn name(&self) -> &'static str;

    /// Identifiers of all scopes, each once, in no order.
    ///
    /// # Errors
    /// [`FetchError`]
    async fn scopes(&self) -> Result<Vec<String>, FetchError>;
}

/// The fetcher that the configuration names.
///
/// # Errors
/// [`BuildError`]
pub fn build(config: &Config, sessions: &Sessions) -> Result<Arc<dyn Fetcher>, BuildError> {
    match config.fetcher.backend.as_str() {
        "keystone" => Ok(Arc::new(KeystoneFetcher::from_config(config, sessions)?)),
        "prometheus" => Ok(Arc::new(PrometheusFetcher::from_config(config)?)),
        "source" => Ok(Arc::new(SourceFetcher::new(&config.fetcher_source.sources))),
        other => Err(BuildError::Unknown(other.to_owned())),
    }
}
