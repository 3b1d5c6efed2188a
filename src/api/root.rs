//! `/`: which versions of the API there are.

use axum::{
    Extension,
    http::header,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    answer::{self, Answer},
    front::Front,
    openapi::Operation,
};

/// Versions of the API.
#[derive(Serialize, JsonSchema)]
struct Versions {
    versions: [Version; 2],
}

impl Answer for Versions {}

/// A version of the API.
#[derive(Serialize, JsonSchema)]
struct Version {
    id: &'static str,
    links: [Link; 1],
    status: Status,
}

/// Where it is.
#[derive(Serialize, JsonSchema)]
struct Link {
    href: String,
    rel: &'static str,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
enum Status {
    Current,
    Experimental,
}

/// `GET /`: which versions of the API there are.
pub(super) async fn versions(Extension(front): Extension<Front>) -> Response {
    let root = front.root();
    let version = |id: &'static str, status: Status| Version {
        id,
        links: [Link { href: format!("{root}/{id}"), rel: "self" }],
        status,
    };
    let versions = [version("v1", Status::Current), version("v2", Status::Experimental)];
    let body = answer::json(&Versions { versions });
    ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response()
}

pub(super) fn describe() -> Vec<Operation> {
    vec![Operation::new("get", "/", "Versions of the API").answers::<Versions>(200, "Versions.")]
}
