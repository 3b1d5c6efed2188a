//! Processors that are killed at random, while databases, Loki and locks fail,
//! prices change, scopes are reset and reprocessed: at the end every period of
//! every scope is there exactly once, and totals are those of a quiet run.
//!
//! `make torture` runs it for long, a test run for short; `RATEKITTY_TORTURE_KILLS`
//! is the number of kills, `RATEKITTY_TORTURE_SEED` repeats a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, Permissions},
    os::unix::fs::PermissionsExt,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{
    Rng, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use ratekitty::{
    decimal::{Decimal, Total},
    lock::Coordinator,
    processor::reset::reset,
    state::{Database, reprocessing, scopes},
    storage::{self, GroupKey, Page, Selection, Storage},
    time::seconds,
};
use rustix::process::geteuid;
use sea_orm::ConnectionTrait;
use tempfile::TempDir;

use super::{FULL, HOUR, clock, command, hours_ago, keys, set_price, set_up, unit_prices};
use crate::{
    databases::{refusals::own_database, texts},
    loki::FAULTS,
    support::{
        Cloud, Db, FakeLoki, Running,
        cloud::METRICS,
        fake_loki::{Fault, Kind, Limits},
        servers::Server,
        set_up as variable,
    },
};

const SCOPES: usize = 6;
const THINGS: usize = 4;
const HOURS: i64 = 24;
const PROCESSORS: usize = 3;
const LAST_PRICE: i64 = 5;

/// Kills of each storage: a third of what is wanted in all.
fn kills() -> usize {
    let wanted = std::env::var("RATEKITTY_TORTURE_KILLS").ok();
    wanted.map_or(12, |text| text.parse::<usize>().unwrap().div_ceil(3))
}

/// Whether there is time for what takes long.
fn is_long() -> bool {
    kills() >= 50
}

fn seed() -> u64 {
    let wanted = std::env::var("RATEKITTY_TORTURE_SEED").ok();
    wanted.map_or_else(rand::random, |text| text.parse().unwrap())
}

/// What goes wrong, or is changed, while processors run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    /// Another price.
    Price,
    /// A time is to be rated again.
    Schedule,
    /// A scope goes back.
    Reset,
    /// A processor stands still, and goes on later.
    Freeze,
    /// SQLite: someone else is writing.
    Writer,
    /// SQLite: the disk is full.
    FullDisk,
    /// SQLite: the file may only be read.
    ReadOnly,
    /// MariaDB: a session ends.
    EndedSession,
    /// MariaDB: someone else has locked the rows of all scopes.
    LockedRows,
    /// MariaDB: the server is killed, and starts again.
    Crash,
    /// Loki: requests meet faults.
    Loki,
}

/// Where the state is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    Sqlite,
    Mariadb,
    /// A server that can be killed, with locks on it, too.
    OwnMariadb,
}

impl Home {
    /// What can go wrong there.
    fn troubles(self) -> &'static [Trouble] {
        match self {
            Self::Sqlite => &[Trouble::Writer, Trouble::FullDisk, Trouble::ReadOnly],
            Self::Mariadb => &[Trouble::EndedSession, Trouble::LockedRows],
            Self::OwnMariadb => &[Trouble::EndedSession, Trouble::LockedRows, Trouble::Crash],
        }
    }
}

/// What is tortured.
struct Victim {
    name: &'static str,
    begin: i64,
    database: Database,
    storage: Arc<dyn Storage>,
    loki: Option<FakeLoki>,
    /// Places for locks; `0.conf`, `1.conf`, ... differ in them.
    places: Vec<String>,
    troubles: Vec<Trouble>,
    /// Those that come next, in a random order.
    deck: Vec<Trouble>,
    faults: Vec<Fault>,
    /// How often each has been.
    counts: BTreeMap<Trouble, usize>,
    processors: Vec<Running>,
    /// How many processors there have been.
    started: usize,
    server: Option<Server>,
    dir: TempDir,
}

/// Quantities and prices by scope, begin of the period and type.
type Sums = BTreeMap<(String, i64, String), (Decimal, Decimal)>;

impl Victim {
    async fn new(
        name: &'static str,
        cloud: &Cloud,
        begin: i64,
        home: Home,
        loki: Option<FakeLoki>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        std::fs::write(dir.path().join("metrics.yml"), METRICS).unwrap();
        let mut mysql = format!("{}/mysql", Db::Mariadb.server().unwrap());
        let (url, server) = match home {
            Home::Sqlite => (None, None),
            Home::Mariadb => (Db::Mariadb.create().await, None),
            Home::OwnMariadb => {
                let more = ["--innodb-lock-wait-timeout=1"];
                let (server, place) = own_database(dir.path(), &more).await;
                mysql = format!("mysql://{place}");
                let url = format!("mysql+pymysql://{place}?connect_timeout=2");
                (Some(url), Some(server))
            }
        };
        let database = url.map(|url| format!("[database]\nconnection = {url}\npool_timeout = 5\n"));
        let database = database.unwrap_or_default();
        let storage = match &loki {
            Some(loki) => {
                format!("loki\n[storage_loki]\nurl = {}\nbatch_entries = 3\n", loki.url())
            }
            None => "sql\n".to_owned(),
        };
        // A namespace and a database that no other test has: names of locks are
        // the same in all of them.
        let namespace = format!("torture_{:x}", rand::random::<u64>());
        let redis = variable("RATEKITTY_TEST_REDIS");
        let etcd = variable("RATEKITTY_TEST_ETCD").replace("http://", "etcd3+http://");
        let places = vec![
            format!("file://{path}/locks"),
            mysql,
            format!("{redis}?lock_timeout=3&namespace={namespace}"),
            format!("{etcd}?lock_timeout=3"),
            Db::Postgresql.create().await.unwrap().replace("+psycopg2", ""),
        ];
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
        // What happens most is there twice.
        let mut troubles = vec![Trouble::Price, Trouble::Price, Trouble::Schedule];
        troubles.extend([Trouble::Reset, Trouble::Reset, Trouble::Freeze]);
        troubles.extend(home.troubles());
        if loki.is_some() {
            troubles.extend([Trouble::Loki, Trouble::Loki]);
        }
        Self {
            name,
            begin,
            database,
            storage,
            loki,
            places,
            troubles,
            deck: Vec::new(),
            faults: Vec::new(),
            counts: BTreeMap::new(),
            processors: Vec::new(),
            started: 0,
            server,
            dir,
        }
    }

    /// A processor with one of the places for locks. It says what it does in
    /// `1.log`, `2.log`, ..., and why it ended in `1.err`, ...
    fn start(&mut self, place: usize, arguments: &[&str]) -> Running {
        let program = [env!("CARGO_BIN_EXE_ratekitty")];
        self.start_by(&program, place, arguments)
    }

    fn start_by(&mut self, program: &[&str], place: usize, arguments: &[&str]) -> Running {
        self.started += 1;
        let file = |kind: &str| {
            File::create(self.dir.path().join(format!("{}.{kind}", self.started))).unwrap()
        };
        let mut command = command(program);
        command.arg("--config-file").arg(self.dir.path().join(format!("{place}.conf")));
        command.arg("processor").args(arguments).stdout(file("log")).stderr(file("err"));
        Running::start(&mut command)
    }

    /// All that processors said in their files of a kind.
    fn said(&self, kind: &str) -> String {
        let file = |number| self.dir.path().join(format!("{number}.{kind}"));
        (1..=self.started).map(|number| std::fs::read_to_string(file(number)).unwrap()).collect()
    }

    /// The next trouble; after a while each has been.
    fn deal(&mut self, random: &mut StdRng) -> Trouble {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.troubles);
            self.deck.shuffle(random);
        }
        self.deck.pop().unwrap()
    }

    async fn make(&mut self, trouble: Trouble, random: &mut StdRng) {
        let scope = format!("s{}", random.random_range(0..SCOPES));
        let begin = self.begin;
        let hour = |random: &mut StdRng| seconds(begin + random.random_range(0..HOURS) * HOUR);
        let is_first = !self.counts.contains_key(&trouble);
        let longest = if is_long() { 4_500 } else { 1_200 };
        let a_while = Duration::from_millis(random.random_range(100..longest));
        match trouble {
            Trouble::Price => set_price(&self.database, random.random_range(1..5)).await,
            Trouble::Schedule => {
                let (one, other) = (hour(random), hour(random));
                let window = (one.min(other), one.max(other));
                reprocessing::schedule(&self.database, &scope, window, "torture").await.unwrap();
            }
            Trouble::Reset => {
                // By any lock, so that it may meet a processor with another one.
                let locks = Coordinator::new(self.places.choose(random).unwrap()).unwrap();
                let place = (&self.database, &*self.storage, &locks);
                let (keys, last) = (keys(), hour(random));
                if let Ok(Some(state)) = scopes::get(&self.database, &scope, &keys).await {
                    // Not forward: what is left out would be missing by right.
                    let last = last.min(state.last_processed);
                    let _ = reset(place, (&scope, &keys), last, 3_600, None).await;
                }
            }
            Trouble::Freeze => {
                // In a long run for longer than a lease of its locks.
                let one = random.random_range(0..self.processors.len());
                self.processors[one].signal("-STOP");
                tokio::time::sleep(a_while).await;
                self.processors[one].signal("-CONT");
            }
            Trouble::Writer => {
                // In a long run once for longer than anybody waits.
                let time = if is_long() && is_first { Duration::from_secs(31) } else { a_while };
                let transaction = self.database.begin().await.unwrap();
                tokio::time::sleep(time).await;
                transaction.rollback().await.unwrap();
            }
            Trouble::FullDisk => {
                self.processors.iter_mut().for_each(|one| one.limit_files(Some(FULL)));
                tokio::time::sleep(a_while).await;
                self.processors.iter_mut().for_each(|one| one.limit_files(None));
            }
            Trouble::ReadOnly => self.start_read_only().await,
            Trouble::EndedSession => {
                let sql = "SELECT CAST(id AS CHAR) FROM information_schema.processlist \
                           WHERE db = DATABASE() AND id <> CONNECTION_ID()";
                let sessions = texts(&self.database, sql).await;
                if let Some(id) = sessions.choose(random) {
                    let kill = format!("KILL {id}");
                    let _ = self.database.connection().execute_unprepared(&kill).await;
                }
            }
            Trouble::LockedRows => {
                let transaction = self.database.begin().await.unwrap();
                let sql = "UPDATE cloudkitty_storage_states SET active = active";
                // Two that wait for each other: it may be this one that gives up.
                if transaction.execute_unprepared(sql).await.is_ok() {
                    tokio::time::sleep(a_while).await;
                }
                let _ = transaction.rollback().await;
            }
            Trouble::Crash => {
                let server = self.server.as_mut().unwrap();
                server.stop();
                tokio::time::sleep(a_while).await;
                server.start().await;
            }
            Trouble::Loki => {
                if self.faults.is_empty() {
                    self.faults = FAULTS.to_vec();
                    self.faults.shuffle(random);
                }
                let faults = self.loki.as_ref().unwrap().faults();
                faults.next(Kind::Push, 1, self.faults.pop().unwrap());
                let kind = *[Kind::Push, Kind::Push, Kind::Any].choose(random).unwrap();
                faults.random(kind, random.random(), 0.3, &FAULTS);
            }
        }
        *self.counts.entry(trouble).or_default() += 1;
    }

    /// A processor that starts while the file may only be read says so and ends.
    async fn start_read_only(&mut self) {
        let file = self.dir.path().join("cloudkitty.sqlite");
        let allow = |mode| std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let program = env!("CARGO_BIN_EXE_ratekitty");
        // What root may do beyond others is taken away first.
        let as_others = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", program];
        let command = if geteuid().is_root() { &as_others[..] } else { &as_others[3..] };
        allow(0o444);
        let mut one = self.start_by(command, 0, &["--once"]);
        let status = one.wait().await;
        allow(0o644);
        let reason = self.dir.path().join(format!("{}.err", self.started));
        let reason = std::fs::read_to_string(reason).unwrap();
        assert_eq!(status.code(), Some(1), "{}: {reason}", self.name);
        assert!(reason.contains("may only be read"), "{}: {reason}", self.name);
    }

    /// Works off what is left.
    async fn once(&mut self) {
        for _ in 0..3 {
            if self.start(0, &["--once"]).wait().await.success() {
                return;
            }
        }
        let said = self.said("log") + &self.said("err");
        let end: Vec<_> = said.lines().rev().take(60).collect();
        panic!("{}: a quiet run fails: {}", self.name, end.join("\n"));
    }

    fn window(&self) -> (i64, i64) {
        (self.begin, self.begin + HOURS * HOUR)
    }

    /// Sums as the storage tells them; its points must come to the same.
    async fn sums(&self) -> Sums {
        let window = Selection::all(seconds(self.window().0), seconds(self.window().1));
        let keys = [GroupKey::Label("project_id".to_owned()), GroupKey::Time, GroupKey::Type];
        let mut told = Sums::new();
        for row in self.storage.total(&window, &keys, Page::ALL).await.unwrap().rows {
            let text = |at: usize| row.values[at].as_str().unwrap().to_owned();
            let key = (text(0), row.period.unwrap().begin.timestamp(), text(1));
            let before = told.insert(key.clone(), (row.qty, row.price));
            assert_eq!(before, None, "{}: {key:?} is told twice", self.name);
        }
        let mut added: BTreeMap<(String, i64, String), (Total, Total)> = BTreeMap::new();
        let mut whole = (Total::default(), Total::default());
        for (period, kind, point) in self.storage.retrieve(&window, Page::ALL).await.unwrap().points
        {
            let scope = point.groupby["project_id"].as_str().unwrap().to_owned();
            let sum = added.entry((scope, period.begin.timestamp(), kind)).or_default();
            for (qty, price) in [(&mut sum.0, &mut sum.1), (&mut whole.0, &mut whole.1)] {
                qty.add(point.qty);
                price.add(point.price);
            }
        }
        let added: Sums = added
            .into_iter()
            .map(|(key, (qty, price))| (key, (qty.value(), price.value())))
            .collect();
        assert_eq!(told, added, "{}: sums are not those of the points", self.name);
        let rows = self.storage.total(&window, &[], Page::ALL).await.unwrap().rows;
        let rows: Vec<_> = rows.iter().map(|row| (row.qty, row.price)).collect();
        assert_eq!(rows, [(whole.0.value(), whole.1.value())], "{}", self.name);
        told
    }

    /// Troubles and kills, until there were enough. Gives how many were killed,
    /// and how many gave up at a trouble while they started.
    async fn disturb(&mut self, seed: u64) -> (usize, usize) {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut killed, mut gave_up) = (0, 0);
        let most = if is_long() { 8 } else { 5 };
        let different: BTreeSet<_> = self.troubles.iter().copied().collect();
        while killed < kills() || self.counts.len() < different.len() {
            for at in (0..self.processors.len()).rev() {
                if let Some(status) = self.processors[at].ended() {
                    let said = self.said("err");
                    assert_eq!(status.code(), Some(1), "{}, seed {seed}: {said}", self.name);
                    self.processors.swap_remove(at);
                    gave_up += 1;
                }
            }
            while self.processors.len() < PROCESSORS {
                let place = random.random_range(0..self.places.len());
                let one = self.start(place, &[]);
                self.processors.push(one);
            }
            for _ in 0..random.random_range(0..most) {
                tokio::time::sleep(Duration::from_millis(random.random_range(5..80))).await;
                let trouble = self.deal(&mut random);
                self.make(trouble, &mut random).await;
            }
            if random.random_bool(0.7) {
                let at = random.random_range(0..self.processors.len());
                if self.processors[at].kill() {
                    self.processors.swap_remove(at);
                    killed += 1;
                }
            }
        }
        for mut one in std::mem::take(&mut self.processors) {
            killed += usize::from(one.kill());
        }
        (killed, gave_up)
    }

    /// Tortures it, and compares it with one that was left in peace.
    #[expect(clippy::print_stdout, reason = "what a run came to, for who watches it")]
    async fn torture(mut self, mut calm: Self, cloud: &Cloud, seed: u64) {
        let begun = Instant::now();
        let told = format!("{}, seed {seed}", self.name);
        println!("{told}");
        let (killed, gave_up) = self.disturb(seed).await;
        let mut met = BTreeMap::new();
        if let Some(loki) = &self.loki {
            loki.faults().clear();
            met = loki.faults().met();
        }
        // What is left is done in quiet; another hour may be due by now.
        cloud.set_delay(Duration::ZERO);
        self.once().await;
        let all = usize::try_from(HOURS).unwrap() * SCOPES;
        let found = unit_prices(&*self.storage, self.window()).await;
        assert_eq!(found.len(), all * THINGS, "{told}");
        assert_eq!(self.sums().await.len(), all, "{told}");
        // Each period has one rating, whatever the prices were.
        let mut of_period = BTreeMap::new();
        for ((scope, period, _), price) in &found {
            let first = *of_period.entry((scope, period)).or_insert(price);
            assert_eq!(first, price, "{told}: {scope} {period} has two prices");
        }
        let prices: BTreeSet<_> = found.values().collect();
        let states = scopes::overview(&self.database, &keys()).await.unwrap();
        let last = self.window().1 - HOUR;
        let done = states.values().filter(|state| state.last_processed.timestamp() >= last);
        assert_eq!(done.count(), SCOPES, "{told}: {states:?}");
        assert_eq!(reprocessing::unfinished(&self.database).await.unwrap(), [], "{told}");
        // With one price again, all is as if nothing had happened.
        set_price(&self.database, LAST_PRICE).await;
        for scope in 0..SCOPES {
            let whole = (seconds(self.begin), seconds(last));
            let scope = format!("s{scope}");
            reprocessing::schedule(&self.database, &scope, whole, "again").await.unwrap();
        }
        self.once().await;
        set_price(&calm.database, LAST_PRICE).await;
        calm.once().await;
        let again = unit_prices(&*self.storage, self.window()).await;
        assert!(again.values().all(|price| *price == LAST_PRICE), "{told}");
        assert_eq!(again, unit_prices(&*calm.storage, calm.window()).await, "{told}");
        assert_eq!(self.sums().await, calm.sums().await, "{told}");
        let panics = self.said("err");
        assert!(!panics.contains("panicked"), "{told}: {panics}");
        // Troubles came through to the processors.
        let failed = self.said("log").matches("is not rated, and is tried again").count();
        println!(
            "{told}: {killed} kills, {gave_up} gave up while they started, {failed} tries failed; \
             troubles {:?}, faults of Loki {met:?}; {} points, prices {prices:?} before the last \
             reprocessing; {} s",
            self.counts,
            found.len(),
            begun.elapsed().as_secs()
        );
        if is_long() {
            assert!(failed > 0, "{told}: nothing went wrong");
            let all_met = FAULTS.iter().all(|fault| met.contains_key(fault.name()));
            assert!(self.loki.is_none() || all_met, "{told}: {met:?}");
        }
    }
}

async fn slow_cloud() -> Cloud {
    let cloud = Cloud::start(SCOPES, THINGS).await;
    cloud.set_delay(Duration::from_millis(40));
    cloud
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_on_sqlite_survives() {
    let (cloud, begin) = (slow_cloud().await, hours_ago(HOURS));
    let victim = Victim::new("sql on SQLite", &cloud, begin, Home::Sqlite, None).await;
    let calm = Victim::new("calm", &cloud, begin, Home::Sqlite, None).await;
    victim.torture(calm, &cloud, seed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_on_mariadb_survives() {
    let (cloud, begin) = (slow_cloud().await, hours_ago(HOURS));
    let victim = Victim::new("sql on MariaDB", &cloud, begin, Home::OwnMariadb, None).await;
    let calm = Victim::new("calm", &cloud, begin, Home::Mariadb, None).await;
    victim.torture(calm, &cloud, seed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loki_survives() {
    let (cloud, begin) = (slow_cloud().await, hours_ago(HOURS));
    let loki = FakeLoki::start(Limits::roomy()).await;
    let name = "Loki, state on MariaDB";
    let victim = Victim::new(name, &cloud, begin, Home::Mariadb, Some(loki)).await;
    let loki = FakeLoki::start(Limits::roomy()).await;
    let calm = Victim::new("calm", &cloud, begin, Home::Mariadb, Some(loki)).await;
    victim.torture(calm, &cloud, seed()).await;
}
