//! What one question about many scopes and periods told.

use std::collections::HashMap;

use crate::{prometheus::Series, time::Periods};

/// Series by scope, as they came.
#[derive(Debug)]
pub struct Usage {
    /// The periods that were asked for.
    pub periods: Periods,
    scopes: HashMap<Box<str>, Vec<Series>>,
    points: usize,
}

impl Usage {
    /// Sorts series by the label that stands first, which is that of the scope.
    pub(super) fn new(periods: Periods, series: Vec<Series>) -> Self {
        let points = series.iter().map(|series| series.values.len()).sum();
        let mut scopes: HashMap<Box<str>, Vec<Series>> = HashMap::new();
        for series in series {
            let scope = series.labels.first().map_or("", |label| label);
            match scopes.get_mut(scope) {
                Some(of_scope) => of_scope.push(series),
                None => {
                    scopes.insert(scope.into(), vec![series]);
                }
            }
        }
        Self { periods, scopes, points }
    }

    /// The series of a scope.
    pub fn of(&self, scope_id: &str) -> &[Series] {
        self.scopes.get(scope_id).map_or(&[], Vec::as_slice)
    }

    /// How many values there are, of all scopes and periods.
    pub fn len(&self) -> usize {
        self.points
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.points == 0
    }

    /// How many values of one scope there are.
    pub fn len_of(&self, scope_id: &str) -> usize {
        self.of(scope_id).iter().map(|series| series.values.len()).sum()
    }
}
