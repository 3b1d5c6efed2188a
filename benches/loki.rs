//! `make bench`, second part: dataframes into a Loki and out of it.
//!
//! Against the suite's double of Loki, or a real one if
//! `RATEKITTY_TEST_LOKI_URL` is set, as a tenant of its own (its limits must
//! allow the rate). Prints one line per measurement, medians of several runs;
//! ends with an error if the API takes more memory than it may.
//!
//! `BENCH_RUNS` (5) is the number of runs, `BENCH_HOURS` (50) the number of
//! periods of 20 scopes with 600 points each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    dead_code,
    unused_imports,
    reason = "a program for developers, with a part of the tests"
)]

#[path = "../tests/it/support/fake_loki/mod.rs"]
mod fake_loki;

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use fake_loki::{FakeLoki, Limits};
use futures::{StreamExt, TryStreamExt, stream};
use ratekitty::{
    config::{Config, Place, Sources},
    dataframe::{DataFrame, DataPoint},
    state::{Database, Step, schema},
    storage::{self, GroupKey, Page, Selection, Storage},
    time::{CALENDAR, Clock, Period, RealClock, calendar_labels, local, seconds},
};
use serde_json::json;

const SCOPES: usize = 20;
const TYPES: [&str; 3] = ["cpu", "ram", "disk"];
/// Things of a scope in each type.
const THINGS: usize = 200;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Begin of the measured time: some days ago, on the hour.
fn start() -> i64 {
    let now = RealClock.now().timestamp();
    now - now.rem_euclid(3_600) - 5 * 86_400
}

fn frame(scope: usize, hour: i64, things: usize) -> DataFrame {
    let period = Period::starting(seconds(start() + hour * 3_600), 3_600);
    let calendar = calendar_labels(local(period.begin));
    let mut frame = DataFrame::new(period);
    for frame_type in TYPES {
        frame.add(
            frame_type,
            (0..things).map(|id| {
                let groupby =
                    json!({"project_id": format!("p{scope}"), "id": format!("{scope}-{id}")});
                let mut groupby = groupby.as_object().unwrap().clone();
                for (name, value) in CALENDAR.iter().zip(&calendar) {
                    groupby.insert((*name).to_owned(), json!(value.1));
                }
                let metadata = json!({"flavor": format!("m{}", id % 10)});
                DataPoint {
                    unit: "GiB".into(),
                    qty: "1.5".parse().unwrap(),
                    price: "0.0123".parse().unwrap(),
                    groupby: groupby.into(),
                    metadata: metadata.as_object().unwrap().clone().into(),
                }
            }),
        );
    }
    frame
}

/// A ratekitty with a Loki.
struct Setup {
    storage: Arc<dyn Storage>,
    url: String,
    tenant: String,
    dir: tempfile::TempDir,
    loki: Option<FakeLoki>,
}

impl Setup {
    async fn new(conf: &str) -> Self {
        let tenant = format!("bench-{:x}", rand::random::<u64>());
        let (url, loki) = match std::env::var("RATEKITTY_TEST_LOKI_URL") {
            Ok(url) => (url, None),
            Err(_) => {
                let loki = FakeLoki::start(Limits::roomy()).await;
                (loki.url(), Some(loki))
            }
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        let conf = format!(
            "[DEFAULT]\nauth_strategy = noauth\n[storage]\nbackend = loki\n[ratekitty]\nstate_path = {path}\n\
             [storage_loki]\nurl = {url}\ntenant = {tenant}\n{conf}\n"
        );
        let file = dir.path().join("ratekitty.conf");
        std::fs::write(&file, conf).unwrap();
        let config = Config::from_sources(&Sources::read(&[Place::File(file)]).unwrap()).unwrap();
        let database = Database::connect(&config.database).await.unwrap();
        schema::upgrade(&database).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(RealClock);
        let storage = storage::build(&config, &database, &clock).unwrap();
        Self { storage, url, tenant, dir, loki }
    }

    /// Stores all hours of all scopes, four scopes at a time, as the processor
    /// does.
    async fn fill(&self, frames: &[Arc<Vec<DataFrame>>]) -> f64 {
        let begin = Instant::now();
        stream::iter(frames.iter().cloned().enumerate())
            .map(|(scope, frames)| {
                let storage = self.storage.clone();
                tokio::spawn(async move {
                    for frame in frames.iter() {
                        let scope_id = format!("p{scope}");
                        let step = Step::Stay { scope_id: &scope_id };
                        storage.replace(&scope_id, frame, &step).await.unwrap();
                    }
                })
            })
            .buffer_unordered(4)
            .try_collect::<Vec<_>>()
            .await
            .unwrap();
        begin.elapsed().as_secs_f64()
    }
}

fn frames(hours: usize, things: usize) -> Vec<Arc<Vec<DataFrame>>> {
    let of_scope = |scope| (0..hours as i64).map(|hour| frame(scope, hour, things)).collect();
    (0..SCOPES).map(|scope| Arc::new(of_scope(scope))).collect()
}

/// What a client that does nothing else needs for the same bodies.
async fn bare_push(bodies: &[fake_loki::Push]) -> f64 {
    let loki = FakeLoki::start(Limits::roomy()).await;
    let url = format!("{}/push", loki.url());
    let http = reqwest::Client::new();
    let begin = Instant::now();
    stream::iter(bodies)
        .map(|(content_type, encoding, body)| {
            let mut request = http
                .post(&url)
                .header("X-Scope-OrgID", "bare")
                .header("content-type", content_type)
                .body(body.clone());
            if let Some(encoding) = encoding {
                request = request.header("content-encoding", encoding);
            }
            async { request.send().await.unwrap().error_for_status().map(drop) }
        })
        .buffer_unordered(4)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    begin.elapsed().as_secs_f64()
}

async fn pushes(hours: usize, runs: usize) {
    let frames = frames(hours, THINGS);
    let count = (hours * SCOPES * TYPES.len() * THINGS) as f64;
    for (name, conf) in
        [("JSON, gzip", ""), ("protobuf, snappy", "content_type = application/x-protobuf")]
    {
        let (mut ours, mut bare, mut ratios, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for _ in 0..runs {
            let setup = Setup::new(conf).await;
            if let Some(loki) = &setup.loki {
                loki.keep_bodies();
            }
            let time = setup.fill(&frames).await;
            ours.push(time);
            if let Some(loki) = &setup.loki {
                assert_eq!(loki.stored() as f64, count);
                let bodies = loki.bodies();
                bytes = bodies.iter().map(|(_, _, body)| body.len()).sum();
                let time = bare_push(&bodies).await;
                bare.push(time);
                ratios.push(ours.last().unwrap() / time);
            }
        }
        let ours = median(ours);
        print!("{name}: {count} lines in {ours:.2} s = {:.0} lines/s", count / ours);
        if ratios.is_empty() {
            println!();
        } else {
            println!(
                ", {:.1} MB; a bare client with the same bodies {:.2} s, ratio {:.2}",
                bytes as f64 / 1e6,
                median(bare),
                median(ratios)
            );
        }
    }
}

/// The time of one query, as anyone would ask it.
async fn bare_query(setup: &Setup, hours: usize) -> f64 {
    let query = format!(
        r#"sum by (t) (sum_over_time({{service="cloudkitty"}} | json t="type", p="price" | unwrap p [{}s]))"#,
        hours * 3_600
    );
    let end = (start() + hours as i64 * 3_600) * 1_000_000_000 - 1;
    let begin = Instant::now();
    let answer = reqwest::Client::new()
        .get(format!("{}/query", setup.url))
        .header("X-Scope-OrgID", &setup.tenant)
        .query(&[("query", query), ("time", end.to_string())])
        .send()
        .await
        .unwrap();
    let text = answer.error_for_status().unwrap().text().await.unwrap();
    assert!(text.contains("\"cpu\""), "{text}");
    begin.elapsed().as_secs_f64()
}

async fn summaries(hours: usize, runs: usize) {
    let setup = Setup::new("").await;
    setup.fill(&frames(hours, THINGS)).await;
    let count = hours * SCOPES * TYPES.len() * THINGS;
    let all = Selection::all(seconds(start()), seconds(start() + hours as i64 * 3_600));
    let label = |name: &str| GroupKey::Label(name.to_owned());
    let cases = [
        ("type", vec![GroupKey::Type]),
        ("time and scope", vec![GroupKey::Time, label("project_id")]),
        ("flavor (a label)", vec![label("flavor")]),
        ("flavor and type", vec![label("flavor"), GroupKey::Type]),
        ("id (4,000 groups)", vec![label("id")]),
    ];
    let expected: f64 = count as f64 * 0.0123;
    for (name, groupby) in cases {
        let (mut ours, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..runs {
            let begin = Instant::now();
            let totals = setup.storage.total(&all, &groupby, Page::ALL).await.unwrap();
            ours.push(begin.elapsed().as_secs_f64());
            let sum: f64 = totals.rows.iter().map(|row| row.price.to_f64()).sum();
            assert!((sum - expected).abs() < 1e-6 * expected, "{sum} {expected}");
            bare.push(bare_query(&setup, hours).await);
            ratios.push(ours.last().unwrap() / bare.last().unwrap());
        }
        println!(
            "summary by {name} over {count} points: {:.3} s; one bare LogQL query by type {:.3} s, ratio {:.2}",
            median(ours),
            median(bare),
            median(ratios)
        );
    }
}

/// A running API.
struct Api(Child, String);

impl Api {
    async fn start(setup: &Setup) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_ratekitty"))
            .arg("--config-file")
            .arg(setup.dir.path().join("ratekitty.conf"))
            .arg("api")
            .env("OS_API__HOST_IP", "127.0.0.1")
            .env("OS_API__PORT", port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{port}");
        for _ in 0..100 {
            if reqwest::get(&url).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self(child, url)
    }

    /// Most memory it had so far, in megabytes.
    fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1e3
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A million points through the API, and what that costs it in memory.
async fn memory() {
    let (hours, things) = (50, 334);
    let setup = Setup::new("").await;
    setup.fill(&frames(hours, things)).await;
    let count = hours * SCOPES * TYPES.len() * things;
    let api = Api::start(&setup).await;
    let end = start() + hours as i64 * 3_600;
    let date = |epoch: i64| seconds(epoch).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let window = format!("begin={}&end={}", date(start()), date(end));
    let ask = async |what: &str, path: String| {
        let begin = Instant::now();
        let answer = reqwest::get(format!("{}{path}", api.1)).await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        let mut points = 0_usize;
        let mut bytes = 0_usize;
        let mut tail = Vec::new();
        let mut answer = answer;
        while let Some(chunk) = answer.chunk().await.unwrap() {
            bytes += chunk.len();
            // A needle may lie across two chunks.
            tail.extend_from_slice(&chunk);
            points += tail.windows(8).filter(|window| *window == b"\"rating\"").count();
            tail = tail.split_off(tail.len().saturating_sub(7));
        }
        println!(
            "{what}: {:.2} s, {:.1} MB, memory of the API at most {:.1} MB",
            begin.elapsed().as_secs_f64(),
            bytes as f64 / 1e6,
            api.memory()
        );
        points
    };
    let path = format!("/v2/dataframes?{window}&limit={count}");
    let points = ask(&format!("{count} dataframes in one page"), path).await;
    assert_eq!(points, count);
    let path = format!("/v2/dataframes?{window}&limit=1000&offset={}", count / 2);
    ask("1,000 dataframes from the middle", path).await;
    let path = format!("/v2/dataframes?{window}&limit={count}&filters=flavor:m3");
    ask("all dataframes of one flavor", path).await;
    for groupby in ["type", "flavor", "id"] {
        let path = format!("/v2/summary?{window}&groupby={groupby}&limit=100000");
        ask(&format!("summary by {groupby}"), path).await;
    }
    assert!(api.memory() < 128.0, "the API took {:.1} MB", api.memory());
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (hours, runs) = (number("BENCH_HOURS", 50), number("BENCH_RUNS", 5));
    pushes(hours, runs).await;
    summaries(hours, runs).await;
    memory().await;
}
