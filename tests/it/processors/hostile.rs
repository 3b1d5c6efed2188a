//! Clocks that jump, databases that go away, configurations that disagree.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ratekitty::{
    processor::Progress,
    state::{StateError, periods, scopes},
    storage::{self, Page, Selection},
    time::seconds,
};
use tokio_util::sync::CancellationToken;

use super::{FULL, HOUR, clock, hours_ago, keys, processor, set_price, set_up, unit_prices};
use crate::{
    databases::refusals::own_database,
    storage::loki_app_on,
    support::{
        Cloud, Db, FakeLoki, TestApp, cloud::METRICS, fake_loki::Limits, set_up as set_up_variable,
        until, until_in,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_back_changes_nothing() {
    let cloud = Cloud::start(2, 1).await;
    let conf = format!("{}wait_periods = 1\n", cloud.conf());
    let app = TestApp::new("2026-11-01T11:00:00Z", &conf, METRICS).await;
    assert_eq!(app.rate().await.failed, 0);
    let before = cloud.asked();
    for now in ["2026-11-01T03:00:00Z", "2026-10-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
        app.clock.set(now.parse().unwrap());
        let outcome = app.rate().await;
        assert_eq!((outcome.scopes, outcome.failed), (2, 0), "{now}");
        assert_eq!(cloud.asked(), before, "{now}");
    }
    app.clock.set("2026-11-01T12:00:00Z".parse().unwrap());
    assert_eq!(app.rate().await.failed, 0);
    assert_eq!(cloud.asked().len(), before.len() + 2);
    assert!(cloud.asked().values().all(|times| *times == 1));
}

/// An app of each storage.
async fn apps(now: &str, conf: &str) -> Vec<(&'static str, TestApp, Option<FakeLoki>)> {
    let sql = TestApp::new(now, conf, METRICS).await;
    let (mut app, loki) = loki_app_on(Db::Sqlite, Limits::roomy(), conf).await;
    app.clock.set(now.parse().unwrap());
    app.set_metrics(METRICS);
    vec![("sql", sql, None), ("loki", app, loki)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_back_in_the_middle_of_a_cycle_changes_nothing() {
    const NOW: &str = "2026-11-03T13:00:00Z";
    const HOURS: usize = 60;
    // 2026-11-01 00:00 UTC.
    let begin = 1_793_491_200;
    let window = (begin, begin + 90 * HOUR);
    // Into the month, before it, and before everything.
    for jump in ["2026-11-01T03:00:00Z", "2026-10-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
        let cloud = Cloud::start(2, 2).await;
        let conf = format!("{}wait_periods = 1\n", cloud.conf());
        for (name, app, _loki) in apps(NOW, &conf).await {
            let told = format!("{name}, {jump}");
            cloud.set_delay(Duration::from_millis(40));
            set_price(&app.database, 3).await;
            let pipeline = app.pipeline();
            let (progress, stop) = (Arc::new(Progress::quiet()), CancellationToken::new());
            let before: usize = cloud.asked().values().sum();
            let running = {
                let (pipeline, progress) = (pipeline.clone(), progress.clone());
                tokio::spawn(async move { pipeline.run_once(&progress, &stop).await })
            };
            until("work in progress", || async {
                cloud.asked().values().sum::<usize>() >= before + 5
            })
            .await;
            app.clock.set(jump.parse().unwrap());
            let outcome = running.await.unwrap().unwrap();
            assert_eq!((outcome.scopes, outcome.failed), (2, 0), "{told}");
            // Each scope has its first periods, as many as its state says.
            let kept = unit_prices(&*app.storage, window).await;
            assert!((1..2 * 2 * HOURS).contains(&kept.len()), "{told}: {}", kept.len());
            assert_eq!(kept.len() as u64, 2 * progress.periods(), "{told}");
            let states = scopes::overview(&app.database, pipeline.keys()).await.unwrap();
            for scope in ["s0", "s1"] {
                let begins: BTreeSet<i64> =
                    kept.keys().filter(|key| key.0 == scope).map(|key| key.1).collect();
                let expected = (0..).map(|hour| begin + hour * HOUR).take(begins.len());
                assert_eq!(begins, expected.collect::<BTreeSet<_>>(), "{told}: {scope}");
                let last = states.get(scope).map(|state| state.last_processed.timestamp());
                assert_eq!(last, begins.last().copied(), "{told}: {scope}");
            }
            cloud.set_delay(Duration::ZERO);
            assert_eq!(app.rate().await.failed, 0, "{told}");
            assert_eq!(unit_prices(&*app.storage, window).await, kept, "{told}");
            // The clock is right again, by the same processor.
            app.clock.set(NOW.parse().unwrap());
            let (progress, stop) = (Arc::new(Progress::quiet()), CancellationToken::new());
            assert_eq!(pipeline.run_once(&progress, &stop).await.unwrap().failed, 0, "{told}");
            let prices = unit_prices(&*app.storage, window).await;
            assert_eq!(prices.len(), 2 * 2 * HOURS, "{told}");
            assert!(prices.values().all(|price| *price == 3), "{told}");
            // No period was collected a second time.
            let asked: usize = cloud.asked().values().sum();
            assert_eq!(asked - before, 2 * HOURS, "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_lost_in_the_middle_stops_the_scope() {
    let cloud = Cloud::start(1, 1).await;
    cloud.set_delay(Duration::from_millis(400));
    let redis = set_up_variable("RATEKITTY_TEST_REDIS");
    let namespace = format!("n{:x}", rand::random::<u64>());
    let conf = format!("{}wait_periods = 1\n", cloud.conf());
    let mut app = TestApp::new("2026-11-01T02:00:00Z", &conf, METRICS).await;
    let url = format!("{redis}?namespace={namespace}");
    app.config.orchestrator.coordination_url = url.into();
    let client = redis::Client::open(redis).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let lose = async {
        let keys = loop {
            let keys: Vec<String> = redis::cmd("KEYS")
                .arg(format!("{namespace}_*_lock"))
                .query_async(&mut connection)
                .await
                .unwrap();
            if !keys.is_empty() {
                break keys;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let _: () = redis::cmd("DEL").arg(&keys).query_async(&mut connection).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(app.rate(), lose);
    assert_eq!(outcome.failed, 1);
    let begin = 1_793_491_200;
    assert!(unit_prices(&*app.storage, (begin, begin + 9 * HOUR)).await.is_empty());
    let states = scopes::overview(&app.database, app.pipeline().keys()).await.unwrap();
    assert!(states.is_empty(), "{states:?}");
    assert_eq!(app.rate().await.failed, 0);
    assert_eq!(unit_prices(&*app.storage, (begin, begin + 9 * HOUR)).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_that_cannot_be_had_stop_a_cycle_once() {
    let cloud = Cloud::start(50, 1).await;
    let conf = format!("{}wait_periods = 1\n", cloud.conf());
    let mut app = TestApp::new("2026-11-01T02:00:00Z", &conf, METRICS).await;
    app.config.orchestrator.coordination_url = "redis://127.0.0.1:1".to_owned().into();
    let outcome = app.rate().await;
    assert!((1..=8).contains(&outcome.failed), "{outcome:?}: one try a worker, not one a scope");
    assert!(cloud.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_lengths_of_periods_are_refused() {
    let cloud = Cloud::start(2, 1).await;
    for db in Db::ALL {
        let conf = format!("{}wait_periods = 1\n", cloud.conf());
        let mut app = TestApp::on(db, "2026-11-01T11:00:00Z", &conf, METRICS).await;
        app.pipeline().claim_period().await.unwrap();
        assert_eq!(app.rate().await.failed, 0);
        let keys = app.pipeline().keys().clone();
        // One that starts with another period is refused.
        app.config.collect.period = 1_800;
        let error = app.pipeline().claim_period().await.unwrap_err();
        assert!(matches!(error, StateError::OtherPeriod { .. }), "{error}");
        // One that is running when it is changed does not write any more.
        app.config.collect.period = 3_600;
        let running = app.pipeline();
        periods::set(&app.database, &keys, 1_800).await.unwrap();
        app.clock.set("2026-11-01T14:00:00Z".parse().unwrap());
        let (progress, stop) = (Arc::new(Progress::quiet()), CancellationToken::new());
        let outcome = running.run_once(&progress, &stop).await.unwrap();
        assert_eq!((outcome.failed, progress.periods()), (2, 0), "{db:?}");
        app.config.collect.period = 1_800;
        assert_eq!(app.rate().await.failed, 0, "{db:?}");
        // Hour by hour until 10:00, then in halves until what is due at 14:00.
        let state = scopes::get(&app.database, "s0", &keys).await.unwrap().unwrap();
        assert_eq!(
            state.last_processed,
            "2026-11-01T13:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap()
        );
        let begin = 1_793_491_200;
        let stored = unit_prices(&*app.storage, (begin, begin + 30 * HOUR)).await;
        let begins: Vec<i64> =
            stored.keys().filter(|key| key.0 == "s0").map(|key| (key.1 - begin) / 60).collect();
        let hours = (0..10).map(|hour| hour * 60);
        let halves = (0..).map(|half| 600 + half * 30).take_while(|begin| *begin <= 780);
        assert_eq!(begins, hours.chain(halves).collect::<Vec<_>>(), "{db:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processors_with_other_periods_one_is_refused() {
    const SCOPES: usize = 3;
    const HOURS: i64 = 6;
    for db in [Db::Sqlite, Db::Mariadb] {
        let cloud = Cloud::start(SCOPES, 1).await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        let begin = hours_ago(HOURS);
        std::fs::write(dir.path().join("metrics.yml"), METRICS).unwrap();
        let database = db.create().await.map(|url| format!("[database]\nconnection = {url}\n"));
        let database = database.unwrap_or_default();
        let lengths = [3_600, 1_800];
        let mut opened = None;
        for length in lengths {
            let text = format!(
                "{database}[storage]\nbackend = sql\n\
                 [orchestrator]\ncoordination_url = file://{path}/locks\n\
                 [ratekitty]\nstate_path = {path}\nfirst_period_begin = {}\n\
                 {}wait_periods = 1\nperiod = {length}\nmetrics_conf = {path}/metrics.yml\n",
                seconds(begin).to_rfc3339(),
                cloud.conf(),
            );
            opened = Some(set_up(dir.path(), &format!("{length}.conf"), &text).await);
        }
        let (config, database) = opened.unwrap();
        let file = |length: i64, kind: &str| dir.path().join(format!("{length}.{kind}"));
        let start = |length| processor(&file(length, "conf"), &file(length, "log"), &[]);
        // Both at once: who comes first says how long periods are.
        let mut running = lengths.map(start);
        let mut refused = None;
        for _ in 0..600 {
            refused = running.iter_mut().position(|processor| processor.ended().is_some());
            if refused.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let refused = refused.unwrap_or_else(|| panic!("{db:?}: both run"));
        let (wrong, right) = (lengths[refused], lengths[1 - refused]);
        assert_eq!(running[refused].wait().await.code(), Some(1), "{db:?}");
        let reason = format!("[collect] period = {wrong} s");
        let known = format!("are rated in periods of {right} s");
        let is_told = |log: &str| {
            log.contains(&reason) && log.contains(&known) && log.contains("dbsync set-period")
        };
        let log = std::fs::read_to_string(file(wrong, "log")).unwrap();
        assert!(is_told(&log), "{db:?}: {log}");
        let last = begin + HOURS * HOUR - right;
        until("the other one to rate", || async {
            let states = scopes::overview(&database, &keys()).await.unwrap();
            let done = states.values().filter(|state| state.last_processed.timestamp() >= last);
            done.count() == SCOPES
        })
        .await;
        // And it is refused beside one that runs.
        let mut again = processor(&file(wrong, "conf"), &file(wrong, "log"), &["--once"]);
        assert_eq!(again.wait().await.code(), Some(1), "{db:?}");
        let log = std::fs::read_to_string(file(wrong, "log")).unwrap();
        assert!(is_told(&log), "{db:?}: {log}");
        assert!(running[1 - refused].ended().is_none(), "{db:?}: it goes on");
        assert!(running[1 - refused].stop().await.success(), "{db:?}");
        let storage = storage::build(&config, &database, &clock()).unwrap();
        let window = (begin, begin + HOURS * HOUR);
        let stored = unit_prices(&*storage, window).await;
        assert_eq!(stored.len() as i64, HOURS * HOUR / right * SCOPES as i64, "{db:?}");
        let all = Selection::all(seconds(window.0), seconds(window.1));
        let points = storage.retrieve(&all, Page::ALL).await.unwrap().points;
        assert!(points.iter().all(|(period, ..)| period.seconds() == right), "{db:?}");
    }
}

/// How long a database is away.
fn outage() -> Duration {
    let wanted = std::env::var("RATEKITTY_TEST_OUTAGE").ok();
    Duration::from_secs(wanted.map_or(3, |seconds| seconds.parse().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_outlives_its_database() {
    const HOURS: i64 = 40;
    let cloud = Cloud::start(4, 2).await;
    cloud.set_delay(Duration::from_millis(30));
    let dir = tempfile::tempdir().unwrap();
    let (mut server, place) = own_database(dir.path(), &[]).await;
    std::fs::write(dir.path().join("metrics.yml"), METRICS).unwrap();
    let path = dir.path().display();
    let begin = hours_ago(HOURS);
    // Locks are on the same server: they go with it.
    let text = format!(
        "[database]\nconnection = mysql+pymysql://{place}?connect_timeout=2\npool_timeout = 2\n\
         [storage]\nbackend = sql\n[orchestrator]\ncoordination_url = mysql://{place}\n\
         [ratekitty]\nstate_path = {path}\nfirst_period_begin = {}\n\
         {}wait_periods = 1\nmetrics_conf = {path}/metrics.yml\n",
        seconds(begin).to_rfc3339(),
        cloud.conf(),
    );
    let conf = dir.path().join("ratekitty.conf");
    let (config, database) = set_up(dir.path(), "ratekitty.conf", &text).await;
    set_price(&database, 2).await;
    let log = dir.path().join("log");
    let mut running = processor(&conf, &log, &[]);
    // A cycle that fails is followed by a pause of a minute at most.
    let patience = Duration::from_secs(120);
    for _ in 0..2 {
        let before = cloud.asked().len();
        until_in(patience, "work", || async { cloud.asked().len() > before + 20 }).await;
        server.stop();
        tokio::time::sleep(outage()).await;
        assert!(running.ended().is_none(), "it goes on");
        server.start().await;
    }
    let storage = storage::build(&config, &database, &clock()).unwrap();
    let window = (begin, begin + HOURS * HOUR);
    let selection = Selection::all(seconds(window.0), seconds(window.1));
    let all = usize::try_from(HOURS).unwrap() * 8;
    until_in(patience, "everything to be rated", || async {
        let found = storage.retrieve(&selection, Page { offset: 0, limit: 1 }).await;
        found.is_ok_and(|found| found.total == all as u64)
    })
    .await;
    assert!(running.stop().await.success());
    let prices = unit_prices(&*storage, window).await;
    assert_eq!(prices.len(), all);
    assert!(prices.values().all(|price| *price == 2));
    let log = std::fs::read_to_string(log).unwrap();
    let told = ["is not rated, and is tried again", "Nothing is rated until locks can be had"];
    assert!(told.iter().any(|told| log.contains(told)), "{log}");
    let secret = place.split_once(':').unwrap().1.split_once('@').unwrap().0;
    assert!(!log.contains(secret), "no password in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_was_full_for_a_moment_leaves_nothing_behind() {
    const SCOPES: usize = 2;
    const HOURS: i64 = 150;
    let cloud = Cloud::start(SCOPES, 2).await;
    cloud.set_delay(Duration::from_millis(10));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("metrics.yml"), METRICS).unwrap();
    let path = dir.path().display();
    let begin = hours_ago(HOURS);
    let text = format!(
        "[storage]\nbackend = sql\n[orchestrator]\ncoordination_url = file://{path}/locks\n\
         [ratekitty]\nstate_path = {path}\nfirst_period_begin = {}\n\
         {}wait_periods = 1\nmetrics_conf = {path}/metrics.yml\n",
        seconds(begin).to_rfc3339(),
        cloud.conf(),
    );
    let (config, database) = set_up(dir.path(), "ratekitty.conf", &text).await;
    set_price(&database, 2).await;
    let log = dir.path().join("log");
    let mut running = processor(&dir.path().join("ratekitty.conf"), &log, &[]);
    let said = || std::fs::read_to_string(&log).unwrap();
    until("work", || async { cloud.asked().len() > 20 }).await;
    running.limit_files(Some(FULL));
    until("a failure", || async { said().contains("is not rated, and is tried again") }).await;
    running.limit_files(None);
    let before = said().len();
    let last = begin + (HOURS - 1) * HOUR;
    until_in(Duration::from_secs(60), "all scopes", || async {
        let states = scopes::overview(&database, &keys()).await.unwrap();
        let done = states.values().filter(|state| state.last_processed.timestamp() >= last);
        done.count() == SCOPES
    })
    .await;
    assert!(running.stop().await.success());
    // Its connections are as good as new: none shows an old state, or is locked.
    let after = said().split_off(before);
    let failures = after.matches("is not rated, and is tried again").count();
    assert!(failures <= SCOPES, "{after}");
    assert!(!after.contains("was moved by someone else"), "{after}");
    let storage = storage::build(&config, &database, &clock()).unwrap();
    let prices = unit_prices(&*storage, (begin, begin + HOURS * HOUR)).await;
    assert_eq!(prices.len(), usize::try_from(HOURS).unwrap() * SCOPES * 2);
    assert!(prices.values().all(|price| *price == 2));
}
