//! Integration tests: one binary, one module per subject.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod clients;
mod collecting;
mod connections;
mod databases;
mod described;
mod documents;
mod faults;
mod keystone;
mod layering;
mod locks;
mod loki;
mod parity;
mod pipeline;
mod pricelist;
mod processors;
mod program;
mod pushes;
mod rules;
mod samples;
mod scripts;
mod status;
mod storage;
mod supervision;
mod support;
mod watched;

use std::path::PathBuf;

/// A file below `tests/fixtures`.
fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

/// The cases of a fixture, one JSON value a line.
fn cases(path: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(fixture(path)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
