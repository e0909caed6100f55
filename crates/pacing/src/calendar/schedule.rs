//! A campaign's weekly hours, in its own zone, as a mask over the minutes of a Moscow day.
//!
//! Budget days are Moscow days while hours and dates are the campaign's, so the
//! hours are laid over each concrete Moscow date once, with that date's zone offsets, and
//! admission asks the mask: one shift and one test, nothing allocated. A mask costs about 25 zone
//! look-ups unless an offset changes on that day, then 60 more.
//!
//! Minutes are whole: an interval `[from, to)` serves from its first second until the last second
//! before `to`.

use std::ops::Range;

use adspend_common::time::{Day, MSK};
use chrono::{DateTime, NaiveDate, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use super::policy::DAYS_IN_WEEK;

/// Minutes of a day.
pub const MINUTES_IN_DAY: u16 = 1_440;

/// How far [`Schedule::next_open`] looks: a weekly interval may fall into the hour that a change
/// to summer time skips, and then its next occurrence is in the second week.
const NEXT_OPEN_DAYS: i32 = 15;

/// The step at which zone offsets are compared; between equal ones an offset is taken as constant.
const PROBE_MINUTES: u16 = 60;

const WORDS: usize = MINUTES_IN_DAY.div_ceil(64) as usize;

/// The minute of the Moscow day that an instant lies in.
pub fn minute_of(now: DateTime<Utc>) -> u16 {
    minute_of_day(&now.with_timezone(&MSK))
}

fn minute_of_day(time: &impl Timelike) -> u16 {
    // Below 1 440 by construction of a time of day.
    u16::try_from(time.num_seconds_from_midnight() / 60).unwrap_or(MINUTES_IN_DAY - 1)
}

/// The open minutes of one day, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayMask([u64; WORDS]);

impl DayMask {
    /// No minute open.
    pub const CLOSED: Self = Self([0; WORDS]);
    /// Every minute open.
    pub const OPEN: Self = {
        let mut words = [u64::MAX; WORDS];
        // 1 440 is 22 words and a half.
        words[WORDS - 1] = u64::MAX >> (64 * WORDS - MINUTES_IN_DAY as usize);
        Self(words)
    };

    /// Whether a minute is open; none is from 1 440 on.
    pub fn is_open(&self, minute: u16) -> bool {
        self.0.get(usize::from(minute / 64)).is_some_and(|word| word >> (minute % 64) & 1 == 1)
    }

    /// The first open minute at or after this one.
    pub fn next_open(&self, minute: u16) -> Option<u16> {
        for (index, word) in self.words_from(minute) {
            if word != 0 {
                return u16::try_from(index * 64 + word.trailing_zeros() as usize).ok();
            }
        }
        None
    }

    /// How many minutes are open at or after this one.
    pub fn open_minutes_from(&self, minute: u16) -> u32 {
        self.words_from(minute).map(|(_, word)| word.count_ones()).sum()
    }

    /// The words from this minute's on, with earlier minutes cleared.
    fn words_from(&self, minute: u16) -> impl Iterator<Item = (usize, u64)> + '_ {
        let first = usize::from(minute / 64);
        self.0.iter().enumerate().skip(first).map(move |(index, word)| {
            let passed = if index == first { minute % 64 } else { 0 };
            (index, word & (u64::MAX << passed))
        })
    }

    /// Opens `[from, to)`; what lies outside the day is ignored.
    fn open(&mut self, from: i32, to: i32) {
        let end = i32::from(MINUTES_IN_DAY);
        let (from, to) = (from.clamp(0, end), to.clamp(0, end));
        for minute in from..to {
            if let Some(word) = self.0.get_mut((minute / 64) as usize) {
                *word |= 1 << (minute % 64);
            }
        }
    }
}

/// Hours on one local weekday, `[from, to)`. Hours over midnight are two intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    /// The weekday, Monday = 0.
    pub weekday0: u8,
    /// The first minute of the local day.
    pub from_minute: u16,
    /// The minute after the last, at most 1 440.
    pub to_minute: u16,
}

/// An interval that no day has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadInterval {
    /// The weekday is above 6.
    #[error("a weekday is 0 (Monday) to 6, not {0}")]
    Weekday(u8),
    /// It ends before it begins, is empty, or ends after the day.
    #[error("hours run forward and end by minute 1440, not from {from} to {to}")]
    Minutes {
        /// Its first minute.
        from: u16,
        /// Its end.
        to: u16,
    },
}

/// Weekly hours in local time: intervals in order, apart from each other; none is always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeeklyHours(Vec<Interval>);

impl WeeklyHours {
    /// No schedule: every hour of every day.
    pub const fn always() -> Self {
        Self(Vec::new())
    }

    /// These hours; overlapping and touching intervals become one.
    pub fn new(intervals: impl IntoIterator<Item = Interval>) -> Result<Self, BadInterval> {
        let mut sorted = Vec::new();
        for interval in intervals {
            check(interval)?;
            sorted.push(interval);
        }
        sorted.sort_unstable();
        let mut merged: Vec<Interval> = Vec::with_capacity(sorted.len());
        for next in sorted {
            match merged.last_mut() {
                Some(last)
                    if last.weekday0 == next.weekday0 && next.from_minute <= last.to_minute =>
                {
                    last.to_minute = last.to_minute.max(next.to_minute);
                }
                Some(_) | None => merged.push(next),
            }
        }
        Ok(Self(merged))
    }

    /// The intervals by weekday and minute; none when there is no schedule.
    pub fn intervals(&self) -> &[Interval] {
        &self.0
    }

    /// Days of the week with any serving hour; 0 when there is no schedule.
    pub fn scheduled_days(&self) -> u8 {
        (0..DAYS_IN_WEEK).map(|day| u8::from(self.on(day).next().is_some())).sum()
    }

    fn on(&self, weekday0: u8) -> impl Iterator<Item = &Interval> {
        self.0.iter().filter(move |interval| interval.weekday0 == weekday0)
    }

    fn contains(&self, weekday0: u8, minute: u16) -> bool {
        self.0.is_empty()
            || self
                .on(weekday0)
                .any(|interval| (interval.from_minute..interval.to_minute).contains(&minute))
    }
}

fn check(interval: Interval) -> Result<(), BadInterval> {
    let Interval { weekday0, from_minute: from, to_minute: to } = interval;
    if weekday0 >= DAYS_IN_WEEK {
        return Err(BadInterval::Weekday(weekday0));
    }
    if from >= to || to > MINUTES_IN_DAY {
        return Err(BadInterval::Minutes { from, to });
    }
    Ok(())
}

/// When a campaign serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Its weekly hours.
    pub hours: WeeklyHours,
    /// The zone of its hours and dates.
    pub zone: Tz,
    /// Its first local day.
    pub start: Option<NaiveDate>,
    /// Its last local day, inclusive.
    pub end: Option<NaiveDate>,
}

/// Why a campaign does not serve at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Closed {
    /// Its start date is to come.
    BeforeStart,
    /// Its end date is over.
    AfterEnd,
    /// It serves at other hours.
    OutsideHours,
}

impl Schedule {
    /// The open minutes of a Moscow day.
    pub fn mask(&self, day: Day) -> DayMask {
        let mut mask = DayMask::CLOSED;
        let (mut from, mut offset) = (0, self.offset_minutes(day, 0));
        for probe in (PROBE_MINUTES..=MINUTES_IN_DAY).step_by(usize::from(PROBE_MINUTES)) {
            if self.offset_minutes(day, probe) == offset {
                continue;
            }
            for minute in probe - PROBE_MINUTES + 1..=probe {
                let changed = self.offset_minutes(day, minute);
                if changed != offset {
                    self.open_run(&mut mask, day, offset, from..minute);
                    (from, offset) = (minute, changed);
                }
            }
        }
        self.open_run(&mut mask, day, offset, from..MINUTES_IN_DAY);
        mask
    }

    /// Whether it serves at `now`, without a mask.
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.closed_because(now).is_none()
    }

    /// Why it does not serve at `now`; `None` when it does.
    pub fn closed_because(&self, now: DateTime<Utc>) -> Option<Closed> {
        let local = now.with_timezone(&self.zone);
        let date = local.date_naive();
        if self.start.is_some_and(|start| date < start) {
            return Some(Closed::BeforeStart);
        }
        if self.end.is_some_and(|end| date > end) {
            return Some(Closed::AfterEnd);
        }
        let open = self.hours.contains(weekday0(date), minute_of_day(&local));
        (!open).then_some(Closed::OutsideHours)
    }

    /// The next moment at which it serves: `now` when it does; `None` when it never will.
    pub fn next_open(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.is_open(now) {
            return Some(now);
        }
        // The Moscow day before the start date sees the start's first hours in eastern zones.
        let today = Day::of(now);
        let first = self.start.map_or(today, |start| Day::from_date(start).prev().max(today));
        for ahead in 0..NEXT_OPEN_DAYS {
            let day = first.plus_days(ahead);
            let from = if day == today { minute_of(now) } else { 0 };
            if let Some(minute) = self.mask(day).next_open(from) {
                return Some(day.start() + TimeDelta::minutes(i64::from(minute)));
            }
        }
        None
    }

    /// How far the zone's clocks are ahead of UTC at a minute of a Moscow day.
    fn offset_minutes(&self, day: Day, minute: u16) -> i32 {
        let instant = day.start() + TimeDelta::minutes(i64::from(minute));
        let offset = self.zone.offset_from_utc_datetime(&instant.naive_utc()).fix();
        offset.local_minus_utc().div_euclid(60)
    }

    /// Opens the served minutes of a run of the Moscow day under one offset.
    fn open_run(&self, mask: &mut DayMask, day: Day, offset: i32, run: Range<u16>) {
        let minutes_in_day = i32::from(MINUTES_IN_DAY);
        let (from, to) = (i32::from(run.start), i32::from(run.end));
        // Local minute = Moscow minute + shift, counted from the local midnight of the same date.
        let shift = offset - MSK.local_minus_utc() / 60;
        let first = (from + shift).div_euclid(minutes_in_day);
        let last = (to - 1 + shift).div_euclid(minutes_in_day);
        for local_day in first..=last {
            let date = day.plus_days(local_day).date();
            if self.start.is_some_and(|start| date < start)
                || self.end.is_some_and(|end| date > end)
            {
                continue;
            }
            let midnight = local_day * minutes_in_day - shift;
            let mut open = |begin: u16, end: u16| {
                let (begin, end) = (midnight + i32::from(begin), midnight + i32::from(end));
                mask.open(begin.max(from), end.min(to));
            };
            if self.hours.0.is_empty() {
                open(0, MINUTES_IN_DAY);
            }
            for interval in self.hours.on(weekday0(date)) {
                open(interval.from_minute, interval.to_minute);
            }
        }
    }
}

fn weekday0(date: NaiveDate) -> u8 {
    Day::from_date(date).weekday0()
}
