//! `/v2/rating/modules`: rating modules, whether they rate, and in which order.
//!
//! A change reaches running processors with the next period that they rate
//! (`rating::Rater` reads modules again after two seconds).

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{json_bytes, json_response, response_of};
use crate::{
    api::{
        AppState,
        access::Caller,
        answer::Answer,
        body::{self, Kind, Object, Spec, Whole},
        error::ApiError,
        openapi::Operation,
    },
    rating::{MODULES, ModuleInfo},
    state::modules,
};

const BODY: &[Spec] = &[("enabled", Kind::Bool, false), ("priority", Kind::Int, false)];

/// `GET /v2/rating/modules`.
pub(in crate::api) async fn list(State(state): State<AppState>) -> Result<Response, ApiError> {
    let look = async {
        let states = modules::list(state.database.connection()).await?;
        let modules = ModuleInfo::all(&states).into_iter().map(Module::from).collect();
        Ok(json_bytes(&Modules { modules }))
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
    let name = known(&id)?;
    let states = modules::list(state.database.connection()).await?;
    Ok(json_response(&Module::from(ModuleInfo::of(name, &states))))
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

fn known(id: &str) -> Result<&'static str, ApiError> {
    let missing = || ApiError::NotFound(format!("Module '{id}' not found"));
    MODULES.into_iter().find(|name| *name == id).ok_or_else(missing)
}

/// Rating modules.
#[derive(Serialize, JsonSchema)]
struct Modules {
    modules: Vec<Module>,
}

impl Answer for Modules {}

/// A rating module.
#[derive(Serialize, JsonSchema)]
struct Module {
    module_id: &'static str,
    description: &'static str,
    enabled: bool,
    hot_config: bool,
    priority: i32,
}

impl Answer for Module {}

impl From<ModuleInfo> for Module {
    fn from(module: ModuleInfo) -> Self {
        let ModuleInfo { name, description, enabled, is_configurable, priority } = module;
        Self { module_id: name, description, enabled, hot_config: is_configurable, priority }
    }
}

pub(super) fn describe() -> Vec<Operation> {
    let path = "/v2/rating/modules/{module_id}";
    vec![
        Operation::new("get", "/v2/rating/modules", "Rating modules")
            .answers::<Modules>(200, "Modules, by name."),
        Operation::new("get", path, "A rating module")
            .answers::<Module>(200, "The module.")
            .may_miss(),
        Operation::new("put", path, "Switch a rating module on or off, or change its priority")
            .body(BODY)
            .ends(204, "It is done.")
            .may_miss(),
    ]
}
