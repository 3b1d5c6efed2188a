//! The stages of a log query.

use std::sync::Arc;

use regex::Regex;

use super::{
    lexer::Token,
    logql::{Filter, LineTest, Matcher, Named, Stage},
    parser::{Parser, Result},
};

impl Parser {
    /// The next stage; `Err` within is the label of an unwrap.
    pub(super) fn stage_or_unwrap(
        &mut self,
        filters_only: bool,
    ) -> Result<Option<std::result::Result<Stage, Arc<str>>>> {
        if let Some(op) = self.one_of(&["|=", "!=", "|~", "!~"]) {
            return self.line(op).map(|stage| Some(Ok(stage)));
        }
        if self.is("|>") || self.is("!>") {
            return self.unsupported("pattern filters");
        }
        if !self.take("|") {
            return Ok(None);
        }
        if !filters_only {
            if self.take_word("unwrap") {
                let label = self.ident("IDENTIFIER")?;
                if self.is("(") {
                    return self.unsupported("conversions of unwrap");
                }
                return Ok(Some(Err(label)));
            }
            if self.take_word("json") {
                return self.json().map(|stage| Some(Ok(stage)));
            }
            let drop = self.word("drop");
            if drop || self.word("keep") {
                self.at += 1;
                let names = self.names()?;
                let stage = if drop { Stage::Drop(names) } else { Stage::Keep(names) };
                return Ok(Some(Ok(stage)));
            }
            for other in [
                "line_format",
                "label_format",
                "logfmt",
                "regexp",
                "pattern",
                "unpack",
                "decolorize",
                "distinct",
            ] {
                if self.word(other) {
                    return self.unsupported(other);
                }
            }
        }
        self.any().map(|filter| Some(Ok(Stage::Filter(filter))))
    }

    fn line(&mut self, op: &str) -> Result<Stage> {
        let mut tests = Vec::new();
        loop {
            let text = self.string()?;
            tests.push(if op.ends_with('~') {
                match Regex::new(&text) {
                    Ok(regex) => LineTest::Like(regex),
                    Err(_) => return self.fail(format!("error parsing regexp: `{text}`")),
                }
            } else {
                LineTest::Contains(text)
            });
            if !self.take_word("or") {
                return Ok(Stage::Line(op.starts_with('|'), tests));
            }
        }
    }

    fn json(&mut self) -> Result<Stage> {
        if !matches!(self.peek(), Token::Ident(_)) {
            return Ok(Stage::Json);
        }
        let (mut names, mut paths) = (Vec::new(), Vec::new());
        loop {
            let name = self.ident("IDENTIFIER")?;
            let text = if self.take("=") { self.string()? } else { name.to_string() };
            let Some(path) = path(&text) else {
                let why = format!("cannot parse expression [{text}]: syntax error");
                return self.fail(why);
            };
            names.push(name);
            paths.push(path);
            if !self.take(",") {
                return Ok(Stage::JsonPaths { names, paths });
            }
        }
    }

    fn names(&mut self) -> Result<Vec<Named>> {
        let mut names = Vec::new();
        loop {
            let name = self.ident("IDENTIFIER")?;
            let tested = ["=", "!=", "=~", "!~"].iter().any(|op| self.is(op));
            let test = if tested { Some(self.test()?) } else { None };
            names.push(Named { name, test });
            if !self.take(",") {
                return Ok(names);
            }
        }
    }

    fn any(&mut self) -> Result<Filter> {
        let mut left = self.all()?;
        while self.take_word("or") {
            left = Filter::Or(Box::new(left), Box::new(self.all()?));
        }
        Ok(left)
    }

    fn all(&mut self) -> Result<Filter> {
        let mut left = self.filter()?;
        while self.take_word("and") || self.take(",") {
            left = Filter::And(Box::new(left), Box::new(self.filter()?));
        }
        Ok(left)
    }

    fn filter(&mut self) -> Result<Filter> {
        if self.take("(") {
            let inner = self.any()?;
            self.expect(")", "")?;
            return Ok(inner);
        }
        let name = self.ident("")?;
        let number = |parser: &Self, by: usize| match &parser.tokens[parser.at + by].0 {
            Token::Number(text) => text.parse::<f64>().ok(),
            _ => None,
        };
        let numeric = ["==", ">=", "<=", ">", "<", "=", "!="].into_iter().find(|op| self.is(op));
        if let Some(op) = numeric {
            let negative = matches!(self.tokens[self.at + 1].0, Token::Mark("-"));
            let by = if negative { 2 } else { 1 };
            if let Some(value) = number(self, by) {
                self.at += by + 1;
                let value = if negative { -value } else { value };
                return Ok(Filter::Number(name, op, value));
            }
            if matches!(self.tokens[self.at + 1].0, Token::Duration(_)) {
                return self.unsupported("filters by duration");
            }
        }
        Ok(Filter::Text(Matcher { name, test: self.test()? }))
    }
}

/// A path into JSON: `a.b["odd key"][0]`; an index is `[n]`.
fn path(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            if let Some(quoted) = inner.strip_prefix('"') {
                let end = (0..quoted.len()).find(|at| {
                    quoted.as_bytes()[*at] == b'"'
                        && (*at == 0 || quoted.as_bytes()[at - 1] != b'\\')
                })?;
                parts.push(super::go::unquote(&format!("\"{}\"", &quoted[..end]))?);
                rest = quoted[end + 1..].strip_prefix(']')?;
            } else {
                let (index, after) = inner.split_once(']')?;
                parts.push(format!("[{}]", index.trim().parse::<usize>().ok()?));
                rest = after;
            }
            continue;
        }
        if !parts.is_empty() {
            rest = rest.strip_prefix('.')?;
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let field = &rest[..end];
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if field.is_empty() || !field.chars().all(word) || field.starts_with(char::is_numeric) {
            return None;
        }
        parts.push(field.to_owned());
        rest = &rest[end..];
    }
    (!parts.is_empty()).then_some(parts)
}
