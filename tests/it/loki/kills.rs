//! The program with a Loki, killed at any instant.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use ratekitty::{
    config::{Config, Place, Sources},
    state::Database,
    storage::{self, GroupKey, Page, Selection},
    time::{Clock, RealClock, seconds},
};

use super::label;
use crate::{
    faults::busy_cloud,
    support::{
        FakeLoki,
        fake_loki::{Fault, Kind, Limits},
    },
};

const SCOPES: usize = 4;
const THINGS: usize = 6;
const HOURS: i64 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_nothing_and_double_nothing() {
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let loki = FakeLoki::start(Limits::roomy()).await;
    let prometheus = busy_cloud(SCOPES, THINGS).await;
    let dir = tempfile::tempdir().unwrap();
    let now = RealClock.now().timestamp();
    // Two periods are waited for, so that the hour may change meanwhile.
    let begin = now - now.rem_euclid(3_600) - (HOURS + 1) * 3_600;
    let path = dir.path().display();
    let metrics = "metrics:\n  instance:\n    unit: instance\n    groupby: [id]\n";
    std::fs::write(dir.path().join("metrics.yml"), metrics).unwrap();
    let conf = format!(
        "[storage]\nbackend = loki\n[storage_loki]\nurl = {}\nbatch_entries = 2\n\
         [ratekitty]\nstate_path = {path}\nfirst_period_begin = {}\n\
         [fetcher]\nbackend = prometheus\n[fetcher_prometheus]\nmetric = scope_info\n\
         prometheus_url = {prometheus}\n[collector_prometheus]\nprometheus_url = {prometheus}\n\
         [collect]\ncollector = prometheus\nwait_periods = 1\nmetrics_conf = {path}/metrics.yml\n",
        loki.url(),
        seconds(begin).to_rfc3339(),
    );
    let file = dir.path().join("ratekitty.conf");
    std::fs::write(&file, conf).unwrap();
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ratekitty"));
        command.arg("--config-file").arg(&file).args(["processor", "--once"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let faults = [Fault::Delay(Duration::from_millis(40)), Fault::DropAnswer, Fault::HalfStored];
    loki.faults().random(Kind::Push, seed, 0.5, &faults);
    let mut kills = 0;
    for _ in 0..25 {
        let mut child = run();
        tokio::time::sleep(Duration::from_millis(random.random_range(30..500))).await;
        kills += usize::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
    }
    assert!(kills > 3, "seed {seed}: {kills}");
    loki.faults().clear();
    assert!(run().wait().unwrap().success(), "seed {seed}");

    let config = Config::from_sources(&Sources::read(&[Place::File(file)]).unwrap()).unwrap();
    let database = Database::connect(&config.database).await.unwrap();
    let clock: std::sync::Arc<dyn Clock> = std::sync::Arc::new(RealClock);
    let storage = storage::build(&config, &database, &clock).unwrap();
    let window = Selection::all(seconds(begin), seconds(begin + HOURS * 3_600));
    let groupby = [GroupKey::Time, label("project_id"), label("id")];
    let totals = storage.total(&window, &groupby, Page::ALL).await.unwrap();
    assert_eq!(totals.total as usize, HOURS as usize * SCOPES * THINGS, "seed {seed}");
    for row in &totals.rows {
        assert_eq!(row.qty.to_f64(), 1.0, "seed {seed}: {row:?}");
    }
    let got = storage.retrieve(&window, Page::ALL).await.unwrap();
    assert_eq!(got.points.len(), HOURS as usize * SCOPES * THINGS, "seed {seed}");
    let check = Command::new(env!("CARGO_BIN_EXE_ratekitty"))
        .arg("--config-file")
        .arg(dir.path().join("ratekitty.conf"))
        .arg("check")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    for line in
        ["ok    storage: loki", "ok    storage: Loki is ready", "ok    storage: takes an entry"]
    {
        assert!(text.contains(line), "{line}:\n{text}");
    }
}
