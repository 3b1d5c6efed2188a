//! The level of a line, which Loki guesses.

use super::{decode::PushEntry, json};

/// Labels and JSON keys that tell a level.
const LEVEL_LABELS: [&str; 9] =
    ["level", "LEVEL", "Level", "Severity", "severity", "SEVERITY", "lvl", "LVL", "Lvl"];

/// The level that Loki reads out of labels, structured metadata or the line.
pub fn level(set: &[(String, String)], entry: &PushEntry) -> String {
    let labels = set.iter().chain(&entry.meta);
    for (name, value) in labels {
        if LEVEL_LABELS.contains(&&**name) {
            return known_level(value).map_or_else(|| value.clone(), str::to_owned);
        }
    }
    let line = entry.line.trim();
    let hints = ["lev", "LEV", "Lev", "ever", "EVER", "lvl", "LVL", "Lvl"];
    if line.starts_with('{') && hints.iter().any(|hint| line.contains(hint)) {
        let mut found = vec![None; LEVEL_LABELS.len()];
        let _ = json::object_each(line, &mut |key, value, _| {
            if let Some(at) = LEVEL_LABELS.iter().position(|name| *name == key) {
                found[at].get_or_insert(value);
            }
            Ok(())
        });
        let named = found.into_iter().flatten().next().and_then(known_level);
        if let Some(level) = named {
            return level.to_owned();
        }
    }
    let says = |words: &[&str]| words.iter().any(|word| line.contains(word));
    match () {
        () if says(&["info", "INFO"]) => "info",
        () if says(&["err:", "ERR:", "error", "ERROR"]) => "error",
        () if says(&["warn:", "WARN:", "warning", "WARNING"]) => "warn",
        () if says(&["CRITICAL:", "critical:"]) => "critical",
        () if says(&["debug:", "DEBUG:"]) => "debug",
        () => "unknown",
    }
    .to_owned()
}

fn known_level(value: &str) -> Option<&'static str> {
    Some(match value.to_ascii_lowercase().as_str() {
        "trace" | "trc" => "trace",
        "debug" | "dbg" => "debug",
        "info" | "inf" => "info",
        "warn" | "wrn" | "warning" => "warn",
        "error" | "err" => "error",
        "critical" => "critical",
        "fatal" => "fatal",
        _ => return None,
    })
}
