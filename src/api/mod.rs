//! The REST API, beside the pipeline: reads storage and state.
//!
//! ```text
//! normal path → request id → route → method → handler → v1 or v2 error body
//! ```
//!
//! Answers are the reference's (CloudKitty 25.0.0), recorded in
//! `tests/fixtures/parity/api_*`; where ours differ on purpose,
//! `docs/COMPATIBILITY.md` says so.

mod body;
mod dates;
mod error;
mod query;
mod root;
mod stream;
mod v1;
mod v2;

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{MethodRouter, any, get},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::{Layer, util::MapRequestLayer};
use tracing::{Instrument, info, info_span, warn};
use uuid::Uuid;

use crate::{
    config::{Config, sections::default::AuthStrategy},
    rating::Rater,
    state::{Database, scopes::ScopeKeys},
    storage::Storage,
    time::Clock,
};

/// Largest body with dataframes, in bytes. Other bodies may have axum's 2 MB.
const LARGEST_PUSH: usize = 64 << 20;

/// Header that names a request, in answers and in the log.
const REQUEST_ID: &str = "x-openstack-request-id";

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
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Why the API does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Users cannot be told apart yet.
    #[error(
        "[DEFAULT] auth_strategy = keystone is not available yet; to serve everyone as admin, on a network where only admins are, set auth_strategy = noauth"
    )]
    Keystone,
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}; check [api] port and --port")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server broke.
    #[error("the API server failed: {0}")]
    Serve(#[source] std::io::Error),
}

/// Refuses a configuration under which the API cannot serve safely.
///
/// # Errors
/// An authentication strategy that is not there.
pub fn check(config: &Config) -> Result<(), StartError> {
    match config.default.auth_strategy {
        AuthStrategy::Noauth => Ok(()),
        AuthStrategy::Keystone => Err(StartError::Keystone),
    }
}

/// All routes.
pub fn router(state: AppState) -> Router {
    let routes = Router::new()
        .route("/v2/summary", methods(get(v2::summary::get), "GET, HEAD, OPTIONS"))
        .route(
            "/v2/dataframes",
            methods(
                get(v2::dataframes::get).post(v2::dataframes::post),
                "GET, HEAD, OPTIONS, POST",
            )
            .layer(DefaultBodyLimit::max(LARGEST_PUSH)),
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
        .route("/", methods(get(root::versions), "GET, HEAD, OPTIONS"))
        .merge(v1::routes())
        .fallback(not_found)
        .layer(middleware::from_fn(with_request_id));
    Router::new()
        .route("/healthcheck", any(root::healthcheck))
        .route("/healthcheck/{*rest}", any(root::healthcheck))
        .route("/healthcheck/", any(root::healthcheck))
        .fallback_service(routes.with_state(state))
}

/// Serves until told to stop; running requests are then finished within `grace`.
///
/// # Errors
/// An address that cannot be used.
pub async fn serve(
    host: &str,
    port: u16,
    state: AppState,
    stop: CancellationToken,
    grace: Duration,
) -> Result<(), StartError> {
    let address =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|source| StartError::Listen { address: address.clone(), source })?;
    let local = listener.local_addr().map_or(address, |local| local.to_string());
    info!("The API listens on http://{local}");
    let service = MapRequestLayer::new(normalize_path).layer(router(state));
    let server = axum::serve(listener, tower::make::Shared::new(service))
        .with_graceful_shutdown(stop.clone().cancelled_owned());
    let deadline = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        served = server.into_future() => served.map_err(StartError::Serve),
        () = deadline => {
            warn!("Some clients took longer than [ratekitty] shutdown_grace and are cut off");
            Ok(())
        }
    }
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

async fn not_found(method: Method) -> Response {
    match method {
        Method::OPTIONS => StatusCode::OK.into_response(),
        _ => (StatusCode::NOT_FOUND, Html(NOT_FOUND)).into_response(),
    }
}

/// Names the request, in its answer and in every log line about it.
async fn with_request_id(request: Request, next: Next) -> Response {
    let id = format!("req-{}", Uuid::new_v4());
    let span = info_span!("request", id = %id);
    let mut response = next.run(request).instrument(span).await;
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
