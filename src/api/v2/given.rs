//! Dataframes as clients push them, in the form in which they are read.
//!
//! What is wrong in a frame is told by its place, as the reference does. Beyond
//! that, what nobody can pay is refused: quantities and prices that are no finite
//! numbers, and periods that end before they begin.

use serde_json::{Map, Value};

use crate::{
    api::{
        body::{invalid, number},
        dates,
        error::ApiError,
    },
    dataframe::{DataFrame, DataPoint, Labels, python_str},
    decimal::Decimal,
    time::Period,
};

/// Unit of a point that has none.
const NO_UNIT: &str = "undefined";

/// Reads the body of a push.
///
/// # Errors
/// What is no list of frames, and the first frame that is not as it should be.
pub(super) fn frames(body: &Value) -> Result<Vec<DataFrame>, ApiError> {
    let wrong = |problem: &str, path: &str| invalid(&python_str(body), problem, path);
    let Value::Object(object) = body else { return Err(wrong("expected a dictionary", "")) };
    if let Some(key) = object.keys().find(|key| *key != "dataframes") {
        return Err(wrong("extra keys not allowed", &crate::text::python_repr(key)));
    }
    let list = match object.get("dataframes") {
        Some(Value::Array(list)) => list,
        Some(_) => return Err(wrong("expected a list", "'dataframes'")),
        None => return Err(wrong("required key not provided", "'dataframes'")),
    };
    let mut frames = Vec::with_capacity(list.len());
    for (at, given) in list.iter().enumerate() {
        let place = || wrong("not a valid value", &format!("'dataframes', {at}"));
        frames.push(frame(given).ok_or_else(place)?);
    }
    Ok(frames)
}

/// An object that has these keys alone, of which the first `needed` must be there.
fn object<'a>(value: &'a Value, keys: &[&str], needed: usize) -> Option<&'a Map<String, Value>> {
    let object = value.as_object()?;
    let is_known = object.keys().all(|key| keys.contains(&key.as_str()));
    let is_whole = keys[..needed].iter().all(|key| object.contains_key(*key));
    (is_known && is_whole).then_some(object)
}

fn frame(given: &Value) -> Option<DataFrame> {
    let frame = object(given, &["period", "usage"], 2)?;
    let period = object(&frame["period"], &["begin", "end"], 2)?;
    let begin = dates::parse(period["begin"].as_str()?)?;
    let end = dates::parse(period["end"].as_str()?)?;
    if end <= begin {
        return None;
    }
    let mut read = DataFrame::new(Period { begin, end });
    for (frame_type, points) in frame["usage"].as_object()? {
        let points: Option<Vec<DataPoint>> = points.as_array()?.iter().map(point).collect();
        read.add(frame_type, points?);
    }
    Some(read)
}

fn point(given: &Value) -> Option<DataPoint> {
    let point = object(given, &["vol", "groupby", "metadata", "rating"], 3)?;
    let vol = object(&point["vol"], &["unit", "qty"], 2)?;
    let unit = vol["unit"].as_str()?;
    let price = match point.get("rating") {
        Some(rating) => object(rating, &["price"], 0)?.get("price"),
        None => None,
    };
    Some(DataPoint {
        unit: if unit.is_empty() { NO_UNIT } else { unit }.into(),
        qty: finite(&vol["qty"])?,
        price: price.map_or(Some(Decimal::zero()), finite)?,
        groupby: labels(&point["groupby"])?.into(),
        metadata: labels(&point["metadata"])?.into(),
    })
}

/// A number that sums can be made of.
fn finite(value: &Value) -> Option<Decimal> {
    number(value).filter(|number| number.to_f64().is_finite())
}

/// Labels: an object, or pairs, as Python's `dict` takes them.
fn labels(value: &Value) -> Option<Labels> {
    match value {
        Value::Object(labels) => Some(labels.clone()),
        Value::String(text) => text.is_empty().then(Labels::new),
        Value::Array(pairs) => {
            let pair = |pair: &Value| match pair.as_array().map(Vec::as_slice) {
                Some([Value::String(name), value]) => Some((name.clone(), value.clone())),
                _ => None,
            };
            pairs.iter().map(pair).collect()
        }
        _ => None,
    }
}
