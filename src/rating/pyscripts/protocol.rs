//! What is said to a worker and what it tells.
//!
//! A request is a mark of 16 bytes, which nobody can know before, the lengths of
//! two JSON texts in four bytes each, big end first, and the texts: the scripts,
//! and the dataframe. What is told of it begins with its mark: what a worker
//! tells without it, no matter who wrote it, is not taken. [`Told`] follows as a
//! letter, a length in four bytes and as many bytes.
//!
//! A point goes as `[unit, quantity, price, groupby, metadata]`, numbers as text.
//! It comes back as `[quantity, price]` if nothing else of it changed, and with
//! all five parts, numbers first, if something did.

use std::{collections::HashSet, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ScriptError;
use crate::{
    dataframe::{DataFrame, DataPoint, Labels},
    decimal::Decimal,
    state::scripts::ScriptRow,
    time::local,
};

/// What a request and all that is told of it have in common.
pub(super) type Mark = [u8; 16];

/// Bytes before the body of what is told.
pub(super) const HEAD: usize = 21;

/// What a worker tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// A script begins: its place in the list, in four bytes.
    Begins,
    /// The answer.
    Answer,
    /// The process of the scripts ended without an answer: how.
    Ended,
}

/// What is told of the request with this mark, and the length of its body.
pub(super) fn read_head(head: [u8; HEAD], mark: Mark) -> Option<(Told, usize)> {
    let body = head.strip_prefix(&mark)?;
    let (kind, length) = body.split_first()?;
    let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
    match kind {
        b's' if length == 4 => Some((Told::Begins, length)),
        b'a' => Some((Told::Answer, length)),
        b'e' if length < 100 => Some((Told::Ended, length)),
        _ => None,
    }
}

/// The names of scripts, as an error has them between two backticks.
pub(super) fn names(scripts: &[ScriptRow]) -> String {
    let names: Vec<_> = scripts.iter().map(|script| script.audit.name.as_str()).collect();
    names.join("`, `")
}

#[derive(Serialize)]
struct Script<'a> {
    name: &'a str,
    checksum: &'a str,
    /// The text in base64; left out if the worker has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

type Given<'a> = (&'a str, String, String, &'a Labels, &'a Labels);

/// A dataframe, but for the points.
#[derive(Serialize)]
struct Period {
    begin: i64,
    end: i64,
    /// Seconds by which the local zone is ahead of UTC, at both.
    begin_offset: i32,
    end_offset: i32,
    /// Whether all labels are texts, which cannot be changed in place.
    is_flat: bool,
}

/// The request to run scripts over a frame. `known` are the scripts that the
/// worker has; from then on those of this request.
pub(super) fn request(
    mark: Mark,
    scripts: &[ScriptRow],
    frame: &DataFrame,
    known: &mut HashSet<(String, String)>,
) -> Result<Vec<u8>, ScriptError> {
    let bad = |error: serde_json::Error| ScriptError::Request(error.to_string());
    let key = |script: &ScriptRow| (script.audit.name.clone(), script.checksum.clone());
    let told: Vec<_> = scripts
        .iter()
        .map(|script| {
            let is_new = !known.contains(&key(script));
            let data = is_new.then(|| STANDARD.encode(&script.data));
            Script { name: &script.audit.name, checksum: &script.checksum, data }
        })
        .collect();
    let told = serde_json::to_vec(&told).map_err(bad)?;
    *known = scripts.iter().map(key).collect();
    // Written by hand around the points, so that labels are not copied.
    let mut text = Vec::with_capacity(256 * frame.len() + told.len() + 1024);
    text.extend(mark);
    text.extend(length(told.len())?);
    text.extend([0; 4]);
    text.extend(told);
    let begin = text.len();
    text.extend(b"{\"usage\":{");
    for (at, (frame_type, points)) in frame.usage.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, frame_type).map_err(bad)?;
        text.extend(b":[");
        for (at, point) in points.iter().enumerate() {
            if at > 0 {
                text.push(b',');
            }
            let given: Given<'_> = (
                &point.unit,
                point.qty.to_string(),
                point.price.to_string(),
                &point.groupby,
                &point.metadata,
            );
            serde_json::to_writer(&mut text, &given).map_err(bad)?;
        }
        text.push(b']');
    }
    text.extend(b"},");
    let offset = |instant| local(instant).offset().local_minus_utc();
    let is_flat = |point: &DataPoint| {
        point.groupby.values().chain(point.metadata.values()).all(Value::is_string)
    };
    let rest = Period {
        begin: frame.period.begin.timestamp(),
        end: frame.period.end.timestamp(),
        begin_offset: offset(frame.period.begin),
        end_offset: offset(frame.period.end),
        is_flat: frame.usage.iter().flat_map(|(_, points)| points).all(is_flat),
    };
    let mut end = serde_json::to_vec(&rest).map_err(bad)?;
    end.remove(0);
    text.extend(end);
    let length = length(text.len() - begin)?;
    text[20..24].copy_from_slice(&length);
    Ok(text)
}

fn length(bytes: usize) -> Result<[u8; 4], ScriptError> {
    let bytes = u32::try_from(bytes);
    let bytes = bytes.map_err(|_| ScriptError::Request("it has 4 GiB".to_owned()))?;
    Ok(bytes.to_be_bytes())
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    failed: Option<String>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    printed: Vec<String>,
    #[serde(default)]
    usage: Option<serde_json::Map<String, Value>>,
    /// The points that the last script left behind.
    #[serde(default)]
    count: usize,
}

/// What a worker answered.
pub(super) struct Answered {
    /// The frame with prices.
    pub frame: Result<DataFrame, ScriptError>,
    /// The beginning of what scripts printed.
    pub printed: String,
}

/// Reads an answer of `scripts` about `given`.
pub(super) fn read_answer(
    text: &[u8],
    scripts: &[ScriptRow],
    given: &DataFrame,
) -> Result<Answered, ScriptError> {
    let bad = |problem: String| ScriptError::Answer { script: names(scripts), problem };
    let answer: Answer = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
    let printed = answer.printed.concat();
    let frame = match (answer.failed, answer.usage) {
        (Some(name), _) => Err(ScriptError::Failed { name, error: answer.error }),
        (None, Some(usage)) => read_usage(usage, given).map_err(bad).and_then(|frame| {
            match frame.len() == answer.count {
                true => Ok(frame),
                false => Err(bad(format!("{} points, where it has {}", frame.len(), answer.count))),
            }
        }),
        (None, None) => Err(bad("there is no usage".to_owned())),
    };
    Ok(Answered { frame, printed })
}

fn read_usage(
    usage: serde_json::Map<String, Value>,
    given: &DataFrame,
) -> Result<DataFrame, String> {
    let mut frame = DataFrame::new(given.period);
    for (frame_type, points) in usage {
        let before = given.usage.iter().find(|(known, _)| *known == frame_type);
        let before = before.map_or(&[][..], |(_, points)| points.as_slice());
        let Value::Array(points) = points else {
            return Err(format!("`{frame_type}` is no list"));
        };
        let points = points.into_iter().enumerate().map(|(at, point)| {
            read_point(point, before.get(at))
                .map_err(|problem| format!("data['usage']['{frame_type}'][{at}]: {problem}"))
        });
        let points = points.collect::<Result<Vec<_>, _>>()?;
        frame.add(&frame_type, points);
    }
    Ok(frame)
}

fn read_point(value: Value, before: Option<&DataPoint>) -> Result<DataPoint, String> {
    let Value::Array(parts) = value else { return Err("it is no list".to_owned()) };
    let mut parts = parts.into_iter();
    let mut number = |what: &str| match parts.next() {
        Some(Value::String(text)) => {
            text.parse::<Decimal>().map_err(|error| format!("the {what}: {error}"))
        }
        _ => Err(format!("the {what} is no text")),
    };
    let (qty, price) = (number("quantity")?, number("price")?);
    match parts.next() {
        None => {
            let before = before.ok_or("there was none to take the labels of")?;
            let DataPoint { unit, groupby, metadata, .. } = before.clone();
            Ok(DataPoint { unit, qty, price, groupby, metadata })
        }
        Some(unit) => {
            let unit: Arc<str> = unit.as_str().ok_or("its unit is no text")?.into();
            let mut labels = || match parts.next() {
                Some(Value::Object(labels)) => Ok(labels),
                _ => Err("its labels are no object".to_owned()),
            };
            let (groupby, metadata) = (labels()?.into(), labels()?.into());
            Ok(DataPoint { unit, qty, price, groupby, metadata })
        }
    }
}
