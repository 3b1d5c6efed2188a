//! What stands between clients and the API, as the reference answered it: XML, CORS,
//! proxy headers, health check.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use axum::{body::Body, http::Request};
use base64::{Engine, prelude::BASE64_STANDARD};
use ratekitty::api::Ends;
use regex::Regex;
use serde_json::{Value, json};

use super::assert_deviations;
use crate::{cases, support::TestApp};

/// Our answer, and that of the reference, in one form.
struct Compared {
    theirs: Value,
    ours: Value,
}

struct Replay {
    app: TestApp,
    dir: tempfile::TempDir,
    names: HashMap<String, String>,
}

const METRICS: &str = super::api_rating::METRICS;

impl Replay {
    async fn new(conf: &Value, now: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut text = String::new();
        for (group, options) in conf.as_object().into_iter().flatten() {
            text.push_str(&format!("[{group}]\n"));
            for (name, value) in options.as_object().unwrap() {
                let value = value.as_str().unwrap();
                let value = value.replace("{dir}", &dir.path().display().to_string());
                text.push_str(&format!("{name} = {value}\n"));
            }
        }
        let app = TestApp::new(now, &text, METRICS).await;
        Self { app, dir, names: HashMap::new() }
    }

    fn told(&self, text: &str) -> String {
        let names = self.names.iter();
        let text =
            names.fold(text.to_owned(), |text, (id, name)| text.replace(id, &format!("<{name}>")));
        let random = Regex::new("\\b[0-9a-f]{32}\\b").unwrap();
        random.replace_all(&text, "<random>").into_owned()
    }

    async fn case(&mut self, case: &Value) -> Compared {
        let real = |text: &str| {
            let names = self.names.iter();
            names.fold(text.to_owned(), |text, (id, name)| text.replace(&format!("<{name}>"), id))
        };
        for file in std::fs::read_dir(self.dir.path()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        for file in case["files"].as_array().into_iter().flatten() {
            std::fs::write(self.dir.path().join(file.as_str().unwrap()), "").unwrap();
        }
        self.app.set_metrics(case["metrics"].as_str().unwrap_or(METRICS));
        if let Some(now) = case["now"].as_str() {
            self.app.clock.set(format!("{now}Z").parse().unwrap());
        }
        let mut request = Request::builder()
            .method(case["method"].as_str().unwrap())
            // What was never made is asked for by the name that it has in the file.
            .uri(real(case["path"].as_str().unwrap()).replace('<', "%3C").replace('>', "%3E"));
        let headers = case["headers"].as_object();
        let has = |name: &str| headers.is_some_and(|headers| headers.contains_key(name));
        if !has("host") {
            request = request.header("host", "h");
        }
        for (name, value) in headers.into_iter().flatten() {
            request = request.header(name, value.as_str().unwrap());
        }
        let body = match &case["body"] {
            Value::Null => match case["body_base64"].as_str() {
                Some(text) => BASE64_STANDARD.decode(text).unwrap(),
                None => Vec::new(),
            },
            Value::String(text) => real(text).into_bytes(),
            other => {
                if !has("content-type") {
                    request = request.header("content-type", "application/json");
                }
                real(&other.to_string()).into_bytes()
            }
        };
        let port = u16::try_from(case["port"].as_u64().unwrap_or(80)).unwrap();
        let from = case["from"].as_str().unwrap_or("127.0.0.1").parse().unwrap();
        let ends = Ends {
            peer: SocketAddr::new(from, 4711),
            local: SocketAddr::new([127, 0, 0, 1].into(), port),
        };
        let request = request.extension(ends).body(Body::from(body)).unwrap();
        let answer = self.app.request(request).await;
        if let Some(name) = case["save"].as_str() {
            let uuid = Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}");
            let new = uuid.unwrap();
            let new = new.find_iter(&answer.text).find(|id| !self.names.contains_key(id.as_str()));
            if let Some(id) = new {
                self.names.insert(id.as_str().to_owned(), name.to_owned());
            }
        }
        let shown = [
            "content-type",
            "location",
            "vary",
            "access-control-allow-origin",
            "access-control-allow-credentials",
            "access-control-expose-headers",
            "access-control-max-age",
            "access-control-allow-methods",
            "access-control-allow-headers",
        ];
        let mut headers = BTreeMap::new();
        for name in shown {
            if let Some(value) = answer.headers.get(name) {
                headers.insert(name, json!(self.told(value.to_str().unwrap())));
            }
        }
        if answer.headers.contains_key("x-openstack-request-id") {
            headers.insert("x-openstack-request-id", json!("present"));
        }
        let mut expected = case["resp_headers"].clone();
        if let Some(expected) = expected.as_object_mut() {
            expected.remove("allow");
            // Clients repeat a request that redirects to itself.
            if case["status"] == 302 {
                expected.remove("location");
            }
        }
        Compared {
            theirs: json!({
                "status": case["status"],
                "headers": expected,
                "text": in_order(case["text"].as_str().unwrap_or_default()),
            }),
            ours: json!({
                "status": answer.status.as_u16(),
                "headers": headers,
                "text": in_order(&self.told(&answer.text)),
            }),
        }
    }
}

/// JSON as JSON; in XML, lists in any order.
fn in_order(text: &str) -> String {
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return match value {
            Value::Object(mut object) => {
                for list in object.values_mut().filter_map(Value::as_array_mut) {
                    list.sort_by_key(Value::to_string);
                }
                Value::Object(object).to_string()
            }
            other => other.to_string(),
        };
    }
    text.to_owned()
}

/// The text that XML stands for.
fn plain(text: &str) -> String {
    let number = Regex::new(r"&#(\d+);").unwrap();
    let text = number.replace_all(text, |found: &regex::Captures<'_>| {
        char::from_u32(found[1].parse().unwrap()).unwrap().to_string()
    });
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    text.replace("&quot;", "\"").replace("&amp;", "&")
}

/// The name of a service, as the reference took it from whatever XML, by its answer.
fn name_taken(case: &Value) -> Option<Value> {
    if case["method"] != "POST" || !case["path"].as_str()?.ends_with("/services") {
        return None;
    }
    let text = case["text"].as_str()?;
    if let Ok(answer) = serde_json::from_str::<Value>(text) {
        return Some(json!({"name": answer["name"]}));
    }
    let name = Regex::new("(?s)<name>(.*)</name>").unwrap();
    Some(json!({"name": plain(&name.captures(text)?[1])}))
}

/// A flat object in XML as one in JSON.
fn in_json(body: &str) -> Option<Value> {
    let inner = Regex::new(r"(?s)^<\w+>(.*)</\w+>$").unwrap();
    let inner = inner.captures(body)?.get(1)?.as_str();
    let element = Regex::new(r"<([\w-]+)>(<[a-z]{3}\d+>|[^<]*)</[\w-]+>").unwrap();
    if !element.replace_all(inner, "").trim().is_empty() {
        return None;
    }
    let found = element.captures_iter(inner);
    Some(found.map(|found| (found[1].to_owned(), json!(plain(&found[2])))).collect())
}

/// Replays the lines of a file that are not skipped, and tells how many those were.
async fn replay(file: &str, skipped: impl Fn(&Value) -> bool, allowed: &[(&str, &str)]) -> usize {
    replay_as(file, |case| (!skipped(case)).then(|| case.clone()), allowed).await
}

async fn replay_as(
    file: &str,
    sent: impl Fn(&Value) -> Option<Value>,
    allowed: &[(&str, &str)],
) -> usize {
    let mut differing = Vec::new();
    let mut replay: Option<(Value, Replay)> = None;
    let mut count = 0;
    for case in cases(&format!("parity/api_http/{file}")) {
        let Some(case) = sent(&case).filter(|case| !case["raises"].is_string()) else { continue };
        count += 1;
        if replay.as_ref().is_none_or(|(conf, _)| *conf != case["conf"]) {
            let new = Replay::new(&case["conf"], "2026-11-01T00:00:00Z").await;
            replay = Some((case["conf"].clone(), new));
        }
        let (_, replay) = replay.as_mut().unwrap();
        let compared = replay.case(&case).await;
        let is_ours = compared.theirs["status"] != 500 || compared.ours["status"] != 500;
        assert!(is_ours, "{case}: {}", compared.ours);
        if compared.theirs != compared.ours {
            let name = case["name"].as_str().unwrap().to_owned();
            differing.push((name, format!("\n  {}\n  {}", compared.theirs, compared.ours)));
        }
    }
    assert_deviations(&differing, allowed);
    count
}

/// Whether the reference runs with a pipeline that nobody has.
fn has_other_pipeline(case: &Value) -> bool {
    let paste = case["paste"].as_object();
    let is_emptied = |options: &Value| {
        options.as_object().is_some_and(|options| options.values().all(Value::is_null))
    };
    paste.is_some_and(|paste| !paste.values().all(is_emptied))
}

const PROXY: &[(&str, &str)] = &[(
    "new: two protos",
    "a scheme that is none comes back once; the reference puts it before itself again and again",
)];

const XML: &[(&str, &str)] = &[
    ("accept '*/json'", "a range that is none is as if there were none, as in the RFC"),
    ("no such controller, accept '*/*'", PAGE),
    ("no such controller, accept 'application/json'", PAGE),
    ("no such controller, accept 'text/html'", PAGE),
    ("no such controller, accept 'text/plain, application/json'", PAGE),
    ("no such controller, accept 'application/*'", PAGE),
    ("no such controller, accept 'garbage'", PAGE),
    ("too many parts, accept '*/*'", PAGE),
    ("too many parts, accept 'application/json'", PAGE),
    ("HEAD with JSON wanted", PAGE),
    ("metrics", SET),
    ("services, deprecated", SET),
    ("metric", SET),
    ("metrics with markup", SET),
    ("configuration of all types", "dates and infinity, which JSON has not, are null"),
    ("configuration that is no YAML", "the file is read at the start, and not at a request"),
    ("dataframes", "of one period they are in the order of their types"),
    ("date that is none", "the text says what a date is"),
    ("mapping: start with blanks", AS_JSON),
    ("module: not enabled", AS_JSON),
    ("module: false with blanks", AS_JSON),
    ("module: shown again", "after what was refused before"),
    ("attributes of an object in the query", QUERY),
    ("attributes in query and body", QUERY),
    ("body in the query", QUERY),
    ("body in the query without a type", QUERY),
    ("JSON in a charset that it is not in", "JSON is UTF-8, whatever else its type says"),
];

const PAGE: &str = "what is not of the API is told in plain text";
const SET: &str = "metadata are in the order of the file; the reference's are in none";
const AS_JSON: &str = "sent as JSON here, which takes no blanks and no capitals";
const QUERY: &str = "a body is in the body";

/// Our default is to look at a file, as the pipeline does that the reference is
/// delivered with.
const HEALTHCHECK: &[(&str, &str)] = &[
    ("no backends", "one is looked at"),
    ("no backends, JSON", "one is looked at"),
    ("no backends, HTML", "one is looked at"),
];

#[tokio::test]
async fn pages_of_other_origins_are_told_what_they_may() {
    let count = replay("cors.jsonl", |_| false, &[]).await;
    assert!(count > 90, "{count}");
}

#[tokio::test]
async fn links_begin_as_proxies_say() {
    let count = replay("proxy.jsonl", has_other_pipeline, PROXY).await;
    assert!(count > 70, "{count}");
}

#[tokio::test]
async fn the_health_check_goes_by_files() {
    // Details of the process are Python's.
    let skipped = |case: &Value| {
        has_other_pipeline(case)
            || case["conf"]["healthcheck"]["detailed"] == "true"
            || case["forwards"].is_string()
    };
    let count = replay("healthcheck.jsonl", skipped, HEALTHCHECK).await;
    assert!(count > 60, "{count}");
    // What the reference sends to itself without end is not found.
    for case in cases("parity/api_http/healthcheck.jsonl") {
        if case["forwards"].is_string() {
            let mut replay = Replay::new(&case["conf"], "2026-11-01T00:00:00Z").await;
            assert_eq!(replay.case(&case).await.ours["status"], 404, "{case}");
        }
    }
}

#[tokio::test]
async fn version_1_answers_in_xml_to_those_who_like_it() {
    let mut refused = Vec::new();
    let is_refused = |case: &Value| {
        let kind = case["headers"]["content-type"].as_str().unwrap_or_default();
        let kind = kind.to_lowercase();
        kind.starts_with("text/xml") || kind.starts_with("application/x-www-form-urlencoded")
    };
    for case in cases("parity/api_http/xml.jsonl") {
        if is_refused(&case) && case["method"] != "GET" {
            refused.push(case);
        }
    }
    // Bodies in XML and forms are refused, and nothing is made of them.
    let mut replay_refused = Replay::new(&Value::Null, "2026-11-01T00:00:00Z").await;
    for case in &refused {
        let ours = replay_refused.case(case).await.ours;
        let is_empty = case["body"].as_str().is_some_and(str::is_empty);
        let is_fine = ours["status"] == if is_empty { 400 } else { 415 };
        assert!(is_fine || ours["status"] == 404, "{case}: {ours}");
    }
    assert!(refused.len() > 60, "{}", refused.len());
    // The same in JSON, as far as it is plain, so that there is what the reference had.
    let translated = |case: &Value| -> Option<Value> {
        if !is_refused(case) {
            return Some(case.clone());
        }
        let is_done = case["status"].as_u64().is_some_and(|status| status < 400);
        let body = case["body"].as_str().filter(|_| is_done)?;
        let mut case = case.clone();
        case["body"] = name_taken(&case).or_else(|| in_json(body))?;
        case["headers"].as_object_mut().unwrap().remove("content-type");
        Some(case)
    };
    let count = replay_as("xml.jsonl", translated, XML).await;
    assert!(count > 150, "{count}");
}
