//! Time: an injected clock, and the arithmetic of periods.
//!
//! Periods are counted in whole seconds of UTC, so summer time changes
//! nothing. What people see (dates in answers, the start of a month, calendar
//! labels of data points) is in the local time zone of the process, which the
//! `TZ` variable sets, as in the reference.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{
    DateTime, Datelike, FixedOffset, Local, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc,
};

/// A source of the present time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The present, in whole seconds.
    fn now(&self) -> DateTime<Utc>;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealClock;

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where time comes from")]
    fn now(&self) -> DateTime<Utc> {
        seconds(Utc::now().timestamp())
    }
}

/// A clock that stands still until it is set: for tests and for rating a fixed past.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<DateTime<Utc>>>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Sets the clock.
    pub fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The present for a log line: the local date in strftime's `format`, and milliseconds.
#[expect(clippy::disallowed_methods, reason = "a log tells the real time")]
pub fn log_time(format: &str) -> (String, u32) {
    let now = Local::now();
    (now.format(format).to_string(), now.timestamp_subsec_millis().min(999))
}

/// Whether [`log_time`] can use a format.
pub fn is_date_format(format: &str) -> bool {
    let mut items = chrono::format::StrftimeItems::new(format);
    !items.any(|item| matches!(item, chrono::format::Item::Error))
}

/// The instant that many seconds after the epoch; the epoch itself for a
/// number beyond chrono's calendar.
pub fn seconds(epoch: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(epoch, 0).unwrap_or(DateTime::UNIX_EPOCH)
}

/// A rating period: from `begin` (included) to `end` (excluded).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    /// First instant.
    pub begin: DateTime<Utc>,
    /// First instant after.
    pub end: DateTime<Utc>,
}

impl Period {
    /// No time at all.
    pub const EMPTY: Self = Self { begin: DateTime::UNIX_EPOCH, end: DateTime::UNIX_EPOCH };

    /// The period of `length` seconds that begins at `begin`.
    pub fn starting(begin: DateTime<Utc>, length: u32) -> Self {
        Self { begin, end: begin + TimeDelta::seconds(i64::from(length)) }
    }

    /// Length in seconds.
    pub fn seconds(&self) -> i64 {
        (self.end - self.begin).num_seconds()
    }
}

impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", isoformat(self.begin), isoformat(self.end))
    }
}

/// Periods of one length that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Periods {
    /// First instant.
    pub begin: DateTime<Utc>,
    /// Length of each in seconds.
    pub seconds: u32,
    /// How many there are, at least one.
    pub count: u32,
}

impl Periods {
    /// They, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Period> + use<> {
        let (begin, seconds) = (self.begin, self.seconds);
        let after =
            move |number: u32| begin + TimeDelta::seconds(i64::from(number) * i64::from(seconds));
        (0..self.count).map(move |number| Period::starting(after(number), seconds))
    }
}

/// The instant in the local zone of the process.
pub fn local(instant: DateTime<Utc>) -> DateTime<FixedOffset> {
    instant.with_timezone(&Local).fixed_offset()
}

/// `2026-11-01T00:00:00+01:00`: the local time with its offset, as Python's
/// `isoformat` of an aware time without fractions.
pub fn isoformat(instant: DateTime<Utc>) -> String {
    let local = local(instant);
    let offset = local.offset().local_minus_utc();
    // Lists have thousands of dates, and a format has to be read for each.
    let plain = (0..10_000).contains(&local.year()) && offset % 60 == 0;
    if !plain {
        return local.format("%Y-%m-%dT%H:%M:%S%:z").to_string();
    }
    let mut text = String::with_capacity(25);
    let mut two = |before: Option<char>, number: u32| {
        text.extend(before);
        text.extend([number / 10, number % 10].map(|digit| char::from(b'0' + digit as u8)));
    };
    let year = local.year().unsigned_abs();
    two(None, year / 100);
    two(None, year % 100);
    two(Some('-'), local.month());
    two(Some('-'), local.day());
    two(Some('T'), local.hour());
    two(Some(':'), local.minute());
    two(Some(':'), local.second());
    let minutes = offset.unsigned_abs() / 60;
    two(Some(if offset < 0 { '-' } else { '+' }), minutes / 60);
    two(Some(':'), minutes % 60);
    text
}

/// The first instant of the local month in which `instant` lies, and of the next one.
pub fn month_of(instant: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    let (first, next) = month_around(local_naive(instant));
    (from_local(first), from_local(next))
}

/// The same of the month in UTC.
pub fn utc_month_of(instant: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    let (first, next) = month_around(instant.naive_utc());
    (first.and_utc(), next.and_utc())
}

/// Midnight of the first day of a month, and of the next one.
fn month_around(wall: NaiveDateTime) -> (NaiveDateTime, NaiveDateTime) {
    let first = wall.date().with_day(1).unwrap_or(wall.date());
    let next = first.checked_add_months(chrono::Months::new(1)).unwrap_or(first);
    (first.and_time(chrono::NaiveTime::MIN), next.and_time(chrono::NaiveTime::MIN))
}

/// The wall clock of the local zone, without its offset: what the reference
/// compares the validity of rating rules with.
pub fn local_naive(instant: DateTime<Utc>) -> NaiveDateTime {
    local(instant).naive_local()
}

/// The instant at which the wall clock of the local zone shows this: the first
/// one where it shows it twice, and where it never does, the one after the gap.
pub fn from_local(wall: NaiveDateTime) -> DateTime<Utc> {
    (0..=180)
        .find_map(|minutes| {
            Local.from_local_datetime(&(wall + TimeDelta::minutes(minutes))).earliest()
        })
        .map_or_else(|| wall.and_utc(), |instant| instant.to_utc())
}

/// Names of the calendar labels, in the reference's order.
pub const CALENDAR: [&str; 4] = ["week_of_the_year", "day_of_the_year", "month", "year"];

/// Calendar labels that the reference adds to every data point, from the begin
/// of its period in the local zone: week (Sunday-based, `00` to `53`), day of
/// the year, month, year.
pub fn calendar_labels(begin: DateTime<FixedOffset>) -> [(&'static str, String); 4] {
    let values = [
        begin.format("%U").to_string(),
        begin.ordinal().to_string(),
        begin.month().to_string(),
        begin.year().to_string(),
    ];
    let mut values = values.into_iter();
    CALENDAR.map(|name| (name, values.next().unwrap_or_default()))
}

/// The instant in a zone that many seconds east of Greenwich.
pub fn at_offset(instant: DateTime<Utc>, seconds_east: i32) -> DateTime<FixedOffset> {
    match FixedOffset::east_opt(seconds_east) {
        Some(offset) => instant.with_timezone(&offset),
        None => instant.fixed_offset(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_dates_as_the_format_would() {
        // From before the year 0 to after the year 9999, at odd places.
        let instants = (-70_000_000_000_i64..260_000_000_000).step_by(7_654_321_987);
        for instant in instants.map(seconds).chain([seconds(0), seconds(1_793_491_199)]) {
            let expected = local(instant).format("%Y-%m-%dT%H:%M:%S%:z").to_string();
            assert_eq!(isoformat(instant), expected);
        }
    }
}
