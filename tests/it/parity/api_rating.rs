//! Rating modules in the API, as the reference answered request by request.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::Value;

use crate::{
    cases,
    support::{Db, TestApp},
};

/// Where the reference is wrong: the path and the start of the body, and what we
/// answer.
const MENDED: &[(&str, &str, u16)] = &[
    ("/v2/rating/modules/hashmap", "{\"priority\":99999999999}", 400),
    ("/v1/rating/modules/hashmap", "{\"module_id\":\"hashmap\",\"priority\":99999999999}", 400),
    ("/v1/rating/modules/hashmap", "{\"module_id\":\"hashmap\",\"priority\":null}", 400),
    ("/v1/rating/modules/hashmap", "{\"module_id\":\"hashmap\",\"priority\":[1]}", 400),
    ("/v1/rating/modules/hashmap", "{\"module_id\":\"hashmap\",\"enabled\":null}", 400),
    ("/v1/rating/modules/hashmap", "[1]", 400),
    ("/v1/rating/modules/hashmap", "5", 400),
    ("/v1/rating/modules/hashmap", "null", 400),
    ("/v1/rating/modules/hashmap", "\"x\"", 400),
    // A form is no JSON.
    ("/v1/rating/modules/hashmap", "module_id=hashmap&", 415),
];

async fn replay(app: &TestApp, file: &str) -> usize {
    let mut count = 0;
    for case in cases(file) {
        let (method, path) = (case["method"].as_str().unwrap(), case["path"].as_str().unwrap());
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "h");
        let body = match &case["body"] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        let headers = case["headers"].as_object();
        if let Some(kind) = headers.and_then(|headers| headers["content-type"].as_str()) {
            request = request.header(header::CONTENT_TYPE, kind);
        } else if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let told = body.clone().unwrap_or_default();
        let answer = app.request(request.body(Body::from(told.clone())).unwrap()).await;
        let asked = format!("{method} {path} {told}");
        count += 1;
        let mended = MENDED.iter().find(|(p, b, _)| path == *p && told.starts_with(b));
        if let Some((_, _, status)) = mended {
            assert_eq!(answer.status, *status, "{asked}: {}", answer.text);
            continue;
        }
        assert_eq!(u64::from(answer.status.as_u16()), case["status"], "{asked}: {}", answer.text);
        let kind = answer.headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap());
        assert_eq!(kind, case["type"].as_str(), "{asked}");
        // Clients repeat a request that redirects to itself.
        assert_eq!(answer.headers.get(header::LOCATION), None, "{asked}");
        let theirs = case["text"].as_str().unwrap();
        match serde_json::from_str::<Value>(theirs) {
            // The same keys in the same order; spaces are nobody's business.
            Ok(theirs) => assert_eq!(answer.json().to_string(), theirs.to_string(), "{asked}"),
            Err(_) => assert_eq!(answer.text, theirs, "{asked}"),
        }
    }
    count
}

#[tokio::test]
async fn modules_of_v1_are_the_references() {
    for db in Db::ALL {
        let app = TestApp::on(db, "2026-11-01T00:00:00Z", "", "").await;
        assert!(replay(&app, "parity/api_rating/v1_modules.jsonl").await > 100);
    }
}

#[tokio::test]
async fn modules_of_v2_are_the_references() {
    for db in Db::ALL {
        let app = TestApp::on(db, "2026-11-01T00:00:00Z", "", "").await;
        assert!(replay(&app, "parity/api_rating/v2_modules.jsonl").await > 70);
    }
}
