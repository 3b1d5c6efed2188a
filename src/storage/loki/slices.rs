//! Parts of a question, small enough for Loki's limits.
//!
//! A query over many streams and a long time may meet a limit of series, of
//! time or of text. It is then parted: by streams, by the values that it groups
//! by, or by time. The parts leave nothing out and have nothing in common,
//! whatever the values are.

use super::{
    error::QueryLimit,
    logql::{self, Measure},
    question::LogQuestion,
    streams::{SECOND, Span},
};

/// Most bytes of stream names in one query; Loki takes 128 KiB of text.
const NAMES_BYTES: usize = 60_000;

/// Characters by which values are parted, by their ends. What ends otherwise
/// is a part of its own.
const ENDS: [&str; 14] = [
    "0-1", "2-3", "4-5", "6-7", "8-9", "a-b", "c-d", "e-f", "g-m", "n-s", "t-z", "A-M", "N-Z",
    "_./:-",
];

/// How many characters from the end values are parted by.
const DEPTH: usize = 3;

/// Which streams a slice reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Streams of ours, by name.
    Own(Vec<String>),
    /// What the reference wrote, by selector.
    Reference(String),
}

/// A part of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The streams.
    pub source: Source,
    /// Time of the entries.
    pub span: Span,
    /// Stages that part values.
    conditions: String,
    /// The values that it has of a label.
    cursor: Option<Cursor>,
    /// Labels that have parted it already.
    used: usize,
}

/// Values of a label that end in some characters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    label: String,
    /// Pattern of what follows the characters.
    tail: String,
    depth: usize,
    /// The characters, among [`ENDS`].
    ends: (usize, usize),
}

impl Cursor {
    fn class(ends: &[&str]) -> String {
        // The dash stands last in the last class, where it is itself.
        format!("[{}]", ends.concat())
    }

    fn condition(&self) -> String {
        let class = Self::class(&ENDS[self.ends.0..self.ends.1]);
        matching(&self.label, &format!("{class}{}", self.tail), true)
    }
}

/// A stage that lets values with an end pass, or all others.
fn matching(label: &str, end: &str, passes: bool) -> String {
    let operator = if passes { "=~" } else { "!~" };
    format!(" | {label}{operator}{}", logql::quote(&format!("(?s).*{end}")))
}

impl Slice {
    /// Everything of some streams in a time.
    pub fn new(source: Source, span: Span) -> Self {
        Self { source, span, conditions: String::new(), cursor: None, used: 0 }
    }

    /// The same streams in slices of at most `seconds` and with names that fit
    /// into a query.
    pub fn pieces(self, seconds: i64) -> Vec<Self> {
        let sources = match self.source {
            Source::Reference(_) => vec![self.source],
            Source::Own(names) => {
                let longest = names.iter().map(String::len).max().unwrap_or_default() + 1;
                let chunks = names.chunks((NAMES_BYTES / longest).max(1));
                chunks.map(|names| Source::Own(names.to_vec())).collect()
            }
        };
        let step = seconds.saturating_mul(SECOND);
        let (begin, end) = self.span;
        let mut pieces = Vec::new();
        for source in sources {
            let mut from = begin;
            while from < end {
                let to = end.min(from.saturating_add(step));
                pieces.push(Self::new(source.clone(), (from, to)));
                from = to;
            }
        }
        pieces
    }

    /// The part over whole seconds, which metric queries can tell, and the
    /// others.
    pub fn whole_seconds(self) -> (Option<Self>, Vec<Self>) {
        let (from, to) = self.span;
        let up = from.div_euclid(SECOND) + i64::from(from.rem_euclid(SECOND) > 0);
        let (first, last) = (up * SECOND, to.div_euclid(SECOND) * SECOND);
        if first >= last {
            return (None, vec![self]);
        }
        let part = |span: Span| Self { span, ..self.clone() };
        let rest = [(from, first), (last, to)].into_iter().filter(|(from, to)| from < to);
        (Some(part((first, last))), rest.map(part).collect())
    }

    /// Whether it is not parted by values.
    pub fn has_all_values(&self) -> bool {
        self.conditions.is_empty() && self.cursor.is_none()
    }

    /// Its selector.
    pub fn selector(&self, common: &[(String, String)]) -> String {
        match &self.source {
            Source::Own(names) => logql::own_streams(common, names),
            Source::Reference(selector) => selector.clone(),
        }
    }

    /// Stages after the selector and the expressions.
    pub fn stages(&self, question: &LogQuestion) -> String {
        let cursor = self.cursor.as_ref().map(Cursor::condition).unwrap_or_default();
        format!("{}{}{cursor}", question.stages, self.conditions)
    }

    /// The metric query of a slice over whole seconds, and the instant at which
    /// it is asked: windows of metric queries leave out their begin and have
    /// their end.
    pub fn query(
        &self,
        measure: Measure,
        common: &[(String, String)],
        question: &LogQuestion,
    ) -> (String, i64) {
        let selector = self.selector(common);
        let seconds = (self.span.1 - self.span.0) / SECOND;
        let stages = self.stages(question);
        let query =
            logql::sum(measure, &selector, &question.extracted, &stages, &question.by, seconds);
        (query, self.span.1 - 1)
    }

    /// Two smaller slices that together are this one, parted by what Loki found
    /// too much; `None` if it is as small as can be.
    pub fn split(&self, limit: QueryLimit, question: &LogQuestion) -> Option<[Self; 2]> {
        match limit {
            QueryLimit::Time => return self.split_time(),
            QueryLimit::Bytes => return self.split_time().or_else(|| self.split_streams()),
            QueryLimit::Text => return self.split_streams(),
            QueryLimit::Series | QueryLimit::Entries => {}
        }
        // Periods make groups, too, and time parts them best.
        if question.is_by_time()
            && let Some(halves) = self.split_time()
        {
            return Some(halves);
        }
        self.split_streams().or_else(|| self.split_values(question)).or_else(|| self.split_time())
    }

    fn split_streams(&self) -> Option<[Self; 2]> {
        let Source::Own(names) = &self.source else { return None };
        if names.len() < 2 {
            return None;
        }
        let (first, second) = names.split_at(names.len() / 2);
        Some(
            [first, second]
                .map(|names| Self { source: Source::Own(names.to_vec()), ..self.clone() }),
        )
    }

    fn split_time(&self) -> Option<[Self; 2]> {
        let (from, to) = self.span;
        // Below an hour nothing is won: most entries of a period stand together.
        if to - from < 2 * 3_600 * SECOND {
            return None;
        }
        let middle = (from + (to - from) / 2).div_euclid(SECOND) * SECOND;
        Some([(from, middle), (middle, to)].map(|span| Self { span, ..self.clone() }))
    }

    fn split_values(&self, question: &LogQuestion) -> Option<[Self; 2]> {
        let all = Cursor::class(&ENDS);
        let Some(cursor) = &self.cursor else {
            let label = question.parts.get(self.used)?.clone();
            let others = matching(&label, &all, false);
            let cursor = Cursor { label, tail: String::new(), depth: 1, ends: (0, ENDS.len()) };
            let used = self.used + 1;
            return Some([
                Self { cursor: Some(cursor), used, ..self.clone() },
                Self { conditions: format!("{}{others}", self.conditions), used, ..self.clone() },
            ]);
        };
        let (from, to) = cursor.ends;
        if to - from > 1 {
            let middle = from + (to - from) / 2;
            return Some([(from, middle), (middle, to)].map(|ends| Self {
                cursor: Some(Cursor { ends, ..cursor.clone() }),
                ..self.clone()
            }));
        }
        if cursor.depth == DEPTH {
            return None;
        }
        let tail = format!("{}{}", Cursor::class(&ENDS[from..to]), cursor.tail);
        let others = matching(&cursor.label, &format!("{all}{tail}"), false);
        let conditions = format!("{}{}{others}", self.conditions, cursor.condition());
        let cursor =
            Cursor { tail, depth: cursor.depth + 1, ends: (0, ENDS.len()), ..cursor.clone() };
        Some([
            Self { cursor: Some(cursor), ..self.clone() },
            Self { conditions, cursor: None, ..self.clone() },
        ])
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;
    use crate::storage::loki::logql::Extracted;

    /// The conditions on `rk_0` in the stages of a slice: whether they are
    /// negated, and what they match.
    fn conditions(stages: &str) -> Vec<(bool, Regex)> {
        let stages = stages.split(" | ").filter(|stage| !stage.is_empty());
        let condition = |stage: &str| {
            let (negated, text) = match stage.split_once("!~") {
                Some((_, text)) => (true, text),
                None => (false, stage.split_once("=~").unwrap().1),
            };
            let pattern = text.trim_matches('"');
            (negated, Regex::new(&format!("^(?:{pattern})$")).unwrap())
        };
        stages.map(condition).collect()
    }

    #[test]
    fn every_value_is_in_exactly_one_part() {
        let question = LogQuestion::parting(Extracted::default(), vec!["rk_0".to_owned()]);
        let slice = Slice::new(Source::Own(vec!["a".to_owned()]), (0, SECOND));
        let (mut parts, mut todo) = (Vec::new(), vec![slice]);
        while let Some(slice) = todo.pop() {
            match slice.split(QueryLimit::Series, &question) {
                Some(halves) => todo.extend(halves),
                None => parts.push(conditions(&slice.stages(&question))),
            }
        }
        assert!(parts.len() > 1_000, "{}", parts.len());
        let values = [
            "", "a", "0", "-", "é", "\n", "x\ny0", "id-12", "00", "a-b", "vm_7.", "UUID-9F", "~",
            "0~", "~0", "zz~9", "1\n", "日本", "0é1",
        ];
        for value in values {
            let passes = |part: &&Vec<(bool, Regex)>| {
                part.iter().all(|(negated, regex)| regex.is_match(value) != *negated)
            };
            let count = parts.iter().filter(passes).count();
            assert_eq!(count, 1, "{value:?}");
        }
    }

    #[test]
    fn pieces_and_whole_seconds_leave_nothing_out() {
        let source = Source::Own((0..9_000).map(|name| format!("{name:012}")).collect());
        let slice = Slice::new(source, (5 * SECOND + 7, 20 * SECOND + 1));
        let (whole, rest) = slice.clone().whole_seconds();
        let mut spans: Vec<Span> = whole.iter().chain(&rest).map(|slice| slice.span).collect();
        spans.sort_unstable();
        let (second, last) = (6 * SECOND, 20 * SECOND);
        assert_eq!(spans, [(slice.span.0, second), (second, last), (last, slice.span.1)]);
        let pieces = slice.pieces(4);
        let time: i64 = pieces.iter().map(|piece| piece.span.1 - piece.span.0).sum();
        // Two lots of names, each over the whole time.
        assert_eq!(time, 2 * (15 * SECOND - 6));
        let within = Slice::new(Source::Reference("{}".to_owned()), (SECOND + 1, SECOND + 9));
        assert_eq!(within.clone().whole_seconds(), (None, vec![within]));
    }
}
