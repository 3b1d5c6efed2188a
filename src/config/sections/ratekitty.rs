//! `[ratekitty]`: what the reference does not have.

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};

use crate::{
    config::{
        ConfigError, Reader,
        opts::{Kind, Opt, UP_TO_A_YEAR, at_least},
    },
    time::seconds as seconds_of,
};

const OTHERS: Kind = Kind::Choice { words: &["refuse", "keep"], ignore_case: false };

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
        "first_period_begin",
        Kind::Str,
        "month",
        "Begin of the first period of a new scope: month (of the present month, as in the reference) or a date with zone, such as 2026-11-01T00:00:00+00:00.",
    ),
    Opt::new(
        "ratekitty",
        "http_retry_budget",
        UP_TO_A_YEAR,
        "30",
        "Seconds for which a failed request to a peer is tried again.",
    ),
    Opt::new(
        "ratekitty",
        "shutdown_grace",
        UP_TO_A_YEAR,
        "60",
        "Seconds for which a stop waits for running periods.",
    ),
    Opt::new(
        "ratekitty",
        "max_response_bytes",
        at_least(1024),
        "67108864",
        "Largest answer taken from Prometheus, in bytes.",
    ),
    Opt::new(
        "ratekitty",
        "pyscripts_python",
        Kind::Str,
        "python3",
        "CPython that runs the scripts of the pyscripts module: a name in PATH, or a path.",
    ),
    Opt::new(
        "ratekitty",
        "pyscripts_timeout",
        UP_TO_A_YEAR,
        "60",
        "Longest time for the scripts of one scope and period, in seconds.",
    ),
    Opt::new(
        "ratekitty",
        "pyscripts_memory",
        at_least(64),
        "512",
        "Most memory of one worker that runs scripts, in MiB.",
    ),
    Opt::new(
        "ratekitty",
        "api_max_connections",
        at_least(1),
        "1000",
        "Most connections to the API at a time; more wait.",
    ),
    Opt::new(
        "ratekitty",
        "api_client_timeout",
        UP_TO_A_YEAR,
        "30",
        "Longest wait for a client's request head, and for each part of its body, in seconds.",
    ),
    Opt::new(
        "ratekitty",
        "api_metrics",
        Kind::Bool,
        "true",
        "Whether the API has /metrics, for Prometheus.",
    ),
    Opt::new(
        "ratekitty",
        "summary_cache",
        UP_TO_A_YEAR,
        "300",
        "Longest time for which the API keeps sums that nothing has changed, in seconds; 0 keeps none.",
    ),
    Opt::unset(
        "ratekitty",
        "processor_listen",
        Kind::Str,
        "Address and port on which the processor has /metrics, /livez and /readyz, such as 127.0.0.1:9899; unset: none.",
    ),
    Opt::new(
        "ratekitty",
        "other_collectors",
        OTHERS,
        "refuse",
        "What happens to a period that another collector has rated: refuse (to bill it twice), or keep (both are billed).",
    ),
    Opt::unset(
        "ratekitty",
        "program",
        Kind::Str,
        "Path of this program, for workers; unset: the one that is running.",
    ),
];

/// Where rating of a new scope begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstPeriod {
    /// With the present month, in the local zone, as in the reference.
    Month,
    /// At an instant.
    At(DateTime<Utc>),
}

/// `[ratekitty]`.
#[derive(Debug, Clone)]
pub struct Ratekitty {
    /// Folder of the embedded database.
    pub state_path: PathBuf,
    /// Where rating of a new scope begins.
    pub first_period: FirstPeriod,
    /// Time for which a failed request is tried again.
    pub http_retry_budget: Duration,
    /// Time for which a stop waits for running periods.
    pub shutdown_grace: Duration,
    /// Largest answer taken from a peer, in bytes.
    pub max_response_bytes: usize,
    /// CPython that runs scripts.
    pub pyscripts_python: String,
    /// Longest time for the scripts of one scope and period.
    pub pyscripts_timeout: Duration,
    /// Most memory of one worker, in bytes.
    pub pyscripts_memory: u64,
    /// Connections to the API at a time.
    pub api_max_connections: usize,
    /// Longest wait for a client.
    pub api_client_timeout: Duration,
    /// Whether the API has a page for Prometheus.
    pub api_metrics: bool,
    /// Longest time for which sums are kept; zero keeps none.
    pub summary_cache: Duration,
    /// Where the processor has one.
    pub processor_listen: Option<(String, u16)>,
    /// Whether periods may be rated that another collector has rated, too.
    pub beside_other_collectors: bool,
    /// This program, for workers; `None`: the running one.
    pub program: Option<PathBuf>,
}

/// An address, without the brackets that one of version 6 has, and a port.
fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_fine = !host.is_empty() && (inner.is_some() || !host.contains(':'));
    is_fine.then(|| Some((inner.unwrap_or(host).to_owned(), port.parse().ok()?)))?
}

impl Ratekitty {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let group = "ratekitty";
        let seconds = |name| {
            let refuse = || reader.refuse(group, name, "a number of seconds, at least 0");
            let seconds = reader.float(group, name)?.ok_or_else(refuse)?;
            Duration::try_from_secs_f64(seconds).map_err(|_| refuse())
        };
        let first_period = match reader.text(group, "first_period_begin")?.as_deref() {
            Some("month") => FirstPeriod::Month,
            text => DateTime::parse_from_rfc3339(text.unwrap_or_default())
                .map(|begin| FirstPeriod::At(seconds_of(begin.timestamp())))
                .map_err(|_| {
                    let allowed = "`month` or a date such as 2026-11-01T00:00:00+00:00";
                    reader.refuse(group, "first_period_begin", allowed)
                })?,
        };
        Ok(Self {
            first_period,
            state_path: reader
                .filled(group, "state_path")?
                .ok_or_else(|| reader.refuse(group, "state_path", "the path of a folder"))?
                .into(),
            http_retry_budget: seconds("http_retry_budget")?,
            shutdown_grace: seconds("shutdown_grace")?,
            max_response_bytes: reader.required_int(group, "max_response_bytes")?,
            pyscripts_python: reader.filled(group, "pyscripts_python")?.ok_or_else(|| {
                reader.refuse(group, "pyscripts_python", "the name or path of a program")
            })?,
            pyscripts_timeout: seconds("pyscripts_timeout")?,
            pyscripts_memory: reader.required_int::<u64>(group, "pyscripts_memory")? << 20,
            api_max_connections: reader.required_int(group, "api_max_connections")?,
            api_client_timeout: seconds("api_client_timeout")?,
            api_metrics: reader.flag(group, "api_metrics")?,
            summary_cache: seconds("summary_cache")?,
            processor_listen: match reader.filled(group, "processor_listen")? {
                None => None,
                Some(text) => Some(address(&text).ok_or_else(|| {
                    let allowed = "an address and a port, such as 127.0.0.1:9899 or [::1]:9899";
                    reader.refuse(group, "processor_listen", allowed)
                })?),
            },
            beside_other_collectors: reader.text(group, "other_collectors")?.as_deref()
                == Some("keep"),
            program: reader.filled(group, "program")?.map(PathBuf::from),
        })
    }
}
