//! A change of a budget, tried: what the budget would be, and what to expect of it.
//!
//! For each remaining day of the week, as the pacer would plan it if demand comes as forecast. Of a
//! campaign: by its own budget; its account may leave it less.

use adspend_common::identity::Caller;
use adspend_common::money::Money;
use adspend_common::time::Day;

use super::demand::{self, PlannedDay};
use super::{Error, rules};
use crate::Services;
use crate::budgets::{self, Budget, Parent, Wish};

/// A day of a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayForecast {
    /// The day.
    pub day: Day,
    /// What is still to come of it if all is admitted.
    pub demand: Money,
    /// What it is to spend; `None` without a limit.
    pub target: Option<Money>,
    /// What it is expected to spend, with what is spent.
    pub expected: Money,
    /// The share of demand that is admitted, in parts of a million.
    pub admitted_ppm: i32,
}

/// What the owner should know of a forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caution {
    /// Nothing was offered yet, so nothing can be forecast.
    DemandUnknown,
    /// Less than a week of demand was seen.
    DemandFresh,
    /// There is not enough demand to spend the budget.
    DemandShort,
}

/// A budget as it would be, with what to expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The budget.
    pub budget: Budget,
    /// Today and the days to Sunday; empty where demand is not known.
    pub days: Vec<DayForecast>,
    /// What the owner should know besides the budget's own warnings.
    pub cautions: Vec<Caution>,
}

/// Tries a change of a budget of a parent that the caller sees.
pub async fn preview(
    services: &Services,
    caller: &Caller,
    parent: &Parent,
    wish: Wish,
) -> Result<Preview, Error> {
    let tried = budgets::try_change(services, caller, parent, wish).await?;
    let now = services.clock.now();
    let Some(demand) = demand::load(services, tried.entity, Day::of(now)).await? else {
        let cautions = vec![Caution::DemandUnknown];
        return Ok(Preview { budget: tried.budget, days: Vec::new(), cautions });
    };
    let coming = demand.days_from(now);
    let planned = demand::walk(&tried.limits, &coming, tried.week);
    let cautions = cautions(demand.is_fresh, &planned);
    Ok(Preview { budget: tried.budget, days: planned.iter().map(forecast).collect(), cautions })
}

fn forecast(planned: &PlannedDay) -> DayForecast {
    DayForecast {
        day: planned.day,
        demand: rules::money(planned.demand),
        target: planned.target.map(rules::money),
        expected: rules::money(planned.expected),
        admitted_ppm: rules::share_ppm(planned.admitted()),
    }
}

/// What is to be said of days as they are planned.
pub(super) fn cautions(is_fresh: bool, planned: &[PlannedDay]) -> Vec<Caution> {
    let mut cautions = Vec::new();
    if is_fresh {
        cautions.push(Caution::DemandFresh);
    }
    // Every day, what is left today included, has less demand than money.
    let short = |day: &PlannedDay| day.target.is_some_and(|target| day.expected < 0.99 * target);
    if !planned.is_empty() && planned.iter().all(short) {
        cautions.push(Caution::DemandShort);
    }
    cautions
}
