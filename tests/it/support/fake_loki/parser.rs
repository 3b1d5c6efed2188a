//! Recursive descent over the words of LogQL.

use std::sync::Arc;

use super::{
    lexer::{Token, tokens},
    logql::{
        Expr, Grouping, LogExpr, Matcher, Metric, ParseError, Range, RangeOp, Stage, Test, Unwrap,
        VectorOp,
    },
};

/// What was read, or why it cannot be.
pub type Result<T> = std::result::Result<T, ParseError>;

/// The words that remain.
pub struct Parser {
    /// With line and column.
    pub(super) tokens: Vec<(Token, usize, usize)>,
    /// Place of the next one.
    pub(super) at: usize,
}

impl Parser {
    /// One at the start of a text.
    pub fn new(text: &str) -> Result<Self> {
        Ok(Self { tokens: tokens(text)?, at: 0 })
    }

    /// The whole text.
    pub fn query(&mut self) -> Result<Expr> {
        let expr =
            if self.is("{") { self.log().map(Expr::Log) } else { self.sum().map(Expr::Metric) }?;
        match self.peek() {
            Token::End => Ok(expr),
            _ => self.unexpected(""),
        }
    }

    /// The next word.
    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    /// The next word, taken.
    pub(super) fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    /// Whether a mark is next.
    pub(super) fn is(&self, mark: &str) -> bool {
        matches!(self.peek(), Token::Mark(m) if *m == mark)
    }

    /// Whether a name is next.
    pub(super) fn word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Ident(text) if text.eq_ignore_ascii_case(word))
    }

    /// Takes a mark if it is next.
    pub(super) fn take(&mut self, mark: &str) -> bool {
        let found = self.is(mark);
        self.at += usize::from(found);
        found
    }

    /// Takes a name if it is next.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.word(word);
        self.at += usize::from(found);
        found
    }

    /// Takes a mark that has to be next.
    pub(super) fn expect(&mut self, mark: &str, expecting: &str) -> Result<()> {
        if self.take(mark) { Ok(()) } else { self.unexpected(expecting) }
    }

    /// Takes a name that has to be next.
    pub(super) fn ident(&mut self, expecting: &str) -> Result<Arc<str>> {
        match self.peek().clone() {
            Token::Ident(text) => {
                self.at += 1;
                Ok(text.into())
            }
            _ => self.unexpected(expecting),
        }
    }

    /// Takes a text that has to be next.
    pub(super) fn string(&mut self) -> Result<String> {
        match self.peek().clone() {
            Token::Str(text) => {
                self.at += 1;
                Ok(text)
            }
            _ => self.unexpected("STRING"),
        }
    }

    /// A refusal at the next word.
    pub(super) fn fail<T>(&self, message: String) -> Result<T> {
        let (_, line, column) = self.tokens[self.at];
        Err(ParseError { message, line, column })
    }

    /// The refusal of the next word.
    pub(super) fn unexpected<T>(&self, expecting: &str) -> Result<T> {
        let name = self.peek().name();
        let expecting =
            if expecting.is_empty() { String::new() } else { format!(", expecting {expecting}") };
        self.fail(format!("syntax error: unexpected {name}{expecting}"))
    }

    /// What this double does not do fails loudly.
    pub(super) fn unsupported<T>(&self, what: &str) -> Result<T> {
        self.fail(format!("unsupported by FakeLoki: {what}"))
    }

    /// Takes the first of some marks that is next.
    pub(super) fn one_of(&mut self, marks: &[&'static str]) -> Option<&'static str> {
        let found = marks.iter().copied().find(|mark| self.is(mark))?;
        self.at += 1;
        Some(found)
    }

    fn sum(&mut self) -> Result<Metric> {
        let mut left = self.product()?;
        while let Some(op) = self.one_of(&["+", "-"]) {
            let right = Box::new(self.product()?);
            left = Metric::Binary { op, left: Box::new(left), right };
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Metric> {
        let mut left = self.operand()?;
        while let Some(op) = self.one_of(&["*", "/"]) {
            let right = Box::new(self.operand()?);
            left = Metric::Binary { op, left: Box::new(left), right };
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Metric> {
        if self.take("(") {
            let inner = self.sum()?;
            self.expect(")", "")?;
            return Ok(inner);
        }
        if let Token::Number(text) = self.peek().clone() {
            self.at += 1;
            return Ok(Metric::Literal(text.parse().unwrap_or(f64::NAN)));
        }
        let Token::Ident(name) = self.peek().clone() else { return self.unexpected("") };
        let vector = match name.to_ascii_lowercase().as_str() {
            "sum" => Some(VectorOp::Sum),
            "min" => Some(VectorOp::Min),
            "max" => Some(VectorOp::Max),
            "avg" => Some(VectorOp::Avg),
            "count" => Some(VectorOp::Count),
            "topk" => Some(VectorOp::Top),
            "bottomk" => Some(VectorOp::Bottom),
            _ => None,
        };
        let range = match name.to_ascii_lowercase().as_str() {
            "count_over_time" => Some(RangeOp::Count),
            "bytes_over_time" => Some(RangeOp::Bytes),
            "sum_over_time" => Some(RangeOp::Sum),
            "min_over_time" => Some(RangeOp::Min),
            "max_over_time" => Some(RangeOp::Max),
            "avg_over_time" => Some(RangeOp::Avg),
            "rate" | "bytes_rate" | "quantile_over_time" | "first_over_time" | "last_over_time"
            | "absent_over_time" | "stddev_over_time" | "stdvar_over_time" | "vector"
            | "label_replace" | "sort" | "sort_desc" | "stddev" | "stdvar" | "approx_topk" => {
                return self.unsupported(&name);
            }
            _ => None,
        };
        match (vector, range) {
            (Some(op), _) => {
                self.at += 1;
                self.vector(op)
            }
            (_, Some(op)) => {
                self.at += 1;
                self.range(op).map(Metric::Range)
            }
            _ => self.unexpected(""),
        }
    }

    fn vector(&mut self, op: VectorOp) -> Result<Metric> {
        let mut grouping = self.grouping()?;
        self.expect("(", "")?;
        let mut count = 0;
        if matches!(op, VectorOp::Top | VectorOp::Bottom) {
            let Token::Number(text) = self.next() else {
                return Err(ParseError::general("parameter required for operation topk"));
            };
            count = text
                .parse()
                .map_err(|_| ParseError::general(format!("invalid parameter topk({text},")))?;
            self.expect(",", ",")?;
        }
        let inner = Box::new(self.sum()?);
        self.expect(")", "")?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        Ok(Metric::Vector { op, count, grouping: grouping.unwrap_or_default(), inner })
    }

    fn grouping(&mut self) -> Result<Option<Grouping>> {
        let without = self.word("without");
        if !self.take_word("by") && !self.take_word("without") {
            return Ok(None);
        }
        self.expect("(", "(")?;
        let mut names = Vec::new();
        while !self.take(")") {
            names.push(self.ident("IDENTIFIER or )")?);
            if !self.take(",") && !self.is(")") {
                return self.unexpected(", or )");
            }
        }
        Ok(Some(Grouping { names, without }))
    }

    fn range(&mut self, op: RangeOp) -> Result<Range> {
        self.expect("(", "(")?;
        let mut parsed = (None, 0);
        let (matchers, stages, unwrap) = self.log_range(&mut parsed)?;
        self.expect(")", "")?;
        let Some(interval) = parsed.0 else { return self.unexpected("RANGE") };
        let grouping = self.grouping()?;
        let needs = !matches!(op, RangeOp::Count | RangeOp::Bytes);
        if needs && unwrap.is_none() {
            return Err(ParseError::general(format!(
                "invalid aggregation {}_over_time without unwrap",
                format!("{op:?}").to_ascii_lowercase()
            )));
        }
        if !needs && (unwrap.is_some() || grouping.is_some()) {
            let name = if op == RangeOp::Count { "count" } else { "bytes" };
            let what = if unwrap.is_some() { "with unwrap" } else { "grouping not allowed" };
            let text = format!("invalid aggregation {name}_over_time {what}");
            return Err(ParseError::general(text));
        }
        if op == RangeOp::Sum && grouping.is_some() {
            let text = "grouping not allowed for sum_over_time aggregation";
            return Err(ParseError::general(text));
        }
        let log = Arc::new(LogExpr { matchers, stages });
        Ok(Range { op, log, unwrap: unwrap.map(Arc::new), interval, offset: parsed.1, grouping })
    }

    /// A selector with stages and a range, which may come before or after them.
    fn log_range(
        &mut self,
        range: &mut (Option<i64>, i64),
    ) -> Result<(Vec<Matcher>, Vec<Stage>, Option<Unwrap>)> {
        let mut parts = if self.take("(") {
            let inner = self.log_range(range)?;
            self.expect(")", "")?;
            inner
        } else {
            (self.selector()?, Vec::new(), None)
        };
        loop {
            if let Token::Range(nanos) = *self.peek() {
                if range.0.is_some() {
                    return self.unexpected("");
                }
                self.at += 1;
                range.0 = Some(nanos);
                if self.take_word("offset") {
                    let Token::Duration(offset) = self.next() else {
                        self.at -= 1;
                        return self.unexpected("DURATION");
                    };
                    range.1 = offset;
                }
                continue;
            }
            let Some(stage) = self.stage_or_unwrap(parts.2.is_some())? else { return Ok(parts) };
            match (stage, &mut parts.2) {
                (Err(label), _) => parts.2 = Some(Unwrap { label, filters: Vec::new() }),
                (Ok(Stage::Filter(filter)), Some(unwrap)) => unwrap.filters.push(filter),
                (Ok(stage), _) => parts.1.push(stage),
            }
        }
    }

    fn log(&mut self) -> Result<Arc<LogExpr>> {
        let matchers = self.selector()?;
        let mut stages = Vec::new();
        while let Some(stage) = self.stage_or_unwrap(false)? {
            match stage {
                Ok(stage) => stages.push(stage),
                Err(_) => {
                    self.at -= 2;
                    return self.unexpected("");
                }
            }
        }
        Ok(Arc::new(LogExpr { matchers, stages }))
    }

    fn selector(&mut self) -> Result<Vec<Matcher>> {
        self.expect("{", "{")?;
        let mut matchers = Vec::new();
        if self.take("}") {
            return Ok(matchers);
        }
        loop {
            let name = self.ident("IDENTIFIER")?;
            matchers.push(Matcher { name, test: self.test()? });
            if self.take("}") {
                return Ok(matchers);
            }
            self.expect(",", "} or ,")?;
        }
    }

    /// An operator on text and its right side.
    pub(super) fn test(&mut self) -> Result<Test> {
        let Some(op) = self.one_of(&["=", "!=", "=~", "!~"]) else {
            return self.unexpected("= or != or =~ or !~");
        };
        let text = self.string()?;
        Test::new(op, &text).or_else(|error| self.fail(error))
    }
}
