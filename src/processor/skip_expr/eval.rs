//! Evaluates [`Node`]s over a data point, with Python's meaning.

use std::{borrow::Cow, cmp::Ordering};

use serde_json::Value as Json;

use super::parse::{Arithmetic, Comparison, Function, Method, Node};
use crate::{
    dataframe::{DataPoint, Labels, python_float, python_str},
    decimal::Decimal,
};

/// What raises in Python. The scope's period fails, as in the reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("skip_datapoints_expression: {0}")]
pub struct EvalError(String);

/// A value of Python.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Decimal(Decimal),
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    Dict(Dict<'a>),
}

/// A dictionary: a part of the data point, or one that is written out.
#[derive(Debug, Clone)]
pub(super) enum Dict<'a> {
    Point(&'a DataPoint),
    Vol(&'a DataPoint),
    Rating(&'a DataPoint),
    Labels(&'a Labels),
    Written(Vec<(Value<'a>, Value<'a>)>),
}

type Evaluated<'a> = Result<Value<'a>, EvalError>;

fn raise<T>(problem: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError(problem.into()))
}

impl<'a> Value<'a> {
    fn of_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::None,
            Json::Bool(flag) => Self::Bool(*flag),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => Self::Int(number),
                (None, number) => Self::Float(number.unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::Text(text.as_str().into()),
            Json::Array(items) => Self::List(items.iter().map(Self::of_json).collect()),
            Json::Object(labels) => Self::Dict(Dict::Labels(labels)),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Decimal(_) => "Decimal",
            Self::Text(_) => "str",
            Self::List(_) => "list",
            Self::Dict(_) => "dict",
        }
    }

    /// The exact value of a number; booleans are numbers in Python.
    fn number(&self) -> Option<Decimal> {
        match self {
            Self::Bool(flag) => Some(Decimal::from(i64::from(*flag))),
            Self::Int(number) => Some(Decimal::from(*number)),
            Self::Float(number) => Decimal::from_f64_exact(*number).ok(),
            Self::Decimal(number) => Some(*number),
            Self::None | Self::Text(_) | Self::List(_) | Self::Dict(_) => None,
        }
    }
}

impl<'a> Dict<'a> {
    fn get(&self, key: &Value<'_>) -> Option<Value<'a>> {
        let text = match key {
            Value::Text(text) => Some(text.as_ref()),
            _ => None,
        };
        match (self, text) {
            (Self::Point(point), Some("vol")) => Some(Value::Dict(Dict::Vol(point))),
            (Self::Point(point), Some("rating")) => Some(Value::Dict(Dict::Rating(point))),
            (Self::Point(point), Some("groupby")) => {
                Some(Value::Dict(Dict::Labels(&point.groupby)))
            }
            (Self::Point(point), Some("metadata")) => {
                Some(Value::Dict(Dict::Labels(&point.metadata)))
            }
            (Self::Vol(point), Some("unit")) => Some(Value::Text((&*point.unit).into())),
            (Self::Vol(point), Some("qty")) => Some(Value::Decimal(point.qty)),
            (Self::Rating(point), Some("price")) => Some(Value::Decimal(point.price)),
            (Self::Labels(labels), Some(name)) => labels.get(name).map(Value::of_json),
            (Self::Written(pairs), _) => {
                let found = pairs.iter().rev().find(|(known, _)| equal(known, key));
                found.map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Point(_) => 4,
            Self::Vol(_) => 2,
            Self::Rating(_) => 1,
            Self::Labels(labels) => labels.len(),
            Self::Written(pairs) => pairs.len(),
        }
    }
}

/// Python's `bool()`.
pub(super) fn truth(value: &Value<'_>) -> bool {
    match value {
        Value::None => false,
        Value::Bool(flag) => *flag,
        Value::Int(number) => *number != 0,
        Value::Float(number) => *number != 0.0,
        Value::Decimal(number) => !number.is_zero(),
        Value::Text(text) => !text.is_empty(),
        Value::List(items) => !items.is_empty(),
        Value::Dict(dict) => dict.len() > 0,
    }
}

/// Python's `==`: numbers by value, whatever their kind; different kinds differ.
fn equal(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::None, Value::None) => true,
        (Value::Text(left), Value::Text(right)) => left == right,
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(a, b)| equal(a, b))
        }
        (Value::Float(left), Value::Float(right)) => left == right,
        _ => match (left.number(), right.number()) {
            (Some(left), Some(right)) => left == right,
            _ => false,
        },
    }
}

/// Evaluates an expression over a data point.
pub(super) fn eval<'a>(node: &'a Node, point: &'a DataPoint) -> Evaluated<'a> {
    Ok(match node {
        Node::None => Value::None,
        Node::Bool(flag) => Value::Bool(*flag),
        Node::Int(number) => Value::Int(*number),
        Node::Float(number) => Value::Float(*number),
        Node::Text(text) => Value::Text(text.as_str().into()),
        Node::List(items) => {
            Value::List(items.iter().map(|item| eval(item, point)).collect::<Result<_, _>>()?)
        }
        Node::Dict(pairs) => {
            let pairs =
                pairs.iter().map(|(key, value)| Ok((eval(key, point)?, eval(value, point)?)));
            Value::Dict(Dict::Written(pairs.collect::<Result<_, _>>()?))
        }
        Node::Datapoint => Value::Dict(Dict::Point(point)),
        Node::Logic { and, operands } => {
            // The value of the operand that decides, as in Python.
            let mut value = Value::Bool(*and);
            for operand in operands {
                value = eval(operand, point)?;
                if truth(&value) != *and {
                    break;
                }
            }
            value
        }
        Node::Not(operand) => Value::Bool(!truth(&eval(operand, point)?)),
        Node::Negative(operand) => {
            arithmetic(Arithmetic::Subtract, &Value::Int(0), &eval(operand, point)?)?
        }
        Node::Arithmetic { op, left, right } => {
            arithmetic(*op, &eval(left, point)?, &eval(right, point)?)?
        }
        Node::Compare { first, rest } => {
            let mut left = eval(first, point)?;
            for (op, right) in rest {
                let right = eval(right, point)?;
                if !compare(*op, &left, &right)? {
                    return Ok(Value::Bool(false));
                }
                left = right;
            }
            Value::Bool(true)
        }
        Node::If { test, yes, no } => {
            eval(if truth(&eval(test, point)?) { yes } else { no }, point)?
        }
        Node::Item { of, key } => item(&eval(of, point)?, &eval(key, point)?)?,
        Node::Method { of, method, arguments } => {
            let arguments: Vec<_> =
                arguments.iter().map(|argument| eval(argument, point)).collect::<Result<_, _>>()?;
            call_method(&eval(of, point)?, *method, &arguments)?
        }
        Node::Call { function, argument } => call(*function, &eval(argument, point)?)?,
    })
}

fn item<'a>(of: &Value<'a>, key: &Value<'_>) -> Evaluated<'a> {
    match (of, key) {
        (Value::Dict(dict), key) => match dict.get(key) {
            Some(value) => Ok(value),
            None => raise(format!("the key {} is not there", show(key))),
        },
        (Value::List(items), Value::Int(at)) => {
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let at = if *at < 0 { at + length } else { *at };
            match usize::try_from(at).ok().and_then(|at| items.get(at)) {
                Some(value) => Ok(value.clone()),
                None => raise("the index is out of range"),
            }
        }
        (of, _) => raise(format!("{} has no items", of.kind())),
    }
}

fn call_method<'a>(of: &Value<'a>, method: Method, arguments: &[Value<'a>]) -> Evaluated<'a> {
    match (of, method, arguments) {
        (Value::Dict(dict), Method::Get, [key]) => Ok(dict.get(key).unwrap_or(Value::None)),
        (Value::Dict(dict), Method::Get, [key, default]) => {
            Ok(dict.get(key).unwrap_or_else(|| default.clone()))
        }
        (Value::Text(text), Method::StartsWith, [Value::Text(start)]) => {
            Ok(Value::Bool(text.starts_with(start.as_ref())))
        }
        (Value::Text(text), Method::EndsWith, [Value::Text(end)]) => {
            Ok(Value::Bool(text.ends_with(end.as_ref())))
        }
        (Value::Text(text), Method::Lower, []) => Ok(Value::Text(text.to_lowercase().into())),
        (Value::Text(text), Method::Upper, []) => Ok(Value::Text(text.to_uppercase().into())),
        (Value::Text(text), Method::Strip, []) => Ok(Value::Text(text.trim().to_owned().into())),
        (of, ..) => raise(format!("{} has no such method for these arguments", of.kind())),
    }
}

fn call<'a>(function: Function, argument: &Value<'a>) -> Evaluated<'a> {
    Ok(match (function, argument) {
        (Function::Len, Value::Text(text)) => length(text.chars().count()),
        (Function::Len, Value::List(items)) => length(items.len()),
        (Function::Len, Value::Dict(dict)) => length(dict.len()),
        (Function::Str, value) => Value::Text(show(value).into()),
        (Function::Float, Value::Text(text)) => match text.trim().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => return raise(format!("`{text}` is no float")),
        },
        (Function::Float, Value::Float(number)) => Value::Float(*number),
        (Function::Float, value) => match value.number() {
            Some(number) => Value::Float(number.to_f64()),
            None => return raise(format!("{} is no float", value.kind())),
        },
        (Function::Int, Value::Text(text)) => match text.trim().parse() {
            Ok(number) => Value::Int(number),
            Err(_) => return raise(format!("`{text}` is no int")),
        },
        (Function::Int, value) => {
            let number = value.number().map(|number| {
                let whole = if number < Decimal::zero() { number.ceil() } else { number.floor() };
                whole.to_plain_string().parse()
            });
            match number {
                Some(Ok(number)) => Value::Int(number),
                _ => return raise(format!("{} is no int", value.kind())),
            }
        }
        (Function::Abs, Value::Int(number)) => Value::Int(number.saturating_abs()),
        (Function::Abs, Value::Float(number)) => Value::Float(number.abs()),
        (Function::Abs, Value::Decimal(number)) => Value::Decimal(number.abs()),
        (_, value) => return raise(format!("the function does not take {}", value.kind())),
    })
}

fn length<'a>(length: usize) -> Value<'a> {
    Value::Int(i64::try_from(length).unwrap_or(i64::MAX))
}

/// Python's `str()`.
fn show(value: &Value<'_>) -> String {
    match value {
        Value::None => "None".to_owned(),
        Value::Bool(flag) => python_str(&Json::Bool(*flag)),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => python_float(*number),
        Value::Decimal(number) => number.to_string(),
        Value::Text(text) => text.clone().into_owned(),
        Value::List(_) | Value::Dict(_) => format!("<{}>", value.kind()),
    }
}

fn arithmetic<'a>(op: Arithmetic, left: &Value<'_>, right: &Value<'_>) -> Evaluated<'a> {
    let word = match op {
        Arithmetic::Add => "+",
        Arithmetic::Subtract => "-",
        Arithmetic::Multiply => "*",
        Arithmetic::Divide => "/",
    };
    let mismatch = || raise(format!("`{word}` does not take {} and {}", left.kind(), right.kind()));
    if let (Arithmetic::Add, Value::Text(left), Value::Text(right)) = (op, left, right) {
        return Ok(Value::Text(format!("{left}{right}").into()));
    }
    let (Some(one), Some(other)) = (left.number(), right.number()) else { return mismatch() };
    if op == Arithmetic::Divide && other.is_zero() {
        return raise("division by zero");
    }
    let is_float = |value: &Value<'_>| matches!(value, Value::Float(_));
    let is_decimal = |value: &Value<'_>| matches!(value, Value::Decimal(_));
    if is_decimal(left) || is_decimal(right) {
        // Python does not mix decimals and floats.
        if is_float(left) || is_float(right) {
            return mismatch();
        }
        return Ok(Value::Decimal(match op {
            Arithmetic::Add => one + other,
            Arithmetic::Subtract => one - other,
            Arithmetic::Multiply => one * other,
            Arithmetic::Divide => one / other,
        }));
    }
    if is_float(left) || is_float(right) || op == Arithmetic::Divide {
        let (one, other) = (one.to_f64(), other.to_f64());
        return Ok(Value::Float(match op {
            Arithmetic::Add => one + other,
            Arithmetic::Subtract => one - other,
            Arithmetic::Multiply => one * other,
            Arithmetic::Divide => one / other,
        }));
    }
    let whole = |value: &Value<'_>| match value {
        Value::Bool(flag) => i64::from(*flag),
        Value::Int(number) => *number,
        _ => 0,
    };
    let (one, other) = (whole(left), whole(right));
    let result = match op {
        Arithmetic::Add => one.checked_add(other),
        Arithmetic::Subtract => one.checked_sub(other),
        Arithmetic::Multiply | Arithmetic::Divide => one.checked_mul(other),
    };
    match result {
        Some(number) => Ok(Value::Int(number)),
        None => raise("a whole number beyond 64 bits"),
    }
}

fn compare(op: Comparison, left: &Value<'_>, right: &Value<'_>) -> Result<bool, EvalError> {
    let same = |left: &Value<'_>, right: &Value<'_>| match (left, right) {
        (Value::None, Value::None) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::None | Value::Bool(_), _) | (_, Value::None | Value::Bool(_)) => false,
        _ => equal(left, right),
    };
    let order = || match (left, right) {
        (Value::Text(left), Value::Text(right)) => Ok(left.cmp(right)),
        _ => match (left.number(), right.number()) {
            (Some(left), Some(right)) => Ok(left.cmp(&right)),
            _ => raise(format!("{} and {} have no order", left.kind(), right.kind())),
        },
    };
    let contains = || match right {
        Value::Text(text) => match left {
            Value::Text(part) => Ok(text.contains(part.as_ref())),
            _ => raise(format!("{} cannot be in str", left.kind())),
        },
        Value::List(items) => Ok(items.iter().any(|item| equal(item, left))),
        Value::Dict(dict) => Ok(dict.get(left).is_some()),
        other => raise(format!("nothing can be in {}", other.kind())),
    };
    Ok(match op {
        Comparison::Equal => equal(left, right),
        Comparison::NotEqual => !equal(left, right),
        Comparison::Less => order()? == Ordering::Less,
        Comparison::LessOrEqual => order()? != Ordering::Greater,
        Comparison::Greater => order()? == Ordering::Greater,
        Comparison::GreaterOrEqual => order()? != Ordering::Less,
        Comparison::Is => same(left, right),
        Comparison::IsNot => !same(left, right),
        Comparison::In => contains()?,
        Comparison::NotIn => !contains()?,
    })
}
