//! How clients reach the API: by which scheme, host and prefix, as they or a proxy
//! before us say. Links in answers begin with it.
//!
//! Headers of proxies count only if `[oslo_middleware] enable_proxy_headers_parsing`
//! is set, as anybody can send them.

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    middleware::Next,
    response::Response,
};

/// How a client reached the API.
#[derive(Debug, Clone)]
pub(super) struct Front {
    scheme: String,
    host: String,
    prefix: String,
}

impl Front {
    fn of(headers: &HeaderMap, reads_proxies: bool) -> Self {
        let text = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.filter(|text| !text.is_empty())
        };
        let mut front = Self {
            scheme: "http".to_owned(),
            host: text("host").unwrap_or_default().to_owned(),
            prefix: String::new(),
        };
        if !reads_proxies {
            return front;
        }
        if let Some(forwarded) = text("forwarded") {
            // The first one is next to the client.
            let first = forwarded.split(',').next().unwrap_or_default();
            for pair in first.split(';') {
                let Some((name, value)) = pair.split_once('=') else { continue };
                match name.trim().to_ascii_lowercase().as_str() {
                    "proto" => front.scheme = value.trim().to_owned(),
                    "host" => front.host = value.trim().to_owned(),
                    _ => {}
                }
            }
        } else {
            if let Some(scheme) = text("x-forwarded-proto") {
                front.scheme = scheme.to_owned();
            }
            if let Some(host) = text("x-forwarded-host") {
                front.host = host.to_owned();
            }
        }
        if let Some(prefix) = text("x-forwarded-prefix") {
            front.prefix = prefix.to_owned();
        }
        front
    }

    /// The host without a port that the scheme implies.
    fn short_host(&self) -> &str {
        let port = if self.scheme == "https" { ":443" } else { ":80" };
        self.host.strip_suffix(port).unwrap_or(&self.host)
    }

    /// The host by whose name the client asks; nothing that is no name.
    fn host(&self) -> &str {
        let host = self.short_host();
        let fine = |c: char| c.is_ascii_alphanumeric() || "-._~:[]%".contains(c);
        if host.chars().all(fine) { host } else { "" }
    }

    /// URL without a path.
    pub fn root(&self) -> String {
        format!("{}://{}", self.scheme, self.host())
    }

    /// URL of a path.
    pub fn place(&self, path: &str) -> String {
        // What a proxy says stands as it says it.
        format!("{}://{}{}{path}", self.scheme, self.short_host(), self.prefix)
    }
}

/// Notes it with the request.
pub(super) async fn note(
    State(reads_proxies): State<bool>,
    mut request: Request,
    next: Next,
) -> Response {
    let front = Front::of(request.headers(), reads_proxies);
    request.extensions_mut().insert(front);
    next.run(request).await
}
