//! JSON as Loki's parser reads it: key by key, and content with anything after.

use std::borrow::Cow;

/// What a JSON text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Number,
    Boolean,
    Null,
    Object,
    Array,
}

/// Why reading ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The text is broken.
    Malformed(&'static str),
    /// All that was wanted is found.
    Found,
    /// A label filter cannot hold any more.
    NoMatch,
}

pub const STRING: Stop = Stop::Malformed("Value is string, but can't find closing '\"' symbol");
pub const ARRAY: Stop = Stop::Malformed("Value is array, but can't find closing ']' symbol");
pub const OBJECT: Stop =
    Stop::Malformed("Value looks like object, but can't find closing '}' symbol");
pub const NUMBER: Stop = Stop::Malformed(
    "Value looks like Number/Boolean/None, but can't find its end: ',' or '}' symbol",
);
const JSON: Stop = Stop::Malformed("Malformed JSON error");
const UNKNOWN: Stop = Stop::Malformed("Unknown value type");

/// Position of the next character that is no white space.
fn token(text: &str, from: usize) -> Option<usize> {
    let rest = text.as_bytes().get(from..)?;
    rest.iter().position(|b| !matches!(b, b' ' | b'\n' | b'\r' | b'\t')).map(|at| from + at)
}

/// Position after the closing quote of a string whose content begins at `from`.
fn string_end(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// Position after the block that begins at `from`.
fn block_end(text: &str, from: usize, open: u8, close: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut level) = (from, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = string_end(text, at + 1)?;
                continue;
            }
            b if b == open => level += 1,
            b if b == close => {
                level -= 1;
                if level == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// The value at or after `from`: its text (of a string without the quotes),
/// kind and end.
pub fn value(text: &str, from: usize) -> Result<(&str, Kind, usize), Stop> {
    let at = token(text, from).ok_or(JSON)?;
    let bytes = text.as_bytes();
    match bytes[at] {
        b'"' => {
            let end = string_end(text, at + 1).ok_or(STRING)?;
            Ok((&text[at + 1..end - 1], Kind::String, end))
        }
        b'[' => {
            let end = block_end(text, at, b'[', b']').ok_or(ARRAY)?;
            Ok((&text[at..end], Kind::Array, end))
        }
        b'{' => {
            let end = block_end(text, at, b'{', b'}').ok_or(OBJECT)?;
            Ok((&text[at..end], Kind::Object, end))
        }
        _ => {
            let length = bytes[at..]
                .iter()
                .position(|b| matches!(b, b' ' | b'\n' | b'\r' | b'\t' | b',' | b'}' | b']'))
                .unwrap_or(bytes.len() - at);
            let word = text.get(at..at + length).ok_or(UNKNOWN)?;
            let kind = match word {
                "true" | "false" => Kind::Boolean,
                "null" => Kind::Null,
                w if w.starts_with(|c: char| c.is_ascii_digit() || c == '-') => Kind::Number,
                _ => return Err(UNKNOWN),
            };
            Ok((word, kind, at + length))
        }
    }
}

/// Calls `each` with key, value and kind of every member of an object.
pub fn object_each<'a>(
    text: &'a str,
    each: &mut dyn FnMut(Cow<'a, str>, &'a str, Kind) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let bytes = text.as_bytes();
    let mut at = token(text, 0).filter(|at| bytes[*at] == b'{').ok_or(OBJECT)? + 1;
    at = token(text, at).ok_or(JSON)?;
    loop {
        match bytes[at] {
            b'}' => return Ok(()),
            b'"' => {}
            _ => return Err(OBJECT),
        }
        let end = string_end(text, at + 1).ok_or(JSON)?;
        let key = unescaped(&text[at + 1..end - 1]);
        at = token(text, end).filter(|at| bytes[*at] == b':').ok_or(JSON)? + 1;
        let (value, kind, end) = value(text, at)?;
        each(key, value, kind)?;
        at = token(text, end).ok_or(ARRAY)?;
        match bytes[at] {
            b'}' => return Ok(()),
            b',' => at = token(text, at + 1).ok_or(ARRAY)?,
            _ => return Err(OBJECT),
        }
    }
}

/// Calls `each` with every element of an array.
pub fn array_each<'a>(
    text: &'a str,
    each: &mut dyn FnMut(&'a str, Kind) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let bytes = text.as_bytes();
    let mut at = token(text, 0).filter(|at| bytes[*at] == b'[').ok_or(ARRAY)? + 1;
    at = token(text, at).ok_or(ARRAY)?;
    if bytes[at] == b']' {
        return Ok(());
    }
    loop {
        let (element, kind, end) = value(text, at)?;
        each(element, kind)?;
        at = token(text, end).ok_or(ARRAY)?;
        match bytes[at] {
            b']' => return Ok(()),
            b',' => at += 1,
            _ => return Err(ARRAY),
        }
    }
}

/// A string with its escapes resolved; empty when one is invalid.
pub fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(serde_json::from_str(&format!("\"{text}\"")).unwrap_or_default())
}

/// Finds the values at several paths; an element `[n]` is an index. What is
/// found first stays.
pub fn each_path<'a>(
    text: &'a str,
    paths: &[Vec<String>],
    each: &mut dyn FnMut(usize, &'a str, Kind),
) {
    let active: Vec<usize> = (0..paths.len()).collect();
    let mut open = paths.len();
    // What is broken ends the search: what was found by then counts.
    let _ = descend(text, paths, &active, 0, &mut open, each);
}

fn descend<'a>(
    text: &'a str,
    paths: &[Vec<String>],
    active: &[usize],
    level: usize,
    open: &mut usize,
    each: &mut dyn FnMut(usize, &'a str, Kind),
) -> Result<(), Stop> {
    let mut done = vec![false; active.len()];
    let mut visit = |key: &str, value: &'a str, kind: Kind| {
        let mut deeper = Vec::new();
        for (slot, &path) in active.iter().enumerate() {
            if done[slot] || paths[path].get(level).is_none_or(|part| part != key) {
                continue;
            }
            if paths[path].len() == level + 1 {
                done[slot] = true;
                *open -= 1;
                each(path, value, kind);
            } else {
                deeper.push(path);
            }
        }
        if !deeper.is_empty() && matches!(kind, Kind::Object | Kind::Array) {
            descend(value, paths, &deeper, level + 1, open, each)?;
        }
        if *open == 0 { Err(Stop::Found) } else { Ok(()) }
    };
    if text.trim_start().starts_with('[') {
        let mut index = 0;
        return array_each(text, &mut |value, kind| {
            index += 1;
            visit(&format!("[{}]", index - 1), value, kind)
        });
    }
    object_each(text, &mut |key, value, kind| visit(&key, value, kind))
}
