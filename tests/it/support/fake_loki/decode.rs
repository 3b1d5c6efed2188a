//! The bodies of a push.

use std::io::Read;

use prost::Message;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{self, Kind, Stop};

/// A line of a push.
#[derive(Debug)]
pub struct PushEntry {
    /// In nanoseconds.
    pub ts: i64,
    /// As pushed.
    pub line: String,
    /// Structured metadata.
    pub meta: Vec<(String, String)>,
}

/// A stream of a push.
#[derive(Debug)]
pub struct PushStream {
    /// Its labels as a selector.
    pub labels: String,
    /// Its lines.
    pub entries: Vec<PushEntry>,
}

/// `logproto.PushRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    pub streams: Vec<StreamAdapter>,
}

/// `logproto.StreamAdapter`.
#[derive(Clone, PartialEq, Message)]
pub struct StreamAdapter {
    #[prost(string, tag = "1")]
    pub labels: String,
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<EntryAdapter>,
    #[prost(uint64, tag = "3")]
    pub hash: u64,
}

/// `logproto.EntryAdapter`.
#[derive(Clone, PartialEq, Message)]
pub struct EntryAdapter {
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    pub line: String,
    #[prost(message, repeated, tag = "3")]
    pub structured_metadata: Vec<LabelPairAdapter>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, PartialEq, Message)]
pub struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// `logproto.LabelPairAdapter`.
#[derive(Clone, PartialEq, Message)]
pub struct LabelPairAdapter {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The streams of a body; `Err` is the text of a 400.
pub fn body(content_type: &str, encoding: &str, body: &[u8]) -> Result<Vec<PushStream>, String> {
    let mut unpacked = Vec::new();
    let body = match encoding {
        "" | "snappy" => body,
        "gzip" | "deflate" => {
            let read = if encoding == "gzip" {
                flate2::read::GzDecoder::new(body).read_to_end(&mut unpacked)
            } else {
                flate2::read::DeflateDecoder::new(body).read_to_end(&mut unpacked)
            };
            read.map_err(|_| format!("{encoding}: invalid header"))?;
            &unpacked
        }
        other => return Err(format!("Content-Encoding {other:?} not supported")),
    };
    match content_type.split(';').next().unwrap_or_default().trim() {
        "" => Err("mime: no media type".to_owned()),
        "application/json" => json_body(body),
        _ => protobuf(body),
    }
}

fn protobuf(body: &[u8]) -> Result<Vec<PushStream>, String> {
    let raw = snap::raw::Decoder::new()
        .decompress_vec(body)
        .map_err(|_| "snappy: corrupt input".to_owned())?;
    let request = PushRequest::decode(&*raw).map_err(|error| error.to_string())?;
    let pair = |pair: LabelPairAdapter| (pair.name, pair.value);
    let entry = |entry: EntryAdapter| {
        let time = entry.timestamp.unwrap_or_default();
        PushEntry {
            ts: time.seconds.wrapping_mul(1_000_000_000).wrapping_add(i64::from(time.nanos)),
            line: entry.line,
            meta: entry.structured_metadata.into_iter().map(pair).collect(),
        }
    };
    let stream = |stream: StreamAdapter| PushStream {
        labels: stream.labels,
        entries: stream.entries.into_iter().map(entry).collect(),
    };
    Ok(request.streams.into_iter().map(stream).collect())
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    streams: Option<Vec<&'a RawValue>>,
}

fn json_body(body: &[u8]) -> Result<Vec<PushStream>, String> {
    let text = String::from_utf8_lossy(body);
    let parsed: Body<'_> = serde_json::from_str(&text).map_err(|_| broken(&text))?;
    let mut streams = Vec::new();
    for raw in parsed.streams.unwrap_or_default() {
        let stream = json_stream(raw.get()).map_err(|stop| {
            let why = match stop {
                Stop::Malformed(why) => why,
                Stop::Found | Stop::NoMatch => "",
            };
            let end = raw.get().as_ptr().addr() - text.as_ptr().addr() + raw.get().len();
            reported("unmarshalerDecoder", why, &text, end)
        })?;
        streams.push(stream);
    }
    Ok(streams)
}

/// One stream. Loki takes the text between the quotes of structured metadata as
/// it is, escapes and all.
fn json_stream(text: &str) -> Result<PushStream, Stop> {
    let mut labels = Vec::new();
    let mut entries = Vec::new();
    json::object_each(text, &mut |key, value, _| match &*key {
        "stream" => json::object_each(value, &mut |name, value, kind| {
            if kind != Kind::String {
                return Err(json::STRING);
            }
            labels.push((name.into_owned(), json::unescaped(value).into_owned()));
            Ok(())
        }),
        "values" => json::array_each(value, &mut |value, kind| {
            if kind != Kind::Null {
                entries.push(json_entry(value)?);
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    labels.sort();
    let labels = super::labels::text(labels.iter().map(|(name, value)| (&**name, &**value)));
    Ok(PushStream { labels, entries })
}

fn json_entry(text: &str) -> Result<PushEntry, Stop> {
    let mut entry = PushEntry { ts: 0, line: String::new(), meta: Vec::new() };
    let mut index = 0;
    json::array_each(text, &mut |value, kind| {
        index += 1;
        match index {
            1 | 2 if kind != Kind::String => return Err(json::STRING),
            1 => entry.ts = value.parse().map_err(|_| json::NUMBER)?,
            2 => entry.line = json::unescaped(value).into_owned(),
            3 if kind != Kind::Object => return Err(json::OBJECT),
            3 => json::object_each(value, &mut |name, value, kind| {
                if kind != Kind::String {
                    return Err(json::STRING);
                }
                entry.meta.push((name.into_owned(), value.to_owned()));
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(entry)
}

/// An error of the JSON decoder, which shows the text around `head`.
fn reported(operation: &str, why: &str, text: &str, head: usize) -> String {
    let bytes = text.as_bytes();
    let around = |width: usize| {
        let part = &bytes[head.saturating_sub(width)..bytes.len().min(head + width)];
        String::from_utf8_lossy(part).into_owned()
    };
    format!(
        "loghttp.PushRequest.Streams: []loghttp.LogProtoStream: {operation}: {why}, error found \
         in #{} byte of ...|{}|..., bigger context ...|{}|...",
        head.min(10),
        around(10),
        around(50)
    )
}

/// The error of a body that is no JSON: where a value should begin and does not.
fn broken(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut at = 0;
    // The decoder stops behind the last thing that it understood.
    let mut head = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = bytes[at + 1..].iter().position(|b| *b == b'"');
                match end {
                    Some(length) => at += length + 2,
                    None => return reported("Skip", "unexpected end of input", text, bytes.len()),
                }
                head = at;
            }
            b'{' | b'}' | b'[' | b']' | b',' | b':' | b'0'..=b'9' | b'-' | b'.' | b'a'..=b'z' => {
                at += 1;
                head = at;
            }
            b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            other => {
                let why = format!("do not know how to skip: {other}");
                return reported("Skip", &why, text, at + 1);
            }
        }
    }
    reported("Skip", "do not know how to skip: 0", text, head)
}
