//! Parameters of a request.

use super::go;

/// The pairs of a query string or of a form.
pub fn decoded(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (part(name), part(value))
        })
        .collect()
}

/// One part of a path, a query string or a form.
pub fn part(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// An instant in nanoseconds: up to ten digits are seconds, more are
/// nanoseconds, a point makes seconds of it, and RFC 3339 goes as well.
pub fn instant(text: &str) -> Result<i64, String> {
    if text.contains('.')
        && let Ok(seconds) = text.parse::<f64>()
    {
        let nanos = (seconds.fract() * 1000.0).round() / 1000.0 * 1e9;
        return Ok(seconds.trunc() as i64 * 1_000_000_000 + nanos as i64);
    }
    match text.parse::<i64>() {
        Ok(seconds) if text.len() <= 10 => Ok(seconds * 1_000_000_000),
        Ok(nanos) => Ok(nanos),
        Err(_) => chrono::DateTime::parse_from_rfc3339(text)
            .ok()
            .and_then(|time| time.timestamp_nanos_opt())
            .ok_or_else(|| {
                format!(
                    "parsing time {text:?} as \"2006-01-02T15:04:05.999999999Z07:00\": cannot \
                     parse {text:?} as \"2006\""
                )
            }),
    }
}

/// A step in nanoseconds: seconds or a duration.
pub fn step(text: &str) -> Result<i64, String> {
    match (text.parse::<f64>(), go::parse_model_duration(text)) {
        (Ok(seconds), _) => Ok((seconds * 1e9) as i64),
        (_, Some(nanos)) => Ok(nanos),
        _ => Err(format!("cannot parse {text:?} to a valid duration")),
    }
}
