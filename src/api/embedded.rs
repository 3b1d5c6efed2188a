//! Files of pages for people, which are in the binary. A page loads nothing from
//! elsewhere, and a browser is told to let it.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

/// Nothing but our own files.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file.
fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

/// A page.
pub(super) fn html(text: &'static str) -> Response {
    file("text/html; charset=utf-8", text)
}

/// A script.
pub(super) fn script(text: &'static str) -> Response {
    file("text/javascript; charset=utf-8", text)
}

/// A style sheet.
pub(super) fn style(text: &'static str) -> Response {
    file("text/css; charset=utf-8", text)
}
