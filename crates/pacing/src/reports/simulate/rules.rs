//! A budget in a made-up week. Pure: the controller's own simulation on the demand that was learned.
//!
//! Its cost must not grow with the demand, so the world is brought to a size first:
//! * Demand far above the money is thinned to [`MOST_DEMAND`] times the money. Of one in a hundred
//!   or one in five opportunities the luck is nearly the same, √(1 − p).
//! * A chance of a charge below [`LEAST_CHANCE`] is raised to it, with as many opportunities less:
//!   what is expected of them, and the margin for it, do not change.
//! * Above [`MOST_OPPORTUNITIES`] a day, opportunities become fewer and dearer, as long as
//!   [`ENOUGH_CHARGES`] charges a day are left: with fewer, luck would look worse than it is.

use adspend_common::money::Money;
use adspend_common::time::Day;

use crate::budgets::Limits;
use crate::calendar::week::WeekSpent;
use crate::controller::curve::Profile;
use crate::controller::rate::{Base, DayPlan};
use crate::controller::simulate::{self as world, Charging, DayRun, Tokens, World};
use crate::pacer;
use crate::reports::demand::{self, ComingDay, Demand};
use crate::reports::rules::{money, share_ppm};

/// How often the days are run, each time with other luck.
pub const RUNS: u32 = 3;
/// Demand in multiples of the money.
const MOST_DEMAND: f64 = 5.0;
/// The chance of a charge.
const LEAST_CHANCE: f64 = 0.1;
/// Opportunities a day.
const MOST_OPPORTUNITIES: f64 = 10_000.0;
/// Charges a day.
const ENOUGH_CHARGES: f64 = 200.0;
/// Prices are even within half and one and a half of their mean: they are not learned.
const PRICE_SPREAD: f64 = 0.5;
/// How long a charge at once takes to be seen: a tick.
const LAG_SECONDS: f64 = 5.0;
/// A limit that is reached before this second was reached early.
const EARLY_SECONDS: f64 = 23.0 * 3_600.0;
const MINUTES_PER_DAY: u32 = 1_440;

/// What several runs came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// The least.
    pub least: Money,
    /// The mean.
    pub mean: Money,
    /// The most.
    pub most: Money,
}

/// A day of all runs.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedDay {
    /// The day.
    pub day: Day,
    /// What it may spend at most, on average.
    pub ceiling: Money,
    /// What it is to spend, on average.
    pub target: Money,
    /// What all of the demand would cost.
    pub demand: Money,
    /// What it spends.
    pub spend: Spread,
    /// The same run by run, micro-units.
    spent: Vec<f64>,
    /// What share of the demand is admitted, in parts of a million.
    pub admitted_ppm: i32,
    /// In how many runs the limit was reached early.
    pub early_stops: u32,
    /// The earliest of these, as seconds since midnight.
    pub earliest_stop_second: Option<f64>,
}

/// The world at its size.
#[derive(Debug, Clone, PartialEq)]
struct Scaled {
    /// The days' demand over their minutes, thinned.
    days: Vec<ComingDay>,
    world: World,
}

/// How admissions are served.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Serving {
    /// How long they last.
    pub(super) tokens: Tokens,
    /// By how many replicas.
    pub(super) replicas: u32,
}

/// Runs a budget over days, from their first midnight on.
pub(super) fn simulate(
    limits: &Limits,
    demand: &Demand,
    serving: &Serving,
    days: &[ComingDay],
) -> Vec<SimulatedDay> {
    let scaled = scale(limits, demand, serving, days);
    let mut sums: Vec<Sum> = days.iter().map(|_| Sum::default()).collect();
    for seed in 0..u64::from(RUNS) {
        let world = World { seed, ..scaled.world.clone() };
        let mut plans = Vec::with_capacity(days.len());
        let plan = |day: usize, spent: &[f64]| {
            let plan = day_plan(limits, &scaled, day, spent);
            plans.push((plan.ceiling, plan.target));
            plan
        };
        let runs = world::run(&world, plan, world::pacer());
        for ((sum, run), plan) in sums.iter_mut().zip(&runs).zip(&plans) {
            sum.add(run, *plan);
        }
    }
    days.iter().zip(&sums).map(|(day, sum)| sum.day(day)).collect()
}

/// All days together: what they spend, of each run the sum over its days, and what their demand
/// would cost.
pub(super) fn together(days: &[SimulatedDay]) -> (Spread, Money) {
    let mut runs = vec![0.0; days.first().map_or(0, |day| day.spent.len())];
    let mut demand = 0;
    for day in days {
        for (sum, spent) in runs.iter_mut().zip(&day.spent) {
            *sum += spent;
        }
        demand = day.demand.micros().saturating_add(demand);
    }
    (spread(&runs), Money::from_micros(demand).unwrap_or(Money::MAX))
}

fn spread(runs: &[f64]) -> Spread {
    let least = runs.iter().fold(f64::INFINITY, |least, spent| least.min(*spent));
    let most = runs.iter().fold(0.0f64, |most, spent| most.max(*spent));
    Spread { least: money(least), mean: money(mean(runs)), most: money(most) }
}

fn mean(runs: &[f64]) -> f64 {
    runs.iter().sum::<f64>() / runs.len().max(1) as f64
}

fn scale(limits: &Limits, demand: &Demand, serving: &Serving, days: &[ComingDay]) -> Scaled {
    let planned = demand::walk(limits, days, WeekSpent::default());
    let money: f64 = planned.iter().map(|day| day.target.unwrap_or(day.demand)).sum();
    let offered: f64 = days.iter().map(ComingDay::demand).sum();
    let thin = (offered / (MOST_DEMAND * money)).max(1.0);
    let days: Vec<ComingDay> = days.iter().map(|day| day.scaled(1.0 / thin)).collect();
    let count = days.len().max(1) as f64;
    let chance = demand.chance.max(LEAST_CHANCE);
    // A day's charges if all were admitted, and what they are likely to be.
    let price = demand.charge / demand.chance;
    let a_day = offered / thin / count;
    let spent_a_day = planned.iter().map(|day| day.expected).sum::<f64>() / count;
    let coarse = (a_day / (price * chance) / MOST_OPPORTUNITIES)
        .min(spent_a_day / price / ENOUGH_CHARGES)
        .max(1.0);
    let price = price * coarse;
    let opportunities = days.iter().flat_map(|day| minutes(&day.profile));
    let charging = if chance < 1.0 { Charging::clicks(chance) } else { Charging::AT_ONCE };
    let Serving { tokens, replicas } = *serving;
    let charging = Charging { tokens, overstated: demand.overstated, ..charging };
    let world = World {
        opportunities: opportunities.map(|micros| micros / (price * chance)).collect(),
        price,
        price_spread: PRICE_SPREAD,
        charging,
        feedback_lag_seconds: LAG_SECONDS,
        replicas,
        seed: 0,
    };
    Scaled { days, world }
}

/// Expected cost of each minute.
fn minutes(profile: &Profile) -> impl Iterator<Item = f64> + '_ {
    (0..MINUTES_PER_DAY).map(|minute| {
        let second = f64::from(minute) * 60.0;
        profile.between(second, second + 60.0)
    })
}

fn day_plan(limits: &Limits, scaled: &Scaled, index: usize, spent: &[f64]) -> DayPlan {
    let mut week = WeekSpent::default();
    for (to, from) in week.iter_mut().zip(spent) {
        *to = *from as i64;
    }
    let later = scaled.days.get(index + 1..).unwrap_or_default();
    let coming = scaled.days.get(index).expect("the world has as many days as were scaled");
    let target = demand::target(limits, coming, later, &week);
    let (ceiling, target) =
        target.map_or((f64::INFINITY, f64::INFINITY), |(ceiling, target)| (ceiling as f64, target));
    DayPlan {
        day: coming.day,
        target,
        ceiling,
        profile: coming.profile.clone(),
        mode: pacer::curve_mode(limits.mode),
        level_known: true,
        charge: scaled.world.mean_charge(),
        base: Base::default(),
    }
}

/// A day over the runs so far.
#[derive(Debug, Clone, Default)]
struct Sum {
    spent: Vec<f64>,
    ceilings: f64,
    targets: f64,
    early_stops: u32,
    earliest_stop_second: Option<f64>,
}

impl Sum {
    fn add(&mut self, run: &DayRun, (ceiling, target): (f64, f64)) {
        self.spent.push(run.summary.spent);
        self.ceilings += ceiling;
        self.targets += target;
        let early = run.summary.early_stop_second.filter(|second| *second < EARLY_SECONDS);
        if let Some(second) = early {
            self.early_stops += 1;
            let before = self.earliest_stop_second.unwrap_or(f64::INFINITY);
            self.earliest_stop_second = Some(before.min(second));
        }
    }

    fn day(&self, day: &ComingDay) -> SimulatedDay {
        let runs = self.spent.len().max(1) as f64;
        let (mean, demand) = (mean(&self.spent), day.demand());
        SimulatedDay {
            day: day.day,
            ceiling: money(self.ceilings / runs),
            target: money(self.targets / runs),
            demand: money(demand),
            spend: spread(&self.spent),
            spent: self.spent.clone(),
            admitted_ppm: share_ppm(if demand > 0.0 { mean / demand } else { 1.0 }),
            early_stops: self.early_stops,
            earliest_stop_second: self.earliest_stop_second,
        }
    }
}
