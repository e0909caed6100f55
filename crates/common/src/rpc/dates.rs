//! Decoders of moments, civil days and lengths of time.

use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

use super::Violations;
use crate::proto::google::r#type as pb;
use crate::time::Day;

/// Moments outside these years are mistakes: a unit mixed up, a zero sent as a date.
const YEARS: RangeInclusive<i32> = 2000..=2100;
/// 2000-01-01T00:00:00Z.
const FIRST_SECOND: i64 = 946_684_800;
/// 2101-01-01T00:00:00Z, exclusive.
const END_SECOND: i64 = 4_133_980_800;
const NANOS_PER_SECOND: i32 = 1_000_000_000;

impl Violations {
    /// A moment between the years 2000 and 2100, to the microsecond; what is finer is cut off,
    /// because PostgreSQL keeps no more.
    pub fn timestamp(&mut self, field: &str, value: Option<&Timestamp>) -> Option<DateTime<Utc>> {
        let value = self.required(field, value)?;
        let sound = (0..NANOS_PER_SECOND).contains(&value.nanos)
            && (FIRST_SECOND..END_SECOND).contains(&value.seconds);
        let moment = u32::try_from(value.nanos)
            .ok()
            .filter(|_| sound)
            .and_then(|nanos| DateTime::from_timestamp(value.seconds, nanos / 1_000 * 1_000));
        if moment.is_none() {
            self.add(field, format!("must be a moment of the years {}", years()));
        }
        moment
    }

    /// A moment that may be left out.
    pub fn optional_timestamp(
        &mut self,
        field: &str,
        value: Option<&Timestamp>,
    ) -> Option<Option<DateTime<Utc>>> {
        match value {
            None => Some(None),
            Some(_) => self.timestamp(field, value).map(Some),
        }
    }

    /// A whole day of the years 2000 to 2100.
    pub fn day(&mut self, field: &str, value: Option<&pb::Date>) -> Option<Day> {
        let value = self.required(field, value)?;
        let day = match (u32::try_from(value.month), u32::try_from(value.day)) {
            (Ok(month), Ok(day)) if YEARS.contains(&value.year) => {
                Day::from_ymd(value.year, month, day)
            }
            _ => None,
        };
        if day.is_none() {
            self.add(field, format!("must be a whole date of the years {}", years()));
        }
        day
    }

    /// A day that may be left out.
    pub fn optional_day(&mut self, field: &str, value: Option<&pb::Date>) -> Option<Option<Day>> {
        match value {
            None => Some(None),
            Some(_) => self.day(field, value).map(Some),
        }
    }

    /// A length of time within `bounds`.
    pub fn duration(
        &mut self,
        field: &str,
        value: Option<&prost_types::Duration>,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let value = self.required(field, value)?;
        let length = match (u64::try_from(value.seconds), u32::try_from(value.nanos)) {
            (Ok(seconds), Ok(nanos)) if value.nanos < NANOS_PER_SECOND => {
                Some(Duration::new(seconds, nanos))
            }
            _ => None,
        };
        let length = length.filter(|length| bounds.contains(length));
        if length.is_none() {
            let (least, most) = (bounds.start(), bounds.end());
            self.add(field, format!("must be between {least:?} and {most:?}"));
        }
        length
    }

    /// A length of time that may be left out.
    pub fn optional_duration(
        &mut self,
        field: &str,
        value: Option<&prost_types::Duration>,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Option<Duration>> {
        match value {
            None => Some(None),
            Some(_) => self.duration(field, value, bounds).map(Some),
        }
    }
}

fn years() -> String {
    format!("{} to {}", YEARS.start(), YEARS.end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc;
    use proptest::prelude::*;

    #[test]
    fn timestamp_table() {
        for (seconds, nanos, sound) in [
            (FIRST_SECOND, 0, true),
            (FIRST_SECOND - 1, 0, false),
            (END_SECOND - 1, 999_999_999, true),
            (END_SECOND, 0, false),
            (1_800_000_000, -1, false),
            (1_800_000_000, 1_000_000_000, false),
            (i64::MAX, 0, false),
            (i64::MIN, i32::MIN, false),
        ] {
            let mut v = Violations::new();
            let moment = v.timestamp("time", Some(&Timestamp { seconds, nanos }));
            assert_eq!((moment.is_some(), v.is_empty()), (sound, sound), "{seconds}.{nanos}");
        }
        assert_eq!(Violations::new().optional_timestamp("time", None), Some(None));
    }

    #[test]
    fn day_table() {
        for (year, month, day, sound) in [
            (2026, 2, 28, true),
            (2028, 2, 29, true),
            (2026, 2, 29, false),
            (0, 2, 1, false),
            (2026, 0, 1, false),
            (2026, 1, 0, false),
            (2026, 13, 1, false),
            (1999, 12, 31, false),
            (2026, -1, i32::MIN, false),
        ] {
            let mut v = Violations::new();
            let read = v.day("day", Some(&pb::Date { year, month, day }));
            assert_eq!((read.is_some(), v.is_empty()), (sound, sound), "{year}-{month}-{day}");
        }
    }

    #[test]
    fn duration_table() {
        let bounds = Duration::from_secs(1)..=Duration::from_secs(60);
        for (seconds, nanos, sound) in [
            (1, 0, true),
            (60, 0, true),
            (60, 1, false),
            (0, 999_999_999, false),
            (-1, 0, false),
            (2, -1, false),
            (2, 1_000_000_000, false),
            (i64::MAX, i32::MAX, false),
        ] {
            let mut v = Violations::new();
            let value = prost_types::Duration { seconds, nanos };
            let read = v.duration("ttl", Some(&value), bounds.clone());
            assert_eq!((read.is_some(), v.is_empty()), (sound, sound), "{seconds} {nanos}");
        }
    }

    proptest! {
        /// What we write we read back.
        #[test]
        fn moments_and_days_read_back(
            micros in FIRST_SECOND * 1_000_000..END_SECOND * 1_000_000,
            offset in 0..36_000i32,
        ) {
            let moment = DateTime::from_timestamp_micros(micros).unwrap();
            let mut v = Violations::new();
            prop_assert_eq!(v.timestamp("t", Some(&rpc::timestamp(moment))), Some(moment));
            let day = Day::from_ymd(2000, 1, 1).unwrap().plus_days(offset);
            prop_assert_eq!(v.day("d", Some(&rpc::date(day))), Some(day));
        }
    }
}
