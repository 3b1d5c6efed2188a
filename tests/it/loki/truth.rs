//! Two backends, one truth, whatever Loki does meanwhile.

use std::{collections::BTreeMap, fmt::Write};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use ratekitty::{
    dataframe::DataFrame,
    storage::{GroupKey, Page, Selection, Storage, Totals},
    time::{Clock, RealClock, calendar_labels, local},
};
use serde_json::{Value, json};

use super::{START, as_json, hour, label, point};
use crate::{
    storage::loki_app,
    support::StorageExt,
    support::{
        FakeLoki, Prometheus, TestApp,
        fake_loki::{Fault, Kind, Limits},
    },
};

/// Faults that Loki, or what is between, may have at any time.
pub const FAULTS: [Fault; 8] = [
    Fault::DropAnswer,
    Fault::TooManyRequests(None),
    Fault::TooManyRequests(Some(1)),
    Fault::Status(500),
    Fault::Delay(std::time::Duration::from_millis(300)),
    Fault::Reset,
    Fault::HalfStored,
    Fault::Truncated,
];

/// Values that try to be something else in LogQL, JSON or SQL.
const HOSTILE: [&str; 12] = [
    "plain",
    "",
    "quo\"te",
    "back\\slash",
    "a\"} or {service=~\".+",
    "x\" or rk_0=~\".*",
    "| json",
    "new\nline",
    "tab\t, ünïcode 😀",
    "' OR 1=1 --",
    "`tick`",
    "rk_0",
];

/// Keys with odd characters, some of which Loki's expressions cannot read.
const KEYS: [&str; 7] = ["flavor", "flavor.name", "odd key", "ra]w", "quo\"te", "back\\slash", "é"];

/// Groups in order, with their sums of quantities and prices.
type Rows = Vec<(String, [f64; 2])>;

fn rows(totals: &Totals) -> Rows {
    let row = |row: &ratekitty::storage::TotalRow| {
        let values = row.values.iter().map(|value| match value {
            // Loki's labels are texts.
            Value::Null | Value::String(_) => value.clone(),
            other => json!(ratekitty::dataframe::python_str(other)),
        });
        let values: Vec<Value> = values.collect();
        (format!("{:?} {values:?}", row.period), [row.qty.to_f64(), row.price.to_f64()])
    };
    let mut rows: Rows = totals.rows.iter().map(row).collect();
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    rows
}

/// Checks that sums are the same, but for the last digits of Loki's doubles.
fn assert_same(one: &Rows, other: &Rows, asked: &str) {
    let keys = |rows: &Rows| rows.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(one), keys(other), "{asked}");
    for ((key, sums), (_, others)) in one.iter().zip(other) {
        for (sum, other) in sums.iter().zip(others) {
            let near = (sum - other).abs() <= 1e-12 * sum.abs().max(other.abs()).max(1e3);
            assert!(near, "{key}: {sum} and {other}, {asked}");
        }
    }
}

async fn points(storage: &dyn Storage, selection: &Selection) -> Vec<String> {
    let mut shown = Vec::new();
    loop {
        let page = Page { offset: shown.len() as u64, limit: 37 };
        let got = storage.retrieve(selection, page).await.unwrap();
        shown.extend(got.points.iter().map(|(period, frame_type, point)| {
            let mut json = as_json(point);
            // The order of labels is not told.
            json.sort_all_objects();
            format!("{period} {frame_type} {json} {} {}", point.qty, point.price)
        }));
        if shown.len() as u64 >= got.total {
            assert_eq!(shown.len() as u64, got.total);
            break;
        }
        assert!(!got.points.is_empty());
    }
    shown.sort();
    shown
}

/// A random frame of a scope.
fn random_frame(random: &mut StdRng, scope: &str, number: i64) -> DataFrame {
    let period = hour(number);
    let mut frame = DataFrame::new(period);
    for frame_type in ["cpu", "ram", "type \"x\"\\"] {
        for id in 0..random.random_range(0..4) {
            let price =
                format!("{}E-{}", random.random_range(0..100_000), random.random_range(0..6));
            let mut point = point(scope, &format!("id-{id}"), period, &price);
            point.qty = format!("{}E-3", random.random_range(-10..1_000_000)).parse().unwrap();
            for key in KEYS {
                let value = HOSTILE.choose(random).unwrap();
                match random.random_range(0..8) {
                    0 => drop(
                        std::sync::Arc::make_mut(&mut point.groupby)
                            .insert(key.into(), json!(value)),
                    ),
                    1 => drop(
                        std::sync::Arc::make_mut(&mut point.metadata)
                            .insert(key.into(), json!(value)),
                    ),
                    _ => {}
                }
            }
            // A few that no collector makes.
            match random.random_range(0..40) {
                0 => drop(
                    std::sync::Arc::make_mut(&mut point.groupby).insert("number".into(), json!(5)),
                ),
                1 => drop(std::sync::Arc::make_mut(&mut point.groupby).remove("month")),
                2 => drop(
                    std::sync::Arc::make_mut(&mut point.metadata)
                        .insert("id".into(), json!("other")),
                ),
                3 => drop(
                    std::sync::Arc::make_mut(&mut point.metadata)
                        .insert("list".into(), json!([1, null])),
                ),
                _ => {}
            }
            frame.add(frame_type, [point]);
        }
    }
    frame
}

fn random_selection(random: &mut StdRng) -> Selection {
    let mut bounds = [random.random_range(0..14), random.random_range(0..14)];
    bounds.sort_unstable();
    let mut selection = Selection::all(hour(bounds[0]).begin, hour(bounds[1] + 1).begin);
    for _ in 0..random.random_range(0..3) {
        let keys =
            [&KEYS[..], &["type", "project_id", "id", "month", "missing", "number"]].concat();
        let key = *keys.choose(random).unwrap();
        if selection.filters.iter().any(|(known, _)| known == key) {
            continue;
        }
        let values = [&HOSTILE[..], &["cpu", "ram", "p1", "p\"2", "id-0", "11", "5"]].concat();
        let wanted: Vec<&str> =
            (0..random.random_range(1..4)).map(|_| *values.choose(random).unwrap()).collect();
        selection = selection.with(key, &wanted);
    }
    selection
}

fn random_grouping(random: &mut StdRng) -> Vec<GroupKey> {
    let mut groupby: Vec<GroupKey> = Vec::new();
    for _ in 0..random.random_range(0..3) {
        let key = match random.random_range(0..7) {
            0 => GroupKey::Type,
            1 => GroupKey::Time,
            2 => label("project_id"),
            3 => GroupKey::parse("time-d").unwrap(),
            4 => label("id"),
            _ => label(KEYS.choose(random).unwrap()),
        };
        if !groupby.contains(&key) {
            groupby.push(key);
        }
    }
    groupby
}

/// Does the same to two storages, and asks both the same.
async fn compare(one: &dyn Storage, other: &dyn Storage, seed: u64, rounds: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let scopes = ["p1", "p\"2", "p\\3"];
    for _ in 0..rounds {
        let scope = *scopes.choose(&mut random).unwrap();
        let number = random.random_range(0..14);
        let frame = random_frame(&mut random, scope, number);
        match random.random_range(0..10) {
            0 => {
                let end = hour(number + random.random_range(1..20)).begin;
                one.remove(scope, hour(number).begin, end).await.unwrap();
                other.remove(scope, hour(number).begin, end).await.unwrap();
            }
            1 | 2 => {
                one.append(std::slice::from_ref(&frame)).await.unwrap();
                other.append(&[frame]).await.unwrap();
            }
            _ => {
                one.put(scope, &frame).await.unwrap();
                other.put(scope, &frame).await.unwrap();
            }
        }
        let selection = random_selection(&mut random);
        let groupby = random_grouping(&mut random);
        let totals = one.total(&selection, &groupby, Page::ALL).await.unwrap();
        let others = other.total(&selection, &groupby, Page::ALL).await.unwrap();
        let asked = format!("seed {seed}: {selection:?} {groupby:?}");
        assert_same(&rows(&totals), &rows(&others), &asked);
        assert_eq!(totals.total, others.total, "{asked}");
        if random.random_range(0..3) == 0 {
            assert_eq!(points(one, &selection).await, points(other, &selection).await, "{asked}");
        }
    }
}

#[tokio::test]
async fn both_backends_answer_the_same() {
    let seed = rand::random();
    let sql = TestApp::new("2026-11-20T00:00:00Z", "", "").await;
    let (app, _loki) = loki_app(Limits::roomy(), "").await;
    compare(&*app.storage, &*sql.storage, seed, 120).await;
}

#[tokio::test]
async fn both_backends_answer_the_same_within_tight_limits() {
    let seed = rand::random();
    let sql = TestApp::new("2026-11-20T00:00:00Z", "", "").await;
    let limits = Limits {
        max_query_series: 3,
        max_entries_limit_per_query: 11,
        max_query_length: 4 * 3_600,
        ..Limits::roomy()
    };
    let (app, _loki) = loki_app(limits, "batch_entries = 5\nqueries_at_once = 2").await;
    compare(&*app.storage, &*sql.storage, seed, 60).await;
}

#[tokio::test]
async fn both_backends_answer_the_same_whatever_fails() {
    for (number, fault) in FAULTS.into_iter().enumerate() {
        let seed: u64 = rand::random();
        let sql = TestApp::new("2026-11-20T00:00:00Z", "", "").await;
        let (app, loki) = loki_app(Limits::roomy(), "retry_budget = 60").await;
        let Some(loki) = loki else { return };
        let kind = if number % 2 == 0 { Kind::Any } else { Kind::Push };
        loki.faults().random(kind, seed, 0.05, &[fault]);
        compare(&*app.storage, &*sql.storage, seed, 15).await;
    }
}

/// Whatever stands in a filter, it is a value and nothing else.
#[tokio::test]
async fn filters_cannot_change_the_query() {
    let seed = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let (app, _loki) = loki_app(Limits::roomy(), "").await;
    let alphabet: Vec<char> =
        "\"\\{}|=~!()[]`', \n\t\0aé.*+?^$rk_0\u{feff}\u{fffd}".chars().collect();
    let text = |random: &mut StdRng| -> String {
        (0..random.random_range(1..9)).map(|_| *alphabet.choose(random).unwrap()).collect()
    };
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    let mut frame = DataFrame::new(hour(0));
    for _ in 0..60 {
        let value = text(&mut random);
        let mut point = point("p1", &value, hour(0), "1");
        std::sync::Arc::make_mut(&mut point.metadata).insert("note".into(), json!(value));
        frame.add("cpu", [point]);
        *expected.entry(value).or_default() += 1;
    }
    app.storage.put("p1", &frame).await.unwrap();
    let mut asked: Vec<String> = expected.keys().cloned().collect();
    asked.extend((0..60).map(|_| text(&mut random)));
    for value in asked {
        let count = expected.get(&value).copied().unwrap_or_default();
        for key in ["id", "note"] {
            let selection = super::everything().with(key, &[&value]);
            let got = app.storage.retrieve(&selection, Page::ALL).await.unwrap();
            assert_eq!(got.total, count, "seed {seed}: {key} = {value:?}");
            let totals = app.storage.total(&selection, &[label("note")], Page::ALL).await.unwrap();
            let sum: f64 = totals.rows.iter().map(|row| row.price.to_f64()).sum();
            assert_eq!(sum as u64, count, "seed {seed}: {key} = {value:?}");
        }
    }
}

/// Samples of three scopes over twelve hours, and who the scopes are now.
fn samples() -> String {
    let mut text = String::from("# TYPE instance gauge\n");
    for scope in 1..=3 {
        for server in 1..=scope {
            for time in (START + 60..START + 12 * 3_600).step_by(600) {
                let flavor = if server % 2 == 0 { "large" } else { "small" };
                let _ = writeln!(
                    text,
                    "instance{{project_id=\"p{scope}\",id=\"vm-{server}\",flavor=\"{flavor}\"}} {server} {time}"
                );
            }
        }
    }
    text.push_str("# TYPE scope_info gauge\n");
    let present = RealClock.now().timestamp();
    for scope in 1..=3 {
        for time in (present - 120..=present + 600).step_by(60) {
            let _ = writeln!(text, "scope_info{{project_id=\"p{scope}\"}} 1 {time}");
        }
    }
    text.push_str("# EOF\n");
    text
}

const METRICS: &str = "metrics:\n  instance:\n    unit: instance\n    groupby: [id]\n    metadata: [flavor]\n    mutate: CEIL\n";

#[tokio::test]
async fn a_whole_processor_comes_to_the_same_whatever_fails() {
    let prometheus = Prometheus::start(&samples()).await;
    let now = "2026-11-01T13:30:00Z";
    let conf = "wait_periods = 1";
    let sql = TestApp::with_prometheus(now, &prometheus.url, conf, METRICS).await;
    sql.rate().await;
    let window = Selection::all(hour(0).begin, hour(12).begin);
    let groupby = [GroupKey::Time, label("project_id"), label("flavor")];
    let expected = rows(&sql.storage.total(&window, &groupby, Page::ALL).await.unwrap());
    assert!(expected.len() > 40, "{expected:?}");
    for fault in FAULTS {
        let loki = FakeLoki::start(Limits::roomy()).await;
        loki.set_now((START + 14 * 3_600) * 1_000_000_000);
        let urls = (prometheus.url.as_str(), &*loki.url());
        let app = TestApp::with_prometheus_and_loki(now, urls, conf, METRICS).await;
        let seed: u64 = rand::random();
        loki.faults().random(Kind::Any, seed, 0.1, std::slice::from_ref(&fault));
        // A cycle may give up on a scope; the next one takes it up again.
        for _ in 0..10 {
            if app.rate().await.failed == 0 {
                break;
            }
        }
        loki.faults().clear();
        let totals = app.storage.total(&window, &groupby, Page::ALL).await.unwrap();
        assert_same(&rows(&totals), &expected, &format!("{fault:?}, seed {seed}"));
        let shown = points(&*app.storage, &window).await;
        assert_eq!(shown, points(&*sql.storage, &window).await, "{fault:?}, seed {seed}");
    }
    // As the reference would have made them.
    let got = sql.storage.retrieve(&window, Page { offset: 0, limit: 1 }).await.unwrap();
    for (name, value) in calendar_labels(local(got.points[0].0.begin)) {
        assert_eq!(got.points[0].2.groupby[name], json!(value));
    }
}
