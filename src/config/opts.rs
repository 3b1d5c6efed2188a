//! Options and their types: how the text of an option becomes a value, as
//! oslo.config's types do it.

use std::borrow::Cow;

use super::ini::is_space;
use crate::{
    dataframe::python_float,
    text::{python_repr, without_digit_separators},
};

/// Type of an option's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Any text.
    Str,
    /// One of some words.
    Choice {
        /// The words.
        words: &'static [&'static str],
        /// Whether `Days` is taken for `days`.
        ignore_case: bool,
    },
    /// true/1/yes/on or false/0/no/off, in any case.
    Bool,
    /// A whole number within bounds.
    Int {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A number within bounds.
    Float {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// Texts, separated by commas.
    List,
    /// `key:value` pairs, separated by commas.
    Dict,
    /// Text that may be given several times, all of which count.
    Multi,
}

/// Any whole number.
pub const INT: Kind = Kind::Int { min: i64::MIN, max: i64::MAX };
/// A TCP port.
pub const PORT: Kind = Kind::Int { min: 0, max: 65_535 };
/// A number of seconds or the like, zero or more.
pub const SECONDS: Kind = Kind::Float { min: 0.0, max: f64::INFINITY };

/// Seconds in a leap year: no time that an option sets is longer.
pub const YEAR: i64 = 31_622_400;
/// A time in seconds, of at most a year.
pub const UP_TO_A_YEAR: Kind = Kind::Float { min: 0.0, max: 31_622_400.0 };

/// A whole number of at least `min`.
pub const fn at_least(min: i64) -> Kind {
    Kind::Int { min, max: i64::MAX }
}

/// An option that the program knows.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// Section of the file.
    pub group: &'static str,
    /// Name in the file, with underscores.
    pub name: &'static str,
    /// Type and bounds.
    pub kind: Kind,
    /// Text of the default, `None` when unset.
    pub default: Option<&'static str>,
    /// Older (group, name) pairs that are still read; an empty group is its own.
    pub deprecated: &'static [(&'static str, &'static str)],
    /// Whether the value must never be shown.
    pub secret: bool,
    /// What it does, with its unit.
    pub help: &'static str,
}

impl Opt {
    /// An option with a default.
    pub const fn new(
        group: &'static str,
        name: &'static str,
        kind: Kind,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self { group, name, kind, default: Some(default), deprecated: &[], secret: false, help }
    }

    /// An option that is unset by default.
    pub const fn unset(
        group: &'static str,
        name: &'static str,
        kind: Kind,
        help: &'static str,
    ) -> Self {
        Self { group, name, kind, default: None, deprecated: &[], secret: false, help }
    }

    /// The same option, its value never shown.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The same option, also read under older names.
    #[must_use]
    pub const fn renamed(mut self, names: &'static [(&'static str, &'static str)]) -> Self {
        self.deprecated = names;
        self
    }
}

/// A converted value. Unset options, and numbers given as nothing, have none.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Str(String),
    /// Boolean.
    Bool(bool),
    /// Whole number.
    Int(i64),
    /// Number.
    Float(f64),
    /// Texts.
    List(Vec<String>),
    /// Pairs in file order.
    Dict(Vec<(String, String)>),
}

impl Kind {
    /// What is allowed, for error messages.
    pub fn allowed(&self) -> Cow<'static, str> {
        match *self {
            Self::Str | Self::Multi => "any text".into(),
            Self::Choice { words, .. } => format!("one of {}", words.join(", ")).into(),
            Self::Bool => "true, yes, on, 1, false, no, off or 0".into(),
            Self::Int { min: i64::MIN, max: i64::MAX } => "a whole number".into(),
            Self::Int { min, max: i64::MAX } => format!("a whole number of at least {min}").into(),
            Self::Int { min, max } => format!("a whole number from {min} to {max}").into(),
            Self::Float { min, max } if min.is_infinite() && max.is_infinite() => "a number".into(),
            Self::Float { min, max } if max.is_infinite() => {
                format!("a number of at least {min}").into()
            }
            Self::Float { min, max } => format!("a number from {min} to {max}").into(),
            Self::List => "texts separated by commas".into(),
            Self::Dict => "name:value pairs separated by commas, each name once".into(),
        }
    }

    /// Converts text. `Ok(None)` is a number given as nothing, which stands
    /// for unset; `Err(())` is text that is not allowed.
    #[expect(clippy::result_unit_err, reason = "the caller knows option, origin and text")]
    pub fn convert(&self, text: &str) -> Result<Option<Value>, ()> {
        let stripped = text.trim_matches(is_space);
        Ok(Some(match *self {
            Self::Str | Self::Multi => Value::Str(text.to_owned()),
            Self::Choice { words, ignore_case } => {
                let known = words.iter().any(|word| {
                    *word == text || ignore_case && word.to_lowercase() == text.to_lowercase()
                });
                if !known {
                    return Err(());
                }
                Value::Str(text.to_owned())
            }
            Self::Bool => match text.to_lowercase().as_str() {
                "true" | "1" | "on" | "yes" => Value::Bool(true),
                "false" | "0" | "off" | "no" => Value::Bool(false),
                _ => return Err(()),
            },
            Self::Int { .. } | Self::Float { .. } if stripped.is_empty() => return Ok(None),
            Self::Int { min, max } => {
                let number: i64 = digits(stripped)?.parse().map_err(drop)?;
                if !(min..=max).contains(&number) {
                    return Err(());
                }
                Value::Int(number)
            }
            Self::Float { min, max } => {
                let number: f64 = digits(stripped)?.parse().map_err(drop)?;
                if number < min || number > max {
                    return Err(());
                }
                Value::Float(number)
            }
            Self::List => match stripped.trim_end_matches(',') {
                "" => Value::List(Vec::new()),
                items => Value::List(
                    items.split(',').map(|item| item.trim_matches(is_space).to_owned()).collect(),
                ),
            },
            Self::Dict => Value::Dict(pairs(stripped)?),
        }))
    }
}

fn digits(text: &str) -> Result<Cow<'_, str>, ()> {
    without_digit_separators(text).ok_or(())
}

/// Pairs of a dict option. A part without a colon is glued to the next one.
fn pairs(text: &str) -> Result<Vec<(String, String)>, ()> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    if text.is_empty() {
        return Ok(pairs);
    }
    let mut glued: Option<String> = None;
    for part in text.split(',') {
        let pair = match glued.take() {
            Some(head) => format!("{head},{part}"),
            None => part.to_owned(),
        };
        let Some((name, value)) = pair.split_once(':') else {
            glued = Some(pair);
            continue;
        };
        let name = name.trim_matches(is_space);
        if name.is_empty() || pairs.iter().any(|(known, _)| known == name) {
            return Err(());
        }
        pairs.push((name.to_owned(), value.trim_matches(is_space).to_owned()));
    }
    if glued.is_some() { Err(()) } else { Ok(pairs) }
}

impl Value {
    /// The text that Python's `str()` gives, which is what a substitution of
    /// this option inserts.
    pub(super) fn python_text(&self) -> String {
        match self {
            Self::Str(text) => text.clone(),
            Self::Bool(true) => "True".into(),
            Self::Bool(false) => "False".into(),
            Self::Int(number) => number.to_string(),
            Self::Float(number) => python_float(*number),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(|item| python_repr(item)).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Dict(pairs) => {
                let pairs: Vec<_> = pairs
                    .iter()
                    .map(|(name, value)| format!("{}: {}", python_repr(name), python_repr(value)))
                    .collect();
                format!("{{{}}}", pairs.join(", "))
            }
        }
    }
}
