//! Several processors, many scopes, and scopes that are far behind.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use ratekitty::{
    processor::Progress,
    state::scopes,
    storage,
    time::{Clock, RealClock, seconds},
};
use tokio_util::sync::CancellationToken;

use super::{HOUR, clock, hours_ago, set_up, unit_prices};
use crate::support::{Cloud, Db, TestApp, cloud::METRICS, until};

/// A configuration for processes; the rest of `[collect]` is at its end.
fn conf(dir: &std::path::Path, cloud: &Cloud, database: &str, begin: i64) -> String {
    let path = dir.display();
    std::fs::write(dir.join("metrics.yml"), METRICS).unwrap();
    format!(
        "[DEFAULT]\ndebug = true\n[storage]\nbackend = sql\n{database}\
         [ratekitty]\nstate_path = {path}\nfirst_period_begin = {}\n\
         [orchestrator]\nmax_workers = 4\ncoordination_url = file://{path}/locks\n\
         {}wait_periods = 1\nmetrics_conf = {path}/metrics.yml\n",
        seconds(begin).to_rfc3339(),
        cloud.conf(),
    )
}

fn processor(dir: &std::path::Path, number: usize, arguments: &[&str]) -> Child {
    let log = std::fs::File::create(dir.join(format!("{number}.log"))).unwrap();
    Command::new(env!("CARGO_BIN_EXE_ratekitty"))
        .arg("--config-file")
        .arg(dir.join("ratekitty.conf"))
        .arg("processor")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processors_share_500_scopes() {
    const SCOPES: usize = 500;
    const HOURS: i64 = 2;
    let cloud = Cloud::start(SCOPES, 1).await;
    cloud.set_delay(Duration::from_millis(10));
    let dir = tempfile::tempdir().unwrap();
    let url = Db::Mariadb.create().await.unwrap();
    let begin = hours_ago(HOURS);
    let text = conf(dir.path(), &cloud, &format!("[database]\nconnection = {url}\n"), begin);
    let (config, database) = set_up(dir.path(), "ratekitty.conf", &text).await;
    let mut children: Vec<Child> =
        (0..4).map(|number| processor(dir.path(), number, &[])).collect();
    let storage = storage::build(&config, &database, &clock()).unwrap();
    let window = (begin, begin + HOURS * HOUR);
    let all = HOURS as usize * SCOPES;
    let last = hours_ago(1);
    until("all scopes", || async {
        let keys = scopes::ScopeKeys {
            scope_key: "project_id".into(),
            fetcher: "prometheus".into(),
            collector: "prometheus".into(),
        };
        let states = scopes::overview(&database, &keys).await.unwrap();
        states.values().filter(|state| state.last_processed.timestamp() >= last).count() == SCOPES
    })
    .await;
    for child in &mut children {
        let id = child.id().to_string();
        Command::new("kill").arg(&id).status().unwrap();
    }
    for mut child in children {
        child.wait().unwrap();
    }
    assert_eq!(unit_prices(&*storage, window).await.len(), all);
    // Nobody idled, and next to nothing was done twice.
    let shares: Vec<usize> = (0..4)
        .map(|number| {
            let log = std::fs::read_to_string(dir.path().join(format!("{number}.log"))).unwrap();
            log.matches("data points of scope").count()
        })
        .collect();
    let asked = cloud.asked();
    let twice: usize = asked.values().map(|times| times - 1).sum();
    println!("shares of {} periods: {shares:?}; asked for twice: {twice}", asked.len());
    assert!(shares.iter().all(|share| *share > all / 12), "{shares:?}");
    assert!(twice <= all / 50, "{twice} of {all} were asked for twice: {shares:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_of_a_processor_that_dies_is_taken_over() {
    const HOURS: i64 = 30;
    let cloud = Cloud::start(6, 1).await;
    cloud.set_delay(Duration::from_millis(20));
    let dir = tempfile::tempdir().unwrap();
    let begin = hours_ago(HOURS);
    let text = conf(dir.path(), &cloud, "", begin);
    let (config, database) = set_up(dir.path(), "ratekitty.conf", &text).await;
    let mut one = processor(dir.path(), 0, &[]);
    until("work in progress", || async { cloud.asked().len() > 20 }).await;
    let mut other = processor(dir.path(), 1, &["--once"]);
    one.kill().unwrap();
    one.wait().unwrap();
    assert!(other.wait().unwrap().success());
    assert!(processor(dir.path(), 2, &["--once"]).wait().unwrap().success());
    let storage = storage::build(&config, &database, &clock()).unwrap();
    let found = unit_prices(&*storage, (begin, begin + HOURS * HOUR)).await;
    assert_eq!(found.len(), HOURS as usize * 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_months_behind_does_not_starve_the_others() {
    let cloud = Cloud::start(3, 1).await;
    cloud.set_delay(Duration::from_millis(300));
    let now = "2026-11-01T03:00:00Z";
    let conf = format!(
        "[orchestrator]\nmax_workers = 1\n[ratekitty]\nfirst_period_begin = 2026-11-01T01:00:00Z\n{}wait_periods = 1\n",
        cloud.conf()
    );
    let app = TestApp::new(now, &conf, METRICS).await;
    let pipeline = app.pipeline();
    // Three months; one period takes 0.3 s, so that all of it takes ten minutes.
    let behind =
        seconds(now.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp() - 90 * 24 * HOUR);
    for scope in ["s0", "s1"] {
        let connection = app.database.connection();
        scopes::add(connection, scope, pipeline.keys(), behind, behind).await.unwrap();
    }
    let stop = CancellationToken::new();
    let progress = Arc::new(Progress::quiet());
    let running = {
        let (pipeline, progress, stop) = (pipeline.clone(), progress.clone(), stop.clone());
        tokio::spawn(async move { pipeline.run_once(&progress, &stop).await })
    };
    let order: Mutex<BTreeMap<&str, i64>> = Mutex::default();
    until("every scope to go on", || async {
        let states = scopes::overview(&app.database, pipeline.keys()).await.unwrap();
        for scope in ["s0", "s1", "s2"] {
            if let Some(state) = states.get(scope) {
                let hours = (state.last_processed - behind).num_hours();
                order.lock().unwrap().insert(scope, hours);
            }
        }
        let order = order.lock().unwrap();
        order.len() == 3 && order.values().all(|hours| *hours > 0)
    })
    .await;
    stop.cancel();
    let outcome = running.await.unwrap().unwrap();
    assert!(outcome.stopped && outcome.failed == 0, "{outcome:?}");
    assert!(progress.periods() < 200, "{}", progress.periods());
    let _ = RealClock.now();
}
