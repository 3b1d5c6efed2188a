//! Our reading of metrics files against the reference's.

use ratekitty::config::metrics_yml::{self, MetricDefinition, Mutate};
use serde_json::{Map, Value};

use super::assert_deviations;
use crate::cases;

/// Cases that the reference accepts and then fails on at every period, or that
/// mean what no operator can mean.
const DEVIATIONS: &[(&str, &str)] = &[
    ("factor .nan", "cannot be billed"),
    ("factor .inf", "cannot be billed"),
    ("factor -.inf", "cannot be billed"),
    ("factor 1e400", "cannot be billed"),
    (r#"factor "٣""#, "digits of other scripts"),
    ("offset .nan", "cannot be billed"),
    ("offset .inf", "cannot be billed"),
    ("offset -.inf", "cannot be billed"),
    ("offset 1e400", "cannot be billed"),
    (r#"offset "٣""#, "digits of other scripts"),
    ("map with all kinds of values", "the reference fails when such a value comes up"),
    ("deep nesting", "the reference fails when such a value comes up"),
    ("scope key ''", "refused where the option is read"),
    ("tab after colon", "the YAML library takes the tab for a space"),
];

fn word(mutate: &Mutate) -> &'static str {
    match mutate {
        Mutate::None => "NONE",
        Mutate::Numbool => "NUMBOOL",
        Mutate::Notnumbool => "NOTNUMBOOL",
        Mutate::Floor => "FLOOR",
        Mutate::Ceil => "CEIL",
        Mutate::Map(_) => "MAP",
    }
}

/// What differs between our definition and the reference's, if anything.
fn difference(ours: &MetricDefinition, theirs: &Map<String, Value>) -> Option<String> {
    let list = |name: &str| -> Vec<String> {
        theirs[name].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    let text = |name: &str| theirs.get(name).and_then(Value::as_str).map(str::to_owned);
    let args = &theirs["extra_args"];
    let arg = |name: &str| args.get(name).and_then(Value::as_str).map(str::to_owned);
    let checks = [
        ("unit", Some(ours.unit.clone()) == text("unit")),
        ("description", ours.description == text("description")),
        ("skip", ours.skip_datapoints_expression == text("skip_datapoints_expression")),
        ("groupby", ours.groupby == list("groupby")),
        ("metadata", ours.metadata == list("metadata")),
        ("mutate", Some(word(&ours.mutate).to_owned()) == text("mutate")),
        ("method", Some(ours.args.aggregation_method.clone()) == arg("aggregation_method")),
        ("query_function", ours.args.query_function == arg("query_function")),
        ("range_function", ours.args.range_function == arg("range_function")),
        ("prefix", Some(ours.args.query_prefix.clone()) == arg("query_prefix")),
        ("suffix", Some(ours.args.query_suffix.clone()) == arg("query_suffix")),
    ];
    checks.iter().find(|(_, same)| !same).map(|(name, _)| (*name).to_owned())
}

#[test]
fn accepts_and_refuses_as_the_reference() {
    let mut failures = Vec::new();
    for case in cases("parity/metrics_yml/cases.jsonl") {
        let name = case["name"].as_str().unwrap().to_owned();
        let Some(yaml) = case.get("yaml").and_then(Value::as_str) else { continue };
        let scope_key = case["scope_key"].as_str().unwrap();
        let ours = metrics_yml::parse(yaml, "metrics.yml", scope_key);
        match (ours, case.get("ok").and_then(Value::as_object)) {
            (Ok(conf), Some(theirs)) => {
                let mut keys: Vec<_> = theirs.keys().cloned().collect();
                keys.sort();
                let ours: Vec<_> = conf.metrics.iter().map(|m| m.conf_key.clone()).collect();
                if keys != ours {
                    failures.push((name, format!("defines {ours:?}, not {keys:?}")));
                    continue;
                }
                for metric in &conf.metrics {
                    let theirs = theirs[&metric.conf_key].as_object().unwrap();
                    if let Some(key) = difference(metric, theirs) {
                        failures
                            .push((name.clone(), format!("{} differs in {key}", metric.conf_key)));
                    }
                }
            }
            (Err(_), None) => {}
            (Ok(_), None) => failures.push((name, "accepted, the reference refuses".to_owned())),
            (Err(error), Some(_)) => failures.push((name, format!("refused: {error}"))),
        }
    }
    assert_deviations(&failures, DEVIATIONS);
}

#[test]
fn errors_name_metric_and_key() {
    let yaml = "metrics:\n  cpu:\n    unit: u\n    factor: 1/0\n";
    let error = metrics_yml::parse(yaml, "m.yml", "project_id").unwrap_err();
    assert_eq!(
        error.to_string(),
        "metrics file `m.yml`, line 4: metric `cpu`, key `factor`: `1/0` is not a finite number; \
         a number or a fraction such as 1/1024 is needed"
    );
    let yaml = "metrics:\n  cpu:\n    unit: u\n    groupby: [id, yes]\n";
    let error = metrics_yml::parse(yaml, "m.yml", "project_id").unwrap_err();
    assert_eq!(
        error.to_string(),
        "metrics file `m.yml`, line 4: metric `cpu`, key `groupby`: `true` is no label name; \
         put it in quotes"
    );
}
