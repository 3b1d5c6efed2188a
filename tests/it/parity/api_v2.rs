//! Answers of the API against those recorded from the reference.

use axum::{body::Body, http::Request};
use chrono::{DateTime, Utc};
use ratekitty::{
    dataframe::{DataFrame, DataPoint},
    time::Period,
};
use sea_orm::ConnectionTrait;
use serde_json::Value;

use super::{assert_deviations, is_in_another_zone};
use crate::{cases, fixture, support::TestApp};

/// An app that holds what the reference held.
async fn seeded(now: &str) -> TestApp {
    let app = TestApp::new(now, "", "").await;
    let text = std::fs::read_to_string(fixture("parity/api_v2/seed.json")).unwrap();
    let seed: Value = serde_json::from_str(&text).unwrap();
    for scope in seed["scopes"].as_array().unwrap() {
        let text = |key: &str| scope[key].as_str().unwrap().replace('T', " ");
        let sql = format!(
            "INSERT INTO cloudkitty_storage_states (identifier, scope_key, fetcher, collector, \
             last_processed_timestamp, scope_activation_toggle_date, active) \
             VALUES ('{}', '{}', '{}', '{}', '{}', '{}', {})",
            scope["identifier"].as_str().unwrap(),
            text("scope_key"),
            text("fetcher"),
            text("collector"),
            text("last_processed_timestamp"),
            text("scope_activation_toggle_date"),
            scope["active"],
        );
        app.database.connection().execute_unprepared(&sql).await.unwrap();
    }
    let date = |value: &Value| value.as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let frames: Vec<DataFrame> = seed["dataframes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|raw| {
            let period = &raw["period"];
            let period = Period { begin: date(&period["begin"]), end: date(&period["end"]) };
            let mut frame = DataFrame::new(period);
            for (frame_type, points) in raw["usage"].as_object().unwrap() {
                let points = points.as_array().unwrap().iter().map(|point| DataPoint {
                    unit: point["vol"]["unit"].as_str().unwrap().into(),
                    qty: serde_json::from_value(point["vol"]["qty"].clone()).unwrap(),
                    price: point
                        .get("rating")
                        .map(|rating| serde_json::from_value(rating["price"].clone()).unwrap())
                        .unwrap_or_default(),
                    groupby: point["groupby"].as_object().unwrap().clone().into(),
                    metadata: point["metadata"].as_object().unwrap().clone().into(),
                });
                frame.add(frame_type, points);
            }
            frame
        })
        .collect();
    app.storage.append(&frames).await.unwrap();
    app
}

/// Whether two answers say the same: floats but for their last digits, which
/// in the reference depend on the order of addition.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(ours), Value::Number(theirs)) => {
            let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
            (ours - theirs).abs() <= 1e-12 * ours.abs().max(theirs.abs())
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| same(a, b))
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().all(|(key, a)| theirs.get(key).is_some_and(|b| same(a, b)))
        }
        (ours, theirs) => ours == theirs,
    }
}

/// Points of an answer, for comparing without their order within a period,
/// which in the reference is arbitrary.
fn points(answer: &Value) -> Vec<String> {
    let mut points = Vec::new();
    for frame in answer["dataframes"].as_array().into_iter().flatten() {
        for (frame_type, list) in frame["usage"].as_object().into_iter().flatten() {
            for point in list.as_array().into_iter().flatten() {
                points.push(format!("{} {frame_type} {point}", frame["period"]));
            }
        }
    }
    points.sort();
    points
}

/// A summary without what only InfluxDB does: text "" for a label that is not
/// there (null here), rows for periods without points, periods after labels
/// whatever their order in groupby.
fn normal(summary: &Value) -> Vec<String> {
    let columns = summary["columns"].as_array().map_or(0, Vec::len);
    let mut rows: Vec<String> = Vec::new();
    for row in summary["results"].as_array().into_iter().flatten() {
        let mut row: Vec<Value> = match row {
            Value::Object(row) => row.values().cloned().collect(),
            row => row.as_array().unwrap().clone(),
        };
        if row.len() < 4 || row[2].is_null() {
            continue;
        }
        for number in &mut row[2..4] {
            *number = format!("{:.11e}", number.as_f64().unwrap_or_default()).into();
        }
        for label in &mut row[4..] {
            if *label == "" {
                *label = Value::Null;
            }
        }
        rows.push(Value::Array(row).to_string());
    }
    rows.sort();
    rows.insert(0, columns.to_string());
    rows
}

/// What differs, if anything.
async fn difference(app: &TestApp, case: &Value) -> Result<(), String> {
    let path = case["path"].as_str().unwrap();
    let method = case["method"].as_str().unwrap();
    let mut request = Request::builder().method(method).uri(path);
    let headers = case["headers"].as_object().unwrap();
    if !headers.keys().any(|name| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", "api.example.org");
    }
    for (name, value) in headers {
        request = request.header(name, value.as_str().unwrap());
    }
    let Ok(request) = request.body(Body::empty()) else { return Ok(()) };
    let answer = app.request(request).await;
    let status = answer.status.as_u16();
    let expected = case["status"].as_u64().unwrap();
    // A client's mistake is never a 500 here, and what is none is answered.
    if expected == 500 {
        let answered = ANSWERED.iter().find(|(name, _)| case["name"] == *name);
        let expected = answered.map_or(400, |(_, status)| *status);
        return if status == expected { Ok(()) } else { Err(format!("status {status}")) };
    }
    if u64::from(status) != expected {
        return Err(format!("status {status}, not {expected}: {}", answer.text));
    }
    for header in ["content-type", "allow"] {
        let ours = answer.headers.get(header).map(|value| value.to_str().unwrap());
        let theirs = case["resp_headers"].get(header).and_then(Value::as_str);
        // Methods that are still to come.
        let shorter = header == "allow"
            && ours.is_some_and(|ours| {
                ours.split(", ").all(|method| theirs.is_some_and(|theirs| theirs.contains(method)))
            });
        if ours != theirs && !shorter {
            return Err(format!("{header} is {ours:?}, not {theirs:?}"));
        }
    }
    if method == "HEAD" {
        return Ok(());
    }
    match case.get("json") {
        Some(theirs) => {
            let ours = answer.json();
            let by_points = theirs.get("dataframes").is_some()
                && case.get("varies").is_some()
                && ours["total"] == theirs["total"]
                && points(&ours).len() == points(theirs).len();
            let whole = points(&ours).len() as u64 == theirs["total"].as_u64().unwrap_or(0);
            let equal = same(&ours, theirs)
                || by_points && !whole
                || by_points && points(&ours) == points(theirs);
            let equal = equal || theirs.get("results").is_some() && normal(&ours) == normal(theirs);
            if equal { Ok(()) } else { Err(format!("{ours}, not {theirs}")) }
        }
        None if case["text"].as_str() == Some(&answer.text) => Ok(()),
        None => Err(format!("{:?}, not {}", answer.text, case["text"])),
    }
}

/// Cases that differ on purpose.
const DEVIATIONS: &[(&str, &str)] = &[
    (
        "summary-filters-time-key influxdb",
        "a point without calendar labels has those of its period",
    ),
    ("scope-fetcher-case", "MariaDB ignores case; SQLite does not"),
    ("scope-scope-id-accent", "MariaDB ignores accents; SQLite does not"),
    ("dataframes-limit-arabic", "digits of other scripts are refused"),
    ("scope-limit-arabic", "digits of other scripts are refused"),
    ("scope-scope-id-case", "MariaDB ignores case, accents and blanks at the end; SQLite does not"),
    (
        "scope-scope-id-trailing-space",
        "MariaDB ignores case, accents and blanks at the end; SQLite does not",
    ),
    (
        "summary-custom-fields-garbage influxdb",
        "a feature of InfluxDB alone; ignored, as by the other backends",
    ),
    (
        "summary-custom-fields-group influxdb",
        "a feature of InfluxDB alone; ignored, as by the other backends",
    ),
    (
        "summary-custom-fields-lower influxdb",
        "a feature of InfluxDB alone; ignored, as by the other backends",
    ),
    (
        "summary-custom-fields-max influxdb",
        "a feature of InfluxDB alone; ignored, as by the other backends",
    ),
    (
        "summary-custom-fields-no-alias influxdb",
        "a feature of InfluxDB alone; ignored, as by the other backends",
    ),
    (
        "summary-custom-fields-rate influxdb",
        "a feature of InfluxDB alone; ignored, as by the other backends",
    ),
    (
        "summary-custom-fields-two influxdb",
        "a feature of InfluxDB alone; ignored, as by the other backends",
    ),
    (
        "summary-filters-colon-only influxdb",
        "InfluxDB takes an empty key for no filter; no point has an empty label here",
    ),
    ("summary-filters-injection influxdb", "InfluxDB is injected; a filter is only a filter here"),
    ("summary-filters-unit influxdb", "a unit is no label"),
    ("summary-groupby-begin influxdb", "a label does not overwrite a column"),
    ("summary-groupby-day influxdb", "a point without calendar labels has those of its period"),
    ("summary-groupby-end influxdb", "a label does not overwrite a column"),
    ("summary-groupby-metadata influxdb", "metadata can be grouped by"),
    (
        "summary-groupby-month-year influxdb",
        "a point without calendar labels has those of its period",
    ),
    (
        "summary-groupby-project-time-d influxdb",
        "a point without calendar labels has those of its period",
    ),
    ("summary-groupby-qty influxdb", "a label does not overwrite a column"),
    ("summary-groupby-time-d influxdb", "a point without calendar labels has those of its period"),
    (
        "summary-groupby-time-d-dup influxdb",
        "a point without calendar labels has those of its period",
    ),
    (
        "summary-groupby-time-d-m influxdb",
        "a point without calendar labels has those of its period",
    ),
    (
        "summary-groupby-time-filtered influxdb",
        "rows have their real period, InfluxDB's a bucket of its own",
    ),
    (
        "summary-groupby-time-half-hour influxdb",
        "rows have their real period, InfluxDB's a bucket of its own",
    ),
    ("summary-groupby-time-m influxdb", "a point without calendar labels has those of its period"),
    (
        "summary-groupby-time-m-project influxdb",
        "a point without calendar labels has those of its period",
    ),
    ("summary-groupby-time-w influxdb", "a point without calendar labels has those of its period"),
    (
        "summary-groupby-time-word influxdb",
        "a point without calendar labels has those of its period",
    ),
    ("summary-groupby-time-y influxdb", "a point without calendar labels has those of its period"),
    ("summary-groupby-week influxdb", "a point without calendar labels has those of its period"),
    ("summary-limit-arabic", "digits of other scripts are refused"),
];

/// What the reference answers with 500 though it is no mistake, and our status; all
/// else that it answers so is a 400 here.
pub(super) const ANSWERED: &[(&str, u16)] = &[
    // A number beyond 64 bits is the largest one.
    ("scope-limit-huge", 200),
    ("scope-offset-u64", 404),
    // Dates that InfluxDB cannot hold.
    ("summary-begin '0001-01-01'", 200),
    ("summary-begin '9999-12-31'", 200),
    ("summary-begin '1677-01-01'", 200),
    ("summary-begin '1969-12-31'", 200),
    ("summary-begin '2300-01-01'", 200),
    // A label may have any name and value. No data is a 404 of dataframes.
    ("summary-groupby-quote influxdb", 200),
    ("summary-groupby-nul influxdb", 200),
    ("summary-filters-json influxdb", 200),
    ("summary-filters-apostrophe influxdb", 200),
    ("summary-filters-backslash influxdb", 200),
    ("summary-filters-nul influxdb", 200),
    ("dataframes-filters-apostrophe influxdb", 404),
    ("dataframes-filters-nul influxdb", 404),
    // Ignored, as by the other backends.
    ("summary-custom-fields-forbidden influxdb", 200),
];

/// Compares the answers that were recorded in this zone; how many there are, and
/// what differs.
async fn compare(zone: &str) -> (usize, Vec<(String, String)>) {
    let all = cases("parity/api_v2/cases.jsonl");
    let app = seeded(all[0]["now"].as_str().unwrap()).await;
    let mut failures = Vec::new();
    let mut compared = 0;
    for case in all {
        let ours = case["storage"] == "influxdb"
            && case["tz"] == *zone
            && case["proxy_headers"] == false
            && !matches!(case["method"].as_str(), Some("POST" | "PUT" | "PATCH"));
        if !ours {
            continue;
        }
        compared += 1;
        if let Err(difference) = difference(&app, &case).await {
            failures.push((case["name"].as_str().unwrap().to_owned(), difference));
        }
    }
    (compared, failures)
}

#[tokio::test]
async fn answers_as_the_reference() {
    let (compared, failures) = compare("UTC").await;
    assert!(compared > 500, "only {compared} cases were compared");
    assert_deviations(&failures, DEVIATIONS);
}

#[tokio::test]
async fn answers_as_the_reference_in_another_zone() {
    if is_in_another_zone("parity::api_v2::answers_as_the_reference_in_another_zone") {
        let (compared, failures) = compare("Europe/Paris").await;
        assert!(compared > 5, "only {compared} cases were compared");
        assert_deviations(&failures, &[]);
    }
}
