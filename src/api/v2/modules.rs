//! `/v2/rating/modules`: rating modules, whether they rate, and in which order.
//!
//! A change reaches running processors with the next period that they rate
//! (`rating::Rater` reads modules again after two seconds).

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{json_bytes, json_response, response_of};
use crate::{
    api::{
        AppState,
        access::Caller,
        body::{self, Kind, Object, Spec, Whole},
        error::ApiError,
        openapi::{Operation, schema},
    },
    rating::{MODULES, description, is_configurable},
    state::modules::{self, ModuleState},
};

const BODY: &[Spec] = &[("enabled", Kind::Bool, false), ("priority", Kind::Int, false)];

/// `GET /v2/rating/modules`.
pub(in crate::api) async fn list(State(state): State<AppState>) -> Result<Response, ApiError> {
    let look = async {
        let states = modules::list(state.database.connection()).await?;
        let mut names = MODULES;
        names.sort_unstable();
        let modules: Vec<Value> = names.iter().map(|name| show(name, &states)).collect();
        Ok(json_bytes(&json!({"modules": modules})))
    };
    state.coalesced.answer("v2/rating/modules".to_owned(), look).await.map(response_of)
}

/// `GET /v2/rating/modules/{id}`.
pub(in crate::api) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    caller.may("v2_rating:get_module", &[])?;
    known(&id)?;
    let states = modules::list(state.database.connection()).await?;
    Ok(json_response(&show(&id, &states)))
}

/// `PUT /v2/rating/modules/{id}`.
pub(in crate::api) async fn put(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Whole(bytes): Whole,
) -> Result<Response, ApiError> {
    let body = Object::check(body::json(&headers, &bytes)?, BODY)?;
    caller.may("v2_rating:update_module", &[])?;
    known(&id)?;
    let priority = match body.int("priority") {
        Some(priority) => match i32::try_from(priority) {
            Ok(priority) if priority >= modules::LOWEST_PRIORITY => Some(priority),
            // The reference fails in its database, or gives back another number.
            _ => return Err(body.invalid("priority", "value must be from 1 to 2147483647")),
        },
        None => None,
    };
    // It is always enabled, and changes nothing.
    if id != "noop" {
        modules::change(&state.database, &id, body.boolean("enabled"), priority).await?;
    }
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((StatusCode::NO_CONTENT, kind).into_response())
}

fn known(id: &str) -> Result<(), ApiError> {
    match MODULES.contains(&id) {
        true => Ok(()),
        false => Err(ApiError::NotFound(format!("Module '{id}' not found"))),
    }
}

fn show(name: &str, states: &[ModuleState]) -> Value {
    let state = states.iter().find(|state| state.name == name && name != "noop");
    json!({
        "module_id": name,
        "description": description(name),
        "enabled": state.map_or(name == "noop", |state| state.enabled),
        "hot_config": is_configurable(name),
        "priority": state.map_or(1, |state| state.priority),
    })
}

pub(super) fn describe() -> Vec<Operation> {
    let module = schema::object(&[
        ("module_id", schema::text()),
        ("description", schema::text()),
        ("enabled", schema::boolean()),
        ("hot_config", schema::boolean()),
        ("priority", schema::integer()),
    ]);
    let modules = schema::object(&[("modules", schema::list(module.clone()))]);
    let path = "/v2/rating/modules/{module_id}";
    vec![
        Operation::new("get", "/v2/rating/modules", "Rating modules").answers(
            200,
            "Modules, by name.",
            modules,
        ),
        Operation::new("get", path, "A rating module")
            .answers(200, "The module.", module)
            .may_miss(),
        Operation::new("put", path, "Switch a rating module on or off, or change its priority")
            .body(BODY)
            .ends(204, "It is done.")
            .may_miss(),
    ]
}
