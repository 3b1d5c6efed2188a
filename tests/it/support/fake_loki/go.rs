//! Texts as Go prints them.

use chrono::DateTime;

/// A quoted string (`strconv.Quote`).
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            c if c < ' ' || c == '\u{7f}' => quoted.push_str(&format!("\\x{:02x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The value of a string literal with its quotes; `None` when it is none.
pub fn unquote(literal: &str) -> Option<String> {
    let quote = literal.chars().next()?;
    let inner = literal.strip_prefix(quote)?.strip_suffix(quote)?;
    if quote == '`' {
        return (!inner.contains('`')).then(|| inner.to_owned());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let escape = chars.next()?;
        let simple = match escape {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '"' | '\'' => escape as u8,
            _ => 0,
        };
        if simple != 0 {
            bytes.push(simple);
            continue;
        }
        let (digits, radix, first) = match escape {
            'x' => (2, 16, String::new()),
            'u' => (4, 16, String::new()),
            'U' => (8, 16, String::new()),
            '0'..='7' => (2, 8, escape.to_string()),
            _ => return None,
        };
        let text: String = first.chars().chain(chars.by_ref().take(digits)).collect();
        let code = u32::from_str_radix(&text, radix).ok()?;
        match escape {
            'u' | 'U' => {
                bytes.extend(char::from_u32(code)?.encode_utf8(&mut [0; 4]).bytes());
            }
            _ => bytes.push(u8::try_from(code).ok()?),
        }
    }
    String::from_utf8(bytes).ok()
}

/// A duration in nanoseconds as `time.Duration` prints it: `961h0m0s`.
pub fn duration(nanos: i64) -> String {
    let seconds = nanos as f64 / 1e9;
    let (whole, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if nanos == 0 {
        return "0s".to_owned();
    }
    if whole == 0 {
        return match nanos {
            n if n % 1_000_000 == 0 || n > 1_000_000 => format!("{}ms", n as f64 / 1e6),
            n if n > 1000 => format!("{}µs", n as f64 / 1e3),
            n => format!("{n}ns"),
        };
    }
    let (hours, minutes) = (whole / 3600, whole / 60 % 60);
    let rest = if fraction == 0 {
        format!("{}", whole % 60)
    } else {
        format!("{}", seconds - (hours * 3600 + minutes * 60) as f64)
    };
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, m) => format!("{m}m{rest}s"),
        (h, m) => format!("{h}h{m}m{rest}s"),
    }
}

/// A duration in nanoseconds as Prometheus' `model.Duration` prints it: `31d1h`.
pub fn model_duration(nanos: i64) -> String {
    let mut ms = nanos / 1_000_000;
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    // Years and weeks only where nothing remains.
    for (unit, length, exact) in [
        ("y", 31_536_000_000, true),
        ("w", 604_800_000, true),
        ("d", 86_400_000, false),
        ("h", 3_600_000, false),
        ("m", 60_000, false),
        ("s", 1000, false),
        ("ms", 1, false),
    ] {
        if ms >= length && !(exact && ms % length != 0) {
            text.push_str(&format!("{}{unit}", ms / length));
            ms %= length;
        }
    }
    text
}

/// The nanoseconds of a duration as `model.ParseDuration` reads it: `1h30m`,
/// `1w`; no unit below a millisecond.
pub fn parse_model_duration(text: &str) -> Option<i64> {
    let units: [(&str, i64); 7] = [
        ("y", 31_536_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut last = 0;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (index, (_, length)) =
            units.iter().enumerate().skip(last).find(|(_, (unit, _))| *unit == &rest[..letters])?;
        last = index + 1;
        rest = &rest[letters..];
        total = total.checked_add(number.checked_mul(*length)?)?;
    }
    (!text.is_empty()).then(|| total.checked_mul(1_000_000)).flatten()
}

/// An instant to the second, in UTC: `2026-11-01T00:00:00Z`.
pub fn rfc3339(nanos: i64) -> String {
    DateTime::from_timestamp_nanos(nanos).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// An instant as `time.Time` prints it.
pub fn time(nanos: i64) -> String {
    let seconds = DateTime::from_timestamp_nanos(nanos).format("%Y-%m-%d %H:%M:%S").to_string();
    let fraction = format!("{:09}", nanos.rem_euclid(1_000_000_000));
    match fraction.trim_end_matches('0') {
        "" => format!("{seconds} +0000 UTC"),
        fraction => format!("{seconds}.{fraction} +0000 UTC"),
    }
}

/// A sample value: the shortest text without an exponent.
pub fn float(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        v => v.to_string(),
    }
}
