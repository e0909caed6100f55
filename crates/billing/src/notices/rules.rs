//! When a balance is low, and how long a letter is tried.

use adspend_common::money::{Balance, Money};
use chrono::{DateTime, TimeDelta, Utc};

/// The days that spend is averaged over: today and those before it, Moscow.
pub(crate) const SPEND_DAYS: i32 = 7;

/// A balance that covers no more than so many average days is low.
const LOW_DAYS: i128 = 3;

/// Whether what is left covers three average days or less. An account that spends nothing is never low.
pub(crate) fn is_low(balance: Balance, spent: Money) -> bool {
    let (left, spent) = (i128::from(balance.micros()), i128::from(spent.micros()));
    // balance <= 3 * (spent / 7), without the division.
    spent > 0 && left * i128::from(SPEND_DAYS) <= LOW_DAYS * spent
}

/// The average day of spend, down to a micro-unit.
pub(crate) fn daily(spent: Money) -> Money {
    spent.mul_ratio_floor(1, SPEND_DAYS.unsigned_abs()).unwrap_or(Money::ZERO)
}

/// How long letters are tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) first_retry: TimeDelta,
    pub(crate) longest_retry: TimeDelta,
    pub(crate) give_up_after: TimeDelta,
}

impl Patience {
    /// When a letter that was tried so often in vain is tried again: the wait doubles up to the longest. None
    /// when that would be later than its news is worth.
    pub(crate) fn next(
        self,
        attempts: i32,
        created_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let doublings = attempts.saturating_sub(1).clamp(0, 30);
        let wait = self.first_retry.checked_mul(1 << doublings).unwrap_or(self.longest_retry);
        let next = now.checked_add_signed(wait.min(self.longest_retry))?;
        (next < created_at.checked_add_signed(self.give_up_after)?).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn units(units: i64) -> Balance {
        Balance::from_micros(units * 1_000_000).unwrap()
    }

    /// the warning comes at three average days, not above.
    #[test]
    fn low_table() {
        let week = Money::from_units(7_000);
        assert_eq!(daily(week), Money::from_units(1_000));
        for (name, balance, spent, low) in [
            ("above three days", Balance::from_micros(3_000_000_001), week, false),
            ("exactly three days", Some(units(3_000)), week, true),
            ("below", Some(units(1)), week, true),
            ("in debt", Some(units(-5)), week, true),
            ("no spend, no money", Some(units(0)), Money::ZERO, false),
            ("no spend, in debt", Some(units(-5)), Money::ZERO, false),
            ("a little spend", Some(units(0)), Money::from_units(1), true),
        ] {
            assert_eq!(is_low(balance.unwrap(), spent), low, "{name}");
        }
        let uneven = Money::from_units(1_000);
        // 3 × 1000 / 7 = 428.571428…
        assert!(is_low(Balance::from_micros(428_571_428).unwrap(), uneven));
        assert!(!is_low(Balance::from_micros(428_571_429).unwrap(), uneven));
    }

    #[test]
    fn retry_table() {
        let start = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let patience = Patience {
            first_retry: TimeDelta::minutes(1),
            longest_retry: TimeDelta::hours(6),
            give_up_after: TimeDelta::days(3),
        };
        for (attempts, minutes) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 360), (40, 360)] {
            let expected = Some(start + TimeDelta::minutes(minutes));
            assert_eq!(patience.next(attempts, start, start), expected, "{attempts}");
        }
        let late = start + TimeDelta::days(3) - TimeDelta::hours(6);
        assert_eq!(patience.next(40, start, late), None);
        let just = late - TimeDelta::seconds(1);
        assert!(patience.next(40, start, just).is_some());
    }

    proptest! {
        /// However long it fails, a letter is tried a bounded number of times.
        #[test]
        fn trying_ends(first in 1..600i64, longest in 600..100_000i64, days in 1..10i64) {
            let patience = Patience {
                first_retry: TimeDelta::seconds(first),
                longest_retry: TimeDelta::seconds(longest),
                give_up_after: TimeDelta::days(days),
            };
            let start = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
            let (mut now, mut attempts) = (start, 1);
            while let Some(next) = patience.next(attempts, start, now) {
                prop_assert!(next > now && next < start + TimeDelta::days(days));
                (now, attempts) = (next, attempts + 1);
                prop_assert!(i64::from(attempts) < 20 + days * 86_400 / 600);
            }
        }

        /// More money never makes a balance low, more spend never makes it high.
        #[test]
        fn low_is_monotone(balance in -1_000_000..1_000_000i64, spent in 0..1_000_000i64, more in 0..1_000i64) {
            let low = |balance, spent| {
                is_low(Balance::from_micros(balance).unwrap(), Money::from_micros(spent).unwrap())
            };
            prop_assert!(!low(balance + more, spent) || low(balance, spent));
            prop_assert!(!low(balance, spent) || low(balance, spent + more));
        }
    }
}
