//! Which of several types of answer a client likes best: the `Accept` header, as the
//! reference's library WebOb reads it (RFC 7231, section 5.3.2).

/// What a client takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Accept {
    /// Anything: there is no header, or one that is none.
    Anything,
    /// These.
    Ranges(Vec<Range>),
}

/// A range of types, and how much it is liked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Range {
    kind: String,
    subtype: String,
    /// From 0, not at all, to 1000.
    quality: u32,
    /// Whether it names parameters; no answer has any.
    has_parameters: bool,
}

impl Accept {
    /// Reads a header.
    pub fn read(header: &str) -> Self {
        let mut ranges = Vec::new();
        for item in items(header) {
            let item = item.trim_matches([' ', '\t']);
            if item.is_empty() {
                continue;
            }
            match Range::read(item) {
                Some(range) => ranges.push(range),
                None => return Self::Anything,
            }
        }
        Self::Ranges(ranges)
    }

    /// The offers that are taken, the best ones first; of equal ones in their order.
    pub fn of<'a>(&self, offers: &[&'a str]) -> Vec<&'a str> {
        let Self::Ranges(ranges) = self else { return offers.to_vec() };
        let mut liked: Vec<(u32, &str)> = offers
            .iter()
            .filter_map(|offer| Some((quality(ranges, offer)?, *offer)))
            .filter(|(quality, _)| *quality > 0)
            .collect();
        liked.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
        liked.into_iter().map(|(_, offer)| offer).collect()
    }
}

/// How much an offer is liked: by the most specific range that it is in, and of
/// equal ones the first.
fn quality(ranges: &[Range], offer: &str) -> Option<u32> {
    let (kind, subtype) = offer.split_once('/')?;
    let specific = |range: &Range| match (range.kind.as_str(), range.subtype.as_str()) {
        _ if range.has_parameters => None,
        ("*", "*") => Some(0),
        (of, "*") if of == kind => Some(1),
        (of, sub) if of == kind && sub == subtype => Some(2),
        _ => None,
    };
    let mut best: Option<(u32, u32)> = None;
    for range in ranges {
        if let Some(specific) = specific(range)
            && best.is_none_or(|(known, _)| specific > known)
        {
            best = Some((specific, range.quality));
        }
    }
    best.map(|(_, quality)| quality)
}

/// Parts between commas that are in no quotes.
fn items(header: &str) -> Vec<&str> {
    split(header, ',')
}

fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut begin, mut is_quoted, mut is_escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            c if c == separator && !is_quoted => {
                parts.push(&text[begin..at]);
                begin = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

fn is_token(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_fine)
}

fn is_quoted(text: &str) -> bool {
    text.len() >= 2 && text.starts_with('"') && text.ends_with('"')
}

impl Range {
    fn read(item: &str) -> Option<Self> {
        let mut parts = split(item, ';').into_iter();
        let (kind, subtype) = parts.next()?.trim_end_matches([' ', '\t']).split_once('/')?;
        if !is_token(kind) || !is_token(subtype) || kind == "*" && subtype != "*" {
            return None;
        }
        let mut range = Self {
            kind: kind.to_ascii_lowercase(),
            subtype: subtype.to_ascii_lowercase(),
            quality: 1000,
            has_parameters: false,
        };
        let mut is_after_weight = false;
        for part in parts {
            let part = part.trim_matches([' ', '\t']);
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (part, None),
            };
            if !is_token(name) || value.is_some_and(|value| !is_token(value) && !is_quoted(value)) {
                return None;
            }
            match value {
                _ if is_after_weight => {}
                Some(value) if name.eq_ignore_ascii_case("q") => {
                    range.quality = weight(value)?;
                    is_after_weight = true;
                }
                Some(_) => range.has_parameters = true,
                None => return None,
            }
        }
        Some(range)
    }
}

/// `0`, `0.5`, `1`, `1.000`: at most three digits.
fn weight(text: &str) -> Option<u32> {
    let (whole, digits) = match text.split_once('.') {
        Some((whole, digits)) => (whole, digits),
        None => (text, ""),
    };
    if digits.len() > 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u32 = format!("{digits:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_comes_first() {
        let offers = ["application/xml", "text/xml", "application/json"];
        let cases: [(&str, &[&str]); 8] = [
            ("application/json", &["application/json"]),
            ("application/json, */*;q=0.5", &["application/json", "application/xml", "text/xml"]),
            ("application/*", &["application/xml", "application/json"]),
            ("text/*;q=0.5, text/xml;q=0, application/json;q=0.1", &["application/json"]),
            ("application/json;charset=utf-8", &[]),
            ("q=1.5", &offers),
            ("application/json;q=1.5", &offers),
            ("Application/JSON;Q=0.3, ,", &["application/json"]),
        ];
        for (header, expected) in cases {
            assert_eq!(Accept::read(header).of(&offers), expected, "{header}");
        }
    }
}
