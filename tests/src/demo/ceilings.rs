//! The ceilings that the rules give: from the budgets that the driver set and the charges that were
//! acknowledged, with the calendar that pacing too is built on.
//!
//! A ceiling of pacing at some moment counts what is reserved on earlier days of the week as spent,
//! so it lies at or below the one computed here at the end, when only charges are left. Late charges
//! are left out for the same reason. What pacing tells as a ceiling must not lie above it, and what
//! it admits must not pass it.

use adspend_common::{
    money::{Currency, Money},
    proto::adspend::pacing::v1::{BudgetUnit, PaymentModel as WirePayment},
    time::Day,
};
use adspend_pacing::calendar::{
    changes::{BudgetState, Request, change},
    policy::{self, Figure, Level, PaymentModel, Preset, Terms, Unit},
    week::{self, WeekSpent},
};
use chrono::{DateTime, Utc};

use super::{
    book::{Book, Ceiling, Who},
    scenario::CAMPAIGNS,
};

/// A budget that somebody set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub(crate) who: Who,
    pub(crate) at: DateTime<Utc>,
    pub(crate) roubles: i64,
    pub(crate) unit: BudgetUnit,
}

/// The highest ceiling of a day, over all that was in force on it.
pub(crate) fn highest(book: &Book, changes: &[Change], who: Who, day: Day) -> Ceiling {
    let spent = spent(book, who, day);
    let terms = terms(who);
    let mut state = BudgetState::new(day);
    let mut highest: Option<Option<i64>> = None;
    let mut consider = |state: &BudgetState| {
        let (limit, _) = week::limit(state, day, &spent, terms);
        highest = Some(match (highest, limit) {
            (None, limit) => limit,
            (Some(Some(before)), Some(limit)) => Some(before.max(limit)),
            (Some(None), _) | (Some(_), None) => None,
        });
    };
    let mut own: Vec<_> = changes.iter().filter(|change| change.who == who).collect();
    own.sort_by_key(|change| change.at);
    if let Some(first) = own.first() {
        state = BudgetState::new(Day::of(first.at));
    }
    let before = own.partition_point(|change| Day::of(change.at) < day);
    for made in own.iter().take(before) {
        state = after(&state, made);
    }
    // A budget that is first set on this day is set before the traffic begins.
    if before > 0 || own.is_empty() {
        consider(&state.roll(day));
    }
    for made in own.iter().skip(before).filter(|change| Day::of(change.at) == day) {
        state = after(&state, made);
        consider(&state);
    }
    match highest {
        None => Ceiling::Unknown,
        Some(None) => Ceiling::NoLimit,
        Some(Some(micros)) => Ceiling::Micros(micros),
    }
}

fn after(state: &BudgetState, made: &Change) -> BudgetState {
    let level = level(made.who);
    let unit = match made.unit {
        BudgetUnit::Weekly => Unit::Weekly,
        BudgetUnit::AverageDaily | BudgetUnit::Unspecified => Unit::AverageDaily,
    };
    let amount = Money::from_units(u32::try_from(made.roubles).unwrap_or_default());
    let figure = Figure::new(level, unit, amount, Preset::YandexAvgDaily);
    let least = policy::minimum(level, unit, Currency::RUB);
    // The service has accepted the change; a calendar that refuses it would leave the figure before.
    change(state, made.at, Request::Set(figure), least).map_or(*state, |outcome| outcome.state)
}

/// The charges in time of the days of the week.
fn spent(book: &Book, who: Who, day: Day) -> WeekSpent {
    let monday = day.week_start();
    let mut spent = [0; 7];
    for (weekday, spent) in (0..).zip(&mut spent) {
        if let Some(cell) = book.cell(who, monday.plus_days(weekday)) {
            *spent = cell.charged_micros - cell.late_micros;
        }
    }
    spent
}

fn level(who: Who) -> Level {
    match who {
        Who::Account(_) => Level::Account,
        Who::Campaign(_) => Level::Campaign,
    }
}

fn terms(who: Who) -> Terms {
    let Who::Campaign(number) = who else { return Terms::UNSCHEDULED };
    let Some(campaign) = CAMPAIGNS.get(number) else { return Terms::UNSCHEDULED };
    let payment = match campaign.payment {
        WirePayment::PerClick => PaymentModel::PerClick,
        WirePayment::PerConversion => PaymentModel::PerConversion,
        WirePayment::PerImpression | WirePayment::Unspecified => PaymentModel::PerImpression,
    };
    Terms { scheduled_days: if campaign.hours.is_some() { 7 } else { 0 }, payment }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::book::Charged;

    const WHO: Who = Who::Campaign(0);

    fn november(day: u32) -> Day {
        Day::from_ymd(2019, 11, day).unwrap()
    }

    fn set(day: u32, roubles: i64) -> Change {
        let at = november(day).start() + chrono::TimeDelta::hours(12);
        Change { who: WHO, at, roubles, unit: BudgetUnit::AverageDaily }
    }

    fn ceilings(changes: &[Change], charged: &[(u32, i64)]) -> Vec<Ceiling> {
        let mut book = Book::default();
        for (day, roubles) in charged {
            let (day, price_micros) = (november(*day), roubles * 1_000_000);
            let (late, counted) = (false, true);
            book.charged(Charged { campaign: 0, day, price_micros, late, counted });
        }
        (25..=30).map(|day| highest(&book, changes, WHO, november(day))).collect()
    }

    fn limits(roubles: [i64; 6]) -> Vec<Ceiling> {
        roubles.map(|roubles| Ceiling::Micros(roubles * 1_000_000)).to_vec()
    }

    #[test]
    fn the_worked_week_of_an_increase_on_wednesday() {
        let changes = [set(23, 10_000), set(27, 15_000)];
        let spent = [(25, 13_000), (26, 13_000), (27, 19_500), (28, 19_500), (29, 19_500)];
        let expected = limits([13_000, 13_000, 19_500, 19_500, 19_500, 16_500]);
        assert_eq!(ceilings(&changes, &spent), expected);
    }

    #[test]
    fn the_worked_week_of_a_decrease_on_wednesday() {
        let changes = [set(23, 15_000), set(27, 10_000)];
        let spent =
            [(25, 19_500), (26, 19_500), (27, 19_500), (28, 13_000), (29, 13_000), (30, 13_000)];
        let expected = limits([19_500, 19_500, 19_500, 13_000, 13_000, 13_000]);
        assert_eq!(ceilings(&changes, &spent), expected);
    }

    #[test]
    fn without_a_budget_there_is_no_limit() {
        assert_eq!(ceilings(&[], &[(25, 1)]), [Ceiling::NoLimit; 6]);
    }
}
