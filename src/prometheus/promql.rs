//! PromQL texts, built by pure functions.
//!
//! The texts are those of the reference byte for byte (`tests/fixtures/parity/
//! promql`), except that label values are escaped here, so that no identifier
//! can change a query. Metric, label and function names, prefix and suffix come
//! from the operator's files and go in as they are.

use crate::config::metrics_yml::MetricDefinition;

/// The query for what one scope used during the `seconds` before the time of
/// evaluation.
pub fn collect_query(
    definition: &MetricDefinition,
    scope_key: &str,
    scope_id: &str,
    seconds: i64,
) -> String {
    let args = &definition.args;
    let matcher = format!("{scope_key}=\"{}\"", escape_label_value(scope_id));
    let labels: Vec<&str> =
        definition.groupby.iter().chain(&definition.metadata).map(String::as_str).collect();
    let mut query = usage(definition, &matcher, &labels, seconds);
    if !args.query_prefix.is_empty() {
        query = format!("{} {query}", args.query_prefix);
    }
    if !args.query_suffix.is_empty() {
        query = format!("{query} {}", args.query_suffix);
    }
    query
}

/// The query for what several scopes used, which tells each scope's part of it apart
/// and gives of each just what [`collect_query`] gives; `None` for a definition with
/// a prefix or suffix, which may do anything with the whole. The labels of its
/// answer are `labels`.
pub fn collect_many_query(
    definition: &MetricDefinition,
    scope_key: &str,
    scopes: &[&str],
    labels: &[&str],
    seconds: i64,
) -> Option<String> {
    let args = &definition.args;
    if !args.query_prefix.is_empty() || !args.query_suffix.is_empty() {
        return None;
    }
    let matcher = match scopes {
        [scope] => format!("{scope_key}=\"{}\"", escape_label_value(scope)),
        scopes => {
            // Prometheus anchors it at both ends.
            let names: Vec<String> = scopes.iter().map(|scope| escape_pattern(scope)).collect();
            format!("{scope_key}=~\"{}\"", escape_label_value(&names.join("|")))
        }
    };
    Some(usage(definition, &matcher, labels, seconds))
}

fn usage(definition: &MetricDefinition, matcher: &str, labels: &[&str], seconds: i64) -> String {
    let args = &definition.args;
    let method = &args.aggregation_method;
    let selector = format!("{}{{{matcher}}}[{seconds}s]", definition.metric);
    let over_time = match &args.range_function {
        Some(function) => format!("{function}({selector})"),
        None => format!("{method}_over_time({selector})"),
    };
    let value = match &args.query_function {
        Some(function) => format!("{function}({over_time})"),
        None => over_time,
    };
    format!("{method}({value}) by ({})", labels.join(", "))
}

/// The query for the scopes that a metric's label names.
pub fn scopes_query(metric: &str, filters: &[(String, String)], attribute: &str) -> String {
    let matchers: Vec<String> = filters
        .iter()
        .map(|(label, value)| format!("{label}=\"{}\"", escape_label_value(value)))
        .collect();
    let matchers = match matchers.as_slice() {
        [] => String::new(),
        matchers => format!("{{{}}}", matchers.join(", ")),
    };
    format!("max({metric}{matchers}) by ({attribute})")
}

/// A label value as it stands between double quotes.
pub fn escape_label_value(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A text that matches itself alone, in RE2's syntax.
/// <https://github.com/google/re2/wiki/Syntax>
fn escape_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() && c != '_' && c != '-' {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Bytes that a scope takes in the list of [`collect_many_query`], at most.
pub fn listed_bytes(scope_id: &str) -> usize {
    // A backslash, each of both escaped, and a bar between two.
    scope_id.bytes().map(|byte| if byte.is_ascii_alphanumeric() { 1 } else { 4 }).sum::<usize>() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_scopes_as_the_specification_says() {
        let filters = [("label1", "foo"), ("label2", "bar")].map(|(l, v)| (l.into(), v.into()));
        assert_eq!(
            scopes_query("container_memory_usage_bytes", &filters, "namespace"),
            r#"max(container_memory_usage_bytes{label1="foo", label2="bar"}) by (namespace)"#
        );
        assert_eq!(scopes_query("m", &[], "project_id"), "max(m) by (project_id)");
    }

    #[test]
    fn lists_scopes() {
        for scope in ["a", "a.b|c", "p\"\\\n", "", "ü-_/"] {
            let pattern = escape_pattern(scope);
            let matches = regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
            assert!(matches.is_match(scope) && !matches.is_match("aXb|c"), "{pattern}");
            assert!(escape_label_value(&pattern).len() < listed_bytes(scope), "{pattern}");
        }
    }

    #[test]
    fn escapes_label_values() {
        let filters = [("a".to_owned(), "x\"} or m{b=\"\\\n".to_owned())];
        assert_eq!(scopes_query("m", &filters, "p"), r#"max(m{a="x\"} or m{b=\"\\\n"}) by (p)"#);
    }
}
