//! The curve as the day goes.

use super::curve::Mode;
use super::rate::{DayPlan, Pacer, Totals};
use super::tests_support::{PRICE, as_forecast, plan, scaled, web_day};
use super::today::Today;
use super::{DAY_SECONDS, SLOTS_PER_DAY, TICK_SECONDS};

const NOON: f64 = 12.0 * 3_600.0;

fn forty_thousand() -> DayPlan {
    plan(0.3 * 40_000.0 * PRICE, &scaled(&web_day(), 40_000.0 * PRICE))
}

/// So many times the demand that was foreseen by noon.
fn busier(plan: &DayPlan, factor: f64) -> Totals {
    let totals = as_forecast(plan, NOON, 0.0);
    Totals {
        offered: factor * totals.offered,
        opportunities: factor * totals.opportunities,
        ..totals
    }
}

fn due(plan: &DayPlan, totals: &Totals, second: f64) -> f64 {
    Today::of(NOON, plan, totals).due(plan, second)
}

/// A day that goes as foreseen has the curve that was planned.
#[test]
fn a_day_as_foreseen_keeps_its_curve() {
    let plan = forty_thousand();
    for hour in 12..=24 {
        let second = f64::from(hour) * 3_600.0;
        let adapted = due(&plan, &busier(&plan, 1.0), second);
        assert!((adapted - plan.due(second)).abs() < 1e-6 * plan.target, "{hour}");
    }
}

/// What a morning has more of, the evening seldom has: more of the money is due by noon.
#[test]
fn a_busier_morning_has_more_of_the_money() {
    let plan = forty_thousand();
    let foreseen = plan.profile.share(Mode::Traffic, NOON);
    let only_morning = 1.2 * foreseen / (1.2 * foreseen + 1.0 - foreseen);
    let share = due(&plan, &busier(&plan, 1.2), NOON) / plan.target;
    assert!(share > foreseen + 0.3 * (only_morning - foreseen), "{share} {foreseen}");
    assert!(share < only_morning, "{share} {only_morning}");
    let quiet = due(&plan, &busier(&plan, 0.8), NOON) / plan.target;
    assert!(quiet < foreseen, "{quiet} {foreseen}");
}

/// Whatever came: the curve never falls on its way to the whole target.
#[test]
fn the_curve_rises_to_the_target() {
    let plan = forty_thousand();
    for factor in [0.0, 0.7, 1.3, 1.6, 5.0] {
        let totals = busier(&plan, factor);
        let mut last = 0.0;
        for hour in 12..=24 {
            let now = due(&plan, &totals, f64::from(hour) * 3_600.0);
            assert!(now >= last && now <= plan.target * (1.0 + 1e-9), "{factor} {hour}: {now}");
            last = now;
        }
        assert!((last / plan.target - 1.0).abs() < 1e-9, "{factor}: {last}");
    }
}

/// Trap: a level that has doubled (or halved) is taken for a busy morning, and the evening starves.
#[test]
fn a_level_off_by_two_leaves_the_curve_alone() {
    let plan = forty_thousand();
    for factor in [0.5, 2.0] {
        let totals = busier(&plan, factor);
        assert_eq!(due(&plan, &totals, NOON), plan.due(NOON));
    }
}

/// Trap: a pause of the morning is taken for a morning without demand.
#[test]
fn what_was_not_seen_is_not_missing() {
    let plan = forty_thousand();
    let half = busier(&plan, 0.5);
    let paused = Totals { expected: 0.5 * half.expected, offered: 0.5 * half.expected, ..half };
    let share = due(&plan, &paused, NOON) / plan.due(NOON);
    assert!((share - 1.0).abs() < 1e-9, "{share}");
}

/// Trap: of ten opportunities two more are luck; they say nothing of the evening's ten.
#[test]
fn few_opportunities_say_nothing_of_the_rest() {
    let plan = plan(30.0 * PRICE, &scaled(&web_day(), 100.0 * PRICE));
    let totals = busier(&plan, 1.2);
    let rest = plan.profile.between(NOON, DAY_SECONDS);
    let independent = totals.offered / (totals.offered + rest);
    let share = due(&plan, &totals, NOON) / plan.target;
    assert!((share - independent).abs() < 0.01, "{share} {independent}");
}

/// After a change of the budget, without a level and in other modes the plan is the curve.
#[test]
fn only_a_day_by_demand_from_midnight_is_adapted() {
    let by_demand = forty_thousand();
    let totals = busier(&by_demand, 1.2);
    assert_ne!(due(&by_demand, &totals, NOON), by_demand.due(NOON));
    let mut changed = by_demand.clone();
    changed.change(NOON / 2.0, 1.5 * changed.target, 1.5 * changed.ceiling, &totals);
    let unknown = DayPlan { level_known: false, ..by_demand.clone() };
    let even = DayPlan { mode: Mode::Even, ..by_demand };
    for plan in [changed, unknown, even] {
        assert_eq!(due(&plan, &totals, NOON), plan.due(NOON));
    }
}

/// Trap: the morning's jam is in the forecast of the evening, and money that is enough for the day
/// is throttled.
#[test]
fn a_busy_morning_does_not_end_full_traffic() {
    let mut slots = [0.45 / 60.0; SLOTS_PER_DAY];
    slots[..24].fill(0.0);
    slots[24..36].fill(0.55 / 12.0);
    let demand = 40_000.0 * PRICE;
    let plan = plan(1.05 * demand, &scaled(&slots, demand));
    let mut pacer = Pacer::new();
    for tick in 0..17_280 {
        let second = f64::from(tick) * TICK_SECONDS;
        let morning = plan.profile.until(second.min(9.0 * 3_600.0));
        let later = plan.profile.until(second) - morning;
        let offered = 1.31 * morning + 0.62 * later;
        let totals = Totals {
            charged: offered,
            offered,
            opportunities: offered / PRICE,
            ..as_forecast(&plan, second, 0.0)
        };
        let reading = pacer.tick(second, &plan, &totals);
        assert_eq!(reading.rate, 1.0, "{reading:?} at {second}");
    }
}
