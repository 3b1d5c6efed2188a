//! `/ui`: a page for who runs the daemon. It reads `/v2/ratekitty/status` and
//! `/v2/summary` with the token that it is given, and may do no more than that.
//! What the API tells it is put in as text, never as HTML.

use axum::response::Response;

use super::embedded;

/// `GET /ui`
pub(super) async fn page() -> Response {
    embedded::html(include_str!("index.html"))
}

/// `GET /ui/ui.js`
pub(super) async fn script() -> Response {
    embedded::script(include_str!("ui.js"))
}

/// `GET /ui/chart.js`
pub(super) async fn chart() -> Response {
    embedded::script(include_str!("chart.js"))
}

/// `GET /ui/ui.css`
pub(super) async fn style() -> Response {
    embedded::style(include_str!("ui.css"))
}
