//! `/docs`: a page that shows the description to people, from files in the
//! binary. It loads nothing from elsewhere, and a browser is told to let it.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

/// Nothing but our own files.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

/// `GET /docs`
pub(in crate::api) async fn page() -> Response {
    file("text/html; charset=utf-8", include_str!("page/index.html"))
}

/// `GET /docs/docs.js`
pub(in crate::api) async fn script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("page/docs.js"))
}

/// `GET /docs/docs.css`
pub(in crate::api) async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("page/docs.css"))
}
