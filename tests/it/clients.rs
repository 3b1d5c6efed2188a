//! Clients of the API: those that people have, and those that make nonsense of it.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use axum::{body::Body, http::Request};
use chrono::{DateTime, Utc};
use ratekitty::api::openapi;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::{
    fixture,
    support::{Db, TestApp, peers, set_up},
};

/// What python-cloudkittyclient's tests look for in the metrics file.
const METRICS: &str = "metrics:
  cpu: {unit: instance, groupby: [id, project_id], metadata: [flavor],
        extra_args: {aggregation_method: max}}
  image.size: {unit: MiB, factor: 1/1048576, groupby: [id, project_id], metadata: [disk_format],
               extra_args: {aggregation_method: max}}
";

/// Functional tests of python-cloudkittyclient; each is there for `cloudkitty`, in
/// a class whose name begins with `Ck`, and for `openstack rating`, with `OSC`.
const PASSED: &[(&str, &str, &[&str])] = &[
    (
        "v1.test_collector",
        "CollectorTest",
        &["test_collector_enable_disable", "test_create_get_delete_collector_mapping"],
    ),
    (
        "v1.test_hashmap",
        "HashmapTest",
        &[
            "test_create_get_delete_field",
            "test_create_get_delete_service",
            "test_create_get_update_delete_mapping_field",
            "test_create_get_update_delete_mapping_field_started",
            "test_create_get_update_delete_mapping_service",
            "test_create_get_update_delete_threshold_field",
            "test_create_get_update_delete_threshold_service",
            "test_group_get_create_delete",
            "test_group_mappings_get",
            "test_group_thresholds_get",
            "test_list_mapping_types",
        ],
    ),
    (
        "v1.test_info",
        "InfoTest",
        &["test_info_config_get", "test_info_metric_list", "test_info_service_get_image_size"],
    ),
    (
        "v1.test_pyscripts",
        "PyscriptTest",
        &["test_create_get_update_list_delete", "test_create_get_update_list_delete_started"],
    ),
    (
        "v1.test_rating",
        "RatingTest",
        &["test_module_enable_get_disable", "test_module_set_priority"],
    ),
    (
        "v1.test_report",
        "ReportTest",
        &[
            "test_get_summary",
            "test_get_summary_with_groupby",
            "test_get_tenants",
            "test_get_total",
        ],
    ),
    ("v1.test_storage", "StorageTest", &["test_dataframes_get"]),
    (
        "v2.test_dataframes",
        "DataframesTest",
        &[
            "test_dataframes_add",
            "test_dataframes_add_with_hyphen_stdin",
            "test_dataframes_add_with_no_args",
        ],
    ),
];

/// Those that run no command, so that there is nothing to pass: their bodies are
/// `pass` or `return True` below a note that they are to be written.
const EMPTY: &[(&str, &str, &[&str])] = &[
    ("v2.test_dataframes", "DataframesTest", &["test_dataframes_get"]),
    ("v2.test_scope", "ScopeTest", &["test_scope_state_get", "test_scope_state_reset"]),
    ("v2.test_summary", "SummaryTest", &["test_summary_get"]),
];

fn names(of: &[(&str, &str, &[&str])]) -> Vec<String> {
    let mut names = Vec::new();
    for (module, class, tests) in of {
        for program in ["Ck", "OSC"] {
            names.extend(tests.iter().map(|test| format!("{module}.{program}{class}.{test}")));
        }
    }
    names.sort();
    names
}

/// What is asked for without dates is of this month.
#[expect(clippy::disallowed_methods, reason = "clients go by the real time")]
fn now() -> String {
    DateTime::<Utc>::from(SystemTime::now()).to_rfc3339()
}

/// Runs a script of `tests/fixtures/clients` on an app: what it prints, and what
/// it tells people.
async fn run(python: &Path, script: &str, app: &TestApp) -> (Value, String) {
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let url = app.serve(&stop).await;
    let mut command = Command::new(python);
    command.arg(fixture("clients").join(script)).arg(&url).kill_on_drop(true);
    let output = command.output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}: {told}");
    (serde_json::from_slice(&output.stdout).unwrap(), told)
}

/// Runs the client's functional tests, of which all that do anything must pass.
#[expect(clippy::print_stdout, reason = "how much has passed")]
async fn functional_tests(db: Db) {
    let app = TestApp::on(db, &now(), "", METRICS).await;
    let python = PathBuf::from(set_up("RATEKITTY_OPENSTACK_VENV")).join("bin/python");
    let (result, told) = run(&python, "functional.py", &app).await;
    let passed = names(PASSED);
    let wanted = json!({"passed": passed, "failed": [], "empty": names(EMPTY)});
    assert_eq!(result, wanted, "{told}");
    let (passed, empty) = (passed.len(), names(EMPTY).len());
    println!(
        "python-cloudkittyclient, {db:?}: {passed} passed, none named, {empty} not run: they run \
         no command"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_clients_tests_pass_with_sqlite() {
    functional_tests(Db::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_clients_tests_pass_with_mariadb() {
    functional_tests(Db::Mariadb).await;
}

/// Lets Schemathesis make requests from the description.
#[expect(clippy::print_stdout, reason = "how much has passed")]
async fn fuzz(db: Db) {
    let app = TestApp::on(db, &now(), "", METRICS).await;
    let python = peers().join("schemathesis-venv/bin/python");
    let (result, told) = run(&python, "fuzz.py", &app).await;
    for part in ["failures", "errors", "broken"] {
        assert_eq!(result[part], json!([]), "{part}: {told}");
    }
    let document = openapi::document();
    let paths = document["paths"].as_object().unwrap().values();
    let operations: usize = paths.map(|methods| methods.as_object().unwrap().len()).sum();
    assert_eq!(result["operations"], json!(operations));
    assert_eq!(result["tested"], json!(operations));
    let cases = result["cases"].as_u64().unwrap();
    assert!(cases > 20 * operations as u64, "{cases}");
    println!("Schemathesis, {db:?}: {cases} requests passed, none named, none not run");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_as_described_with_sqlite() {
    fuzz(Db::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_as_described_with_mariadb() {
    fuzz(Db::Mariadb).await;
}

/// Texts that PostgreSQL cannot hold, for which MariaDB's tables of three bytes a
/// character have no place, that are no UTF-8, or longer than any column of names.
fn hostile_texts() -> Vec<String> {
    let fixed =
        ["%00", "a%00b", "%F0%9F%98%80", "%F0%9F%98%80%00", "%ED%A0%80", "%FF", "%EF%BF%BF"];
    fixed.into_iter().map(str::to_owned).chain(["x".repeat(300)]).collect()
}

/// Where a text may stand in a request without a body.
const PLACES: &[(&str, &[&str])] = &[
    (
        "GET",
        &[
            "/v1/collector/mappings/@",
            "/v1/collector/mappings?collector=@",
            "/v1/collector/states/@",
            "/v1/info/metrics/@",
            "/v1/rating/modules/@",
            "/v1/rating/modules/hashmap?module_id=@",
            "/v1/rating/module_config/hashmap/services/@",
            "/v1/rating/module_config/hashmap/services/@/fields",
            "/v1/rating/module_config/hashmap/services/@/mappings",
            "/v1/rating/module_config/hashmap/fields/@",
            "/v1/rating/module_config/hashmap/fields?service_id=@",
            "/v1/rating/module_config/hashmap/groups/@",
            "/v1/rating/module_config/hashmap/groups/@/mappings",
            "/v1/rating/module_config/hashmap/groups/@/thresholds",
            "/v1/rating/module_config/hashmap/mappings/@",
            "/v1/rating/module_config/hashmap/mappings/@/group",
            "/v1/rating/module_config/hashmap/mappings?service_id=@",
            "/v1/rating/module_config/hashmap/mappings?field_id=@",
            "/v1/rating/module_config/hashmap/mappings?group_id=@",
            "/v1/rating/module_config/hashmap/mappings?tenant_id=@&filter_tenant=true",
            "/v1/rating/module_config/hashmap/mappings?description=@",
            "/v1/rating/module_config/hashmap/thresholds/@",
            "/v1/rating/module_config/hashmap/thresholds/@/group",
            "/v1/rating/module_config/hashmap/thresholds?service_id=@",
            "/v1/rating/module_config/pyscripts/scripts/@",
            "/v1/report/total?tenant_id=@",
            "/v1/report/summary?service=@",
            "/v1/storage/dataframes?tenant_id=@",
            "/v1/storage/dataframes?resource_type=@",
            "/v2/scope?scope_id=@",
            "/v2/scope?scope_key=@&fetcher=@&collector=@",
            "/v2/scope?scope_id=a,b,c,@",
            "/v2/summary?groupby=@",
            "/v2/summary?filters=type:@",
            "/v2/summary?filters=project_id:@,@:a",
            "/v2/dataframes?filters=type:@",
            "/v2/dataframes?filters=project_id:@",
            "/v2/rating/modules/@",
            "/v2/task/reprocesses/@",
            "/v2/task/reprocesses?scope_ids=@",
            "/v2/task/reprocesses?scope_ids=a,@",
            "/v2/task/reprocesses?scope_ids=a,b,c,@",
        ],
    ),
    (
        "DELETE",
        &[
            "/v1/collector/mappings/@",
            "/v1/rating/module_config/hashmap/services/@",
            "/v1/rating/module_config/hashmap/fields/@",
            "/v1/rating/module_config/hashmap/groups/@?recursive=true",
            "/v1/rating/module_config/hashmap/mappings/@",
            "/v1/rating/module_config/hashmap/thresholds/@",
            "/v1/rating/module_config/pyscripts/scripts/@",
        ],
    ),
    ("POST", &["/v1/collector/mappings/@/cpu", "/v1/collector/mappings/prometheus/@"]),
];

/// Bodies in which a text may stand.
fn bodies(text: &str) -> Vec<(&'static str, String, Value)> {
    let rules = "/v1/rating/module_config/hashmap";
    let scripts = "/v1/rating/module_config/pyscripts/scripts";
    let id = "e3e70682-c209-4cac-a29f-6fbed82c07cd";
    let frame = |frame_type: &str, unit: &str, label: &str| {
        json!({"dataframes": [{
            "period": {"begin": "2026-11-01T00:00:00Z", "end": "2026-11-01T01:00:00Z"},
            "usage": {frame_type: [{
                "vol": {"unit": unit, "qty": 1},
                "groupby": {"project_id": label, label: "a"},
                "metadata": {label: label},
            }]},
        }]})
    };
    let scope = |name: &str| {
        let mut body = json!({"scope_id": "a", "last_processed_timestamp": "2026-11-01"});
        body[name] = json!(text);
        body
    };
    let schedule = json!({
        "scope_ids": ["a", text], "reason": text,
        "start_reprocess_time": "2026-11-01", "end_reprocess_time": "2026-11-02",
    });
    let mapping = json!({"cost": 1, "service_id": id, "value": text, "name": text});
    let found = [
        ("POST", "/v2/dataframes".to_owned(), frame(text, "u", "a")),
        ("POST", "/v2/dataframes".to_owned(), frame("cpu", text, "a")),
        ("POST", "/v2/dataframes".to_owned(), frame("cpu", "u", text)),
        ("POST", "/v2/scope".to_owned(), scope("scope_id")),
        ("POST", "/v2/scope".to_owned(), scope("collector")),
        ("PATCH", "/v2/scope".to_owned(), json!({"scope_id": text})),
        ("PUT", "/v2/scope".to_owned(), scope("scope_id")),
        ("PUT", "/v2/scope".to_owned(), scope("fetcher")),
        ("POST", "/v2/task/reprocesses".to_owned(), schedule),
        ("POST", format!("{rules}/services"), json!({"name": text})),
        ("POST", format!("{rules}/groups"), json!({"name": text})),
        ("POST", format!("{rules}/fields"), json!({"name": text, "service_id": id})),
        ("POST", format!("{rules}/mappings"), mapping),
        ("DELETE", format!("{rules}/services"), json!({"service_id": text})),
        ("GET", format!("{rules}/mappings"), json!({"field_id": text})),
        ("POST", scripts.to_owned(), json!({"name": text, "data": "pass"})),
        ("POST", scripts.to_owned(), json!({"name": "a", "data": text})),
    ];
    found.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_column_holds_is_a_clients_mistake() {
    let json_type = ("content-type", "application/json");
    for db in Db::ALL {
        let app = TestApp::on(db, &now(), "", METRICS).await;
        for text in hostile_texts() {
            for (method, paths) in PLACES {
                for path in *paths {
                    let path = path.replace('@', &text);
                    let request = Request::builder().method(*method).uri(&path);
                    let answer = app.request(request.body(Body::empty()).unwrap()).await;
                    assert!(!answer.status.is_server_error(), "{db:?} {method} {path}: {answer:?}");
                }
            }
        }
        for text in ["\0", "a\0b", "\u{1f600}", "\u{ffff}", " ", &"x".repeat(300)] {
            for (method, path, body) in bodies(text) {
                let request = Request::builder().method(method).uri(&path);
                let request = request.header(json_type.0, json_type.1);
                let request = request.body(Body::from(body.to_string())).unwrap();
                let answer = app.request(request).await;
                let told = format!("{db:?} {method} {path} {body}: {answer:?}");
                assert!(!answer.status.is_server_error(), "{told}");
            }
        }
        // What was taken of it does no harm.
        for path in
            ["/v2/scope", "/v2/dataframes", "/v2/summary?groupby=type", "/v1/report/tenants"]
        {
            let answer = app.get(path).await;
            assert!(!answer.status.is_server_error(), "{db:?} {path}: {answer:?}");
        }
    }
}
