//! Decimals from text and as text, where the library would take a detour over strings
//! of C: most numbers of a catch-up pass here, twice as text.
//!
//! What is read here is what needs no decision: some digits, with a point among them or
//! without. Everything else is the library's to read.

use std::fmt;

use super::Inner;

/// Most digits that are read here: as many as a `u64` holds.
const SHORT: u32 = 18;

/// Digits of a unit of the library.
const UNIT: u64 = 1_000;

/// The library's mark of a negative number.
const NEGATIVE: u8 = 0x80;

/// Reads digits with a point or without, and a minus; `None` where the library has to.
pub(super) fn parse_plain(text: &str) -> Option<Inner> {
    let (bits, rest) = match text.strip_prefix('-') {
        Some(rest) => (NEGATIVE, rest),
        None => (0, text),
    };
    let (mut coefficient, mut read, mut places, mut has_point) = (0_u64, 0, 0, false);
    for byte in rest.bytes() {
        match byte {
            b'0'..=b'9' if read < SHORT => {
                coefficient = coefficient * 10 + u64::from(byte - b'0');
                read += 1;
                places += i32::from(has_point);
            }
            b'.' if !has_point => has_point = true,
            _ => return None,
        }
    }
    if read == 0 {
        return None;
    }
    let mut units = [0; 14];
    let mut left = coefficient;
    for unit in &mut units {
        *unit = u16::try_from(left % UNIT).ok()?;
        left /= UNIT;
    }
    let digits = coefficient.checked_ilog10().unwrap_or(0) + 1;
    Some(Inner::from_raw_parts(digits, -places, bits, units))
}

/// Writes a finite number by the specification's to-scientific-string, as Python does.
/// <https://speleotrove.com/decimal/daconvs.html>
pub(super) fn write(value: &Inner, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = Text::default();
    if value.is_negative() {
        text.push(b'-');
    }
    let mut digits = Text::default();
    for (at, unit) in value.coefficient_units().iter().rev().enumerate() {
        // The first one has no zeros in front.
        for divisor in [100, 10, 1] {
            let digit = unit / divisor % 10;
            if at > 0 || digits.length > 0 || *unit >= divisor || divisor == 1 {
                digits.push(b'0' + u8::try_from(digit).unwrap_or_default());
            }
        }
    }
    let digits = digits.as_bytes();
    let (count, exponent) = (i64::try_from(digits.len()).unwrap_or(0), i64::from(value.exponent()));
    // Where the point is, counted from the first digit.
    let point = count + exponent;
    if exponent <= 0 && point > -6 {
        let whole = usize::try_from(point).unwrap_or(0);
        let (before, behind) = digits.split_at_checked(whole).unwrap_or((digits, &[]));
        text.extend(if before.is_empty() { b"0" } else { before });
        if exponent < 0 {
            text.push(b'.');
            (point..0).for_each(|_| text.push(b'0'));
            text.extend(behind);
        }
        return f.write_str(text.as_str());
    }
    for (at, digit) in digits.iter().enumerate() {
        if at == 1 {
            text.push(b'.');
        }
        text.push(*digit);
    }
    f.write_str(text.as_str())?;
    write!(f, "E{:+}", point - 1)
}

/// A short text of ASCII: the longest has a sign, a point, five zeros and all digits.
struct Text {
    bytes: [u8; 64],
    length: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; 64], length: 0 }
    }
}

impl Text {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.push(*byte));
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::decimal::{Decimal, EXACT};

    #[test]
    fn reads_as_the_library_does() {
        let seed = rand::random();
        let mut random = StdRng::seed_from_u64(seed);
        let mut texts: Vec<String> = [
            "0",
            "-0",
            "00",
            "0.",
            ".5",
            "-.5",
            "0.00",
            "-0.00",
            "007.50",
            "999999999999999999",
            "9999999999999999999",
            "0.000000000000000001",
            "1000",
            "1001000000",
            "1.000",
        ]
        .map(str::to_owned)
        .into();
        for _ in 0..5_000 {
            let digits = random.random_range(1..=19);
            let mut text: String =
                (0..digits).map(|_| char::from(b'0' + random.random_range(0..10))).collect();
            if random.random() {
                text.insert(random.random_range(0..=digits), '.');
            }
            if random.random() {
                text.insert(0, '-');
            }
            texts.push(text);
        }
        let mut read = 0;
        for text in texts {
            let library = EXACT.clone().parse(text.as_str()).unwrap();
            let Some(ours) = parse_plain(&text) else { continue };
            assert_eq!(ours.to_raw_parts(), library.to_raw_parts(), "{text}, seed {seed}");
            read += 1;
        }
        assert!(read > 4_000, "{read}");
    }

    #[test]
    fn leaves_to_the_library_what_has_to_be_decided() {
        for text in
            ["", "-", ".", "-.", "+1", "1e3", "1.2.3", " 1", "1 ", "NaN", "inf", "--1", "1_0", "٣"]
        {
            assert!(parse_plain(text).is_none(), "{text}");
        }
    }

    #[test]
    fn writes_as_the_library_does() {
        let seed = rand::random();
        let mut random = StdRng::seed_from_u64(seed);
        for number in 0..20_000 {
            let digits = random.random_range(1..=42);
            let mut text: String =
                (0..digits).map(|_| char::from(b'0' + random.random_range(0..10))).collect();
            if number % 5 == 0 {
                text = "0".to_owned();
            }
            let exponent = match number % 3 {
                0 => random.random_range(-60..20),
                1 => random.random_range(-9..3),
                _ => random.random_range(-9_000..9_000),
            };
            let sign = if random.random() { "-" } else { "" };
            let text = format!("{sign}{text}E{exponent}");
            let value: Decimal = text.parse().unwrap();
            assert_eq!(value.to_string(), value.0.to_string(), "{text}, seed {seed}");
        }
    }

    #[test]
    fn takes_no_short_way_to_another_quantity() {
        let texts = [
            "0",
            "-0",
            "0.00",
            "-0.00",
            "1",
            "-1",
            "1.0",
            "123456789",
            "1234567895",
            "0.1234567895",
            "0.30000000000000004",
            "1e+06",
            "2e-7",
            "-7.50",
            "999999999.5",
            "0.0000000001",
        ];
        let factors = [1.0, 0.0, 2.0, 0.1, 1e9]
            .map(|factor| crate::decimal::Factor::from_f64(factor).unwrap());
        for text in texts {
            let mut context = crate::decimal::QUANTITY.clone();
            let mut slow = context.parse(text).unwrap();
            context.plus(&mut slow);
            let quick = Decimal::parse_quantity(text).unwrap();
            assert_eq!(quick.to_string(), slow.to_string(), "{text}");
            for (factor, offset) in factors.iter().flat_map(|f| factors.iter().map(move |o| (f, o)))
            {
                let mut product = slow;
                context.mul(&mut product, &*factor.value);
                context.add(&mut product, &*offset.value);
                let quick = quick.convert_unit(factor, offset).unwrap();
                assert_eq!(quick.to_string(), product.to_string(), "{text} {factor:?} {offset:?}");
            }
        }
    }
}
