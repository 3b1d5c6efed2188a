//! The limits of a Loki, and how its `/config` prints them.

use super::go::{duration, model_duration};

/// What a tenant may ask of `POST /delete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletes {
    /// The compactor keeps no retention: the path is not there, 404.
    NotServed,
    /// `deletion_mode: disabled`, 403.
    Forbidden,
    /// Taken, and hiding lines.
    Enabled,
}

/// Limits of every tenant. Durations are in seconds.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most lines that a log query may ask for.
    pub max_entries_limit_per_query: usize,
    /// Most series that a metric query may have, also one piece of a split one.
    pub max_query_series: usize,
    /// Longest window of a query.
    pub max_query_length: i64,
    /// Oldest entry that is accepted.
    pub reject_old_samples_max_age: i64,
    /// How far in the future an entry may be.
    pub creation_grace_period: i64,
    /// Longest line in bytes.
    pub max_line_size: usize,
    /// Bytes per second of a tenant; 0 is without limit.
    pub ingestion_rate_bytes: u64,
    /// Bytes that a tenant may push at once.
    pub ingestion_burst_bytes: u64,
    /// Bytes per second of a stream; 0 is without limit.
    pub per_stream_rate_bytes: u64,
    /// Bytes that a stream may take at once.
    pub per_stream_burst_bytes: u64,
    /// Streams of a tenant; 0 is without limit.
    pub max_streams: usize,
    /// Twice as far as an entry may be behind the newest of its stream.
    pub max_chunk_age: i64,
    /// Entries older than this when they are pushed are invisible until
    /// flushed; 0 shows all at once.
    pub query_ingesters_within: i64,
    /// Queries are cut into pieces of this length, each with its own parsers; 0 is never.
    pub split_queries_by_interval: i64,
    /// Deletion of lines.
    pub deletes: Deletes,
    /// A delete acts from this much later on.
    pub delete_delay: i64,
    /// Bytes of lines that a query may read; 0 is without limit.
    pub max_query_bytes: usize,
    /// Longest query text in bytes, exclusive.
    pub max_query_text: usize,
    /// Most labels of a stream, not counting `service_name`.
    pub max_label_names: usize,
    /// Longest label name in bytes.
    pub max_label_name_length: usize,
    /// Longest label value in bytes.
    pub max_label_value_length: usize,
    /// Structured metadata of an entry in bytes.
    pub max_structured_metadata_size: usize,
    /// Pairs of structured metadata of an entry.
    pub max_structured_metadata_count: usize,
    /// Refuses too many series in the words of Loki 3.6 and later, which speak of time, too.
    pub has_newer_words: bool,
}

impl Limits {
    /// The recorded Loki's: a stock one whose limits reach 745 hours.
    pub fn stock() -> Self {
        Self {
            max_entries_limit_per_query: 5000,
            max_query_series: 500,
            max_query_length: 745 * 3600,
            reject_old_samples_max_age: 745 * 3600,
            creation_grace_period: 600,
            max_line_size: 256 << 10,
            ingestion_rate_bytes: 4 << 20,
            ingestion_burst_bytes: 6 << 20,
            per_stream_rate_bytes: 3 << 20,
            per_stream_burst_bytes: 15 << 20,
            max_streams: 5000,
            max_chunk_age: 2 * 3600,
            query_ingesters_within: 3 * 3600,
            split_queries_by_interval: 3600,
            deletes: Deletes::NotServed,
            delete_delay: 0,
            max_query_bytes: 0,
            max_query_text: 131_072,
            max_label_names: 15,
            max_label_name_length: 1024,
            max_label_value_length: 2048,
            max_structured_metadata_size: 64 << 10,
            max_structured_metadata_count: 128,
            has_newer_words: false,
        }
    }

    /// One set up for catching up: every accepted entry is visible at once, old
    /// ones are welcome, and the rate is without limit.
    pub fn roomy() -> Self {
        Self {
            reject_old_samples_max_age: 10 * 365 * 86_400,
            ingestion_rate_bytes: 0,
            per_stream_rate_bytes: 0,
            max_streams: 0,
            max_chunk_age: 48 * 3600,
            query_ingesters_within: 0,
            ..Self::stock()
        }
    }

    /// `limits_config` as YAML, every line after `indent`.
    pub(super) fn yaml(&self, indent: &str) -> String {
        let model = |seconds: i64| model_duration(seconds * 1_000_000_000);
        let megabytes = |bytes: u64| if bytes == 0 { 1e6 } else { bytes as f64 / 1_048_576.0 };
        // Byte sizes print the largest unit that divides them.
        let size = |bytes: u64| match bytes {
            0 => "0B".to_owned(),
            b if b % (1 << 20) == 0 => format!("{}MB", b >> 20),
            b if b % (1 << 10) == 0 => format!("{}KB", b >> 10),
            b => format!("{b}B"),
        };
        let deletion =
            if self.deletes == Deletes::Enabled { "filter-and-delete" } else { "disabled" };
        [
            "ingestion_rate_strategy: global".to_owned(),
            format!("ingestion_rate_mb: {}", megabytes(self.ingestion_rate_bytes)),
            format!("ingestion_burst_size_mb: {}", megabytes(self.ingestion_burst_bytes)),
            format!("max_label_name_length: {}", self.max_label_name_length),
            format!("max_label_value_length: {}", self.max_label_value_length),
            format!("max_label_names_per_series: {}", self.max_label_names),
            "reject_old_samples: true".to_owned(),
            format!("reject_old_samples_max_age: {}", model(self.reject_old_samples_max_age)),
            format!("creation_grace_period: {}", model(self.creation_grace_period)),
            format!("max_line_size: {}", size(self.max_line_size as u64)),
            "max_line_size_truncate: false".to_owned(),
            "increment_duplicate_timestamp: false".to_owned(),
            "unordered_writes: true".to_owned(),
            "max_streams_per_user: 0".to_owned(),
            format!("max_global_streams_per_user: {}", self.max_streams),
            format!("per_stream_rate_limit: {}", size(self.per_stream_rate_bytes)),
            format!("per_stream_rate_limit_burst: {}", size(self.per_stream_burst_bytes)),
            format!("max_query_series: {}", self.max_query_series),
            "max_query_lookback: 0s".to_owned(),
            format!("max_query_length: {}", model(self.max_query_length)),
            "max_query_range: 0s".to_owned(),
            format!("max_entries_limit_per_query: {}", self.max_entries_limit_per_query),
            format!("split_queries_by_interval: {}", model(self.split_queries_by_interval)),
            format!(
                "split_instant_metric_queries_by_interval: {}",
                model(self.split_queries_by_interval)
            ),
            format!("deletion_mode: {deletion}"),
            "retention_period: 0s".to_owned(),
            "allow_structured_metadata: true".to_owned(),
            format!(
                "max_structured_metadata_size: {}",
                size(self.max_structured_metadata_size as u64)
            ),
            format!(
                "max_structured_metadata_entries_count: {}",
                self.max_structured_metadata_count
            ),
        ]
        .map(|line| format!("{indent}{line}\n"))
        .concat()
    }

    /// The answer of `/config`: what of it a client may look for.
    pub(super) fn config(&self, target: &str) -> String {
        let go = |seconds: i64| duration(seconds * 1_000_000_000);
        format!(
            "target: {target}\nauth_enabled: true\nquerier:\n  query_ingesters_within: {}\n\
             ingester:\n  chunk_idle_period: 30m0s\n  max_chunk_age: {}\n\
             limits_config:\n{}compactor:\n  retention_enabled: {}\n  \
             delete_request_cancel_period: {}\n",
            go(self.query_ingesters_within),
            go(self.max_chunk_age),
            self.yaml("  "),
            self.deletes != Deletes::NotServed,
            go(self.delete_delay),
        )
    }
}
