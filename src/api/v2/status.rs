//! `GET /v2/ratekitty/status`: how the daemon does: processors, what fails, and which
//! scopes are behind. Of our own.

use std::cmp::Reverse;

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{json_bytes, response_of};
use crate::{
    api::{
        AppState,
        access::Caller,
        answer::{Answer, Instant},
        error::ApiError,
        openapi::Operation,
        query::{Args, Kind, Spec},
    },
    state::{
        failures::{self, Failure},
        processors::{self, Processor},
        scopes::{self, ScopeState},
    },
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
    let page = (args.number("offset").unwrap_or(0), args.number("limit").unwrap_or(SHOWN));
    let search = args.text("search").unwrap_or_default().to_lowercase();
    let question = format!("v2/ratekitty/status {page:?} {search:?}");
    let look = async { Ok(json_bytes(&status(&state, page, &search).await?)) };
    state.coalesced.answer(question, look).await.map(response_of)
}

/// How it does now; of the scopes whose identifiers contain a text, and of what fails,
/// a page.
async fn status<'a>(
    state: &'a AppState,
    (offset, limit): (u64, u64),
    search: &str,
) -> Result<Status<'a>, ApiError> {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (offset, limit) = (count(offset), count(limit));
    let is_meant = |scope_id: &str| search.is_empty() || scope_id.to_lowercase().contains(search);

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
        rated_until: Instant(scope.last_processed + length),
        periods_behind,
        lag_seconds,
    };
    Ok(Status {
        now: Instant(now),
        version: env!("CARGO_PKG_VERSION"),
        storage: &state.watch.storage,
        scope_key: &state.keys.scope_key,
        period_seconds: schedule.period,
        wait_periods: schedule.wait_periods,
        processors: processors.into_iter().map(Running::of).collect(),
        failing,
        failures: failures.into_iter().map(Failing::of).collect(),
        behind,
        total: meant.len(),
        scopes: meant.iter().skip(offset).take(limit).map(|meant| scope(*meant)).collect(),
    })
}

/// How the daemon does.
#[derive(Serialize, JsonSchema)]
struct Status<'a> {
    now: Instant,
    version: &'static str,
    storage: &'a str,
    scope_key: &'a str,
    period_seconds: u32,
    wait_periods: u32,
    processors: Vec<Running>,
    /// Scopes that fail; the newest of them follow.
    failing: usize,
    failures: Vec<Failing>,
    behind: Behind,
    /// Scopes that are meant; a page of them follows.
    total: usize,
    scopes: Vec<Scope>,
}

impl Answer for Status<'_> {}

/// A processor that runs, or has ended without a word.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Processor")]
struct Running {
    id: String,
    host: String,
    pid: u32,
    version: String,
    started: Instant,
    seen: Instant,
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
            started: Instant(processor.started),
            seen: Instant(processor.seen),
            periods: processor.periods,
            points: processor.points,
            problem: Some(processor.problem).filter(|problem| !problem.is_empty()),
        }
    }
}

/// A scope whose last try failed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Failure")]
struct Failing {
    scope_id: String,
    /// The period, if it is known.
    begin: Option<Instant>,
    end: Option<Instant>,
    failed: Instant,
    stage: String,
    error: String,
    tries: i64,
}

impl Failing {
    fn of(failure: Failure) -> Self {
        let is_known = failure.period.begin != Failure::UNKNOWN;
        let known = |date: DateTime<Utc>| is_known.then_some(Instant(date));
        Self {
            scope_id: failure.scope_id,
            begin: known(failure.period.begin),
            end: known(failure.period.end),
            failed: Instant(failure.at),
            stage: failure.stage.to_string(),
            error: failure.error.to_string(),
            tries: failure.tries,
        }
    }
}

/// How far scopes are behind, all together.
#[derive(Serialize, JsonSchema)]
struct Behind {
    scopes: usize,
    periods: u64,
    lag_seconds: i64,
}

/// How far a scope is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ScopeStatus")]
struct Scope {
    scope_id: String,
    active: bool,
    /// End of its last period.
    rated_until: Instant,
    /// Periods that are due.
    periods_behind: u64,
    /// Time since the first of them became so.
    lag_seconds: i64,
}

pub(super) fn describe() -> Vec<Operation> {
    let summary = "How the daemon does: processors, what fails, which scopes are behind";
    vec![
        Operation::new("get", "/v2/ratekitty/status", summary)
            .arguments(ARGS)
            .answers::<Status>(200, "How it does."),
    ]
}
