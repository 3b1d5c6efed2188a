//! The text form: words, and how they join.
//!
//! Words are joined as soon as two or three of them make something, from the left, without a look at
//! what follows. This is how oslo.policy reads, so both take and refuse the same texts.

use super::{
    super::{MAX_DEPTH, check::Check},
    Fault, Place, Problem, single,
};

/// Reads a text that is not empty. One without sense allows nothing.
pub(super) fn read(text: &str, problems: &mut Vec<Problem>) -> Check {
    let mut parser = Parser { stack: Vec::new(), problems, is_deep: false };
    for (column, word) in words(text) {
        parser.word(column, word);
    }
    match parser.join_all() {
        Ok(check) => check,
        Err(problem) => {
            parser.problems.push(problem);
            Check::Never
        }
    }
}

/// Words between blanks, with their columns.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut column = 1;
    text.split(is_blank).filter_map(move |word| {
        let at = column;
        column += word.chars().count() + 1;
        (!word.is_empty()).then_some((at, word))
    })
}

/// What Python's `\s` stands for.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Something that was read and may become part of something larger.
enum Item {
    /// A check that is complete, and how many levels it has.
    Check(Check, usize),
    /// `a and b`, which may go on.
    And(Vec<Check>, usize),
    /// `a or b`, which may go on; each with its levels.
    Or(Vec<(Check, usize)>),
    AndWord,
    OrWord,
    NotWord,
    Open,
    Close,
    Quoted,
}

impl Item {
    /// Itself as a complete check.
    fn complete(self) -> Self {
        match self {
            Self::And(checks, depth) => Self::Check(Check::And(checks), depth),
            Self::Or(checks) => {
                let depth = checks.iter().map(|(_, depth)| depth + 1).max().unwrap_or(1);
                let checks = checks.into_iter().map(|(check, _)| check).collect();
                Self::Check(Check::Or(checks), depth)
            }
            item => item,
        }
    }

    fn is_complete(&self) -> bool {
        matches!(self, Self::Check(..) | Self::And(..) | Self::Or(_))
    }
}

/// An item with its column and its first word.
type Entry = (usize, String, Item);

/// Joins what was read as soon as it can be joined.
struct Parser<'a> {
    stack: Vec<Entry>,
    problems: &'a mut Vec<Problem>,
    is_deep: bool,
}

impl Parser<'_> {
    fn word(&mut self, column: usize, word: &str) {
        let clean = word.trim_start_matches('(');
        let opened = word.len() - clean.len();
        for at in 0..opened {
            self.push(column + at, "(", Item::Open);
        }
        let (column, word) = (column + opened, clean);
        let clean = word.trim_end_matches(')');
        let item = match clean.to_ascii_lowercase().as_str() {
            "" => None,
            "and" => Some(Item::AndWord),
            "or" => Some(Item::OrWord),
            "not" => Some(Item::NotWord),
            // With a parenthesis behind it, a quote is as good as any other character.
            _ if is_quoted(word) => Some(Item::Quoted),
            _ => {
                let check = single(clean, Place::Column(column), self.problems);
                Some(Item::Check(check, 1))
            }
        };
        if let Some(item) = item {
            self.push(column, clean, item);
        }
        let end = column + clean.chars().count();
        for at in 0..word.len() - clean.len() {
            self.push(end + at, ")", Item::Close);
        }
    }

    fn push(&mut self, column: usize, word: &str, item: Item) {
        self.stack.push((column, word.to_owned(), item));
        while self.join() {}
    }

    /// Joins the last two or three items, if they make something.
    fn join(&mut self) -> bool {
        let Some((column, word, last)) = self.stack.pop() else {
            return false;
        };
        let Some((before_column, before_word, before)) = self.stack.pop() else {
            self.stack.push((column, word, last));
            return false;
        };
        let first = self.stack.pop();
        let (place, outer, joined) = match (first, before, last) {
            (Some((at, open, Item::Open)), check, Item::Close) if check.is_complete() => {
                (at, open, check.complete())
            }
            (Some((at, start, Item::Check(a, m))), Item::AndWord, Item::Check(b, n)) => {
                (at, start, Item::And(vec![a, b], m.max(n) + 1))
            }
            (Some((at, start, Item::And(mut checks, m))), Item::AndWord, Item::Check(b, n)) => {
                checks.push(b);
                (at, start, Item::And(checks, m.max(n + 1)))
            }
            // `a or b and c`: b belongs to c.
            (Some((at, start, Item::Or(mut checks))), Item::AndWord, Item::Check(c, n)) => {
                match checks.pop() {
                    Some((Check::And(mut inner), m)) => {
                        inner.push(c);
                        checks.push((Check::And(inner), m.max(n + 1)));
                    }
                    Some((b, m)) => checks.push((Check::And(vec![b, c]), m.max(n) + 1)),
                    None => checks.push((c, n)),
                }
                (at, start, Item::Or(checks))
            }
            (Some((at, start, Item::Or(mut checks))), Item::OrWord, Item::Check(b, n)) => {
                checks.push((b, n));
                (at, start, Item::Or(checks))
            }
            (
                Some((at, start, check @ (Item::Check(..) | Item::And(..)))),
                Item::OrWord,
                Item::Check(b, n),
            ) => match check.complete() {
                Item::Check(a, m) => (at, start, Item::Or(vec![(a, m), (b, n)])),
                other => (at, start, other),
            },
            (first, Item::NotWord, Item::Check(check, n)) => {
                self.stack.extend(first);
                (before_column, before_word, Item::Check(Check::Not(Box::new(check)), n + 1))
            }
            (first, before, last) => {
                self.stack.extend(first);
                self.stack.push((before_column, before_word, before));
                self.stack.push((column, word, last));
                return false;
            }
        };
        let joined = match joined {
            Item::Check(_, depth) | Item::And(_, depth) if depth > MAX_DEPTH => {
                self.is_deep = true;
                Item::Check(Check::Never, 1)
            }
            joined => joined,
        };
        self.stack.push((place, outer, joined));
        true
    }

    /// What is left, if it is one check.
    fn join_all(&mut self) -> Result<Check, Problem> {
        if self.is_deep {
            return Err(Problem { place: Place::Whole, fault: Fault::Deep });
        }
        if self.stack.is_empty() {
            return Err(Problem { place: Place::Whole, fault: Fault::Blank });
        }
        // What spoils a rule: a text, else the first word that is no check, else the first check for
        // which there is no operator.
        let is_quoted = |(_, _, item): &Entry| matches!(item, Item::Quoted);
        let at = (self.stack.iter().position(is_quoted))
            .or_else(|| self.stack.iter().position(|(_, _, item)| !item.is_complete()))
            .unwrap_or(usize::from(self.stack.len() > 1));
        let (column, word, item) = self.stack.swap_remove(at);
        let fault = match item.complete() {
            Item::Check(check, _) if self.stack.is_empty() => return Ok(check),
            Item::Quoted => Fault::Quoted(word),
            _ => Fault::Unexpected(word),
        };
        Err(Problem { place: Place::Column(column), fault })
    }
}

/// Whether a word begins and ends with the same quote.
fn is_quoted(word: &str) -> bool {
    word.len() >= 2
        && ['"', '\''].iter().any(|quote| word.starts_with(*quote) && word.ends_with(*quote))
}
