//! Fetch, collect, rate, store and read back, on a real Prometheus.

use std::collections::BTreeMap;

use ratekitty::{
    rating::pricelist::PriceList,
    state::scopes,
    storage::{GroupKey, Page, Selection},
    time::{Clock, Period, RealClock, local_naive, seconds},
};
use sea_orm::ConnectionTrait;

use crate::support::{Prometheus, TestApp};

/// 2026-11-01 00:00 UTC.
const START: i64 = 1_793_491_200;
/// Hours of samples.
const HOURS: i64 = 6;
/// When tests look at the clock: all six hours are due, a seventh is not.
const NOW: &str = "2026-11-01T08:00:00Z";

/// Label values that try to be something else.
const HOSTILE: [&str; 4] =
    ["p1", "quo\"te", "back\\slash} or instance{x=\"", "new\nline, ünïcode 😀"];

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A cloud: per scope two servers (one appears in hour 3) of different flavors,
/// and a counter of bytes that goes up by 1,000 times the server's number every
/// five minutes. No sample lies on the end of the last hour, nor does the second
/// server begin on the hour: Prometheus 2 counts both ends of a period.
fn samples() -> String {
    let mut text = String::from("# TYPE instance gauge\n");
    let times = |from: i64| (START + from..START + HOURS * 3_600).step_by(300);
    for scope in HOSTILE {
        for (server, flavor, from) in [(1, "small", 0), (2, "large", 3 * 3_600 + 300)] {
            for time in times(from) {
                text.push_str(&format!(
                    "instance{{project_id=\"{}\",id=\"vm-{server}\",flavor=\"{flavor}\"}} 1 {time}\n",
                    escaped(scope)
                ));
            }
        }
    }
    text.push_str("# TYPE bytes counter\n");
    for scope in HOSTILE {
        for server in [1, 2] {
            for (step, time) in times(0).enumerate() {
                let bytes = step as i64 * 1_000 * server;
                text.push_str(&format!(
                    "bytes_total{{project_id=\"{}\",id=\"vm-{server}\"}} {bytes} {time}\n",
                    escaped(scope)
                ));
            }
        }
    }
    // Scopes are asked for as of the present, which is the machine's.
    let present = RealClock.now().timestamp();
    text.push_str("# TYPE scope_info gauge\n");
    for scope in HOSTILE {
        for time in (present - 120..=present + 600).step_by(60) {
            text.push_str(&format!("scope_info{{project_id=\"{}\"}} 1 {time}\n", escaped(scope)));
        }
    }
    text.push_str("# TYPE odd gauge\n");
    for time in times(0) {
        text.push_str(&format!("odd{{project_id=\"p1\",id=\"nan\"}} NaN {time}\n"));
        text.push_str(&format!("odd{{project_id=\"p1\",id=\"inf\"}} +Inf {time}\n"));
        text.push_str(&format!("odd{{project_id=\"p1\",id=\"good\"}} 7.5 {time}\n"));
    }
    text.push_str("# EOF\n");
    text
}

const METRICS: &str = r"
metrics:
  instance:
    unit: instance
    groupby: [id]
    metadata: [flavor]
  bytes_total:
    alt_name: traffic
    unit: KiB
    factor: 1/1024
    groupby: [id]
    metadata: [missing]
    extra_args: {range_function: delta, aggregation_method: sum}
  does_not_exist:
    unit: u
";

const PRICES: &str = r#"
modules:
  hashmap: {enabled: true, priority: 1}
hashmap:
  services:
    - name: instance
      fields:
        - name: flavor
          mappings:
            - {value: small, type: flat, cost: "0.1", start: 2026-01-01T00:00:00}
            - {value: large, type: flat, cost: "0.35", start: 2026-01-01T00:00:00}
    - name: traffic
      mappings:
        - {type: flat, cost: "0.001", start: 2026-01-01T00:00:00}
"#;

async fn with_prices(app: &TestApp, prices: &str) {
    let now = local_naive(NOW.parse().unwrap());
    let list = PriceList::parse(prices).unwrap();
    list.import(&app.database, now, false).await.unwrap();
}

fn everything() -> Selection {
    Selection::all(seconds(START), seconds(START + 100 * 3_600))
}

/// Costs by the given keys, as text.
async fn costs(app: &TestApp, keys: &[&str]) -> BTreeMap<Vec<String>, String> {
    let groupby: Vec<_> = keys.iter().map(|key| GroupKey::parse(key).unwrap()).collect();
    let totals = app.storage.total(&everything(), &groupby, Page::ALL).await.unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    let rows = totals.rows.iter();
    rows.map(|row| (row.values.iter().map(text).collect(), row.price.quantize(6).to_string()))
        .collect()
}

#[tokio::test]
async fn rates_hours_of_a_real_prometheus() {
    let prometheus = Prometheus::start(&samples()).await;
    let app = TestApp::with_prometheus(NOW, &prometheus.url, "wait_periods = 1", METRICS).await;
    with_prices(&app, PRICES).await;
    let outcome = app.rate().await;
    assert_eq!((outcome.scopes, outcome.failed), (HOSTILE.len(), 0));

    // One server for six hours, the other for three: 6 × 0.1 + 3 × 0.35. The hour
    // at 6:00 is due, too, and has no samples.
    let by_type = costs(&app, &["project_id", "type"]).await;
    for scope in HOSTILE {
        let cost =
            |frame_type: &str| by_type[&vec![scope.to_owned(), frame_type.to_owned()]].clone();
        assert_eq!(cost("instance"), "1.650000", "{scope:?}");
        // Twelve steps an hour; in the last one Prometheus makes twelve of eleven.
        // Each hour has 12,000 or 24,000 bytes, in KiB with 9 digits.
        let kib = |bytes: f64| (bytes / 1024.0 * 1e9).round() / 1e9;
        let expected = 6.0 * (kib(12_000.0) + kib(24_000.0)) * 0.001;
        let traffic: f64 = cost("traffic").parse().unwrap();
        assert!((traffic - expected).abs() < 1e-6, "{scope:?}: {traffic}, not {expected}");
    }
    let points = app.storage.retrieve(&everything(), Page::ALL).await.unwrap();
    assert_eq!(points.total, 4 * (6 + 3 + 2 * 6));
    let (_, _, point) = points.points.iter().find(|(_, t, _)| t == "traffic").unwrap();
    assert_eq!(point.metadata["missing"], "");

    // Every scope has advanced, and nothing is due any more.
    let pipeline = app.pipeline();
    for scope in HOSTILE {
        let keys = scopes::ScopeKeys {
            scope_key: "project_id".into(),
            fetcher: pipeline.fetcher.name().into(),
            collector: pipeline.collector.name().into(),
        };
        let state = scopes::get(&app.database, scope, &keys).await.unwrap().unwrap();
        assert_eq!(state.last_processed, seconds(START + 6 * 3_600));
    }
    app.rate().await;
    assert_eq!(costs(&app, &["project_id", "type"]).await, by_type);

    // The API says the same.
    let answer = app
        .get("/v2/summary?groupby=type&filters=project_id:p1&begin=2026-11-01&end=2026-12-01")
        .await
        .json();
    assert_eq!(answer["results"][0][3], 1.65);
    let scopes = app.get("/v2/scope?scope_id=p1").await.json();
    assert_eq!(scopes["results"][0]["last_processed_timestamp"], "2026-11-01T06:00:00+00:00");
}

#[tokio::test]
async fn a_stop_between_storing_and_advancing_does_no_harm() {
    let prometheus = Prometheus::start(&samples()).await;
    let app = TestApp::with_prometheus(NOW, &prometheus.url, "wait_periods = 1", METRICS).await;
    with_prices(&app, PRICES).await;
    app.rate().await;
    let before = costs(&app, &["project_id", "type", "id"]).await;
    // As after a kill: the data of two periods is stored, the state is not moved.
    let sql =
        "UPDATE cloudkitty_storage_states SET last_processed_timestamp = '2026-11-01 03:00:00'";
    app.database.connection().execute_unprepared(sql).await.unwrap();
    app.rate().await;
    assert_eq!(costs(&app, &["project_id", "type", "id"]).await, before);
}

#[tokio::test]
async fn prices_of_the_period_apply() {
    let prometheus = Prometheus::start(&samples()).await;
    let app = TestApp::with_prometheus(NOW, &prometheus.url, "wait_periods = 1", METRICS).await;
    let prices = r#"
modules: {hashmap: {enabled: true}}
hashmap:
  services:
    - name: instance
      mappings:
        - {type: flat, cost: "1", start: 2026-01-01T00:00:00, end: 2026-11-01T02:00:00}
        - {type: flat, cost: "10", start: 2026-11-01T02:00:00}
        - {type: flat, cost: "100", tenant_id: p1, start: 2026-11-01T04:00:00}
"#;
    with_prices(&app, prices).await;
    app.rate().await;
    let costs = costs(&app, &["project_id"]).await;
    // Hours 0 and 1 at 1, hours 2 to 5 at 10, with two servers from hour 3 on.
    assert_eq!(costs[&vec![HOSTILE[1].to_owned()]], "72.000000");
    // The scope's own price from hour 4 on.
    assert_eq!(costs[&vec!["p1".to_owned()]], "432.000000");
}

#[tokio::test]
async fn values_that_nobody_can_pay_are_left_out() {
    let prometheus = Prometheus::start(&samples()).await;
    let metrics = "metrics:\n  odd:\n    unit: u\n    groupby: [id]\n";
    let app = TestApp::with_prometheus(NOW, &prometheus.url, "wait_periods = 1", metrics).await;
    let outcome = app.rate().await;
    assert_eq!(outcome.failed, 0);
    let points = app.storage.retrieve(&everything(), Page::ALL).await.unwrap();
    assert_eq!(points.total, 6);
    assert!(points.points.iter().all(|(.., point)| point.groupby["id"] == "good"));
}

#[tokio::test]
async fn inactive_scopes_are_left_alone() {
    let prometheus = Prometheus::start(&samples()).await;
    let app = TestApp::with_prometheus(NOW, &prometheus.url, "wait_periods = 1", METRICS).await;
    let sql = "INSERT INTO cloudkitty_storage_states (identifier, scope_key, fetcher, collector, \
               last_processed_timestamp, active) \
               VALUES ('p1', 'project_id', 'prometheus', 'prometheus', '2026-11-01 01:00:00.000000', 0)";
    app.database.connection().execute_unprepared(sql).await.unwrap();
    app.rate().await;
    let selection = everything().with("project_id", &["p1"]);
    assert_eq!(app.storage.retrieve(&selection, Page::ALL).await.unwrap().total, 0);
    // Reactivated, it catches up on what it missed.
    let sql = "UPDATE cloudkitty_storage_states SET active = 1 WHERE identifier = 'p1'";
    app.database.connection().execute_unprepared(sql).await.unwrap();
    app.rate().await;
    let points = app.storage.retrieve(&selection, Page::ALL).await.unwrap();
    assert_eq!(points.points[0].0, Period::starting(seconds(START + 2 * 3_600), 3_600));
}
