//! What a query does with a line.

use std::sync::Arc;

use super::{
    builder::{Builder, DETAILS, ERROR, PRESERVE},
    extract::{Hints, Memory, parse_json, parse_paths},
    labels::{DUPLICATE, Labels},
    logql::{Filter, Grouping, LineTest, Named, Stage, Unwrap},
    store::Entry,
};

/// How a line becomes a sample.
pub struct Extraction<'a> {
    /// The label that is the value; none counts lines.
    pub unwrap: Option<&'a Unwrap>,
    /// Labels that are wanted; none is all of them.
    pub grouping: Option<&'a Grouping>,
}

/// The stages of a query and what its parsers remember.
pub struct Pipeline {
    /// In their order.
    stages: Vec<(Stage, Memory)>,
    /// What may be left out.
    hints: Hints,
}

impl Pipeline {
    /// That of a log query.
    pub fn for_logs(stages: &[Stage]) -> Self {
        Self::new(stages, Hints { filters: single_filters(stages, &[]), ..Hints::default() })
    }

    /// That of a metric query.
    pub fn for_samples(stages: &[Stage], extraction: &Extraction<'_>) -> Self {
        let after = extraction.unwrap.map_or(&[][..], |unwrap| &unwrap.filters);
        let filters = single_filters(stages, after);
        let nothing = Grouping { names: Vec::new(), without: true };
        let grouping = extraction.grouping.unwrap_or(&nothing);
        let known = !grouping.without;
        let mut required: Vec<Arc<str>> = Vec::new();
        if known {
            let named = stages.iter().filter_map(|stage| match stage {
                Stage::Filter(filter) => Some(filter.names()),
                _ => None,
            });
            required.extend(named.flatten());
            required.extend(after.iter().flat_map(Filter::names));
            required.extend(grouping.names.iter().cloned());
            required.extend(extraction.unwrap.map(|unwrap| unwrap.label.clone()));
            let bare: Vec<Arc<str>> =
                required.iter().filter_map(|n| n.strip_suffix(DUPLICATE)).map(Arc::from).collect();
            required.extend(bare);
            required.sort();
            required.dedup();
        }
        let preserve = required.iter().any(|name| &**name == ERROR);
        let nothing = known && required.is_empty();
        Self::new(stages, Hints { nothing, required, preserve, filters })
    }

    fn new(stages: &[Stage], hints: Hints) -> Self {
        let stages = stages.iter().map(|stage| (stage.clone(), Memory::new())).collect();
        Self { stages, hints }
    }

    /// The labels of a line, unless it is filtered out.
    pub fn run<'a>(&mut self, base: &'a Labels, entry: &Entry) -> Option<Builder<'a>> {
        let mut builder = Builder::new(base, entry);
        let line = &*entry.line;
        let hints = &self.hints;
        for (stage, memory) in &mut self.stages {
            let keep = match stage {
                Stage::Line(wanted, tests) => *wanted == tests.iter().any(|test| test.passes(line)),
                Stage::Json => parse_json(line, &mut builder, memory, hints),
                Stage::JsonPaths { names, paths } => {
                    parse_paths(line, names, paths, &mut builder, memory, hints);
                    true
                }
                Stage::Filter(filter) => filter.passes(&mut builder),
                Stage::Drop(names) => {
                    drop_labels(names, &mut builder);
                    true
                }
                Stage::Keep(names) => {
                    keep_labels(names, &mut builder);
                    true
                }
            };
            if !keep {
                return None;
            }
        }
        Some(builder)
    }

    /// The value of a line whose label is unwrapped.
    pub fn unwrapped(&self, builder: &mut Builder<'_>, unwrap: &Unwrap) -> Option<f64> {
        let text = builder.get(&unwrap.label).filter(|text| !text.is_empty())?.to_owned();
        let value = text.parse().unwrap_or_else(|_| {
            let details = format!("strconv.ParseFloat: parsing {text:?}: invalid syntax");
            builder.fail("SampleExtractionErr", &details);
            0.0
        });
        unwrap.filters.iter().all(|filter| filter.passes(builder)).then_some(value)
    }
}

/// Filters that hold for one label alone.
fn single_filters(stages: &[Stage], after: &[Filter]) -> Vec<(Arc<str>, Filter)> {
    let staged = stages.iter().filter_map(|stage| match stage {
        Stage::Filter(filter) => Some(filter),
        _ => None,
    });
    // Several filters after an unwrap are one for Loki, and none of them a hint.
    let after = if after.len() == 1 { after } else { &[] };
    let named = |filter: &Filter| match filter {
        Filter::Text(matcher) => Some((matcher.name.clone(), filter.clone())),
        Filter::Number(name, ..) => Some((name.clone(), filter.clone())),
        Filter::And(..) | Filter::Or(..) => None,
    };
    staged.chain(after).filter_map(named).collect()
}

impl LineTest {
    fn passes(&self, line: &str) -> bool {
        match self {
            Self::Contains(text) => line.contains(text),
            Self::Like(regex) => regex.is_match(line),
        }
    }
}

impl Filter {
    /// Whether a line stays; a value that is no number puts it in error.
    pub fn passes(&self, builder: &mut Builder<'_>) -> bool {
        match self {
            Self::Text(matcher) if &*matcher.name == ERROR => matcher.test.passes(&builder.error),
            Self::Text(matcher) => {
                matcher.test.passes(builder.get(&matcher.name).unwrap_or_default())
            }
            // A line in error stays, so that the error shows.
            Self::Number(..) if !builder.error.is_empty() => true,
            Self::Number(name, op, right) => {
                let Some(text) = builder.get(name) else { return false };
                let Ok(left) = text.parse::<f64>() else {
                    let details = format!("strconv.ParseFloat: parsing {text:?}: invalid syntax");
                    builder.fail("LabelFilterErr", &details);
                    return true;
                };
                match *op {
                    "=" | "==" => left == *right,
                    "!=" => left != *right,
                    ">" => left > *right,
                    ">=" => left >= *right,
                    "<" => left < *right,
                    _ => left <= *right,
                }
            }
            Self::And(left, right) => left.passes(builder) && right.passes(builder),
            Self::Or(left, right) => left.passes(builder) || right.passes(builder),
        }
    }
}

fn drop_labels(names: &[Named], builder: &mut Builder<'_>) {
    for Named { name, test } in names {
        let passes = |value: &str| test.as_ref().is_none_or(|test| test.passes(value));
        match &**name {
            ERROR if passes(&builder.error) => builder.error.clear(),
            DETAILS if passes(&builder.details) => builder.details.clear(),
            ERROR | DETAILS => {}
            _ if builder.get(name).is_some() && passes(builder.get(name).unwrap_or_default()) => {
                builder.remove(name);
            }
            _ => {}
        }
    }
}

fn keep_labels(names: &[Named], builder: &mut Builder<'_>) {
    let kept = |name: &str, value: &str| {
        let test = |named: &Named| named.test.as_ref().is_none_or(|test| test.passes(value));
        names.iter().any(|named| &*named.name == name && test(named))
    };
    let all = builder.all();
    let gone = all.into_iter().filter(|(name, value)| {
        *name != ERROR && *name != DETAILS && *name != PRESERVE && !kept(name, value)
    });
    for name in gone.map(|(name, _)| Arc::from(name)).collect::<Vec<Arc<str>>>() {
        builder.remove(&name);
    }
}
