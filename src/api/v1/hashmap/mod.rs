//! `/v1/rating/module_config/hashmap`: services, fields, groups, mappings and
//! thresholds.

mod answers;

use axum::{
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};

use super::{
    Call, Fault, changed, module_config_forbidden,
    rules::{AUDIT, FILTER, audit_differs, audit_filter, text_differs},
    unrouted,
    written::answer,
    wsme::{Attribute, Kind, Values},
};
use crate::{
    api::{answer::Answer, openapi::Operation},
    rating::hashmap::edit::{self, MappingChange, NewMapping, NewRule, RuleFilter},
    state::rating_rules::{
        CostType,
        records::{Field, Mapping, Threshold},
    },
};

const SERVICE_ID: &[Attribute] = &[("service_id", Kind::Uuid, true)];
const FIELD_ID: &[Attribute] = &[("field_id", Kind::Uuid, true)];
const GROUP_ID: &[Attribute] = &[("group_id", Kind::Uuid, true)];
const MAPPING_ID: &[Attribute] = &[("mapping_id", Kind::Uuid, true)];
const THRESHOLD_ID: &[Attribute] = &[("threshold_id", Kind::Uuid, true)];
const DELETED_GROUP: &[Attribute] =
    &[("group_id", Kind::Uuid, true), ("recursive", Kind::Bool, false)];
const FORCE: &[Attribute] = &[("force", Kind::Bool, false)];

const SERVICE: &[Attribute] = &[("service_id", Kind::Uuid, false), ("name", Kind::Text, true)];
const FIELD: &[Attribute] = &[
    ("field_id", Kind::Uuid, false),
    ("name", Kind::Text, true),
    ("service_id", Kind::Uuid, true),
];
const GROUP: &[Attribute] = &[("group_id", Kind::Uuid, false), ("name", Kind::Text, true)];
const THRESHOLD: &[Attribute] = &[
    ("threshold_id", Kind::Uuid, false),
    ("level", Kind::Decimal, true),
    ("type", Kind::CostType, false),
    ("cost", Kind::Decimal, true),
    ("service_id", Kind::Uuid, false),
    ("field_id", Kind::Uuid, false),
    ("group_id", Kind::Uuid, false),
    ("tenant_id", Kind::Text, false),
];

fn mapping_attributes() -> Vec<Attribute> {
    let own = [
        ("mapping_id", Kind::Uuid, false),
        ("value", Kind::Text, false),
        ("type", Kind::CostType, false),
        ("cost", Kind::Decimal, true),
        ("service_id", Kind::Uuid, false),
        ("field_id", Kind::Uuid, false),
        ("group_id", Kind::Uuid, false),
        ("tenant_id", Kind::Text, false),
    ];
    own.into_iter().chain(AUDIT).collect()
}

/// Arguments by which rules are asked for.
const RULES: [Attribute; 6] = [
    ("service_id", Kind::Uuid, false),
    ("field_id", Kind::Uuid, false),
    ("group_id", Kind::Uuid, false),
    ("no_group", Kind::Bool, false),
    ("tenant_id", Kind::Text, false),
    ("filter_tenant", Kind::Bool, false),
];

/// Answers every request below hashmap.
pub(super) async fn route(call: Call) -> Response {
    if call.caller.may("rating:module_config", &[]).is_err() {
        return module_config_forbidden(&call.headers);
    }
    let parts = call.parts();
    let answer = match parts.as_slice() {
        ["types"] => types(&call).await,
        ["services", "fields", rest @ ..] => fields(&call, rest).await,
        ["services", "mappings", rest @ ..] => mappings(&call, rest).await,
        ["services", id, "fields"] if call.method == Method::GET => list_fields(&call, id).await,
        ["services", id, "mappings"] if call.method == Method::GET => {
            let filter = RuleFilter { service_id: Some((*id).to_owned()), ..RuleFilter::default() };
            list_mappings(&call, &filter).await
        }
        ["services", rest @ ..] => services(&call, rest).await,
        ["fields", rest @ ..] => fields(&call, rest).await,
        ["groups", rest @ ..] => groups(&call, rest).await,
        ["mappings", rest @ ..] => mappings(&call, rest).await,
        ["thresholds", rest @ ..] => thresholds(&call, rest).await,
        _ => Ok(unrouted(&call, &[])),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

type Answered = Result<Response, Fault>;

fn ok(body: &impl Answer) -> Answered {
    Ok(answer(StatusCode::OK, body))
}

fn gone() -> Answered {
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn types(call: &Call) -> Answered {
    match call.method {
        Method::GET => {
            call.input(&[]).arguments(&[])?;
            ok(&answers::Types(vec![CostType::Flat, CostType::Rate]))
        }
        _ => Ok(unrouted(call, &[])),
    }
}

/// What identifies the object of a request.
fn id<'a>(values: &'a Values, name: &str) -> &'a str {
    values.text(name).unwrap_or("None")
}

/// The name that a body gives.
///
/// # Errors
/// Null.
fn name(body: &Values) -> Result<&str, Fault> {
    body.text("name").ok_or_else(|| Fault::invalid("name", "None", "It must be a text."))
}

async fn services(call: &Call, path: &[&str]) -> Answered {
    let (database, input) = (&call.state.database, call.input(path));
    match (&call.method, path) {
        (&Method::GET, []) => {
            input.arguments(&[])?;
            ok(&answers::Services::of(&edit::services(database).await?))
        }
        (&Method::GET, [_]) => {
            let values = input.arguments(SERVICE_ID)?;
            ok(&answers::Service::of(&edit::service(database, id(&values, "service_id")).await?))
        }
        (&Method::POST, []) => {
            let (_, body) = input.object(&[], "service_data", SERVICE)?;
            let service = edit::add_service(database, name(&body)?).await?;
            Ok(call.created(&service.service_id, &answers::Service::of(&service)))
        }
        (&Method::DELETE, [] | [_]) => {
            let values = input.arguments(SERVICE_ID)?;
            edit::delete_service(database, id(&values, "service_id")).await?;
            gone()
        }
        _ => Ok(unrouted(call, path)),
    }
}

/// `services/{id}/fields`
async fn list_fields(call: &Call, service_id: &str) -> Answered {
    call.input(&[service_id]).arguments(SERVICE_ID)?;
    show_fields(&edit::fields(&call.state.database, service_id).await?)
}

fn show_fields(fields: &[Field]) -> Answered {
    ok(&answers::Fields::of(fields))
}

async fn fields(call: &Call, path: &[&str]) -> Answered {
    let (database, input) = (&call.state.database, call.input(path));
    match (&call.method, path) {
        (&Method::GET, []) => {
            let values = input.arguments(SERVICE_ID)?;
            show_fields(&edit::fields(database, id(&values, "service_id")).await?)
        }
        (&Method::GET, [_]) => {
            let values = input.arguments(FIELD_ID)?;
            ok(&answers::Field::of(&edit::field(database, id(&values, "field_id")).await?))
        }
        (&Method::POST, []) => {
            let (_, body) = input.object(&[], "field_data", FIELD)?;
            let service_id = body.text("service_id");
            let service_id = service_id
                .ok_or_else(|| Fault::bad_request("You must specify either name or uuid."))?;
            let name = name(&body)?;
            if name.is_empty() {
                // The reference keeps such a field and says this.
                let text = "You must specify either a uuid or a service_uuid and a name.";
                return Err(Fault::bad_request(text));
            }
            let field = edit::add_field(database, service_id, name).await?;
            Ok(call.created(&field.field_id, &answers::Field::of(&field)))
        }
        (&Method::DELETE, [] | [_]) => {
            let values = input.arguments(FIELD_ID)?;
            edit::delete_field(database, id(&values, "field_id")).await?;
            gone()
        }
        _ => Ok(unrouted(call, path)),
    }
}

async fn groups(call: &Call, path: &[&str]) -> Answered {
    let (database, input) = (&call.state.database, call.input(path));
    let of_group = |values: &Values| RuleFilter {
        group_id: Some(id(values, "group_id").to_owned()),
        ..RuleFilter::default()
    };
    match (&call.method, path) {
        (&Method::GET, []) => {
            input.arguments(&[])?;
            ok(&answers::Groups::of(&edit::groups(database).await?))
        }
        (&Method::GET, [group @ .., "mappings"]) if group.len() < 2 => {
            let values = call.input(group).arguments(GROUP_ID)?;
            show_mappings(&edit::mappings(database, &of_group(&values), &<_>::default()).await?)
        }
        (&Method::GET, [group @ .., "thresholds"]) if group.len() < 2 => {
            let values = call.input(group).arguments(GROUP_ID)?;
            show_thresholds(&edit::thresholds(database, &of_group(&values)).await?)
        }
        (&Method::GET, [_]) => {
            let values = input.arguments(GROUP_ID)?;
            ok(&answers::Group::of(&edit::group(database, id(&values, "group_id")).await?))
        }
        (&Method::POST, []) => {
            let (_, body) = input.object(&[], "group_data", GROUP)?;
            let group = edit::add_group(database, name(&body)?).await?;
            Ok(call.created(&group.group_id, &answers::Group::of(&group)))
        }
        (&Method::DELETE, [] | [_] | [_, _]) => {
            let values = input.arguments(DELETED_GROUP)?;
            let recursive = values.bool("recursive").unwrap_or(false);
            edit::delete_group(database, id(&values, "group_id"), recursive).await?;
            gone()
        }
        _ => Ok(unrouted(call, path)),
    }
}

/// Which rules arguments ask for. What is empty is not meant.
fn rule_filter(values: &Values) -> RuleFilter {
    let filter_tenant = values.bool("filter_tenant").unwrap_or(false);
    RuleFilter {
        service_id: values.filled("service_id"),
        field_id: values.filled("field_id"),
        group_id: values.filled("group_id"),
        no_group: values.bool("no_group").unwrap_or(false),
        tenant_id: filter_tenant.then(|| values.text("tenant_id").map(str::to_owned)),
    }
}

/// A rule as a body asks for it.
fn new_rule(body: &Values) -> Result<NewRule, Fault> {
    Ok(NewRule {
        service_id: body.filled("service_id"),
        field_id: body.filled("field_id"),
        group_id: body.filled("group_id"),
        tenant_id: body.text("tenant_id").map(str::to_owned),
        kind: body.cost_type("type")?,
        cost: body.decimal("cost")?,
    })
}

/// `services/{id}/mappings`, and what arguments ask for beside.
async fn list_mappings(call: &Call, filter: &RuleFilter) -> Answered {
    call.input(&[]).arguments(&[])?;
    show_mappings(&edit::mappings(&call.state.database, filter, &<_>::default()).await?)
}

fn show_mappings(mappings: &[Mapping]) -> Answered {
    ok(&answers::Mappings::of(mappings))
}

async fn mappings(call: &Call, path: &[&str]) -> Answered {
    let (database, input) = (&call.state.database, call.input(path));
    match (&call.method, path) {
        (&Method::GET, []) => {
            let known: Vec<_> =
                RULES.into_iter().chain(FILTER).chain([("all", Kind::Bool, false)]).collect();
            let values = input.arguments(&known)?;
            let filter = rule_filter(&values);
            let has_parent = filter.service_id.is_some() || filter.field_id.is_some();
            if !has_parent && filter.group_id.is_none() && values.bool("all") == Some(false) {
                return Err(edit::too_wide().into());
            }
            let audit = audit_filter(&values, call.editor().now);
            show_mappings(&edit::mappings(database, &filter, &audit).await?)
        }
        (&Method::GET, [mapping @ .., "group"]) if mapping.len() < 2 => {
            let values = call.input(mapping).arguments(MAPPING_ID)?;
            let group = edit::group_of_mapping(database, id(&values, "mapping_id")).await?;
            ok(&answers::Group::of(&group))
        }
        (&Method::GET, [_]) => {
            let values = input.arguments(MAPPING_ID)?;
            ok(&answers::Mapping::of(&edit::mapping(database, id(&values, "mapping_id")).await?))
        }
        (&Method::POST, []) => {
            let (values, body) = input.object(FORCE, "mapping_data", &mapping_attributes())?;
            // None is not the same as null.
            let value = match body.has("value") {
                true => body.text("value").map(str::to_owned),
                false => Some(String::new()),
            };
            let new = NewMapping {
                rule: new_rule(&body)?,
                value,
                name: body.filled("name"),
                description: body.text("description").map(str::to_owned),
                start: body.date("start"),
                end: body.date("end"),
                force: values.bool("force").unwrap_or(false),
            };
            let mapping = edit::add_mapping(database, &new, call.editor()).await?;
            Ok(call.created(&mapping.rule.rule_id, &answers::Mapping::of(&mapping)))
        }
        (&Method::PUT, [] | [_]) => {
            let (values, body) = input.object(MAPPING_ID, "mapping", &mapping_attributes())?;
            let change = MappingChange {
                cost: body.decimal("cost")?,
                start: body.date("start"),
                end: body.date("end"),
                description: body.text("description").map(str::to_owned),
            };
            let kind = body.cost_type("type");
            let differs = |mapping: &Mapping| {
                let rule = &mapping.rule;
                let texts = [
                    ("mapping_id", Some(rule.rule_id.as_str())),
                    ("value", mapping.value.as_deref()),
                    ("service_id", rule.service_id.as_deref()),
                    ("field_id", rule.field_id.as_deref()),
                    ("group_id", rule.group_id.as_deref()),
                    ("tenant_id", rule.tenant_id.as_deref()),
                ];
                texts.into_iter().any(|(name, text)| text_differs(&body, name, text))
                    || kind.as_ref().is_ok_and(|kind| body.has("type") && *kind != rule.kind)
                    || audit_differs(&body, &mapping.audit)
            };
            let id = id(&values, "mapping_id");
            edit::change_mapping(database, id, &change, differs, call.editor()).await?;
            Ok(changed())
        }
        (&Method::DELETE, [] | [_]) => {
            let values = input.arguments(MAPPING_ID)?;
            edit::delete_mapping(database, id(&values, "mapping_id"), call.editor()).await?;
            gone()
        }
        _ => Ok(unrouted(call, path)),
    }
}

fn show_thresholds(thresholds: &[Threshold]) -> Answered {
    ok(&answers::Thresholds::of(thresholds))
}

async fn thresholds(call: &Call, path: &[&str]) -> Answered {
    let (database, input) = (&call.state.database, call.input(path));
    match (&call.method, path) {
        (&Method::GET, []) => {
            let filter = rule_filter(&input.arguments(&RULES)?);
            show_thresholds(&edit::thresholds(database, &filter).await?)
        }
        (&Method::GET, [threshold @ .., "group"]) if threshold.len() < 2 => {
            let values = call.input(threshold).arguments(THRESHOLD_ID)?;
            let group = edit::group_of_threshold(database, id(&values, "threshold_id")).await?;
            ok(&answers::Group::of(&group))
        }
        (&Method::GET, [_]) => {
            let values = input.arguments(THRESHOLD_ID)?;
            ok(&answers::Threshold::of(
                &edit::threshold(database, id(&values, "threshold_id")).await?,
            ))
        }
        (&Method::POST, []) => {
            let (_, body) = input.object(&[], "threshold_data", THRESHOLD)?;
            let (rule, level) = (new_rule(&body)?, body.decimal("level")?);
            let threshold = edit::add_threshold(database, &rule, level).await?;
            Ok(call.created(&threshold.rule.rule_id, &answers::Threshold::of(&threshold)))
        }
        (&Method::PUT, [] | [_]) => {
            let (values, body) = input.object(THRESHOLD_ID, "threshold", THRESHOLD)?;
            let (rule, level) = (new_rule(&body)?, body.decimal("level")?);
            edit::change_threshold(database, id(&values, "threshold_id"), rule, level).await?;
            Ok(changed())
        }
        (&Method::DELETE, [] | [_]) => {
            let values = input.arguments(THRESHOLD_ID)?;
            edit::delete_threshold(database, id(&values, "threshold_id")).await?;
            gone()
        }
        _ => Ok(unrouted(call, path)),
    }
}

/// Operations on hashmap.
pub(super) fn describe() -> Vec<Operation> {
    let root = "/v1/rating/module_config/hashmap";
    let get = |path: &str, summary| Operation::new("get", &format!("{root}/{path}"), summary);
    let post = |path: &str, summary| Operation::new("post", &format!("{root}/{path}"), summary);
    let put = |path: &str, summary| Operation::new("put", &format!("{root}/{path}"), summary);
    let delete = |path: &str, summary| Operation::new("delete", &format!("{root}/{path}"), summary);
    let all_rules: Vec<_> =
        RULES.into_iter().chain(FILTER).chain([("all", Kind::Bool, false)]).collect();
    vec![
        get("types", "Kinds of costs")
            .answers::<answers::Types>(200, "`flat` is added, `rate` multiplies."),
        get("services", "Services").answers::<answers::Services>(200, "Services."),
        get("services/{service_id}", "A service")
            .answers::<answers::Service>(200, "The service.")
            .may_miss(),
        get("services/{service_id}/fields", "Fields of a service")
            .answers::<answers::Fields>(200, "Fields.")
            .may_miss(),
        get("services/{service_id}/mappings", "Mappings of a service")
            .answers::<answers::Mappings>(200, "Mappings.")
            .may_miss(),
        post("services", "Make a service")
            .object(SERVICE)
            .answers::<answers::Service>(201, "The service.")
            .may_clash(),
        delete("services/{service_id}", "Delete a service and all below it")
            .ends(204, "It is gone.")
            .may_miss(),
        get("fields", "Fields of a service")
            .attributes(SERVICE_ID)
            .answers::<answers::Fields>(200, "Fields.")
            .may_miss(),
        get("fields/{field_id}", "A field").answers::<answers::Field>(200, "The field.").may_miss(),
        post("fields", "Make a field")
            .object(FIELD)
            .answers::<answers::Field>(201, "The field.")
            .may_miss()
            .may_clash(),
        delete("fields/{field_id}", "Delete a field and all below it")
            .ends(204, "It is gone.")
            .may_miss(),
        get("groups", "Groups").answers::<answers::Groups>(200, "Groups."),
        get("groups/{group_id}", "A group").answers::<answers::Group>(200, "The group.").may_miss(),
        get("groups/{group_id}/mappings", "Mappings of a group")
            .answers::<answers::Mappings>(200, "Mappings.")
            .may_miss(),
        get("groups/{group_id}/thresholds", "Thresholds of a group")
            .answers::<answers::Thresholds>(200, "Thresholds.")
            .may_miss(),
        post("groups", "Make a group")
            .object(GROUP)
            .answers::<answers::Group>(201, "The group.")
            .may_clash(),
        delete("groups/{group_id}", "Delete a group, and its rules if asked for")
            .attributes(DELETED_GROUP)
            .ends(204, "It is gone.")
            .may_miss(),
        get("mappings", "Mappings")
            .attributes(&all_rules)
            .answers::<answers::Mappings>(200, "Mappings.")
            .may_miss(),
        get("mappings/{mapping_id}", "A mapping")
            .answers::<answers::Mapping>(200, "The mapping.")
            .may_miss(),
        get("mappings/{mapping_id}/group", "The group of a mapping")
            .answers::<answers::Group>(200, "The group.")
            .may_miss(),
        post("mappings", "Make a mapping")
            .attributes(FORCE)
            .object(&mapping_attributes())
            .answers::<answers::Mapping>(201, "The mapping.")
            .may_miss()
            .may_clash(),
        put("mappings/{mapping_id}", "Change a mapping that does not hold yet, or end one")
            .object(&mapping_attributes())
            .ends(302, "It is done.")
            .may_miss()
            .may_clash(),
        delete("mappings/{mapping_id}", "Delete a mapping").ends(204, "It is gone.").may_miss(),
        get("thresholds", "Thresholds")
            .attributes(&RULES)
            .answers::<answers::Thresholds>(200, "Thresholds.")
            .may_miss(),
        get("thresholds/{threshold_id}", "A threshold")
            .answers::<answers::Threshold>(200, "The threshold.")
            .may_miss(),
        get("thresholds/{threshold_id}/group", "The group of a threshold")
            .answers::<answers::Group>(200, "The group.")
            .may_miss(),
        post("thresholds", "Make a threshold")
            .object(THRESHOLD)
            .answers::<answers::Threshold>(201, "The threshold.")
            .may_miss()
            .may_clash(),
        put("thresholds/{threshold_id}", "Change a threshold")
            .object(THRESHOLD)
            .ends(302, "It is done.")
            .may_miss()
            .may_clash(),
        delete("thresholds/{threshold_id}", "Delete a threshold")
            .ends(204, "It is gone.")
            .may_miss(),
    ]
}
