//! The week plan: exact, within caps and money; worked examples of the rules.

use proptest::prelude::*;

use super::plan::{DayRoom, water_fill, water_fill_with_tail};

fn days(rooms: &[(f64, f64)]) -> Vec<DayRoom> {
    rooms.iter().map(|(cap, demand)| DayRoom { cap: *cap, demand: *demand }).collect()
}

fn sum(targets: &[f64]) -> f64 {
    targets.iter().sum()
}

#[test]
fn one_rate_for_all_days_keeps_money_for_the_weekend() {
    // B = 1 000; demand 3 000 on weekdays and 2 000 at the weekend.
    let rooms: Vec<_> = [3_000.0, 3_000.0, 3_000.0, 3_000.0, 3_000.0, 2_000.0, 2_000.0]
        .map(|demand| DayRoom { cap: 1_300.0, demand })
        .to_vec();
    let plan = water_fill(&rooms, 7_000.0);
    assert!((plan.rate - 7_000.0 / 19_000.0).abs() < 1e-12);
    assert!((plan.today(1_300.0) - 3_000.0 * plan.rate).abs() < 1e-9);
    assert!((plan.targets[6] - 2_000.0 * plan.rate).abs() < 1e-9, "the weekend is served");
}

#[test]
fn a_capped_day_leaves_its_money_to_the_others() {
    let plan = water_fill(&days(&[(1_300.0, 10_000.0), (1_300.0, 1_000.0)]), 2_000.0);
    assert_eq!(plan.targets, [1_300.0, 700.0]);
}

#[test]
fn enough_money_throttles_nothing_and_the_last_day_saves_nothing() {
    // the sum suffices for the day, so all traffic is admitted.
    let plan = water_fill(&days(&[(1_300.0, 900.0), (1_300.0, 1_000.0)]), 2_000.0);
    assert_eq!((plan.rate, plan.today(1_300.0)), (1.0, 1_300.0));
    let last = water_fill(&days(&[(1_300.0, 5_000.0)]), 800.0);
    assert_eq!(last.today(800.0), 800.0);
}

#[test]
fn r_143_the_days_after_an_increase_share_their_own_pot() {
    // Wed 10 000 → 15 000: Wed..Sun ≤ 75 000, Thu..Sun ≤ 60 000, each ≤ 19 500. Wednesday is dear.
    let rooms = days(&[(19_500.0, 10_000.0), (19_500.0, 40_000.0), (19_500.0, 40_000.0)]);
    let plain = water_fill(&rooms, 45_000.0);
    assert!(sum(&plain.targets[1..]) > 30_000.0, "without the tail the days after take more");
    let plan = water_fill_with_tail(&rooms, 45_000.0, 30_000.0);
    assert_eq!(plan.targets, [10_000.0, 15_000.0, 15_000.0]);
}

#[test]
fn r_155_shares_of_the_week_cap_the_days() {
    for (cap, scheduled, week, today) in [
        // ≥ 3 days or none: 35 %; two days: 50 %; one day: 100 %.
        (
            2_450.0,
            vec![1e6, 1_000.0, 1_000.0, 1_000.0, 1_000.0, 1_000.0, 1_000.0],
            7_000.0,
            2_450.0,
        ),
        (3_500.0, vec![1e6, 1e6], 7_000.0, 3_500.0),
        (7_000.0, vec![1e6], 7_000.0, 7_000.0),
    ] {
        let rooms: Vec<_> =
            scheduled.iter().map(|demand| DayRoom { cap, demand: *demand }).collect();
        let plan = water_fill(&rooms, week);
        assert!((plan.today(cap) - today).abs() < 1e-6, "cap {cap}: {plan:?}");
        assert!(sum(&plan.targets) <= week + 1e-6);
    }
}

#[test]
fn r_156_a_restart_plans_the_new_week_from_its_day() {
    // 7 000, Mon–Thu spent 4 000, on Thursday → 5 000: Thu..Sun up to 5 000, Thursday ≤ 4 200.
    let rooms = days(&[(4_200.0, 1e6), (1_750.0, 1e6), (1_750.0, 1e6), (1_750.0, 1e6)]);
    let plan = water_fill(&rooms, 5_000.0);
    assert!((sum(&plan.targets) - 5_000.0).abs() < 1e-6);
    for target in &plan.targets {
        assert!((target - 1_250.0).abs() < 1e-6, "alike days get alike money: {plan:?}");
    }
}

#[test]
fn days_without_demand_get_nothing_and_harm_nothing() {
    let plan =
        water_fill(&days(&[(1_300.0, 0.0), (f64::INFINITY, 5_000.0), (-1.0, 100.0)]), 1_000.0);
    assert_eq!(plan.targets, [0.0, 1_000.0, 0.0]);
    assert_eq!(water_fill(&[], 5.0).rate, 1.0);
}

/// The naive reference: the largest rate by halving.
fn by_halving(rooms: &[DayRoom], money: f64) -> f64 {
    let spends =
        |rate: f64| -> f64 { rooms.iter().map(|day| day.cap.min(rate * day.demand)).sum() };
    if spends(1.0) <= money {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if spends(middle) <= money { low = middle } else { high = middle }
    }
    low
}

fn rooms() -> impl Strategy<Value = Vec<DayRoom>> {
    let cap = prop_oneof![8 => 0.0..5_000.0f64, 1 => Just(f64::INFINITY), 1 => Just(0.0)];
    let demand = prop_oneof![8 => 0.0..20_000.0f64, 1 => Just(0.0)];
    let day = (cap, demand).prop_map(|(cap, demand)| DayRoom { cap, demand });
    prop::collection::vec(day, 1..8)
}

proptest! {
    /// What the rate brings is what halving brings, to rounding.
    #[test]
    fn the_plan_is_the_one_of_brute_force(rooms in rooms(), money in 0.0..30_000.0f64) {
        let plan = water_fill(&rooms, money);
        let rate = by_halving(&rooms, money);
        for (target, day) in plan.targets.iter().zip(&rooms) {
            prop_assert!((target - day.cap.min(rate * day.demand)).abs() < 1e-6, "{plan:?} {rate}");
        }
    }

    #[test]
    fn targets_keep_within_money_caps_and_demand(rooms in rooms(), money in 0.0..30_000.0f64) {
        let plan = water_fill(&rooms, money);
        prop_assert!((0.0..=1.0).contains(&plan.rate));
        prop_assert!(sum(&plan.targets) <= money + 1e-6);
        for (target, day) in plan.targets.iter().zip(&rooms) {
            prop_assert!(*target >= 0.0 && *target <= day.cap && *target <= day.demand + 1e-9);
        }
    }

    #[test]
    fn more_money_never_lowers_the_rate(rooms in rooms(), money in 0.0..30_000.0f64, more in 0.0..9_000.0f64) {
        let (low, high) = (water_fill(&rooms, money), water_fill(&rooms, money + more));
        prop_assert!(high.rate >= low.rate - 1e-12);
    }

    /// The tail binds the days after today and leaves the rest to it.
    #[test]
    fn a_tail_is_kept(rooms in rooms(), money in 0.0..30_000.0f64, tail in 0.0..30_000.0f64) {
        let plan = water_fill_with_tail(&rooms, money, tail);
        prop_assert!(sum(&plan.targets) <= money + 1e-6);
        prop_assert!(sum(&plan.targets[1..]) <= tail + 1e-6);
        prop_assert!(plan.targets[0] >= water_fill(&rooms, money).targets[0] - 1e-6);
    }
}
