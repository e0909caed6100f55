//! One entity's days in a made-up world, with the very controller, by seed.
//!
//! For `SimulateBudget`, for the evaluation and for tests. A [`World`] says what comes: demand per
//! minute, prices, the probability and the delay of a charge, how late charges are seen. A plan
//! comes from the caller, day by day, with what the days before have spent, so that limits stay
//! `calendar`'s. The rate comes from a closure, so that other controllers meet the same world with
//! the same opportunities: the random numbers of arrivals and prices do not depend on the rate.
//!
//! The step is the tick of production, five seconds; results are kept by the minute. The hard limit
//! acts as slices do: exactly, on what is truly spent, whatever the controller has seen of it.
//! Admissions that may cost nothing (π < 1) count with their margin, by the rules and in the pool of
//! production, until they are charged or their tokens are over ([`super::inflight`], [`super::pool`]).
//!
//! Cost: about 4 ms for a day of 40 000 opportunities in release, 0.2 MB, and 0.7 more
//! and a fifth more time where charges take time; nothing is kept per opportunity.
//!
//! Not here: several entities at once (the evaluation ticks several [`Day`]s side by side), several
//! replicas but for the margins that they keep (tests/sim).

pub(crate) mod holds;
mod summary;
mod world;

pub use summary::{Minute, Summary};
pub use world::{Charging, Delay, Tokens, World};

use super::few::{self, Accumulator};
use super::inflight::{self, HOURS, LateReserve};
use super::rate::{DayPlan, Pacer, Totals};
use super::{DAY_SECONDS, TICK_SECONDS};
use holds::Holds;
use summary::{Money, Watch};
use world::Arrivals;

/// Ticks of a day.
const TICKS: usize = (DAY_SECONDS / TICK_SECONDS) as usize;
const HOUR_SECONDS: f64 = 3_600.0;
/// Less than this share of the limit is no money to speak of: a gap is no fault then.
const ALL_BUT_OUT: f64 = 0.005;
/// Ticks of a minute.
const TICKS_PER_MINUTE: usize = 12;

/// What a controller sees at a tick.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Second of the day.
    pub second: f64,
    /// The day's plan.
    pub plan: &'a DayPlan,
    /// What is known of the day so far.
    pub totals: &'a Totals,
}

/// A day that has been run.
#[derive(Debug, Clone, PartialEq)]
pub struct DayRun {
    /// Minute by minute.
    pub minutes: Vec<Minute>,
    /// What it comes to.
    pub summary: Summary,
}

/// The default source of rates: the controller itself.
pub fn pacer() -> impl FnMut(&View<'_>) -> f64 {
    let mut pacer = Pacer::new();
    move |view| pacer.tick(view.second, view.plan, view.totals).rate
}

/// Runs the days of a world: `plan(day, spent)` is asked at each midnight with the number of the
/// day and what the days before it have spent, late charges included; `rate` at every tick.
pub fn run(
    world: &World,
    mut plan: impl FnMut(usize, &[f64]) -> DayPlan,
    mut rate: impl FnMut(&View<'_>) -> f64,
) -> Vec<DayRun> {
    let mut days = Vec::with_capacity(world.days());
    let mut spent = Vec::with_capacity(world.days());
    let mut late = LateReserve::default();
    for number in 0..world.days() {
        let mut day = Day::new(world, number, plan(number, &spent));
        day.late_reserve = std::array::from_fn(|hour| late.quantile(hour));
        while !day.is_over() {
            let p = rate(&day.view());
            day.step(p);
        }
        late.push(day.late_by_hour);
        let done = day.finish();
        spent.push(done.summary.spent);
        days.push(done);
    }
    days
}

/// A day under way. [`run`] drives one; an evaluation of an account drives several in step.
pub struct Day<'a> {
    world: &'a World,
    plan: DayPlan,
    arrivals: Arrivals,
    holds: Holds<'a>,
    /// What is kept back near the limit in each hour.
    late_reserve: [f64; HOURS],
    late_by_hour: [f64; HOURS],
    few: Option<Accumulator>,
    /// Where the day begins in the world's series.
    first_minute: usize,
    tick: usize,
    totals: Totals,
    /// S as it truly is; the controller sees it `feedback_lag_seconds` later.
    charged: f64,
    /// S after each tick.
    history: Vec<f64>,
    watch: Watch,
}

impl<'a> Day<'a> {
    /// The morning of day `number` of the world.
    pub fn new(world: &'a World, number: usize, plan: DayPlan) -> Self {
        let few = few::is_few(plan.target, world.mean_charge()).then(Accumulator::default);
        Self {
            arrivals: Arrivals::new(world, number),
            holds: Holds::new(world, plan.ceiling),
            late_reserve: [0.0; HOURS],
            late_by_hour: [0.0; HOURS],
            watch: Watch::new(),
            history: Vec::with_capacity(TICKS),
            totals: Totals {
                feedback_lag_seconds: world.feedback_lag_seconds,
                ..Totals::default()
            },
            few,
            first_minute: number * world::MINUTES_PER_DAY,
            tick: 0,
            charged: 0.0,
            world,
            plan,
        }
    }

    /// Whether midnight has come.
    pub fn is_over(&self) -> bool {
        self.tick >= TICKS
    }

    /// What a controller sees now.
    pub fn view(&self) -> View<'_> {
        View { second: self.second(), plan: &self.plan, totals: &self.totals }
    }

    /// Changes the plan in mid-day, as a change of a budget does.
    pub fn change(&mut self, target: f64, ceiling: f64) {
        let totals = self.totals;
        self.plan.change(self.second(), target, ceiling, &totals);
    }

    /// The plan as it stands.
    pub fn plan(&self) -> &DayPlan {
        &self.plan
    }

    /// Five seconds at a rate.
    pub fn step(&mut self, rate: f64) {
        self.step_within(rate, f64::INFINITY);
    }

    /// Five seconds at a rate, with at most `room` of another level's money. Returns what was
    /// taken out of it: charges for certain ones, expected charges otherwise.
    pub fn step_within(&mut self, rate: f64, room: f64) -> f64 {
        let second = self.second();
        let (charged, late) = self.holds.advance(self.tick, self.plan.ceiling);
        self.charged += charged;
        let hour = (second / HOUR_SECONDS) as usize;
        if let Some(sum) = self.late_by_hour.get_mut(hour) {
            *sum += late;
        }
        let open = self.plan.profile.window().is_open(second);
        let mut taken = 0.0;
        for _ in 0..self.arrivals.count(self.world, self.tick) {
            let (price, coin) = self.arrivals.next(self.world);
            if !open {
                continue;
            }
            let expected = price * self.world.charging.probability;
            self.totals.offered += expected;
            self.totals.opportunities += 1.0;
            self.watch.offered(expected);
            let chosen = match &mut self.few {
                Some(accumulator) => accumulator.admits(rate),
                None => coin < rate,
            };
            if !chosen {
                continue;
            }
            let ceiling = self.plan.ceiling;
            let late = self.late_reserve.get(hour).copied().unwrap_or(0.0);
            let limit = ceiling - inflight::kept_back(self.charged, ceiling, late);
            let fits = self.holds.fits(self.tick, self.charged, price, limit);
            if fits && taken + expected <= room {
                taken += expected;
                self.totals.admitted += expected;
                self.admit(price);
            }
        }
        self.end_tick(rate, second, open);
        taken
    }

    fn admit(&mut self, price: f64) {
        self.watch.admitted();
        if self.holds.certain() {
            self.charged += price;
        } else {
            let charge = self.arrivals.charge(self.world);
            self.holds.admit(self.tick, price, charge);
        }
    }

    fn end_tick(&mut self, rate: f64, second: f64, open: bool) {
        self.history.push(self.charged);
        self.tick += 1;
        let now = self.second();
        let lag = (self.world.feedback_lag_seconds / TICK_SECONDS) as usize;
        let seen = self.history.len().checked_sub(lag + 1).and_then(|at| self.history.get(at));
        self.totals.charged = seen.copied().unwrap_or(0.0);
        (self.totals.in_flight, self.totals.margin) = self.holds.look(self.tick, self.plan.ceiling);
        self.totals.feedback_lag_seconds =
            self.world.feedback_lag_seconds + self.holds.lag_seconds();
        self.totals.expected = self.plan.profile.until(now);
        self.totals.seen_seconds = self.plan.profile.window().open_seconds_until(now);
        let left = self.plan.ceiling - self.charged;
        let money = if left < self.world.least_price() {
            Money::Out
        } else if left < ALL_BUT_OUT * self.plan.ceiling {
            Money::AllButOut
        } else {
            Money::There
        };
        self.watch.tick(second, open, money);
        if self.tick.is_multiple_of(TICKS_PER_MINUTE) {
            let minute = self.tick / TICKS_PER_MINUTE - 1;
            let expected = if open { self.world.expected(self.first_minute + minute) } else { 0.0 };
            self.watch.minute(rate, self.charged, self.plan.due(now), expected);
        }
    }

    /// What the day comes to, charges that come after midnight included.
    pub fn finish(self) -> DayRun {
        let after = self.holds.after_midnight();
        let late = self.holds.late();
        self.watch.finish(&self.plan, self.charged, after, late)
    }

    fn second(&self) -> f64 {
        self.tick as f64 * TICK_SECONDS
    }
}
