//! Expressions and what Python 3.11 makes of them.

use serde_json::json;

use super::*;

fn point() -> DataPoint {
    let labels = |value: serde_json::Value| value.as_object().unwrap().clone();
    let mut point = DataPoint::new(
        "GiB".into(),
        "0.10".parse().unwrap(),
        labels(json!({"project_id": "p1", "id": "vm-1"})),
        labels(json!({"flavor": "m1.Large", "n": 5, "x": 0.1, "none": null, "list": ["a", "b"]})),
    );
    point.price = "12.5".parse().unwrap();
    point
}

#[test]
fn evaluates_as_python_does() {
    let cases = [
        (r#"datapoint.get("vol", {}).get("qty", 0) == 0"#, false),
        (r#"datapoint["vol"]["qty"] > 0"#, true),
        // A decimal is compared with the float's exact value.
        (r#"datapoint["vol"]["qty"] == 0.1"#, false),
        (r#"datapoint["vol"]["qty"] < 0.1"#, true),
        (r#"datapoint["metadata"]["x"] == 0.1"#, true),
        (r#"datapoint["rating"]["price"] == 12.5"#, true),
        (r#"datapoint["rating"]["price"] / datapoint["vol"]["qty"] == 125"#, true),
        (r#"datapoint["vol"]["qty"] * 10 - 1 == 0"#, true),
        (r#"0 < datapoint["vol"]["qty"] < 1 < 2"#, true),
        (r#"datapoint["metadata"].get("flavor", "").lower().startswith("m1.l")"#, true),
        (r#""arge" in datapoint["metadata"]["flavor"]"#, true),
        (r#"datapoint["groupby"]["id"] in ["vm-1", "vm-2"]"#, true),
        (r#"datapoint["groupby"]["id"] not in ("vm-1",)"#, false),
        (r#""id" in datapoint["groupby"] and "nope" not in datapoint"#, true),
        (r#"datapoint["metadata"].get("none") is None"#, true),
        (r#"datapoint.get("nothing") is not None"#, false),
        (r#"datapoint["metadata"]["n"] == "5""#, false),
        (r#"str(datapoint["metadata"]["n"]) == "5""#, true),
        (r#"int("7") + len(datapoint["metadata"]["list"]) == 9"#, true),
        (r#"datapoint["metadata"]["list"][-1] == "b""#, true),
        (r#"True if datapoint["vol"]["unit"] == "GiB" else False"#, true),
        (r#"not datapoint["vol"]["qty"]"#, false),
        (r#"datapoint.get("") or datapoint["vol"]["unit"] == "x""#, false),
        (r#"abs(-3) == 3 and -datapoint["vol"]["qty"] < 0"#, true),
        (r#"{"a": 1}.get("a") == 1"#, true),
        ("1 == True and 1.0 == 1", true),
        ("False", false),
        ("None", false),
        ("0.0", false),
        ("'x'", true),
        ("  True  ", true),
        // Labels are dictionaries as any other, and print as such.
        (r#"datapoint["metadata"] == {}"#, false),
        (r#"{} == datapoint["metadata"].get("none", {}) or {} == {}"#, true),
        (r#"datapoint["vol"] == {"qty": 0.1, "unit": "GiB"}"#, false),
        (r#""vm-1" in str(datapoint["groupby"])"#, true),
        (r#"str(datapoint["vol"]) == "{'unit': 'GiB', 'qty': Decimal('0.10')}""#, true),
        (r#"datapoint["metadata"]["list"] == ("a", "b")"#, false),
        (r#"datapoint["metadata"]["flavor"].startswith(("x", "m1."))"#, true),
        (r#"datapoint["metadata"]["flavor"][0] + datapoint["vol"]["unit"][-1:] == "mB""#, true),
        (r#"datapoint["metadata"]["list"] + [1] == ["a", "b", 1]"#, true),
        (r#""p1" in datapoint["groupby"].values()"#, true),
        (r#"datapoint["rating"]["price"] // 5 == 2"#, true),
        (r#"datapoint["rating"]["price"] % 5 == 2.5"#, true),
        (r#"str(datapoint["vol"]["qty"] ** 2) == "0.0100""#, true),
        (r#"str(+datapoint["vol"]["qty"]) == "0.10""#, true),
        (r#"round(datapoint["rating"]["price"]) == 12"#, true),
        (r#"datapoint["vol"]["qty"].real == datapoint["vol"]["qty"]"#, true),
        ("-7 // 2 == -4 and -7 % 2 == 1 and 2 ** 10 == 1024", true),
        ("18446744073709551616 > 1.8e19", true),
    ];
    for (expression, expected) in cases {
        assert_eq!(Skip::parse(expression).unwrap().skips(&point()), Ok(expected), "{expression}");
    }
}

#[test]
fn raises_where_python_does() {
    for expression in [
        r#"datapoint["nothing"]"#,
        r#"datapoint["vol"]["qty"] * 0.5 > 1"#,
        r#"datapoint["vol"]["qty"] < "1""#,
        r#"datapoint["metadata"]["n"].startswith("5")"#,
        r#"1 / 0"#,
        r#"int("x")"#,
        r#"5 in "5""#,
        r#"datapoint["metadata"]["list"][2]"#,
        r#"datapoint.get([])"#,
        r#"datapoint["vol"]["qty"] // 0"#,
        r#"datapoint["vol"]["qty"].numerator"#,
        r#"datapoint["groupby"].lower()"#,
        "[] in {1}",
        // Python's whole numbers have no end.
        "99999999999999999999 * 99999999999999999999 > 0",
    ] {
        assert!(Skip::parse(expression).unwrap().skips(&point()).is_err(), "{expression}");
    }
}

#[test]
fn refuses_what_it_does_not_know_with_its_place() {
    let cases = [
        (r#"datapoint["a"] == __import__("os")"#, "the function `__import__` at character 19"),
        (
            "datapoint.qty == 0",
            "the attribute `qty` at character 1 is not supported; a data point is",
        ),
        ("self.x", "the name `self`"),
        ("os", "the name `os` at character 1"),
        ("[x for x in datapoint]", "this kind of expression"),
        ("lambda: 1", "this kind of expression"),
        ("f'{datapoint}'", "this kind of expression"),
        ("2 ** 9999999", "an exponent that is no number from -99 to 99"),
        ("10 ** 99", "a power as large as this"),
        ("datapoint.pop('vol')", "the method `pop` at character 1"),
        ("datapoint.get()", "`get` with 0 arguments"),
        ("datapoint is datapoint", "`is` without None, True or False at character 14"),
        ("{1} == {1}", "a set that does not stand behind `in` at character 1"),
        ("datapoint.keys() == {}", "`keys()` that no function or `in` looks through"),
        ("1 & 1", "the operator `&`"),
        ("  'é' == datapoint.x", "at character 10"),
    ];
    for (expression, problem) in cases {
        let error = Skip::parse(expression).unwrap_err().to_string();
        assert!(error.contains(problem), "{expression}: {error}");
    }
    for expression in ["", "1 +", "a b", "x = 1", "import os"] {
        let error = Skip::parse(expression).unwrap_err().to_string();
        assert!(error.contains("is no expression"), "{expression}: {error}");
        assert!(error.contains("at character"), "{expression}: {error}");
    }
}
