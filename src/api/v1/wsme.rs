//! Arguments and errors of version 1, told in the words of the reference's
//! library WSME.
//!
//! Checks come in its order: unknown arguments of the query, type of the body,
//! unknown keys, missing keys, and only then values, key by key.

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use tracing::error;

use crate::{
    api::query::names,
    dataframe::python_str,
    state::StateError,
    text::{python_repr, without_digit_separators},
};

/// Why a request of version 1 has no proper answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The client's mistake, told to it.
    #[error("{1}")]
    Client(StatusCode, String),
    /// The state database cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Fault {
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::Client(StatusCode::BAD_REQUEST, text.into())
    }

    /// What is wrong with an argument or one of its keys.
    pub fn invalid(field: &str, value: &str, problem: &str) -> Self {
        Self::bad_request(format!(
            "Invalid input for field/attribute {field}. Value: '{value}'. {problem}"
        ))
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let (status, code, text) = match self {
            Self::Client(status, text) => (status, "Client", text),
            Self::State(problem) => {
                // Logged once, here; what is wrong inside is not the client's to know.
                error!(error = %problem, "A request failed: {problem}");
                let text = "The service is temporarily unavailable.".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, "Server", text)
            }
        };
        let body = json!({"faultcode": code, "faultstring": text, "debuginfo": null});
        let mut response = answer(status, &body);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, 5.into());
        }
        response
    }
}

/// An answer in JSON.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// Refuses every argument of a query.
///
/// # Errors
/// Names that are there.
pub(super) fn no_arguments(query: Option<&str>) -> Result<(), Fault> {
    let names = names(query);
    match names.is_empty() {
        true => Ok(()),
        false => Err(Fault::bad_request(format!("Unknown argument: \"{}\"", names.join(", ")))),
    }
}

/// What a key of a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bool,
    Int,
}

/// A key: its name, what it holds, whether it must be there.
pub(super) type Attribute = (&'static str, Kind, bool);

/// Reads the body of a request, which is the argument `argument`: values come
/// back as text, boolean or number; what is null is left out.
///
/// # Errors
/// [`Fault::Client`]
pub(super) fn body(
    argument: &str,
    headers: &HeaderMap,
    bytes: &[u8],
    attributes: &[Attribute],
) -> Result<Map<String, Value>, Fault> {
    let missing = || Fault::bad_request(format!("Missing argument: \"{argument}\""));
    if bytes.is_empty() {
        return Err(missing());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if kind != "application/json" {
        let text = format!("Unknown mimetype: {kind}");
        return Err(Fault::Client(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let given: Value = serde_json::from_slice(bytes)
        .map_err(|_| Fault::bad_request("Request is not in valid JSON format"))?;
    let told = python_str(&given);
    let given = match given {
        Value::Object(given) => given,
        Value::Null => return Err(missing()),
        // The reference fails on these.
        _ => return Err(Fault::invalid(argument, &told, "It must be an object")),
    };
    let unknown: Vec<&str> = given
        .keys()
        .map(String::as_str)
        .filter(|key| !attributes.iter().any(|(name, ..)| name == key))
        .collect();
    if !unknown.is_empty() {
        let word = if unknown.len() == 1 { "attribute" } else { "attributes" };
        let names = unknown.join(", ");
        return Err(Fault::bad_request(format!("Unknown {word} for argument {argument}: {names}")));
    }
    if let Some((name, ..)) =
        attributes.iter().find(|(name, _, needed)| *needed && !given.contains_key(*name))
    {
        return Err(Fault::invalid(name, "None", "Mandatory field missing."));
    }
    let mut read = Map::new();
    for (name, kind, _) in attributes {
        let value = match given.get(*name) {
            None | Some(Value::Null) if *kind == Kind::Text => continue,
            None => continue,
            Some(value) => value,
        };
        let problem = match kind {
            Kind::Text if value.is_string() => Ok(value.clone()),
            Kind::Text => {
                let text = python_str(value);
                let kind = python_type(value);
                let problem =
                    format!("Wrong type. Expected '<class 'str'>', got '<class '{kind}'>'");
                return Err(Fault::invalid(name, &text, &problem));
            }
            Kind::Bool => boolean(value).map(Value::Bool),
            Kind::Int => int(value).map(Value::from),
        };
        match problem {
            Ok(value) => read.insert((*name).to_owned(), value),
            Err(problem) => return Err(Fault::invalid(argument, &told, &problem)),
        };
    }
    Ok(read)
}

fn python_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::Number(number) if !number.is_f64() => Ok(number.as_i64() != Some(0)),
        Value::String(text) if matches!(text.as_str(), "t" | "true" | "yes" | "y" | "on" | "1") => {
            Ok(true)
        }
        Value::String(text)
            if matches!(text.as_str(), "f" | "false" | "no" | "n" | "off" | "0") =>
        {
            Ok(false)
        }
        other => Err(format!("Value not an unambiguous boolean: {}", python_str(other))),
    }
}

/// A number as Python's `int()` makes it of text and fractions, of 32 bits.
fn int(value: &Value) -> Result<i32, String> {
    let whole: Option<i64> = match value {
        Value::Bool(value) => Some((*value).into()),
        Value::Number(number) => number.as_i64().or_else(|| {
            let fraction = number.as_f64()?.trunc();
            format!("{fraction:.0}").parse().ok()
        }),
        Value::String(text) => {
            let digits = without_digit_separators(text.trim());
            let parsed = digits.and_then(|digits| digits.parse::<i128>().ok());
            let bad = || format!("invalid literal for int() with base 10: {}", python_repr(text));
            i64::try_from(parsed.ok_or_else(bad)?).ok()
        }
        other => {
            return Err(format!(
                "int() argument must be a string, a bytes-like object or a real number, not '{}'",
                python_type(other)
            ));
        }
    };
    // The reference fails in its database.
    whole
        .and_then(|whole| i32::try_from(whole).ok())
        .ok_or_else(|| "Value must be from -2147483648 to 2147483647".to_owned())
}
