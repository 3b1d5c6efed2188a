//! What is said to a worker and what it answers: JSON texts, each after its
//! length in four bytes, big end first.
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

#[derive(Serialize)]
struct Script<'a> {
    name: &'a str,
    checksum: &'a str,
    /// The text in base64; left out if the worker has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

type Given<'a> = (&'a str, String, String, &'a Labels, &'a Labels);

/// A request, but for the points.
#[derive(Serialize)]
struct Request<'a> {
    begin: i64,
    end: i64,
    /// Seconds by which the local zone is ahead of UTC.
    offset: i32,
    scripts: Vec<Script<'a>>,
}

/// The request to run scripts over a frame. `known` are the scripts that the
/// worker has; those that are new to it are added.
pub(super) fn request(
    scripts: &[ScriptRow],
    frame: &DataFrame,
    known: &mut HashSet<(String, String)>,
) -> Result<Vec<u8>, ScriptError> {
    let bad = |error: serde_json::Error| ScriptError::Answer(error.to_string());
    let scripts: Vec<_> = scripts
        .iter()
        .map(|script| {
            let is_new = known.insert((script.audit.name.clone(), script.checksum.clone()));
            let data = is_new.then(|| STANDARD.encode(&script.data));
            Script { name: &script.audit.name, checksum: &script.checksum, data }
        })
        .collect();
    // Written by hand around the points, so that labels are not copied.
    let mut text = Vec::with_capacity(256 * frame.len() + 1024);
    text.extend([0; 4]);
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
    let rest = Request {
        begin: frame.period.begin.timestamp(),
        end: frame.period.end.timestamp(),
        offset: local(frame.period.begin).offset().local_minus_utc(),
        scripts,
    };
    let mut end = serde_json::to_vec(&rest).map_err(bad)?;
    end.remove(0);
    text.extend(end);
    let length = u32::try_from(text.len() - 4)
        .map_err(|_| ScriptError::Answer("a dataframe of 4 GiB".to_owned()))?;
    text[..4].copy_from_slice(&length.to_be_bytes());
    Ok(text)
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
}

/// What a worker answered.
pub(super) struct Answered {
    /// The frame with prices.
    pub frame: Result<DataFrame, ScriptError>,
    /// The beginning of what scripts printed.
    pub printed: String,
}

/// Reads an answer about `given`.
pub(super) fn read_answer(text: &[u8], given: &DataFrame) -> Result<Answered, ScriptError> {
    let answer: Answer =
        serde_json::from_slice(text).map_err(|error| ScriptError::Answer(error.to_string()))?;
    let printed = answer.printed.concat();
    let frame = match (answer.failed, answer.usage) {
        (Some(name), _) => Err(ScriptError::Failed { name, error: answer.error }),
        (None, Some(usage)) => read_usage(usage, given),
        (None, None) => Err(ScriptError::Answer("there is no usage".to_owned())),
    };
    Ok(Answered { frame, printed })
}

fn read_usage(
    usage: serde_json::Map<String, Value>,
    given: &DataFrame,
) -> Result<DataFrame, ScriptError> {
    let mut frame = DataFrame::new(given.period);
    for (frame_type, points) in usage {
        let before = given.usage.iter().find(|(known, _)| *known == frame_type);
        let before = before.map_or(&[][..], |(_, points)| points.as_slice());
        let Value::Array(points) = points else {
            return Err(ScriptError::Answer(format!("`{frame_type}` is no list")));
        };
        let points = points.into_iter().enumerate().map(|(at, point)| {
            read_point(point, before.get(at))
                .ok_or_else(|| ScriptError::Answer(format!("point {at} of `{frame_type}`")))
        });
        let points = points.collect::<Result<Vec<_>, _>>()?;
        frame.add(&frame_type, points);
    }
    Ok(frame)
}

fn read_point(value: Value, before: Option<&DataPoint>) -> Option<DataPoint> {
    let Value::Array(parts) = value else { return None };
    let mut parts = parts.into_iter();
    let mut number = || parts.next()?.as_str()?.parse::<Decimal>().ok();
    let (qty, price) = (number()?, number()?);
    let labels = |part: Option<Value>| match part {
        Some(Value::Object(labels)) => Some(labels),
        _ => None,
    };
    match parts.next() {
        None => {
            let DataPoint { unit, groupby, metadata, .. } = before?.clone();
            Some(DataPoint { unit, qty, price, groupby, metadata })
        }
        Some(unit) => {
            let unit: Arc<str> = unit.as_str()?.into();
            let (groupby, metadata) = (labels(parts.next())?, labels(parts.next())?);
            Some(DataPoint { unit, qty, price, groupby, metadata })
        }
    }
}
