//! The decimal type of every quantity and price, and the arithmetic contexts
//! in which the reference computes with them.
//!
//! Prices are billing, so they are never `f64`. A [`Decimal`] holds up to
//! [`MAX_DIGITS`] significant digits, enough for the reference's
//! `NUMERIC(40, 28)` columns, and never NaN or infinity: those are refused
//! where text becomes a number. Arithmetic follows the General Decimal
//! Arithmetic specification, which is also what Python's `decimal` implements,
//! so that results and their text forms are the reference's, digit for digit:
//!
//! * operators (`+`, `-`, `*`, `/`) work in Python's default context:
//!   28 significant digits, half even ([`RATING_DIGITS`]);
//! * collected values pass [`Decimal::parse_quantity`]: 9 significant digits,
//!   half up ([`QUANTITY_DIGITS`]);
//! * totals are added up by [`Total`], with all digits kept.
//!
//! The only module that names the decimal library; `docs/adr/0002-decimal.md`
//! says why this one.

mod text;

use std::{cmp::Ordering, fmt, iter::Sum, ops, str::FromStr, sync::LazyLock};

use crate::text::without_digit_separators;
use dec::Rounding;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Storage of a decimal: 14 units of three digits.
type Inner = dec::Decimal<14>;
type Context = dec::Context<Inner>;

/// Most significant digits that a [`Decimal`] can hold.
pub const MAX_DIGITS: usize = 42;
/// Largest power of ten of a number that is read. Products of dozens of such
/// numbers stay within the exponents that arithmetic can hold (+-999,999).
const MAX_MAGNITUDE: i64 = 10_000;
/// Significant digits of Python's default decimal context, in which the
/// reference rates.
pub const RATING_DIGITS: usize = 28;
/// Significant digits to which the reference rounds a collected value.
pub const QUANTITY_DIGITS: usize = 9;

static RATING: LazyLock<Context> = LazyLock::new(|| context(RATING_DIGITS, Rounding::HalfEven));
static QUANTITY: LazyLock<Context> = LazyLock::new(|| context(QUANTITY_DIGITS, Rounding::HalfUp));
static EXACT: LazyLock<Context> = LazyLock::new(|| context(MAX_DIGITS, Rounding::HalfEven));

fn context(digits: usize, rounding: Rounding) -> Context {
    let mut context = Context::default();
    context.set_rounding(rounding);
    let sizes = context.set_precision(digits).and(Ok(())).is_ok_and(|()| {
        // Python's default exponent range; beyond it, it reports overflow.
        context.set_max_exponent(999_999).is_ok() && context.set_min_exponent(-999_999).is_ok()
    });
    debug_assert!(sizes, "the context sizes are constants inside the library's limits");
    context
}

/// Why a text is not a usable decimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// The text is no number.
    #[error("`{0}` is not a decimal number")]
    Syntax(String),
    /// The text is NaN or an infinity, or overflows into one.
    #[error("`{0}` is not a finite number")]
    NotFinite(String),
    /// The number is too large or too small to be computed with.
    #[error("`{0}` is out of range")]
    OutOfRange(String),
    /// The number has more digits than can be kept.
    #[error("`{0}` has more than {MAX_DIGITS} significant digits")]
    TooLong(String),
}

/// A finite decimal number of up to [`MAX_DIGITS`] significant digits.
///
/// Equality and order are numeric (`1.0 == 1.00`); the text form keeps the
/// exponent, as Python's does (`1.00` prints as `1.00`).
#[derive(Clone, Copy)]
pub struct Decimal(Inner);

impl Decimal {
    /// Zero, printed `0`.
    pub fn zero() -> Self {
        Self(Inner::zero())
    }

    /// One.
    pub fn one() -> Self {
        Self::from(1)
    }

    /// `1.0` or `0.0`, the text forms of the reference's truth values.
    pub fn boolean(value: bool) -> Self {
        Self::from(if value { 10 } else { 0 }).scaled(-1)
    }

    fn scaled(self, exponent: i32) -> Self {
        let mut value = self.0;
        value.set_exponent(exponent);
        Self(value)
    }

    /// Reads the text of a collected value (a Prometheus sample, such as
    /// `0.30000000000000004` or `1e+06`) as the reference does: rounded once,
    /// half up, to [`QUANTITY_DIGITS`] significant digits.
    ///
    /// # Errors
    /// Text that is no number, and NaN and infinities, which cannot be rated.
    pub fn parse_quantity(text: &str) -> Result<Self, DecimalError> {
        let value = match text::parse_plain(text) {
            Some(value) => Self(value),
            None => Self::parse_in(&QUANTITY, text)?,
        };
        if value.is_short_quantity() {
            return Ok(value);
        }
        // As the reference's unary plus: no negative zero.
        Ok(value.op(&QUANTITY, |context, value| context.plus(value)))
    }

    fn parse_in(context: &Context, text: &str) -> Result<Self, DecimalError> {
        let mut context = context.clone();
        let text = text.trim();
        let value = context.parse(text).map_err(|_| DecimalError::Syntax(clip(text)))?;
        Self::checked(value, text)
    }

    /// Takes a number that was read, if it can be computed with.
    fn checked(value: Inner, text: &str) -> Result<Self, DecimalError> {
        if value.is_signaling_nan() {
            return Err(DecimalError::Syntax(clip(text)));
        }
        let magnitude = i64::from(value.exponent()) + i64::from(value.digits());
        if value.is_finite() && magnitude.abs() > MAX_MAGNITUDE {
            return Err(DecimalError::OutOfRange(clip(text)));
        }
        Self::finite(value).ok_or_else(|| DecimalError::NotFinite(clip(text)))
    }

    fn finite(value: Inner) -> Option<Self> {
        value.is_finite().then_some(Self(value))
    }

    /// The decimal of the shortest text that reads back as `value`, which is
    /// what the reference gets from a JSON number (`Decimal(str(value))`).
    ///
    /// # Errors
    /// NaN and infinities.
    pub fn from_f64(value: f64) -> Result<Self, DecimalError> {
        Self::parse_in(&EXACT, &format!("{value:?}"))
    }

    /// The exact binary value of a float, to 42 digits; never equal to a
    /// shorter decimal that the float only comes near to.
    ///
    /// # Errors
    /// NaN and infinities.
    pub fn from_f64_exact(value: f64) -> Result<Self, DecimalError> {
        Self::parse_in(&EXACT, &format!("{value:.1074}"))
    }

    /// The nearest `f64`, as Python's `float()` gives it; for JSON answers only.
    pub fn to_f64(self) -> f64 {
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    /// Whether the value is zero (of any exponent).
    pub fn is_zero(&self) -> bool {
        self.0.is_zero()
    }

    /// The absolute value, rounded to the rating context.
    #[must_use]
    pub fn abs(self) -> Self {
        self.rate_with(|context, value| context.abs(value))
    }

    /// `self * factor + offset` in the collecting context, each step rounded
    /// to 9 digits, half up; `None` when the result has too large an exponent.
    #[must_use]
    pub fn convert_unit(self, factor: &Factor, offset: &Factor) -> Option<Self> {
        if self.is_short_quantity() && factor.is_one && offset.is_plain_zero {
            return Some(self);
        }
        let mut context = QUANTITY.clone();
        let mut value = self.0;
        context.mul(&mut value, &*factor.value);
        context.add(&mut value, &*offset.value);
        Self::finite(value)
    }

    /// The value with `digits` digits behind the point, half up, as a
    /// `NUMERIC` column keeps it.
    #[must_use]
    pub fn quantize(self, digits: u32) -> Self {
        self.to_exponent(-(i64::from(digits)), Rounding::HalfUp)
    }

    /// The largest integer not above the value, printed without exponent.
    #[must_use]
    pub fn floor(self) -> Self {
        self.to_exponent(0, Rounding::Floor)
    }

    /// The smallest integer not below the value, printed without exponent.
    #[must_use]
    pub fn ceil(self) -> Self {
        self.to_exponent(0, Rounding::Ceiling)
    }

    fn to_exponent(self, exponent: i64, rounding: Rounding) -> Self {
        let mut context = EXACT.clone();
        context.set_rounding(rounding);
        let mut value = self.0;
        let exponent = context.from_i64(exponent);
        context.rescale(&mut value, &exponent);
        // Too large to be written that way: it has no digits behind the point
        // that would have to go.
        let value = Self::finite(value).unwrap_or(self);
        // No negative zero from -0.5.
        value.op(&EXACT, |context, value| context.plus(value))
    }

    /// Whether the collecting context leaves it as it is, and so does the addition of a
    /// zero without places.
    fn is_short_quantity(&self) -> bool {
        self.0.digits() <= QUANTITY_DIGITS as u32
            && (-1_000..=0).contains(&self.0.exponent())
            && !(self.0.is_zero() && self.0.is_negative())
    }

    /// Whether arithmetic would leave the digits as they are.
    fn is_short(&self) -> bool {
        self.0.digits() <= RATING_DIGITS as u32
    }

    /// Whether it is 1 that prints as `1`: a factor of which nothing is left, not even
    /// a place behind the point.
    fn is_plain_one(&self) -> bool {
        self.0.exponent() == 0 && self.0.coefficient_units() == [1] && !self.0.is_negative()
    }

    /// Whether `self + other` is `other` to the last place: a zero adds places behind
    /// the point, where it has more of them.
    fn adds_nothing_to(&self, other: &Self) -> bool {
        self.0.is_zero()
            && !other.0.is_zero()
            && other.0.exponent() <= self.0.exponent()
            && other.is_short()
    }

    fn rate_with(self, op: impl FnOnce(&mut Context, &mut Inner)) -> Self {
        self.op(&RATING, op)
    }

    fn op(self, context: &Context, op: impl FnOnce(&mut Context, &mut Inner)) -> Self {
        let mut context = context.clone();
        let mut value = self.0;
        op(&mut context, &mut value);
        // Operands are finite and of bounded magnitude, so only a zero divisor
        // can leave the numbers; callers exclude it.
        debug_assert!(value.is_finite(), "arithmetic left the finite numbers");
        Self::finite(value).unwrap_or(self)
    }

    /// The text without exponent, trailing zeros kept: `1E+3` is `1000`.
    pub fn to_plain_string(&self) -> String {
        self.0.to_standard_notation_string()
    }
}

/// A factor or offset of a metric definition, with all the digits that the
/// reference gives it: a float counts with its exact binary value
/// (`0.1` is `0.1000000000000000055511151231257827...`).
#[derive(Clone)]
pub struct Factor {
    value: Box<WideInner>,
    /// Whether it is 1 without places behind the point.
    is_one: bool,
    /// Whether it is 0 without places behind the point.
    is_plain_zero: bool,
}

/// Up to 768 digits: no finite `f64` has more.
type WideInner = dec::Decimal<256>;

impl Factor {
    /// The exact value of a float.
    ///
    /// # Errors
    /// NaN and infinities.
    pub fn from_f64(value: f64) -> Result<Self, DecimalError> {
        // 1,074 places write every double in full.
        let text = format!("{value:.1074}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        Self::parse(text).map_err(|_| DecimalError::NotFinite(value.to_string()))
    }

    /// An integer.
    pub fn from_i64(value: i64) -> Self {
        Self::new(dec::Context::<WideInner>::default().from_i64(value))
    }

    /// An integer of any length, in decimal digits.
    ///
    /// # Errors
    /// Text that is no number.
    pub fn from_integer(digits: &str) -> Result<Self, DecimalError> {
        Self::parse(digits)
    }

    /// What Python's `float(Fraction(text))` gives, with all its digits: takes
    /// `1/3`, `0.1`, `1e-3`, `1_000`, blanks around.
    ///
    /// # Errors
    /// Text that is no fraction, a zero below the line, a result out of range.
    pub fn from_fraction(text: &str) -> Result<Self, DecimalError> {
        let syntax = || DecimalError::Syntax(clip(text));
        let body = text.trim();
        let plain = |part: &str| {
            let allowed =
                part.bytes().all(|byte| byte.is_ascii_digit() || b"+-_.eE".contains(&byte));
            let digits = without_digit_separators(part)?;
            (allowed && part.bytes().any(|byte| byte.is_ascii_digit())).then(|| digits.into_owned())
        };
        let value = match body.split_once('/') {
            None => plain(body).and_then(|text| text.parse::<f64>().ok()).ok_or_else(syntax)?,
            Some((above, below)) => {
                let above = plain(above).filter(|text| !text.contains(['.', 'e', 'E']));
                let below = plain(below).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
                let above: Decimal = above.ok_or_else(syntax)?.parse()?;
                let below: Decimal = below.ok_or_else(syntax)?.parse()?;
                if below.is_zero() {
                    return Err(DecimalError::NotFinite(clip(text)));
                }
                // 42 digits decide between the two nearest floats unless the
                // fraction lies within 1e-25 of their middle.
                above.op(&EXACT, |context, value| context.div(value, &below.0)).to_f64()
            }
        };
        Self::from_f64(value)
    }

    fn parse(text: &str) -> Result<Self, DecimalError> {
        let mut context = dec::Context::<WideInner>::default();
        let value = context.parse(text).map_err(|_| DecimalError::Syntax(clip(text)))?;
        if value.is_finite() {
            Ok(Self::new(value))
        } else {
            Err(DecimalError::NotFinite(clip(text)))
        }
    }

    fn new(value: WideInner) -> Self {
        let is_plain = value.exponent() == 0 && !value.is_negative();
        let is = |unit: u16| is_plain && value.coefficient_units() == [unit];
        Self { is_one: is(1), is_plain_zero: is(0), value: Box::new(value) }
    }

    /// Whether it is zero, so that even infinity times it has no value.
    pub fn is_zero(&self) -> bool {
        self.value.is_zero()
    }
}

impl fmt::Debug for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.value, f)
    }
}

/// At most the first 80 characters, for error messages.
fn clip(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    /// Reads a number with all its digits, as Python's `Decimal(text)`.
    fn from_str(text: &str) -> Result<Self, DecimalError> {
        if let Some(value) = text::parse_plain(text) {
            return Ok(Self(value));
        }
        let mut context = EXACT.clone();
        let text = text.trim();
        let value = context.parse(text).map_err(|_| DecimalError::Syntax(clip(text)))?;
        if context.status().inexact() && value.is_finite() {
            return Err(DecimalError::TooLong(clip(text)));
        }
        Self::checked(value, text)
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self(EXACT.clone().from_i64(value))
    }
}

impl fmt::Display for Decimal {
    /// As Python's `str(Decimal)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(&self.0, f)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(&self.0, f)
    }
}

impl Default for Decimal {
    fn default() -> Self {
        Self::zero()
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        // Both are finite, so they compare.
        EXACT.clone().partial_cmp(&self.0, &other.0).unwrap_or(Ordering::Equal)
    }
}

impl ops::Add for Decimal {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        // Zero plus a number is the number, and most sums of prices begin with it.
        match (self.adds_nothing_to(&other), other.adds_nothing_to(&self)) {
            (true, _) => other,
            (_, true) => self,
            _ => self.rate_with(|context, value| context.add(value, &other.0)),
        }
    }
}

impl ops::Sub for Decimal {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.rate_with(|context, value| context.sub(value, &other.0))
    }
}

impl ops::Mul for Decimal {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        // Most points have no factor but the 1 that products begin with.
        match (self.is_plain_one() && other.is_short(), other.is_plain_one() && self.is_short()) {
            (true, _) => other,
            (_, true) => self,
            _ => self.rate_with(|context, value| context.mul(value, &other.0)),
        }
    }
}

impl ops::Div for Decimal {
    type Output = Self;

    /// # Panics
    /// Never; a zero divisor, which callers exclude, gives back `self`.
    fn div(self, other: Self) -> Self {
        self.rate_with(|context, value| context.div(value, &other.0))
    }
}

impl ops::AddAssign for Decimal {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Serialize for Decimal {
    /// As text: a JSON number would lose digits in most readers.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    /// From text, an integer, or a float (read by its shortest text).
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal number")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Decimal, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Decimal, E> {
                Ok(Decimal::from(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Decimal, E> {
                value.to_string().parse().map_err(E::custom)
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Decimal, E> {
                Decimal::from_f64(value).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// An exact running sum: no digit is rounded away while the sum fits
/// [`MAX_DIGITS`] digits (14 before the point with 28 behind it).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total(Decimal);

impl Total {
    /// Adds one value.
    pub fn add(&mut self, value: Decimal) {
        self.0 = self.0.op(&EXACT, |context, sum| context.add(sum, &value.0));
    }

    /// The sum so far.
    pub fn value(&self) -> Decimal {
        self.0
    }
}

impl Sum<Decimal> for Total {
    fn sum<I: Iterator<Item = Decimal>>(values: I) -> Self {
        let mut total = Self::default();
        values.for_each(|value| total.add(value));
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn reads_back_what_it_prints() {
        for text in
            ["0", "0.10", "-0", "1E+3", "1E-28", "123456789012.1234567890123456789012345678"]
        {
            assert_eq!(decimal(text).to_string(), text);
        }
    }

    #[test]
    fn refuses_what_cannot_be_billed() {
        for text in ["", "x", "1,5", "0x10", "1_000", "1 2", "--1"] {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError::Syntax(text.into())));
        }
        for text in ["NaN", "Infinity", "-inf", "1E+9999999"] {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError::NotFinite(text.into())));
        }
        for text in ["1E+10001", "1E-10009", "0E-99999"] {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError::OutOfRange(text.into())));
        }
        let long = "1".repeat(43);
        assert_eq!(long.parse::<Decimal>(), Err(DecimalError::TooLong(long)));
    }

    #[test]
    fn takes_no_short_way_to_another_result() {
        let long = "1.23456789012345678901234567890123456789";
        let texts = [
            "0",
            "-0",
            "0.00",
            "-0.00",
            "0E+3",
            "0E-30",
            "1",
            "-1",
            "1.0",
            "10",
            "1E+1",
            "0.1",
            "1E+3",
            "7.5",
            "-7.50",
            "1E-28",
            "1E+9000",
            "1E-9000",
            "1234567890123456789012345678",
            "12345678901234567890123456785",
            long,
        ];
        for (one, other) in texts.iter().flat_map(|one| texts.iter().map(move |other| (one, other)))
        {
            let (a, b) = (decimal(one), decimal(other));
            let sum = a.rate_with(|context, value| context.add(value, &b.0));
            assert_eq!((a + b).to_string(), sum.to_string(), "{one} + {other}");
            let product = a.rate_with(|context, value| context.mul(value, &b.0));
            assert_eq!((a * b).to_string(), product.to_string(), "{one} * {other}");
        }
    }

    #[test]
    fn rounds_collected_values_half_up_to_nine_digits() {
        let cases = [
            ("0.30000000000000004", "0.300000000"),
            ("1234567885", "1.23456789E+9"),
            ("1e+06", "1E+6"),
            ("1000000.5", "1000000.5"),
        ];
        for (text, rounded) in cases {
            assert_eq!(Decimal::parse_quantity(text).unwrap().to_string(), rounded);
        }
        assert!(Decimal::parse_quantity("NaN").is_err());
        assert!(Decimal::parse_quantity("+Inf").is_err());
    }

    #[test]
    fn multiplies_in_28_digits_half_even() {
        let third = Decimal::one() / decimal("3");
        assert_eq!(third.to_string(), "0.3333333333333333333333333333");
        assert_eq!((third * decimal("3")).to_string(), "0.9999999999999999999999999999");
    }

    #[test]
    fn totals_keep_every_digit() {
        let total: Total =
            [decimal("12345678901234"), decimal("1E-28"), decimal("2E-28")].into_iter().sum();
        assert_eq!(total.value().to_string(), "12345678901234.0000000000000000000000000003");
    }

    #[test]
    fn converts_to_the_nearest_float() {
        assert_eq!(decimal("0.1").to_f64(), 0.1);
        assert_eq!(decimal("0.1000000000000000055511151231").to_f64(), 0.1);
        assert_eq!(Decimal::from_f64(0.1 + 0.2).unwrap().to_string(), "0.30000000000000004");
        assert!(Decimal::from_f64(f64::NAN).is_err());
    }
}
