//! Our configuration reader against the real oslo.config, on hostile files.

use ratekitty::config::{
    ConfigError, Place, Reader, Sources, find_places,
    opts::{Kind, Opt, Value as OptValue},
};
use serde_json::{Value, json};

use super::assert_deviations;
use crate::fixture;

/// Deliberate differences, by `case/group.option` or by case.
const DEVIATIONS: &[(&str, &str)] = &[
    ("integers/beta.int_11", "a number beyond 64 bits is refused"),
    ("utf8/beta.int_01", "digits of other scripts are refused"),
    ("utf8/beta.int_02", "digits of other scripts are refused"),
    ("utf8/beta.float_01", "digits of other scripts are refused"),
    ("cli_option_bad", "found when the option is read, which is at the start, too"),
    ("env_multi/alpha.many", "oslo.config cuts the variable into characters"),
];

fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

fn options(expected: &Value) -> Vec<Opt> {
    let to_opt = |option: &Value| {
        let text = |name: &str| option.get(name).and_then(Value::as_str).map(leak);
        let number = |name: &str| option.get(name).and_then(Value::as_f64);
        let kind = match text("type").unwrap() {
            "boolean" => Kind::Bool,
            "integer" => Kind::Int {
                min: number("min").map_or(i64::MIN, |n| n as i64),
                max: number("max").map_or(i64::MAX, |n| n as i64),
            },
            "port" => Kind::Int { min: 0, max: 65_535 },
            "float" => Kind::Float {
                min: number("min").unwrap_or(f64::NEG_INFINITY),
                max: number("max").unwrap_or(f64::INFINITY),
            },
            "list" => Kind::List,
            "dict" => Kind::Dict,
            "multi" => Kind::Multi,
            _ => match option.get("choices").and_then(Value::as_array) {
                Some(words) => Kind::Choice {
                    words: words
                        .iter()
                        .map(|w| leak(w.as_str().unwrap()))
                        .collect::<Vec<_>>()
                        .leak(),
                    ignore_case: option.get("ignore_case").is_some(),
                },
                None => Kind::Str,
            },
        };
        let default = match &option["default"] {
            Value::Null => None,
            Value::String(text) => Some(leak(text)),
            Value::Array(items) if kind == Kind::Multi && items.is_empty() => None,
            Value::Array(items) => {
                let separator = if kind == Kind::Multi { "\n" } else { "," };
                let items: Vec<_> = items.iter().map(|i| i.as_str().unwrap()).collect();
                Some(leak(&items.join(separator)))
            }
            Value::Object(pairs) => {
                let pairs: Vec<_> =
                    pairs.iter().map(|(k, v)| format!("{k}:{}", v.as_str().unwrap())).collect();
                Some(leak(&pairs.join(",")))
            }
            other => Some(leak(&other.to_string())),
        };
        let mut opt = Opt::unset(
            text("group").unwrap(),
            leak(&text("name").unwrap().replace('-', "_")),
            kind,
            "",
        );
        opt.default = default;
        if let Some(name) = text("deprecated_name") {
            let group = text("deprecated_group").unwrap_or(opt.group);
            opt = opt.renamed(vec![(group, name)].leak());
        }
        opt
    };
    expected["options"].as_array().unwrap().iter().map(to_opt).collect()
}

/// The sources of a case, or `None` when it is about oslo.config's own command line.
fn sources(case: &Value) -> Option<Result<Sources, ConfigError>> {
    let dir = fixture("conf/oslo");
    let mut argv = case["argv"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
    let mut places = Vec::new();
    while let Some(arg) = argv.next() {
        match arg {
            "--config-file" => places.push(Place::File(dir.join(argv.next()?))),
            "--config-dir" => places.push(Place::Dir(dir.join(argv.next()?))),
            _ => return None,
        }
    }
    // Default files are looked for by name here, not given as paths.
    if ["default_files", "default_dirs"]
        .iter()
        .any(|key| !case[*key].as_array().unwrap().is_empty())
    {
        return None;
    }
    let env = case["env"].as_object().unwrap();
    let variables = env.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned()));
    Some(Sources::read(&places).map(|sources| sources.with_environment(variables)))
}

fn float(value: f64) -> Value {
    match value {
        value if value.is_nan() => json!("nan"),
        value if value == f64::INFINITY => json!("inf"),
        value if value == f64::NEG_INFINITY => json!("-inf"),
        value => json!(value),
    }
}

fn ours(reader: &Reader<'_>, opt: &Opt) -> Result<Value, ConfigError> {
    if opt.kind == Kind::Multi {
        return Ok(json!(reader.multi(opt.group, opt.name)?));
    }
    Ok(match reader.value(opt.group, opt.name)? {
        None => Value::Null,
        Some(OptValue::Str(text)) => json!(text),
        Some(OptValue::Bool(flag)) => json!(flag),
        Some(OptValue::Int(number)) => json!(number),
        Some(OptValue::Float(number)) => float(number),
        Some(OptValue::List(items)) => json!(items),
        Some(OptValue::Dict(pairs)) => pairs.into_iter().map(|(k, v)| (k, json!(v))).collect(),
    })
}

#[test]
fn reads_as_oslo_config_does() {
    let text = std::fs::read_to_string(fixture("conf/oslo/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let table = options(&expected);
    let mut failures = Vec::new();
    let mut compared = 0;
    for case in expected["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let Some(sources) = sources(case) else { continue };
        compared += 1;
        let result = &case["result"];
        let sources = match (sources, result.get("error")) {
            (Err(_), Some(_)) => continue,
            (Ok(_), Some(error)) => {
                failures.push((name.to_owned(), format!("read, should fail: {error}")));
                continue;
            }
            (Err(error), None) => {
                failures.push((name.to_owned(), error.to_string()));
                continue;
            }
            (Ok(sources), None) => sources,
        };
        let reader = Reader::new(&sources, &table);
        for (opt, raw) in table.iter().zip(expected["options"].as_array().unwrap()) {
            let raw_name = raw["name"].as_str().unwrap();
            let theirs = result["values"].get(opt.group).and_then(|group| group.get(raw_name));
            let ours = ours(&reader, opt);
            let agree = match (&ours, theirs) {
                (Ok(ours), Some(theirs)) => theirs.get("ok") == Some(ours),
                (Ok(ours), None) => expected["baseline"][opt.group].get(raw_name) == Some(ours),
                (Err(ConfigError::BadValue { .. }), Some(theirs)) => theirs["err"] == "bad value",
                (Err(ConfigError::Substitution { .. }), Some(theirs)) => {
                    theirs["err"] == "substitution error"
                }
                (Err(_), _) => false,
            };
            if !agree {
                let name = format!("{name}/{}.{}", opt.group, opt.name);
                failures.push((name, format!("ours {ours:?}, oslo.config {theirs:?}")));
            }
        }
    }
    assert!(compared > 75, "only {compared} cases were compared");
    assert_deviations(&failures, DEVIATIONS);
}

#[test]
fn finds_default_files_as_oslo_config_does() {
    let dir = tempfile::tempdir().unwrap();
    let touch = |path: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "[DEFAULT]\n").unwrap();
        path
    };
    let main = touch("etc/cloudkitty/cloudkitty.conf");
    touch("etc/cloudkitty.conf");
    let own = touch("etc/cloudkitty-processor.conf");
    let dropin = touch("etc/cloudkitty/cloudkitty.conf.d/a.conf");
    let search = [dir.path().join("etc/cloudkitty"), dir.path().join("etc")];

    let found = find_places("cloudkitty-processor", &search, &[]);
    let dropin = Place::Dir(dropin.parent().unwrap().to_owned());
    assert_eq!(found, [Place::File(main), Place::File(own), dropin.clone()]);

    // A file on the command line replaces the default files only.
    let given = Place::File("x.conf".into());
    let found = find_places("cloudkitty-processor", &search, std::slice::from_ref(&given));
    assert_eq!(found, [dropin, given]);
}
