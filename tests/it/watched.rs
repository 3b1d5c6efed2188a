//! How the daemon is watched: its page for Prometheus, and the alert rules and
//! dashboards that read it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::http::StatusCode;
use ratekitty::{
    http::{self, ClientSettings},
    instruments::{Answered, Asked, instruments},
    processor::Progress,
    state::scopes,
    time::Clock,
};
use regex::Regex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    storage::loki_app_on,
    support::{Cloud, Db, TestApp, cloud::METRICS, fake_loki::Limits, servers::free_port, until},
};

const NOW: &str = "2026-11-01T05:00:00Z";

fn config(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

/// The value of a series on a page.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_tells_what_was_done_and_what_is_to_do() {
    let version = env!("CARGO_PKG_VERSION");
    let build = &format!("ratekitty_build_info{{version=\"{version}\",storage=\"sql\"}}");
    let cloud = Cloud::start(3, 2).await;
    let conf = format!("{}wait_periods = 1\n", cloud.conf());
    for db in Db::ALL {
        let app = TestApp::on(db, NOW, &conf, METRICS).await;
        let before = app.get("/metrics").await;
        assert_eq!(before.status, StatusCode::OK);
        assert_eq!(before.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        // Instruments are the process's, and so of all databases here.
        let done = |page: &str| {
            value(page, "ratekitty_points_rated_total{work=\"rating\"}").unwrap_or_default()
        };
        assert_eq!(app.rate().await.failed, 0);
        let page = app.get("/metrics").await.text;
        assert_eq!(done(&page) - done(&before.text), (3 * 2 * 4) as f64, "{db:?}: {page}");
        for (series, expected) in [
            ("ratekitty_scopes_active", 3.0),
            ("ratekitty_scopes_behind", 0.0),
            ("ratekitty_periods_behind", 0.0),
            ("ratekitty_lag_seconds", 0.0),
            ("ratekitty_state_database_up", 1.0),
            (build, 1.0),
        ] {
            assert_eq!(value(&page, series), Some(expected), "{db:?}: {series}\n{page}");
        }
        // Nobody rates for two hours and a half, and one scope is switched off.
        app.clock.set("2026-11-01T07:30:00Z".parse().unwrap());
        let keys = app.pipeline().keys().clone();
        let off = scopes::get(&app.database, "s1", &keys).await.unwrap().unwrap();
        let body = json!({"scope_id": off.identifier, "active": false});
        let request = axum::http::Request::patch("/v2/scope")
            .header("content-type", "application/json")
            .body(body.to_string().into());
        let answer = app.request(request.unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let page = app.get("/metrics").await.text;
        for (series, expected) in [
            ("ratekitty_scopes_active", 2.0),
            ("ratekitty_scopes_inactive", 1.0),
            ("ratekitty_scopes_behind", 2.0),
            ("ratekitty_periods_behind", 2.0 * 3.0),
            // The period that began at four was due a second after five.
            ("ratekitty_lag_seconds", 2.5 * 3_600.0 - 1.0),
        ] {
            assert_eq!(value(&page, series), Some(expected), "{db:?}: {series}\n{page}");
        }
        // Who may read the page may not know who is rated.
        for scope in ["s0", "s1", "s2"] {
            assert!(!page.contains(&format!("\"{scope}\"")), "{scope}\n{page}");
        }
        let route = "{method=\"PATCH\",route=\"/v2/scope\",status=\"200\"}";
        assert!(value(&page, &format!("ratekitty_api_answers_total{route}")).is_some(), "{page}");
        assert_eq!(app.get("/livez").await.text, "ok\n");
        assert_eq!(app.get("/readyz").await.text, "ok\n");
    }
    // What cannot be collected is counted by what failed.
    cloud.set_down(true);
    let app =
        TestApp::new(NOW, &format!("{conf}[ratekitty]\nhttp_retry_budget = 0\n"), METRICS).await;
    app.clock.set("2026-11-01T09:30:00Z".parse().unwrap());
    let begin = "2026-11-01T04:00:00Z".parse().unwrap();
    let keys = app.pipeline().keys().clone();
    scopes::add(app.database.connection(), "s0", &keys, begin, begin).await.unwrap();
    let (progress, stop) = (Arc::new(Progress::quiet()), CancellationToken::new());
    assert!(app.pipeline().run_once(&progress, &stop).await.unwrap().failed > 0);
    let page = app.get("/metrics").await.text;
    let failures =
        "ratekitty_requests_total{peer=\"prometheus\",request=\"query\",outcome=\"failed\"}";
    assert!(value(&page, failures).unwrap() >= 1.0, "{page}");
    let failures = "ratekitty_scope_failures_total{work=\"rating\",reason=\"collect\"}";
    assert!(value(&page, failures).unwrap() >= 1.0, "{page}");
}

#[tokio::test]
async fn the_page_of_the_api_can_be_switched_off() {
    let app = TestApp::new(NOW, "[ratekitty]\napi_metrics = false\n", "").await;
    assert_eq!(app.get("/metrics").await.status, StatusCode::NOT_FOUND);
    assert_eq!(app.get("/readyz").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_is_watched_on_a_port_of_its_own() {
    let cloud = Cloud::start(2, 1).await;
    let dir = tempfile::tempdir().unwrap();
    let metrics = dir.path().join("metrics.yml");
    std::fs::write(&metrics, METRICS).unwrap();
    let (conf, port) = (dir.path().join("cloudkitty.conf"), free_port());
    let text = format!(
        "[storage]\nbackend = sql\n[fetcher]\nbackend = prometheus\n[ratekitty]\nstate_path = {}\n\
         processor_listen = 127.0.0.1:{port}\n[orchestrator]\ncoordination_url = file://{}\n\
         {}metrics_conf = {}\n",
        dir.path().display(),
        dir.path().display(),
        cloud.conf(),
        metrics.display()
    );
    std::fs::write(&conf, text).unwrap();
    let _running = tokio::process::Command::new(env!("CARGO_BIN_EXE_ratekitty"))
        .arg("--config-file")
        .arg(&conf)
        .arg("processor")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let client = http::client(&ClientSettings::default()).unwrap();
    let get = async |path: &str| {
        let answer = client.get(format!("http://127.0.0.1:{port}{path}")).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    };
    until("its page", || async { get("/metrics").await.is_some() }).await;
    until("scopes to be found", || async {
        let (status, page) = get("/metrics").await.unwrap();
        status == 200 && value(&page, "ratekitty_scopes_found") == Some(2.0)
    })
    .await;
    assert_eq!(get("/livez").await, Some((200, "ok\n".to_owned())));
    assert_eq!(get("/readyz").await, Some((200, "ok\n".to_owned())));
    assert_eq!(get("/v2/summary").await.unwrap().0, 404);
}

/// What alert rules and the dashboard of the daemon ask Prometheus.
fn questions() -> Vec<String> {
    let text = std::fs::read_to_string(config("prometheus/alerts.yml")).unwrap();
    let rules: Value = serde_yaml::from_str(&text).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap().clone();
    assert!(rules.len() > 5);
    let alerts = rules.iter().map(|rule| rule["expr"].as_str().unwrap().to_owned());
    let panels = panels("grafana/daemon.json").into_iter();
    let panels =
        panels.map(|expr| expr.replace("$__rate_interval", "5m").replace("\"$job\"", "\".+\""));
    alerts.chain(panels).collect()
}

/// The questions of a dashboard.
fn panels(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(config(name)).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let questions: Vec<_> =
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    assert!(questions.len() > 5, "{name}");
    questions
}

#[tokio::test]
async fn alert_rules_and_dashboard_ask_for_what_there_is() {
    let app = TestApp::new(NOW, "", "").await;
    // What never happened is not on the page, but for what it is bad to miss.
    let (instruments, took) = (instruments(), Duration::from_secs(1));
    instruments.asked(Asked::LokiPush, Answered::Refused, took);
    instruments.locked(true, took);
    instruments.module_took("hashmap", took);
    assert_eq!(app.get("/v2/scope").await.status, StatusCode::NOT_FOUND);
    let page = app.get("/metrics").await.text;
    let typed = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let there: BTreeSet<&str> = typed.filter_map(|line| line.split(' ').next()).collect();
    let name = Regex::new(r"\b(?:ratekitty|process)_[a-z_]+").unwrap();
    let suffix = Regex::new("_(?:bucket|sum|count)$").unwrap();
    let questions = questions();
    for question in &questions {
        let mut names = name.find_iter(question).peekable();
        assert!(names.peek().is_some(), "{question}");
        for name in names {
            let base = suffix.replace(name.as_str(), "");
            let is_there = [name.as_str(), &base, base.trim_end_matches("_total")]
                .iter()
                .any(|name| there.contains(name));
            assert!(is_there, "{} of `{question}` is not on the page\n{page}", name.as_str());
        }
    }
    // And Prometheus understands them.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("questions.yml");
    let rules: Vec<_> = (questions.iter().enumerate())
        .map(|(at, expr)| json!({"record": format!("r{at}"), "expr": expr}))
        .collect();
    let rules = json!({"groups": [{"name": "questions", "rules": rules}]});
    std::fs::write(&file, rules.to_string()).unwrap();
    for file in [config("prometheus/alerts.yml"), file] {
        let check = Command::new("promtool").arg("check").arg("rules").arg(&file).output().unwrap();
        let told = String::from_utf8_lossy(&check.stderr);
        assert!(check.status.success(), "{}: {told}", file.display());
    }
}

#[tokio::test]
async fn the_dashboard_of_costs_reads_what_is_stored() {
    let (app, _loki) = loki_app_on(Db::Sqlite, Limits::roomy(), "").await;
    let point = |price: f64, id: &str| {
        json!({"vol": {"unit": "u", "qty": 2}, "rating": {"price": price},
            "groupby": {"id": id, "project_id": "p1"}, "metadata": {}})
    };
    let frame = json!({"dataframes": [{
        "period": {"begin": "2026-11-01T01:00:00Z", "end": "2026-11-01T02:00:00Z"},
        "usage": {"instance": [point(1.5, "a"), point(2.25, "b")], "volume": [point(4.0, "c")]},
    }]});
    let request = axum::http::Request::post("/v2/dataframes")
        .header("content-type", "application/json")
        .body(frame.to_string().into());
    let answer = app.request(request.unwrap()).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);
    let client = http::client(&ClientSettings::default()).unwrap();
    let mut totals = Vec::new();
    for question in panels("grafana/costs.json") {
        let question = question
            .replace("$__range", "480h")
            .replace("$__interval", "480h")
            .replace("\"$project\"", "\".+\"");
        let url = format!("{}/query", app.config.storage_loki.read_url);
        let time = app.clock.now().timestamp().to_string();
        let answer = client
            .get(url)
            .header("X-Scope-OrgID", &app.config.storage_loki.tenant)
            .query(&[("query", question.as_str()), ("time", time.as_str())])
            .send()
            .await
            .unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{question}: {text}");
        let found: Value = serde_json::from_str(&text).unwrap();
        let values = found["data"]["result"].as_array().unwrap().iter();
        let values = values.map(|row| row["value"][1].as_str().unwrap().parse::<f64>().unwrap());
        totals.push(values.sum::<f64>());
    }
    // The total, entries, and then costs, by whatever, but for one panel of quantities.
    assert_eq!(totals, [7.75, 3.0, 7.75, 7.75, 7.75, 6.0, 7.75]);
}
