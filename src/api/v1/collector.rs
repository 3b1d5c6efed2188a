//! `/v1/collector`: mappings of services and states of collectors, kept for old
//! clients; no program looks at them.

use axum::{
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Call, Fault, unrouted,
    written::answer,
    wsme::{Attribute, Kind},
};
use crate::{
    api::{answer::Answer, openapi::Operation},
    state::collectors::{self, Mapping, PREFIX},
};

const COLLECTOR: &[Attribute] = &[("collector", Kind::Text, false)];
const SERVICE: &[Attribute] = &[("service", Kind::Text, true)];
const MAPPING: &[Attribute] = &[("collector", Kind::Text, true), ("service", Kind::Text, true)];
const NAME: &[Attribute] = &[("name", Kind::Text, true)];
const STATE: &[Attribute] = &[("name", Kind::Text, false), ("enabled", Kind::Bool, true)];

/// Longest name of a collector or service.
const LONGEST: usize = 255;

/// Answers every request below collector.
pub(super) async fn route(call: Call) -> Response {
    let parts = call.parts();
    let answer = match parts.as_slice() {
        ["mappings", rest @ ..] => mappings(&call, rest).await,
        ["states", rest @ ..] => states(&call, rest).await,
        [name, "states"] => states(&call, &[name]).await,
        parts => Ok(unrouted(&call, parts)),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// `GET /v1/collector`, which has nothing to say.
pub(super) async fn root(call: Call) -> Response {
    match call.method {
        Method::GET => match call.input(&[]).arguments(&[]) {
            Ok(_) => StatusCode::NO_CONTENT.into_response(),
            Err(fault) => fault.into_response(),
        },
        _ => unrouted(&call, &[]),
    }
}

async fn mappings(call: &Call, path: &[&str]) -> Result<Response, Fault> {
    let (database, input) = (&call.state.database, call.input(path));
    let missing = |service: &str| {
        Fault::Client(StatusCode::NOT_FOUND, format!("No mapping for service: {service}"))
    };
    match (&call.method, path) {
        (&Method::GET, []) => {
            let collector = input.arguments(COLLECTOR)?.filled("collector");
            call.caller.may("collector:list_mappings", &[])?;
            let found = collectors::list(database, collector.as_deref()).await?;
            let mappings = found.iter().map(Shown::of).collect();
            Ok(answer(StatusCode::OK, &Mappings { mappings }))
        }
        (&Method::GET, [_]) => {
            let values = input.arguments(SERVICE)?;
            call.caller.may("collector:get_mapping", &[])?;
            let service = values.text("service").unwrap_or("None");
            let found = collectors::list(database, None).await?;
            let mapping = found.iter().find(|mapping| mapping.service == service);
            Ok(answer(StatusCode::OK, &Shown::of(mapping.ok_or_else(|| missing(service))?)))
        }
        (&Method::POST, [] | [_] | [_, _]) => {
            let values = input.arguments(MAPPING)?;
            call.caller.may("collector:manage_mapping", &[])?;
            let name = |argument: &str| match values.text(argument) {
                Some(name) => kept(argument, name, LONGEST).map(str::to_owned),
                None => Err(Fault::invalid(argument, "None", "It must be a text.")),
            };
            let mapping = Mapping { service: name("service")?, collector: name("collector")? };
            collectors::set(database, &mapping.service, &mapping.collector).await?;
            Ok(answer(StatusCode::OK, &Shown::of(&mapping)))
        }
        (&Method::DELETE, [] | [_]) => {
            let values = input.arguments(SERVICE)?;
            call.caller.may("collector:manage_mapping", &[])?;
            let service = values.text("service").unwrap_or("None");
            match collectors::delete(database, service).await? {
                true => Ok(StatusCode::NO_CONTENT.into_response()),
                false => Err(missing(service)),
            }
        }
        _ => Ok(unrouted(call, path)),
    }
}

/// Mappings.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CollectorMappings")]
struct Mappings<'a> {
    mappings: Vec<Shown<'a>>,
}

impl Answer for Mappings<'_> {}

/// Which collector a service has.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CollectorMapping")]
struct Shown<'a> {
    service: &'a str,
    collector: &'a str,
}

impl Answer for Shown<'_> {}

impl<'a> Shown<'a> {
    fn of(mapping: &'a Mapping) -> Self {
        Self { service: &mapping.service, collector: &mapping.collector }
    }
}

/// Whether a collector is enabled.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CollectorState")]
struct Enabled<'a> {
    name: &'a str,
    enabled: bool,
}

impl Answer for Enabled<'_> {}

/// A name, if the table can hold it.
fn kept<'a>(argument: &str, name: &'a str, most: usize) -> Result<&'a str, Fault> {
    match name.chars().count() <= most && !name.contains('\0') {
        true => Ok(name),
        false => Err(Fault::invalid(
            argument,
            name,
            &format!("It must have at most {most} characters, and no NUL among them."),
        )),
    }
}

async fn states(call: &Call, path: &[&str]) -> Result<Response, Fault> {
    let (database, input) = (&call.state.database, call.input(path));
    let shown = |name: &str, enabled: bool| answer(StatusCode::OK, &Enabled { name, enabled });
    match (&call.method, path) {
        (&Method::GET, [] | [_]) => {
            let values = input.arguments(NAME)?;
            call.caller.may("collector:get_state", &[])?;
            let name = values.text("name").unwrap_or("None");
            Ok(shown(name, collectors::is_enabled(database, name).await?))
        }
        (&Method::PUT, [] | [_]) => {
            let (values, body) = input.object(NAME, "infos", STATE)?;
            call.caller.may("collector:update_state", &[])?;
            let name = values.text("name").unwrap_or("None");
            let name = kept("name", name, LONGEST - PREFIX.len())?;
            let enabled = body.bool("enabled").unwrap_or(false);
            collectors::enable(database, name, enabled).await?;
            Ok(shown(name, enabled))
        }
        _ => Ok(unrouted(call, path)),
    }
}

/// Operations on collectors.
pub(super) fn describe() -> Vec<Operation> {
    let new = Operation::new(
        "post",
        "/v1/collector/mappings/{collector}/{service}",
        "Map a service to a collector",
    );
    let path = "/v1/collector/states/{name}";
    vec![
        Operation::new("get", "/v1/collector/mappings", "Which collector a service has")
            .attributes(COLLECTOR)
            .answers::<Mappings>(200, "Mappings."),
        Operation::new("get", "/v1/collector/mappings/{service}", "The mapping of a service")
            .answers::<Shown>(200, "The mapping.")
            .may_miss(),
        new.answers::<Shown>(200, "The mapping."),
        Operation::new("delete", "/v1/collector/mappings/{service}", "Delete a mapping")
            .ends(204, "It is gone.")
            .may_miss(),
        Operation::new("get", path, "Whether a collector is enabled")
            .answers::<Enabled>(200, "The state; of a collector that is not known, too."),
        Operation::new("put", path, "Switch a collector on or off")
            .object(STATE)
            .answers::<Enabled>(200, "The state."),
    ]
}
