//! Several processors, many scopes, and scopes that are far behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use ratekitty::{
    config::Config,
    processor::Progress,
    state::{Database, scopes},
    storage,
    time::seconds,
};
use regex::Regex;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{HOUR, clock, hours_ago, keys, processor, set_price, set_up, unit_prices};
use crate::{
    databases::refusals::own_database,
    support::{Cloud, Db, Running, TestApp, cloud::METRICS, servers::Server, until, until_in},
};

const PRICE: i64 = 2;

/// Where processors have their state and their locks.
#[derive(Clone, Copy, Debug)]
enum Home {
    /// In files.
    Files,
    /// State in MariaDB, locks in files.
    Mariadb,
    /// Both in a MariaDB of their own: names of its locks are those of all tests.
    OwnMariadb,
}

/// Scopes that several processors work on.
struct Crowd {
    cloud: Cloud,
    config: Config,
    database: Database,
    begin: i64,
    hours: i64,
    scopes: usize,
    _server: Option<Server>,
    dir: TempDir,
}

impl Crowd {
    async fn new(home: Home, scopes: usize, hours: i64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        let files = format!("file://{path}/locks");
        let (server, database, locks) = match home {
            Home::Files => (None, None, files),
            Home::Mariadb => (None, Db::Mariadb.create().await, files),
            Home::OwnMariadb => {
                let fast = ["--innodb-flush-log-at-trx-commit=0"];
                let (server, place) = own_database(dir.path(), &fast).await;
                let url = format!("mysql+pymysql://{place}");
                (Some(server), Some(url), format!("mysql://{place}"))
            }
        };
        let database = database.map(|url| format!("[database]\nconnection = {url}\n"));
        let cloud = Cloud::start(scopes, 1).await;
        let begin = hours_ago(hours);
        std::fs::write(dir.path().join("metrics.yml"), METRICS).unwrap();
        let text = format!(
            "[DEFAULT]\ndebug = true\n[storage]\nbackend = sql\n{}\
             [ratekitty]\nstate_path = {path}\nfirst_period_begin = {}\n\
             [orchestrator]\nmax_workers = 4\ncoordination_url = {locks}\n\
             {}wait_periods = 1\nmetrics_conf = {path}/metrics.yml\n",
            database.unwrap_or_default(),
            seconds(begin).to_rfc3339(),
            cloud.conf(),
        );
        let (config, database) = set_up(dir.path(), "ratekitty.conf", &text).await;
        set_price(&database, PRICE).await;
        Self { cloud, config, database, begin, hours, scopes, _server: server, dir }
    }

    /// How many periods there are to rate. One hour may become due meanwhile.
    fn all(&self) -> usize {
        usize::try_from(self.hours).unwrap() * self.scopes
    }

    fn log(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("{number}.log"))
    }

    fn start(&self, number: usize) -> Running {
        processor(&self.dir.path().join("ratekitty.conf"), &self.log(number), &[])
    }

    /// Scopes and begins of the periods of which a processor has said that it
    /// rated them.
    fn rated_by(&self, number: usize) -> Vec<(String, String)> {
        let log = std::fs::read_to_string(self.log(number)).unwrap();
        let line = r"Rated \d+ data points of scope `(\w+)` in the period (\S+) to ";
        let line = Regex::new(line).unwrap();
        line.captures_iter(&log).map(|found| (found[1].to_owned(), found[2].to_owned())).collect()
    }

    /// Waits until everything is rated.
    async fn finish(&self) {
        let last = self.begin + (self.hours - 1) * HOUR;
        until_in(Duration::from_secs(90), "all scopes", || async {
            let states = scopes::overview(&self.database, &keys()).await.unwrap();
            let done = states.values().filter(|state| state.last_processed.timestamp() >= last);
            done.count() == self.scopes
        })
        .await;
    }

    /// Everything is there once, at its price, and was rated by one of the
    /// processors `0..count`. Gives how much each of them rated.
    async fn check(&self, count: usize) -> Vec<usize> {
        let storage = storage::build(&self.config, &self.database, &clock()).unwrap();
        let window = (self.begin, self.begin + self.hours * HOUR);
        let prices = unit_prices(&*storage, window).await;
        assert_eq!(prices.len(), self.all());
        assert!(prices.values().all(|price| *price == PRICE));
        let rated: Vec<_> = (0..count).map(|number| self.rated_by(number)).collect();
        let mut seen = BTreeSet::new();
        for period in rated.iter().flatten() {
            assert!(seen.insert(period), "{period:?} was rated twice");
        }
        rated.iter().map(Vec::len).collect()
    }

    /// How much was collected for nothing, since someone else had it already.
    fn asked_twice(&self) -> usize {
        self.cloud.asked().values().map(|times| times - 1).sum()
    }
}

/// Four processors: none idles, and next to nothing is done twice.
#[expect(clippy::print_stdout, reason = "how the work was shared, for who watches it")]
async fn share(home: Home) {
    let crowd = Crowd::new(home, 500, 2).await;
    crowd.cloud.set_delay(Duration::from_millis(10));
    crowd.cloud.await_fetchers(4);
    let mut running: Vec<Running> = (0..4).map(|number| crowd.start(number)).collect();
    crowd.finish().await;
    for processor in &mut running {
        assert!(processor.stop().await.success());
    }
    let (shares, twice) = (crowd.check(4).await, crowd.asked_twice());
    println!("{home:?}: shares of {} periods: {shares:?}; asked for twice: {twice}", crowd.all());
    assert!(shares.iter().all(|share| *share >= crowd.all() / 8), "{shares:?}");
    assert!(twice <= crowd.all() / 50, "{twice} were asked for twice: {shares:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processors_share_500_scopes() {
    share(Home::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processors_share_500_scopes_by_locks_of_mysql() {
    share(Home::OwnMariadb).await;
}

/// One of two processors dies in the middle; the other one, which runs all the
/// time, brings to an end what that had begun.
async fn take_over(home: Home) {
    const HOURS: i64 = 40;
    let crowd = Crowd::new(home, 6, HOURS).await;
    crowd.cloud.set_delay(Duration::from_millis(60));
    crowd.cloud.await_fetchers(2);
    let (mut one, mut other) = (crowd.start(0), crowd.start(1));
    until("work of both", || async { (0..2).all(|number| crowd.rated_by(number).len() >= 8) })
        .await;
    assert!(one.kill(), "{home:?}: it was at work");
    let before = crowd.rated_by(0);
    crowd.finish().await;
    assert!(other.ended().is_none(), "{home:?}: it goes on");
    assert!(other.stop().await.success());
    let shares = crowd.check(2).await;
    let after = crowd.rated_by(1);
    let count = |rated: &[(String, String)], wanted: &str| {
        rated.iter().filter(|(scope, _)| scope == wanted).count()
    };
    let begun: BTreeSet<&str> = before.iter().map(|(scope, _)| scope.as_str()).collect();
    let is_taken_over = |scope: &str| {
        count(&before, scope) < usize::try_from(HOURS).unwrap() && count(&after, scope) > 0
    };
    assert!(begun.iter().any(|scope| is_taken_over(scope)), "{home:?}: {begun:?}");
    // What was stored, and not told any more, is one period of each worker.
    assert!(shares.iter().sum::<usize>() + 4 >= crowd.all(), "{home:?}: {shares:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_processor_takes_over_from_one_that_dies() {
    take_over(Home::Files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_processor_takes_over_by_locks_of_mysql() {
    take_over(Home::OwnMariadb).await;
}

/// A processor that comes later gets its part of what is left.
async fn join(home: Home) {
    let crowd = Crowd::new(home, 24, 16).await;
    crowd.cloud.set_delay(Duration::from_millis(60));
    let mut one = crowd.start(0);
    until("work in progress", || async { crowd.rated_by(0).len() >= 20 }).await;
    let left = crowd.all() - crowd.rated_by(0).len();
    let mut other = crowd.start(1);
    crowd.finish().await;
    assert!(one.stop().await.success() && other.stop().await.success());
    let (shares, twice) = (crowd.check(2).await, crowd.asked_twice());
    assert!(shares[1] >= left / 8, "{home:?}: {shares:?}, {left} were left");
    assert!(twice <= crowd.all() / 50, "{home:?}: {twice} were asked for twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_joins_gets_work() {
    join(Home::Files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_joins_gets_work_by_locks_of_mysql() {
    join(Home::OwnMariadb).await;
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
}
