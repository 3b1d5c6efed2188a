//! Lines, all of them: Loki gives a few thousand at a time and has no offset.
//!
//! Pages are told by time. Entries of ours stand a nanosecond apart; those of
//! the reference all stand at the begin of their period, and where more of them
//! do than one query gives, they are parted by what their lines hold.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::ControlFlow,
};

use super::{
    LokiError, LokiStorage,
    client::Lines,
    error::QueryLimit,
    line,
    logql::{Extracted, is_readable_key, path},
    question::LogQuestion,
    slices::{Slice, Source},
    streams::{SECOND, Span},
};
use crate::storage::StorageError;

/// What is done with each entry: its instant, labels and line.
pub(super) type Each<'a> = dyn FnMut(i64, &BTreeMap<String, String>, &str) -> Result<ControlFlow<()>, StorageError>
    + Send
    + 'a;

/// One page of entries, oldest first.
struct Entries {
    lines: Vec<Lines>,
    /// Instant, and where the line is.
    order: Vec<(i64, usize, usize)>,
}

impl Entries {
    fn new(lines: Vec<Lines>) -> Result<Self, StorageError> {
        let mut order = Vec::new();
        for (stream, lines) in lines.iter().enumerate() {
            for (at, (timestamp, _)) in lines.values.iter().enumerate() {
                let timestamp: i64 = timestamp.parse().map_err(|_| {
                    StorageError::Damaged(format!("Loki gave the timestamp `{timestamp}`"))
                })?;
                order.push((timestamp, stream, at));
            }
        }
        // The same entries are always in the same order.
        order.sort_by(|one, other| {
            let text = |(_, stream, at): &(i64, usize, usize)| {
                let lines = &lines[*stream];
                (&lines.stream, &lines.values[*at].1)
            };
            one.0.cmp(&other.0).then_with(|| text(one).cmp(&text(other)))
        });
        Ok(Self { lines, order })
    }

    /// Hands on those before an instant.
    fn give(&self, before: i64, each: &mut Each<'_>) -> Result<ControlFlow<()>, StorageError> {
        for (timestamp, stream, at) in &self.order {
            let lines = &self.lines[*stream];
            if *timestamp >= before {
                break;
            }
            if each(*timestamp, &lines.stream, &lines.values[*at].1)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl LokiStorage {
    /// Hands on all entries of a selector and stages in a time, oldest first,
    /// until it is told to stop.
    pub(super) async fn read_entries(
        &self,
        selector: &str,
        stages: &str,
        (from, to): Span,
        each: &mut Each<'_>,
    ) -> Result<(), StorageError> {
        let longest = || self.shard().saturating_mul(SECOND);
        let mut step = longest();
        let mut from = from;
        while from < to {
            let end = to.min(from.saturating_add(step));
            let limit = self.entry_limit.get();
            let query = format!("{selector}{stages}");
            let lines = match self.client.lines(&query, (from, end), limit).await {
                Ok(lines) => lines,
                Err(LokiError::Limit { limit: QueryLimit::Entries, message, .. })
                    if self.entry_limit.learn(&message) =>
                {
                    continue;
                }
                Err(LokiError::TooLarge { .. }) if limit > 1 => {
                    self.entry_limit.lower(limit / 2);
                    continue;
                }
                // A shorter time may be within Loki's limits.
                Err(LokiError::Limit { limit, .. }) if end - from > 1 && step > 1 => {
                    self.learn_time(limit, (from, end));
                    step = (end - from) / 2;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let entries = Entries::new(lines)?;
            if entries.order.len() < limit {
                if entries.give(i64::MAX, each)?.is_break() {
                    return Ok(());
                }
                from = end;
                // What stands close together there may be far apart here.
                step = step.saturating_mul(2).min(longest());
                continue;
            }
            let last = entries.order.last().map_or(end, |(timestamp, ..)| *timestamp);
            if entries.order.first().is_some_and(|(first, ..)| *first < last) {
                // Of the last instant there may be more.
                if entries.give(last, each)?.is_break() {
                    return Ok(());
                }
                from = last;
                continue;
            }
            if self.read_instant(selector, stages, last, &entries, each).await?.is_break() {
                return Ok(());
            }
            from = last + 1;
        }
        Ok(())
    }

    /// Hands on all entries at an instant that has more than one query gives,
    /// parted by the values of the keys that tell most of them apart.
    async fn read_instant(
        &self,
        selector: &str,
        stages: &str,
        instant: i64,
        first: &Entries,
        each: &mut Each<'_>,
    ) -> Result<ControlFlow<()>, StorageError> {
        let mut extracted = Extracted::default();
        let parts = telling_keys(first).into_iter().map(|path| extracted.name(&path)).collect();
        let question = LogQuestion::parting(extracted, parts);
        let crowded =
            || LokiError::Crowded { stream: selector.to_owned(), limit: self.entry_limit.get() };
        let span = (instant, instant + 1);
        let whole = Slice::new(Source::Reference(selector.to_owned()), span);
        // The first part is what gave too many: it is split before it is asked.
        let mut todo: Vec<Slice> =
            Vec::from(whole.split(QueryLimit::Entries, &question).ok_or_else(crowded)?);
        while let Some(slice) = todo.pop() {
            let limit = self.entry_limit.get();
            let json = question.extracted.stage();
            let query = format!("{selector}{stages}{json}{}", slice.stages(&question));
            let entries = Entries::new(self.client.lines(&query, span, limit).await?)?;
            if entries.order.len() >= limit {
                todo.extend(slice.split(QueryLimit::Entries, &question).ok_or_else(crowded)?);
            } else if entries.give(i64::MAX, each)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Paths of the keys with the most different values among some lines.
fn telling_keys(entries: &Entries) -> Vec<String> {
    let mut values: HashMap<String, BTreeSet<String>> = HashMap::new();
    for (_, text) in entries.lines.iter().flat_map(|lines| &lines.values) {
        let Some((_, frame_type, point)) = line::read(text) else { continue };
        values.entry("type".to_owned()).or_default().insert(frame_type);
        for (object, labels) in [("groupby", &point.groupby), ("metadata", &point.metadata)] {
            for (key, value) in labels.iter().filter(|(key, _)| is_readable_key(key)) {
                if let Some(value) = value.as_str() {
                    values.entry(path(object, key)).or_default().insert(value.to_owned());
                }
            }
        }
    }
    let mut keys: Vec<(usize, String)> =
        values.into_iter().map(|(path, values)| (values.len(), path)).collect();
    keys.sort_unstable_by(|one, other| other.cmp(one));
    keys.into_iter().filter(|(values, _)| *values > 1).take(4).map(|(_, path)| path).collect()
}
