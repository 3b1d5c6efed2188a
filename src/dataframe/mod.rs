//! Dataframes: what is collected, rated and stored. Pure data.
//!
//! A [`DataPoint`] is the use of one thing during one period; a [`DataFrame`]
//! holds the points of one period by type, as the reference's classes of these
//! names. `docs/ARCHITECTURE.md` follows one through the program.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{decimal::Decimal, time::Period};

/// Names and values by which a point is told from others. Values are text when
/// collected; whatever was pushed over the API stays as it was.
pub type Labels = Map<String, Value>;

/// The use of one thing during one period, and its price.
#[derive(Debug, Clone, PartialEq)]
pub struct DataPoint {
    /// Unit of the quantity.
    pub unit: Arc<str>,
    /// How much was used, in units.
    pub qty: Decimal,
    /// What it costs, in the operator's currency; 0 before rating.
    pub price: Decimal,
    /// Labels that make the point what it is, the scope among them. The points of a
    /// series share them, and what is made of them.
    pub groupby: Arc<Labels>,
    /// Further labels.
    pub metadata: Arc<Labels>,
}

impl DataPoint {
    /// A point without a price.
    pub fn new(
        unit: Arc<str>,
        qty: Decimal,
        groupby: impl Into<Arc<Labels>>,
        metadata: impl Into<Arc<Labels>>,
    ) -> Self {
        let (groupby, metadata) = (groupby.into(), metadata.into());
        Self { unit, qty, price: Decimal::zero(), groupby, metadata }
    }

    /// The label that rating rules and filters mean by this name: that of
    /// `groupby` before that of `metadata`.
    pub fn label(&self, name: &str) -> Option<&Value> {
        self.groupby.get(name).or_else(|| self.metadata.get(name))
    }
}

/// The points of one period, by type.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFrame {
    /// The period of all points.
    pub period: Period,
    /// Points by type. Types are in order and have at least one point.
    pub usage: Vec<(String, Vec<DataPoint>)>,
}

impl DataFrame {
    /// A frame without points.
    pub fn new(period: Period) -> Self {
        Self { period, usage: Vec::new() }
    }

    /// Adds points of a type, behind those that are there.
    pub fn add(&mut self, frame_type: &str, points: impl IntoIterator<Item = DataPoint>) {
        let mut points = points.into_iter().peekable();
        if points.peek().is_none() {
            return;
        }
        match self.usage.binary_search_by(|(known, _)| known.as_str().cmp(frame_type)) {
            Ok(at) => self.usage[at].1.extend(points),
            Err(at) => self.usage.insert(at, (frame_type.to_owned(), points.collect())),
        }
    }

    /// How many points there are.
    pub fn len(&self) -> usize {
        self.usage.iter().map(|(_, points)| points.len()).sum()
    }

    /// Whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.usage.is_empty()
    }

    /// Drops points, and types that have none left.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &DataPoint) -> bool) {
        for (frame_type, points) in &mut self.usage {
            points.retain(|point| keep(frame_type, point));
        }
        self.usage.retain(|(_, points)| !points.is_empty());
    }
}

/// A label's value as the text that Python's `str()` makes of it, which is
/// what the reference compares rule values with.
pub fn python_str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => python_repr(other),
    }
}

fn python_repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => python_float(float),
            _ => number.to_string(),
        },
        Value::String(text) => crate::text::python_repr(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(python_repr).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(pairs) => {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(key, value)| {
                    format!("{}: {}", crate::text::python_repr(key), python_repr(value))
                })
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

/// Python's `repr` of a float: exponents from 1e16 on and below 1e-4.
pub fn python_float(value: f64) -> String {
    if !value.is_finite() {
        return match value {
            value if value.is_nan() => "nan",
            value if value > 0.0 => "inf",
            _ => "-inf",
        }
        .to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) => {
                let (sign, exponent) = match exponent.strip_prefix('-') {
                    Some(exponent) => ('-', exponent),
                    None => ('+', exponent),
                };
                format!("{digits}e{sign}{exponent:0>2}")
            }
            None => text,
        };
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn writes_floats_as_python_does() {
        let cases = [
            (1.0, "1.0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e16, "1e+16"),
            (1.8e16, "1.8e+16"),
            (1e15, "1000000000000000.0"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (-0.0, "-0.0"),
            (1e-10, "1e-10"),
            (1e300, "1e+300"),
        ];
        for (value, text) in cases {
            assert_eq!(python_float(value), text);
        }
    }

    #[test]
    fn writes_labels_as_python_does() {
        let value = json!([1, 1.0, true, null, "it's", {"a": "b"}]);
        assert_eq!(python_str(&value), r#"[1, 1.0, True, None, "it's", {'a': 'b'}]"#);
        assert_eq!(python_str(&json!("plain")), "plain");
    }
}
