//! `/docs`: a page that shows the description to people.

use axum::response::Response;

use crate::api::embedded;

/// `GET /docs`
pub(in crate::api) async fn page() -> Response {
    embedded::html(include_str!("page/index.html"))
}

/// `GET /docs/docs.js`
pub(in crate::api) async fn script() -> Response {
    embedded::script(include_str!("page/docs.js"))
}

/// `GET /docs/docs.css`
pub(in crate::api) async fn style() -> Response {
    embedded::style(include_str!("page/docs.css"))
}
