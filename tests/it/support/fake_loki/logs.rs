//! Log queries, labels and series.

use std::collections::BTreeSet;

use super::{
    deletes::Hidden,
    labels,
    limits::Limits,
    logql::{LogExpr, Stage},
    pipeline::Pipeline,
    split::by_time,
    store::{Entry, Stream, Tenant},
};

/// Lines that a log query found, in their order.
pub struct Found {
    /// Labels as JSON, and the lines as JSON arrays.
    pub streams: Vec<(String, Vec<String>)>,
    pub count: usize,
}

/// Lines of `start..end`.
pub fn lines(
    tenant: &Tenant,
    limits: &Limits,
    now: i64,
    log: &LogExpr,
    window: (i64, i64),
    limit: usize,
    forward: bool,
) -> Found {
    let in_window = |stream: &&Stream| !stream.between(window.0, window.1).is_empty();
    let selected: Vec<&Stream> =
        tenant.streams.iter().filter(in_window).filter(|s| log.matches(&s.labels)).collect();
    let length = limits.split_queries_by_interval * 1_000_000_000;
    let mut parts = by_time(window.0, window.1, length);
    if !forward {
        parts.reverse();
    }
    let mut found = Found { streams: Vec::new(), count: 0 };
    let mut places = std::collections::HashMap::new();
    for (from, to) in parts {
        // A part is a query of its own, with parsers that know nothing yet.
        let mut pipeline = Pipeline::for_logs(&log.stages);
        let mut lines: Vec<(String, &Entry)> = Vec::new();
        let remembers = log.stages.iter().any(|stage| matches!(stage, Stage::Json));
        if forward && !remembers {
            // The order of lines changes nothing: only those that are asked
            // for are looked at.
            let entries = selected.iter().flat_map(|stream| {
                let hidden = Hidden::of(tenant, stream, now, limits.delete_delay);
                let hidden = std::rc::Rc::new(std::cell::RefCell::new(hidden));
                let entries = stream.between(from, to).iter();
                entries.map(move |entry| (stream, hidden.clone(), entry))
            });
            let mut entries: Vec<_> = entries.collect();
            entries.sort_by_key(|(_, _, entry)| entry.ts);
            for (stream, hidden, entry) in entries {
                if lines.len() + found.count == limit {
                    break;
                }
                if entry.visible
                    && !hidden.borrow_mut().hides(entry)
                    && let Some(labels) = pipeline.run(&stream.labels, entry)
                {
                    lines.push((labels::json(labels.all()), entry));
                }
            }
        }
        let selected: &[&Stream] = if forward && !remembers { &[] } else { &selected };
        for stream in selected {
            let mut hidden = Hidden::of(tenant, stream, now, limits.delete_delay);
            let entries = stream.between(from, to);
            let mut visit = |entry: &'_ Entry| {
                if !entry.visible || hidden.hides(entry) {
                    return None;
                }
                Some(labels::json(pipeline.run(&stream.labels, entry)?.all()))
            };
            if forward {
                lines.extend(entries.iter().filter_map(|entry| Some((visit(entry)?, entry))));
            } else {
                let back = entries.iter().rev();
                lines.extend(back.filter_map(|entry| Some((visit(entry)?, entry))));
            }
        }
        lines.sort_by_key(|(_, entry)| if forward { entry.ts } else { -entry.ts });
        for (labels, entry) in lines.into_iter().take(limit - found.count) {
            let place = *places.entry(labels.clone()).or_insert_with(|| {
                found.streams.push((labels, Vec::new()));
                found.streams.len() - 1
            });
            let line = serde_json::Value::from(&*entry.line);
            found.streams[place].1.push(format!("[\"{}\",{line}]", entry.ts));
            found.count += 1;
        }
        if found.count == limit {
            break;
        }
    }
    found.streams.sort();
    found
}

/// Streams with a visible line in `start..=end` that one of the selectors
/// takes; without a selector, all of them.
pub fn streams<'a>(
    tenant: &'a Tenant,
    limits: &Limits,
    now: i64,
    selectors: &[LogExpr],
    window: (i64, i64),
) -> Vec<&'a Stream> {
    let selected = |stream: &&Stream| {
        let matches = selectors.iter().any(|log| log.matches(&stream.labels));
        let mut hidden = Hidden::of(tenant, stream, now, limits.delete_delay);
        (selectors.is_empty() || matches)
            && stream
                .between(window.0, window.1.saturating_add(1))
                .iter()
                .any(|entry| entry.visible && !hidden.hides(entry))
    };
    tenant.streams.iter().filter(selected).collect()
}

/// The names of labels, or the values of one.
pub fn label_texts(streams: &[&Stream], name: Option<&str>) -> BTreeSet<String> {
    let all = streams.iter().flat_map(|stream| &stream.labels);
    match name {
        None => all.map(|(name, _)| name.to_string()).collect(),
        Some(wanted) => {
            all.filter(|(name, _)| **name == *wanted).map(|(_, value)| value.to_string()).collect()
        }
    }
}
