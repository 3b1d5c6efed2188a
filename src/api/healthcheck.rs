//! `/healthcheck`: whether requests should be sent here, as oslo.middleware tells
//! it to balancers. It looks at files that operators put there, not at databases.
//! <https://docs.openstack.org/oslo.middleware/latest/reference/healthcheck_plugins.html>

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::accept::Accept;
use crate::config::sections::http::{Backend, Healthcheck};

/// The two ends of a request's connection.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The client's.
    pub peer: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
}

/// What was found.
struct Found {
    is_up: bool,
    reason: &'static str,
    details: String,
    class: &'static str,
}

impl Backend {
    fn look(&self, port: Option<u16>) -> Found {
        let found = |is_up, reason, details, class| Found { is_up, reason, details, class };
        match self {
            Self::DisableByFile(path) if !path.as_os_str().is_empty() && path.exists() => {
                let details = format!("Path '{}' was found", path.display());
                found(false, "DISABLED BY FILE", details, "DisableByFileHealthcheck")
            }
            Self::DisableByFile(path) => {
                let details = match path.as_os_str().is_empty() {
                    true => String::new(),
                    false => format!("Path '{}' was not found", path.display()),
                };
                found(true, "OK", details, "DisableByFileHealthcheck")
            }
            Self::DisableByFilesPorts(places) => {
                let class = "DisableByFilesPortsHealthcheck";
                let place = places.iter().find(|(of, _)| Some(*of) == port);
                match place {
                    Some((_, path)) if path.exists() => {
                        let details = format!("Path '{}' was found", path.display());
                        found(false, "DISABLED BY FILE", details, class)
                    }
                    Some((_, path)) => {
                        let details = format!("Path '{}' was not found", path.display());
                        found(true, "OK", details, class)
                    }
                    None => found(true, "OK", String::new(), class),
                }
            }
            Self::EnableByFiles(paths) => {
                let class = "EnableByFilesHealthcheck";
                match paths.iter().find(|path| !path.exists()) {
                    Some(path) => {
                        let details = format!("File path {} is missing", path.display());
                        found(false, "FILE PATH MISSING", details, class)
                    }
                    None => {
                        let details = "Specified file paths are available".to_owned();
                        found(true, "OK", details, class)
                    }
                }
            }
        }
    }
}

/// Headers by which proxies tell of themselves.
const PROXIED: [&str; 5] = [
    "x-forwarded",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-for",
    "x-forwarded-prefix",
];

/// `/healthcheck`, and whatever is below it, by any method.
pub(super) async fn answer(
    State(check): State<Arc<Healthcheck>>,
    ends: Option<Extension<Ends>>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let ends = ends.map(|Extension(ends)| ends);
    let is_outside = !check.sources.is_empty()
        && !ends.is_some_and(|ends| {
            check.sources.iter().any(|network| network.contains(ends.peer.ip()))
        });
    let is_proxied = check.ignore_proxied
        && PROXIED.iter().any(|name| headers.get(*name).is_some_and(|value| !value.is_empty()));
    // The reference sends such a request to itself, again and again.
    if is_outside || is_proxied {
        return StatusCode::NOT_FOUND.into_response();
    }
    let port = ends.map(|ends| ends.local.port());
    let found: Vec<Found> = check.backends.iter().map(|backend| backend.look(port)).collect();
    let is_up = found.iter().all(|found| found.is_up);
    let status = if is_up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if method == Method::HEAD {
        return match is_up {
            true => StatusCode::NO_CONTENT.into_response(),
            false => {
                (status, [(header::CONTENT_TYPE, "text/plain; charset=UTF-8")]).into_response()
            }
        };
    }
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let offers = ["text/plain", "text/html", "application/json"];
    let liked = accept.map_or_else(Vec::new, |accept| Accept::read(accept).of(&offers));
    let (kind, body) = match liked.first() {
        Some(&"application/json") => ("application/json", as_json(&found, check.detailed)),
        Some(&"text/html") => ("text/html; charset=UTF-8", as_html(&found, check.detailed)),
        _ => ("text/plain; charset=UTF-8", as_text(&found, check.detailed)),
    };
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

fn as_text(found: &[Found], is_detailed: bool) -> String {
    let lines = found.iter().map(|found| match is_detailed {
        true => format!("{}: {}", found.reason, found.details),
        false => found.reason.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn as_json(found: &[Found], is_detailed: bool) -> String {
    let reasons: Vec<_> = found
        .iter()
        .map(|found| match is_detailed {
            true => json!({"class": found.class, "details": found.details, "reason": found.reason}),
            false => json!(found.reason),
        })
        .collect();
    let body = json!({"detailed": is_detailed, "reasons": reasons});
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, indent);
    // What is in memory can be written.
    let _ = serde::Serialize::serialize(&body, &mut serializer);
    String::from_utf8(text).unwrap_or_default()
}

fn as_html(found: &[Found], is_detailed: bool) -> String {
    let mut rows = String::new();
    for found in found {
        let reason = escape(found.reason);
        rows.push_str(&match is_detailed {
            true => format!(
                "<TR>\n\n    <TD>{}</TD>\n\n    <TD>{reason}</TD>\n\n    <TD>{}</TD>\n\n</TR>",
                escape(found.class),
                escape(&found.details)
            ),
            false => format!("<TR>\n\n    <TD>{reason}</TD>\n\n</TR>"),
        });
    }
    let heads = match is_detailed {
        true => "<TH>\nKind\n</TH>\n<TH>\nReason\n</TH>\n<TH>\nDetails\n</TH>\n",
        false => "<TH>\nReason\n</TH>\n",
    };
    format!(
        "<HTML>\n<HEAD><TITLE>Healthcheck Status</TITLE></HEAD>\n<BODY>\n\n\
         <H2>Result of {} checks:</H2>\n<TABLE bgcolor=\"#ffffff\" border=\"1\">\n<TBODY>\n\
         <TR>\n\n{heads}</TR>\n{rows}\n</TBODY>\n</TABLE>\n<HR></HR>\n\n</BODY>\n</HTML>",
        found.len()
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
