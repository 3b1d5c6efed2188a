//! `ratekitty_failures` and `ratekitty_processors`, on every database.

use chrono::TimeDelta;
use ratekitty::{
    state::{
        failures::{self, Failure},
        processors::{self, Processor},
        schema, scopes,
    },
    time::Period,
};
use sea_orm::ConnectionTrait;

use super::scopes::{at, databases, keys};

/// A failure of the hour that begins there, noted five minutes after `hour`.
fn failure(scope_id: &str, hour: &str, error: &str) -> Failure {
    Failure {
        scope_id: scope_id.to_owned(),
        period: Period::starting(at(hour), 3_600),
        at: at(hour) + TimeDelta::minutes(125),
        stage: "collect".into(),
        error: error.into(),
        tries: 1,
    }
}

#[tokio::test]
async fn failures_are_counted_until_they_are_over() {
    let keys = keys("project_id");
    let (five, six) = ("2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z");
    // Names that a database may take for one.
    let names = ["p1", "P1", "p1 ", "pé", "<img src=x>", "p'; --"];
    for (db, database, _app) in databases().await {
        let noted: Vec<_> = names.iter().map(|name| failure(name, five, "no answer")).collect();
        for _ in 0..3 {
            failures::note(&database, &keys, &noted).await.unwrap();
        }
        let mut found = failures::standing(&database, &keys).await.unwrap();
        failures::errors(&database, &keys, &mut found).await.unwrap();
        let mut ids: Vec<_> = found.iter().map(|failure| failure.scope_id.as_str()).collect();
        ids.sort_unstable();
        let mut expected = names;
        expected.sort_unstable();
        assert_eq!(ids, expected, "{db:?}");
        assert!(found.iter().all(|failure| failure.tries == 3), "{db:?}: {found:?}");
        let p1 = found.iter().find(|failure| failure.scope_id == "p1");
        assert_eq!(p1, Some(&Failure { tries: 3, ..failure("p1", five, "no answer") }), "{db:?}");
        // Scopes of others are others.
        let others = super::scopes::keys("namespace");
        assert_eq!(failures::standing(&database, &others).await.unwrap(), [], "{db:?}");
        // Another period is counted anew, and comes first.
        let long = format!("\0{}\nend", "é".repeat(5_000));
        failures::note(&database, &keys, &[failure("p1", six, &long)]).await.unwrap();
        let mut found = failures::standing(&database, &keys).await.unwrap();
        failures::errors(&database, &keys, &mut found).await.unwrap();
        assert_eq!((&*found[0].scope_id, found[0].tries), ("p1", 1), "{db:?}");
        assert_eq!(found[0].period.begin, at(six), "{db:?}");
        assert_eq!(found[0].error.chars().count(), 1_000, "{db:?}");
        assert!(found[0].error.starts_with('é') && found[0].error.ends_with('…'), "{db:?}");

        // One that stands before its period fails still; one that has come past it, not.
        let connection = database.connection();
        let (before, past) = (at("2026-11-01T04:00:00Z"), at(five));
        scopes::add(connection, "P1", &keys, before, before).await.unwrap();
        scopes::add(connection, "pé", &keys, past, past).await.unwrap();
        // That of another kind of scopes says nothing.
        scopes::add(connection, "<img src=x>", &others, past, past).await.unwrap();
        // One that is switched off is not tried.
        scopes::add(connection, "p'; --", &keys, before, before).await.unwrap();
        scopes::set_active(&database, "p'; --", &keys, false, before).await.unwrap();
        let standing = async || {
            let found = failures::standing(&database, &keys).await.unwrap();
            found.into_iter().map(|failure| failure.scope_id).collect::<Vec<_>>()
        };
        assert_eq!(standing().await, ["p1", "<img src=x>", "P1", "p1 "], "{db:?}");
        // What is over goes, and what nobody has tried for long.
        failures::tidy(&database, &keys, at(six)).await.unwrap();
        assert_eq!(standing().await, ["p1", "<img src=x>", "P1", "p1 "], "{db:?}");
        let sql = "SELECT scope_id FROM ratekitty_failures";
        assert_eq!(super::texts(&database, sql).await.len(), 4, "{db:?}");
        failures::tidy(&database, &keys, at("2026-11-01T08:00:00Z")).await.unwrap();
        assert_eq!(standing().await, ["p1"], "{db:?}");
    }
}

#[tokio::test]
async fn as_many_failures_as_there_are_scopes() {
    let keys = keys("project_id");
    let five = "2026-11-01T05:00:00Z";
    for (db, database, _app) in databases().await {
        let noted: Vec<_> = (0..1_201).map(|at| failure(&format!("p{at}"), five, "no")).collect();
        failures::note(&database, &keys, &noted).await.unwrap();
        failures::note(&database, &keys, &noted).await.unwrap();
        // One of so many is rated at last.
        let past = at("2026-11-01T05:00:00Z");
        scopes::add(database.connection(), "p7", &keys, past, past).await.unwrap();
        let mut found = failures::standing(&database, &keys).await.unwrap();
        failures::errors(&database, &keys, &mut found).await.unwrap();
        assert_eq!((found.len(), found[1_199].tries), (1_200, 2), "{db:?}");
        assert!(found.iter().all(|failure| &*failure.error == "no" && failure.scope_id != "p7"));
        failures::tidy(&database, &keys, at("2026-12-01T00:00:00Z")).await.unwrap();
        assert_eq!(failures::standing(&database, &keys).await.unwrap(), [], "{db:?}");
    }
}

#[tokio::test]
async fn processors_are_noted_until_they_end() {
    let start = at("2026-11-01T05:00:00Z");
    let processor = |id: &str, problem: &str| Processor {
        id: id.to_owned(),
        host: "ü".repeat(300),
        pid: u32::MAX,
        version: "0.1.0".to_owned(),
        started: start,
        seen: start,
        periods: 0,
        points: 0,
        problem: problem.to_owned(),
    };
    let kept = |processor: Processor| Processor { host: "ü".repeat(255), ..processor };
    for (db, database, _app) in databases().await {
        let (a, b) = (processor("a", ""), processor("A", "no scopes"));
        processors::note(&database, &a).await.unwrap();
        processors::note(&database, &b).await.unwrap();
        let seen = start + TimeDelta::seconds(30);
        let a = Processor { seen, periods: 3, points: u64::MAX, ..a };
        processors::note(&database, &a).await.unwrap();
        let a = kept(Processor { points: i64::MAX.unsigned_abs(), ..a });
        assert_eq!(processors::list(&database).await.unwrap(), [kept(b), a.clone()], "{db:?}");
        processors::tidy(&database, seen).await.unwrap();
        assert_eq!(processors::list(&database).await.unwrap(), [a], "{db:?}");
        processors::forget(&database, "a").await.unwrap();
        assert_eq!(processors::list(&database).await.unwrap(), [], "{db:?}");
    }
}

#[tokio::test]
async fn tables_without_notes_get_them() {
    for (db, database, _app) in databases().await {
        for sql in [
            "DROP TABLE ratekitty_failures",
            "DROP TABLE ratekitty_processors",
            "UPDATE ratekitty_schema SET version = 5",
        ] {
            database.connection().execute_unprepared(sql).await.unwrap();
        }
        let error = schema::check(&database).await.unwrap_err().to_string();
        assert!(error.contains("version 5, this program needs"), "{db:?}: {error}");
        schema::upgrade(&database).await.unwrap();
        schema::check(&database).await.unwrap();
        let noted = [failure("p1", "2026-11-01T05:00:00Z", "no")];
        failures::note(&database, &keys("project_id"), &noted).await.unwrap();
        assert_eq!(processors::list(&database).await.unwrap(), [], "{db:?}");
    }
}
