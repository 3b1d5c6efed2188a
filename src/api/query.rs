//! Query arguments of v2: decoded, checked and told wrong as the reference does.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use super::{dates, error::ApiError};
use crate::text::{python_repr, without_digit_separators};

/// Digits up to which Python reads a number.
const MAX_DIGITS: usize = 4300;

/// Most values of a list: each is a parameter of the database's query.
const MAX_VALUES: usize = 1000;

/// What an argument may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One date.
    Date,
    /// One whole number of at least this.
    Int(i64),
    /// Any text, once.
    Text,
    /// Texts, separated by commas or given repeatedly.
    List,
    /// Whole numbers, likewise.
    IntList,
    /// `key:value` pairs, likewise; a key may have several values.
    Filters,
    /// `key:value` pairs, likewise, each key once.
    UniqueFilters,
}

/// An argument that an endpoint takes.
pub(super) type Spec = (&'static str, Kind);

/// The arguments of a query as they come, decoded.
pub(super) fn pairs(query: Option<&str>) -> impl Iterator<Item = (String, String)> {
    let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
    parts.map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(value))
    })
}

/// The arguments of a request, which are those that the endpoint takes and
/// have the right form.
#[derive(Debug, Default)]
pub(super) struct Args {
    /// Arguments by name, in order of first appearance, with all their texts.
    given: Vec<(String, Vec<String>)>,
}

impl Args {
    /// Decodes and checks a query string.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of the arguments.
    pub fn parse(query: Option<&str>, specs: &[Spec]) -> Result<Self, ApiError> {
        let mut given: Vec<(String, Vec<String>)> = Vec::new();
        for (name, value) in pairs(query) {
            match given.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => given.push((name, vec![value])),
            }
        }
        let args = Self { given };
        for (name, values) in &args.given {
            let spec = specs.iter().find(|(known, _)| known == name);
            if let Err(problem) = check(spec.map(|(_, kind)| *kind), values) {
                return Err(args.invalid(name, &problem));
            }
        }
        Ok(args)
    }

    /// The error that tells what is wrong with an argument.
    pub fn invalid(&self, name: &str, problem: &str) -> ApiError {
        let list = |values: &[String]| {
            let values: Vec<_> = values.iter().map(|value| python_repr(value)).collect();
            format!("[{}]", values.join(", "))
        };
        let args: Vec<_> = self
            .given
            .iter()
            .map(|(name, values)| format!("{}: {}", python_repr(name), list(values)))
            .collect();
        ApiError::BadRequest(format!(
            "Invalid data '{{{}}}' : {problem} (path: '[{}]')",
            args.join(", "),
            python_repr(name)
        ))
    }

    fn values(&self, name: &str) -> &[String] {
        self.given.iter().find(|(known, _)| known == name).map_or(&[], |(_, values)| values)
    }

    /// A text given once.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values(name).first().map(String::as_str)
    }

    /// A date.
    pub fn date(&self, name: &str) -> Option<DateTime<Utc>> {
        self.text(name).and_then(dates::parse)
    }

    /// A number; what is beyond 64 bits counts as the largest.
    pub fn number(&self, name: &str) -> Option<u64> {
        let number = self.text(name).and_then(python_int)?;
        Some(u64::try_from(number).unwrap_or(0))
    }

    /// Texts of a list.
    pub fn list(&self, name: &str) -> Vec<String> {
        let values = self.values(name).iter();
        values.flat_map(|value| value.split(',')).map(str::to_owned).collect()
    }

    /// Numbers of a list.
    pub fn int_list(&self, name: &str) -> Vec<i64> {
        self.list(name).iter().filter_map(|text| python_int(text)).collect()
    }

    /// `key:value` pairs, by key in order of first appearance.
    pub fn filters(&self, name: &str) -> Vec<(String, Vec<String>)> {
        let mut filters: Vec<(String, Vec<String>)> = Vec::new();
        for token in self.list(name) {
            let Some((key, value)) = token.split_once(':') else { continue };
            match filters.iter_mut().find(|(known, _)| known == key) {
                Some((_, values)) => values.push(value.to_owned()),
                None => filters.push((key.to_owned(), vec![value.to_owned()])),
            }
        }
        filters
    }
}

/// What is wrong with the texts of an argument, in the reference's words.
fn check(kind: Option<Kind>, values: &[String]) -> Result<(), String> {
    let Some(kind) = kind else { return Err("extra keys not allowed".to_owned()) };
    let tokens = || values.iter().flat_map(|value| value.split(','));
    let int = |text: &str| python_int(text).ok_or_else(|| "expected int".to_owned());
    let single = || match values {
        [value] => Ok(value.as_str()),
        _ => Err("length of value must be 1".to_owned()),
    };
    if tokens().count() > MAX_VALUES {
        return Err(format!("length of value must be at most {MAX_VALUES}"));
    }
    match kind {
        Kind::Date => match dates::parse(single()?) {
            Some(_) => Ok(()),
            None => Err("expected dt_from_iso".to_owned()),
        },
        Kind::Int(least) => match int(single()?)? {
            number if number >= least => Ok(()),
            _ => Err(format!("value must be at least {least}")),
        },
        Kind::Text => single().map(drop),
        Kind::List => Ok(()),
        Kind::IntList => tokens().try_for_each(|token| int(token).map(drop)),
        Kind::Filters | Kind::UniqueFilters => {
            let mut keys = Vec::new();
            for token in tokens() {
                let mut parts = token.split(':');
                let (Some(key), Some(_), None) = (parts.next(), parts.next(), parts.next()) else {
                    return Err(format!("invalid key:value association {token}"));
                };
                if kind == Kind::UniqueFilters && keys.contains(&key) {
                    return Err(format!("key {key} already provided"));
                }
                keys.push(key);
            }
            Ok(())
        }
    }
}

/// A whole number as Python's `int()` reads it; beyond 64 bits the outermost one.
fn python_int(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let digits: Cow<'_, str> = without_digit_separators(digits)?;
    let fine = !digits.is_empty()
        && digits.len() <= MAX_DIGITS
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !fine {
        return None;
    }
    let number = digits.parse::<i64>().unwrap_or(i64::MAX);
    Some(if negative { -number } else { number })
}

/// Decodes `%41` and `+`. A sequence that is no UTF-8 stays as it was typed.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    // Where each byte came from, to put back what is no UTF-8.
    let mut rest = text.as_bytes();
    let mut escaped = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = hex.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match (first, code.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                escaped.push(true);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                escaped.push(false);
                rest = after;
            }
            _ => {
                bytes.push(*first);
                escaped.push(false);
                rest = after;
            }
        }
    }
    let mut result = String::with_capacity(bytes.len());
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        result.push_str(chunk.valid());
        at += chunk.valid().len();
        for byte in chunk.invalid() {
            if escaped.get(at).copied().unwrap_or(false) {
                result.push_str(&format!("%{byte:02X}"));
            } else {
                result.push(char::REPLACEMENT_CHARACTER);
            }
            at += 1;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_as_the_reference_does() {
        let cases = [
            ("a%20b+c", "a b c"),
            ("%C3%A9", "é"),
            ("%FF%C3", "%FF%C3"),
            ("%zz%4", "%zz%4"),
            ("%ED%A0%80", "%ED%A0%80"),
            ("%00", "\u{0}"),
        ];
        for (text, decoded) in cases {
            assert_eq!(decode(text), decoded);
        }
    }

    #[test]
    fn reads_numbers_as_python_does() {
        let cases = [
            ("1", Some(1)),
            (" 1 ", Some(1)),
            ("+1", Some(1)),
            ("1_0", Some(10)),
            ("007", Some(7)),
            ("", None),
            ("1.0", None),
            ("1e1", None),
            ("0x1", None),
            ("1,2", None),
            ("_1", None),
            ("-5", Some(-5)),
            ("99999999999999999999", Some(i64::MAX)),
        ];
        for (text, number) in cases {
            assert_eq!(python_int(text), number, "{text}");
        }
        assert_eq!(python_int(&"1".repeat(4301)), None);
    }
}
