//! The API described in OpenAPI 3.1 (<https://spec.openapis.org/oas/v3.1.1>).
//!
//! ```text
//! tables by which handlers check requests → Operation → /openapi.json → /docs
//! ```
//!
//! Each module of handlers describes its operations with the very tables that it
//! checks arguments and bodies with, so that the description cannot say
//! otherwise. What answers look like is said beside the code that makes them.

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
    for operation in operations {
        let path = paths.entry(operation.path()).or_insert_with(|| json!({}));
        path[operation.method()] = operation.describe();
    }
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
            "schemas": schema::shared(),
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
            .map(|operation| operation.describe()["operationId"].to_string())
            .collect();
        assert_eq!(ids.len(), operations.len());
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
