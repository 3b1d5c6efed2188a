//! The policy of the operator's files, as it holds over the API.

use std::{process::Command, time::Duration};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Cloud,
    users::{Client, app},
};
use crate::support::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_policy_holds_at_once() {
    let cloud = Cloud::get();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    std::fs::write(&file, "\"rating:list_modules\": \"role:member\"\n").unwrap();
    let app = app(&cloud, &format!("[oslo_policy]\npolicy_file = {}\n", file.display())).await;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let client = Client::new(&app, &stop).await;
    let member = cloud.token_of("alpha-member", cloud.project_scope("alpha")).await;
    let admin = cloud.token_of("admin", cloud.project_scope("admin")).await;
    let list = "GET /v1/rating/modules";
    assert_eq!(client.status(list, &member).await, 200);
    // The admin has the role, by implication; other rules stay as they are.
    assert_eq!(client.status(list, &admin).await, 200);
    assert_eq!(client.status("GET /v1/rating/modules/noop", &member).await, 403);
    std::fs::write(&file, "\"rating:get_module\": \"@\"\n").unwrap();
    let follows = || async {
        client.status("GET /v1/rating/modules/noop", &member).await == 200
            && client.status(list, &member).await == 403
    };
    until("the new policy", follows).await;
    // What cannot be read allows nobody anything.
    std::fs::write(&file, "\"rating:list_modules\": \"role:admin or (\"\n").unwrap();
    let denies = || async { client.status(list, &admin).await == 403 };
    until("a rule that cannot be read", denies).await;
    std::fs::write(&file, "no: [yaml\n").unwrap();
    let denies = || async { client.status("GET /v1/info/config", &admin).await == 403 };
    until("a file that cannot be read", denies).await;
    std::fs::write(&file, "{}\n").unwrap();
    until("the defaults", || async { client.status(list, &admin).await == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_tells_what_holds() {
    let cloud = Cloud::get();
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("cloudkitty.conf");
    let write = |policy: &str| {
        std::fs::write(dir.path().join("policy.yaml"), policy).unwrap();
    };
    std::fs::write(
        &conf,
        format!(
            "[storage]\nbackend = sql\n[ratekitty]\nstate_path = {}\n[keystone_authtoken]\n{}",
            dir.path().display(),
            cloud.options("cloudkitty", "service")
        ),
    )
    .unwrap();
    let token = cloud.token_of("alpha-member", cloud.project_scope("alpha")).await;
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ratekitty"))
            .args(["--config-file", conf.to_str().unwrap(), "policy"])
            .args(arguments)
            .env("OS_TOKEN", &token)
            .env("HOME", dir.path())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    write("\"summary:get_summary\": \"role:reader\"\n\"nobody:asks\": \"@\"\n");
    let (code, told, _) = run(&["list"]);
    assert_eq!(code, Some(0));
    assert!(told.contains("\"summary:get_summary\": \"role:reader\"  # "), "{told}");
    assert!(told.contains("\"rating:list_modules\": \"role:admin\"  # default"), "{told}");
    assert!(told.contains("nothing asks for rule \"nobody:asks\""), "{told}");
    let (code, told, problem) = run(&["check", "summary:get_summary"]);
    assert_eq!((code, told.as_str()), (Some(0), "allowed\n"), "{problem}");
    let (code, told, _) = run(&["check", "rating:list_modules"]);
    assert_eq!((code, told.as_str()), (Some(1), "denied\n"));
    let (code, told, _) = run(&["check"]);
    assert_eq!(code, Some(0));
    assert!(told.contains("report:get_total: allowed"), "{told}");
    let credentials = dir.path().join("credentials.json");
    let admin = json!({"roles": ["admin"], "project_id": "p", "user_id": "u"});
    std::fs::write(&credentials, admin.to_string()).unwrap();
    let file = credentials.to_str().unwrap();
    let (code, ..) = run(&["check", "rating:list_modules", "--credentials", file]);
    assert_eq!(code, Some(0));
    // A start with rules that cannot be read is refused, with the place.
    write("\"summary:get_summary\": \"role:admin or or\"\n");
    let (code, _, told) = run(&["list"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("policy.yaml") && told.contains("summary:get_summary"), "{told}");
    let start = Command::new(env!("CARGO_BIN_EXE_ratekitty"))
        .args(["--config-file", conf.to_str().unwrap(), "api", "--port", "1"])
        .output();
    let told = String::from_utf8_lossy(&start.unwrap().stderr).into_owned();
    assert!(told.contains("summary:get_summary"), "{told}");
    tokio::time::sleep(Duration::from_millis(1)).await;
}
