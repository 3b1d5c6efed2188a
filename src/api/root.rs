//! `/` and `/healthcheck`.

use axum::{
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// `GET /`: which versions of the API there are.
pub(super) async fn versions(headers: HeaderMap) -> Response {
    let host = host(&headers);
    let version = |id: &str, status: &str| {
        json!({
            "id": id,
            "links": [{"href": format!("http://{host}/{id}"), "rel": "self"}],
            "status": status,
        })
    };
    let body = json!({"versions": [version("v1", "CURRENT"), version("v2", "EXPERIMENTAL")]});
    ([(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

/// The host by whose name the client asks; nothing that is no name.
pub(super) fn host(headers: &HeaderMap) -> &str {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = host.strip_suffix(":80").unwrap_or(host);
    let fine = |c: char| c.is_ascii_alphanumeric() || "-._~:[]%".contains(c);
    if host.chars().all(fine) { host } else { "" }
}

/// `/healthcheck`: the process is there.
pub(super) async fn healthcheck(method: Method, headers: HeaderMap) -> Response {
    if method == Method::HEAD {
        return StatusCode::NO_CONTENT.into_response();
    }
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    match preferred(accept.unwrap_or_default()) {
        "application/json" => {
            let body = "{\n    \"detailed\": false,\n    \"reasons\": [\n        \"OK\"\n    ]\n}";
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        "text/html" => {
            let body = "<HTML>\n<HEAD><TITLE>Healthcheck Status</TITLE></HEAD>\n<BODY>\n\n\
                <H2>Result of 1 checks:</H2>\n<TABLE bgcolor=\"#ffffff\" border=\"1\">\n<TBODY>\n\
                <TR>\n\n<TH>\nReason\n</TH>\n</TR>\n<TR>\n\n    <TD>OK</TD>\n\n</TR>\n</TBODY>\n\
                </TABLE>\n<HR></HR>\n\n</BODY>\n</HTML>";
            ([(header::CONTENT_TYPE, "text/html; charset=UTF-8")], body).into_response()
        }
        _ => ([(header::CONTENT_TYPE, "text/plain; charset=UTF-8")], "OK").into_response(),
    }
}

/// The type that an Accept header likes best of those that there are; text
/// when it names none.
fn preferred(accept: &str) -> &str {
    let mut best = ("text/plain", 0.0);
    for item in accept.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let quality = parts
            .find_map(|part| part.strip_prefix("q="))
            .map_or(1.0, |quality| quality.parse::<f64>().unwrap_or(0.0));
        let known =
            matches!(kind, "application/json" | "text/html" | "text/plain" | "*/*" | "text/*");
        if known && quality > best.1 {
            best = (kind, quality);
        }
    }
    best.0
}
