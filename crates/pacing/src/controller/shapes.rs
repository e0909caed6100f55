//! The last resort of a shape: days that everybody knows, for the time when not even the platform has
//! traffic to learn from (section 1).
//!
//! * A day of people's activity ([`ACTIVE_HOURS`]), as it is lived in Moscow and, of Russia's eleven
//!   time zones, two, four and seven hours ahead of it: Yekaterinburg, Novosibirsk, Vladivostok. An
//!   audience in the east has its evening at Moscow's noon.
//! * An office day, 9:00 to 18:00, with little outside.
//!
//! What today has brought so far says which of them it is. With o_q the demand of the slots seen and
//! f_k their shares by day k, rescaled to those slots, day k weighs
//!
//! ```text
//! w_k = w⁰_k · exp(n · Σ o_q/O · ln f_k(q))
//! ```
//!
//! n slots seen: a quarter hour counts as one observation, however many opportunities it had. They
//! differ from any model by more than by chance, and neighbours alike. Moscow's day comes first (e
//! times as likely as another). Until something is seen it is Moscow's day nearly alone.
//!
//! All of it runs ahead by F^(1/(1 + x)): what an hour too many is spent early costs less than what is
//! left when demand ends before midnight. Measured once while this was made (`make eval`'s cold start on
//! other weeks and seeds than the report's), spent of the money and RMSE: without the known days .897,
//! .120 at x = 0.3 and .937, .138 at x = 1; with them .961, .090 at 0.3 and .973, .109 at 0.6.

use super::demand::{DayDemand, Shape};
use super::{DaySlots, SLOTS_PER_DAY};

const HOURS: usize = 24;
/// Slots of an hour.
const SLOTS_PER_HOUR: usize = 4;
/// Activity by hour of day, ‰: about what the public record "NYC Taxi Trip Duration" (first half of
/// 2016) shows for rides begun. Written down from memory and not held against the record again: a
/// plausible day is all that is wanted. No record of the evaluation is in it.
const ACTIVE_HOURS: [f64; HOURS] = [
    36.5, 26.4, 19.2, 14.3, 10.8, 10.3, 22.8, 38.1, 46.0, 46.4, 44.9, 46.9, 49.3, 49.0, 50.9, 49.2,
    44.1, 52.4, 62.1, 61.9, 57.6, 57.7, 55.2, 47.8,
];
/// Hours ahead of Moscow.
const ZONES: [usize; 4] = [0, 2, 4, 7];
/// The office day.
const OFFICE: std::ops::Range<usize> = 9..18;
/// What an hour outside of it has of one inside.
const OUT_OF_OFFICE: f64 = 0.05;
const DAYS: usize = ZONES.len() + 1;
/// How far the last resort runs ahead, x.
const AHEAD: f64 = 0.6;
/// The logarithm of what Moscow's day weighs over another before anything is seen.
const MOSCOW_FIRST: f64 = 1.0;

/// The shape of the day that is likeliest by what today has brought so far, every day alike.
/// Moscow's for the most part where nothing is seen.
pub fn likely(today: &DayDemand) -> Shape {
    let days = days();
    let weights = weights(&days, today);
    let mut mixed = [0.0; SLOTS_PER_DAY];
    for (day, weight) in days.iter().zip(weights) {
        for (to, share) in mixed.iter_mut().zip(ahead(day)) {
            *to += weight * share;
        }
    }
    let slot = |index: usize| mixed.get(index % SLOTS_PER_DAY).copied().unwrap_or(0.0);
    Shape::of(&std::array::from_fn(slot))
}

/// The known days, by slot; each sums to 1.
fn days() -> [DaySlots; DAYS] {
    std::array::from_fn(|index| match ZONES.get(index) {
        Some(zone) => {
            by_hour(|hour| ACTIVE_HOURS.get((hour + zone) % HOURS).copied().unwrap_or(0.0))
        }
        None => by_hour(|hour| if OFFICE.contains(&hour) { 1.0 } else { OUT_OF_OFFICE }),
    })
}

fn by_hour(hour: impl Fn(usize) -> f64) -> DaySlots {
    let total: f64 = (0..HOURS).map(&hour).sum::<f64>() * SLOTS_PER_HOUR as f64;
    std::array::from_fn(|slot| hour(slot / SLOTS_PER_HOUR) / total)
}

/// Shares of a day that runs ahead.
fn ahead(day: &DaySlots) -> DaySlots {
    let (mut gone, mut before) = (0.0, 0.0);
    day.map(|share| {
        gone += share;
        let until = f64::powf(gone, 1.0 / (1.0 + AHEAD));
        until - std::mem::replace(&mut before, until)
    })
}

/// What each day weighs; together 1.
fn weights(days: &[DaySlots; DAYS], today: &DayDemand) -> [f64; DAYS] {
    let offered: f64 = today.micros.iter().sum();
    let seen: f64 = today.known.iter().sum();
    let mut logs: [f64; DAYS] = [0.0; DAYS];
    for (log, day) in logs.iter_mut().zip(days) {
        let expected: f64 = day.iter().zip(&today.known).map(|(share, known)| share * known).sum();
        if offered <= 0.0 || expected <= 0.0 {
            continue;
        }
        let slots = day.iter().zip(&today.known).zip(&today.micros);
        let fits = slots
            .filter(|((_, known), micros)| **known > 0.0 && **micros > 0.0)
            .map(|((share, known), micros)| micros / offered * (share * known / expected).ln());
        *log = seen * fits.sum::<f64>();
    }
    if let Some(moscow) = logs.first_mut() {
        *moscow += MOSCOW_FIRST;
    }
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights = logs.map(|log| (log - most).exp());
    let total: f64 = weights.iter().sum();
    weights.map(|weight| weight / total)
}

#[cfg(test)]
mod tests {
    use super::super::curve::Window;
    use super::super::demand::History;
    use super::super::{DAY_SECONDS, SLOT_SECONDS};
    use super::*;

    /// A day that went by `shares` until an hour, a million a day.
    fn until(hour: usize, shares: &DaySlots) -> DayDemand {
        let mut today = DayDemand::default();
        today.see(&Window::all(), 0.0, hour as f64 * 3_600.0);
        for (slot, share) in shares.iter().enumerate().take(hour * SLOTS_PER_HOUR) {
            today.offer(slot as f64 * SLOT_SECONDS, 1e6 * share, 1e3 * share);
        }
        today
    }

    fn by(shape: &Shape, hour: usize) -> f64 {
        7.0 * shape.slots()[..hour * SLOTS_PER_HOUR].iter().sum::<f64>()
    }

    fn gone(share: f64) -> f64 {
        share.powf(1.0 / (1.0 + AHEAD))
    }

    #[test]
    fn nobody_known_has_mostly_moscows_day() {
        let shape = likely(&DayDemand::default());
        assert!((shape.slots().iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let day = &shape.slots()[..SLOTS_PER_DAY];
        assert_eq!(day, &shape.slots()[SLOTS_PER_DAY..2 * SLOTS_PER_DAY]);
        let weights = weights(&days(), &DayDemand::default());
        assert!(
            weights[0] > 0.35 && weights[1..].iter().all(|weight| *weight < 0.2),
            "{weights:?}"
        );
        assert!(day[18] < 0.7 * day[38], "04:30 against 09:30");
    }

    /// Each of the days is known by ten in the morning, and the evening is planned by it.
    #[test]
    fn a_morning_says_which_day_it_is() {
        for (index, day) in days().iter().enumerate() {
            let today = until(10, day);
            let weights = weights(&days(), &today);
            assert!(weights[index] > 0.4, "{index}: {weights:?}");
            let shape = likely(&until(16, day));
            let by_16: f64 = day[..16 * SLOTS_PER_HOUR].iter().sum();
            assert!((by(&shape, 16) - gone(by_16)).abs() < 0.08, "{index}: {}", by(&shape, 16));
        }
    }

    /// Trap: hours in which nothing could be seen (a pause) say nothing of the day.
    #[test]
    fn what_was_not_seen_says_nothing() {
        let moscow = days()[0];
        let mut paused = until(16, &moscow);
        for slot in 0..36 {
            (paused.micros[slot], paused.known[slot]) = (0.0, 0.0);
        }
        let weights = weights(&days(), &paused);
        assert!(weights[4] < weights[0], "{weights:?}");
    }

    #[test]
    fn what_is_learned_replaces_it() {
        let mut history = History::default();
        let mut even = DayDemand::default();
        even.see(&Window::all(), 0.0, DAY_SECONDS);
        for slot in 0..SLOTS_PER_DAY {
            even.offer(slot as f64 * SLOT_SECONDS, 1e9, 1_000.0);
        }
        (0..7).for_each(|weekday| history.current.set_day(weekday, &even));
        history.roll();
        let learned = history.forecast(&likely(&DayDemand::default()));
        let (night, noon) = (learned.slots[18], learned.slots[50]);
        assert!((night / noon - 1.0).abs() < 0.01, "{night} {noon}");
    }
}
