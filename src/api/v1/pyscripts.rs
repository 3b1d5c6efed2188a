//! `/v1/rating/module_config/pyscripts/scripts`

use std::borrow::Cow;

use axum::{
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{
    Call, Fault, module_config_forbidden,
    rules::{AUDIT, FILTER, Held, Trail, audit_differs, audit_filter, text_differs},
    unrouted,
    written::answer,
    wsme::{Attribute, Kind},
};
use crate::{
    api::{
        answer::Answer,
        openapi::{Operation, schema},
    },
    rating::pyscripts::edit::{self, NewScript, ScriptChange},
    state::scripts::ScriptRow,
};

const SCRIPT_ID: &[Attribute] = &[("script_id", Kind::Uuid, true)];
const FORCE: &[Attribute] = &[("force", Kind::Bool, false)];

fn attributes() -> Vec<Attribute> {
    let own = [
        ("script_id", Kind::Uuid, false),
        ("name", Kind::Text, true),
        ("data", Kind::Text, false),
        ("checksum", Kind::ReadOnly, false),
    ];
    own.into_iter().chain(AUDIT.into_iter().filter(|(name, ..)| *name != "name")).collect()
}

/// Answers every request below pyscripts.
pub(super) async fn route(call: Call) -> Response {
    if call.caller.may("rating:module_config", &[]).is_err() {
        return module_config_forbidden(&call.headers);
    }
    let parts = call.parts();
    let answer = match parts.as_slice() {
        ["scripts", rest @ ..] => scripts(&call, rest).await,
        _ => Ok(unrouted(&call, &[])),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn scripts(call: &Call, path: &[&str]) -> Result<Response, Fault> {
    let (database, input) = (&call.state.database, call.input(path));
    match (&call.method, path) {
        (&Method::GET, []) => {
            let known: Vec<_> =
                [("no_data", Kind::Bool, false)].into_iter().chain(FILTER).collect();
            let values = input.arguments(&known)?;
            let with_data = !values.bool("no_data").unwrap_or(false);
            let filter = audit_filter(&values, call.editor().now);
            let scripts = edit::list(database, &filter).await?;
            let scripts = scripts.iter().map(|script| Listed::of(script, with_data)).collect();
            Ok(answer(StatusCode::OK, &Scripts { scripts }))
        }
        (&Method::GET, [_]) => {
            let values = input.arguments(SCRIPT_ID)?;
            let id = values.text("script_id").unwrap_or("None");
            Ok(answer(StatusCode::OK, &Script::of(&edit::get(database, id).await?)))
        }
        (&Method::POST, []) => {
            let (values, body) = input.object(FORCE, "script_data", &attributes())?;
            let text = |name: &str| {
                let text = body.text(name).map(str::to_owned);
                text.ok_or_else(|| Fault::invalid(name, "None", "It must be a text."))
            };
            let new = NewScript {
                name: text("name")?,
                data: text("data")?,
                description: body.text("description").map(str::to_owned),
                start: body.date("start"),
                end: body.date("end"),
                force: values.bool("force").unwrap_or(false),
            };
            let script = edit::add(database, &new, call.editor()).await?;
            Ok(call.created(&script.script_id, &Script::of(&script)))
        }
        (&Method::PUT, [] | [_]) => {
            let (values, body) = input.object(SCRIPT_ID, "script_data", &attributes())?;
            if body.has("data") && body.text("data").is_none() {
                return Err(Fault::invalid("data", "None", "It must be a text."));
            }
            let change = ScriptChange {
                data: body.text("data").map(str::to_owned),
                description: body.text("description").map(str::to_owned),
                start: body.date("start"),
                end: body.date("end"),
            };
            let differs = |script: &ScriptRow| {
                text_differs(&body, "script_id", Some(&script.script_id))
                    || text_differs(&body, "data", std::str::from_utf8(&script.data).ok())
                    || audit_differs(&body, &script.audit)
            };
            let id = values.text("script_id").unwrap_or("None");
            let script = edit::change(database, id, &change, differs, call.editor()).await?;
            Ok(call.created(&script.script_id, &Script::of(&script)))
        }
        (&Method::DELETE, [] | [_]) => {
            let values = input.arguments(SCRIPT_ID)?;
            let id = values.text("script_id").unwrap_or("None");
            edit::delete(database, id, call.editor()).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        _ => Ok(unrouted(call, path)),
    }
}

/// Scripts.
#[derive(Serialize, JsonSchema)]
struct Scripts<'a> {
    scripts: Vec<Listed<'a>>,
}

impl Answer for Scripts<'_> {}

/// A script.
#[derive(Serialize, JsonSchema)]
struct Script<'a> {
    script_id: &'a str,
    name: &'a str,
    data: Cow<'a, str>,
    checksum: &'a str,
    #[serde(flatten)]
    held: Held,
    #[serde(flatten)]
    trail: Trail<'a>,
}

impl Answer for Script<'_> {}

/// A script of a list.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ListedScript")]
struct Listed<'a> {
    script_id: &'a str,
    name: &'a str,
    /// Not there if that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    data: Option<Cow<'a, str>>,
    checksum: &'a str,
    #[serde(flatten)]
    held: Held,
    #[serde(flatten)]
    trail: Trail<'a>,
}

/// The text of a script.
fn data(script: &ScriptRow) -> Cow<'_, str> {
    String::from_utf8_lossy(&script.data)
}

impl<'a> Script<'a> {
    fn of(script: &'a ScriptRow) -> Self {
        Self {
            script_id: &script.script_id,
            name: &script.audit.name,
            data: data(script),
            checksum: &script.checksum,
            held: Held::of(&script.audit),
            trail: Trail::of(&script.audit),
        }
    }
}

impl<'a> Listed<'a> {
    fn of(script: &'a ScriptRow, with_data: bool) -> Self {
        Self {
            script_id: &script.script_id,
            name: &script.audit.name,
            data: with_data.then(|| data(script)),
            checksum: &script.checksum,
            held: Held::of(&script.audit),
            trail: Trail::of(&script.audit),
        }
    }
}

/// Operations on scripts.
pub(super) fn describe() -> Vec<Operation> {
    let known: Vec<_> = [("no_data", Kind::Bool, false)].into_iter().chain(FILTER).collect();
    let mut change = schema::of_object(&attributes());
    change["properties"]["data"] = schema::text();
    let mut new = change.clone();
    new["required"] = json!(["name", "data"]);
    let root = "/v1/rating/module_config/pyscripts/scripts";
    let one = format!("{root}/{{script_id}}");
    vec![
        Operation::new("get", root, "Scripts")
            .attributes(&known)
            .answers::<Scripts>(200, "Scripts."),
        Operation::new("get", &one, "A script").answers::<Script>(200, "The script.").may_miss(),
        Operation::new("post", root, "Make a script")
            .attributes(FORCE)
            .body_like(new)
            .answers::<Script>(201, "The script.")
            .may_clash(),
        Operation::new("put", &one, "Change a script that does not hold yet, or end one")
            .body_like(change)
            .answers::<Script>(201, "The script.")
            .may_miss()
            .may_clash(),
        Operation::new("delete", &one, "Delete a script").ends(204, "It is gone.").may_miss(),
    ]
}
