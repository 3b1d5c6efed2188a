//! Answers of version 1: JSON as Python writes it.

use std::io;

use axum::{
    body::Bytes,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::ser::Formatter;

use crate::api::answer::Answer;

/// An answer in JSON.
pub(super) fn answer(status: StatusCode, body: &impl Answer) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text_of(body)).into_response()
}

/// The same of what is written already.
pub(super) fn answer_of(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The text of an answer.
pub(super) fn text_of(answer: &impl Answer) -> Bytes {
    written(answer).into()
}

/// JSON as Python writes it: with a blank behind `,` and `:`, in ASCII. Whoever
/// looks for a text in an answer finds it in ours, too.
pub(super) fn written(body: &impl Serialize) -> String {
    let mut text = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, Python);
    // What is in memory can be written.
    let _ = body.serialize(&mut serializer);
    String::from_utf8(text).unwrap_or_default()
}

struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for c in fragment.chars() {
            match c {
                ' '..='\u{7f}' => writer.write_all(&[c as u8])?,
                c => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn writes_json_as_python_does() {
        let body = json!({"a": [1, "é\u{1f600}\n\"\u{7f}"], "b": {}, "c": [], "d": null});
        let text = written(&body);
        let python = "{\"a\": [1, \"\\u00e9\\ud83d\\ude00\\n\\\"\u{7f}\"], \"b\": {}, \"c\": [], \"d\": null}";
        assert_eq!(text, python);
    }
}
