//! Version 1 of the API, as the reference's WSME and Pecan answer it.
//!
//! What is not there is a 405 in plain text, whatever the method; errors are
//! `faultcode`, `faultstring` and `debuginfo`.

pub(super) mod modules;
mod wsme;

use axum::{
    Router,
    extract::Request,
    http::{Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get},
};

use super::AppState;

/// The routes of version 1. Each is there with a slash at its end, too.
pub(super) fn routes() -> Router<AppState> {
    let mut router = Router::new();
    for root in ["/v1/rating", "/v1/billing"] {
        for slash in ["", "/"] {
            let path = |path: &str| format!("{root}{path}{slash}");
            router = router
                .route(
                    &path("/modules"),
                    get(modules::list).put(modules::put).fallback(not_allowed),
                )
                .route(
                    &path("/modules/{id}"),
                    get(modules::get).put(modules::put).fallback(not_allowed),
                )
                .route(&path("/reload_modules"), get(modules::reload).fallback(not_allowed))
                .route(
                    &path("/module_config/noop"),
                    get(modules::not_configurable)
                        .post(modules::not_configurable)
                        .put(modules::not_configurable)
                        .delete(modules::not_configurable)
                        .fallback(not_allowed),
                );
        }
        router = router
            .route(
                &format!("{root}/modules/{{id}}/{{*rest}}"),
                get(not_found).fallback(not_allowed),
            )
            .route(
                &format!("{root}/module_config/noop/{{*rest}}"),
                get(not_found).fallback(not_allowed),
            );
    }
    for path in ["/v1", "/v1/", "/v1/{*rest}"] {
        router = router.route(path, any(not_allowed));
    }
    router.layer(middleware::from_fn(without_head))
}

/// Pecan has no HEAD, where axum makes one of GET.
async fn without_head(request: Request, next: Next) -> Response {
    match request.method() {
        &Method::HEAD => not_allowed(Method::HEAD).await,
        _ => next.run(request).await,
    }
}

fn plain(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=UTF-8")], text).into_response()
}

/// What Pecan answers where it has nothing.
async fn not_allowed(method: Method) -> Response {
    match method {
        Method::OPTIONS => StatusCode::OK.into_response(),
        Method::HEAD => {
            let kind = [(header::CONTENT_TYPE, "text/html; charset=UTF-8")];
            (StatusCode::METHOD_NOT_ALLOWED, kind).into_response()
        }
        method => plain(
            StatusCode::METHOD_NOT_ALLOWED,
            format!(
                "405 Method Not Allowed\n\nThe method {method} is not allowed for this resource. \n\n "
            ),
        ),
    }
}

async fn not_found() -> Response {
    let text = "404 Not Found\n\nThe resource could not be found.\n\n   ";
    plain(StatusCode::NOT_FOUND, text.to_owned())
}
