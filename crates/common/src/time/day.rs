//! A Moscow day: what limits, weeks and due dates are counted in.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeZone, Utc};

use super::MSK;

/// A civil date in Moscow. It begins at 21:00 UTC of the day before and lasts 24 hours, always.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(NaiveDate);

impl Day {
    /// The day that an instant falls on.
    pub fn of(instant: DateTime<Utc>) -> Day {
        Day(instant.with_timezone(&MSK).date_naive())
    }

    /// The day with this date; `None` when the calendar has no such date.
    pub fn from_ymd(year: i32, month: u32, day: u32) -> Option<Day> {
        NaiveDate::from_ymd_opt(year, month, day).map(Day)
    }

    /// The day of a date that is known to be a Moscow date.
    pub const fn from_date(date: NaiveDate) -> Day {
        Day(date)
    }

    /// The date.
    pub const fn date(self) -> NaiveDate {
        self.0
    }

    /// The first instant of the day.
    pub fn start(self) -> DateTime<Utc> {
        MSK.from_local_datetime(&self.0.and_time(NaiveTime::MIN))
            .single()
            .expect("a fixed offset makes every local time exactly one instant")
            .with_timezone(&Utc)
    }

    /// The first instant after the day.
    pub fn end(self) -> DateTime<Utc> {
        self.next().start()
    }

    /// Whether an instant falls on the day.
    pub fn contains(self, instant: DateTime<Utc>) -> bool {
        Day::of(instant) == self
    }

    /// The day after.
    pub fn next(self) -> Day {
        self.plus_days(1)
    }

    /// The day before.
    pub fn prev(self) -> Day {
        self.plus_days(-1)
    }

    /// The day so many days later, or earlier when `days` is negative.
    ///
    /// # Panics
    /// Beyond the calendar of chrono, a quarter of a million years away. Days from outside are
    /// bounded by whoever reads them.
    pub fn plus_days(self, days: i32) -> Day {
        let distance = Days::new(u64::from(days.unsigned_abs()));
        let moved = if days < 0 {
            self.0.checked_sub_days(distance)
        } else {
            self.0.checked_add_days(distance)
        };
        Day(moved.expect("a day of ours is far from the ends of the calendar"))
    }

    /// Days from this day to `other`: 1 for the next day, negative for an earlier one.
    pub fn days_until(self, other: Day) -> i64 {
        other.0.signed_duration_since(self.0).num_days()
    }

    /// The day of the week, Monday being 0.
    pub fn weekday0(self) -> u8 {
        u8::try_from(self.0.weekday().num_days_from_monday()).expect("a week has seven days")
    }

    /// The Monday of the day's week.
    pub fn week_start(self) -> Day {
        self.plus_days(-i32::from(self.weekday0()))
    }

    /// The Monday after the day's week.
    pub fn week_end(self) -> Day {
        self.week_start().plus_days(7)
    }
}

impl fmt::Display for Day {
    /// ISO 8601: `2025-03-31`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Day {
    type Err = chrono::ParseError;

    /// Reads `2025-03-31`.
    fn from_str(text: &str) -> Result<Day, chrono::ParseError> {
        NaiveDate::parse_from_str(text, "%Y-%m-%d").map(Day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    fn instant(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_begins_at_midnight_in_moscow() {
        for (text, on) in [
            ("2025-03-30T20:59:59.999999Z", "2025-03-30"),
            ("2025-03-30T21:00:00Z", "2025-03-31"),
            ("2025-03-31T20:59:59.999999999Z", "2025-03-31"),
            ("2025-03-31T23:59:59.999+03:00", "2025-03-31"),
            ("2024-02-28T21:00:00Z", "2024-02-29"),
            ("2025-12-31T21:00:00Z", "2026-01-01"),
        ] {
            assert_eq!(Day::of(instant(text)), day(on), "{text}");
        }
        assert_eq!(day("2025-03-31").start(), instant("2025-03-30T21:00:00Z"));
        assert_eq!(day("2025-03-31").end(), instant("2025-03-31T21:00:00Z"));
    }

    #[test]
    fn a_week_begins_on_monday() {
        for (text, weekday, monday) in [
            ("2025-03-31", 0, "2025-03-31"),
            ("2025-04-01", 1, "2025-03-31"),
            ("2025-04-06", 6, "2025-03-31"),
            ("2025-04-07", 0, "2025-04-07"),
        ] {
            assert_eq!(day(text).weekday0(), weekday, "{text}");
            assert_eq!(day(text).week_start(), day(monday), "{text}");
        }
        assert_eq!(day("2025-04-06").week_end(), day("2025-04-07"));
    }

    #[test]
    fn days_are_printed_and_read_in_iso_order() {
        assert_eq!(day("2025-03-01").to_string(), "2025-03-01");
        assert_eq!(Day::from_ymd(2025, 2, 29), None);
        assert!("01.03.2025".parse::<Day>().is_err());
        assert!(day("2025-02-28") < day("2025-03-01"));
    }

    proptest! {
        /// Every instant lies in exactly the day that it falls on.
        #[test]
        fn an_instant_lies_in_its_day(micros in -4_000_000_000_000_000i64..8_000_000_000_000_000) {
            let instant = DateTime::from_timestamp_micros(micros).unwrap();
            let day = Day::of(instant);
            prop_assert!(day.start() <= instant && instant < day.end());
            prop_assert!(day.contains(instant) && !day.next().contains(instant));
        }

        /// Moving by days and counting them agree.
        #[test]
        fn counting_undoes_moving(start in -100_000..100_000i32, days in -100_000..100_000i32) {
            let from = day("2025-01-01").plus_days(start);
            prop_assert_eq!(from.days_until(from.plus_days(days)), i64::from(days));
            prop_assert_eq!(from.next().prev(), from);
        }
    }
}
