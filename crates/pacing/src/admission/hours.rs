//! A campaign's schedule as a decision asks it: masks of today and tomorrow, and why not.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Moment, day_no};
use crate::calendar::schedule::{Closed, DayMask, Schedule};
use adspend_common::time::Day;

/// A schedule with the masks of two days. Immutable: a new day or another schedule is a new one.
#[derive(Debug)]
pub(super) struct Hours {
    schedule: Schedule,
    first_day: Day,
    first_day_no: i32,
    masks: [DayMask; 2],
}

/// Not now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shut {
    /// Why.
    pub(super) because: Closed,
    /// It does not open before.
    pub(super) until: DateTime<Utc>,
}

impl Hours {
    /// The masks of `day` and the day after; `None` for a campaign that always serves.
    pub(super) fn of(schedule: &Schedule, day: Day) -> Option<Hours> {
        let always = schedule.hours.intervals().is_empty()
            && schedule.start.is_none()
            && schedule.end.is_none();
        if always {
            return None;
        }
        Some(Hours {
            schedule: schedule.clone(),
            first_day: day,
            first_day_no: day_no(day),
            masks: [schedule.mask(day), schedule.mask(day.next())],
        })
    }

    /// The first of the two days.
    pub(super) fn first_day(&self) -> Day {
        self.first_day
    }

    /// The schedule.
    pub(super) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Whether and why it does not serve. One bit when it does.
    pub(super) fn shut(&self, moment: &Moment) -> Option<Shut> {
        let index = usize::try_from(moment.day_no.wrapping_sub(self.first_day_no)).ok();
        let mask = index.and_then(|index| self.masks.get(index));
        let open = match mask {
            Some(mask) => mask.is_open(moment.minute),
            // Nobody made this day's mask yet: ask the schedule itself.
            None => self.schedule.is_open(moment.now()),
        };
        if open { None } else { Some(self.reason(moment, mask)) }
    }

    fn reason(&self, moment: &Moment, mask: Option<&DayMask>) -> Shut {
        // A mask is by minutes and so is the schedule; they cannot disagree.
        let because = self.schedule.closed_because(moment.now()).unwrap_or(Closed::OutsideHours);
        let at = |day: Day, minute: u16| day.start() + TimeDelta::minutes(i64::from(minute));
        let today = mask.and_then(|mask| mask.next_open(moment.minute));
        let tomorrow = self.masks.last().filter(|_| moment.day == self.first_day);
        let until = match (today, tomorrow) {
            (Some(minute), _) => at(moment.day, minute),
            (None, Some(tomorrow)) => match tomorrow.next_open(0) {
                Some(minute) => at(moment.day.next(), minute),
                None => moment.day.next().end(),
            },
            (None, None) => moment.day.end(),
        };
        Shut { because, until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::schedule::{Interval, WeeklyHours};

    fn at(text: &str) -> Moment {
        Moment::at(text.parse().unwrap(), 0)
    }

    fn instant(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn office() -> Schedule {
        let hours = (0..5).map(|weekday0| Interval { weekday0, from_minute: 540, to_minute: 1080 });
        Schedule {
            hours: WeeklyHours::new(hours).unwrap(),
            zone: chrono_tz::Europe::Moscow,
            start: "2025-04-01".parse().ok(),
            end: "2025-04-11".parse().ok(),
        }
    }

    #[test]
    fn a_campaign_without_hours_and_dates_needs_no_masks() {
        let always = Schedule {
            hours: WeeklyHours::always(),
            zone: chrono_tz::Asia::Vladivostok,
            start: None,
            end: None,
        };
        assert!(Hours::of(&always, "2025-03-31".parse().unwrap()).is_none());
    }

    #[test]
    fn it_says_why_not_and_until_when() {
        // A Thursday: tomorrow is a serving Friday, the day after is not.
        let hours = Hours::of(&office(), "2025-04-03".parse().unwrap()).unwrap();
        for (now, because, until) in [
            ("2025-04-03T08:59:00+03:00", Closed::OutsideHours, "2025-04-03T09:00:00+03:00"),
            ("2025-04-03T18:00:00+03:00", Closed::OutsideHours, "2025-04-04T09:00:00+03:00"),
            ("2025-04-04T18:00:00+03:00", Closed::OutsideHours, "2025-04-05T00:00:00+03:00"),
            ("2025-04-06T12:00:00+03:00", Closed::OutsideHours, "2025-04-07T00:00:00+03:00"),
            ("2025-03-31T12:00:00+03:00", Closed::BeforeStart, "2025-04-01T00:00:00+03:00"),
            ("2025-04-14T12:00:00+03:00", Closed::AfterEnd, "2025-04-15T00:00:00+03:00"),
        ] {
            let expected = Some(Shut { because, until: instant(until) });
            assert_eq!(hours.shut(&at(now)), expected, "{now}");
        }
        for now in [
            "2025-04-03T09:00:00+03:00",
            "2025-04-03T17:59:59.999999+03:00",
            "2025-04-04T12:00:00+03:00",
            "2025-04-08T12:00:00+03:00",
        ] {
            assert_eq!(hours.shut(&at(now)), None, "{now}");
        }
    }
}
