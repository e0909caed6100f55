//! Which opportunities to take when a day has room for few charges.
//!
//! A coin of rate p over N opportunities takes p·N of them give or take √(p·(1 − p)·N); with thirty
//! charges a day that is a fifth of the budget. The accumulator takes p·N give or take one: each
//! opportunity adds p, and the one that fills it is taken. It must live on one replica, the holder
//! of the entity's slice, and a retry does not get the same answer from it: the caller keeps the
//! answers of recent opportunities or accepts that.

/// Below so many charges a day the accumulator replaces the coin.
pub const FEW_CHARGES: f64 = 100.0;

/// Whether a day's target is so small, given what one charge is on average. False when the charge
/// is not known (0).
pub fn is_few(target: f64, charge: f64) -> bool {
    charge > 0.0 && target < FEW_CHARGES * charge
}

/// The low-discrepancy rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accumulator(f64);

impl Default for Accumulator {
    /// Half full, so that the count is off by at most a half on average, not by one.
    fn default() -> Self {
        Self(0.5)
    }
}

impl Accumulator {
    /// Whether to take this opportunity at rate `p`.
    pub fn admits(&mut self, p: f64) -> bool {
        self.0 += p.clamp(0.0, 1.0);
        let full = self.0 >= 1.0;
        if full {
            self.0 -= 1.0;
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_small_target_in_charges_is_few() {
        assert!(is_few(300.0, 10.0));
        assert!(!is_few(1_000.0, 10.0));
        assert!(!is_few(1_000.0, 0.0));
    }

    proptest! {
        /// However the rate wanders, the count is within one of its sum.
        #[test]
        fn the_count_follows_the_sum_of_rates(rates in prop::collection::vec(0.0..=1.0f64, 0..500)) {
            let mut accumulator = Accumulator::default();
            let mut taken = 0.0;
            let mut sum = 0.0;
            for p in rates {
                sum += p;
                taken += f64::from(u8::from(accumulator.admits(p)));
                prop_assert!((taken - sum).abs() <= 1.0, "{taken} taken of {sum}");
            }
        }
    }
}
