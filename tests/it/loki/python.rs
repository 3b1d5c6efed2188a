//! The reference's entries and ours, in one Loki. What the reference pushes and
//! what it reads of other entries was recorded from CloudKitty 25.0.0.

use std::collections::BTreeMap;

use ratekitty::{
    dataframe::{DataFrame, DataPoint},
    storage::{GroupKey, Page, Selection},
    time::{Period, seconds},
};
use serde_json::{Map, Value, json};

use super::{HOUR, START, by_flavor, frame, hour, label, prices};
use crate::{
    fixture,
    support::StorageExt,
    support::{FakeLoki, TestApp, fake_loki::Limits},
};

const NOW: &str = "2026-11-02T00:00:00Z";

fn recorded(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

async fn loki() -> FakeLoki {
    let loki = FakeLoki::start(Limits::roomy()).await;
    let now: chrono::DateTime<chrono::Utc> = NOW.parse().unwrap();
    loki.set_now(now.timestamp() * 1_000_000_000);
    loki
}

/// Pushes a body as the reference did; whether Loki took it.
async fn push(loki: &FakeLoki, body: &Value) -> bool {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let answer = reqwest::Client::new()
        .post(format!("{}/push", loki.url()))
        .header("X-Scope-OrgID", "cloudkitty")
        .header("Content-Type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    answer.status() == 204
}

/// A frame of the recording; `None` if it holds what no JSON can.
fn recorded_frame(json: &Value) -> Option<DataFrame> {
    let instant = |name: &str| {
        let text = json["period"][name].as_str()?;
        Some(chrono::DateTime::parse_from_rfc3339(text).ok()?.to_utc())
    };
    let (begin, end) = (instant("begin")?, instant("end")?);
    let plain = begin.timestamp_subsec_nanos() == 0 && begin < end;
    if !plain || begin.timestamp() < 1_500_000_000 || end.timestamp() > 1_900_000_000 {
        return None;
    }
    let mut frame = DataFrame::new(Period { begin, end });
    for (frame_type, points) in json["usage"].as_object()? {
        for point in points.as_array()? {
            let labels = |name: &str| {
                let labels = point[name].as_object()?;
                // Python's own types are noted as objects with one key.
                let odd = ["float", "decimal", "datetime", "tuple", "bytes"];
                let text = Value::from(labels.clone()).to_string();
                (!odd.iter().any(|name| text.contains(&format!("{{\"{name}\":"))))
                    .then(|| labels.clone())
            };
            let point = DataPoint {
                unit: point["vol"]["unit"].as_str()?.into(),
                qty: point["vol"]["qty"].as_str()?.parse().ok()?,
                price: point["rating"]["price"].as_str()?.parse().ok()?,
                groupby: labels("groupby")?.into(),
                metadata: labels("metadata")?.into(),
            };
            frame.add(frame_type, [point]);
        }
    }
    // No float has as much.
    let finite = |(_, points): &(String, Vec<DataPoint>)| {
        points.iter().all(|point| (point.qty.to_f64() + point.price.to_f64()).is_finite())
    };
    (!frame.is_empty() && frame.usage.iter().all(finite)).then_some(frame)
}

/// Points in a form that can be compared: numbers as the floats that the
/// reference keeps.
fn shown(points: impl IntoIterator<Item = (Period, String, DataPoint)>) -> Vec<String> {
    let mut shown: Vec<String> = points
        .into_iter()
        .map(|(period, frame_type, point)| {
            format!("{period} {frame_type} {}", super::as_json(&point))
        })
        .collect();
    shown.sort();
    shown
}

fn points_of(frame: DataFrame) -> Vec<(Period, String, DataPoint)> {
    let period = frame.period;
    let usage = frame.usage.into_iter();
    let usage = usage.flat_map(|(frame_type, points)| {
        points.into_iter().map(move |point| (period, frame_type.clone(), point))
    });
    usage.collect()
}

fn window(period: Period) -> Selection {
    Selection::all(period.begin, period.end)
}

#[tokio::test]
async fn what_the_reference_pushed_is_read() {
    let mut read = 0;
    for case in recorded("loki/python_push.json") {
        let name = case["name"].as_str().unwrap();
        // One push of one frame, all of which went out and is no float beyond JSON.
        let Some(given) = recorded_frame(&case["dataframe"]) else { continue };
        let pushes = case["pushes"].as_array().unwrap();
        let equal_entries = {
            let mut lines = shown(points_of(given.clone()));
            lines.dedup();
            lines.len() < given.len()
        };
        let is_plain = case.get("error").is_none() && case["buffered"].as_u64() == Some(0);
        let options = case["options"].as_object().unwrap();
        if !is_plain || equal_entries || options.keys().any(|name| name != "buffer_size") {
            continue;
        }
        let (app, loki) = app_and_loki("").await;
        let mut taken = true;
        for body in pushes {
            taken &= push(&loki, &body["json"]).await;
        }
        if !taken {
            // Loki does not take labels that are no text.
            continue;
        }
        let got = app.storage.retrieve(&window(given.period), Page::ALL).await.unwrap();
        assert_eq!(shown(got.points), shown(points_of(given)), "{name}");
        read += 1;
    }
    assert!(read > 60, "{read}");
}

async fn app_and_loki(conf: &str) -> (TestApp, FakeLoki) {
    let loki = loki().await;
    (TestApp::with_loki(NOW, &loki.url(), conf, "").await, loki)
}

/// (line, structured metadata) of entries, sorted.
type Written = Vec<(Vec<(String, Value)>, BTreeMap<String, String>)>;

/// A line's keys in order, numbers as floats.
fn line_keys(line: &str) -> Vec<(String, Value)> {
    let line: Map<String, Value> = serde_json::from_str(line).unwrap();
    line.into_iter()
        .map(|(key, value)| match (key.as_str(), value.as_f64()) {
            ("qty" | "price", Some(number)) => (key, json!(number)),
            _ => (key, value),
        })
        .collect()
}

#[tokio::test]
async fn our_entries_are_what_the_reference_writes() {
    let mut compared = 0;
    for case in recorded("loki/python_push.json") {
        let name = case["name"].as_str().unwrap();
        let Some(given) = recorded_frame(&case["dataframe"]) else { continue };
        if case.get("error").is_some()
            || case["buffered"].as_u64() != Some(0)
            || case["tz"] != "UTC"
            || case["options"].as_object().unwrap().keys().any(|name| name != "buffer_size")
            || name.contains("description")
        {
            continue;
        }
        let mut theirs: Written = Vec::new();
        for push in case["pushes"].as_array().unwrap() {
            for stream in push["json"]["streams"].as_array().unwrap() {
                for value in stream["values"].as_array().unwrap() {
                    let metadata = serde_json::from_value(value[2].clone()).unwrap();
                    theirs.push((line_keys(value[1].as_str().unwrap()), metadata));
                }
            }
        }
        let (app, loki) = app_and_loki("").await;
        app.storage.append(&[given]).await.unwrap();
        let mut ours: Written = loki
            .entries()
            .iter()
            .map(|entry| {
                let metadata = entry.structured_metadata.iter().cloned();
                // In JSON pushes, Loki keeps the escapes of these texts.
                let unescaped = metadata.map(|(name, text)| {
                    let text = serde_json::from_str(&format!("\"{text}\"")).unwrap_or(text);
                    (name, text)
                });
                (line_keys(&entry.line), unescaped.collect())
            })
            .collect();
        let key = |entry: &(Vec<(String, Value)>, BTreeMap<String, String>)| format!("{entry:?}");
        theirs.sort_by_key(key);
        ours.sort_by_key(key);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(ours.len(), theirs.len(), "{name}");
        compared += 1;
    }
    assert!(compared > 60, "{compared}");
}

/// The body of a push of the reference: one point per id, all at the begin of
/// the hour.
fn python_body(scope: &str, number: i64, ids: std::ops::Range<usize>, price: &str) -> Value {
    let period = hour(number);
    let date = |instant: chrono::DateTime<chrono::Utc>| {
        instant.format("%Y-%m-%dT%H:%M:%S+00:00").to_string()
    };
    let values: Vec<Value> = ids
        .map(|id| {
            let line = format!(
                "{{\"start\": \"{}\", \"end\": \"{}\", \"type\": \"cpu\", \"unit\": \"GiB\", \
                 \"description\": null, \"qty\": 2.0, \"price\": {price}, \"groupby\": \
                 {{\"project_id\": \"{scope}\", \"id\": \"id-{id}\"}}, \"metadata\": \
                 {{\"flavor.name\": \"m1\"}}}}",
                date(period.begin),
                date(period.end)
            );
            let metadata = json!({"type": "cpu", "unit": "GiB"});
            json!([(period.begin.timestamp() * 1_000_000_000).to_string(), line, metadata])
        })
        .collect();
    json!({"streams": [{
        "stream": {"service": "cloudkitty", "project_id": scope},
        "values": values,
    }]})
}

#[tokio::test]
async fn a_migration_in_the_middle_of_the_month() {
    let (app, loki) = app_and_loki("").await;
    // Python rated four hours, and began a fifth when it was stopped.
    for number in 0..4 {
        for scope in ["p1", "p2"] {
            assert!(push(&loki, &python_body(scope, number, 0..2, "1.0")).await);
        }
    }
    assert!(push(&loki, &python_body("p1", 4, 0..1, "1.0")).await);
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "17");
    assert_eq!(prices(&*app.storage).await.len(), 17);
    // Now it is our turn, from the fifth hour on.
    for number in 4..6 {
        for scope in ["p1", "p2"] {
            app.storage.put(scope, &frame(scope, number, 2, "3")).await.unwrap();
        }
    }
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "40");
    let totals = app.storage.total(&super::everything(), &[GroupKey::Type], Page::ALL).await;
    let totals = totals.unwrap();
    assert_eq!((totals.total, totals.rows[0].price.to_f64().to_string().as_str()), (1, "40"));
    let totals = app.storage.total(&super::everything(), &[GroupKey::Time], Page::ALL).await;
    let prices_by_hour: Vec<String> =
        totals.unwrap().rows.iter().map(|row| row.price.to_f64().to_string()).collect();
    assert_eq!(prices_by_hour, ["4", "4", "4", "4", "12", "12"]);
    assert_eq!(prices(&*app.storage).await.len(), 24);
    // Pages go through both.
    for limit in [1, 5, 7] {
        let mut ids = Vec::new();
        for offset in (0..24).step_by(limit) {
            let page = Page { offset: offset as u64, limit: limit as u64 };
            let got = app.storage.retrieve(&super::everything(), page).await.unwrap();
            ids.extend(shown(got.points));
        }
        ids.sort();
        let whole = app.storage.retrieve(&super::everything(), Page::ALL).await.unwrap();
        assert_eq!(ids, shown(whole.points), "{limit}");
    }
    // Back to the third hour of p1: of Python's entries, those go, too.
    app.storage.remove("p1", hour(2).begin, hour(100).begin).await.unwrap();
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "24");
    for number in 2..6 {
        app.storage.put("p1", &frame("p1", number, 1, "10")).await.unwrap();
    }
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "64");
    let filtered = super::everything().with("project_id", &["p1"]).with("id", &["id-0"]);
    let totals = app.storage.total(&filtered, &[label("id")], Page::ALL).await.unwrap();
    assert_eq!(totals.rows[0].price.to_f64().to_string(), "42");
    // Whoever asks for ours alone gets these.
    let conf = "read_cloudkitty_entries = false";
    let own = TestApp::with_loki(NOW, &loki.url(), conf, "").await;
    assert_eq!(by_flavor(&*own.storage).await.unwrap(), "nothing");
}

#[tokio::test]
async fn crowds_of_the_reference_at_one_instant_are_read_whole() {
    let (app, loki) = app_and_loki("").await;
    // Twenty thousand of one project, and six thousand projects with one each.
    for at in 0..4 {
        let body = python_body("big", 0, at * 5_000..(at + 1) * 5_000, "0.5");
        assert!(push(&loki, &body).await);
    }
    for at in 0..6 {
        let streams: Vec<Value> = (at * 1_000..(at + 1) * 1_000)
            .map(|scope| python_body(&format!("s{scope}"), 1, 0..1, "0.5")["streams"][0].clone())
            .collect();
        assert!(push(&loki, &json!({ "streams": streams })).await);
    }
    let got = app.storage.retrieve(&super::everything(), Page::ALL).await.unwrap();
    assert_eq!((got.total, got.points.len()), (26_000, 26_000));
    let mut different = shown(got.points);
    different.dedup();
    assert_eq!(different.len(), 26_000);
    let page = Page { offset: 19_990, limit: 20 };
    let got = app.storage.retrieve(&super::everything(), page).await.unwrap();
    let hours: Vec<i64> =
        got.points.iter().map(|(period, ..)| (period.begin.timestamp() - START) / HOUR).collect();
    assert_eq!(hours, [vec![0; 10], vec![1; 10]].concat());
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "13000");
    let totals = app.storage.total(&super::everything(), &[label("id")], Page::ALL).await.unwrap();
    assert_eq!(totals.total, 20_000);
}

/// Lines that the reference reads and never writes; we pass over them, or read
/// the number as it stands.
const NEVER_WRITTEN: [&str; 30] = [
    "blanks around",
    "a key twice",
    "price -0",
    "qty -0",
    "price \"1_000\"",
    "qty \"1_000\"",
    "price true",
    "qty true",
    "price false",
    "qty false",
    "price [0, [1, 5], -1]",
    "qty [0, [1, 5], -1]",
    "type null",
    "type 5",
    "type True",
    "type 0",
    "unit 0",
    "groupby ''",
    "groupby []",
    "groupby [['a', 'b']]",
    "groupby ['ab', 'cd']",
    "metadata ''",
    "metadata []",
    "metadata [['a', 'b']]",
    "metadata ['ab', 'cd']",
    "start '2024-11-01T00:00:00'",
    "start '2024-11-01T00:00:00+0000'",
    "start '2024-11-01'",
    "start '20241101T000000Z'",
    "start '2024-11-01T00:00Z'",
];

#[tokio::test]
async fn what_the_reference_reads_of_others_lines_is_what_we_read() {
    let mut compared = 0;
    let mut different = Vec::new();
    // One for all, as a tenant each.
    let loki = loki().await;
    let cases = recorded("loki/python_read.json");
    for (number, case) in cases.iter().enumerate() {
        let name = case["name"].as_str().unwrap();
        let Some(frames) = case["retrieve"]["dataframes"].as_array() else { continue };
        let frames: Option<Vec<DataFrame>> = frames.iter().map(recorded_frame).collect();
        // The reference takes one line of each stream.
        let streams = case["result"].as_array().unwrap();
        let values: usize = streams.iter().map(|s| s["values"].as_array().unwrap().len()).sum();
        let Some(frames) = frames.filter(|_| values == streams.len() && case["tz"] == "UTC") else {
            continue;
        };
        let theirs: Vec<_> = frames.into_iter().flat_map(points_of).collect();
        let streams: Vec<Value> = streams
            .iter()
            .enumerate()
            .map(|(at, stream)| {
                let labels = json!({"service": format!("case-{number}"), "at": at.to_string()});
                json!({"stream": labels, "values": stream["values"]})
            })
            .collect();
        if !push(&loki, &json!({ "streams": streams })).await {
            continue;
        }
        let conf = format!("stream = service:case-{number}");
        let app = TestApp::with_loki(NOW, &loki.url(), &conf, "").await;
        let day = 1_730_419_200;
        let around = Selection::all(seconds(day - 86_400), seconds(day + 2 * 86_400));
        let got = app.storage.retrieve(&around, Page::ALL).await.unwrap();
        let ours = shown(got.points);
        if ours != shown(theirs) {
            different.push(name);
        }
        compared += 1;
    }
    assert_eq!(different, NEVER_WRITTEN);
    assert!(compared > 60, "{compared}");
}
