//! Changing rules over the API: what many do at once, and what only some
//! databases mind.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Db, TestApp};

const HASHMAP: &str = "/v1/rating/module_config/hashmap";
const SCRIPTS: &str = "/v1/rating/module_config/pyscripts/scripts";

async fn send(app: &TestApp, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    let answer = app.request(request).await;
    let body = serde_json::from_str(&answer.text).unwrap_or(Value::Null);
    (answer.status, body)
}

async fn post(app: &TestApp, path: &str, body: &Value) -> (StatusCode, Value) {
    send(app, "POST", path, body).await
}

async fn service(app: &TestApp, name: &str) -> String {
    let (status, body) = post(app, &format!("{HASHMAP}/services"), &json!({"name": name})).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    body["service_id"].as_str().unwrap().to_owned()
}

/// Sends the same request from many places at once: one is taken.
async fn race(app: &TestApp, path: &str, body: Value) {
    let answers = join_all((0..8).map(|_| post(app, path, &body))).await;
    let count = |wanted| answers.iter().filter(|(status, _)| *status == wanted).count();
    assert_eq!(count(StatusCode::CREATED), 1, "{path}: {answers:?}");
    assert_eq!(count(StatusCode::CONFLICT), 7, "{path}: {answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_equal_rules_at_once_one_is_made() {
    for db in Db::ALL {
        let app = TestApp::on(db, "2026-11-01T00:00:00Z", "", "").await;
        race(&app, &format!("{HASHMAP}/services"), json!({"name": "same"})).await;
        race(&app, &format!("{HASHMAP}/groups"), json!({"name": "same"})).await;
        race(&app, SCRIPTS, json!({"name": "same", "data": "pass"})).await;
        let id = service(&app, "compute").await;
        race(&app, &format!("{HASHMAP}/fields"), json!({"service_id": id, "name": "same"})).await;
        let mapping = json!({"service_id": id, "cost": "1"});
        race(&app, &format!("{HASHMAP}/mappings"), mapping).await;
        let threshold = json!({"service_id": id, "level": "1", "cost": "1"});
        race(&app, &format!("{HASHMAP}/thresholds"), threshold).await;
        // Names are unique over all services.
        let other = service(&app, "volume").await;
        let named = [&id, &other]
            .map(|id| json!({"service_id": id, "cost": "1", "name": "same", "tenant_id": "t"}));
        let path = format!("{HASHMAP}/mappings");
        let answers = join_all(named.iter().map(|body| post(&app, &path, body))).await;
        let made = answers.iter().filter(|(status, _)| *status == StatusCode::CREATED).count();
        assert_eq!(made, 1, "{db:?}: {answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_set_once() {
    for db in Db::ALL {
        let app = TestApp::on(db, "2026-11-01T00:00:00Z", "", "").await;
        let id = service(&app, "compute").await;
        let (_, mapping) =
            post(&app, &format!("{HASHMAP}/mappings"), &json!({"service_id": id, "cost": "1"}))
                .await;
        let path = format!("{HASHMAP}/mappings/{}", mapping["mapping_id"].as_str().unwrap());
        app.clock.set("2026-11-02T00:00:00Z".parse().unwrap());
        let ends = (3..10).map(|day| json!({"cost": "1", "end": format!("2026-11-{day:02}")}));
        let ends: Vec<_> = ends.collect();
        let answers = join_all(ends.iter().map(|body| send(&app, "PUT", &path, body))).await;
        let changed = answers.iter().filter(|(status, _)| *status == StatusCode::FOUND).count();
        assert_eq!(changed, 1, "{db:?}: {answers:?}");
    }
}

#[tokio::test]
async fn what_a_database_cannot_keep_is_refused() {
    for db in Db::ALL {
        let app = TestApp::on(db, "2026-11-01T00:00:00Z", "", "").await;
        // MariaDB's tables have three bytes for a character, as the reference makes them.
        let path = format!("{HASHMAP}/services");
        let (status, body) = post(&app, &path, &json!({"name": "\u{1f600}"})).await;
        match db {
            Db::Mariadb => {
                assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
                assert!(body["faultstring"].as_str().unwrap().contains("no such character"));
            }
            _ => assert_eq!(status, StatusCode::CREATED, "{db:?}: {body}"),
        }
        let (status, body) = post(&app, &path, &json!({"name": "a\u{0}b"})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{db:?}: {body}");
        // Where names are compared without case, the answer is the same as for the same name.
        assert_eq!(post(&app, &path, &json!({"name": "Compute"})).await.0, StatusCode::CREATED);
        let (status, _) = post(&app, &path, &json!({"name": "compute"})).await;
        let expected = if db == Db::Mariadb { StatusCode::CONFLICT } else { StatusCode::CREATED };
        assert_eq!(status, expected, "{db:?}");
        // A script that does not fit, and one that does however long it is.
        let mut state = 1_u64;
        let noise: String = (0..180_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
            })
            .collect();
        let long = json!({"name": "long", "data": format!("# {}", "x".repeat(1_000_000))});
        assert_eq!(post(&app, SCRIPTS, &long).await.0, StatusCode::CREATED, "{db:?}");
        let full = json!({"name": "full", "data": format!("# {noise}")});
        let (status, body) = post(&app, SCRIPTS, &full).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{db:?}: {body}");
    }
}
