//! Sums by group, in the making: what every backend computes totals with.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::{Mark, Page, TotalRow, Totals};
use crate::{
    dataframe::python_str,
    decimal::{Decimal, Total},
    time::Period,
};

/// Sums by group, in the making.
#[derive(Default)]
pub(super) struct Groups {
    sums: HashMap<(Option<Period>, Vec<Option<String>>), Sums>,
}

#[derive(Default)]
struct Sums {
    values: Vec<Value>,
    qty: Total,
    price: Total,
}

impl Groups {
    /// Adds values to a group, told by its period and the values of the other
    /// keys, in their order.
    pub fn add(
        &mut self,
        period: Option<Period>,
        values: Vec<Option<Value>>,
        (qty, price): (Decimal, Decimal),
    ) {
        // A label that is a number and one that is its text are one group, as
        // they are one value to filters. An empty label is one that is not
        // there, as everywhere in Prometheus and Loki.
        let text = |value: &Option<Value>| value.as_ref().map(python_str).filter(|t| !t.is_empty());
        let key: Vec<_> = values.iter().map(text).collect();
        let sums = self.sums.entry((period, key)).or_insert_with_key(|(_, key)| {
            let values = values.into_iter().zip(key);
            let values = values.map(|(value, key)| value.filter(|_| key.is_some()));
            Sums { values: values.map(Option::unwrap_or_default).collect(), ..Sums::default() }
        });
        sums.qty.add(qty);
        sums.price.add(price);
    }

    /// Adds the sums of others.
    pub fn merge(&mut self, other: Self) {
        for (key, sums) in other.sums {
            let mine = self
                .sums
                .entry(key)
                .or_insert_with(|| Sums { values: sums.values.clone(), ..Sums::default() });
            mine.qty.add(sums.qty.value());
            mine.price.add(sums.price.value());
        }
    }

    /// The sums of quantities by period, where they are counts.
    pub fn counts(self) -> BTreeMap<Period, u64> {
        let counts = self.sums.into_iter().filter_map(|((period, _), sums)| {
            let count = sums.qty.value().to_f64();
            Some((period?, count as u64))
        });
        counts.collect()
    }

    /// The rows of a page, of what had a mark. `time_at` is the place of the period among
    /// the group keys.
    pub fn page(self, time_at: Option<usize>, page: Page, mark: Option<Mark>) -> Totals {
        let mut groups: Vec<_> = self.sums.into_iter().collect();
        groups.sort_by(|((period, one), _), ((other_period, other), _)| {
            let at = time_at.unwrap_or(0);
            let before = one[..at].cmp(&other[..at]);
            before.then(period.cmp(other_period)).then_with(|| one[at..].cmp(&other[at..]))
        });
        let total = groups.len() as u64;
        let rows = groups
            .into_iter()
            .skip(usize::try_from(page.offset).unwrap_or(usize::MAX))
            .take(usize::try_from(page.limit).unwrap_or(usize::MAX))
            .map(|((period, _), sums)| TotalRow {
                period,
                values: sums.values,
                qty: sums.qty.value(),
                price: sums.price.value(),
            })
            .collect();
        Totals { total, rows, mark }
    }
}
