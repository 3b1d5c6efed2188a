//! `[orchestrator]`: how the processor works.

use std::time::Duration;

use secrecy::SecretString;

use crate::config::{
    ConfigError, Reader,
    opts::{Kind, Opt, at_least},
};

/// Options of the section.
pub const OPTIONS: &[Opt] = &[
    Opt::new(
        "orchestrator",
        "coordination_url",
        Kind::Str,
        "file://${ratekitty.state_path}/locks",
        "Where locks are taken that keep processors off each other's scopes: file, mysql, postgresql, redis, rediss, etcd3+http or etcd3+https.",
    )
    .secret(),
    Opt::unset(
        "orchestrator",
        "max_workers",
        at_least(0),
        "Scopes rated at the same time; unset: one per processor core; 0: none, the processor idles.",
    ),
    Opt::unset(
        "orchestrator",
        "max_workers_reprocessing",
        at_least(0),
        "Reprocessing tasks worked on at the same time; unset: one per processor core.",
    ),
    Opt::new(
        "orchestrator",
        "max_threads",
        at_least(1),
        "16",
        "Metrics collected at the same time for one scope.",
    )
    .renamed(&[("orchestrator", "max_greenthreads")]),
    Opt::new(
        "orchestrator",
        "collector_request_timeout",
        at_least(30),
        "300",
        "Longest time for collecting one metric of one period, in seconds.",
    ),
    Opt::new(
        "orchestrator",
        "skip_datapoints_expression",
        Kind::Str,
        "False",
        "Expression that tells which rated data points are not stored.",
    ),
];

/// `[orchestrator]`.
#[derive(Debug, Clone)]
pub struct Orchestrator {
    /// Place of the locks.
    pub coordination_url: SecretString,
    /// Scopes rated at the same time. The reference starts that many processes.
    pub max_workers: usize,
    /// Reprocessing tasks worked on at the same time.
    pub max_workers_reprocessing: usize,
    /// Metrics collected at the same time for one scope.
    pub max_threads: usize,
    /// Longest time for collecting one metric of one period.
    pub collector_request_timeout: Duration,
    /// Expression over a rated data point, in Python's syntax.
    pub skip_datapoints_expression: String,
}

impl Orchestrator {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let group = "orchestrator";
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            coordination_url: reader.text(group, "coordination_url")?.unwrap_or_default().into(),
            max_workers: reader.int(group, "max_workers")?.unwrap_or(cores),
            max_workers_reprocessing: reader
                .int(group, "max_workers_reprocessing")?
                .unwrap_or(cores),
            max_threads: reader.required_int(group, "max_threads")?,
            collector_request_timeout: Duration::from_secs(
                reader.required_int(group, "collector_request_timeout")?,
            ),
            skip_datapoints_expression: reader
                .text(group, "skip_datapoints_expression")?
                .unwrap_or_default(),
        })
    }
}
