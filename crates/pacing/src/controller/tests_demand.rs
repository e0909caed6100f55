//! Demand: levels, shapes, what is not known, and the day factor.

use adspend_common::time::Day;

use super::curve::{Profile, Window};
use super::demand::{DayDemand, History, Kappa, Shape, SlotAt, Week, day_factor};
use super::tests_support::{scaled, web_day};
use super::{SLOTS, SLOTS_PER_DAY, WeekSlots};

/// A week that was seen whole and brought `total` in a shape of days.
fn week(total: f64, count: f64) -> Week {
    let mut week = Week::default();
    for weekday in 0..7 {
        let day = DayDemand {
            micros: scaled(&web_day(), total / 7.0),
            count: scaled(&web_day(), count / 7.0),
            known: [1.0; SLOTS_PER_DAY],
        };
        week.set_day(weekday, &day);
    }
    week
}

fn prior() -> Shape {
    let mut slots: WeekSlots = [0.0; SLOTS];
    for (slot, day) in slots.iter_mut().zip(web_day().iter().cycle()) {
        *slot = *day;
    }
    Shape::of(&slots)
}

fn total(history: &History, prior: &Shape) -> f64 {
    history.forecast(prior).slots.iter().sum()
}

#[test]
fn slots_are_moscow_quarter_hours_from_monday() {
    // Sunday 21:00 UTC is Monday 00:00 in Moscow; 2026-01-05 is a Monday.
    let monday = Day::from_ymd(2026, 1, 5).unwrap().start();
    assert_eq!(SlotAt::of(monday).index(), 0);
    assert_eq!(SlotAt::of(monday - chrono::TimeDelta::seconds(1)).index(), SLOTS - 1);
    assert_eq!(SlotAt::of(monday + chrono::TimeDelta::minutes(24 * 60 + 31)).index(), 98);
    assert_eq!(SlotAt::new(9, 1e9).index(), SLOTS - 1);
}

#[test]
fn the_level_is_a_discounted_mean_of_four_weeks() {
    let mut history = History::default();
    // Oldest first; the fifth week back no longer counts.
    for level in [1e9, 400.0, 300.0, 200.0, 100.0] {
        history.current = week(level, 1e6);
        history.roll();
    }
    let expected =
        (100.0 + 0.7 * 200.0 + 0.49 * 300.0 + 0.343 * 400.0) / (1.0 + 0.7 + 0.49 + 0.343);
    assert!((total(&history, &prior()) - expected).abs() < 1e-6);
    assert_eq!(history.weeks.len(), 4);
}

#[test]
fn few_opportunities_leave_the_prior_shape_and_many_replace_it() {
    for (count, own) in [(20.0, 0.01), (2_000.0, 0.5), (2_000_000.0, 0.999)] {
        let history = History { weeks: vec![week(700.0, count)], ..History::default() };
        let forecast = history.forecast(&Shape::flat());
        // The share of Monday's 20:00 slot between the flat prior and the web day.
        let (flat, web) = (1.0, web_day()[80] * 96.0);
        let got = forecast.slots[80] / 700.0 * SLOTS as f64;
        let weight = (got - flat) / (web - flat);
        assert!((weight - own).abs() < 0.02, "{count}: {weight}");
        assert!((forecast.slots.iter().sum::<f64>() - 700.0).abs() < 1e-6);
    }
}

#[test]
fn slots_are_smoothed_around_the_week() {
    let mut spike = Week { known: [1.0; SLOTS], ..Week::default() };
    spike.offer(SlotAt::new(0, 0.0), 100.0, 1e12);
    let history = History { weeks: vec![spike], ..History::default() };
    let slots = history.forecast(&Shape::flat()).slots;
    assert!((slots[0] - 50.0).abs() < 0.01 && (slots[1] - 25.0).abs() < 0.01);
    assert!((slots[SLOTS - 1] - 25.0).abs() < 0.01, "the week is a circle");
}

/// Trap: a paused or outside-schedule campaign must not learn zero demand.
#[test]
fn a_pause_teaches_no_zero() {
    let whole = History { weeks: vec![week(700.0, 1e5)], ..History::default() };
    let mut paused = week(700.0, 1e5);
    // Paused from Wednesday to Friday, and closed at night on the other days.
    let days = 2 * SLOTS_PER_DAY..5 * SLOTS_PER_DAY;
    let nights = (0..SLOTS).filter(|slot| slot % SLOTS_PER_DAY < 32);
    for slot in days.chain(nights) {
        (paused.micros[slot], paused.count[slot], paused.known[slot]) = (0.0, 0.0, 0.0);
    }
    let paused = History { weeks: vec![paused], ..History::default() };
    let (a, b) = (whole.forecast(&prior()), paused.forecast(&prior()));
    for slot in 0..SLOTS {
        let close = (a.slots[slot] - b.slots[slot]).abs() <= 0.02 * a.slots[slot];
        assert!(close, "slot {slot}: {} and {}", a.slots[slot], b.slots[slot]);
    }
}

#[test]
fn half_a_slot_seen_counts_as_half() {
    let mut half = week(700.0, 1e5);
    for slot in 0..SLOTS {
        (half.micros[slot], half.known[slot]) = (half.micros[slot] / 2.0, 0.5);
    }
    let history = History { weeks: vec![half], ..History::default() };
    assert!((total(&history, &prior()) - 700.0).abs() < 1e-6);
}

#[test]
fn a_new_entity_learns_from_its_first_day() {
    let mut history = History::default();
    let forecast = history.forecast(&prior());
    assert!(!forecast.level_known);
    assert!((forecast.slots.iter().sum::<f64>() - 1.0).abs() < 1e-9, "shares");
    // Monday until noon.
    let mut monday = DayDemand::default();
    for slot in 0..48 {
        monday.offer(slot as f64 * 900.0, 100.0 * web_day()[slot], 10.0);
    }
    monday.see(&Window::all(), 0.0, 12.0 * 3_600.0);
    history.current.set_day(0, &monday);
    let forecast = history.forecast(&prior());
    assert!(forecast.level_known);
    let tuesday: f64 = forecast.day(1).iter().sum();
    assert!((tuesday - 100.0).abs() < 5.0, "{tuesday}");
}

#[test]
fn the_running_week_leaves_closed_ones_alone() {
    let mut history = History { weeks: vec![week(700.0, 1e5)], ..History::default() };
    history.current.offer(SlotAt::new(0, 0.0), 1e9, 1e9);
    history.current.known[0] = 1.0;
    assert!((total(&history, &prior()) - 700.0).abs() < 1e-6, "the day factor is for today");
}

#[test]
fn kappa_follows_charges_slowly_and_within_bounds() {
    let mut kappa = Kappa::default();
    kappa.settle_block(100.0, 200.0);
    assert!((kappa.value() - 1.05).abs() < 1e-12);
    kappa.settle_block(0.0, 50.0);
    assert!((kappa.value() - 1.05).abs() < 1e-12, "a block without estimates says nothing");
    for _ in 0..1_000 {
        kappa.settle_block(1.0, 100.0);
    }
    assert_eq!(kappa.value(), 4.0);
    for _ in 0..1_000 {
        kappa.settle_block(100.0, 0.0);
    }
    assert_eq!(kappa.value(), 0.25);
    assert_eq!(Kappa::new(f64::NAN).value(), 1.0);
}

#[test]
fn kappa_scales_the_forecast() {
    let mut history = History { weeks: vec![week(700.0, 1e5)], ..History::default() };
    history.kappa = Kappa::new(0.5);
    assert!((total(&history, &prior()) - 350.0).abs() < 1e-6);
}

#[test]
fn the_day_factor_is_bounded_and_starts_at_one() {
    assert_eq!(day_factor(0.0, 0.0, 10.0), 1.0);
    assert_eq!(day_factor(0.0, 0.0, 0.0), 1.0);
    assert_eq!(day_factor(1e9, 1.0, 1.0), 3.0);
    assert_eq!(day_factor(0.0, 1e9, 1.0), 1.0 / 3.0);
    assert!((day_factor(150.0, 100.0, 100.0) - 1.25).abs() < 1e-12);
}

#[test]
fn dayparting_takes_the_open_share() {
    let history = History { weeks: vec![week(700.0, 1e5)], ..History::default() };
    let open = Window::of(|minute| (9 * 60..18 * 60).contains(&minute));
    let profile = history.forecast(&prior()).profile(0, &open);
    let inside: f64 = web_day()[36..72].iter().sum::<f64>() * 100.0;
    assert!((profile.total() - inside).abs() < 1.5, "{} {inside}", profile.total());
    assert_eq!(profile.until(9.0 * 3_600.0), 0.0);
    // What was expected where demand could be seen: a pause from 10 to 12 is left out.
    let mut known = [1.0; SLOTS_PER_DAY];
    known[40..48].fill(0.0);
    let seen = profile.seen_until(15.0 * 3_600.0, &known);
    let all = profile.until(15.0 * 3_600.0) - profile.between(10.0 * 3_600.0, 12.0 * 3_600.0);
    assert!((seen - all).abs() < 1e-9);
    let both = Profile::sum(&[profile.clone(), profile.clone()]);
    assert!((both.total() - 2.0 * profile.total()).abs() < 1e-9);
}
