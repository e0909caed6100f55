//! The account over two campaigns (section 4): limits of 500 and 3 000 under one of 1 000.
//!
//! Each campaign and the account have a production pacer; the account's becomes a pass-through ceiling
//! over both by the production rule. One day of a record, every demand mix of the rule's example.

use adspend_common::time::Day;
use adspend_pacing::controller::{
    curve::{Mode, Profile},
    hierarchy::{Share, ceiling},
    rate::{Base, DayPlan, Pacer, Totals},
};

use super::{
    contest::{Size, in_parallel},
    metrics::mean,
    rivals::{DAY, TICK},
    scenario::{Budget, Scenario},
    series::Series,
    trial::{PRICE, Trial, TrialDay},
};

/// Limits of the two campaigns and of the account, in money.
const LIMITS: [f64; 3] = [500.0, 3_000.0, 1_000.0];
/// Micro-units of one unit of money.
const MONEY: f64 = 1e6;
/// Opportunities of a campaign: at least so many, and more where one would cost above a unit of money.
const OPPORTUNITIES: f64 = 20_000.0;

/// Demand of both campaigns, and what each should spend.
pub(crate) const MIXES: [([f64; 2], [f64; 2]); 4] = [
    ([10_000.0, 10_000.0], [500.0, 500.0]),
    ([1_000.0, 10_000.0], [90.9, 909.1]),
    ([600.0, 600.0], [500.0, 500.0]),
    ([1_000_000.0, 2_000.0], [500.0, 500.0]),
];

/// One mix over all runs.
#[derive(Debug, Clone)]
pub(crate) struct MixResults {
    pub(crate) demand: [f64; 2],
    pub(crate) expected: [f64; 2],
    /// Mean spend of both campaigns, in money.
    pub(crate) spent: [f64; 2],
    /// Share of days on which the sum is within one in a hundred of what the limits and the day's real
    /// demand allow.
    pub(crate) within: f64,
}

/// One level with its pacer.
struct Level {
    pacer: Pacer,
    plan: DayPlan,
    spent: f64,
    offered: f64,
    opportunities: f64,
    rate: f64,
}

impl Level {
    fn new(day: Day, limit: f64, profile: Profile) -> Self {
        let (target, ceiling) = (limit, limit);
        let plan = DayPlan {
            day,
            target,
            ceiling,
            profile,
            mode: Mode::Traffic,
            level_known: true,
            charge: 0.0,
            base: Base::default(),
        };
        let pacer = Pacer::new();
        Self { pacer, plan, spent: 0.0, offered: 0.0, opportunities: 0.0, rate: 0.0 }
    }

    /// The rate, the demand of the horizon and what may be spent in it.
    fn tick(&mut self, now: f64) -> (f64, f64, f64) {
        let totals = Totals {
            charged: self.spent,
            in_flight: 0.0,
            admitted: self.spent,
            margin: 0.0,
            offered: self.offered,
            expected: self.plan.profile.until(now),
            opportunities: self.opportunities,
            seen_seconds: now,
            age_seconds: 0.0,
            feedback_lag_seconds: 0.0,
        };
        let reading = self.pacer.tick(now, &self.plan, &totals);
        self.rate = reading.rate;
        (reading.rate, reading.demand_ahead, reading.budget_ahead)
    }

    fn offer(&mut self, price: f64) {
        self.offered += price;
        self.opportunities += 1.0;
    }
}

/// All mixes over the records' middle weeks.
pub(crate) fn run(calm: &Scenario, series: &[Series], size: Size) -> Vec<MixResults> {
    let mut items = Vec::new();
    for series in series {
        for first in series.some_weeks(1) {
            items.extend((1..=size.seeds).map(|seed| (series, first, seed)));
        }
    }
    let of_mix = |(demand, expected): ([f64; 2], [f64; 2])| {
        let lived = in_parallel(&items, |(series, first, seed)| {
            let day = |index: usize| {
                let scenario = Scenario {
                    opportunities_per_day: demand[index].max(OPPORTUNITIES),
                    budget: Budget::Usual(1.0),
                    days: 1,
                    ..calm.clone()
                };
                Trial::draw(&scenario, series, *first, 2 * seed + index as u64).days
            };
            match (day(0).first(), day(1).first()) {
                (Some(one), Some(other)) => live([one, other], demand),
                _ => ([0.0; 2], 1.0),
            }
        });
        let near = |(spent, reach): &([f64; 2], f64)| {
            f64::from(((spent[0] + spent[1]) / reach - 1.0).abs() <= 0.01)
        };
        MixResults {
            demand,
            expected,
            spent: [0, 1].map(|one: usize| mean(lived.iter().map(|day| day.0[one]))),
            within: mean(lived.iter().map(near)),
        }
    };
    MIXES.into_iter().map(of_mix).collect()
}

/// Both campaigns through a day. Gives what each spent and what both could have, in money.
fn live(days: [&TrialDay; 2], demand: [f64; 2]) -> ([f64; 2], f64) {
    let [first, second] = days;
    let factors = demand.map(|demand| demand * MONEY / (demand.max(OPPORTUNITIES) * PRICE));
    let profile = |day: &TrialDay, factor: f64| {
        let slots = std::array::from_fn(|slot| {
            let start = slot as f64 * 900.0;
            factor * day.facts.profile.between(start, start + 900.0)
        });
        Profile::new(&slots, day.facts.profile.window())
    };
    let profiles = [profile(first, factors[0]), profile(second, factors[1])];
    let whole = Profile::sum(&profiles);
    let [one, two] = profiles;
    let day = first.facts.day;
    let limit = |index: usize| LIMITS[index] * MONEY;
    let mut levels = [Level::new(day, limit(0), one), Level::new(day, limit(1), two)];
    let mut account = Level::new(day, limit(2), whole);
    let mut coming = days.map(|day| day.opportunities.iter().peekable());
    let mut now = 0.0;
    while now < DAY {
        let (rate_a, ahead_a, _) = levels[0].tick(now);
        let (rate_b, ahead_b, _) = levels[1].tick(now);
        let (rate, _, budget) = account.tick(now);
        // Only a campaign that can still spend belongs in the sum.
        let share = |rate, demand| Share { rate, demand, weight: 1.0 };
        let mut shares = vec![share(rate_a, ahead_a), share(rate_b, ahead_b)];
        shares.retain(|share| share.rate > 0.0);
        let most = if rate <= 0.0 { 0.0 } else { ceiling(&mut shares, budget) };
        for ((level, coming), factor) in levels.iter_mut().zip(&mut coming).zip(factors) {
            while let Some(one) = coming.next_if(|one| one.at < now + TICK) {
                let price = one.price as f64 * factor;
                level.offer(price);
                account.offer(price);
                let fits = level.spent + price <= level.plan.ceiling
                    && account.spent + price <= account.plan.ceiling;
                if one.coin < level.rate.min(most) && fits {
                    level.spent += price;
                    account.spent += price;
                }
            }
        }
        now += TICK;
    }
    let reach =
        |index: usize| (days[index].demand() as f64 * factors[index] / MONEY).min(LIMITS[index]);
    let reach = (reach(0) + reach(1)).min(LIMITS[2]);
    ([levels[0].spent / MONEY, levels[1].spent / MONEY], reach)
}
