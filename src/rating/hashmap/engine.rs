//! Applies compiled rules to data points.
//!
//! The arithmetic, its order included, is the reference's: 28 significant
//! digits, half even, after every single operation. Checked point by point
//! against it in `tests/it/parity/hashmap.rs`.

use async_trait::async_trait;

use std::cmp::Ordering;

use serde_json::Value;

use super::{Cost, Field, Levels, Rules, Service};
use crate::{
    dataframe::{DataFrame, DataPoint, python_str},
    decimal::{Decimal, DecimalError},
    rating::{RatingError, RatingModule},
    state::rating_rules::CostType,
    text::without_digit_separators,
};

/// What the highest threshold reached so far was measured on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Measured {
    /// The quantity: its cost counts once, not per unit.
    Service,
    /// A label: its cost counts per unit.
    Field,
}

/// What the rules of one group have come to for the point at hand.
#[derive(Debug, Clone)]
struct GroupPrice {
    /// Highest flat price.
    flat: Decimal,
    /// Product of the factors.
    rate: Decimal,
    /// Highest level reached.
    level: Decimal,
    /// Cost at that level.
    threshold: Cost,
    measured: Measured,
}

impl GroupPrice {
    fn new() -> Self {
        Self {
            flat: Decimal::zero(),
            rate: Decimal::one(),
            // Lower levels than this are never reached, as in the reference.
            level: Decimal::from(-1),
            threshold: Cost { kind: CostType::Flat, cost: Decimal::zero() },
            measured: Measured::Field,
        }
    }

    fn apply_mapping(&mut self, cost: Cost) {
        match cost.kind {
            CostType::Rate => self.rate = self.rate * cost.cost,
            CostType::Flat if cost.cost > self.flat => self.flat = cost.cost,
            CostType::Flat => {}
        }
    }

    fn apply_threshold(&mut self, level: Decimal, cost: Cost, measured: Measured) {
        if level > self.level {
            self.level = level;
            self.threshold = cost;
            self.measured = measured;
        }
    }

    fn price(&self, qty: Decimal) -> Decimal {
        let Cost { kind, cost } = self.threshold;
        let (mut flat, mut rate) = (self.flat, self.rate);
        if self.measured == Measured::Field {
            match kind {
                CostType::Flat => flat += cost,
                CostType::Rate => rate = rate * cost,
            }
        }
        let price = rate * flat * qty;
        match (self.measured, kind) {
            (Measured::Field, _) => price,
            (Measured::Service, CostType::Flat) => price + cost,
            (Measured::Service, CostType::Rate) => price * cost,
        }
    }
}

/// The groups touched by the point at hand, in order; reused from point to point.
struct Scratch {
    /// Place in `prices`, by number of the group.
    places: Vec<Option<usize>>,
    prices: Vec<GroupPrice>,
}

impl Scratch {
    fn new(groups: usize) -> Self {
        Self { places: vec![None; groups], prices: Vec::with_capacity(groups) }
    }

    fn clear(&mut self) {
        self.places.fill(None);
        self.prices.clear();
    }

    fn group(&mut self, number: usize) -> &mut GroupPrice {
        let place = *self.places[number].get_or_insert_with(|| {
            self.prices.push(GroupPrice::new());
            self.prices.len() - 1
        });
        &mut self.prices[place]
    }

    fn apply_levels(
        &mut self,
        thresholds: &[(usize, Levels)],
        reached: impl Fn(&Decimal) -> bool,
        measured: Measured,
    ) {
        for (group, levels) in thresholds {
            for (level, cost) in levels.iter().filter(|(level, _)| reached(level)) {
                self.group(*group).apply_threshold(*level, *cost, measured);
            }
        }
    }
}

/// A label's value as a number: infinities are beyond every level.
enum Measure {
    Finite(Decimal),
    Infinite { positive: bool },
}

impl Measure {
    fn of(value: &Value) -> Option<Self> {
        let finite = |decimal: Result<Decimal, DecimalError>| decimal.ok().map(Self::Finite);
        match value {
            Value::Bool(flag) => Some(Self::Finite(Decimal::from(i64::from(*flag)))),
            Value::Number(number) if number.is_f64() => {
                number.as_f64().and_then(|float| finite(Decimal::from_f64_exact(float)))
            }
            Value::Number(number) => finite(number.to_string().parse()),
            Value::String(text) => match without_digit_separators(text)?.parse() {
                Ok(decimal) => Some(Self::Finite(decimal)),
                Err(DecimalError::NotFinite(_)) => {
                    let word = text.trim().to_lowercase();
                    let positive = !word.starts_with('-');
                    let word = word.trim_start_matches(['-', '+']);
                    matches!(word, "inf" | "infinity").then_some(Self::Infinite { positive })
                }
                Err(_) => None,
            },
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn reaches(&self, level: &Decimal) -> bool {
        match self {
            Self::Finite(value) => value.cmp(level) != Ordering::Less,
            Self::Infinite { positive } => *positive,
        }
    }
}

impl Service {
    fn rate(
        &self,
        frame_type: &str,
        point: &mut DataPoint,
        scratch: &mut Scratch,
    ) -> Result<(), RatingError> {
        scratch.clear();
        for (group, cost) in &self.mappings {
            scratch.group(*group).apply_mapping(*cost);
        }
        scratch.apply_levels(&self.thresholds, |level| point.qty >= *level, Measured::Service);
        for field in &self.fields {
            if let Some(value) = point.label(&field.name) {
                field.apply(frame_type, value, scratch)?;
            }
        }
        for group in &scratch.prices {
            point.price += group.price(point.qty);
        }
        Ok(())
    }
}

impl Field {
    fn apply(
        &self,
        frame_type: &str,
        value: &Value,
        scratch: &mut Scratch,
    ) -> Result<(), RatingError> {
        let written;
        let text = match value {
            Value::String(text) => text,
            other => {
                written = python_str(other);
                &written
            }
        };
        for (group, values) in &self.mappings {
            if let Some(cost) = values.get(text) {
                scratch.group(*group).apply_mapping(*cost);
            }
        }
        if self.thresholds.is_empty() {
            return Ok(());
        }
        let measure = Measure::of(value).ok_or_else(|| RatingError::NotNumeric {
            frame_type: frame_type.to_owned(),
            field: self.name.clone(),
            value: text.clone(),
        })?;
        scratch.apply_levels(&self.thresholds, |level| measure.reaches(level), Measured::Field);
        Ok(())
    }
}

#[async_trait]
impl RatingModule for Rules {
    async fn rate(&self, frame: &mut DataFrame) -> Result<(), RatingError> {
        Rules::rate(self, frame)
    }
}

impl Rules {
    /// Sets the prices of a frame's points.
    ///
    /// # Errors
    /// A label with thresholds whose value is no number.
    pub fn rate(&self, frame: &mut DataFrame) -> Result<(), RatingError> {
        let mut scratch = Scratch::new(self.groups);
        for (frame_type, points) in &mut frame.usage {
            let Some(service) = self.services.get(frame_type) else { continue };
            for point in points {
                service.rate(frame_type, point, &mut scratch)?;
            }
        }
        Ok(())
    }
}
