//! A signed amount: what an account owns, which a late charge may take below zero.

use super::{MAX_MICROS, Money};

/// An amount of money that may be negative, in micro-units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Balance(i64);

impl Balance {
    /// Nothing owned, nothing owed.
    pub const ZERO: Balance = Balance(0);

    /// A balance of so many micro-units; `None` beyond [`MAX_MICROS`] on either side.
    pub const fn from_micros(micros: i64) -> Option<Balance> {
        if micros < -MAX_MICROS || micros > MAX_MICROS { None } else { Some(Balance(micros)) }
    }

    /// The balance in micro-units.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The sum; `None` beyond [`MAX_MICROS`].
    pub fn checked_add(self, other: impl Into<Balance>) -> Option<Balance> {
        self.0.checked_add(other.into().0).and_then(Balance::from_micros)
    }

    /// The difference; `None` beyond [`MAX_MICROS`].
    pub fn checked_sub(self, other: impl Into<Balance>) -> Option<Balance> {
        self.0.checked_sub(other.into().0).and_then(Balance::from_micros)
    }

    /// The same amount owed instead of owned, and the other way round.
    pub fn negated(self) -> Balance {
        Balance(self.0.checked_neg().expect("a balance is far from the smallest i64"))
    }

    /// Whether more is owed than owned.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The balance as money; `None` when it is negative.
    pub const fn as_money(self) -> Option<Money> {
        Money::from_micros(self.0)
    }

    /// The balance as money, or nothing when it is negative.
    pub fn or_zero(self) -> Money {
        self.as_money().unwrap_or(Money::ZERO)
    }
}

impl From<Money> for Balance {
    fn from(money: Money) -> Balance {
        Balance(money.micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn balance(micros: i64) -> Balance {
        Balance::from_micros(micros).unwrap()
    }

    #[test]
    fn a_balance_is_bounded_on_both_sides() {
        assert_eq!(Balance::from_micros(-MAX_MICROS - 1), None);
        assert_eq!(Balance::from_micros(MAX_MICROS + 1), None);
        assert_eq!(Balance::from_micros(i64::MIN), None);
        assert_eq!(balance(-MAX_MICROS).checked_sub(Money::from_units(1)), None);
        assert_eq!(balance(MAX_MICROS).checked_add(balance(1)), None);
    }

    #[test]
    fn a_debit_may_take_a_balance_below_zero() {
        let after = balance(1_000_000).checked_sub(Money::from_units(3)).unwrap();
        assert_eq!(after, balance(-2_000_000));
        assert!(after.is_negative());
        assert_eq!((after.as_money(), after.or_zero()), (None, Money::ZERO));
        assert_eq!(after.negated().as_money(), Some(Money::from_units(2)));
    }

    proptest! {
        /// Adding is the same as taking the opposite away.
        #[test]
        fn adding_is_subtracting_the_opposite(
            a in -MAX_MICROS..=MAX_MICROS,
            b in -MAX_MICROS..=MAX_MICROS,
        ) {
            let (a, b) = (balance(a), balance(b));
            prop_assert_eq!(a.checked_add(b), a.checked_sub(b.negated()));
        }
    }
}
