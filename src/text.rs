//! Text forms that Python gives meaning to, shared by the layers above.

use std::borrow::Cow;

/// The text without the single underscores that Python lets stand between the
/// digits of a number; `None` if one stands elsewhere.
pub fn without_digit_separators(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('_') {
        return Some(text.into());
    }
    let bytes = text.as_bytes();
    let between_digits = |at: usize| {
        at > 0
            && bytes[at - 1].is_ascii_digit()
            && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
    };
    let fine = bytes.iter().enumerate().all(|(at, byte)| *byte != b'_' || between_digits(at));
    fine.then(|| text.replace('_', "").into())
}

/// Python's `repr` of a text: quoted, with escapes for what cannot be printed.
///
/// The quotes are single unless the text holds single ones and no double ones.
pub fn python_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut repr = String::with_capacity(text.len() + 2);
    repr.push(quote);
    for c in text.chars() {
        match c {
            '\\' => repr.push_str("\\\\"),
            '\n' => repr.push_str("\\n"),
            '\r' => repr.push_str("\\r"),
            '\t' => repr.push_str("\\t"),
            c if c == quote => repr.extend(['\\', c]),
            c if is_printable(c) => repr.push(c),
            c => match u32::from(c) {
                code @ ..=0xff => repr.push_str(&format!("\\x{code:02x}")),
                code @ ..=0xffff => repr.push_str(&format!("\\u{code:04x}")),
                code => repr.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    repr.push(quote);
    repr
}

/// Whether Python prints the character as it is: no control, format or
/// private character, and no space but the plain one.
fn is_printable(c: char) -> bool {
    let hidden = matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
        | '\u{e0001}'..='\u{10ffff}');
    c == ' ' || !(c.is_control() || c.is_whitespace() || hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_python_does() {
        let cases = [
            ("a", "'a'"),
            ("it's", "\"it's\""),
            ("'\"", "'\\'\"'"),
            ("\\", "'\\\\'"),
            ("\n\t\u{0}\u{85}\u{a0}", "'\\n\\t\\x00\\x85\\xa0'"),
            ("é€😀", "'é€😀'"),
            ("\u{200b}\u{feff}", "'\\u200b\\ufeff'"),
        ];
        for (text, repr) in cases {
            assert_eq!(python_repr(text), repr);
        }
    }
}
