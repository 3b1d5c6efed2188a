//! `POST /v2/dataframes`: what is pushed is there, once, whatever is beside it.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use serde_json::{Value, json};

use crate::{
    storage::loki_app_on,
    support::{Db, FakeLoki, TestApp, fake_loki::Limits},
};

const NOW: &str = "2026-11-01T12:00:00Z";

async fn apps() -> Vec<(String, TestApp, Option<FakeLoki>)> {
    let mut apps = Vec::new();
    for db in Db::ALL {
        apps.push((format!("sql, {db:?}"), TestApp::on(db, NOW, "", "").await, None));
        let (app, loki) = loki_app_on(db, Limits::roomy(), "").await;
        app.clock.set(NOW.parse().unwrap());
        apps.push((format!("loki, {db:?}"), app, loki));
    }
    apps
}

async fn push(app: &TestApp, body: String) -> (StatusCode, String) {
    let request = Request::post("/v2/dataframes").header(header::CONTENT_TYPE, "application/json");
    let answer = app.request(request.body(Body::from(body)).unwrap()).await;
    (answer.status, answer.text)
}

fn frame(hour: u32, scope: &str, qty: &str, price: &str) -> Value {
    let point = json!({
        "vol": {"unit": "GiB", "qty": qty}, "rating": {"price": price},
        "groupby": {"project_id": scope}, "metadata": {"flavor": "é \u{1f600}"},
    });
    json!({
        "period": {
            "begin": format!("2026-11-01T{hour:02}:00:00+00:00"),
            "end": format!("2026-11-01T{:02}:00:00+00:00", hour + 1),
        },
        "usage": {"volume": [point]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_there() {
    for (name, app, _loki) in apps().await {
        let frames = json!({"dataframes": [
            frame(1, "p1", "1.5", "0.25"), frame(1, "p2", "2", "1"), frame(2, "p1", "1e3", "0.1"),
        ]});
        let (status, text) = push(&app, frames.to_string()).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{name}: {text}");
        let found = app.get("/v2/dataframes").await.json();
        assert_eq!(found["total"], 3, "{name}");
        // Points of one period are one frame.
        assert_eq!(found["dataframes"].as_array().unwrap().len(), 2, "{name}");
        let sums = app.get("/v2/summary?groupby=project_id&response_format=object").await.json();
        let sums: Vec<_> = sums["results"].as_array().unwrap().iter().collect();
        assert_eq!((&sums[0]["qty"], &sums[0]["rate"]), (&json!(1001.5), &json!(0.35)), "{name}");
        assert_eq!((&sums[1]["qty"], &sums[1]["rate"]), (&json!(2.0), &json!(1.0)), "{name}");
        // Of a push with a mistake nothing stays.
        let mut frames = vec![frame(3, "p1", "1", "1"); 5];
        frames.push(frame(3, "p1", "NaN", "1"));
        let (status, text) = push(&app, json!({"dataframes": frames}).to_string()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{name}: {text}");
        assert!(text.contains("not a valid value (path: '['dataframes', 5]')"), "{text}");
        assert_eq!(app.get("/v2/dataframes").await.json()["total"], 3, "{name}");
        // Equal points are two.
        let twice = json!({"dataframes": [frame(4, "p1", "1", "1"), frame(4, "p1", "1", "1")]});
        assert_eq!(push(&app, twice.to_string()).await.0, StatusCode::NO_CONTENT, "{name}");
        assert_eq!(app.get("/v2/dataframes").await.json()["total"], 5, "{name}");
        // One without the scope's label is kept, too.
        let mut nobody = frame(5, "p1", "1", "1");
        nobody["usage"]["volume"][0]["groupby"] = json!({});
        let (status, text) = push(&app, json!({"dataframes": [nobody]}).to_string()).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{name}: {text}");
        assert_eq!(app.get("/v2/dataframes").await.json()["total"], 6, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_hostile_bodies_are_refused() {
    let app = TestApp::on(Db::Sqlite, NOW, "", "").await;
    let large = format!("{{\"dataframes\": [\"{}\"]}}", "x".repeat(65 << 20));
    assert_eq!(push(&app, large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    // What is told back of a body has an end.
    let (status, text) =
        push(&app, format!("{{\"dataframes\": [\"{}\"]}}", "x".repeat(9 << 20))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.len() < 6_000, "{}", text.len());
    for hostile in [
        "[".repeat(100_000),
        format!("{{\"dataframes\": {}{}}}", "[".repeat(1_000), "]".repeat(1_000)),
        "{\"dataframes\": [1e999999]}".to_owned(),
        "{\"dataframes\": [\"\\ud800\"]}".to_owned(),
    ] {
        assert_eq!(push(&app, hostile).await.0, StatusCode::BAD_REQUEST);
    }
    // Many points at once.
    let frames: Vec<Value> = (0..20).map(|hour| frame(hour, "p1", "1", "0.1")).collect();
    let mut frames = frames;
    for frame in &mut frames {
        let point = frame["usage"]["volume"][0].clone();
        frame["usage"]["volume"] = json!(vec![point; 1_000]);
    }
    let (status, text) = push(&app, json!({"dataframes": frames}).to_string()).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{text}");
    let sums = app.get("/v2/summary").await.json();
    assert_eq!(sums["results"][0][2], json!(20_000.0));
    assert_eq!(sums["results"][0][3], json!(2_000.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_loki_refuses_for_good_is_the_clients_mistake() {
    let (app, _loki) = loki_app_on(Db::Sqlite, Limits::roomy(), "").await;
    app.clock.set(NOW.parse().unwrap());
    let mut future = frame(1, "p1", "1", "1");
    future["period"] = json!({"begin": "2031-11-01T00:00:00Z", "end": "2031-11-01T01:00:00Z"});
    let (status, text) = push(&app, json!({"dataframes": [future]}).to_string()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    assert!(text.contains("Loki refused entries"), "{text}");
    // Nothing of it is in the way of the next one.
    let fine = json!({"dataframes": [frame(1, "p1", "1", "1")]});
    assert_eq!(push(&app, fine.to_string()).await.0, StatusCode::NO_CONTENT);
    assert_eq!(app.get("/v2/dataframes").await.json()["total"], 1);
}
