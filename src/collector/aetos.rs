//! Usage from a Prometheus behind Aetos.

use std::sync::Arc;

use super::{BuildError, PrometheusCollectorBase, Settings};
use crate::{
    config::{Config, ConfigError},
    keystone::Sessions,
    prometheus::{AetosClient, PrometheusClientBase},
};

/// Collector over an Aetos.
pub struct AetosCollector {
    client: Arc<dyn PrometheusClientBase>,
    settings: Settings,
}

impl AetosCollector {
    /// The collector of `[collector_aetos]`.
    ///
    /// # Errors
    /// A login that is not configured, certificates that cannot be read.
    pub(super) fn from_config(config: &Config, sessions: &Sessions) -> Result<Self, BuildError> {
        let section = &config.collector_aetos;
        let auth = section.auth.as_ref().ok_or_else(|| ConfigError::Missing {
            group: "collector_aetos",
            option: "auth_type",
            why: "write how to log in at Keystone, or name the section that does by auth_section"
                .to_owned(),
        })?;
        let budget = config.ratekitty.http_retry_budget;
        let client = AetosClient::new(
            sessions.of(auth, budget)?,
            &section.interfaces,
            section.region_name.as_deref(),
            budget,
            config.ratekitty.max_response_bytes,
        );
        let settings = Settings { name: "aetos", scope_key: config.collect.scope_key.clone() };
        Ok(Self { client: Arc::new(client), settings })
    }
}

impl PrometheusCollectorBase for AetosCollector {
    fn client(&self) -> &dyn PrometheusClientBase {
        self.client.as_ref()
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }
}
