//! `[collector_prometheus]`: the Prometheus from which usage is collected.

use super::PrometheusEndpoint;
use crate::config::{
    ConfigError, Reader,
    opts::{Kind, Opt, SECONDS},
};

/// Options of the section.
pub const OPTIONS: &[Opt] = &[
    Opt::new(
        "collector_prometheus",
        "prometheus_url",
        Kind::Str,
        "",
        "Base of Prometheus' HTTP API, such as http://localhost:9090/api/v1.",
    ),
    Opt::unset(
        "collector_prometheus",
        "prometheus_user",
        Kind::Str,
        "User for basic authentication.",
    ),
    Opt::unset(
        "collector_prometheus",
        "prometheus_password",
        Kind::Str,
        "Password for basic authentication.",
    )
    .secret(),
    Opt::unset(
        "collector_prometheus",
        "cafile",
        Kind::Str,
        "File with certificate authorities (PEM) to trust; wins over insecure.",
    ),
    Opt::new(
        "collector_prometheus",
        "insecure",
        Kind::Bool,
        "false",
        "Whether HTTPS certificates are left unchecked.",
    ),
    Opt::new(
        "collector_prometheus",
        "timeout",
        SECONDS,
        "60",
        "Longest wait for an answer, in seconds; nothing: no limit.",
    ),
];

/// `[collector_prometheus]`.
#[derive(Debug, Clone)]
pub struct CollectorPrometheus {
    /// How to reach the Prometheus.
    pub endpoint: PrometheusEndpoint,
}

impl CollectorPrometheus {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        Ok(Self { endpoint: PrometheusEndpoint::read(reader, "collector_prometheus")? })
    }
}
