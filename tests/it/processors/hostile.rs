//! Clocks that jump, databases that go away, configurations that disagree.

use std::{process::Command, time::Duration};

use ratekitty::{
    state::{StateError, periods, scopes},
    storage,
};

use super::{HOUR, clock, hours_ago, set_up, unit_prices};
use crate::{
    databases::refusals::mariadb,
    support::{Cloud, Db, TestApp, cloud::METRICS, databases::execute, set_up as set_up_variable},
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
        tokio::time::sleep(Duration::from_millis(150)).await;
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("{namespace}_*_lock"))
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(keys.len(), 1);
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
        let (progress, stop) =
            (std::sync::Arc::new(ratekitty::processor::Progress::quiet()), <_>::default());
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
async fn a_processor_outlives_its_database() {
    const HOURS: i64 = 40;
    let cloud = Cloud::start(4, 2).await;
    cloud.set_delay(Duration::from_millis(30));
    let dir = tempfile::tempdir().unwrap();
    let mut server = mariadb(dir.path()).await;
    let login = Db::Mariadb.server().unwrap();
    let login = login.split_once("://").unwrap().1.split_once('@').unwrap().0.to_owned();
    let place = format!("{login}@127.0.0.1:{}", server.port());
    execute(&format!("mysql://{place}"), &["CREATE DATABASE ck"]).await;
    std::fs::write(dir.path().join("metrics.yml"), METRICS).unwrap();
    let path = dir.path().display();
    let begin = hours_ago(HOURS);
    // Locks are on the same server: they go with it.
    let text = format!(
        "[database]\nconnection = mysql+pymysql://{place}/ck?connect_timeout=2\npool_timeout = 2\n\
         [storage]\nbackend = sql\n[orchestrator]\ncoordination_url = mysql://{place}/ck\n\
         [ratekitty]\nstate_path = {path}\nfirst_period_begin = {}\n\
         {}wait_periods = 1\nmetrics_conf = {path}/metrics.yml\n",
        ratekitty::time::seconds(begin).to_rfc3339(),
        cloud.conf(),
    );
    let (config, database) = set_up(dir.path(), "ratekitty.conf", &text).await;
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ratekitty"))
        .arg("--config-file")
        .arg(dir.path().join("ratekitty.conf"))
        .arg("processor")
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    for _ in 0..2 {
        let before = cloud.asked().len();
        crate::support::until("work", || async { cloud.asked().len() > before + 20 }).await;
        server.stop();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(child.try_wait().unwrap().is_none(), "it goes on");
        server.start().await;
    }
    let storage = storage::build(&config, &database, &clock()).unwrap();
    let window = (begin, begin + HOURS * HOUR);
    let mut found = 0;
    for _ in 0..600 {
        if let Ok(points) = storage
            .retrieve(
                &storage::Selection::all(
                    ratekitty::time::seconds(window.0),
                    ratekitty::time::seconds(window.1),
                ),
                storage::Page { offset: 0, limit: 1 },
            )
            .await
        {
            found = points.total;
            if found == HOURS as u64 * 8 {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    child.wait().unwrap();
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(found, HOURS as u64 * 8, "{log}");
    assert_eq!(unit_prices(&*storage, window).await.len(), HOURS as usize * 8);
    let secret = login.split_once(':').unwrap().1;
    assert!(!log.contains(secret), "no password in the log");
}
