//! The least that keeps delivery observable: no ten minutes and fifty opportunities without an
//! admission while there is money (section 8, calm).
//!
//! A floor under the rate cannot promise that: fifty coins at 0.1 all say no once in two hundred
//! times, and a floor that makes it rare spends as much as the day has. So what was *not* admitted
//! is counted: after 400 s and 32 opportunities without an admission the rate is raised until one is
//! seen, to one in two ticks at first and then by a quarter each tick. It costs one or two charges.
//! Raised for eight admissions in vain (slices are empty, a price does not fit) it rests as long
//! again. The law does not see the raised rate.
//!
//! Figures that are older than five minutes show a gap too late. There a floor it is: eight expected
//! admissions in ten minutes, or in fifty opportunities where fewer come.
//!
//! Not where few charges wait for their time, nor where one admission in every 400 s would
//! take most of the day's money (288 charges of an open day): it would be the curve. Not outside the
//! window.

use super::TICK_SECONDS;
use super::few;
use super::rate::{DayPlan, Totals, Why};

/// So long without an admission ...
const QUIET_SECONDS: f64 = 400.0;
/// ... and so many opportunities raise the rate: short of ten minutes and of fifty.
const QUIET_OPPORTUNITIES: f64 = 32.0;
/// What the raised rate lets through a tick ...
const ADMISSIONS_A_TICK: f64 = 0.5;
/// ... times this from tick to tick ...
const GROWTH: f64 = 1.25;
/// ... until so many should have been admitted.
const MOST_IN_VAIN: f64 = 8.0;
/// There is money while so much of a charge is left.
const LEAST_OF_CHARGE: f64 = 0.5;
/// One admission in every [`QUIET_SECONDS`] may take so much of the day's money.
const MOST_OF_TARGET: f64 = 0.75;
/// Older figures show a gap too late.
const OLD_SECONDS: f64 = 300.0;
/// So many are expected then ...
const EXPECTED: f64 = 8.0;
/// ... in so long ...
const EXPECTED_SECONDS: f64 = 600.0;
/// ... and of so many opportunities at least.
const EXPECTED_OF: f64 = 50.0;

/// What a tick knows besides the plan and the totals.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coming {
    /// The first tick of the day.
    pub(super) first: bool,
    pub(super) now: f64,
    /// What decided the rate.
    pub(super) bound: Why,
    /// D̂ up to `near_until`.
    pub(super) near: f64,
    pub(super) near_until: f64,
}

/// The time since the last admission.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Quiet {
    since: f64,
    /// Opportunities of the day when it began, and at the last tick.
    from: f64,
    seen: f64,
    admitted: f64,
    /// The raised rate; 0 when it is not raised.
    raised: f64,
    /// What it should have admitted.
    sent: f64,
}

impl Quiet {
    /// The least rate from now to the next tick; 0 when it needs none.
    pub(super) fn least(&mut self, coming: &Coming, plan: &DayPlan, totals: &Totals) -> f64 {
        let Coming { first, now, bound, .. } = *coming;
        let admitted = totals.admitted > self.admitted;
        self.sent += self.raised * (totals.opportunities - self.seen).max(0.0);
        (self.admitted, self.seen) = (totals.admitted, totals.opportunities);
        let closed = !plan.profile.window().is_open(now);
        if first || admitted || closed || self.sent > MOST_IN_VAIN {
            *self = Self { since: now, from: self.seen, raised: 0.0, sent: 0.0, ..*self };
        }
        let room = plan.ceiling - totals.committed() - totals.margin;
        let is_out = bound == Why::HardStop || room < LEAST_OF_CHARGE * plan.charge;
        let price = totals.offered / totals.opportunities.max(1.0);
        let all_day = price * plan.profile.window().open_seconds() / QUIET_SECONDS;
        let is_few =
            few::is_few(plan.target, plan.charge) || all_day > MOST_OF_TARGET * plan.target;
        if closed || is_out || is_few {
            self.raised = 0.0;
            return 0.0;
        }
        if totals.age_seconds > OLD_SECONDS {
            return Self::expected(coming, price);
        }
        let (quiet, passed) = (now - self.since, self.seen - self.from);
        if quiet < QUIET_SECONDS || passed < QUIET_OPPORTUNITIES {
            self.raised = 0.0;
            return 0.0;
        }
        let in_tick = passed / quiet * TICK_SECONDS;
        self.raised = (ADMISSIONS_A_TICK / in_tick).max(GROWTH * self.raised).min(1.0);
        self.raised
    }

    /// The floor where figures are old.
    fn expected(coming: &Coming, price: f64) -> f64 {
        let seconds = coming.near_until - coming.now;
        if price <= 0.0 || seconds <= 0.0 {
            return 0.0;
        }
        let opportunities = coming.near / price / seconds * EXPECTED_SECONDS;
        (EXPECTED / opportunities.max(EXPECTED_OF)).min(1.0)
    }
}
