//! In what form version 1 answers: JSON, or XML for those who like that better, as
//! WSME negotiates it.
//!
//! Handlers make JSON; here it becomes XML. Bodies are taken in JSON alone.

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tracing::error;

use super::{plain, xml};
use crate::api::accept::Accept;

/// Types of answers, in the order in which they are preferred.
const OFFERS: [&str; 3] = ["application/xml", "text/xml", "application/json"];

/// Largest answer that is made into XML, in bytes of JSON. That needs all of it in
/// memory.
const LARGEST: usize = 64 << 20;

/// The type in which a client gets its answer; nothing if it takes none.
fn chosen(headers: &HeaderMap) -> Option<&'static str> {
    let header = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let header = match header {
        None | Some("" | "*/*") => return Some("application/json"),
        Some(header) => header,
    };
    let best = Accept::read(header).of(&OFFERS).first().copied();
    // What looks like one of them may be none in all strictness.
    best.or_else(|| OFFERS.into_iter().find(|offer| header.starts_with(offer)))
}

/// Answers in the form that the client likes best.
pub(super) async fn negotiate(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    let Some(kind) = chosen(request.headers()) else {
        return not_acceptable(request.headers());
    };
    let is_config = request.uri().path().trim_end_matches('/') == "/v1/info/config";
    let response = next.run(request).await;
    if kind == "application/json" {
        return response;
    }
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes() == b"application/json");
    if !is_json {
        return response;
    }
    as_xml(response, kind, is_config).await
}

async fn as_xml(response: Response, kind: &'static str, is_config: bool) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, LARGEST).await else {
        let text = "This answer is too large for XML, or broke off; ask for JSON.";
        return plain(StatusCode::INSUFFICIENT_STORAGE, text.to_owned());
    };
    let value: Value = match serde_json::from_slice(&bytes) {
        Ok(value) => value,
        Err(problem) => {
            error!(error = %problem, "An answer is no JSON: {problem}");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let is_error = parts.status.is_client_error() || parts.status.is_server_error();
    let text = match (is_error, is_config) {
        (true, _) => xml::error(&value),
        (false, true) => xml::dictionary(&value),
        (false, false) => xml::result(&value),
    };
    let kind = HeaderValue::from_static(match kind {
        "text/xml" => "text/xml; charset=UTF-8",
        _ => "application/xml; charset=UTF-8",
    });
    parts.headers.insert(header::CONTENT_TYPE, kind);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(text))
}

/// The answer to those who take neither.
fn not_acceptable(headers: &HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let accept = accept.unwrap_or_default();
    let told = format!(
        "The resource could not be generated that was acceptable to your browser (content of \
         type {accept}. "
    );
    let liked = Accept::read(accept).of(&["text/html", "application/json"]);
    if liked.first() == Some(&"text/html") {
        let accept = accept.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let body = format!(
            "<html>\n <head>\n  <title>406 Not Acceptable</title>\n </head>\n <body>\n  \
             <h1>406 Not Acceptable</h1>\n  The resource could not be generated that was acceptable \
             to your browser\n(content of type {accept}. <br /><br />\n\n </body>\n</html>"
        );
        let kind = [(header::CONTENT_TYPE, "text/html; charset=UTF-8")];
        return (StatusCode::NOT_ACCEPTABLE, kind, body).into_response();
    }
    plain(StatusCode::NOT_ACCEPTABLE, format!("406 Not Acceptable\n\n{told}\n\n "))
}
