//! YAML 1.1 documents as PyYAML's safe loader reads them.
//!
//! The metrics file is written for PyYAML: `yes` and `on` are booleans, `017`
//! is 15, `1e3` is text, a repeated key counts with its last value. Libraries
//! of today read YAML 1.2 and would take another meaning from the same file,
//! so only events are taken from one, and scalars are resolved here.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::Value;

/// Nodes that a document may have once its aliases are written out; a few
/// lines of aliases can stand for billions.
const MAX_NODES: usize = 1_000_000;

/// A node with its line.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Yaml,
    /// Line on which it starts, from 1.
    pub line: usize,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Yaml {
    /// Nothing, or `null`.
    Null,
    /// Boolean.
    Bool(bool),
    /// Whole number; as text when it does not fit.
    Int(i64),
    /// Whole number beyond 64 bits, in decimal digits.
    BigInt(String),
    /// Number.
    Float(f64),
    /// Text.
    Str(String),
    /// A date or binary value: nothing that a metrics file needs.
    Other(&'static str),
    /// Sequence.
    List(Vec<Node>),
    /// Mapping, in file order.
    Map(Vec<(Node, Node)>),
}

impl Yaml {
    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::BigInt(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Str(_) => "text",
            Self::Other(kind) => kind,
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl Node {
    /// The value as JSON; what JSON has not, dates say, is null. Keys become text
    /// as Python's `json` makes it.
    pub fn to_json(&self) -> Value {
        match &self.value {
            Yaml::Null | Yaml::Other(_) => Value::Null,
            Yaml::Bool(value) => Value::Bool(*value),
            Yaml::Int(value) => Value::from(*value),
            Yaml::BigInt(digits) => Value::String(digits.clone()),
            Yaml::Float(value) => Value::from(*value),
            Yaml::Str(text) => Value::String(text.clone()),
            Yaml::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Yaml::Map(pairs) => {
                let pair = |(key, value): &(Self, Self)| {
                    let key = match key.to_json() {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    (key, value.to_json())
                };
                Value::Object(pairs.iter().map(pair).collect())
            }
        }
    }
}

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct YamlError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// Reads the one document of a text; an empty text is [`Yaml::Null`].
///
/// # Errors
/// Text that is no YAML, several documents, tags that name no plain type.
pub fn load(text: &str) -> Result<Node, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let bad = |c: char| c.is_control() && !matches!(c, '\t' | '\r' | '\u{85}');
        if let Some(c) = line.chars().find(|c| bad(*c)) {
            return Err(YamlError {
                line: index + 1,
                problem: format!("character U+{:04X} is not allowed", u32::from(c)),
            });
        }
    }
    let mut loader =
        Loader { events: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    loader.document()
}

type Parsed<'a> = Result<(Event<'a>, granit_parser::Span), granit_parser::ScanError>;

struct Loader<I> {
    events: I,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a, I: Iterator<Item = Parsed<'a>>> Loader<I> {
    fn next(&mut self) -> Result<(Event<'a>, usize), YamlError> {
        let is_comment = |parsed: &Parsed<'a>| matches!(parsed, Ok((Event::Comment(..), _)));
        match self.events.find(|parsed| !is_comment(parsed)) {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => {
                Err(YamlError { line: error.marker().line(), problem: error.info().to_owned() })
            }
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn document(&mut self) -> Result<Node, YamlError> {
        let mut document = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, line) => {
                    return Ok(document.unwrap_or(Node { value: Yaml::Null, line }));
                }
                (Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _) => {}
                (_, line) if document.is_some() => {
                    return Err(fail(line, "only one document is allowed"));
                }
                (event, line) => document = Some(self.node(event, line)?),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, line: usize) -> Result<Node, YamlError> {
        self.count(1, line)?;
        let (value, anchor) = match event {
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned();
                let mut node = node.ok_or_else(|| fail(line, "an alias within what it names"))?;
                self.count(size(&node), line)?;
                node.line = line;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map(|tag| format!("{}{}", tag.handle(), tag.suffix()));
                (scalar(&text, style == ScalarStyle::Plain, tag.as_deref(), line)?, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let tag = tag.map(|tag| format!("{}{}", tag.handle(), tag.suffix()));
                collection_tag(tag.as_deref(), "seq", line)?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, line) => items.push(self.node(event, line)?),
                    }
                }
                (Yaml::List(items), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                let tag = tag.map(|tag| format!("{}{}", tag.handle(), tag.suffix()));
                collection_tag(tag.as_deref(), "map", line)?;
                (Yaml::Map(self.mapping()?), anchor)
            }
            _ => return Err(fail(line, "a value is missing")),
        };
        let node = Node { value, line };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(fail(line, "the document is too large"));
        }
        Ok(())
    }

    /// The pairs of a mapping; merge keys (`<<`) come first, so that own keys win.
    fn mapping(&mut self) -> Result<Vec<(Node, Node)>, YamlError> {
        let mut merged: Vec<(Node, Node)> = Vec::new();
        let mut own: Vec<(Node, Node)> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let is_merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node(event, line)?;
            let (event, line) = self.next()?;
            let value = self.node(event, line)?;
            if !is_merge {
                if matches!(key.value, Yaml::List(_) | Yaml::Map(_)) {
                    return Err(fail(key.line, "a list or mapping cannot be a key"));
                }
                put(&mut own, key, value);
                continue;
            }
            let sources = match value.value {
                Yaml::Map(pairs) => vec![pairs],
                Yaml::List(items) => items
                    .into_iter()
                    .map(|item| match item.value {
                        Yaml::Map(pairs) => Ok(pairs),
                        _ => Err(fail(item.line, "a merge key needs mappings")),
                    })
                    .collect::<Result<_, _>>()?,
                _ => return Err(fail(line, "a merge key needs mappings")),
            };
            // The first of several sources wins.
            for (key, value) in sources.into_iter().rev().flatten() {
                put(&mut merged, key, value);
            }
        }
        for (key, value) in own {
            put(&mut merged, key, value);
        }
        Ok(merged)
    }
}

/// A repeated key keeps its place and takes the last value.
fn put(pairs: &mut Vec<(Node, Node)>, key: Node, value: Node) {
    match pairs.iter_mut().find(|(known, _)| known.value == key.value) {
        Some((_, old)) => *old = value,
        None => pairs.push((key, value)),
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Yaml::List(items) => items.iter().map(size).sum(),
        Yaml::Map(pairs) => pairs.iter().map(|(key, value)| size(key) + size(value)).sum(),
        _ => 0,
    }
}

fn fail(line: usize, problem: impl Into<String>) -> YamlError {
    YamlError { line, problem: problem.into() }
}

const CORE: &str = "tag:yaml.org,2002:";

fn collection_tag(tag: Option<&str>, expected: &str, line: usize) -> Result<(), YamlError> {
    match tag {
        None => Ok(()),
        Some(tag) if tag.strip_prefix(CORE) == Some(expected) => Ok(()),
        Some(tag) => Err(fail(line, format!("tag `{tag}` is not allowed here"))),
    }
}

fn scalar(text: &str, plain: bool, tag: Option<&str>, line: usize) -> Result<Yaml, YamlError> {
    let Some(tag) = tag else {
        return Ok(if plain { resolve(text) } else { Yaml::Str(text.to_owned()) });
    };
    let value = match tag.strip_prefix(CORE) {
        Some("str") => Some(Yaml::Str(text.to_owned())),
        Some("null") => Some(Yaml::Null),
        Some("bool") => boolean(text).map(Yaml::Bool),
        Some("int") => integer(text),
        Some("float") => float(text).or_else(|| text.parse().ok().map(Yaml::Float)),
        Some("binary") => Some(Yaml::Other("binary data")),
        Some("timestamp") => Some(Yaml::Other("a date")),
        _ if tag == "!" => Some(Yaml::Str(text.to_owned())),
        _ => return Err(fail(line, format!("tag `{tag}` is not allowed"))),
    };
    value.ok_or_else(|| fail(line, format!("`{text}` does not fit its tag `{tag}`")))
}

/// The meaning of a plain scalar in YAML 1.1, as PyYAML resolves it.
fn resolve(text: &str) -> Yaml {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Yaml::Null;
    }
    boolean(text)
        .map(Yaml::Bool)
        .or_else(|| integer(text))
        .or_else(|| float(text))
        .or_else(|| is_date(text).then_some(Yaml::Other("a date")))
        .unwrap_or_else(|| Yaml::Str(text.to_owned()))
}

fn boolean(text: &str) -> Option<bool> {
    let lower = text.to_lowercase();
    let cased = text == lower
        || text == text.to_uppercase()
        || text.chars().skip(1).all(char::is_lowercase) && text.starts_with(char::is_uppercase);
    match lower.as_str() {
        "yes" | "true" | "on" if cased => Some(true),
        "no" | "false" | "off" if cased => Some(false),
        _ => None,
    }
}

fn sign(text: &str) -> (&str, &str) {
    match text.strip_prefix(['-', '+']) {
        Some(rest) => (if text.starts_with('-') { "-" } else { "" }, rest),
        None => ("", text),
    }
}

fn integer(text: &str) -> Option<Yaml> {
    let (minus, body) = sign(text);
    if !body.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits: String = body.chars().filter(|c| *c != '_').collect();
    let number = |digits: &str, radix| i64::from_str_radix(&format!("{minus}{digits}"), radix).ok();
    if let Some(binary) = body.strip_prefix("0b") {
        return (!binary.is_empty()).then(|| number(&digits[2..], 2).map(Yaml::Int))?;
    }
    if let Some(hex) = body.strip_prefix("0x") {
        return (!hex.is_empty()).then(|| number(&digits[2..], 16).map(Yaml::Int))?;
    }
    if let Some((first, rest)) = digits.split_once(':') {
        if body.starts_with('0') || rest.split(':').any(|part| !sexagesimal(part)) {
            return None;
        }
        let mut value: i64 = first.parse().ok()?;
        for part in rest.split(':') {
            value = value.checked_mul(60)?.checked_add(part.parse().ok()?)?;
        }
        return Some(Yaml::Int(if minus.is_empty() { value } else { -value }));
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if digits.len() > 1 && body.starts_with('0') {
        return number(&digits, 8).map(Yaml::Int);
    }
    Some(match number(&digits, 10) {
        Some(value) => Yaml::Int(value),
        None => Yaml::BigInt(format!("{minus}{digits}")),
    })
}

/// One place of a base 60 number: `0` to `59`.
fn sexagesimal(part: &str) -> bool {
    let bytes = part.as_bytes();
    match bytes {
        [one] => one.is_ascii_digit(),
        [ten, one] => (b'0'..=b'5').contains(ten) && one.is_ascii_digit(),
        _ => false,
    }
}

fn float(text: &str) -> Option<Yaml> {
    let (minus, body) = sign(text);
    let special = match body {
        ".inf" | ".Inf" | ".INF" => Some(f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" if text == body => Some(f64::NAN),
        _ => None,
    };
    if let Some(value) = special {
        return Some(Yaml::Float(if minus.is_empty() { value } else { -value }));
    }
    // A point is needed, and an exponent needs its sign: `1e3` is text.
    let (mantissa, exponent) = match body.find(['e', 'E']) {
        Some(at) => (&body[..at], Some(&body[at + 1..])),
        None => (body, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    if !digits(whole) || !digits(fraction) || whole.is_empty() && fraction.is_empty() {
        return None;
    }
    if whole.starts_with('_') || whole.is_empty() && (!minus.is_empty() || text.starts_with('+')) {
        return None;
    }
    if let Some(exponent) = exponent {
        let power = exponent.strip_prefix(['-', '+'])?;
        if power.is_empty() || !power.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
    }
    text.replace('_', "").parse().ok().map(Yaml::Float)
}

/// `2024-01-01`, or that with a time behind it.
fn is_date(text: &str) -> bool {
    let day: Vec<&str> = text.split(['T', 't', ' ']).next().unwrap_or("").split('-').collect();
    matches!(day.as_slice(), [year, month, day]
        if year.len() == 4 && (1..=2).contains(&month.len()) && (1..=2).contains(&day.len())
            && [year, month, day].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_scalars_as_yaml_1_1() {
        let cases = [
            ("yes", Yaml::Bool(true)),
            ("yEs", Yaml::Str("yEs".into())),
            ("y", Yaml::Str("y".into())),
            ("017", Yaml::Int(15)),
            ("0x1F", Yaml::Int(31)),
            ("1:30", Yaml::Int(90)),
            ("1_000", Yaml::Int(1000)),
            ("1e3", Yaml::Str("1e3".into())),
            ("1.0e+3", Yaml::Float(1000.0)),
            (".5", Yaml::Float(0.5)),
            ("-.inf", Yaml::Float(f64::NEG_INFINITY)),
            ("2024-01-01", Yaml::Other("a date")),
            ("12345678901234567890", Yaml::BigInt("12345678901234567890".into())),
            ("", Yaml::Null),
            ("0o7", Yaml::Str("0o7".into())),
        ];
        for (text, value) in cases {
            assert_eq!(resolve(text), value, "{text}");
        }
    }

    #[test]
    fn passes_comments_over() {
        let node = load("# a\na: # b\n  # c\n  - 1 # d\n# e\n").unwrap();
        let Yaml::Map(pairs) = node.value else { panic!("{node:?}") };
        assert!(matches!(&pairs[0].1.value, Yaml::List(items) if items.len() == 1));
    }

    #[test]
    fn refuses_alias_bombs() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..8 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert!(load(&text).unwrap_err().problem.contains("too large"));
    }
}
