//! Periods of other lengths, and elsewhere than on the hour: whatever is reset or
//! rated again, each instant is billed once.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use ratekitty::{
    dataframe::DataFrame,
    processor::{Progress, reset::reset},
    state::{
        Step, periods, reprocessing,
        scopes::{self, ScopeKeys},
    },
    storage::{Page, Selection, Storage, StorageError},
    time::{Period, seconds},
};
use tokio_util::sync::CancellationToken;

use super::{HOUR, set_price};
use crate::{
    storage::loki_app_on,
    support::{Cloud, Db, FakeLoki, TestApp, cloud::METRICS, fake_loki::Limits},
};

/// 2026-11-01 00:00 UTC.
const START: i64 = 1_793_491_200;
/// When ten hours are due.
const NOW: &str = "2026-11-01T11:00:00Z";

fn at(hours: f64) -> DateTime<Utc> {
    seconds(START + (hours * HOUR as f64) as i64)
}

/// A rated cloud of one scope, with each storage.
async fn apps(cloud: &Cloud, conf: &str) -> Vec<(&'static str, TestApp, Option<FakeLoki>)> {
    let conf = format!("{}wait_periods = 1\n{conf}", cloud.conf());
    let sql = TestApp::on(Db::Sqlite, NOW, &conf, METRICS).await;
    let (mut app, loki) = loki_app_on(Db::Sqlite, Limits::roomy(), &conf).await;
    app.clock.set(NOW.parse().unwrap());
    app.set_metrics(METRICS);
    let apps = vec![("sql", sql, None), ("loki", app, loki)];
    for (name, app, _) in &apps {
        set_price(&app.database, 1).await;
        assert_eq!(app.rate().await.failed, 0, "{name}");
    }
    apps
}

/// Periods that have points, with the price of a unit in each.
async fn rated(storage: &dyn Storage) -> BTreeSet<(Period, i64)> {
    let window = Selection::all(seconds(START - 100 * HOUR), seconds(START + 100 * HOUR));
    let points = storage.retrieve(&window, Page::ALL).await.unwrap().points;
    let priced = points.into_iter().map(|(period, _, point)| {
        let price = point.price.to_f64() / point.qty.to_f64();
        (period, price as i64)
    });
    priced.collect()
}

/// Asserts that the periods cover a time without gaps, each instant once.
fn assert_tiles(rated: &BTreeSet<(Period, i64)>, begin: f64, end: f64, name: &str) {
    let mut reached = at(begin);
    for (period, _) in rated {
        assert_eq!(period.begin, reached, "{name}: {rated:?}");
        reached = period.end;
    }
    assert_eq!(reached, at(end), "{name}: {rated:?}");
}

/// The same app with periods of another length from now on.
async fn with_length(mut app: TestApp, length: u32) -> TestApp {
    let keys = app.pipeline().keys().clone();
    // As a processor does when it starts.
    periods::claim(&app.database, &keys, app.config.collect.period).await.unwrap();
    periods::set(&app.database, &keys, length).await.unwrap();
    app.config.collect.period = length;
    app
}

async fn go_back(app: &TestApp, last: DateTime<Utc>) {
    let (locks, keys) = (app.locks(), app.pipeline().keys().clone());
    let place = (&app.database, &*app.storage, &locks);
    reset(place, ("s0", &keys), last, app.config.collect.period, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_into_a_longer_period_takes_all_of_it() {
    let cloud = Cloud::start(1, 2).await;
    for (name, app, _loki) in apps(&cloud, "").await {
        let half = with_length(app, 1_800).await;
        set_price(&half.database, 3).await;
        // The hour from 02:00 cannot stay in part.
        go_back(&half, at(2.0) + TimeDelta::minutes(20)).await;
        assert_tiles(&rated(&*half.storage).await, 0.0, 2.0, name);
        assert_eq!(half.rate().await.failed, 0, "{name}");
        let rated = rated(&*half.storage).await;
        assert_tiles(&rated, 0.0, 10.5, name);
        assert_eq!(rated.iter().filter(|(_, price)| *price == 3).count(), 17, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_among_shorter_periods_keeps_them() {
    let cloud = Cloud::start(1, 2).await;
    for (name, app, _loki) in apps(&cloud, "").await {
        // Periods of four hours from 10:00 on; before, they would be from 06:00 and 02:00.
        let long = with_length(app, 14_400).await;
        set_price(&long.database, 3).await;
        go_back(&long, at(3.0)).await;
        assert_tiles(&rated(&*long.storage).await, 0.0, 6.0, name);
        assert_eq!(long.rate().await.failed, 0, "{name}");
        assert_tiles(&rated(&*long.storage).await, 0.0, 10.0, name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn periods_elsewhere_than_on_the_hour_are_rated_again_where_they_are() {
    let cloud = Cloud::start(1, 2).await;
    let conf = "[ratekitty]\nfirst_period_begin = 2026-11-01T00:30:00+00:00\n";
    for (name, app, _loki) in apps(&cloud, conf).await {
        assert_tiles(&rated(&*app.storage).await, 0.5, 10.5, name);
        set_price(&app.database, 3).await;
        // What the API takes lies on the hour.
        let window = (at(2.0), at(3.0));
        let id = reprocessing::schedule(&app.database, "s0", window, "dearer").await.unwrap();
        let progress = Arc::new(Progress::quiet());
        let stop = CancellationToken::new();
        let done = app.pipeline().reprocess_once(&progress, &stop).await.unwrap();
        assert_eq!((progress.periods(), done.failed), (2, 0), "{name}");
        let rated = rated(&*app.storage).await;
        assert_tiles(&rated, 0.5, 10.5, name);
        let dear: Vec<_> =
            rated.iter().filter(|(_, price)| *price == 3).map(|(period, _)| period.begin).collect();
        assert_eq!(dear, [at(1.5), at(2.5)], "{name}");
        // It is finished, for others who look at the table, too.
        let done = reprocessing::get(&app.database, id).await.unwrap().unwrap();
        assert_eq!(done.current, Some(at(3.0)), "{name}");
        assert_eq!(reprocessing::unfinished(&app.database).await.unwrap(), [], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rated_in_longer_periods_is_rated_again_in_these() {
    let cloud = Cloud::start(1, 2).await;
    for (name, app, _loki) in apps(&cloud, "").await {
        let half = with_length(app, 1_800).await;
        assert_eq!(half.rate().await.failed, 0, "{name}");
        set_price(&half.database, 3).await;
        // From within an hour to the half hour that was rated as such.
        let window = (at(2.5), at(10.0));
        let id = reprocessing::schedule(&half.database, "s0", window, "dearer").await.unwrap();
        let progress = Arc::new(Progress::quiet());
        let stop = CancellationToken::new();
        let done = half.pipeline().reprocess_once(&progress, &stop).await.unwrap();
        assert_eq!((progress.periods(), done.failed), (9, 0), "{name}");
        let rated = rated(&*half.storage).await;
        assert_tiles(&rated, 0.0, 10.5, name);
        let cheap: Vec<_> =
            rated.iter().filter(|(_, price)| *price == 1).map(|(period, _)| period.begin).collect();
        assert_eq!(cheap, [at(0.0), at(1.0)], "{name}");
        let done = reprocessing::get(&half.database, id).await.unwrap().unwrap();
        assert_eq!(done.current, Some(at(10.0)), "{name}");
    }
}

/// Neither length is a multiple of the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_hour_follows_ninety_minutes_without_a_gap() {
    let cloud = Cloud::start(1, 2).await;
    for (name, app, _loki) in apps(&cloud, "period = 5400\n").await {
        assert_tiles(&rated(&*app.storage).await, 0.0, 10.5, name);
        let hourly = with_length(app, 3_600).await;
        hourly.clock.set(at(15.0));
        set_price(&hourly.database, 3).await;
        assert_eq!(hourly.rate().await.failed, 0, "{name}");
        let found = rated(&*hourly.storage).await;
        assert_tiles(&found, 0.0, 14.5, name);
        assert_eq!(found.iter().filter(|(_, price)| *price == 3).count(), 4, "{name}");
        // Into the period from 03:00 to 04:30, which cannot stay in part.
        go_back(&hourly, at(3.25)).await;
        assert!(rated(&*hourly.storage).await.iter().all(|(period, _)| period.end <= at(3.0)));
        assert_eq!(hourly.rate().await.failed, 0, "{name}");
        let found = rated(&*hourly.storage).await;
        let end = found.last().unwrap().0.end;
        assert!(end >= at(14.0), "{name}: {found:?}");
        assert_tiles(&found, 0.0, (end - at(0.0)).num_minutes() as f64 / 60.0, name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_that_cuts_another_one_is_refused() {
    let cloud = Cloud::start(1, 2).await;
    for (name, app, _loki) in apps(&cloud, "").await {
        let before = rated(&*app.storage).await;
        for (begin, end) in [(2.5, 3.5), (2.0, 2.5), (2.5, 3.0), (1.0, 2.5)] {
            let frame = DataFrame::new(Period { begin: at(begin), end: at(end) });
            let keys = app.pipeline().keys().clone();
            let known = scopes::get(&app.database, "s0", &keys).await.unwrap();
            let step = Step::Advance {
                scope_id: "s0",
                keys: &keys,
                known: known.as_ref(),
                begin: at(begin),
                seconds: HOUR,
                now: at(11.0),
            };
            let refused = app.storage.replace("s0", &frame, &step).await.unwrap_err();
            assert!(matches!(refused, StorageError::Crossing { .. }), "{name}: {refused}");
            assert!(refused.to_string().contains("reset the scope"), "{refused}");
        }
        assert_eq!(rated(&*app.storage).await, before, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_collector_is_refused_until_it_takes_over() {
    let cloud = Cloud::start(1, 2).await;
    for (name, app, _loki) in apps(&cloud, "").await {
        let before = rated(&*app.storage).await;
        let other = ScopeKeys {
            scope_key: "project_id".into(),
            fetcher: "keystone".into(),
            collector: "aetos".into(),
        };
        let frame = DataFrame::new(Period { begin: at(3.0), end: at(4.0) });
        let step = Step::Advance {
            scope_id: "s0",
            keys: &other,
            known: None,
            begin: at(3.0),
            seconds: HOUR,
            now: at(11.0),
        };
        let refused = app.storage.replace("s0", &frame, &step).await.unwrap_err();
        assert!(refused.to_string().contains("dbsync take-over --from prometheus"), "{refused}");
        assert_eq!(rated(&*app.storage).await, before, "{name}");
        // With other keys, the row goes on, and what was rated is its own.
        let keys = app.pipeline().keys().clone();
        let row = scopes::get(&app.database, "s0", &keys).await.unwrap().unwrap();
        let change = scopes::ScopeChange {
            fetcher: Some(other.fetcher.clone()),
            collector: Some(other.collector.clone()),
            ..Default::default()
        };
        let row = scopes::change(&app.database, row.id, &change, at(11.0)).await.unwrap().unwrap();
        let step = Step::Advance {
            scope_id: "s0",
            keys: &other,
            known: Some(&row),
            begin: at(9.0),
            seconds: HOUR,
            now: at(11.0),
        };
        let frame = DataFrame::new(Period { begin: at(9.0), end: at(10.0) });
        app.storage.replace("s0", &frame, &step).await.unwrap();
        assert_tiles(&rated(&*app.storage).await, 0.0, 9.0, name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn collectors_of_one_scope_do_not_replace_each_other() {
    let cloud = Cloud::start(1, 2).await;
    for (name, app, _loki) in apps(&cloud, "[ratekitty]\nother_collectors = keep\n").await {
        let window = Selection::all(at(0.0), at(100.0));
        let count =
            || async { app.storage.retrieve(&window, Page::ALL).await.unwrap().points.len() };
        assert_eq!(count().await, 20, "{name}");
        let points = app.storage.retrieve(&window, Page::ALL).await.unwrap().points;
        let (period, frame_type, point) = points[0].clone();
        let mut frame = DataFrame::new(period);
        frame.add(&frame_type, [point]);
        let other = ScopeKeys {
            scope_key: "project_id".into(),
            fetcher: "keystone".into(),
            collector: "aetos".into(),
        };
        for _ in 0..2 {
            let known = scopes::get(&app.database, "s0", &other).await.unwrap();
            let step = Step::Advance {
                scope_id: "s0",
                keys: &other,
                known: known.as_ref(),
                begin: period.begin,
                seconds: HOUR,
                now: at(11.0),
            };
            app.storage.replace("s0", &frame, &step).await.unwrap();
            assert_eq!(count().await, 21, "{name}");
        }
        // A reset takes what is of its own.
        go_back(&app, at(0.0)).await;
        assert_eq!(count().await, 3, "{name}");
        assert_eq!(app.rate().await.failed, 0, "{name}");
        assert_eq!(count().await, 21, "{name}");
    }
}
