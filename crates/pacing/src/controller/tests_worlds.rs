//! The controller in simulated worlds: what section 8 asks of an entity's day and week. The
//! evaluation repeats this on real series beside other controllers.

use super::curve::{Mode, Profile, Window};
use super::hierarchy::{self, Share};
use super::plan::{DayRoom, water_fill};
use super::rate::{DayPlan, Pacer};
use super::simulate::{self, Charging, Day, DayRun, World};
use super::tests_support::{MINUTES, PRICE, day, mean, plan, scaled, web_day, world};

/// Days of a world: few, for the evaluation runs hundreds.
const DAYS: usize = 3;
const WEEK: usize = 7;

/// Days of one world under one plan, the budget a share of what is expected.
fn days(world: &World, share: f64, change: impl Fn(&mut DayPlan)) -> Vec<DayRun> {
    let total: f64 = (0..MINUTES).map(|minute| world.expected(minute)).sum();
    let planned = |number: usize, _: &[f64]| {
        let mut plan =
            DayPlan { day: day(number), ..plan(share * total, &scaled(&web_day(), total)) };
        change(&mut plan);
        plan
    };
    simulate::run(world, planned, simulate::pacer())
}

fn early(runs: &[DayRun]) -> usize {
    let before =
        |run: &&DayRun| run.summary.early_stop_second.is_some_and(|second| second < 82_800.0);
    runs.iter().filter(before).count()
}

#[test]
fn a_calm_day_follows_demand_to_the_end() {
    let runs = days(&world(40_000.0, DAYS, 11), 0.3, |_| ());
    for run in &runs {
        assert!(run.summary.utilisation > 0.995, "{:?}", run.summary);
        assert!(run.summary.rmse_hindsight < 0.02, "{:?}", run.summary);
        assert!(run.summary.rate_change < 0.005, "{:?}", run.summary);
        assert!(run.summary.longest_gap_seconds < 600.0, "{:?}", run.summary);
        assert_eq!(run.summary.overspend, 0.0);
    }
    assert_eq!(early(&runs), 0);
}

#[test]
fn the_same_seed_gives_the_same_day() {
    let run = || days(&world(5_000.0, 1, 12), 0.3, |_| ());
    assert_eq!(run(), run());
    let other = days(&world(5_000.0, 1, 13), 0.3, |_| ());
    assert_ne!(run()[0].minutes, other[0].minutes);
}

#[test]
fn feedback_a_quarter_of_an_hour_late_stops_nothing_early() {
    let late = World { feedback_lag_seconds: 900.0, ..world(40_000.0, DAYS, 14) };
    let runs = days(&late, 0.3, |_| ());
    assert_eq!(early(&runs), 0);
    assert!(mean(runs.iter().map(|run| run.summary.rmse_hindsight)) < 0.03);
    assert!(mean(runs.iter().map(|run| run.summary.utilisation)) > 0.995);
}

#[test]
fn a_forecast_off_by_two_is_corrected_within_the_day() {
    for level in [0.5, 2.0] {
        let runs = days(&world(40_000.0, DAYS, 15), 0.3, |plan| {
            let total = plan.profile.total() * level;
            plan.profile = Profile::new(&scaled(&web_day(), total), &Window::all());
        });
        assert!(mean(runs.iter().map(|run| run.summary.rmse_hindsight)) < 0.02, "×{level}");
        assert_eq!(early(&runs), 0);
    }
}

#[test]
fn enough_money_admits_everything() {
    for run in days(&world(40_000.0, DAYS, 16), 1.05, |_| ()) {
        let share = f64::from(run.summary.admitted) / f64::from(run.summary.opportunities);
        assert!(share >= 0.999, "{share}");
    }
}

#[test]
fn a_first_day_without_any_knowledge_spends_its_budget() {
    let flat = [1.0 / 96.0; super::SLOTS_PER_DAY];
    let worlds = (0..DAYS as u64).map(|seed| world(40_000.0, 1, 17 + seed));
    let runs: Vec<_> = worlds
        .flat_map(|world| {
            days(&world, 0.3, |plan| {
                plan.profile = Profile::new(&flat, &Window::all());
                plan.level_known = false;
            })
        })
        .collect();
    assert!(mean(runs.iter().map(|run| run.summary.utilisation)) > 0.97);
    assert!(mean(runs.iter().map(|run| run.summary.rmse_hindsight)) < 0.12);
    assert_eq!(early(&runs), 0);
}

/// even distribution is not promised with few charges; the budget is still used.
#[test]
fn r_137_thirty_charges_a_day_are_spread() {
    let runs = days(&world(100.0, 40, 31), 0.3, |_| ());
    assert!(mean(runs.iter().map(|run| run.summary.utilisation)) > 0.97);
    assert!(mean(runs.iter().map(|run| run.summary.rmse_hindsight)) < 0.04);
    assert!(early(&runs) <= 1, "{} of 40 stopped early", early(&runs));
}

#[test]
fn late_clicks_do_not_pass_the_limit() {
    let clicks = World { charging: Charging::clicks(0.05), ..world(40_000.0, 5, 51) };
    let mut runs = days(&clicks, 0.3, |_| ());
    runs.extend(days(&clicks, 0.9, |_| ()));
    for run in &runs {
        assert!(run.summary.overspend <= 0.005, "{:?}", run.summary);
        assert!(run.summary.utilisation > 0.985, "{:?}", run.summary);
    }
    assert!(runs.iter().any(|run| run.summary.late > 0.0), "some clicks come after their hold");
}

#[test]
fn a_window_is_used_to_its_last_minute() {
    let open = Window::of(|minute| (10 * 60 + 7..17 * 60 + 8).contains(&minute));
    let runs = days(&world(40_000.0, 3, 61), 0.1, |plan| {
        let total = plan.profile.total();
        plan.profile = Profile::new(&scaled(&web_day(), total), &open);
    });
    for run in &runs {
        assert!(run.summary.utilisation > 0.995, "{:?}", run.summary);
        let stop = run.summary.early_stop_second;
        assert!(stop.is_none_or(|second| second > 17.0 * 3_600.0), "{stop:?}");
        assert_eq!(run.minutes[606].admitted + run.minutes[1_028].admitted, 0);
    }
}

/// Where no demand lies ahead, an error in what is spent asks for neither all nor nothing.
#[test]
fn a_break_in_the_day_swings_nothing() {
    let mut world = world(40_000.0, 3, 65);
    let mut demand = web_day();
    demand[52..68].fill(0.0);
    for (minute, opportunities) in world.opportunities.iter_mut().enumerate() {
        if demand[minute % MINUTES / 15] == 0.0 {
            *opportunities = 0.0;
        }
    }
    let total: f64 = (0..MINUTES).map(|minute| world.expected(minute)).sum();
    let lunch = Window::of(|minute| !(13 * 60..17 * 60).contains(&minute));
    for window in [Window::all(), lunch] {
        let runs = days(&world, 0.3, |plan| {
            plan.profile = Profile::new(&scaled(&demand, total), &window);
        });
        for run in &runs {
            for (minute, at) in run.minutes[..1_395].iter().zip(0..) {
                assert!((0.1..0.5).contains(&minute.rate), "{} at minute {at}", minute.rate);
            }
            assert!(run.summary.utilisation > 0.995, "{:?}", run.summary);
        }
    }
}

#[test]
fn modes_do_what_they_say() {
    let spent_by = |mode: Mode, minute: usize| {
        let runs = days(&world(40_000.0, 1, 71), 0.3, |plan| plan.mode = mode);
        runs[0].minutes[minute].charged / runs[0].summary.possible
    };
    assert!((spent_by(Mode::Even, 720) - 0.5).abs() < 0.05);
    let due: f64 = web_day()[..48].iter().sum();
    assert!((spent_by(Mode::Traffic, 720) - due).abs() < 0.03);
    assert!(spent_by(Mode::Ahead(1.0), 720) > due + 0.1);
    assert!(spent_by(Mode::Asap, 720) > 0.7);
}

/// The week of ..R-135 with the plan re-solved at midnight.
#[test]
fn a_week_is_spent_within_its_pot_and_caps() {
    let mut world = world(10_000.0, WEEK, 81);
    for minute in &mut world.opportunities[5 * MINUTES..] {
        *minute *= 0.5;
    }
    let demand = |day: usize| if day < 5 { 10_000.0 * PRICE } else { 5_000.0 * PRICE };
    let (b, week) = (3_000.0 * PRICE, 21_000.0 * PRICE);
    let planned = |number: usize, spent: &[f64]| {
        let left = week - spent.iter().sum::<f64>();
        let room = |day| DayRoom { cap: 1.3 * b, demand: demand(day) };
        let rooms: Vec<_> = (number..WEEK).map(room).collect();
        let ceiling = left.min(1.3 * b);
        let target = water_fill(&rooms, left).today(ceiling);
        let slots = scaled(&web_day(), demand(number));
        DayPlan { day: day(number), ceiling, ..plan(target, &slots) }
    };
    let runs = simulate::run(&world, planned, simulate::pacer());
    let spent: Vec<f64> = runs.iter().map(|run| run.summary.spent).collect();
    let all: f64 = spent.iter().sum();
    assert!(all <= week && all > 0.99 * week, "{all} of {week}");
    assert!(spent.iter().all(|day| *day <= 1.3 * b));
    let rates: Vec<f64> = (0..WEEK).map(|day| spent[day] / demand(day)).collect();
    assert!(rates.iter().all(|rate| (rate / rates[0] - 1.0).abs() < 0.05), "one rate: {rates:?}");
}

/// campaigns of 500 and 3 000 under an account of 1 000, in the worlds of section 4.
#[test]
fn r_138_an_account_shares_its_target() {
    for (first, second, fair) in [
        (10_000.0, 10_000.0, [500.0, 500.0]),
        (1_000.0, 10_000.0, [91.0, 909.0]),
        (600.0, 600.0, [500.0, 500.0]),
        (200_000.0, 2_000.0, [500.0, 500.0]),
    ] {
        let worlds = [world(first, 1, 91), world(second, 1, 92)];
        let demands = [first, second].map(|total| scaled(&web_day(), total * PRICE));
        let own = [500.0, 3_000.0];
        let plans = [0, 1].map(|n: usize| plan(own[n] * PRICE, &demands[n]));
        let mut account = plan(1_000.0 * PRICE, &demands[0]);
        account.profile = Profile::sum(plans.iter().map(|plan| &plan.profile));
        let mut sides = [0, 1].map(|n: usize| Day::new(&worlds[n], 0, plans[n].clone()));
        let mut pacers = [Pacer::new(), Pacer::new(), Pacer::new()];
        let mut spent = 0.0;
        while !sides[0].is_over() {
            let mut shares = Vec::new();
            let mut totals = super::rate::Totals::default();
            let second = sides[0].view().second;
            for (side, pacer) in sides.iter().zip(&mut pacers) {
                let view = side.view();
                let reading = pacer.tick(view.second, view.plan, view.totals);
                shares.push(Share {
                    rate: reading.rate,
                    demand: reading.demand_ahead,
                    weight: 1.0,
                });
                totals.charged += view.totals.charged;
                totals.offered += view.totals.offered;
                totals.expected += view.totals.expected;
                totals.opportunities += view.totals.opportunities;
            }
            totals.seen_seconds = second;
            let ahead = pacers[2].tick(second, &account, &totals).budget_ahead;
            let ceiling = hierarchy::ceiling(&mut shares.clone(), ahead);
            for (side, share) in sides.iter_mut().zip(&shares) {
                spent += side.step_within(share.effective(ceiling), account.ceiling - spent);
            }
        }
        let got = sides.map(|side| side.finish().summary.spent / PRICE);
        let sum = got[0] + got[1];
        assert!((990.0..=1_000.0).contains(&sum), "{first} + {second}: {got:?}");
        assert!(got[0] <= 500.0);
        assert!((got[0] - fair[0]).abs() < 35.0, "{first} + {second}: {got:?}");
    }
}
