//! The admission rate and its coin. The controller's place.
//!
//! The rate is 1 until the controller exists (../shared/design/pacing.md in the plan of the
//! project): it will set the rate of each campaign about every five seconds, already the minimum
//! over the campaign and its account, from the demand that [`Entity`](super::Entity) counts. What
//! is fixed already is the coin: one hash of the opportunity's id, the account and the day, the
//! same on every replica and in every version, so a retry gets the same answer wherever it goes,
//! and an opportunity that passes at one rate passes at every higher one.

#![deny(clippy::arithmetic_side_effects)]

use std::sync::atomic::{AtomicU32, Ordering};

/// A rate in parts of 2^32; [`Rate::ALL`] is 1 and asks no coin.
#[derive(Debug)]
pub struct Rate(AtomicU32);

impl Default for Rate {
    fn default() -> Self {
        Rate(AtomicU32::new(Rate::ALL))
    }
}

impl Rate {
    /// Everything is admitted.
    pub const ALL: u32 = u32::MAX;

    /// Sets the rate, in parts of 2^32. For the controller.
    pub fn set(&self, parts: u32) {
        self.0.store(parts, Ordering::Relaxed);
    }

    /// Whether the coin lets this opportunity through.
    pub fn admits(&self, opportunity: &str, account_no: i64, day_no: i32) -> bool {
        let parts = self.0.load(Ordering::Relaxed);
        parts == Rate::ALL || coin(opportunity, account_no, day_no) < parts
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
