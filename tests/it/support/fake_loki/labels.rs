//! Label sets: their text, and the text of a push.

use std::sync::Arc;

use super::go::{quote, unquote};

/// Pairs of a name and a value, sorted by name.
pub type Labels = Vec<(Arc<str>, Arc<str>)>;

/// Added to the name of an extracted label that the stream has as well.
pub const DUPLICATE: &str = "_extracted";

/// The value of a label.
pub fn get<'a>(labels: &'a Labels, name: &str) -> Option<&'a str> {
    labels.iter().find(|(n, _)| &**n == name).map(|(_, value)| &**value)
}

/// `{a="1", b="2"}`.
pub fn text<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> =
        labels.into_iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// [`text`] of a whole set.
pub fn set_text(labels: &Labels) -> String {
    text(labels.iter().map(|(name, value)| (&**name, &**value)))
}

/// Label set as JSON.
pub fn json<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let string = |text: &str| serde_json::Value::from(text).to_string();
    let pairs: Vec<String> = labels
        .into_iter()
        .map(|(name, value)| format!("{}:{}", string(name), string(value)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// A label name with every other character replaced: what a JSON key becomes.
/// `None` when nothing is left of it.
pub fn sanitized(key: &str, first: bool) -> Option<String> {
    let key = key.trim();
    let digit = first && key.starts_with(|c: char| c.is_ascii_digit());
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    (!key.is_empty())
        .then(|| digit.then_some('_').into_iter().chain(key.chars().map(word)).collect())
}

/// The name that a key of structured metadata is stored under.
pub fn normalised(key: &str) -> String {
    let name: String = key.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("key_{name}");
    }
    if name.starts_with('_') && !name.starts_with("__") {
        return format!("key{name}");
    }
    name
}

/// The labels that the selector text of a push names, sorted; empty values are
/// no labels.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let chars: Vec<char> = text.chars().collect();
    let mut labels = Vec::new();
    let mut at = 0;
    let fail = |at: usize, why: String| Err(format!("1:{}: parse error: {why}", at + 1));
    let skip = |at: &mut usize| {
        while chars.get(*at).is_some_and(|c| c.is_whitespace()) {
            *at += 1;
        }
    };
    skip(&mut at);
    if chars.get(at) != Some(&'{') {
        let why = chars.get(at).map_or("end of input".to_owned(), |c| quote(&c.to_string()));
        return fail(at, format!("unexpected {why}"));
    }
    at += 1;
    loop {
        skip(&mut at);
        if chars.get(at) == Some(&'}') && labels.is_empty() {
            break;
        }
        let begin = at;
        while chars.get(at).is_some_and(|c| c.is_ascii_alphanumeric() || *c == '_') {
            at += 1;
        }
        let name: String = chars[begin..at].iter().collect();
        skip(&mut at);
        match chars.get(at) {
            None => return fail(at, "unexpected end of input inside braces".to_owned()),
            Some('=') if !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) => {}
            Some(c) => return fail(at, format!("unexpected character inside braces: '{c}'")),
        }
        at += 1;
        skip(&mut at);
        let begin = at;
        let Some(&mark) = chars.get(at).filter(|c| matches!(c, '"' | '\'' | '`')) else {
            return fail(at, "unexpected character inside braces".to_owned());
        };
        at += 1;
        while chars.get(at).is_some_and(|c| *c != mark) {
            at += if chars[at] == '\\' && mark != '`' { 2 } else { 1 };
        }
        if at >= chars.len() {
            return fail(begin, "unterminated quoted string".to_owned());
        }
        at += 1;
        let literal: String = chars[begin..at].iter().collect();
        match unquote(&literal) {
            Some(value) => labels.push((name, value)),
            None => {
                return fail(begin, format!("error unquoting string {literal}: invalid syntax"));
            }
        }
        skip(&mut at);
        match chars.get(at) {
            Some(',') => at += 1,
            Some('}') => break,
            Some(c) => return fail(at, format!("unexpected character inside braces: '{c}'")),
            None => return fail(at, "unexpected end of input inside braces".to_owned()),
        }
    }
    at += 1;
    skip(&mut at);
    if at < chars.len() {
        return fail(at, format!("unexpected {}", quote(&chars[at].to_string())));
    }
    labels.retain(|(_, value)| !value.is_empty());
    labels.sort();
    Ok(labels)
}
