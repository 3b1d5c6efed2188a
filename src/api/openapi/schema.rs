//! JSON Schemas of what requests and answers hold.

use serde_json::{Map, Value, json};

use crate::api::{body, query, v1::wsme};

/// Any text.
pub fn text() -> Value {
    json!({"type": "string"})
}

/// A text of so many characters, none of which is NUL.
pub fn name(least: usize, most: usize) -> Value {
    json!({"type": "string", "minLength": least, "maxLength": most, "pattern": "^[^\\u0000]*$"})
}

/// A text that is one of these.
pub fn one_of(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

/// A whole number.
pub fn integer() -> Value {
    json!({"type": "integer"})
}

/// A number.
pub fn number() -> Value {
    json!({"type": "number"})
}

/// A boolean.
pub fn boolean() -> Value {
    json!({"type": "boolean"})
}

/// A date and time of an answer, with its zone.
pub fn date() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// A date and time of an answer, without zone.
pub fn naive_date() -> Value {
    json!({"type": "string", "pattern": "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d$"})
}

/// A number that is written as a text, so that no digit is lost.
pub fn digits() -> Value {
    json!({"type": "string", "pattern": "^-?\\d+(\\.\\d+)?([eE][+-]?\\d+)?$"})
}

/// A number that a request gives, as such or as a text.
pub fn given_number() -> Value {
    json!({"anyOf": [number(), {"type": "string", "pattern": "^[+-]?[0-9]{1,30}(\\.[0-9]{1,30})?$"}]})
}

/// This, or null.
pub fn nullable(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// A list of these.
pub fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

/// A list of at least one of these.
fn some(items: Value) -> Value {
    json!({"type": "array", "items": items, "minItems": 1})
}

/// An object with any keys, of which each holds this.
pub fn map(values: Value) -> Value {
    json!({"type": "object", "additionalProperties": values})
}

/// An object that has these keys, all of them and no others.
pub fn object(keys: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = keys.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Value> =
        keys.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": false,
    })
}

/// What has a name of its own: [`shared`].
pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Schemas that many operations have in common.
pub fn shared() -> Value {
    json!({
        "Date": {
            "description": "A date, or a date and time, as ISO 8601 has it.",
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "string", "format": "date"},
            ],
        },
        "Fault": object(&[
            ("faultcode", one_of(&["Client", "Server"])),
            ("faultstring", text()),
            ("debuginfo", json!({"type": "null"})),
        ]),
        "Message": object(&[("message", text())]),
        "KeystoneError": object(&[
            ("error", object(&[("code", integer()), ("title", text()), ("message", text())])),
        ]),
        "Forbidden": object(&[
            ("code", integer()),
            ("title", text()),
            ("description", text()),
        ]),
        "Label": {
            "description": "The value of a label: mostly a text.",
            "type": ["string", "number", "boolean", "null", "array", "object"],
        },
    })
}

/// What an argument of version 2 holds, and whether it is a list.
pub fn of_argument(kind: query::Kind) -> (Value, bool) {
    match kind {
        query::Kind::Date => (reference("Date"), false),
        query::Kind::Int(least) => (json!({"type": "integer", "minimum": least}), false),
        query::Kind::Text => (text(), false),
        query::Kind::List => (some(text()), true),
        query::Kind::IntList => (some(integer()), true),
        query::Kind::Filters | query::Kind::UniqueFilters => {
            let pair = json!({
                "type": "string",
                "pattern": "^[^:,]+:[^:,]+$",
                "description": "`label:value`",
            });
            (some(pair), true)
        }
    }
}

/// A body of version 2.
pub fn of_body(specs: &[body::Spec]) -> Value {
    let of_kind = |kind: body::Kind| match kind {
        body::Kind::Int => json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX}),
        body::Kind::Bool | body::Kind::Switch => boolean(),
        body::Kind::Text => text(),
        body::Kind::List => json!({"anyOf": [some(text()), text()]}),
        body::Kind::Date(_) => reference("Date"),
    };
    let properties = specs.iter().map(|(name, kind, _)| ((*name).to_owned(), of_kind(*kind)));
    with_needed(
        properties.collect(),
        specs.iter().filter(|(.., needed)| *needed).map(|spec| spec.0),
    )
}

/// What an argument, or a key of a body, of version 1 holds.
pub fn of_attribute(kind: wsme::Kind) -> Value {
    match kind {
        wsme::Kind::Text => text(),
        wsme::Kind::Bool => boolean(),
        wsme::Kind::Int => json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX}),
        wsme::Kind::Uuid => json!({"type": "string", "format": "uuid"}),
        // What the columns of rules hold.
        wsme::Kind::Decimal => json!({"anyOf": [
            {"type": "number", "exclusiveMinimum": -1e12, "exclusiveMaximum": 1e12},
            {"type": "string", "pattern": "^[+-]?[0-9]{1,12}(\\.[0-9]{1,28})?$"},
        ]}),
        wsme::Kind::CostType => one_of(&["flat", "rate"]),
        wsme::Kind::Date | wsme::Kind::EndDate | wsme::Kind::Instant => reference("Date"),
        wsme::Kind::ReadOnly => json!({"readOnly": true, "type": "string"}),
        wsme::Kind::Json => json!({}),
    }
}

/// A body of version 1.
pub fn of_object(attributes: &[wsme::Attribute]) -> Value {
    let nullable_unless_needed = |(name, kind, needed): &wsme::Attribute| {
        let schema = of_attribute(*kind);
        let has_no_null = matches!(
            kind,
            wsme::Kind::Bool | wsme::Kind::Int | wsme::Kind::CostType | wsme::Kind::Json
        );
        let is_nullable = !needed && !has_no_null;
        ((*name).to_owned(), if is_nullable { nullable(schema) } else { schema })
    };
    let needed = attributes.iter().filter(|(.., needed)| *needed).map(|attribute| attribute.0);
    with_needed(attributes.iter().map(nullable_unless_needed).collect(), needed)
}

fn with_needed<'a>(properties: Map<String, Value>, needed: impl Iterator<Item = &'a str>) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": needed.collect::<Vec<_>>(),
        "additionalProperties": false,
    })
}
