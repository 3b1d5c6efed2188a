//! The rule language of oslo.policy.
//!
//! ```text
//! rule:admin or (role:reader and project_id:%(project_id)s)     text
//! [["rule:admin"], ["role:reader", "project_id:%(project_id)s"]]  older: lists in a list, `or` of `and`s
//! ```
//!
//! Blanks separate words. Parentheses count at both ends of a word only, so that `%(key)s` keeps its
//! own. `not` binds closest, then `and`, then `or`. What cannot be read allows nothing, as there: a
//! whole text without sense, or a single word without `:` in it.

mod grammar;

use std::fmt;

use serde_json::Value;

use super::{MAX_DEPTH, check::Check, kind::Kind};

/// A rule that was read, and what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What is asked for.
    pub check: Check,
    /// What cannot be read, or has no answer.
    pub problems: Vec<Problem>,
}

/// What is wrong at a place of a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}{fault}")]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub fault: Fault,
}

/// A place in a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The rule as a whole.
    Whole,
    /// A character of a text, counted from 1.
    Column(usize),
    /// An element of a list, and one within that, counted from 1.
    Item(usize, usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Column(column) => write!(f, "column {column}: "),
            Self::Item(outer, inner) => write!(f, "list {outer}, item {inner}: "),
        }
    }
}

/// What can be wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Neither a text nor a list.
    #[error("a rule must be a text or a list, and not {0}")]
    Type(&'static str),
    /// Blanks alone.
    #[error("nothing but blanks; a rule that always allows is \"\"")]
    Blank,
    /// A word that does not fit the ones before it.
    #[error("\"{0}\" does not fit here")]
    Unexpected(String),
    /// A word in quotes.
    #[error("{0} is a text, and no check")]
    Quoted(String),
    /// A word without `:`.
    #[error("\"{0}\" is no check: there is no \":\" in it")]
    NoColon(String),
    /// A part of a list that is no text.
    #[error("a check must be a text, and not {0}")]
    NoText(&'static str),
    /// Too many checks within each other.
    #[error("checks are nested deeper than {MAX_DEPTH} levels")]
    Deep,
    /// A left side that is nothing.
    #[error("\"{0}\" is neither a literal nor the name of a credential")]
    Kind(String),
    /// A conversion that is not there.
    #[error("\"{0}\" cannot be filled in: only %(KEY)s can, and %% for %")]
    Conversion(String),
    /// A check by another server.
    #[error("\"{0}\" would ask another server, which is not available: write the rule out")]
    Remote(String),
}

/// Reads a rule as it stands in a policy file.
pub fn parse(rule: &Value) -> Parsed {
    match rule {
        Value::String(text) => parse_text(text),
        Value::Array(lists) => parse_lists(lists.iter()),
        // oslo.policy takes an object for the list of its keys.
        Value::Object(pairs) => {
            let keys: Vec<_> = pairs.keys().map(|key| Value::from(key.as_str())).collect();
            parse_lists(keys.iter())
        }
        value if is_nothing(value) => Parsed { check: Check::Always, problems: Vec::new() },
        value => {
            let problem = Problem { place: Place::Whole, fault: Fault::Type(type_name(value)) };
            Parsed { check: Check::Never, problems: vec![problem] }
        }
    }
}

/// What Python takes for false: oslo.policy reads it as nothing at all.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(pairs) => pairs.is_empty(),
    }
}

/// What a value is, for messages.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// Reads the text form.
pub fn parse_text(text: &str) -> Parsed {
    let mut problems = Vec::new();
    let check = match text {
        "" => Check::Always,
        text => grammar::read(text, &mut problems),
    };
    Parsed { check, problems }
}

fn parse_lists<'a>(lists: impl Iterator<Item = &'a Value>) -> Parsed {
    let mut problems = Vec::new();
    let mut any = Vec::new();
    let mut is_empty = true;
    for (outer, list) in lists.enumerate() {
        is_empty = false;
        if is_nothing(list) {
            continue;
        }
        let mut all = Vec::new();
        let mut add = |inner: usize, item: &Value| {
            let place = Place::Item(outer + 1, inner + 1);
            let check = match item {
                Value::String(text) => single(text, place, &mut problems),
                item => {
                    let fault = Fault::NoText(type_name(item));
                    problems.push(Problem { place, fault });
                    Check::Never
                }
            };
            all.push(check);
        };
        match list {
            Value::Array(items) => items.iter().enumerate().for_each(|(at, item)| add(at, item)),
            Value::Object(pairs) => {
                pairs.keys().enumerate().for_each(|(at, key)| add(at, &Value::from(key.as_str())));
            }
            item => add(0, item),
        }
        any.push(joined(all, Check::And));
    }
    let check = match (is_empty, any.is_empty()) {
        (true, _) => Check::Always,
        (false, true) => Check::Never,
        (false, false) => joined(any, Check::Or),
    };
    Parsed { check, problems }
}

/// One check by itself, several with an operator.
fn joined(mut checks: Vec<Check>, operator: fn(Vec<Check>) -> Check) -> Check {
    match checks.pop() {
        Some(check) if checks.is_empty() => check,
        Some(check) => {
            checks.push(check);
            operator(checks)
        }
        None => Check::Never,
    }
}

/// A single check; what cannot be read allows nothing.
fn single(text: &str, place: Place, problems: &mut Vec<Problem>) -> Check {
    let mut report = |fault| problems.push(Problem { place, fault });
    let Some(check) = Check::single(text) else {
        report(Fault::NoColon(text.to_owned()));
        return Check::Never;
    };
    match &check {
        Check::Remote(text) => report(Fault::Remote(text.clone())),
        Check::Generic { left, kind: Kind::Unreadable, .. } => report(Fault::Kind(left.clone())),
        _ => {}
    }
    if let Check::Role(pattern) | Check::Generic { right: pattern, .. } = &check
        && let Some(conversion) = pattern.problem()
    {
        report(Fault::Conversion(conversion.to_owned()));
    }
    check
}
