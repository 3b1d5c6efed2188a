//! One file per section: its option table and the typed struct it is read into.
//!
//! Defaults are the reference's (CloudKitty 25.0.0) unless an option's comment
//! says otherwise.

pub mod api;
pub mod collect;
pub mod collector_aetos;
pub mod collector_prometheus;
pub mod database;
pub mod default;
pub mod fetcher;
pub mod fetcher_keystone;
pub mod fetcher_prometheus;
pub mod fetcher_source;
pub mod http;
pub mod keystone_auth;
pub mod keystone_authtoken;
pub mod orchestrator;
pub mod oslo_policy;
pub mod ratekitty;
pub mod storage;
pub mod storage_loki;

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::{ConfigError, Reader};

/// How to reach a Prometheus, common to fetcher and collector.
#[derive(Debug, Clone)]
pub struct PrometheusEndpoint {
    /// Base of the HTTP API, including `/api/v1`.
    pub url: Option<String>,
    /// User for basic authentication; used only together with a password.
    pub user: Option<String>,
    /// Password for basic authentication.
    pub password: Option<SecretString>,
    /// Certificate authority file (PEM); wins over `insecure`.
    pub cafile: Option<PathBuf>,
    /// Whether certificates are left unchecked.
    pub insecure: bool,
    /// Longest wait for an answer; `None` waits for ever.
    pub timeout: Option<Duration>,
}

impl PrometheusEndpoint {
    fn read(reader: &Reader<'_>, group: &'static str) -> Result<Self, ConfigError> {
        Ok(Self {
            url: reader.filled(group, "prometheus_url")?,
            user: reader.filled(group, "prometheus_user")?,
            password: reader.filled(group, "prometheus_password")?.map(SecretString::from),
            cafile: reader.filled(group, "cafile")?.map(PathBuf::from),
            insecure: reader.flag(group, "insecure")?,
            timeout: read_timeout(reader, group)?,
        })
    }
}

/// A `timeout` in seconds. The reference accepts 0 and NaN here and fails at
/// each request; a timeout that lets no request through is refused instead.
fn read_timeout(reader: &Reader<'_>, group: &'static str) -> Result<Option<Duration>, ConfigError> {
    match reader.float(group, "timeout")? {
        None => Ok(None),
        Some(seconds) if seconds == f64::INFINITY => Ok(None),
        Some(seconds) if seconds > 0.0 => Duration::try_from_secs_f64(seconds)
            .map(Some)
            .map_err(|_| reader.refuse(group, "timeout", "a number of seconds above 0")),
        Some(_) => Err(reader.refuse(group, "timeout", "a number of seconds above 0")),
    }
}
