//! States of scopes in other time zones than UTC: what the reference's classes
//! store and read, and what our programs do, in the same zone.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use ratekitty::{
    http::{ClientSettings, client},
    state::{
        Database, schema,
        scopes::{self, ScopeKeys},
    },
    time::{Clock, RealClock, seconds},
};
use serde_json::Value;

use super::{
    open,
    programs::{configure, python},
    texts,
};
use crate::support::{Cloud, Db, Running, cloud::METRICS, servers::free_port, until_in};

/// Moves scopes as the reference's processor does, each to an instant: FILE
/// SECONDS... Switches the first one off. Prints what its classes read, and what
/// its API answers for all scopes, as JSON.
const MOVE: &str = r#"
import datetime
import json
import sys
import warnings

warnings.simplefilter("ignore")
instants = [int(text) for text in sys.argv[2:]]
sys.argv = ["reference", "--config-file", sys.argv[1]]

from cloudkitty.wsgi.api import application
from cloudkitty import storage_state
from cloudkitty.utils import tz
from werkzeug.test import Client

keys = {"fetcher": "prometheus", "collector": "prometheus", "scope_key": "project_id"}
states = storage_state.StateManager()
for instant in instants:
    local = tz.utc_to_local(datetime.datetime.fromtimestamp(instant, datetime.timezone.utc))
    states.set_last_processed_timestamp(f"theirs {instant}", local, **keys)
first = states.get_all(identifier=f"theirs {instants[0]}")[0]
states.update_storage_scope(first, active=False)
read = [states.get_last_processed_timestamp("s0", **keys)]
read += [states.get_last_processed_timestamp(f"theirs {instant}", **keys) for instant in instants]
answer = Client(application).get("/v2/scope?limit=100")
print(json.dumps({
    "read": [last.isoformat() for last in read],
    "status": answer.status_code,
    "answer": answer.json,
}))
"#;

/// The night in which Paris turns its clocks back: 02:30, and 02:30 again.
const NIGHT: [i64; 2] = [1_792_888_200, 1_792_891_800];

/// The raw text of a column.
async fn stored(database: &Database, db: Db, column: &str, scope: &str) -> String {
    let text = if db == Db::Mariadb { "CHAR" } else { "TEXT" };
    let sql = format!(
        "SELECT CAST({column} AS {text}) FROM cloudkitty_storage_states WHERE identifier = '{scope}'"
    );
    let mut found = texts(database, &sql).await;
    assert_eq!(found.len(), 1, "{scope}: {found:?}");
    found.remove(0)
}

/// Results of `/v2/scope` in the order of their names.
fn results(answer: &Value) -> Vec<Value> {
    let mut results = answer["results"].as_array().unwrap().clone();
    results.sort_by_key(|scope| scope["scope_id"].to_string());
    results
}

/// `night` is how the instants of [`NIGHT`] are called in the zone.
async fn compare(db: Db, zone: &str, night: [&str; 2]) {
    let told = format!("{zone} on {db:?}");
    let cloud = Cloud::start(1, 1).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    std::fs::write(dir.path().join("metrics.yml"), METRICS).unwrap();
    let url = match db.create().await {
        Some(url) => url,
        None => format!("sqlite:///{path}/cloudkitty.sqlite"),
    };
    let database = open(&url).await;
    schema::upgrade(&database).await.unwrap();
    let now = RealClock.now();
    let begin = now.timestamp() - now.timestamp().rem_euclid(3_600) - 2 * 3_600;
    let collect = format!("{}wait_periods = 1\nmetrics_conf = {path}/metrics.yml\n", cloud.conf());
    let conf = dir.path().join("ratekitty.conf");
    let text = format!(
        "[DEFAULT]\nauth_strategy = noauth\n[database]\nconnection = {url}\n\
         [storage]\nbackend = sql\n[ratekitty]\nstate_path = {path}\nfirst_period_begin = {}\n\
         [orchestrator]\ncoordination_url = file://{path}/locks\n{collect}",
        seconds(begin).to_rfc3339()
    );
    std::fs::write(&conf, text).unwrap();
    let ours = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ratekitty"));
        command.arg("--config-file").arg(&conf).args(arguments).env("TZ", zone);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    };
    // Ours rates an hour, and makes a scope.
    let output = ours(&["processor", "--once"]).output().unwrap();
    assert!(output.status.success(), "{told}: {output:?}");
    let name = "prometheus".to_owned();
    let (fetcher, collector) = (name.clone(), name);
    let keys = ScopeKeys { scope_key: "project_id".into(), fetcher, collector };
    let get = async |scope: &str| scopes::get(&database, scope, &keys).await.unwrap().unwrap();
    let state = get("s0").await;
    assert!(state.last_processed >= seconds(begin), "{told}: {state:?}");

    // Theirs moves one to the same instant, and others to the night.
    let last = state.last_processed.timestamp();
    let instants = [last, NIGHT[0], NIGHT[1]].map(|instant| instant.to_string());
    let file = configure(dir.path(), &url, "http://127.0.0.1:1/loki/api/v1", &collect);
    let file = file.display().to_string();
    let arguments: Vec<&str> =
        std::iter::once(file.as_str()).chain(instants.iter().map(String::as_str)).collect();
    let theirs = python(MOVE, zone, &arguments);
    assert_eq!(theirs["status"], 200, "{told}: {theirs}");

    // What is stored is the same, and neither is local time.
    let column = "last_processed_timestamp";
    let ours_stored = stored(&database, db, column, "s0").await;
    let name = format!("theirs {last}");
    assert_eq!(stored(&database, db, column, &name).await, ours_stored, "{told}");
    assert!(ours_stored.starts_with(&state.last_processed.format("%Y-%m-%d %H:%M:%S").to_string()));
    for instant in NIGHT {
        let found = get(&format!("theirs {instant}")).await;
        assert_eq!(found.last_processed, seconds(instant), "{told}");
    }
    let moment = TimeDelta::seconds(1);
    let today = (now - moment).naive_utc()..=(RealClock.now() + moment).naive_utc();
    let theirs_state = get(&name).await;
    assert!(state.active && !theirs_state.active, "{told}");
    for toggled in [state.toggled, theirs_state.toggled] {
        assert!(today.contains(&toggled), "{told}: {toggled} is not in {today:?}");
    }

    // What is read is the same, and is local time.
    let read: Vec<&str> =
        theirs["read"].as_array().unwrap().iter().map(|last| last.as_str().unwrap()).collect();
    assert_eq!(read[2..], night, "{told}");
    assert_eq!(read[0], read[1], "{told}");
    assert_eq!(read[0].parse::<DateTime<Utc>>().unwrap(), state.last_processed, "{told}");
    let port = free_port();
    let port_text = port.to_string();
    let mut api = ours(&["api", "--host", "127.0.0.1", "--port", &port_text]);
    let _api = Running::start(&mut api);
    let http = client(&ClientSettings::default()).unwrap();
    let place = format!("http://127.0.0.1:{port}/v2/scope?limit=100");
    until_in(Duration::from_secs(30), "the API", || async {
        http.get(&place).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let answer = http.get(&place).send().await.unwrap().text().await.unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(results(&answer), results(&theirs["answer"]), "{told}");
    assert_eq!(results(&answer).len(), 4, "{told}: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scope_states_are_the_references_in_paris() {
    let night = ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"];
    compare(Db::Mariadb, "Europe/Paris", night).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scope_states_are_the_references_in_kolkata() {
    let night = ["2026-10-25T06:00:00+05:30", "2026-10-25T07:00:00+05:30"];
    compare(Db::Sqlite, "Asia/Kolkata", night).await;
    compare(Db::Mariadb, "Asia/Kolkata", night).await;
}
