//! What `docs/COMPATIBILITY.md` says, against what was recorded and what is tested.

use std::{collections::BTreeSet, path::Path};

use regex::Regex;
use serde_json::Value;

use super::api_v2;
use crate::cases;

/// The text of a file of this repository.
fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn document() -> String {
    read("docs/COMPATIBILITY.md")
}

/// Cells of a row; none of other lines.
fn cells(line: &str) -> Vec<&str> {
    let row = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    row.map(|row| row.split('|').map(str::trim).collect()).unwrap_or_default()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// A row of "Where the reference answers 500".
struct Row<'a> {
    method: &'a str,
    path: Regex,
    /// Texts of which an error has one.
    marks: Vec<&'a str>,
    /// Our statuses.
    statuses: Vec<u64>,
}

fn rows(document: &str) -> Vec<Row<'_>> {
    let (_, section) = document.split_once("\n## Where the reference answers 500\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let status = Regex::new(r"\b[1-5]\d\d\b").unwrap();
    let parameter = Regex::new(r"\{\w+\}").unwrap();
    let rows = section.lines().map(cells).filter(|cells| cells.len() == 4);
    rows.skip(2)
        .map(|cells| {
            let (method, path) = quoted(cells[0])[0].split_once(' ').unwrap();
            let path = parameter.replace_all(path, "[^/?]+");
            Row {
                method,
                path: Regex::new(&format!(r"^{path}/?(\?|$)")).unwrap(),
                marks: quoted(cells[2]),
                statuses: status.find_iter(cells[3]).map(|s| s.as_str().parse().unwrap()).collect(),
            }
        })
        .collect()
}

/// The argument of a query for which the reference has no answer: of these, the
/// first that is there. Dates and pages are in many that are about something else.
fn wrong_argument(path: &str) -> &str {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let names = query.split('&').map(|part| part.split('=').next().unwrap());
    let names: BTreeSet<_> = names.collect();
    let order = ["response_format", "custom_fields", "filters", "groupby", "begin", "end"];
    let found = order.into_iter().chain(["limit", "offset"]).find(|name| names.contains(name));
    found.unwrap_or_default()
}

/// What the reference told of its error, or what in the request stands for it.
fn cause(case: &Value) -> String {
    let path = case["path"].as_str().unwrap();
    let kind = case["headers"]["content-type"].as_str().unwrap_or_default();
    if path.starts_with("/v1") {
        let is_xml = kind.starts_with("text/xml");
        return if is_xml { kind } else { case["text"].as_str().unwrap() }.replace("\\\"", "\"");
    }
    let named = Regex::new(r"\(path: '\[(.*)\]'\)").unwrap();
    let ours = case["ours"]["text"].as_str().unwrap_or_default();
    match (named.captures(ours), case["body"].as_object()) {
        (Some(named), _) => named[1].to_owned(),
        (None, Some(body)) => body.keys().map(String::as_str).collect::<Vec<_>>().join(" "),
        (None, None) => wrong_argument(path).to_owned(),
    }
}

/// Our status, as far as the fixture or its test says it.
fn our_status(case: &Value) -> Option<u64> {
    let answered = api_v2::ANSWERED.iter().find(|(name, _)| case["name"] == *name);
    let of_api_v2 = || answered.map_or(400, |(_, status)| u64::from(*status));
    case["ours"]["status"].as_u64().or_else(|| case["storage"].is_string().then(of_api_v2))
}

#[test]
fn every_500_of_the_reference_has_a_row() {
    let document = document();
    let rows = rows(&document);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity");
    let mut unused: BTreeSet<usize> = (0..rows.len()).collect();
    let (mut missing, mut count) = (Vec::new(), 0);
    for name in ["api_http", "api_rating", "api_v2"] {
        for file in std::fs::read_dir(folder.join(name)).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            for case in cases(file.to_str().unwrap()) {
                if case["status"] != 500 {
                    continue;
                }
                count += 1;
                let (method, path) = (&case["method"], case["path"].as_str().unwrap());
                let (cause, status) = (cause(&case), our_status(&case));
                let found = rows.iter().position(|row| {
                    *method == row.method
                        && row.path.is_match(path)
                        && row.marks.iter().any(|mark| cause.contains(mark))
                        && status.is_none_or(|status| row.statuses.contains(&status))
                });
                match found {
                    Some(at) => drop(unused.remove(&at)),
                    None => missing.push(format!("{method} {path}: {cause}: {status:?}")),
                }
            }
        }
    }
    assert!(missing.is_empty(), "no row for: {missing:#?}");
    assert!(count > 200, "{count}");
    let unused: Vec<_> =
        unused.into_iter().map(|at| (rows[at].path.as_str(), &rows[at].marks)).collect();
    assert!(unused.is_empty(), "nothing like this is recorded: {unused:?}");
}

/// Names of all tests below a folder, by the modules that they are in.
fn tests_below(folder: &Path, module: &str, names: &mut Vec<String>) {
    let test =
        Regex::new(r"#\[(?:tokio::)?test\b[^\n]*\n(?:\s*#\[[^\n]*\n)*\s*(?:async )?fn (\w+)");
    let test = test.unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let inner = match name {
            "mod" | "main" | "lib" => module.to_owned(),
            name => format!("{module}{name}::"),
        };
        if path.is_dir() {
            tests_below(&path, &inner, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let found = test.captures_iter(&text).map(|found| found[1].to_owned());
            // Unit tests are in a module of their own.
            let own = if text.contains("\nmod tests {") { "tests::" } else { "" };
            names.extend(found.map(|test| format!("{inner}{own}{test}")));
        }
    }
}

#[test]
fn every_test_that_is_named_is_there() {
    let mut known = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "tests/it"] {
        tests_below(&root.join(folder), "", &mut known);
    }
    assert!(known.len() > 300, "{}", known.len());
    let document = document();
    // Tests are named by their modules; `curl` and the like are programs.
    let name = Regex::new("^[a-z0-9_]+(::[a-z0-9_]+)*$").unwrap();
    let programs = ["curl", "query_range"];
    let aside = Regex::new(r"\([^)]*\)").unwrap();
    let (mut columns, mut count, mut missing) = (Vec::new(), 0, Vec::new());
    for line in document.lines() {
        let cells = cells(line);
        let is_head = |cell: &&str| ["Test", "Checked by", "See it"].contains(cell);
        if cells.iter().any(is_head) {
            columns = (0..cells.len()).filter(|at| is_head(&cells[*at])).collect();
        } else if cells.is_empty() {
            columns.clear();
        }
        for cell in columns.iter().filter_map(|at| cells.get(*at)) {
            for filter in quoted(&aside.replace_all(cell, "")) {
                if name.is_match(filter) && !programs.contains(&filter) {
                    count += 1;
                    if !known.iter().any(|test| test.contains(filter)) {
                        missing.push(filter.to_owned());
                    }
                }
            }
        }
    }
    assert!(missing.is_empty(), "no such test: {missing:#?}");
    assert!(count > 120, "{count}");
}
