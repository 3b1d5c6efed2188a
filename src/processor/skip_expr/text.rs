//! Methods of text, lists and tuples.

use super::{
    node::Method,
    value::{EvalError, Evaluated, Value, raise},
};

/// Whether Python finds a character to be a space.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Calls a method; dictionaries have theirs elsewhere.
pub(super) fn call<'a>(of: &Value<'a>, method: Method, arguments: &[Value<'a>]) -> Evaluated<'a> {
    match of {
        Value::Text(text) => of_text(text, method, arguments),
        Value::List(items) | Value::Tuple(items) => match (method, arguments) {
            (Method::Count, [wanted]) => {
                Ok(Value::count(items.iter().filter(|item| item.equals(wanted)).count()))
            }
            (Method::Index, [wanted]) => match items.iter().position(|item| item.equals(wanted)) {
                Some(at) => Ok(Value::count(at)),
                None => raise("what is looked for is not there"),
            },
            _ => no_method(of),
        },
        of => no_method(of),
    }
}

/// Raises.
pub(super) fn no_method<T>(of: &Value<'_>) -> Result<T, EvalError> {
    raise(format!("{} has no such method", of.kind()))
}

/// The text of an argument.
fn text<'v>(argument: &'v Value<'_>) -> Result<&'v str, EvalError> {
    match argument {
        Value::Text(text) => Ok(text),
        other => raise(format!("a str is wanted, not {}", other.kind())),
    }
}

/// The whole number of an argument.
fn whole(argument: &Value<'_>) -> Result<i128, EvalError> {
    match argument.index() {
        Some(number) => Ok(number),
        None => raise(format!("an int is wanted, not {}", argument.kind())),
    }
}

fn of_text<'a>(of: &str, method: Method, arguments: &[Value<'a>]) -> Evaluated<'a> {
    let owned = |text: &str| Ok(Value::text(text.to_owned()));
    match (method, arguments) {
        (Method::StartsWith | Method::EndsWith, [parts, bounds @ ..]) => {
            let at_start = method == Method::StartsWith;
            Ok(Value::Bool(begins_or_ends(part(of, bounds)?, parts, at_start)?))
        }
        (Method::Lower, []) => Ok(Value::text(of.to_lowercase())),
        (Method::Upper, []) => Ok(Value::text(of.to_uppercase())),
        (Method::Strip | Method::LStrip | Method::RStrip, arguments) => {
            let chars = match arguments {
                [] | [Value::None] => None,
                [chars, ..] => Some(text(chars)?),
            };
            let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
            owned(match method {
                Method::LStrip => of.trim_start_matches(goes),
                Method::RStrip => of.trim_end_matches(goes),
                _ => of.trim_matches(goes),
            })
        }
        (Method::RemovePrefix, [prefix]) => owned(of.strip_prefix(text(prefix)?).unwrap_or(of)),
        (Method::RemoveSuffix, [suffix]) => owned(of.strip_suffix(text(suffix)?).unwrap_or(of)),
        (Method::Replace, [old, new, most @ ..]) => {
            let (old, new) = (text(old)?, text(new)?);
            let most = most.first().map(whole).transpose()?.map(usize::try_from);
            Ok(Value::text(match most {
                Some(Ok(most)) => of.replacen(old, new, most),
                // As often as it is there.
                Some(Err(_)) | None => of.replace(old, new),
            }))
        }
        (Method::Find | Method::Index, [wanted]) => match of.find(text(wanted)?) {
            Some(at) => Ok(Value::count(of[..at].chars().count())),
            None if method == Method::Find => Ok(Value::Int(-1)),
            None => raise("what is looked for is not there"),
        },
        (Method::Count, [wanted]) => Ok(Value::count(of.matches(text(wanted)?).count())),
        (Method::Split, arguments) => split(of, arguments),
        _ => raise("str has no such method"),
    }
}

/// Whether a text begins, or ends, with one text or one of several; that which
/// is not there does with none.
fn begins_or_ends(of: Option<&str>, parts: &Value<'_>, at_start: bool) -> Result<bool, EvalError> {
    let fits = |part: &str| {
        of.is_some_and(|of| if at_start { of.starts_with(part) } else { of.ends_with(part) })
    };
    match parts {
        Value::Tuple(parts) => {
            for one in parts {
                if fits(text(one)?) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        part => text(part).map(fits),
    }
}

/// What lies between two places, counted in characters; `None` if the first is
/// behind the second.
fn part<'t>(of: &'t str, bounds: &[Value<'_>]) -> Result<Option<&'t str>, EvalError> {
    if bounds.is_empty() {
        return Ok(Some(of));
    }
    let length = of.chars().count() as i128;
    let place = |at: usize, default: i128| match bounds.get(at) {
        None | Some(Value::None) => Ok(default),
        Some(bound) => whole(bound).map(|at| match at < 0 {
            true => at.saturating_add(length).max(0),
            false => at,
        }),
    };
    let (start, end) = (place(0, 0)?, place(1, length)?.min(length));
    let byte = |at: i128| {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        of.char_indices().nth(at).map_or(of.len(), |(byte, _)| byte)
    };
    Ok((start <= end).then(|| &of[byte(start)..byte(end)]))
}

fn split<'a>(of: &str, arguments: &[Value<'_>]) -> Evaluated<'a> {
    let most = arguments.get(1).map(whole).transpose()?.map(usize::try_from);
    // None for all of them.
    let most = most.and_then(Result::ok);
    let texts = |parts: Vec<&str>| {
        Ok(Value::List(parts.into_iter().map(|part| Value::text(part.to_owned())).collect()))
    };
    match arguments.first() {
        None | Some(Value::None) => {
            let (mut parts, mut rest) = (Vec::new(), of.trim_start_matches(is_space));
            while !rest.is_empty() {
                let end = match most {
                    Some(most) if parts.len() == most => None,
                    _ => rest.find(is_space),
                };
                let (part, others) = rest.split_at(end.unwrap_or(rest.len()));
                parts.push(part);
                rest = others.trim_start_matches(is_space);
            }
            texts(parts)
        }
        Some(separator) => match (text(separator)?, most) {
            ("", _) => raise("an empty separator"),
            (separator, None) => texts(of.split(separator).collect()),
            (separator, Some(most)) => {
                texts(of.splitn(most.saturating_add(1), separator).collect())
            }
        },
    }
}
