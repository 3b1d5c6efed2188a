//! `cloudkitty_storage_states`: how far scopes are, on every database.

use chrono::{DateTime, Utc};
use ratekitty::state::{
    Database, StateError, periods, processors, resets, schema,
    scopes::{self, ScopeFilter, ScopeKeys},
};
use sea_orm::ConnectionTrait;

use super::{open, texts};
use crate::support::{Db, TestApp};

pub(super) fn keys(scope_key: &str) -> ScopeKeys {
    let name = "prometheus".to_owned();
    ScopeKeys { scope_key: scope_key.to_owned(), fetcher: name.clone(), collector: name }
}

pub(super) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(super) async fn databases() -> Vec<(Db, Database, Option<TestApp>)> {
    let mut databases = Vec::new();
    for db in Db::ALL {
        match db.create().await {
            Some(url) => {
                let database = open(&url).await;
                schema::upgrade(&database).await.unwrap();
                databases.push((db, database, None));
            }
            None => {
                let app = TestApp::new("2026-11-01T00:00:00Z", "", "").await;
                databases.push((db, app.database.clone(), Some(app)));
            }
        }
    }
    databases
}

#[tokio::test]
async fn rows_without_keys_are_adopted() {
    for (db, database, _app) in databases().await {
        // As releases before 12 left them; of several, the first is taken.
        for (id, stamp) in [("p1", "2026-11-01 05:00:00"), ("p1", "2026-11-01 07:00:00")] {
            let sql = format!(
                "INSERT INTO cloudkitty_storage_states \
                 (identifier, last_processed_timestamp, scope_activation_toggle_date, active) \
                 VALUES ('{id}', '{stamp}', '2026-11-01 00:00:00', {})",
                if db == Db::Sqlite { "1" } else { "TRUE" }
            );
            database.connection().execute_unprepared(&sql).await.unwrap();
        }
        let overview = scopes::overview(&database, &keys("project_id")).await.unwrap();
        assert_eq!(overview["p1"].last_processed, at("2026-11-01T05:00:00Z"), "{db:?}");
        let state = scopes::get(&database, "p1", &keys("project_id")).await.unwrap().unwrap();
        assert_eq!(state.last_processed, at("2026-11-01T05:00:00Z"), "{db:?}");
        assert_eq!(state.scope_key.as_deref(), Some("project_id"));
        // The next kind of scope of that name takes the other one, and then there is none.
        let other = scopes::get(&database, "p1", &keys("namespace")).await.unwrap().unwrap();
        assert_eq!(other.last_processed, at("2026-11-01T07:00:00Z"), "{db:?}");
        assert_eq!(scopes::get(&database, "p1", &keys("third")).await.unwrap(), None);
        let again = scopes::get(&database, "p1", &keys("project_id")).await.unwrap().unwrap();
        assert_eq!(again.id, state.id);
        let all = scopes::list(&database, &ScopeFilter::default(), 0, 10).await.unwrap();
        assert_eq!(all.len(), 2, "{db:?}");
    }
}

#[tokio::test]
async fn activation_is_dated_when_it_changes() {
    let keys = keys("project_id");
    for (db, database, _app) in databases().await {
        let made = at("2026-11-01T01:00:00Z");
        scopes::add(database.connection(), "p1", &keys, made, made).await.unwrap();
        let later = at("2026-11-02T02:03:04Z");
        assert!(scopes::set_active(&database, "p1", &keys, true, later).await.unwrap());
        let state = || async { scopes::get(&database, "p1", &keys).await.unwrap().unwrap() };
        assert_eq!(
            (state().await.active, state().await.toggled),
            (true, made.naive_utc()),
            "{db:?}"
        );
        assert!(scopes::set_active(&database, "p1", &keys, false, later).await.unwrap());
        assert_eq!((state().await.active, state().await.toggled), (false, later.naive_utc()));
        assert!(!scopes::set_active(&database, "p2", &keys, false, later).await.unwrap());
        let filter = ScopeFilter { active: vec![1], ..ScopeFilter::default() };
        assert_eq!(scopes::list(&database, &filter, 0, 10).await.unwrap(), []);
        // A second row of the same scope cannot be.
        let error = scopes::add(database.connection(), "p1", &keys, made, made).await.unwrap_err();
        assert!(matches!(error, StateError::Moved(_)), "{db:?}: {error}");
    }
}

#[tokio::test]
async fn the_api_lists_scopes_of_every_database() {
    let keys = keys("project_id");
    let stamp = at("2026-11-01T01:00:00Z");
    for db in Db::ALL {
        let app = TestApp::on(db, "2026-11-01T00:00:00Z", "", "").await;
        for scope in ["p1", "p2", "p3", "it's \"é\""] {
            scopes::add(app.database.connection(), scope, &keys, stamp, stamp).await.unwrap();
        }
        scopes::set_active(&app.database, "p2", &keys, false, stamp).await.unwrap();
        let found = |path: &'static str| {
            let app = &app;
            async move {
                let answer = app.get(path).await;
                assert_eq!(answer.status, 200, "{db:?} {path}: {}", answer.text);
                let results = answer.json()["results"].as_array().unwrap().clone();
                let names: Vec<_> =
                    results.iter().map(|r| r["scope_id"].as_str().unwrap().to_owned()).collect();
                names
            }
        };
        assert_eq!(found("/v2/scope?active=1").await, ["p1", "p3", "it's \"é\""]);
        assert_eq!(found("/v2/scope?active=0").await, ["p2"]);
        assert_eq!(found("/v2/scope?active=1&limit=1&offset=1").await, ["p3"]);
        assert_eq!(found("/v2/scope?scope_id=it%27s%20%22%C3%A9%22").await, ["it's \"é\""]);
        assert_eq!(
            found("/v2/scope?fetcher=prometheus&scope_key=project_id&scope_id=p3,p1").await.len(),
            2
        );
        assert_eq!(app.get("/v2/scope?scope_id=nobody").await.status, 404, "{db:?}");
        assert_eq!(app.get("/v2/summary").await.status, 200, "{db:?}");
        assert_eq!(app.get("/v2/dataframes").await.status, 404, "{db:?}");
    }
}

#[tokio::test]
async fn names_that_differ_in_case_are_not_taken_for_each_other() {
    let keys = keys("project_id");
    let now = at("2026-11-01T01:00:00Z");
    for (db, database, _app) in databases().await {
        scopes::add(database.connection(), "p1", &keys, now, now).await.unwrap();
        match (db, scopes::get(&database, "P1", &keys).await) {
            // The reference's table there takes one for the other.
            (Db::Mariadb, Err(error)) => {
                assert!(error.to_string().contains("`P1` for scope `p1`"), "{error}");
            }
            (_, result) => assert_eq!(result.unwrap(), None, "{db:?}"),
        }
    }
}

#[tokio::test]
async fn dates_are_what_python_stores() {
    let keys = keys("project_id");
    let stamp = at("2026-11-01T01:00:00Z");
    for (db, database, _app) in databases().await {
        scopes::add(database.connection(), "p1", &keys, stamp, stamp).await.unwrap();
        let text = if db == Db::Mariadb { "CHAR" } else { "TEXT" };
        let sql = format!(
            "SELECT CAST(last_processed_timestamp AS {text}) FROM cloudkitty_storage_states"
        );
        let expected = match db {
            Db::Sqlite => "2026-11-01 01:00:00.000000",
            _ => "2026-11-01 01:00:00",
        };
        assert_eq!(texts(&database, &sql).await, [expected], "{db:?}");
    }
}

#[tokio::test]
async fn the_length_of_periods_is_changed_on_purpose_only() {
    let (hourly, others) = (keys("project_id"), keys("namespace"));
    let last = at("2026-11-01T05:00:00Z");
    for (db, database, _app) in databases().await {
        periods::claim(&database, &hourly, 3_600).await.unwrap();
        periods::claim(&database, &hourly, 3_600).await.unwrap();
        // Other scopes may have other periods.
        periods::claim(&database, &others, 60).await.unwrap();
        let error = periods::claim(&database, &hourly, 1_800).await.unwrap_err().to_string();
        assert!(error.contains("1800 s") && error.contains("3600 s"), "{error}");
        assert!(error.contains("dbsync set-period"), "{error}");
        for (id, keys) in [("p1", &hourly), ("p2", &hourly), ("p1", &others)] {
            scopes::add(database.connection(), id, keys, last, last).await.unwrap();
        }
        let changed = periods::set(&database, &hourly, 1_800).await.unwrap();
        assert_eq!(changed, (Some(3_600), 2), "{db:?}");
        // What was rated ended at 06:00, and there the next one begins.
        let state = scopes::get(&database, "p1", &hourly).await.unwrap().unwrap();
        assert_eq!(state.last_processed, at("2026-11-01T05:30:00Z"));
        let state = scopes::get(&database, "p1", &others).await.unwrap().unwrap();
        assert_eq!(state.last_processed, last);
        periods::claim(&database, &hourly, 1_800).await.unwrap();
        assert_eq!(periods::set(&database, &hourly, 1_800).await.unwrap(), (Some(1_800), 0));
    }
}

#[tokio::test]
async fn our_tables_of_the_version_before_are_brought_up() {
    for (db, database, _app) in databases().await {
        for sql in [
            "DROP TABLE ratekitty_resets",
            "DROP TABLE ratekitty_schedules",
            "DROP TABLE ratekitty_failures",
            "DROP TABLE ratekitty_processors",
            "DROP TABLE ratekitty_changes",
            "ALTER TABLE ratekitty_dataframes DROP COLUMN writer",
            "ALTER TABLE ratekitty_streams DROP COLUMN writer",
            "UPDATE ratekitty_schema SET version = 3",
        ] {
            database.connection().execute_unprepared(sql).await.unwrap();
        }
        let error = schema::check(&database).await.unwrap_err().to_string();
        assert!(error.contains("version 3, this program needs"), "{db:?}: {error}");
        schema::upgrade(&database).await.unwrap();
        schema::check(&database).await.unwrap();
        assert_eq!(resets::pending(&database).await.unwrap(), [], "{db:?}");
        assert_eq!(processors::list(&database).await.unwrap(), [], "{db:?}");
    }
}
