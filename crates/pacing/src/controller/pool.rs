//! What is in flight of one slice whose admissions take what they are expected to cost. Pure: the
//! `leases` keep one for each such slice, [`super::simulate`] one for its entity.
//!
//! Of such a slice the owner keeps **S + μ + x ≤ A** (pacing.md, section 5): A is what the books
//! reserve, S was charged, μ is expected of admissions that have not ended, x the margin for bad luck
//! ([`needed`]). Decisions only subtract an expectation from a word, so the owner turns the rule
//! round: it gives the word leave for as much expectation as A − S bears ([`most_expected`]), less
//! what is in flight already.
//!
//! Expectation comes back in three ways. An admission that was charged or cancelled is read back
//! from the books; one that nobody ended is forgotten when its token has expired and the grace is
//! over; the margin falls with both. Which admissions ended is not known here, only how much was
//! expected of them, so it is set off against the oldest: they would be forgotten first, and what is
//! set off twice would be the error, so the pool holds at least what is in flight.
//!
//! A reading that is old is no error either: charges and admissions since then belong to holds that
//! were live at the reading or were counted when they were admitted.
//!
//! One slice carries a campaign's whole day at a replica. Its amount and its end move (`grant`,
//! `books`), because margins do not add up: sixty slices of ten seconds would each keep back a click
//! where all of them together need ten. The margins of several replicas do add up, which is on the
//! safe side.
//!
//! Not here: the words themselves (`admission::slice`), who extends and shrinks it, and the books
//! (`leases`).

use std::collections::VecDeque;

use super::inflight::{self, Prices};

/// Admissions whose tokens expire within the same ten seconds are kept as one.
const GENERATION_MICROS: i64 = 10_000_000;

/// How fast the largest price is forgotten while no dearer one is asked for: by this part of its
/// distance to the usual one with each extension.
const FADE: i64 = 64;

/// Admissions whose tokens expire together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Generation {
    /// No charge of them counts as in time any more.
    forget_at_micros: i64,
    /// What was expected of them and has not ended.
    expected_micros: i64,
    /// The largest price that they may have.
    largest_micros: i64,
}

/// What a pool is opened or extended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension {
    /// A, from now on.
    pub amount_micros: i64,
    /// The price that is usual.
    pub usual_micros: i64,
    /// The dearest price that was asked for and found too little, if any was.
    pub dearest_micros: Option<i64>,
    /// When the tokens of admissions from now on are over, the grace included.
    pub forget_at_micros: i64,
    /// Charges come when tokens are long over: no margin is kept for more of them than expected.
    pub is_conversion: bool,
}

/// One slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StakePool {
    amount_micros: i64,
    charged_micros: i64,
    /// What the books say has ended, and what of it is not set off yet.
    ended_micros: i64,
    unset_micros: i64,
    /// Admissions of earlier terms, the oldest first.
    generations: VecDeque<Generation>,
    /// The terms in use: all leave that was ever given under them, and their tokens' end.
    leave_micros: i64,
    forget_at_micros: i64,
    largest_micros: i64,
    usual_micros: i64,
    is_conversion: bool,
    /// A smaller amount that the books are to be told.
    shrinking: bool,
}

impl StakePool {
    /// Nothing is in flight yet.
    pub fn new(first: &Extension) -> StakePool {
        StakePool {
            amount_micros: first.amount_micros,
            charged_micros: 0,
            ended_micros: 0,
            unset_micros: 0,
            generations: VecDeque::new(),
            leave_micros: 0,
            forget_at_micros: first.forget_at_micros,
            largest_micros: first.dearest_micros.unwrap_or(0).max(first.usual_micros).max(1),
            usual_micros: first.usual_micros.max(1),
            is_conversion: first.is_conversion,
            shrinking: false,
        }
    }

    /// A.
    pub fn amount_micros(&self) -> i64 {
        self.amount_micros
    }

    /// The dearest price that admissions of the terms in use may have.
    pub fn largest_micros(&self) -> i64 {
        self.largest_micros
    }

    /// Until when a charge of any of its admissions may come in time.
    pub fn is_over(&self, now_micros: i64) -> bool {
        now_micros >= self.forget_at_micros
    }

    /// The prices of what is in flight.
    pub fn prices(&self) -> Prices {
        let earlier = self.generations.iter().map(|of| of.largest_micros).max().unwrap_or(0);
        let largest = if self.is_conversion { 0 } else { self.largest_micros.max(earlier) };
        Prices { largest: largest as f64, usual: self.usual_micros as f64 }
    }

    /// μ, with `left` of the leave not used.
    pub fn live_micros(&self, left: i64) -> i64 {
        let earlier: i64 = self.generations.iter().map(|of| of.expected_micros).sum();
        let present = self.leave_micros.saturating_sub(left).saturating_sub(self.unset_micros);
        earlier.saturating_add(present.max(0))
    }

    /// What there is for what is in flight: A − S.
    fn room_micros(&self) -> i64 {
        self.amount_micros.saturating_sub(self.charged_micros)
    }

    /// How much money is missing for so much more expectation at prices up to the dearest;
    /// negative when there is more than enough.
    pub fn missing_micros(&self, left: i64, more: i64, dearest: i64) -> i64 {
        let mut prices = self.prices();
        if !self.is_conversion {
            prices.largest = prices.largest.max(dearest as f64);
        }
        let expected = self.live_micros(left).saturating_add(more);
        needed(expected, &prices).saturating_sub(self.room_micros())
    }

    /// Takes in what the books said at a moment: what was charged, and what has ended. Then lets go
    /// of what could not be charged in time any more at that moment: not before, or what ended of
    /// it would be set off against others.
    pub fn read_back(&mut self, charged_micros: i64, ended_micros: i64, at_micros: i64) {
        self.charged_micros = self.charged_micros.max(charged_micros);
        let more = ended_micros.saturating_sub(self.ended_micros).max(0);
        self.ended_micros = self.ended_micros.max(ended_micros);
        self.unset_micros = self.unset_micros.saturating_add(more);
        self.set_off();
        while self.generations.front().is_some_and(|of| at_micros >= of.forget_at_micros) {
            self.generations.pop_front();
        }
    }

    fn set_off(&mut self) {
        while self.unset_micros > 0 {
            let Some(oldest) = self.generations.front_mut() else { return };
            let part = oldest.expected_micros.min(self.unset_micros);
            oldest.expected_micros -= part;
            self.unset_micros -= part;
            if oldest.expected_micros == 0 {
                self.generations.pop_front();
            }
        }
    }

    /// By how much the leave should change, when `left` of it is not used: negative where less is
    /// borne than was given.
    pub fn change_of_leave(&self, left: i64) -> i64 {
        let borne = most_expected(self.room_micros(), &self.prices());
        borne.saturating_sub(self.live_micros(left)).saturating_sub(left)
    }

    /// The leave was changed by so much.
    pub fn changed(&mut self, by_micros: i64) {
        self.leave_micros = self.leave_micros.saturating_add(by_micros);
    }

    /// The terms in use are over, with `left` of their leave not used: admissions go on under others
    /// or rest.
    pub fn end_terms(&mut self, left: i64) {
        let expected = self.leave_micros.saturating_sub(left).max(0);
        self.leave_micros = 0;
        if expected > 0 {
            let more = Generation {
                forget_at_micros: round_up(self.forget_at_micros),
                expected_micros: expected,
                largest_micros: self.largest_micros,
            };
            match self.generations.back_mut() {
                Some(last) if more.forget_at_micros <= last.forget_at_micros => {
                    last.expected_micros = last.expected_micros.saturating_add(expected);
                    last.largest_micros = last.largest_micros.max(more.largest_micros);
                }
                Some(_) | None => self.generations.push_back(more),
            }
        }
        self.set_off();
        // What has ended and is nowhere was forgotten before.
        self.unset_micros = 0;
    }

    /// New terms, after [`StakePool::end_terms`].
    pub fn extend(&mut self, by: &Extension) {
        self.amount_micros = by.amount_micros;
        self.forget_at_micros = self.forget_at_micros.max(by.forget_at_micros);
        self.usual_micros = by.usual_micros.max(1);
        self.is_conversion = by.is_conversion;
        let faded = self.largest_micros - (self.largest_micros - self.usual_micros).max(0) / FADE;
        self.largest_micros = by.dearest_micros.unwrap_or(0).max(faded).max(self.usual_micros);
        self.shrinking = false;
    }

    /// What it would have if leave for no more than `wanted` were kept.
    fn kept_micros(&self, left: i64, wanted: i64) -> i64 {
        let keep = self.live_micros(left).saturating_add(wanted);
        self.charged_micros.saturating_add(needed(keep, &self.prices())).max(1)
    }

    /// Whether giving up all leave beyond `wanted` would save enough to be worth a statement.
    pub fn is_worth_shrinking(&self, left: i64, wanted: i64) -> bool {
        let excess = self.amount_micros.saturating_sub(self.kept_micros(left, wanted));
        excess > self.room_micros() / 4
    }

    /// Gives up what neither what is in flight nor the leave that is left needs, when that is much.
    /// True when the books are to be told the new amount.
    pub fn shrink(&mut self, left: i64) -> bool {
        let amount = self.kept_micros(left, left);
        let excess = self.amount_micros.saturating_sub(amount);
        if excess > 0 && excess > self.room_micros() / 16 {
            self.amount_micros = amount;
            self.shrinking = true;
        }
        self.shrinking
    }

    /// The books know it.
    pub fn shrunk(&mut self) {
        self.shrinking = false;
    }
}

fn round_up(moment_micros: i64) -> i64 {
    let late = moment_micros.rem_euclid(GENERATION_MICROS);
    if late == 0 { moment_micros } else { moment_micros.saturating_add(GENERATION_MICROS - late) }
}

/// Money for so much expectation, rounded up.
pub fn needed(expected_micros: i64, prices: &Prices) -> i64 {
    inflight::needed(expected_micros as f64, prices).ceil() as i64
}

/// Expectation that so much money bears, rounded down.
fn most_expected(room_micros: i64, prices: &Prices) -> i64 {
    inflight::most_expected(room_micros as f64, prices).floor() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNIT: i64 = 1_000_000;
    const SECOND: i64 = 1_000_000;

    fn extension(amount_micros: i64, forget_at_micros: i64) -> Extension {
        Extension {
            amount_micros,
            usual_micros: UNIT,
            dearest_micros: Some(UNIT),
            forget_at_micros,
            is_conversion: false,
        }
    }

    /// A pool of so many units whose leave is given and used up.
    fn used_up(units: i64) -> (StakePool, i64) {
        let mut pool = StakePool::new(&extension(units * UNIT, 640 * SECOND));
        let leave = pool.change_of_leave(0);
        pool.changed(leave);
        assert_eq!(pool.live_micros(leave), 0, "nothing is admitted yet");
        assert_eq!(pool.live_micros(0), leave);
        (pool, leave)
    }

    #[test]
    fn money_bears_less_expectation_than_itself_and_the_more_the_larger_it_is() {
        let (_, five) = used_up(5);
        let (_, five_hundred) = used_up(500);
        assert!((UNIT / 2..UNIT).contains(&five), "P(N > 5) of 0.85 is 3 in 10 000: {five}");
        assert!((400 * UNIT..450 * UNIT).contains(&five_hundred), "{five_hundred}");
    }

    /// A charge takes its price, a cancellation nothing, and both give their expectation back.
    #[test]
    fn what_has_ended_gives_its_expectation_back() {
        let (mut pool, leave) = used_up(100);
        assert!(pool.change_of_leave(0) <= 1, "the leave is what the money bears");
        pool.read_back(UNIT, UNIT / 50, 0);
        assert_eq!(pool.live_micros(0), leave - UNIT / 50);
        assert!(pool.change_of_leave(0) < 0, "a click cost more than was expected of it");
        pool.read_back(UNIT, leave / 2, 0);
        assert!(pool.change_of_leave(0) > leave / 3, "half of it was cancelled");
        let before = pool.clone();
        pool.read_back(0, 0, 0);
        assert_eq!(pool, before, "an old reading is no news");
    }

    #[test]
    fn what_nobody_ended_comes_back_when_its_tokens_are_over() {
        let (mut pool, leave) = used_up(100);
        pool.end_terms(0);
        pool.extend(&extension(100 * UNIT, 650 * SECOND));
        assert_eq!((pool.live_micros(0), pool.change_of_leave(0).max(1)), (leave, 1));
        pool.read_back(0, 0, 640 * SECOND - 1);
        assert_eq!(pool.live_micros(0), leave);
        pool.read_back(0, 0, 640 * SECOND);
        assert_eq!(pool.live_micros(0), 0);
        assert_eq!(pool.change_of_leave(0), leave);
        assert!(!pool.is_over(640 * SECOND) && pool.is_over(650 * SECOND));
    }

    #[test]
    fn a_pool_shrinks_to_what_is_in_flight() {
        let (mut pool, leave) = used_up(100);
        assert!(!pool.shrink(0), "all of it is in flight");
        pool.read_back(3 * UNIT, leave - UNIT, 0);
        assert!(pool.is_worth_shrinking(0, 0) && pool.shrink(0));
        let kept = pool.amount_micros() - 3 * UNIT;
        assert_eq!(kept, needed(UNIT, &pool.prices()));
        pool.shrunk();
        assert!(!pool.shrink(0) && pool.change_of_leave(0) >= 0);
    }

    #[test]
    fn a_dearer_price_widens_the_margin_until_its_admissions_are_over() {
        let mut pool = StakePool::new(&extension(100 * UNIT, 640 * SECOND));
        let cheap = pool.change_of_leave(0);
        assert!(pool.missing_micros(0, cheap, UNIT) <= 0);
        assert!(pool.missing_micros(0, cheap, 10 * UNIT) > 0);
        let dear =
            Extension { dearest_micros: Some(10 * UNIT), ..extension(100 * UNIT, 650 * SECOND) };
        pool.extend(&dear);
        assert_eq!(pool.largest_micros(), 10 * UNIT);
        assert!(pool.change_of_leave(0) < cheap * 3 / 4);
    }

    proptest! {
        /// S + μ + x ≤ A after every step, whatever is admitted, charged, cancelled and forgotten;
        /// and what the pool thinks is in flight is never less than what is.
        #[test]
        fn the_rule_of_section_5_holds(steps in prop::collection::vec((0..6u8, 1..100i64), 1..80)) {
            let mut pool = StakePool::new(&extension(50 * UNIT, 640 * SECOND));
            let (mut now, mut left, mut ends) = (0, 0, 640 * SECOND);
            // Of each admission: its expectation and its token's end.
            let mut open: Vec<(i64, i64)> = Vec::new();
            let (mut charged, mut ended) = (0, 0);
            for (step, part) in steps {
                match step {
                    // Nobody admits when the time of the slice is over.
                    0 | 1 if now < ends - 630 * SECOND => {
                        let taken = left * part / 100;
                        left -= taken;
                        if taken > 0 {
                            open.push((taken, ends));
                        }
                    }
                    2 => {
                        let at = open.len() * usize::try_from(part).unwrap() / 100;
                        if at < open.len() {
                            ended += open.remove(at).0;
                            charged += if part % 2 == 0 { UNIT } else { 0 };
                        }
                    }
                    3 => pool.read_back(charged, ended, now),
                    4 => {
                        now += part * SECOND;
                        open.retain(|(_, until)| *until > now);
                    }
                    0 | 1 => {}
                    _ => {
                        pool.end_terms(left);
                        ends = now + 640 * SECOND;
                        let amount = pool.amount_micros() + part * UNIT / 10;
                        pool.extend(&extension(amount, ends));
                        left = 0;
                    }
                }
                let change = pool.change_of_leave(left).max(-left);
                left += change;
                pool.changed(change);
                let truly: i64 = open.iter().map(|(expected, _)| expected).sum();
                let live = pool.live_micros(left);
                prop_assert!(live + ended - pool.ended_micros >= truly, "{live} of {truly}");
                // What is in flight may be more than is borne only after a charge.
                let lacks = pool.missing_micros(left, left, UNIT);
                prop_assert!(lacks <= 1 || left == 0, "{lacks} with {left} left");
            }
        }
    }
}
