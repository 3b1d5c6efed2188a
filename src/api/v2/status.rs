//! `GET /v2/ratekitty/status`: how the daemon does: processors, what fails, and which
//! scopes are behind. Of our own.

use std::cmp::Reverse;

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::json;

use super::json_response;
use crate::{
    api::{
        AppState,
        access::Caller,
        error::ApiError,
        openapi::{Operation, schema},
        query::{Args, Kind, Spec},
    },
    state::{
        failures::{self, Failure},
        processors::{self, Processor},
        scopes::{self, ScopeState},
    },
    time::isoformat,
};

const ARGS: &[Spec] = &[("offset", Kind::Int(0)), ("limit", Kind::Int(1)), ("search", Kind::Text)];

/// Scopes and failures of an answer, unless `limit` says otherwise.
const SHOWN: u64 = 50;

/// `GET /v2/ratekitty/status`.
pub(in crate::api) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let args = Args::parse(query.as_deref(), ARGS)?;
    caller.may("scope:get_state", &[("project_id", json!(caller.project_id()))])?;
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let offset = count(args.number("offset").unwrap_or(0));
    let limit = count(args.number("limit").unwrap_or(SHOWN));
    let search = args.text("search").unwrap_or_default().to_lowercase();
    let is_meant = |scope_id: &str| search.is_empty() || scope_id.to_lowercase().contains(&search);

    let now = state.clock.now();
    let schedule = state.watch.schedule;
    let all = scopes::overview(&state.database, &state.keys).await?;
    let mut failures = failures::standing(&state.database, &state.keys).await?;
    let processors = processors::list(&state.database).await?;
    let mut meant: Vec<(&ScopeState, u64, i64)> = all
        .values()
        .filter(|scope| is_meant(&scope.identifier))
        .map(|scope| {
            let periods =
                if scope.active { schedule.backlog(scope.last_processed, now) } else { 0 };
            let due = schedule.due(schedule.after(scope.last_processed));
            (scope, periods, if periods > 0 { (now - due).num_seconds() } else { 0 })
        })
        .collect();
    // Those that wait for the longest time first, those that are not rated last.
    meant.sort_by_key(|(scope, _, lag)| {
        (Reverse(scope.active), Reverse(*lag), scope.last_processed, &scope.identifier)
    });
    failures.retain(|failure| is_meant(&failure.scope_id));
    let failing = failures.len();
    failures.truncate(limit);
    failures::errors(&state.database, &state.keys, &mut failures).await?;
    let behind = Behind {
        scopes: meant.iter().filter(|(_, periods, _)| *periods > 0).count(),
        periods: meant.iter().map(|(_, periods, _)| *periods).sum(),
        lag_seconds: meant.iter().map(|(.., lag)| *lag).max().unwrap_or(0),
    };
    let length = TimeDelta::seconds(schedule.period.into());
    let scope = |(scope, periods_behind, lag_seconds): (&ScopeState, u64, i64)| Scope {
        scope_id: scope.identifier.clone(),
        active: scope.active,
        rated_until: isoformat(scope.last_processed + length),
        periods_behind,
        lag_seconds,
    };
    Ok(json_response(&Status {
        now: isoformat(now),
        version: env!("CARGO_PKG_VERSION"),
        storage: &state.watch.storage,
        scope_key: &state.keys.scope_key,
        period_seconds: schedule.period,
        wait_periods: schedule.wait_periods,
        processors: processors.into_iter().map(Running::of).collect(),
        failing,
        failures: failures.iter().map(Failing::of).collect(),
        behind,
        total: meant.len(),
        scopes: meant.iter().skip(offset).take(limit).map(|meant| scope(*meant)).collect(),
    }))
}

/// How the daemon does.
#[derive(Serialize)]
struct Status<'a> {
    now: String,
    version: &'static str,
    storage: &'a str,
    scope_key: &'a str,
    period_seconds: u32,
    wait_periods: u32,
    processors: Vec<Running>,
    /// Scopes that fail; the newest of them follow.
    failing: usize,
    failures: Vec<Failing<'a>>,
    behind: Behind,
    /// Scopes that are meant; a page of them follows.
    total: usize,
    scopes: Vec<Scope>,
}

/// A processor that runs, or has ended without a word.
#[derive(Serialize)]
struct Running {
    id: String,
    host: String,
    pid: u32,
    version: String,
    started: String,
    seen: String,
    periods: u64,
    points: u64,
    problem: Option<String>,
}

impl Running {
    fn of(processor: Processor) -> Self {
        Self {
            id: processor.id,
            host: processor.host,
            pid: processor.pid,
            version: processor.version,
            started: isoformat(processor.started),
            seen: isoformat(processor.seen),
            periods: processor.periods,
            points: processor.points,
            problem: Some(processor.problem).filter(|problem| !problem.is_empty()),
        }
    }
}

/// A scope whose last try failed.
#[derive(Serialize)]
struct Failing<'a> {
    scope_id: &'a str,
    /// The period, if it is known.
    begin: Option<String>,
    end: Option<String>,
    failed: String,
    stage: &'a str,
    error: &'a str,
    tries: i64,
}

impl<'a> Failing<'a> {
    fn of(failure: &'a Failure) -> Self {
        let is_known = failure.period.begin != Failure::UNKNOWN;
        let known = |date: DateTime<Utc>| is_known.then(|| isoformat(date));
        Self {
            scope_id: &failure.scope_id,
            begin: known(failure.period.begin),
            end: known(failure.period.end),
            failed: isoformat(failure.at),
            stage: &failure.stage,
            error: &failure.error,
            tries: failure.tries,
        }
    }
}

/// How far scopes are behind, all together.
#[derive(Serialize)]
struct Behind {
    scopes: usize,
    periods: u64,
    lag_seconds: i64,
}

/// How far a scope is.
#[derive(Serialize)]
struct Scope {
    scope_id: String,
    active: bool,
    /// End of its last period.
    rated_until: String,
    /// Periods that are due.
    periods_behind: u64,
    /// Time since the first of them became so.
    lag_seconds: i64,
}

pub(super) fn describe() -> Vec<Operation> {
    let processor = schema::object(&[
        ("id", schema::text()),
        ("host", schema::text()),
        ("pid", schema::integer()),
        ("version", schema::text()),
        ("started", schema::date()),
        ("seen", schema::date()),
        ("periods", schema::integer()),
        ("points", schema::integer()),
        ("problem", schema::nullable(schema::text())),
    ]);
    let failure = schema::object(&[
        ("scope_id", schema::text()),
        ("begin", schema::nullable(schema::date())),
        ("end", schema::nullable(schema::date())),
        ("failed", schema::date()),
        ("stage", schema::text()),
        ("error", schema::text()),
        ("tries", schema::integer()),
    ]);
    let behind = schema::object(&[
        ("scopes", schema::integer()),
        ("periods", schema::integer()),
        ("lag_seconds", schema::integer()),
    ]);
    let scope = schema::object(&[
        ("scope_id", schema::text()),
        ("active", schema::boolean()),
        ("rated_until", schema::date()),
        ("periods_behind", schema::integer()),
        ("lag_seconds", schema::integer()),
    ]);
    let status = schema::object(&[
        ("now", schema::date()),
        ("version", schema::text()),
        ("storage", schema::text()),
        ("scope_key", schema::text()),
        ("period_seconds", schema::integer()),
        ("wait_periods", schema::integer()),
        ("processors", schema::list(processor)),
        ("failing", schema::integer()),
        ("failures", schema::list(failure)),
        ("behind", behind),
        ("total", schema::integer()),
        ("scopes", schema::list(scope)),
    ]);
    let summary = "How the daemon does: processors, what fails, which scopes are behind";
    vec![Operation::new("get", "/v2/ratekitty/status", summary).arguments(ARGS).answers(
        200,
        "How it does.",
        status,
    )]
}
