//! LogQL: what a query says.

use std::collections::HashSet;

use std::{fmt, sync::Arc};

use regex::Regex;

use super::{
    labels::{self, Labels},
    parser::Parser,
};

/// Why a text is no query.
#[derive(Clone, Debug, PartialEq)]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// 0 for a refusal that has no place.
    pub line: usize,
    /// The word it is about.
    pub column: usize,
}

impl ParseError {
    /// One without a place.
    pub fn general(message: impl Into<String>) -> Self {
        Self { message: message.into(), line: 0, column: 0 }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, 0) => write!(f, "parse error : {}", self.message),
            (line, column) => {
                write!(f, "parse error at line {line}, col {column}: {}", self.message)
            }
        }
    }
}

/// A query.
#[derive(Clone, Debug)]
pub enum Expr {
    /// For lines.
    Log(Arc<LogExpr>),
    /// For numbers.
    Metric(Metric),
}

/// How a value is compared with a text.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// A label.
    pub name: Arc<str>,
    pub test: Test,
}

/// A comparison with a text.
#[derive(Clone, Debug)]
pub enum Test {
    Equal(String),
    NotEqual(String),
    /// One of some words: what a regular expression of them means.
    Among(HashSet<String>),
    Like(Regex),
    NotLike(Regex),
}

impl Test {
    /// That of an operator; regular expressions match the whole value.
    pub fn new(op: &str, text: &str) -> Result<Self, String> {
        let regex = || {
            Regex::new(&format!("^(?s:{text})$"))
                .map_err(|_| format!("error parsing regexp: `{text}`"))
        };
        Ok(match op {
            "=" => Self::Equal(text.to_owned()),
            "!=" => Self::NotEqual(text.to_owned()),
            "=~" if is_words(text) => Self::Among(text.split('|').map(str::to_owned).collect()),
            "=~" => Self::Like(regex()?),
            _ => Self::NotLike(regex()?),
        })
    }

    /// Whether a value passes.
    pub fn passes(&self, value: &str) -> bool {
        match self {
            Self::Equal(text) => value == text,
            Self::NotEqual(text) => value != text,
            Self::Among(words) => words.contains(value),
            Self::Like(regex) => regex.is_match(value),
            Self::NotLike(regex) => !regex.is_match(value),
        }
    }
}

/// Whether a regular expression is words with bars between them.
fn is_words(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'|')
}

/// A selector and what is done with its lines.
#[derive(Clone, Debug)]
pub struct LogExpr {
    /// The selector.
    pub matchers: Vec<Matcher>,
    /// In their order.
    pub stages: Vec<Stage>,
}

impl LogExpr {
    /// Whether a stream is selected.
    pub fn matches(&self, set: &Labels) -> bool {
        let value = |name: &str| labels::get(set, name).unwrap_or_default();
        self.matchers.iter().all(|matcher| matcher.test.passes(value(&matcher.name)))
    }

    /// Refuses a selector that could match everything.
    fn validate(&self) -> Result<(), ParseError> {
        if self.matchers.iter().any(|matcher| !matcher.test.passes("")) {
            return Ok(());
        }
        Err(ParseError::general(
            "queries require at least one regexp or equality matcher that does not have an \
             empty-compatible value. For instance, app=~\".*\" does not meet this requirement, \
             but app=~\".+\" will",
        ))
    }
}

/// Something done with a line.
#[derive(Clone, Debug)]
pub enum Stage {
    /// Any of these is in the line, or none of them.
    Line(bool, Vec<LineTest>),
    /// All keys become labels.
    Json,
    /// Some values become labels.
    JsonPaths {
        names: Vec<Arc<str>>,
        paths: Vec<Vec<String>>,
    },
    Filter(Filter),
    Drop(Vec<Named>),
    Keep(Vec<Named>),
}

/// A test of a line.
#[derive(Clone, Debug)]
pub enum LineTest {
    Contains(String),
    Like(Regex),
}

/// A label, by name or also by value.
#[derive(Clone, Debug)]
pub struct Named {
    pub name: Arc<str>,
    pub test: Option<Test>,
}

/// A filter of labels.
#[derive(Clone, Debug)]
pub enum Filter {
    Text(Matcher),
    Number(Arc<str>, &'static str, f64),
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
}

impl Filter {
    /// The labels that it asks for.
    pub fn names(&self) -> Vec<Arc<str>> {
        match self {
            Self::Text(matcher) => vec![matcher.name.clone()],
            Self::Number(name, ..) => vec![name.clone()],
            Self::And(left, right) | Self::Or(left, right) => {
                left.names().into_iter().chain(right.names()).collect()
            }
        }
    }
}

/// `by (...)` or `without (...)`.
#[derive(Clone, Debug, Default)]
pub struct Grouping {
    pub names: Vec<Arc<str>>,
    pub without: bool,
}

/// A label that is the value of a sample, and filters after it.
#[derive(Clone, Debug)]
pub struct Unwrap {
    pub label: Arc<str>,
    pub filters: Vec<Filter>,
}

/// Aggregations over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeOp {
    Count,
    Bytes,
    Sum,
    Min,
    Max,
    Avg,
}

/// Aggregations over series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorOp {
    Sum,
    Min,
    Max,
    Avg,
    Count,
    Top,
    Bottom,
}

/// An aggregation over time.
#[derive(Clone, Debug)]
pub struct Range {
    pub op: RangeOp,
    pub log: Arc<LogExpr>,
    pub unwrap: Option<Arc<Unwrap>>,
    pub interval: i64,
    pub offset: i64,
    pub grouping: Option<Grouping>,
}

/// A metric query.
#[derive(Clone, Debug)]
pub enum Metric {
    Range(Range),
    Vector {
        op: VectorOp,
        count: usize,
        grouping: Grouping,
        inner: Box<Metric>,
    },
    Binary {
        op: &'static str,
        left: Box<Metric>,
        right: Box<Metric>,
    },
    Literal(f64),
    /// Parts of a split query; the parser makes none.
    Pieces(Vec<Metric>),
}

impl Metric {
    /// Calls `each` with every aggregation over time.
    pub fn each_range(&mut self, each: &mut dyn FnMut(&mut Range)) {
        match self {
            Self::Range(range) => each(range),
            Self::Vector { inner, .. } => inner.each_range(each),
            Self::Binary { left, right, .. } => {
                left.each_range(each);
                right.each_range(each);
            }
            Self::Literal(_) => {}
            Self::Pieces(pieces) => pieces.iter_mut().for_each(|piece| piece.each_range(each)),
        }
    }
}

/// Parses a query of fewer than `max` bytes.
pub fn parse(text: &str, max: usize) -> Result<Expr, ParseError> {
    if text.len() >= max {
        let message = format!("input size too long ({} > {max})", text.len());
        return Err(ParseError::general(message));
    }
    let mut expr = Parser::new(text)?.query()?;
    match &mut expr {
        Expr::Log(log) => log.validate()?,
        Expr::Metric(metric) => {
            let mut result = Ok(());
            metric.each_range(&mut |range| {
                if result.is_ok() {
                    result = range.log.validate();
                }
            });
            result?;
        }
    }
    Ok(expr)
}
