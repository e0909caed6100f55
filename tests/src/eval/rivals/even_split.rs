//! The plain even split: every open minute gets the same allowance, what a minute leaves is added to
//! the next ones, and the ad is on while money of the allowance is left. A token bucket without a
//! forecast, as many ad servers offer under "even delivery".

use super::{Controller, DAY, DayFacts, View};

#[derive(Debug, Default)]
pub(crate) struct EvenSplit {
    day: Option<DayFacts>,
}

impl EvenSplit {
    /// Allowed until the end of the minute of `now`.
    fn allowance(day: &DayFacts, now: f64) -> f64 {
        let end = ((now / 60.0).floor() + 1.0) * 60.0;
        day.target * day.open_until(end) / day.open_until(DAY).max(1.0)
    }
}

impl Controller for EvenSplit {
    fn begin(&mut self, facts: &DayFacts) {
        self.day = Some(facts.clone());
    }

    fn change(&mut self, facts: &DayFacts, _: &View) {
        self.day = Some(facts.clone());
    }

    fn tick(&mut self, view: &View) -> f64 {
        let Some(day) = &self.day else { return 0.0 };
        f64::from(view.charged + view.in_flight < Self::allowance(day, view.now))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::samples::{even_day, view},
        *,
    };

    #[test]
    fn on_below_the_line_and_off_above_it() {
        let mut rule = EvenSplit::default();
        rule.begin(&even_day());
        // At noon half of 300 and one minute's 0.208 are allowed.
        assert_eq!(rule.tick(&view(DAY / 2.0, 150.1, 0.0)), 1.0);
        assert_eq!(rule.tick(&view(DAY / 2.0, 150.3, 0.0)), 0.0);
    }
}
