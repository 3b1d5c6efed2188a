//! `/metrics`, `/livez` and `/readyz`: how the daemon does, for Prometheus, for who
//! starts it anew and for who sends it requests. Nobody has to log in: what is told
//! names no scope and no user.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use tracing::warn;

use crate::watch::Watch;

/// The routes; without the page for Prometheus if that is to be elsewhere only.
pub(super) fn routes(watch: Arc<Watch>, has_page: bool) -> Router {
    let router = Router::new().route("/livez", get(live)).route("/readyz", get(ready));
    let router = if has_page { router.route("/metrics", get(metrics)) } else { router };
    router.with_state(watch)
}

async fn metrics(State(watch): State<Arc<Watch>>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, watch.page().await).into_response()
}

async fn live(State(watch): State<Arc<Watch>>) -> Response {
    match watch.stuck() {
        None => "ok\n".into_response(),
        Some(name) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{name} does not go on\n")).into_response()
        }
    }
}

async fn ready(State(watch): State<Arc<Watch>>) -> Response {
    match watch.ready().await {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => {
            // Not for everybody: it may name hosts.
            warn!(error = %reason, "Not ready: {reason}");
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
        }
    }
}
