//! `GET /v2/scope`: scopes and how far they are rated.

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use serde_json::{Value, json};

use super::{NOTHING_FOUND, json_response, page};
use crate::{
    api::{
        AppState,
        error::ApiError,
        query::{Args, Kind, Spec},
    },
    state::scopes::{self, ScopeFilter, ScopeState},
    time::isoformat,
};

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
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let args = Args::parse(query.as_deref(), ARGS)?;
    let filter = ScopeFilter {
        identifiers: args.list("scope_id"),
        scope_keys: args.list("scope_key"),
        fetchers: args.list("fetcher"),
        collectors: args.list("collector"),
        active: args.int_list("active"),
    };
    let page = page(&args);
    let found = scopes::list(&state.database, &filter, page.offset, page.limit).await?;
    if found.is_empty() {
        return Err(ApiError::NotFound(NOTHING_FOUND.to_owned()));
    }
    let results: Vec<Value> = found.iter().map(show).collect();
    Ok(json_response(&json!({"results": results})))
}

fn show(scope: &ScopeState) -> Value {
    json!({
        "scope_id": scope.identifier,
        "scope_key": scope.scope_key,
        "fetcher": scope.fetcher,
        "collector": scope.collector,
        "last_processed_timestamp": isoformat(scope.last_processed),
        "active": scope.active,
        "scope_activation_toggle_date": isoformat(scope.toggled.and_utc()),
    })
}
