//! H(d): the most that an entity may spend on a Moscow day (rules, "Week limits: the reference").
//!
//! ```text
//! H(d) = max(0, min( cap(d),                                        day cap, floored to 0.01
//!                    pot − Σ S_j for start ≤ j < d,                 the segment's money
//!                    if a set or increase began the segment after Monday and d > start:
//!                        B × (6 − start) − Σ S_j for start < j < d ))
//! ```
//!
//! H counts what is spent before day d and bounds the whole of day d, so `H(d) − S_d` is left.
//! [`limit`] is a few additions; [`ceiling`] adds when more may be spent, by trying the days that
//! follow, at most a week. Sums saturate: a limit too large for an i64 is a limit of i64::MAX.

use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use super::changes::{Began, BudgetState};
use super::policy::{BUDGET_STEP_MICROS, DAYS_IN_WEEK, DayRule, Figure, PeriodRule, Preset, Terms};

/// What the days of one calendar week have spent, in micro-units, Monday first.
pub type WeekSpent = [i64; DAYS_IN_WEEK as usize];

/// Which rule gave the limit. On a tie the day cap is named, as admission asks it first (R-201).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    /// No figure is in force.
    NoLimit,
    /// The cap of one day (R-133, R-155).
    DayCap,
    /// What the segment has left (R-134, R-142, R-143, R-155).
    WeekPot,
    /// What is left for the days after a set or an increase (R-143, the second reading).
    SegmentTail,
}

impl Bound {
    /// Whether a denial names the week rather than the day.
    pub const fn is_week(self) -> bool {
        match self {
            Self::NoLimit | Self::DayCap => false,
            Self::WeekPot | Self::SegmentTail => true,
        }
    }
}

/// H(d) and what to tell about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceiling {
    /// H(d) for the whole day; `None` is no limit.
    pub limit_micros: Option<i64>,
    /// Which rule gave it.
    pub bound: Bound,
    /// The midnight from which more may be spent once H(d) is used up, if nothing changes;
    /// `None` without a limit.
    pub next_release: Option<DateTime<Utc>>,
}

impl Ceiling {
    /// What is left of the day, never below zero; `None` is no limit.
    pub fn remaining(&self, spent_today_micros: i64) -> Option<i64> {
        self.limit_micros.map(|limit| limit.saturating_sub(spent_today_micros).max(0))
    }
}

/// A remaining day of the week as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayOutlook {
    /// The day.
    pub day: Day,
    /// Its ceiling if nothing more is spent before it.
    pub ceiling: Ceiling,
    /// Its ceiling if every day before it spends all it may.
    pub if_spent_fully_micros: Option<i64>,
}

/// H(d) and the rule that gave it. `spent` is the week of `day`; only earlier days count.
pub fn limit(
    state: &BudgetState,
    day: Day,
    spent: &WeekSpent,
    terms: Terms,
) -> (Option<i64>, Bound) {
    limit_rolled(&state.roll(day), day, spent, terms)
}

/// H(d) with the moment of the next release.
pub fn ceiling(state: &BudgetState, day: Day, spent: &WeekSpent, terms: Terms) -> Ceiling {
    let state = state.roll(day);
    let (limit_micros, bound) = limit_rolled(&state, day, spent, terms);
    let next_release = limit_micros.and_then(|limit| next_release(state, day, limit, spent, terms));
    Ceiling { limit_micros, bound, next_release }
}

/// The ceilings of `day` and of every later day of its week. What `day` itself has spent so far
/// counts for the days after it.
pub fn remaining_days(
    state: &BudgetState,
    day: Day,
    spent: &WeekSpent,
    terms: Terms,
) -> Vec<DayOutlook> {
    let mut outlook = Vec::with_capacity(usize::from(DAYS_IN_WEEK - day.weekday0()));
    let (mut state, mut day) = (*state, day);
    let (quiet, mut full) = (*spent, *spent);
    for index in usize::from(day.weekday0())..usize::from(DAYS_IN_WEEK) {
        state = state.roll(day);
        let (all, _) = limit_rolled(&state, day, &full, terms);
        outlook.push(DayOutlook {
            day,
            ceiling: ceiling(&state, day, &quiet, terms),
            if_spent_fully_micros: all,
        });
        // A day without a limit is taken to spend what it has spent: there is no more to say.
        full[index] = full[index].max(all.unwrap_or(0));
        day = day.next();
    }
    outlook
}

fn limit_rolled(
    state: &BudgetState,
    day: Day,
    spent: &WeekSpent,
    terms: Terms,
) -> (Option<i64>, Bound) {
    let Some(figure) = &state.in_force else { return (None, Bound::NoLimit) };
    let (start, today) = (state.segment.start.weekday0(), day.weekday0());
    let mut tightest = (day_cap(state, figure, day, terms), Bound::DayCap);
    let pot = match figure.preset.policy().period {
        PeriodRule::WeekSegments => {
            Some(figure.daily_micros().saturating_mul(i64::from(DAYS_IN_WEEK - start)))
        }
        PeriodRule::WeekRestart => Some(figure.weekly_micros()),
        PeriodRule::None => None,
    };
    if let Some(pot) = pot {
        tighten(&mut tightest, left(pot, spent, start, today), Bound::WeekPot);
    }
    if figure.preset.policy().period == PeriodRule::WeekSegments
        && state.segment.began == Began::SetOrIncrease
        && start > 0
        && today > start
    {
        let after = DAYS_IN_WEEK - 1 - start;
        let tail = figure.daily_micros().saturating_mul(i64::from(after));
        tighten(&mut tightest, left(tail, spent, start + 1, today), Bound::SegmentTail);
    }
    (Some(tightest.0.max(0)), tightest.1)
}

fn tighten(tightest: &mut (i64, Bound), limit: i64, bound: Bound) {
    if limit < tightest.0 {
        *tightest = (limit, bound);
    }
}

/// What the days `from..until` of the week leave of a sum.
fn left(sum: i64, spent: &WeekSpent, from: u8, until: u8) -> i64 {
    let days = spent.get(usize::from(from)..usize::from(until)).unwrap_or_default();
    days.iter().fold(sum, |left, day| left.saturating_sub(*day))
}

/// cap(d). After a change of preset during the day, the day keeps the higher of both caps, as it
/// does after a change of the sum (R-145).
fn day_cap(state: &BudgetState, figure: &Figure, day: Day, terms: Terms) -> i64 {
    let (daily_old, weekly_old) = if state.today.day == day {
        (state.today.daily_high_micros, state.today.weekly_old_micros)
    } else {
        (0, 0)
    };
    let restart_share = terms.restart_share_percent();
    match figure.preset.policy().day {
        DayRule::PercentOfHighest(percent) => {
            percent_of(figure.daily_micros().max(daily_old), percent)
                .max(percent_of(weekly_old, restart_share))
        }
        DayRule::PercentOfInForce(percent) => percent_of(figure.daily_micros(), percent),
        DayRule::ShareOfWeek => {
            let week = figure.weekly_micros();
            let cap = if weekly_old == 0 {
                percent_of(week, terms.day_share_percent())
            } else {
                percent_of(week.saturating_add(weekly_old), restart_share)
            };
            cap.max(daily_cap_left_behind(daily_old))
        }
    }
}

/// The cap that a replaced daily figure had on its last day.
fn daily_cap_left_behind(daily_high_micros: i64) -> i64 {
    match Preset::YandexAvgDaily.policy().day {
        DayRule::PercentOfHighest(percent) | DayRule::PercentOfInForce(percent) => {
            percent_of(daily_high_micros, percent)
        }
        DayRule::ShareOfWeek => 0,
    }
}

/// A percentage of a sum, rounded down to 0.01 (R-133).
fn percent_of(sum_micros: i64, percent: i64) -> i64 {
    let hundredths = (sum_micros / BUDGET_STEP_MICROS).saturating_mul(percent) / 100;
    hundredths.saturating_mul(BUDGET_STEP_MICROS)
}

/// The first later day that may spend anything after `day` has used up its limit and nothing is
/// spent in between. A later segment (a pending decrease) may release before Monday does.
fn next_release(
    mut state: BudgetState,
    mut day: Day,
    limit: i64,
    spent: &WeekSpent,
    terms: Terms,
) -> Option<DateTime<Utc>> {
    let mut spent = *spent;
    if let Some(today) = spent.get_mut(usize::from(day.weekday0())) {
        *today = (*today).max(limit);
    }
    // Until the Monday after, which counts none of this week's spend.
    for _ in day.weekday0()..DAYS_IN_WEEK {
        day = day.next();
        state = state.roll(day);
        let (limit, _) = limit_rolled(&state, day, &spent, terms);
        if limit.is_none_or(|limit| limit > 0) {
            return Some(day.start());
        }
    }
    None
}
