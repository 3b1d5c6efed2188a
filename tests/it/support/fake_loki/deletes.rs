//! `/delete`: hides lines, also those pushed later on.

use std::sync::Arc;

use super::{
    logql::{self, Expr, LogExpr},
    pipeline::Pipeline,
    store::{Entry, Stream, Tenant},
};

/// A request to delete.
pub struct Delete {
    /// As it was sent.
    pub query: String,
    /// The same, parsed.
    selector: Arc<LogExpr>,
    /// First and last instant in milliseconds.
    pub window: (i64, i64),
    /// When it was asked for, in nanoseconds.
    pub created: i64,
}

impl Delete {
    /// The request of a query string; `Err` is Loki's refusal.
    pub fn parse(parameter: impl Fn(&str) -> String, now: i64) -> Result<Self, String> {
        let query = parameter("query");
        if query.is_empty() {
            return Err("query not set".to_owned());
        }
        let expr = logql::parse(&query, usize::MAX).map_err(|error| error.to_string())?;
        let Expr::Log(selector) = expr else {
            return Err("unsupported query expression".to_owned());
        };
        let now = now / 1_000_000;
        if parameter("start").is_empty() {
            return Err("start time not set".to_owned());
        }
        let wrong = |which| format!("invalid {which} time: require unix seconds or RFC3339 format");
        let start = instant(&parameter("start"), now).ok_or_else(|| wrong("start"))?;
        let end = instant(&parameter("end"), now).ok_or_else(|| wrong("end"))?;
        if end > now {
            return Err("deletes in the future are not allowed".to_owned());
        }
        if start > end {
            return Err("start time can't be greater than end time".to_owned());
        }
        Ok(Self { query, selector, window: (start, end), created: now * 1_000_000 })
    }

    /// As `GET /delete` lists it.
    pub fn json(&self, id: usize, acts: bool) -> serde_json::Value {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        serde_json::json!({
            "request_id": format!("{id:08x}"),
            "start_time": seconds(self.window.0),
            "end_time": seconds(self.window.1),
            "query": self.query,
            "status": if acts { "processed" } else { "received" },
            "created_at": seconds(self.created / 1_000_000),
        })
    }
}

/// Milliseconds of ten digits of Unix seconds, of RFC 3339, or of nothing: now.
fn instant(text: &str, now: i64) -> Option<i64> {
    if text.is_empty() {
        return Some(now);
    }
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    (text.len() == 10).then(|| text.parse::<i64>().ok()).flatten().map(|seconds| seconds * 1000)
}

/// The deletes that act on a stream.
pub struct Hidden<'a> {
    acting: Vec<(&'a Delete, Pipeline)>,
    stream: &'a Stream,
}

impl<'a> Hidden<'a> {
    /// Those of a tenant that act at `now`.
    pub fn of(tenant: &'a Tenant, stream: &'a Stream, now: i64, delay: i64) -> Self {
        let acting = tenant
            .deletes
            .iter()
            .filter(|delete| delete.created + delay * 1_000_000_000 <= now)
            .filter(|delete| delete.selector.matches(&stream.labels))
            .map(|delete| (delete, Pipeline::for_logs(&delete.selector.stages)))
            .collect();
        Self { acting, stream }
    }

    /// Whether an entry is deleted.
    pub fn hides(&mut self, entry: &Entry) -> bool {
        self.acting.iter_mut().any(|(delete, pipeline)| {
            let (from, to) = delete.window;
            (from * 1_000_000..=to.saturating_mul(1_000_000)).contains(&entry.ts)
                && pipeline.run(&self.stream.labels, entry).is_some()
        })
    }
}
