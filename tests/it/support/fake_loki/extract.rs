//! `| json`: a parser remembers across lines what it did with a key.

use std::{collections::HashMap, sync::Arc};

use super::{
    builder::{Builder, PRESERVE},
    json::{self, Kind, Stop},
    labels::{self, DUPLICATE},
    logql::Filter,
};

/// Keys that a parser remembers.
const REMEMBERED: usize = 1024;

/// What a metric query needs of a line.
#[derive(Default)]
pub struct Hints {
    /// Nothing: parsers do not even look.
    pub nothing: bool,
    /// Only these labels, when there are any.
    pub required: Vec<Arc<str>>,
    /// Errors were asked for: they do not end the query.
    pub preserve: bool,
    /// Filters of one label each, which end the parsing of a line.
    pub filters: Vec<(Arc<str>, Filter)>,
}

impl Hints {
    fn wants(&self, builder: &Builder<'_>, key: &str) -> bool {
        builder.extracted.iter().all(|name| &**name != key)
            && (self.required.is_empty() || self.required.iter().any(|name| &**name == key))
    }

    fn wants_prefix(&self, prefix: &str) -> bool {
        self.required.is_empty() || self.required.iter().any(|name| name.starts_with(prefix))
    }

    fn complete(&self, builder: &Builder<'_>) -> bool {
        !self.required.is_empty()
            && self.required.iter().all(|name| builder.extracted.contains(name))
    }
}

/// What became of each key.
pub type Memory = HashMap<Box<str>, Option<Arc<str>>>;

/// What a parser does with a key: a label, or nothing. It decides once and
/// remembers, even where the next line would have it otherwise.
fn remembered(
    memory: &mut Memory,
    key: &str,
    decide: impl FnOnce() -> Option<Arc<str>>,
) -> Option<Arc<str>> {
    if let Some(known) = memory.get(key) {
        return known.clone();
    }
    let decided = decide();
    if memory.len() < REMEMBERED {
        memory.insert(key.into(), decided.clone());
    }
    decided
}

/// `| json`; `false` when a later filter cannot hold.
pub fn parse_json(
    line: &str,
    builder: &mut Builder<'_>,
    memory: &mut Memory,
    hints: &Hints,
) -> bool {
    if hints.nothing || hints.complete(builder) {
        return true;
    }
    match flatten(line, "", builder, memory, hints) {
        Ok(()) | Err(Stop::Found) => true,
        Err(Stop::NoMatch) => false,
        Err(Stop::Malformed(why)) => {
            fail(builder, why, hints);
            true
        }
    }
}

fn flatten(
    text: &str,
    prefix: &str,
    builder: &mut Builder<'_>,
    memory: &mut Memory,
    hints: &Hints,
) -> Result<(), Stop> {
    json::object_each(text, &mut |key, value, kind| {
        let joined = |first: bool| match (prefix, labels::sanitized(&key, first)) {
            ("", name) => name.unwrap_or_default(),
            (prefix, name) => format!("{prefix}_{}", name.unwrap_or_default()),
        };
        match kind {
            Kind::Object => {
                let inner = joined(prefix.is_empty());
                if hints.wants_prefix(&inner) {
                    return flatten(value, &inner, builder, memory, hints);
                }
                return Ok(());
            }
            Kind::String | Kind::Number | Kind::Boolean => {
                let name = joined(prefix.is_empty());
                let memo = if prefix.is_empty() { &*key } else { &*name };
                let label = remembered(memory, memo, || {
                    let name = match labels::get(builder.base, &name) {
                        Some(_) => format!("{name}{DUPLICATE}"),
                        None => name.clone(),
                    };
                    hints.wants(builder, &name).then(|| name.into())
                });
                if let Some(label) = label {
                    let value = match kind {
                        Kind::String => json::unescaped(value).into_owned(),
                        _ => value.to_owned(),
                    };
                    builder.set(&label, value);
                    let filters = hints.filters.iter();
                    let filter = filters.clone().find(|(name, _)| *name == label);
                    if filter.is_some_and(|(_, filter)| !filter.passes(builder)) {
                        return Err(Stop::NoMatch);
                    }
                }
            }
            Kind::Null | Kind::Array => {}
        }
        if hints.complete(builder) { Err(Stop::Found) } else { Ok(()) }
    })
}

/// `| json a="b.c"`.
pub fn parse_paths(
    line: &str,
    names: &[Arc<str>],
    paths: &[Vec<String>],
    builder: &mut Builder<'_>,
    memory: &mut Memory,
    hints: &Hints,
) {
    if line.is_empty() || hints.nothing || hints.complete(builder) {
        return;
    }
    if !line.starts_with(['"', '{', '[']) {
        return fail(builder, "", hints);
    }
    let mut matches = 0;
    json::each_path(line, paths, &mut |index, value, kind| {
        let name = &names[index];
        let label = remembered(memory, name, || {
            Some(match labels::get(builder.base, name) {
                Some(_) => format!("{name}{DUPLICATE}").into(),
                None => name.clone(),
            })
        });
        let value = match kind {
            Kind::Null => String::new(),
            Kind::Object => value.to_owned(),
            _ => json::unescaped(value).into_owned(),
        };
        if let Some(label) = label {
            builder.set(&label, value);
        }
        matches += 1;
    });
    if matches < paths.len() {
        for name in names {
            if builder.get(name).is_none() {
                builder.set(name, String::new());
            }
        }
    }
}

fn fail(builder: &mut Builder<'_>, details: &str, hints: &Hints) {
    builder.fail("JSONParserErr", details);
    if hints.preserve {
        builder.set(&PRESERVE.into(), "true".to_owned());
    }
}
