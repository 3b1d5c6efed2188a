//! What every storage backend must do. Each test runs over all of [`backends`].

mod kept;

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use rand::{Rng, SeedableRng, rngs::StdRng};
use ratekitty::{
    dataframe::{DataFrame, DataPoint},
    decimal::Decimal,
    storage::{GroupKey, Page, Selection, Storage},
    time::{Period, seconds},
};
use serde_json::{Value, json};

use crate::{
    loki::FAULTS,
    support::{
        Db, FakeLoki, StorageExt, TestApp,
        fake_loki::{Kind, Limits},
    },
};

/// Midnight, 1 November 2026, UTC.
const START: i64 = 1_793_491_200;
const HOUR: i64 = 3_600;

/// A backend and what it needs to live.
struct Backend {
    name: String,
    storage: Arc<dyn Storage>,
    app: TestApp,
    _loki: Option<FakeLoki>,
}

/// The time of the suite.
const NOW: &str = "2026-11-20T00:00:00Z";

async fn backends() -> Vec<Backend> {
    let mut backends = Vec::new();
    for db in Db::ALL {
        let app = TestApp::on(db, NOW, "", "").await;
        let name = format!("sql on {db:?}");
        backends.push(Backend { name, storage: app.storage.clone(), app, _loki: None });
    }
    for (name, db, conf) in [
        ("loki", Db::Sqlite, ""),
        ("loki, with MariaDB", Db::Mariadb, "read_cloudkitty_entries = false"),
        (
            "loki, protobuf, with PostgreSQL",
            Db::Postgresql,
            "content_type = application/x-protobuf\nbatch_entries = 7",
        ),
    ] {
        let (app, loki) = loki_app_on(db, Limits::roomy(), conf).await;
        let storage = app.storage.clone();
        backends.push(Backend { name: name.into(), storage, app, _loki: loki });
    }
    for fault in FAULTS {
        let (app, loki) = loki_app(Limits::roomy(), "retry_budget = 60").await;
        let seed = rand::random();
        if let Some(loki) = &loki {
            loki.faults().random(Kind::Any, seed, 0.02, std::slice::from_ref(&fault));
        }
        let storage = app.storage.clone();
        let name = format!("loki, {fault:?}, seed {seed}");
        backends.push(Backend { name, storage, app, _loki: loki });
    }
    backends
}

/// A ratekitty with a Loki: the one of `RATEKITTY_TEST_LOKI_URL`, as a tenant
/// of its own, or else a double with these limits.
pub async fn loki_app(limits: Limits, conf: &str) -> (TestApp, Option<FakeLoki>) {
    loki_app_on(Db::Sqlite, limits, conf).await
}

/// The same with a state database of this kind.
pub async fn loki_app_on(db: Db, limits: Limits, conf: &str) -> (TestApp, Option<FakeLoki>) {
    if let Ok(url) = std::env::var("RATEKITTY_TEST_LOKI_URL") {
        let tenant = format!("test-{:x}", rand::random::<u64>());
        let conf = format!("tenant = {tenant}\n{conf}");
        return (TestApp::with_loki_on(db, NOW, &url, &conf, "").await, None);
    }
    let loki = FakeLoki::start(limits).await;
    loki.set_now(NOW.parse::<DateTime<Utc>>().unwrap().timestamp() * 1_000_000_000);
    (TestApp::with_loki_on(db, NOW, &loki.url(), conf, "").await, Some(loki))
}

fn hour(number: i64) -> Period {
    Period::starting(seconds(START + number * HOUR), 3_600)
}

fn everything() -> Selection {
    Selection::all(seconds(START), seconds(START + 1_000 * HOUR))
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn point(scope: &str, id: &str, qty: &str, price: &str) -> DataPoint {
    let labels = |value: Value| value.as_object().unwrap().clone();
    DataPoint {
        unit: "GiB".into(),
        qty: decimal(qty),
        price: decimal(price),
        groupby: labels(json!({"project_id": scope, "id": id})).into(),
        metadata: labels(json!({"flavor": "m1"})).into(),
    }
}

fn frame(period: Period, points: impl IntoIterator<Item = (&'static str, DataPoint)>) -> DataFrame {
    let mut frame = DataFrame::new(period);
    for (frame_type, point) in points {
        frame.add(frame_type, [point]);
    }
    frame
}

/// Sum of quantities and prices, and the number of points.
async fn sums(storage: &dyn Storage, selection: &Selection) -> (Decimal, Decimal, u64) {
    let totals = storage.total(selection, &[], Page::ALL).await.unwrap();
    let points = storage.retrieve(selection, Page { offset: 0, limit: 1 }).await.unwrap().total;
    match totals.rows.as_slice() {
        [row] => (row.qty, row.price, points),
        [] => (Decimal::zero(), Decimal::zero(), points),
        rows => panic!("{rows:?}"),
    }
}

#[tokio::test]
async fn keeps_what_it_is_given() {
    for Backend { name, storage, .. } in backends().await {
        let mut one = point("p1", "vm-1", "0.30000000000000004", "1E-28");
        Arc::make_mut(&mut one.groupby)
            .insert("quote\"\\\n".into(), json!("'; DROP TABLE x; -- \u{0}é😀"));
        Arc::make_mut(&mut one.metadata).insert("number".into(), json!(5));
        let given =
            frame(hour(0), [("disk", one.clone()), ("cpu", point("p1", "vm-2", "-0", "12.50"))]);
        storage.put("p1", &given).await.unwrap();
        let got = storage.retrieve(&everything(), Page::ALL).await.unwrap();
        assert_eq!(got.total, 2, "{name}");
        let types: Vec<_> =
            got.points.iter().map(|(_, frame_type, _)| frame_type.as_str()).collect();
        assert_eq!(types, ["cpu", "disk"], "{name}");
        let (period, _, point) = &got.points[1];
        assert_eq!((*period, point), (hour(0), &one), "{name}");
        assert_eq!(point.qty.to_string(), "0.30000000000000004", "{name}");
        assert_eq!(got.points[0].2.price.to_string(), "12.50", "{name}");
    }
}

#[tokio::test]
async fn scopes_that_differ_in_case_or_blanks_are_apart() {
    let names = ["p", "P", "p ", " p", "p\u{a0}", "é", "e\u{301}", "E", "ß", "ss", "p\t"];
    for Backend { name, storage, .. } in backends().await {
        for (at, scope) in names.iter().enumerate() {
            let mut one = point(scope, "a", &format!("{}", 1 << at), "1");
            Arc::make_mut(&mut one.groupby).insert("flavor".into(), json!(scope));
            // Types are told apart in the same way.
            let mut given = DataFrame::new(hour(0));
            given.add("cpu", [one.clone()]);
            given.add(scope, [one]);
            storage.put(scope, &given).await.unwrap();
        }
        let groupby = [GroupKey::Label("project_id".into())];
        let by_scope = storage.total(&everything(), &groupby, Page::ALL).await.unwrap();
        let found: Vec<_> = by_scope.rows.iter().map(|row| row.values[0].clone()).collect();
        let mut sorted = names.to_vec();
        sorted.sort_unstable();
        assert_eq!(found, sorted.iter().map(|name| json!(name)).collect::<Vec<_>>(), "{name}");
        for (at, scope) in names.iter().enumerate() {
            for (key, times) in [("project_id", 2), ("type", 1), ("flavor", 2)] {
                let selection = everything().with(key, &[scope]);
                let (qty, _, points) = sums(&*storage, &selection).await;
                let expected = (Decimal::from(times << at), times as u64);
                assert_eq!((qty, points), expected, "{name}: {key} {scope:?}");
            }
        }
        let all = storage.retrieve(&everything(), Page::ALL).await.unwrap();
        assert_eq!(all.points.len(), 2 * names.len(), "{name}");
        for (at, (_, frame_type, point)) in all.points.iter().enumerate() {
            let page = Page { offset: at as u64, limit: 1 };
            let one = storage.retrieve(&everything(), page).await.unwrap();
            assert_eq!((&one.points[0].1, &one.points[0].2), (frame_type, point), "{name} {at}");
        }
        // What is done to one leaves the others alone.
        storage.put("p", &DataFrame::new(hour(0))).await.unwrap();
        storage.remove("é", hour(0).begin, hour(1).begin).await.unwrap();
        let (_, _, points) = sums(&*storage, &everything()).await;
        assert_eq!(points, 2 * (names.len() as u64 - 2), "{name}");
    }
}

#[tokio::test]
async fn replacing_a_period_replaces_it_whole() {
    for Backend { name, storage, .. } in backends().await {
        let two = [("cpu", point("p1", "a", "1", "1")), ("ram", point("p1", "b", "2", "2"))];
        storage.put("p1", &frame(hour(0), two)).await.unwrap();
        storage.put("p1", &frame(hour(1), [("cpu", point("p1", "a", "4", "4"))])).await.unwrap();
        storage.put("p2", &frame(hour(0), [("cpu", point("p2", "c", "8", "8"))])).await.unwrap();
        for _ in 0..2 {
            let again = frame(hour(0), [("cpu", point("p1", "a", "16", "32"))]);
            storage.put("p1", &again).await.unwrap();
        }
        assert_eq!(
            sums(&*storage, &everything()).await,
            (decimal("28"), decimal("44"), 3),
            "{name}"
        );
        storage.put("p1", &DataFrame::new(hour(0))).await.unwrap();
        assert_eq!(
            sums(&*storage, &everything()).await,
            (decimal("12"), decimal("12"), 2),
            "{name}"
        );
    }
}

#[tokio::test]
async fn equal_points_of_a_period_all_count() {
    for Backend { name, storage, .. } in backends().await {
        let same = || ("cpu", point("p1", "a", "1", "0.1"));
        storage.put("p1", &frame(hour(0), [same(), same(), same()])).await.unwrap();
        storage.append(&[frame(hour(0), [same()])]).await.unwrap();
        assert_eq!(
            sums(&*storage, &everything()).await,
            (decimal("4"), decimal("0.4"), 4),
            "{name}"
        );
    }
}

#[tokio::test]
async fn windows_include_their_begin_and_exclude_their_end() {
    for Backend { name, storage, .. } in backends().await {
        for number in 0..4 {
            let one = [("cpu", point("p1", "a", "1", "1"))];
            storage.put("p1", &frame(hour(number), one)).await.unwrap();
        }
        let window = Selection::all(hour(1).begin, hour(3).begin);
        assert_eq!(sums(&*storage, &window).await.2, 2, "{name}");
        let none = Selection::all(hour(3).begin, hour(1).begin);
        assert_eq!(sums(&*storage, &none).await.2, 0, "{name}");
        storage.remove("p1", hour(1).begin, hour(3).begin).await.unwrap();
        storage.remove("p2", hour(0).begin, hour(9).begin).await.unwrap();
        let left = storage.retrieve(&everything(), Page::ALL).await.unwrap();
        let left: Vec<_> = left.points.iter().map(|(period, ..)| *period).collect();
        assert_eq!(left, [hour(0), hour(3)], "{name}");
    }
}

#[tokio::test]
async fn no_points_have_no_sums() {
    for Backend { name, storage, .. } in backends().await {
        for groupby in [vec![], vec![GroupKey::Type], vec![GroupKey::Label("id".into())]] {
            let totals = storage.total(&everything(), &groupby, Page::ALL).await.unwrap();
            assert_eq!((totals.total, totals.rows.len()), (0, 0), "{name}");
        }
        let got = storage.retrieve(&everything(), Page::ALL).await.unwrap();
        assert_eq!((got.total, got.points.len()), (0, 0), "{name}");
    }
}

#[tokio::test]
async fn filters_mean_what_they_say() {
    for Backend { name, storage, .. } in backends().await {
        let points = [
            ("cpu", point("p1", "a", "1", "1")),
            ("cpu", point("p1", "b", "2", "1")),
            ("ram", point("p1", "a", "4", "1")),
        ];
        storage.put("p1", &frame(hour(0), points)).await.unwrap();
        storage.put("p2", &frame(hour(0), [("cpu", point("p2", "a", "8", "1"))])).await.unwrap();
        let cases: [(Selection, &str); 10] = [
            (everything().with("type", &["cpu"]), "11"),
            (everything().with("type", &["cpu", "ram"]), "15"),
            (everything().with("project_id", &["p2"]), "8"),
            (everything().with("id", &["a"]), "13"),
            (everything().with("id", &["a", "b"]).with("type", &["cpu"]), "11"),
            (
                everything().with("id", &["a"]).with("project_id", &["p1"]).with("type", &["cpu"]),
                "1",
            ),
            (everything().with("flavor", &["m1"]), "15"),
            (everything().with("flavor", &["m1' OR '1'='1"]), "0"),
            (everything().with("nothing", &["x"]), "0"),
            (everything().with("type", &["CPU"]), "0"),
        ];
        for (selection, qty) in cases {
            let (sum, _, count) = sums(&*storage, &selection).await;
            assert_eq!(sum, decimal(qty), "{name} {selection:?}");
            let points = storage.retrieve(&selection, Page::ALL).await.unwrap();
            assert_eq!(points.points.len() as u64, count, "{name} {selection:?}");
        }
    }
}

/// Points by hour, scope and type, each with quantity and price in 10^-6.
type Month = BTreeMap<(i64, String, String), Vec<(DataPoint, i128, i128)>>;

/// A month of a small cloud: points with awkward numbers, by (hour, scope,
/// type), and the same again as integers of 10^-6 for a sum of our own.
fn month() -> Month {
    let mut random = StdRng::seed_from_u64(20_261_101);
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for number in 0..48 {
        for scope in ["p1", "p2", "p three"] {
            for frame_type in ["cpu", "ram", "network.out"] {
                let points = (0..random.random_range(0..6)).map(|at| {
                    let qty: i128 = random.random_range(-5..1_000_000_000_000);
                    let price: i128 = random.random_range(0..1_000_000);
                    let text = |value: i128| format!("{value}E-6");
                    let mut point = point(scope, &format!("id-{at}"), &text(qty), &text(price));
                    if at % 2 == 1 {
                        Arc::make_mut(&mut point.metadata).insert("flavor".into(), json!("m2"));
                    }
                    if at == 4 {
                        Arc::make_mut(&mut point.metadata).remove("flavor");
                    }
                    (point, qty, price)
                });
                all.insert((number, scope.to_owned(), frame_type.to_owned()), points.collect());
            }
        }
    }
    all
}

async fn fill(storage: &dyn Storage) -> u64 {
    let mut frames: BTreeMap<(i64, String), DataFrame> = BTreeMap::new();
    let mut count = 0;
    for ((number, scope, frame_type), points) in month() {
        count += points.len() as u64;
        let frame = frames.entry((number, scope)).or_insert_with(|| DataFrame::new(hour(number)));
        frame.add(&frame_type, points.into_iter().map(|(point, ..)| point));
    }
    for ((_, scope), frame) in frames {
        storage.put(&scope, &frame).await.unwrap();
    }
    count
}

#[tokio::test]
async fn sums_are_exact_for_every_grouping() {
    for Backend { name, storage, .. } in backends().await {
        fill(&*storage).await;
        let label = |name: &str| GroupKey::Label(name.to_owned());
        let groupings = [
            vec![],
            vec![GroupKey::Type],
            vec![label("project_id")],
            vec![label("project_id"), GroupKey::Type],
            vec![GroupKey::Time],
            vec![GroupKey::Time, GroupKey::Type],
            vec![GroupKey::Type, GroupKey::Time],
            vec![label("id")],
            vec![label("flavor"), GroupKey::Type],
            vec![label("unknown")],
            vec![GroupKey::parse("time-d").unwrap(), label("project_id")],
        ];
        for groupby in groupings {
            // The same sums in integers.
            let mut expected: BTreeMap<Vec<String>, (i128, i128)> = BTreeMap::new();
            for ((number, scope, frame_type), points) in month() {
                for (point, qty, price) in points {
                    let key = groupby.iter().map(|key| match key {
                        GroupKey::Type => frame_type.clone(),
                        GroupKey::Time => format!("{:?}", hour(number).begin),
                        GroupKey::Label(name) if name == "project_id" => scope.clone(),
                        GroupKey::Label(name) if name == "day_of_the_year" => {
                            (305 + number / 24).to_string()
                        }
                        GroupKey::Label(name) => match point.label(name) {
                            Some(value) => value.as_str().unwrap().to_owned(),
                            None => String::new(),
                        },
                    });
                    let sum = expected.entry(key.collect()).or_default();
                    *sum = (sum.0 + qty, sum.1 + price);
                }
            }
            let totals = storage.total(&everything(), &groupby, Page::ALL).await.unwrap();
            let mut rows = Vec::new();
            for row in &totals.rows {
                let mut values = row.values.iter();
                let key: Vec<String> = groupby
                    .iter()
                    .map(|key| match key {
                        GroupKey::Time => format!("{:?}", row.period.unwrap().begin),
                        _ => values.next().unwrap().as_str().unwrap_or("").to_owned(),
                    })
                    .collect();
                rows.push((key, row.qty, row.price));
            }
            let of_integer = |value: i128| decimal(&format!("{value}E-6"));
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(key, (qty, price))| (key, of_integer(qty), of_integer(price)))
                .collect();
            assert_eq!(totals.total, expected.len() as u64, "{name} {groupby:?}");
            // Also in order: by the keys, in their order.
            assert_eq!(rows, expected, "{name} {groupby:?}");
        }
    }
}

#[tokio::test]
async fn pages_tile_the_whole() {
    for Backend { name, storage, .. } in backends().await {
        let count = fill(&*storage).await;
        let selections = [
            everything(),
            everything().with("type", &["cpu"]),
            everything().with("flavor", &["m2"]),
            everything().with("project_id", &["p1", "p2"]).with("id", &["id-0", "id-3"]),
        ];
        for selection in selections {
            let whole = storage.retrieve(&selection, Page::ALL).await.unwrap();
            assert_eq!(whole.points.len() as u64, whole.total, "{name}");
            assert!(whole.total > 50 && whole.total <= count, "{name} {}", whole.total);
            for limit in [1, 7, 100, 10_000] {
                let mut tiled = Vec::new();
                let mut offset = 0;
                // Of small pages, some.
                let end = whole.total.min(limit * 5);
                while offset < end {
                    let page = storage.retrieve(&selection, Page { offset, limit }).await.unwrap();
                    assert_eq!(page.total, whole.total, "{name}");
                    assert!(!page.points.is_empty() && page.points.len() as u64 <= limit, "{name}");
                    offset += page.points.len() as u64;
                    tiled.extend(page.points);
                }
                assert_eq!(tiled, whole.points[..tiled.len()], "{name} {limit}");
                assert!(tiled.len() as u64 >= end, "{name} {limit}");
            }
            let beyond = Page { offset: u64::MAX, limit: u64::MAX };
            let beyond = storage.retrieve(&selection, beyond).await.unwrap();
            assert_eq!((beyond.total, beyond.points.len()), (whole.total, 0), "{name}");
        }
        let groupby = [GroupKey::Time, GroupKey::Type];
        let whole = storage.total(&everything(), &groupby, Page::ALL).await.unwrap();
        let page = Page { offset: 10, limit: 7 };
        let part = storage.total(&everything(), &groupby, page).await.unwrap();
        assert_eq!((part.total, &part.rows[..]), (whole.total, &whole.rows[10..17]), "{name}");
    }
}

#[tokio::test]
async fn reads_see_whole_periods_while_others_write() {
    for Backend { name, storage, .. } in backends().await {
        // Each version of the period has 50 points and a sum of 50 times its number.
        let version = |number: u32| {
            let mut frame = DataFrame::new(hour(0));
            let points =
                (0..50).map(|at| point("p1", &format!("{number}-{at}"), &number.to_string(), "1"));
            frame.add("cpu", points);
            frame
        };
        storage.put("p1", &version(1)).await.unwrap();
        let writer = tokio::spawn({
            let storage = storage.clone();
            async move {
                for number in 2..40 {
                    storage.put("p1", &version(number)).await.unwrap();
                }
            }
        });
        while !writer.is_finished() {
            let groupby = [GroupKey::Label("flavor".into())];
            let totals = storage.total(&everything(), &groupby, Page::ALL).await.unwrap();
            assert_eq!(totals.rows[0].price, decimal("50"), "{name}");
            let points = storage.retrieve(&everything(), Page::ALL).await.unwrap();
            assert_eq!(points.points.len(), 50, "{name}");
            let first = points.points[0].2.qty;
            assert!(points.points.iter().all(|(.., point)| point.qty == first), "{name}");
        }
        writer.await.unwrap();
        assert_eq!(sums(&*storage, &everything()).await.0, decimal("1950"), "{name}");
    }
}

#[tokio::test]
async fn a_scope_is_told_by_its_key() {
    let app = TestApp::new("2026-11-20T00:00:00Z", "", "").await;
    let projects = app.storage.clone();
    let spaces: Arc<dyn Storage> = Arc::new(ratekitty::storage::sql::SqlStorage::new(
        app.database.clone(),
        "namespace",
        false,
    ));
    projects.put("x", &frame(hour(0), [("cpu", point("x", "a", "1", "1"))])).await.unwrap();
    let mut other = point("x", "b", "2", "2");
    Arc::make_mut(&mut other.groupby).insert("namespace".into(), json!("x"));
    Arc::make_mut(&mut other.groupby).remove("project_id");
    spaces.put("x", &frame(hour(0), [("cpu", other)])).await.unwrap();
    // Neither takes the place of the other.
    assert_eq!(sums(&*spaces, &everything()).await, (decimal("3"), decimal("3"), 2));
    spaces.remove("x", hour(0).begin, hour(1).begin).await.unwrap();
    assert_eq!(sums(&*projects, &everything()).await, (decimal("1"), decimal("1"), 1));
    // What was written under one key is not of the scope of the other.
    let by_space = everything().with("namespace", &["x"]);
    assert_eq!(sums(&*spaces, &by_space).await.2, 0);
    let by_project = everything().with("project_id", &["x"]);
    assert_eq!(sums(&*spaces, &by_project).await.2, 1);
    let groupby = [GroupKey::Label("namespace".into())];
    let totals = spaces.total(&everything(), &groupby, Page::ALL).await.unwrap();
    assert_eq!((totals.rows.len(), &totals.rows[0].values[0]), (1, &Value::Null));
}

#[tokio::test]
async fn calendar_labels_come_back_as_they_were() {
    for Backend { name, storage, .. } in backends().await {
        let mut collected = point("p1", "a", "1", "1");
        for (label, value) in
            ratekitty::time::calendar_labels(ratekitty::time::local(hour(30).begin))
        {
            Arc::make_mut(&mut collected.groupby).insert(label.into(), json!(value));
        }
        let mut odd = point("p1", "b", "2", "1");
        Arc::make_mut(&mut odd.groupby).insert("month".into(), json!("13"));
        let plain = point("p1", "c", "4", "1");
        let points = [("cpu", collected.clone()), ("cpu", odd.clone()), ("cpu", plain.clone())];
        storage.put("p1", &frame(hour(30), points)).await.unwrap();
        let got = storage.retrieve(&everything(), Page::ALL).await.unwrap();
        let got: Vec<_> = got.points.into_iter().map(|(_, _, point)| point).collect();
        assert_eq!(got, [collected, odd, plain], "{name}");
        let qty = async |key: &str, value: &str| {
            sums(&*storage, &everything().with(key, &[value])).await.0.to_string()
        };
        assert_eq!(qty("month", "11").await, "5", "{name}");
        assert_eq!(qty("month", "13").await, "2", "{name}");
        assert_eq!(qty("day_of_the_year", "306").await, "7", "{name}");
        let page = storage.retrieve(&everything().with("month", &["11"]), Page::ALL).await.unwrap();
        assert_eq!((page.total, page.points.len()), (2, 2), "{name}");
    }
}

#[tokio::test]
async fn large_pages_are_sent_whole() {
    for Backend { name, app, storage, .. } in backends().await.into_iter().take(2) {
        for number in 0..4 {
            let mut frame = DataFrame::new(hour(number));
            for frame_type in ["cpu", "ram"] {
                let points = (0..1_500).map(|id| point("p1", &format!("id-{id}"), "1", "0.1"));
                frame.add(frame_type, points);
            }
            storage.put("p1", &frame).await.unwrap();
        }
        let ask = async |rest: &str| {
            let window = "begin=2026-11-01T00:00:00Z&end=2026-11-02T00:00:00Z";
            let path = format!("/v2/dataframes?{window}{rest}");
            let answer = app.get(&path).await;
            assert_eq!(answer.status, 200, "{name} {answer:?}");
            answer.json()
        };
        let whole = ask("&limit=100000").await;
        assert_eq!(whole["total"], 12_000, "{name}");
        assert_eq!(whole["dataframes"].as_array().unwrap().len(), 4, "{name}");
        let count = |page: &Value| -> usize {
            let frames = page["dataframes"].as_array().unwrap().iter();
            let usage = frames.flat_map(|frame| frame["usage"].as_object().unwrap().values());
            usage.map(|points| points.as_array().unwrap().len()).sum()
        };
        assert_eq!(count(&whole), 12_000, "{name}");
        // The same as in small pages, put together.
        let mut ids: Vec<String> = Vec::new();
        for offset in (0..12_000).step_by(4_000) {
            let page = ask(&format!("&limit=4000&offset={offset}")).await;
            assert_eq!(count(&page), 4_000, "{name}");
            ids.push(page["dataframes"].to_string());
        }
        let flat = |text: &str| text.matches("\"rating\"").count();
        assert_eq!(ids.iter().map(|text| flat(text)).sum::<usize>(), 12_000, "{name}");
        let part = ask("&limit=7000&offset=2000").await;
        assert_eq!(count(&part), 7_000, "{name}");
        let none = ask("&limit=7000&offset=12000").await;
        assert_eq!((count(&none), &none["total"]), (0, &json!(12_000)), "{name}");
        let none = "/v2/dataframes?begin=2026-11-10T00:00:00Z&limit=7000";
        assert_eq!(app.get(none).await.status, 404, "{name}");
    }
}

#[tokio::test]
async fn tables_of_version_1_become_those_of_today() {
    use ratekitty::state::schema;
    use sea_orm::ConnectionTrait;
    let app = TestApp::new(NOW, "", "").await;
    app.storage.put("p1", &frame(hour(0), [("cpu", point("p1", "a", "1", "2"))])).await.unwrap();
    // What version 2 added goes again.
    for sql in [
        "DROP INDEX ratekitty_dataframes_stream",
        "ALTER TABLE ratekitty_dataframes DROP COLUMN writer",
        "ALTER TABLE ratekitty_dataframes DROP COLUMN store",
        "ALTER TABLE ratekitty_dataframes DROP COLUMN appended",
        "ALTER TABLE ratekitty_dataframes DROP COLUMN stream_id",
        "ALTER TABLE ratekitty_dataframes DROP COLUMN stream_offset",
        "DROP TABLE ratekitty_superseded",
        "DROP TABLE ratekitty_streams",
        "DROP TABLE ratekitty_periods",
        "DROP TABLE IF EXISTS ratekitty_schedules",
        "DROP TABLE ratekitty_failures",
        "DROP TABLE ratekitty_processors",
        "DROP TABLE ratekitty_changes",
        "UPDATE ratekitty_schema SET version = 1",
    ] {
        app.database.connection().execute_unprepared(sql).await.unwrap();
    }
    let error = schema::check(&app.database).await.unwrap_err().to_string();
    assert!(error.contains("version 1") && error.contains("dbsync upgrade"), "{error}");
    schema::upgrade(&app.database).await.unwrap();
    schema::check(&app.database).await.unwrap();
    assert_eq!(sums(&*app.storage, &everything()).await, (decimal("1"), decimal("2"), 1));
    // What was there is known to reach so far.
    let half = Period::starting(seconds(START), 1_800);
    let error = app.storage.put("p1", &DataFrame::new(half)).await.unwrap_err().to_string();
    assert!(error.contains("lies across the period"), "{error}");
    app.storage.put("p1", &frame(hour(0), [("cpu", point("p1", "a", "3", "4"))])).await.unwrap();
    assert_eq!(sums(&*app.storage, &everything()).await, (decimal("3"), decimal("4"), 1));
}
