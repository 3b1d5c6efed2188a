//! Peers that fail and input that is bad: a clear error, and nothing lost.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    extract::Query,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::{DateTime, Utc};
use ratekitty::{
    config::{Config, Place, Sources, metrics_yml},
    dataframe::DataFrame,
    state::{Database, Step},
    storage::{
        GroupKey, Mark, Page, PointSink, Replacement, Selection, Storage, StorageError, Totals,
    },
    time::{Clock, Period, RealClock, seconds},
};
use sea_orm::ConnectionTrait;
use serde::Deserialize;

use crate::support::{Prometheus, TestApp};

const METRICS: &str = "metrics:\n  instance:\n    unit: instance\n    groupby: [id]\n";
const NOW: &str = "2026-11-01T03:00:00Z";

#[derive(Deserialize)]
struct Asked {
    query: String,
    time: Option<String>,
    start: Option<String>,
    end: Option<String>,
    step: Option<usize>,
}

/// A Prometheus that has no range queries, so that each scope and period is asked for.
async fn fake(answer: impl Fn(&str) -> Response + Clone + Send + Sync + 'static) -> String {
    let route = get(async move |Query(asked): Query<Asked>| answer(&asked.query));
    serve(Router::new().route("/api/v1/query", route)).await
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/api/v1")
}

fn vector(series: &[(&str, &str)]) -> Response {
    let series: Vec<String> = series
        .iter()
        .map(|(scope, value)| {
            format!(r#"{{"metric":{{"project_id":"{scope}","id":"x"}},"value":[0,"{value}"]}}"#)
        })
        .collect();
    format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#,
        series.join(",")
    )
    .into_response()
}

/// A Prometheus that knows some scopes, each of which uses one of each of some
/// things in every period, and is asked for many of both at once.
pub async fn busy_cloud(scopes: usize, things: usize) -> String {
    let answer = move |asked: &Asked| {
        let of_scopes = asked
            .query
            .split_once("project_id=")
            .map(|(_, list)| list.trim_start_matches('~').split('"').nth(1).unwrap().to_owned());
        let at = |time: &str| DateTime::parse_from_rfc3339(time).unwrap().timestamp();
        let values = match (&asked.start, &asked.end, asked.step) {
            (Some(start), Some(end), Some(step)) => {
                let times = (at(start)..=at(end)).step_by(step);
                let values: Vec<_> = times.map(|time| format!(r#"[{time},"1"]"#)).collect();
                format!(r#""values":[{}]"#, values.join(","))
            }
            _ => format!(r#""value":[{},"1"]"#, asked.time.as_deref().map_or(0, at)),
        };
        let series = |scope: &str, id: usize| {
            format!(r#"{{"metric":{{"project_id":"{scope}","id":"{id}"}},{values}}}"#)
        };
        let series: Vec<String> = match &of_scopes {
            Some(list) => {
                list.split('|').flat_map(|scope| (0..things).map(|id| series(scope, id))).collect()
            }
            None => (0..scopes).map(|scope| series(&format!("s{scope}"), 0)).collect(),
        };
        let kind = if asked.start.is_some() { "matrix" } else { "vector" };
        let series = series.join(",");
        format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":[{series}]}}}}"#)
            .into_response()
    };
    let route = || get(async move |Query(asked): Query<Asked>| answer(&asked));
    serve(Router::new().route("/api/v1/query", route()).route("/api/v1/query_range", route())).await
}

/// Scopes a and b; what the scopes used is `usage`'s to say.
fn two_scopes(
    usage: impl Fn(&str) -> Response + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Response + Clone + Send + Sync + 'static {
    move |query| {
        if query.contains("_over_time") { usage(query) } else { vector(&[("a", "1"), ("b", "1")]) }
    }
}

async fn app(url: &str) -> TestApp {
    TestApp::with_prometheus(NOW, url, "wait_periods = 1", METRICS).await
}

fn everything() -> Selection {
    Selection::all(seconds(0), seconds(4_000_000_000))
}

async fn points(app: &TestApp) -> u64 {
    app.storage.retrieve(&everything(), Page::ALL).await.unwrap().total
}

/// The error of collecting one period of scope `a`.
async fn collect_error(url: &str) -> String {
    let app = app(url).await;
    let metrics = metrics_yml::parse(METRICS, "m", "project_id").unwrap();
    let period = Period::starting(seconds(1_793_491_200), 3_600);
    let collector = app.pipeline().collector.clone();
    collector.collect(&metrics.metrics[0], "a", period).await.unwrap_err().to_string()
}

#[tokio::test]
async fn an_unreachable_prometheus_is_named() {
    let app = app("http://user:secret@127.0.0.1:1/api/v1").await;
    let error = app.pipeline().fetcher.scopes().await.unwrap_err().to_string();
    assert!(error.contains("cannot reach Prometheus at http://127.0.0.1:1/api/v1"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[tokio::test]
async fn html_is_no_data() {
    let url = fake(|_| "<html>Welcome</html>".into_response()).await;
    let error = collect_error(&url).await;
    assert!(
        error.contains("instance") && error.contains("check that the URL ends in /api/v1"),
        "{error}"
    );
}

#[tokio::test]
async fn refusals_tell_query_and_reason() {
    let url = fake(|_| {
        let body = r#"{"status":"error","errorType":"bad_data","error":"1:5: parse error"}"#;
        (StatusCode::BAD_REQUEST, body).into_response()
    })
    .await;
    let error = collect_error(&url).await;
    assert!(
        error.contains("bad_data: 1:5: parse error") && error.contains("max_over_time(instance"),
        "{error}"
    );
}

#[tokio::test]
async fn a_passing_fault_is_tried_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let url = fake(move |_| {
        if counted.fetch_add(1, Ordering::SeqCst) < 1 {
            (StatusCode::SERVICE_UNAVAILABLE, "overloaded").into_response()
        } else {
            vector(&[("a", "1")])
        }
    })
    .await;
    let app = app(&url).await;
    assert_eq!(app.pipeline().fetcher.scopes().await.unwrap(), ["a"]);
    assert_eq!(tries.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_failing_scope_stops_no_other_and_is_tried_again() {
    let broken = Arc::new(AtomicUsize::new(1));
    let state = broken.clone();
    let url = fake(two_scopes(move |query| {
        if query.contains("\"a\"") && state.load(Ordering::SeqCst) == 1 {
            "<html>".into_response()
        } else if query.contains("\"a\"") {
            vector(&[("a", "1")])
        } else {
            vector(&[("b", "1")])
        }
    }))
    .await;
    let app = app(&url).await;
    let outcome = app.rate().await;
    assert_eq!((outcome.scopes, outcome.failed), (2, 1));
    // Hours 0 and 1 of scope b, nothing of scope a, whose state does not move.
    assert_eq!(points(&app).await, 2);
    let scopes = app.get("/v2/scope").await.json();
    assert_eq!(scopes["results"].as_array().unwrap().len(), 1);

    broken.store(0, Ordering::SeqCst);
    assert_eq!(app.rate().await.failed, 0);
    assert_eq!(points(&app).await, 4);
}

#[tokio::test]
async fn a_series_of_another_scope_is_not_billed() {
    let url = fake(|_| vector(&[("b", "1")])).await;
    let error = collect_error(&url).await;
    assert!(error.contains("scope `a`") && error.contains("scope `b`"), "{error}");
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_refused() {
    let url = fake(|_| "x".repeat(10_000).into_response()).await;
    let conf = format!(
        "wait_periods = 1\n[ratekitty]\nmax_response_bytes = 2000\n[collector_prometheus]\nprometheus_url = {url}"
    );
    let app = TestApp::with_prometheus(NOW, &url, &conf, METRICS).await;
    let error = app.pipeline().fetcher.scopes().await.unwrap_err().to_string();
    assert!(error.contains("max_response_bytes = 2000"), "{error}");
}

#[tokio::test]
async fn a_failed_store_moves_nothing() {
    let url = fake(two_scopes(|query| {
        if query.contains("\"a\"") { vector(&[("a", "1")]) } else { vector(&[("b", "1")]) }
    }))
    .await;
    let app = app(&url).await;
    let broken = "CREATE TRIGGER full BEFORE INSERT ON ratekitty_points \
                  BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
    app.database.connection().execute_unprepared(broken).await.unwrap();
    assert_eq!(app.rate().await.failed, 2);
    assert_eq!(points(&app).await, 0);
    assert_eq!(app.get("/v2/scope").await.status, 404);
    app.database.connection().execute_unprepared("DROP TRIGGER full").await.unwrap();
    assert_eq!(app.rate().await.failed, 0);
    assert_eq!(points(&app).await, 4);
}

#[tokio::test]
async fn a_broken_database_is_a_503() {
    let app = app("http://127.0.0.1:1/api/v1").await;
    app.database.connection().close_by_ref().await.unwrap();
    for path in ["/v2/summary", "/v2/dataframes", "/v2/scope"] {
        let answer = app.get(path).await;
        assert_eq!(answer.status, 503, "{path}");
        assert_eq!(answer.json()["message"], "The service is temporarily unavailable.");
    }
    assert_eq!(app.get("/healthcheck").await.status, 200);
}

#[tokio::test]
async fn a_state_folder_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    // Root may write anywhere but below a file.
    std::fs::write(dir.path().join("file"), "").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    let conf = dir.path().join("file/state");
    let sources = Sources::read(&[] as &[Place])
        .unwrap()
        .with_environment([("OS_RATEKITTY__STATE_PATH".to_owned(), conf.display().to_string())]);
    let config = Config::from_sources(&sources).unwrap();
    let error = Database::connect(&config.database).await.unwrap_err().to_string();
    assert!(error.contains("[database] connection") && error.contains("file/state"), "{error}");
}

/// A storage before which someone always moves the scopes.
struct Meddling {
    storage: Arc<dyn Storage>,
    database: Database,
}

#[async_trait::async_trait]
impl Storage for Meddling {
    async fn replace_all(&self, replacements: &[Replacement<'_>]) -> Result<(), StorageError> {
        let now: i64 = rand::random_range(10..21);
        let scopes: Vec<_> = replacements.iter().map(|one| format!("'{}'", one.scope_id)).collect();
        let reset = format!(
            "UPDATE cloudkitty_storage_states SET last_processed_timestamp = '2026-10-31 {now}:00:00' \
             WHERE identifier IN ({})",
            scopes.join(", ")
        );
        self.database.connection().execute_unprepared(&reset).await.unwrap();
        let result = self.storage.replace_all(replacements).await;
        let reset = reset.replace(&format!(" {now}:"), " 21:");
        self.database.connection().execute_unprepared(&reset).await.unwrap();
        result
    }

    async fn append(&self, frames: &[DataFrame]) -> Result<(), StorageError> {
        self.storage.append(frames).await
    }

    async fn retrieve_into(
        &self,
        selection: &Selection,
        page: Page,
        sink: &mut dyn PointSink,
    ) -> Result<(), StorageError> {
        self.storage.retrieve_into(selection, page, sink).await
    }

    async fn total(
        &self,
        selection: &Selection,
        groupby: &[GroupKey],
        page: Page,
    ) -> Result<Totals, StorageError> {
        self.storage.total(selection, groupby, page).await
    }

    async fn crossing(
        &self,
        scope_id: &str,
        writer: &str,
        time: Period,
    ) -> Result<Option<Period>, StorageError> {
        self.storage.crossing(scope_id, writer, time).await
    }

    async fn mark(&self, selection: &Selection) -> Result<Option<Mark>, StorageError> {
        self.storage.mark(selection).await
    }

    async fn delete(
        &self,
        scope_id: &str,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
        step: &Step<'_>,
    ) -> Result<(), StorageError> {
        self.storage.delete(scope_id, begin, end, step).await
    }
}

#[tokio::test]
async fn a_scope_that_was_moved_meanwhile_stays_where_it_was_put() {
    let url = fake(two_scopes(|query| {
        if query.contains("\"a\"") { vector(&[("a", "1")]) } else { vector(&[("b", "1")]) }
    }))
    .await;
    let mut app = app(&url).await;
    app.rate().await;
    let back =
        "UPDATE cloudkitty_storage_states SET last_processed_timestamp = '2026-11-01 00:00:00'";
    app.database.connection().execute_unprepared(back).await.unwrap();
    // As a reset that comes between rating and storing.
    let honest = app.storage.clone();
    app.storage = Arc::new(Meddling { storage: honest.clone(), database: app.database.clone() });
    assert_eq!(app.rate().await.failed, 2);
    let scopes = app.get("/v2/scope").await.json();
    assert_eq!(scopes["results"][0]["last_processed_timestamp"], "2026-10-31T21:00:00+00:00");
    app.storage = honest;
    // Then it is rated from there, and nothing counts twice.
    assert_eq!(app.rate().await.failed, 0);
    assert_eq!(points(&app).await, 2 * 4);
}

#[tokio::test]
async fn different_skip_expressions_for_one_type_are_refused() {
    let metrics = "metrics:\n  a: {unit: u, alt_name: t, skip_datapoints_expression: 'True'}\n  b: {unit: u, alt_name: t}\n";
    let app = TestApp::with_prometheus(NOW, "http://127.0.0.1:1", "", metrics).await;
    let error = app.try_pipeline().err().unwrap().to_string();
    assert!(error.contains("type `t` have different"), "{error}");
}

#[tokio::test]
async fn too_many_values_are_the_clients_mistake() {
    let app = app("http://127.0.0.1:1").await;
    let answer = app.get(&format!("/v2/scope?scope_id={}", ",x".repeat(2_000))).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text.contains("at most 1000"));
}

/// A Prometheus behind TLS and a password.
#[tokio::test]
async fn tls_and_password_are_used_as_configured() {
    const PASSWORD: &str = "pa:ss \"word";
    // That of `PASSWORD`, by bcrypt.
    const HASH: &str = "$2b$04$EWgAq/yuH/ewU.DIv7UesuC9xyUWNGr2njzt7iSRrsfghHtIH6dvO";
    let dir = tempfile::tempdir().unwrap();
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, certificate.cert.pem()).unwrap();
    std::fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
    let web = format!(
        "tls_server_config: {{cert_file: {}, key_file: {}}}\nbasic_auth_users: {{rater: '{HASH}'}}\n",
        cert.display(),
        key.display()
    );
    let now = RealClock.now().timestamp();
    let sample =
        format!("# TYPE scope_info gauge\nscope_info{{project_id=\"p\"}} 1 {now}\n# EOF\n");
    let prometheus = Prometheus::start_with(&sample, &web).await;
    let scopes = async |options: &str| {
        let conf = format!("wait_periods = 1\n[fetcher_prometheus]\n{options}");
        let app = TestApp::with_prometheus(NOW, &prometheus.url, &conf, METRICS).await;
        app.pipeline().fetcher.scopes().await.map_err(|error| error.to_string())
    };
    let cert = format!("cafile = {}\n", cert.display());
    let login = format!("prometheus_user = rater\nprometheus_password = {PASSWORD}\n");
    assert_eq!(scopes(&format!("{cert}{login}")).await, Ok(vec!["p".to_owned()]));
    assert_eq!(scopes(&format!("insecure = true\n{login}")).await, Ok(vec!["p".to_owned()]));
    let error = scopes(&login).await.unwrap_err();
    assert!(
        error.contains("cannot reach Prometheus") && error.to_lowercase().contains("certificate"),
        "{error}"
    );
    // A file of certificate authorities is trusted alone, also beside `insecure`.
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let path = dir.path().join("other.pem");
    std::fs::write(&path, other.cert.pem()).unwrap();
    let error = scopes(&format!("insecure = true\ncafile = {}\n{login}", path.display()))
        .await
        .unwrap_err();
    assert!(error.contains("cannot reach Prometheus"), "{error}");
    let error = scopes(&format!("{cert}prometheus_user = rater\nprometheus_password = wrong\n"))
        .await
        .unwrap_err();
    assert!(error.contains("HTTP status 401") && !error.contains("wrong"), "{error}");
    let error = scopes(&cert).await.unwrap_err();
    assert!(error.contains("HTTP status 401"), "{error}");
}

#[tokio::test]
async fn a_slow_answer_is_not_waited_for() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/api/v1", listener.local_addr().unwrap());
    // Takes connections and says nothing.
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            kept.push(socket);
        }
    });
    let conf = "wait_periods = 1\n[fetcher_prometheus]\ntimeout = 0.2";
    let app = TestApp::with_prometheus(NOW, &url, conf, METRICS).await;
    let begin = std::time::Instant::now();
    let error = app.pipeline().fetcher.scopes().await.unwrap_err().to_string();
    assert!(error.contains("cannot reach Prometheus") && error.contains("timed out"), "{error}");
    assert!(begin.elapsed().as_secs() < 5);
}

#[tokio::test]
async fn skipped_points_are_not_stored() {
    let url = fake(two_scopes(|query| {
        if query.contains("\"a\"") { vector(&[("a", "0")]) } else { vector(&[("b", "1")]) }
    }))
    .await;
    let rate = async |expression: &str| {
        let metrics = format!("{METRICS}    skip_datapoints_expression: '{expression}'\n");
        let app = TestApp::with_prometheus(NOW, &url, "wait_periods = 1", &metrics).await;
        (app.rate().await.failed, points(&app).await, app.get("/v2/scope").await.status.as_u16())
    };
    let free = r#"datapoint.get("vol", {}).get("qty", 0) == 0"#;
    assert_eq!(rate(free).await, (0, 2, 200));
    assert_eq!(rate("True").await, (0, 0, 200));
    // What raises in Python fails the scope, and nothing of it is stored.
    assert_eq!(rate(r#"datapoint["nothing"]"#).await, (2, 0, 404));
}
