//! Values of Python, as far as expressions can make them: what is true, what
//! equals what, what comes before what, and their text.

use std::{borrow::Cow, cmp::Ordering};

use serde_json::Value as Json;

use super::number::{self, Number};
use crate::{
    dataframe::{DataPoint, Labels, python_float},
    decimal::Decimal,
    text::python_repr,
};

/// What raises in Python. The scope's period fails, as in the reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("skip_datapoints_expression: {0}")]
pub struct EvalError(String);

pub(super) type Evaluated<'a> = Result<Value<'a>, EvalError>;

/// Raises.
pub(super) fn raise<T>(problem: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError(problem.into()))
}

/// A value of Python.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    /// Python's have no limit. What needs more raises here.
    Int(i128),
    Float(f64),
    Decimal(Decimal),
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    Tuple(Vec<Value<'a>>),
    Dict(Dict<'a>),
    /// A set or a view of a dictionary. Stands only where it is looked through.
    View(View, Vec<Value<'a>>),
}

/// How one looks for something in a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// A set, or the keys of a dictionary: by its hash.
    Hashed,
    /// The values of a dictionary: one after the other.
    Values,
    /// The pairs of a dictionary: by the hash of its first half.
    Pairs,
}

/// A dictionary: a part of the data point, or one that is written out.
#[derive(Debug, Clone)]
pub(super) enum Dict<'a> {
    Point(&'a DataPoint),
    Vol(&'a DataPoint),
    Rating(&'a DataPoint),
    Labels(&'a Labels),
    /// Every key is there once.
    Written(Vec<(Value<'a>, Value<'a>)>),
}

impl<'a> Value<'a> {
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    /// A number of things.
    pub(super) fn count(count: usize) -> Self {
        // A `usize` has 64 bits at most.
        Self::Int(count as i128)
    }

    fn of_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::None,
            Json::Bool(flag) => Self::Bool(*flag),
            Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(number), ..) => Self::Int(number.into()),
                (None, Some(number), _) => Self::Int(number.into()),
                (None, None, number) => Self::Float(number.unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::text(text.as_str()),
            Json::Array(items) => Self::List(items.iter().map(Self::of_json).collect()),
            Json::Object(labels) => Self::Dict(Dict::Labels(labels)),
        }
    }

    /// What Python calls its type.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Decimal(_) => "Decimal",
            Self::Text(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::View(..) => "view",
        }
    }

    /// As a number; booleans are numbers in Python.
    pub(super) fn number(&self) -> Option<Number> {
        match self {
            Self::Bool(flag) => Some(Number::Int((*flag).into())),
            Self::Int(number) => Some(Number::Int(*number)),
            Self::Float(number) => Some(Number::Float(*number)),
            Self::Decimal(number) => Some(Number::Decimal(*number)),
            _ => None,
        }
    }

    /// As a place in a sequence, or a number of times.
    pub(super) fn index(&self) -> Option<i128> {
        match self {
            Self::Bool(flag) => Some((*flag).into()),
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// Python's `bool()`.
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(flag) => *flag,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Decimal(number) => !number.is_zero(),
            Self::Text(text) => !text.is_empty(),
            Self::List(items) | Self::Tuple(items) | Self::View(_, items) => !items.is_empty(),
            Self::Dict(dict) => dict.len() > 0,
        }
    }

    /// Python's `==`: numbers by value, whatever their kind; other kinds differ.
    pub(super) fn equals(&self, other: &Value<'_>) -> bool {
        let all = |left: &[Value<'_>], right: &[Value<'_>]| {
            left.len() == right.len() && left.iter().zip(right).all(|(a, b)| a.equals(b))
        };
        match (self, other) {
            (Self::None, Value::None) => true,
            (Self::Text(left), Value::Text(right)) => left == right,
            (Self::List(left), Value::List(right)) | (Self::Tuple(left), Value::Tuple(right)) => {
                all(left, right)
            }
            (Self::Dict(left), Value::Dict(right)) => {
                let is_in_right = |(key, value): &(Value<'_>, Value<'_>)| {
                    right.find(key).is_some_and(|other| value.equals(&other))
                };
                left.len() == right.len() && left.pairs().iter().all(is_in_right)
            }
            _ => match (self.number(), other.number()) {
                (Some(left), Some(right)) => number::order(left, right) == Some(Ordering::Equal),
                _ => false,
            },
        }
    }

    /// Whether one of Python's `<`, `<=`, `>`, `>=` holds: `accepts` tells it
    /// of the order of two values.
    pub(super) fn is_ordered(
        &self,
        other: &Value<'_>,
        accepts: &dyn Fn(Ordering) -> bool,
    ) -> Result<bool, EvalError> {
        match (self, other) {
            (Self::Text(left), Value::Text(right)) => Ok(accepts(left.cmp(right))),
            (Self::List(left), Value::List(right)) | (Self::Tuple(left), Value::Tuple(right)) => {
                // The first that differ decide, or else the lengths.
                match left.iter().zip(right).find(|(a, b)| !a.equals(b)) {
                    Some((a, b)) => a.is_ordered(b, accepts),
                    None => Ok(accepts(left.len().cmp(&right.len()))),
                }
            }
            _ => match (self.number(), other.number()) {
                (Some(left), Some(right)) => match number::order(left, right) {
                    Some(order) => Ok(accepts(order)),
                    None if matches!(left, Number::Decimal(_))
                        || matches!(right, Number::Decimal(_)) =>
                    {
                        raise("a Decimal and a NaN have no order")
                    }
                    None => Ok(false),
                },
                _ => raise(format!("{} and {} have no order", self.kind(), other.kind())),
            },
        }
    }

    /// Python's `in`, from its right side.
    pub(super) fn contains(&self, wanted: &Value<'_>) -> Result<bool, EvalError> {
        match self {
            Self::Text(text) => match wanted {
                Value::Text(part) => Ok(text.contains(part.as_ref())),
                _ => raise(format!("{} cannot be in str", wanted.kind())),
            },
            Self::List(items) | Self::Tuple(items) | Self::View(View::Values, items) => {
                Ok(items.iter().any(|item| item.equals(wanted)))
            }
            Self::View(View::Hashed, items) => {
                wanted.check_hash()?;
                Ok(items.iter().any(|item| item.equals(wanted)))
            }
            Self::View(View::Pairs, items) => {
                if let Value::Tuple(pair) = wanted
                    && let [key, _] = pair.as_slice()
                {
                    key.check_hash()?;
                }
                Ok(items.iter().any(|item| item.equals(wanted)))
            }
            Self::Dict(dict) => Ok(dict.get(wanted)?.is_some()),
            other => raise(format!("nothing can be in {}", other.kind())),
        }
    }

    /// Raises for what cannot be a key.
    pub(super) fn check_hash(&self) -> Result<(), EvalError> {
        match self {
            Self::List(_) | Self::Dict(_) | Self::View(..) => {
                raise(format!("{} cannot be a key", self.kind()))
            }
            Self::Tuple(items) => items.iter().try_for_each(Value::check_hash),
            _ => Ok(()),
        }
    }

    /// What a loop over it sees.
    pub(super) fn items(&self) -> Result<Vec<Value<'a>>, EvalError> {
        match self {
            Self::Text(text) => Ok(text.chars().map(|c| Value::text(c.to_string())).collect()),
            Self::List(items) | Self::Tuple(items) | Self::View(_, items) => Ok(items.clone()),
            Self::Dict(dict) => Ok(dict.pairs().into_iter().map(|(key, _)| key).collect()),
            other => raise(format!("{} has no items", other.kind())),
        }
    }

    /// Python's `str()`.
    pub(super) fn show(&self) -> Result<String, EvalError> {
        match self {
            Self::Text(text) => Ok(text.clone().into_owned()),
            Self::Decimal(number) => Ok(number.to_string()),
            other => other.repr(),
        }
    }

    /// Python's `repr()`.
    pub(super) fn repr(&self) -> Result<String, EvalError> {
        let joined = |items: &[Value<'_>]| -> Result<String, EvalError> {
            let items: Vec<_> = items.iter().map(Value::repr).collect::<Result<_, _>>()?;
            Ok(items.join(", "))
        };
        Ok(match self {
            Self::None => "None".to_owned(),
            Self::Bool(true) => "True".to_owned(),
            Self::Bool(false) => "False".to_owned(),
            Self::Int(number) => number.to_string(),
            Self::Float(number) => python_float(*number),
            Self::Decimal(number) => format!("Decimal('{number}')"),
            Self::Text(text) => match text.chars().find(|c| !is_known(*c)) {
                None => python_repr(text),
                Some(c) => {
                    let code = u32::from(c);
                    return raise(format!("how U+{code:04X} is quoted depends on the Python"));
                }
            },
            Self::Tuple(items) if items.len() == 1 => format!("({},)", joined(items)?),
            Self::Tuple(items) => format!("({})", joined(items)?),
            Self::List(items) => format!("[{}]", joined(items)?),
            Self::Dict(dict) => {
                let pairs = dict.pairs();
                let pairs =
                    pairs.iter().map(|(key, value)| Ok([key.repr()?, value.repr()?].join(": ")));
                format!("{{{}}}", pairs.collect::<Result<Vec<_>, EvalError>>()?.join(", "))
            }
            Self::View(..) => return raise("a view has no text"),
        })
    }
}

/// Whether all releases of Python agree if a character is quoted as it is. Of
/// signs that are neither letters nor numbers, more are added with each.
fn is_known(c: char) -> bool {
    c.is_alphanumeric()
        || matches!(c,
            '\0'..='\u{377}'
            | '\u{900}'..='\u{97f}'
            | '\u{e01}'..='\u{e3a}'
            | '\u{e3f}'..='\u{e5b}'
            | '\u{2000}'..='\u{2064}'
            | '\u{20a0}'..='\u{20bf}'
            | '\u{2100}'..='\u{218b}'
            | '\u{2190}'..='\u{2426}'
            | '\u{2460}'..='\u{2b73}'
            | '\u{3000}'..='\u{303f}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ff01}'..='\u{ffbe}'
            | '\u{1f300}'..='\u{1f6d5}'
            | '\u{1f900}'..='\u{1f978}')
}

impl<'a> Dict<'a> {
    /// One of pairs: of equal keys, the first keeps its place and the last its
    /// value.
    pub(super) fn of(pairs: Vec<(Value<'a>, Value<'a>)>) -> Result<Self, EvalError> {
        let mut written: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            key.check_hash()?;
            match written.iter_mut().find(|(known, _)| known.equals(&key)) {
                Some((_, old)) => *old = value,
                None => written.push((key, value)),
            }
        }
        Ok(Self::Written(written))
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, key: &Value<'_>) -> Result<Option<Value<'a>>, EvalError> {
        key.check_hash()?;
        Ok(self.find(key))
    }

    fn find(&self, key: &Value<'_>) -> Option<Value<'a>> {
        let text = match key {
            Value::Text(text) => Some(text.as_ref()),
            _ => None,
        };
        match (self, text) {
            (Self::Labels(labels), Some(name)) => labels.get(name).map(Value::of_json),
            (Self::Written(pairs), _) => {
                let found = pairs.iter().find(|(known, _)| known.equals(key));
                found.map(|(_, value)| value.clone())
            }
            (_, Some(name)) => self.part(name),
            (_, None) => None,
        }
    }

    /// A part of the data point.
    fn part(&self, name: &str) -> Option<Value<'a>> {
        match (self, name) {
            (Self::Point(point), "vol") => Some(Value::Dict(Dict::Vol(point))),
            (Self::Point(point), "rating") => Some(Value::Dict(Dict::Rating(point))),
            (Self::Point(point), "groupby") => Some(Value::Dict(Dict::Labels(&point.groupby))),
            (Self::Point(point), "metadata") => Some(Value::Dict(Dict::Labels(&point.metadata))),
            (Self::Vol(point), "unit") => Some(Value::text(&*point.unit)),
            (Self::Vol(point), "qty") => Some(Value::Decimal(point.qty)),
            (Self::Rating(point), "price") => Some(Value::Decimal(point.price)),
            _ => None,
        }
    }

    /// Names of the parts of a data point.
    fn names(&self) -> &'static [&'static str] {
        match self {
            Self::Point(_) => &["vol", "rating", "groupby", "metadata"],
            Self::Vol(_) => &["unit", "qty"],
            Self::Rating(_) => &["price"],
            Self::Labels(_) | Self::Written(_) => &[],
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Labels(labels) => labels.len(),
            Self::Written(pairs) => pairs.len(),
            other => other.names().len(),
        }
    }

    /// All keys and values, in order.
    pub(super) fn pairs(&self) -> Vec<(Value<'a>, Value<'a>)> {
        match self {
            Self::Labels(labels) => labels
                .iter()
                .map(|(name, value)| (Value::text(name.as_str()), Value::of_json(value)))
                .collect(),
            Self::Written(pairs) => pairs.clone(),
            other => {
                let part = |name: &&'static str| Some((Value::text(*name), other.part(name)?));
                other.names().iter().filter_map(part).collect()
            }
        }
    }
}
