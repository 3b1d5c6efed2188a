//! A cloud of servers whose use is known: a Prometheus that answers for any
//! scope and hour, and counts what it is asked.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Form, Router, extract::Query, http::StatusCode, routing::get};
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
    start: Option<String>,
    end: Option<String>,
    step: Option<i64>,
}

impl Asked {
    /// The scopes whose use is asked for.
    fn scopes(&self) -> Vec<usize> {
        let Some((_, list)) = self.query.split_once("project_id=") else { return Vec::new() };
        let list = list.trim_start_matches('~').split('"').nth(1).unwrap();
        list.split('|').map(|scope| scope[1..].parse().unwrap()).collect()
    }

    /// The times until which it is asked for.
    fn ends(&self) -> Vec<i64> {
        let at = |time: &str| DateTime::parse_from_rfc3339(time).unwrap().timestamp();
        match (&self.time, &self.start, &self.end, self.step) {
            (Some(time), ..) => vec![at(time)],
            (None, Some(start), Some(end), Some(step)) => {
                (at(start)..=at(end)).step_by(step as usize).collect()
            }
            _ => panic!("no time in the query {}", self.query),
        }
    }
}

#[derive(Default)]
struct Seen {
    asked: Mutex<HashMap<(usize, i64), usize>>,
    scopes: AtomicUsize,
    delay: AtomicU64,
    /// How many scopes and hours a question may be about.
    limit: AtomicUsize,
    questions: AtomicUsize,
    is_down: AtomicBool,
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
        let limit = AtomicUsize::new(usize::MAX);
        let seen = Arc::new(Seen { scopes: scopes.into(), limit, ..Seen::default() });
        let state = seen.clone();
        let route = || {
            let (got, posted) = (state.clone(), state.clone());
            get(async move |Query(asked): Query<Asked>| bounded(&got, asked, things).await)
                .post(async move |Form(asked): Form<Asked>| bounded(&posted, asked, things).await)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v1", listener.local_addr().unwrap());
        let router =
            Router::new().route("/api/v1/query", route()).route("/api/v1/query_range", route());
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

    /// Questions about more scopes times hours are refused from now on.
    pub fn set_limit(&self, limit: usize) {
        self.seen.limit.store(limit, Ordering::Relaxed);
    }

    /// Nobody answers what is asked about use, or somebody does again.
    pub fn set_down(&self, is_down: bool) {
        self.seen.is_down.store(is_down, Ordering::Relaxed);
    }

    /// How many questions about use there were.
    pub fn questions(&self) -> usize {
        self.seen.questions.load(Ordering::Relaxed)
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

async fn bounded(seen: &Seen, asked: Asked, things: usize) -> (StatusCode, String) {
    let scopes = asked.scopes().len();
    if scopes > 0 {
        seen.questions.fetch_add(1, Ordering::Relaxed);
        if seen.is_down.load(Ordering::Relaxed) {
            return (StatusCode::BAD_GATEWAY, "nobody there".to_owned());
        }
        if scopes * asked.ends().len() > seen.limit.load(Ordering::Relaxed) {
            let error =
                "query processing would load too many samples into memory in query execution";
            let error =
                format!(r#"{{"status":"error","errorType":"execution","error":"{error}"}}"#);
            return (StatusCode::UNPROCESSABLE_ENTITY, error);
        }
    }
    (StatusCode::OK, answer(seen, asked, things).await)
}

async fn answer(seen: &Seen, asked: Asked, things: usize) -> String {
    let scopes = asked.scopes();
    let series: Vec<String> = if scopes.is_empty() {
        seen.fetched.fetch_add(1, Ordering::Relaxed);
        while seen.fetched.load(Ordering::Relaxed) < seen.awaited.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (0..seen.scopes.load(Ordering::Relaxed))
            .map(|scope| format!(r#"{{"metric":{{"project_id":"s{scope}"}},"value":[0,"1"]}}"#))
            .collect()
    } else {
        let ends = asked.ends();
        // A question about much takes as long as many about less.
        let parts = (scopes.len() * ends.len()) as u64;
        let delay = seen.delay.load(Ordering::Relaxed) * parts;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        let mut counts = seen.asked.lock().unwrap();
        let things = scopes.iter().flat_map(|scope| (0..things).map(move |thing| (*scope, thing)));
        for key in scopes.iter().flat_map(|scope| ends.iter().map(move |end| (*scope, *end))) {
            *counts.entry(key).or_default() += 1;
        }
        let one = |(scope, thing)| {
            let value = |end: &i64| format!(r#"[{end},"{}"]"#, usage(scope, thing, *end));
            let values: Vec<_> = ends.iter().map(value).collect();
            let values = match asked.time {
                Some(_) => format!("\"value\":{}", values[0]),
                None => format!("\"values\":[{}]", values.join(",")),
            };
            format!(r#"{{"metric":{{"project_id":"s{scope}","id":"{thing}"}},{values}}}"#)
        };
        things.map(one).collect()
    };
    let (kind, series) =
        (if asked.start.is_some() { "matrix" } else { "vector" }, series.join(","));
    format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":[{series}]}}}}"#)
}
