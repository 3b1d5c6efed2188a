//! Bodies of requests; JSON bodies of v2: read, checked and told wrong as the
//! reference does.

use std::str::FromStr;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{dates, error::ApiError};
use crate::{
    dataframe::python_str,
    decimal::Decimal,
    text::{python_repr, without_digit_separators},
};

/// Largest body of all, in bytes: one with dataframes. Others may have axum's 2 MB.
pub(super) const LARGEST: usize = 64 << 20;

/// A body, as it came.
pub(super) struct Whole(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        // Who says beforehand that it is larger need not send it.
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > LARGEST) {
            return Err(ApiError::TooLarge);
        }
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(problem) if problem.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(ApiError::TooLarge)
            }
            Err(_) => Err(ApiError::BadRequest(
                "The body of the request did not come whole, or not in time.".to_owned(),
            )),
        }
    }
}

/// Reads a body.
///
/// # Errors
/// Another type than JSON, and what is no JSON.
pub(super) fn json(headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    let is_json =
        kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json");
    if !is_json {
        return Err(ApiError::NotJson);
    }
    serde_json::from_slice(body).map_err(|_| {
        ApiError::BadRequest(
            "The browser (or proxy) sent a request that this server could not understand."
                .to_owned(),
        )
    })
}

/// What a key of a body may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A whole number.
    Int,
    /// A boolean, or what is taken for one.
    Bool,
    /// The same, of which null and empty texts are none.
    Switch,
    /// A text, or a list that holds one.
    Text,
    /// Texts: a list, or separated by commas.
    List,
    /// A date; the name is that by which the reference tells it.
    Date(&'static str),
}

/// A key that a body may have: its name, what it holds, whether it must be there.
pub(super) type Spec = (&'static str, Kind, bool);

/// A body that is an object with known keys.
pub(super) struct Object(Map<String, Value>);

impl Object {
    /// Checks a body.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of its keys; then what is
    /// missing, in the order of the known ones.
    pub fn check(body: Value, specs: &[Spec]) -> Result<Self, ApiError> {
        let told = python_str(&body);
        let Value::Object(object) = body else {
            return Err(invalid(&told, "expected a dictionary", ""));
        };
        for (key, value) in &object {
            let problem = match specs.iter().find(|(known, ..)| known == key) {
                None => Some("extra keys not allowed".to_owned()),
                Some((_, kind, _)) => problem(*kind, value),
            };
            if let Some(problem) = problem {
                return Err(invalid(&told, &problem, &python_repr(key)));
            }
        }
        match specs.iter().find(|(known, _, needed)| *needed && !object.contains_key(*known)) {
            Some((known, ..)) => {
                Err(invalid(&told, "required key not provided", &python_repr(known)))
            }
            None => Ok(Self(object)),
        }
    }

    /// Whether a key is there.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A text; a number as Python writes it.
    pub fn text(&self, key: &str) -> Option<String> {
        self.0.get(key).and_then(text)
    }

    /// Texts.
    pub fn list(&self, key: &str) -> Vec<String> {
        self.0.get(key).and_then(list).unwrap_or_default()
    }

    /// A date; without a zone it is UTC.
    pub fn date(&self, key: &str) -> Option<DateTime<Utc>> {
        self.0.get(key).and_then(Value::as_str).and_then(dates::parse)
    }

    /// The error that tells of two keys of which one may be there.
    pub fn exclusive(&self, group: &str) -> ApiError {
        let problem = format!("two or more values in the same group of exclusion '{group}'");
        invalid(&python_str(&Value::Object(self.0.clone())), &problem, &format!("<{group}>"))
    }

    /// A whole number, as Python has them: of any size.
    pub fn int(&self, key: &str) -> Option<i128> {
        self.0.get(key).and_then(int)
    }

    /// A boolean.
    pub fn boolean(&self, key: &str) -> Option<bool> {
        self.0.get(key).and_then(boolean)
    }

    /// A boolean that says something.
    pub fn switch(&self, key: &str) -> Option<bool> {
        self.0.get(key).and_then(switch)
    }

    /// The error that tells what is wrong with a key.
    pub fn invalid(&self, key: &str, problem: &str) -> ApiError {
        invalid(&python_str(&Value::Object(self.0.clone())), problem, &python_repr(key))
    }
}

/// What is wrong with a value.
fn problem(kind: Kind, value: &Value) -> Option<String> {
    let length = || match value {
        Value::Array(items) => items.len(),
        _ => 1,
    };
    let (is_fine, problem) = match kind {
        Kind::Int => (int(value).is_some(), "expected int".to_owned()),
        Kind::Bool => (boolean(value).is_some(), "expected boolean".to_owned()),
        // The reference takes what it does not know for true.
        Kind::Switch => (switch(value).is_some(), "expected bool".to_owned()),
        Kind::Text if length() != 1 => (false, "length of value must be 1".to_owned()),
        Kind::Text => (text(value).is_some(), "expected str".to_owned()),
        Kind::List => (list(value).is_some(), "expected str".to_owned()),
        Kind::Date(name) => {
            let date = value.as_str().and_then(dates::parse);
            (date.is_some(), format!("expected {name}"))
        }
    };
    (!is_fine).then_some(problem)
}

/// A text, or the only item of a list. Null and objects would be told as Python
/// writes them, and are nobody's name.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Array(items) => match items.as_slice() {
            [Value::Array(_)] => None,
            [item] => text(item),
            _ => None,
        },
        Value::String(text) => Some(text.clone()),
        Value::Number(_) => Some(python_str(value)),
        _ => None,
    }
}

fn list(value: &Value) -> Option<Vec<String>> {
    let one = std::slice::from_ref(value);
    let items = value.as_array().map_or(one, Vec::as_slice);
    let mut texts = Vec::new();
    for item in items {
        texts.extend(item.as_str()?.split(',').map(str::to_owned));
    }
    Some(texts)
}

fn switch(value: &Value) -> Option<bool> {
    match value {
        Value::Array(items) => match items.as_slice() {
            [Value::Array(_)] => None,
            [item] => switch(item),
            _ => None,
        },
        Value::Null | Value::Object(_) => None,
        other => boolean(other),
    }
}

/// Longest part of a body that is told back.
const TOLD: usize = 4_096;

pub(super) fn invalid(body: &str, problem: &str, path: &str) -> ApiError {
    let end = body.char_indices().nth(TOLD).map_or(body.len(), |(at, _)| at);
    let more = if end < body.len() { "..." } else { "" };
    let body = format!("{}{more}", &body[..end]);
    ApiError::BadRequest(format!("Invalid data '{body}' : {problem} (path: '[{path}]')"))
}

/// A number with all its digits, in the forms that Python reads. A number that
/// is written as such counts by its digits, not by what a float makes of them.
pub(super) fn number(value: &Value) -> Option<Decimal> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => without_digit_separators(text.trim())?.into_owned(),
        _ => return None,
    };
    Decimal::from_str(&text).ok()
}

/// A number that Python reads as `int`; a boolean is one.
fn int(value: &Value) -> Option<i128> {
    match value {
        Value::Bool(value) => Some(i128::from(*value)),
        Value::Number(number) => {
            number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)).or_else(|| {
                // Beyond 64 bits, but written without fraction: too large for any use.
                let text = number.to_string();
                let digits = text.trim_start_matches('-');
                digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(i128::MAX)
            })
        }
        _ => None,
    }
}

/// What counts as a boolean: some words, and anything else that Python finds
/// true or false.
fn boolean(value: &Value) -> Option<bool> {
    Some(match value {
        Value::Bool(value) => *value,
        Value::Null => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Array(items) => !items.is_empty(),
        Value::Object(pairs) => !pairs.is_empty(),
        Value::String(text) => match text.to_lowercase().as_str() {
            "1" | "true" | "yes" | "on" | "enable" => true,
            "0" | "false" | "no" | "off" | "disable" => false,
            _ => return None,
        },
    })
}
