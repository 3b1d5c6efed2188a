//! Log lines: data points as the reference writes them, and back.
//!
//! A line is a JSON object with the keys `start`, `end`, `type`, `unit`,
//! `description`, `qty`, `price`, `groupby` and `metadata`. Numbers are written
//! with all their digits. The same point always makes the same bytes.

use std::{
    collections::{HashMap, hash_map::Entry},
    io::Write,
    marker::PhantomData,
    sync::Arc,
};

use chrono::DateTime;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    dataframe::{DataPoint, Labels, python_str},
    decimal::Decimal,
    storage::StorageError,
    time::{CALENDAR, Period, seconds},
};

/// Labels of groupby that the reference gives to entries as structured
/// metadata, besides type and unit.
const METADATA_LABELS: [&str; 2] = ["user", "flavor_name"];

/// What points of one series share: the JSON of labels, by where they are, while all of
/// them are borrowed.
#[derive(Default)]
pub struct LabelTexts<'a>(HashMap<usize, Vec<u8>>, PhantomData<&'a Labels>);

impl<'a> LabelTexts<'a> {
    fn of(&mut self, labels: &'a Arc<Labels>, line: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        if Arc::strong_count(labels) == 1 {
            return serde_json::to_writer(line, labels);
        }
        let text = match self.0.entry(Arc::as_ptr(labels).addr()) {
            Entry::Occupied(text) => text.into_mut(),
            Entry::Vacant(place) => place.insert(serde_json::to_vec(labels)?),
        };
        line.extend_from_slice(text);
        Ok(())
    }
}

/// Writes lines of points of one period and type, which begin alike.
pub struct LineWriter {
    begin: Vec<u8>,
}

impl LineWriter {
    /// For points of a period and type.
    pub fn new(period: Period, frame_type: &str) -> Self {
        let date = "%Y-%m-%dT%H:%M:%S+00:00";
        let (begin, end) = (period.begin.format(date), period.end.format(date));
        let frame_type = Value::from(frame_type);
        let begin = format!(r#"{{"start":"{begin}","end":"{end}","type":{frame_type},"unit":"#);
        Self { begin: begin.into_bytes() }
    }

    /// The line of a point.
    pub fn line<'a>(
        &self,
        point: &'a DataPoint,
        texts: &mut LabelTexts<'a>,
    ) -> Result<String, StorageError> {
        let damaged = |error: serde_json::Error| StorageError::Damaged(error.to_string());
        let mut line = Vec::with_capacity(512);
        line.extend_from_slice(&self.begin);
        serde_json::to_writer(&mut line, &*point.unit).map_err(damaged)?;
        let numbers = write!(
            line,
            r#","description":null,"qty":{},"price":{},"groupby":"#,
            point.qty, point.price
        );
        numbers.map_err(|error| StorageError::Damaged(error.to_string()))?;
        texts.of(&point.groupby, &mut line).map_err(damaged)?;
        line.extend_from_slice(br#","metadata":"#);
        texts.of(&point.metadata, &mut line).map_err(damaged)?;
        line.push(b'}');
        String::from_utf8(line).map_err(|error| StorageError::Damaged(error.to_string()))
    }
}

/// Structured metadata of a point, as the reference gives it.
pub fn structured_metadata(frame_type: &str, point: &DataPoint) -> Vec<(&'static str, String)> {
    let mut metadata = vec![("type", frame_type.to_owned()), ("unit", point.unit.to_string())];
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
        metadata.extend(value.map(|value| (name, python_str(value))));
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
struct Line<'a> {
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
    let line: Line<'_> = serde_json::from_str(line).ok()?;
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

    #[test]
    fn reads_back_what_it_writes() {
        let period = Period::starting(seconds(1_793_491_200), 3_600);
        let line = LineWriter::new(period, "storage.objects")
            .line(&point(), &mut LabelTexts::default())
            .unwrap();
        assert_eq!(
            line,
            r#"{"start":"2026-11-01T00:00:00+00:00","end":"2026-11-01T01:00:00+00:00","type":"storage.objects","unit":"GiB","description":null,"qty":0.30000000000000004,"price":1E-28,"groupby":{"project_id":"p\"1","user":"","flavor_name":5},"metadata":{"flavor.name":"m1\n😀","list":[1,null]}}"#
        );
        let (read_period, frame_type, read_point) = read(&line).unwrap();
        assert_eq!((read_period, frame_type.as_str()), (period, "storage.objects"));
        assert_eq!(read_point, point());
        assert_eq!(read_point.price.to_string(), "1E-28");
    }

    #[test]
    fn gives_structured_metadata_without_empty_values() {
        let metadata = structured_metadata("cpu", &point());
        let pairs: Vec<_> = metadata.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(pairs, [("type", "cpu"), ("unit", "GiB"), ("flavor_name", "5")]);
    }

    #[test]
    fn passes_over_what_is_no_point() {
        for line in ["", "not json at all", "{}", r#"{"start": "x", "end": "y"}"#, "[]", "5"] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
