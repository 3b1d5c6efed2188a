//! Links in the documents lead somewhere, and what they say of options and commands
//! is so.

mod commands;
mod options;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use regex::Regex;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Documents below a folder, but for what is built or fetched.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            documents(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// Lines that are text, and not what stands in a block of code.
fn text(document: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    document.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Anchors of a document's headings, as the usual web views make them.
fn anchors(document: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = text(document).filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let words = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        words.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    headings
        .map(|heading| {
            let anchor = anchor(heading);
            let count = seen.entry(anchor.clone()).or_default();
            *count += 1;
            if *count > 1 { format!("{anchor}-{}", *count - 1) } else { anchor }
        })
        .collect()
}

/// Where the links of a document lead: what is written, and the file and anchor that
/// are meant. Other sites are left out.
fn links(path: &Path) -> Vec<(String, PathBuf, String)> {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let code = Regex::new("`[^`]*`").unwrap();
    let document = std::fs::read_to_string(path).unwrap();
    let plain: Vec<_> = text(&document).map(|line| code.replace_all(line, "")).collect();
    plain
        .iter()
        .flat_map(|line| link.captures_iter(line))
        .map(|found| found.get(1).unwrap().as_str())
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .map(|target| {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => path.to_owned(),
                file => path.parent().unwrap().join(file),
            };
            (target.to_owned(), file, anchor.to_owned())
        })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut all = Vec::new();
    documents(root(), &mut all);
    let (mut count, mut broken) = (0, Vec::new());
    for path in &all {
        for (target, file, anchor) in links(path) {
            count += 1;
            let is_there = file.exists()
                && (anchor.is_empty()
                    || anchors(&std::fs::read_to_string(&file).unwrap()).contains(&anchor));
            if !is_there {
                broken.push(format!("{}: {target}", path.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(count > 100, "{count}");
}

/// Files that a reader comes to by following links from one.
fn reached(from: &Path) -> BTreeSet<PathBuf> {
    let mut reached = BTreeSet::new();
    let mut left = vec![from.canonicalize().unwrap()];
    while let Some(path) = left.pop() {
        if !reached.insert(path.clone()) {
            continue;
        }
        for (_, file, _) in links(&path) {
            // A folder is where its files are listed.
            let pages = match file.read_dir() {
                Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
                Err(_) => vec![file],
            };
            let pages = pages.iter().filter(|page| page.extension().is_some_and(|end| end == "md"));
            left.extend(pages.map(|page| page.canonicalize().unwrap()));
        }
    }
    reached
}

#[test]
fn every_document_is_reached_from_the_index() {
    let index = root().join("docs/README.md");
    let from_index = reached(&index);
    let mut pages = Vec::new();
    documents(&root().join("docs"), &mut pages);
    assert!(pages.len() > 20, "{pages:?}");
    for page in pages {
        assert!(from_index.contains(&page), "no links lead from docs/README.md to {page:?}");
    }
    let readme = links(&root().join("README.md"));
    assert!(readme.iter().any(|(target, ..)| target == "docs/README.md"));
}

/// The index itself names the pages that are not of a series: nobody has to follow
/// others to find them.
#[test]
fn the_index_names_every_page() {
    let index = links(&root().join("docs/README.md"));
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_file() && name.ends_with(".md") && name != "README.md" {
            assert!(
                index.iter().any(|(target, ..)| target == name),
                "docs/README.md does not name {name}"
            );
        }
    }
}
