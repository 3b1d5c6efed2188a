//! Python's three kinds of numbers: order, arithmetic, conversions.

use std::cmp::Ordering;

use super::{
    exact::Exact,
    node::Arithmetic,
    value::{EvalError, Evaluated, Value, raise},
};
use crate::{
    decimal::{Decimal, RATING_DIGITS},
    text::without_digit_separators,
};

/// A number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Int(i128),
    Float(f64),
    Decimal(Decimal),
}

impl From<Number> for Value<'_> {
    fn from(number: Number) -> Self {
        match number {
            Number::Int(number) => Self::Int(number),
            Number::Float(number) => Self::Float(number),
            Number::Decimal(number) => Self::Decimal(number),
        }
    }
}

/// Raises for a whole number that Python could hold.
fn too_large<T>() -> Result<T, EvalError> {
    raise("a whole number of more than 38 digits")
}

fn int<'a>(number: Option<i128>) -> Evaluated<'a> {
    number.map_or_else(too_large, |number| Ok(Value::Int(number)))
}

/// The order of two numbers by their exact values; `None` with a NaN.
pub(super) fn order(left: Number, right: Number) -> Option<Ordering> {
    match (left, right) {
        (Number::Int(left), Number::Int(right)) => Some(left.cmp(&right)),
        (Number::Float(left), Number::Float(right)) => left.partial_cmp(&right),
        (Number::Decimal(left), Number::Decimal(right)) => Some(left.cmp(&right)),
        (Number::Int(left), Number::Float(right)) => int_and_float(left, right),
        (Number::Int(left), Number::Decimal(right)) => Some(decimal(left).cmp(&right)),
        (Number::Decimal(left), Number::Float(right)) => decimal_and_float(left, right),
        (left, right) => order(right, left).map(Ordering::reverse),
    }
}

fn int_and_float(int: i128, float: f64) -> Option<Ordering> {
    let limit = 2_f64.powi(127);
    if float.is_nan() {
        None
    } else if float >= limit {
        Some(Ordering::Less)
    } else if float < -limit {
        Some(Ordering::Greater)
    } else {
        // Exact: what lies between the limits and has places is small.
        let order = int.cmp(&(float.trunc() as i128));
        Some(order.then_with(|| 0.0.partial_cmp(&float.fract()).unwrap_or(Ordering::Equal)))
    }
}

fn decimal_and_float(decimal: Decimal, float: f64) -> Option<Ordering> {
    // Where the nearest floats differ, they differ in the same way.
    match decimal.to_f64().partial_cmp(&float)? {
        Ordering::Equal if float.is_finite() => {
            Some(Exact::from(decimal).order(&Exact::of_float(float)))
        }
        // An infinity is beyond what is only too large for a float.
        Ordering::Equal if float > 0.0 => Some(Ordering::Less),
        Ordering::Equal => Some(Ordering::Greater),
        order => Some(order),
    }
}

fn decimal(number: i128) -> Decimal {
    match i64::try_from(number) {
        Ok(number) => Decimal::from(number),
        // 39 digits at most, of 42.
        Err(_) => number.to_string().parse().unwrap_or_default(),
    }
}

/// Python's `+ - * / // %`, of two numbers.
pub(super) fn arithmetic<'a>(op: Arithmetic, left: Number, right: Number) -> Evaluated<'a> {
    let divides =
        matches!(op, Arithmetic::Divide | Arithmetic::FloorDivide | Arithmetic::Remainder);
    let is_zero = match right {
        Number::Int(number) => number == 0,
        Number::Float(number) => number == 0.0,
        Number::Decimal(number) => number.is_zero(),
    };
    match (left, right) {
        (Number::Decimal(_), Number::Float(_)) | (Number::Float(_), Number::Decimal(_)) => {
            raise("arithmetic with a Decimal and a float")
        }
        _ if divides && is_zero => raise("division by zero"),
        (Number::Decimal(left), Number::Decimal(right)) => decimals(op, left, right),
        (Number::Decimal(left), Number::Int(right)) => decimals(op, left, decimal(right)),
        (Number::Int(left), Number::Decimal(right)) => decimals(op, decimal(left), right),
        (Number::Float(left), Number::Float(right)) => Ok(floats(op, left, right)),
        (Number::Float(left), Number::Int(right)) => Ok(floats(op, left, right as f64)),
        (Number::Int(left), Number::Float(right)) => Ok(floats(op, left as f64, right)),
        (Number::Int(left), Number::Int(right)) => int(match op {
            Arithmetic::Add => left.checked_add(right),
            Arithmetic::Subtract => left.checked_sub(right),
            Arithmetic::Multiply => left.checked_mul(right),
            Arithmetic::Divide => return Ok(Value::Float(ratio(left, right))),
            Arithmetic::FloorDivide => {
                let is_below = left.wrapping_rem(right) != 0 && (left < 0) != (right < 0);
                left.checked_div(right).map(|quotient| quotient - i128::from(is_below))
            }
            Arithmetic::Remainder => {
                let rest = left.wrapping_rem(right);
                Some(if rest != 0 && (rest < 0) != (right < 0) { rest + right } else { rest })
            }
        }),
    }
}

fn decimals<'a>(op: Arithmetic, left: Decimal, right: Decimal) -> Evaluated<'a> {
    Ok(Value::Decimal(match op {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::FloorDivide | Arithmetic::Remainder => {
            let (quotient, rest) = Exact::from(left).divided(&right.into())?;
            if op == Arithmetic::Remainder { rest } else { quotient }.to_decimal()?
        }
    }))
}

fn floats<'a>(op: Arithmetic, left: f64, right: f64) -> Value<'a> {
    Value::Float(match op {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::FloorDivide => floor_and_rest(left, right).0,
        Arithmetic::Remainder => floor_and_rest(left, right).1,
    })
}

/// The quotient of floats rounded down, and what is left, with the sign of the
/// divisor.
fn floor_and_rest(left: f64, right: f64) -> (f64, f64) {
    let mut rest = left % right;
    let mut quotient = (left - rest) / right;
    if rest == 0.0 {
        rest = 0.0_f64.copysign(right);
    } else if (rest < 0.0) != (right < 0.0) {
        rest += right;
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return (0.0_f64.copysign(left / right), rest);
    }
    // It is whole but for rounding.
    let floor = quotient.floor();
    (if quotient - floor > 0.5 { floor + 1.0 } else { floor }, rest)
}

/// The float nearest to the quotient of two whole numbers.
fn ratio(left: i128, right: i128) -> f64 {
    const EXACT: u128 = 1 << 53;
    let (above, below) = (left.unsigned_abs(), right.unsigned_abs());
    if above <= EXACT && below <= EXACT || above == 0 {
        return left as f64 / right as f64;
    }
    // More bits than a float has, the last of which tells of all that follow.
    let (mut quotient, mut rest) = (above / below, above % below);
    let mut places = 0;
    while quotient < EXACT << 2 {
        rest <<= 1;
        quotient = quotient << 1 | u128::from(rest >= below);
        if rest >= below {
            rest -= below;
        }
        places += 1;
    }
    let size = (quotient | u128::from(rest != 0)) as f64 * 2_f64.powi(-places);
    if (left < 0) != (right < 0) { -size } else { size }
}

/// A number to the power of a small whole number.
pub(super) fn power<'a>(base: Number, exponent: u32) -> Evaluated<'a> {
    match base {
        Number::Int(base) => int(base.checked_pow(exponent)),
        Number::Float(base) => {
            let power = base.powf(exponent.into());
            match power.is_infinite() && base.is_finite() {
                true => raise("a float beyond all floats"),
                false => Ok(Value::Float(power)),
            }
        }
        Number::Decimal(base) => {
            Ok(Value::Decimal(Exact::from(base).power(exponent)?.to_decimal()?))
        }
    }
}

/// Python's unary `-`.
pub(super) fn negative<'a>(number: Number) -> Evaluated<'a> {
    match number {
        Number::Int(number) => int(number.checked_neg()),
        Number::Float(number) => Ok(Value::Float(-number)),
        // As any arithmetic, it rounds, and zero has no sign.
        Number::Decimal(number) if number.is_zero() => Ok(Value::Decimal(number.abs())),
        Number::Decimal(number) => Ok(Value::Decimal(number * Decimal::from(-1))),
    }
}

/// Python's unary `+`.
pub(super) fn positive<'a>(number: Number) -> Value<'a> {
    match number {
        Number::Decimal(number) if number.is_zero() => Value::Decimal(number.abs()),
        Number::Decimal(number) => Value::Decimal(number * Decimal::one()),
        number => number.into(),
    }
}

/// Python's `abs()`.
pub(super) fn abs<'a>(number: Number) -> Evaluated<'a> {
    match number {
        Number::Int(number) => int(number.checked_abs()),
        Number::Float(number) => Ok(Value::Float(number.abs())),
        Number::Decimal(number) => Ok(Value::Decimal(number.abs())),
    }
}

/// Python's `round()` without places.
pub(super) fn rounded<'a>(number: Number) -> Evaluated<'a> {
    match number {
        Number::Int(number) => Ok(Value::Int(number)),
        Number::Float(number) => whole(number.round_ties_even()),
        Number::Decimal(number) => {
            int(Exact::from(number).at(0, 40).and_then(|number| number.to_int()))
        }
    }
}

/// Python's `round()` to so many places behind the point, or before it.
pub(super) fn rounded_to<'a>(number: Number, places: i128) -> Evaluated<'a> {
    // Numbers end long before.
    let exponent = -(places.clamp(-100_000, 100_000) as i64);
    match number {
        Number::Int(number) => match exponent > 0 {
            true => {
                let rounded = Exact::of_int(number).at(exponent, 40);
                int(rounded.and_then(|number| number.to_int()))
            }
            false => Ok(Value::Int(number)),
        },
        Number::Float(number) if !number.is_finite() || exponent < -323 => Ok(Value::Float(number)),
        Number::Float(number) if exponent > 308 => Ok(Value::Float(0.0 * number)),
        Number::Float(number) => {
            let rounded = Exact::of_float(number).at(exponent, usize::MAX);
            let rounded = rounded.map_or(number, |rounded| rounded.to_float());
            // The sign of a zero stays.
            let rounded = rounded.copysign(number);
            match rounded.is_finite() {
                true => Ok(Value::Float(rounded)),
                false => raise("a float beyond all floats"),
            }
        }
        Number::Decimal(number) => match Exact::from(number).at(exponent, RATING_DIGITS) {
            Some(number) => Ok(Value::Decimal(number.to_decimal()?)),
            None => raise("a rounded Decimal of more than 28 digits"),
        },
    }
}

/// A float without places as a whole number.
fn whole<'a>(number: f64) -> Evaluated<'a> {
    match number.abs() < 2_f64.powi(127) {
        true => Ok(Value::Int(number as i128)),
        false if number.is_finite() => too_large(),
        false => raise(format!("a float that is {number} is no int")),
    }
}

/// Python's `int()`.
pub(super) fn to_int<'a>(value: &Value<'_>) -> Evaluated<'a> {
    match value {
        Value::Text(text) => match ascii_number(text).and_then(|number| {
            let digits = number.strip_prefix(['-', '+']).unwrap_or(&number);
            let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_whole.then_some(number)
        }) {
            Some(number) => int(number.parse().ok()),
            None => raise(format!("`{text}` is no int")),
        },
        value => match value.number() {
            Some(Number::Int(number)) => Ok(Value::Int(number)),
            Some(Number::Float(number)) => whole(number.trunc()),
            Some(Number::Decimal(number)) => int(Exact::from(number).to_int()),
            None => raise(format!("{} is no int", value.kind())),
        },
    }
}

/// Python's `float()`.
pub(super) fn to_float<'a>(value: &Value<'_>) -> Evaluated<'a> {
    let number = match value {
        Value::Text(text) => ascii_number(text).and_then(|number| number.parse().ok()),
        value => value.number().map(|number| match number {
            Number::Int(number) => number as f64,
            Number::Float(number) => number,
            Number::Decimal(number) => number.to_f64(),
        }),
    };
    match (number, value) {
        (Some(number), _) => Ok(Value::Float(number)),
        (None, Value::Text(text)) => raise(format!("`{text}` is no float")),
        (None, value) => raise(format!("{} is no float", value.kind())),
    }
}

/// The text of a number without spaces around, underscores between digits, and
/// digits of other scripts.
fn ascii_number(text: &str) -> Option<String> {
    let ascii: String = text.trim().chars().map(|c| ascii_digit(c).unwrap_or(c)).collect();
    without_digit_separators(&ascii).map(|text| text.into_owned())
}

/// The zeros of scripts other than Latin; nine digits follow each.
const ZEROS: [u32; 65] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6,
    0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50,
    0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650,
    0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50,
    0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

fn ascii_digit(c: char) -> Option<char> {
    let code = u32::from(c);
    let zero = ZEROS.iter().rev().find(|zero| **zero <= code)?;
    char::from_digit(code - zero, 10)
}
