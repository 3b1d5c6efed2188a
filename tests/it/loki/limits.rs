//! Loki's limits and habits: answers stay whole, or are errors.

use chrono::{DateTime, Utc};
use ratekitty::storage::{GroupKey, Page, Storage, StorageError};

use super::{
    HOUR, START, by_flavor, by_type, decimal, everything, frame, hour, label, point, prices,
};
use crate::{
    storage::loki_app,
    support::StorageExt,
    support::{
        FakeLoki, TestApp,
        fake_loki::{Fault, Kind, Limits},
    },
};

async fn double(limits: Limits, conf: &str) -> (TestApp, FakeLoki) {
    let loki = FakeLoki::start(limits).await;
    let now: DateTime<Utc> = "2026-11-02T00:00:00Z".parse().unwrap();
    loki.set_now(now.timestamp() * 1_000_000_000);
    (TestApp::with_loki("2026-11-02T00:00:00Z", &loki.url(), conf, "").await, loki)
}

/// All pages of all points, by pages of a size.
async fn tiled(storage: &dyn Storage, limit: u64) -> Vec<String> {
    let mut ids = Vec::new();
    let mut offset = 0;
    loop {
        let page = storage.retrieve(&everything(), Page { offset, limit }).await.unwrap();
        offset += limit;
        ids.extend(page.points.iter().map(|(.., point)| {
            let label = |name| point.label(name).unwrap().as_str().unwrap().to_owned();
            format!("{} {}", label("project_id"), label("id"))
        }));
        if offset >= page.total {
            return ids;
        }
    }
}

#[tokio::test]
async fn twenty_thousand_points_of_one_scope_and_period() {
    let (app, _loki) = loki_app(Limits::roomy(), "").await;
    app.storage.put("p1", &frame("p1", 0, 20_000, "0.1")).await.unwrap();
    let mut ids = tiled(&*app.storage, 3_000).await;
    assert_eq!(ids.len(), 20_000);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20_000);
    // In one page, too, though more than are read together.
    let mut whole = tiled(&*app.storage, 1_000_000).await;
    whole.sort();
    assert_eq!(whole, ids);
    // Forty times the series that Loki gives for one query.
    let totals = app.storage.total(&everything(), &[label("id")], Page::ALL).await.unwrap();
    assert_eq!(totals.total, 20_000);
    assert!(totals.rows.iter().all(|row| row.price == decimal("0.1")));
    let last = app.storage.retrieve(&everything(), Page { offset: 19_999, limit: 5 }).await;
    assert_eq!(last.unwrap().points.len(), 1);
}

/// A refusal of too many series says nothing of how long a time Loki takes, though it
/// speaks of time since Loki 3.6: who believes it asks for each second of all times.
#[tokio::test]
async fn too_many_series_shorten_no_time() {
    for has_newer_words in [false, true] {
        let limits = Limits { max_query_series: 10, has_newer_words, ..Limits::roomy() };
        let (app, loki) = double(limits, "").await;
        app.storage.put("p1", &frame("p1", 0, 200, "0.1")).await.unwrap();
        for _ in 0..2 {
            let before = loki.count("/query");
            let totals = app.storage.total(&everything(), &[label("id")], Page::ALL).await.unwrap();
            assert_eq!(totals.total, 200);
            assert!(totals.rows.iter().all(|row| row.price == decimal("0.1")));
            let queries = loki.count("/query") - before;
            assert!(queries < 100, "{queries} queries, newer words: {has_newer_words}");
        }
    }
}

#[tokio::test]
async fn a_part_of_an_answer_is_none() {
    let (app, loki) = double(Limits::roomy(), "").await;
    app.storage.put("p1", &frame("p1", 0, 3, "0.5")).await.unwrap();
    for _ in 0..2 {
        loki.faults().next(Kind::Query, 1, Fault::Partial);
        let error = match app.storage.total(&everything(), &[label("id")], Page::ALL).await {
            Ok(totals) => panic!("{totals:?}"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains("whole") && error.contains("partial results"), "{error}");
        assert!(error.contains("max_query_series"), "{error}");
        assert_eq!(by_flavor(&*app.storage).await.unwrap(), "1.5");
    }
}

#[tokio::test]
async fn six_thousand_scopes_with_one_point_each() {
    let (app, _loki) = loki_app(Limits::roomy(), "").await;
    let mut frames = Vec::new();
    for scope in 0..6_000 {
        let mut frame = ratekitty::dataframe::DataFrame::new(hour(0));
        frame.add("cpu", [point(&format!("p{scope}"), "x", hour(0), "0.5")]);
        frames.push(frame);
    }

    app.storage.append(&frames).await.unwrap();

    let mut scopes = tiled(&*app.storage, 2_500).await;

    scopes.sort();
    scopes.dedup();
    assert_eq!(scopes.len(), 6_000);
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "3000");

    let filtered = everything().with("flavor.name", &["m1"]);
    let page = app.storage.retrieve(&filtered, Page { offset: 5_990, limit: 20 }).await.unwrap();
    assert_eq!((page.total, page.points.len()), (6_000, 10));
}

#[tokio::test]
async fn what_loki_does_not_show_yet_is_never_missing_without_a_word() {
    // A stock Loki, and a catch-up of a day: the oldest entries stay hidden.
    let (app, loki) = double(Limits::stock(), "").await;
    for number in 0..23 {
        app.storage.put("p1", &frame("p1", number, 3, "1")).await.unwrap();
    }
    assert!(loki.entries().iter().any(|entry| !entry.visible));
    // What heads tell is known all the same.
    assert_eq!(by_type(&*app.storage).await, "69");
    let error = by_flavor(&*app.storage).await.unwrap_err();
    assert!(matches!(error, StorageError::NotShown { stored: 69, .. }), "{error}");
    let error = app.storage.retrieve(&everything(), Page::ALL).await.unwrap_err();
    assert!(matches!(error, StorageError::NotShown { .. }), "{error}");
    let path = "/v2/summary?begin=2026-11-01&end=2026-11-02&groupby=flavor.name";
    let answer = app.get(path).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["retry-after"], "300");
    // Windows that are shown whole are answered.
    let recent = ratekitty::storage::Selection::all(hour(22).begin, hour(23).begin);
    let totals = app.storage.total(&recent, &[label("id")], Page::ALL).await.unwrap();
    assert_eq!(totals.total, 3);
    loki.flush();
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "69");
    assert_eq!(app.get(path).await.status, 200);
}

#[tokio::test]
async fn the_newest_period_shows_at_once_in_a_stock_loki() {
    // With the reference's wait of two periods, the newest one ended two hours
    // ago and began three hours ago, at the edge of what a stock Loki shows.
    let (app, _loki) = double(Limits::stock(), "").await;
    app.storage.put("p1", &frame("p1", 21, 3, "1")).await.unwrap();
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "3");
}

#[tokio::test]
async fn queries_are_parted_to_fit() {
    let tight = Limits {
        max_query_series: 7,
        max_entries_limit_per_query: 40,
        max_query_length: 7_200,
        max_query_text: 700,
        ..Limits::roomy()
    };
    let (app, _loki) = loki_app(tight, "shard_days = 30").await;
    for number in 0..6 {
        for scope in 0..30 {
            let scope = format!("p{scope}");
            app.storage.put(&scope, &frame(&scope, number, 3, "0.5")).await.unwrap();
        }
    }
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "270");
    for (groupby, groups) in [
        (vec![label("id")], 3),
        (vec![label("project_id"), label("id")], 90),
        (vec![GroupKey::Time, label("id")], 18),
        (vec![GroupKey::Time, label("project_id"), label("flavor.name")], 180),
    ] {
        let totals = app.storage.total(&everything(), &groupby, Page::ALL).await.unwrap();
        assert_eq!(totals.total, groups, "{groupby:?}");
        let sum: ratekitty::decimal::Total = totals.rows.iter().map(|row| row.price).collect_sum();
        assert_eq!(sum.value(), decimal("270"), "{groupby:?}");
    }
    assert_eq!(prices(&*app.storage).await.len(), 540);
}

/// What Loki does not read at once is read in parts: summed up, and line by line.
#[tokio::test]
async fn queries_are_parted_to_read_less() {
    let (app, loki) = double(Limits::roomy(), "").await;
    for number in 0..12 {
        app.storage.put("p1", &frame("p1", number, 10, "0.5")).await.unwrap();
    }
    let period: usize = loki.entries().iter().map(|entry| entry.line.len()).sum::<usize>() / 12;
    // Lines of three periods.
    loki.set_limits(Limits { max_query_bytes: 3 * period + 10, ..Limits::roomy() });
    let totals = app.storage.total(&everything(), &[label("id")], Page::ALL).await.unwrap();
    assert_eq!(totals.total, 10);
    assert!(totals.rows.iter().all(|row| row.price == decimal("6")), "{:?}", totals.rows);
    assert_eq!(prices(&*app.storage).await, vec!["0.5"; 120]);
    // Of not even one.
    loki.set_limits(Limits { max_query_bytes: 10, ..Limits::roomy() });
    let error = by_flavor(&*app.storage).await.unwrap_err().to_string();
    assert!(error.contains("max_querier_bytes_read"), "{error}");
}

/// A time that is too long for Loki is found out once, also by who reads lines.
#[tokio::test]
async fn a_time_too_long_for_lines_is_remembered() {
    let limits = Limits { max_query_length: 4 * HOUR, ..Limits::roomy() };
    // Nothing is counted before.
    let (app, loki) = double(limits, "read_cloudkitty_entries = false").await;
    for number in 0..20 {
        app.storage.put("p1", &frame("p1", number, 3, "1")).await.unwrap();
    }
    let mut refused = Vec::new();
    for _ in 0..2 {
        let before = loki.requests().len();
        assert_eq!(prices(&*app.storage).await.len(), 60);
        let requests = &loki.requests()[before..];
        let lines = requests.iter().filter(|request| request.path.ends_with("/query_range"));
        let lengths = lines.map(|request| {
            let time = |wanted| {
                let found = request.parameters.iter().find(|(name, _)| name == wanted);
                found.unwrap().1.parse::<i64>().unwrap()
            };
            time("end") - time("start")
        });
        refused.push(lengths.filter(|length| *length > 4 * HOUR * 1_000_000_000).count());
    }
    assert!(refused[0] > 0 && refused[1] == 0, "{refused:?}");
}

trait CollectSum {
    fn collect_sum(self) -> ratekitty::decimal::Total;
}

impl<I: Iterator<Item = ratekitty::decimal::Decimal>> CollectSum for I {
    fn collect_sum(self) -> ratekitty::decimal::Total {
        self.sum()
    }
}

#[tokio::test]
async fn refusals_say_what_to_change_and_nothing_counts() {
    let cases: [(Limits, i64, &str); 4] = [
        (
            Limits { reject_old_samples_max_age: HOUR, ..Limits::roomy() },
            0,
            "reject_old_samples_max_age",
        ),
        (Limits { max_line_size: 100, ..Limits::roomy() }, 20, "max_line_size"),
        (Limits::roomy(), 30, "clocks"),
        (Limits { max_label_names: 1, ..Limits::roomy() }, 20, "max_label_names_per_series"),
    ];
    for (limits, number, advice) in cases {
        let (app, loki) = double(limits, "retry_budget = 0.2").await;
        let error = app.storage.put("p1", &frame("p1", number, 3, "1")).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains(advice), "{error}");
        assert_eq!((by_type(&*app.storage).await.as_str(), loki.stored()), ("nothing", 0));
    }
}

#[tokio::test]
async fn a_point_too_long_for_loki_is_refused_before() {
    let (app, loki) = double(Limits::roomy(), "").await;
    let mut long = frame("p1", 20, 2, "1");
    std::sync::Arc::make_mut(&mut long.usage[0].1[0].metadata)
        .insert("long".into(), "x".repeat(300_000).into());
    let error = app.storage.put("p1", &long).await.unwrap_err().to_string();
    assert!(error.contains("`cpu` of scope `p1` makes a log line of 300"), "{error}");
    assert_eq!(loki.count("/push"), 0);
}

#[tokio::test]
async fn a_partly_refused_push_does_not_count_until_all_is_in() {
    // One line of three is too long: Loki keeps the other two and says 400.
    let (app, loki) = double(Limits { max_line_size: 600, ..Limits::roomy() }, "").await;
    let mut mixed = frame("p1", 20, 3, "1");
    std::sync::Arc::make_mut(&mut mixed.usage[0].1[1].metadata)
        .insert("long".into(), "x".repeat(600).into());
    let error = app.storage.put("p1", &mixed).await.unwrap_err().to_string();
    assert!(error.contains("max_line_size"), "{error}");
    assert_eq!(loki.stored(), 2);
    assert_eq!(by_type(&*app.storage).await, "nothing");
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "nothing");
    assert_eq!(prices(&*app.storage).await.len(), 0);
    // The same again, once Loki takes it: each entry once.
    loki.set_limits(Limits::roomy());
    app.storage.put("p1", &mixed).await.unwrap();
    assert_eq!(loki.stored(), 3);
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "3");
    assert_eq!(prices(&*app.storage).await, ["1", "1", "1"]);
}

#[tokio::test]
async fn too_much_at_once_is_pushed_in_parts() {
    // A quarter of a megabyte a second, of which one megabyte may be had at once.
    let limits = Limits {
        ingestion_rate_bytes: 256 << 10,
        ingestion_burst_bytes: 256 << 10,
        ..Limits::roomy()
    };
    let (app, loki) = double(limits, "batch_bytes = 400000\nretry_budget = 3").await;
    loki.set_now(0);
    let recent =
        (ratekitty::time::Clock::now(&ratekitty::time::RealClock).timestamp() - START) / HOUR - 2;
    app.storage.put("p1", &frame("p1", recent, 1_000, "1")).await.unwrap();
    assert_eq!(loki.stored(), 1_000);
}

#[tokio::test]
async fn only_lokis_own_word_is_an_acknowledgement() {
    // A gateway that sends pushes elsewhere, to a page that says 200.
    let page = axum::Router::new()
        .route("/login", axum::routing::any(async || "please log in"))
        .fallback(async || axum::response::Redirect::to("/login"));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, page).await });
    for url in [format!("{root}/loki/api/v1"), format!("{root}/login?x=")] {
        let conf = "retry_budget = 0.1";
        let app = TestApp::with_loki("2026-11-02T00:00:00Z", &url, conf, "").await;
        let error = app.storage.put("p1", &frame("p1", 20, 3, "1")).await.unwrap_err();
        assert!(error.to_string().contains("HTTP status"), "{error}");
        assert_eq!(by_type_of_heads(&app).await, 0);
    }
}

/// Heads that are there.
async fn by_type_of_heads(app: &TestApp) -> usize {
    use sea_orm::ConnectionTrait;
    let sql = "SELECT id FROM ratekitty_dataframes".to_owned();
    let connection = app.database.connection();
    let backend = connection.get_database_backend();
    let rows = connection.query_all_raw(sea_orm::Statement::from_string(backend, sql)).await;
    rows.unwrap().len()
}

#[tokio::test]
async fn a_window_of_all_times_is_answered() {
    let (app, loki) = double(Limits::roomy(), "").await;
    app.storage.put("p1", &frame("p1", 0, 3, "1")).await.unwrap();
    for (begin, end) in [("0001-01-01", "9999-12-31"), ("1970-01-01", "2100-01-01")] {
        let path = format!("/v2/summary?begin={begin}&end={end}&groupby=flavor.name");
        let answer = app.get(&path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["results"][0][3], 3.0, "{answer:?}");
        let answer = app.get(&format!("/v2/dataframes?begin={begin}&end={end}")).await;
        assert_eq!(answer.json()["total"], 3);
    }
    assert!(loki.requests().len() < 3_000, "{}", loki.requests().len());
}

#[tokio::test]
async fn what_comes_into_sight_during_a_read_is_no_part_of_it() {
    let (app, loki) = double(Limits::stock(), "").await;
    for number in 0..23 {
        app.storage.put("p1", &frame("p1", number, 3, "1")).await.unwrap();
    }
    // Reads begin over and over while the ingester flushes.
    let reads = tokio::spawn({
        let storage = app.storage.clone();
        async move {
            let mut answers = Vec::new();
            while answers.last().is_none_or(|answer| answer == "hidden") {
                let answer = by_flavor(&*storage).await;
                answers.push(answer.unwrap_or_else(|_| "hidden".to_owned()));
            }
            answers
        }
    });
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    loki.flush();
    assert_eq!(reads.await.unwrap().last().unwrap(), "69");
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let (app, loki) = double(Limits::roomy(), "").await;
    loki.faults().next(Kind::Push, 1, Fault::TooManyRequests(Some(2)));
    let start = std::time::Instant::now();
    app.storage.put("p1", &frame("p1", 20, 3, "1")).await.unwrap();
    assert!(start.elapsed().as_secs_f64() >= 2.0, "{:?}", start.elapsed());
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "3");
}

#[tokio::test]
async fn loki_that_stays_away_costs_no_point() {
    let (app, loki) = double(Limits::roomy(), "retry_budget = 0.3").await;
    app.storage.put("p1", &frame("p1", 20, 3, "1")).await.unwrap();
    loki.faults().random(Kind::Any, 1, 1.0, &[Fault::Status(503)]);
    let error = app.storage.put("p1", &frame("p1", 21, 3, "1")).await.unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    let error = by_flavor(&*app.storage).await.unwrap_err();
    assert!(matches!(error, StorageError::Loki(_)), "{error}");
    assert_eq!(app.get("/v2/summary?groupby=id").await.status, 503);
    loki.faults().clear();
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "3");
    // With other prices, as if a rule had changed between the two tries.
    app.storage.put("p1", &frame("p1", 21, 3, "5")).await.unwrap();
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "18");
    assert_eq!(prices(&*app.storage).await, ["1", "1", "1", "5", "5", "5"]);
}
