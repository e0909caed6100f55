//! Money in flight of a simulated entity, by the rules of production: nothing here decides what an
//! admission counts as or how much margin it needs ([`inflight`]), nor what comes back when
//! ([`StakePool`]). `leases` do the same with a database between.
//!
//! What is simpler than there: all of the limit is one slice, extended when its terms are over, and
//! the leave for an admission is worked out when it is asked for; charges are read back each tick. Of
//! several replicas each keeps a margin for its part of what is in flight; they are taken to be
//! equal, for margins add up to the most then (they are concave).

use super::super::TICK_SECONDS;
use super::super::inflight::{self, Fading, Prices};
use super::super::pool::{Extension, StakePool};
use super::{TICKS, TICKS_PER_MINUTE, World};

const SECOND_MICROS: f64 = 1e6;

/// Charges that come in a tick.
#[derive(Debug, Clone, Copy, Default)]
struct Arrival {
    price: f64,
    /// Of it, what comes after its token is over.
    late: f64,
    /// What the admissions of the others counted as.
    ended_micros: i64,
    count: f64,
    /// How long they took, all together.
    seconds: f64,
}

/// What counts of an admission until its charge comes or its token is over.
#[derive(Debug)]
enum Form {
    /// An admission is its charge.
    AtOnce,
    /// The whole price.
    Whole {
        reserved: f64,
        /// What is never charged in time, by the tick in which it comes back.
        returning: Vec<f64>,
    },
    /// What is expected of it, and all of them a margin.
    Expected {
        pool: StakePool,
        terms_end_tick: usize,
        /// Charged, and ended, as far as it has come.
        charged: f64,
        ended_micros: i64,
        reserved: f64,
    },
}

#[derive(Debug)]
pub(crate) struct Holds<'a> {
    world: &'a World,
    form: Form,
    /// By tick; those that come after midnight are `after`.
    arriving: Vec<Arrival>,
    after: f64,
    late: f64,
    admitted: f64,
    fading: Fading,
    settled_count: f64,
    settled_seconds: f64,
}

impl<'a> Holds<'a> {
    pub(crate) fn new(world: &'a World, limit: f64) -> Self {
        let charging = &world.charging;
        let form = if charging.delay.is_none() && charging.probability >= 1.0 {
            Form::AtOnce
        } else if inflight::by_whole_prices(charging.probability) {
            Form::Whole { reserved: 0.0, returning: vec![0.0; TICKS] }
        } else {
            Form::Expected {
                pool: StakePool::new(&extension(world, 0, limit, world.price)),
                terms_end_tick: ticks(charging.tokens.terms_seconds),
                charged: 0.0,
                ended_micros: 0,
                reserved: 0.0,
            }
        };
        let ticks = if matches!(form, Form::AtOnce) { 0 } else { TICKS };
        Self {
            world,
            form,
            arriving: vec![Arrival::default(); ticks],
            after: 0.0,
            late: 0.0,
            admitted: 0.0,
            fading: Fading::default(),
            settled_count: 0.0,
            settled_seconds: 0.0,
        }
    }

    /// Whether an admission is its charge.
    pub(super) fn certain(&self) -> bool {
        matches!(self.form, Form::AtOnce)
    }

    /// A tick begins: charges arrive, and what nobody ended comes back. Gives what is charged, and
    /// what of it is late.
    pub(crate) fn advance(&mut self, tick: usize, limit: f64) -> (f64, f64) {
        let arrival = self.arriving.get(tick).copied().unwrap_or_default();
        self.settled_count += arrival.count;
        self.settled_seconds += arrival.seconds;
        match &mut self.form {
            Form::AtOnce => {}
            Form::Whole { reserved, returning } => {
                let returned = returning.get(tick).copied().unwrap_or(0.0);
                *reserved -= returned + arrival.price - arrival.late;
            }
            Form::Expected { pool, terms_end_tick, charged, ended_micros, .. } => {
                let over = tick >= *terms_end_tick;
                if over {
                    pool.end_terms(0);
                }
                if over || arrival.price > 0.0 {
                    *charged += arrival.price;
                    *ended_micros += arrival.ended_micros;
                    pool.read_back(*charged as i64, *ended_micros, micros_at(tick));
                }
                if over {
                    pool.extend(&extension(self.world, tick, limit, 0.0));
                    *terms_end_tick = tick + ticks(self.world.charging.tokens.terms_seconds);
                }
            }
        }
        (arrival.price, arrival.late)
    }

    /// Whether the limit bears one more of this price.
    pub(crate) fn fits(&mut self, tick: usize, charged: f64, price: f64, limit: f64) -> bool {
        let room = limit - charged;
        let stake = self.stake(price);
        match &mut self.form {
            Form::AtOnce => price <= room,
            Form::Whole { reserved, .. } => *reserved + price <= room,
            Form::Expected { pool, .. } => {
                if price as i64 > pool.largest_micros() {
                    // Dearer than the terms say: they are made anew.
                    pool.end_terms(0);
                    pool.extend(&extension(self.world, tick, limit, price));
                }
                let live = pool.live_micros(0).saturating_add(stake);
                let prices = pool.prices();
                let sharers = sharers(self.world.replicas, limit, &prices);
                inflight::bears(room / sharers, live as f64 / sharers, &prices)
            }
        }
    }

    /// Admits at a price; the charge comes after `charge` seconds, if it does.
    pub(crate) fn admit(&mut self, tick: usize, price: f64, charge: Option<f64>) {
        let stake = self.stake(price);
        let expected = self.world.charging.probability * price;
        self.admitted += expected;
        let over = self.token_over_tick(tick);
        let came = charge.map(|seconds| (seconds, tick + 1 + ticks(seconds.min(86_400.0))));
        let in_time = came.is_some_and(|(_, at)| at <= over);
        match &mut self.form {
            Form::AtOnce => {}
            Form::Whole { reserved, returning } => {
                *reserved += price;
                let at = over + ticks(self.world.charging.tokens.grace_seconds);
                if let (false, Some(back)) = (in_time, returning.get_mut(at)) {
                    *back += price;
                }
            }
            Form::Expected { pool, .. } => pool.changed(stake),
        }
        let Some((seconds, at)) = came else { return };
        let late = if in_time { 0.0 } else { price };
        self.late += late;
        match self.arriving.get_mut(at) {
            Some(arrival) => {
                arrival.price += price;
                arrival.late += late;
                arrival.ended_micros += if in_time { stake } else { 0 };
                arrival.count += 1.0;
                arrival.seconds += seconds;
            }
            None => self.after += price,
        }
    }

    /// A tick ends: what is in flight by the controller's count, and what is kept back above it. What
    /// the margin comes to is worked out once a minute.
    pub(super) fn look(&mut self, tick: usize, limit: f64) -> (f64, f64) {
        let lag = self.lag_seconds();
        let reserved = match &mut self.form {
            Form::AtOnce => return (0.0, 0.0),
            Form::Whole { reserved, .. } => *reserved,
            Form::Expected { pool, reserved, .. } => {
                if tick.is_multiple_of(TICKS_PER_MINUTE) {
                    let prices = pool.prices();
                    let sharers = sharers(self.world.replicas, limit, &prices);
                    let live = pool.live_micros(0) as f64 / sharers;
                    *reserved = inflight::needed(live, &prices) * sharers;
                }
                *reserved
            }
        };
        self.fading.step(TICK_SECONDS, self.admitted, lag);
        let in_flight = self.fading.micros().min(reserved);
        let certain = self.world.charging.probability >= 1.0;
        (in_flight, if certain { 0.0 } else { reserved - in_flight })
    }

    /// How long charges took today, on average.
    pub(super) fn lag_seconds(&self) -> f64 {
        self.settled_seconds / self.settled_count.max(1.0)
    }

    /// Charged after midnight to the day.
    pub(super) fn after_midnight(&self) -> f64 {
        self.after
    }

    /// Charged after the token was over.
    pub(super) fn late(&self) -> f64 {
        self.late
    }

    /// How much more expectation the limit bears.
    #[cfg(test)]
    pub(crate) fn leave(&self, charged: i64, limit: i64) -> i64 {
        let Form::Expected { pool, .. } = &self.form else { return 0 };
        let borne = inflight::most_expected((limit - charged) as f64, &pool.prices());
        borne as i64 - pool.live_micros(0)
    }

    /// What an admission of this price counts as.
    fn stake(&self, price: f64) -> i64 {
        let charging = &self.world.charging;
        let stated = charging.probability * charging.overstated;
        inflight::at_stake(price as i64, price * stated.min(1.0), 1.0)
    }

    /// When the token of an admission of this tick is over: all tokens of the same terms are at once.
    fn token_over_tick(&self, tick: usize) -> usize {
        let tokens = &self.world.charging.tokens;
        let terms_end = match self.form {
            Form::AtOnce => tick,
            Form::Whole { .. } => tick + ticks(tokens.terms_seconds),
            Form::Expected { terms_end_tick, .. } => terms_end_tick,
        };
        terms_end + ticks(tokens.lifetime_seconds)
    }
}

/// Terms from this tick on, with at least this price.
fn extension(world: &World, tick: usize, limit: f64, price: f64) -> Extension {
    let tokens = &world.charging.tokens;
    let after = tokens.terms_seconds + tokens.lifetime_seconds + tokens.grace_seconds;
    Extension {
        amount_micros: limit as i64,
        usual_micros: world.price as i64,
        dearest_micros: (price > 0.0).then_some(price as i64),
        forget_at_micros: micros_at(tick) + (after * SECOND_MICROS) as i64,
        is_conversion: false,
    }
}

/// How many replicas admit at the same time: no more than each has room for an admission with its
/// margin and as much again, for a smaller budget stays with fewer.
fn sharers(replicas: u32, limit: f64, prices: &Prices) -> f64 {
    (limit / (2.0 * prices.largest)).floor().clamp(1.0, f64::from(replicas.max(1)))
}

fn ticks(seconds: f64) -> usize {
    (seconds / TICK_SECONDS) as usize
}

fn micros_at(tick: usize) -> i64 {
    (tick as f64 * TICK_SECONDS * SECOND_MICROS) as i64
}
