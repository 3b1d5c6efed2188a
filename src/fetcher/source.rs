//! Scopes that the configuration names.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::{FetchError, Fetcher};

/// Fetcher that knows its scopes from the start.
pub struct SourceFetcher {
    sources: Vec<String>,
}

impl SourceFetcher {
    /// A fetcher of these scopes. One that is named twice is one.
    pub fn new(sources: &[String]) -> Self {
        let sources: BTreeSet<&String> =
            sources.iter().filter(|source| !source.is_empty()).collect();
        Self { sources: sources.into_iter().cloned().collect() }
    }
}

#[async_trait]
impl Fetcher for SourceFetcher {
    fn name(&self) -> &'static str {
        "source"
    }

    async fn scopes(&self) -> Result<Vec<String>, FetchError> {
        Ok(self.sources.clone())
    }
}
