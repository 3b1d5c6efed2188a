//! Log lines: data points as the reference writes them, and back.
//!
//! A line is a JSON object with the keys `start`, `end`, `type`, `unit`,
//! `description`, `qty`, `price`, `groupby` and `metadata`. Numbers are written
//! with all their digits. The same point always makes the same bytes.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Write,
    marker::PhantomData,
    sync::Arc,
};

use bytes::{BufMut, Bytes, BytesMut};
use chrono::DateTime;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};

use super::push::Metadata;
use crate::{
    config::sections::storage_loki::PushFormat,
    dataframe::{DataPoint, Labels, python_str},
    decimal::Decimal,
    storage::StorageError,
    time::{CALENDAR, Period, seconds},
};

/// Labels of groupby that the reference gives to entries as structured
/// metadata, besides type and unit.
const METADATA_LABELS: [&str; 2] = ["user", "flavor_name"];

/// Room for lines that is asked for at once, in bytes.
const ROOM: usize = 64 << 10;

/// A log line as the body of a push has it: with the escapes of a text in JSON, or,
/// in protobuf, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its text.
    pub text: Bytes,
    /// Bytes of the line itself.
    pub length: usize,
}

impl Line {
    /// A line that is JSON.
    pub fn of(format: PushFormat, line: &str) -> Self {
        let mut text = BytesMut::with_capacity(line.len());
        put(&mut text, format, line.as_bytes());
        Self { text: text.freeze(), length: line.len() }
    }
}

/// Adds a piece of a line. JSON as serde writes it has no control characters.
fn put(text: &mut BytesMut, format: PushFormat, piece: &[u8]) {
    match format {
        PushFormat::Protobuf => text.extend_from_slice(piece),
        PushFormat::Json => {
            text.reserve(piece.len());
            let mut plain = 0;
            for (at, _) in piece.iter().enumerate().filter(|(_, byte)| matches!(byte, b'"' | b'\\'))
            {
                text.extend_from_slice(&piece[plain..at]);
                text.put_u8(b'\\');
                plain = at;
            }
            text.extend_from_slice(&piece[plain..]);
        }
    }
}

/// The JSON of labels.
struct Labelled {
    text: BytesMut,
    length: usize,
    digest: [u8; 32],
}

impl Labelled {
    fn of(labels: &Labels, format: PushFormat) -> Result<Self, serde_json::Error> {
        let plain = serde_json::to_vec(labels)?;
        let mut text = BytesMut::with_capacity(plain.len() * 5 / 4);
        put(&mut text, format, &plain);
        Ok(Self { text, length: plain.len(), digest: Sha256::digest(&plain).into() })
    }
}

/// How the lines of a period and type begin.
pub struct Head {
    text: BytesMut,
    length: usize,
}

/// Writes lines. What points of one series share, the JSON of labels, is made once, while
/// all of them are borrowed; lines share room.
pub struct LineWriter<'a> {
    format: PushFormat,
    /// By where labels are.
    known: HashMap<usize, Labelled>,
    /// The unit that came last, and its JSON.
    unit: Option<(&'a Arc<str>, String)>,
    /// By where labels and units are.
    metadata: HashMap<(usize, usize), Metadata>,
    /// Where lines come to be.
    room: BytesMut,
    borrowed: PhantomData<&'a Labels>,
}

impl<'a> LineWriter<'a> {
    /// For pushes in a format.
    pub fn new(format: PushFormat) -> Self {
        Self {
            format,
            known: HashMap::new(),
            unit: None,
            metadata: HashMap::new(),
            room: BytesMut::new(),
            borrowed: PhantomData,
        }
    }

    /// Forgets what points shared until now: those of the next scope share something else.
    pub fn forget(&mut self) {
        self.known.clear();
        self.metadata.clear();
    }

    /// How lines of a period and type begin; what they are about is added to `digest`.
    pub fn head(&self, period: Period, frame_type: &str, digest: &mut Sha256) -> Head {
        let date = "%Y-%m-%dT%H:%M:%S+00:00";
        let (begin, end) = (period.begin.format(date), period.end.format(date));
        let frame_type = Value::from(frame_type);
        let plain = format!(r#"{{"start":"{begin}","end":"{end}","type":{frame_type},"unit":"#);
        add(digest, plain.as_bytes());
        let mut text = BytesMut::new();
        put(&mut text, self.format, plain.as_bytes());
        Head { text, length: plain.len() }
    }

    /// The line of a point; what it tells is added to `digest`.
    pub fn line(
        &mut self,
        head: &Head,
        point: &'a DataPoint,
        digest: &mut Sha256,
    ) -> Result<Line, StorageError> {
        let damaged = |error: serde_json::Error| StorageError::Damaged(error.to_string());
        let format = self.format;
        if self.room.capacity() < ROOM / 32 {
            self.room = BytesMut::with_capacity(ROOM);
        }
        let mut length = head.length;
        self.room.extend_from_slice(&head.text);
        let mut add_piece = |room: &mut BytesMut, piece: &[u8]| {
            length += piece.len();
            put(room, format, piece);
        };
        let unit = match self.unit.take() {
            Some((unit, json)) if Arc::ptr_eq(unit, &point.unit) => json,
            _ => serde_json::to_string(&*point.unit).map_err(damaged)?,
        };
        add(digest, unit.as_bytes());
        add_piece(&mut self.room, unit.as_bytes());
        add_piece(&mut self.room, br#","description":null,"qty":"#);
        // Numbers have nothing to escape.
        let mut number = |room: &mut BytesMut, number: &Decimal| {
            let begin = room.len();
            write!(room, "{number}").map_err(|error| StorageError::Damaged(error.to_string()))?;
            add(digest, &room[begin..]);
            Ok::<_, StorageError>(room.len() - begin)
        };
        let qty = number(&mut self.room, &point.qty)?;
        add_piece(&mut self.room, br#","price":"#);
        let price = number(&mut self.room, &point.price)?;
        add_piece(&mut self.room, br#","groupby":"#);
        let groupby = self.labels(&point.groupby, digest).map_err(damaged)?;
        let middle = br#","metadata":"#;
        put(&mut self.room, format, middle);
        let metadata = self.labels(&point.metadata, digest).map_err(damaged)?;
        self.room.put_u8(b'}');
        self.unit = Some((&point.unit, unit));
        length += qty + price + groupby + middle.len() + metadata + 1;
        Ok(Line { text: self.room.split().freeze(), length })
    }

    /// Structured metadata of a point, as the reference gives it.
    pub fn metadata(&mut self, frame_type: &Arc<str>, point: &'a DataPoint) -> Metadata {
        if Arc::strong_count(&point.groupby) == 1 {
            return structured_metadata(frame_type, point).into();
        }
        let at = (Arc::as_ptr(&point.groupby).addr(), point.unit.as_ptr().addr());
        match self.metadata.get(&at) {
            // Of the same labels and another type there is hardly ever one.
            Some(known)
                if known.iter().any(|(name, value)| *name == "type" && value == frame_type) =>
            {
                known.clone()
            }
            _ => {
                let new: Metadata = structured_metadata(frame_type, point).into();
                self.metadata.insert(at, new.clone());
                new
            }
        }
    }

    /// Adds the JSON of labels, and gives its length.
    fn labels(
        &mut self,
        labels: &'a Arc<Labels>,
        digest: &mut Sha256,
    ) -> Result<usize, serde_json::Error> {
        let alone;
        let labelled = if Arc::strong_count(labels) == 1 {
            alone = Labelled::of(labels, self.format)?;
            &alone
        } else {
            match self.known.entry(Arc::as_ptr(labels).addr()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(Labelled::of(labels, self.format)?),
            }
        };
        self.room.extend_from_slice(&labelled.text);
        digest.update(labelled.digest);
        Ok(labelled.length)
    }
}

/// Adds a text of any length to a digest.
pub fn add(digest: &mut Sha256, text: &[u8]) {
    digest.update(text.len().to_le_bytes());
    digest.update(text);
}

fn structured_metadata(frame_type: &Arc<str>, point: &DataPoint) -> Vec<(&'static str, Arc<str>)> {
    let mut metadata = vec![("type", frame_type.clone()), ("unit", point.unit.clone())];
    metadata.retain(|(_, value)| !value.is_empty());
    // Python's falsy values are left out.
    let is_something = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(pairs) => !pairs.is_empty(),
    };
    for name in METADATA_LABELS {
        let value = point.groupby.get(name).filter(|value| is_something(value));
        metadata.extend(value.map(|value| (name, python_str(value).into())));
    }
    metadata
}

/// Whether Loki's expressions tell the point's labels as they are: all of them
/// texts, none in both groups, the calendar among them. Other points are read
/// line by line.
pub fn is_even(point: &DataPoint) -> bool {
    let labels = point.groupby.iter().chain(point.metadata.iter());
    let texts = labels
        .clone()
        .all(|(_, value)| value.as_str().is_some_and(|text| !text.contains('\u{fffd}')));
    texts
        && CALENDAR.iter().all(|name| point.groupby.contains_key(*name))
        && !point.groupby.keys().any(|key| point.metadata.contains_key(key))
}

#[derive(Deserialize)]
struct Parsed<'a> {
    start: String,
    end: String,
    #[serde(rename = "type")]
    frame_type: String,
    #[serde(default)]
    unit: Option<String>,
    #[serde(borrow)]
    qty: &'a RawValue,
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(default)]
    groupby: Labels,
    #[serde(default)]
    metadata: Labels,
}

/// The point of a line; `None` for lines that are not JSON objects with these
/// keys, which others may have put into the same streams.
pub fn read(line: &str) -> Option<(Period, String, DataPoint)> {
    let line: Parsed<'_> = serde_json::from_str(line).ok()?;
    let instant = |text: &str| instant(text);
    let number = |raw: &RawValue| -> Option<Decimal> {
        let text = raw.get().trim_matches('"');
        text.parse().ok().or_else(|| Decimal::from_f64(text.parse().ok()?).ok())
    };
    let period = Period { begin: instant(&line.start)?, end: instant(&line.end)? };
    let point = DataPoint {
        // The reference's word for none.
        unit: line.unit.filter(|unit| !unit.is_empty()).map_or("undefined".into(), Into::into),
        qty: number(line.qty)?,
        price: number(line.price)?,
        groupby: line.groupby.into(),
        metadata: line.metadata.into(),
    };
    Some((period, line.frame_type, point))
}

/// A date of a line, in whole seconds.
pub fn instant(text: &str) -> Option<DateTime<chrono::Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|instant| seconds(instant.timestamp()))
}

/// A label of a point, from groupby before metadata, or else from the calendar
/// of its period.
pub fn label(period: Period, point: &DataPoint, name: &str) -> Option<Value> {
    point.label(name).cloned().or_else(|| {
        if !CALENDAR.contains(&name) {
            return None;
        }
        let labels = crate::time::calendar_labels(crate::time::local(period.begin));
        let mut labels = labels.into_iter();
        labels.find(|(known, _)| *known == name).map(|(_, value)| Value::String(value))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    fn point() -> DataPoint {
        let labels = |value: Value| value.as_object().cloned().unwrap_or_default();
        DataPoint {
            unit: "GiB".into(),
            qty: "0.30000000000000004".parse().unwrap(),
            price: "1E-28".parse().unwrap(),
            groupby: labels(json!({"project_id": "p\"1", "user": "", "flavor_name": 5})).into(),
            metadata: labels(json!({"flavor.name": "m1\n😀", "list": [1, null]})).into(),
        }
    }

    /// The line of a point in a format, and its digest.
    fn written(point: &DataPoint, format: PushFormat) -> (Line, [u8; 32]) {
        let period = Period::starting(seconds(1_793_491_200), 3_600);
        let (mut lines, mut digest) = (LineWriter::new(format), Sha256::new());
        let head = lines.head(period, "storage.objects", &mut digest);
        let line = lines.line(&head, point, &mut digest).unwrap();
        (line, digest.finalize().into())
    }

    #[test]
    fn reads_back_what_it_writes() {
        let period = Period::starting(seconds(1_793_491_200), 3_600);
        let (line, digest) = written(&point(), PushFormat::Protobuf);
        let text = std::str::from_utf8(&line.text).unwrap();
        assert_eq!(
            text,
            r#"{"start":"2026-11-01T00:00:00+00:00","end":"2026-11-01T01:00:00+00:00","type":"storage.objects","unit":"GiB","description":null,"qty":0.30000000000000004,"price":1E-28,"groupby":{"project_id":"p\"1","user":"","flavor_name":5},"metadata":{"flavor.name":"m1\n😀","list":[1,null]}}"#
        );
        assert_eq!(line.length, text.len());
        let (read_period, frame_type, read_point) = read(text).unwrap();
        assert_eq!((read_period, frame_type.as_str()), (period, "storage.objects"));
        assert_eq!(read_point, point());
        assert_eq!(read_point.price.to_string(), "1E-28");
        // In JSON it is what serde makes of the same text.
        let (escaped, same) = written(&point(), PushFormat::Json);
        let quoted = format!("\"{}\"", std::str::from_utf8(&escaped.text).unwrap());
        assert_eq!(quoted, serde_json::to_string(text).unwrap());
        assert_eq!((escaped.length, same), (text.len(), digest));
    }

    #[test]
    fn every_difference_makes_another_digest() {
        let digest = |change: &dyn Fn(&mut DataPoint)| {
            let mut point = point();
            change(&mut point);
            // Shared labels, and others, make the same one.
            let copy = point.clone();
            let shared = written(&point, PushFormat::Json).1;
            drop(copy);
            assert_eq!(written(&point, PushFormat::Json).1, shared);
            shared
        };
        let label = |labels: &mut Arc<Labels>, value: Value| {
            Arc::make_mut(labels).insert("project_id".to_owned(), value);
        };
        let digests: HashSet<_> = [
            digest(&|_| {}),
            digest(&|point| point.unit = "MiB".into()),
            digest(&|point| point.qty = "0.3000000000000000".parse().unwrap()),
            digest(&|point| point.price = "1E-27".parse().unwrap()),
            digest(&|point| std::mem::swap(&mut point.qty, &mut point.price)),
            digest(&|point| label(&mut point.groupby, json!("p"))),
            digest(&|point| label(&mut point.metadata, json!("p"))),
            digest(&|point| std::mem::swap(&mut point.groupby, &mut point.metadata)),
        ]
        .into();
        assert_eq!(digests.len(), 8);
    }

    #[test]
    fn gives_structured_metadata_without_empty_values() {
        let metadata = structured_metadata(&"cpu".into(), &point());
        let pairs: Vec<_> = metadata.iter().map(|(name, value)| (*name, &**value)).collect();
        assert_eq!(pairs, [("type", "cpu"), ("unit", "GiB"), ("flavor_name", "5")]);
    }

    #[test]
    fn passes_over_what_is_no_point() {
        for line in ["", "not json at all", "{}", r#"{"start": "x", "end": "y"}"#, "[]", "5"] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
