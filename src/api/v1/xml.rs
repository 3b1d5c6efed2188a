//! Answers of version 1 in XML, as WSME writes them: in ASCII, without declaration.

use std::fmt::Write;

use serde_json::Value;

use crate::dataframe::python_str;

/// The key that holds labels, of which each is an item with key and value.
const DICTIONARY: &str = "desc";

/// An answer.
pub(super) fn result(value: &Value) -> String {
    let mut text = String::new();
    element(&mut text, "result", value);
    text
}

/// An answer whose keys are data: the metrics file.
pub(super) fn dictionary(value: &Value) -> String {
    let mut text = String::new();
    let has_keys = value.as_object().is_some_and(|object| !object.is_empty());
    match has_keys {
        true => items(&mut text, "result", value),
        false => text.push_str("<result />"),
    }
    text
}

/// An error.
pub(super) fn error(value: &Value) -> String {
    let mut text = "<error>".to_owned();
    for key in ["faultcode", "faultstring", "debuginfo"] {
        match value[key].as_str() {
            Some(told) if !told.is_empty() => filled(&mut text, key, told),
            _ => empty(&mut text, key),
        }
    }
    text.push_str("</error>");
    text
}

fn element(text: &mut String, name: &str, value: &Value) {
    match value {
        Value::Null => {
            let _ = write!(text, "<{name} nil=\"true\" />");
        }
        Value::Bool(value) => filled(text, name, if *value { "true" } else { "false" }),
        Value::Number(number) => filled(text, name, &number.to_string()),
        Value::String(value) if value.is_empty() => empty(text, name),
        Value::String(value) => filled(text, name, value),
        Value::Array(list) if list.is_empty() => empty(text, name),
        Value::Array(list) => {
            let _ = write!(text, "<{name}>");
            for item in list {
                element(text, "item", item);
            }
            let _ = write!(text, "</{name}>");
        }
        Value::Object(object) if object.is_empty() => empty(text, name),
        Value::Object(_) if name == DICTIONARY => items(text, name, value),
        Value::Object(object) => {
            let _ = write!(text, "<{name}>");
            for (key, value) in object {
                match (key.as_str(), value) {
                    // The end of a rule alone is written as Python writes dates.
                    ("end", Value::String(date)) if object.contains_key("deleted_by") => {
                        filled(text, key, &date.replacen('T', " ", 1));
                    }
                    _ => element(text, key, value),
                }
            }
            let _ = write!(text, "</{name}>");
        }
    }
}

fn items(text: &mut String, name: &str, value: &Value) {
    let _ = write!(text, "<{name}>");
    for (key, value) in value.as_object().into_iter().flatten() {
        text.push_str("<item>");
        filled(text, "key", key);
        match value {
            Value::Null => text.push_str("<value nil=\"true\" />"),
            value => match python_str(value) {
                value if value.is_empty() => empty(text, "value"),
                value => filled(text, "value", &value),
            },
        }
        text.push_str("</item>");
    }
    let _ = write!(text, "</{name}>");
}

fn empty(text: &mut String, name: &str) {
    let _ = write!(text, "<{name} />");
}

fn filled(text: &mut String, name: &str, content: &str) {
    let _ = write!(text, "<{name}>");
    for c in content.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            c if c.is_ascii() => text.push(c),
            c => {
                let _ = write!(text, "&#{};", u32::from(c));
            }
        }
    }
    let _ = write!(text, "</{name}>");
}
