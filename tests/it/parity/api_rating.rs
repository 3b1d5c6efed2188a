//! Rating modules and rules in the API, as the reference answered request by
//! request.

use std::collections::HashMap;

use axum::{
    body::Body,
    http::{Request, header},
};
use regex::Regex;
use serde_json::{Value, json};

use super::is_in_another_zone;
use crate::{
    cases,
    storage::loki_app_on,
    support::{Db, TestApp, fake_loki::Limits},
};

/// Replays recorded requests, and tells where our answers differ. `<name>` stands
/// for identifiers, as `record.py` says; a case's `ours` is what we answer where
/// the reference is wrong.
struct Replay<'a> {
    app: &'a TestApp,
    /// Names of identifiers.
    names: HashMap<String, String>,
    differences: Vec<String>,
    line: usize,
}

impl Replay<'_> {
    fn real(&self, text: &str) -> String {
        self.names
            .iter()
            .fold(text.to_owned(), |text, (id, name)| text.replace(&format!("<{name}>"), id))
    }

    fn told(&self, text: &str) -> String {
        let text = self
            .names
            .iter()
            .fold(text.to_owned(), |text, (id, name)| text.replace(id, &format!("<{name}>")));
        let random = Regex::new("\\b[0-9a-f]{32}\\b").unwrap();
        random.replace_all(&text, "<random>").into_owned()
    }

    async fn case(&mut self, case: &Value) {
        let (method, path) = (case["method"].as_str().unwrap(), case["path"].as_str().unwrap());
        let path = self.real(path);
        let mut request = Request::builder().method(method).uri(&path).header(header::HOST, "h");
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
        let sent = self.real(&body.clone().unwrap_or_default());
        let answer = self.app.request(request.body(Body::from(sent)).unwrap()).await;
        if let Some(name) = case["save"].as_str() {
            let uuid = Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}");
            let uuid = uuid.unwrap();
            let new = uuid.find_iter(&answer.text).find(|id| !self.names.contains_key(id.as_str()));
            if let Some(id) = new {
                self.names.insert(id.as_str().to_owned(), name.to_owned());
            }
        }
        let header = |name| {
            answer.headers.get(name).map(|value: &header::HeaderValue| value.to_str().unwrap())
        };
        // Clients repeat a request that redirects to itself.
        let location = case["location"].as_str().filter(|_| case["status"] != 302);
        let theirs = json!({
            "status": case["status"],
            "type": case["type"],
            "location": location,
            "text": in_order(case["text"].as_str().unwrap()),
        });
        let mut expected = theirs.clone();
        // What `ours` says of a 500 is in COMPATIBILITY.md, so it has to be said.
        assert!(theirs["status"] != 500 || case["ours"].is_object(), "{method} {path}");
        if let Some(ours) = case["ours"].as_object() {
            expected.as_object_mut().unwrap().extend(ours.clone());
            assert_ne!(expected, theirs, "{method} {path}: not another answer");
        }
        let ours = json!({
            "status": answer.status.as_u16(),
            "type": header(header::CONTENT_TYPE),
            "location": header(header::LOCATION).map(|location| self.told(location)),
            "text": in_order(&self.told(&answer.text)),
        });
        let same = ["status", "type", "location", "text"].into_iter().all(|name| {
            // An answer that is ours alone may be in any words.
            expected[name] == ours[name]
                || name == "text" && case["ours"]["text"].is_null() && case["ours"].is_object()
        });
        if !same {
            let body = body.unwrap_or_default();
            self.differences.push(format!(
                "line {}: {method} {path} {body}\n  not {expected}\n  but {ours}",
                self.line
            ));
        }
    }
}

/// The metrics file of the reference when it answered.
pub const METRICS: &str = "metrics:
  cpu:
    unit: instance
    alt_name: instance
    mutate: NUMBOOL
    groupby: [id, project_id]
    metadata: [flavor_name, flavor_id, vcpus]
    extra_args:
      aggregation_method: max
      query_function: abs
  volume.size:
    unit: GiB
    factor: 1/1024
    offset: 0.5
    groupby:
      - id
    metadata: []
    extra_args: {aggregation_method: max}
";

/// Lists in any order; JSON as JSON, in its own order of keys.
fn in_order(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(mut object)) => {
            // Labels are a set in the reference.
            let metrics = object.get_mut("metrics").and_then(Value::as_array_mut);
            for metric in metrics.into_iter().flatten() {
                metric["metadata"].as_array_mut().unwrap().sort_by_key(Value::to_string);
            }
            for list in object.values_mut().filter_map(Value::as_array_mut) {
                list.sort_by_key(Value::to_string);
            }
            Value::Object(object).to_string()
        }
        Ok(other) => other.to_string(),
        Err(_) => text.to_owned(),
    }
}

async fn replay(db: Db, file: &str) -> usize {
    replay_on(&TestApp::on(db, "2026-11-01T00:00:00Z", "", METRICS).await, file, db).await
}

/// The same with dataframes in Loki.
async fn replay_with_loki(db: Db, file: &str) -> usize {
    let (mut app, _loki) = loki_app_on(db, Limits::roomy(), "").await;
    app.set_metrics(METRICS);
    replay_on(&app, file, db).await
}

async fn replay_on(app: &TestApp, file: &str, db: Db) -> usize {
    let mut replay = Replay { app, names: HashMap::new(), differences: Vec::new(), line: 0 };
    let mut count = 0;
    for case in cases(file) {
        replay.line += 1;
        if let Some(now) = case["now"].as_str() {
            app.clock.set(format!("{now}Z").parse().unwrap());
            continue;
        }
        replay.case(&case).await;
        count += 1;
    }
    let differences = replay.differences;
    assert!(differences.is_empty(), "{db:?}: {}\n{}", differences.len(), differences.join("\n"));
    count
}

#[tokio::test]
async fn modules_of_v1_are_the_references() {
    for db in Db::ALL {
        assert!(replay(db, "parity/api_rating/v1_modules.jsonl").await > 100);
    }
}

#[tokio::test]
async fn modules_of_v2_are_the_references() {
    for db in Db::ALL {
        assert!(replay(db, "parity/api_rating/v2_modules.jsonl").await > 70);
    }
}

#[tokio::test]
async fn hashmap_rules_are_the_references() {
    for db in Db::ALL {
        assert!(replay(db, "parity/api_rating/v1_hashmap.jsonl").await > 500);
    }
}

#[tokio::test]
async fn scripts_are_the_references() {
    for db in Db::ALL {
        assert!(replay(db, "parity/api_rating/v1_pyscripts.jsonl").await > 100);
    }
}

#[tokio::test]
async fn quotes_are_the_references() {
    for db in Db::ALL {
        assert!(replay(db, "parity/api_rating/v1_quote.jsonl").await > 70);
    }
}

#[tokio::test]
async fn scopes_and_reprocessing_are_the_references() {
    for db in Db::ALL {
        assert!(replay(db, "parity/api_rating/v2_scope.jsonl").await > 150);
        assert!(replay_with_loki(db, "parity/api_rating/v2_scope.jsonl").await > 150);
    }
}

#[tokio::test]
async fn pushes_are_the_references() {
    for db in Db::ALL {
        assert!(replay(db, "parity/api_rating/v2_dataframes.jsonl").await > 190);
        assert!(replay_with_loki(db, "parity/api_rating/v2_dataframes.jsonl").await > 190);
    }
}

#[tokio::test]
async fn the_rest_of_v1_is_the_references() {
    for db in Db::ALL {
        assert!(replay(db, "parity/api_rating/v1_rest.jsonl").await > 200);
        assert!(replay_with_loki(db, "parity/api_rating/v1_rest.jsonl").await > 200);
    }
}

/// Dates of rules are by the wall clock, those of data in UTC; clocks change twice.
#[tokio::test]
async fn dates_in_another_zone_are_the_references() {
    if is_in_another_zone("parity::api_rating::dates_in_another_zone_are_the_references") {
        for db in Db::ALL {
            assert!(replay(db, "parity/api_rating/v1_zone.jsonl").await > 50);
        }
    }
}
