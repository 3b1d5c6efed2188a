//! Decimal numbers of any length, for what a [`Decimal`] cannot hold on the
//! way: the exact value of a float, and the steps of `//`, `%`, `**`, `round`.
//!
//! They are slow. Comparisons and the four common operations do without.

use std::cmp::Ordering;

use super::value::{EvalError, raise};
use crate::decimal::{Decimal, RATING_DIGITS};

/// `digits` × 10^`exponent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exact {
    negative: bool,
    /// The most significant first, and no zero first; none for zero.
    digits: Vec<u8>,
    exponent: i64,
}

impl From<Decimal> for Exact {
    fn from(number: Decimal) -> Self {
        Self::parse(&number.to_string())
    }
}

impl Exact {
    /// The value of a finite float, with all its digits.
    pub(super) fn of_float(number: f64) -> Self {
        // 1,074 places write every float in full.
        Self::parse(&format!("{number:.1074}"))
    }

    pub(super) fn of_int(number: i128) -> Self {
        Self::parse(&number.to_string())
    }

    /// Reads what numbers of all kinds print.
    fn parse(text: &str) -> Self {
        let (negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (body, exponent) = text.split_once('E').unwrap_or((text, "0"));
        let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
        let digits = whole.bytes().chain(fraction.bytes()).map(|byte| byte.wrapping_sub(b'0'));
        let places = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
        let exponent = exponent.parse::<i64>().unwrap_or(0) - places;
        Self { negative, digits: significant(digits), exponent }
    }

    fn text(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let digits: String = self.digits.iter().map(|digit| char::from(b'0' + digit)).collect();
        let digits = if digits.is_empty() { "0" } else { &digits };
        format!("{sign}{digits}E{}", self.exponent)
    }

    /// As a [`Decimal`], which has at most 42 digits.
    pub(super) fn to_decimal(&self) -> Result<Decimal, EvalError> {
        self.text().parse().or_else(|_| raise("a Decimal beyond the numbers that can be held"))
    }

    /// As the nearest float.
    pub(super) fn to_float(&self) -> f64 {
        self.text().parse().unwrap_or(f64::NAN)
    }

    /// As a whole number; what stands behind the point is cut off.
    pub(super) fn to_int(&self) -> Option<i128> {
        let whole = match usize::try_from(self.exponent) {
            // Zero of whatever exponent.
            _ if self.digits.is_empty() => Vec::new(),
            Ok(zeros) if zeros > 40 => return None,
            Ok(zeros) => [self.digits.as_slice(), &vec![0; zeros]].concat(),
            Err(_) => {
                let behind = usize::try_from(self.exponent.unsigned_abs()).unwrap_or(usize::MAX);
                self.digits[..self.digits.len().saturating_sub(behind)].to_vec()
            }
        };
        whole.iter().try_fold(0_i128, |number, digit| {
            let number = number.checked_mul(10)?;
            let digit = i128::from(*digit);
            if self.negative { number.checked_sub(digit) } else { number.checked_add(digit) }
        })
    }

    fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// How many digits stand before the point; negative if zeros follow it.
    fn magnitude(&self) -> i64 {
        self.exponent.saturating_add(i64::try_from(self.digits.len()).unwrap_or(i64::MAX))
    }

    /// The order of two values, signs left aside.
    fn cmp_size(&self, other: &Self) -> Ordering {
        match (self.is_zero(), other.is_zero()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => {
                let trimmed = |number: &Self| {
                    let end = number.digits.iter().rposition(|digit| *digit != 0);
                    number.digits[..=end.unwrap_or(0)].to_vec()
                };
                let magnitudes = self.magnitude().cmp(&other.magnitude());
                magnitudes.then_with(|| trimmed(self).cmp(&trimmed(other)))
            }
        }
    }

    /// The order of two values.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let negative = |number: &Self| number.negative && !number.is_zero();
        match (negative(self), negative(other)) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.cmp_size(other),
            (true, true) => other.cmp_size(self),
        }
    }

    /// With `count` digits less at its end, half even.
    fn cut(mut self, count: usize) -> Self {
        let keep = self.digits.len().checked_sub(count);
        let rest = self.digits.split_off(keep.unwrap_or(0));
        let is_odd = self.digits.last().is_some_and(|digit| digit % 2 == 1);
        let up = match (keep, rest.split_first()) {
            (Some(_), Some((first, others))) => match first.cmp(&5) {
                Ordering::Less => false,
                Ordering::Equal => is_odd || others.iter().any(|digit| *digit != 0),
                Ordering::Greater => true,
            },
            // All of it is below a tenth of the last place.
            _ => false,
        };
        self.exponent = self.exponent.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
        if up {
            let nines = self.digits.iter().rev().take_while(|digit| **digit == 9).count();
            let at = self.digits.len() - nines;
            self.digits[at..].fill(0);
            match at.checked_sub(1) {
                Some(at) => self.digits[at] += 1,
                None => self.digits.insert(0, 1),
            }
        }
        self
    }

    /// Rounded to so many digits, half even.
    pub(super) fn rounded(self, digits: usize) -> Self {
        match self.digits.len().saturating_sub(digits) {
            0 => self,
            more => {
                let cut = self.cut(more);
                // 9.99 has become 10.00.
                let more = cut.digits.len().saturating_sub(digits);
                if more > 0 { cut.cut(more) } else { cut }
            }
        }
    }

    /// With its last digit at that power of ten, half even; `None` if it would
    /// have more than `most` digits.
    pub(super) fn at(mut self, exponent: i64, most: usize) -> Option<Self> {
        let shift = self.exponent.saturating_sub(exponent);
        if self.is_zero() {
            self.exponent = exponent;
        } else if shift > 0 {
            let zeros = usize::try_from(shift).unwrap_or(usize::MAX);
            if self.digits.len().saturating_add(zeros) > most {
                return None;
            }
            self.digits.resize(self.digits.len() + zeros, 0);
            self.exponent = exponent;
        } else if shift < 0 {
            let length = self.digits.len();
            // More than all digits leave nothing.
            let count = usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX);
            self = self.cut(count.min(length + 1));
            self.exponent = exponent;
        }
        (self.digits.len() <= most).then_some(self)
    }

    fn times(&self, other: &Self) -> Self {
        let mut product = vec![0_u32; self.digits.len() + other.digits.len()];
        for (i, left) in self.digits.iter().enumerate() {
            for (j, right) in other.digits.iter().enumerate() {
                product[i + j + 1] += u32::from(*left) * u32::from(*right);
            }
        }
        let mut carry = 0;
        for place in product.iter_mut().rev() {
            let sum = *place + carry;
            (*place, carry) = (sum % 10, sum / 10);
        }
        Self {
            negative: self.negative != other.negative,
            digits: significant(product.into_iter().map(|digit| digit as u8)),
            exponent: self.exponent.saturating_add(other.exponent),
        }
    }

    /// A power as Python's `decimal` computes it: by squares, with some digits
    /// more than it gives in the end.
    pub(super) fn power(&self, exponent: u32) -> Result<Self, EvalError> {
        let whole = |number: i128| Self::of_int(number);
        match (self.is_zero(), exponent) {
            (true, 0) => return raise("zero to the power of zero"),
            (false, 0) => return Ok(whole(1)),
            (true, exponent) => {
                return Ok(Self { negative: self.negative && exponent % 2 == 1, ..whole(0) });
            }
            (false, _) => {}
        }
        let digits = RATING_DIGITS + exponent.to_string().len() + 2;
        let mut power = self.clone();
        for bit in (0..exponent.ilog2()).rev() {
            power = power.times(&power).rounded(digits);
            if exponent >> bit & 1 == 1 {
                power = power.times(self).rounded(digits);
            }
        }
        Ok(power.rounded(RATING_DIGITS))
    }

    /// The whole quotient and the remainder, as Python's `decimal` has them:
    /// cut towards zero. The divisor is not zero.
    pub(super) fn divided(&self, by: &Self) -> Result<(Self, Self), EvalError> {
        let too_long = || raise("the quotient has more than 28 digits");
        let exponent = self.exponent.min(by.exponent);
        let mut quotient =
            Self { negative: self.negative != by.negative, digits: Vec::new(), exponent: 0 };
        let mut rest = Self { negative: self.negative, digits: Vec::new(), exponent };
        if !self.is_zero() {
            let longer = self.magnitude().saturating_sub(by.magnitude());
            if longer > RATING_DIGITS as i64 {
                return too_long();
            }
            let aligned = |number: &Self| number.clone().at(exponent, usize::MAX);
            let (Some(left), Some(right)) = (aligned(self), aligned(by)) else {
                return too_long();
            };
            for digit in left.digits {
                if !(rest.digits.is_empty() && digit == 0) {
                    rest.digits.push(digit);
                }
                let mut times = 0;
                while is_at_least(&rest.digits, &right.digits) {
                    rest.digits = less(&rest.digits, &right.digits);
                    times += 1;
                }
                if times > 0 || !quotient.digits.is_empty() {
                    quotient.digits.push(times);
                }
            }
            if quotient.digits.len() > RATING_DIGITS {
                return too_long();
            }
        }
        Ok((quotient, rest.rounded(RATING_DIGITS)))
    }
}

/// Digits without the zeros at their begin.
fn significant(digits: impl Iterator<Item = u8>) -> Vec<u8> {
    digits.skip_while(|digit| *digit == 0).collect()
}

fn is_at_least(left: &[u8], right: &[u8]) -> bool {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right)) != Ordering::Less
}

/// The difference of two whole numbers, the second not above the first.
fn less(left: &[u8], right: &[u8]) -> Vec<u8> {
    let mut difference = left.to_vec();
    let offset = left.len() - right.len();
    let mut borrow = false;
    for at in (0..left.len()).rev() {
        let taken = at.checked_sub(offset).map_or(0, |at| right[at]) + u8::from(borrow);
        borrow = difference[at] < taken;
        difference[at] = difference[at] + if borrow { 10 } else { 0 } - taken;
    }
    significant(difference.into_iter())
}
