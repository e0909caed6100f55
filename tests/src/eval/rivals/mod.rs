//! The controllers that ours is compared with, each a port of its published rule in a file of its own.
//!
//! All get the same view every five seconds, the same forecast (made by our production code from the
//! same four past weeks) and the same coin; a limit is kept for all of them by the same check outside.
//! So only the rule differs. A rule with a slower clock of its own keeps its last rate in between.

mod daily_cap;
mod even_split;
mod linkedin;
mod mystique;
mod pi;
mod remaining;
mod smart_pacing;

pub(crate) use daily_cap::DailyCap;
pub(crate) use even_split::EvenSplit;
pub(crate) use linkedin::LinkedIn;
pub(crate) use mystique::Mystique;
pub(crate) use pi::ProportionalIntegral;
pub(crate) use remaining::RemainingForecast;
pub(crate) use smart_pacing::SmartPacing;

use adspend_common::time::Day;
use adspend_pacing::controller::{
    DAY_SECONDS, TICK_SECONDS,
    curve::{Mode, Profile},
};

/// Seconds in a day.
pub(crate) const DAY: f64 = DAY_SECONDS;
/// Seconds between two looks at the world.
pub(crate) const TICK: f64 = TICK_SECONDS;

/// What is known of a day before it begins, and again when its budget changes.
#[derive(Debug, Clone)]
pub(crate) struct DayFacts {
    pub(crate) day: Day,
    /// To spend today, in micro-units.
    pub(crate) target: f64,
    /// The day's hard limit, in micro-units.
    pub(crate) limit: f64,
    /// Forecast spend if everything were admitted, in micro-units; nothing outside the schedule.
    pub(crate) profile: Profile,
    /// False: nothing was ever seen of this campaign, and the profile is a guess of the shape only.
    pub(crate) level_known: bool,
    /// False: not even a guess of the shape is made from traffic that was seen.
    pub(crate) shape_known: bool,
    /// The usual price of one charge, in micro-units.
    pub(crate) charge: f64,
}

impl DayFacts {
    /// Forecast from midnight to a moment.
    pub(crate) fn forecast_until(&self, second: f64) -> f64 {
        self.profile.until(second)
    }

    /// Share of the day's forecast before a moment; of the open hours when nothing is forecast.
    pub(crate) fn share(&self, second: f64) -> f64 {
        self.profile.share(Mode::Traffic, second)
    }

    /// Open seconds from midnight to a moment.
    pub(crate) fn open_until(&self, second: f64) -> f64 {
        self.profile.window().open_seconds_until(second)
    }
}

/// What a controller sees. With late feedback all of it but the clock is old.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// Seconds since midnight.
    pub(crate) now: f64,
    /// Charged today, in micro-units.
    pub(crate) charged: f64,
    /// Expected charges of what is admitted and still open, in micro-units.
    pub(crate) in_flight: f64,
    /// What the limit keeps back above that while they are open, in micro-units.
    pub(crate) margin: f64,
    /// Expected spend of all that was offered since midnight had it been admitted, in micro-units.
    pub(crate) offered: f64,
    /// Expected charges of what was admitted since midnight, in micro-units.
    pub(crate) admitted: f64,
    /// How much was offered since midnight.
    pub(crate) opportunities: f64,
    /// How old the figures are, in seconds.
    pub(crate) lag: f64,
}

/// Sets the share of opportunities to admit.
pub(crate) trait Controller {
    /// A day begins. The budget period is the day: totals start at nothing.
    fn begin(&mut self, facts: &DayFacts);

    /// The budget changed within the day.
    fn change(&mut self, facts: &DayFacts, view: &View);

    /// The rate from now on, 0 to 1. Called every [`TICK`].
    fn tick(&mut self, view: &View) -> f64;

    /// Whether to admit one opportunity; `coin` is its number from 0 to 1.
    fn admits(&mut self, rate: f64, coin: f64) -> bool {
        coin < rate
    }

    /// The day's last second has passed.
    fn end(&mut self) {}
}

/// A clock that strikes when a period has passed since it struck last.
#[derive(Debug, Clone, Copy)]
struct Clock {
    period: f64,
    next: f64,
}

impl Clock {
    const fn every(period: f64) -> Self {
        Self { period, next: 0.0 }
    }

    fn strikes(&mut self, now: f64) -> bool {
        if now + 1e-9 < self.next {
            return false;
        }
        self.next = now + self.period;
        true
    }

    fn restart(&mut self) {
        self.next = 0.0;
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use adspend_pacing::controller::{SLOTS_PER_DAY, curve::Window};

    use super::*;

    /// An even day: forecast 960, target 300, always open.
    pub(crate) fn even_day() -> DayFacts {
        DayFacts {
            day: Day::from_ymd(2026, 1, 5).unwrap(),
            target: 300.0,
            limit: 300.0,
            profile: Profile::new(&[10.0; SLOTS_PER_DAY], &Window::all()),
            level_known: true,
            shape_known: true,
            charge: 1.0,
        }
    }

    pub(crate) fn view(now: f64, charged: f64, offered: f64) -> View {
        View {
            now,
            charged,
            in_flight: 0.0,
            margin: 0.0,
            offered,
            admitted: charged,
            opportunities: offered,
            lag: 0.0,
        }
    }

    #[test]
    fn shares_of_an_even_day_are_those_of_time() {
        let day = even_day();
        assert!((day.share(DAY / 4.0) - 0.25).abs() < 1e-12);
        assert_eq!(day.open_until(DAY), DAY);
    }
}
