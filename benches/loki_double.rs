//! The suite's double of Loki as a process of its own, for `benches/catchup.py`.
//!
//! Prints the base of its API on a line. Then it answers lines of its input:
//! `count` with what was pushed so far, as JSON; a path by writing the stored
//! entries there, an array of labels, time, line and structured metadata a line,
//! and by `count`'s answer. It ends with its input.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    dead_code,
    unused_imports,
    reason = "a program for developers, with a part of the tests"
)]

#[path = "../tests/it/support/fake_loki/mod.rs"]
mod fake_loki;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
};

use fake_loki::{FakeLoki, Limits, StoredEntry};
use serde_json::json;

/// Ten years.
const LONG: i64 = 10 * 365 * 86_400;

/// Nothing is refused for its size, rate, age or order, and queries are not cut up.
fn limits() -> Limits {
    Limits {
        max_query_length: LONG,
        max_query_series: usize::MAX,
        max_chunk_age: LONG,
        split_queries_by_interval: 0,
        ..Limits::roomy()
    }
}

fn write(entries: Vec<StoredEntry>, path: &str) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    for entry in entries {
        // The name of the service is Loki's own label.
        let labels = entry.labels.into_iter().filter(|(name, _)| name != "service_name");
        let labels: BTreeMap<_, _> = labels.collect();
        let meta: BTreeMap<_, _> = entry.structured_metadata.into_iter().collect();
        serde_json::to_writer(&mut file, &(labels, entry.timestamp, entry.line, meta)).unwrap();
        file.write_all(b"\n").unwrap();
    }
    file.flush().unwrap();
}

#[tokio::main]
async fn main() {
    // `cargo bench` runs whatever there is.
    if std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let loki = FakeLoki::start(limits()).await;
    println!("{}", loki.url());
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        if line != "count" {
            write(loki.entries(), &line);
        }
        let count = json!({
            "pushes": loki.count("/push"),
            "queries": loki.count("/query") + loki.count("/query_range"),
            "entries": loki.stored(),
            "body_bytes": loki.body_bytes(),
        });
        println!("{count}");
    }
}
