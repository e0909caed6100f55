//! What the tests of the controller share: days, plans and worlds.

use adspend_common::time::Day;

use super::curve::{Mode, Profile, Window};
use super::rate::{Base, DayPlan, Totals};
use super::simulate::{Charging, World};
use super::{DaySlots, SLOTS_PER_DAY};

pub(super) const PRICE: f64 = 1_000_000.0;
pub(super) const MINUTES: usize = 1_440;

/// 1 January 2026 and days after it.
pub(super) fn day(number: usize) -> Day {
    Day::from_ymd(2026, 1, 1).unwrap().plus_days(i32::try_from(number).unwrap())
}

/// A day of the web: little at night, a peak before noon and a higher one in the evening. Sums to 1.
pub(super) fn web_day() -> DaySlots {
    let mut slots = [0.0; SLOTS_PER_DAY];
    for (index, slot) in slots.iter_mut().enumerate() {
        let hour = index as f64 / 4.0;
        let peak = |at: f64, width: f64| {
            let away = (hour - at).abs();
            (-(away.min(24.0 - away) / width).powi(2)).exp()
        };
        *slot = 0.15 + 0.8 * peak(10.0, 3.0) + 0.5 * peak(14.0, 3.0) + peak(20.0, 3.5);
    }
    scaled(&slots, 1.0)
}

/// The same slots with another sum.
pub(super) fn scaled(slots: &DaySlots, total: f64) -> DaySlots {
    let sum: f64 = slots.iter().sum();
    slots.map(|slot| slot / sum * total)
}

/// A plan over an open day.
pub(super) fn plan(target: f64, demand: &DaySlots) -> DayPlan {
    DayPlan {
        day: day(0),
        target,
        ceiling: target,
        profile: Profile::new(demand, &Window::all()),
        mode: Mode::Traffic,
        level_known: true,
        charge: PRICE,
        base: Base::default(),
    }
}

/// What a day looks like that goes exactly as forecast and has spent `charged`.
pub(super) fn as_forecast(plan: &DayPlan, second: f64, charged: f64) -> Totals {
    let expected = plan.profile.until(second);
    Totals {
        charged,
        admitted: charged,
        offered: expected,
        expected,
        opportunities: expected / PRICE,
        seen_seconds: second,
        ..Totals::default()
    }
}

/// A world of one day with this many opportunities, charged at once.
pub(super) fn world(opportunities: f64, days: usize, seed: u64) -> World {
    let shape = web_day();
    let minute = |minute: usize| opportunities * shape[minute % MINUTES / 15] / 15.0;
    World {
        opportunities: (0..days * MINUTES).map(minute).collect(),
        price: PRICE,
        price_spread: 0.5,
        charging: Charging::AT_ONCE,
        feedback_lag_seconds: 0.0,
        replicas: 1,
        seed,
    }
}

pub(super) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    sum / count
}
