//! Our decimals against Python's `decimal` and the reference's collector.

use ratekitty::{
    config::metrics_yml,
    decimal::{Decimal, Total},
};
use serde_json::Value;

use super::assert_deviations;
use crate::cases;

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A number of a definition as YAML writes it.
fn yaml(value: &Value) -> String {
    match value {
        Value::Object(special) => match text(&special["float"]) {
            "inf" => ".inf".to_owned(),
            "-inf" => "-.inf".to_owned(),
            _ => ".nan".to_owned(),
        },
        Value::Number(number) if number.is_f64() => {
            // PyYAML takes an exponent only with a point and a sign.
            let text = ratekitty::dataframe::python_float(number.as_f64().unwrap());
            match text.split_once('e') {
                Some((digits, exponent)) if !digits.contains('.') => {
                    format!("{digits}.0e{exponent}")
                }
                _ => text,
            }
        }
        other => other.to_string(),
    }
}

/// The collected quantity, or an error.
fn collect(case: &Value) -> Result<String, String> {
    let mut definition = String::from("metrics:\n  m:\n    unit: u\n");
    for key in ["factor", "offset", "mutate"] {
        if let Some(value) = case.get(key) {
            definition.push_str(&format!("    {key}: {}\n", yaml(value)));
        }
    }
    if let Some(map) = case.get("mutate_map").and_then(Value::as_array) {
        definition.push_str("    mutate_map:\n");
        for pair in map {
            definition.push_str(&format!("      {}: {}\n", yaml(&pair[0]), yaml(&pair[1])));
        }
        if map.is_empty() {
            definition = definition.replace("mutate_map:\n", "mutate_map: {}\n");
        }
    }
    let conf = metrics_yml::parse(&definition, "m", "project_id").map_err(|e| e.to_string())?;
    let quantity = conf.metrics[0].quantity(text(&case["in"])).map_err(|e| e.to_string())?;
    Ok(quantity.to_string())
}

fn run(case: &Value) -> Result<String, String> {
    let parse = |key: &str| text(&case[key]).parse::<Decimal>().map_err(|e| e.to_string());
    match text(&case["op"]) {
        "collect" => collect(case),
        "round9" => {
            Ok(Decimal::parse_quantity(text(&case["in"])).map_err(|e| e.to_string())?.to_string())
        }
        "str" => Ok(parse("in")?.to_string()),
        "f" => Ok(parse("in")?.to_plain_string()),
        "float" => Ok(ratekitty::dataframe::python_float(parse("in")?.to_f64())),
        "mul" => Ok((parse("a")? * parse("b")?).to_string()),
        "add" => Ok((parse("a")? + parse("b")?).to_string()),
        "ge" => Ok((parse("a")? >= parse("b")?).to_string()),
        "int" => {
            let value = parse("in")?;
            Ok(format!("{:?}", [value.floor(), value.ceil()].map(|end| end.to_plain_string())))
        }
        "sum" => {
            let mut sum = Decimal::zero();
            for item in case["in"].as_array().unwrap() {
                sum += text(item)
                    .parse()
                    .map_err(|e: ratekitty::decimal::DecimalError| e.to_string())?;
            }
            Ok(sum.to_string())
        }
        op => panic!("unknown operation {op}"),
    }
}

/// What Python answers that ours refuses by design: values that cannot be
/// billed or held.
fn refused_by_design(case: &Value, error: &str) -> bool {
    let raw = case.to_string();
    let special = ["nan", "inf"].iter().any(|word| raw.to_lowercase().contains(word));
    let text = |key: &str| case.get(key).and_then(Value::as_str).unwrap_or("");
    let python_only_digits = |text: &str| text.contains('_') || !text.is_ascii();
    special
        || error.contains("more than 42 significant digits")
        || error.contains("key `mutate_map`")
        || error.contains("is not a finite number")
        || error.contains("is out of range")
        || error.contains("is no finite quantity")
        || ["in", "a", "b", "factor", "offset"].iter().any(|key| python_only_digits(text(key)))
}

#[test]
fn computes_as_python_does() {
    let mut failures = Vec::new();
    let mut compared = 0;
    for case in cases("parity/decimal/cases.jsonl") {
        // `num` and `fromfloat` are conversions that only the reference has.
        if matches!(text(&case["op"]), "num" | "fromfloat") {
            continue;
        }
        compared += 1;
        let ours = run(&case);
        let theirs = case.get("out").map(|out| match out {
            Value::String(out) => out.clone(),
            Value::Array(items) => format!("{items:?}").replace("String(", "").replace(')', ""),
            other => other.to_string(),
        });
        let agree = match (&ours, &theirs) {
            // Python writes a number out, however long it is; ours has an
            // exponent then, if no digit is lost by it.
            (Ok(ours), Some(theirs)) => {
                let same = |theirs: f64| ours.parse() == Ok(theirs);
                ours == theirs || theirs.len() > 42 && theirs.parse().is_ok_and(same)
            }
            (Err(_), None) => true,
            (Err(error), Some(_)) => refused_by_design(&case, error),
            (Ok(_), None) => false,
        };
        if !agree {
            failures.push((case.to_string(), format!("{ours:?}")));
        }
    }
    assert!(compared > 4_000, "only {compared} cases were compared");
    assert_deviations(&failures, &[]);
}

#[test]
fn exact_totals_do_not_depend_on_the_order() {
    let mut values: Vec<Decimal> = cases("parity/decimal/cases.jsonl")
        .iter()
        .filter(|case| case["op"] == "collect")
        .filter_map(|case| case.get("out")?.as_str()?.parse().ok())
        .filter(|value: &Decimal| {
            let size = value.abs().to_f64();
            size == 0.0 || (1e-20..1e12).contains(&size)
        })
        .collect();
    assert!(values.len() > 100);
    let forward: Total = values.iter().copied().sum();
    values.sort();
    let sorted: Total = values.iter().copied().sum();
    assert_eq!(forward.value(), sorted.value());
}
