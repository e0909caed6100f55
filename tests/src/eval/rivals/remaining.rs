//! Budget over remaining forecast: what is left of the money divided by what is left of the day's
//! forecast, every minute. The widespread simplification of Smart Pacing's plan (in open-source ad
//! servers too), here with the day's level corrected as ours corrects it:
//! r = (O + K)/(E + K) within a third and three, K one average hour.
//!
//! A campaign of unknown level starts at 0.05 and takes what the first hours offered as its level.

use super::{Clock, Controller, DAY, DayFacts, View};

const COLD_RATE: f64 = 0.05;
const LEAST: f64 = 0.001;

#[derive(Debug)]
pub(crate) struct RemainingForecast {
    rate: f64,
    clock: Clock,
    day: Option<DayFacts>,
}

impl Default for RemainingForecast {
    fn default() -> Self {
        Self { rate: COLD_RATE, clock: Clock::every(60.0), day: None }
    }
}

impl RemainingForecast {
    /// Expected from now to the end of the day.
    fn demand_ahead(day: &DayFacts, view: &View) -> Option<f64> {
        let seen = day.forecast_until((view.now - view.lag).max(0.0));
        let rest = day.forecast_until(DAY) - day.forecast_until(view.now);
        if !day.level_known {
            return (view.opportunities >= 50.0 && seen > 0.0).then(|| rest * view.offered / seen);
        }
        let hour = day.forecast_until(DAY) / 24.0;
        let level = ((view.offered + hour) / (seen + hour)).clamp(1.0 / 3.0, 3.0);
        Some(level * rest)
    }
}

impl Controller for RemainingForecast {
    fn begin(&mut self, facts: &DayFacts) {
        self.day = Some(facts.clone());
        self.clock.restart();
    }

    fn change(&mut self, facts: &DayFacts, _: &View) {
        self.day = Some(facts.clone());
        self.clock.restart();
    }

    fn tick(&mut self, view: &View) -> f64 {
        let Some(day) = &self.day else { return 0.0 };
        if self.clock.strikes(view.now)
            && let Some(ahead) = Self::demand_ahead(day, view)
        {
            let left = day.target - view.charged - view.in_flight;
            self.rate = if ahead > 0.0 { (left / ahead).clamp(LEAST, 1.0) } else { 1.0 };
        }
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::samples::{even_day, view},
        *,
    };

    #[test]
    fn what_is_left_over_what_is_still_to_come() {
        let mut rule = RemainingForecast::default();
        rule.begin(&even_day());
        // 150 left for 480 as forecast.
        assert!((rule.tick(&view(DAY / 2.0, 150.0, 480.0)) - 150.0 / 480.0).abs() < 1e-12);
        // Twice the traffic until noon: (960 + 40) / (480 + 40) times what was forecast.
        let busy = rule.tick(&view(DAY / 2.0 + 60.0, 150.0, 960.0));
        assert!((busy - 150.0 / (480.0 * 1000.0 / 520.0)).abs() < 0.001, "{busy}");
    }

    #[test]
    fn an_unknown_level_is_learned_from_fifty_opportunities() {
        let mut rule = RemainingForecast::default();
        let day = DayFacts { level_known: false, ..even_day() };
        rule.begin(&day);
        assert_eq!(rule.tick(&view(600.0, 0.0, 40.0)), COLD_RATE);
        assert!(rule.tick(&view(660.0, 0.0, 400.0)) < COLD_RATE);
    }
}
