//! The admission rate, and what decides at it: the coin, or the accumulator of a small budget.
//!
//! The `pacer` sets the rate of each campaign about every five seconds, already the minimum over
//! the campaign and its account, from the demand that [`Entity`](super::Entity) counts. The coin
//! is one hash of the opportunity's id, the account and the day, the same on every replica and in
//! every version, so a retry gets the same answer wherever it goes, and an opportunity that passes
//! at one rate passes at every higher one.
//!
//! A budget of less than a hundred charges a day is not left to a coin: of thirty expected
//! charges it would take thirty give or take five. Its rate is added up instead, and the
//! opportunity that fills the sum passes: thirty give or take one on each replica. The exception
//! has a price: a retry draws again. It gets no second money by it, for an admission that nobody
//! settles expires.

#![deny(clippy::arithmetic_side_effects)]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A rate in parts of 2^32; [`Rate::ALL`] is 1 and asks nothing.
#[derive(Debug)]
pub struct Rate {
    parts: AtomicU32,
    /// Somebody has said what the rate is.
    is_set: AtomicBool,
    /// Add up instead of tossing.
    is_few: AtomicBool,
    /// The accumulator: passes on overflow. Half full at first, so that it is off by a half.
    sum: AtomicU32,
}

impl Default for Rate {
    fn default() -> Self {
        Rate {
            parts: AtomicU32::new(Rate::ALL),
            is_set: AtomicBool::new(false),
            is_few: AtomicBool::new(false),
            sum: AtomicU32::new(u32::MAX / 2),
        }
    }
}

impl Rate {
    /// Everything is admitted.
    pub const ALL: u32 = u32::MAX;

    /// Sets the rate, in parts of 2^32. For the controller.
    pub fn set(&self, parts: u32) {
        self.parts.store(parts, Ordering::Relaxed);
        self.is_set.store(true, Ordering::Relaxed);
    }

    /// The rate until the controller's first word. True when there was none before.
    pub fn start(&self, parts: u32) -> bool {
        let first = !self.is_set.swap(true, Ordering::Relaxed);
        if first {
            self.parts.store(parts, Ordering::Relaxed);
        }
        first
    }

    /// Says whether the budget is so small that rates are added up. For the controller.
    pub fn set_few(&self, few: bool) {
        self.is_few.store(few, Ordering::Relaxed);
    }

    /// The rate, in parts of 2^32.
    pub fn parts(&self) -> u32 {
        self.parts.load(Ordering::Relaxed)
    }

    /// Whether this opportunity is let through.
    pub fn admits(&self, opportunity: &str, account_no: i64, day_no: i32) -> bool {
        let parts = self.parts();
        if parts == Rate::ALL {
            return true;
        }
        if self.is_few.load(Ordering::Relaxed) {
            let before = self.sum.fetch_add(parts, Ordering::Relaxed);
            return before.checked_add(parts).is_none();
        }
        coin(opportunity, account_no, day_no) < parts
    }

    /// What was let through found no money: of a small budget the next one passes instead.
    pub fn not_taken(&self) {
        if self.is_few.load(Ordering::Relaxed) {
            self.sum.store(u32::MAX, Ordering::Relaxed);
        }
    }
}

/// Even over 0..2^32, the same everywhere.
pub fn coin(opportunity: &str, account_no: i64, day_no: i32) -> u32 {
    let seed = account_no.cast_unsigned() ^ u64::from(day_no.cast_unsigned()).rotate_left(40);
    let mut state =
        mix(seed ^ 0x9e37_79b9_7f4a_7c15, opportunity.len() as u64 ^ 0xd1b5_4a32_d192_ed03);
    for chunk in opportunity.as_bytes().chunks(8) {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(chunk) {
            *to = *from;
        }
        state = mix(state ^ u64::from_le_bytes(word), 0xa076_1d64_78bd_642f);
    }
    let hash = mix(state, 0xe703_7ed1_a0b4_28db);
    (hash >> 32) as u32
}

/// The two halves of a 128-bit product, folded.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b));
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_coin_is_the_same_in_every_version() {
        for (opportunity, account_no, day_no, expected) in [
            ("o-1", 1, 739_341, 2_303_494_777),
            ("o-2", 1, 739_341, 2_620_198_943),
            ("o-1", 2, 739_341, 1_948_797_605),
            ("o-1", 1, 739_342, 1_791_595_563),
            ("0193e9a0-0000-7000-8000-000000000000", 1, 739_341, 3_448_749_009),
        ] {
            assert_eq!(coin(opportunity, account_no, day_no), expected, "{opportunity}");
        }
    }

    #[test]
    fn the_coin_falls_evenly() {
        const TRIES: u32 = 64_000;
        let mut buckets = [0u32; 64];
        for n in 0..TRIES {
            buckets[(coin(&format!("opportunity-{n}"), 5, 739_341) >> 26) as usize] += 1;
        }
        // 1 000 expected in each, standard deviation 31.
        assert!(buckets.iter().all(|count| (840..1_160).contains(count)), "{buckets:?}");
    }

    /// thirty of three thousand give or take one, where a coin is off by five.
    #[test]
    fn a_small_budget_is_added_up_and_not_tossed() {
        let rate = Rate::default();
        rate.set(Rate::ALL / 100);
        rate.set_few(true);
        let passed = (0..3_000).filter(|n| rate.admits(&format!("o-{n}"), 1, 739_341)).count();
        assert!((29..=31).contains(&passed), "{passed}");
        // What found no money is made up for by the next.
        rate.not_taken();
        assert!(rate.admits("o-next", 1, 739_341));
        assert!(!rate.admits("o-after", 1, 739_341));
        rate.set(0);
        assert!((0..1_000).all(|n| !rate.admits(&format!("z-{n}"), 1, 739_341)), "0 is 0");
        rate.set(Rate::ALL);
        assert!((0..1_000).all(|n| rate.admits(&format!("a-{n}"), 1, 739_341)), "1 is 1");
    }

    proptest! {
        /// What passes at a rate passes at every higher one, and at 1 everything does.
        #[test]
        fn a_higher_rate_admits_more(id in "[a-z0-9-]{1,64}", low: u32, high: u32) {
            let rate = Rate::default();
            prop_assert!(rate.admits(&id, 1, 2));
            rate.set(low.min(high));
            let before = rate.admits(&id, 1, 2);
            rate.set(low.max(high));
            prop_assert!(!before || rate.admits(&id, 1, 2));
            rate.set(0);
            prop_assert!(!rate.admits(&id, 1, 2));
        }
    }
}
