//! Dates in query arguments, in the forms that the reference takes.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};

use crate::time::local_naive;

/// Reads a date; without a zone it is UTC, fractions of seconds are cut.
///
/// Year, then month and day, each of the latter one or two digits behind a
/// dash or two digits without; then `T` or a blank and hour, minute, second
/// with optional colons; then `Z` or an offset. Parts may be left out from the
/// end, but a zone needs a time.
pub(super) fn parse(text: &str) -> Option<DateTime<Utc>> {
    instant(&read(text)?)
}

/// Reads a whole date; without a zone it is UTC.
pub(super) fn parse_whole(text: &str) -> Option<DateTime<Utc>> {
    instant(&read(text).filter(|read| read.has_day)?)
}

fn instant(read: &Read) -> Option<DateTime<Utc>> {
    let offset = match read.offset {
        Some(offset) => offset,
        None => FixedOffset::east_opt(0)?,
    };
    let time = read.time.unwrap_or(NaiveTime::MIN);
    let instant = offset.from_local_datetime(&read.date.and_time(time)).single()?.to_utc();
    // What Python's calendar cannot hold.
    let years = 1..=9999;
    years.contains(&chrono::Datelike::year(&instant)).then_some(instant)
}

/// Reads a whole date by the wall clock of the local zone, without zone as it
/// stands; `end_of_day` is what a date without time means then.
pub(super) fn parse_local(text: &str, end_of_day: bool) -> Option<NaiveDateTime> {
    let read = read(text).filter(|read| read.has_day)?;
    let midnight = NaiveTime::MIN;
    let last = NaiveTime::from_hms_opt(23, 59, 59).unwrap_or(midnight);
    let time = read.time.unwrap_or(if end_of_day { last } else { midnight });
    let date = read.date.and_time(time);
    match read.offset {
        Some(offset) => Some(local_naive(offset.from_local_datetime(&date).single()?.to_utc())),
        None => Some(date),
    }
}

/// A date as it is written.
struct Read {
    date: NaiveDate,
    /// Whether month and day are given.
    has_day: bool,
    time: Option<NaiveTime>,
    offset: Option<FixedOffset>,
}

fn read(text: &str) -> Option<Read> {
    if !text.is_ascii() {
        return None;
    }
    let mut rest = text;
    let year: i32 = digits(&mut rest, 4, 4)?.try_into().ok()?;
    let mut month = 1;
    let mut day = 1;
    let mut compact = false;
    let mut has_day = false;
    if rest.starts_with('-') {
        rest = &rest[1..];
        month = digits(&mut rest, 1, 2)?;
    } else if rest.starts_with(|c: char| c.is_ascii_digit()) {
        month = digits(&mut rest, 2, 2)?;
        compact = true;
    }
    if rest.starts_with('-') {
        rest = &rest[1..];
        day = digits(&mut rest, 1, 2)?;
        has_day = true;
    } else if rest.starts_with(|c: char| c.is_ascii_digit()) {
        day = digits(&mut rest, 2, 2)?;
        has_day = true;
    } else if compact {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(year, month, day).filter(|_| year > 0)?;
    let mut time = None;
    let mut offset = None;
    if let Some(clock) = rest.strip_prefix(['T', ' ']) {
        rest = clock;
        time = Some(clock_time(&mut rest)?);
        if !rest.is_empty() {
            offset = Some(zone(&mut rest)?);
        }
    }
    rest.is_empty().then_some(Read { date, has_day, time, offset })
}

/// Takes `least` to `most` digits.
fn digits(rest: &mut &str, least: usize, most: usize) -> Option<u32> {
    let count = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if count < least {
        return None;
    }
    let (number, after) = rest.split_at(count);
    *rest = after;
    number.parse().ok()
}

fn clock_time(rest: &mut &str) -> Option<NaiveTime> {
    let hour = digits(rest, 2, 2)?;
    let (mut minute, mut second) = (0, 0);
    let mut next = rest.strip_prefix(':').unwrap_or(rest);
    if let Some(value) = digits(&mut next, 2, 2) {
        minute = value;
        *rest = next;
        next = rest.strip_prefix(':').unwrap_or(rest);
    }
    // One or two digits: `10:3` is ten o'clock and three seconds.
    if let Some(value) = digits(&mut next, 1, 2) {
        second = value;
        *rest = next;
        if let Some(fraction) = rest.strip_prefix(['.', ',']) {
            let count = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if count == 0 {
                return None;
            }
            *rest = &fraction[count..];
        }
    }
    NaiveTime::from_hms_opt(hour, minute, second)
}

fn zone(rest: &mut &str) -> Option<FixedOffset> {
    if let Some(after) = rest.strip_prefix('Z') {
        *rest = after;
        return FixedOffset::east_opt(0);
    }
    let sign = match rest.chars().next() {
        Some('+') => 1,
        Some('-') => -1,
        _ => return None,
    };
    let mut after = &rest[1..];
    let hours = digits(&mut after, 2, 2)?;
    let mut minutes = 0;
    if !after.is_empty() {
        after = after.strip_prefix(':').unwrap_or(after);
        minutes = digits(&mut after, 2, 2)?;
    }
    *rest = after;
    if hours > 23 || minutes > 59 {
        return None;
    }
    FixedOffset::east_opt(sign * i32::try_from(hours * 3600 + minutes * 60).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_reference_takes() {
        let cases = [
            ("2026", "2026-01-01T00:00:00"),
            ("2026-1", "2026-01-01T00:00:00"),
            ("2026-1-3", "2026-01-03T00:00:00"),
            ("20260131", "2026-01-31T00:00:00"),
            ("20260131T1030", "2026-01-31T10:30:00"),
            ("2026-01-31T10", "2026-01-31T10:00:00"),
            ("2026-01-31T10Z", "2026-01-31T10:00:00"),
            ("2026-01-31 10:20:15,5", "2026-01-31T10:20:15"),
            ("2026-01-31T10:3", "2026-01-31T10:00:03"),
            ("2026-01-31T10:00:00+01:00", "2026-01-31T09:00:00"),
            ("2026-01-31T10:00:00-0130", "2026-01-31T11:30:00"),
            ("20190716T085501Z", "2019-07-16T08:55:01"),
        ];
        for (text, date) in cases {
            let found = parse(text).map(|date| date.format("%Y-%m-%dT%H:%M:%S").to_string());
            assert_eq!(found.as_deref(), Some(date), "{text}");
        }
    }

    #[test]
    fn takes_whole_dates_of_rules() {
        let cases = [
            ("2026-01-31", false, "2026-01-31T00:00:00"),
            ("2026-01-31", true, "2026-01-31T23:59:59"),
            ("20260131", true, "2026-01-31T23:59:59"),
            ("2026-01-31T00:00", true, "2026-01-31T00:00:00"),
            ("2026-01-31 10:20:30.9", true, "2026-01-31T10:20:30"),
        ];
        for (text, end_of_day, date) in cases {
            let found = parse_local(text, end_of_day);
            let found = found.map(|date| date.format("%Y-%m-%dT%H:%M:%S").to_string());
            assert_eq!(found.as_deref(), Some(date), "{text}");
        }
        for text in ["2026", "2026-01", "01/02/2026", "12", "10:30", ""] {
            assert_eq!(parse_local(text, false), None, "{text}");
            assert_eq!(parse_whole(text), None, "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "202601",
            "1767225600",
            "2026-01-31t10:00",
            "2026-01-31T10:00z",
            "2026-01-31T24:00",
            "2026-01-31T10:00:60",
            "2026-W05",
            "2026-031",
            " 2026",
            "2026 ",
            "2026-01-31T10:00 Z",
            "2026-01-31T10:00+1:00",
            "2026-01-31T10:00+24:00",
            "2026-01-31Z",
            "2026-01-31T",
            "2026/01/31",
            "12026-01-01",
            "0000-01-01",
            "2026-02-30",
            "2026-13-01",
            "garbage",
            "２０２６",
            "9999-12-31T23:59:59-02:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
