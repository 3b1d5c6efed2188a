//! Which module may use which: reads every `crate::` path in `src/`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// Layers from the bottom up. A module may use those of lower layers, and of
/// its own layer only itself, unless [`BESIDE`] says so.
const LAYERS: &[&[&str]] = &[
    &["text"],
    &["decimal", "time"],
    &["dataframe", "instruments", "schedule"],
    &["config"],
    &["http", "policy", "telemetry", "shutdown", "supervisor"],
    &["keystone"],
    &["lock", "prometheus", "state"],
    &["watch"],
    &["fetcher", "collector", "rating", "storage"],
    &["processor", "api"],
    &["cli"],
];

/// Of the stages, the API asks only those that keep prices and dataframes.
const API_STAGES: &[&str] = &["rating", "storage"];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Names that follow `crate::` in a text, one of a group or several.
fn used(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            used.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            continue;
        };
        // The first word after `{` and after each comma of the outermost level.
        let (mut depth, mut start) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && c.is_alphabetic() => {
                    let word = group[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_');
                    used.insert(word.collect());
                    start = false;
                }
                _ => {}
            }
        }
    }
    used
}

#[test]
fn modules_use_only_what_lies_below() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in all {
        let inner = file.strip_prefix(&src).unwrap();
        let first = inner.iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs").to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        uses.entry(module).or_default().extend(used(&text));
    }
    let stages = layer("storage");
    let mut wrong = Vec::new();
    for (module, targets) in uses {
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let Some(own) = layer(&module) else {
            wrong.push(format!("`{module}` is in no layer"));
            continue;
        };
        for target in targets.iter().filter(|target| **target != module) {
            let Some(other) = layer(target) else { continue };
            let allowed = other < own
                && !(module == "api"
                    && Some(other) == stages
                    && !API_STAGES.contains(&target.as_str()));
            if !allowed {
                wrong.push(format!("`{module}` uses `{target}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn reads_use_lines() {
    let text = "use crate::{\n  a::{b, c},\n  d,\n};\nfn f() { crate::e::g() }";
    let expected: BTreeSet<String> = ["a", "d", "e"].iter().map(|m| (*m).to_owned()).collect();
    assert_eq!(used(text), expected);
}
