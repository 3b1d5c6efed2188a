//! Rated again: schedules, resets, and what readers see meanwhile.

use axum::{body::Body, http::Request};
use chrono::{DateTime, Utc};
use futures::future::join_all;
use ratekitty::{
    processor::{
        Progress,
        reset::{ResetError, reset},
    },
    schedule::Schedule,
    state::{reprocessing, resets, scopes},
    time::seconds,
};
use sea_orm::ConnectionTrait;
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use super::{HOUR, set_price, unit_prices};
use crate::{
    storage::loki_app_on,
    support::{Cloud, Db, FakeLoki, TestApp, cloud::METRICS, fake_loki::Limits},
};

/// 2026-11-01 00:00 UTC.
const START: i64 = 1_793_491_200;
/// When ten hours are due.
const NOW: &str = "2026-11-01T11:00:00Z";
const HOURS: i64 = 10;
const SCOPES: usize = 2;
const THINGS: usize = 3;

fn hour(number: i64) -> DateTime<Utc> {
    seconds(START + number * HOUR)
}

/// A cloud that is rated at price 1, with each storage and kind of database.
async fn apps(cloud: &Cloud) -> Vec<(String, TestApp, Option<FakeLoki>)> {
    let conf = format!("{}wait_periods = 1\n", cloud.conf());
    let mut apps = Vec::new();
    for db in Db::ALL {
        apps.push((format!("sql, {db:?}"), TestApp::on(db, NOW, &conf, METRICS).await, None));
        let (mut app, loki) = loki_app_on(db, Limits::roomy(), &conf).await;
        app.clock.set(NOW.parse().unwrap());
        app.set_metrics(METRICS);
        apps.push((format!("loki, {db:?}"), app, loki));
    }
    for (name, app, _) in &apps {
        set_price(&app.database, 1).await;
        assert_eq!(app.rate().await.failed, 0, "{name}");
        assert_eq!(prices(app).await, vec![1; HOURS as usize * SCOPES * THINGS], "{name}");
    }
    apps
}

/// Unit prices by scope, period and server.
async fn prices(app: &TestApp) -> Vec<i64> {
    let prices = unit_prices(&*app.storage, (START, START + 100 * HOUR)).await;
    prices.into_values().collect()
}

/// What `prices` gives if `changed` says which hours of which scopes cost 3.
fn expected(changed: impl Fn(usize, i64) -> bool) -> Vec<i64> {
    let mut expected = Vec::new();
    for scope in 0..SCOPES {
        for hour in 0..HOURS {
            expected.extend([if changed(scope, hour) { 3 } else { 1 }; THINGS]);
        }
    }
    expected
}

async fn reprocess(app: &TestApp) -> (u64, usize) {
    let progress = Arc::new(Progress::quiet());
    let stop = CancellationToken::new();
    let done = app.pipeline().reprocess_once(&progress, &stop).await.unwrap();
    (progress.periods(), done.failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_replace_what_was_rated() {
    let cloud = Cloud::start(SCOPES, THINGS).await;
    for (name, app, _loki) in apps(&cloud).await {
        set_price(&app.database, 3).await;
        let keys = app.pipeline().keys().clone();
        let last = |scope| {
            let (database, keys) = (app.database.clone(), keys.clone());
            async move { scopes::get(&database, scope, &keys).await.unwrap().unwrap().last_processed }
        };
        let before = last("s0").await;
        // The end is the begin of the last period.
        let id = reprocessing::schedule(&app.database, "s0", (hour(2), hour(4)), "dearer")
            .await
            .unwrap();
        assert_eq!(reprocess(&app).await, (3, 0), "{name}");
        assert_eq!(prices(&app).await, expected(|s, h| s == 0 && (2..5).contains(&h)), "{name}");
        let done = reprocessing::get(&app.database, id).await.unwrap().unwrap();
        assert_eq!(done.current, Some(hour(4)), "{name}");
        assert_eq!(reprocessing::unfinished(&app.database).await.unwrap(), []);
        assert_eq!(last("s0").await, before, "the scope stays where it is");
        // Finished is finished; schedules that overlap do no harm.
        assert_eq!(reprocess(&app).await, (0, 0), "{name}");
        for window in [(hour(0), hour(5)), (hour(3), hour(7)), (hour(7), hour(7))] {
            reprocessing::schedule(&app.database, "s1", window, "again").await.unwrap();
        }
        assert_eq!(reprocess(&app).await, (6 + 5 + 1, 0), "{name}");
        let both = |s: usize, h| s == 0 && (2..5).contains(&h) || s == 1 && h < 8;
        assert_eq!(prices(&app).await, expected(both), "{name}");
        // What is not rated yet waits, what does not exist is left.
        reprocessing::schedule(&app.database, "s0", (hour(9), hour(12)), "ahead").await.unwrap();
        reprocessing::schedule(&app.database, "nobody", (hour(0), hour(1)), "?").await.unwrap();
        assert_eq!(reprocess(&app).await, (1, 0), "{name}");
        assert_eq!(reprocessing::unfinished(&app.database).await.unwrap().len(), 2);
        // One that is switched off waits, too.
        reprocessing::schedule(&app.database, "s1", (hour(9), hour(9)), "off").await.unwrap();
        scopes::set_active(&app.database, "s1", &keys, false, before).await.unwrap();
        assert_eq!(reprocess(&app).await, (0, 0), "{name}");
        scopes::set_active(&app.database, "s1", &keys, true, before).await.unwrap();
        assert_eq!(reprocess(&app).await, (1, 0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_forgets_and_rates_again() {
    let cloud = Cloud::start(SCOPES, THINGS).await;
    for (name, app, _loki) in apps(&cloud).await {
        set_price(&app.database, 3).await;
        let pipeline = app.pipeline();
        let to = |scope: &'static str, last| {
            let (app, locks, keys) = (&app, app.locks(), pipeline.keys().clone());
            async move {
                let place = (&app.database, &*app.storage, &locks);
                reset(place, (scope, &keys), last, 3_600, None).await
            }
        };
        to("s0", hour(3)).await.unwrap();
        // At once the rest is gone, and the period that it went back to stays.
        let left = prices(&app).await;
        assert_eq!(left.len(), (4 + HOURS as usize) * THINGS, "{name}");
        // A schedule beyond the reset does not bring it back.
        reprocessing::schedule(&app.database, "s0", (hour(5), hour(6)), "late").await.unwrap();
        assert_eq!(reprocess(&app).await, (0, 0), "{name}");
        assert_eq!(app.rate().await.failed, 0, "{name}");
        assert_eq!(prices(&app).await, expected(|s, h| s == 0 && h > 3), "{name}");
        assert_eq!(reprocess(&app).await, (2, 0), "{name}");
        // Between two begins, the period in which it lies stays.
        to("s0", hour(6) + chrono::TimeDelta::minutes(20)).await.unwrap();
        assert_eq!(prices(&app).await.len(), (7 + HOURS as usize) * THINGS, "{name}");
        assert_eq!(app.rate().await.failed, 0, "{name}");
        assert!(matches!(to("nobody", hour(3)).await.unwrap_err(), ResetError::Unknown(_)));
        assert_eq!(prices(&app).await.len(), HOURS as usize * SCOPES * THINGS, "{name}");
    }
}

async fn send(app: &TestApp, method: &str, path: &str, body: serde_json::Value) -> u16 {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()));
    app.request(request.unwrap()).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_over_the_api_is_done() {
    let cloud = Cloud::start(SCOPES, THINGS).await;
    for (name, app, _loki) in apps(&cloud).await {
        set_price(&app.database, 3).await;
        let stop = CancellationToken::new();
        // Of two wishes the last one counts, and nothing is done by the API itself.
        for last in ["2026-11-01T01:00:00Z", "2026-11-01T03:20:00Z"] {
            let body = json!({"scope_id": "s0", "last_processed_timestamp": last});
            assert_eq!(send(&app, "PUT", "/v2/scope", body).await, 202, "{name}");
        }
        assert_eq!(prices(&app).await, expected(|_, _| false), "{name}");
        assert_eq!(resets::pending(&app.database).await.unwrap().len(), 1, "{name}");
        // Several processors at once do it once.
        let pipelines = [app.pipeline(), app.pipeline(), app.pipeline()];
        let done = join_all(pipelines.iter().map(|pipeline| pipeline.reset_once(&stop))).await;
        let done: usize = done.into_iter().map(Result::unwrap).sum();
        assert_eq!(done, 1, "{name}");
        assert_eq!(resets::pending(&app.database).await.unwrap(), [], "{name}");
        assert_eq!(prices(&app).await.len(), (4 + HOURS as usize) * THINGS, "{name}");
        assert_eq!(app.rate().await.failed, 0, "{name}");
        assert_eq!(prices(&app).await, expected(|s, h| s == 0 && h > 3), "{name}");
        // All scopes, as the client names the time; `processor --once` sees to it, too.
        let body = json!({"all_scopes": true, "state": "2026-11-01T07:00:00Z"});
        assert_eq!(send(&app, "PUT", "/v2/scope", body).await, 202, "{name}");
        set_price(&app.database, 5).await;
        assert_eq!(app.rate().await.failed, 0, "{name}");
        let mut wanted = expected(|s, h| s == 0 && h > 3);
        let price = |place: usize| (place / THINGS) as i64 % HOURS > 7;
        let changed = wanted.iter_mut().enumerate().filter(|(place, _)| price(*place));
        changed.for_each(|(_, price)| *price = 5);
        assert_eq!(prices(&app).await, wanted, "{name}");
        // A scope that is gone is asked for in vain.
        let body = json!({"scope_id": "s1", "last_processed_timestamp": "2026-11-01T07:00:00Z"});
        assert_eq!(send(&app, "PUT", "/v2/scope", body).await, 202, "{name}");
        let sql = "UPDATE ratekitty_resets SET scope = 999";
        app.database.connection().execute_unprepared(sql).await.unwrap();
        assert_eq!(app.pipeline().reset_once(&stop).await.unwrap(), 0, "{name}");
        assert_eq!(resets::pending(&app.database).await.unwrap(), [], "{name}");
        // Rated again.
        let body = json!({
            "scope_ids": "s0", "start_reprocess_time": "2026-11-01T00:00:00Z",
            "end_reprocess_time": "2026-11-01T02:00:00Z", "reason": "dearer",
        });
        let path = "/v2/task/reprocesses";
        let answers = join_all((0..4).map(|_| send(&app, "POST", path, body.clone()))).await;
        assert_eq!(answers.iter().filter(|status| **status == 202).count(), 1, "{answers:?}");
        assert_eq!(reprocess(&app).await, (3, 0), "{name}");
        let answer = app.get(path).await.json();
        assert_eq!(answer["results"][0]["current_reprocess_time"], "2026-11-01T02:00:00");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_waits_for_who_is_rating() {
    let cloud = Cloud::start(SCOPES, THINGS).await;
    let conf = format!("{}wait_periods = 1\n", cloud.conf());
    let app = TestApp::on(Db::Sqlite, NOW, &conf, METRICS).await;
    set_price(&app.database, 1).await;
    cloud.set_delay(std::time::Duration::from_millis(30));
    let pipeline = app.pipeline();
    let (locks, keys) = (app.locks(), pipeline.keys().clone());
    let rating = app.rate();
    let resetting = async {
        while scopes::get(&app.database, "s0", &keys).await.unwrap().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let place = (&app.database, &*app.storage, &locks);
        reset(place, ("s0", &keys), hour(0), 3_600, None).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(rating, resetting);
    assert_eq!(outcome.failed, 0);
    // The reset came after the scope's turn, and took all but the first hour.
    assert_eq!(prices(&app).await.len(), (1 + HOURS as usize) * THINGS);
    assert_eq!(app.rate().await.failed, 0);
    assert_eq!(prices(&app).await, expected(|_, _| false));
}

#[tokio::test(flavor = "multi_thread")]
async fn periods_of_another_length_are_replaced_whole() {
    let cloud = Cloud::start(1, THINGS).await;
    for (name, app, _loki) in apps_of_one(&cloud).await {
        set_price(&app.database, 3).await;
        ratekitty::state::periods::set(&app.database, app.pipeline().keys(), 1_800).await.unwrap();
        let mut half = app;
        half.config.collect.period = 1_800;
        reprocessing::schedule(
            &half.database,
            "s0",
            (hour(2), hour(2) + chrono::TimeDelta::minutes(30)),
            "",
        )
        .await
        .unwrap();
        // The hour that it was is rated again as an hour.
        assert_eq!(reprocess(&half).await, (1, 0), "{name}");
        let schedule = Schedule { period: 1_800, wait_periods: 1 };
        assert_eq!(schedule.after(hour(2)), hour(2) + chrono::TimeDelta::minutes(30));
        let prices = unit_prices(&*half.storage, (START, START + 100 * HOUR)).await;
        let dear = prices.values().filter(|price| **price == 3).count();
        assert_eq!((prices.len(), dear), (HOURS as usize * THINGS, THINGS), "{name}");
    }
}

async fn apps_of_one(cloud: &Cloud) -> Vec<(String, TestApp, Option<FakeLoki>)> {
    let conf = format!("{}wait_periods = 1\n", cloud.conf());
    let mut apps =
        vec![("sql".to_owned(), TestApp::on(Db::Sqlite, NOW, &conf, METRICS).await, None)];
    let (mut app, loki) = loki_app_on(Db::Sqlite, Limits::roomy(), &conf).await;
    app.clock.set(NOW.parse().unwrap());
    app.set_metrics(METRICS);
    apps.push(("loki".to_owned(), app, loki));
    for (_, app, _) in &apps {
        set_price(&app.database, 1).await;
        assert_eq!(app.rate().await.failed, 0);
    }
    apps
}
