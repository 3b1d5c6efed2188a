//! The paths that read.

use std::fmt::Write;

use axum::response::Response;

use super::{
    Shared,
    eval::{Evaluation, Sample},
    form, go,
    http::{self, Call},
    labels,
    limits::Limits,
    logql::{self, Expr, LogExpr, Metric, VectorOp},
    logs, split,
    store::Tenant,
};

const SECOND: i64 = 1_000_000_000;

/// The body of an answer, or a status and the text of a refusal.
type Answer = Result<String, (u16, String)>;

/// What a request is answered from.
struct Reader<'a> {
    /// `None` before its first push.
    tenant: Option<&'a Tenant>,
    /// Those of the tenant.
    limits: Limits,
    /// Present time in nanoseconds.
    now: i64,
    /// The request.
    call: &'a Call,
}

/// The answer to a request for lines, labels or series.
pub fn answer(shared: &Shared, call: &Call, tenant: &str) -> Response {
    let store = shared.read();
    let tenant = store.tenants.get(tenant);
    let reader = Reader { tenant, limits: shared.limits(), now: shared.now(), call };
    let path = call.path.strip_prefix("/loki/api/v1/").unwrap_or_default();
    let label = path.strip_prefix("label/").and_then(|rest| rest.strip_suffix("/values"));
    let answer = match (path, label) {
        ("query", _) => reader.instant(),
        ("query_range", _) => reader.range(),
        ("labels" | "label", _) => reader.labels(None),
        ("series", _) => reader.series(),
        (_, Some(name)) => reader.labels(Some(&form::part(name))),
        _ => Err((404, "404 page not found\n".to_owned())),
    };
    match answer {
        Ok(body) => http::json(body),
        Err((status, error)) => http::text(status, error),
    }
}

fn bad(error: impl ToString) -> (u16, String) {
    (400, error.to_string())
}

impl Reader<'_> {
    fn expr(&self) -> Result<Expr, (u16, String)> {
        logql::parse(self.call.get("query"), self.limits.max_query_text).map_err(bad)
    }

    fn window(&self) -> Result<(i64, i64), (u16, String)> {
        let time = |name: &str, default: i64| match self.call.get(name) {
            "" => Ok(default),
            text => form::instant(text)
                .map_err(|error| bad(format!("could not parse '{name}' parameter: {error}"))),
        };
        let end = time("end", self.now)?;
        let since = match self.call.get("since") {
            "" => 3600 * SECOND,
            text => go::parse_model_duration(text)
                .ok_or_else(|| bad("could not parse 'since' parameter"))?,
        };
        let start = time("start", end.min(self.now) - since)?;
        if end < start {
            return Err(bad("end timestamp must not be before or equal to start time"));
        }
        Ok((start, end))
    }

    fn length(&self, nanos: i64) -> Result<(), (u16, String)> {
        let limit = self.limits.max_query_length * SECOND;
        if nanos / 1_000_000 > limit / 1_000_000 {
            return Err(bad(format!(
                "the query time range exceeds the limit (query length: {}, limit: {})",
                go::duration(nanos / 1_000_000 * 1_000_000),
                go::model_duration(limit)
            )));
        }
        Ok(())
    }

    /// Ranges are held to the length as well, although Loki's frontend lets
    /// some through which it splits.
    fn lengths(&self, metric: &Metric) -> Result<(), (u16, String)> {
        let mut longest = 0;
        metric.clone().each_range(&mut |range| longest = longest.max(range.interval));
        self.length(longest)
    }

    /// The size of what a query reads: of all lines of its streams.
    fn bytes(&self, log: &LogExpr, (from, to): (i64, i64)) -> Result<(), (u16, String)> {
        let limit = self.limits.max_query_bytes;
        let streams = self.tenant.into_iter().flat_map(|tenant| &tenant.streams);
        let entries = streams
            .filter(|stream| log.matches(&stream.labels))
            .flat_map(|stream| stream.between(from, to));
        let bytes: usize = entries.map(|entry| entry.line.len()).sum();
        if limit > 0 && bytes > limit {
            return Err(bad(format!(
                "un-shardable query too large to execute on a single querier: (query: {bytes} B, \
                 limit: {limit} B); consider adding more specific stream selectors or reduce the time \
                 range of the query"
            )));
        }
        Ok(())
    }

    fn limit(&self) -> Result<usize, (u16, String)> {
        let text = self.call.get("limit");
        match text.parse::<i64>() {
            Ok(limit) if limit > 0 => Ok(limit as usize),
            Ok(_) => Err(bad("limit must be a positive value")),
            Err(_) if text.is_empty() => Ok(100),
            Err(_) => Err(bad(format!("strconv.Atoi: parsing {text:?}: invalid syntax"))),
        }
    }

    fn forward(&self) -> Result<bool, (u16, String)> {
        match self.call.get("direction") {
            "" => Ok(false),
            text if text.eq_ignore_ascii_case("forward") => Ok(true),
            text if text.eq_ignore_ascii_case("backward") => Ok(false),
            text => Err(bad(format!("invalid direction '{text}'"))),
        }
    }

    fn evaluation(&self) -> Evaluation<'_> {
        Evaluation { tenant: self.tenant, limits: &self.limits, now: self.now }
    }

    fn split(&self) -> i64 {
        self.limits.split_queries_by_interval * SECOND
    }

    fn instant(&self) -> Answer {
        self.limit()?;
        let time = match self.call.get("time") {
            "" => self.now,
            text => form::instant(text).map_err(bad)?,
        };
        self.forward()?;
        let Expr::Metric(metric) = self.expr()? else {
            return Err(bad(
                "log queries are not supported as an instant query type, please change your \
                 query to a range query type",
            ));
        };
        self.lengths(&metric)?;
        let mut ranges = Vec::new();
        metric.clone().each_range(&mut |range| ranges.push(range.clone()));
        for range in ranges {
            let end = time - range.offset + 1;
            self.bytes(&range.log, (end - range.interval, end))?;
        }
        if let Metric::Literal(value) = metric {
            let result = format!("[{},\"{}\"]", seconds(time), go::float(value));
            return Ok(body("scalar", &result, 0));
        }
        let by_value =
            matches!(metric, Metric::Vector { op: VectorOp::Top | VectorOp::Bottom, .. });
        let metric = split::by_range(metric, self.split());
        let vectors = self.evaluation().run(&metric, &[time]).map_err(bad)?;
        let mut vector = vectors.into_iter().next().unwrap_or_default();
        if !by_value {
            vector.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        let count = vector.len();
        let samples: Vec<String> = vector
            .iter()
            .map(|Sample { labels, value }| {
                let labels = labels::json(labels.iter().map(|(n, v)| (&**n, &**v)));
                let value = go::float(*value);
                format!("{{\"metric\":{labels},\"value\":[{},\"{value}\"]}}", seconds(time))
            })
            .collect();
        Ok(body("vector", &format!("[{}]", samples.join(",")), count))
    }

    fn range(&self) -> Answer {
        let window = self.window()?;
        let limit = self.limit()?;
        let forward = self.forward()?;
        let step = match self.call.get("step") {
            "" => ((window.1 - window.0) / SECOND / 250).max(1) * SECOND,
            text => form::step(text).map_err(bad)?,
        };
        // The frontend knows no steps below a millisecond.
        let step = step / 1_000_000 * 1_000_000;
        if step <= 0 {
            return Err(bad(
                "zero or negative query resolution step widths are not accepted. Try a positive \
                 integer",
            ));
        }
        if (window.1 - window.0) / step > 11_000 {
            return Err(bad(
                "exceeded maximum resolution of 11,000 points per time series. Try increasing the \
                 value of the step parameter",
            ));
        }
        match self.expr()? {
            Expr::Log(log) => self.lines(&log, window, limit, forward),
            Expr::Metric(metric) => self.matrix(&metric, window, step),
        }
    }

    fn lines(&self, log: &LogExpr, window: (i64, i64), limit: usize, forward: bool) -> Answer {
        let max = self.limits.max_entries_limit_per_query;
        if limit > max {
            return Err(bad(format!(
                "max entries limit per query exceeded, limit > max_entries_limit_per_query \
                 ({limit} > {max})"
            )));
        }
        self.length(window.1 - window.0)?;
        self.bytes(log, window)?;
        let Some(tenant) = self.tenant else { return Ok(body("streams", "[]", 0)) };
        let found = logs::lines(tenant, &self.limits, self.now, log, window, limit, forward);
        let streams: Vec<String> = found
            .streams
            .into_iter()
            .map(|(labels, lines)| {
                format!("{{\"stream\":{labels},\"values\":[{}]}}", lines.join(","))
            })
            .collect();
        Ok(body("streams", &format!("[{}]", streams.join(",")), found.count))
    }

    fn matrix(&self, metric: &Metric, window: (i64, i64), step: i64) -> Answer {
        self.length(window.1 - window.0)?;
        self.lengths(metric)?;
        let evaluation = self.evaluation();
        let mut series = std::collections::BTreeMap::new();
        for steps in split::by_step(window.0, window.1, step, metric, self.split()) {
            let vectors = evaluation.run(metric, &steps).map_err(bad)?;
            for (time, vector) in steps.iter().zip(vectors) {
                for Sample { labels, value } in vector {
                    let points: &mut Vec<String> = series.entry(labels).or_default();
                    points.push(format!("[{},\"{}\"]", seconds(*time), go::float(value)));
                }
            }
            if series.len() > self.limits.max_query_series {
                return Err(bad(evaluation.too_many_series()));
            }
        }
        let mut result = String::new();
        for (labels, points) in &series {
            let labels = labels::json(labels.iter().map(|(n, v)| (&**n, &**v)));
            let comma = if result.is_empty() { "" } else { "," };
            let points = points.join(",");
            let _ = write!(result, "{comma}{{\"metric\":{labels},\"values\":[{points}]}}");
        }
        Ok(body("matrix", &format!("[{result}]"), series.len()))
    }

    /// Selectors of a parameter that may come several times.
    fn selectors(&self, names: &[&str]) -> Result<Vec<LogExpr>, (u16, String)> {
        let given = self.call.parameters.iter();
        let given = given.filter(|(name, value)| names.contains(&&**name) && !value.is_empty());
        given
            .map(|(_, text)| match logql::parse(text, self.limits.max_query_text).map_err(bad)? {
                Expr::Log(log) if log.stages.is_empty() => Ok((*log).clone()),
                _ => Err(bad("only label matchers are supported")),
            })
            .collect()
    }

    fn labels(&self, name: Option<&str>) -> Answer {
        let window = self.window()?;
        let selectors = self.selectors(&["query"])?;
        self.length(window.1 - window.0)?;
        let found = self.tenant.map_or_else(Vec::new, |tenant| {
            logs::streams(tenant, &self.limits, self.now, &selectors, window)
        });
        let texts = logs::label_texts(&found, name);
        if texts.is_empty() {
            // Nothing is no key at all.
            return Ok(r#"{"status":"success"}"#.to_owned());
        }
        let texts: Vec<String> = texts.into_iter().collect();
        let data = serde_json::Value::from(texts);
        Ok(format!("{{\"status\":\"success\",\"data\":{data}}}"))
    }

    fn series(&self) -> Answer {
        let window = self.window()?;
        let selectors = self.selectors(&["match[]", "match"])?;
        if selectors.is_empty() && self.call.parameters.iter().all(|(n, _)| n != "match[]") {
            return Err(bad("0 matcher groups supplied"));
        }
        self.length(window.1 - window.0)?;
        let found = self.tenant.map_or_else(Vec::new, |tenant| {
            logs::streams(tenant, &self.limits, self.now, &selectors, window)
        });
        let sets: Vec<String> = found
            .iter()
            .map(|stream| labels::json(stream.labels.iter().map(|(n, v)| (&**n, &**v))))
            .collect();
        Ok(format!("{{\"status\":\"success\",\"data\":[{}]}}", sets.join(",")))
    }
}

/// An instant as Prometheus prints it: seconds, cut at milliseconds.
fn seconds(nanos: i64) -> String {
    (nanos.div_euclid(1_000_000) as f64 / 1000.0).to_string()
}

/// The answer to a query.
fn body(kind: &str, result: &str, entries: usize) -> String {
    format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",\"result\":{result},\
         \"stats\":{{\"summary\":{{\"bytesProcessedPerSecond\":0,\"linesProcessedPerSecond\":0,\
         \"totalBytesProcessed\":0,\"totalLinesProcessed\":0,\"execTime\":0.001,\"queueTime\":0,\
         \"subqueries\":0,\"totalEntriesReturned\":{entries},\"splits\":0,\"shards\":0,\
         \"totalPostFilterLines\":0,\"totalStructuredMetadataBytesProcessed\":0}}}}}}}}\n"
    )
}
