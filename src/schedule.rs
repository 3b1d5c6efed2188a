//! Which period of a scope comes next. Pure.

use chrono::{DateTime, TimeDelta, Utc};

/// How rating follows the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Length of a period in seconds.
    pub period: u32,
    /// Periods to wait before one is rated.
    pub wait_periods: u32,
}

impl Schedule {
    /// Begin of the period after the one that began at `last`.
    pub fn after(&self, last: DateTime<Utc>) -> DateTime<Utc> {
        last + self.seconds(1)
    }

    /// When the period that begins at `begin` becomes due: once the clock is
    /// past its begin by more than `wait_periods` periods, as in the reference.
    ///
    /// The reference rates the first period of a scope whatever the clock says,
    /// on the first of a month thus an hour that is not over; here it waits as
    /// all others do.
    pub fn due(&self, begin: DateTime<Utc>) -> DateTime<Utc> {
        begin + self.seconds(self.wait_periods) + TimeDelta::seconds(1)
    }

    /// How many periods after the one that began at `last` are due.
    pub fn backlog(&self, last: DateTime<Utc>, now: DateTime<Utc>) -> u64 {
        let behind = (now - last).num_seconds() - i64::from(self.period);
        let waited = i64::from(self.period) * i64::from(self.wait_periods);
        let due = (behind - waited - 1).div_euclid(i64::from(self.period)) + 1;
        u64::try_from(due).unwrap_or(0)
    }

    fn seconds(&self, periods: u32) -> TimeDelta {
        TimeDelta::seconds(i64::from(self.period) * i64::from(periods))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::seconds;

    const HOURLY: Schedule = Schedule { period: 3600, wait_periods: 2 };

    #[test]
    fn waits_as_the_reference_does() {
        let last = seconds(1_000_800);
        assert_eq!(HOURLY.after(last), last + TimeDelta::seconds(3_600));
        assert_eq!(HOURLY.due(HOURLY.after(last)), last + TimeDelta::seconds(10_801));
    }

    #[test]
    fn counts_what_is_due() {
        let last = seconds(1_000_800);
        for (after, due) in
            [(0, 0), (10_800, 0), (10_801, 1), (14_400, 1), (14_401, 2), (-99_999, 0)]
        {
            let now = last + TimeDelta::seconds(after);
            let mut walked = 0;
            let mut begin = HOURLY.after(last);
            while HOURLY.due(begin) <= now {
                begin = HOURLY.after(begin);
                walked += 1;
            }
            assert_eq!((HOURLY.backlog(last, now), walked), (due, due), "{after}");
        }
    }
}
