//! The files of `config/`: they are current, and the program takes them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use ratekitty::{config::metrics_yml, processor::Skip, rating::pricelist::PriceList};

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(sample(name)).unwrap()
}

/// Runs the program with a configuration in a folder, and gives its answer.
fn answer(dir: &Path, conf: &str, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = run(dir, conf, arguments);
    let told = String::from_utf8(stderr).unwrap();
    assert!(status.success() && told.is_empty(), "{arguments:?}: {told}");
    String::from_utf8(stdout).unwrap()
}

fn run(dir: &Path, conf: &str, arguments: &[&str]) -> Output {
    let file = dir.join("cloudkitty.conf");
    std::fs::write(&file, conf).unwrap();
    Command::new(env!("CARGO_BIN_EXE_ratekitty"))
        .arg("--config-file")
        .arg(file)
        .args(arguments)
        .env("OS_RATEKITTY__STATE_PATH", dir)
        .output()
        .unwrap()
}

/// `make samples` writes them.
#[test]
fn generated_samples_are_current() {
    let dir = tempfile::tempdir().unwrap();
    let hint = "is not current: run `make samples`";
    assert!(
        read("cloudkitty.conf") == answer(dir.path(), "", &["sample-config"]),
        "the conf {hint}"
    );
    assert!(
        read("policy.yaml") == answer(dir.path(), "", &["policy", "sample"]),
        "the policy {hint}"
    );
}

#[test]
fn a_policy_with_nothing_but_comments_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let conf = "[storage]\nbackend = sql\n";
    let before = answer(dir.path(), conf, &["policy", "list"]);
    let policy = read("policy.yaml");
    std::fs::write(dir.path().join("policy.yaml"), &policy).unwrap();
    assert_eq!(answer(dir.path(), conf, &["policy", "list"]), before);
    // And its rules are the defaults.
    let rules: Vec<_> = policy.lines().filter_map(|line| line.strip_prefix("#\"")).collect();
    assert_eq!(rules.len(), before.lines().count());
    let rules: String = rules.iter().map(|rule| format!("\"{rule}\n")).collect();
    std::fs::write(dir.path().join("policy.yaml"), &rules).unwrap();
    let after = answer(dir.path(), conf, &["policy", "list"]);
    for (before, after) in before.lines().zip(after.lines()) {
        let [before, after] = [before, after].map(|line| line.split("  # ").next().unwrap());
        assert_eq!(before, after);
    }
}

/// Types of a metrics file, and the scope key that its head asks for.
fn metrics(name: &str) -> (String, BTreeSet<String>) {
    let text = read(name);
    let option = |option: &str| {
        let mut values =
            text.lines().filter_map(|line| line.strip_prefix("#   ")?.strip_prefix(option));
        let value = values.next().unwrap_or_else(|| panic!("{name} has no `{option}`"));
        value.split('#').next().unwrap().trim().to_owned()
    };
    let scope_key = option("scope_key = ");
    let conf = metrics_yml::parse(&text, name, &scope_key).unwrap();
    let warnings: Vec<_> = conf.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, Vec::<String>::new(), "{name}");
    for metric in &conf.metrics {
        // It must tell the things of a scope apart, and say for people what they are.
        assert!(metric.groupby.len() > 1, "{name}: {}", metric.conf_key);
        assert!(metric.description.is_some(), "{name}: {}", metric.conf_key);
        let skip = metric.skip_datapoints_expression.iter();
        skip.for_each(|expression| assert!(Skip::parse(expression).is_ok(), "{expression}"));
    }
    (scope_key, conf.metrics.iter().map(|metric| metric.frame_type.clone()).collect())
}

#[test]
fn metrics_load() {
    assert_eq!(metrics("metrics/openstack-exporter.yml").0, "tenant_id");
    assert_eq!(metrics("metrics/ceilometer.yml").0, "project");
    assert_eq!(metrics("metrics/kubernetes.yml").0, "namespace");
    assert_eq!(std::fs::read_dir(sample("metrics")).unwrap().count(), 3);
}

#[test]
fn prices_are_those_of_metrics_and_can_be_imported() {
    let dir = tempfile::tempdir().unwrap();
    let conf = "[storage]\nbackend = sql\n";
    answer(dir.path(), conf, &["dbsync", "upgrade"]);
    let file = sample("prices.yml").display().to_string();
    let planned = answer(dir.path(), conf, &["rules", "import", &file, "--dry-run"]);
    assert!(planned.ends_with("changes (nothing was written)\n"), "{planned}");
    let changed = answer(dir.path(), conf, &["rules", "import", &file]);
    assert!(changed.lines().count() > 10, "{changed}");
    assert_eq!(answer(dir.path(), conf, &["rules", "import", &file]), "0 changes\n");

    let list = PriceList::parse(&read("prices.yml")).unwrap();
    let priced: BTreeSet<_> =
        list.hashmap.services.into_iter().map(|service| service.name).collect();
    assert_eq!(priced, metrics("metrics/openstack-exporter.yml").1);
}
