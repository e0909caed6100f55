//! Which limit a report shows, and estimates as amounts. Pure.

use adspend_common::money::Money;
use adspend_common::time::Day;

use crate::budgets::Limits;
use crate::calendar::policy::BUDGET_STEP_MICROS;
use crate::calendar::week::{self, WeekSpent};

/// The rows behind a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Figures {
    /// The highest limit that grants of the day were cut under.
    pub(super) granted_under: Option<Money>,
    pub(super) charged: Money,
    pub(super) late: Money,
    pub(super) reserved: Money,
    pub(super) charges: i64,
    pub(super) free_hold: Money,
    pub(super) unsettled: Money,
}

/// The limit of a day: what was, or what the calendar says of what is spent so far.
pub(super) fn limit(
    figures: &Figures,
    limits: Option<&Limits>,
    week: Option<&WeekSpent>,
    day: Day,
    today: Day,
) -> Option<Money> {
    if day < today {
        return figures.granted_under;
    }
    let (limits, week) = limits.zip(week)?;
    let (limit_micros, _) = week::limit(&limits.state.roll(day), day, week, limits.terms);
    limit_micros.and_then(Money::from_micros)
}

/// An estimate as an amount: whole hundredths, rounded to the nearest, never negative.
pub(super) fn money(micros: f64) -> Money {
    let step = BUDGET_STEP_MICROS as f64;
    let rounded = (micros.max(0.0) / step).round() * step;
    // A float that is too large becomes the largest integer.
    Money::from_micros(rounded as i64).unwrap_or(Money::MAX)
}

/// A share in parts of a million.
pub(super) fn share_ppm(share: f64) -> i32 {
    (share.clamp(0.0, 1.0) * 1e6).round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::changes::{BudgetState, Request, change};
    use crate::calendar::policy::{Figure, Level, Preset, Terms, Unit};

    #[test]
    fn a_day_that_is_over_keeps_the_limit_it_had() {
        let monday: Day = "2025-06-09".parse().unwrap();
        let amount = Money::from_units(1_000);
        let figure =
            Figure::new(Level::Account, Unit::AverageDaily, amount, Preset::YandexAvgDaily);
        let state = BudgetState::new(monday);
        let set = change(&state, monday.start(), Request::Set(figure), Money::from_units(300));
        let limits =
            Limits { state: set.unwrap().state, ..Limits::none(monday, Terms::UNSCHEDULED) };
        let figures = Figures { granted_under: Some(Money::from_units(77)), ..Figures::default() };
        for (name, day, today, expected) in [
            ("yesterday", monday, monday.next(), Some(77)),
            ("today", monday, monday, Some(1_300)),
            ("tomorrow", monday.next(), monday, Some(1_300)),
        ] {
            let got = limit(&figures, Some(&limits), Some(&[0; 7]), day, today);
            assert_eq!(got, expected.map(Money::from_units), "{name}");
        }
        let none = Limits::none(monday, Terms::UNSCHEDULED);
        assert_eq!(limit(&figures, Some(&none), Some(&[0; 7]), monday, monday), None);
    }
}
