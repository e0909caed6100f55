//! Which limit a report shows. Pure.

use adspend_common::money::Money;
use adspend_common::time::Day;

use crate::admission::rate::Rate;
use crate::budgets::Limits;
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
    /// The rate of the day's last reading, in parts of 2^32; without one nothing was throttled.
    pub(super) rate_parts: Option<i64>,
}

impl Figures {
    /// The rate in parts of a million.
    pub(super) fn rate_ppm(&self) -> i32 {
        let all = f64::from(Rate::ALL);
        self.rate_parts.map_or(1_000_000, |parts| (parts as f64 / all * 1e6).round() as i32)
    }
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
