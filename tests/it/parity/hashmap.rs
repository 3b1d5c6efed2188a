//! Prices of the hashmap module against the reference's, digit for digit.

use std::{path::PathBuf, process::Command};

use chrono::{DateTime, NaiveDateTime};
use ratekitty::{
    dataframe::{DataFrame, DataPoint, Labels},
    decimal::Decimal,
    rating::hashmap::Rules,
    state::rating_rules::{
        CostType, FieldRow, GroupRow, HashmapRows, MappingRow, Parent, ServiceRow, ThresholdRow,
    },
    time::{Period, seconds},
};
use serde_json::Value;

use super::assert_deviations;
use crate::{cases, fixture, support::set_up};

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn optional(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn date(value: &Value) -> Option<NaiveDateTime> {
    let text = value.as_str()?;
    text.parse().ok().or_else(|| Some(DateTime::parse_from_rfc3339(text).ok()?.naive_utc()))
}

/// Rows as they would stand in the database; identifiers become row numbers.
fn rows(rules: &Value) -> HashmapRows {
    let list = |name: &str| rules[name].as_array().cloned().unwrap_or_default();
    let number = |name: &str, key: &str, id: &Value| -> Option<i32> {
        let id = id.as_str()?;
        list(name).iter().position(|row| row[key] == id).map(|at| at as i32)
    };
    let parent = |row: &Value| match number("services", "service_id", &row["service_id"]) {
        Some(service) => Parent::Service(service),
        None => Parent::Field(number("fields", "field_id", &row["field_id"]).unwrap()),
    };
    let group = |row: &Value| number("groups", "group_id", &row["group_id"]);
    let kind = |row: &Value| CostType::parse(row["type"].as_str().unwrap()).unwrap();
    let numbered =
        |name: &str| list(name).into_iter().enumerate().map(|(at, row)| (at as i32, row));
    HashmapRows {
        services: numbered("services")
            .map(|(id, row)| ServiceRow {
                id,
                service_id: text(&row["service_id"]),
                name: text(&row["name"]),
            })
            .collect(),
        fields: numbered("fields")
            .map(|(id, row)| FieldRow {
                id,
                field_id: text(&row["field_id"]),
                service: number("services", "service_id", &row["service_id"]).unwrap(),
                name: text(&row["name"]),
            })
            .collect(),
        groups: numbered("groups")
            .map(|(id, row)| GroupRow {
                id,
                group_id: text(&row["group_id"]),
                name: text(&row["name"]),
            })
            .collect(),
        mappings: numbered("mappings")
            // Deleted ones are not loaded.
            .filter(|(_, row)| row["deleted"].is_null())
            .map(|(id, row)| MappingRow {
                id,
                mapping_id: text(&row["mapping_id"]),
                parent: parent(&row),
                group: group(&row),
                value: optional(&row["value"]),
                cost: text(&row["cost"]).parse().unwrap(),
                kind: kind(&row),
                tenant_id: optional(&row["tenant_id"]),
                name: text(&row["name"]),
                start: date(&row["start"]).unwrap(),
                end: date(&row["end"]),
                description: None,
                created_by: String::new(),
            })
            .collect(),
        thresholds: numbered("thresholds")
            .map(|(id, row)| ThresholdRow {
                id,
                threshold_id: text(&row["threshold_id"]),
                parent: parent(&row),
                group: group(&row),
                level: text(&row["level"]).parse().unwrap(),
                cost: text(&row["cost"]).parse().unwrap(),
                kind: kind(&row),
                tenant_id: optional(&row["tenant_id"]),
            })
            .collect(),
    }
}

fn labels(value: &Value) -> Labels {
    value.as_object().unwrap().clone()
}

/// Rates the points of cases, and tells how many there were, how many have a
/// price, and which have another one than the reference's.
fn compare(cases: impl IntoIterator<Item = Value>) -> (usize, usize, Vec<(String, String)>) {
    let mut failures = Vec::new();
    let (mut points, mut prices) = (0, 0);
    for (number, case) in cases.into_iter().enumerate() {
        let now = date(&case["now"]).unwrap();
        let rules = Rules::compile(&rows(&case["rules"]), case["tenant"].as_str(), now);
        assert!(rules.validity().contains(now));
        for (at, raw) in case["points"].as_array().unwrap().iter().enumerate() {
            // A quantity that is not finite does not get as far as rating.
            let Ok(qty) = raw["qty"].as_str().unwrap().parse::<Decimal>() else { continue };
            let mut point =
                DataPoint::new("u".into(), qty, labels(&raw["groupby"]), labels(&raw["metadata"]));
            if let Some(price) = raw.get("price_in").and_then(Value::as_str) {
                match price.parse() {
                    Ok(price) => point.price = price,
                    Err(_) => continue,
                }
            }
            points += 1;
            let mut frame = DataFrame::new(Period::starting(seconds(0), 3600));
            frame.add(raw["type"].as_str().unwrap(), [point]);
            let ours = rules.rate(&mut frame).map(|()| frame.usage[0].1[0].price.to_string());
            let agree = match (&ours, raw.get("price").and_then(Value::as_str)) {
                (Ok(ours), Some(theirs)) => {
                    prices += usize::from(theirs != "0");
                    ours == theirs
                }
                (Err(_), None) => true,
                // Digits of other scripts, and Python's tuples for numbers.
                (Err(error), Some(_)) => {
                    let error = error.to_string();
                    error.contains("`[") || !error.split('`').nth(5).unwrap().is_ascii()
                }
                _ => false,
            };
            if !agree {
                failures.push((format!("case {number}, point {at}"), format!("{ours:?}: {raw}")));
            }
        }
    }
    (points, prices, failures)
}

#[test]
fn prices_as_the_reference() {
    let (points, prices, failures) = compare(cases("parity/hashmap/cases.jsonl"));
    assert!(points > 4_000 && prices > 2_000, "{points} points, {prices} prices");
    assert_deviations(&failures, &[]);
}

/// Cases that nobody has looked at: RATEKITTY_PARITY_SEED makes other ones.
#[test]
fn generated_prices_as_the_reference() {
    let python = PathBuf::from(set_up("RATEKITTY_CLOUDKITTY")).join("bin/python");
    let seed = std::env::var("RATEKITTY_PARITY_SEED").unwrap_or_else(|_| "2".to_owned());
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("cases.jsonl");
    let status = Command::new(python)
        .arg(fixture("parity/hashmap/generate.py"))
        .args(["--seed", &seed, "--sets", "500", "--min-points", "40", "--max-points", "50"])
        .arg("--output")
        .arg(&output)
        .status()
        .unwrap();
    assert!(status.success());
    let text = std::fs::read_to_string(output).unwrap();
    let cases = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let (points, prices, failures) = compare(cases);
    assert!(points > 20_000 && prices > 10_000, "{points} points, {prices} prices");
    assert!(failures.is_empty(), "seed {seed}: {}: {:?}", failures.len(), &failures[..1]);
}
