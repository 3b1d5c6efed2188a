//! The left side of a check, before its `:`.
//!
//! oslo.policy first takes it for a Python expression. A literal (`'Member'`, `None`, `True`, `7`) is
//! compared as the text that `str()` makes of it. Any other expression is the path of a credential, its
//! parts separated by dots, whatever the expression would mean in Python: `user-id` is one name. What
//! is no expression makes oslo.policy fail while it answers a request.
//!
//! So this reads just as much of Python's grammar as tells the three apart, after the language
//! reference (<https://docs.python.org/3.11/reference/expressions.html>). Refused are also keywords,
//! f-strings, bytes, complex numbers, lists and the like, which no policy has a use for.

mod literal;

use super::MAX_DEPTH;

/// What the left side of a check asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A constant, as text.
    Literal(String),
    /// A credential, by the keys that lead to it.
    Path(Vec<String>),
    /// Nothing: the check has no answer.
    Unreadable,
}

impl Kind {
    /// Reads the left side of a check.
    pub fn read(text: &str) -> Self {
        let mut reader = Reader { rest: text, depth: 0 };
        match reader.whole() {
            Some(Shape::Text(text) | Shape::Number(text) | Shape::Constant(text)) => {
                Self::Literal(text)
            }
            Some(Shape::Name(_) | Shape::Other) => {
                Self::Path(text.split('.').map(str::to_owned).collect())
            }
            Some(Shape::Collection) | None => Self::Unreadable,
        }
    }
}

/// Words of Python 3.11 that are no names, without those for constants.
const KEYWORDS: &[&str] = &[
    "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif",
    "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda",
    "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// Operators between two operands; those that begin like another one first.
const OPERATORS: &[&str] = &[
    "**", "//", "<<", ">>", "<=", ">=", "==", "!=", "+", "-", "*", "/", "%", "@", "&", "|", "^",
    "<", ">",
];

/// As much of an expression as matters.
enum Shape {
    Text(String),
    /// A number that may get a sign.
    Number(String),
    /// A constant that may not.
    Constant(String),
    Name(String),
    Collection,
    Other,
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn whole(&mut self) -> Option<Shape> {
        let shape = self.list()?;
        self.skip_blanks();
        // A comment may follow.
        (self.rest.is_empty() || self.rest.starts_with('#') && !self.rest.contains('\n'))
            .then_some(shape)
    }

    /// Expressions with commas between them; one with a comma is a tuple.
    fn list(&mut self) -> Option<Shape> {
        let mut shape = self.expression()?;
        while self.take(",") {
            shape = Shape::Collection;
            self.skip_blanks();
            if self.rest.is_empty() || self.rest.starts_with([')', ']', '}', '#']) {
                break;
            }
            self.expression()?;
        }
        Some(shape)
    }

    fn expression(&mut self) -> Option<Shape> {
        let mut shape = self.operand()?;
        self.skip_blanks();
        while let Some(operator) =
            OPERATORS.iter().find(|operator| self.rest.starts_with(**operator))
        {
            self.rest = &self.rest[operator.len()..];
            self.operand()?;
            shape = Shape::Other;
            self.skip_blanks();
        }
        Some(shape)
    }

    fn operand(&mut self) -> Option<Shape> {
        let mut signs = String::new();
        self.skip_blanks();
        while let Some(sign) = self.rest.chars().next().filter(|c| "+-~".contains(*c)) {
            signs.push(sign);
            self.rest = &self.rest[1..];
            self.skip_blanks();
        }
        let shape = self.primary()?;
        Some(match (signs.as_str(), shape) {
            ("", shape) => shape,
            ("+", Shape::Number(number)) => Shape::Constant(number),
            ("-", Shape::Number(number)) if number == "0" => Shape::Constant(number),
            ("-", Shape::Number(number)) => Shape::Constant(format!("-{number}")),
            _ => Shape::Other,
        })
    }

    fn primary(&mut self) -> Option<Shape> {
        let mut shape = self.atom()?;
        loop {
            self.skip_blanks();
            shape = if self.take(".") {
                self.skip_blanks();
                let name = self.word()?;
                is_name(name).then_some(Shape::Other)?
            } else if self.rest.starts_with('(') {
                let nothing = self.enclosed(')')?.is_none();
                match shape {
                    // The only call that Python takes for a literal.
                    Shape::Name(name) if name == "set" && nothing => Shape::Collection,
                    _ => Shape::Other,
                }
            } else if self.rest.starts_with('[') {
                self.enclosed(']')?.map(|_| Shape::Other)?
            } else {
                return Some(shape);
            };
        }
    }

    fn atom(&mut self) -> Option<Shape> {
        let first = self.rest.chars().next()?;
        match first {
            '\'' | '"' => self.strings(),
            '(' => match self.enclosed(')')? {
                Some(shape) => Some(shape),
                None => Some(Shape::Collection),
            },
            '[' => self.enclosed(']').map(|_| Shape::Collection),
            '{' => self.enclosed('}').map(|_| Shape::Collection),
            '.' if self.take("...") => Some(Shape::Constant("Ellipsis".to_owned())),
            '.' | '0'..='9' => self.number(),
            _ => {
                let before = self.rest;
                let word = self.word()?;
                if self.rest.starts_with(['\'', '"']) {
                    // The word is a prefix of a text.
                    self.rest = before;
                    return self.strings();
                }
                match word {
                    "None" | "True" | "False" => Some(Shape::Constant(word.to_owned())),
                    word => is_name(word).then(|| Shape::Name(word.to_owned())),
                }
            }
        }
    }

    /// What stands in brackets: something, or nothing.
    #[expect(clippy::option_option, reason = "unreadable, empty and filled are three things")]
    fn enclosed(&mut self, close: char) -> Option<Option<Shape>> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        self.rest = &self.rest[1..];
        self.skip_blanks();
        let shape = if self.rest.starts_with(close) { None } else { Some(self.list()?) };
        self.skip_blanks();
        self.rest = self.rest.strip_prefix(close)?;
        self.depth -= 1;
        Some(shape)
    }

    /// Characters that names are made of.
    fn word(&mut self) -> Option<&'a str> {
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    fn take(&mut self, what: &str) -> bool {
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\u{c}']);
    }
}

/// Of characters beyond ASCII letters alone: more may be in a name, but the standard library cannot
/// tell which.
fn is_word(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric() || !c.is_ascii() && c.is_alphabetic()
}

fn is_name(word: &str) -> bool {
    !word.starts_with(|c: char| c.is_ascii_digit())
        && !KEYWORDS.contains(&word)
        && !["None", "True", "False"].contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_their_texts() {
        let cases = [
            ("None", "None"),
            ("True", "True"),
            ("...", "Ellipsis"),
            ("'Member'", "Member"),
            ("'a'\"b\"", "ab"),
            (r"'\x41\u00e9\101\n\q\''", "Aé\x41\n\\q'"),
            (r"r'\x41\''", r"\x41\'"),
            ("'''it's'''", "it's"),
            ("u'a'", "a"),
            ("7", "7"),
            ("-7", "-7"),
            ("-0", "0"),
            ("000", "0"),
            ("1_000", "1000"),
            ("0x_1F", "31"),
            ("0b101", "5"),
            ("0o17", "15"),
            ("1.50", "1.5"),
            ("01.5", "1.5"),
            (".5e-9", "5e-10"),
            ("1E400", "inf"),
            ("-0.0", "-0.0"),
            ("(1)", "1"),
            ("1#comment", "1"),
            (" 1 ", "1"),
        ];
        for (kind, text) in cases {
            assert_eq!(Kind::read(kind), Kind::Literal(text.to_owned()), "{kind}");
        }
    }

    #[test]
    fn other_expressions_are_paths() {
        for kind in [
            "user_id", "a.b.c", "None.x", "user-id", "a/b", "a-1", "1-a", "1-2", "--1", "-(+1)",
            "~1", "-True", "a[0]", "a(b)", "'a'.b", "a==b", "a@b", "a**-b", "é.ß", "match", "a#b",
            "x(1,2,)", "a<b<c",
        ] {
            let path = kind.split('.').map(str::to_owned).collect();
            assert_eq!(Kind::read(kind), Kind::Path(path), "{kind}");
        }
    }

    #[test]
    fn the_rest_cannot_be_read() {
        let deep = "(".repeat(100_000);
        for kind in [
            "",
            " ",
            "a b",
            "class",
            "user.class",
            "a.",
            ".a",
            "a..b",
            "a-",
            "007",
            "1a",
            "1__0",
            "1_",
            "0x",
            "0b2",
            "1e",
            "'a",
            "'a'b",
            "\"a'",
            "b'a'",
            "f'a'",
            "1j",
            "1+2j",
            "[1]",
            "(1,2)",
            "set()",
            "{1}",
            "()",
            "a,b",
            "not",
            "a if b else c",
            "a=b",
            "a;b",
            "a?",
            "$a",
            "a!b",
            "a'",
            "lambda",
            "'\\N{DIGIT ONE}'",
            "'\\ud800'",
            "'\\x4'",
            "a\nb",
            "²",
            "١",
            "a.1",
            "a.None",
            &deep,
        ] {
            assert_eq!(Kind::read(kind), Kind::Unreadable, "{kind}");
        }
    }
}
