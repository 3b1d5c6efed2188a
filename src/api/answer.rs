//! What answers are made of: the types that serde writes and that the description
//! of the API is derived from.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::time::isoformat;

/// What a handler answers in JSON.
///
/// It is written and described from one type. A `serde_json::Value` tells nothing
/// of what it holds, so it is none; neither is anything else that does not say so.
pub(super) trait Answer: Serialize + JsonSchema {}

/// The text of an answer.
pub(super) fn json(answer: &impl Answer) -> String {
    // What answers are made of has texts for keys, and so can be written.
    serde_json::to_string(answer).unwrap_or_default()
}

/// Null.
impl Answer for () {}

/// An object without keys.
#[derive(Serialize, JsonSchema)]
pub(super) struct Nothing {}

impl Answer for Nothing {}

/// A date and time, with the offset of the server's zone.
#[derive(JsonSchema)]
#[schemars(inline)]
pub(super) struct Instant(
    #[schemars(with = "String", extend("format" = "date-time"))] pub DateTime<Utc>,
);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&isoformat(self.0))
    }
}

/// A date and time without zone.
#[derive(JsonSchema)]
#[schemars(inline)]
pub(super) struct NaiveDate(
    #[schemars(with = "String", regex(pattern = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$"))]
    pub  NaiveDateTime,
);

impl NaiveDate {
    /// In UTC.
    pub fn utc(date: DateTime<Utc>) -> Self {
        Self(date.naive_utc())
    }
}

impl Serialize for NaiveDate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.format("%Y-%m-%dT%H:%M:%S"))
    }
}

/// A number that is written as a text, so that no digit is lost.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct Digits(
    #[schemars(regex(pattern = r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$"))] pub String,
);

impl Answer for Digits {}

/// The value of a label: mostly a text.
#[derive(Serialize, JsonSchema)]
#[schemars(extend("type" = ["string", "number", "boolean", "null", "array", "object"]))]
pub(super) struct Label<'a>(pub &'a Value);

/// Labels by name.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct Labels<'a>(
    #[schemars(with = "BTreeMap<String, Label>")] pub &'a Map<String, Value>,
);
