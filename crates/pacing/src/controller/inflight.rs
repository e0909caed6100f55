//! Money in flight: what admitted opportunities may still cost (section 5).
//!
//! An admitted impression that is paid per click costs c later with probability π. Over the live
//! holds μ = Σ π·c is expected, V = Σ π·(1 − π)·c² is its variance, b = the largest c. Admission
//! goes on only while S + μ + x ≤ H, where charges exceed μ + x with a probability of at most ε.
//!
//! x is the smallest of four bounds, each of which holds by itself:
//! * Bernstein: x = a + √(a² + 2·V·L), a = b·L/3, L = ln(1/ε);
//! * Bennett: the same inequality before its last estimate, (V/b²)·h(b·x/V) = L with
//!   h(u) = (1 + u)·ln(1 + u) − u, which is less where many small chances are open;
//! * the count: with Σ π = m chances, more than k charges come with a probability of at most
//!   P(Poisson(m) > k) (Hoeffding, k ≥ m), so x = k·b − μ for the smallest k that is rare enough;
//! * all of them: Σ c − μ. One open hold cannot cost more than itself.
//!
//! Of a slice only μ and its prices are known ([`needed`]): V ≤ μ·b, and charges with these bounds
//! are less spread than holds of price b and mean μ (convex order), so Bernstein's and Bennett's
//! bounds stand; the count takes the usual price for the price of each.
//!
//! Where an admission costs its price for certain (impressions, clicks), π = 1, V = 0 and x = 0.
//! Where it is charged more often than not, μ + x would keep back more than the whole price, so the
//! whole price is counted until the charge comes or the token is over ([`by_whole_prices`]).
//!
//! These are the rules of `leases` and of [`super::simulate`]: both keep what is in flight in a
//! [`super::pool`].

/// How often the margin may be too small.
pub const EPSILON: f64 = 1e-3;
/// The same for the count, which is exact where the others are not: near the limit it is asked anew
/// every few minutes, some thirty times a day.
const EPSILON_COUNTED: f64 = 3e-4;
/// The share of the limit from which the late reserve is kept back.
const LATE_FROM: f64 = 0.9;
/// Days that the late reserve remembers.
const LATE_DAYS: usize = 28;
const LATE_QUANTILE: f64 = 0.99;
/// Hours of a day.
pub const HOURS: usize = 24;
const NEWTON_STEPS: usize = 8;
/// Halvings of an amount: a slice of a thousand units to a thousandth.
const ROOM_STEPS: usize = 32;
/// The count's bound is tried up to so many chances; above, Bennett's is as good.
const CHANCES_COUNTED: f64 = 20.0;
/// P(Poisson(20) > 45) is below [`EPSILON_COUNTED`].
const CHARGES_COUNTED: usize = 45;

/// From this chance of a charge on, whole prices are counted.
const MOSTLY_CHARGED: f64 = 0.5;
/// No chance is taken to be smaller: whoever says 0 is charged all the same now and then.
const SMALLEST_CHANCE_PPM: i64 = 100;

/// Whether admissions with this chance of a charge, 0..=1, count with their whole prices: where most
/// of them are charged, an expectation and its margin would keep back more.
pub fn by_whole_prices(chance: f64) -> bool {
    chance >= MOSTLY_CHARGED
}

/// What an admission of this price counts as while its charge is open, micro-units: what is expected
/// of it, times `caution` (κ where that is above 1), within a ten-thousandth of the price and the
/// price.
pub fn at_stake(price_micros: i64, expected: f64, caution: f64) -> i64 {
    // Rounded up: an expectation that is a little high keeps a little more back.
    let expected = (expected * caution).ceil() as i64;
    let least = (price_micros / 1_000_000).saturating_mul(SMALLEST_CHANCE_PPM).max(1);
    expected.max(least).min(price_micros)
}

/// The live holds of an entity, in sums.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Live {
    /// μ = Σ π·c.
    pub expected: f64,
    /// V = Σ π·(1 − π)·c².
    pub variance: f64,
    /// The largest c.
    pub largest: f64,
    /// m = Σ π: how many charges are expected.
    pub chances: f64,
    /// Σ c: what they cost if all of them do.
    pub reserved: f64,
}

/// x: what is kept back above the expected charge.
pub fn margin(live: &Live) -> f64 {
    let all = (live.reserved - live.expected).max(0.0);
    if live.variance <= 0.0 || live.largest <= 0.0 {
        return 0.0;
    }
    let counted = (counted(live.chances) * live.largest - live.expected).max(0.0);
    bennett(live.variance, live.largest).min(counted).min(all)
}

/// The prices of live holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// b: no hold costs more. 0 where none is charged while it lives, so that there is no luck.
    pub largest: f64,
    /// What they cost on average.
    pub usual: f64,
}

/// μ + x: what must be there for charges of which so much is expected. Never falls as μ grows.
pub fn needed(expected: f64, prices: &Prices) -> f64 {
    if expected <= 0.0 {
        return 0.0;
    }
    let Prices { largest, usual } = *prices;
    if largest <= 0.0 {
        return expected;
    }
    let live = Live {
        expected,
        variance: expected * largest,
        largest,
        chances: expected / usual.min(largest).max(1.0),
        reserved: f64::INFINITY,
    };
    expected + margin(&live)
}

/// Whether so much room bears charges of which so much is expected: [`needed`] ≤ `room`, at the
/// price of a square root where there is plenty.
pub fn bears(room: f64, expected: f64, prices: &Prices) -> bool {
    // Bernstein's margin is quick and never below the one that counts.
    let plenty = expected + bernstein(expected * prices.largest, prices.largest) <= room;
    plenty || needed(expected, prices) <= room
}

/// The most that may be expected where so much is there: the inverse of [`needed`], from below.
pub fn most_expected(room: f64, prices: &Prices) -> f64 {
    let (mut low, mut high) = (0.0, room.max(0.0));
    for _ in 0..ROOM_STEPS {
        let middle = (low + high) / 2.0;
        if needed(middle, prices) <= room {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// The smallest k with P(Poisson(m) > k) ≤ ε; infinite where it is not worth counting.
fn counted(chances: f64) -> f64 {
    if chances > CHANCES_COUNTED {
        return f64::INFINITY;
    }
    let mut term = (-chances).exp();
    let mut above = 1.0 - term;
    for k in 0..CHARGES_COUNTED {
        if above <= EPSILON_COUNTED {
            return k as f64;
        }
        term *= chances / (k + 1) as f64;
        above -= term;
    }
    f64::INFINITY
}

/// Bernstein's bound, the formula of the design: the start for Bennett's, and never below it.
pub fn bernstein(variance: f64, largest: f64) -> f64 {
    let l = -EPSILON.ln();
    let a = largest * l / 3.0;
    a + (a * a + 2.0 * variance * l).sqrt()
}

/// Bennett's bound by Newton's method from Bernstein's. h is convex and rising, so the steps come
/// down from above and never pass the root: every one of them is a valid bound.
fn bennett(variance: f64, largest: f64) -> f64 {
    let level = -EPSILON.ln() * largest * largest / variance;
    let mut u = bernstein(variance, largest) * largest / variance;
    for _ in 0..NEWTON_STEPS {
        let log = u.ln_1p();
        let excess = (1.0 + u) * log - u - level;
        if log <= 0.0 || excess <= 0.0 {
            break;
        }
        u -= excess / log;
    }
    u * variance / largest
}

/// Expected charges of what was admitted and is not charged yet, as the controller counts them: an
/// admission's expectation fades with the time that charges take on average.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Fading {
    micros: f64,
    admitted_micros: f64,
}

impl Fading {
    /// A day begins, or is looked at for the first time: what was admitted before is not known.
    pub fn begin(&mut self, admitted_micros: f64) {
        *self = Fading { micros: 0.0, admitted_micros };
    }

    /// So many seconds have passed; `admitted_micros` is the day's sum, `lag_seconds` how long its
    /// charges took on average.
    pub fn step(&mut self, seconds: f64, admitted_micros: f64, lag_seconds: f64) {
        let more = (admitted_micros - self.admitted_micros).max(0.0);
        self.micros = (self.micros + more) * (-seconds / lag_seconds.max(0.1)).exp();
        self.admitted_micros = admitted_micros;
    }

    /// What is in flight.
    pub fn micros(&self) -> f64 {
        self.micros
    }
}

/// Late charges by hour of the day, for what to keep back near the limit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LateReserve {
    /// What came late in each hour, newest day first.
    days: Vec<[f64; HOURS]>,
}

impl LateReserve {
    /// Adds a closed day; the 29th day is forgotten.
    pub fn push(&mut self, late_by_hour: [f64; HOURS]) {
        self.days.insert(0, late_by_hour);
        self.days.truncate(LATE_DAYS);
    }

    /// The 99th percentile of the hour's late charges, nearest rank; 0 when nothing is known.
    pub fn quantile(&self, hour: usize) -> f64 {
        let mut late: Vec<f64> =
            self.days.iter().filter_map(|day| day.get(hour).copied()).collect();
        late.sort_unstable_by(f64::total_cmp);
        let rank = (LATE_QUANTILE * late.len() as f64).ceil() as usize;
        late.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

/// What is kept back of a limit for charges that may still come late: nothing until [`LATE_FROM`] of
/// the limit is charged.
pub fn kept_back(charged: f64, limit: f64, late: f64) -> f64 {
    if charged > LATE_FROM * limit { late } else { 0.0 }
}
