//! The curve as the day goes: its shape follows the demand that came (section 3).
//!
//! The forecast's shape is where a day's error comes from (0.02 of the budget; tracking adds
//! 0.005), and by noon much of the day is no forecast any more:
//!
//! ```text
//! F*(u) = (O' + g·D(t, u)) / (O' + g·D(t, end))      u ≥ t
//! C(u)  = (1 − m)·T·F(u) + m·T·F*(u),   m = max(0, 1 − (ln(O/E) / ln 1.7)²)
//! ```
//!
//! O' is what came by t, D the forecast, g the day's factor shrunk by twelve average hours: what a
//! morning has more of, the evening seldom has. That holds where the day is one like the others.
//! Where it is off by a factor (a level that has doubled, a forecast that is wrong) the busy morning
//! is the rule for the evening, F is right and F* is not: m leaves the curve as it was planned.
//!
//! Only for a day that runs by demand from midnight: after a change of the budget the plan begins
//! again at a point of the forecast, and an entity without a level has nothing to compare with.

use super::curve::Mode;
use super::demand::day_factor;
use super::rate::{DayPlan, Totals};

/// Average hours that shrink the factor of the rest ...
const REST_PRIOR_HOURS: f64 = 12.0;
/// ... and opportunities: a count of so many is mostly chance.
const REST_PRIOR_OPPORTUNITIES: f64 = 100.0;
/// The same for what tells an ordinary day from one that is off.
const TRUST_PRIOR_HOURS: f64 = 0.25;
const TRUST_PRIOR_OPPORTUNITIES: f64 = 50.0;
/// A day that is off by so much is not adapted to.
const OFF: f64 = 1.7;

/// What today has shown by a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Today {
    now: f64,
    /// m.
    trust: f64,
    /// O', with what was offered unseen filled in from the forecast.
    came: f64,
    /// g.
    factor: f64,
}

impl Today {
    /// As of `now`, seconds since midnight.
    pub(super) fn of(now: f64, plan: &DayPlan, totals: &Totals) -> Self {
        let hour = plan.profile.average_hour();
        let by_demand = plan.mode == Mode::Traffic && plan.level_known && plan.target.is_finite();
        let from_midnight = plan.base.second <= 0.0 && plan.base.spent <= 0.0;
        let price = totals.offered / totals.opportunities.max(1.0);
        let against = |prior: f64| day_factor(totals.offered, totals.expected, prior);
        let factor = against(REST_PRIOR_HOURS * hour + REST_PRIOR_OPPORTUNITIES * price);
        let off = against(TRUST_PRIOR_HOURS * hour + TRUST_PRIOR_OPPORTUNITIES * price);
        let trust = 1.0 - (off.ln() / OFF.ln()).powi(2);
        let unseen = (plan.profile.until(now) - totals.expected).max(0.0);
        Self {
            now,
            trust: if by_demand && from_midnight { trust.max(0.0) } else { 0.0 },
            came: totals.offered + factor * unseen,
            factor,
        }
    }

    /// C at a second. Before `now` what came since is taken for spread as foreseen.
    pub(super) fn due(&self, plan: &DayPlan, second: f64) -> f64 {
        let planned = plan.due(second);
        let ahead = |until: f64| self.factor * plan.profile.between(self.now, until);
        let whole = self.came + ahead(super::DAY_SECONDS);
        if self.trust <= 0.0 || whole <= 0.0 {
            return planned;
        }
        let since = self.factor * plan.profile.between(second, self.now);
        let adapted = plan.target * (self.came - since + ahead(second)).max(0.0) / whole;
        // T·x/x may be more than T by the last bit.
        (planned + self.trust * (adapted - planned)).min(plan.target)
    }
}
