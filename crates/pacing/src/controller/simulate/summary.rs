//! What a simulated day comes to (section 7).

use super::super::rate::DayPlan;
use super::super::{DAY_SECONDS, TICK_SECONDS};
use super::DayRun;

/// A gap counts from so many opportunities on (section 8, calm).
const GAP_OPPORTUNITIES: u32 = 50;

/// One minute.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Minute {
    /// What all that was offered would be expected to cost, micro-units.
    pub offered: f64,
    /// The same as the world's series had it: without the luck of single arrivals.
    pub expected: f64,
    /// Opportunities offered.
    pub opportunities: u32,
    /// Of them admitted.
    pub admitted: u32,
    /// Charged since midnight.
    pub charged: f64,
    /// What was due by its end.
    pub due: f64,
    /// The rate at its end.
    pub rate: f64,
}

/// A day in figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Charged to the day, whenever the charge came.
    pub spent: f64,
    /// What all of the demand would be expected to cost.
    pub demand: f64,
    /// The least of target, ceiling and demand: what could be spent.
    pub possible: f64,
    /// spent / possible.
    pub utilisation: f64,
    /// Root mean square of cumulative spend against the demand-proportional way to `possible`,
    /// known only afterwards; by the minute, as a share of `possible`.
    pub rmse_hindsight: f64,
    /// The same against what the plan had due.
    pub rmse_plan: f64,
    /// When not even the cheapest could be admitted any more.
    pub early_stop_second: Option<f64>,
    /// Mean change of the rate from minute to minute.
    pub rate_change: f64,
    /// The longest time without an admission over at least 50 opportunities, while at least half a
    /// percent of the limit was left.
    pub longest_gap_seconds: f64,
    /// Opportunities offered, admitted.
    pub opportunities: u32,
    /// Of them admitted.
    pub admitted: u32,
    /// What was charged above the ceiling, as a share of it.
    pub overspend: f64,
    /// What was charged after its hold had expired.
    pub late: f64,
}

/// What is left of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Money {
    /// Enough for many.
    There,
    /// Next to nothing.
    AllButOut,
    /// Not even the cheapest fits.
    Out,
}

/// Watches a day go by.
#[derive(Debug)]
pub(super) struct Watch {
    minutes: Vec<Minute>,
    running: Minute,
    admitted_in_tick: bool,
    gap_seconds: f64,
    gap_opportunities: u32,
    longest_gap_seconds: f64,
    early_stop_second: Option<f64>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            minutes: Vec::with_capacity(1_440),
            running: Minute::default(),
            admitted_in_tick: false,
            gap_seconds: 0.0,
            gap_opportunities: 0,
            longest_gap_seconds: 0.0,
            early_stop_second: None,
        }
    }

    pub(super) fn offered(&mut self, expected: f64) {
        self.running.offered += expected;
        self.running.opportunities += 1;
        self.gap_opportunities += 1;
    }

    pub(super) fn admitted(&mut self) {
        self.running.admitted += 1;
        self.admitted_in_tick = true;
    }

    pub(super) fn tick(&mut self, second: f64, open: bool, money: Money) {
        if money == Money::Out && self.early_stop_second.is_none() {
            self.early_stop_second = Some(second);
        }
        if self.admitted_in_tick || !open || money != Money::There {
            (self.gap_seconds, self.gap_opportunities) = (0.0, 0);
        } else {
            self.gap_seconds += TICK_SECONDS;
            if self.gap_opportunities >= GAP_OPPORTUNITIES {
                self.longest_gap_seconds = self.longest_gap_seconds.max(self.gap_seconds);
            }
        }
        self.admitted_in_tick = false;
    }

    pub(super) fn minute(&mut self, rate: f64, charged: f64, due: f64, expected: f64) {
        self.minutes.push(Minute { rate, charged, due, expected, ..self.running });
        self.running = Minute::default();
    }

    pub(super) fn finish(self, plan: &DayPlan, charged: f64, after: f64, late: f64) -> DayRun {
        let spent = charged + after;
        let demand: f64 = self.minutes.iter().map(|minute| minute.offered).sum();
        let possible = plan.target.min(plan.ceiling).min(demand);
        let ceiling = plan.ceiling;
        let overspend = if ceiling.is_finite() && ceiling > 0.0 && spent > ceiling {
            (spent - ceiling) / ceiling
        } else {
            0.0
        };
        let changes = self.minutes.windows(2).map(|pair| match pair {
            [before, after] => (after.rate - before.rate).abs(),
            _ => 0.0,
        });
        let summary = Summary {
            spent,
            demand,
            possible,
            utilisation: if possible > 0.0 { spent / possible } else { 1.0 },
            rmse_hindsight: hindsight(&self.minutes, possible),
            rmse_plan: against_plan(&self.minutes, possible),
            early_stop_second: self.early_stop_second,
            rate_change: changes.sum::<f64>() / (DAY_SECONDS / 60.0),
            longest_gap_seconds: self.longest_gap_seconds,
            opportunities: self.minutes.iter().map(|minute| minute.opportunities).sum(),
            admitted: self.minutes.iter().map(|minute| minute.admitted).sum(),
            overspend,
            late,
        };
        DayRun { minutes: self.minutes, summary }
    }
}

fn hindsight(minutes: &[Minute], possible: f64) -> f64 {
    let all: f64 = minutes.iter().map(|minute| minute.expected).sum();
    let mut expected = 0.0;
    root_mean_square(minutes, possible, |minute| {
        expected += minute.expected;
        minute.charged - possible * expected / all
    })
}

fn against_plan(minutes: &[Minute], possible: f64) -> f64 {
    root_mean_square(minutes, possible, |minute| minute.charged - minute.due)
}

fn root_mean_square(minutes: &[Minute], unit: f64, mut error: impl FnMut(&Minute) -> f64) -> f64 {
    if unit <= 0.0 || minutes.is_empty() {
        return 0.0;
    }
    let squares: f64 = minutes.iter().map(|minute| (error(minute) / unit).powi(2)).sum();
    (squares / minutes.len() as f64).sqrt()
}
