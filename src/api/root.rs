//! `/`: which versions of the API there are.

use axum::{
    Extension,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    front::Front,
    openapi::{Operation, schema},
};

/// `GET /`: which versions of the API there are.
pub(super) async fn versions(Extension(front): Extension<Front>) -> Response {
    let root = front.root();
    let version = |id: &str, status: &str| {
        json!({
            "id": id,
            "links": [{"href": format!("{root}/{id}"), "rel": "self"}],
            "status": status,
        })
    };
    let body = json!({"versions": [version("v1", "CURRENT"), version("v2", "EXPERIMENTAL")]});
    ([(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

pub(super) fn describe() -> Vec<Operation> {
    let link = schema::object(&[("href", schema::text()), ("rel", schema::text())]);
    let version = schema::object(&[
        ("id", schema::text()),
        ("links", schema::list(link)),
        ("status", schema::one_of(&["CURRENT", "EXPERIMENTAL"])),
    ]);
    let versions = schema::object(&[("versions", schema::list(version))]);
    vec![Operation::new("get", "/", "Versions of the API").answers(200, "Versions.", versions)]
}
