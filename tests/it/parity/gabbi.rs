//! The reference's own tests of its API, written for gabbi, against ours.

use std::{path::PathBuf, time::SystemTime};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::{
    fixture,
    storage::loki_app_on,
    support::{Db, TestApp, fake_loki::Limits, peers, set_up},
};

/// Files below `cloudkitty/tests/gabbi`, how many requests they hold, and those
/// that cannot be as they are wanted.
const SUITES: &[(&str, usize, &[&str])] = &[
    ("rating/hash/gabbits/hash-empty.yaml", 4, &[]),
    ("rating/hash/gabbits/hash-errors.yaml", 27, &[]),
    ("rating/hash/gabbits/hash-location.yaml", 9, &[]),
    ("rating/hash/gabbits/hash.yaml", 35, &[]),
    ("rating/pyscripts/gabbits/pyscripts.yaml", 15, &[]),
    ("gabbits/ks_middleware_cors.yaml", 4, &[]),
    ("gabbits/no_auth.yaml", 1, &[]),
    ("gabbits/root-v2-storage.yaml", 3, &[]),
    ("gabbits/v1-collector.yaml", 16, &[]),
    ("gabbits/v1-info.yaml", 3, &[]),
    (
        "gabbits/v1-report.yaml",
        16,
        // Storages of version 1 know who was rated when, tell what was filtered by,
        // and have an order of their own; those of version 2 do not.
        &[
            "get period with no tenants",
            "get summary for a period of each service and tenant",
            "get summary for a period of each service filtering on first tenant",
            "get summary for a period of each tenant filtering on compute service",
        ],
    ),
    (
        "gabbits/v1-storage.yaml",
        12,
        // Storages of version 1 give each point a frame of its own.
        &[
            "fetch data filtering on cpu service and tenant",
            "fetch data filtering on image service and tenant",
            "fetch data for multiple tenants",
            "fetch data for the first tenant",
            "fetch data for the first tenant without begin and end time",
            "fetch data for the first tenant without end time",
            "fetch data for the second tenant",
        ],
    ),
    (
        "gabbits/v2-dataframes.yaml",
        17,
        // Its double of InfluxDB knows no `limit`, and gives points in the order in
        // which they came; ours are in order of their scope.
        &["fetch data for multiple tenants", "fetch data for the first tenant without end time"],
    ),
    ("gabbits/v2-scope-state.yaml", 19, &[]),
    ("gabbits/v2-summary.yaml", 12, &[]),
];

/// Files that want what there is not here.
const OTHERS: &[(&str, &str)] = &[
    (
        "gabbits/ks_middleware_auth.yaml",
        "its token is known to a double of Keystone's middleware alone; `keystone::users` asks a \
         real Keystone",
    ),
    (
        "gabbits/root-v1-storage.yaml",
        "with a storage of version 1 there is no version 2 of the API",
    ),
    ("gabbits/v1-rating.yaml", "modules fake1 to fake3 are its own"),
    ("gabbits/v2-rating-modules.yaml", "modules fake1 to fake3 are its own"),
];

/// What a suite wants to be configured beside the metrics file.
fn configuration(file: &str) -> &'static str {
    match file {
        "gabbits/ks_middleware_cors.yaml" => "[cors]\nallowed_origin = http://valid.example.com\n",
        _ => "",
    }
}

async fn run(arguments: &[&str]) -> String {
    let python = PathBuf::from(set_up("RATEKITTY_CLOUDKITTY")).join("bin/python");
    let script = fixture("gabbi/run.py");
    let output = Command::new(&python).arg(script).args(arguments).output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

#[expect(clippy::print_stdout, reason = "how much has passed")]
async fn run_on(app: &TestApp, name: &str) {
    let suites = peers().join("cloudkitty-25.0.0/cloudkitty/tests/gabbi");
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let url = app.serve(&stop).await;
    let (file, requests, failing) = SUITES.iter().find(|(file, ..)| name.ends_with(file)).unwrap();
    let told = run(&[suites.join(file).to_str().unwrap(), &url]).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told, json!({"run": requests, "failed": failing}), "{name}");
    let named = failing.len();
    println!("gabbi, {name}: {} passed, {named} named, none not run", requests - named);
}

/// What is asked for without dates is of this month.
#[expect(clippy::disallowed_methods, reason = "the suites go by the real time")]
fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_references_suites_pass() {
    let metrics = run(&["metrics"]).await;
    for db in Db::ALL {
        for (file, ..) in SUITES {
            let app = TestApp::on(db, &now().to_rfc3339(), configuration(file), &metrics).await;
            run_on(&app, &format!("{db:?} {file}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn suites_of_dataframes_pass_with_loki() {
    let data = ["v1-report", "v1-storage", "v2-dataframes", "v2-summary", "no_auth"];
    for (file, ..) in SUITES.iter().filter(|(file, ..)| data.iter().any(|name| file.contains(name)))
    {
        // Loki takes what is old if it is told to.
        let limits = Limits { reject_old_samples_max_age: 50 * 365 * 86_400, ..Limits::roomy() };
        let (app, loki) = loki_app_on(Db::Sqlite, limits, "").await;
        app.clock.set(now());
        if let Some(loki) = &loki {
            // On a month's first day, what is stored of the month is not over yet.
            loki.set_now((now().timestamp() + 86_400) * 1_000_000_000);
        }
        run_on(&app, &format!("Loki {file}")).await;
    }
}

#[test]
fn every_suite_is_run_or_has_a_reason() {
    let gabbi = peers().join("cloudkitty-25.0.0/cloudkitty/tests/gabbi");
    let mut folders = vec![gabbi.join("gabbits")];
    for module in std::fs::read_dir(gabbi.join("rating")).unwrap() {
        folders.extend(Some(module.unwrap().path().join("gabbits")).filter(|path| path.is_dir()));
    }
    let mut count = 0;
    for entry in folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()) {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(&gabbi).unwrap().to_str().unwrap();
        let is_run = SUITES.iter().any(|(file, ..)| *file == name);
        let reason = OTHERS.iter().find(|(file, _)| *file == name);
        assert!(is_run != reason.is_some(), "{name}");
        count += 1;
        if let Some((_, reason)) = reason {
            println!("gabbi, {name}: not run: {reason}");
        }
    }
    assert_eq!(count, SUITES.len() + OTHERS.len());
}
