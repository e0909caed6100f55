//! Demand: what was offered, and the forecast made of it (section 1).
//!
//! Offered demand is counted before any throttle, admitted or not: what was served would feed the
//! throttle back into the forecast. A slot in which the entity could not be offered anything
//! (paused, outside its schedule, not lived yet) is *not known*, which is not zero: it takes its
//! value from the prior shape and teaches nothing.
//!
//! * Level: Σ of discounted weeks / Σ of what the prior shape expects of their known slots, so a
//!   week that was seen by half still says what a whole one brings. Weights 1, .7, .49, .343.
//! * Shape: the weeks' shares, discounted alike, smoothed around the circle by \[1 2 1\]/4, and
//!   shrunk to the prior by the count of opportunities, (n·s + m·s⁰) / (n + m), m = 2 000.
//! * The current week counts as the newest while the closed ones were seen for less than a week in
//!   all: on its first day an entity learns from that day.
//!
//! Forecast slots are what a fully open slot brings; a [`Profile`] takes the open share.

use adspend_common::time::{Day, MSK};
use chrono::{DateTime, Timelike, Utc};

use super::curve::{Profile, Window};
use super::{DaySlots, SLOT_SECONDS, SLOTS, SLOTS_PER_DAY, WeekSlots};

/// Closed weeks that count.
pub const WEEKS_KEPT: usize = 4;
/// What a week weighs against the one after it.
pub const WEEK_DISCOUNT: f64 = 0.7;
/// Opportunities that the prior shape is worth, m.
pub const PRIOR_OPPORTUNITIES: f64 = 2_000.0;
/// Closed weeks that were seen for so much of a week in all do without the current one. Not quite
/// 1, for it is a sum of 672 shares.
const WHOLE_WEEK: f64 = 0.999;
/// How much one closed block moves κ.
const KAPPA_ALPHA: f64 = 0.05;
const KAPPA_RANGE: (f64, f64) = (0.25, 4.0);
/// The day factor is kept within a third and three.
const DAY_FACTOR_RANGE: (f64, f64) = (1.0 / 3.0, 3.0);
/// A level is known from this much demand on: 30 s seen or 50 opportunities (section 3).
pub const KNOWN_SECONDS: f64 = 30.0;
/// See [`KNOWN_SECONDS`].
pub const KNOWN_OPPORTUNITIES: f64 = 50.0;

/// A quarter hour of the week, 0..672, Monday 00:00 Moscow time first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotAt(usize);

impl SlotAt {
    /// The slot that an instant falls in.
    pub fn of(now: DateTime<Utc>) -> Self {
        let second = now.with_timezone(&MSK).num_seconds_from_midnight();
        Self::new(Day::of(now).weekday0(), f64::from(second))
    }

    /// The slot of a second of a weekday (Monday 0). What lies outside goes to the ends.
    pub fn new(weekday0: u8, second_of_day: f64) -> Self {
        let slot = (second_of_day / SLOT_SECONDS).clamp(0.0, (SLOTS_PER_DAY - 1) as f64) as usize;
        Self(usize::from(weekday0.min(6)) * SLOTS_PER_DAY + slot)
    }

    /// Its number.
    pub const fn index(self) -> usize {
        self.0
    }
}

/// What was offered on one Moscow day, before any throttle: a row of the stored history.
#[derive(Debug, Clone, PartialEq)]
pub struct DayDemand {
    /// Estimated cost of all that was offered, micro-units.
    pub micros: DaySlots,
    /// How many opportunities.
    pub count: DaySlots,
    /// The share of each slot in which demand could be seen, 0..=1.
    pub known: DaySlots,
}

impl Default for DayDemand {
    fn default() -> Self {
        Self {
            micros: [0.0; SLOTS_PER_DAY],
            count: [0.0; SLOTS_PER_DAY],
            known: [0.0; SLOTS_PER_DAY],
        }
    }
}

impl DayDemand {
    /// Adds what was offered at a second of the day.
    pub fn offer(&mut self, second: f64, micros: f64, count: f64) {
        let slot = SlotAt::new(0, second).index();
        if let (Some(sum), Some(number)) = (self.micros.get_mut(slot), self.count.get_mut(slot)) {
            *sum += micros;
            *number += count;
        }
    }

    /// Marks the open minutes from one second to another as seen: the entity was active.
    pub fn see(&mut self, window: &Window, from: f64, to: f64) {
        for (index, known) in self.known.iter_mut().enumerate() {
            let start = index as f64 * SLOT_SECONDS;
            let (from, to) = (from.max(start), to.min(start + SLOT_SECONDS));
            if from < to {
                let seen = window.open_seconds_until(to) - window.open_seconds_until(from);
                *known = (*known + seen / SLOT_SECONDS).min(1.0);
            }
        }
    }
}

/// What was offered in one Moscow week.
#[derive(Debug, Clone, PartialEq)]
pub struct Week {
    /// Estimated cost of all that was offered, micro-units.
    pub micros: WeekSlots,
    /// How many opportunities.
    pub count: WeekSlots,
    /// The share of each slot in which demand could be seen, 0..=1.
    pub known: WeekSlots,
}

impl Default for Week {
    fn default() -> Self {
        Self { micros: [0.0; SLOTS], count: [0.0; SLOTS], known: [0.0; SLOTS] }
    }
}

impl Week {
    /// Adds what was offered in a slot.
    pub fn offer(&mut self, at: SlotAt, micros: f64, count: f64) {
        if let (Some(sum), Some(number)) =
            (self.micros.get_mut(at.index()), self.count.get_mut(at.index()))
        {
            *sum += micros;
            *number += count;
        }
    }

    /// Puts a stored day in its place (Monday 0).
    pub fn set_day(&mut self, weekday0: u8, day: &DayDemand) {
        let start = usize::from(weekday0.min(6)) * SLOTS_PER_DAY;
        let slots = start..start + SLOTS_PER_DAY;
        for (to, from) in [
            (&mut self.micros, &day.micros),
            (&mut self.count, &day.count),
            (&mut self.known, &day.known),
        ] {
            if let Some(to) = to.get_mut(slots.clone()) {
                to.copy_from_slice(from);
            }
        }
    }
}

/// How demand lies over the week: shares that sum to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape(WeekSlots);

impl Shape {
    /// The same in every slot.
    pub fn flat() -> Self {
        Self([1.0 / SLOTS as f64; SLOTS])
    }

    /// The shape of any non-negative slots; flat when they sum to nothing.
    pub fn of(slots: &WeekSlots) -> Self {
        let total: f64 = slots.iter().sum();
        if total > 0.0 && total.is_finite() {
            Self(slots.map(|slot| slot / total))
        } else {
            Self::flat()
        }
    }

    /// The shares.
    pub const fn slots(&self) -> &WeekSlots {
        &self.0
    }
}

/// What an entity's charges come to against what was estimated, κ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kappa(f64);

impl Default for Kappa {
    fn default() -> Self {
        Self(1.0)
    }
}

impl Kappa {
    /// A stored value, kept within its range.
    pub fn new(value: f64) -> Self {
        if value.is_finite() { Self(value.clamp(KAPPA_RANGE.0, KAPPA_RANGE.1)) } else { Self(1.0) }
    }

    /// The factor.
    pub const fn value(self) -> f64 {
        self.0
    }

    /// A closed ten-minute block: what was estimated for the admitted, and what they were charged.
    /// A block without estimates says nothing.
    pub fn settle_block(&mut self, estimated: f64, charged: f64) {
        if estimated > 0.0 {
            *self = Self::new(self.0 + KAPPA_ALPHA * (charged / estimated - self.0));
        }
    }
}

/// What an entity has seen: four closed weeks at most, newest first, and the current one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// Closed weeks, newest first. More than [`WEEKS_KEPT`] do not count.
    pub weeks: Vec<Week>,
    /// The week that runs.
    pub current: Week,
    /// Charges against estimates.
    pub kappa: Kappa,
}

impl History {
    /// A new Monday: the current week is closed.
    pub fn roll(&mut self) {
        self.weeks.insert(0, std::mem::take(&mut self.current));
        self.weeks.truncate(WEEKS_KEPT);
    }

    /// The forecast, with slots that were never seen filled from the prior shape.
    pub fn forecast(&self, prior: &Shape) -> Forecast {
        let sums = self.discounted(prior);
        let mut forecast = Forecast { slots: prior.0, level_known: sums.level_known() };
        if !forecast.level_known || sums.mass <= 0.0 {
            forecast.level_known = false;
            return forecast;
        }
        let level = self.kappa.value() * sums.micros / sums.mass;
        let shape = smoothed(&sums.shares(prior));
        let n = sums.count;
        let share = |(own, prior): (&f64, &f64)| {
            (n * own + PRIOR_OPPORTUNITIES * prior) / (n + PRIOR_OPPORTUNITIES)
        };
        for (slot, pair) in forecast.slots.iter_mut().zip(shape.iter().zip(&prior.0)) {
            *slot = level * share(pair);
        }
        forecast
    }

    fn discounted(&self, prior: &Shape) -> Sums {
        let mut sums = Sums::default();
        let closed = self.weeks.iter().take(WEEKS_KEPT);
        let seen: f64 = closed.clone().map(|week| mass(week, prior)).sum();
        let first = (seen < WHOLE_WEEK).then_some(&self.current);
        let mut weight = 1.0;
        for week in first.into_iter().chain(closed).take(WEEKS_KEPT) {
            sums.add(week, prior, weight);
            weight *= WEEK_DISCOUNT;
        }
        sums
    }
}

/// The share of a week's demand that the prior expects in the slots that were seen.
fn mass(week: &Week, prior: &Shape) -> f64 {
    week.known.iter().zip(&prior.0).map(|(known, share)| known * share).sum()
}

/// Discounted sums over weeks.
struct Sums {
    /// Per slot, shares of the week: its demand over its week's level.
    shares: WeekSlots,
    /// Per slot, the weight of the weeks that saw it.
    seen: WeekSlots,
    micros: f64,
    mass: f64,
    count: f64,
    seen_slots: f64,
}

impl Default for Sums {
    fn default() -> Self {
        let none = [0.0; SLOTS];
        Self { shares: none, seen: none, micros: 0.0, mass: 0.0, count: 0.0, seen_slots: 0.0 }
    }
}

impl Sums {
    fn add(&mut self, week: &Week, prior: &Shape, weight: f64) {
        let (micros, mass) = (week.micros.iter().sum::<f64>(), mass(week, prior));
        if mass <= 0.0 {
            return;
        }
        self.micros += weight * micros;
        self.mass += weight * mass;
        self.count += weight * week.count.iter().sum::<f64>();
        self.seen_slots += week.known.iter().sum::<f64>();
        if micros <= 0.0 {
            return;
        }
        let level = micros / mass;
        let slots = self.shares.iter_mut().zip(&mut self.seen);
        for ((share, seen), (micros, known)) in slots.zip(week.micros.iter().zip(&week.known)) {
            if *known > 0.0 {
                *share += weight * micros / level;
                *seen += weight * known;
            }
        }
    }

    fn level_known(&self) -> bool {
        self.seen_slots * SLOT_SECONDS >= KNOWN_SECONDS || self.count >= KNOWN_OPPORTUNITIES
    }

    /// The mean share of a slot that was seen; the prior's where none was.
    fn shares(&self, prior: &Shape) -> WeekSlots {
        let mut shares = prior.0;
        for (to, (share, seen)) in shares.iter_mut().zip(self.shares.iter().zip(&self.seen)) {
            if *seen > 0.0 {
                *to = share / seen;
            }
        }
        shares
    }
}

/// \[1 2 1\]/4 around the circle.
fn smoothed(slots: &WeekSlots) -> WeekSlots {
    let mut to = *slots;
    for (index, slot) in to.iter_mut().enumerate() {
        let at = |offset: usize| slots.get((index + offset) % SLOTS).copied().unwrap_or(0.0);
        *slot = (at(SLOTS - 1) + 2.0 * at(0) + at(1)) / 4.0;
    }
    to
}

/// Expected spend at rate 1 per slot of the week, as if every minute were open, κ applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Micro-units per slot; where the level is not known, shares of the week instead.
    pub slots: WeekSlots,
    /// False for an entity that has seen nothing yet: the slots say only where demand lies.
    pub level_known: bool,
}

impl Forecast {
    /// The slots of a weekday (Monday 0).
    pub fn day(&self, weekday0: u8) -> DaySlots {
        let start = usize::from(weekday0.min(6)) * SLOTS_PER_DAY;
        let mut day = [0.0; SLOTS_PER_DAY];
        if let Some(slots) = self.slots.get(start..start + SLOTS_PER_DAY) {
            day.copy_from_slice(slots);
        }
        day
    }

    /// A weekday inside a window.
    pub fn profile(&self, weekday0: u8, window: &Window) -> Profile {
        Profile::new(&self.day(weekday0), window)
    }

    /// Its shape, as a prior for an entity that has less.
    pub fn shape(&self) -> Shape {
        Shape::of(&self.slots)
    }
}

/// r(t): today's demand against the forecast, (O + K) / (E + K) within a third and three. K keeps
/// the first minutes of a day from saying anything.
pub fn day_factor(observed: f64, expected: f64, k: f64) -> f64 {
    let (over, under) = (observed.max(0.0) + k.max(0.0), expected.max(0.0) + k.max(0.0));
    if under > 0.0 { (over / under).clamp(DAY_FACTOR_RANGE.0, DAY_FACTOR_RANGE.1) } else { 1.0 }
}
