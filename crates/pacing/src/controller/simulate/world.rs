//! What comes: arrivals, prices, and whether and when they are charged.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::TICKS_PER_MINUTE;

pub(super) const MINUTES_PER_DAY: usize = 1_440;
/// From this mean on a Poisson count is drawn as a rounded normal one.
const NORMAL_FROM: f64 = 30.0;

/// How long a charge takes after the admission: mostly an exponential with a median, for a share
/// another with a mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delay {
    /// Median of the ordinary delay, seconds.
    pub median_seconds: f64,
    /// The share that takes long, 0..=1.
    pub tail_share: f64,
    /// Mean of the long delay, seconds.
    pub tail_seconds: f64,
}

/// How an admission becomes a charge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Charging {
    /// π: the share of admissions that are charged. 1 with no delay is a charge at once.
    pub probability: f64,
    /// How long it takes; `None` is at once, and then `probability` is 1 for the limit.
    pub delay: Option<Delay>,
    /// How long what an admission may cost is kept.
    pub tokens: Tokens,
    /// The chance that callers state, in multiples of the true one; at least 1, for production raises
    /// what is too low by κ.
    pub overstated: f64,
}

/// How long admissions last (the settings of `leases`), seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tokens {
    /// How long the same terms hold; admissions under them expire together.
    pub terms_seconds: f64,
    /// How long after its terms a token lasts: a charge that comes later is late.
    pub lifetime_seconds: f64,
    /// How much later what nobody ended comes back.
    pub grace_seconds: f64,
}

impl Tokens {
    /// The defaults of production.
    pub const USUAL: Self =
        Self { terms_seconds: 10.0, lifetime_seconds: 600.0, grace_seconds: 30.0 };
}

impl Charging {
    /// Impressions, or clicks admitted as clicks: charged at once.
    pub const AT_ONCE: Self =
        Self { probability: 1.0, delay: None, tokens: Tokens::USUAL, overstated: 1.0 };

    /// Impressions that are paid per click with probability `probability`: median 60 s, 3 % around
    /// half an hour.
    pub const fn clicks(probability: f64) -> Self {
        let delay = Delay { median_seconds: 60.0, tail_share: 0.03, tail_seconds: 1_800.0 };
        Self { probability, delay: Some(delay), tokens: Tokens::USUAL, overstated: 1.0 }
    }
}

/// A world of one entity.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// Expected opportunities of each minute, day after day; a started day is not run.
    pub opportunities: Vec<f64>,
    /// Mean price of what may be charged, micro-units.
    pub price: f64,
    /// Prices are even within price·(1 ± spread), 0..1.
    pub price_spread: f64,
    /// How an admission becomes a charge.
    pub charging: Charging,
    /// How long a charge takes to be seen by the controller, seconds.
    pub feedback_lag_seconds: f64,
    /// Among how many replicas admissions are spread; 0 counts as 1.
    pub replicas: u32,
    /// The same seed gives the same world.
    pub seed: u64,
}

impl World {
    /// Whole days of the series.
    pub fn days(&self) -> usize {
        self.opportunities.len() / MINUTES_PER_DAY
    }

    /// The least that a charge may be.
    pub fn least_price(&self) -> f64 {
        self.price * (1.0 - self.price_spread)
    }

    /// The most that a charge may be.
    pub fn most_price(&self) -> f64 {
        self.price * (1.0 + self.price_spread)
    }

    /// What one charge is on average.
    pub fn mean_charge(&self) -> f64 {
        self.price
    }

    /// Expected cost of a minute at rate 1, by its number from the first day's midnight.
    pub fn expected(&self, minute: usize) -> f64 {
        let opportunities = self.opportunities.get(minute).copied().unwrap_or(0.0);
        opportunities * self.price * self.charging.probability
    }
}

/// A day's opportunities. Arrivals and prices have their own random numbers, and each opportunity
/// takes as many whatever becomes of it: the same for every controller.
#[derive(Debug)]
pub(super) struct Arrivals {
    offers: StdRng,
    charges: StdRng,
    first_minute: usize,
    /// Expected in a tick of the running minute, and e to the power of its negative.
    mean: f64,
    none: f64,
}

impl Arrivals {
    pub(super) fn new(world: &World, day: usize) -> Self {
        let seed = world.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(day as u64);
        Self {
            offers: StdRng::seed_from_u64(seed),
            charges: StdRng::seed_from_u64(!seed),
            first_minute: day * MINUTES_PER_DAY,
            mean: 0.0,
            none: 1.0,
        }
    }

    /// How many come in a tick.
    pub(super) fn count(&mut self, world: &World, tick: usize) -> u32 {
        if tick.is_multiple_of(TICKS_PER_MINUTE) {
            let minute = self.first_minute + tick / TICKS_PER_MINUTE;
            let mean = world.opportunities.get(minute).copied().unwrap_or(0.0);
            self.mean = (mean / TICKS_PER_MINUTE as f64).max(0.0);
            self.none = (-self.mean).exp();
        }
        poisson(&mut self.offers, self.mean, self.none)
    }

    /// The next one's price and coin.
    pub(super) fn next(&mut self, world: &World) -> (f64, f64) {
        let spread = world.price_spread * (2.0 * self.offers.random::<f64>() - 1.0);
        (world.price * (1.0 + spread), self.offers.random())
    }

    /// The delay of an admission's charge in seconds, if it is charged at all.
    pub(super) fn charge(&mut self, world: &World) -> Option<f64> {
        let Charging { probability, delay, tokens: _, overstated: _ } = world.charging;
        if self.charges.random::<f64>() >= probability {
            return None;
        }
        let Some(delay) = delay else { return Some(0.0) };
        let mean = if self.charges.random::<f64>() < delay.tail_share {
            delay.tail_seconds
        } else {
            delay.median_seconds / std::f64::consts::LN_2
        };
        Some(-mean * (1.0 - self.charges.random::<f64>()).ln())
    }
}

/// A Poisson count of this mean; `none` is e^−mean.
fn poisson(random: &mut StdRng, mean: f64, none: f64) -> u32 {
    if mean > NORMAL_FROM {
        // The sum of twelve even numbers less six is normal enough.
        let normal: f64 = (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
        return (mean + mean.sqrt() * normal).round().max(0.0) as u32;
    }
    let (mut product, mut count) = (random.random::<f64>(), 0);
    while product > none {
        product *= random.random::<f64>();
        count += 1;
    }
    count
}
