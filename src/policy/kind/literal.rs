//! Numbers and texts as Python writes them
//! (<https://docs.python.org/3.11/reference/lexical_analysis.html#literals>).

use super::{Reader, Shape, is_word};
use crate::dataframe::python_float;

/// Largest number of digits that Python turns into a number.
const MAX_DIGITS: usize = 4300;

impl Reader<'_> {
    pub(super) fn number(&mut self) -> Option<Shape> {
        let number = self
            .digits_of(16, ["0x", "0X"])
            .or_else(|| self.digits_of(8, ["0o", "0O"]))
            .or_else(|| self.digits_of(2, ["0b", "0B"]))
            .unwrap_or_else(|| self.decimal())?;
        // `1a` and `0b2` are nothing.
        (!self.rest.starts_with(is_word)).then_some(Shape::Number(number))
    }

    /// A whole number to another base; the outer `None` if it is none.
    #[expect(clippy::option_option, reason = "unreadable and of another base are two things")]
    fn digits_of(&mut self, base: u32, prefixes: [&str; 2]) -> Option<Option<String>> {
        let rest = prefixes.iter().find_map(|prefix| self.rest.strip_prefix(*prefix))?;
        let (digits, rest) = digits(rest.strip_prefix('_').unwrap_or(rest), base);
        self.rest = rest;
        Some(digits.and_then(|digits| Some(u128::from_str_radix(&digits, base).ok()?.to_string())))
    }

    fn decimal(&mut self) -> Option<String> {
        let (whole, mut rest) = digits(self.rest, 10);
        let mut text = whole.clone().unwrap_or_default();
        let mut is_float = false;
        if let Some(behind) = rest.strip_prefix('.') {
            let (fraction, behind) = digits(behind, 10);
            whole.as_ref().or(fraction.as_ref())?;
            text.push('.');
            text.push_str(&fraction.unwrap_or_default());
            (is_float, rest) = (true, behind);
        }
        if let Some(behind) = rest.strip_prefix(['e', 'E']) {
            let sign = if behind.starts_with('-') { "-" } else { "" };
            let (exponent, behind) = digits(behind.strip_prefix(['+', '-']).unwrap_or(behind), 10);
            text.push_str(&format!("e{sign}{}", exponent?));
            (is_float, rest) = (true, behind);
        }
        self.rest = rest;
        if is_float {
            return text.parse().ok().map(python_float);
        }
        let digits = text.trim_start_matches('0');
        match digits {
            "" => Some("0".to_owned()),
            // `007` is an old way to write octal numbers, and refused.
            _ if digits.len() < text.len() || digits.len() > MAX_DIGITS => None,
            digits => Some(digits.to_owned()),
        }
    }

    /// Texts that stand side by side are one.
    pub(super) fn strings(&mut self) -> Option<Shape> {
        let mut text = String::new();
        loop {
            let word = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
            let (prefix, rest) = self.rest.split_at(word);
            let is_raw = match prefix {
                "" | "u" | "U" => false,
                "r" | "R" => true,
                _ => return None,
            };
            self.rest = rest;
            self.string(is_raw, &mut text)?;
            self.skip_blanks();
            let next = self.rest.trim_start_matches(is_word);
            if !next.starts_with(['\'', '"']) {
                return Some(Shape::Text(text));
            }
        }
    }

    fn string(&mut self, is_raw: bool, text: &mut String) -> Option<()> {
        let quote =
            ["'''", "\"\"\"", "'", "\""].into_iter().find(|quote| self.rest.starts_with(quote))?;
        self.rest = &self.rest[quote.len()..];
        loop {
            if let Some(rest) = self.rest.strip_prefix(quote) {
                self.rest = rest;
                return Some(());
            }
            let mut chars = self.rest.chars();
            let c = chars.next()?;
            self.rest = chars.as_str();
            match c {
                '\n' | '\r' if quote.len() == 1 => return None,
                // How Python joins lines is of no use here.
                '\r' => return None,
                '\\' if is_raw => {
                    let escaped = chars.next()?;
                    self.rest = chars.as_str();
                    text.extend(['\\', escaped]);
                }
                '\\' => self.escape(text)?,
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Option<()> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        let rest = chars.as_str();
        let digits = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            '0'..='7' => {
                let end =
                    self.rest.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
                let (octal, rest) = self.rest.split_at(end);
                text.push(char::from_u32(u32::from_str_radix(octal, 8).ok()?)?);
                self.rest = rest;
                return Some(());
            }
            // Names of characters, and lines that go on.
            'N' | '\r' => return None,
            _ => {
                match c {
                    '\n' => {}
                    '\\' | '\'' | '"' => text.push(c),
                    'a' => text.push('\u{7}'),
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    'v' => text.push('\u{b}'),
                    c => text.extend(['\\', c]),
                }
                self.rest = rest;
                return Some(());
            }
        };
        let hex = rest.get(..digits).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
        text.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
        self.rest = &rest[digits..];
        Some(())
    }
}

/// Digits at the start of a text, without the underscores between them, and what is behind them.
fn digits(text: &str, base: u32) -> (Option<String>, &str) {
    let mut digits = String::new();
    let mut rest = text;
    loop {
        let next = match digits.is_empty() {
            true => rest,
            false => rest.strip_prefix('_').unwrap_or(rest),
        };
        match next.chars().next().filter(|c| c.is_digit(base)) {
            Some(digit) => {
                digits.push(digit);
                rest = &next[1..];
            }
            None => return ((!digits.is_empty()).then_some(digits), rest),
        }
    }
}
