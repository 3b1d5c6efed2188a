//! `/v2/ratekitty/status`: what the processor notes, and what the API tells of it.

use std::sync::Arc;

use axum::http::StatusCode;
use ratekitty::{
    processor::Progress,
    state::{processors, scopes},
};
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{Cloud, Db, TestApp, cloud::METRICS, until};

const NOW: &str = "2026-11-01T05:00:00Z";
const STATUS: &str = "/v2/ratekitty/status";

async fn status(app: &TestApp, query: &str) -> Value {
    let answer = app.get(&format!("{STATUS}?{query}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()
}

/// Identifiers of a list of scopes or failures.
fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["scope_id"].as_str().unwrap()).collect()
}

/// A cycle, and how many scopes failed.
async fn rate(app: &TestApp) -> usize {
    let (progress, stop) = (Arc::new(Progress::quiet()), CancellationToken::new());
    app.pipeline().run_once(&progress, &stop).await.unwrap().failed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_fails_is_shown_until_it_is_mended() {
    let cloud = Cloud::start(3, 1).await;
    let conf = format!("{}wait_periods = 1\n", cloud.conf());
    for db in Db::ALL {
        let app = TestApp::on(db, NOW, &conf, METRICS).await;
        assert_eq!(rate(&app).await, 0);
        assert_eq!(status(&app, "").await["failing"], 0, "{db:?}");
        // Nobody answers for two hours.
        cloud.set_down(true);
        app.clock.set("2026-11-01T07:30:00Z".parse().unwrap());
        assert_eq!(rate(&app).await, 3);
        app.clock.set("2026-11-01T07:31:00Z".parse().unwrap());
        assert_eq!(rate(&app).await, 3);
        let told = status(&app, "").await;
        assert_eq!(told["failing"], 3, "{db:?}");
        let failure = &told["failures"][0];
        assert_eq!(failure["scope_id"], "s0");
        assert_eq!(failure["begin"], "2026-11-01T04:00:00+00:00", "{db:?}");
        assert_eq!(failure["end"], "2026-11-01T05:00:00+00:00");
        assert_eq!(failure["failed"], "2026-11-01T07:31:00+00:00");
        assert_eq!((&failure["stage"], &failure["tries"]), (&json!("collect"), &json!(2)));
        assert!(failure["error"].as_str().unwrap().contains("502"), "{failure}");
        assert_eq!(told["behind"], json!({"scopes": 3, "periods": 9, "lag_seconds": 9_059}));
        assert_eq!(names(&status(&app, "search=S1").await["failures"]), ["s1"]);
        assert_eq!(names(&status(&app, "limit=2").await["failures"]), ["s0", "s1"]);
        // The first period goes, and nothing is written for that.
        cloud.set_down(false);
        assert_eq!(rate(&app).await, 0);
        let told = status(&app, "").await;
        assert_eq!((&told["failing"], &told["failures"]), (&json!(0), &json!([])), "{db:?}");
        assert_eq!(told["behind"], json!({"scopes": 0, "periods": 0, "lag_seconds": 0}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rating_does_without_notes() {
    let cloud = Cloud::start(2, 1).await;
    let conf = format!("{}wait_periods = 1\n", cloud.conf());
    for db in Db::ALL {
        let app = TestApp::on(db, NOW, &conf, METRICS).await;
        for table in ["ratekitty_failures", "ratekitty_processors"] {
            let sql = format!("DROP TABLE {table}");
            app.database.connection().execute_unprepared(&sql).await.unwrap();
        }
        cloud.set_down(true);
        assert_eq!(rate(&app).await, 2, "{db:?}");
        cloud.set_down(false);
        // The whole processor, which notes that it runs.
        let (pipeline, stop) = (app.pipeline(), CancellationToken::new());
        let keys = pipeline.keys().clone();
        let running = tokio::spawn({
            let stop = stop.clone();
            async move { pipeline.run(&stop).await }
        });
        let rated = async || {
            let state = scopes::overview(&app.database, &keys).await.unwrap();
            state.len() == 2
                && state
                    .values()
                    .all(|state| state.last_processed.timestamp() % 86_400 == 3 * 3_600)
        };
        until("both scopes to be rated", rated).await;
        stop.cancel();
        running.await.unwrap();
        assert_eq!(app.get(STATUS).await.status, StatusCode::SERVICE_UNAVAILABLE, "{db:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_is_shown_while_it_runs() {
    let cloud = Cloud::start(2, 3).await;
    for db in Db::ALL {
        let app = TestApp::on(db, NOW, &cloud.conf(), METRICS).await;
        // One that was killed long ago.
        let lost = "INSERT INTO ratekitty_processors VALUES \
                    ('x', 'gone', 1, '0', 1, 1793404800, 1, 1, '')";
        app.database.connection().execute_unprepared(lost).await.unwrap();
        let (pipeline, stop) = (app.pipeline(), CancellationToken::new());
        let running = tokio::spawn({
            let stop = stop.clone();
            async move { pipeline.run(&stop).await }
        });
        let shown = async || status(&app, "").await["processors"].clone();
        let is_alone = async || {
            shown().await.as_array().is_some_and(|all| all.len() == 1 && all[0]["host"] != "gone")
        };
        until("the processor to be shown", is_alone).await;
        let processor = &shown().await[0];
        assert_eq!(processor["pid"], std::process::id(), "{db:?}");
        assert_eq!(processor["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(processor["started"], "2026-11-01T05:00:00+00:00");
        assert_eq!(processor["problem"], Value::Null);
        assert!(processor["points"].is_u64() && processor["periods"].is_u64(), "{processor}");
        stop.cancel();
        running.await.unwrap();
        assert_eq!(shown().await, json!([]), "{db:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_knows_no_scopes_says_so() {
    // Nobody listens.
    let url = "http://127.0.0.1:1/api/v1";
    let app = TestApp::with_prometheus(NOW, url, "", METRICS).await;
    let (pipeline, stop) = (app.pipeline(), CancellationToken::new());
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { pipeline.run(&stop).await }
    });
    let says_so = async || {
        let all = processors::list(&app.database).await.unwrap();
        all.iter().any(|processor| processor.problem.contains("127.0.0.1:1"))
    };
    until("the processor to say so", says_so).await;
    let told = status(&app, "").await;
    assert!(told["processors"][0]["problem"].is_string(), "{told}");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn scopes_come_by_how_far_they_are_behind() {
    for db in Db::ALL {
        let app = TestApp::on(db, NOW, "[collect]\nwait_periods = 1\n", METRICS).await;
        let keys = app.state().keys;
        let hour = |hour: i64| ratekitty::time::seconds(1_793_491_200 + hour * 3_600);
        let all = [("late", 1), ("fine-B", 3), ("fine-a", 3), ("worst<b>", -20), ("off", -99)];
        for (name, last) in all {
            let connection = app.database.connection();
            scopes::add(connection, name, &keys, hour(last), hour(0)).await.unwrap();
        }
        scopes::set_active(&app.database, "off", &keys, false, hour(0)).await.unwrap();
        let told = status(&app, "").await;
        let expected = ["worst<b>", "late", "fine-B", "fine-a", "off"];
        assert_eq!(names(&told["scopes"]), expected, "{db:?}");
        assert_eq!(told["total"], 5);
        assert_eq!(told["period_seconds"], 3_600);
        assert_eq!(told["wait_periods"], 1);
        assert_eq!(told["scope_key"], "project_id");
        assert_eq!(
            told["scopes"][1],
            json!({
                "scope_id": "late", "active": true, "rated_until": "2026-11-01T02:00:00+00:00",
                "periods_behind": 2, "lag_seconds": 7_199,
            })
        );
        assert_eq!(told["scopes"][4]["lag_seconds"], 0);
        let page = status(&app, "offset=1&limit=2").await;
        assert_eq!((names(&page["scopes"]), &page["total"]), (vec!["late", "fine-B"], &json!(5)));
        let found = status(&app, "search=FINE-").await;
        assert_eq!(
            (names(&found["scopes"]), &found["total"]),
            (vec!["fine-B", "fine-a"], &json!(2))
        );
        assert_eq!(names(&status(&app, "search=%25").await["scopes"]), [""; 0]);
        for query in ["limit=0", "offset=-1", "limit=x", "sort=name", "search=a&search=b"] {
            let answer = app.get(&format!("{STATUS}?{query}")).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}: {}", answer.text);
        }
    }
}
