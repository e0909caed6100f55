//! The plain daily cap: everything is admitted until the money is gone. What a product without pacing
//! does, and the upper end of utilisation.

use super::{Controller, DayFacts, View};

#[derive(Debug, Default)]
pub(crate) struct DailyCap;

impl Controller for DailyCap {
    fn begin(&mut self, _: &DayFacts) {}

    fn change(&mut self, _: &DayFacts, _: &View) {}

    fn tick(&mut self, _: &View) -> f64 {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::view, *};

    #[test]
    fn it_never_throttles() {
        assert_eq!(DailyCap.tick(&view(60.0, 299.0, 300.0)), 1.0);
    }
}
