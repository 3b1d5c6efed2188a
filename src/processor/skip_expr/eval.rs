//! Evaluates [`Node`]s over a data point, with Python's meaning.

use std::cmp::Ordering;

use super::{
    node::{Arithmetic, Attribute, Comparison, Function, Method, Node, Part},
    number::{self, Number},
    text,
    value::{Dict, EvalError, Evaluated, Value, View, raise},
};
use crate::{dataframe::DataPoint, decimal::Decimal};

/// Longest text or list that is repeated to.
const LONGEST: usize = 1 << 20;

/// Evaluates an expression over a data point.
pub(super) fn eval<'a>(node: &'a Node, point: &'a DataPoint) -> Evaluated<'a> {
    let all = |nodes: &'a [Node]| -> Result<Vec<Value<'a>>, EvalError> {
        nodes.iter().map(|node| eval(node, point)).collect()
    };
    Ok(match node {
        Node::None => Value::None,
        Node::Bool(flag) => Value::Bool(*flag),
        Node::Int(number) => Value::Int(*number),
        Node::Float(number) => Value::Float(*number),
        Node::Text(text) => Value::text(text.as_str()),
        Node::List(items) => Value::List(all(items)?),
        Node::Tuple(items) => Value::Tuple(all(items)?),
        Node::Dict(pairs) => {
            let pairs =
                pairs.iter().map(|(key, value)| Ok((eval(key, point)?, eval(value, point)?)));
            Value::Dict(Dict::of(pairs.collect::<Result<_, _>>()?)?)
        }
        Node::Set(items) => {
            let items = all(items)?;
            items.iter().try_for_each(Value::check_hash)?;
            Value::View(View::Hashed, items)
        }
        Node::View { of, part } => view(&eval(of, point)?, *part)?,
        Node::Datapoint => Value::Dict(Dict::Point(point)),
        Node::Logic { and, operands } => {
            // The value of the operand that decides, as in Python.
            let mut value = Value::Bool(*and);
            for operand in operands {
                value = eval(operand, point)?;
                if value.truth() != *and {
                    break;
                }
            }
            value
        }
        Node::Not(operand) => Value::Bool(!eval(operand, point)?.truth()),
        Node::Negative(operand) => number::negative(number(&eval(operand, point)?)?)?,
        Node::Positive(operand) => number::positive(number(&eval(operand, point)?)?),
        Node::Arithmetic { op, left, right } => {
            arithmetic(*op, eval(left, point)?, eval(right, point)?)?
        }
        Node::Power { base, exponent } => number::power(number(&eval(base, point)?)?, *exponent)?,
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
            eval(if eval(test, point)?.truth() { yes } else { no }, point)?
        }
        Node::Item { of, key } => item(&eval(of, point)?, &eval(key, point)?)?,
        Node::Slice { of, bounds } => {
            let of = eval(of, point)?;
            let bound = |at: usize| match &bounds[at] {
                Some(bound) => eval(bound, point),
                None => Ok(Value::None),
            };
            slice(&of, &[bound(0)?, bound(1)?, bound(2)?])?
        }
        Node::Attribute { of, attribute } => attribute_of(&eval(of, point)?, *attribute)?,
        Node::Method { of, method, arguments } => {
            let of = eval(of, point)?;
            let arguments = all(arguments)?;
            match (&of, method, arguments.as_slice()) {
                (Value::Dict(dict), Method::Get, [key]) => dict.get(key)?.unwrap_or(Value::None),
                (Value::Dict(dict), Method::Get, [key, default]) => {
                    dict.get(key)?.unwrap_or_else(|| default.clone())
                }
                _ => text::call(&of, *method, &arguments)?,
            }
        }
        Node::Call { function, arguments } => call(*function, &all(arguments)?)?,
    })
}

fn number(value: &Value<'_>) -> Result<Number, EvalError> {
    match value.number() {
        Some(number) => Ok(number),
        None => raise(format!("{} is no number", value.kind())),
    }
}

fn view<'a>(of: &Value<'a>, part: Part) -> Evaluated<'a> {
    let Value::Dict(dict) = of else { return text::no_method(of) };
    let pairs = dict.pairs().into_iter();
    Ok(match part {
        Part::Keys => Value::View(View::Hashed, pairs.map(|(key, _)| key).collect()),
        Part::Values => Value::View(View::Values, pairs.map(|(_, value)| value).collect()),
        Part::Items => {
            let pairs = pairs.map(|(key, value)| Value::Tuple(vec![key, value]));
            Value::View(View::Pairs, pairs.collect())
        }
    })
}

fn item<'a>(of: &Value<'a>, key: &Value<'_>) -> Evaluated<'a> {
    let place = |length: usize| {
        let Some(at) = key.index() else {
            return raise(format!("{} is no place in {}", key.kind(), of.kind()));
        };
        let at = if at < 0 { at.saturating_add(length as i128) } else { at };
        match usize::try_from(at).ok().filter(|at| *at < length) {
            Some(at) => Ok(at),
            None => raise("the index is out of range"),
        }
    };
    match of {
        Value::Dict(dict) => match dict.get(key)? {
            Some(value) => Ok(value),
            None => raise(format!("the key {} is not there", key.repr().unwrap_or_default())),
        },
        Value::List(items) | Value::Tuple(items) => Ok(items[place(items.len())?].clone()),
        Value::Text(text) => {
            let at = place(text.chars().count())?;
            Ok(Value::text(text.chars().skip(at).take(1).collect::<String>()))
        }
        of => raise(format!("{} has no items", of.kind())),
    }
}

/// `of[start:stop:step]`
fn slice<'a>(of: &Value<'a>, bounds: &[Value<'_>; 3]) -> Evaluated<'a> {
    let length = match of {
        Value::List(items) | Value::Tuple(items) => items.len(),
        Value::Text(text) => text.chars().count(),
        of => return raise(format!("{} has no parts", of.kind())),
    };
    let bound = |bound: &Value<'_>| match (bound, bound.index()) {
        (Value::None, _) => Ok(None),
        (_, Some(number)) => Ok(Some(number)),
        _ => raise(format!("{} is no place in {}", bound.kind(), of.kind())),
    };
    let [start, stop, step] = bounds;
    let step = bound(step)?.unwrap_or(1);
    if step == 0 {
        return raise("a slice of step 0");
    }
    let end = length as i128;
    // Where a slice backwards begins and ends, one place lower.
    let (lowest, highest) = if step < 0 { (-1, end - 1) } else { (0, end) };
    let place = |given: Option<i128>, default: i128| match given {
        None => default,
        Some(at) if at < 0 => at.saturating_add(end).max(lowest),
        Some(at) => at.min(highest),
    };
    let (first, last) = if step < 0 { (highest, lowest) } else { (lowest, highest) };
    let (mut at, stop) = (place(bound(start)?, first), place(bound(stop)?, last));
    let mut places = Vec::new();
    while if step < 0 { at > stop } else { at < stop } {
        places.extend(usize::try_from(at));
        at = at.saturating_add(step);
    }
    let picked = |items: &[Value<'a>]| {
        places.iter().filter_map(|at| items.get(*at)).cloned().collect::<Vec<_>>()
    };
    Ok(match of {
        Value::Tuple(items) => Value::Tuple(picked(items)),
        Value::Text(text) => {
            let chars: Vec<char> = text.chars().collect();
            Value::text(places.iter().filter_map(|at| chars.get(*at)).collect::<String>())
        }
        Value::List(items) => Value::List(picked(items)),
        _ => Value::None,
    })
}

fn attribute_of<'a>(of: &Value<'_>, attribute: Attribute) -> Evaluated<'a> {
    Ok(match (attribute, of.number()) {
        (Attribute::Real, Some(number)) => number.into(),
        (Attribute::Imag | Attribute::Denominator, Some(Number::Int(_))) => {
            Value::Int(i128::from(attribute == Attribute::Denominator))
        }
        (Attribute::Imag, Some(Number::Float(_))) => Value::Float(0.0),
        (Attribute::Imag, Some(Number::Decimal(_))) => Value::Decimal(Decimal::zero()),
        (Attribute::Numerator, Some(Number::Int(number))) => Value::Int(number),
        _ => return raise(format!("{} has no such attribute", of.kind())),
    })
}

fn call<'a>(function: Function, arguments: &[Value<'a>]) -> Evaluated<'a> {
    let [argument, others @ ..] = arguments else { return raise("an argument is missing") };
    Ok(match function {
        Function::Len => match argument {
            Value::Text(text) => Value::count(text.chars().count()),
            Value::List(items) | Value::Tuple(items) | Value::View(_, items) => {
                Value::count(items.len())
            }
            Value::Dict(dict) => Value::count(dict.len()),
            other => return raise(format!("{} has no length", other.kind())),
        },
        Function::Str => Value::text(argument.show()?),
        Function::Repr => Value::text(argument.repr()?),
        Function::Int => number::to_int(argument)?,
        Function::Float => number::to_float(argument)?,
        Function::Bool => Value::Bool(argument.truth()),
        Function::Abs => number::abs(number(argument)?)?,
        Function::Round => match others.first() {
            None | Some(Value::None) => number::rounded(number(argument)?)?,
            Some(places) => match places.index() {
                Some(places) => number::rounded_to(number(argument)?, places)?,
                None => return raise(format!("{} is no number of places", places.kind())),
            },
        },
        Function::Min | Function::Max => {
            let wanted = match function {
                Function::Min => Ordering::Less,
                _ => Ordering::Greater,
            };
            let items = if others.is_empty() { argument.items()? } else { arguments.to_vec() };
            let mut items = items.into_iter();
            let Some(mut best) = items.next() else { return raise("nothing to choose from") };
            for item in items {
                // The first of equal ones stays.
                if item.is_ordered(&best, &|order| order == wanted)? {
                    best = item;
                }
            }
            best
        }
        Function::Any => Value::Bool(argument.items()?.iter().any(Value::truth)),
        Function::All => Value::Bool(argument.items()?.iter().all(Value::truth)),
    })
}

fn arithmetic<'a>(op: Arithmetic, left: Value<'a>, right: Value<'a>) -> Evaluated<'a> {
    match (op, left, right) {
        (Arithmetic::Add, Value::Text(left), Value::Text(right)) => {
            Ok(Value::text(left.into_owned() + &right))
        }
        (Arithmetic::Add, Value::List(left), Value::List(right)) => {
            Ok(Value::List([left, right].concat()))
        }
        (Arithmetic::Add, Value::Tuple(left), Value::Tuple(right)) => {
            Ok(Value::Tuple([left, right].concat()))
        }
        (
            Arithmetic::Multiply,
            of @ (Value::Text(_) | Value::List(_) | Value::Tuple(_)),
            times @ (Value::Int(_) | Value::Bool(_)),
        )
        | (
            Arithmetic::Multiply,
            times @ (Value::Int(_) | Value::Bool(_)),
            of @ (Value::Text(_) | Value::List(_) | Value::Tuple(_)),
        ) => repeated(of, times.index().unwrap_or_default()),
        (op, left, right) => match (left.number(), right.number()) {
            (Some(left), Some(right)) => number::arithmetic(op, left, right),
            _ => raise(format!("arithmetic with {} and {}", left.kind(), right.kind())),
        },
    }
}

fn repeated<'a>(of: Value<'a>, times: i128) -> Evaluated<'a> {
    let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    let fits = |length: usize| match length.checked_mul(times) {
        Some(length) if length <= LONGEST => Ok(times),
        _ => raise("a text or list that is too long"),
    };
    let items = |items: Vec<Value<'a>>| -> Result<Vec<Value<'a>>, EvalError> {
        Ok(vec![items.as_slice(); fits(items.len())?].concat())
    };
    Ok(match of {
        Value::Text(text) => Value::text(text.repeat(fits(text.len())?)),
        Value::List(list) => Value::List(items(list)?),
        Value::Tuple(tuple) => Value::Tuple(items(tuple)?),
        other => other,
    })
}

fn compare(op: Comparison, left: &Value<'_>, right: &Value<'_>) -> Result<bool, EvalError> {
    // One of them is None, True or False.
    let same = match (left, right) {
        (Value::None, Value::None) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        _ => false,
    };
    match op {
        Comparison::Equal => Ok(left.equals(right)),
        Comparison::NotEqual => Ok(!left.equals(right)),
        Comparison::Less => left.is_ordered(right, &Ordering::is_lt),
        Comparison::LessOrEqual => left.is_ordered(right, &Ordering::is_le),
        Comparison::Greater => left.is_ordered(right, &Ordering::is_gt),
        Comparison::GreaterOrEqual => left.is_ordered(right, &Ordering::is_ge),
        Comparison::Is => Ok(same),
        Comparison::IsNot => Ok(!same),
        Comparison::In => right.contains(left),
        Comparison::NotIn => right.contains(left).map(|contains| !contains),
    }
}
