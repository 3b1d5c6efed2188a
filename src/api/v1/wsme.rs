//! Arguments of version 1, with problems told in the words of the reference's
//! library WSME.
//!
//! An argument may come by the path, the query or the body: that of the body
//! counts before that of the query, and that before the path's. A request whose
//! body is one object (a new rule, say) may have arguments beside it.
//!
//! Checks come in WSME's order: unknown arguments of the query, type of the
//! body, unknown keys, missing keys, and only then values, key by key.

use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode, header},
};
use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::fault::Fault;
use crate::{
    api::{body::number, dates, query::pairs},
    dataframe::python_str,
    decimal::Decimal,
    state::rating_rules::CostType,
    text::{python_repr, without_digit_separators},
};

fn unknown_arguments(names: &[String]) -> Fault {
    Fault::bad_request(format!("Unknown argument: \"{}\"", names.join(", ")))
}

/// What an argument, or a key of a body, holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Kind {
    Text,
    Bool,
    Int,
    /// An identifier; only bodies are checked for its form.
    Uuid,
    /// A number with all its digits.
    Decimal,
    /// The same, which only bodies of rules have: `flat` or `rate`.
    CostType,
    /// A date by the wall clock of the local zone, as rules have them; without
    /// time, midnight.
    Date,
    /// The same; without time, the last second of the day.
    EndDate,
    /// A date, without zone in UTC, as those of data are; without time, midnight.
    Instant,
    /// What only answers hold.
    ReadOnly,
    /// Whatever the resource reads by itself.
    Json,
}

/// An argument or a key: its name, what it holds, whether it must be there.
pub(in crate::api) type Attribute = (&'static str, Kind, bool);

/// A value that was read.
#[derive(Debug, Clone, PartialEq)]
enum Read {
    Null,
    Text(String),
    Bool(bool),
    Int(i32),
    Decimal(Decimal),
    CostType(CostType),
    Date(NaiveDateTime),
    Instant(DateTime<Utc>),
    Json(Value),
}

/// Values by name, as far as they were given.
#[derive(Debug, Clone, Default)]
pub(super) struct Values(Vec<(&'static str, Read)>);

impl Values {
    fn get(&self, name: &str) -> Option<&Read> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn put(&mut self, name: &'static str, value: Read) {
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value));
    }

    /// Whether something was given, be it null.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A text; nothing if null was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Read::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A text that says something.
    pub fn filled(&self, name: &str) -> Option<String> {
        self.text(name).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// A boolean.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name) {
            Some(Read::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// A whole number.
    pub fn int(&self, name: &str) -> Option<i32> {
        match self.get(name) {
            Some(Read::Int(value)) => Some(*value),
            _ => None,
        }
    }

    /// A number.
    ///
    /// # Errors
    /// None at all, or null: there is no rule without it.
    pub fn decimal(&self, name: &str) -> Result<Decimal, Fault> {
        match self.get(name) {
            Some(Read::Decimal(value)) => Ok(*value),
            _ => Err(Fault::invalid(name, "None", "It must be a number.")),
        }
    }

    /// A cost type; `flat` if none was given.
    ///
    /// # Errors
    /// Null.
    pub fn cost_type(&self, name: &str) -> Result<CostType, Fault> {
        match self.get(name) {
            Some(Read::CostType(kind)) => Ok(*kind),
            None => Ok(CostType::Flat),
            Some(_) => Err(Fault::bad_request("No mapping type: None")),
        }
    }

    /// What was given as it is.
    pub fn json(&self, name: &str) -> Option<&Value> {
        match self.get(name) {
            Some(Read::Json(value)) => Some(value),
            _ => None,
        }
    }

    /// A date by the wall clock of the local zone.
    pub fn date(&self, name: &str) -> Option<NaiveDateTime> {
        match self.get(name) {
            Some(Read::Date(date)) => Some(*date),
            _ => None,
        }
    }

    /// A date of data.
    pub fn instant(&self, name: &str) -> Option<DateTime<Utc>> {
        match self.get(name) {
            Some(Read::Instant(date)) => Some(*date),
            _ => None,
        }
    }
}

/// A request, as far as arguments are concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a> {
    /// Parts of the path behind the name of the resource.
    pub path: &'a [&'a str],
    /// The query.
    pub query: Option<&'a str>,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a Bytes,
}

impl Input<'_> {
    /// Reads the arguments of a request that has nothing else; those of the path
    /// are the first.
    ///
    /// # Errors
    /// [`Fault::Client`]
    pub fn arguments(&self, known: &[Attribute]) -> Result<Values, Fault> {
        let (mut values, asked) = self.path_and_query(known)?;
        for (name, value) in self.body_arguments(known)? {
            if asked.contains(&name) {
                let text = format!("Parameter {name} was given several times");
                return Err(Fault::bad_request(text));
            }
            values.put(name, value);
        }
        need(&values, known)?;
        Ok(values)
    }

    /// Reads a request whose body is the object `argument`, and the arguments
    /// beside it. One of those may stand in the object, if nowhere else.
    ///
    /// # Errors
    /// [`Fault::Client`]
    pub fn object(
        &self,
        known: &[Attribute],
        argument: &str,
        attributes: &[Attribute],
    ) -> Result<(Values, Values), Fault> {
        let (mut values, _) = self.path_and_query(known)?;
        let object = self.body_object(argument, attributes)?;
        if let Some(object) = &object {
            for (name, kind, _) in known {
                if values.has(name) {
                    continue;
                }
                if let (Kind::Uuid | Kind::Text, Some(text)) = (kind, object.text(name)) {
                    values.0.push((name, Read::Text(text.to_owned())));
                }
            }
        }
        need(&values, known)?;
        Ok((values, object.ok_or_else(|| Fault::missing(argument))?))
    }

    /// Values, and the names of those that the query gave.
    fn path_and_query(&self, known: &[Attribute]) -> Result<(Values, Vec<&'static str>), Fault> {
        let mut values = Values::default();
        for ((name, kind, _), text) in known.iter().zip(self.path) {
            values.put(name, of_text(name, *kind, text)?);
        }
        let mut asked = Vec::new();
        let mut unknown = Vec::new();
        for (name, text) in pairs(self.query) {
            match known.iter().find(|(known, ..)| *known == name) {
                Some((name, kind, _)) => {
                    values.put(name, of_text(name, *kind, &text)?);
                    asked.push(*name);
                }
                None if unknown.contains(&name) => {}
                None => unknown.push(name),
            }
        }
        match unknown.is_empty() {
            true => Ok((values, asked)),
            false => Err(unknown_arguments(&unknown)),
        }
    }

    /// The JSON of the body, if there is one.
    fn json(&self) -> Result<Option<Value>, Fault> {
        if self.body.is_empty() {
            return Ok(None);
        }
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !matches!(kind, "application/json" | "text/javascript" | "application/javascript") {
            let text = format!("Unknown mimetype: {kind}");
            return Err(Fault::Client(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
        }
        let value = serde_json::from_slice(self.body);
        value.map(Some).map_err(|_| Fault::bad_request("Request is not in valid JSON format"))
    }

    fn body_arguments(&self, known: &[Attribute]) -> Result<Vec<(&'static str, Read)>, Fault> {
        let given = match self.json()? {
            None => return Ok(Vec::new()),
            Some(Value::Object(given)) => given,
            Some(_) => return Err(Fault::bad_request("Request must be a JSON dict")),
        };
        let mut read = Vec::new();
        for (name, kind, _) in known {
            let Some(value) = given.get(*name) else { continue };
            let value = match kind {
                // Taken as it is: what is no identifier is not found.
                Kind::Uuid => Ok(Read::Text(python_str(value))),
                kind => of_json(name, *kind, value),
            };
            let told = || python_str(&given[*name]);
            read.push((*name, value.map_err(|problem| problem.of(name, &told()))?));
        }
        let is_unknown = |name: &&String| !known.iter().any(|(known, ..)| known == name);
        let unknown: Vec<String> = given.keys().filter(is_unknown).cloned().collect();
        match unknown.is_empty() {
            true => Ok(read),
            false => Err(unknown_arguments(&unknown)),
        }
    }

    /// Reads the body as an object; nothing if there is none.
    fn body_object(
        &self,
        argument: &str,
        attributes: &[Attribute],
    ) -> Result<Option<Values>, Fault> {
        let Some(given) = self.json()? else { return Ok(None) };
        let told = python_str(&given);
        match given {
            Value::Object(given) => read_object(argument, &told, &given, attributes).map(Some),
            Value::Null => Ok(None),
            // The reference fails on these.
            _ => Err(Fault::invalid(argument, &told, "It must be an object")),
        }
    }
}

fn need(values: &Values, known: &[Attribute]) -> Result<(), Fault> {
    match known.iter().find(|(name, _, needed)| *needed && !values.has(name)) {
        Some((name, ..)) => Err(Fault::missing(name)),
        None => Ok(()),
    }
}

fn read_object(
    argument: &str,
    told: &str,
    given: &Map<String, Value>,
    attributes: &[Attribute],
) -> Result<Values, Fault> {
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
    let mut read = Values::default();
    for (name, kind, needed) in attributes {
        match given.get(*name) {
            Some(value) => {
                let value = of_json(name, *kind, value);
                read.0.push((name, value.map_err(|problem| problem.of(argument, told))?));
            }
            None if *needed => {
                return Err(Fault::invalid(name, "None", "Mandatory field missing."));
            }
            None => {}
        }
    }
    Ok(read)
}

/// What is wrong with a value.
enum Problem {
    /// With the key, which is told by itself.
    Key(Fault),
    /// With what holds it.
    Whole(String),
}

impl Problem {
    /// Tells it of the argument, or of the object that holds the key.
    fn of(self, name: &str, value: &str) -> Fault {
        match self {
            Self::Key(fault) => fault,
            Self::Whole(problem) => Fault::invalid(name, value, &problem),
        }
    }
}

const NO_DATE: &str = "It must be a date, such as 2026-11-01 or 2026-11-01T00:00:00";

/// Reads an argument of the path or the query.
fn of_text(name: &str, kind: Kind, text: &str) -> Result<Read, Fault> {
    let invalid = |problem: &str| Fault::invalid(name, text, problem);
    Ok(match kind {
        Kind::Bool if text.is_empty() => Read::Bool(false),
        Kind::Bool => {
            let value = boolean(&Value::String(text.to_lowercase()));
            Read::Bool(value.map_err(|problem| invalid(&problem))?)
        }
        Kind::Date | Kind::EndDate | Kind::Instant if text.is_empty() => Read::Null,
        Kind::Instant => Read::Instant(dates::parse_whole(text).ok_or_else(|| invalid(NO_DATE))?),
        Kind::Date | Kind::EndDate => {
            let date = dates::parse_local(text, kind == Kind::EndDate);
            Read::Date(date.ok_or_else(|| invalid(NO_DATE))?)
        }
        _ => Read::Text(text.to_owned()),
    })
}

/// Reads a value of a body.
fn of_json(name: &'static str, kind: Kind, value: &Value) -> Result<Read, Problem> {
    let told = || python_str(value);
    let wrong = |problem: &str| Problem::Key(Fault::invalid(name, &told(), problem));
    Ok(match (kind, value) {
        (Kind::ReadOnly, _) => return Err(wrong("Cannot set read only field.")),
        // The reference writes these as they are, and fails in its database.
        (Kind::Bool, Value::Null) => {
            return Err(Problem::Whole("Value not an unambiguous boolean: None".to_owned()));
        }
        (Kind::Json, _) => Read::Json(value.clone()),
        (Kind::Int, _) => Read::Int(int(value).map_err(Problem::Whole)?),
        (_, Value::Null) => Read::Null,
        (Kind::Text, Value::String(text)) => Read::Text(text.clone()),
        (Kind::Text, other) => {
            let kind = python_type(other);
            let problem = format!("Wrong type. Expected '<class 'str'>', got '<class '{kind}'>'");
            return Err(wrong(&problem));
        }
        (Kind::Uuid, Value::String(text)) if Uuid::try_parse(text).is_ok() => {
            Read::Text(text.clone())
        }
        (Kind::Uuid, _) => return Err(wrong(&format!("Invalid UUID, got '{}'", told()))),
        (Kind::Bool, other) => Read::Bool(boolean(other).map_err(Problem::Whole)?),
        (Kind::Decimal, other) => {
            let number = number(other).ok_or_else(|| wrong("It must be a number."))?;
            Read::Decimal(number)
        }
        (Kind::CostType, other) => {
            let kind = other.as_str().and_then(CostType::parse);
            Read::CostType(kind.ok_or_else(|| wrong("Value should be one of: flat, rate"))?)
        }
        (Kind::Instant, other) => {
            let date = other.as_str().and_then(dates::parse_whole);
            Read::Instant(date.ok_or_else(|| wrong(NO_DATE))?)
        }
        (Kind::Date | Kind::EndDate, other) => {
            let text = other.as_str();
            let date = text.and_then(|text| dates::parse_local(text, kind == Kind::EndDate));
            Read::Date(date.ok_or_else(|| wrong(NO_DATE))?)
        }
    })
}

/// What Python calls the type of a value.
pub(super) fn python_type(value: &Value) -> &'static str {
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
