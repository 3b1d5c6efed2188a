//! Finds what may be a mistake in rules that can be read.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rule, Source, check::Check, defaults::DEFAULTS, error::Warning};

/// Rules that nothing asks for, references that lead nowhere, and cycles.
pub(super) fn review(rules: &BTreeMap<String, Rule>, default_rule: &str) -> Vec<Warning> {
    let references: References = rules
        .iter()
        .map(|(name, rule)| {
            let mut leaves = Vec::new();
            rule.check.leaves(&mut leaves);
            let names = leaves.into_iter().filter_map(|leaf| match leaf {
                Check::Rule(name) => Some(name.as_str()),
                _ => None,
            });
            (name.as_str(), names.collect())
        })
        .collect();
    let asked: BTreeSet<_> = references.values().flatten().copied().chain([default_rule]).collect();
    let mut warnings = Vec::new();
    for (name, rule) in rules {
        if let (Source::File(file), None) = (&rule.source, rule.default)
            && !asked.contains(name.as_str())
            && !is_older(name)
        {
            warnings.push(Warning::Unknown { file: file.clone(), rule: name.clone() });
        }
        for missing in references.get(name.as_str()).into_iter().flatten() {
            if !rules.contains_key(*missing) {
                warnings.push(Warning::Undefined {
                    rule: name.clone(),
                    missing: (*missing).to_owned(),
                    default: default_rule.to_owned(),
                });
            }
        }
        if is_cyclic(name, &references) {
            warnings.push(Warning::Cycle(name.clone()));
        }
    }
    warnings
}

/// Names of the rules that a rule refers to.
type References<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// Whether the reference had a rule of this name.
fn is_older(name: &str) -> bool {
    DEFAULTS.iter().any(|rule| rule.older.as_ref().is_some_and(|older| older.name == name))
}

/// Whether a rule leads back to itself.
fn is_cyclic(name: &str, references: &References) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![name];
    while let Some(next) = open.pop() {
        for next in references.get(next).into_iter().flatten() {
            if *next == name {
                return true;
            }
            if seen.insert(*next) {
                open.push(next);
            }
        }
    }
    false
}
