//! Replays what oslo.policy 6.0.1 answered, from `tests/fixtures/policy`; `generate.py` there says
//! what its lines mean.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
};

use serde_json::{Value, json};

use super::*;

fn cases() -> impl Iterator<Item = Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/policy/cases.jsonl");
    let lines = BufReader::new(File::open(path).unwrap()).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

/// Whether the answer to a question is the recorded one.
fn is_same(answer: &Value, decision: &Decision) -> bool {
    match (answer, decision) {
        (Value::Bool(answer), Decision::Allowed) => *answer,
        (Value::Bool(answer), Decision::Denied) => !answer,
        (Value::String(answer), Decision::WrongScope { .. }) => answer == "scope",
        (Value::String(answer), Decision::Failed(_)) => answer == "error",
        _ => false,
    }
}

/// Whether what fails for everyone was told when the rules were read.
fn is_told(decision: &Decision, errors: &[PolicyError]) -> bool {
    match decision {
        Decision::Failed(
            CheckError::Kind(what) | CheckError::Conversion(what) | CheckError::Remote(what),
        ) => errors.iter().any(|error| error.to_string().contains(what.as_str())),
        _ => true,
    }
}

#[test]
fn answers_as_oslo_policy_does() {
    let mut files = Vec::new();
    let mut settings = Settings::default();
    let mut read = Policy::read(&[], &settings);
    let mut callers = Value::Null;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in cases() {
        if let Some(rules) = case["files"].as_array() {
            let names = (0..).map(|at| format!("file {at}"));
            files = names.zip(rules.iter().cloned()).collect();
            settings = Settings {
                default_rule: case["default_rule"].as_str().unwrap().to_owned(),
                enforce_new_defaults: case["new_defaults"].as_bool().unwrap(),
                ..Settings::default()
            };
            read = Policy::read(&files, &settings);
        } else if case["callers"].is_object() {
            callers = case["callers"].clone();
        }
        if case["answer"].is_null() {
            continue;
        }
        let target = object(&case["target"]);
        let mut caller = case["as"].as_str().map_or_else(Map::new, |name| object(&callers[name]));
        let (decision, is_told, text) = match case.get("rule") {
            None => {
                let decision = read.0.decide(case["ask"].as_str().unwrap(), &target, &caller);
                let is_told = is_told(&decision, &read.1);
                (decision, is_told, Value::Null)
            }
            Some(rule) => {
                caller.extend(object(&case["creds"]));
                let mut files = files.clone();
                files.push(("test".to_owned(), json!({ "test": rule })));
                let (policy, errors) = Policy::read(&files, &settings);
                let decision = policy.decide("test", &target, &caller);
                let is_told = is_told(&decision, &errors);
                (decision, is_told, parse(rule).check.to_string().into())
            }
        };
        *seen.entry(case["answer"].to_string()).or_default() += 1;
        if !is_same(&case["answer"], &decision) || !is_told || text != case["text"] {
            wrong.push(format!("{decision:?} {text} {case}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {seen:?}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(seen.len() == 4 && seen.values().all(|count| *count > 100), "{seen:?}");
}

#[test]
fn defaults_are_those_of_the_reference() {
    let mut ours = DEFAULTS.iter();
    for case in cases().take_while(|case| case.get("default").is_some()) {
        let rule = ours.next().unwrap();
        let older = rule.older.as_ref().map(|older| [older.name, older.check, older.since]);
        let same = json!({
            "default": rule.name, "check": rule.check, "scope_types": rule.scope_types,
            "operations": case["operations"], "older": older, "removed_since": rule.removed_since,
        });
        assert_eq!(same, case);
        for operation in case["operations"].as_array().unwrap() {
            // It calls some GETs lists.
            let method = operation[0].as_str().unwrap().replace("LIST", "GET");
            let path = operation[1].as_str().unwrap();
            assert!(rule.operations.contains(&(&method, path)), "{operation}");
        }
    }
    assert_eq!(ours.next(), None);
}
