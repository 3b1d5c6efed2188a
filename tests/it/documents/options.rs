//! docs/CONFIGURATION.md has every option, as the program knows it.

use std::collections::BTreeMap;

use ratekitty::config::{
    all_options,
    opts::{Kind, Opt},
};
use regex::Regex;

/// Sections in which a login at Keystone may stand, which are described once.
const LOGINS: [&str; 3] = ["fetcher_keystone", "collector_aetos", "keystone_authtoken"];

/// What numbers count.
const UNITS: &str = r"(?i)\b(seconds?|hours|days|MiB|bytes|port|connections?|tries|often|periods?|entries|scopes|metrics|schedules|pushes|queries|version|bits)\b";

/// A row of a table of options.
#[derive(Debug)]
struct Row {
    is_secret: bool,
    allowed: String,
    default: String,
    meaning: String,
}

/// Rows by section and option.
fn rows(document: &str) -> BTreeMap<(String, String), Row> {
    let name = Regex::new(r"^`(\w+)`( \(secret\))?$").unwrap();
    let mut rows = BTreeMap::new();
    let mut sections: Vec<String> = Vec::new();
    for line in document.lines() {
        if line.starts_with('#') {
            let title = line.trim_start_matches('#').trim();
            sections = match title.strip_prefix('[').and_then(|title| title.strip_suffix(']')) {
                Some(section) => vec![section.to_owned()],
                None if title == "A login at Keystone" => LOGINS.map(str::to_owned).into(),
                None if title == "The connection of a login" => {
                    LOGINS[..2].iter().map(|section| (*section).to_owned()).collect()
                }
                None => Vec::new(),
            };
        }
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [option, allowed, default, meaning] = cells[..] else { continue };
        let Some(option) = name.captures(option) else { continue };
        for section in &sections {
            let row = Row {
                is_secret: option.get(2).is_some(),
                allowed: allowed.to_owned(),
                default: default.to_owned(),
                meaning: meaning.to_owned(),
            };
            let key = (section.clone(), option[1].to_owned());
            // What [keystone_authtoken] says of its own counts more.
            if sections.len() == 1 {
                rows.insert(key, row);
            } else {
                rows.entry(key).or_insert(row);
            }
        }
    }
    rows
}

/// What is wrong with the row of an option.
fn wrong(option: &Opt, row: &Row) -> Vec<String> {
    let mut wrong = Vec::new();
    let default = match option.default {
        None => "unset".to_owned(),
        Some("") => "empty".to_owned(),
        Some(default) => format!("`{default}`"),
    };
    if row.default != default {
        wrong.push(format!("its default is {default}, and not {}", row.default));
    }
    if row.is_secret != option.secret {
        wrong.push(format!("whether it is secret: {}", option.secret));
    }
    for (_, older) in option.deprecated {
        if !row.meaning.contains(&format!("`{older}`")) {
            wrong.push(format!("its older name `{older}` is missing"));
        }
    }
    let bounds = match option.kind {
        Kind::Int { min, max } => {
            [(min != i64::MIN).then(|| min.to_string()), (max != i64::MAX).then(|| max.to_string())]
        }
        Kind::Float { min, max } => [
            (min.is_finite() && min > 0.0).then(|| min.to_string()),
            max.is_finite().then(|| max.to_string()),
        ],
        _ => [None, None],
    };
    let numbers = Regex::new(r"[0-9]+").unwrap();
    for bound in bounds.into_iter().flatten() {
        if !numbers.find_iter(&row.allowed).any(|number| number.as_str() == bound) {
            wrong.push(format!("its bound {bound} is missing"));
        }
    }
    if let Kind::Choice { words, .. } = option.kind {
        let missing = words.iter().find(|word| !row.allowed.contains(**word));
        wrong.extend(missing.map(|word| format!("`{word}` is missing")));
    }
    let is_number = matches!(option.kind, Kind::Int { .. } | Kind::Float { .. });
    let is_idle = Regex::new("[Hh]as no effect|Not supported").unwrap().is_match(&row.meaning);
    if is_number && !is_idle && !Regex::new(UNITS).unwrap().is_match(&row.meaning) {
        wrong.push("it does not say what its number counts".to_owned());
    }
    if row.meaning.len() < 4 {
        wrong.push("its meaning is missing".to_owned());
    }
    wrong
}

fn document() -> String {
    std::fs::read_to_string(super::root().join("docs/CONFIGURATION.md")).unwrap()
}

#[test]
fn every_option_has_a_row_that_is_right() {
    let rows = rows(&document());
    let mut problems = Vec::new();
    let options = all_options();
    for option in &options {
        let key = (option.group.to_owned(), option.name.to_owned());
        match rows.get(&key) {
            None => problems.push(format!("[{}] {}: has no row", option.group, option.name)),
            Some(row) => problems.extend(
                wrong(option, row)
                    .iter()
                    .map(|what| format!("[{}] {}: {what}", option.group, option.name)),
            ),
        }
    }
    for (section, name) in rows.keys() {
        if !options.iter().any(|option| option.group == section && option.name == name) {
            problems.push(format!("[{section}] {name}: there is no such option"));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(options.len() > 200, "{}", options.len());
}

/// The README says how many there are.
#[test]
fn the_readme_counts_the_options() {
    let readme = std::fs::read_to_string(super::root().join("README.md")).unwrap();
    let count = all_options().len();
    assert!(readme.contains(&format!("{count} options")), "there are {count} options");
}

/// What would be missed if rows were not looked at: a row of a document that is wrong
/// in every way.
#[test]
fn a_wrong_row_is_found() {
    let text = "### [storage_loki]\n| `shard_days` (secret) | 1 to 31 | `8` | Span. |\n";
    let rows = rows(text);
    let row = &rows[&("storage_loki".to_owned(), "shard_days".to_owned())];
    let option = all_options().into_iter().find(|option| option.name == "shard_days").unwrap();
    let expected = [
        "its default is `7`, and not `8`",
        "whether it is secret: false",
        "its bound 30 is missing",
        "it does not say what its number counts",
    ];
    assert_eq!(wrong(&option, row), expected);
}
