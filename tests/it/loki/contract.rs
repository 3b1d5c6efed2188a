//! Replays the recorded contract of a Loki.

use std::{
    io,
    time::{Duration, Instant},
};

use ratekitty::time::{Clock, RealClock};
use regex::{Captures, Regex};
use serde::Serialize;
use serde_json::{Value, ser::Formatter};

use crate::{
    fixture,
    support::{FakeLoki, fake_loki::Limits},
};

/// Present time in seconds.
#[allow(clippy::disallowed_methods, reason = "a real Loki goes by the real time")]
fn present() -> i64 {
    RealClock.now().timestamp()
}

/// Puts `${T+n}`, `${Tsec+x}` into every string below a value.
fn filled(value: &Value, t: i64) -> Value {
    match value {
        Value::String(text) => filled_text(text, t).into(),
        Value::Array(items) => items.iter().map(|item| filled(item, t)).collect(),
        Value::Object(members) => {
            members.iter().map(|(key, value)| (key.clone(), filled(value, t))).collect()
        }
        other => other.clone(),
    }
}

fn filled_text(text: &str, t: i64) -> String {
    let nanos = Regex::new(r"\$\{T([+-]\d+)\}").unwrap();
    let text = nanos.replace_all(text, |found: &Captures<'_>| {
        (t + found[1].parse::<i64>().unwrap()).to_string()
    });
    let seconds = Regex::new(r"\$\{Tsec([+-][\d.]+)\}").unwrap();
    let text = seconds.replace_all(&text, |found: &Captures<'_>| {
        let offset: f64 = found[1].parse().unwrap();
        ((t / 1_000_000_000) as f64 + offset).to_string()
    });
    text.into_owned()
}

/// Python's JSON, which the recording was made with: refusals show parts of it.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: io::Write + ?Sized>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}

fn spaced(value: &Value) -> String {
    let mut text = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, Spaced)).unwrap();
    String::from_utf8(text).unwrap()
}

/// The line that the recording pushed for a price and an id.
fn line(id: &str, price: &str) -> String {
    format!(
        r#"{{"start": "2026-11-01T00:00:00+00:00", "end": "2026-11-01T01:00:00+00:00", "type": "instance", "unit": "instance", "description": null, "qty": 1.0, "price": {price}, "groupby": {{"id": "{id}"}}, "metadata": {{"flavor.name": "m1.small"}}}}"#
    )
}

/// The body of a step that describes it in words.
fn generated(words: &str, t: i64) -> Value {
    let (project, values): (&str, Vec<Value>) = if words.contains("0..501") {
        let value = |i: i64| {
            serde_json::json!([(t + i).to_string(), line(&format!("r{}", 1000 + i), "1.0")])
        };
        ("many", (0..501).map(value).collect())
    } else if words.contains("300000") {
        ("long", vec![serde_json::json!([t.to_string(), "x".repeat(300_000)])])
    } else {
        assert!(words.contains("70 lines of 100006 bytes"), "{words}");
        let value = |i: i64| {
            let line = format!("{i:06}{}", "y".repeat(100_000));
            serde_json::json!([(t + i).to_string(), line])
        };
        ("huge", (0..70).map(value).collect())
    };
    serde_json::json!({"streams": [{
        "stream": {"service": "cloudkitty", "project_id": project},
        "values": values,
    }]})
}

/// An answer in a form that can be compared: without statistics, streams in one
/// order, times in refusals as `<time>`.
fn comparable(text: &str, ties: bool) -> Value {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else {
        let times = [
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z",
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000 UTC",
        ];
        let text = times.iter().fold(text.trim_end().to_owned(), |text, time| {
            Regex::new(time).unwrap().replace_all(&text, "<time>").into_owned()
        });
        return text.into();
    };
    if let Some(data) = value.get_mut("data").and_then(Value::as_object_mut) {
        data.remove("stats");
        if let Some(result) = data.get_mut("result").and_then(Value::as_array_mut) {
            for series in result.iter_mut() {
                // A recorded time is a text with a place in it; both become numbers.
                if let Some(time) = series.pointer_mut("/value/0") {
                    let seconds: f64 = time.to_string().trim_matches('"').parse().unwrap();
                    *time = seconds.into();
                }
                if ties && let Some(labels) = series["metric"].as_object_mut() {
                    labels.values_mut().for_each(|value| *value = "any".into());
                }
                for labels in ["stream", "metric"] {
                    if let Some(labels) = series.get_mut(labels).and_then(Value::as_object_mut) {
                        labels.sort_keys();
                    }
                }
            }
            result.sort_by_key(Value::to_string);
        }
    }
    value
}

/// Replays the recording against the Loki at `base`, the URL of its API, and
/// `root`, that of its server. Its tenants must be fresh: `tenant` begins their
/// names.
///
/// Loki cuts log queries at full hours, and what `| json` forgets depends on
/// it. The recording has the entries at T and 50 minutes before it in the same
/// hour, so T is five minutes to a full hour, between one and two hours ago.
///
/// `others` has answers by the names of steps, which are as good as the recorded ones.
pub async fn replay(recording: &Value, base: &str, root: &str, tenant: &str, others: &Value) {
    let second = present() - 3600;
    let second = second - (second - 3300).rem_euclid(3600);
    let t = second * 1_000_000_000;
    // Fails where one is installed, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    let mut patience = Duration::ZERO;
    for step in recording["steps"].as_array().unwrap() {
        let name = step["name"].as_str().unwrap();
        let at = if step["root"] == true { root } else { base };
        let method = step["method"].as_str().unwrap().parse().unwrap();
        let mut request = http.request(method, format!("{at}{}", step["path"].as_str().unwrap()));
        if let Some(suffix) = step["tenant"].as_str() {
            request = request.header("X-Scope-OrgID", format!("{tenant}-{suffix}"));
        }
        if let Some(params) = step["params"].as_object() {
            let params: Vec<(&String, String)> = params
                .iter()
                .map(|(key, value)| (key, filled_text(value.as_str().unwrap(), t)))
                .collect();
            request = request.query(&params);
        }
        let body = match (&step["json"], step["generate"].as_str(), step["raw"].as_str()) {
            (_, Some(words), _) => Some(spaced(&generated(words, t))),
            (_, _, Some(raw)) => Some(raw.to_owned()),
            (Value::Null, ..) => None,
            (json, ..) => Some(spaced(&filled(json, t))),
        };
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body);
        }
        // Which of several equal series `topk` takes is left to chance.
        let query = step["params"]["query"].as_str().unwrap_or_default();
        let ties = query.starts_with("topk") || query.starts_with("bottomk");
        let answer = |recorded: &Value| {
            let body = match &recorded["body"] {
                Value::String(text) => text.replace("contract-", &format!("{tenant}-")),
                other => filled(other, t).to_string(),
            };
            (recorded["status"].as_u64().unwrap(), comparable(&body, ties))
        };
        let (want, other) = (answer(&step["response"]), others.get(name).map(answer));
        let begin = Instant::now();
        loop {
            let answer = request.try_clone().unwrap().send().await.unwrap();
            let status = u64::from(answer.status().as_u16());
            let got = (status, comparable(&answer.text().await.unwrap(), ties));
            if got == want || other.as_ref() == Some(&got) {
                break;
            }
            let (want, got) = ((want.0, want.1.to_string()), (got.0, got.1.to_string()));
            assert!(
                begin.elapsed() < patience,
                "step {name:?}\nexpected: {want:?}\n     got: {got:?}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // What such a step does may take a while to show.
        if let Some(wait) = step["wait_s"].as_u64() {
            patience = Duration::from_secs(wait);
        }
    }
}

fn read(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

#[tokio::test]
async fn loki_keeps_the_contract() {
    let mut recording = read("loki/contract.json");
    let newer = &read("loki/contract_newer.json")["responses"];
    let loki = FakeLoki::start(Limits::stock()).await;
    replay(&recording, &loki.url(), loki.root(), "contract", &Value::Null).await;
    // A real one, too, where there is one.
    if let Ok(url) = std::env::var("RATEKITTY_TEST_LOKI_URL") {
        let tenant = format!("contract{}", present());
        let root = url.strip_suffix("/loki/api/v1").unwrap().to_owned();
        replay(&recording, &url, &root, &tenant, newer).await;
    }
    // The double knows some words of newer ones.
    let step = "a metric query with more than max_query_series series";
    let steps = recording["steps"].as_array_mut().unwrap().iter_mut();
    let mut asked = steps.filter(|asked| asked["name"] == step);
    asked.next().unwrap()["response"] = newer[step].clone();
    let loki = FakeLoki::start(Limits { has_newer_words: true, ..Limits::stock() }).await;
    replay(&recording, &loki.url(), loki.root(), "contract", &Value::Null).await;
}
