//! What Loki can say no with, and what to do about it.

use std::time::Duration;

use crate::http::retry::Retryable;

/// Why Loki gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum LokiError {
    /// It was not reached, or the connection broke.
    #[error("cannot reach Loki at {url}: {source:#}")]
    Transport {
        /// Base URL, without credentials.
        url: String,
        /// What went wrong, with its causes.
        #[source]
        source: anyhow::Error,
    },
    /// It answered with an HTTP error that says nothing about the request.
    #[error("Loki at {url} answered HTTP status {status}: {body}{}", hint(.body))]
    Status {
        /// Base URL, without credentials.
        url: String,
        /// HTTP status code.
        status: u16,
        /// Start of the answer.
        body: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// It answered with something else than the JSON of its API.
    #[error(
        "{url} did not answer as Loki's API does ({reason}); check that the URL ends in /loki/api/v1. Answer: {body}"
    )]
    Format {
        /// Base URL, without credentials.
        url: String,
        /// What is wrong.
        reason: String,
        /// Start of the answer.
        body: String,
    },
    /// It did not take entries, for good.
    #[error("Loki refused entries of the stream {stream}: {message}{}", hint(.message))]
    Refused {
        /// The stream's labels.
        stream: String,
        /// What Loki said.
        message: String,
    },
    /// It refused a query for its size; a smaller one may pass.
    #[error("Loki refused the query `{query}`: {message}{}", hint(.message))]
    Limit {
        /// What there is too much of.
        limit: QueryLimit,
        /// The query.
        query: String,
        /// What Loki said.
        message: String,
    },
    /// It refused a query.
    #[error("Loki refused the query `{query}`: {message}")]
    Query {
        /// The query.
        query: String,
        /// What Loki said.
        message: String,
    },
    /// It says that its answer is not whole, as it does since 3.6 for some clients.
    #[error("Loki did not answer the query `{query}` whole: {warning}{}", hint(.warning))]
    Partial {
        /// The query.
        query: String,
        /// What Loki said.
        warning: String,
    },
    /// The answer is larger than the limit.
    #[error(
        "the answer to `{query}` is larger than [ratekitty] max_response_bytes = {limit}; lower [storage_loki] max_query_entries"
    )]
    TooLarge {
        /// The query.
        query: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// More entries at one instant than one query gives, all alike.
    #[error(
        "more than {limit} entries of the stream {stream} stand at one instant and nothing tells them apart; raise Loki's max_entries_limit_per_query and [storage_loki] max_query_entries"
    )]
    Crowded {
        /// The stream's selector.
        stream: String,
        /// Entries that one query gives.
        limit: usize,
    },
}

impl LokiError {
    /// Whether a stream has moved on too far for the entries, which a new
    /// stream would take.
    pub(super) fn is_too_far_behind(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains("too far behind"))
    }

    /// Whether it is a request, answered by its size or by the rate of data,
    /// that smaller requests may get through.
    pub(super) fn asks_for_less(&self) -> bool {
        match self {
            Self::Status { status, body, .. } => {
                // A rate goes down by itself; what is above the burst never fits.
                *status == 413
                    || *status == 429 && body.to_lowercase().contains("ingestion rate limit")
                    || body.contains("larger than")
            }
            _ => false,
        }
    }
}

impl Retryable for LokiError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Status { status, body, .. } => {
                (*status >= 500 || *status == 429) && !body.contains("larger than")
            }
            Self::Format { .. }
            | Self::Refused { .. }
            | Self::Limit { .. }
            | Self::Query { .. }
            | Self::Partial { .. }
            | Self::TooLarge { .. }
            | Self::Crowded { .. } => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What a query has too much of for Loki.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryLimit {
    /// Series of the answer (`max_query_series`).
    Series,
    /// Time (`max_query_length`).
    Time,
    /// Text of the query.
    Text,
    /// Bytes of lines to read (`max_query_bytes_read`, `max_querier_bytes_read`).
    Bytes,
    /// Lines asked for (`max_entries_limit_per_query`).
    Entries,
}

impl QueryLimit {
    /// What Loki says when a query is too large for it, and not wrong. Its advice, such as
    /// to reduce the time range, comes with several limits, and tells nothing.
    const WORDS: [(&str, Self); 7] = [
        ("maximum of series", Self::Series),
        // Since Loki 3.6.
        ("maximum number of series", Self::Series),
        ("time range exceeds the limit", Self::Time),
        ("input size too long", Self::Text),
        ("would read too many bytes", Self::Bytes),
        ("too large to execute on a single querier", Self::Bytes),
        ("max entries limit", Self::Entries),
    ];

    /// The limit that a refusal speaks of, if a smaller query may pass.
    pub(super) fn of(message: &str) -> Option<Self> {
        let mut words = Self::WORDS.iter();
        words.find(|(words, _)| message.contains(words)).map(|(_, limit)| *limit)
    }

    /// What lets the query pass as it is.
    fn advice(self) -> Option<&'static str> {
        match self {
            Self::Series => Some("raise max_query_series in Loki's limits_config"),
            Self::Time => Some(
                "lower [storage_loki] shard_days, or raise max_query_length in Loki's limits_config",
            ),
            Self::Bytes => Some(
                "raise max_query_bytes_read and max_querier_bytes_read in Loki's limits_config",
            ),
            Self::Entries => {
                Some("lower [storage_loki] max_query_entries to Loki's max_entries_limit_per_query")
            }
            // It is no setting.
            Self::Text => None,
        }
    }
}

/// Words of Loki, of other things than limits of queries, and the setting behind them.
const HINTS: [(&str, &str); 10] = [
    (
        "timestamp too old",
        "raise reject_old_samples_max_age in Loki's limits_config above the age of the oldest period to rate",
    ),
    (
        "timestamp too new",
        "the clocks of this machine and of Loki differ; see creation_grace_period",
    ),
    ("too far behind", "the stream holds entries that the state database does not know"),
    ("Max entry size", "raise max_line_size in Loki's limits_config, or drop labels of the metric"),
    (
        "Ingestion rate limit",
        "raise ingestion_rate_mb and ingestion_burst_size_mb in Loki's limits_config",
    ),
    (
        "Per stream rate limit",
        "raise per_stream_rate_limit and per_stream_rate_limit_burst in Loki's limits_config",
    ),
    ("Maximum active stream limit", "raise max_global_streams_per_user in Loki's limits_config"),
    ("label names; limit", "raise max_label_names_per_series in Loki's limits_config"),
    (
        "structured metadata",
        "set allow_structured_metadata in Loki's limits_config (schema v13), or [storage_loki] write_structured_metadata = false",
    ),
    ("live replicas", "no ingester of Loki is healthy yet"),
];

/// What to change, for what Loki said: `; ...`, or nothing.
fn hint(message: &str) -> String {
    let advice = match QueryLimit::of(message) {
        Some(limit) => limit.advice(),
        None => {
            // Releases differ in capitals.
            let message = message.to_lowercase();
            let mut hints = HINTS.iter();
            let known = hints.find(|(words, _)| message.contains(&words.to_lowercase()));
            known.map(|(_, advice)| *advice)
        }
    };
    advice.map(|advice| format!("; {advice}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_apart_in_the_words_of_each_release() {
        for (message, limit) in [
            ("maximum of series (500) reached for a single query", Some(QueryLimit::Series)),
            (
                "maximum number of series (500) reached for a single query; consider reducing query cardinality by \
                 adding more specific stream selectors, reducing the time range, or aggregating results with \
                 functions like sum(), count() or topk()",
                Some(QueryLimit::Series),
            ),
            (
                "the query time range exceeds the limit (query length: 961h0m0s, limit: 31d1h)",
                Some(QueryLimit::Time),
            ),
            ("parse error : input size too long (131078 > 131072)", Some(QueryLimit::Text)),
            (
                "the query would read too many bytes (query: 12 GB, limit: 1 GB); consider adding more specific \
                 stream selectors or reduce the time range of the query",
                Some(QueryLimit::Bytes),
            ),
            (
                "query too large to execute on a single querier: (query: 160 GB, limit: 150 GB); consider adding \
                 more specific stream selectors, reduce the time range of the query, or adjust parallelization \
                 settings",
                Some(QueryLimit::Bytes),
            ),
            (
                "un-shardable query too large to execute on a single querier: (query: 160 GB, limit: 150 GB); \
                 consider adding more specific stream selectors or reduce the time range of the query",
                Some(QueryLimit::Bytes),
            ),
            (
                "shard query is too large to execute on a single querier: (query: 160 GB, limit: 150 GB); \
                 consider adding more specific stream selectors or reduce the time range of the query",
                Some(QueryLimit::Bytes),
            ),
            (
                "max entries limit per query exceeded, limit > max_entries_limit_per_query (5001 > 5000)",
                Some(QueryLimit::Entries),
            ),
            ("parse error at line 1, col 1: syntax error: unexpected IDENTIFIER", None),
        ] {
            assert_eq!(QueryLimit::of(message), limit, "{message}");
        }
    }
}
