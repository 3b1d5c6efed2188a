//! `make bench`: how fast points are collected, rated, stored and summed.
//!
//! Prints one line per measurement: the median of several runs. What was
//! measured on which machine is kept in `docs/BENCHMARKS.md`.
//!
//! `BENCH_DAYS` (5) sets the length of the collected time, `BENCH_RUNS` (5) the
//! number of runs, and `BENCH_ONLY` one of `rating`, `python`, `summaries` and
//! `catch-up`, to leave the others out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a program for developers"
)]

use std::{
    fmt::Write,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use ratekitty::{
    collector,
    config::{Config, Place, Sources, metrics_yml},
    dataframe::{DataFrame, DataPoint, Labels},
    decimal::Decimal,
    fetcher::{FetchError, Fetcher},
    keystone::Sessions,
    lock::Coordinator,
    processor::{Pipeline, Progress},
    rating::{
        RatingModule,
        hashmap::Rules,
        pricelist::PriceList,
        pyscripts::{self, Scripts, Workers},
    },
    state::{Database, Step, audit::Audit, rating_rules, schema, scripts::ScriptRow},
    storage::{self, GroupKey, Page, Selection, Storage},
    time::{Clock, ManualClock, Period, RealClock, seconds},
};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// 2026-11-01 00:00 UTC.
const START: i64 = 1_793_491_200;
const PROJECTS: usize = 20;
const SERVERS: usize = 20;

const METRICS: &str = "
metrics:
  instance: {unit: instance, groupby: [id], metadata: [flavor]}
  volume_gb: {unit: GiB, groupby: [id], metadata: [volume_type]}
  net_out_bytes_total:
    unit: KiB
    factor: 1/1024
    groupby: [id]
    extra_args: {range_function: delta}
";

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Servers, volumes and traffic of a cloud, a sample every five minutes.
fn openmetrics(days: usize) -> String {
    let times = (0..days as i64 * 288).map(|step| (step, START + step * 300));
    let mut text = String::new();
    type Sample = fn(usize, i64) -> i64;
    let metrics: [(&str, &str, &str, Sample); 3] = [
        ("instance", "instance", r#",flavor="m1""#, |_, _| 1),
        ("volume_gb", "volume_gb", r#",volume_type="ssd""#, |server, _| 10 * server as i64 + 5),
        ("net_out_bytes", "net_out_bytes_total", "", |server, step| step * (1_000 + server as i64)),
    ];
    for (family, name, labels, value) in metrics {
        let kind = if family == name { "gauge" } else { "counter" };
        writeln!(text, "# TYPE {family} {kind}").unwrap();
        for project in 0..PROJECTS {
            for server in 0..SERVERS {
                for (step, time) in times.clone() {
                    let value = value(server, step);
                    writeln!(text, "{name}{{project_id=\"p{project}\",id=\"{project}-{server}\"{labels}}} {value} {time}").unwrap();
                }
            }
        }
    }
    text + "# EOF\n"
}

/// A Prometheus, stopped when dropped.
struct Prometheus(Child, String);

impl Prometheus {
    fn start(dir: &std::path::Path, text: &str) -> Self {
        let samples = dir.join("samples.om");
        std::fs::write(&samples, text).unwrap();
        let made = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"])
            .args([&samples, &dir.join("tsdb")])
            .output()
            .expect("promtool is not there: run `make bench`");
        assert!(made.status.success(), "{made:?}");
        std::fs::write(dir.join("prometheus.yml"), "global: {}\n").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--storage.tsdb.retention.time=100y", "--log.level=error"])
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is not there: run `make bench`");
        Self(child, format!("http://127.0.0.1:{port}/api/v1"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Knows the projects without asking.
struct Projects;

#[async_trait]
impl Fetcher for Projects {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    async fn scopes(&self) -> Result<Vec<String>, FetchError> {
        Ok((0..PROJECTS).map(|project| format!("p{project}")).collect())
    }
}

/// A ratekitty in a folder of its own.
struct Setup {
    config: Config,
    database: Database,
    storage: Arc<dyn Storage>,
    _dir: tempfile::TempDir,
}

impl Setup {
    async fn new(url: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        std::fs::write(dir.path().join("metrics.yml"), METRICS).unwrap();
        let conf = format!(
            "[storage]\nbackend = sql\n[ratekitty]\nstate_path = {path}\n\
             first_period_begin = 2026-11-01T00:00:00Z\n[orchestrator]\ncoordination_url = file://{path}/locks\n[collector_prometheus]\nprometheus_url = {url}\n\
             [collect]\ncollector = prometheus\nwait_periods = 1\nmetrics_conf = {path}/metrics.yml\n"
        );
        let file = dir.path().join("ratekitty.conf");
        std::fs::write(&file, conf).unwrap();
        let config = Config::from_sources(&Sources::read(&[Place::File(file)]).unwrap()).unwrap();
        let database = Database::connect(&config.database).await.unwrap();
        schema::upgrade(&database).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(RealClock);
        let storage = storage::build(&config, &database, &clock).unwrap();
        Self { config, database, storage, _dir: dir }
    }
}

/// A price list of a hundred rules over the three types.
fn prices() -> PriceList {
    let mut yaml = String::from("modules: {hashmap: {enabled: true}}\nhashmap:\n  services:\n");
    for service in ["instance", "volume_gb", "net_out_bytes_total"] {
        writeln!(yaml, "    - name: {service}\n      mappings:").unwrap();
        writeln!(yaml, "        - {{type: flat, cost: '0.0123', start: 2026-01-01T00:00:00}}")
            .unwrap();
        writeln!(yaml, "      fields:\n        - name: flavor\n          mappings:").unwrap();
        for value in 0..32 {
            writeln!(yaml, "            - {{type: rate, cost: '1.{value:02}', value: m{value}, start: 2026-01-01T00:00:00}}").unwrap();
        }
    }
    PriceList::parse(&yaml).unwrap()
}

async fn catch_up(days: usize, runs: usize) {
    let dir = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(dir.path(), &openmetrics(days));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut times = Vec::new();
    let mut count = 0;
    for _ in 0..runs {
        let setup = Setup::new(&prometheus.1).await;
        let now = seconds(START + days as i64 * 86_400 + 3_600);
        prices().import(&setup.database, now.naive_utc(), false).await.unwrap();
        let metrics = metrics_yml::parse(METRICS, "metrics.yml", "project_id").unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(now));
        let sessions = Sessions::new(clock.clone());
        let stages: (Arc<dyn Fetcher>, _, _) = (
            Arc::new(Projects),
            collector::build(&setup.config, &sessions).unwrap(),
            setup.storage.clone(),
        );
        let url = setup.config.orchestrator.coordination_url.expose_secret();
        let locks = Coordinator::new(url).unwrap();
        let pipeline =
            Pipeline::new(&setup.config, metrics, stages, (setup.database.clone(), locks), clock)
                .unwrap();
        let (pipeline, progress) = (Arc::new(pipeline), Arc::new(Progress::quiet()));
        let begin = Instant::now();
        let outcome = pipeline.run_once(&progress, &CancellationToken::new()).await.unwrap();
        times.push(begin.elapsed());
        assert_eq!(outcome.failed, 0);
        count = progress.points();
        assert_eq!(count, (days * 24 * PROJECTS * SERVERS * 3) as u64, "points are missing");
    }
    let time = median(times).as_secs_f64();
    println!(
        "collect, rate, store: {count} points of {PROJECTS} scopes in {time:.2} s = {:.0} points/s",
        count as f64 / time
    );
}

async fn rating(runs: usize) {
    let setup = Setup::new("http://127.0.0.1:1").await;
    let now = seconds(START).naive_utc();
    prices().import(&setup.database, now, false).await.unwrap();
    let rules = Rules::compile(
        &rating_rules::load(setup.database.connection()).await.unwrap(),
        Some("p1"),
        now,
    );
    let labels = |id: usize| -> (Labels, Labels) {
        let groupby = json!({"project_id": "p1", "id": format!("vm-{id}")});
        let metadata = json!({"flavor": format!("m{}", id % 40)});
        (groupby.as_object().unwrap().clone(), metadata.as_object().unwrap().clone())
    };
    let mut frame = DataFrame::new(Period::starting(seconds(START), 3_600));
    frame.add(
        "instance",
        (0..200_000).map(|id| {
            let (groupby, metadata) = labels(id);
            DataPoint::new("instance".into(), Decimal::from(1 + id as i64 % 7), groupby, metadata)
        }),
    );
    let times = (0..runs).map(|_| {
        let mut frame = frame.clone();
        let begin = Instant::now();
        rules.rate(&mut frame).unwrap();
        let time = begin.elapsed();
        assert!(frame.usage[0].1.iter().all(|point| !point.price.is_zero()));
        time
    });
    let time = median(times.collect()).as_secs_f64();
    println!("rating alone, 99 rules, one core: {:.0} points/s", frame.len() as f64 / time);
}

/// Python scripts: one that changes nothing, and one that sets every price.
async fn python(runs: usize) {
    let settings = pyscripts::Settings {
        python: "python3".to_owned(),
        program: Some(env!("CARGO_BIN_EXE_ratekitty").into()),
        workers: 1,
        timeout: Duration::from_secs(60),
        memory: 1 << 30,
    };
    let workers = Workers::new(settings);
    let mut frame = DataFrame::new(Period::starting(seconds(START), 3_600));
    frame.add(
        "instance",
        (0..20_000).map(|id| {
            let groupby = json!({
                "project_id": "p1", "id": format!("vm-{id}"), "week_of_the_year": "44",
                "day_of_the_year": "305", "month": "11", "year": "2026"
            });
            let metadata = json!({"flavor": format!("m{}", id % 40)});
            let (groupby, metadata) = (groupby.as_object().unwrap(), metadata.as_object().unwrap());
            let qty = Decimal::from(1 + id % 7);
            DataPoint::new("instance".into(), qty, groupby.clone(), metadata.clone())
        }),
    );
    let price = "for p in data['usage']['instance']: p['rating']['price'] = p['vol']['qty'] * 2";
    for (name, text) in [("changes nothing", "pass"), ("sets every price", price)] {
        let at = seconds(START).naive_utc();
        let row = ScriptRow {
            id: 1,
            script_id: String::new(),
            data: text.into(),
            checksum: name.to_owned(),
            audit: Audit::new(name.to_owned(), None, (at, None), ("bench", at)),
        };
        let scripts = Scripts::at(workers.clone(), &[row], at);
        scripts.rate(&mut frame.clone()).await.unwrap();
        let mut times = Vec::new();
        for _ in 0..runs {
            let mut frame = frame.clone();
            let begin = Instant::now();
            scripts.rate(&mut frame).await.unwrap();
            times.push(begin.elapsed());
            assert_eq!(frame.len(), 20_000);
            let is_priced = |point: &DataPoint| point.price.is_zero() == (text == "pass");
            assert!(frame.usage[0].1.iter().all(is_priced));
        }
        let time = median(times).as_secs_f64();
        println!("a Python script that {name}, one worker: {:.0} points/s", 20_000.0 / time);
    }
}

async fn summaries(runs: usize) {
    let setup = Setup::new("http://127.0.0.1:1").await;
    // 25 scopes × 100 hours × 4 types × 100 things.
    for hour in 0..100 {
        for scope in 0..25 {
            let mut frame = DataFrame::new(Period::starting(seconds(START + hour * 3_600), 3_600));
            for frame_type in ["cpu", "ram", "disk", "net"] {
                let points = (0..100).map(|id| {
                    let groupby =
                        json!({"project_id": format!("p{scope}"), "id": format!("{scope}-{id}")});
                    let metadata = json!({"flavor": format!("m{}", id % 10)});
                    let mut point = DataPoint::new(
                        "u".into(),
                        "1.5".parse().unwrap(),
                        groupby.as_object().unwrap().clone(),
                        metadata.as_object().unwrap().clone(),
                    );
                    point.price = "0.0123".parse().unwrap();
                    point
                });
                frame.add(frame_type, points);
            }
            let scope_id = format!("p{scope}");
            let step = Step::Stay { scope_id: &scope_id };
            setup.storage.replace(&scope_id, &frame, &step).await.unwrap();
        }
    }
    let all = Selection::all(seconds(START), seconds(START + 400_000));
    let label = |name: &str| GroupKey::Label(name.to_owned());
    let cases = [
        ("type", vec![GroupKey::Type]),
        ("type and scope", vec![GroupKey::Type, label("project_id")]),
        ("time", vec![GroupKey::Time]),
        ("flavor (a label)", vec![label("flavor")]),
    ];
    for (name, groupby) in cases {
        let mut times = Vec::new();
        for _ in 0..runs {
            let begin = Instant::now();
            let totals = setup.storage.total(&all, &groupby, Page::ALL).await.unwrap();
            times.push(begin.elapsed());
            let mut sum = ratekitty::decimal::Total::default();
            totals.rows.iter().for_each(|row| sum.add(row.price));
            assert_eq!(sum.value(), "12300".parse().unwrap());
        }
        println!("summary by {name} over 1,000,000 points: {:.3} s", median(times).as_secs_f64());
    }
    let page = Page { offset: 500_000, limit: 100 };
    let times = (0..runs).map(|_| Instant::now());
    let mut measured = Vec::new();
    for begin in times {
        let got = setup.storage.retrieve(&all, page).await.unwrap();
        assert_eq!((got.total, got.points.len()), (1_000_000, 100));
        measured.push(begin.elapsed());
    }
    println!("100 dataframes at offset 500,000: {:.3} s", median(measured).as_secs_f64());
}

#[tokio::main]
async fn main() {
    let (days, runs) = (number("BENCH_DAYS", 5), number("BENCH_RUNS", 5));
    let only = std::env::var("BENCH_ONLY").ok();
    let is_wanted = |name| only.as_deref().is_none_or(|only| only == name);
    if is_wanted("rating") {
        rating(runs).await;
    }
    if is_wanted("python") {
        python(runs).await;
    }
    if is_wanted("summaries") {
        summaries(runs).await;
    }
    if is_wanted("catch-up") {
        catch_up(days, runs).await;
    }
}
