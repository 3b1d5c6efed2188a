//! Reader of one file in oslo.config's INI dialect.
//!
//! The dialect is the one that the reference reads its `cloudkitty.conf` with,
//! and it is nobody else's: an indented line continues the value above it,
//! comments exist only at the start of a line, `=` and `:` both separate, a
//! pair of quotes around a value is dropped, there are no escapes. Compared
//! with the real oslo.config in `tests/it/parity/oslo_config.rs`.

use std::path::{Path, PathBuf};

/// One `key = value` of a file, in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Section name as written between the brackets.
    pub section: String,
    /// Key as written, without surrounding space.
    pub key: String,
    /// Value, continuation lines joined by line feeds.
    pub value: String,
    /// Line of the key, counted from 1.
    pub line: usize,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IniError {
    /// The file cannot be opened or read.
    #[error("cannot read configuration file `{path}`: {source}")]
    Io {
        /// File as named.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not UTF-8 text.
    #[error("configuration file `{path}` is not UTF-8 text (first bad byte at offset {offset})")]
    Encoding {
        /// File as named.
        path: PathBuf,
        /// Offset of the first byte that is not UTF-8.
        offset: usize,
    },
    /// A line is not of the dialect.
    #[error("configuration file `{path}`, line {line}: {problem}: `{text}`")]
    Syntax {
        /// File as named.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
        /// Its first word; the rest may be secret.
        text: String,
    },
}

/// Reads one file.
///
/// # Errors
/// [`IniError`], naming file and line.
pub fn read_file(path: &Path) -> Result<Vec<Entry>, IniError> {
    let bytes =
        std::fs::read(path).map_err(|source| IniError::Io { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|error| IniError::Encoding {
        path: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })?;
    parse(&text).map_err(|(line, problem, text)| IniError::Syntax {
        path: path.to_owned(),
        line,
        problem,
        // Only the first word: the line may hold a password.
        text: text.split_whitespace().next().unwrap_or_default().chars().take(60).collect(),
    })
}

type Problem<'a> = (usize, &'static str, &'a str);

/// Parses the text of a file.
fn parse(text: &str) -> Result<Vec<Entry>, Problem<'_>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut section: Option<&str> = None;
    // Whether the next indented line continues the last entry.
    let mut open = false;
    for (index, line) in lines(text).enumerate() {
        let number = index + 1;
        let line = line.trim_end_matches(is_space);
        let Some(first) = line.chars().next() else {
            open = false;
            continue;
        };
        match first {
            ' ' | '\t' => match entries.last_mut() {
                Some(entry) if open => {
                    entry.value.push('\n');
                    entry.value.push_str(line.trim_start_matches(is_space));
                }
                _ => return Err((number, "a continuation line without a value above it", "")),
            },
            '#' | ';' => open = false,
            '[' => {
                open = false;
                let name = line[1..].strip_suffix(']').ok_or((
                    number,
                    "a section header must end with `]`",
                    line,
                ))?;
                if name.is_empty() {
                    return Err((number, "a section needs a name", line));
                }
                section = Some(name);
            }
            _ => {
                let at = line.find(['=', ':']).ok_or((
                    number,
                    "neither `=` nor `:` in an assignment",
                    line,
                ))?;
                let key = line[..at].trim_matches(is_space);
                if key.is_empty() {
                    return Err((number, "an assignment needs an option name", line));
                }
                let section =
                    section.ok_or((number, "an assignment before the first section", line))?;
                entries.push(Entry {
                    section: section.to_owned(),
                    key: key.to_owned(),
                    value: unquote(line[at + 1..].trim_matches(is_space)).to_owned(),
                    line: number,
                });
                open = true;
            }
        }
    }
    Ok(entries)
}

/// Lines as Python's universal newlines cut them: at `\n`, `\r\n` and `\r`.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.find(['\n', '\r']) else {
            rest = None;
            return (!text.is_empty()).then_some(text);
        };
        let after = if text[at..].starts_with("\r\n") { at + 2 } else { at + 1 };
        rest = Some(&text[after..]);
        Some(&text[..at])
    })
}

/// Drops the quotes when a value begins and ends with the same kind. A lone
/// quote counts as both, so it becomes nothing.
fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if value.starts_with(quote) && value.ends_with(quote) {
            return value.get(1..value.len().max(2) - 1).unwrap_or("");
        }
    }
    value
}

/// What Python's `str.strip` strips.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().into_iter().map(|e| (e.key, e.value)).collect()
    }

    #[test]
    fn joins_continuation_lines() {
        assert_eq!(
            values("[a]\nx = 1\n  2\n\t# 3\ny:\n  4\n"),
            [("x".into(), "1\n2\n# 3".into()), ("y".into(), "\n4".into())]
        );
    }

    #[test]
    fn names_the_line_of_a_problem() {
        let (line, problem, text) = parse("[a]\nx = 1\n\n  2\n").unwrap_err();
        // It may be the end of a password.
        assert_eq!((line, text), (4, ""));
        assert!(problem.contains("continuation"));
    }

    #[test]
    fn drops_one_pair_of_quotes() {
        for (raw, value) in
            [("\"a\"", "a"), ("'", ""), ("\"a'", "\"a'"), ("\"\"", ""), ("'é'", "é")]
        {
            assert_eq!(unquote(raw), value);
        }
    }

    #[test]
    fn cuts_lines_as_python_does() {
        assert_eq!(lines("a\r\nb\rc\n\nd").collect::<Vec<_>>(), ["a", "b", "c", "", "d"]);
    }
}
