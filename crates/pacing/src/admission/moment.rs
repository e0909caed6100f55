//! The time of a decision, read once for a request or a batch.

use adspend_common::time::{Clock, Day};
use chrono::{DateTime, Datelike, Utc};

use crate::calendar::schedule::minute_of;

/// A reading of both clocks with the Moscow day and minute it falls on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds of Unix time.
    pub micros: i64,
    /// The monotonic clock, for deadlines.
    pub monotonic_micros: i64,
    /// The Moscow day.
    pub day: Day,
    /// The same day, counted in the common era.
    pub day_no: i32,
    /// The minute of the Moscow day.
    pub minute: u16,
}

impl Moment {
    /// Now.
    pub fn of(clock: &Clock) -> Moment {
        Moment::at(clock.now(), clock.monotonic_micros())
    }

    /// These readings.
    pub fn at(now: DateTime<Utc>, monotonic_micros: i64) -> Moment {
        let day = Day::of(now);
        Moment {
            micros: now.timestamp_micros(),
            monotonic_micros,
            day,
            day_no: day_no(day),
            minute: minute_of(now),
        }
    }

    /// The wall clock's reading.
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.micros).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    #[cfg(test)]
    pub(crate) fn for_tests(day_no: i32) -> Moment {
        let date = chrono::NaiveDate::from_num_days_from_ce_opt(day_no).unwrap();
        Moment { micros: 0, monotonic_micros: 0, day: Day::from_date(date), day_no, minute: 0 }
    }
}

/// A day as days of the common era: how it stands in atomics and tokens.
pub fn day_no(day: Day) -> i32 {
    day.date().num_days_from_ce()
}
