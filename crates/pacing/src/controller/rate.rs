//! The controller: the admission rate of one entity, every five seconds (section 3).
//!
//! ```text
//! track = (C(t+h) − C(t)) / D̂ + (C(t) − S − I) / D̂,  D̂ = D̂(t, t+h), behind C at least D̂_min;
//!                                           C by what the day has shown (`today`)
//!                                           what the curve leaves for the horizon h
//! rest  = (C(end) − S − I) / D̂(t, end)      what the day leaves for its rest
//! p     = clip((1 − β)·max(track, rest/3) + β·rest, p_min, 1),   β = ¼, smoothed over 5 min
//! ```
//!
//! h = 45 minutes or what is left of the window, and at least three feedback lags. `track` is a
//! proportional law with feed-forward: the error decays as e' = −e/h, without overshoot for a
//! feedback lag below h/e. There is no integrator, hence no wind-up, and no division by spend.
//!
//! Beyond the design, and why:
//! * D̂_min, half of what an average stretch of that length brings, under the error alone. Where
//!   little demand lies ahead (night, a gap in the day) a small error would ask for all or nothing;
//!   it is corrected when demand is back. Only behind the curve: ahead of it, in an evening that
//!   thins out, it would let too much through and the limit would end the day before 23:00. With D̂
//!   above it, `track` is the design's law.
//! * The quarter of `rest`. It yields to a flash crowd (the traffic-proportional ideal spends more
//!   in it; the plan alone does not), and it is a floor in proportion to the money: after an
//!   overshoot `track` is 0 for a while and `rest` keeps some delivery, so there is no black-out.
//! * D̂ near and far have different factors. The near one follows the last two hours, because what
//!   is wrong in the near demand is felt at once; the far one is the day's factor shrunk by six
//!   average hours, because a busy morning says little about the evening.
//! * The rate is smoothed over five minutes. One charge of 300 a day moves the law by 0.03; that is
//!   luck, not news. The rate moves half as much for it and the day's error stays.
//! * p_min is at most a tenth of what the plan asks for on average. A fixed 0.002 of 40 000
//!   opportunities is 80 charges, more than a small budget has.
//! * The latch counts the demand beyond the horizon at four fifths. When the money is nearly enough
//!   what is not taken now may never be asked for again; demand that comes after all is throttled
//!   later. Without it a budget of 1.05 × demand lost 1.2 % where days differ by 8 % from their
//!   forecast, with it 0.1 %.
//!   It is left at 0.8, not at 1, and what a busy morning would add to the demand beyond the horizon
//!   is not counted: it says little about the evening, and where the money was enough only a real
//!   shortage is worth a throttle. Not where the level is
//!   learned from the day: a new entity's night would be taken for a day with money for all.
//! * Where the target is few charges (R-137) the rate is 0 while more than 0.7 of a charge is ahead
//!   of the curve, and near the limit until 0.7 of one is due: the law alone is off by two thirds of
//!   a charge and so would end one day in six before 23:00. Up to a thousand charges the last three
//!   wait likewise (of 300, three are more than a quarter of an hour). In the last hour of a window
//!   nothing waits, or the last charge would find no taker.
//!
//! Not here: limits. Whatever the rate says, slices end at H(d).

use adspend_common::time::Day;

use super::alive::{Coming, Quiet};
use super::curve::{Mode, Profile};
use super::demand::{self, day_factor};
use super::today::Today;
pub use super::totals::Totals;
use super::{DAY_SECONDS, TICK_SECONDS, few};

/// The horizon h.
pub const HORIZON_SECONDS: f64 = 45.0 * 60.0;
/// h is at least so many feedback lags.
const LAGS_IN_HORIZON: f64 = 3.0;
/// The share of the law that divides what the day leaves by its rest, β.
const REST_SHARE: f64 = 0.25;
/// After an overshoot the curve's part goes on at this share of the rest's law.
const TRACK_LEAST_OF_REST: f64 = 1.0 / 3.0;
/// ... and catches up at no more than this, or an empty forecast would.
const TRACK_MOST: f64 = 2.0;
/// Jumps of single charges are smoothed over this long, and over a quarter of what is left.
const SMOOTH_SECONDS: f64 = 300.0;
const SMOOTH_OF_LEFT: f64 = 0.25;
/// The curve runs ahead for the margin by at most this share of itself: some 25 minutes.
const AHEAD_OF_MARGIN: f64 = 0.015;
/// The demand beyond the horizon counts for so much when all traffic is at stake.
const FAR_CERTAIN: f64 = 0.8;
/// With few charges a day, so many of them ahead of the curve is too many ...
const FEW_AHEAD: f64 = 0.7;
/// ... and from so many before the limit on, one must be due by as much before it is made ...
const FEW_LAST: f64 = 3.0;
/// ... also of days with more charges than are few, up to so many: above, three are no hour ...
const LAST_WAITS_BELOW: f64 = 1_000.0;
/// ... until so long before the end of the window, or this share of it.
const LAST_RELEASED_SECONDS: f64 = 3_600.0;
const LAST_RELEASED_SHARE: f64 = 0.125;
/// Delivery stays observable while there is money.
pub const RATE_MIN: f64 = 0.002;
/// ... and is at most this share of the day's average rate.
const RATE_MIN_OF_AVERAGE: f64 = 0.1;
/// The rate of an entity whose level is not known.
pub const RATE_UNKNOWN: f64 = 0.05;
/// Full traffic is entered when the money is worth so much of the rest's demand, on so many ticks.
const LATCH_ENTER: f64 = 1.05;
const LATCH_TICKS: u8 = 2;
/// ... and left below this, or below the other where the level is learned from the day itself.
const LATCH_LEAVE: f64 = 0.8;
/// The day's first tick enters from here on.
const LATCH_EVEN: f64 = 1.0;
/// Per tick the rate may rise by this share of itself or by this much, whichever is more.
const SLEW_SHARE: f64 = 0.1;
const SLEW_STEP: f64 = 0.02;
/// The memory of the near demand factor.
const NEAR_SECONDS: f64 = 7_200.0;
/// Opportunities that make the near factor worth half of what it sees, within (0.1, 1) hours.
const NEAR_PRIOR_OPPORTUNITIES: f64 = 100.0;
/// Average hours that shrink the far demand factor.
const FAR_PRIOR_HOURS: f64 = 6.0;
/// An error is corrected as if at least this share of the average demand lay ahead: at night, or
/// where none was ever seen, the smallest error would swing the rate between its ends.
const GAIN_FLOOR: f64 = 0.5;
/// Demand is never taken below this share of one charge.
const DEMAND_FLOOR_CHARGES: f64 = 0.25;

/// What is planned for an entity and a day. Every replica has the same.
#[derive(Debug, Clone, PartialEq)]
pub struct DayPlan {
    /// The Moscow day.
    pub day: Day,
    /// T_d, what the day is to spend; infinite without a limit. Micro-units.
    pub target: f64,
    /// H_d, what it may spend; infinite without a limit. Micro-units.
    pub ceiling: f64,
    /// Today's demand over the open minutes; shares of the week where the level is not known.
    pub profile: Profile,
    /// How the target is laid over the day.
    pub mode: Mode,
    /// Whether the profile is money. False for a new entity: its level is learned from the day.
    pub level_known: bool,
    /// What one charge is on average, micro-units; 0 when not known.
    pub charge: f64,
    /// Where the curve begins: midnight with nothing spent, or the last change of the budget.
    pub base: Base,
}

/// The point from which the curve runs to the target.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Base {
    /// Second of the day.
    pub second: f64,
    /// What was spent by then, in flight included.
    pub spent: f64,
}

impl DayPlan {
    /// C(t): what is due by a second. Re-based, so that a change in mid-day is no catch-up burst.
    pub fn due(&self, second: f64) -> f64 {
        let Base { second: from, spent } = self.base;
        if !self.target.is_finite() {
            return self.target;
        }
        let target = self.target.max(spent);
        if self.mode == Mode::Asap {
            return target;
        }
        let gone = if from > 0.0 { self.profile.share(self.mode, from) } else { 0.0 };
        let share = self.profile.share(self.mode, second);
        if gone >= 1.0 {
            return if second > from { target } else { spent };
        }
        spent + (target - spent) * ((share - gone) / (1.0 - gone)).clamp(0.0, 1.0)
    }

    /// A change of the budget: a new target and ceiling, and the curve begins again at what is
    /// spent now. No event of the day takes the target below what is spent.
    pub fn change(&mut self, now: f64, target: f64, ceiling: f64, totals: &Totals) {
        let spent = totals.committed();
        self.base = Base { second: now, spent };
        self.target = target.max(spent);
        self.ceiling = ceiling;
    }
}

/// What decided a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// No limit, or money enough for all that is expected.
    AllTraffic,
    /// The curve.
    Curve,
    /// The least that keeps delivery observable.
    Floor,
    /// The rate may not rise faster.
    Slew,
    /// How much is offered is not known yet.
    WarmStart,
    /// The limit is used up.
    HardStop,
    /// The next of few charges waits for its time (R-137).
    Waits,
    /// As soon as possible: only the limit stops it.
    Asap,
    /// Outside the window.
    Closed,
}

/// One tick's result, with what explains it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The rate, 0..=1.
    pub rate: f64,
    /// T_d.
    pub target: f64,
    /// C(t).
    pub due: f64,
    /// C(t + h).
    pub due_ahead: f64,
    /// D̂(t, t + h).
    pub demand_ahead: f64,
    /// What may be spent over the horizon: for the account's ceiling over its campaigns
    /// ([`super::hierarchy::ceiling`]). Infinite when nothing is throttled.
    pub budget_ahead: f64,
    /// S.
    pub charged: f64,
    /// I.
    pub in_flight: f64,
    /// r(t) of the near demand; of a new entity, its learned level.
    pub day_factor: f64,
    /// Whether all traffic is let through until the money is worth less than the rest's demand.
    pub latched: bool,
    /// What decided the rate.
    pub bound: Why,
}

/// The state of one entity between ticks: at most 128 bytes, no allocation.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pacer {
    day: Option<Day>,
    rate: f64,
    latched: bool,
    /// Whether the last rate was [`RATE_UNKNOWN`], for want of a level.
    unknown: bool,
    votes: u8,
    now: f64,
    offered: f64,
    expected: f64,
    near_offered: f64,
    near_expected: f64,
    quiet: Quiet,
}

/// When a tick is.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// The first of the day.
    first: bool,
    now: f64,
    /// Seconds since the tick before.
    elapsed: f64,
    /// What was due since the totals were seen.
    unseen: f64,
}

/// Demand ahead, and what it was multiplied by.
#[derive(Debug, Clone, Copy)]
struct Ahead {
    horizon_end: f64,
    near: f64,
    rest: f64,
    /// An error is not divided by less demand than this.
    least_gain: f64,
    factor: f64,
    /// The demand beyond the horizon, of a busy day without what is more than foreseen.
    far_foreseen: f64,
    /// Whether anything is known of the level.
    known: bool,
}

impl Pacer {
    /// A pacer that has seen nothing: after a start, or for a new entity.
    pub fn new() -> Self {
        Self::default()
    }

    /// The rate from `now` (seconds of the plan's day) to the next tick.
    pub fn tick(&mut self, now: f64, plan: &DayPlan, totals: &Totals) -> Reading {
        let first = self.day != Some(plan.day);
        let elapsed = if first { TICK_SECONDS } else { (now - self.now).max(0.0) };
        self.observe(first, now, plan, totals);
        let ahead = self.ahead(now, plan, totals);
        let today = Today::of(now, plan, totals);
        let due = today.due(plan, now);
        let seen =
            if totals.age_seconds > 0.0 { today.due(plan, now - totals.age_seconds) } else { due };
        let mut reading = Reading {
            rate: self.rate,
            target: plan.target,
            due,
            due_ahead: Self::aim(plan, totals, today.due(plan, ahead.horizon_end)),
            demand_ahead: ahead.near,
            budget_ahead: f64::INFINITY,
            charged: totals.charged,
            in_flight: totals.in_flight,
            day_factor: ahead.factor,
            latched: self.latched,
            bound: Why::Curve,
        };
        let moment = Moment { first, now, elapsed, unseen: (due - seen).max(0.0) };
        let (rate, bound) = self.decide(&moment, plan, totals, &ahead, &reading);
        self.rate = rate;
        reading.rate = rate;
        reading.bound = bound;
        reading.latched = self.latched;
        if rate < 1.0 {
            reading.budget_ahead = rate * ahead.near;
        }
        let coming = Coming { first, now, bound, near: ahead.near, near_until: ahead.horizon_end };
        let least = self.quiet.least(&coming, plan, totals);
        if least > rate {
            (reading.rate, reading.bound) = (least, Why::Floor);
        }
        reading
    }

    fn decide(
        &mut self,
        moment: &Moment,
        plan: &DayPlan,
        totals: &Totals,
        ahead: &Ahead,
        reading: &Reading,
    ) -> (f64, Why) {
        let Moment { first, now, elapsed, unseen } = *moment;
        let committed = totals.committed();
        if plan.ceiling <= committed {
            return (0.0, Why::HardStop);
        }
        if !plan.target.is_finite() {
            return (1.0, Why::AllTraffic);
        }
        if plan.mode == Mode::Asap {
            return (1.0, Why::Asap);
        }
        let end = plan.profile.window().end_second();
        let left = plan.due(DAY_SECONDS) - committed - unseen;
        let learned = std::mem::replace(&mut self.unknown, !ahead.known) && ahead.known;
        if !ahead.known {
            self.latched = false;
            return (RATE_UNKNOWN, Why::WarmStart);
        }
        let forward = (reading.due_ahead - reading.due) / ahead.near;
        let error = reading.due - unseen - committed;
        let gain = if error > 0.0 { ahead.near.max(ahead.least_gain) } else { ahead.near };
        let track = forward + error / gain;
        let rest = left / ahead.rest;
        let worth = left / (ahead.near + FAR_CERTAIN * ahead.far_foreseen);
        self.latch(first, plan.level_known, worth);
        if !plan.profile.window().is_open(now) {
            return (rest.clamp(0.0, 1.0), Why::Closed);
        }
        if self.latched {
            return self.slewed(first, 1.0, Why::AllTraffic);
        }
        if Self::charge_waits(plan, committed, reading.due, end - now) {
            return (0.0, Why::Waits);
        }
        let floor = RATE_MIN.min(RATE_MIN_OF_AVERAGE * plan.target / ahead.rest);
        let least = TRACK_LEAST_OF_REST * rest.max(0.0);
        let track = track.clamp(least, TRACK_MOST.max(least));
        let law = ((1.0 - REST_SHARE) * track + REST_SHARE * rest).min(1.0);
        // The first rate that is not a guess may be far below the guess: no way down to it.
        let at_once = first || (learned && law < self.rate);
        let law = if at_once { law } else { self.smoothed(law, end - now, elapsed) };
        if law < floor {
            return (floor.clamp(0.0, 1.0), Why::Floor);
        }
        let bound = if law >= 1.0 { Why::AllTraffic } else { Why::Curve };
        self.slewed(first, law.min(1.0), bound)
    }

    /// The rate may fall freely and rises by steps; the first one of a day stands as it is.
    fn slewed(&self, first: bool, rate: f64, bound: Why) -> (f64, Why) {
        let most = self.rate + (SLEW_SHARE * self.rate).max(SLEW_STEP);
        if first || rate <= most { (rate, bound) } else { (most, Why::Slew) }
    }

    /// The rate on its way to `law`: half of the step in three and a half minutes.
    fn smoothed(&self, law: f64, left: f64, elapsed: f64) -> f64 {
        let memory = SMOOTH_SECONDS.min(SMOOTH_OF_LEFT * left).max(f64::MIN_POSITIVE);
        self.rate + (law - self.rate) * -(-elapsed / memory).exp_m1()
    }

    /// Full traffic while the money is worth the rest's demand, with hysteresis. The day's first
    /// tick needs no second vote: it would throttle what is not scarce.
    fn latch(&mut self, first: bool, level_known: bool, worth: f64) {
        if first || self.latched {
            self.latched = worth >= if first || !level_known { LATCH_EVEN } else { LATCH_LEAVE };
            self.votes = 0;
        } else if worth >= LATCH_ENTER {
            self.votes += 1;
            self.latched = self.votes >= LATCH_TICKS;
        } else {
            self.votes = 0;
        }
    }

    /// The curve, ahead by the margin: the last of the money is let out slowly, as holds expire, and
    /// needs the time.
    fn aim(plan: &DayPlan, totals: &Totals, due: f64) -> f64 {
        if !due.is_finite() || few::is_few(plan.target, plan.charge) {
            return due;
        }
        let most = plan.target.max(plan.base.spent);
        let ahead = (totals.margin / most.max(1.0)).clamp(0.0, AHEAD_OF_MARGIN);
        (due * (1.0 + ahead)).min(most)
    }

    /// With few charges a day the law is off by most of a charge. Ahead of the curve it waits, and
    /// near the limit it waits until the charge is due, or one day in six would end early. In the
    /// last hour nothing waits: what is left then may be spent.
    fn charge_waits(plan: &DayPlan, committed: f64, due: f64, left: f64) -> bool {
        let counted = plan.charge > 0.0 && plan.target < LAST_WAITS_BELOW * plan.charge;
        let share = LAST_RELEASED_SHARE * plan.profile.window().open_seconds();
        if !counted || left <= LAST_RELEASED_SECONDS.min(share) {
            return false;
        }
        let last = plan.ceiling - committed < FEW_LAST * plan.charge;
        let ahead = if last { -FEW_AHEAD } else { FEW_AHEAD };
        (last || few::is_few(plan.target, plan.charge)) && committed - due > ahead * plan.charge
    }

    /// Takes in what was offered since the last tick.
    fn observe(&mut self, first: bool, now: f64, plan: &DayPlan, totals: &Totals) {
        let started = self.day.is_none();
        if first {
            (self.day, self.now, self.offered, self.expected) = (Some(plan.day), 0.0, 0.0, 0.0);
        }
        if started {
            // After a restart the day so far stands for the last two hours.
            let two_hours = plan.profile.average_hour() * NEAR_SECONDS / 3_600.0;
            let share = if totals.expected > two_hours { two_hours / totals.expected } else { 1.0 };
            self.near_offered = totals.offered * share;
            self.near_expected = totals.expected * share;
        } else {
            let keep = (-(now - self.now).max(0.0) / NEAR_SECONDS).exp();
            let offered = (totals.offered - self.offered).max(0.0);
            let expected = (totals.expected - self.expected).max(0.0);
            self.near_offered = self.near_offered * keep + offered;
            self.near_expected = self.near_expected * keep + expected;
        }
        (self.now, self.offered, self.expected) = (now, totals.offered, totals.expected);
    }

    fn ahead(&self, now: f64, plan: &DayPlan, totals: &Totals) -> Ahead {
        let end = plan.profile.window().end_second();
        let horizon = HORIZON_SECONDS.max(LAGS_IN_HORIZON * totals.feedback_lag_seconds);
        let horizon_end = (now + horizon).min(end.max(now));
        let near = plan.profile.between(now, horizon_end);
        let far = plan.profile.between(horizon_end, end);
        let (factor, far_factor, known) = self.factors(plan, totals);
        let far_foreseen = far * if plan.level_known { far_factor.min(1.0) } else { far_factor };
        let floor = (DEMAND_FLOOR_CHARGES * plan.charge).max(1.0);
        let near = (factor * near).max(floor);
        let average = plan.profile.average_hour() * (horizon_end - now) / 3_600.0;
        let least_gain = factor * average * GAIN_FLOOR;
        Ahead {
            horizon_end,
            near,
            rest: near + far_factor * far,
            least_gain,
            factor,
            far_foreseen,
            known,
        }
    }

    /// Factors of near and far demand, and whether the level is known.
    fn factors(&self, plan: &DayPlan, totals: &Totals) -> (f64, f64, bool) {
        let hour = plan.profile.average_hour();
        if plan.level_known {
            let seen = if totals.offered > 0.0 {
                // Opportunities of an average hour, at today's mean price.
                NEAR_PRIOR_OPPORTUNITIES * totals.offered / totals.opportunities.max(1.0) / hour
            } else {
                1.0
            };
            let near =
                day_factor(self.near_offered, self.near_expected, hour * seen.clamp(0.1, 1.0));
            let far = day_factor(totals.offered, totals.expected, hour * FAR_PRIOR_HOURS);
            return (near, far, true);
        }
        let seen = totals.seen_seconds >= demand::KNOWN_SECONDS
            || totals.opportunities >= demand::KNOWN_OPPORTUNITIES;
        let level =
            if self.near_expected > 0.0 { self.near_offered / self.near_expected } else { 0.0 };
        (level, level, seen && self.near_expected > 0.0)
    }
}
