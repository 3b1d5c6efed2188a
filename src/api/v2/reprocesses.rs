//! `/v2/task/reprocesses`: times of scopes that are rated again.

use axum::{
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{json_response, page};
use crate::{
    api::{
        AppState,
        access::Caller,
        answer::{Answer, NaiveDate, Nothing},
        body::{self, Object, Whole},
        error::ApiError,
        openapi::{Operation, schema},
        query::{Args, Kind, Spec},
    },
    state::{
        reprocessing::{self, Reprocessing, ScheduleError},
        scopes::{self, ScopeFilter, ScopeState},
    },
    text::python_repr,
    time::local,
};

/// What stands for all active scopes.
const ALL: &str = "ALL";

/// Longest reason, in bytes: what MariaDB keeps.
const LONGEST: usize = 65_535;

const ARGS: &[Spec] = &[
    ("scope_ids", Kind::List),
    ("order", Kind::Text),
    ("offset", Kind::Int(0)),
    ("limit", Kind::Int(1)),
];

/// What `order` may be, in small or capital letters.
const ORDERS: &[&str] = &["asc", "desc"];

/// `GET /v2/task/reprocesses` and `GET /v2/task/reprocesses/{scope_id}`.
pub(in crate::api) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    scope_id: Option<Path<String>>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let args = Args::parse(query.as_deref(), ARGS)?;
    let scope_ids = scope_id.map_or_else(|| args.list("scope_ids"), |Path(id)| vec![id]);
    caller.may("schedule:get_task_reprocesses", &[("tenant_id", meant(&scope_ids, &caller))])?;
    let order = args.text("order").unwrap_or("desc").to_lowercase();
    if !ORDERS.contains(&order.as_str()) {
        let text =
            format!("The order [{order}] is not valid. Accepted values are ['asc', 'desc'].");
        return Err(ApiError::BadRequest(text));
    }
    let page = page(&args);
    let last_first = order == "desc";
    let page = (page.offset, page.limit);
    let found = reprocessing::list(&state.database, &scope_ids, last_first, page).await?;
    Ok(json_response(&Schedules { results: found.iter().map(Schedule::of).collect() }))
}

/// What a request is about: the caller's own project, or else scopes.
fn meant(scope_ids: &[String], caller: &Caller) -> Value {
    match caller.project_id() {
        Some(project) => json!(project),
        None => json!(scope_ids),
    }
}

/// What is scheduled to be rated again.
#[derive(Serialize, JsonSchema)]
struct Schedules<'a> {
    results: Vec<Schedule<'a>>,
}

impl Answer for Schedules<'_> {}

/// A time of a scope that is rated again. Dates are in UTC, as the table has them.
#[derive(Serialize, JsonSchema)]
struct Schedule<'a> {
    scope_id: &'a str,
    reason: &'a str,
    start_reprocess_time: NaiveDate,
    end_reprocess_time: NaiveDate,
    current_reprocess_time: Reached,
}

/// A date; before there is any, an empty text.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Reached {
    Period(NaiveDate),
    None(#[schemars(extend("const" = ""))] &'static str),
}

impl<'a> Schedule<'a> {
    fn of(schedule: &'a Reprocessing) -> Self {
        let reached = schedule.current.map(NaiveDate::utc);
        Self {
            scope_id: &schedule.scope_id,
            reason: &schedule.reason,
            start_reprocess_time: NaiveDate::utc(schedule.start),
            end_reprocess_time: NaiveDate::utc(schedule.end),
            current_reprocess_time: reached.map_or(Reached::None(""), Reached::Period),
        }
    }
}

const BODY: &[body::Spec] = &[
    ("scope_ids", body::Kind::List, true),
    ("start_reprocess_time", body::Kind::Date("dt_from_iso_as_utc"), true),
    ("end_reprocess_time", body::Kind::Date("dt_from_iso_as_utc"), true),
    ("reason", body::Kind::Text, true),
];

/// `POST /v2/task/reprocesses`
pub(in crate::api) async fn post(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    Whole(bytes): Whole,
) -> Result<Response, ApiError> {
    let body = Object::check(body::json(&headers, &bytes)?, BODY)?;
    let (scope_ids, reason) = (body.list("scope_ids"), body.text("reason").unwrap_or_default());
    caller.may("schedule:task_reprocesses", &[("tenant_id", meant(&scope_ids, &caller))])?;
    let dates = (body.date("start_reprocess_time"), body.date("end_reprocess_time"));
    let (Some(start), Some(end)) = dates else {
        return Err(body.invalid("start_reprocess_time", "expected dt_from_iso_as_utc"));
    };
    check(&body, &scope_ids, (start, end), &reason, state.period)?;
    let scopes = chosen(&state, &scope_ids, (start, end)).await?;
    match reprocessing::schedule_all(&state.database, &scopes, (start, end), &reason).await {
        Ok(()) => Ok((StatusCode::ACCEPTED, json_response(&Nothing {})).into_response()),
        Err(ScheduleError::State(error)) => Err(error.into()),
        Err(ScheduleError::TooLate(scope)) => Err(too_late(&scope, (start, end))),
        Err(ScheduleError::Scheduled(scope, other)) => Err(ApiError::BadRequest(format!(
            "Cannot schedule a reprocessing for scope [{}] for reprocessing time [{}], \
                 because it already has a schedule for a similar time range [{}].",
            told(&scope),
            range(start, end),
            range(other.start, other.end)
        ))),
    }
}

/// What can be said without looking at scopes.
fn check(
    body: &Object,
    scope_ids: &[String],
    (start, end): (DateTime<Utc>, DateTime<Utc>),
    reason: &str,
    period: u32,
) -> Result<(), ApiError> {
    let refused = |text: String| Err(ApiError::BadRequest(text));
    if scope_ids.is_empty() {
        // The reference takes it for all scopes.
        return Err(body.invalid("scope_ids", "length of value must be at least 1"));
    }
    if scope_ids.len() > 1 && scope_ids.iter().any(|id| id == ALL) {
        return refused(format!(
            "Cannot use 'ALL' with scope ID [{}]. Either schedule a reprocessing for all active \
             scopes using 'ALL' option, or inform only the scopes you desire to schedule a \
             reprocessing.",
            python_list(scope_ids)
        ));
    }
    if reason.trim().is_empty() {
        return refused(
            "Empty or blank reason text is not allowed. Please, do inform/register the reason for \
             the reprocessing of a previously processed timestamp."
                .to_owned(),
        );
    }
    if reason.len() > LONGEST || reason.contains('\0') {
        let problem = format!("at most {LONGEST} bytes and no NUL characters are allowed");
        return Err(body.invalid("reason", &problem));
    }
    if end < start {
        return refused(format!(
            "End reprocessing timestamp [{}] cannot be less than start reprocessing timestamp \
             [{}].",
            utc(end),
            utc(start)
        ));
    }
    let period = i64::from(period);
    let off = |date: DateTime<Utc>| date.timestamp().rem_euclid(period);
    if off(start) == 0 && off(end) == 0 {
        return Ok(());
    }
    let valid_start = start - TimeDelta::seconds(off(start));
    let mut valid_end = end - TimeDelta::seconds(off(end));
    if valid_start == valid_end {
        valid_end += TimeDelta::seconds(period);
    }
    refused(format!(
        "The provided reprocess time window does not comply with the configured collector period. \
         A valid time window near the provided one is ['{}', '{}']",
        utc(valid_start),
        utc(valid_end)
    ))
}

/// The scopes that are named, all of which must be there and active.
async fn chosen(
    state: &AppState,
    scope_ids: &[String],
    (start, end): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Vec<ScopeState>, ApiError> {
    let is_all = matches!(scope_ids, [id] if id == ALL);
    let identifiers = if is_all { Vec::new() } else { scope_ids.to_vec() };
    let filter = ScopeFilter { identifiers, active: vec![1], ..ScopeFilter::default() };
    let mut found = scopes::list(&state.database, &filter, 0, u64::MAX).await?;
    if is_all {
        return Ok(found);
    }
    found.retain(|scope| scope_ids.contains(&scope.identifier));
    let is_there = |id: &&String| found.iter().any(|scope| scope.identifier == **id);
    let missing: Vec<String> = scope_ids.iter().filter(|id| !is_there(id)).cloned().collect();
    match missing.is_empty() {
        true => Ok(found),
        false => Err(ApiError::BadRequest(format!(
            "Scopes {} scheduled to reprocess [start={}, end={}] do not exist.",
            python_list(&missing),
            utc(start),
            utc(end)
        ))),
    }
}

fn too_late(scope: &ScopeState, (start, end): (DateTime<Utc>, DateTime<Utc>)) -> ApiError {
    let (name, date, word) = match start > scope.last_processed {
        true => ("start", start, "starting"),
        false => ("end", end, "ending"),
    };
    let last = local(scope.last_processed).format("%Y-%m-%d %H:%M:%S%:z");
    ApiError::BadRequest(format!(
        "Cannot execute a reprocessing [{name}={}] for scope [{}] {word} after the last possible \
         timestamp [{last}].",
        utc(date),
        told(scope)
    ))
}

/// A scope as the reference tells it.
fn told(scope: &ScopeState) -> String {
    let active = if scope.active { "True" } else { "False" };
    let identifier = python_repr(&scope.identifier);
    format!("{{'id': {}, 'identifier': {identifier}, 'active': {active}}}", scope.id)
}

fn utc(date: DateTime<Utc>) -> String {
    date.format("%Y-%m-%d %H:%M:%S+00:00").to_string()
}

fn range(start: DateTime<Utc>, end: DateTime<Utc>) -> String {
    let date = |date: DateTime<Utc>| date.format("%Y-%m-%dT%H:%M:%S+0000").to_string();
    format!("{} - {}", date(start), date(end))
}

fn python_list(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| python_repr(text)).collect();
    format!("[{}]", texts.join(", "))
}

pub(super) fn describe() -> Vec<Operation> {
    let mut body = schema::of_body(BODY);
    body["properties"]["reason"] = json!({"type": "string", "pattern": "\\S"});
    let path = "/v2/task/reprocesses";
    let list = |path: &str| {
        Operation::new("get", path, "What is scheduled to be rated again")
            .arguments(ARGS)
            .choice("order", ORDERS)
            .answers::<Schedules>(200, "Schedules.")
    };
    vec![
        list(path),
        list("/v2/task/reprocesses/{scope_id}"),
        Operation::new("post", path, "Schedule scopes to be rated again")
            .body_like(body)
            .answers::<Nothing>(202, "A processor does it soon."),
    ]
}
