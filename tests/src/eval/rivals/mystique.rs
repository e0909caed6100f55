//! Mystique: Stram, Abboud, Shtoff, Somekh, Raviv, Koren, "Mystique: a budget pacing system for
//! performance optimization in online advertising", WWW 2024.
//!
//! Taken from the paper and its published simulation (github.com/yahoo/BudgetPacingSimulation,
//! Apache-2.0; own code, same rule and constants): every minute the signal moves by a weighted sum of a
//! correction for the spend error (at most 0.025, full at 0.25 of the budget) and one for the slope
//! error (0.01 to 0.025, full at 1.5), the weights from the time until the curves would meet; a runaway
//! spender is stopped for the minute; a new campaign starts at 0.0001; a day starts with the mean
//! signal of the last one while less than 95 % was spent, which also rules the last three minutes. The
//! signal is used as a throttling probability, which the simulation offers too ("hard throttling").
//!
//! Given in its favour: the target curve is the forecast that all get, from the first day on (its own
//! way is to learn an hourly curve from its signal day by day, from a straight line); its slope is
//! that curve's of the hour.

use super::{Clock, Controller, DAY, DayFacts, View};

const MINUTES: f64 = 1_440.0;
const FIRST: f64 = 0.0001;
const LEAST: f64 = 0.0001;
const FULL_CORRECTION: f64 = 0.025;
const FULL_SPEND_ERROR: f64 = 0.25;
const FULL_SLOPE_ERROR: f64 = 1.5;
const LEAST_SLOPE_CORRECTION: f64 = 0.01;
const MOST_WEIGHT: f64 = 0.9;
const WEIGHT_PER_MINUTE: f64 = 0.2;
const NEARLY_SPENT: f64 = 0.95;

#[derive(Debug)]
pub(crate) struct Mystique {
    signal: f64,
    last_positive: f64,
    clock: Clock,
    day: Option<DayFacts>,
    charged: f64,
    /// Sum and number of signals while less than 95 % was spent.
    usual: (f64, f64),
}

impl Default for Mystique {
    fn default() -> Self {
        Self {
            signal: FIRST,
            last_positive: FIRST,
            clock: Clock::every(60.0),
            day: None,
            charged: 0.0,
            usual: (0.0, 0.0),
        }
    }
}

/// The sign of an error, nought for nought.
fn sign(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value.signum() }
}

/// The next signal: `spend` is the share of the budget spent less the target's, `slope` the last
/// minute's spend per day less the target's.
fn corrected(signal: f64, spend: f64, slope: f64) -> f64 {
    let meet = if slope.abs() < 1e-9 { MINUTES + 1.0 } else { -MINUTES * spend / slope };
    let weight = if meet < 0.0 { 0.5 } else { (WEIGHT_PER_MINUTE * meet).min(MOST_WEIGHT) };
    let of_spend = FULL_CORRECTION * (spend.abs() / FULL_SPEND_ERROR).min(1.0);
    let of_slope =
        (FULL_CORRECTION * slope.abs().min(1.0) / FULL_SLOPE_ERROR).max(LEAST_SLOPE_CORRECTION);
    let moved = signal - weight * of_spend * sign(spend) - (1.0 - weight) * of_slope * sign(slope);
    moved.clamp(LEAST, 1.0)
}

impl Mystique {
    fn usual(&self) -> Option<f64> {
        let (sum, number) = self.usual;
        (number > 0.0).then(|| (sum / number).min(1.0))
    }

    fn next(&self, day: &DayFacts, view: &View) -> f64 {
        if view.now > DAY - 180.0
            && let Some(usual) = self.usual()
        {
            return usual;
        }
        if view.charged >= day.target {
            return self.signal;
        }
        let spent = view.charged / day.target;
        let target = day.share(view.now);
        let hour = (view.now / 3_600.0).floor() * 3_600.0;
        let target_slope = 24.0 * (day.share(hour + 3_600.0) - day.share(hour));
        let slope = (view.charged - self.charged) / day.target * MINUTES - target_slope;
        let spend = spent - target;
        let meet = if slope.abs() < 1e-9 { MINUTES + 1.0 } else { -MINUTES * spend / slope };
        if slope > 12.0 && meet < 3_600.0 && spent > target.min(1.0) {
            return 0.0;
        }
        corrected(self.last_positive, spend, slope)
    }
}

impl Controller for Mystique {
    fn begin(&mut self, facts: &DayFacts) {
        if let Some(usual) = self.usual() {
            self.last_positive = usual;
            self.signal = usual;
        }
        self.usual = (0.0, 0.0);
        self.charged = 0.0;
        self.clock.restart();
        self.day = Some(facts.clone());
    }

    fn change(&mut self, facts: &DayFacts, _: &View) {
        self.day = Some(facts.clone());
    }

    fn tick(&mut self, view: &View) -> f64 {
        if self.clock.strikes(view.now)
            && view.now > 0.0
            && let Some(day) = &self.day
        {
            if self.signal > 0.0 {
                self.last_positive = self.signal;
            }
            let next = self.next(day, view);
            if view.charged < NEARLY_SPENT * day.target {
                self.usual = (self.usual.0 + next, self.usual.1 + 1.0);
            }
            self.signal = next;
            self.charged = view.charged;
        }
        self.signal
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::samples::{even_day, view},
        *,
    };

    #[test]
    fn errors_that_agree_weigh_alike_and_push_back() {
        // Ahead and still steeper: they part, so half and half.
        let next = corrected(0.5, 0.25, 1.5);
        assert!((next - (0.5 - 0.5 * 0.025 - 0.5 * 0.025 / 1.5)).abs() < 1e-12, "{next}");
        assert!(corrected(0.5, -0.25, -1.5) > 0.5);
    }

    #[test]
    fn a_spender_that_comes_back_by_itself_is_braked_by_its_slope() {
        // Behind by a little and steeper: it meets within a minute, so the slope rules, downwards.
        assert!(corrected(0.5, -0.0001, 0.5) < 0.5);
    }

    #[test]
    fn a_runaway_is_stopped_for_the_minute() {
        let mut rule = Mystique { signal: 0.5, last_positive: 0.5, ..Mystique::default() };
        rule.begin(&even_day());
        rule.tick(&view(0.0, 0.0, 0.0));
        assert_eq!(rule.tick(&view(60.0, 30.0, 30.0)), 0.0);
    }

    #[test]
    fn a_day_starts_with_the_last_ones_mean() {
        let mut rule = Mystique { usual: (30.0, 100.0), ..Mystique::default() };
        rule.begin(&even_day());
        assert!((rule.signal - 0.3).abs() < 1e-12);
    }
}
