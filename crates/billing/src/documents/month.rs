//! A calendar month in Moscow: what is closed, and what documents are about.

use adspend_common::time::Day;
use chrono::{DateTime, Datelike as _, Utc};

/// A month, known by its first day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Month(Day);

impl Month {
    /// The month of a day.
    pub(crate) fn of(day: Day) -> Month {
        let date = day.date();
        Month(Day::from_ymd(date.year(), date.month(), 1).expect("every month has a first day"))
    }

    /// The first day.
    pub(crate) fn first(self) -> Day {
        self.0
    }

    /// The last day.
    pub(crate) fn last(self) -> Day {
        self.next().0.prev()
    }

    /// The month after.
    pub(crate) fn next(self) -> Month {
        Month::of(self.0.plus_days(31))
    }

    /// The month before.
    pub(crate) fn prev(self) -> Month {
        Month::of(self.0.prev())
    }

    /// The first instant after the month: 00:00 Moscow time of the 1st.
    pub(crate) fn end(self) -> DateTime<Utc> {
        self.next().0.start()
    }

    /// The last month that was over at an instant.
    pub(crate) fn last_over(now: DateTime<Utc>) -> Month {
        Month::of(Day::of(now)).prev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(text: &str) -> Month {
        Month::of(text.parse().unwrap())
    }

    #[test]
    fn months_follow_each_other_over_the_year_end() {
        for (day, first, last, next, before) in [
            ("2025-12-31", "2025-12-01", "2025-12-31", "2026-01-01", "2025-11-01"),
            ("2026-01-01", "2026-01-01", "2026-01-31", "2026-02-01", "2025-12-01"),
            ("2024-02-10", "2024-02-01", "2024-02-29", "2024-03-01", "2024-01-01"),
        ] {
            let found = month(day);
            assert_eq!(found.first(), first.parse().unwrap(), "{day}");
            assert_eq!(found.last(), last.parse().unwrap(), "{day}");
            assert_eq!(found.next(), month(next), "{day}");
            assert_eq!(found.prev(), month(before), "{day}");
        }
    }

    #[test]
    fn a_month_is_over_at_midnight_in_moscow() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(month("2025-12-05").end(), at("2025-12-31T21:00:00Z"));
        assert_eq!(Month::last_over(at("2025-12-31T20:59:59.999999Z")), month("2025-11-01"));
        assert_eq!(Month::last_over(at("2025-12-31T21:00:00Z")), month("2025-12-01"));
    }
}
