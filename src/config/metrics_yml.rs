//! `metrics.yml`: which metrics are rated, and how each becomes data points.
//!
//! Accepts what the reference's processor accepts (CloudKitty 25.0.0,
//! Prometheus collectors), with these exceptions, each of which it accepts and
//! then fails on at every period: factors that are not finite, and values of a
//! `mutate_map` that are no numbers. What it accepts and silently misreads is
//! accepted here too, with a warning.

use std::{collections::BTreeSet, path::Path};

use super::yaml::{self, Node, Yaml};
use crate::decimal::{Decimal, DecimalError, Factor};

/// How a quantity is changed after its unit was converted.
#[derive(Debug, Clone)]
pub enum Mutate {
    /// Not at all.
    None,
    /// 1 unless it is 0.
    Numbool,
    /// 1 if it is 0, else 0.
    Notnumbool,
    /// Down to a whole number.
    Floor,
    /// Up to a whole number.
    Ceil,
    /// By table, 0 for what is not in it.
    Map(Vec<(Decimal, Decimal)>),
}

/// How the values of a period are folded into one per series, and series into one per group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusArgs {
    /// Aggregation over time and over series: avg, count, max, min, stddev, stdvar or sum.
    pub aggregation_method: String,
    /// Function around the series of the period, such as `abs`.
    pub query_function: Option<String>,
    /// Function over the period in place of the aggregation over time, such as `delta`.
    pub range_function: Option<String>,
    /// Text put before the query as it is.
    pub query_prefix: String,
    /// Text put behind the query as it is.
    pub query_suffix: String,
}

/// One way of turning a metric into data points.
#[derive(Debug, Clone)]
pub struct MetricDefinition {
    /// Key by which the reference orders and tells definitions apart:
    /// the metric, or `metric@#alt_name`.
    pub conf_key: String,
    /// Name of the metric in Prometheus.
    pub metric: String,
    /// Type of the data points: `alt_name`, or the metric's name in the file.
    pub frame_type: String,
    /// Unit of the quantity.
    pub unit: String,
    /// What the metric is, for people.
    pub description: Option<String>,
    /// Labels that tell data points apart, the scope key among them.
    pub groupby: Vec<String>,
    /// Labels kept beside.
    pub metadata: Vec<String>,
    /// Factor of the unit's conversion.
    pub factor: Factor,
    /// Offset of the unit's conversion.
    pub offset: Factor,
    /// What is done to the quantity then.
    pub mutate: Mutate,
    /// Expression that tells which rated points are not stored.
    pub skip_datapoints_expression: Option<String>,
    /// How the query is built.
    pub args: PrometheusArgs,
}

/// All definitions of a file.
#[derive(Debug, Clone)]
pub struct MetricsConf {
    /// Definitions, ordered by [`MetricDefinition::conf_key`].
    pub metrics: Vec<MetricDefinition>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// Why a metrics file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// It cannot be read.
    #[error("cannot read metrics file `{path}`: {source}; check [collect] metrics_conf")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no YAML.
    #[error("metrics file `{path}`, {source}")]
    Yaml {
        /// The file.
        path: String,
        /// What is wrong, and where.
        source: yaml::YamlError,
    },
    /// A definition is wrong.
    #[error("metrics file `{path}`, line {line}: {place}: {problem}")]
    Invalid {
        /// The file.
        path: String,
        /// Line, from 1.
        line: usize,
        /// Metric and key.
        place: String,
        /// What is wrong.
        problem: String,
    },
}

/// Aggregations that the reference's schema allows.
pub const AGGREGATION_METHODS: [&str; 7] =
    ["avg", "count", "max", "min", "stddev", "stdvar", "sum"];
/// Query functions that the reference's schema allows.
pub const QUERY_FUNCTIONS: [&str; 9] =
    ["abs", "ceil", "exp", "floor", "ln", "log10", "log2", "round", "sqrt"];
/// Range functions that the reference's schema allows. `irange` is no PromQL
/// function; Prometheus refuses it.
pub const RANGE_FUNCTIONS: [&str; 7] =
    ["changes", "delta", "deriv", "idelta", "irange", "irate", "rate"];

/// Reads a metrics file.
///
/// # Errors
/// [`MetricsError`], naming file, line, metric and key.
pub fn read(path: &Path, scope_key: &str) -> Result<MetricsConf, MetricsError> {
    parse(&read_text(path)?, &path.display().to_string(), scope_key)
}

/// Reads a metrics file as it is, whether it can be used or not.
///
/// # Errors
/// A file that cannot be read, or is no YAML.
pub fn read_json(path: &Path) -> Result<serde_json::Value, MetricsError> {
    let root = yaml::load(&read_text(path)?);
    let path = path.display().to_string();
    Ok(root.map_err(|source| MetricsError::Yaml { path, source })?.to_json())
}

fn read_text(path: &Path) -> Result<String, MetricsError> {
    std::fs::read(path)
        .and_then(|bytes| {
            String::from_utf8(bytes)
                .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
        })
        .map_err(|source| MetricsError::Io { path: path.display().to_string(), source })
}

/// Reads the text of a metrics file; `path` is for messages.
///
/// # Errors
/// [`MetricsError`], naming file, line, metric and key.
pub fn parse(text: &str, path: &str, scope_key: &str) -> Result<MetricsConf, MetricsError> {
    let root =
        yaml::load(text).map_err(|source| MetricsError::Yaml { path: path.to_owned(), source })?;
    definitions(&root, scope_key).map_err(|Problem { line, place, problem }| {
        MetricsError::Invalid { path: path.to_owned(), line, place, problem }
    })
}

struct Problem {
    line: usize,
    place: String,
    problem: String,
}

fn problem<T>(node: &Node, place: &str, problem: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { line: node.line, place: place.to_owned(), problem: problem.into() })
}

fn definitions(root: &Node, scope_key: &str) -> Result<MetricsConf, Problem> {
    let Yaml::Map(top) = &root.value else {
        return problem(root, "top level", "a mapping with the key `metrics` is needed");
    };
    for (key, _) in top {
        if key.value != Yaml::Str("metrics".into()) {
            return problem(key, "top level", format!("unknown key `{}`", show(key)));
        }
    }
    let Some((_, metrics)) = top.first() else {
        return problem(root, "top level", "the key `metrics` is missing");
    };
    let Yaml::Map(metrics) = &metrics.value else {
        return problem(
            metrics,
            "`metrics`",
            format!("a mapping is needed, not {}", metrics.value.kind()),
        );
    };
    if metrics.is_empty() {
        return problem(root, "`metrics`", "at least one metric is needed");
    }
    let mut conf = MetricsConf { metrics: Vec::new(), warnings: Vec::new() };
    for (name, node) in metrics {
        let Yaml::Str(metric) = &name.value else {
            return problem(
                name,
                "`metrics`",
                format!(
                    "the name of a metric must be text, not {}; put it in quotes",
                    name.value.kind()
                ),
            );
        };
        let items = match &node.value {
            Yaml::List(items) => items.iter().collect(),
            _ => vec![node],
        };
        if items.is_empty() {
            conf.warnings.push(format!(
                "Metric `{metric}` has an empty list of definitions and is not collected"
            ));
        }
        for item in items {
            let definition = definition(metric, item, scope_key, &mut conf.warnings)?;
            if conf.metrics.iter().any(|known| known.conf_key == definition.conf_key) {
                return problem(
                    item,
                    &format!("metric `{metric}`"),
                    format!(
                        "`{}` is defined twice; give each definition an `alt_name` of its own",
                        definition.conf_key
                    ),
                );
            }
            conf.metrics.push(definition);
        }
    }
    // The reference collects in this order.
    conf.metrics.sort_by(|one, other| one.conf_key.cmp(&other.conf_key));
    let mut types = BTreeSet::new();
    for definition in &conf.metrics {
        if !types.insert(&definition.frame_type) {
            conf.warnings.push(format!(
                "Type `{}` is defined by several metrics: all their data points are rated, where the reference keeps those of one",
                definition.frame_type
            ));
        }
    }
    Ok(conf)
}

fn definition(
    metric: &str,
    node: &Node,
    scope_key: &str,
    warnings: &mut Vec<String>,
) -> Result<MetricDefinition, Problem> {
    let place = format!("metric `{metric}`");
    let Yaml::Map(pairs) = &node.value else {
        return problem(node, &place, format!("a mapping is needed, not {}", node.value.kind()));
    };
    let fields = Fields { place: &place, pairs };
    fields.refuse_others(&[
        "unit",
        "description",
        "alt_name",
        "groupby",
        "metadata",
        "factor",
        "offset",
        "mutate",
        "mutate_map",
        "skip_datapoints_expression",
        "extra_args",
    ])?;
    let Some(unit) = fields.text("unit")? else {
        return problem(node, &place, "the key `unit` is missing");
    };
    let alt_name = fields.text("alt_name")?;
    let mut groupby = fields.labels("groupby")?;
    if !groupby.iter().any(|label| label == scope_key) {
        groupby.push(scope_key.to_owned());
    }
    let metadata = fields.labels("metadata")?;
    if let Some(label) = metadata.iter().find(|label| groupby.contains(label)) {
        warnings.push(format!("Metric `{metric}`: label `{label}` is in groupby and in metadata"));
    }
    let conf_key = match &alt_name {
        Some(alt_name) => format!("{metric}@#{alt_name}"),
        None => metric.to_owned(),
    };
    Ok(MetricDefinition {
        // The reference finds the metric again by cutting the key.
        metric: conf_key.split("@#").next().unwrap_or(metric).to_owned(),
        conf_key,
        frame_type: alt_name.unwrap_or_else(|| metric.to_owned()),
        unit,
        description: fields.text("description")?,
        groupby,
        metadata,
        factor: fields.factor("factor", 1)?,
        offset: fields.factor("offset", 0)?,
        mutate: fields.mutate(warnings)?,
        skip_datapoints_expression: fields.text("skip_datapoints_expression")?,
        args: fields.extra_args()?,
    })
}

/// The keys of one definition.
struct Fields<'a> {
    place: &'a str,
    pairs: &'a [(Node, Node)],
}

impl<'a> Fields<'a> {
    fn refuse_others(&self, known: &[&str]) -> Result<(), Problem> {
        for (key, _) in self.pairs {
            if !matches!(&key.value, Yaml::Str(name) if known.contains(&name.as_str())) {
                return problem(
                    key,
                    self.place,
                    format!("unknown key `{}`; known are {}", show(key), known.join(", ")),
                );
            }
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&'a Node> {
        let (_, node) = self
            .pairs
            .iter()
            .find(|(key, _)| matches!(&key.value, Yaml::Str(key) if key == name))?;
        Some(node)
    }

    fn key(&self, name: &str) -> String {
        format!("{}, key `{name}`", self.place)
    }

    /// Text of at least one character.
    fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Node { value: Yaml::Str(text), .. }) if !text.is_empty() => Ok(Some(text.clone())),
            Some(node) if node.value == Yaml::Str(String::new()) => {
                problem(node, &self.key(name), "it must not be empty")
            }
            Some(node) => problem(
                node,
                &self.key(name),
                format!("text is needed, not {}; put it in quotes", node.value.kind()),
            ),
        }
    }

    fn labels(&self, name: &str) -> Result<Vec<String>, Problem> {
        let Some(node) = self.get(name) else { return Ok(Vec::new()) };
        let Yaml::List(items) = &node.value else {
            return problem(
                node,
                &self.key(name),
                format!("a list of labels is needed, not {}", node.value.kind()),
            );
        };
        items
            .iter()
            .map(|item| match &item.value {
                Yaml::Str(label) if !label.is_empty() => Ok(label.clone()),
                _ => problem(
                    item,
                    &self.key(name),
                    format!("`{}` is no label name; put it in quotes", show(item)),
                ),
            })
            .collect()
    }

    fn word(&self, name: &str, words: &[&str]) -> Result<Option<String>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Node { value: Yaml::Str(text), .. }) if words.contains(&text.as_str()) => {
                Ok(Some(text.clone()))
            }
            Some(node) => problem(
                node,
                &self.key(name),
                format!("`{}` is not one of {}", show(node), words.join(", ")),
            ),
        }
    }

    fn factor(&self, name: &str, default: i64) -> Result<Factor, Problem> {
        let Some(node) = self.get(name) else { return Ok(Factor::from_i64(default)) };
        let factor = match &node.value {
            Yaml::Int(value) => Ok(Factor::from_i64(*value)),
            Yaml::Bool(value) => Ok(Factor::from_i64(i64::from(*value))),
            Yaml::BigInt(digits) => Factor::from_integer(digits),
            Yaml::Float(value) => Factor::from_f64(*value),
            Yaml::Str(text) => Factor::from_fraction(text),
            other => Err(DecimalError::Syntax(other.kind().to_owned())),
        };
        factor.or_else(|error| {
            problem(
                node,
                &self.key(name),
                format!("{error}; a number or a fraction such as 1/1024 is needed"),
            )
        })
    }

    fn mutate(&self, warnings: &mut Vec<String>) -> Result<Mutate, Problem> {
        let words = ["NONE", "NUMBOOL", "NOTNUMBOOL", "FLOOR", "CEIL", "MAP"];
        let word = self.word("mutate", &words)?;
        let map = self.mutate_map(warnings)?;
        Ok(match word.as_deref() {
            Some("NUMBOOL") => Mutate::Numbool,
            Some("NOTNUMBOOL") => Mutate::Notnumbool,
            Some("FLOOR") => Mutate::Floor,
            Some("CEIL") => Mutate::Ceil,
            Some("MAP") => {
                if map.is_none() {
                    warnings.push(format!(
                        "{}: mutate is MAP without a mutate_map, so every quantity becomes 0",
                        self.place
                    ));
                }
                Mutate::Map(map.unwrap_or_default())
            }
            _ => {
                if map.is_some() {
                    warnings.push(format!(
                        "{}: mutate_map has no effect, since mutate is not MAP",
                        self.place
                    ));
                }
                Mutate::None
            }
        })
    }

    fn mutate_map(
        &self,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Vec<(Decimal, Decimal)>>, Problem> {
        let Some(node) = self.get("mutate_map") else { return Ok(None) };
        let place = self.key("mutate_map");
        let Yaml::Map(pairs) = &node.value else {
            return problem(
                node,
                &place,
                format!("a mapping is needed, not {}", node.value.kind()),
            );
        };
        let mut map: Vec<(Decimal, Decimal)> = Vec::new();
        for (key, value) in pairs {
            let quantity = match &key.value {
                Yaml::Int(number) => Some(Decimal::from(*number)),
                Yaml::Bool(flag) => Some(Decimal::from(i64::from(*flag))),
                Yaml::Float(number) => exact(*number),
                _ => None,
            };
            let result = match &value.value {
                Yaml::Int(number) => Ok(Decimal::from(*number)),
                Yaml::Bool(flag) => Ok(Decimal::from(i64::from(*flag))),
                Yaml::Float(number) => Decimal::from_f64(*number),
                Yaml::Str(text) => text.parse(),
                other => Err(DecimalError::Syntax(other.kind().to_owned())),
            };
            let result = result.or_else(|error| problem(value, &place, error.to_string()))?;
            match quantity {
                None => warnings.push(format!("{place}: `{}` never matches a quantity", show(key))),
                Some(quantity) => match map.iter_mut().find(|(known, _)| *known == quantity) {
                    Some((_, old)) => *old = result,
                    None => map.push((quantity, result)),
                },
            }
        }
        Ok(Some(map))
    }

    fn extra_args(&self) -> Result<PrometheusArgs, Problem> {
        let place = self.key("extra_args");
        let pairs: &[(Node, Node)] = match self.get("extra_args") {
            None => &[],
            Some(Node { value: Yaml::Map(pairs), .. }) => pairs,
            Some(node) => {
                return problem(
                    node,
                    &place,
                    format!("a mapping is needed, not {}", node.value.kind()),
                );
            }
        };
        let fields = Fields { place: &place, pairs };
        fields.refuse_others(&[
            "aggregation_method",
            "query_function",
            "range_function",
            "query_prefix",
            "query_suffix",
        ])?;
        let free = |name| match fields.get(name) {
            None => Ok(String::new()),
            Some(Node { value: Yaml::Str(text), .. }) => Ok(text.clone()),
            Some(node) => problem(
                node,
                &fields.key(name),
                format!("text is needed, not {}", node.value.kind()),
            ),
        };
        Ok(PrometheusArgs {
            aggregation_method: fields
                .word("aggregation_method", &AGGREGATION_METHODS)?
                .unwrap_or_else(|| "max".to_owned()),
            query_function: fields.word("query_function", &QUERY_FUNCTIONS)?,
            range_function: fields.word("range_function", &RANGE_FUNCTIONS)?,
            query_prefix: free("query_prefix")?,
            query_suffix: free("query_suffix")?,
        })
    }
}

/// The decimal equal to a float, if a quantity (9 digits) can be equal to it
/// at all: 0.5 can, 0.1 cannot, since as a float it is not quite 0.1.
fn exact(value: f64) -> Option<Decimal> {
    let decimal = Decimal::from_f64(value).ok()?;
    let text = format!("{value:.1074}");
    let digits: Decimal = text.trim_end_matches('0').trim_end_matches('.').parse().ok()?;
    (digits == decimal).then_some(decimal)
}

/// A scalar as an operator would recognise it.
fn show(node: &Node) -> String {
    match &node.value {
        Yaml::Null => "null".to_owned(),
        Yaml::Bool(flag) => flag.to_string(),
        Yaml::Int(number) => number.to_string(),
        Yaml::BigInt(text) | Yaml::Str(text) => text.clone(),
        Yaml::Float(number) => number.to_string(),
        other => other.kind().to_owned(),
    }
}

/// Why a sample cannot become a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The sample is no number.
    #[error(transparent)]
    Decimal(#[from] DecimalError),
    /// The sample, or what the definition makes of it, is NaN or infinite.
    #[error("`{0}` is no finite quantity")]
    NotFinite(String),
}

impl MetricDefinition {
    /// The quantity of a sample, from its text in Prometheus' answer: rounded to
    /// 9 significant digits half up, times factor, plus offset (each step
    /// rounded), then mutated.
    ///
    /// # Errors
    /// Samples that are no number, and those that give no finite quantity.
    pub fn quantity(&self, sample: &str) -> Result<Decimal, QuantityError> {
        let not_finite = || QuantityError::NotFinite(sample.to_owned());
        let value = match Decimal::parse_quantity(sample) {
            Ok(value) => value.convert_unit(&self.factor, &self.offset).ok_or_else(not_finite)?,
            // What only asks whether there is something has an answer for NaN
            // and infinities, too; the reference gives the same.
            Err(DecimalError::NotFinite(_)) => {
                let sample = sample.to_lowercase();
                let infinite = sample.contains("inf");
                // A number too large to hold is no infinity; infinity times 0 is nothing.
                if !infinite && !sample.contains("nan") || infinite && self.factor.is_zero() {
                    return Err(not_finite());
                }
                return match self.mutate {
                    Mutate::Numbool => Ok(Decimal::boolean(true)),
                    Mutate::Notnumbool | Mutate::Map(_) => Ok(Decimal::boolean(false)),
                    Mutate::None | Mutate::Floor | Mutate::Ceil => Err(not_finite()),
                };
            }
            Err(DecimalError::OutOfRange(_)) => return Err(not_finite()),
            Err(error) => return Err(error.into()),
        };
        Ok(match &self.mutate {
            Mutate::None => value,
            Mutate::Numbool => Decimal::boolean(!value.is_zero()),
            Mutate::Notnumbool => Decimal::boolean(value.is_zero()),
            Mutate::Floor => value.floor(),
            Mutate::Ceil => value.ceil(),
            Mutate::Map(map) => map
                .iter()
                .find(|(known, _)| *known == value)
                .map_or_else(|| Decimal::boolean(false), |(_, result)| *result),
        })
    }
}
