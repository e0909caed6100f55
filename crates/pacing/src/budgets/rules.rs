//! What becomes of a wish, and how a budget looks. Pure; the arithmetic is the calendar's.

use adspend_common::money::Money;
use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use super::{Budget, Dated, DayCeiling, Error, Owner, Wish};
use crate::calendar::changes::{self, BudgetState, Event, Kind, Outcome, Refusal, Request};
use crate::calendar::policy::{Figure, PaymentModel, Preset, Terms, minimum};
use crate::calendar::week::{self, WeekSpent};

/// How spend is spread over the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Evenly.
    Even,
    /// As the traffic runs.
    #[default]
    Traffic,
    /// As soon as possible, within the limits.
    Asap,
}

/// What the owner of a budget should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// Conversions are paid for days later, so a daily figure is passed or not reached.
    DailyFigureWithConversions,
}

/// What a grant, a report and a change need to know of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What limits follow from.
    pub state: BudgetState,
    /// What else they depend on.
    pub terms: Terms,
    /// How spend is spread over the day.
    pub mode: Mode,
    /// The first day of the figure in force.
    pub in_force_day: Option<Day>,
}

impl Limits {
    /// An entity without a budget.
    pub fn none(day: Day, terms: Terms) -> Limits {
        Limits { state: BudgetState::new(day), terms, mode: Mode::default(), in_force_day: None }
    }

    /// The same on a later day.
    #[must_use]
    pub fn roll(self, day: Day) -> Limits {
        let state = self.state.roll(day);
        let in_force_day = match (self.state.pending, state.pending) {
            (Some(pending), None) => Some(pending.from_day),
            (Some(_) | None, Some(_) | None) => self.in_force_day,
        };
        Limits { state, in_force_day, ..self }
    }

    fn in_force(&self) -> Option<Dated> {
        let figure = self.state.in_force?;
        Some(Dated { figure, from_day: self.in_force_day.unwrap_or(self.state.today.day) })
    }

    fn pending(&self) -> Option<Dated> {
        let pending = self.state.pending?;
        Some(Dated { figure: pending.figure, from_day: pending.from_day })
    }
}

/// What an entity has used, and what bears on its warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Charged and reserved, by day of the week.
    pub(super) week: WeekSpent,
    /// Whether anything under the budget is paid per conversion.
    pub(super) pays_per_conversion: bool,
}

/// A change that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decided {
    /// The budget after it.
    pub(super) limits: Limits,
    /// Its line of the log, and the figure that was in force. None when only the mode changes,
    /// which is no change of the sum.
    pub(super) logged: Option<(Event, Option<Dated>)>,
}

/// Decides a wish at `now`.
pub(super) fn decide(
    before: &Limits,
    now: DateTime<Utc>,
    owner: &Owner,
    wish: Wish,
    daily: Preset,
) -> Result<Decided, Error> {
    let level = owner.entity.level();
    let (request, least, mode) = match wish {
        Wish::Set { amount, currency, unit, mode } => {
            if currency != owner.currency {
                return Err(Error::Currency { asked: currency, account: owner.currency });
            }
            let figure = Figure::new(level, unit, amount, daily);
            (Request::Set(figure), minimum(level, unit, currency), mode.unwrap_or(before.mode))
        }
        Wish::Remove => (Request::Remove, Money::ZERO, before.mode),
    };
    match changes::change(&before.state, now, request, least) {
        Ok(outcome) => Ok(decided(&Limits { mode, ..*before }, outcome)),
        Err(Refusal::NoChange) if mode != before.mode => {
            let limits = Limits { mode, ..before.roll(Day::of(now)) };
            Ok(Decided { limits, logged: None })
        }
        Err(refusal) => Err(Error::Rule { refusal, at: now }),
    }
}

/// What an outcome of the calendar makes of the budget.
pub(super) fn decided(before: &Limits, outcome: Outcome) -> Decided {
    let Outcome { state, event, changes_left: _ } = outcome;
    let rolled = before.roll(state.today.day);
    let in_force_day = match event.kind {
        Kind::Set | Kind::Increase | Kind::Remove => state.in_force.map(|_| event.effective_day),
        // A decrease that waits leaves the figure in force.
        Kind::Decrease if state.pending.is_some() => rolled.in_force_day,
        Kind::Decrease => Some(event.effective_day),
        Kind::TakeBack | Kind::Restart => rolled.in_force_day,
    };
    let logged = Some((event, rolled.in_force()));
    Decided { limits: Limits { state, in_force_day, ..rolled }, logged }
}

/// The budget as its owner sees it at `now`; `limits` are as of that day.
pub(super) fn view(owner: &Owner, limits: &Limits, now: DateTime<Utc>, usage: &Usage) -> Budget {
    let ceilings = week::remaining_days(&limits.state, Day::of(now), &usage.week, limits.terms);
    let ceilings = ceilings.iter().map(|outlook| DayCeiling {
        day: outlook.day,
        limit: outlook.ceiling.limit_micros.map(money),
        bound: outlook.ceiling.bound,
        used: money(usage.week[usize::from(outlook.day.weekday0())]),
    });
    let (in_force, pending) = (limits.in_force(), limits.pending());
    Budget {
        parent: owner.parent.clone(),
        currency: owner.currency,
        in_force,
        pending,
        mode: limits.mode,
        ceilings: ceilings.collect(),
        changes_today: limits.state.today.changes,
        changes_left: limits.state.changes_left(),
        warnings: warnings(in_force.into_iter().chain(pending), usage.pays_per_conversion),
    }
}

fn warnings(figures: impl Iterator<Item = Dated>, pays_per_conversion: bool) -> Vec<Warning> {
    let payment = PaymentModel::PerConversion;
    let mut figures = figures.filter(|dated| dated.figure.warns_for(payment));
    if pays_per_conversion && figures.next().is_some() {
        vec![Warning::DailyFigureWithConversions]
    } else {
        Vec::new()
    }
}

/// The same of all budgets that a campaign is under, which pays so.
pub(super) fn warnings_over(budgets: &[Limits], day: Day, payment: PaymentModel) -> Vec<Warning> {
    let figures = budgets
        .iter()
        .map(|limits| limits.roll(day))
        .flat_map(|limits| [limits.in_force(), limits.pending()].into_iter().flatten());
    warnings(figures, payment == PaymentModel::PerConversion)
}

/// A sum of the calendar, which saturates, as an amount; never negative.
fn money(micros: i64) -> Money {
    Money::from_micros(micros.max(0)).unwrap_or(Money::MAX)
}
