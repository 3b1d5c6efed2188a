//! Words of LogQL.

use super::{go, logql::ParseError};

/// A word.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Ident(String),
    Str(String),
    Number(String),
    /// A duration outside brackets, in nanoseconds.
    Duration(i64),
    /// A duration in brackets, in nanoseconds.
    Range(i64),
    Mark(&'static str),
    End,
}

impl Token {
    /// As error texts call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Ident(text) if KEYWORDS.contains(&&**text) => text,
            Self::Ident(_) => "IDENTIFIER",
            Self::Str(_) => "STRING",
            Self::Number(_) => "NUMBER",
            Self::Duration(_) => "DURATION",
            Self::Range(_) => "RANGE",
            Self::Mark(mark) => mark,
            Self::End => "$end",
        }
    }
}

const KEYWORDS: [&str; 20] = [
    "by",
    "without",
    "and",
    "or",
    "unwrap",
    "json",
    "drop",
    "keep",
    "offset",
    "sum",
    "avg",
    "max",
    "min",
    "count",
    "topk",
    "bottomk",
    "count_over_time",
    "sum_over_time",
    "bytes_over_time",
    "logfmt",
];

/// Longest first.
const MARKS: [&str; 26] = [
    "|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<=", "{", "}", "(", ")", ",", "|", "=",
    ">", "<", "+", "-", "*", "/", "%", "^", ".",
];

/// The words of a text, each with its line and column; [`Token::End`] is last.
pub fn tokens(text: &str) -> Result<Vec<(Token, usize, usize)>, ParseError> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line, mut line_start) = (0, 1, 0);
    while at < chars.len() {
        let c = chars[at];
        let column = at - line_start + 1;
        if c == '\n' {
            (line, line_start) = (line + 1, at + 1);
        }
        if c.is_whitespace() {
            at += 1;
            continue;
        }
        if c == '#' {
            while chars.get(at).is_some_and(|c| *c != '\n') {
                at += 1;
            }
            continue;
        }
        let fail = |message: String| Err(ParseError { message, line, column });
        let begin = at;
        let taken = |from: usize, to: usize| chars[from..to].iter().collect::<String>();
        let token = match c {
            '"' | '`' => {
                at += 1;
                while chars.get(at).is_some_and(|next| *next != c && (c == '`' || *next != '\n')) {
                    at += if chars[at] == '\\' && c == '"' { 2 } else { 1 };
                }
                if chars.get(at) != Some(&c) {
                    return fail("literal not terminated".to_owned());
                }
                at += 1;
                match go::unquote(&taken(begin, at)) {
                    Some(text) => Token::Str(text),
                    None => return fail("invalid syntax".to_owned()),
                }
            }
            '[' => {
                let Some(length) = chars[at..].iter().position(|c| *c == ']') else {
                    return fail("missing closing ']' in duration".to_owned());
                };
                at += length + 1;
                let inner = taken(begin + 1, at - 1);
                match go::parse_model_duration(&inner) {
                    Some(nanos) => Token::Range(nanos),
                    None if inner.is_empty() => return fail("empty duration string".to_owned()),
                    None => return fail(format!("not a valid duration string: \"{inner}\"")),
                }
            }
            '0'..='9' => {
                while chars.get(at).is_some_and(|c| c.is_ascii_alphanumeric() || *c == '.') {
                    at += 1;
                }
                let word = taken(begin, at);
                match (word.parse::<f64>(), go::parse_model_duration(&word)) {
                    (Ok(_), _) => Token::Number(word),
                    (_, Some(nanos)) => Token::Duration(nanos),
                    _ => return fail(format!("unsupported by FakeLoki: {word}")),
                }
            }
            c if c.is_alphabetic() || c == '_' => {
                while chars.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_') {
                    at += 1;
                }
                Token::Ident(taken(begin, at))
            }
            _ => {
                let starts =
                    |mark: &str| mark.chars().eq(chars[at..].iter().copied().take(mark.len()));
                match MARKS.into_iter().find(|mark| starts(mark)) {
                    Some(mark) => {
                        at += mark.len();
                        Token::Mark(mark)
                    }
                    None => return fail(format!("syntax error: unexpected {c}")),
                }
            }
        };
        found.push((token, line, column));
    }
    found.push((Token::End, line, chars.len() - line_start + 1));
    Ok(found)
}
