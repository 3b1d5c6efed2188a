//! JSON bodies of v2 requests: read, checked and told wrong as the reference
//! does.

use axum::http::{HeaderMap, header};
use serde_json::{Map, Value};

use super::error::ApiError;
use crate::{dataframe::python_str, text::python_repr};

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
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A whole number.
    Int,
    /// A boolean, or what is taken for one.
    Bool,
}

/// A key that a body may have.
pub(super) type Spec = (&'static str, Kind);

/// A body that is an object with known keys, none of which is needed.
pub(super) struct Object(Map<String, Value>);

impl Object {
    /// Checks a body.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of the keys.
    pub fn check(body: Value, specs: &[Spec]) -> Result<Self, ApiError> {
        let told = python_str(&body);
        let Value::Object(object) = body else {
            return Err(invalid(&told, "expected a dictionary", ""));
        };
        for (key, value) in &object {
            let problem = match specs.iter().find(|(known, _)| known == key) {
                None => Some("extra keys not allowed"),
                Some((_, Kind::Int)) if int(value).is_none() => Some("expected int"),
                Some((_, Kind::Bool)) if boolean(value).is_none() => Some("expected boolean"),
                Some(_) => None,
            };
            if let Some(problem) = problem {
                return Err(invalid(&told, problem, &python_repr(key)));
            }
        }
        Ok(Self(object))
    }

    /// A whole number, as Python has them: of any size.
    pub fn int(&self, key: &str) -> Option<i128> {
        self.0.get(key).and_then(int)
    }

    /// A boolean.
    pub fn boolean(&self, key: &str) -> Option<bool> {
        self.0.get(key).and_then(boolean)
    }

    /// The error that tells what is wrong with a key.
    pub fn invalid(&self, key: &str, problem: &str) -> ApiError {
        invalid(&python_str(&Value::Object(self.0.clone())), problem, &python_repr(key))
    }
}

fn invalid(body: &str, problem: &str, path: &str) -> ApiError {
    ApiError::BadRequest(format!("Invalid data '{body}' : {problem} (path: '[{path}]')"))
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
