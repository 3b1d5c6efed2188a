//! LogQL: pure text. Whatever comes from outside goes through [`quote`].
//!
//! Keys of the lines are read by expressions under names of our own. A bare
//! `| json` would lose labels in streams that hold entries with and without
//! structured metadata.
//!
//! <https://grafana.com/docs/loki/latest/query/>

use std::fmt::Write;

/// Label that tells our streams apart, and from those of the reference.
pub const STREAM_LABEL: &str = "ratekitty";

/// A text as a LogQL string, by Go's rules.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            // Go refuses NUL and the byte order mark even within strings.
            c if c.is_control() || c == '\u{feff}' => {
                let _ = write!(quoted, "\\u{:04x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Labels as a selector of exactly these values.
pub fn labels(labels: &[(String, String)]) -> String {
    let pairs: Vec<_> =
        labels.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// Selects streams of ours by their names, which are letters and digits.
pub fn own_streams(common: &[(String, String)], names: &[String]) -> String {
    let mut pairs: Vec<_> =
        common.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    pairs.push(match names {
        [name] => format!("{STREAM_LABEL}={}", quote(name)),
        names => format!("{STREAM_LABEL}=~{}", quote(&names.join("|"))),
    });
    format!("{{{}}}", pairs.join(", "))
}

/// Selects the streams that the reference wrote; `project` narrows them to one
/// value of its label.
pub fn reference_streams(common: &[(String, String)], project: Option<&str>) -> String {
    let mut pairs: Vec<_> =
        common.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    pairs.push(format!("{STREAM_LABEL}=\"\""));
    pairs.extend(project.map(|project| format!("project_id={}", quote(project))));
    format!("{{{}}}", pairs.join(", "))
}

/// Whether an expression can read a key of an object: Loki's expressions have
/// no escapes within their quotes.
pub fn is_readable_key(key: &str) -> bool {
    !key.is_empty() && !key.contains(['"', '\\', ']', '\0', '\u{fffd}'])
}

/// Expressions over the keys of a line, each under a name of its own.
#[derive(Debug, Clone, Default)]
pub struct Extracted {
    paths: Vec<String>,
}

impl Extracted {
    /// The name under which the value at `path` is read.
    pub fn name(&mut self, path: &str) -> String {
        let at = self.paths.iter().position(|known| known == path).unwrap_or_else(|| {
            self.paths.push(path.to_owned());
            self.paths.len() - 1
        });
        format!("rk_{at}")
    }

    /// The stage that reads them; nothing without expressions.
    pub fn stage(&self) -> String {
        let expressions: Vec<_> = self
            .paths
            .iter()
            .enumerate()
            .map(|(at, path)| format!("rk_{at}={}", quote(path)))
            .collect();
        if expressions.is_empty() {
            String::new()
        } else {
            format!(" | json {}", expressions.join(", "))
        }
    }
}

/// The path of a key of an object of the line.
pub fn path(object: &str, key: &str) -> String {
    format!("{object}[\"{key}\"]")
}

/// A condition: the label `name` has one of `values`.
pub fn one_of(name: &str, values: &[String]) -> String {
    let values: Vec<_> = values.iter().map(|value| format!("{name}={}", quote(value))).collect();
    format!("({})", values.join(" or "))
}

/// What a metric query sums up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Entries.
    Count,
    /// Their quantities.
    Qty,
    /// Their prices.
    Price,
}

/// The sum of a measure over the last `seconds`, by the labels `by`. `stages`
/// stand between the selector and the sum.
pub fn sum(
    measure: Measure,
    selector: &str,
    extracted: &Extracted,
    stages: &str,
    by: &[String],
    seconds: i64,
) -> String {
    let grouping = if by.is_empty() { String::new() } else { format!(" by ({})", by.join(", ")) };
    let key = match measure {
        Measure::Count => {
            // Lines that are no JSON would end the query.
            let json = match extracted.stage() {
                json if json.is_empty() => json,
                json => format!("{json} | __error__=\"\""),
            };
            return format!(
                "sum{grouping} (count_over_time({selector}{json}{stages} [{seconds}s]))"
            );
        }
        Measure::Qty => "qty",
        Measure::Price => "price",
    };
    let mut extracted = extracted.clone();
    let value = extracted.name(key);
    let json = extracted.stage();
    format!(
        "sum{grouping} (sum_over_time({selector}{json}{stages} | unwrap {value} | __error__=\"\" [{seconds}s]))"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn quotes_whatever_comes() {
        let cases = [
            ("plain", r#""plain""#),
            (r#"a"} or {b="c"#, r#""a\"} or {b=\"c""#),
            ("back\\slash\nline", r#""back\\slash\nline""#),
            ("\0\u{1b}\u{feff}é😀`", "\"\\u0000\\u001b\\ufeffé😀`\""),
        ];
        for (text, quoted) in cases {
            assert_eq!(quote(text), quoted);
        }
    }

    #[test]
    fn selects_streams() {
        let common = [pair("service", "cloudkitty")];
        assert_eq!(
            own_streams(&common, &["a1".to_owned(), "b2".to_owned()]),
            r#"{service="cloudkitty", ratekitty=~"a1|b2"}"#
        );
        assert_eq!(
            own_streams(&common, &["a1".to_owned()]),
            r#"{service="cloudkitty", ratekitty="a1"}"#
        );
        assert_eq!(
            reference_streams(&common, Some("p\"1")),
            r#"{service="cloudkitty", ratekitty="", project_id="p\"1"}"#
        );
    }

    #[test]
    fn sums_by_labels_of_its_own_names() {
        let mut extracted = Extracted::default();
        let id = extracted.name(&path("groupby", "id"));
        assert_eq!(extracted.name(&path("groupby", "id")), id);
        let stages = format!(" | {}", one_of(&id, &["a".into(), "b\"".into()]));
        assert_eq!(
            sum(Measure::Price, "{s=\"c\"}", &extracted, &stages, &[id], 3600),
            r#"sum by (rk_0) (sum_over_time({s="c"} | json rk_0="groupby[\"id\"]", rk_1="price" | (rk_0="a" or rk_0="b\"") | unwrap rk_1 | __error__="" [3600s]))"#
        );
        assert_eq!(
            sum(Measure::Count, "{s=\"c\"}", &Extracted::default(), "", &[], 60),
            r#"sum (count_over_time({s="c"} [60s]))"#
        );
    }
}
