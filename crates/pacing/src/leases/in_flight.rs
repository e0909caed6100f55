//! The memory of expected slices: what [`Memory`] does with the [`StakePool`]s of its slices.
//!
//! Such a slice is not closed when its time is over or nobody asks: it *rests*, open in the books,
//! smaller, with no leave to admit. Demand that comes back extends it; else it is resolved like any
//! other when its last token is over. So what is in flight of a campaign that is asked for once a
//! minute is in one pool, too.

use super::grant::Form;
use super::owner::{Memory, Owned, Seat, to_micros};
use super::rules::Need;
use super::store::{Reading, SliceKey};
use crate::admission::slice::Terms;
use crate::admission::{Entity, Unmet};
use crate::controller::inflight::Prices;
use crate::controller::pool::{self, Extension, StakePool};

use std::sync::Arc;

use adspend_common::time::Day;

/// Leave for so many times the spend of a slice is kept when a slice is made smaller.
const KEEPS_SPENDS: i64 = 4;

/// What a granted slice is installed with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Granted<'a> {
    pub(super) key: SliceKey,
    /// Its terms as if it were taken from by whole prices.
    pub(super) terms: &'a Terms,
    pub(super) form: Form,
    /// What the books say of a slice that was extended.
    pub(super) extended: Option<Reading>,
    /// The clock when it was asked for.
    pub(super) now_micros: i64,
    /// When its tokens are over, the grace included.
    pub(super) forget_at_micros: i64,
}

/// What a new slice needs for one admission, and for so much spend.
pub(super) fn first_need(seat: &Seat, unmet: &Unmet, spend_micros: i64) -> Need {
    let usual = seat.usual_price().unwrap_or(unmet.most_micros);
    let largest = if seat.entity.converts() { 0 } else { unmet.most_micros.max(usual) };
    let prices = Prices { largest: largest as f64, usual: usual as f64 };
    let needed = |expected: i64| pool::needed(expected, &prices).max(1);
    Need {
        least_micros: needed(unmet.least_expected_micros),
        most_micros: needed(unmet.most_expected_micros),
        spend_micros: needed(spend_micros),
    }
}

impl Owned {
    /// What it lacks for one admission more, and for so much spend. Not below zero: what it has too
    /// much is given up when it is worth it.
    pub(super) fn need(&self, unmet: &Unmet, spend_micros: i64) -> Need {
        let Some(pool) = &self.pool else {
            return Need { least_micros: 0, most_micros: 0, spend_micros: 0 };
        };
        let left = self.left();
        let missing = |expected| pool.missing_micros(left, expected, unmet.most_micros).max(0);
        Need {
            least_micros: missing(unmet.least_expected_micros),
            most_micros: missing(unmet.most_expected_micros),
            spend_micros: missing(spend_micros),
        }
    }

    fn left(&self) -> i64 {
        if self.rests { 0 } else { self.entity.left().unwrap_or(0) }
    }

    /// Reads the books of an expected slice, and gives or takes leave accordingly.
    pub(super) fn read_back(&mut self, reading: &Reading, at_micros: i64) {
        let left = self.left();
        let Some(pool) = &mut self.pool else { return };
        pool.read_back(reading.charged_micros, reading.ended_micros, at_micros);
        if self.rests {
            return;
        }
        let change = pool.change_of_leave(left);
        let changed = if change >= 0 {
            self.entity.credit(change);
            change
        } else {
            -self.entity.debit(change.saturating_neg())
        };
        pool.changed(changed);
        // Given back is not unused.
        self.seen_left = self.seen_left.saturating_add(changed);
    }

    /// Whether it is an expected one whose tokens are all over.
    pub(super) fn is_forgotten(&self, now_micros: i64) -> bool {
        self.rests && self.pool.as_ref().is_some_and(|pool| pool.is_over(now_micros))
    }
}

impl Memory {
    /// The expected slice of a campaign that can be extended.
    pub(super) fn in_hand(&self, seat: (i64, i64), day: Day) -> Option<&Owned> {
        let slice_no = self.seats.get(&seat)?.current?;
        let owned = self.owned.get(&(seat.0, slice_no))?;
        (owned.pool.is_some() && owned.key.day == day).then_some(owned)
    }

    /// Opens what was granted: a new slice, or the one in hand on its new terms.
    pub(super) fn open(&mut self, entity: &Arc<Entity>, granted: &Granted<'_>) {
        let Granted { key, terms, form, extended, now_micros, forget_at_micros } = *granted;
        if form == Form::Whole {
            self.install(key, entity, terms, now_micros);
            return;
        }
        let Some(seat) = self.seats.get(&(key.account_no, key.campaign_no)) else { return };
        let mut extension = Extension {
            amount_micros: terms.amount_micros,
            usual_micros: seat.usual_price().unwrap_or(1),
            dearest_micros: seat.unmet.map(|unmet| unmet.most_micros),
            forget_at_micros,
            is_conversion: entity.converts(),
        };
        let in_hand = self.owned.get_mut(&(key.account_no, key.slice_no));
        let pool = in_hand.and_then(|owned| owned.pool.take());
        let mut pool = match (pool, extended) {
            (Some(mut pool), Some(reading)) => {
                // From here on nothing is taken, so what is left is final. Whoever asks in between
                // is told to wait, and finds the slice open when it looks again.
                pool.end_terms(entity.close().unwrap_or(0));
                let at_micros = now_micros;
                pool.read_back(reading.charged_micros, reading.ended_micros, at_micros);
                extension.amount_micros = reading.amount_micros.saturating_add(terms.amount_micros);
                pool.extend(&extension);
                self.owned.remove(&(key.account_no, key.slice_no));
                pool
            }
            (Some(_) | None, _) => StakePool::new(&extension),
        };
        let leave = pool.change_of_leave(0).max(0);
        pool.changed(leave);
        let terms = Terms {
            amount_micros: leave,
            low_water_micros: leave / 2,
            largest_micros: pool.largest_micros(),
            ..*terms
        };
        self.install(key, entity, &terms, now_micros);
        if let Some(owned) = self.owned.get_mut(&(key.account_no, key.slice_no)) {
            owned.pool = Some(pool);
        }
    }

    /// An expected slice is not admitted with any more. False when it is none.
    pub(super) fn rest(&mut self, key: (i64, i64), left: Option<i64>) -> bool {
        let Some(owned) = self.owned.get_mut(&key) else { return false };
        let Some(pool) = &mut owned.pool else { return false };
        if !owned.rests {
            pool.end_terms(left.unwrap_or(0));
            owned.rests = true;
        }
        true
    }

    /// Makes expected slices smaller that have much more than they need; gives those whose books
    /// are to be told, with their amounts.
    pub(super) fn shrink(&mut self, spend_seconds: f64) -> Vec<(SliceKey, i64)> {
        let mut smaller = Vec::new();
        for owned in self.owned.values_mut() {
            let seat = self.seats.get(&(owned.key.account_no, owned.key.campaign_no));
            let spend = seat.map_or(0.0, |seat| seat.rate) * spend_seconds;
            let wanted = to_micros(spend).saturating_mul(KEEPS_SPENDS);
            let left = owned.left();
            let Some(pool) = &mut owned.pool else { continue };
            let spare = left.saturating_sub(wanted).max(0);
            if spare > 0 && pool.is_worth_shrinking(left, wanted) {
                // Leave goes first, then the money behind it.
                let got = owned.entity.debit(spare);
                pool.changed(-got);
                owned.seen_left = owned.seen_left.saturating_sub(got);
            }
            let left = if owned.rests { 0 } else { owned.entity.left().unwrap_or(0) };
            if pool.shrink(left) {
                smaller.push((owned.key, pool.amount_micros()));
            }
        }
        smaller
    }

    /// The books know the amounts.
    pub(super) fn shrunk(&mut self, told: &[(SliceKey, i64)]) {
        for (key, _) in told {
            let owned = self.owned.get_mut(&(key.account_no, key.slice_no));
            if let Some(pool) = owned.and_then(|owned| owned.pool.as_mut()) {
                pool.shrunk();
            }
        }
    }
}
