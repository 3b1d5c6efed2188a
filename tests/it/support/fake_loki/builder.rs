//! The labels of one line, with the habits of Loki's label builder.

use std::sync::Arc;

use super::{
    labels::{self, DUPLICATE, Labels},
    logql::Grouping,
    store::Entry,
};

/// The label of a line that something went wrong with.
pub const ERROR: &str = "__error__";
/// What exactly went wrong.
pub const DETAILS: &str = "__error_details__";
/// Set where a query asked for errors: they do not end it.
pub const PRESERVE: &str = "__preserve_error__";

/// The labels of one line.
pub struct Builder<'a> {
    /// Of the stream.
    pub base: &'a Labels,
    /// Of the structured metadata.
    meta: Vec<(Arc<str>, Arc<str>)>,
    /// Of the line.
    parsed: Vec<(Arc<str>, String)>,
    /// Names that a stage removed.
    dropped: Vec<Arc<str>>,
    /// What went wrong, empty when nothing did.
    pub error: String,
    /// More about it.
    pub details: String,
    /// What was set so far, as the parsers see it.
    pub extracted: Vec<Arc<str>>,
}

impl<'a> Builder<'a> {
    /// One with the labels of a stream and the structured metadata of an entry.
    pub fn new(base: &'a Labels, entry: &Entry) -> Self {
        let mut builder = Self {
            base,
            meta: Vec::with_capacity(entry.meta.len()),
            parsed: Vec::new(),
            dropped: Vec::new(),
            error: String::new(),
            details: String::new(),
            extracted: Vec::new(),
        };
        for (name, value) in entry.meta.iter() {
            let name = match labels::get(base, name) {
                Some(_) => format!("{name}{DUPLICATE}").into(),
                None => name.clone(),
            };
            match &*name {
                ERROR => builder.error = value.to_string(),
                DETAILS => builder.details = value.to_string(),
                _ => {
                    builder.extracted.push(name.clone());
                    builder.meta.push((name, value.clone()));
                }
            }
        }
        builder
    }

    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        let meta = self.meta.iter().find(|(n, _)| &**n == name).map(|(_, value)| &**value);
        let parsed = || self.parsed.iter().find(|(n, _)| &**n == name).map(|(_, v)| v.as_str());
        meta.or_else(parsed).or_else(|| {
            let there = self.dropped.iter().all(|n| &**n != name);
            there.then(|| labels::get(self.base, name)).flatten()
        })
    }

    /// Sets a label of the line, which hides every other of its name.
    pub fn set(&mut self, name: &Arc<str>, value: String) {
        self.meta.retain(|(n, _)| n != name);
        match self.parsed.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => {
                self.parsed.push((name.clone(), value));
                self.extracted.push(name.clone());
            }
        }
    }

    /// Removes a label from wherever it comes.
    pub fn remove(&mut self, name: &Arc<str>) {
        self.meta.retain(|(n, _)| n != name);
        self.parsed.retain(|(n, _)| n != name);
        self.dropped.push(name.clone());
    }

    /// Something went wrong with the line.
    pub fn fail(&mut self, error: &str, details: &str) {
        error.clone_into(&mut self.error);
        if !details.is_empty() {
            details.clone_into(&mut self.details);
        }
    }

    /// All labels, sorted.
    pub fn all(&self) -> Vec<(&str, &str)> {
        let taken = |name: &Arc<str>| {
            self.dropped.contains(name)
                || self.meta.iter().any(|(n, _)| n == name)
                || self.parsed.iter().any(|(n, _)| n == name)
        };
        let base = self.base.iter().filter(|(name, _)| !taken(name));
        let mut all: Vec<(&str, &str)> = base.map(|(name, value)| (&**name, &**value)).collect();
        all.extend(self.meta.iter().map(|(name, value)| (&**name, &**value)));
        all.extend(self.parsed.iter().map(|(name, value)| (&**name, value.as_str())));
        for (name, value) in [(ERROR, &self.error), (DETAILS, &self.details)] {
            if !value.is_empty() {
                all.push((name, value));
            }
        }
        all.sort_unstable();
        all
    }

    /// The labels of a sample, sorted.
    pub fn grouped<'b>(&'b self, grouping: &'b Grouping) -> Vec<(&'b str, &'b str)> {
        if !self.error.is_empty() {
            // An error must not get lost in a group.
            return self.all();
        }
        let mut labels: Vec<(&str, &str)> = if grouping.without {
            let mut all = self.all();
            all.retain(|(name, _)| {
                *name != DETAILS && !grouping.names.iter().any(|n| &**n == *name)
            });
            all
        } else {
            grouping.names.iter().filter_map(|name| Some((&**name, self.get(name)?))).collect()
        };
        labels.sort_unstable();
        labels.dedup();
        labels
    }
}
