//! Every request that a rule is for, by everyone: those whom the rule leaves out
//! are refused though all else about the request is right.

use std::collections::BTreeSet;

use axum::{body::Body, http::Request};
use ratekitty::policy::defaults::{DEFAULTS, DefaultRule};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Cloud,
    users::{Client, app, json_of, now},
};

/// Operations that no handler asks their rule for.
const UNASKED: &[(&str, &str)] = &[
    // The reference asks for the rules of metrics instead, at the same paths.
    ("info:list_services_info", "/v1/info/services"),
    ("info:get_service_info", "/v1/info/services/{metric_id}"),
    // The reference asks for none: everyone with a token may.
    ("v2_rating:list_modules", "/v2/rating/modules"),
];

/// Someone who asks. Those who may do more come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Shows no token.
    Nobody,
    /// Has a token for nothing in particular.
    Unscoped,
    /// The admin of a domain, with a token for that.
    OfDomain,
    /// A member of beta.
    OfBeta,
    /// A reader of alpha.
    Reader,
    /// A member of alpha.
    Member,
    Admin,
}

impl Who {
    /// Whether a rule lets them do what is about alpha, or else about their own project.
    fn may(self, rule: &DefaultRule, is_about_alpha: bool) -> bool {
        assert_eq!(rule.scope_types, ["project"], "{}", rule.name);
        match (rule.check, self) {
            (_, Self::Nobody | Self::OfDomain) => false,
            ("", _) | ("role:admin" | "rule:project_reader_or_admin", Self::Admin) => true,
            ("role:admin", _) => false,
            ("rule:project_reader_or_admin", Self::OfBeta) => !is_about_alpha,
            ("rule:project_reader_or_admin", _) => self != Self::Unscoped,
            (check, _) => panic!("{}: what is {check}?", rule.name),
        }
    }
}

/// An operation, as a rule or the document names it.
type Operation = (&'static str, String, String);

/// Whether a path is one of those that a pattern stands for.
fn fits(pattern: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap();
    let (mut names, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (names.next(), parts.next()) {
            (None, None) | (Some("{path}"), Some(_)) => return true,
            (Some(name), Some(part)) if name == part || name.starts_with('{') => {}
            _ => return false,
        }
    }
}

/// Operations that rules are for, but those for which nobody asks them.
fn of_rules() -> Vec<Operation> {
    let all = DEFAULTS.iter().flat_map(|rule| {
        let one = |(method, path): &(&str, &str)| (rule.name, (*method).into(), (*path).into());
        rule.operations.iter().map(one)
    });
    let all: Vec<Operation> = all.collect();
    let is_unasked = |(rule, _, path): &Operation| UNASKED.contains(&(rule, path.as_str()));
    assert_eq!(all.iter().filter(|operation| is_unasked(operation)).count(), UNASKED.len());
    all.into_iter().filter(|operation| !is_unasked(operation)).collect()
}

/// Operations below /v1 and /v2 of the API's own description.
fn of_document(document: &Value) -> Vec<Operation> {
    let paths = document["paths"].as_object().unwrap().iter();
    let paths = paths.filter(|(path, _)| path.starts_with("/v1/") || path.starts_with("/v2/"));
    let operations = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys().map(|name| name.to_uppercase());
        let methods = methods
            .filter(|name| ["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&name.as_str()));
        methods.map(move |method| ("", method, path.clone()))
    });
    operations.collect()
}

/// Requests that are right, with their rules and what an admin is answered; each
/// stands where what it needs is there.
async fn requests(cloud: &Cloud, client: &Client, admin: &str) -> Vec<(&'static str, String, u16)> {
    let made = async |path: &str, body: Value, id: &str| {
        let request = format!("POST /v1/rating/module_config/{path} {body}");
        let answer = client.ask(&request, &[("x-auth-token", admin)]).await;
        let status = answer.status();
        let told = json_of(answer).await;
        assert_eq!(status, 201, "{request}: {told}");
        told[id].as_str().unwrap().to_owned()
    };
    // What holds already may not be changed.
    let later = "2099-01-01T00:00:00";
    let service = made("hashmap/services", json!({"name": "compute"}), "service_id").await;
    let field = json!({"name": "flavor", "service_id": service});
    let field = made("hashmap/fields", field, "field_id").await;
    let group = made("hashmap/groups", json!({"name": "compute"}), "group_id").await;
    let mapping = json!({"service_id": service, "group_id": group, "cost": "1", "start": later});
    let mapping = made("hashmap/mappings", mapping, "mapping_id").await;
    let threshold = json!({"service_id": service, "group_id": group, "level": "1", "cost": "1"});
    let threshold = made("hashmap/thresholds", threshold, "threshold_id").await;
    let script = json!({"name": "nothing", "data": "pass", "start": later});
    let script = made("pyscripts/scripts", script, "script_id").await;

    let (alpha, beta) = (cloud.project("alpha"), cloud.project("beta"));
    let month = format!("{}-01", &now()[..7]);
    let point = |project: &str| {
        json!({"vol": {"unit": "x", "qty": 1}, "rating": {"price": 1},
            "groupby": {"project_id": project}, "metadata": {}})
    };
    let frame = json!({
        "period": {"begin": format!("{month}T00:00:00Z"), "end": format!("{month}T01:00:00Z")},
        "usage": {"cpu": [point(alpha), point(beta)]},
    });
    let again = json!({
        "scope_ids": [alpha], "reason": "a test",
        "start_reprocess_time": "2026-01-01T00:00:00Z", "end_reprocess_time": "2026-01-02T00:00:00Z",
    });
    let last = "2026-01-10T00:00:00Z";
    let scope = json!({"scope_id": alpha, "last_processed_timestamp": last});
    let hashmap = "/v1/rating/module_config/hashmap";
    let scripts = "/v1/rating/module_config/pyscripts/scripts";
    let config = |request: String, status: u16| ("rating:module_config", request, status);
    let of_own = |rule, request: &str| (rule, format!("GET {request}"), 200);
    let of_alpha = |rule, path: &str| (rule, format!("GET {path}?tenant_id={alpha}"), 200);
    let fixed = [
        ("collector:manage_mapping", "POST /v1/collector/mappings?collector=c&service=cpu", 200),
        ("collector:manage_mapping", "POST /v1/collector/mappings/c/disk", 200),
        ("collector:list_mappings", "GET /v1/collector/mappings", 200),
        ("collector:get_mapping", "GET /v1/collector/mappings/cpu", 200),
        ("collector:manage_mapping", "DELETE /v1/collector/mappings/cpu", 204),
        ("collector:manage_mapping", "DELETE /v1/collector/mappings?service=disk", 204),
        (
            "collector:update_state",
            r#"PUT /v1/collector/states/c {"name": "c", "enabled": true}"#,
            200,
        ),
        (
            "collector:update_state",
            r#"PUT /v1/collector/c/states {"name": "c", "enabled": false}"#,
            200,
        ),
        ("collector:get_state", "GET /v1/collector/states/c", 200),
        ("collector:get_state", "GET /v1/collector/c/states", 200),
        ("info:list_metrics_info", "GET /v1/info/metrics", 200),
        ("info:list_metrics_info", "GET /v1/info/services", 200),
        ("info:get_metric_info", "GET /v1/info/metrics/instance", 200),
        ("info:get_metric_info", "GET /v1/info/services/instance", 200),
        ("info:get_config", "GET /v1/info/config", 200),
        ("rating:list_modules", "GET /v1/rating/modules", 200),
        ("rating:get_module", "GET /v1/rating/modules/hashmap", 200),
        (
            "rating:update_module",
            r#"PUT /v1/rating/modules/hashmap {"module_id": "hashmap", "priority": 2}"#,
            302,
        ),
        (
            "rating:quote",
            r#"POST /v1/rating/quote {"resources": [{"service": "compute", "volume": 1}]}"#,
            200,
        ),
        ("v2_rating:get_module", "GET /v2/rating/modules/hashmap", 200),
        (
            "v2_rating:update_module",
            r#"PUT /v2/rating/modules/hashmap {"enabled": true, "priority": 3}"#,
            204,
        ),
        ("rating:module_config", "GET /v1/rating/reload_modules", 204),
    ];
    let mut requests: Vec<_> =
        fixed.map(|(rule, request, status)| (rule, request.to_owned(), status)).into();
    requests.extend([
        config(format!("GET {hashmap}/types"), 200),
        config(format!(r#"POST {hashmap}/services {{"name": "volume"}}"#), 201),
        config(format!("GET {hashmap}/services"), 200),
        config(format!("GET {hashmap}/services/{service}"), 200),
        config(
            format!("POST {hashmap}/fields {}", json!({"name": "x", "service_id": service})),
            201,
        ),
        config(format!("GET {hashmap}/fields?service_id={service}"), 200),
        config(format!("GET {hashmap}/fields/{field}"), 200),
        config(format!("GET {hashmap}/services/{service}/fields"), 200),
        config(format!("GET {hashmap}/services/{service}/mappings"), 200),
        config(format!(r#"POST {hashmap}/groups {{"name": "volume"}}"#), 201),
        config(format!("GET {hashmap}/groups"), 200),
        config(format!("GET {hashmap}/groups/{group}"), 200),
        config(format!("GET {hashmap}/groups/{group}/mappings"), 200),
        config(format!("GET {hashmap}/groups/{group}/thresholds"), 200),
        config(
            format!(
                "POST {hashmap}/mappings {}",
                json!({"field_id": field, "value": "small", "cost": "2"})
            ),
            201,
        ),
        config(format!("GET {hashmap}/mappings"), 200),
        config(format!("GET {hashmap}/mappings/{mapping}"), 200),
        config(format!("GET {hashmap}/mappings/{mapping}/group"), 200),
        config(format!(r#"PUT {hashmap}/mappings/{mapping} {{"cost": "3"}}"#), 302),
        config(
            format!(
                "POST {hashmap}/thresholds {}",
                json!({"service_id": service, "level": "5", "cost": "2"})
            ),
            201,
        ),
        config(format!("GET {hashmap}/thresholds?service_id={service}"), 200),
        config(format!("GET {hashmap}/thresholds/{threshold}"), 200),
        config(format!("GET {hashmap}/thresholds/{threshold}/group"), 200),
        config(
            format!(
                "PUT {hashmap}/thresholds/{threshold} {}",
                json!({"service_id": service, "group_id": group, "level": "6", "cost": "2"})
            ),
            302,
        ),
        config(format!("DELETE {hashmap}/thresholds/{threshold}"), 204),
        config(format!("DELETE {hashmap}/mappings/{mapping}"), 204),
        config(format!("DELETE {hashmap}/groups/{group}"), 204),
        config(format!("DELETE {hashmap}/fields/{field}"), 204),
        config(format!("DELETE {hashmap}/services/{service}"), 204),
        config(format!(r#"POST {scripts} {{"name": "more", "data": "pass"}}"#), 201),
        config(format!("GET {scripts}"), 200),
        config(format!("GET {scripts}/{script}"), 200),
        config(format!(r#"PUT {scripts}/{script} {{"name": "nothing", "data": "0"}}"#), 201),
        config(format!("DELETE {scripts}/{script}"), 204),
        ("dataframes:add", format!("POST /v2/dataframes {}", json!({"dataframes": [frame]})), 204),
        of_own("dataframes:get", "/v2/dataframes"),
        of_own("summary:get_summary", "/v2/summary"),
        of_own("storage:list_data_frames", "/v1/storage/dataframes"),
        of_alpha("storage:list_data_frames", "/v1/storage/dataframes"),
        of_own("report:get_total", "/v1/report/total"),
        of_alpha("report:get_total", "/v1/report/total"),
        of_own("report:get_summary", "/v1/report/summary"),
        of_alpha("report:get_summary", "/v1/report/summary"),
        ("report:list_tenants", "GET /v1/report/tenants".to_owned(), 200),
        ("scope:post_state", format!("POST /v2/scope {scope}"), 200),
        of_own("scope:get_state", "/v2/scope"),
        of_own("scope:get_state", "/v2/ratekitty/status"),
        (
            "scope:patch_state",
            format!("PATCH /v2/scope {}", json!({"scope_id": alpha, "active": true})),
            200,
        ),
        ("schedule:task_reprocesses", format!("POST /v2/task/reprocesses {again}"), 202),
        of_own("schedule:get_task_reprocesses", "/v2/task/reprocesses"),
        of_own("schedule:get_task_reprocesses", &format!("/v2/task/reprocesses/{alpha}")),
        (
            "scope:reset_state",
            format!(
                "PUT /v2/scope {}",
                json!({"scope_id": alpha, "last_processed_timestamp": "2026-01-05T00:00:00Z"})
            ),
            202,
        ),
    ]);
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_change_things() {
    let cloud = Cloud::get();
    let (app, stop) = (app(&cloud, "").await, CancellationToken::new());
    let _stop = stop.clone().drop_guard();
    let client = Client::new(&app, &stop).await;
    let admin = cloud.token_of("admin", cloud.project_scope("admin")).await;
    let in_alpha = cloud.project_scope("alpha");
    let domain = json!({"domain": {"id": "default"}});
    let everyone = [
        (Who::Nobody, None),
        (Who::Unscoped, Some(cloud.token_of("alpha-member", Value::Null).await)),
        (Who::OfDomain, Some(cloud.token_of("domain-admin", domain).await)),
        (Who::OfBeta, Some(cloud.token_of("beta-member", cloud.project_scope("beta")).await)),
        (Who::Reader, Some(cloud.token_of("alpha-reader", in_alpha.clone()).await)),
        (Who::Member, Some(cloud.token_of("alpha-member", in_alpha).await)),
        (Who::Admin, Some(admin.clone())),
    ];
    let status = async |request: &str, token: Option<&String>| {
        let headers: Vec<_> =
            token.map(|token| ("x-auth-token", token.as_str())).into_iter().collect();
        client.ask(request, &headers).await.status().as_u16()
    };
    let document = json_of(client.ask("GET /openapi.json", &[]).await).await;
    let mut missing: Vec<Operation> = [of_rules(), of_document(&document)].concat();
    assert!(missing.len() > 100, "{}", missing.len());
    let mut wrong = Vec::new();
    for (name, request, answer) in requests(&cloud, &client, &admin).await {
        let rule = DEFAULTS.iter().find(|rule| rule.name == name).unwrap();
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        missing.retain(|(of, asked, pattern)| {
            !((of.is_empty() || *of == name) && asked == method && fits(pattern, path))
        });
        for (who, token) in &everyone {
            let may = who.may(rule, path.contains("tenant_id="));
            let expected = match who {
                Who::Nobody => 401,
                _ if may => answer,
                _ => 403,
            };
            let mut asked = BTreeSet::from([request.clone()]);
            if !may {
                // The older name of the same.
                asked.insert(request.replacen("/v1/rating/", "/v1/billing/", 1));
            }
            for request in asked {
                let got = status(&request, token.as_ref()).await;
                if got != expected {
                    wrong.push(format!("{name}, {who:?}: {got}, not {expected}: {request}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    // No rule is asked for this one.
    let list = "/v2/rating/modules";
    for (who, token) in &everyone {
        let expected = if *who == Who::Nobody { 401 } else { 200 };
        assert_eq!(status(&format!("GET {list}"), token.as_ref()).await, expected, "{who:?}");
    }
    missing.retain(|(_, method, path)| (method.as_str(), path.as_str()) != ("GET", list));
    assert!(missing.is_empty(), "there is no request for {missing:?}");
}

/// A body may be large, so it is not read of those who may not send it.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_push_is_refused_before_the_body_is_read() {
    let cloud = Cloud::get();
    let app = app(&cloud, "").await;
    let member = cloud.token_of("alpha-member", cloud.project_scope("alpha")).await;
    let admin = cloud.token_of("admin", cloud.project_scope("admin")).await;
    for (token, expected) in [(member, 403), (admin, 400)] {
        // Nothing tells its length, and it is no JSON.
        let request = Request::post("/v2/dataframes")
            .header("content-type", "application/json")
            .header("x-auth-token", token);
        let answer = app.request(request.body(Body::from("[")).unwrap()).await;
        assert_eq!(answer.status, expected, "{answer:?}");
    }
}
