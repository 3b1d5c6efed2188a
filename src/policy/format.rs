//! Patterns: texts in which `%(key)s` stands for a value of the target.
//!
//! The notation is that of Python's `%` operator. Keys are taken as they are: `%(a.b)s` asks the
//! target for a key `a.b`, and not for `b` in `a`. Of Python's conversions there is `s` alone; a rule
//! with another one is refused when it is read, and allows nothing.

use std::{borrow::Cow, fmt};

use serde_json::Value;

use super::{Target, check::CheckError};
use crate::dataframe::python_str;

/// The text behind the `:` of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Key(String),
    /// What cannot be filled in, to the end of the text.
    Bad(String),
}

impl Pattern {
    /// Reads a pattern. What is wrong in it is kept, for [`Pattern::problem`].
    pub fn read(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('%') {
            plain.push_str(before);
            if let Some(behind) = behind.strip_prefix('%') {
                plain.push('%');
                rest = behind;
                continue;
            }
            let (key, end) = match key(behind) {
                Some((key, end)) => (Some(key.to_owned()), end),
                None => (None, behind),
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            match (key, end.strip_prefix('s')) {
                (Some(key), Some(behind)) => {
                    parts.push(Part::Key(key));
                    rest = behind;
                }
                _ => {
                    parts.push(Part::Bad(format!("%{behind}")));
                    return Self { text: text.to_owned(), parts };
                }
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Self { text: text.to_owned(), parts }
    }

    /// From where on the pattern cannot be read.
    pub fn problem(&self) -> Option<&str> {
        match self.parts.last() {
            Some(Part::Bad(conversion)) => Some(conversion),
            _ => None,
        }
    }

    /// The text with the target's values in it; `None` if the target lacks a key.
    ///
    /// # Errors
    /// A pattern that cannot be read.
    pub fn fill(&self, target: &Target) -> Result<Option<Cow<'_, str>>, CheckError> {
        match &self.parts[..] {
            [Part::Text(text)] => return Ok(Some(text.into())),
            [.., Part::Bad(conversion)] => return Err(CheckError::Conversion(conversion.clone())),
            _ => {}
        }
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Key(key) => match target.get(key) {
                    Some(Value::String(text)) => filled.push_str(text),
                    Some(value) => filled.push_str(&python_str(value)),
                    None => return Ok(None),
                },
                // It would have been the last one.
                Part::Bad(_) => {}
            }
        }
        Ok(Some(filled.into()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The key at the start of a conversion, and what stands behind its parenthesis.
/// Parentheses within the key must be in pairs.
fn key(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('(')?;
    let mut open = 1;
    for (at, c) in inner.char_indices() {
        match c {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some((&inner[..at], &inner[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fill(text: &str) -> Result<Option<String>, CheckError> {
        let target = json!({"a": "x", "n": 1, "f": 1e16, "none": null, "b.c": true, "l": ["é'"],
            "k(1)": "k", "": "empty"});
        let target = target.as_object().cloned().unwrap();
        Pattern::read(text).fill(&target).map(|text| text.map(Cow::into_owned))
    }

    #[test]
    fn fills_in_as_python_does() {
        let cases = [
            ("", ""),
            ("plain", "plain"),
            ("%(a)s", "x"),
            ("<%(a)s-%(n)s>", "<x-1>"),
            ("%(f)s %(none)s %(b.c)s", "1e+16 None True"),
            ("%(l)s", "[\"é'\"]"),
            ("100%%%(a)s", "100%x"),
            ("%%(a)s", "%(a)s"),
            ("%(k(1))s%()s", "kempty"),
        ];
        for (text, filled) in cases {
            assert_eq!(fill(text), Ok(Some(filled.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_missing_key_is_no_error() {
        for text in ["%(z)s", "%(a.b)s", "%(A)s", "%(a)s%(z)s"] {
            assert_eq!(fill(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn refuses_other_conversions() {
        for text in [
            "%", "100%", "%s", "%d", "%(a", "%(a)", "%(a)d", "%(a)5s", "%(a)%", "%z", "%(z)s%",
            "%(z)d",
        ] {
            assert!(Pattern::read(text).problem().is_some(), "{text}");
            assert!(fill(text).is_err(), "{text}");
        }
    }
}
