//! The reference's own tests of its API, written for gabbi, against ours.

use std::path::PathBuf;

use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::{
    fixture,
    support::{Db, TestApp, peers, set_up},
};

/// Files below `cloudkitty/tests/gabbi`, and how many requests they hold.
const SUITES: &[(&str, usize)] = &[
    ("rating/hash/gabbits/hash-empty.yaml", 4),
    ("rating/hash/gabbits/hash-errors.yaml", 27),
    ("rating/hash/gabbits/hash-location.yaml", 9),
    ("rating/hash/gabbits/hash.yaml", 35),
    ("rating/pyscripts/gabbits/pyscripts.yaml", 15),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_references_suites_pass() {
    let python = PathBuf::from(set_up("RATEKITTY_CLOUDKITTY")).join("bin/python");
    let suites = peers().join("cloudkitty-25.0.0/cloudkitty/tests/gabbi");
    for db in Db::ALL {
        for (file, requests) in SUITES {
            let app = TestApp::on(db, "2026-11-01T00:00:00Z", "", "").await;
            let stop = CancellationToken::new();
            let _stop = stop.clone().drop_guard();
            let output = Command::new(&python)
                .arg(fixture("gabbi/run.py"))
                .arg(suites.join(file))
                .arg(app.serve(&stop).await)
                .output()
                .await
                .unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{db:?} {file}: {told}");
            let run: usize = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
            assert_eq!(run, *requests, "{db:?} {file}");
        }
    }
}
