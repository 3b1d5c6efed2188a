//! A cloud of servers whose use is known: a Prometheus that answers for any
//! scope and hour, and counts what it is asked.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Query, routing::get};
use chrono::DateTime;
use serde::Deserialize;

/// The metrics file that goes with it.
pub const METRICS: &str = "metrics:\n  instance:\n    unit: instance\n    groupby: [id]\n";

/// What a server used in the hour that ends at `end` (seconds).
pub fn usage(scope: usize, thing: usize, end: i64) -> i64 {
    (scope as i64 * 31 + thing as i64 * 7 + end / 60).rem_euclid(11) + 1
}

#[derive(Deserialize)]
struct Asked {
    query: String,
    time: Option<String>,
}

#[derive(Default)]
struct Seen {
    asked: Mutex<HashMap<(usize, i64), usize>>,
    scopes: AtomicUsize,
    delay: AtomicU64,
    /// How often it was asked which scopes there are, and how often it is to be
    /// before it answers.
    fetched: AtomicUsize,
    awaited: AtomicUsize,
}

/// The cloud; its scopes are `s0`, `s1`, ...
pub struct Cloud {
    pub url: String,
    seen: Arc<Seen>,
}

impl Cloud {
    /// One with that many scopes, and servers in each.
    pub async fn start(scopes: usize, things: usize) -> Self {
        let seen = Arc::new(Seen { scopes: scopes.into(), ..Seen::default() });
        let state = seen.clone();
        let route =
            get(async move |Query(asked): Query<Asked>| answer(&state, asked, things).await);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v1", listener.local_addr().unwrap());
        let router = Router::new().route("/api/v1/query", route);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen }
    }

    /// How often each scope's use until a time was asked for.
    pub fn asked(&self) -> HashMap<(usize, i64), usize> {
        self.seen.asked.lock().unwrap().clone()
    }

    /// Answers take that long from now on.
    pub fn set_delay(&self, delay: Duration) {
        self.seen.delay.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    /// Nobody is told which scopes there are before that many have asked: so
    /// they begin at one time.
    pub fn await_fetchers(&self, count: usize) {
        self.seen.awaited.store(count, Ordering::Relaxed);
    }

    /// The configuration of fetcher and collector.
    pub fn conf(&self) -> String {
        let url = &self.url;
        format!(
            "[fetcher]\nbackend = prometheus\n[fetcher_prometheus]\nmetric = scope_info\n\
             prometheus_url = {url}\n[collector_prometheus]\nprometheus_url = {url}\n\
             [collect]\ncollector = prometheus\n"
        )
    }
}

async fn answer(seen: &Seen, asked: Asked, things: usize) -> String {
    let of_scope =
        asked.query.split("project_id=\"s").nth(1).and_then(|rest| rest.split('"').next());
    let series: Vec<String> = match of_scope {
        Some(scope) => {
            tokio::time::sleep(Duration::from_millis(seen.delay.load(Ordering::Relaxed))).await;
            let scope: usize = scope.parse().unwrap();
            let end = DateTime::parse_from_rfc3339(&asked.time.unwrap()).unwrap().timestamp();
            *seen.asked.lock().unwrap().entry((scope, end)).or_default() += 1;
            let one = |thing| {
                let used = usage(scope, thing, end);
                format!(
                    r#"{{"metric":{{"project_id":"s{scope}","id":"{thing}"}},"value":[{end},"{used}"]}}"#
                )
            };
            (0..things).map(one).collect()
        }
        None => {
            seen.fetched.fetch_add(1, Ordering::Relaxed);
            while seen.fetched.load(Ordering::Relaxed) < seen.awaited.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (0..seen.scopes.load(Ordering::Relaxed))
                .map(|scope| format!(r#"{{"metric":{{"project_id":"s{scope}"}},"value":[0,"1"]}}"#))
                .collect()
        }
    };
    let series = series.join(",");
    format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
}
