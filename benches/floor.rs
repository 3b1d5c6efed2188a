//! The raw floor of a catch-up, for `benches/catchup.py`: a client that does
//! nothing but read the values out of Prometheus and push the lines to Loki.
//!
//! usage: floor PROMETHEUS LOKI LINES BEGIN END STEP QUERY...
//!
//! Each query is one `query_range`, one after the other, whose answer is read
//! value by value. The lines are those that `benches/loki_double.rs` wrote. They
//! are made into bodies of JSON with gzip beforehand, and pushed over four
//! connections.
//! Prints numbers, seconds and CPU seconds of both as JSON.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a program for developers"
)]

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    time::Instant,
};

use flate2::{Compression, write::GzEncoder};
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};

/// Bytes of lines in a body, as ratekitty's `batch_bytes`.
const BODY: usize = 1 << 20;
const CONNECTIONS: usize = 4;
/// Clock ticks of `/proc` in a second.
const TICKS: f64 = 100.0;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    result: Vec<Series<'a>>,
}

#[derive(Deserialize)]
struct Series<'a> {
    #[serde(borrow)]
    metric: BTreeMap<&'a str, Cow<'a, str>>,
    #[serde(borrow)]
    values: Vec<(f64, &'a str)>,
}

type Labels = BTreeMap<String, String>;

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = rest.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
}

/// Reads the values of a query; how many there are.
async fn read(http: &Client, url: &str, window: &[String], query: &str) -> usize {
    let request = http.get(format!("{url}/query_range")).query(&[
        ("query", query),
        ("start", &window[0]),
        ("end", &window[1]),
        ("step", &window[2]),
    ]);
    let answer = request.send().await.unwrap();
    let body = answer.error_for_status().unwrap().bytes().await.unwrap();
    let answer: Answer<'_> = serde_json::from_slice(&body).unwrap();
    let mut count = 0;
    for series in answer.data.result {
        assert!(!series.metric.is_empty(), "a series has no labels");
        for (_, value) in series.values {
            assert!(value.parse::<f64>().unwrap().is_finite(), "{value}");
            count += 1;
        }
    }
    count
}

/// Bodies of pushes, in the order of the lines' times.
fn bodies(path: &str) -> Vec<Vec<u8>> {
    let lines = BufReader::new(File::open(path).unwrap()).lines();
    let mut entries: Vec<(Labels, i64, String, Labels)> =
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    entries.sort_by_key(|(_, time, ..)| *time);
    let mut bodies = Vec::new();
    let mut streams: BTreeMap<Labels, Vec<Value>> = BTreeMap::new();
    let mut bytes = 0;
    let close = |streams: &mut BTreeMap<Labels, Vec<Value>>| {
        let streams = std::mem::take(streams).into_iter();
        let streams: Vec<Value> =
            streams.map(|(stream, values)| json!({"stream": stream, "values": values})).collect();
        let mut body = GzEncoder::new(Vec::new(), Compression::fast());
        serde_json::to_writer(&mut body, &json!({"streams": streams})).unwrap();
        body.finish().unwrap()
    };
    for (labels, time, line, meta) in entries {
        if bytes > 0 && bytes + line.len() > BODY {
            bodies.push(close(&mut streams));
            bytes = 0;
        }
        bytes += line.len();
        streams.entry(labels).or_default().push(json!([time.to_string(), line, meta]));
    }
    if bytes > 0 {
        bodies.push(close(&mut streams));
    }
    bodies
}

async fn push(http: &Client, url: &str, bodies: Vec<Vec<u8>>) {
    let url = format!("{url}/push");
    stream::iter(bodies)
        .map(|body| {
            let request = http.post(&url).header("X-Scope-OrgID", "cloudkitty");
            let request = request.header("Content-Type", "application/json");
            let request = request.header("Content-Encoding", "gzip").body(body);
            async { request.send().await?.error_for_status().map(drop) }
        })
        .buffer_unordered(CONNECTIONS)
        .try_collect::<()>()
        .await
        .unwrap();
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` runs whatever there is.
    if arguments == ["--bench"] {
        return;
    }
    let [prometheus, loki, lines, window @ ..] = &arguments[..] else {
        panic!("usage: floor PROMETHEUS LOKI LINES BEGIN END STEP QUERY...");
    };
    let (window, queries) = window.split_at(3);
    let http = Client::new();
    let bodies = bodies(lines);
    let (pushes, bytes) = (bodies.len(), bodies.iter().map(Vec::len).sum::<usize>());

    let (begin, before) = (Instant::now(), cpu());
    let mut values = 0;
    for query in queries {
        values += read(&http, prometheus, window, query).await;
    }
    let (reading, reading_cpu) = (begin.elapsed().as_secs_f64(), cpu() - before);

    let (begin, before) = (Instant::now(), cpu());
    push(&http, loki, bodies).await;
    let (pushing, pushing_cpu) = (begin.elapsed().as_secs_f64(), cpu() - before);
    let report = json!({
        "values": values,
        "pushes": pushes,
        "bytes": bytes,
        "reading": [reading, reading_cpu],
        "pushing": [pushing, pushing_cpu],
    });
    println!("{report}");
}
