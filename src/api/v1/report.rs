//! `/v1/report`: what a time costs, and who there is.

use std::collections::HashSet;

use axum::{
    http::Method,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{
    Call, Fault, unrouted,
    written::{answer_of, text_of},
    wsme::{Attribute, Kind, Values},
};
use crate::{
    api::{
        access::Forbidden,
        answer::{Answer, Digits, NaiveDate},
        openapi::Operation,
    },
    dataframe::{python_float, python_str},
    state::scopes::{self, ScopeFilter},
    storage::{GroupKey, Page, Selection, TotalRow},
    time::utc_month_of,
};

const TOTAL: &[Attribute] = &[
    ("begin", Kind::Instant, false),
    ("end", Kind::Instant, false),
    ("tenant_id", Kind::Text, false),
    ("service", Kind::Text, false),
    ("all_tenants", Kind::Bool, false),
];
const SUMMARY: &[Attribute] = &[
    ("begin", Kind::Instant, false),
    ("end", Kind::Instant, false),
    ("tenant_id", Kind::Text, false),
    ("service", Kind::Text, false),
    ("groupby", Kind::Text, false),
    ("all_tenants", Kind::Bool, false),
];

const TENANTS: &[Attribute] = &[("begin", Kind::Instant, false), ("end", Kind::Instant, false)];

/// Answers every request below report.
pub(super) async fn route(call: Call) -> Response {
    let parts = call.parts();
    let answer = match (&call.method, parts.as_slice()) {
        (&Method::GET, ["total"]) => total(&call).await,
        (&Method::GET, ["summary"]) => summary(&call).await,
        (&Method::GET, ["tenants"]) => tenants(&call).await,
        _ => Ok(unrouted(&call, &[])),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// `begin` and `end`, or else those of a month, each alone.
pub(super) fn window(
    values: &Values,
    (first, next): (DateTime<Utc>, DateTime<Utc>),
) -> (DateTime<Utc>, DateTime<Utc>) {
    (values.instant("begin").unwrap_or(first), values.instant("end").unwrap_or(next))
}

/// What arguments select, if the caller may see it: the scope that is named, or the
/// caller's own project, or, if that is asked for, all of them.
fn selection(call: &Call, values: &Values, rule: &'static str) -> Result<Selection, Fault> {
    let caller = &call.caller;
    let tenant = match values.bool("all_tenants") {
        Some(true) => None,
        _ => values.filled("tenant_id").or_else(|| caller.project_id().map(str::to_owned)),
    };
    caller.may(rule, &[("project_id", json!(tenant))])?;
    // A rule may compare nobody's project with none.
    if tenant.is_none() && !caller.is_admin() {
        return Err(Forbidden { rule }.into());
    }
    // Of reports the reference takes the month in UTC, of data the local one.
    let (begin, end) = window(values, utc_month_of(call.state.clock.now()));
    let mut selection = Selection::all(begin, end);
    if let Some(tenant) = tenant {
        selection.filters.push((call.state.keys.scope_key.clone(), vec![tenant]));
    }
    if let Some(service) = values.filled("service") {
        selection.filters.push(("type".to_owned(), vec![service]));
    }
    Ok(selection)
}

/// All rows there are.
const ALL: Page = Page { offset: 0, limit: u64::MAX };

/// `GET /v1/report/total`: a number as text.
async fn total(call: &Call) -> Result<Response, Fault> {
    let values = call.input(&[]).arguments(TOTAL)?;
    let selection = selection(call, &values, "report:get_total")?;
    let look = async {
        let totals = call.state.storage.total(&selection, &[], ALL).await?;
        let price = match totals.rows.first() {
            Some(row) => python_float(row.price.to_f64()),
            None => "0".to_owned(),
        };
        Ok(text_of(&Digits(price)))
    };
    let question = format!("v1/report/total {selection:?}");
    Ok(answer_of(call.state.coalesced.answer(question, look).await?))
}

/// `GET /v1/report/summary`: rows by scope and type, as far as they are asked
/// for, with naive dates in UTC.
async fn summary(call: &Call) -> Result<Response, Fault> {
    let values = call.input(&[]).arguments(SUMMARY)?;
    let selection = selection(call, &values, "report:get_summary")?;
    let wanted = values.text("groupby").unwrap_or_default();
    let scope_key = GroupKey::Label(call.state.keys.scope_key.clone());
    let keys = [("tenant_id", scope_key), ("res_type", GroupKey::Type)];
    let keys: Vec<_> = keys.into_iter().filter(|(name, _)| wanted.contains(name)).collect();
    let groupby: Vec<GroupKey> = keys.iter().map(|(_, key)| key.clone()).collect();
    let show = |row: &TotalRow| {
        let value = |name: &str| {
            let at = keys.iter().position(|(key, _)| *key == name);
            let text = at.and_then(|at| row.values.get(at)).filter(|value| !value.is_null());
            text.map(python_str).filter(|text| !text.is_empty()).unwrap_or_else(|| "ALL".to_owned())
        };
        Row {
            begin: NaiveDate::utc(selection.begin),
            end: NaiveDate::utc(selection.end),
            tenant_id: value("tenant_id"),
            res_type: value("res_type"),
            rate: Digits(rounded(row.price.to_f64())),
        }
    };
    let look = async {
        let totals = call.state.storage.total(&selection, &groupby, ALL).await?;
        Ok(text_of(&Summary { summary: totals.rows.iter().map(show).collect() }))
    };
    let question = format!("v1/report/summary {selection:?} {groupby:?}");
    Ok(answer_of(call.state.coalesced.answer(question, look).await?))
}

/// What a time costs, by scope and type.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Report")]
struct Summary {
    summary: Vec<Row>,
}

impl Answer for Summary {}

/// What a scope, a type or all of them cost. Dates are in UTC.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ReportRow")]
struct Row {
    begin: NaiveDate,
    end: NaiveDate,
    tenant_id: String,
    res_type: String,
    rate: Digits,
}

/// Identifiers of scopes.
#[derive(Serialize, JsonSchema)]
struct Tenants<'a>(Vec<&'a str>);

impl Answer for Tenants<'_> {}

/// A price with five places, as Python writes it.
fn rounded(price: f64) -> String {
    match price {
        0.0 => "0".to_owned(),
        price => python_float(format!("{price:.5}").parse().unwrap_or(price)),
    }
}

/// `GET /v1/report/tenants`: all scopes there ever were; dates count for nothing.
async fn tenants(call: &Call) -> Result<Response, Fault> {
    call.input(&[]).arguments(TENANTS)?;
    call.caller.may("report:list_tenants", &[])?;
    let look = async {
        let all = ScopeFilter::default();
        let found = scopes::list(&call.state.database, &all, 0, u64::MAX).await?;
        let mut seen = HashSet::new();
        let names = found.iter().map(|scope| scope.identifier.as_str());
        let names = names.filter(|name| seen.insert(*name));
        Ok(text_of(&Tenants(names.collect())))
    };
    Ok(answer_of(call.state.coalesced.answer("v1/report/tenants".to_owned(), look).await?))
}

/// Operations on reports.
pub(super) fn describe() -> Vec<Operation> {
    vec![
        Operation::new("get", "/v1/report/total", "What a time costs")
            .attributes(TOTAL)
            .answers::<Digits>(200, "The sum."),
        Operation::new("get", "/v1/report/summary", "What a time costs, by scope and type")
            .attributes(SUMMARY)
            .answers::<Summary>(200, "Sums."),
        Operation::new("get", "/v1/report/tenants", "All scopes there ever were")
            .attributes(TENANTS)
            .answers::<Tenants>(200, "Identifiers."),
    ]
}
