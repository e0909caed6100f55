//! What to hold against the limit while clicks are open (section 5): three rules under full traffic,
//! where nothing but the stop keeps the limit.

use super::{
    contest::{Size, in_parallel},
    metrics::{mean, p99},
    rivals::DailyCap,
    scenario::{Budget, Charging, Scenario},
    series::Series,
    trial::Trial,
    world::{self, StopRule},
};

/// One rule at one size of budget.
#[derive(Debug, Clone)]
pub(crate) struct StopResults {
    pub(crate) clicks: f64,
    pub(crate) rule: StopRule,
    /// Spent over the limit, of each day.
    pub(crate) spent: Vec<f64>,
}

impl StopResults {
    pub(crate) fn mean(&self) -> f64 {
        mean(self.spent.iter().copied())
    }

    pub(crate) fn p99(&self) -> f64 {
        p99(&self.spent)
    }

    /// Share of days above the limit.
    pub(crate) fn over(&self) -> f64 {
        mean(self.spent.iter().map(|share| f64::from(*share > 1.0)))
    }
}

/// Budgets of 50 and of 500 clicks a day for half of the traffic, everything admitted.
pub(crate) fn run(base: &Scenario, series: &[Series], size: Size) -> Vec<StopResults> {
    let mut results = Vec::new();
    for clicks in [50.0, 500.0] {
        let probability = 0.025;
        let scenario = Scenario {
            opportunities_per_day: 2.0 * clicks / probability,
            budget: Budget::Usual(0.5),
            charging: Charging::Clicks { probability },
            ..base.clone()
        };
        let mut items = Vec::new();
        for series in series {
            let weeks = series.some_weeks(size.weeks);
            items.extend(
                weeks
                    .into_iter()
                    .flat_map(|first| (1..=size.seeds).map(move |seed| (series, first, seed))),
            );
        }
        let rules = [StopRule::Charged, StopRule::Expected, StopRule::Margin];
        let days: Vec<Vec<[f64; 3]>> = in_parallel(&items, |(series, first, seed)| {
            let trial = Trial::draw(&scenario, series, *first, *seed);
            // A day without enough demand shows nothing of the stop.
            let days = trial.days.iter().filter(|day| day.demand() > day.limit);
            let lived = |day| {
                rules.map(|rule| {
                    let spent = world::live(&mut DailyCap, day, 0.0, rule).spent;
                    spent as f64 / day.limit as f64
                })
            };
            days.map(lived).collect()
        });
        for (index, rule) in rules.into_iter().enumerate() {
            let spent = days.iter().flatten().filter_map(|day| day.get(index)).copied().collect();
            results.push(StopResults { clicks, rule, spent });
        }
    }
    results
}
