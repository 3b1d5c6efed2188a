//! `[fetcher_prometheus]`: the Prometheus that tells which scopes there are.

use super::PrometheusEndpoint;
use crate::config::{
    ConfigError, Reader,
    opts::{Kind, Opt, SECONDS},
};

/// Options of the section.
pub const OPTIONS: &[Opt] = &[
    Opt::unset("fetcher_prometheus", "metric", Kind::Str, "Metric whose labels name the scopes."),
    Opt::new(
        "fetcher_prometheus",
        "scope_attribute",
        Kind::Str,
        "project_id",
        "Label of that metric that holds the scope's identifier.",
    ),
    Opt::unset(
        "fetcher_prometheus",
        "filters",
        Kind::Dict,
        "Labels and the values they must have, as label1:foo,label2:bar.",
    ),
    Opt::unset(
        "fetcher_prometheus",
        "prometheus_url",
        Kind::Str,
        "Base of Prometheus' HTTP API, such as http://localhost:9090/api/v1.",
    ),
    Opt::unset(
        "fetcher_prometheus",
        "prometheus_user",
        Kind::Str,
        "User for basic authentication.",
    ),
    Opt::unset(
        "fetcher_prometheus",
        "prometheus_password",
        Kind::Str,
        "Password for basic authentication.",
    )
    .secret(),
    Opt::unset(
        "fetcher_prometheus",
        "cafile",
        Kind::Str,
        "File with certificate authorities (PEM) to trust; wins over insecure.",
    ),
    Opt::new(
        "fetcher_prometheus",
        "insecure",
        Kind::Bool,
        "false",
        "Whether HTTPS certificates are left unchecked.",
    ),
    Opt::new(
        "fetcher_prometheus",
        "timeout",
        SECONDS,
        "60",
        "Longest wait for an answer, in seconds; nothing: no limit.",
    ),
];

/// `[fetcher_prometheus]`.
#[derive(Debug, Clone)]
pub struct FetcherPrometheus {
    /// Metric that carries the scopes.
    pub metric: Option<String>,
    /// Label with the scope's identifier.
    pub scope_attribute: String,
    /// Label filters, in file order.
    pub filters: Vec<(String, String)>,
    /// How to reach the Prometheus.
    pub endpoint: PrometheusEndpoint,
}

impl FetcherPrometheus {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let group = "fetcher_prometheus";
        Ok(Self {
            metric: reader.filled(group, "metric")?,
            scope_attribute: reader
                .filled(group, "scope_attribute")?
                .ok_or_else(|| reader.refuse(group, "scope_attribute", "the name of a label"))?,
            filters: reader.dict(group, "filters")?,
            endpoint: PrometheusEndpoint::read(reader, group)?,
        })
    }
}
