//! LinkedIn's rule: Agarwal, Ghosh, Wei, You, "Budget pacing for targeted online advertisements at
//! LinkedIn", KDD 2014.
//!
//! Taken from the paper: a pass-through rate per campaign; an allocated cumulative spend that follows
//! the forecast traffic of the day; every minute the rate is multiplied by 1.1 when the spend is at or
//! below the allocation and by 0.9 when it is above; the first rate of a campaign is 10 % (slow start),
//! and the rate is kept over midnight.
//!
//! Left out in its favour: "fast finish" (the paper takes the last two hours out of the forecast so
//! that budgets are spent by 22:00), which would count as an early stop and as an error here. Chosen
//! here: the rate stays above 0.001, or a product of tenths would take hours to come back.

use super::{Clock, Controller, DayFacts, View};

const ADJUSTMENT: f64 = 0.1;
const SLOW_START: f64 = 0.1;
const LEAST: f64 = 0.001;

#[derive(Debug)]
pub(crate) struct LinkedIn {
    rate: f64,
    clock: Clock,
    day: Option<DayFacts>,
}

impl Default for LinkedIn {
    fn default() -> Self {
        Self { rate: SLOW_START, clock: Clock::every(60.0), day: None }
    }
}

impl Controller for LinkedIn {
    fn begin(&mut self, facts: &DayFacts) {
        self.day = Some(facts.clone());
        self.clock.restart();
    }

    fn change(&mut self, facts: &DayFacts, _: &View) {
        self.day = Some(facts.clone());
    }

    fn tick(&mut self, view: &View) -> f64 {
        let Some(day) = &self.day else { return 0.0 };
        if self.clock.strikes(view.now) {
            let allocated = day.target * day.share(view.now);
            let factor = if view.charged > allocated { 1.0 - ADJUSTMENT } else { 1.0 + ADJUSTMENT };
            self.rate = (self.rate * factor).clamp(LEAST, 1.0);
        }
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            DAY,
            samples::{even_day, view},
        },
        *,
    };

    #[test]
    fn a_tenth_up_when_behind_and_a_tenth_down_when_ahead_once_a_minute() {
        let mut rule = LinkedIn::default();
        rule.begin(&even_day());
        let noon = DAY / 2.0;
        assert!((rule.tick(&view(noon, 100.0, 0.0)) - 0.11).abs() < 1e-12);
        assert!((rule.tick(&view(noon + 5.0, 100.0, 0.0)) - 0.11).abs() < 1e-12);
        assert!((rule.tick(&view(noon + 60.0, 200.0, 0.0)) - 0.099).abs() < 1e-12);
    }

    #[test]
    fn the_rate_stays_a_rate() {
        let mut rule = LinkedIn::default();
        rule.begin(&even_day());
        for minute in 0..200 {
            assert!(rule.tick(&view(f64::from(minute) * 60.0, 0.0, 0.0)) <= 1.0);
        }
        for minute in 200..400 {
            assert!(rule.tick(&view(f64::from(minute) * 60.0, 300.0, 0.0)) >= LEAST);
        }
    }
}
