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
    let method = &args.aggregation_method;
    let selector = format!(
        "{}{{{scope_key}=\"{}\"}}[{seconds}s]",
        definition.metric,
        escape_label_value(scope_id)
    );
    let over_time = match &args.range_function {
        Some(function) => format!("{function}({selector})"),
        None => format!("{method}_over_time({selector})"),
    };
    let value = match &args.query_function {
        Some(function) => format!("{function}({over_time})"),
        None => over_time,
    };
    let labels: Vec<&str> =
        definition.groupby.iter().chain(&definition.metadata).map(String::as_str).collect();
    let mut query = format!("{method}({value}) by ({})", labels.join(", "));
    if !args.query_prefix.is_empty() {
        query = format!("{} {query}", args.query_prefix);
    }
    if !args.query_suffix.is_empty() {
        query = format!("{query} {}", args.query_suffix);
    }
    query
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
    fn escapes_label_values() {
        let filters = [("a".to_owned(), "x\"} or m{b=\"\\\n".to_owned())];
        assert_eq!(scopes_query("m", &filters, "p"), r#"max(m{a="x\"} or m{b=\"\\\n"}) by (p)"#);
    }
}
