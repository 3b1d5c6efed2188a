//! `[collect]`: what is collected, and in which periods.

use std::path::PathBuf;

use crate::config::{
    ConfigError, Reader,
    opts::{Kind, Opt, YEAR},
};

/// Options of the section.
pub const OPTIONS: &[Opt] = &[
    Opt::new(
        "collect",
        "collector",
        Kind::Str,
        "gnocchi",
        "Collector to use; available: aetos, prometheus.",
    ),
    Opt::new(
        "collect",
        "period",
        Kind::Int { min: 1, max: YEAR },
        "3600",
        "Length of a rating period, in seconds.",
    ),
    Opt::new(
        "collect",
        "wait_periods",
        Kind::Int { min: 0, max: 100_000 },
        "2",
        "Periods to wait before one is rated, so that late samples count.",
    ),
    Opt::new(
        "collect",
        "metrics_conf",
        Kind::Str,
        "/etc/cloudkitty/metrics.yml",
        "File that says which metrics are rated.",
    ),
    Opt::new(
        "collect",
        "scope_key",
        Kind::Str,
        "project_id",
        "Label that names a data point's scope.",
    ),
];

/// `[collect]`.
#[derive(Debug, Clone)]
pub struct Collect {
    /// Name of the collector.
    pub collector: String,
    /// Length of a period in seconds, at least 1.
    pub period: u32,
    /// Periods to wait before one is rated.
    pub wait_periods: u32,
    /// The metrics file.
    pub metrics_conf: PathBuf,
    /// Label that names the scope.
    pub scope_key: String,
}

impl Collect {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let filled = |name, allowed| {
            reader.filled("collect", name)?.ok_or_else(|| reader.refuse("collect", name, allowed))
        };
        Ok(Self {
            collector: filled("collector", "the name of a collector")?,
            period: reader.required_int("collect", "period")?,
            wait_periods: reader.required_int("collect", "wait_periods")?,
            metrics_conf: filled("metrics_conf", "the path of a file")?.into(),
            scope_key: filled("scope_key", "the name of a label")?,
        })
    }
}
