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

/// The reference takes every text for true.
#[tokio::test]
async fn no_is_not_yes() {
    for db in Db::ALL {
        let app = TestApp::on(db, "2026-11-01T00:00:00Z", "", "").await;
        let id = service(&app, "compute").await;
        let (_, group) = post(&app, &format!("{HASHMAP}/groups"), &json!({"name": "g"})).await;
        let path = format!("{HASHMAP}/mappings");
        let rule = |tenant: &str, start: &str| json!({"service_id": id, "cost": "1", "tenant_id": tenant, "start": start});
        let (_, deleted) = post(&app, &path, &rule("deleted", "2026-11-01")).await;
        let deleted = deleted["mapping_id"].as_str().unwrap().to_owned();
        assert_eq!(
            send(&app, "DELETE", &format!("{path}/{deleted}"), &json!({})).await.0,
            StatusCode::NO_CONTENT
        );
        let mut grouped = rule("grouped", "2026-11-01");
        grouped["group_id"] = group["group_id"].clone();
        for body in [grouped, rule("later", "2026-12-01")] {
            assert_eq!(post(&app, &path, &body).await.0, StatusCode::CREATED, "{body}");
        }
        let old = rule("old", "2026-01-01");
        for (force, status) in [
            ("false", StatusCode::BAD_REQUEST),
            ("off", StatusCode::BAD_REQUEST),
            ("nope", StatusCode::BAD_REQUEST),
            ("yes", StatusCode::CREATED),
        ] {
            let found = post(&app, &format!("{path}?force={force}"), &old).await;
            assert_eq!(found.0, status, "{db:?}: force={force}: {}", found.1);
        }
        let list = |query: &'static str| {
            let (app, path) = (&app, format!("{path}?{query}"));
            async move {
                let answer = app.get(&path).await;
                let mappings = answer.json()["mappings"].as_array().cloned();
                let mut found: Vec<String> = mappings
                    .into_iter()
                    .flatten()
                    .map(|mapping| mapping["tenant_id"].as_str().unwrap().to_owned())
                    .collect();
                found.sort();
                (answer.status.as_u16(), found.join(" "))
            }
        };
        for (query, status, found) in [
            ("deleted=false", 200, "grouped later old"),
            ("deleted=0", 200, "grouped later old"),
            ("deleted=true", 200, "deleted grouped later old"),
            ("deleted=nope", 400, ""),
            ("is_active=false", 200, "grouped later old"),
            ("is_active=true", 200, "grouped old"),
            ("is_active=nope", 400, ""),
            ("no_group=false", 200, "grouped later old"),
            ("no_group=true", 200, "later old"),
            ("no_group=nope", 400, ""),
            ("filter_tenant=false&tenant_id=old", 200, "grouped later old"),
            ("filter_tenant=true&tenant_id=old", 200, "old"),
            ("filter_tenant=nope&tenant_id=old", 400, ""),
            ("all=false", 400, ""),
            ("all=true", 200, "grouped later old"),
            ("all=nope", 400, ""),
        ] {
            assert_eq!(list(query).await, (status, found.to_owned()), "{db:?}: {query}");
        }
        let script = json!({"name": "s", "data": "pass"});
        assert_eq!(post(&app, SCRIPTS, &script).await.0, StatusCode::CREATED);
        for (no_data, data) in [("false", json!("pass")), ("true", Value::Null)] {
            let answer = app.get(&format!("{SCRIPTS}?no_data={no_data}")).await.json();
            let found = answer["scripts"][0]["data"].as_str().filter(|data| !data.is_empty());
            assert_eq!(json!(found), data, "{db:?}: no_data={no_data}");
        }
        for path in [
            format!("{SCRIPTS}?no_data=nope"),
            "/v1/report/total?all_tenants=nope".to_owned(),
            "/v1/report/summary?all_tenants=nope".to_owned(),
        ] {
            assert_eq!(app.get(&path).await.status, StatusCode::BAD_REQUEST, "{db:?}: {path}");
        }
    }
}

/// As the reference answers; only what is the client's mistake is none of the server's.
#[tokio::test]
async fn a_quote_whose_script_fails_is_an_error_of_the_server() {
    let app = TestApp::new("2026-11-01T00:00:00Z", "", "").await;
    let script = json!({"name": "s", "data": "raise ValueError('no price today')"});
    assert_eq!(post(&app, SCRIPTS, &script).await.0, StatusCode::CREATED);
    let module = json!({"enabled": true});
    let (status, _) = send(&app, "PUT", "/v2/rating/modules/pyscripts", &module).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let resources = json!({"resources": [{"service": "compute", "desc": {}, "volume": "1"}]});
    let (status, body) = post(&app, "/v1/rating/quote", &resources).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{body}");
    assert_eq!(body["faultcode"], "Server");
    let text = body["faultstring"].as_str().unwrap();
    assert!(text.contains("no price today") && text.contains('s'), "{text}");
}
