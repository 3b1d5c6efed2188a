//! For how long a choice of rules holds.

use chrono::NaiveDateTime;

/// The time from which and until which a selection of rules stays the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Validity {
    from: Option<NaiveDateTime>,
    until: Option<NaiveDateTime>,
}

impl Validity {
    /// Whether the selection holds at an instant.
    pub fn contains(&self, at: NaiveDateTime) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }

    /// Narrows it by an instant at which a rule begins or ends.
    pub(super) fn bound(&mut self, edge: NaiveDateTime, at: NaiveDateTime) {
        if edge <= at {
            self.from = self.from.max(Some(edge));
        } else {
            self.until = Some(self.until.map_or(edge, |until| until.min(edge)));
        }
    }

    /// The time in which both selections stay the same.
    pub(super) fn and(self, other: Self) -> Self {
        let until = match (self.until, other.until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self { from: self.from.max(other.from), until }
    }
}
