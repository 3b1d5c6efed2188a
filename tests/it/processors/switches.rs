//! Rating modules that are switched, and rules that change, while a processor runs.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, header},
};
use chrono::TimeDelta;
use ratekitty::{
    processor::{CycleError, Outcome, Pipeline, Progress},
    state::{audit::Audit, modules, rating_rules::new_id, scopes, scripts},
    time::seconds,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{HOUR, set_price, unit_prices};
use crate::support::{Cloud, Db, TestApp, cloud::METRICS, until_in};

/// 2026-11-01 00:00 UTC.
const START: i64 = 1_793_491_200;

/// Twice the price that there is, and one more a unit: so that the order of
/// modules shows.
const SCRIPT: &str = "for point in data['usage']['instance']:\n  price = point['rating']['price']\n  \
                      point['rating']['price'] = price * 2 + point['vol']['qty']";

/// Unit prices of the scope, oldest first.
async fn prices(app: &TestApp) -> Vec<i64> {
    let window = (START, START + 10_000 * HOUR);
    unit_prices(&*app.storage, window).await.into_values().collect()
}

/// A cycle that goes on while something is changed.
struct Cycle {
    stop: CancellationToken,
    running: JoinHandle<Result<Outcome, CycleError>>,
}

impl Cycle {
    fn start(pipeline: &Arc<Pipeline>) -> Self {
        let (pipeline, stop) = (pipeline.clone(), CancellationToken::new());
        let until = stop.clone();
        let progress = Arc::new(Progress::quiet());
        let running = tokio::spawn(async move { pipeline.run_once(&progress, &until).await });
        Self { stop, running }
    }

    /// Ends it. Each price begins with some period and holds until the next one does.
    async fn has_rated_by(self, app: &TestApp, expected: &[i64]) {
        assert!(!self.running.is_finished(), "it is one cycle");
        self.stop.cancel();
        let outcome = self.running.await.unwrap().unwrap();
        assert!(outcome.stopped && outcome.failed == 0, "{outcome:?}");
        let mut found = prices(app).await;
        found.dedup();
        assert_eq!(found, expected);
    }
}

/// States that modules come to have, with the price per unit that they give:
/// hashmap adds 3, the script doubles and adds 1. Modules of higher priority
/// come first.
const STATES: [(&str, bool, i32, i64); 6] = [
    ("hashmap", false, 1, 0),
    ("hashmap", true, 1, 3),
    ("pyscripts", true, 5, 1 + 3),
    ("hashmap", true, 9, 3 * 2 + 1),
    ("hashmap", false, 9, 1),
    ("pyscripts", false, 5, 0),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_running_processor_rates_by_the_modules_as_they_are() {
    let cloud = Cloud::start(1, 1).await;
    cloud.set_delay(Duration::from_millis(30));
    let conf = format!("{}wait_periods = 1\n", cloud.conf());
    // Far more hours are due than are rated: the cycle goes on all the time.
    let app = TestApp::on(Db::Mariadb, "2027-11-01T00:00:00Z", &conf, METRICS).await;
    let connection = app.database.connection();
    set_price(&app.database, 3).await;
    let past = seconds(0).naive_utc();
    let audit = Audit::new("script".into(), None, (past, None), ("test", past));
    scripts::add(connection, &new_id(), SCRIPT.as_bytes(), &audit).await.unwrap();
    let pipeline = app.pipeline();
    let begin = seconds(START - HOUR);
    scopes::add(connection, "s0", pipeline.keys(), begin, begin).await.unwrap();
    let cycle = Cycle::start(&pipeline);
    let newest = || async { prices(&app).await.last().copied() };
    let patience = Duration::from_secs(15);
    until_in(patience, "the first price", || async { newest().await == Some(3) }).await;
    let mut expected = vec![3];
    for (name, enabled, priority, price) in STATES {
        modules::change(&app.database, name, Some(enabled), Some(priority)).await.unwrap();
        expected.push(price);
        let told = format!("{name}, enabled {enabled}, priority {priority}");
        until_in(patience, &told, || async { newest().await == Some(price) }).await;
    }
    cycle.has_rated_by(&app, &expected).await;

    // And from one cycle to the next, by the same processor.
    let state = scopes::get(&app.database, "s0", pipeline.keys()).await.unwrap().unwrap();
    for (number, enabled, price) in [(2, true, 3), (3, false, 0)] {
        modules::change(&app.database, "hashmap", Some(enabled), None).await.unwrap();
        // As old may be what it knows of them.
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        // One period is due.
        app.clock.set(state.last_processed + TimeDelta::seconds(number * HOUR + 1));
        let (progress, stop) = (Arc::new(Progress::quiet()), CancellationToken::new());
        let outcome = pipeline.run_once(&progress, &stop).await.unwrap();
        assert_eq!((outcome.failed, progress.periods()), (0, 1));
        assert_eq!(newest().await, Some(price));
    }
}

/// Where rules are changed over the API.
const RULES: &str = "/v1/rating/module_config";

async fn send(app: &TestApp, method: &str, path: &str, body: &Value) -> Value {
    let request = Request::builder()
        .method(method)
        .uri(format!("{RULES}/{path}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    let answer = app.request(request).await;
    assert!(answer.status.as_u16() < 400, "{method} {path} {body}: {}", answer.text);
    serde_json::from_str(&answer.text).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_processor_rates_by_the_rules_as_they_are() {
    let cloud = Cloud::start(1, 1).await;
    cloud.set_delay(Duration::from_millis(30));
    let conf = format!("{}wait_periods = 1\n", cloud.conf());
    let app = TestApp::on(Db::Mariadb, "2027-11-01T00:00:00Z", &conf, METRICS).await;
    set_price(&app.database, 3).await;
    modules::change(&app.database, "pyscripts", Some(true), Some(1)).await.unwrap();
    let pipeline = app.pipeline();
    let begin = seconds(START - HOUR);
    scopes::add(app.database.connection(), "s0", pipeline.keys(), begin, begin).await.unwrap();
    let cycle = Cycle::start(&pipeline);
    let mut expected = Vec::new();
    let mut comes_to = async |price: i64, told: &str| {
        expected.push(price);
        let newest = || async { prices(&app).await.last().copied() == Some(price) };
        until_in(Duration::from_secs(15), told, newest).await;
    };
    comes_to(3, "the first price").await;
    let service = &send(&app, "GET", "hashmap/services", &json!({})).await["services"][0];
    let rule = |more: Value| {
        let mut rule = json!({"service_id": service["service_id"], "type": "flat"});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    let own = rule(json!({"cost": "7", "tenant_id": "s0", "start": "2026-01-01"}));
    let own = send(&app, "POST", "hashmap/mappings?force=true", &own).await;
    comes_to(7, "a price of the scope's own").await;
    let factor = rule(json!({"cost": "2", "level": "0", "type": "rate"}));
    let factor = send(&app, "POST", "hashmap/thresholds", &factor).await;
    comes_to(14, "a threshold").await;
    let id = factor["threshold_id"].as_str().unwrap();
    let change = json!({"cost": "3", "level": "0", "type": "rate"});
    send(&app, "PUT", &format!("hashmap/thresholds/{id}"), &change).await;
    comes_to(21, "a threshold that is changed").await;
    send(&app, "DELETE", &format!("hashmap/thresholds/{id}"), &json!({})).await;
    comes_to(7, "a threshold that goes").await;
    let id = own["mapping_id"].as_str().unwrap();
    send(&app, "DELETE", &format!("hashmap/mappings/{id}"), &json!({})).await;
    comes_to(3, "the scope's own price goes").await;
    let script = json!({"name": "s", "data": SCRIPT, "start": "2026-01-01"});
    let script = send(&app, "POST", "pyscripts/scripts?force=true", &script).await;
    comes_to(3 * 2 + 1, "a script").await;
    let id = script["script_id"].as_str().unwrap();
    send(&app, "DELETE", &format!("pyscripts/scripts/{id}"), &json!({})).await;
    comes_to(3, "the script goes").await;
    cycle.has_rated_by(&app, &expected).await;
}
