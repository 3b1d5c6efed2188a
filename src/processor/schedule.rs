//! Which period of a scope comes next. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::time::Period;

/// How rating follows the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Length of a period in seconds.
    pub period: u32,
    /// Periods to wait before one is rated.
    pub wait_periods: u32,
}

impl Schedule {
    /// The period after the one that began at `last`, if it is due: once the
    /// clock is past its begin by more than `wait_periods` periods, as in the
    /// reference.
    pub fn next(&self, last: DateTime<Utc>, now: DateTime<Utc>) -> Option<Period> {
        self.due(last + self.seconds(1), now)
    }

    /// The first period of a scope that has none yet, beginning at `begin`.
    ///
    /// The reference rates it whatever the clock says, on the first of a month
    /// thus an hour that is not over; here it waits as all others do.
    pub fn first(&self, begin: DateTime<Utc>, now: DateTime<Utc>) -> Option<Period> {
        self.due(begin, now)
    }

    fn due(&self, begin: DateTime<Utc>, now: DateTime<Utc>) -> Option<Period> {
        let due = begin + self.seconds(self.wait_periods) < now;
        due.then(|| Period::starting(begin, self.period))
    }

    /// How many periods after the one that began at `last` are due.
    pub fn backlog(&self, last: DateTime<Utc>, now: DateTime<Utc>) -> u64 {
        let behind = (now - last).num_seconds() - i64::from(self.period);
        let waited = i64::from(self.period) * i64::from(self.wait_periods);
        let due = (behind - waited - 1).div_euclid(i64::from(self.period)) + 1;
        u64::try_from(due).unwrap_or(0)
    }

    /// The next instant at which a period of a scope that is up to date
    /// becomes due, given that periods lie on a grid through `begin`.
    pub fn next_due(&self, begin: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        let period = i64::from(self.period);
        let passed = (now - begin).num_seconds().div_euclid(period) + 1;
        begin + TimeDelta::seconds(passed * period + 1)
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
        assert_eq!(HOURLY.next(last, last + TimeDelta::seconds(10_800)), None);
        let next = HOURLY.next(last, last + TimeDelta::seconds(10_801)).unwrap();
        assert_eq!(next.begin, last + TimeDelta::seconds(3600));
        assert_eq!(next.seconds(), 3600);
    }

    #[test]
    fn counts_what_is_due() {
        let last = seconds(1_000_800);
        for (after, due) in
            [(0, 0), (10_800, 0), (10_801, 1), (14_400, 1), (14_401, 2), (-99_999, 0)]
        {
            let now = last + TimeDelta::seconds(after);
            let mut walked = 0;
            let mut at = last;
            while let Some(period) = HOURLY.next(at, now) {
                at = period.begin;
                walked += 1;
            }
            assert_eq!((HOURLY.backlog(last, now), walked), (due, due), "{after}");
        }
    }

    #[test]
    fn finds_the_next_full_period() {
        let begin = seconds(0);
        assert_eq!(HOURLY.next_due(begin, seconds(3599)), seconds(3601));
        assert_eq!(HOURLY.next_due(begin, seconds(3600)), seconds(7201));
        assert_eq!(HOURLY.next_due(begin, seconds(3601)), seconds(7201));
    }
}
