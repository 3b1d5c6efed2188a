//! The paths of the API.

use std::sync::atomic::Ordering;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{Deletes, Shared, decode, deletes::Delete, locked, push, query, server::Role};

/// A request.
pub struct Call {
    /// GET, POST and the like.
    pub method: String,
    /// Without parameters.
    pub path: String,
    /// Of the URL and of a form, decoded.
    pub parameters: Vec<(String, String)>,
    /// As sent.
    pub headers: HeaderMap,
    /// As sent.
    pub body: Bytes,
    /// Which process it went to.
    pub role: Role,
    /// Only the first half of a push is to be stored.
    pub half: bool,
}

impl Call {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A parameter; empty when it is missing.
    pub fn get(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(parameter, _)| parameter == name);
        found.map_or("", |(_, value)| value)
    }
}

/// A text with a status.
pub fn text(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

/// JSON.
pub fn json(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=UTF-8")], Body::from(body)).into_response()
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// The answer to a request.
pub fn answer(shared: &Shared, call: &Call) -> Response {
    let allowed: &[&str] = match call.path.as_str() {
        "/ready" | "/config" | "/loki/api/v1/status/buildinfo" | "/config/tenant/v1/limits" => {
            &["GET"]
        }
        "/loki/api/v1/push" => &["POST"],
        "/loki/api/v1/delete" => &["GET", "POST", "PUT", "DELETE"],
        _ => &["GET", "POST"],
    };
    if !allowed.contains(&call.method.as_str()) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let limits = shared.limits();
    match call.path.as_str() {
        "/ready" => return text(200, "ready\n".to_owned()),
        "/config" => return text(200, limits.config(call.role.target())),
        "/flush" => {
            shared.write().flush();
            return no_content();
        }
        "/loki/api/v1/status/buildinfo" => {
            let body = r#"{"version":"3.4.6","revision":"2b7b94ff","branch":"release-3.4.x","buildUser":"root@buildkitsandbox","buildDate":"2025-11-20T00:00:00Z","goVersion":""}"#;
            return json(body.to_owned());
        }
        _ => {}
    }
    let tenant = call.header("X-Scope-OrgID").to_owned();
    if tenant.is_empty() {
        return text(401, "no org id\n".to_owned());
    }
    match call.path.as_str() {
        "/config/tenant/v1/limits" => text(200, limits.yaml("")),
        "/loki/api/v1/push" => push(shared, call, &tenant),
        "/loki/api/v1/delete" => delete(shared, call, &tenant),
        _ => query::answer(shared, call, &tenant),
    }
}

fn push(shared: &Shared, call: &Call, tenant: &str) -> Response {
    let encoding = call.header("Content-Encoding");
    shared.body_bytes.fetch_add(call.body.len() as u64, Ordering::Relaxed);
    if let Some(bodies) = locked(&shared.bodies).as_mut() {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let content_type = call.header("Content-Type").to_owned();
        bodies.push((content_type, some(encoding), call.body.to_vec()));
    }
    let decoded = decode::body(call.header("Content-Type"), encoding, &call.body);
    let mut streams = match decoded {
        Ok(streams) => streams,
        Err(error) => return text(400, format!("{error}\n")),
    };
    if call.half {
        let total: usize = streams.iter().map(|stream| stream.entries.len()).sum();
        let mut left = total / 2;
        for stream in &mut streams {
            stream.entries.truncate(left);
            left -= stream.entries.len();
        }
    }
    let (limits, now) = (shared.limits(), shared.now());
    match push::push(&mut shared.write(), &limits, now, tenant, streams) {
        Ok(()) => no_content(),
        Err((status, error)) => text(status, format!("{error}\n")),
    }
}

fn delete(shared: &Shared, call: &Call, tenant: &str) -> Response {
    let limits = shared.limits();
    match limits.deletes {
        Deletes::NotServed => return text(404, "404 page not found\n".to_owned()),
        Deletes::Forbidden => {
            return text(403, "deletion is not available for this tenant\n".to_owned());
        }
        Deletes::Enabled => {}
    }
    let now = shared.now();
    let mut store = shared.write();
    let deletes = &mut store.tenants.entry(tenant.to_owned()).or_default().deletes;
    let acts = |delete: &Delete| delete.created + limits.delete_delay * 1_000_000_000 <= now;
    match call.method.as_str() {
        "GET" => {
            let all = deletes.iter().enumerate();
            let all: Vec<_> = all.map(|(id, delete)| delete.json(id, acts(delete))).collect();
            json(serde_json::Value::from(all).to_string())
        }
        "DELETE" => {
            let id = usize::from_str_radix(call.get("request_id"), 16).ok();
            match id.filter(|id| *id < deletes.len()) {
                None => text(404, "could not find delete request with given id\n".to_owned()),
                Some(id) if acts(&deletes[id]) => {
                    let why = "deletion of request which is in process or already processed is \
                               not allowed\n";
                    text(400, why.to_owned())
                }
                Some(id) => {
                    deletes.remove(id);
                    no_content()
                }
            }
        }
        _ => match Delete::parse(|name| call.get(name).to_owned(), now) {
            Ok(delete) => {
                deletes.push(delete);
                no_content()
            }
            Err(error) => text(400, format!("{error}\n")),
        },
    }
}
