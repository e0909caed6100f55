//! A proportional-integral controller after promovolve's rate-aware pacing (an open-source ad server,
//! `AdaptivePacing.scala`, Apache-2.0; own code, same law).
//!
//! Taken from there: a base throttle that matches the arrival rate to the plan's rate; the error is one
//! less the smoothed ratio of spent to expected spend (the divisor at least 1 % of the budget);
//! throttle = base − (Kp·error + Ki·∫error); gains from the variation of the hourly traffic
//! (Kp 0.3 to 1.0, Ki 0.2 to 0.6 for a coefficient of variation from 0 to 1.5); doubled when ahead of
//! the plan; a leaky integral (0.995 a step) within ±1; at least 1 % always passes; in the first ten
//! seconds of a day and until ten opportunities came, the base throttle alone.
//!
//! Its step is ours of five seconds (there: each request, with a step of at most one second). Left out:
//! its self-tuning of gains between requests and days.

use super::{Controller, DAY, DayFacts, TICK, View};

const SMOOTHING: f64 = 0.3;
const LEAK: f64 = 0.995;
const AHEAD: f64 = 2.0;
const LEAST: f64 = 0.01;

#[derive(Debug)]
pub(crate) struct ProportionalIntegral {
    day: Option<DayFacts>,
    proportional: f64,
    integral_gain: f64,
    integral: f64,
    ratio: Option<f64>,
    /// Offered at the last step, and the smoothed arrival of money per second.
    offered: f64,
    arrival: Option<f64>,
}

impl Default for ProportionalIntegral {
    fn default() -> Self {
        Self {
            day: None,
            proportional: 0.5,
            integral_gain: 0.3,
            integral: 0.0,
            ratio: None,
            offered: 0.0,
            arrival: None,
        }
    }
}

/// Coefficient of variation of the hourly forecast.
fn variation(day: &DayFacts) -> f64 {
    let start = |hour: u32| 3_600.0 * f64::from(hour);
    let hours: Vec<f64> =
        (0..24).map(|hour| day.profile.between(start(hour), start(hour + 1))).collect();
    let mean = hours.iter().sum::<f64>() / 24.0;
    if mean <= 0.0 {
        return 0.0;
    }
    let variance = hours.iter().map(|hour| (hour - mean).powi(2)).sum::<f64>() / 24.0;
    variance.sqrt() / mean
}

impl ProportionalIntegral {
    fn tune(&mut self, day: &DayFacts) {
        let part = (variation(day) / 1.5).clamp(0.0, 1.0);
        self.proportional = 0.3 + part * 0.7;
        self.integral_gain = 0.2 + part * 0.4;
        self.day = Some(day.clone());
    }

    /// Share of what arrives that the plan's rate leaves room for, at most one.
    fn base(day: &DayFacts, view: &View, arrival: f64) -> f64 {
        let planned = day.target * (day.share(view.now + TICK) - day.share(view.now)) / TICK;
        if arrival > 0.0 { (planned / arrival).min(1.0) } else { 1.0 }
    }
}

impl Controller for ProportionalIntegral {
    fn begin(&mut self, facts: &DayFacts) {
        self.tune(facts);
        (self.integral, self.ratio, self.offered, self.arrival) = (0.0, None, 0.0, None);
    }

    fn change(&mut self, facts: &DayFacts, _: &View) {
        self.tune(facts);
    }

    fn tick(&mut self, view: &View) -> f64 {
        let Some(day) = &self.day else { return 0.0 };
        let seen = (view.offered - self.offered) / TICK;
        self.offered = view.offered;
        // A window of about a minute: single arrivals are no rate.
        let arrival = self.arrival.map_or(seen, |before| before + (seen - before) / 12.0);
        self.arrival = Some(arrival);
        let base = Self::base(day, view, arrival);
        if view.now < 10.0 || view.opportunities < 10.0 {
            return base.max(LEAST);
        }
        let expected = (day.target * day.share(view.now)).max(0.01 * day.target);
        let ratio = (view.charged + view.in_flight) / expected.max(f64::MIN_POSITIVE);
        let ratio = self.ratio.map_or(ratio, |before| before + SMOOTHING * (ratio - before));
        self.ratio = Some(ratio);
        let error = 1.0 - ratio;
        let boost = if error < 0.0 { AHEAD } else { 1.0 };
        self.integral = (self.integral * LEAK + error).clamp(-1.0, 1.0);
        let adjustment = boost * (self.proportional * error + self.integral_gain * self.integral);
        debug_assert!(view.now <= DAY);
        (base + adjustment).clamp(LEAST, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::samples::{even_day, view},
        *,
    };

    /// Runs an even day's first half at the forecast arrival with the given spend, as a share of plan.
    fn at_noon(spent: f64) -> f64 {
        let mut rule = ProportionalIntegral::default();
        rule.begin(&even_day());
        let mut rate = 0.0;
        for step in 0..8_640 {
            let now = f64::from(step) * TICK;
            let plan = 300.0 * now / DAY;
            rate = rule.tick(&view(now, spent * plan, 960.0 * now / DAY));
        }
        rate
    }

    #[test]
    fn on_plan_the_rate_is_the_plan_over_the_arrival() {
        assert!((at_noon(1.0) - 0.3125).abs() < 0.01, "{}", at_noon(1.0));
    }

    #[test]
    fn behind_opens_and_ahead_closes_harder_but_never_fully() {
        let (behind, ahead) = (at_noon(0.9), at_noon(1.1));
        assert!(behind > 0.35 && ahead < 0.2, "{behind} {ahead}");
        assert_eq!(at_noon(3.0), LEAST);
    }
}
