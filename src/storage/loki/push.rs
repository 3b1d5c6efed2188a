//! Bodies of pushes: entries of some streams as Loki's API takes them.
//!
//! <https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>

use std::io::{BufWriter, IntoInnerError};

use flate2::{Compression, write::GzEncoder};
use prost::Message;
use serde::{Serialize, ser::SerializeMap};

use super::logql;
use crate::config::sections::storage_loki::PushFormat;

/// Bytes that are compressed at once.
const PIECE: usize = 128 << 10;

/// One log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Nanoseconds since the epoch.
    pub timestamp: i64,
    /// The line.
    pub line: String,
    /// Structured metadata; neither name nor value is empty.
    pub metadata: Vec<(&'static str, String)>,
}

/// Entries for one stream.
#[derive(Debug, Clone, Copy)]
pub struct StreamEntries<'a> {
    /// The stream's labels.
    pub labels: &'a [(String, String)],
    /// The entries.
    pub entries: &'a [Entry],
}

/// A body, ready to be sent as often as needed.
#[derive(Debug, Clone)]
pub struct Body {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Content type.
    pub content_type: &'static str,
    /// Content encoding, where HTTP names one.
    pub encoding: Option<&'static str>,
}

/// Encodes a push.
pub fn encode(format: PushFormat, streams: &[StreamEntries<'_>]) -> std::io::Result<Body> {
    match format {
        PushFormat::Json => {
            // The lines of a period are much alike: the fastest level makes
            // them small already. It takes small pieces badly.
            let gzip = GzEncoder::new(Vec::new(), Compression::fast());
            let mut pieces = BufWriter::with_capacity(PIECE, gzip);
            serde_json::to_writer(&mut pieces, &Push { streams: Streams(streams) })?;
            let gzip = pieces.into_inner().map_err(IntoInnerError::into_error)?;
            let bytes = gzip.finish()?;
            Ok(Body { bytes, content_type: "application/json", encoding: Some("gzip") })
        }
        PushFormat::Protobuf => {
            let request = wire::PushRequest { streams: streams.iter().map(wire_stream).collect() };
            let bytes = snap::raw::Encoder::new()
                .compress_vec(&request.encode_to_vec())
                .map_err(std::io::Error::other)?;
            Ok(Body { bytes, content_type: "application/x-protobuf", encoding: None })
        }
    }
}

#[derive(Serialize)]
struct Push<'a> {
    streams: Streams<'a>,
}

struct Streams<'a>(&'a [StreamEntries<'a>]);

impl Serialize for Streams<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(JsonStream))
    }
}

struct JsonStream<'a>(&'a StreamEntries<'a>);

impl Serialize for JsonStream<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("stream", &Pairs(self.0.labels))?;
        map.serialize_entry("values", &Values(self.0.entries))?;
        map.end()
    }
}

struct Pairs<'a, K>(&'a [(K, String)]);

impl<K: AsRef<str>> Serialize for Pairs<'_, K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name.as_ref(), value)))
    }
}

struct Values<'a>(&'a [Entry]);

impl Serialize for Values<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(JsonEntry))
    }
}

struct JsonEntry<'a>(&'a Entry);

impl Serialize for JsonEntry<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Entry { timestamp, line, metadata } = self.0;
        let timestamp = timestamp.to_string();
        if metadata.is_empty() {
            (timestamp, line).serialize(serializer)
        } else {
            (timestamp, line, Pairs(metadata)).serialize(serializer)
        }
    }
}

fn wire_stream(stream: &StreamEntries<'_>) -> wire::Stream {
    const SECOND: i64 = 1_000_000_000;
    let entries = stream.entries.iter().map(|entry| wire::Entry {
        timestamp: Some(wire::Timestamp {
            seconds: entry.timestamp.div_euclid(SECOND),
            nanos: i32::try_from(entry.timestamp.rem_euclid(SECOND)).unwrap_or_default(),
        }),
        line: entry.line.clone(),
        structured_metadata: entry
            .metadata
            .iter()
            .map(|(name, value)| wire::Pair { name: (*name).to_owned(), value: value.clone() })
            .collect(),
    });
    wire::Stream { labels: logql::labels(stream.labels), entries: entries.collect(), hash: 0 }
}

/// Messages of Loki's `logproto` package.
mod wire {
    /// A whole push.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PushRequest {
        #[prost(message, repeated, tag = "1")]
        pub streams: Vec<Stream>,
    }

    /// One stream, its labels as a LogQL selector.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Stream {
        #[prost(string, tag = "1")]
        pub labels: String,
        #[prost(message, repeated, tag = "2")]
        pub entries: Vec<Entry>,
        #[prost(uint64, tag = "3")]
        pub hash: u64,
    }

    /// One log line.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Entry {
        #[prost(message, optional, tag = "1")]
        pub timestamp: Option<Timestamp>,
        #[prost(string, tag = "2")]
        pub line: String,
        #[prost(message, repeated, tag = "3")]
        pub structured_metadata: Vec<Pair>,
    }

    /// A pair of structured metadata.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Pair {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }

    /// An instant.
    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub struct Timestamp {
        #[prost(int64, tag = "1")]
        pub seconds: i64,
        #[prost(int32, tag = "2")]
        pub nanos: i32,
    }
}
