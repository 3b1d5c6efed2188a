//! `/v2/scope`: scopes and how far they are rated.

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{NOTHING_FOUND, json_bytes, json_response, page, response_of};
use crate::{
    api::{
        AppState,
        access::Caller,
        answer::{Answer, Instant, Nothing},
        body::{self, Object, Whole},
        error::ApiError,
        openapi::{Operation, schema},
        query::{Args, Kind, Spec},
    },
    state::{
        StateError, resets,
        scopes::{self, ScopeChange, ScopeFilter, ScopeKeys, ScopeState},
    },
};

const LAST: (&str, body::Kind) = ("last_processed_timestamp", body::Kind::Date("dt_from_iso"));

/// Longest identifier, and longest key.
const LONGEST: (usize, usize) = (256, 40);

const ARGS: &[Spec] = &[
    ("offset", Kind::Int(0)),
    ("limit", Kind::Int(1)),
    ("scope_id", Kind::List),
    ("scope_key", Kind::List),
    ("fetcher", Kind::List),
    ("collector", Kind::List),
    ("active", Kind::IntList),
];

/// `GET /v2/scope`.
pub(in crate::api) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let args = Args::parse(query.as_deref(), ARGS)?;
    caller.may("scope:get_state", &[("project_id", meant(&args.list("scope_id"), &caller))])?;
    let filter = ScopeFilter {
        identifiers: args.list("scope_id"),
        scope_keys: args.list("scope_key"),
        fetchers: args.list("fetcher"),
        collectors: args.list("collector"),
        active: args.int_list("active"),
    };
    let page = page(&args);
    let look = async {
        let found = scopes::list(&state.database, &filter, page.offset, page.limit).await?;
        if found.is_empty() {
            return Err(ApiError::NotFound(NOTHING_FOUND.to_owned()));
        }
        Ok(json_bytes(&Scopes { results: found.iter().map(Shown::of).collect() }))
    };
    let question = format!("v2/scope {filter:?} {page:?}");
    state.coalesced.answer(question, look).await.map(response_of)
}

/// What a request is about: scopes, or else the caller's own project.
fn meant(scope_ids: &[String], caller: &Caller) -> Value {
    match scope_ids {
        [] => json!(caller.project_id()),
        scope_ids => json!(scope_ids),
    }
}

const RESET: &[body::Spec] = &[
    ("all_scopes", body::Kind::Bool, false),
    ("scope_id", body::Kind::List, false),
    ("scope_key", body::Kind::List, false),
    ("fetcher", body::Kind::List, false),
    ("collector", body::Kind::List, false),
    (LAST.0, LAST.1, false),
    // What python-cloudkittyclient calls it.
    ("state", LAST.1, false),
];

/// `PUT /v2/scope`: active scopes go back, which a processor does soon after.
pub(in crate::api) async fn put(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    Whole(bytes): Whole,
) -> Result<Response, ApiError> {
    let body = Object::check(body::json(&headers, &bytes)?, RESET)?;
    if body.has("all_scopes") && body.has("scope_id") {
        return Err(body.exclusive("scope_selector"));
    }
    caller.may("scope:reset_state", &[("project_id", meant(&body.list("scope_id"), &caller))])?;
    let identifiers = body.list("scope_id");
    if !body.boolean("all_scopes").unwrap_or(false) && identifiers.is_empty() {
        let text = "Either all_scopes or a scope_id should be specified.";
        return Err(ApiError::BadRequest(text.to_owned()));
    }
    let Some(last) = body.date(LAST.0).or(body.date("state")) else {
        let text = "Variable 'last_processed_timestamp' cannot be empty/None.";
        return Err(ApiError::BadRequest(text.to_owned()));
    };
    let filter = ScopeFilter {
        identifiers,
        scope_keys: body.list("scope_key"),
        fetchers: body.list("fetcher"),
        collectors: body.list("collector"),
        active: vec![1],
    };
    let mut found = scopes::list(&state.database, &filter, 0, u64::MAX).await?;
    // MariaDB finds others, too, whose names differ in case.
    found.retain(|scope| {
        filter.identifiers.is_empty() || filter.identifiers.contains(&scope.identifier)
    });
    if found.is_empty() {
        return Err(ApiError::NotFound(NOTHING_FOUND.to_owned()));
    }
    resets::request(&state.database, &found, last, state.clock.now()).await?;
    Ok((StatusCode::ACCEPTED, json_response(&Nothing {})).into_response())
}

const CHANGE: &[body::Spec] = &[
    ("scope_id", body::Kind::Text, true),
    ("scope_key", body::Kind::Text, false),
    ("fetcher", body::Kind::Text, false),
    ("collector", body::Kind::Text, false),
    ("active", body::Kind::Switch, false),
];

/// `PATCH /v2/scope`: switches a scope on or off, or gives it other keys.
pub(in crate::api) async fn patch(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    Whole(bytes): Whole,
) -> Result<Response, ApiError> {
    let body = Object::check(body::json(&headers, &bytes)?, CHANGE)?;
    caller.may("scope:patch_state", &[("tenant_id", json!(body.text("scope_id")))])?;
    let scope_id = identifier(&body)?;
    let scope = match of_name(&state, &scope_id).await?.as_slice() {
        [] => return Err(ApiError::NotFound(NOTHING_FOUND.to_owned())),
        [scope] => scope.id,
        _ => {
            let text = format!("Too many resources found with the same scope_id: {scope_id}.");
            return Err(ApiError::NotFound(text));
        }
    };
    let change = ScopeChange {
        scope_key: key(&body, "scope_key")?,
        fetcher: key(&body, "fetcher")?,
        collector: key(&body, "collector")?,
        active: body.switch("active"),
    };
    match scopes::change(&state.database, scope, &change, state.clock.now()).await {
        Ok(Some(scope)) => Ok(json_response(&Shown::of(&scope))),
        Ok(None) => Err(ApiError::NotFound(NOTHING_FOUND.to_owned())),
        Err(StateError::Moved(_)) => Err(body.invalid("scope_id", "another scope has these keys")),
        Err(error) => Err(error.into()),
    }
}

/// `POST /v2/scope`: a new scope. Keys that are not given are those of this
/// configuration.
pub(in crate::api) async fn post(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    Whole(bytes): Whole,
) -> Result<Response, ApiError> {
    let specs: Vec<body::Spec> = CHANGE.iter().copied().chain([(LAST.0, LAST.1, true)]).collect();
    let body = Object::check(body::json(&headers, &bytes)?, &specs)?;
    caller.may("scope:post_state", &[("tenant_id", json!(body.text("scope_id")))])?;
    let scope_id = identifier(&body)?;
    let exists = || {
        let text = format!("Cannot create a scope with an already existing scope_id: {scope_id}.");
        ApiError::NotFound(text)
    };
    if !of_name(&state, &scope_id).await?.is_empty() {
        return Err(exists());
    }
    let keys = ScopeKeys {
        scope_key: key(&body, "scope_key")?.unwrap_or_else(|| state.keys.scope_key.clone()),
        fetcher: key(&body, "fetcher")?.unwrap_or_else(|| state.keys.fetcher.clone()),
        collector: key(&body, "collector")?.unwrap_or_else(|| state.keys.collector.clone()),
    };
    let Some(last) = body.date(LAST.0) else {
        return Err(body.invalid(LAST.0, "expected dt_from_iso"));
    };
    let is_active = body.switch("active").unwrap_or(true);
    let (connection, now) = (state.database.connection(), state.clock.now());
    match scopes::insert(connection, &scope_id, &keys, (last, is_active), now).await {
        Ok(scope) => Ok(json_response(&Shown::of(&scope))),
        // Someone was faster, or it differs in case only where that is the same.
        Err(StateError::Moved(_)) => Err(exists()),
        Err(error) => Err(error.into()),
    }
}

/// The identifier that a body names.
fn identifier(body: &Object) -> Result<String, ApiError> {
    let scope_id = body.text("scope_id").unwrap_or_default();
    if scope_id.is_empty() {
        return Err(body.invalid("scope_id", "value must not be empty"));
    }
    check_length(body, "scope_id", &scope_id, LONGEST.0)?;
    Ok(scope_id)
}

/// A key that a body names. An empty one is none.
fn key(body: &Object, name: &str) -> Result<Option<String>, ApiError> {
    match body.text(name).filter(|key| !key.is_empty()) {
        Some(key) => check_length(body, name, &key, LONGEST.1).map(|()| Some(key)),
        None => Ok(None),
    }
}

fn check_length(body: &Object, name: &str, text: &str, most: usize) -> Result<(), ApiError> {
    if text.contains('\0') {
        return Err(body.invalid(name, "a NUL character is not allowed"));
    }
    match text.chars().count() <= most {
        true => Ok(()),
        false => Err(body.invalid(name, &format!("length of value must be at most {most}"))),
    }
}

/// All scopes of a name, active or not.
async fn of_name(state: &AppState, scope_id: &str) -> Result<Vec<ScopeState>, ApiError> {
    let filter = ScopeFilter { identifiers: vec![scope_id.to_owned()], ..ScopeFilter::default() };
    let mut found = scopes::list(&state.database, &filter, 0, u64::MAX).await?;
    found.retain(|scope| scope.identifier == scope_id);
    Ok(found)
}

/// Scopes.
#[derive(Serialize, JsonSchema)]
struct Scopes<'a> {
    results: Vec<Shown<'a>>,
}

impl Answer for Scopes<'_> {}

/// A scope, and how far it is rated.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Scope")]
struct Shown<'a> {
    scope_id: &'a str,
    scope_key: Option<&'a str>,
    fetcher: Option<&'a str>,
    collector: Option<&'a str>,
    last_processed_timestamp: Instant,
    active: bool,
    scope_activation_toggle_date: Instant,
}

impl Answer for Shown<'_> {}

impl<'a> Shown<'a> {
    fn of(scope: &'a ScopeState) -> Self {
        Self {
            scope_id: &scope.identifier,
            scope_key: scope.scope_key.as_deref(),
            fetcher: scope.fetcher.as_deref(),
            collector: scope.collector.as_deref(),
            last_processed_timestamp: Instant(scope.last_processed),
            active: scope.active,
            scope_activation_toggle_date: Instant(scope.toggled.and_utc()),
        }
    }
}

pub(super) fn describe() -> Vec<Operation> {
    let path = "/v2/scope";
    let named = |specs: &[body::Spec]| {
        let mut body = schema::of_body(specs);
        body["properties"]["scope_id"] = schema::name(1, LONGEST.0);
        for key in ["scope_key", "fetcher", "collector"] {
            body["properties"][key] = schema::name(0, LONGEST.1);
        }
        body
    };
    let new: Vec<body::Spec> = CHANGE.iter().copied().chain([(LAST.0, LAST.1, true)]).collect();
    let mut reset = schema::of_body(RESET);
    let all = json!({"required": ["all_scopes"], "properties": {"all_scopes": {"const": true}}});
    reset["allOf"] = json!([
        {"not": {"required": ["all_scopes", "scope_id"]}},
        {"anyOf": [{"required": ["scope_id"]}, all]},
        {"anyOf": [{"required": [LAST.0]}, {"required": ["state"]}]},
    ]);
    vec![
        Operation::new("get", path, "Scopes, and how far they are rated")
            .arguments(ARGS)
            .answers::<Scopes>(200, "Scopes.")
            .may_miss(),
        Operation::new("put", path, "Send scopes back, to be rated again from a date")
            .body_like(reset)
            .answers::<Nothing>(202, "A processor does it soon.")
            .may_miss(),
        Operation::new("patch", path, "Switch a scope on or off, or give it other keys")
            .body_like(named(CHANGE))
            .answers::<Shown>(200, "The scope as it is now.")
            .may_miss(),
        Operation::new("post", path, "Make a scope")
            .body_like(named(&new))
            .answers::<Shown>(200, "The scope.")
            .may_miss(),
    ]
}
