//! `[storage_loki]`: the Loki in which rated dataframes are kept.
//!
//! The first twelve options are the reference's, with its defaults; the others
//! are ours.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::read_timeout;
use crate::config::{
    ConfigError, Reader,
    opts::{Kind, Opt, SECONDS, UP_TO_A_YEAR, at_least},
};

const GROUP: &str = "storage_loki";

/// Most entries in one request, unless the configuration says otherwise.
const BATCH_ENTRIES: usize = 5_000;

/// Requests in flight at a time.
const AT_ONCE: Kind = Kind::Int { min: 1, max: 1_000 };

/// Options of the section.
pub const OPTIONS: &[Opt] = &[
    Opt::new(
        GROUP,
        "url",
        Kind::Str,
        "http://localhost:3100/loki/api/v1",
        "Base of Loki's HTTP API.",
    ),
    Opt::new(GROUP, "tenant", Kind::Str, "cloudkitty", "Tenant, sent as X-Scope-OrgID."),
    Opt::new(
        GROUP,
        "stream",
        Kind::Dict,
        "service:cloudkitty",
        "Labels of all streams, as label1:foo,label2:bar.",
    ),
    Opt::new(
        GROUP,
        "buffer_size",
        at_least(1),
        "1",
        "Most entries in one request, if above 1 and batch_entries is not set. Nothing is held back until so many have come together.",
    ),
    Opt::new(
        GROUP,
        "content_type",
        Kind::Choice { words: &["application/json", "application/x-protobuf"], ignore_case: false },
        "application/json",
        "Form of pushes: application/json (compressed with gzip) or application/x-protobuf (with snappy), which costs less on both sides.",
    ),
    Opt::new(
        GROUP,
        "shard_days",
        Kind::Int { min: 1, max: 30 },
        "7",
        "Longest time that one query covers, in days.",
    ),
    Opt::new(
        GROUP,
        "insecure",
        Kind::Bool,
        "false",
        "Whether HTTPS certificates are left unchecked; wins over ca_file.",
    ),
    Opt::unset(GROUP, "ca_file", Kind::Str, "File with certificate authorities (PEM) to trust."),
    Opt::unset(
        GROUP,
        "cert_file",
        Kind::Str,
        "Client certificate (PEM), used only together with key_file.",
    ),
    Opt::unset(
        GROUP,
        "key_file",
        Kind::Str,
        "Key of the client certificate (PEM), used only together with cert_file.",
    ),
    Opt::new(GROUP, "timeout", SECONDS, "60", "Longest wait for an answer, in seconds."),
    Opt::new(
        GROUP,
        "use_structured_metadata",
        Kind::Bool,
        "false",
        "Lets the reference's queries use structured metadata; ours need no such hint.",
    ),
    Opt::unset(
        GROUP,
        "write_url",
        Kind::Str,
        "Base of the API for pushes, where it is another one: the distributor.",
    ),
    Opt::unset(
        GROUP,
        "read_url",
        Kind::Str,
        "Base of the API for queries, where it is another one: the query frontend.",
    ),
    Opt::unset(
        GROUP,
        "delete_url",
        Kind::Str,
        "Base of the API for deletions, where it is another one: the compactor.",
    ),
    Opt::unset(GROUP, "user", Kind::Str, "User for basic authentication."),
    Opt::unset(GROUP, "password", Kind::Str, "Password for basic authentication.").secret(),
    Opt::unset(
        GROUP,
        "bearer_token",
        Kind::Str,
        "Token for bearer authentication; wins over user and password.",
    )
    .secret(),
    Opt::unset(
        GROUP,
        "batch_entries",
        at_least(1),
        "Most entries in one push; 5000 unless set, or buffer_size if above 1.",
    ),
    Opt::new(
        GROUP,
        "batch_bytes",
        at_least(1024),
        "1048576",
        "Most bytes of log lines in one push, before compression; keep it below Loki's ingestion_burst_size_mb.",
    ),
    Opt::new(GROUP, "pushes_at_once", AT_ONCE, "4", "Pushes in flight at a time."),
    Opt::new(GROUP, "queries_at_once", AT_ONCE, "4", "Queries in flight at a time."),
    Opt::unset(
        GROUP,
        "retry_budget",
        UP_TO_A_YEAR,
        "Seconds for which a failed request is tried again; http_retry_budget of [ratekitty] unless set.",
    ),
    Opt::new(
        GROUP,
        "max_query_entries",
        at_least(1),
        "5000",
        "Entries asked for in one query: Loki's max_entries_limit_per_query, or less.",
    ),
    Opt::new(
        GROUP,
        "write_structured_metadata",
        Kind::Bool,
        "true",
        "Whether entries carry type, unit, user and flavor_name as structured metadata, as the reference's do; a Loki older than 3.0 needs false.",
    ),
    Opt::new(
        GROUP,
        "read_cloudkitty_entries",
        Kind::Bool,
        "true",
        "Whether entries that the reference pushed are read, too.",
    ),
    Opt::new(
        GROUP,
        "delete_superseded",
        Kind::Bool,
        "false",
        "Whether Loki is asked to delete entries that a reset or a new rating has superseded. They are never read, deleted or not.",
    ),
];

/// Form of pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushFormat {
    /// JSON, compressed with gzip.
    Json,
    /// Protocol buffers, compressed with snappy.
    Protobuf,
}

/// How to log in.
#[derive(Debug, Clone)]
pub enum Login {
    /// Not at all.
    Anonymous,
    /// User and password.
    Basic(String, SecretString),
    /// A token.
    Bearer(SecretString),
}

/// `[storage_loki]`.
#[derive(Debug, Clone)]
pub struct StorageLoki {
    /// Base of the API for pushes, without a slash at the end.
    pub write_url: String,
    /// Base of the API for queries.
    pub read_url: String,
    /// Base of the API for deletions.
    pub delete_url: String,
    /// Tenant.
    pub tenant: String,
    /// Labels of all streams, by name.
    pub stream: Vec<(String, String)>,
    /// Form of pushes.
    pub format: PushFormat,
    /// Longest time that one query covers, in days.
    pub shard_days: u32,
    /// Certificate authority file (PEM).
    pub cafile: Option<PathBuf>,
    /// Whether certificates are left unchecked; then there is no `cafile`.
    pub insecure: bool,
    /// Files with the client's certificate and its key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Longest wait for an answer; `None` waits for ever.
    pub timeout: Option<Duration>,
    /// How to log in.
    pub login: Login,
    /// Most entries in one push.
    pub batch_entries: usize,
    /// Most bytes of lines in one push.
    pub batch_bytes: usize,
    /// Pushes in flight at a time.
    pub pushes_at_once: usize,
    /// Queries in flight at a time.
    pub queries_at_once: usize,
    /// Time for which a failed request is tried again.
    pub retry_budget: Duration,
    /// Entries asked for in one query.
    pub max_query_entries: usize,
    /// Whether entries carry structured metadata.
    pub structured_metadata: bool,
    /// Whether the reference's entries are read.
    pub read_cloudkitty_entries: bool,
    /// Whether Loki is asked to delete superseded entries.
    pub delete_superseded: bool,
    /// Whether one of certificate and key was given without the other.
    pub lone_certificate: bool,
}

impl StorageLoki {
    pub(in crate::config) fn read(
        reader: &Reader<'_>,
        http_retry_budget: Duration,
    ) -> Result<Self, ConfigError> {
        for opt in OPTIONS {
            reader.value(opt.group, opt.name)?;
        }
        let needed = |name, allowed| {
            reader.filled(GROUP, name)?.ok_or_else(|| reader.refuse(GROUP, name, allowed))
        };
        let bare = |url: String| url.trim_matches('/').to_owned();
        let url = bare(needed("url", "the base of Loki's HTTP API")?);
        let url_or = |name| -> Result<String, ConfigError> {
            Ok(reader.filled(GROUP, name)?.map_or_else(|| url.clone(), bare))
        };
        let mut stream = reader.dict(GROUP, "stream")?;
        stream.sort();
        let labels = "labels of letters, digits and underscores with values that are not empty, none of them project_id or ratekitty";
        let is_label = |name: &str| {
            let mut bytes = name.bytes();
            bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let good = |(name, value): &(String, String)| {
            is_label(name) && !matches!(&**name, "project_id" | "ratekitty") && !value.is_empty()
        };
        if stream.is_empty() || !stream.iter().all(good) {
            return Err(reader.refuse(GROUP, "stream", labels));
        }
        let file = |name| -> Result<Option<PathBuf>, ConfigError> {
            Ok(reader.filled(GROUP, name)?.map(PathBuf::from))
        };
        let insecure = reader.flag(GROUP, "insecure")?;
        let identity = (file("cert_file")?, file("key_file")?);
        let lone_certificate = identity.0.is_some() != identity.1.is_some();
        let user = reader.filled(GROUP, "user")?;
        let password = reader.filled(GROUP, "password")?.map(SecretString::from);
        let token = reader.filled(GROUP, "bearer_token")?.map(SecretString::from);
        let login = match (token, user.zip(password)) {
            (Some(token), _) => Login::Bearer(token),
            (None, Some((user, password))) => Login::Basic(user, password),
            (None, None) => Login::Anonymous,
        };
        let buffer_size: usize = reader.required_int(GROUP, "buffer_size")?;
        let unset = if buffer_size > 1 { buffer_size } else { BATCH_ENTRIES };
        let retry_budget = match reader.float(GROUP, "retry_budget")? {
            Some(seconds) => Duration::try_from_secs_f64(seconds)
                .map_err(|_| reader.refuse(GROUP, "retry_budget", "a number of seconds"))?,
            None => http_retry_budget,
        };
        let format = match needed("content_type", "a content type")?.as_str() {
            "application/x-protobuf" => PushFormat::Protobuf,
            _ => PushFormat::Json,
        };
        Ok(Self {
            write_url: url_or("write_url")?,
            read_url: url_or("read_url")?,
            delete_url: url_or("delete_url")?,
            tenant: needed("tenant", "the name of a tenant")?,
            stream,
            format,
            shard_days: reader.required_int(GROUP, "shard_days")?,
            cafile: if insecure { None } else { file("ca_file")? },
            insecure,
            identity: identity.0.zip(identity.1),
            timeout: read_timeout(reader, GROUP)?,
            login,
            batch_entries: reader.int(GROUP, "batch_entries")?.unwrap_or(unset),
            batch_bytes: reader.required_int(GROUP, "batch_bytes")?,
            pushes_at_once: reader.required_int(GROUP, "pushes_at_once")?,
            queries_at_once: reader.required_int(GROUP, "queries_at_once")?,
            retry_budget,
            max_query_entries: reader.required_int(GROUP, "max_query_entries")?,
            structured_metadata: reader.flag(GROUP, "write_structured_metadata")?,
            read_cloudkitty_entries: reader.flag(GROUP, "read_cloudkitty_entries")?,
            delete_superseded: reader.flag(GROUP, "delete_superseded")?,
            lone_certificate,
        })
    }
}
