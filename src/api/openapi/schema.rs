//! JSON Schemas of what requests hold, and the generator of those of answers.

use schemars::{
    Schema, SchemaGenerator,
    generate::SchemaSettings,
    transform::{Transform, transform_subschemas},
};
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

/// What has a name of its own: one of [`of_requests`], or a type of answers.
pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("#{PLACE}/{name}")})
}

/// Where that stands in the description.
const PLACE: &str = "/components/schemas";

/// Describes types of answers.
pub fn generator() -> SchemaGenerator {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = PLACE.into();
    settings.with_transform(Closed).into_generator()
}

/// An object has the keys of its type and no others.
#[derive(Clone)]
struct Closed;

impl Transform for Closed {
    fn transform(&mut self, schema: &mut Schema) {
        if schema.get("type").is_some_and(|kind| kind == "object")
            && schema.get("additionalProperties").is_none()
        {
            schema.insert("additionalProperties".to_owned(), false.into());
        }
        transform_subschemas(self, schema);
    }
}

/// Schemas that many requests have in common.
pub fn of_requests() -> Map<String, Value> {
    let date = json!({
        "description": "A date, or a date and time, as ISO 8601 has it.",
        "anyOf": [
            {"type": "string", "format": "date-time"},
            {"type": "string", "format": "date"},
        ],
    });
    [("Date".to_owned(), date)].into_iter().collect()
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
