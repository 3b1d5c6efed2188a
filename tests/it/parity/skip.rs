//! `skip_datapoints_expression` against the reference's own evaluation.

use std::{path::PathBuf, process::Command};

use ratekitty::{
    dataframe::{DataPoint, Labels},
    processor::Skip,
};
use serde_json::Value;

use super::assert_deviations;
use crate::{cases, fixture, support::set_up};

fn labels(value: &Value) -> Labels {
    value.as_object().unwrap().clone()
}

fn point(raw: &Value) -> DataPoint {
    let text = |key: &str| raw[key].as_str().unwrap();
    let mut point = DataPoint::new(
        text("unit").into(),
        text("qty").parse().unwrap(),
        labels(&raw["groupby"]),
        labels(&raw["metadata"]),
    );
    point.price = text("price").parse().unwrap();
    point
}

/// What raises here alone: numbers and texts larger than are held, and quotes of
/// characters that releases of Python do not agree about.
fn by_design(error: &str) -> bool {
    ["more than 38 digits", "beyond the numbers that can be held", "is too long", "depends on"]
        .iter()
        .any(|limit| error.contains(limit))
}

/// What came of a number of cases.
#[derive(Default)]
struct Compared {
    /// Expressions that are understood.
    expressions: usize,
    /// Answers, by letter: `T`, `F`, `E`.
    answers: [usize; 3],
    /// Answers that are an error by design.
    limits: usize,
    /// Refused expressions.
    refused: usize,
    failures: Vec<(String, String)>,
}

fn compare(lines: impl IntoIterator<Item = Value>) -> Compared {
    let (mut points, mut compared) = (Vec::new(), Compared::default());
    for line in lines {
        if let Some(raw) = line.get("point") {
            points.push(point(raw));
            continue;
        }
        let expression = line["expression"].as_str().unwrap();
        let mut fail = |problem| compared.failures.push((expression.to_owned(), problem));
        let skip = match (Skip::parse(expression), line.get("refused").and_then(Value::as_str)) {
            (Ok(skip), None) => skip,
            (Err(error), Some(refused)) => {
                compared.refused += 1;
                if !error.to_string().contains(refused) {
                    fail(format!("{error}, not {refused}"));
                }
                continue;
            }
            (Ok(_), Some(refused)) => {
                fail(format!("is not refused: {refused}"));
                continue;
            }
            (Err(error), None) => {
                fail(error.to_string());
                continue;
            }
        };
        compared.expressions += 1;
        let theirs = line["answers"].as_str().unwrap();
        assert_eq!(theirs.len(), points.len(), "{expression}");
        for (at, (point, theirs)) in points.iter().zip(theirs.chars()).enumerate() {
            let ours = skip.skips(point);
            let letter = match ours {
                Ok(true) => 'T',
                Ok(false) => 'F',
                Err(_) => 'E',
            };
            if letter == theirs {
                compared.answers["TFE".find(letter).unwrap()] += 1;
            } else if ours.as_ref().is_err_and(|error| by_design(&error.to_string())) {
                compared.limits += 1;
            } else {
                fail(format!("point {at}: {ours:?}, not {theirs}"));
            }
        }
    }
    compared
}

#[test]
fn answers_as_the_reference() {
    let compared = compare(cases("skip/cases.jsonl"));
    assert_deviations(&compared.failures, &[]);
    let Compared { expressions, answers, limits, refused, .. } = compared;
    assert!(expressions > 1_600 && refused > 70, "{expressions} expressions, {refused} refused");
    assert!(answers.iter().all(|count| *count > 4_000), "T, F, E: {answers:?}");
    assert!(limits < 300, "{limits} limits");
}

/// Expressions that nobody has looked at: RATEKITTY_PARITY_SEED makes other ones.
#[test]
fn generated_answers_as_the_reference() {
    let python = PathBuf::from(set_up("RATEKITTY_CLOUDKITTY")).join("bin/python");
    let seed = std::env::var("RATEKITTY_PARITY_SEED").unwrap_or_else(|_| "2".to_owned());
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("cases.jsonl");
    let status = Command::new(python)
        .arg(fixture("skip/generate.py"))
        .args(["--seed", &seed, "--count", "3000", "--only-random"])
        .arg("--output")
        .arg(&output)
        .status()
        .unwrap();
    assert!(status.success());
    let text = std::fs::read_to_string(output).unwrap();
    let compared = compare(text.lines().map(|line| serde_json::from_str(line).unwrap()));
    let (failures, answers) = (&compared.failures, compared.answers);
    assert!(failures.is_empty(), "seed {seed}: {}: {:#?}", failures.len(), failures.first());
    assert!(compared.expressions == 3_000 && answers.iter().all(|count| *count > 8_000));
}
