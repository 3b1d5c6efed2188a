//! Version 1 of the API, as the reference's WSME and Pecan answer it.
//!
//! What is not there is a 405 in plain text, whatever the method; errors are
//! `faultcode`, `faultstring` and `debuginfo`.

mod collector;
pub(super) mod fault;
mod hashmap;
mod info;
mod modules;
mod negotiate;
mod pyscripts;
mod quote;
mod report;
mod rules;
mod storage;
mod written;
pub(super) mod wsme;
mod xml;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Request},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};

use schemars::JsonSchema;
use serde::Serialize;

use self::{fault::Fault, wsme::Input};
use super::{
    AppState,
    access::Caller,
    answer::{self, Answer},
    body::Whole,
    front::Front,
    openapi::Operation,
};
use crate::{rating::edit::Editor, time::local_naive};

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
                .route(&path("/quote"), post(quote::post).fallback(not_allowed))
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
            )
            .route(&format!("{root}/module_config/hashmap/{{*rest}}"), any(hashmap::route))
            .route(&format!("{root}/module_config/pyscripts/{{*rest}}"), any(pyscripts::route));
        for slash in ["", "/"] {
            router = router
                .route(&format!("{root}/module_config/hashmap{slash}"), any(hashmap::route))
                .route(&format!("{root}/module_config/pyscripts{slash}"), any(pyscripts::route));
        }
    }
    router = router
        .route("/v1/info/{*rest}", any(info::route))
        .route("/v1/collector", any(collector::root))
        .route("/v1/collector/", any(collector::root))
        .route("/v1/collector/{*rest}", any(collector::route))
        .route("/v1/report/{*rest}", any(report::route))
        .route("/v1/storage/{*rest}", any(storage::route))
        .layer(middleware::from_fn(negotiate::negotiate));
    for path in ["/v1", "/v1/", "/v1/{*rest}"] {
        router = router.route(path, any(not_allowed));
    }
    router.layer(middleware::from_fn(without_head))
}

/// A request below a controller of Pecan's, which routes by the parts of its path.
struct Call {
    state: AppState,
    caller: Caller,
    method: Method,
    uri: Uri,
    front: Front,
    /// The path below the controller.
    rest: String,
    headers: HeaderMap,
    body: Bytes,
}

impl axum::extract::FromRequest<AppState> for Call {
    type Rejection = Response;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Response> {
        use axum::RequestPartsExt;
        let (mut parts, body) = request.into_parts();
        let path = parts.extract::<Option<Path<String>>>().await;
        let path = path.map_err(IntoResponse::into_response)?;
        let rest = path.map(|Path(rest)| rest).unwrap_or_default();
        let caller = parts.extract::<Caller>().await?;
        let front = parts.extensions.get::<Front>().cloned();
        let front = front.ok_or_else(|| StatusCode::INTERNAL_SERVER_ERROR.into_response())?;
        let (method, uri, headers) =
            (parts.method.clone(), parts.uri.clone(), parts.headers.clone());
        let body = Whole::from_request(Request::from_parts(parts, body), state).await;
        let Whole(body) = body.map_err(|problem| Fault::from(problem).into_response())?;
        Ok(Self { state: state.clone(), caller, method, uri, front, rest, headers, body })
    }
}

impl Call {
    /// The parts of the path; a slash at the end counts for nothing.
    fn parts(&self) -> Vec<&str> {
        let path = self.rest.strip_suffix('/').unwrap_or(&self.rest);
        path.split('/').collect()
    }

    /// The request for a resource, with what is left of the path behind it.
    fn input<'a>(&'a self, path: &'a [&'a str]) -> Input<'a> {
        Input { path, query: self.uri.query(), headers: &self.headers, body: &self.body }
    }

    /// Who asks, and when.
    fn editor(&self) -> Editor<'_> {
        Editor { user: self.caller.user(), now: local_naive(self.state.clock.now()) }
    }

    /// The answer to a request that made something: where it is.
    fn created(&self, id: &str, body: &impl Answer) -> Response {
        let path = self.uri.path().trim_end_matches('/');
        let path = path.strip_suffix(id).map_or(path, |path| path.trim_end_matches('/'));
        let location = self.front.place(&format!("{path}/{id}"));
        let mut response = written::answer(StatusCode::CREATED, body);
        if let Ok(location) = location.parse() {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// That the policy does not allow to configure a rating module.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Forbidden")]
pub(super) struct NotAllowed {
    code: u16,
    title: &'static str,
    description: &'static str,
}

impl Answer for NotAllowed {}

/// The answer to who may not configure a rating module. It is told before anything
/// else is looked at.
fn module_config_forbidden(headers: &HeaderMap) -> Response {
    let told = "Policy doesn't allow rating:module_config to be performed.";
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let accept = accept.unwrap_or_default();
    let (kind, body) = if accept.contains("application/json") {
        let body = NotAllowed { code: 403, title: "Forbidden", description: told };
        ("application/json", answer::json(&body))
    } else if accept.contains("*/*") || accept.contains("text/html") {
        let body = "<html>\n <head>\n  <title>403 Forbidden</title>\n </head>\n <body>\n  \
            <h1>403 Forbidden</h1>\n  Access was denied to this resource.<br /><br />\n\
            Policy doesn&#x27;t allow rating:module_config to be performed.\n\n\n </body>\n</html>";
        ("text/html; charset=UTF-8", body.to_owned())
    } else {
        let body = format!("403 Forbidden\n\nAccess was denied to this resource.\n\n {told}  ");
        ("text/plain; charset=UTF-8", body)
    };
    (StatusCode::FORBIDDEN, [(header::CONTENT_TYPE, kind)], body).into_response()
}

/// What Pecan answers where the resource itself has no answer.
fn unrouted(call: &Call, found: &[&str]) -> Response {
    let has_parent = matches!(found, [_, _, ..]);
    let reads = matches!(call.method, Method::GET | Method::POST | Method::DELETE);
    match has_parent && reads {
        true => not_found_now(),
        false => not_allowed_now(&call.method),
    }
}

/// The answer to a change that was made, which names no other place.
///
/// The reference redirects to the same URL, and clients follow by the same
/// request again and again. Without a `Location` they take it for the end.
fn changed() -> Response {
    StatusCode::FOUND.into_response()
}

/// Pecan has no HEAD, where axum makes one of GET.
async fn without_head(request: Request, next: Next) -> Response {
    match request.method() {
        &Method::HEAD => not_allowed_now(&Method::HEAD),
        _ => next.run(request).await,
    }
}

fn plain(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=UTF-8")], text).into_response()
}

async fn not_allowed(method: Method) -> Response {
    not_allowed_now(&method)
}

/// What Pecan answers where it has nothing.
fn not_allowed_now(method: &Method) -> Response {
    match *method {
        Method::HEAD => {
            let kind = [(header::CONTENT_TYPE, "text/html; charset=UTF-8")];
            (StatusCode::METHOD_NOT_ALLOWED, kind).into_response()
        }
        _ => plain(
            StatusCode::METHOD_NOT_ALLOWED,
            format!(
                "405 Method Not Allowed\n\nThe method {method} is not allowed for this resource. \n\n "
            ),
        ),
    }
}

async fn not_found() -> Response {
    not_found_now()
}

fn not_found_now() -> Response {
    let text = "404 Not Found\n\nThe resource could not be found.\n\n   ";
    plain(StatusCode::NOT_FOUND, text.to_owned())
}

/// What there is.
pub(super) fn describe() -> Vec<Operation> {
    [
        info::describe(),
        collector::describe(),
        modules::describe(),
        quote::describe(),
        hashmap::describe(),
        pyscripts::describe(),
        report::describe(),
        storage::describe(),
    ]
    .concat()
}
