//! `/v1/rating/modules`: rating modules, whether they rate, and in which order.

use axum::{
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    fault::Fault,
    written::{answer, answer_of, text_of},
    wsme::{Attribute, Input, Kind},
};
use crate::{
    api::{
        AppState, access::Caller, answer::Answer, body::Whole, error::ApiError, openapi::Operation,
    },
    rating::{MODULES, ModuleInfo},
    state::modules,
};

const MODULE: &[Attribute] = &[
    ("module_id", Kind::Text, true),
    ("description", Kind::Text, false),
    ("enabled", Kind::Bool, false),
    ("hot-config", Kind::Bool, false),
    ("priority", Kind::Int, false),
];

const ID: &[Attribute] = &[("module_id", Kind::Text, true)];

/// `GET /v1/rating/modules`.
pub(super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Whole, ApiError>,
) -> Result<Response, Fault> {
    let Whole(bytes) = body?;
    let input = Input { path: &[], query: query.as_deref(), headers: &headers, body: &bytes };
    input.arguments(&[])?;
    caller.may("rating:list_modules", &[])?;
    let look = async {
        let states = modules::list(state.database.connection()).await?;
        let modules = ModuleInfo::all(&states).into_iter().map(Module::from).collect();
        Ok(text_of(&Modules { modules }))
    };
    Ok(answer_of(state.coalesced.answer("v1/rating/modules".to_owned(), look).await?))
}

/// `GET /v1/rating/modules/{id}`. Clients name the module in the query once more.
pub(super) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Whole, ApiError>,
) -> Result<Response, Fault> {
    let (Whole(bytes), query) = (body?, query.as_deref());
    let input = Input { path: &[id.as_str()], query, headers: &headers, body: &bytes };
    let values = input.arguments(ID)?;
    caller.may("rating:get_module", &[])?;
    let id = values.text("module_id").unwrap_or_default();
    let name = known(id)?;
    let states = modules::list(state.database.connection()).await?;
    Ok(answer(StatusCode::OK, &Module::from(ModuleInfo::of(name, &states))))
}

/// `PUT /v1/rating/modules/{id}`; without an id, that of the body counts.
///
/// The reference answers with a redirect to the same URL, which clients follow
/// by the same request again and again. Without a `Location` they take it for
/// the end.
pub(super) async fn put(
    State(state): State<AppState>,
    caller: Caller,
    id: Option<Path<String>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Whole, ApiError>,
) -> Result<Response, Fault> {
    let path = id.map(|Path(id)| id);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let Whole(bytes) = body?;
    let input = Input { path: &path, query: query.as_deref(), headers: &headers, body: &bytes };
    let (arguments, module) = input.object(ID, "module", MODULE)?;
    let id = arguments.text("module_id").unwrap_or_default();
    caller.may("rating:update_module", &[])?;
    known(id)?;
    let (enabled, priority) = (module.bool("enabled"), module.int("priority"));
    if let Some(priority) = priority.filter(|priority| *priority < modules::LOWEST_PRIORITY) {
        let problem = format!("Value should be greater or equal to {}", modules::LOWEST_PRIORITY);
        return Err(Fault::invalid("priority", &priority.to_string(), &problem));
    }
    // It is always enabled, and changes nothing.
    if id != "noop" {
        modules::change(&state.database, id, enabled, priority).await?;
    }
    Ok(answer(StatusCode::FOUND, &()))
}

/// `GET /v1/rating/reload_modules`: processors read modules and rules by
/// themselves, so there is nothing to do.
pub(super) async fn reload(
    caller: Caller,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Whole, ApiError>,
) -> Result<Response, Fault> {
    let Whole(bytes) = body?;
    let input = Input { path: &[], query: query.as_deref(), headers: &headers, body: &bytes };
    input.arguments(&[])?;
    caller.may("rating:module_config", &[])?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `/v1/rating/module_config/noop`.
pub(super) async fn not_configurable() -> Fault {
    Fault::Client(StatusCode::CONFLICT, "Module is not configurable".to_owned())
}

fn known(id: &str) -> Result<&'static str, Fault> {
    let missing = || Fault::Client(StatusCode::NOT_FOUND, "Module not found.".to_owned());
    MODULES.into_iter().find(|name| *name == id).ok_or_else(missing)
}

/// Rating modules.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModulesV1")]
struct Modules {
    modules: Vec<Module>,
}

impl Answer for Modules {}

/// A rating module.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModuleV1")]
struct Module {
    module_id: &'static str,
    description: &'static str,
    enabled: bool,
    #[serde(rename = "hot-config")]
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

/// Operations on rating modules.
pub(super) fn describe() -> Vec<Operation> {
    let path = "/v1/rating/modules/{module_id}";
    vec![
        Operation::new("get", "/v1/rating/modules", "Rating modules")
            .answers::<Modules>(200, "Modules, by name."),
        Operation::new("get", path, "A rating module")
            .answers::<Module>(200, "The module.")
            .may_miss(),
        Operation::new("put", path, "Switch a rating module on or off, or change its priority")
            .object(MODULE)
            .answers::<()>(302, "It is done.")
            .may_miss(),
        Operation::new(
            "get",
            "/v1/rating/reload_modules",
            "Nothing: processors look by themselves",
        )
        .ends(204, "Nothing is done."),
    ]
}
