//! Processors that are killed at random, while storage fails, locks fail, prices
//! change, scopes are reset and reprocessed: at the end every period of every
//! scope is there exactly once, and totals are those of a quiet run.
//!
//! `make torture` runs it for long, a test run for short; `RATEKITTY_TORTURE_KILLS`
//! is the number of kills, `RATEKITTY_TORTURE_SEED` repeats a run.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use ratekitty::{
    config::Config,
    lock::Coordinator,
    processor::reset::reset,
    state::{Database, reprocessing, scopes, scopes::ScopeKeys},
    storage::{self, Storage},
    time::seconds,
};
use sea_orm::ConnectionTrait;

use super::{HOUR, clock, hours_ago, set_price, set_up, unit_prices};
use crate::support::{
    Cloud, Db, FakeLoki,
    cloud::METRICS,
    fake_loki::{Fault, Kind, Limits},
    set_up as variable,
};

const SCOPES: usize = 6;
const THINGS: usize = 4;
const HOURS: i64 = 24;
const PROCESSORS: usize = 3;
const LAST_PRICE: i64 = 5;

/// What is tortured.
struct Victim {
    name: &'static str,
    config: Config,
    database: Database,
    storage: std::sync::Arc<dyn Storage>,
    loki: Option<FakeLoki>,
    dir: tempfile::TempDir,
    begin: i64,
    is_mariadb: bool,
}

fn kills() -> usize {
    // A third for each storage.
    let wanted = std::env::var("RATEKITTY_TORTURE_KILLS").ok();
    wanted.map_or(12, |text| text.parse::<usize>().unwrap().div_ceil(3))
}

fn seed() -> u64 {
    let wanted = std::env::var("RATEKITTY_TORTURE_SEED").ok();
    wanted.map_or_else(rand::random, |text| text.parse().unwrap())
}

fn keys() -> ScopeKeys {
    let name = "prometheus".to_owned();
    ScopeKeys { scope_key: "project_id".into(), fetcher: name.clone(), collector: name }
}

/// Configurations that differ in the place of their locks: `0.conf`, `1.conf`, ...
async fn victim(
    name: &'static str,
    cloud: &Cloud,
    database: Option<String>,
    loki: Option<FakeLoki>,
) -> Victim {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    std::fs::write(dir.path().join("metrics.yml"), METRICS).unwrap();
    let begin = hours_ago(HOURS);
    let places = [
        format!("file://{path}/locks"),
        format!("{}/mysql", Db::Mariadb.server().unwrap()),
        format!("{}?lock_timeout=3", variable("RATEKITTY_TEST_REDIS")),
        variable("RATEKITTY_TEST_ETCD").replace("http://", "etcd3+http://") + "?lock_timeout=3",
        format!("{}/postgres", Db::Postgresql.server().unwrap()),
    ];
    let is_mariadb = database.is_some();
    let database = database.map(|url| format!("[database]\nconnection = {url}\n"));
    let database = database.unwrap_or_default();
    let storage = match &loki {
        Some(loki) => format!("loki\n[storage_loki]\nurl = {}\nbatch_entries = 3\n", loki.url()),
        None => "sql\n".to_owned(),
    };
    let mut opened = None;
    for (number, place) in places.iter().enumerate() {
        let text = format!(
            "{database}[storage]\nbackend = {storage}[orchestrator]\nmax_workers = 2\n\
             max_workers_reprocessing = 2\ncoordination_url = {place}\n\
             [ratekitty]\nstate_path = {path}\nfirst_period_begin = {}\n\
             {}wait_periods = 1\nmetrics_conf = {path}/metrics.yml\n",
            seconds(begin).to_rfc3339(),
            cloud.conf(),
        );
        opened = Some(set_up(dir.path(), &format!("{number}.conf"), &text).await);
    }
    let (config, database) = opened.unwrap();
    set_price(&database, 1).await;
    let storage = storage::build(&config, &database, &clock()).unwrap();
    Victim { name, config, database, storage, loki, dir, begin, is_mariadb }
}

fn processor(dir: &Path, number: usize, arguments: &[&str]) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_ratekitty"))
        .arg("--config-file")
        .arg(dir.join(format!("{number}.conf")))
        .arg("processor")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Victim {
    /// Goes wrong once, in one of many ways.
    async fn disturb(&self, random: &mut StdRng) {
        let scope = format!("s{}", random.random_range(0..SCOPES));
        let hour = |random: &mut StdRng| seconds(self.begin + random.random_range(0..HOURS) * HOUR);
        match random.random_range(0..7) {
            0 | 1 => set_price(&self.database, random.random_range(1..5)).await,
            2 => {
                let (one, other) = (hour(random), hour(random));
                let window = (one.min(other), one.max(other));
                reprocessing::schedule(&self.database, &scope, window, "torture").await.unwrap();
            }
            3 | 6 => {
                // By any lock, so that it may meet a processor with another one.
                let number = random.random_range(0..5);
                let file = self.dir.path().join(format!("{number}.conf"));
                let text = std::fs::read_to_string(file).unwrap();
                let url = text.split("coordination_url = ").nth(1).unwrap().lines().next().unwrap();
                let locks = Coordinator::new(url).unwrap();
                let place = (&self.database, &*self.storage, &locks);
                let (keys, last) = (keys(), hour(random));
                if let Ok(Some(state)) = scopes::get(&self.database, &scope, &keys).await {
                    // Not forward: what is left out would be missing by right.
                    let last = last.min(state.last_processed);
                    let _ = reset(place, (&scope, &keys), last, 3_600, None).await;
                }
            }
            4 if self.is_mariadb => {
                // Sessions of processors end under them.
                let sql = "SELECT CAST(id AS CHAR) FROM information_schema.processlist \
                           WHERE db = DATABASE() AND id <> CONNECTION_ID()";
                let sessions = crate::databases::texts(&self.database, sql).await;
                if let Some(id) = sessions.choose(random) {
                    let kill = format!("KILL {id}");
                    let _ = self.database.connection().execute_unprepared(&kill).await;
                }
            }
            _ => {
                if let Some(loki) = &self.loki {
                    let faults = [
                        Fault::Delay(Duration::from_millis(40)),
                        Fault::DropAnswer,
                        Fault::HalfStored,
                    ];
                    loki.faults().random(Kind::Push, random.random(), 0.3, &faults);
                }
            }
        }
    }

    fn once(&self) {
        for _ in 0..3 {
            if processor(self.dir.path(), 0, &["--once"]).wait().unwrap().success() {
                return;
            }
        }
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
        let end: Vec<_> = log.lines().rev().take(40).collect();
        panic!("{}: a quiet run fails: {}", self.name, end.join("\n"));
    }

    #[expect(clippy::print_stdout, reason = "what a run came to, for who watches it")]
    async fn torture(self, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let begun = Instant::now();
        let told = format!("{}, seed {seed}", self.name);
        let mut children: Vec<Child> = Vec::new();
        let (mut killed, mut disturbed) = (0, 0);
        while killed < kills() {
            while children.len() < PROCESSORS {
                let number = random.random_range(0..5);
                children.push(processor(self.dir.path(), number, &[]));
            }
            for _ in 0..random.random_range(0..8) {
                tokio::time::sleep(Duration::from_millis(random.random_range(5..80))).await;
                self.disturb(&mut random).await;
                disturbed += 1;
            }
            if random.random_bool(0.7) {
                let mut child = children.swap_remove(random.random_range(0..children.len()));
                match child.try_wait().unwrap() {
                    None => {
                        child.kill().unwrap();
                        child.wait().unwrap();
                        killed += 1;
                    }
                    // Its session was ended while it started, which ends it with an error.
                    Some(status) => {
                        assert!(self.is_mariadb && status.code() == Some(1), "{told}: {status}");
                    }
                }
            }
        }
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
        }
        if let Some(loki) = &self.loki {
            loki.faults().clear();
        }
        // What is left is done in quiet; another hour may be due by now.
        self.once();
        let window = (self.begin, self.begin + HOURS * HOUR);
        let found = unit_prices(&*self.storage, window).await;
        assert_eq!(found.len(), HOURS as usize * SCOPES * THINGS, "{told}");
        // Each period has one rating, whatever the prices were.
        let mut of_period = std::collections::BTreeMap::new();
        for ((scope, period, _), price) in &found {
            let first = *of_period.entry((scope, period)).or_insert(price);
            assert_eq!(first, price, "{told}: {scope} {period} has two prices");
        }
        let prices: std::collections::BTreeSet<_> = found.values().collect();
        // With one price again, all is as if nothing had happened.
        set_price(&self.database, LAST_PRICE).await;
        for scope in 0..SCOPES {
            let last = seconds(window.1 - HOUR);
            let scope = format!("s{scope}");
            let whole = (seconds(window.0), last);
            reprocessing::schedule(&self.database, &scope, whole, "again").await.unwrap();
        }
        self.once();
        let again = unit_prices(&*self.storage, window).await;
        assert_eq!(again.len(), found.len(), "{told}");
        assert!(again.values().all(|price| *price == LAST_PRICE), "{told}");
        println!(
            "{told}: {killed} kills, {disturbed} disturbances in {} s; {} points, prices {prices:?} before the last reprocessing",
            begun.elapsed().as_secs(),
            found.len()
        );
        assert_eq!(self.config.collect.period, 3_600);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_on_sqlite_survives() {
    let cloud = Cloud::start(SCOPES, THINGS).await;
    cloud.set_delay(Duration::from_millis(40));
    victim("sql on SQLite", &cloud, None, None).await.torture(seed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_on_mariadb_survives() {
    let cloud = Cloud::start(SCOPES, THINGS).await;
    cloud.set_delay(Duration::from_millis(40));
    let url = Db::Mariadb.create().await;
    victim("sql on MariaDB", &cloud, url, None).await.torture(seed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loki_survives() {
    let cloud = Cloud::start(SCOPES, THINGS).await;
    cloud.set_delay(Duration::from_millis(40));
    let loki = FakeLoki::start(Limits::roomy()).await;
    let url = Db::Mariadb.create().await;
    victim("Loki, state on MariaDB", &cloud, url, Some(loki)).await.torture(seed()).await;
}
