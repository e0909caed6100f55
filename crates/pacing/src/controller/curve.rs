//! The day curve: the share F(t) of the day's money that is due by a moment (section 3).
//!
//! A day is seen through a [`Window`], the minutes in which the entity may serve at all, kept to
//! the minute, because a window that ends at 17:10 and is planned to 17:15 would leave money. A
//! [`Profile`] lays a forecast over the window; within a slot demand is spread evenly over its
//! open minutes. F comes from the profile and the [`Mode`], so no second array is kept.
//!
//! Cost: every question is a few operations and a count of bits; nothing is searched. A profile
//! takes about 1.2 KB.

use super::{DAY_SECONDS, DaySlots, SLOT_SECONDS, SLOTS_PER_DAY};

const MINUTE_SECONDS: f64 = 60.0;
const MINUTES_PER_SLOT: u16 = 15;
const MINUTES_PER_DAY: u16 = 1_440;
const SLOT_FULL: u16 = (1 << MINUTES_PER_SLOT) - 1;

/// How a day's money is laid over the day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// Evenly over the open minutes.
    Even,
    /// As demand comes. The default.
    Traffic,
    /// At once: only the hard limit stops it.
    Asap,
    /// Ahead of demand: F^(1/(1 + x)), x > 0. 0 is `Traffic`.
    Ahead(f64),
}

/// The open minutes of a Moscow day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// A bit per minute of the slot, the first minute lowest.
    minutes: [u16; SLOTS_PER_DAY],
    /// Open minutes before each slot, and of the day at the end.
    before: [u16; SLOTS_PER_DAY + 1],
}

impl Window {
    /// Every minute open.
    pub fn all() -> Self {
        Self::counted([SLOT_FULL; SLOTS_PER_DAY])
    }

    /// The minutes (0..1440) for which `open` says yes.
    pub fn of(open: impl Fn(u16) -> bool) -> Self {
        let mut minutes = [0; SLOTS_PER_DAY];
        for minute in (0..MINUTES_PER_DAY).filter(|minute| open(*minute)) {
            if let Some(slot) = minutes.get_mut(usize::from(minute / MINUTES_PER_SLOT)) {
                *slot |= 1 << (minute % MINUTES_PER_SLOT);
            }
        }
        Self::counted(minutes)
    }

    /// The minutes that either has: an account is open while a campaign is.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut minutes = self.minutes;
        for (mine, theirs) in minutes.iter_mut().zip(other.minutes) {
            *mine |= theirs;
        }
        Self::counted(minutes)
    }

    fn counted(minutes: [u16; SLOTS_PER_DAY]) -> Self {
        let mut before = [0; SLOTS_PER_DAY + 1];
        let mut open = 0;
        for (to, slot) in before.iter_mut().skip(1).zip(minutes) {
            open += u16::try_from(slot.count_ones()).unwrap_or(MINUTES_PER_SLOT);
            *to = open;
        }
        Self { minutes, before }
    }

    /// The open share of each slot, a(q): 0..=1.
    pub fn shares(&self) -> DaySlots {
        self.minutes.map(|slot| f64::from(slot.count_ones()) / f64::from(MINUTES_PER_SLOT))
    }

    /// Whether the minute that holds this second is open.
    pub fn is_open(&self, second: f64) -> bool {
        let (slot, within) = split(second);
        second < DAY_SECONDS && self.bits(slot) >> (within / MINUTE_SECONDS) as u16 & 1 == 1
    }

    /// Open seconds of the whole day.
    pub fn open_seconds(&self) -> f64 {
        f64::from(self.open_before(SLOTS_PER_DAY)) * MINUTE_SECONDS
    }

    /// Open seconds before this second.
    pub fn open_seconds_until(&self, second: f64) -> f64 {
        if second >= DAY_SECONDS {
            return self.open_seconds();
        }
        let (slot, within) = split(second);
        f64::from(self.open_before(slot)) * MINUTE_SECONDS + self.open_within(slot, within)
    }

    /// The second at which the last open minute ends; 0 when no minute is open.
    pub fn end_second(&self) -> f64 {
        let last = self.minutes.iter().enumerate().rev().find(|(_, slot)| **slot != 0);
        last.map_or(0.0, |(index, slot)| {
            let minutes = u16::BITS - slot.leading_zeros();
            index as f64 * SLOT_SECONDS + f64::from(minutes) * MINUTE_SECONDS
        })
    }

    fn bits(&self, slot: usize) -> u16 {
        self.minutes.get(slot).copied().unwrap_or(0)
    }

    fn open_before(&self, slot: usize) -> u16 {
        self.before.get(slot).copied().unwrap_or(0)
    }

    /// Open seconds of a slot in its first `within` seconds.
    fn open_within(&self, slot: usize, within: f64) -> f64 {
        let bits = self.bits(slot);
        if bits == SLOT_FULL {
            return within;
        }
        let minute = (within / MINUTE_SECONDS) as u16;
        let whole = (bits & ((1 << minute) - 1)).count_ones();
        let part = if bits >> minute & 1 == 1 { within % MINUTE_SECONDS } else { 0.0 };
        f64::from(whole) * MINUTE_SECONDS + part
    }
}

/// The slot of a second and the seconds into it. Seconds outside the day go to its ends.
fn split(second: f64) -> (usize, f64) {
    let second = second.clamp(0.0, DAY_SECONDS - 1e-6);
    let slot = (second / SLOT_SECONDS) as usize;
    (slot, second - slot as f64 * SLOT_SECONDS)
}

/// Expected spend at rate 1 over the open minutes of one day.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Expected before each slot, and of the whole day at the end.
    before: [f64; SLOTS_PER_DAY + 1],
    window: Window,
}

impl Profile {
    /// `demand` is what each slot would bring if all of it were open; the window takes its share.
    /// Anything that is not a positive number counts as nothing.
    pub fn new(demand: &DaySlots, window: &Window) -> Self {
        let mut before = [0.0; SLOTS_PER_DAY + 1];
        let mut sum = 0.0;
        for ((to, slot), share) in before.iter_mut().skip(1).zip(demand).zip(window.shares()) {
            let expected = slot * share;
            sum += if expected.is_finite() && expected > 0.0 { expected } else { 0.0 };
            *to = sum;
        }
        Self { before, window: window.clone() }
    }

    /// The sum of parts in money, each in its own window: an account over those of its campaigns
    /// that can still spend.
    pub fn sum<'a>(parts: impl IntoIterator<Item = &'a Profile>) -> Self {
        let closed = Window::counted([0; SLOTS_PER_DAY]);
        let mut total = Self { before: [0.0; SLOTS_PER_DAY + 1], window: closed };
        for part in parts {
            total.window = total.window.union(&part.window);
            for (to, from) in total.before.iter_mut().zip(part.before) {
                *to += from;
            }
        }
        total
    }

    /// The same shape with another level. A new entity's profile holds shares of the week; by its
    /// learned level ([`super::rate::Reading::day_factor`]) it can join others in a sum.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self { before: self.before.map(|sum| sum * factor), window: self.window.clone() }
    }

    /// The open minutes.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Expected over the whole day.
    pub fn total(&self) -> f64 {
        self.at_slot(SLOTS_PER_DAY)
    }

    /// Expected before this second.
    pub fn until(&self, second: f64) -> f64 {
        if second >= DAY_SECONDS {
            return self.total();
        }
        let (slot, within) = split(second);
        let open = self.window.open_within(slot, SLOT_SECONDS);
        let share = if open > 0.0 { self.window.open_within(slot, within) / open } else { 0.0 };
        self.at_slot(slot) + (self.at_slot(slot + 1) - self.at_slot(slot)) * share
    }

    /// Expected from one second to another, 0 when they are in the wrong order.
    pub fn between(&self, from: f64, to: f64) -> f64 {
        (self.until(to) - self.until(from)).max(0.0)
    }

    /// Expected before `now` in the part of each slot in which demand could be seen (0..=1).
    pub fn seen_until(&self, now: f64, known: &DaySlots) -> f64 {
        let mut sum = 0.0;
        for (index, share) in known.iter().enumerate() {
            let start = index as f64 * SLOT_SECONDS;
            if start >= now {
                break;
            }
            sum += self.between(start, (start + SLOT_SECONDS).min(now)) * share.clamp(0.0, 1.0);
        }
        sum
    }

    /// The average of an open hour; 0 when no minute is open.
    pub fn average_hour(&self) -> f64 {
        let hours = self.window.open_seconds() / 3_600.0;
        if hours > 0.0 { self.total() / hours } else { 0.0 }
    }

    /// F(t): the share of the day's money due by this second, 0..=1, never falling, and 1 from the
    /// end of the window on. Without any demand expected, even over the open minutes.
    pub fn share(&self, mode: Mode, second: f64) -> f64 {
        match mode {
            Mode::Even => self.even(second),
            Mode::Traffic => self.traffic(second),
            Mode::Asap => 1.0,
            Mode::Ahead(x) => self.traffic(second).powf(1.0 / (1.0 + x.max(0.0))),
        }
    }

    fn traffic(&self, second: f64) -> f64 {
        let total = self.total();
        if total > 0.0 { (self.until(second) / total).min(1.0) } else { self.even(second) }
    }

    fn even(&self, second: f64) -> f64 {
        let total = self.window.open_seconds();
        if total > 0.0 { (self.window.open_seconds_until(second) / total).min(1.0) } else { 1.0 }
    }

    fn at_slot(&self, slot: usize) -> f64 {
        self.before.get(slot).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hours(from: u16, to: u16) -> Window {
        Window::of(|minute| (from * 60..to * 60).contains(&minute))
    }

    #[test]
    fn a_window_is_kept_to_the_minute() {
        let window = Window::of(|minute| (600..1_030).contains(&minute));
        assert_eq!(window.end_second(), 1_030.0 * 60.0);
        assert_eq!(window.open_seconds(), 430.0 * 60.0);
        assert!(window.is_open(600.0 * 60.0) && !window.is_open(1_030.0 * 60.0));
        assert_eq!(window.open_seconds_until(1_020.5 * 60.0), 420.5 * 60.0);
        let profile = Profile::new(&[15.0; SLOTS_PER_DAY], &window);
        assert!((profile.total() - 430.0).abs() < 1e-9);
        assert!((profile.until(1_025.0 * 60.0) - 425.0).abs() < 1e-9);
        assert_eq!(profile.share(Mode::Traffic, 1_030.0 * 60.0), 1.0);
    }

    #[test]
    fn modes_lay_the_day_out_differently() {
        // 10 a slot until noon, 30 after: a quarter of the demand by noon.
        let mut demand = [10.0; SLOTS_PER_DAY];
        demand[48..].fill(30.0);
        let profile = Profile::new(&demand, &Window::all());
        let noon = 12.0 * 3_600.0;
        assert_eq!(profile.share(Mode::Even, noon), 0.5);
        assert_eq!(profile.share(Mode::Traffic, noon), 0.25);
        assert_eq!(profile.share(Mode::Asap, 0.0), 1.0);
        assert_eq!(profile.share(Mode::Ahead(1.0), noon), 0.5);
    }

    #[test]
    fn an_account_is_open_while_a_campaign_is() {
        let day = [1.0; SLOTS_PER_DAY];
        let sum =
            Profile::sum(&[Profile::new(&day, &hours(9, 12)), Profile::new(&day, &hours(11, 20))]);
        assert_eq!(sum.window(), &hours(9, 20));
        assert_eq!(sum.total(), 48.0);
        assert_eq!(sum.between(11.0 * 3_600.0, 12.0 * 3_600.0), 8.0);
        assert_eq!(sum.scaled(0.5).total(), 24.0);
    }

    #[test]
    fn no_expected_demand_means_an_even_curve() {
        let profile = Profile::new(&[0.0; SLOTS_PER_DAY], &hours(10, 20));
        assert_eq!(profile.share(Mode::Traffic, 15.0 * 3_600.0), 0.5);
    }

    proptest! {
        /// F never falls, begins at 0 and is 1 at the end of the window.
        #[test]
        fn the_curve_never_falls(
            demand in prop::collection::vec(0.0..100.0f64, SLOTS_PER_DAY),
            open in prop::collection::vec(any::<bool>(), 24),
            x in 0.0..3.0f64,
        ) {
            let mut slots = [0.0; SLOTS_PER_DAY];
            slots.copy_from_slice(&demand);
            let window = Window::of(|minute| open[usize::from(minute / 60)]);
            prop_assume!(window.open_seconds() > 0.0);
            let profile = Profile::new(&slots, &window);
            for mode in [Mode::Even, Mode::Traffic, Mode::Ahead(x)] {
                let mut last = profile.share(mode, 0.0);
                prop_assert!(last.abs() < 1e-12);
                for minute in 0..=1_440 {
                    let share = profile.share(mode, f64::from(minute) * 60.0);
                    prop_assert!(share >= last - 1e-12 && share <= 1.0);
                    last = share;
                }
                prop_assert_eq!(profile.share(mode, window.end_second()), 1.0);
            }
        }
    }
}
