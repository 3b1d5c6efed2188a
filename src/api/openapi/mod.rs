//! The API described in OpenAPI 3.1 (<https://spec.openapis.org/oas/v3.1.1>).
//!
//! ```text
//! tables by which handlers check requests ─┐
//! types that handlers answer, by schemars ─┴→ Operation → /openapi.json → /docs
//! ```
//!
//! Each module of handlers describes its operations with the very tables that it
//! checks arguments and bodies with, and with the very types that it writes in
//! answers (`api::answer::Answer`), so that the description cannot say otherwise.

mod operation;
mod page;
pub(super) mod schema;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

pub(super) use operation::Operation;
pub(super) use page::{page, script, style};

use super::{root, v1, v2};

/// `GET /openapi.json`
pub(super) async fn get() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document().to_string()).into_response()
}

/// The whole description.
pub fn document() -> Value {
    let operations = [root::describe(), v1::describe(), v2::describe()].concat();
    let mut paths = Map::new();
    let mut generator = schema::generator();
    for operation in operations {
        let path = paths.entry(operation.path()).or_insert_with(|| json!({}));
        path[operation.method()] = operation.describe(&mut generator);
    }
    let mut schemas = schema::of_requests();
    schemas.append(&mut generator.take_definitions(true));
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "ratekitty",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "What the use of a cloud costs",
            "description": "The REST API of OpenStack CloudKitty 25.0.0, versions 1 and 2. Dates \
                without a zone are UTC, but those of rules and scripts the server's local time.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Auth-Token",
                    "description": "A token of Keystone. Not needed with `auth_strategy = noauth`.",
                },
            },
        },
        "security": [{"token": []}, {}],
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn describes_each_operation_once() {
        let operations = [root::describe(), v1::describe(), v2::describe()].concat();
        let names: BTreeSet<_> = operations
            .iter()
            .map(|operation| (operation.path(), operation.method().to_owned()))
            .collect();
        assert_eq!(names.len(), operations.len());
        let ids: BTreeSet<_> = operations
            .iter()
            .map(|operation| {
                operation.describe(&mut schema::generator())["operationId"].to_string()
            })
            .collect();
        assert_eq!(ids.len(), operations.len());
    }

    /// Keys that are not always there, by type.
    const OPTIONAL: &[(&str, &str)] = &[("ListedScript", "data"), ("SummaryTable", "format")];

    /// The objects of a schema, and of what is in it.
    fn objects<'a>(schema: &'a Value, found: &mut Vec<&'a Value>) {
        match schema {
            Value::Object(keys) => {
                if keys.get("type").is_some_and(|kind| kind == "object") {
                    found.push(schema);
                }
                keys.values().for_each(|value| objects(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| objects(value, found)),
            _ => {}
        }
    }

    #[test]
    fn answers_have_all_keys_of_their_types_and_no_others() {
        let document = document();
        let (mut all, mut optional) = (0, Vec::new());
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            let mut found = Vec::new();
            objects(schema, &mut found);
            for object in found {
                assert!(object.get("additionalProperties").is_some(), "{name}: {object}");
                let needed = object["required"].as_array().into_iter().flatten();
                let needed: Vec<_> = needed.map(|key| key.as_str().unwrap()).collect();
                for key in object["properties"].as_object().into_iter().flat_map(Map::keys) {
                    all += 1;
                    if !needed.contains(&key.as_str()) {
                        optional.push((name.as_str(), key.as_str()));
                    }
                }
            }
        }
        assert!(all > 100, "{all}");
        assert_eq!(optional, OPTIONAL);
    }

    #[test]
    fn no_two_types_have_one_name() {
        // The generator puts a number behind the name of the second.
        let document = document();
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            let is_version = name.ends_with("V1");
            assert!(is_version || !name.ends_with(|c: char| c.is_ascii_digit()), "{name}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let shared = document["components"]["schemas"].as_object().unwrap();
        let mut found = 0;
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(shared.contains_key(name), "{name}");
            found += 1;
        }
        assert!(found > 50, "{found}");
    }
}
