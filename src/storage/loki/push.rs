//! Bodies of pushes: entries of some streams as Loki's API takes them.
//!
//! <https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>

use std::{
    io::{self, BufWriter, IntoInnerError, Write},
    sync::Arc,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use prost::Message;
use serde::Serialize;

use super::{line::Line, logql};
use crate::config::sections::storage_loki::PushFormat;

/// Bytes that are compressed at once.
const PIECE: usize = 128 << 10;

/// One log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Nanoseconds since the epoch.
    pub timestamp: i64,
    /// The line, in the format of the push.
    pub line: Line,
    /// Structured metadata; neither name nor value is empty.
    pub metadata: Metadata,
}

/// Structured metadata, which entries share.
pub type Metadata = Arc<[(&'static str, Arc<str>)]>;

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
pub fn encode(format: PushFormat, streams: &[StreamEntries<'_>]) -> io::Result<Body> {
    match format {
        PushFormat::Json => {
            // The lines of a period are much alike: the fastest level makes
            // them small already. It takes small pieces badly.
            let gzip = GzEncoder::new(Vec::new(), Compression::fast());
            let mut pieces = BufWriter::with_capacity(PIECE, gzip);
            write_json(&mut pieces, streams)?;
            let gzip = pieces.into_inner().map_err(IntoInnerError::into_error)?;
            let bytes = gzip.finish()?;
            Ok(Body { bytes, content_type: "application/json", encoding: Some("gzip") })
        }
        PushFormat::Protobuf => {
            let request = wire::PushRequest { streams: streams.iter().map(wire_stream).collect() };
            let bytes = snap::raw::Encoder::new()
                .compress_vec(&request.encode_to_vec())
                .map_err(io::Error::other)?;
            Ok(Body { bytes, content_type: "application/x-protobuf", encoding: None })
        }
    }
}

/// Writes `{"streams": [{"stream": {...}, "values": [["ns", "line", {...}], ...]}]}`.
fn write_json(out: &mut impl Write, streams: &[StreamEntries<'_>]) -> io::Result<()> {
    out.write_all(br#"{"streams":["#)?;
    for (at, StreamEntries { labels, entries }) in streams.iter().enumerate() {
        out.write_all(if at > 0 { br#",{"stream":"# } else { br#"{"stream":"# })?;
        serde_json::to_writer(&mut *out, &Pairs(labels))?;
        out.write_all(br#","values":["#)?;
        for (at, Entry { timestamp, line, metadata }) in entries.iter().enumerate() {
            write!(out, "{}[\"{timestamp}\",\"", if at > 0 { "," } else { "" })?;
            // It has its escapes.
            out.write_all(&line.text)?;
            out.write_all(b"\"")?;
            if !metadata.is_empty() {
                out.write_all(b",")?;
                serde_json::to_writer(&mut *out, &Pairs(metadata))?;
            }
            out.write_all(b"]")?;
        }
        out.write_all(b"]}")?;
    }
    out.write_all(b"]}")
}

struct Pairs<'a, K, V>(&'a [(K, V)]);

impl<K: AsRef<str>, V: AsRef<str>> Serialize for Pairs<'_, K, V> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref())))
    }
}

fn wire_stream(stream: &StreamEntries<'_>) -> wire::Stream {
    const SECOND: i64 = 1_000_000_000;
    let entries = stream.entries.iter().map(|entry| wire::Entry {
        timestamp: Some(wire::Timestamp {
            seconds: entry.timestamp.div_euclid(SECOND),
            nanos: i32::try_from(entry.timestamp.rem_euclid(SECOND)).unwrap_or_default(),
        }),
        line: entry.line.text.clone(),
        structured_metadata: entry
            .metadata
            .iter()
            .map(|(name, value)| wire::Pair { name: (*name).to_owned(), value: value.to_string() })
            .collect(),
    });
    wire::Stream { labels: logql::labels(stream.labels), entries: entries.collect(), hash: 0 }
}

/// Messages of Loki's `logproto` package.
mod wire {
    use super::Bytes;

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
        // A string, whose form on the wire is the same.
        #[prost(bytes = "bytes", tag = "2")]
        pub line: Bytes,
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
