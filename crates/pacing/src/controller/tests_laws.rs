//! Laws of the controller, and its events.

use proptest::prelude::*;

use super::curve::{Mode, Profile, Window};
use super::hierarchy::{self, Share};
use super::rate::{Base, DayPlan, Pacer, RATE_UNKNOWN, Totals, Why};
use super::tests_support::{PRICE, as_forecast, day, plan, scaled, web_day};
use super::{SLOTS_PER_DAY, TICK_SECONDS};

const HOUR: f64 = 3_600.0;

fn forty_thousand() -> DayPlan {
    plan(0.3 * 40_000.0 * PRICE, &scaled(&web_day(), 40_000.0 * PRICE))
}

#[test]
fn a_used_up_limit_stops_at_once() {
    let plan = forty_thousand();
    let mut pacer = Pacer::new();
    pacer.tick(10.0 * HOUR, &plan, &as_forecast(&plan, 10.0 * HOUR, 0.0));
    let mut totals = as_forecast(&plan, 10.0 * HOUR + 5.0, plan.ceiling - 1.0);
    totals.in_flight = 1.0;
    let reading = pacer.tick(10.0 * HOUR + 5.0, &plan, &totals);
    assert_eq!((reading.rate, reading.bound), (0.0, Why::HardStop));
}

#[test]
fn no_limit_and_asap_take_all() {
    let mut plan = forty_thousand();
    plan.mode = Mode::Asap;
    let reading = Pacer::new().tick(0.0, &plan, &Totals::default());
    assert_eq!((reading.rate, reading.bound), (1.0, Why::Asap));
    (plan.target, plan.ceiling, plan.mode) = (f64::INFINITY, f64::INFINITY, Mode::Traffic);
    let reading = Pacer::new().tick(0.0, &plan, &Totals::default());
    assert_eq!((reading.rate, reading.bound), (1.0, Why::AllTraffic));
}

#[test]
fn full_traffic_is_entered_on_two_ticks_and_left_with_hysteresis() {
    let mut plan = forty_thousand();
    let mut pacer = Pacer::new();
    let at = 20.0 * HOUR;
    let rest = plan.profile.between(at, 24.0 * HOUR);
    let mut tick = |pacer: &mut Pacer, n: f64, worth: f64| {
        plan.ceiling = plan.target;
        let totals = as_forecast(&plan, at + n * TICK_SECONDS, plan.target - worth * rest);
        pacer.tick(at + n * TICK_SECONDS, &plan, &totals).latched
    };
    assert!(!tick(&mut pacer, 0.0, 0.5));
    assert!(!tick(&mut pacer, 1.0, 1.2), "one tick is not enough");
    assert!(tick(&mut pacer, 2.0, 1.2));
    assert!(tick(&mut pacer, 3.0, 1.02), "stays above 1");
    assert!(tick(&mut pacer, 4.0, 0.85), "what a forecast is off by is no shortage");
    assert!(!tick(&mut pacer, 5.0, 0.5));
    assert!(!tick(&mut pacer, 6.0, 0.95), "left, it is not entered by as little");
    assert!(!tick(&mut Pacer::new(), 7.0, 0.75), "nor at the first tick");
}

/// The last charges of a day wait until they are due, but not into its last hour.
#[test]
fn the_last_charges_wait_for_their_time_and_not_too_long() {
    let plan = plan(300.0 * PRICE, &scaled(&web_day(), 1_000.0 * PRICE));
    let bound = |at: f64, left: f64| {
        let totals = as_forecast(&plan, at, plan.ceiling - left * PRICE);
        Pacer::new().tick(at, &plan, &totals).bound
    };
    assert_eq!(bound(22.0 * HOUR, 2.0), Why::Waits);
    assert_ne!(bound(22.0 * HOUR, 4.0), Why::Waits, "not one of the last");
    assert_ne!(bound(23.5 * HOUR, 2.0), Why::Waits, "the last hour");
}

#[test]
fn the_rate_rises_by_steps_and_knows_no_level_for_thirty_seconds() {
    let new = DayPlan { level_known: false, ..plan(1e12, &scaled(&web_day(), 1.0)) };
    let mut pacer = Pacer::new();
    let mut last = RATE_UNKNOWN;
    for n in 0..60 {
        let second = 12.0 * HOUR + f64::from(n) * TICK_SECONDS;
        let seen = f64::from(n) * TICK_SECONDS;
        let totals = Totals {
            offered: 0.3 * PRICE * f64::from(n),
            opportunities: 0.3 * f64::from(n),
            expected: new.profile.between(12.0 * HOUR, second),
            seen_seconds: seen,
            ..Totals::default()
        };
        let reading = pacer.tick(second, &new, &totals);
        if seen < 30.0 {
            assert_eq!((reading.rate, reading.bound), (RATE_UNKNOWN, Why::WarmStart), "{seen} s");
        }
        assert!(reading.rate <= last + (0.1 * last).max(0.02) + 1e-12);
        last = reading.rate;
    }
    assert!(last > 0.9, "the money is plenty: {last}");
}

#[test]
fn fifty_opportunities_make_a_level_known_earlier() {
    let new = DayPlan { level_known: false, ..plan(100.0 * PRICE, &scaled(&web_day(), 1.0)) };
    let totals = Totals {
        offered: 60.0 * PRICE,
        opportunities: 60.0,
        expected: new.profile.until(10.0),
        seen_seconds: 10.0,
        ..Totals::default()
    };
    let mut pacer = Pacer::new();
    pacer.tick(5.0, &new, &Totals { seen_seconds: 5.0, ..Totals::default() });
    assert_ne!(pacer.tick(10.0, &new, &totals).bound, Why::WarmStart);
}

#[test]
fn an_increase_re_bases_the_curve() {
    let mut plan = forty_thousand();
    let noon = 12.0 * HOUR;
    let totals = as_forecast(&plan, noon, plan.due(noon));
    let (before, target) = (plan.due(noon), plan.target);
    plan.change(noon, 2.0 * target, 2.0 * target, &totals);
    assert!((plan.due(noon) - before).abs() < 1.0, "nothing is due at once");
    assert!((plan.due(24.0 * HOUR) - 2.0 * target).abs() < 1.0);
    // A cut below what is spent leaves the target at what is spent.
    plan.change(noon, 1.0, 1.0, &totals);
    assert_eq!(plan.target, totals.charged);
}

#[test]
fn the_horizon_covers_three_feedback_lags() {
    let plan = forty_thousand();
    let mut totals = as_forecast(&plan, 10.0 * HOUR, plan.due(10.0 * HOUR));
    let near = Pacer::new().tick(10.0 * HOUR, &plan, &totals).demand_ahead;
    assert!((near - plan.profile.between(10.0 * HOUR, 10.75 * HOUR)).abs() < 1e-3 * near);
    totals.feedback_lag_seconds = HOUR;
    let far = Pacer::new().tick(10.0 * HOUR, &plan, &totals).demand_ahead;
    assert!((far - plan.profile.between(10.0 * HOUR, 13.0 * HOUR)).abs() < 1e-3 * far);
}

#[test]
fn outside_the_window_the_next_opening_is_prepared() {
    let open = Window::of(|minute| (9 * 60..18 * 60).contains(&minute));
    let demand = scaled(&web_day(), 40_000.0 * PRICE);
    let plan = DayPlan { profile: Profile::new(&demand, &open), ..plan(1_000.0 * PRICE, &demand) };
    let fair = plan.target / plan.profile.total();
    let mut pacer = Pacer::new();
    for tick in 0..(9 * 720) {
        let second = f64::from(tick) * TICK_SECONDS;
        pacer.tick(second, &plan, &as_forecast(&plan, second, 0.0));
    }
    let reading = pacer.tick(9.0 * HOUR, &plan, &as_forecast(&plan, 9.0 * HOUR, 0.0));
    assert!((reading.rate / fair - 1.0).abs() < 0.1, "{} instead of {fair}", reading.rate);
    let after = pacer.tick(19.0 * HOUR, &plan, &as_forecast(&plan, 19.0 * HOUR, 0.0));
    assert_eq!(after.bound, Why::Closed);
}

#[test]
fn a_restarted_replica_goes_on_where_the_others_are() {
    let plan = forty_thousand();
    let mut old = Pacer::new();
    let mut totals = Totals::default();
    for tick in 0..(15 * 720) {
        let second = f64::from(tick) * TICK_SECONDS;
        totals = as_forecast(&plan, second, plan.due(second) * 1.01);
        old.tick(second, &plan, &totals);
    }
    let second = 15.0 * HOUR;
    let (kept, new) = (old.tick(second, &plan, &totals), Pacer::new().tick(second, &plan, &totals));
    assert!((kept.rate / new.rate - 1.0).abs() < 0.02, "{} and {}", kept.rate, new.rate);
}

#[test]
fn a_pacer_is_small() {
    assert!(size_of::<Pacer>() <= 128, "{} bytes", size_of::<Pacer>());
    assert!(size_of::<DayPlan>() <= 1_536, "{} bytes", size_of::<DayPlan>());
}

#[test]
fn a_tick_allocates_nothing() {
    let plan = forty_thousand();
    let mut pacer = Pacer::new();
    let mut shares: Vec<Share> =
        (1..200).map(|n| Share { rate: 1.0 / f64::from(n), demand: 9.0, weight: 1.0 }).collect();
    let counted = allocation_counter::measure(|| {
        for tick in 0..100 {
            let second = f64::from(tick) * TICK_SECONDS;
            let reading = pacer.tick(second, &plan, &as_forecast(&plan, second, 0.0));
            assert!(hierarchy::ceiling(&mut shares, reading.rate) > 0.0);
        }
    });
    assert_eq!(counted.count_total, 0);
}

fn any_plan() -> impl Strategy<Value = DayPlan> {
    let mode = prop_oneof![
        Just(Mode::Even),
        Just(Mode::Traffic),
        Just(Mode::Asap),
        (0.0..3.0f64).prop_map(Mode::Ahead),
    ];
    let money = prop_oneof![5 => 0.0..1e12f64, 1 => Just(f64::INFINITY), 1 => Just(0.0)];
    let demand = prop::collection::vec(0.0..1e10f64, SLOTS_PER_DAY);
    let hours = prop::collection::vec(any::<bool>(), 24);
    (mode, money, demand, hours, any::<bool>(), 0.5..1.0f64, 0.0..1e9f64).prop_map(
        |(mode, ceiling, demand, hours, level_known, part, charge)| {
            let mut slots = [0.0; SLOTS_PER_DAY];
            slots.copy_from_slice(&demand);
            let window = Window::of(|minute| hours[usize::from(minute / 60)]);
            DayPlan {
                day: day(0),
                target: ceiling * part,
                ceiling,
                profile: Profile::new(&slots, &window),
                mode,
                level_known,
                charge,
                base: Base::default(),
            }
        },
    )
}

fn any_totals() -> impl Strategy<Value = Vec<Totals>> {
    let money = || prop_oneof![5 => 0.0..1e12f64, 1 => Just(0.0)];
    let totals = (money(), money(), money(), money(), 0.0..1e6f64, 0.0..2e4f64);
    let totals =
        totals.prop_map(|(charged, in_flight, offered, expected, opportunities, lag)| Totals {
            charged,
            admitted: charged,
            age_seconds: 0.0,
            in_flight: in_flight / 100.0,
            margin: in_flight / 50.0,
            offered,
            expected,
            opportunities,
            seen_seconds: opportunities / 10.0,
            feedback_lag_seconds: lag,
        });
    prop::collection::vec(totals, 1..20)
}

proptest! {
    /// Whatever it is told, in whatever order: a rate, and never above 0 on a used-up limit.
    #[test]
    fn a_rate_is_a_rate(plan in any_plan(), totals in any_totals(), start in 0.0..86_400.0f64) {
        let mut pacer = Pacer::new();
        for (n, totals) in totals.iter().enumerate() {
            let now = (start + n as f64 * 977.0).min(86_400.0);
            let reading = pacer.tick(now, &plan, totals);
            prop_assert!((0.0..=1.0).contains(&reading.rate), "{reading:?}");
            prop_assert!(!reading.budget_ahead.is_nan() && reading.demand_ahead.is_finite());
            if totals.charged + totals.in_flight >= plan.ceiling {
                prop_assert_eq!(reading.rate, 0.0);
            }
            prop_assert!(reading.due <= plan.target.max(0.0));
        }
    }

    /// More money never means a lower rate, less spent neither: with one history, at any moment.
    #[test]
    fn the_rate_rises_with_the_money(
        demand in prop::collection::vec(1.0..1e9f64, SLOTS_PER_DAY),
        target in 1e8..1e11f64, more in 1.0..2.0f64,
        spent in 0.0..1.0f64, less in 0.0..=1.0f64, second in 0.0..86_000.0f64,
    ) {
        let mut slots = [0.0; SLOTS_PER_DAY];
        slots.copy_from_slice(&demand);
        let rate = |target: f64, charged: f64| {
            let plan = DayPlan { charge: 0.0, ..plan(target, &slots) };
            Pacer::new().tick(second, &plan, &as_forecast(&plan, second, charged)).rate
        };
        let charged = spent * target;
        prop_assert!(rate(more * target, charged) >= rate(target, charged) - 1e-9);
        prop_assert!(rate(target, less * charged) >= rate(target, charged) - 1e-9);
    }

    /// No event of the day takes the target below what is spent, and C runs from there to it.
    #[test]
    fn a_change_keeps_what_is_spent(
        second in 0.0..86_400.0f64, target in 0.0..1e12f64, charged in 0.0..1e12f64, later in 0.0..1.0f64,
    ) {
        let mut plan = forty_thousand();
        let totals = as_forecast(&plan, second, charged);
        plan.change(second, target, target, &totals);
        prop_assert!(plan.target >= charged);
        let at = second + later * (86_400.0 - second);
        prop_assert!(plan.due(at) >= charged - 1.0 && plan.due(at) <= plan.target + 1.0);
        prop_assert!(plan.due(second) <= charged + 1.0, "no catch-up");
    }
}
