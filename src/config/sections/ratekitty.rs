//! `[ratekitty]`: what the reference does not have.

use std::{path::PathBuf, time::Duration};

use crate::config::{
    ConfigError, Reader,
    opts::{Kind, Opt, SECONDS, at_least},
};

/// Options of the section.
pub const OPTIONS: &[Opt] = &[
    Opt::new(
        "ratekitty",
        "state_path",
        Kind::Str,
        "/var/lib/cloudkitty",
        "Folder of the embedded database.",
    ),
    Opt::new(
        "ratekitty",
        "http_retry_budget",
        SECONDS,
        "30",
        "Seconds for which a failed request to a peer is tried again.",
    ),
    Opt::new(
        "ratekitty",
        "shutdown_grace",
        SECONDS,
        "60",
        "Seconds for which a stop waits for running periods.",
    ),
    Opt::new(
        "ratekitty",
        "max_response_bytes",
        at_least(1024),
        "268435456",
        "Largest answer taken from Prometheus, in bytes.",
    ),
];

/// `[ratekitty]`.
#[derive(Debug, Clone)]
pub struct Ratekitty {
    /// Folder of the embedded database.
    pub state_path: PathBuf,
    /// Time for which a failed request is tried again.
    pub http_retry_budget: Duration,
    /// Time for which a stop waits for running periods.
    pub shutdown_grace: Duration,
    /// Largest answer taken from a peer, in bytes.
    pub max_response_bytes: usize,
}

impl Ratekitty {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let group = "ratekitty";
        let seconds = |name| {
            let refuse = || reader.refuse(group, name, "a number of seconds, at least 0");
            let seconds = reader.float(group, name)?.ok_or_else(refuse)?;
            Duration::try_from_secs_f64(seconds).map_err(|_| refuse())
        };
        Ok(Self {
            state_path: reader
                .filled(group, "state_path")?
                .ok_or_else(|| reader.refuse(group, "state_path", "the path of a folder"))?
                .into(),
            http_retry_budget: seconds("http_retry_budget")?,
            shutdown_grace: seconds("shutdown_grace")?,
            max_response_bytes: reader.required_int(group, "max_response_bytes")?,
        })
    }
}
