//! Requests from pages of other origins, as oslo.middleware answers them.
//! <https://docs.openstack.org/oslo.middleware/latest/reference/cors.html>

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::config::sections::http::Cors;

/// Headers that every page may send.
const SIMPLE: [&str; 8] = [
    "accept",
    "accept-language",
    "content-type",
    "cache-control",
    "content-language",
    "expires",
    "last-modified",
    "pragma",
];

/// Answers preflight requests, and says in other answers who may read them.
pub(super) async fn answer(
    State(cors): State<Arc<Cors>>,
    request: Request,
    next: Next,
) -> Response {
    let asked = request.headers().clone();
    let is_options = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    // Whatever there is, it may be asked about.
    if is_options && !response.status().is_success() {
        response = StatusCode::OK.into_response();
    }
    let added = match is_options {
        true => preflight(&cors, &asked),
        false => simple(&cors, &asked),
    };
    for (name, value) in added.into_iter().flatten() {
        response.headers_mut().insert(name, value);
    }
    response
}

type Headers = Vec<(HeaderName, HeaderValue)>;

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Who may read the answer, if the origin may.
fn allowed(cors: &Cors, asked: &HeaderMap) -> Option<Headers> {
    let origin = text(asked, &header::ORIGIN)?;
    let allowed = &cors.allowed_origins;
    let told = if allowed.iter().any(|known| known == origin) {
        origin
    } else if allowed.iter().any(|known| known == "*") {
        "*"
    } else {
        return None;
    };
    let mut headers = vec![
        (header::VARY, HeaderValue::from_static("Origin")),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_str(told).ok()?),
    ];
    if cors.allow_credentials {
        let name = header::ACCESS_CONTROL_ALLOW_CREDENTIALS;
        headers.push((name, HeaderValue::from_static("true")));
    }
    Some(headers)
}

fn simple(cors: &Cors, asked: &HeaderMap) -> Option<Headers> {
    let mut headers = allowed(cors, asked)?;
    if !cors.expose_headers.is_empty() {
        let exposed = HeaderValue::from_str(&cors.expose_headers.join(",")).ok()?;
        headers.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed));
    }
    Some(headers)
}

fn preflight(cors: &Cors, asked: &HeaderMap) -> Option<Headers> {
    let mut headers = allowed(cors, asked)?;
    let method = text(asked, &header::ACCESS_CONTROL_REQUEST_METHOD)?;
    if !cors.allow_methods.iter().any(|known| known == method) {
        return None;
    }
    let wanted = text(asked, &header::ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
    let wanted: Vec<&str> =
        wanted.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let may_send = |name: &&str| {
        SIMPLE.iter().any(|known| known.eq_ignore_ascii_case(name))
            || cors.allow_headers.iter().any(|known| known.eq_ignore_ascii_case(name))
    };
    if !wanted.iter().all(may_send) {
        return None;
    }
    if cors.max_age != 0 {
        headers.push((header::ACCESS_CONTROL_MAX_AGE, cors.max_age.into()));
    }
    let method = HeaderValue::from_str(method).ok()?;
    headers.push((header::ACCESS_CONTROL_ALLOW_METHODS, method));
    if !wanted.is_empty() {
        let wanted = HeaderValue::from_str(&wanted.join(",")).ok()?;
        headers.push((header::ACCESS_CONTROL_ALLOW_HEADERS, wanted));
    }
    Some(headers)
}
