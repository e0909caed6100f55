//! An entity with a budget, a spend and a day, for the tests of this folder.

use adspend_common::money::{MICROS_PER_UNIT, Money};
use adspend_common::time::Day;
use chrono::{DateTime, TimeDelta, Utc};

use super::changes::{BudgetState, Event, Outcome, Refusal, Request, change};
use super::policy::{BUDGET_STEP_MICROS, Figure, Level, Preset, Terms, Unit};
use super::week::{Bound, Ceiling, WeekSpent, ceiling, limit};

/// More than anybody may spend.
pub(super) const PLENTY: i64 = i64::MAX / MICROS_PER_UNIT;

pub(super) fn units(units: i64) -> i64 {
    units * MICROS_PER_UNIT
}

pub(super) fn money(amount: i64) -> Money {
    Money::from_micros(units(amount)).unwrap()
}

/// The Monday of most tests, 2025-03-31.
pub(super) fn monday() -> Day {
    Day::from_ymd(2025, 3, 31).unwrap()
}

/// A day of that week, Monday = 0; 7 is the next Monday.
pub(super) fn day(index: i32) -> Day {
    monday().plus_days(index)
}

pub(super) fn noon(day: Day) -> DateTime<Utc> {
    day.start() + TimeDelta::hours(12)
}

/// An account's average daily figure.
pub(super) fn daily(amount: i64) -> Figure {
    Figure::new(Level::Account, Unit::AverageDaily, money(amount), Preset::YandexAvgDaily)
}

/// A campaign's weekly figure.
pub(super) fn weekly(amount: i64) -> Figure {
    Figure::new(Level::Campaign, Unit::Weekly, money(amount), Preset::YandexAvgDaily)
}

/// A daily figure under the strict policy.
pub(super) fn strict(amount: i64) -> Figure {
    Figure::new(Level::Campaign, Unit::AverageDaily, money(amount), Preset::Strict)
}

#[derive(Debug, Clone)]
pub(super) struct Entity {
    pub(super) state: BudgetState,
    pub(super) today: Day,
    pub(super) spent: WeekSpent,
    pub(super) terms: Terms,
    pub(super) log: Vec<Event>,
}

impl Entity {
    /// On Monday, under a figure that was set the Friday before.
    pub(super) fn under(figure: Option<Figure>) -> Self {
        let friday = day(-3);
        let mut entity = Self {
            state: BudgetState::new(friday),
            today: friday,
            spent: WeekSpent::default(),
            terms: Terms::UNSCHEDULED,
            log: Vec::new(),
        };
        if let Some(figure) = figure {
            entity.ask(Request::Set(figure)).unwrap();
        }
        entity.go_to(monday());
        entity
    }

    /// Lets days pass.
    pub(super) fn go_to(&mut self, day: Day) {
        if day.week_start() != self.today.week_start() {
            self.spent = WeekSpent::default();
        }
        self.today = day;
        self.state = self.state.roll(day);
    }

    pub(super) fn ask(&mut self, request: Request) -> Result<Outcome, Refusal> {
        self.ask_at(noon(self.today), request)
    }

    pub(super) fn ask_at(
        &mut self,
        now: DateTime<Utc>,
        request: Request,
    ) -> Result<Outcome, Refusal> {
        let least = Money::from_micros(BUDGET_STEP_MICROS).unwrap();
        let outcome = change(&self.state, now, request, least)?;
        self.state = outcome.state;
        self.log.push(outcome.event);
        Ok(outcome)
    }

    pub(super) fn set(&mut self, figure: Figure) -> Outcome {
        self.ask(Request::Set(figure)).unwrap()
    }

    pub(super) fn limit(&self) -> Option<i64> {
        self.limit_and_bound().0
    }

    pub(super) fn limit_and_bound(&self) -> (Option<i64>, Bound) {
        limit(&self.state, self.today, &self.spent, self.terms)
    }

    pub(super) fn ceiling(&self) -> Ceiling {
        ceiling(&self.state, self.today, &self.spent, self.terms)
    }

    /// Spends up to a demand in whole units, never above the limit; returns the day's total.
    pub(super) fn spend_up_to(&mut self, demand: i64) -> i64 {
        let left = self.ceiling().remaining(self.spent_today()).unwrap_or(i64::MAX);
        self.spend(units(demand).min(left));
        self.spent_today()
    }

    pub(super) fn spend(&mut self, micros: i64) {
        self.spent[usize::from(self.today.weekday0())] += micros;
    }

    pub(super) fn spent_today(&self) -> i64 {
        self.spent[usize::from(self.today.weekday0())]
    }
}
