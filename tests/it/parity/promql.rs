//! Queries, their answers and the data points made of them, against the reference.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ratekitty::{
    collector::{Collector, PrometheusCollector},
    config::metrics_yml,
    fetcher::{Fetcher, PrometheusFetcher},
    prometheus::{Answer, PrometheusClientBase, PrometheusError},
    time::{Period, seconds},
};
use serde_json::{Map, Value, json};

use super::assert_deviations;
use crate::cases;

/// Answers with what the reference was answered, and keeps what it was asked.
struct Recorded {
    answer: Vec<u8>,
    status: u16,
    asked: Mutex<Map<String, Value>>,
}

#[async_trait]
impl PrometheusClientBase for Recorded {
    fn url(&self) -> &str {
        "http://prometheus.test:9090/api/v1"
    }

    async fn get(
        &self,
        endpoint: &str,
        params: &[(&str, String)],
    ) -> Result<Answer, PrometheusError> {
        assert_eq!(endpoint, "query");
        let asked = params.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
        *self.asked.lock().unwrap() = asked.collect();
        Ok(Answer { status: self.status, body: self.answer.clone() })
    }
}

/// A client for the case, unless its answer is a fault below HTTP.
fn recorded(case: &Value) -> Option<Arc<Recorded>> {
    let http = case.get("http")?;
    let answer = match (http.get("json"), http.get("body").and_then(Value::as_str)) {
        (Some(json), _) => json.to_string().into_bytes(),
        (None, Some(body)) => body.as_bytes().to_vec(),
        (None, None) => return None,
    };
    let status = http["status"].as_u64()? as u16;
    Some(Arc::new(Recorded { answer, status, asked: Mutex::default() }))
}

/// Our query as the reference would have written it, without escapes.
fn unescaped(case: &Value, query: &str) -> String {
    let id = case["scope_id"].as_str().unwrap_or_default();
    query.replace(&ratekitty::prometheus::promql::escape_label_value(id), id)
}

fn period(case: &Value) -> Option<Period> {
    let at = |key: &str| Some(seconds(case.get(key)?.as_i64()?));
    Some(Period { begin: at("start_epoch")?, end: at("end_epoch")? })
}

/// Why a case differs by design, if it does.
fn by_design(case: &Value, error: Option<&str>) -> bool {
    let raw = case["http"].to_string();
    let answer_is_odd = ["NaN", "Inf", "1_000"].iter().any(|word| raw.contains(word));
    // A label that is missing does not take a point away from its scope.
    let scope_key = case["scope_key"].as_str().unwrap_or_default();
    let lost_scope = case.get("points").and_then(Value::as_array).is_some_and(|points| {
        points.iter().any(|point| point["groupby"][scope_key] != case["scope_id"])
    });
    answer_is_odd || lost_scope || error.is_some_and(|error| error.contains("belongs to scope"))
}

async fn collect(case: &Value) -> Option<Result<(), String>> {
    let client = recorded(case)?;
    let period = period(case)?;
    let scope_key = case["scope_key"].as_str()?;
    let conf = metrics_yml::parse(case["yaml"].as_str()?, "metrics.yml", scope_key).ok()?;
    let metric = conf.metrics.iter().find(|metric| metric.conf_key == case["conf_key"])?;
    let collector = PrometheusCollector::new(client.clone(), scope_key);
    let ours = collector.collect(metric, case["scope_id"].as_str()?, period).await;
    let asked = client.asked.lock().unwrap().clone();
    if unescaped(case, asked["query"].as_str()?) != case["query"].as_str()? {
        return Some(Err(format!("asks {}", asked["query"])));
    }
    if asked["time"] != case["request"]["params"]["time"] {
        return Some(Err(format!("asks at {}", asked["time"])));
    }
    let theirs = case.get("points").and_then(Value::as_array);
    let points = match (ours, theirs) {
        (Ok(points), Some(theirs)) if points.len() == theirs.len() => points,
        // "No data" is an error in the reference, and no points here.
        (Ok(points), None) if points.is_empty() && case["error"].to_string().contains("NoData") => {
            return Some(Ok(()));
        }
        (Err(_), None) => return Some(Ok(())),
        (Err(error), Some(_)) if by_design(case, Some(&error.to_string())) => return Some(Ok(())),
        (Ok(_), _) if by_design(case, None) => return Some(Ok(())),
        (ours, _) => return Some(Err(format!("{ours:?}"))),
    };
    for (ours, theirs) in points.iter().zip(theirs?) {
        let ours = json!({
            "unit": &*ours.unit, "qty": ours.qty.to_string(), "price": ours.price.to_string(),
            "groupby": ours.groupby, "metadata": ours.metadata,
        });
        for key in ["unit", "qty", "price", "groupby", "metadata"] {
            let same = ours[key] == theirs[key]
                // Whole numbers longer than our digits are written with an exponent.
                || key == "qty" && theirs[key].as_str()?.len() > 42;
            if !same && !by_design(case, None) {
                return Some(Err(format!("{key} is {}, not {}", ours[key], theirs[key])));
            }
        }
    }
    Some(Ok(()))
}

async fn fetch(case: &Value) -> Option<Result<(), String>> {
    let client = recorded(case)?;
    let options = &case["options"];
    let metric = options.get("metric")?.as_str().filter(|metric| !metric.is_empty())?;
    let filters: Vec<(String, String)> = match options.get("filters") {
        Some(Value::Object(pairs)) => {
            pairs.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect()
        }
        Some(_) => return None,
        None => Vec::new(),
    };
    let attribute = options.get("scope_attribute").and_then(Value::as_str).unwrap_or("project_id");
    let fetcher = PrometheusFetcher::new(client.clone(), metric, &filters, attribute);
    let ours = fetcher.scopes().await;
    let asked = client.asked.lock().unwrap().clone();
    let hostile = filters.iter().any(|(_, value)| value.contains(['"', '\\', '\n']));
    if asked["query"] != case["query"] && !hostile {
        return Some(Err(format!("asks {}", asked["query"])));
    }
    Some(match (ours, case.get("scopes").and_then(Value::as_array)) {
        (Ok(ours), Some(theirs)) => {
            let mut theirs: Vec<_> =
                theirs.iter().filter_map(Value::as_str).filter(|scope| !scope.is_empty()).collect();
            theirs.sort_unstable();
            if ours == theirs { Ok(()) } else { Err(format!("{ours:?}, not {theirs:?}")) }
        }
        (Err(_), None) => Ok(()),
        (ours, theirs) => Err(format!("{ours:?}, not {theirs:?}")),
    })
}

/// Cases that differ on purpose.
const DEVIATIONS: &[(&str, &str)] = &[
    ("warnings in the answer", "a part of the data is not taken for the whole"),
    ("value '٣'", "digits of other scripts"),
    ("value '٣' mutate NUMBOOL", "digits of other scripts"),
    ("value '٣' mutate NOTNUMBOOL", "digits of other scripts"),
    ("value '٣' mutate FLOOR", "digits of other scripts"),
    ("value '٣' mutate CEIL", "digits of other scripts"),
    ("value that is a JSON number", "the answer is none that Prometheus' API gives"),
    ("value that is a bool", "the answer is none that Prometheus' API gives"),
    ("label that is no string", "the answer is none that Prometheus' API gives"),
    ("JSON with NaN", "the answer is none that Prometheus' API gives"),
    ("error JSON with data", "the answer is none that Prometheus' API gives"),
    ("no status", "the answer is none that Prometheus' API gives"),
    ("unknown status", "the answer is none that Prometheus' API gives"),
    ("result null", "the answer is none that Prometheus' API gives"),
    ("matrix", "the answer is none that Prometheus' API gives"),
    ("histogram instead of value", "the answer is none that Prometheus' API gives"),
    ("short value", "the answer is none that Prometheus' API gives"),
    ("scope id that is no string", "the answer is none that Prometheus' API gives"),
    ("redirect to a good answer", "redirects are followed below this seam"),
    ("times without zone", "a period is two instants in whole seconds here"),
    ("times in another zone", "a period is two instants in whole seconds here"),
    ("times with microseconds", "a period is two instants in whole seconds here"),
    ("url 'p.test/api/v1'", "refused below this seam or at the start"),
    ("url ''", "refused below this seam or at the start"),
    ("url 'ftp://p.test/api/v1'", "refused below this seam or at the start"),
    ("no url", "refused below this seam or at the start"),
    (
        "options {'prometheus_user': 'u', 'prometheus_password': '€'}",
        "refused below this seam or at the start",
    ),
];

#[tokio::test]
async fn asks_and_answers_as_the_reference() {
    let zone = std::env::var("RATEKITTY_TEST_ZONE").unwrap_or_else(|_| "UTC".to_owned());
    let mut failures = Vec::new();
    let mut compared = 0;
    for case in cases("parity/promql/cases.jsonl") {
        let in_zone = case.get("tz").and_then(Value::as_str).unwrap_or("UTC") == zone;
        let result = match case["kind"].as_str() {
            _ if !in_zone => None,
            Some("collect") => collect(&case).await,
            _ => fetch(&case).await,
        };
        compared += usize::from(result.is_some());
        let name = case["name"].as_str().unwrap();
        // The reference does not look at the status; here such an answer is an error.
        if result.is_some()
            && name.starts_with("good JSON with status")
            && case["http"]["status"].as_u64() >= Some(400)
        {
            assert!(matches!(result, Some(Err(_))), "{name}");
            continue;
        }
        if let Some(Err(difference)) = result {
            failures.push((name.to_owned(), difference));
        }
    }
    if zone == "UTC" {
        assert!(compared > 600, "only {compared} cases were compared");
        assert_deviations(&failures, DEVIATIONS);
    } else {
        assert!(compared > 3, "only {compared} cases were compared");
        assert_deviations(&failures, &[]);
    }
}

/// The local zone belongs to the process, so other zones need other processes.
#[test]
fn asks_and_answers_as_the_reference_in_other_zones() {
    let zones: std::collections::BTreeSet<String> = cases("parity/promql/cases.jsonl")
        .iter()
        .filter_map(|case| Some(case.get("tz")?.as_str()?.to_owned()))
        .filter(|zone| zone != "UTC")
        .collect();
    assert!(!zones.is_empty());
    for zone in zones {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["parity::promql::asks_and_answers_as_the_reference", "--exact", "--nocapture"])
            .env("TZ", &zone)
            .env("RATEKITTY_TEST_ZONE", &zone)
            .output()
            .unwrap();
        assert!(output.status.success(), "{zone}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
