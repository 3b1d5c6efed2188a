//! What is asked of points: filters and group keys, answered by Loki's
//! expressions where they can tell, and point by point everywhere else.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    line,
    logql::{Extracted, is_readable_key, one_of, path},
};
use crate::{
    dataframe::{DataPoint, python_str},
    storage::{GroupKey, Selection},
    time::Period,
};

/// Most bytes of filter values in a query.
const LONGEST: usize = 8_000;

/// Filters and group keys.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    filters: &'a [(String, Vec<String>)],
    /// Group keys other than time.
    keys: Vec<&'a GroupKey>,
    /// Whether periods are told apart.
    pub by_time: bool,
}

/// A group: its period, if asked for, and the values of the other keys.
pub type Group = (Option<Period>, Vec<Option<Value>>);

/// A question in LogQL.
#[derive(Debug, Clone)]
pub struct LogQuestion {
    /// What is read of each line.
    pub extracted: Extracted,
    /// Conditions on it, as stages.
    pub stages: String,
    /// Labels that make the groups.
    pub by: Vec<String>,
    /// Where the values of the keys are among the labels: the first one that
    /// is there.
    values: Vec<Vec<String>>,
    /// Labels of a period's begin and end.
    period: Option<(String, String)>,
    /// Labels by whose values groups can be parted, the most telling first.
    pub parts: Vec<String>,
}

impl<'a> Question<'a> {
    /// What `selection` and `groupby` ask.
    pub fn new(selection: &'a Selection, groupby: &'a [GroupKey]) -> Self {
        Self {
            filters: &selection.filters,
            keys: groupby.iter().filter(|key| **key != GroupKey::Time).collect(),
            by_time: groupby.contains(&GroupKey::Time),
        }
    }

    /// Whether Loki's expressions can tell, for points whose labels are even.
    pub fn is_plain(&self) -> bool {
        let key = |key: &GroupKey| match key {
            GroupKey::Type | GroupKey::Time => true,
            GroupKey::Label(name) => is_readable_key(name),
        };
        // To Loki, a label that is empty is not there.
        let filter = |(key, values): &(String, Vec<String>)| {
            (key == "type" || is_readable_key(key))
                && values.iter().all(|value| !value.is_empty() && !value.contains('\u{fffd}'))
        };
        // Each stands in the query twice, and Loki takes 128 KiB.
        let length: usize =
            self.filters.iter().flat_map(|(_, values)| values).map(String::len).sum();
        self.keys.iter().all(|k| key(k)) && self.filters.iter().all(filter) && length < LONGEST
    }

    /// The question in LogQL.
    pub fn in_logql(&self) -> LogQuestion {
        let mut extracted = Extracted::default();
        let mut stages = String::new();
        for (key, values) in self.filters {
            let condition = if key == "type" {
                one_of(&extracted.name("type"), values)
            } else {
                let groupby = extracted.name(&path("groupby", key));
                let metadata = extracted.name(&path("metadata", key));
                let in_groupby = one_of(&groupby, values);
                let in_metadata = one_of(&metadata, values);
                format!("({in_groupby} or ({groupby}=\"\" and {in_metadata}))")
            };
            stages.push_str(" | ");
            stages.push_str(&condition);
        }
        let mut by = Vec::new();
        let mut values = Vec::new();
        let mut parts = Vec::new();
        for key in &self.keys {
            let names = match key {
                GroupKey::Label(name) => {
                    let groupby = extracted.name(&path("groupby", name));
                    vec![groupby, extracted.name(&path("metadata", name))]
                }
                GroupKey::Type | GroupKey::Time => vec![extracted.name("type")],
            };
            if matches!(key, GroupKey::Label(_)) {
                parts.extend(names.iter().cloned());
            }
            by.extend(names.iter().cloned());
            values.push(names);
        }
        let period = self.by_time.then(|| (extracted.name("start"), extracted.name("end")));
        by.extend(period.iter().flat_map(|(begin, end)| [begin.clone(), end.clone()]));
        by.sort();
        by.dedup();
        LogQuestion { extracted, stages, by, values, period, parts }
    }

    /// The group of a point; `None` if the filters leave it out.
    pub fn group(&self, period: Period, frame_type: &str, point: &DataPoint) -> Option<Group> {
        let passes = |(key, wanted): &(String, Vec<String>)| match key.as_str() {
            "type" => wanted.iter().any(|value| value == frame_type),
            key => line::label(period, point, key)
                .is_some_and(|value| wanted.contains(&python_str(&value))),
        };
        if !self.filters.iter().all(passes) {
            return None;
        }
        let values = self.keys.iter().map(|key| match key {
            GroupKey::Label(name) => line::label(period, point, name),
            GroupKey::Type | GroupKey::Time => Some(Value::String(frame_type.to_owned())),
        });
        Some((self.by_time.then_some(period), values.collect()))
    }
}

impl LogQuestion {
    /// A question that everything passes and that makes one group; labels by
    /// which it can be parted are read.
    pub fn parting(extracted: Extracted, parts: Vec<String>) -> Self {
        let (stages, by, values) = (String::new(), Vec::new(), Vec::new());
        Self { extracted, stages, by, values, period: None, parts }
    }

    /// Whether periods are told apart.
    pub fn is_by_time(&self) -> bool {
        self.period.is_some()
    }

    /// The group of a series; `None` if its lines are no points.
    pub fn group(&self, labels: &BTreeMap<String, String>) -> Option<Group> {
        let text = |name: &String| labels.get(name).filter(|text| !text.is_empty());
        let values = self
            .values
            .iter()
            .map(|names| names.iter().find_map(text).map(|text| Value::String(text.clone())));
        let period = match &self.period {
            None => None,
            Some((begin, end)) => {
                let instant = |name| line::instant(text(name)?);
                Some(Period { begin: instant(begin)?, end: instant(end)? })
            }
        };
        Some((period, values.collect()))
    }
}
