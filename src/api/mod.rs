//! The REST API, beside the pipeline: reads storage and state.
//!
//! ```text
//! normal path → CORS → proxy headers → request id → caller → route → method → handler
//! ```
//!
//! Answers are the reference's (CloudKitty 25.0.0), recorded in
//! `tests/fixtures/parity/api_*`; where ours differ on purpose,
//! `docs/COMPATIBILITY.md` says so.

mod accept;
mod access;
mod answer;
mod body;
mod coalesce;
mod cors;
mod dates;
mod embedded;
mod error;
mod front;
mod healthcheck;
pub mod openapi;
mod query;
mod root;
mod serve;
mod stream;
mod ui;
mod v1;
mod v2;
mod watched;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{MethodRouter, any, get},
};
use tower_http::timeout::RequestBodyTimeoutLayer;
use tracing::{Instrument, debug, info_span};
use uuid::Uuid;

use crate::{
    config::sections::http::Http,
    instruments::instruments,
    rating::Rater,
    state::{Database, scopes::ScopeKeys},
    storage::Storage,
    time::Clock,
    watch::Watch,
};

pub use access::{Access, AccessError, CredentialsError};
pub use coalesce::Coalesced;
pub use healthcheck::Ends;
pub use serve::{Limits, listen, pulse, serve, serve_watch};

/// Header that names a request, in answers and in the log.
const REQUEST_ID: &str = "x-openstack-request-id";

/// Methods that are counted by name.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

const NOT_FOUND: &str = "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n\
    <h1>Not Found</h1>\n<p>The requested URL was not found on the server. If you entered the URL \
    manually please check your spelling and try again.</p>\n";

/// What handlers need.
#[derive(Clone)]
pub struct AppState {
    /// Where dataframes are read.
    pub storage: Arc<dyn Storage>,
    /// Where scopes are read.
    pub database: Database,
    /// What tells the scopes of this configuration from others.
    pub keys: ScopeKeys,
    /// What quotes prices.
    pub rater: Arc<Rater>,
    /// Length of rating periods, in seconds.
    pub period: u32,
    /// The metrics file.
    pub metrics_conf: PathBuf,
    /// How users are known, and what they may do.
    pub access: Arc<Access>,
    /// What stands between clients and the API.
    pub http: Http,
    /// How the daemon does.
    pub watch: Arc<Watch>,
    /// Whether Prometheus reads that here.
    pub has_metrics: bool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Questions that are being answered.
    pub coalesced: Arc<Coalesced>,
}

/// Why the API does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}; check {option}")]
    Listen {
        /// The address.
        address: String,
        /// What says so.
        option: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// All routes; each part of a request's body must come within `patience`.
pub fn router(state: AppState, patience: Duration) -> Router {
    let routes = Router::new()
        .route("/v2/summary", methods(get(v2::summary::get), "GET, HEAD, OPTIONS"))
        .route(
            "/v2/dataframes",
            methods(
                get(v2::dataframes::get).post(v2::dataframes::post),
                "GET, HEAD, OPTIONS, POST",
            )
            .layer(DefaultBodyLimit::max(body::LARGEST)),
        )
        .route(
            "/v2/scope",
            methods(
                get(v2::scope::get)
                    .put(v2::scope::put)
                    .patch(v2::scope::patch)
                    .post(v2::scope::post),
                "GET, HEAD, OPTIONS, PATCH, POST, PUT",
            ),
        )
        .route(
            "/v2/task/reprocesses",
            methods(
                get(v2::reprocesses::get).post(v2::reprocesses::post),
                "GET, HEAD, OPTIONS, POST",
            ),
        )
        .route(
            "/v2/task/reprocesses/{scope_id}",
            methods(get(v2::reprocesses::get), "GET, HEAD, OPTIONS"),
        )
        .route("/v2/rating/modules", methods(get(v2::modules::list), "GET, HEAD, OPTIONS"))
        .route(
            "/v2/rating/modules/{id}",
            methods(get(v2::modules::get).put(v2::modules::put), "GET, HEAD, OPTIONS, PUT"),
        )
        .route("/v2/ratekitty/status", methods(get(v2::status::get), "GET, HEAD, OPTIONS"))
        .route("/", methods(get(root::versions), "GET, HEAD, OPTIONS"))
        .route("/openapi.json", methods(get(openapi::get), "GET, HEAD, OPTIONS"))
        .route("/docs", methods(get(openapi::page), "GET, HEAD, OPTIONS"))
        .route("/docs/docs.js", methods(get(openapi::script), "GET, HEAD, OPTIONS"))
        .route("/docs/docs.css", methods(get(openapi::style), "GET, HEAD, OPTIONS"))
        .route("/ui", methods(get(ui::page), "GET, HEAD, OPTIONS"))
        .route("/ui/ui.js", methods(get(ui::script), "GET, HEAD, OPTIONS"))
        .route("/ui/chart.js", methods(get(ui::chart), "GET, HEAD, OPTIONS"))
        .route("/ui/ui.css", methods(get(ui::style), "GET, HEAD, OPTIONS"))
        .merge(v1::routes())
        .fallback(not_found)
        .layer(RequestBodyTimeoutLayer::new(patience))
        .layer(middleware::from_fn_with_state(state.access.clone(), access::authenticate))
        .layer(middleware::from_fn(with_request_id))
        .layer(middleware::from_fn_with_state(state.http.proxy_headers, front::note))
        .layer(middleware::from_fn_with_state(Arc::new(state.http.cors.clone()), cors::answer));
    let check = Arc::new(state.http.healthcheck.clone());
    let watched = watched::routes(state.watch.clone(), state.has_metrics);
    Router::new()
        .route("/healthcheck", any(healthcheck::answer))
        .route("/healthcheck/{*rest}", any(healthcheck::answer))
        .route("/healthcheck/", any(healthcheck::answer))
        .with_state(check)
        .merge(watched)
        .fallback_service(routes.with_state(state))
}

/// Adds what every route answers: its methods to OPTIONS, 405 to other ones.
fn methods(router: MethodRouter<AppState>, allow: &'static str) -> MethodRouter<AppState> {
    let allowed = HeaderValue::from_static(allow);
    let refused = allowed.clone();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    router
        .options(async move || {
            [(header::ALLOW, allowed.clone()), (header::CONTENT_TYPE, html.clone())]
        })
        .fallback(async move || {
            let body = error::v2_body("The method is not allowed for the requested URL.");
            (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, refused.clone())], body)
        })
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, Html(NOT_FOUND)).into_response()
}

/// Names the request, in its answer and in every log line about it.
async fn with_request_id(request: Request, next: Next) -> Response {
    let id = format!("req-{}", Uuid::new_v4());
    let span = info_span!("request", id = %id);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let begin = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let (status, took) = (response.status().as_u16(), begin.elapsed());
    span.in_scope(|| debug!("{method} {path}: {status} in {took:?}"));
    // Clients may make names of methods up.
    let method = if METHODS.contains(&method) { method.as_str() } else { "other" };
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    instruments().answered(method, route, status, took);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// The request with its path in normal form: one slash where there are
/// several, plain characters where they were written as `%6f`.
pub fn normalize_path<B>(mut request: axum::http::Request<B>) -> axum::http::Request<B> {
    let path = request.uri().path();
    if !path.contains("//") && !path.contains('%') {
        return request;
    }
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(c) = rest.chars().next() {
        let code =
            rest.strip_prefix('%').and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        match code.map(char::from) {
            Some(plain) if plain.is_ascii_alphanumeric() || "-._~".contains(plain) => {
                normal.push(plain);
                rest = &rest[3..];
            }
            _ => {
                if !(c == '/' && normal.ends_with('/')) {
                    normal.push(c);
                }
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    if let Some(query) = request.uri().query() {
        normal.push('?');
        normal.push_str(query);
    }
    if let Ok(uri) = normal.parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request
}
