//! The reference's processor and API on the tables that we make.

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use ratekitty::{
    state::scopes::{self, ScopeKeys},
    time::{Clock, RealClock, seconds},
};
use serde_json::Value;

use super::open;
use crate::{
    processors::set_price,
    support::{
        Cloud, Db, FakeLoki, Running,
        cloud::{METRICS, usage},
        fake_loki::Limits,
        peers, set_up, until_in,
    },
};

/// Asks the reference's API: CONFIGURATION_FILE PATH... Prints the status and the
/// body of each answer as JSON.
const ASK: &str = r#"
import json
import sys
import warnings

warnings.simplefilter("ignore")
paths, sys.argv = sys.argv[2:], ["reference", "--config-file", sys.argv[1]]

from cloudkitty.wsgi.api import application
from werkzeug.test import Client

answers = [Client(application).get(path) for path in paths]
print(json.dumps([[answer.status_code, answer.json] for answer in answers]))
"#;

/// Writes a configuration of the reference, without authentication and message bus;
/// `more` follows in `[collect]`.
pub fn configure(dir: &Path, url: &str, loki: &str, more: &str) -> PathBuf {
    let file = dir.join("reference.conf");
    let paste = peers().join("cloudkitty-25.0.0/etc/cloudkitty/api_paste.ini");
    let (path, paste) = (dir.display(), paste.display());
    let text = format!(
        "[DEFAULT]\nauth_strategy = noauth\ntransport_url = fake://\napi_paste_config = {paste}\n\
         [database]\nconnection = {url}\n[storage]\nbackend = loki\nversion = 2\n\
         [storage_loki]\nurl = {loki}\n[orchestrator]\nmax_workers = 1\n\
         max_workers_reprocessing = 0\ncoordination_url = file://{path}/locks\n\
         [fetcher_prometheus]\nscope_attribute = project_id\n{more}"
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// Runs a Python script with the reference in a time zone, and reads the JSON that
/// it prints at its end; before that it may log.
pub fn python(script: &str, zone: &str, arguments: &[&str]) -> Value {
    let python = PathBuf::from(set_up("RATEKITTY_CLOUDKITTY")).join("bin/python");
    let mut command = Command::new(python);
    command.args(["-c", script]).args(arguments).env("TZ", zone);
    let output = command.output().unwrap();
    let (said, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(said.lines().next_back().unwrap_or_default())
        .unwrap_or_else(|_| panic!("{said}{error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_references_processor_and_api_run_on_our_tables() {
    const SCOPES: usize = 2;
    const THINGS: usize = 3;
    const HOURS: i64 = 3;
    let cloud = Cloud::start(SCOPES, THINGS).await;
    let loki = FakeLoki::start(Limits::roomy()).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("metrics.yml"), METRICS).unwrap();
    let url = Db::Mariadb.create().await.unwrap();
    let path = dir.path().display();
    let collect = format!("{}wait_periods = 1\nmetrics_conf = {path}/metrics.yml\n", cloud.conf());
    let conf = configure(dir.path(), &url, &loki.url(), &collect);
    let output = Command::new(env!("CARGO_BIN_EXE_ratekitty"))
        .arg("--config-file")
        .arg(&conf)
        .args(["dbsync", "upgrade"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // What we have rated, and our prices.
    let database = open(&url).await;
    set_price(&database, 3).await;
    let name = "prometheus".to_owned();
    let (fetcher, collector) = (name.clone(), name);
    let keys = ScopeKeys { scope_key: "project_id".into(), fetcher, collector };
    let now = RealClock.now().timestamp();
    let begin = now - now.rem_euclid(3_600) - (HOURS + 1) * 3_600;
    let before = seconds(begin - 3_600);
    for scope in 0..SCOPES {
        let (connection, scope) = (database.connection(), format!("s{scope}"));
        scopes::add(connection, &scope, &keys, before, before).await.unwrap();
    }

    let program = PathBuf::from(set_up("RATEKITTY_CLOUDKITTY")).join("bin/cloudkitty-processor");
    let log = dir.path().join("processor.log");
    let said = File::create(&log).unwrap();
    let mut command = Command::new(program);
    command.arg("--config-file").arg(&conf).env("PYTHONWARNINGS", "ignore");
    command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
    let mut processor = Running::start(&mut command);
    let last = seconds(begin + (HOURS - 1) * 3_600);
    until_in(Duration::from_secs(90), "the reference to rate what is due", || async {
        let states = scopes::overview(&database, &keys).await.unwrap();
        states.values().filter(|state| state.last_processed >= last).count() == SCOPES
    })
    .await;
    processor.stop().await;
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(!log.contains("Traceback"), "{log}");
    // It moved our rows, and made no others.
    let states = scopes::list(&database, &scopes::ScopeFilter::default(), 0, 10).await.unwrap();
    assert_eq!(states.len(), SCOPES, "{states:?}");
    let mut rated = BTreeSet::new();
    for entry in loki.entries() {
        let line: Value = serde_json::from_str(&entry.line).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (scope, id) = (text(&line["groupby"]["project_id"]), text(&line["groupby"]["id"]));
        let end: chrono::DateTime<chrono::Utc> = text(&line["end"]).parse().unwrap();
        let used = usage(scope[1..].parse().unwrap(), id.parse().unwrap(), end.timestamp());
        assert_eq!(line["qty"].as_f64(), Some(used as f64), "{line}");
        assert_eq!(line["price"].as_f64(), Some(3.0 * used as f64), "{line}");
        if end <= seconds(begin + HOURS * 3_600) {
            assert!(rated.insert((scope, end, id)), "{line} is there twice");
        }
    }
    assert_eq!(rated.len(), SCOPES * THINGS * usize::try_from(HOURS).unwrap());

    let paths = ["/v1/rating/modules", "/v2/scope", "/v2/rating/modules/hashmap", "/"];
    let conf = conf.display().to_string();
    let arguments: Vec<&str> = std::iter::once(conf.as_str()).chain(paths).collect();
    let answers = python(ASK, "UTC", &arguments);
    for (path, answer) in paths.iter().zip(answers.as_array().unwrap()) {
        assert_eq!(answer[0], 200, "{path}: {answer}");
    }
    let modules = answers[0][1]["modules"].as_array().unwrap();
    let enabled = |name: &str| {
        modules.iter().any(|module| module["module_id"] == name && module["enabled"] == true)
    };
    assert!(enabled("hashmap") && !enabled("pyscripts"), "{modules:?}");
    let found = answers[1][1]["results"].as_array().unwrap();
    let found: BTreeSet<_> =
        found.iter().map(|scope| scope["scope_id"].as_str().unwrap()).collect();
    assert_eq!(found, BTreeSet::from(["s0", "s1"]));
    assert_eq!(answers[2][1]["enabled"], true, "{answers}");

    // Then we go on, from where the reference stopped: nothing is left to do.
    let asked = cloud.asked();
    let output = Command::new(env!("CARGO_BIN_EXE_ratekitty"))
        .args(["--config-file", &conf, "processor", "--once"])
        .env("OS_RATEKITTY__STATE_PATH", dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let now = cloud.asked();
    // It may have been stopped while it rated the hour after.
    let again = asked
        .iter()
        .filter(|((_, end), _)| *end <= begin + HOURS * 3_600)
        .find(|(what, times)| now[*what] > **times);
    assert_eq!(again, None, "it was rated before");
}
