//! The least that keeps delivery observable (section 8, calm).

use super::TICK_SECONDS;
use super::rate::{DayPlan, Pacer, Totals, Why};
use super::tests_support::{PRICE, as_forecast, plan, scaled, web_day};

const NOON: f64 = 43_200.0;

/// 40 000 opportunities, money for 12 000, and by noon far ahead of the curve.
fn ahead_of_its_curve() -> (DayPlan, Totals) {
    let plan = plan(0.3 * 40_000.0 * PRICE, &scaled(&web_day(), 40_000.0 * PRICE));
    let spent = plan.target - 100.0 * PRICE;
    (plan.clone(), as_forecast(&plan, NOON, spent))
}

/// Ticks without an admission, one opportunity every `every` seconds; what each of them said.
fn quiet(plan: &DayPlan, totals: &Totals, every: f64, seconds: f64) -> Vec<(f64, f64, Why)> {
    let mut pacer = Pacer::new();
    let ticks = (seconds / TICK_SECONDS) as u32;
    let tick = |tick: u32| {
        let passed = f64::from(tick) * TICK_SECONDS;
        let totals =
            Totals { opportunities: totals.opportunities + (passed / every).floor(), ..*totals };
        let reading = pacer.tick(NOON + passed, plan, &totals);
        (passed, reading.rate, reading.bound)
    };
    (0..ticks).map(tick).collect()
}

/// Fifty opportunities in ten minutes: the next one is let through before they are over.
#[test]
fn ten_minutes_without_an_admission_end_before_they_are_over() {
    let (plan, totals) = ahead_of_its_curve();
    let ticks = quiet(&plan, &totals, 12.0, 600.0);
    assert!(ticks.iter().filter(|(at, ..)| *at < 350.0).all(|(_, rate, _)| *rate < 0.05));
    let expected: f64 =
        ticks.iter().filter(|(at, ..)| *at > 350.0).map(|(_, rate, _)| rate * 5.0 / 12.0).sum();
    assert!(expected > 5.0, "{expected}");
    let raised = ticks.iter().find(|(_, rate, _)| *rate > 0.9).unwrap();
    assert_eq!(raised.2, Why::Floor);
}

/// Of a hundred a second one is let through a tick, not all of them.
#[test]
fn much_traffic_is_not_let_through() {
    let (plan, totals) = ahead_of_its_curve();
    let ticks = quiet(&plan, &totals, 0.01, 405.0);
    let (_, rate, bound) = ticks.last().unwrap();
    assert!(*rate >= 0.002 && *rate < 0.004, "{rate}");
    assert_eq!(*bound, Why::Floor);
}

/// An admission ends it, and the law has not seen the raised rate.
#[test]
fn an_admission_ends_it() {
    let (plan, mut totals) = ahead_of_its_curve();
    let mut pacer = Pacer::new();
    let mut rates = Vec::new();
    for tick in 0..82 {
        let passed = f64::from(tick) * TICK_SECONDS;
        totals.opportunities += 0.5;
        totals.admitted += if tick == 81 { PRICE } else { 0.0 };
        rates.push(pacer.tick(NOON + passed, &plan, &totals).rate);
    }
    assert!(rates[80] > 0.9, "{}", rates[80]);
    assert!(rates[81] < 1.5 * rates[78].min(rates[70]), "{} {}", rates[81], rates[70]);
}

/// Where nothing is admitted all the same, slices are empty: it rests for as long again.
#[test]
fn in_vain_it_rests() {
    let (plan, totals) = ahead_of_its_curve();
    let ticks = quiet(&plan, &totals, 10.0, 4_000.0);
    let raised = ticks.iter().filter(|(_, rate, _)| *rate > 0.5).count();
    assert!(raised > 20 && raised < ticks.len() / 3, "{raised} of {}", ticks.len());
}

/// Trap: where one in every 400 s is most of the day's money it would be the curve.
#[test]
fn two_hundred_charges_are_not_spent_on_it() {
    let day = |charges: f64| {
        let plan = plan(charges * PRICE, &scaled(&web_day(), 40_000.0 * PRICE));
        let totals = as_forecast(&plan, NOON, 0.9 * plan.target);
        quiet(&plan, &totals, 5.0, 600.0).iter().any(|(_, rate, _)| *rate > 0.4)
    };
    assert!(!day(200.0) && day(400.0));
}

/// few charges wait for their time. And without money, or outside the window, nothing is due.
#[test]
fn r_137_few_charges_go_on_waiting() {
    let few = plan(30.0 * PRICE, &scaled(&web_day(), 100.0 * PRICE));
    let ahead = as_forecast(&few, NOON, 26.0 * PRICE);
    assert!(quiet(&few, &ahead, 5.0, 1_200.0).iter().all(|(_, rate, _)| *rate == 0.0));
    let (plan, totals) = ahead_of_its_curve();
    let out = Totals { charged: plan.ceiling - 0.4 * PRICE, ..totals };
    assert!(quiet(&plan, &out, 5.0, 1_200.0).iter().all(|(_, rate, _)| *rate < 0.05));
}

/// Figures of a quarter of an hour ago show no gap in time: a floor of eight in ten minutes.
#[test]
fn old_figures_have_a_floor() {
    let (plan, totals) = ahead_of_its_curve();
    let totals = Totals { age_seconds: 900.0, feedback_lag_seconds: 900.0, ..totals };
    let reading = Pacer::new().tick(NOON, &plan, &totals);
    let in_ten_minutes = plan.profile.between(NOON, NOON + 600.0) / PRICE;
    assert!((reading.rate * in_ten_minutes - 8.0).abs() < 0.5, "{reading:?}");
    assert_eq!(reading.bound, Why::Floor);
}

/// What was due since old figures were seen is not taken for what was left undone.
#[test]
fn old_figures_are_held_against_their_own_time() {
    let plan = plan(0.3 * 40_000.0 * PRICE, &scaled(&web_day(), 40_000.0 * PRICE));
    let seen = NOON - 900.0;
    let totals = Totals {
        age_seconds: 900.0,
        feedback_lag_seconds: 900.0,
        ..as_forecast(&plan, seen, plan.due(seen))
    };
    let rate = Pacer::new().tick(NOON, &plan, &totals).rate;
    assert!((rate - 0.3).abs() < 0.002, "{rate}");
}
