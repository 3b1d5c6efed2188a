//! The program as an operator runs it: exit codes, messages, signals.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use crate::support::{peers, until};

fn ratekitty(dir: &Path, conf: &str, arguments: &[&str]) -> Output {
    std::fs::write(dir.join("cloudkitty.conf"), conf).unwrap();
    command(dir, arguments).output().unwrap()
}

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ratekitty"));
    command
        .arg("--config-file")
        .arg(dir.join("cloudkitty.conf"))
        .args(arguments)
        .env("OS_RATEKITTY__STATE_PATH", dir)
        .stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_bad_value_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        ("[collect]\nperiod = 0\n", "[collect] period = `0`", "from 1 to 31622400"),
        ("[orchestrator]\nmax_threads = x\n", "[orchestrator] max_threads = `x`", "whole number"),
        ("[DEFAULT]\ndebug = maybe\n", "[DEFAULT] debug = `maybe`", "true, yes"),
        (
            "[collector_prometheus]\ntimeout = 0\n",
            "[collector_prometheus] timeout = `0`",
            "above 0",
        ),
        ("[database]\nconnection = $nope\n", "[database] connection", "`$***` is no option"),
        ("[storage]\nversion = 1\n", "[storage] version = `1`", "it must be 2"),
        ("[collect\n", "line 1", "must end with `]`"),
        ("[database]\nconnection = oracle://u:s3cr/et@h/d\n", "oracle://h/d", "is not known"),
        ("[fetcher_prometheus]\nprometheus_password = s3$cr3t\n", "prometheus_password", "`$***`"),
        (
            "[fetcher_prometheus]\nprometheus_password s3cr3t\n",
            "`prometheus_password`",
            "neither `=`",
        ),
        ("[ratekitty]\nhttp_retry_budget = 1e19\n", "http_retry_budget", "from 0 to 31622400"),
    ];
    for (conf, place, reason) in cases {
        let output = ratekitty(dir.path(), conf, &["processor", "--once"]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{conf}: {stderr}");
        assert!(stderr.contains(place) && stderr.contains(reason), "{conf}: {stderr}");
        assert!(stderr.contains("cloudkitty.conf") || conf.contains("oracle"), "{conf}: {stderr}");
        assert!(!stderr.contains("cr3t") && !stderr.contains("s3cr"), "{conf}: {stderr}");
    }
}

#[test]
fn missing_options_say_what_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = dir.path().join("metrics.yml");
    let base = format!(
        "[storage]\nbackend = sql\n[fetcher]\nbackend = prometheus\n[collect]\ncollector = prometheus\nmetrics_conf = {}\n",
        metrics.display()
    );
    let run = |conf: &str| {
        let output = ratekitty(dir.path(), conf, &["processor", "--once"]);
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    let error = run(&base);
    assert!(
        error.contains("metrics.yml") && error.contains("check [collect] metrics_conf"),
        "{error}"
    );
    std::fs::write(&metrics, "metrics:\n  m: {unit: u}\n").unwrap();
    assert!(run(&base).contains("[fetcher_prometheus] metric is not set"));
    let error = run(&format!("{base}[storage]\nbackend = loki\n"));
    assert!(error.contains("metric is not set") || error.contains("`loki`"), "{error}");
    let error = run(&base.replace("backend = prometheus", "backend = gnocchi"));
    let known = "known fetchers: keystone, prometheus, source";
    assert!(error.contains("`gnocchi` is not known") && error.contains(known), "{error}");
    let error = run(&base.replace("backend = prometheus", "backend = keystone"));
    assert!(error.contains("[fetcher_keystone] auth_type is not set"), "{error}");
    let keystone = "[fetcher]\nbackend = keystone\n[fetcher_keystone]\nauth_section = ks\n[ks]\n";
    let error = run(&format!("{base}{keystone}auth_type = password\n"));
    assert!(error.contains("[ks] username is not set"), "{error}");
    let login = "auth_type = password\nusername = u\npassword = s3cret\n";
    let error = run(&format!("{base}{keystone}{login}"));
    assert!(error.contains("[ks] auth_url is not set"), "{error}");
    let scopes = "auth_url = http://h/v3\nproject_name = p\nsystem_scope = all\n";
    let error = run(&format!("{base}{keystone}{login}{scopes}"));
    assert!(error.contains("[ks] sets more than one of project"), "{error}");
    let error = run(&format!("{base}{keystone}auth_type = kerberos\n"));
    assert!(error.contains("v3applicationcredential") && error.contains("kerberos"), "{error}");
    let expression = "metrics:\n  m: {unit: u, skip_datapoints_expression: 'datapoint.qty == 1'}\n";
    std::fs::write(&metrics, expression).unwrap();
    let url = "prometheus_url = http://127.0.0.1:1/api/v1";
    let error = run(&format!(
        "{base}[fetcher_prometheus]\nmetric = m\n{url}\n[collector_prometheus]\n{url}\n"
    ));
    assert!(error.contains("the attribute `qty` at character 1 is not supported"), "{error}");
}

#[test]
fn unknown_options_are_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let conf = "[collect]\nperiods = 5\n[storage]\nbackend = sql\n[elsewhere]\nx = 1\n";
    let output = ratekitty(dir.path(), conf, &["dbsync", "upgrade"]);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr.matches("Unknown option [collect] periods").count(), 1, "{stderr}");
    assert!(!stderr.contains("elsewhere"), "{stderr}");
    assert_eq!(text(&output.stdout), "The tables of the state database were made.\n");
}

#[test]
fn a_storage_that_is_not_chosen_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let output = ratekitty(dir.path(), "[DEFAULT]\n", &["dbsync", "upgrade"]);
    assert!(text(&output.stderr).contains("[storage] backend is not set"));
}

#[test]
fn certificates_that_are_not_checked_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let told = |conf: &str| {
        let conf = format!(
            "[storage]\nbackend = sql\n[fetcher]\nbackend = keystone\n[collect]\ncollector = aetos\n\
             [fetcher_keystone]\nauth_section = keystone_authtoken\n[keystone_authtoken]\n\
             auth_type = v3token\nauth_url = https://127.0.0.1:1\ntoken = t\n{conf}"
        );
        let output = ratekitty(dir.path(), &conf, &["dbsync", "upgrade"]);
        let stderr = text(&output.stderr);
        let lines = stderr.lines().filter(|line| line.contains("insecure is set"));
        let sections = lines.filter_map(|line| line.split(['[', ']']).nth(3).map(str::to_owned));
        sections.collect::<Vec<_>>()
    };
    assert_eq!(told(""), Vec::<String>::new());
    assert_eq!(told("insecure = true\n"), ["keystone_authtoken"]);
    assert_eq!(told("insecure = true\ncafile = /etc/ca.pem\n"), Vec::<String>::new());
    assert_eq!(told("[fetcher_keystone]\ninsecure = true\n"), ["fetcher_keystone"]);
    // Which nothing is asked of.
    assert_eq!(told("[collector_prometheus]\ninsecure = true\n"), Vec::<String>::new());
    assert_eq!(
        told("[collect]\ncollector = prometheus\n[collector_prometheus]\ninsecure = true\n"),
        ["collector_prometheus"]
    );
    assert_eq!(
        told("[storage]\nbackend = loki\n[storage_loki]\ninsecure = true\nca_file = /etc/ca.pem\n"),
        ["storage_loki"]
    );
}

#[test]
fn the_api_does_not_open_what_keystone_should_guard() {
    let dir = tempfile::tempdir().unwrap();
    let output = ratekitty(dir.path(), "[storage]\nbackend = sql\n", &["api"]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains("[keystone_authtoken] auth_type is not set"), "{told}");
    assert!(told.contains("auth_strategy = noauth"), "{told}");
}

#[test]
fn a_failed_scope_makes_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("metrics.yml"), "metrics:\n  m: {unit: u}\n").unwrap();
    let url = "prometheus_url = http://127.0.0.1:1/api/v1";
    let conf = format!(
        "[storage]\nbackend = sql\n[ratekitty]\nhttp_retry_budget = 0\n[fetcher]\nbackend = prometheus\n\
         [fetcher_prometheus]\nmetric = m\n{url}\n[collector_prometheus]\n{url}\n\
         [collect]\ncollector = prometheus\nmetrics_conf = {}\n",
        dir.path().join("metrics.yml").display()
    );
    let output = ratekitty(dir.path(), &conf, &["processor", "--once"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot fetch the scopes"), "{output:?}");
    let output = ratekitty(dir.path(), &conf, &["check"]);
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    let nobody = conf.replace("backend = prometheus", "backend = source");
    let nobody = ratekitty(dir.path(), &nobody, &["check"]);
    assert!(text(&nobody.stdout).contains("note  scopes: none found"), "{nobody:?}");
    assert!(
        stdout.contains("ok    metrics file")
            && stdout.contains("ok    skip expressions: 1 understood")
            && stdout.contains("FAIL  scopes")
            && stdout.contains("FAIL  usage"),
        "{stdout}"
    );
}

#[tokio::test]
async fn stops_cleanly_when_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let conf = "[DEFAULT]\nauth_strategy = noauth\n[storage]\nbackend = sql\n";
    std::fs::write(dir.path().join("cloudkitty.conf"), conf).unwrap();
    for signal in ["TERM", "INT"] {
        let log = dir.path().join("log");
        let mut child = command(dir.path(), &["--log-file"])
            .arg(&log)
            .args(["api", "--host", "127.0.0.1", "--port", &port.to_string()])
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{port}/v2//scope");
        let http = ratekitty::http::client(&ratekitty::http::ClientSettings::default()).unwrap();
        until("the API to answer", || async {
            http.get(&url).send().await.is_ok_and(|answer| answer.status() == 404)
        })
        .await;
        let killed =
            Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(killed.unwrap().success());
        let mut status = None;
        for _ in 0..100 {
            status = child.try_wait().unwrap();
            if status.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let _ = child.kill();
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{signal}");
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(log.contains(&format!("[-] Received SIG{signal}, stopping")), "{log}");
    }
}

#[test]
fn the_references_sample_metrics_load() {
    let tree = peers().join("cloudkitty-25.0.0");
    let sample = tree.join("etc/cloudkitty/prom_metrics.yml");
    let conf = ratekitty::config::metrics_yml::read(&sample, "project_id").unwrap();
    assert_eq!(conf.metrics.len(), 3);
    // This one is for Gnocchi; the reference refuses it for Prometheus, too.
    let gnocchi = tree.join("etc/cloudkitty/metrics.yml");
    let error = ratekitty::config::metrics_yml::read(&gnocchi, "project_id").unwrap_err();
    assert!(error.to_string().contains("extra_args"), "{error}");
    // Samples in the documentation: YAML blocks that begin with `metrics:`.
    let mut loaded = 0;
    for page in ["admin/configuration/collector.rst", "user/rating/hashmap.rst"] {
        let page = std::fs::read_to_string(tree.join("doc/source").join(page)).unwrap();
        for block in blocks(&page) {
            ratekitty::config::metrics_yml::parse(&block, "sample", "project_id")
                .unwrap_or_else(|error| panic!("{error}\n{block}"));
            loaded += 1;
        }
    }
    assert!(loaded >= 9, "only {loaded} samples");
}

/// Indented blocks of a page that begin with `metrics:`, without indentation.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if indent == 0 || line.trim() != "metrics:" {
            continue;
        }
        let mut block = String::from("metrics:\n");
        while let Some(line) = lines
            .next_if(|line| line.trim().is_empty() || line.len() - line.trim_start().len() > indent)
        {
            block.push_str(line.get(indent..).unwrap_or(""));
            block.push('\n');
        }
        blocks.push(block);
    }
    blocks
}

/// A disk that is full is a limit on the size of files here: SQLite is told the
/// same by the system, in the middle of a run.
#[tokio::test]
async fn a_full_disk_loses_nothing_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let url = crate::faults::busy_cloud(2, 400).await;
    std::fs::write(dir.path().join("metrics.yml"), "metrics:\n  m: {unit: u, groupby: [id]}\n")
        .unwrap();
    let conf = format!(
        "[storage]\nbackend = sql\n[ratekitty]\nhttp_retry_budget = 0\n[fetcher]\nbackend = prometheus\n\
         [fetcher_prometheus]\nmetric = m\nprometheus_url = {url}\n[collector_prometheus]\nprometheus_url = {url}\n\
         [collect]\ncollector = prometheus\nperiod = 86400\nwait_periods = 1\nmetrics_conf = {}\n",
        dir.path().join("metrics.yml").display()
    );
    let run = |arguments: &[&str], limit: &str| {
        std::fs::write(dir.path().join("cloudkitty.conf"), &conf).unwrap();
        let program = command(dir.path(), arguments);
        let mut limited = Command::new("sh");
        // Ignored, the signal of the limit becomes an error of the write.
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\"");
        limited.args(["-c", &script]).arg(program.get_program()).args(program.get_args());
        limited.env("OS_RATEKITTY__STATE_PATH", dir.path());
        limited.env("OS_RATEKITTY__FIRST_PERIOD_BEGIN", "2026-10-01T00:00:00Z");
        limited
    };
    let summary =
        ["summary", "--groupby", "type", "--begin", "2026-10-01", "--end", "2026-10-11T00:00:00Z"];
    assert!(run(&["dbsync", "upgrade"], "unlimited").output().unwrap().status.success());
    let mut full = run(&["processor", "--once"], "2000");
    let output = tokio::task::spawn_blocking(move || full.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let log = text(&output.stdout) + &text(&output.stderr);
    assert!(log.contains("is not rated") && log.contains("the state database failed to"), "{log}");
    // It got somewhere before.
    assert!(!log.contains("in 0 periods"), "{log}");
    let mut free = run(&["processor", "--once"], "unlimited");
    let output = tokio::task::spawn_blocking(move || free.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    // Ten days of two scopes with 400 things each.
    let table = text(&run(&summary, "unlimited").output().unwrap().stdout);
    assert!(table.contains("8000.00000"), "{table}");
}
