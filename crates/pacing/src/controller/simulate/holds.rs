//! Live holds of a simulated entity, in sums: what they are expected to cost, and their margin.
//!
//! The delay is a mixture of two exponentials, so what is left to be expected of all holds decays
//! as two sums do, and nothing is kept per hold.

use super::super::TICK_SECONDS;
use super::super::inflight::{self, Live};
use super::{TICKS, World};

/// A hold's life in parts, for the dearest of the live ones.
const LARGEST_PARTS: usize = 6;

#[derive(Debug)]
pub(super) struct Holds {
    probability: f64,
    certain: bool,
    /// The most that one may cost.
    dearest: f64,
    /// The dearest price of each sixth of a hold's life, newest first.
    largest: [f64; LARGEST_PARTS + 1],
    /// Per tick, what is left of the ordinary and of the long sum.
    keep: [f64; 2],
    share: [f64; 2],
    /// Σ π·c and Σ π·c² (for π small, V), each in its two sums.
    expected: [f64; 2],
    squares: [f64; 2],
    /// Σ π, likewise.
    chances: [f64; 2],
    /// Charges by the tick in which they arrive, and those after midnight.
    arriving: Vec<f64>,
    after: f64,
    late: f64,
    hold_seconds: f64,
    /// Full prices of live holds, by tick, until they expire.
    reserved_by_tick: Vec<f64>,
    reserved: f64,
    /// Admitted and neither charged nor given up: exact where every admission is charged.
    outstanding: f64,
    /// The margin of what is live and one more, as of the last change.
    margin: f64,
}

impl Holds {
    pub(super) fn new(world: &World) -> Self {
        let charging = world.charging;
        let (keep, share) = charging.delay.map_or(([0.0; 2], [1.0, 0.0]), |delay| {
            let left = |mean: f64| (-TICK_SECONDS / mean).exp();
            let ordinary = left(delay.median_seconds / std::f64::consts::LN_2);
            ([ordinary, left(delay.tail_seconds)], [1.0 - delay.tail_share, delay.tail_share])
        });
        let certain = charging.delay.is_none() && charging.probability >= 1.0;
        let ticks = if certain { 0 } else { TICKS };
        let mut holds = Self {
            probability: charging.probability,
            certain,
            dearest: world.most_price(),
            largest: [0.0; LARGEST_PARTS + 1],
            keep,
            share,
            expected: [0.0; 2],
            squares: [0.0; 2],
            chances: [0.0; 2],
            arriving: vec![0.0; ticks],
            after: 0.0,
            late: 0.0,
            hold_seconds: charging.hold_seconds,
            reserved_by_tick: vec![0.0; ticks],
            reserved: 0.0,
            outstanding: 0.0,
            margin: 0.0,
        };
        holds.measure();
        holds
    }

    /// Whether an admission is its charge.
    pub(super) fn certain(&self) -> bool {
        self.certain
    }

    /// A tick begins: holds age, the oldest expire. Returns the charges that arrive.
    pub(super) fn advance(&mut self, tick: usize) -> f64 {
        if self.certain {
            return 0.0;
        }
        for sums in [&mut self.expected, &mut self.squares, &mut self.chances] {
            for (sum, keep) in sums.iter_mut().zip(self.keep) {
                *sum *= keep;
            }
        }
        let hold = (self.hold_seconds / TICK_SECONDS) as usize;
        if tick.is_multiple_of((hold / LARGEST_PARTS).max(1)) {
            self.largest.rotate_right(1);
            if let Some(newest) = self.largest.first_mut() {
                *newest = 0.0;
            }
        }
        let expired = tick.checked_sub(hold).and_then(|tick| self.reserved_by_tick.get(tick));
        self.reserved = (self.reserved - expired.copied().unwrap_or(0.0)).max(0.0);
        self.measure();
        let arrived = self.arriving.get(tick).copied().unwrap_or(0.0);
        self.outstanding -= arrived;
        arrived
    }

    /// Whether S + μ + x stays within the limit with one more of this price.
    pub(super) fn fits(&self, charged: f64, price: f64, limit: f64) -> bool {
        if self.certain {
            return charged + price <= limit;
        }
        let live = self.live_with(price);
        // Near the limit the tighter bound, which costs more.
        charged + live.expected + self.margin <= limit
            || charged + live.expected + inflight::margin(&live) <= limit
    }

    pub(super) fn admit(&mut self, tick: usize, price: f64, charge: Option<f64>) {
        let mean = self.probability * price;
        for (sums, value) in [
            (&mut self.expected, mean),
            (&mut self.squares, mean * price),
            (&mut self.chances, self.probability),
        ] {
            for (sum, share) in sums.iter_mut().zip(self.share) {
                *sum += value * share;
            }
        }
        self.reserved += price;
        if let Some(newest) = self.largest.first_mut() {
            *newest = newest.max(price);
        }
        if let Some(reserved) = self.reserved_by_tick.get_mut(tick) {
            *reserved += price;
        }
        let Some(delay) = charge else { return };
        self.outstanding += price;
        if delay > self.hold_seconds {
            self.late += price;
        }
        let ticks = (delay / TICK_SECONDS).min(TICKS as f64) as usize;
        match self.arriving.get_mut(tick + 1 + ticks) {
            Some(arriving) => *arriving += price,
            None => self.after += price,
        }
    }

    pub(super) fn expected(&self) -> f64 {
        if self.probability >= 1.0 { self.outstanding } else { self.aged() }
    }

    /// x with one more, by the quick bound.
    pub(super) fn margin(&self) -> f64 {
        self.margin
    }

    /// Charged after midnight to the day.
    pub(super) fn after_midnight(&self) -> f64 {
        self.after
    }

    /// Charged after the hold had expired.
    pub(super) fn late(&self) -> f64 {
        self.late
    }

    fn live_with(&self, price: f64) -> Live {
        let expected = self.expected() + self.probability * price;
        let squares = self.squares.iter().sum::<f64>() + self.probability * price * price;
        Live {
            expected,
            variance: squares * (1.0 - self.probability),
            largest: self.largest.iter().fold(price, |most, part| most.max(*part)),
            chances: (self.chances.iter().sum::<f64>() + self.probability),
            reserved: self.reserved + price,
        }
    }

    fn aged(&self) -> f64 {
        self.expected.iter().sum()
    }

    /// Bernstein's margin is quick and never below the one that counts.
    fn measure(&mut self) {
        let live = self.live_with(self.dearest);
        self.margin = if live.variance > 0.0 {
            inflight::bernstein(live.variance, live.largest)
        } else {
            0.0
        };
    }
}
