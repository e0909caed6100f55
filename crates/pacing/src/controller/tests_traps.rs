//! Traps seen in other systems, each by its name (pacing.md, section 8). The seventh, that a pause
//! teaches no zero, stands in `tests_demand`.

use super::curve::{Mode, Profile, Window};
use super::hierarchy::{self, Share};
use super::rate::{Base, DayPlan, Pacer, Totals, Why};
use super::simulate::{self, Day};
use super::tests_support::{PRICE, as_forecast, plan, scaled, web_day, world};
use super::{SLOTS_PER_DAY, TICK_SECONDS};

const HOUR: f64 = 3_600.0;

/// A tiny denominator just after midnight makes the rate explode or black out.
#[test]
fn nothing_explodes_or_goes_dark_after_midnight() {
    let plan = plan(0.3 * 40_000.0 * PRICE, &scaled(&web_day(), 40_000.0 * PRICE));
    // The first opportunities come late, or all at once; one of them is dear.
    for burst in [0.0, 1.0, 40.0] {
        let mut pacer = Pacer::new();
        for tick in 0..120 {
            let second = f64::from(tick) * TICK_SECONDS;
            let totals = Totals {
                offered: burst * PRICE,
                opportunities: burst,
                charged: (0.3 * burst).round() * PRICE,
                expected: plan.profile.until(second),
                seen_seconds: second,
                ..Totals::default()
            };
            let rate = pacer.tick(second, &plan, &totals).rate;
            assert!((0.15..0.6).contains(&rate), "{rate} at {second} after {burst} at midnight");
        }
    }
}

/// Exhausted campaigns left in the aggregate throttle the living ones.
#[test]
fn an_exhausted_campaign_does_not_throttle_the_living() {
    let share = |rate, demand| Share { rate, demand, weight: 1.0 };
    let mut alive = vec![share(1.0, 500.0)];
    assert_eq!(hierarchy::ceiling(&mut alive, 500.0), f64::INFINITY);
    // Left in the sum with a rate of 0, as a hard stop sets it, it takes nothing either.
    let mut both = vec![share(1.0, 500.0), share(0.0, 10_000.0)];
    assert_eq!(hierarchy::ceiling(&mut both, 500.0), f64::INFINITY);
    // The account's demand is that of the living: its profile is summed over them.
    let living = Profile::new(&scaled(&web_day(), 500.0), &Window::all());
    assert!((Profile::sum(&[living]).total() - 500.0).abs() < 1e-9);
}

/// A mid-day cut winds up an integral.
#[test]
fn a_mid_day_cut_and_its_return_leave_no_trace() {
    let plan = plan(0.3 * 40_000.0 * PRICE, &scaled(&web_day(), 40_000.0 * PRICE));
    let mut pacer = Pacer::new();
    let (mut cut, mut rate) = (plan.clone(), 0.0);
    let mut charged = 0.0;
    for tick in 0..(18 * 720) {
        let second = f64::from(tick) * TICK_SECONDS;
        let totals = as_forecast(&plan, second, charged);
        if second == 12.0 * HOUR {
            // To what is spent already: a hard stop for two hours.
            cut.change(second, charged, charged, &totals);
        }
        if second == 14.0 * HOUR {
            cut.change(second, plan.target, plan.ceiling, &totals);
        }
        rate = pacer.tick(second, &cut, &totals).rate;
        if (12.0 * HOUR..14.0 * HOUR).contains(&second) {
            assert_eq!(rate, 0.0);
        }
        charged += rate * plan.profile.between(second, second + TICK_SECONDS);
    }
    // Four hours later the rate is what the money that is left asks for, neither more nor less.
    let fair = (plan.target - charged) / plan.profile.between(18.0 * HOUR, 24.0 * HOUR);
    assert!((rate / fair - 1.0).abs() < 0.02, "{rate} instead of {fair}");
}

/// A flat clock misreads the morning: the night is short of demand, not of money.
#[test]
fn a_learned_day_does_not_read_the_night_as_a_shortage() {
    let world = world(40_000.0, 1, 3);
    let demand = scaled(&web_day(), 40_000.0 * PRICE);
    let runs =
        simulate::run(&world, |_, _| plan(0.3 * 40_000.0 * PRICE, &demand), simulate::pacer());
    let minutes = &runs[0].minutes;
    // Until the last horizon, in which the rate ends what is left.
    for (minute, at) in minutes[..1_395].iter().zip(0..) {
        assert!((0.2..0.45).contains(&minute.rate), "{} at minute {at}", minute.rate);
    }
    // A clock that knows no night lets everything through in it and throttles the evening.
    let flat = |_: usize, _: &[f64]| DayPlan {
        profile: Profile::new(&[1.0; SLOTS_PER_DAY], &Window::all()),
        ..plan(0.3 * 40_000.0 * PRICE, &demand)
    };
    let even_split = |view: &simulate::View<'_>| {
        let due = view.plan.target * (view.second + 60.0) / 86_400.0;
        if view.totals.charged < due { 1.0 } else { 0.0 }
    };
    let flat = simulate::run(&world, flat, even_split);
    assert!(runs[0].summary.rmse_hindsight < flat[0].summary.rmse_hindsight / 4.0);
}

/// Starting at 0.5 burns a small budget in the first minute.
#[test]
fn a_small_budget_survives_its_first_minute() {
    // Room for 200 of 400 000; the level is unknown.
    let world = world(400_000.0, 1, 4);
    let new = DayPlan { level_known: false, ..plan(200.0 * PRICE, &scaled(&web_day(), 1.0)) };
    let mut day = Day::new(&world, 0, new);
    let mut pacer = Pacer::new();
    while day.view().second < 600.0 {
        let view = day.view();
        let rate = pacer.tick(view.second, view.plan, view.totals).rate;
        assert!(rate <= 0.05, "{rate} at {}", view.second);
        day.step(rate);
    }
    let spent = day.view().totals.charged / PRICE;
    assert!(spent < 20.0, "{spent} of 200 in ten minutes");
}

/// Starting from the plan's first slot starves the first hour.
#[test]
fn the_first_hour_is_served() {
    for mode in [Mode::Traffic, Mode::Even] {
        let world = world(40_000.0, 1, 5);
        let demand = scaled(&web_day(), 40_000.0 * PRICE);
        let planned = |_: usize, _: &[f64]| DayPlan { mode, ..plan(12_000.0 * PRICE, &demand) };
        let runs = simulate::run(&world, planned, simulate::pacer());
        let hour = &runs[0].minutes[59];
        assert!(hour.charged > 0.8 * hour.due, "{mode:?}: {} of {}", hour.charged, hour.due);
        let first = &runs[0].minutes[..10];
        assert!(first.iter().map(|minute| minute.admitted).sum::<u32>() > 0, "{mode:?}");
    }
}

/// An entity that is created, resumed or given a budget in mid-day catches nothing up.
#[test]
fn a_start_in_mid_day_is_no_burst() {
    let demand = scaled(&web_day(), 40_000.0 * PRICE);
    let late = DayPlan {
        base: Base { second: 15.0 * HOUR, spent: 0.0 },
        ..plan(2_000.0 * PRICE, &demand)
    };
    let fair = 2_000.0 * PRICE / late.profile.between(15.0 * HOUR, 24.0 * HOUR);
    let totals = as_forecast(&late, 15.0 * HOUR, 0.0);
    let reading = Pacer::new().tick(15.0 * HOUR, &late, &totals);
    assert!((reading.rate / fair - 1.0).abs() < 0.01, "{reading:?} instead of {fair}");
    assert_eq!(reading.bound, Why::Curve);
}

/// An evening that thins out: ahead of the curve, an error divided by an average stretch's demand
/// and not by the little that comes would let the rest of the money go.
#[test]
fn a_thin_evening_does_not_soften_the_brake() {
    let mut demand = web_day();
    demand[84..].fill(0.0005);
    let plan = plan(0.3 * 40_000.0 * PRICE, &scaled(&demand, 40_000.0 * PRICE));
    let at = 21.5 * HOUR;
    let near = plan.profile.between(at, at + 2_700.0);
    let tick = |error: f64| {
        let totals = as_forecast(&plan, at, plan.due(at) - error * near);
        Pacer::new().tick(at, &plan, &totals).rate
    };
    // A fifth of what comes: ahead by it, all of it is braked; behind, little is caught up.
    assert!(0.3 - tick(-0.2) > 0.12, "{}", tick(-0.2));
    assert!(tick(0.2) - 0.3 < 0.08, "{}", tick(0.2));
}
