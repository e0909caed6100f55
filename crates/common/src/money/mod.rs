//! Money: whole micro-units of one currency, checked arithmetic, one rounding function.
//!
//! [`Money`] is never negative and [`Balance`] may be; neither knows its currency, because an
//! account has exactly one and operations never mix them. A micro-unit is a millionth of the
//! currency's unit: the price of one impression is CPM / 1000 and lies below the kopeck.
//!
//! Invariants: `0 <= Money <= MAX_MICROS` and `|Balance| <= MAX_MICROS`, from construction on.
//! There is no `Add` and no `Sub`: what an overflow means is said in words where it can happen.
//!
//! Deliberately not here: floating point, exchange rates, the generated `google.type.Money`
//! (the edge passes its two numbers, see [`Money::from_wire`]).

#![deny(clippy::arithmetic_side_effects)]

mod balance;
mod currency;
mod round;
mod text;
mod wire;

use std::num::NonZeroU32;

pub use balance::Balance;
pub use currency::{Currency, UnknownCurrency};
pub use round::{Rounding, Step};
pub use text::InvalidAmount;
pub use wire::WireError;

/// Micro-units in one unit of a currency.
pub const MICROS_PER_UNIT: i64 = 1_000_000;

/// Micro-units in a hundredth of a unit: a kopeck, a tiyn, a cent.
pub const MICROS_PER_KOPECK: i64 = 10_000;

/// The largest amount: 10^12 units. Nine such amounts still add up inside an `i64`, so a sum that
/// SQL makes overflows loudly and late, and a sum that Rust makes is checked anyway.
pub const MAX_MICROS: i64 = 1_000_000_000_000_000_000;

/// An amount of money that is not negative, in micro-units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(i64);

impl Money {
    /// No money.
    pub const ZERO: Money = Money(0);

    /// The largest amount there is.
    pub const MAX: Money = Money(MAX_MICROS);

    /// An amount of so many micro-units; `None` below zero and above [`MAX_MICROS`].
    pub const fn from_micros(micros: i64) -> Option<Money> {
        if micros < 0 || micros > MAX_MICROS { None } else { Some(Money(micros)) }
    }

    /// An amount of whole units. Every `u32` fits, so this cannot fail: for defaults and tests.
    #[expect(clippy::arithmetic_side_effects, reason = "2^32 units are 4.3 * 10^15 micro-units")]
    pub const fn from_units(units: u32) -> Money {
        Money(units as i64 * MICROS_PER_UNIT)
    }

    /// The amount in micro-units.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whether this is no money at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum; `None` above [`MAX_MICROS`].
    pub const fn checked_add(self, other: Money) -> Option<Money> {
        match self.0.checked_add(other.0) {
            Some(sum) => Money::from_micros(sum),
            None => None,
        }
    }

    /// The difference; `None` below zero.
    pub const fn checked_sub(self, other: Money) -> Option<Money> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Money::from_micros(rest),
            None => None,
        }
    }

    /// The difference, or nothing where `other` is larger. For "what is left", never for a debit.
    pub fn saturating_sub(self, other: Money) -> Money {
        self.checked_sub(other).unwrap_or(Money::ZERO)
    }

    /// So many times the amount; `None` above [`MAX_MICROS`].
    pub const fn checked_mul(self, times: u32) -> Option<Money> {
        match self.0.checked_mul(times as i64) {
            Some(product) => Money::from_micros(product),
            None => None,
        }
    }

    /// The sum of many; `None` above [`MAX_MICROS`].
    pub fn checked_sum(amounts: impl IntoIterator<Item = Money>) -> Option<Money> {
        amounts.into_iter().try_fold(Money::ZERO, Money::checked_add)
    }

    /// `self * num / den`, rounded towards zero to a micro-unit; `None` when `den` is zero or the
    /// result is above [`MAX_MICROS`]. The product is formed in 128 bits and cannot overflow.
    pub fn mul_ratio_floor(self, num: u32, den: u32) -> Option<Money> {
        let product = i128::from(self.0).checked_mul(i128::from(num))?;
        let quotient = product.checked_div(i128::from(den))?;
        Money::from_micros(i64::try_from(quotient).ok()?)
    }

    /// Whether the amount is whole kopecks, as invoices, transfers and payments must be.
    pub const fn is_whole_kopecks(self) -> bool {
        self.0 % MICROS_PER_KOPECK == 0
    }

    /// The whole kopecks in the amount, the rest dropped.
    #[expect(clippy::arithmetic_side_effects, reason = "the remainder is at most the amount")]
    pub const fn floor_to_kopecks(self) -> Money {
        Money(self.0 - self.0 % MICROS_PER_KOPECK)
    }

    /// Equal shares in whole kopecks; the kopecks that remain go one each to the first shares
    /// . A rest below a kopeck, which no transfer has, goes to the first share, so that the
    /// shares always add up to the amount.
    pub fn split_equally(self, parts: NonZeroU32) -> impl Iterator<Item = Money> {
        let count = parts.get();
        let kopecks = self.0 / MICROS_PER_KOPECK;
        let below = self.0 % MICROS_PER_KOPECK;
        let each = kopecks.checked_div(i64::from(count)).expect("the number of parts is not zero");
        let extra = kopecks.checked_rem(i64::from(count)).expect("the number of parts is not zero");
        (0..count).map(move |index| {
            let one_more = i64::from(i64::from(index) < extra);
            let rest = if index == 0 { below } else { 0 };
            each.checked_add(one_more)
                .and_then(|kopecks| kopecks.checked_mul(MICROS_PER_KOPECK))
                .and_then(|micros| micros.checked_add(rest))
                .and_then(Money::from_micros)
                .expect("a share is at most the amount")
        })
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails, as it should")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    fn any_money() -> impl Strategy<Value = Money> {
        prop_oneof![0..=MAX_MICROS, 0..1_000_000i64, Just(0), Just(MAX_MICROS)]
            .prop_map(|micros| Money::from_micros(micros).unwrap())
    }

    #[test]
    fn money_is_neither_negative_nor_beyond_the_maximum() {
        for (micros, ok) in [
            (-1, false),
            (i64::MIN, false),
            (0, true),
            (MAX_MICROS, true),
            (MAX_MICROS + 1, false),
            (i64::MAX, false),
        ] {
            assert_eq!(Money::from_micros(micros).is_some(), ok, "{micros}");
        }
        assert_eq!(Money::MAX.checked_add(money("0.000001")), None);
        assert_eq!(Money::ZERO.checked_sub(money("0.000001")), None);
        assert_eq!(Money::from_units(u32::MAX).micros(), 4_294_967_295_000_000);
    }

    #[test]
    fn an_equal_split_gives_the_remaining_kopecks_to_the_first_shares() {
        for (amount, parts, shares) in [
            ("3310", 3, vec!["1103.34", "1103.33", "1103.33"]),
            ("0.02", 3, vec!["0.01", "0.01", "0"]),
            ("10", 1, vec!["10"]),
            ("10", 4, vec!["2.5", "2.5", "2.5", "2.5"]),
            ("0.010001", 2, vec!["0.010001", "0"]),
            ("0", 2, vec!["0", "0"]),
        ] {
            let split: Vec<Money> =
                money(amount).split_equally(NonZeroU32::new(parts).unwrap()).collect();
            let expected: Vec<Money> = shares.into_iter().map(money).collect();
            assert_eq!(split, expected, "{amount} over {parts}");
        }
    }

    #[test]
    fn a_ratio_is_floored_and_refuses_a_zero_denominator() {
        for (amount, num, den, result) in [
            ("100", 1, 3, Some("33.333333")),
            ("0.000001", 1, 2, Some("0")),
            ("100", 13, 10, Some("130")),
            ("100", 1, 0, None),
            ("1000000000000", 2, 1, None),
            ("1000000000000", u32::MAX, u32::MAX, Some("1000000000000")),
        ] {
            assert_eq!(
                money(amount).mul_ratio_floor(num, den),
                result.map(money),
                "{amount} * {num} / {den}"
            );
        }
    }

    #[test]
    fn kopecks_are_recognised_and_the_rest_is_dropped() {
        assert!(money("10.25").is_whole_kopecks());
        assert!(!money("10.251").is_whole_kopecks());
        assert_eq!(money("10.259999").floor_to_kopecks(), money("10.25"));
    }

    proptest! {
        /// What is split is neither lost nor made, and shares differ by a kopeck at most.
        #[test]
        fn a_split_adds_up(amount in any_money(), parts in 1..400u32) {
            let amount = amount.floor_to_kopecks();
            let shares: Vec<Money> =
                amount.split_equally(NonZeroU32::new(parts).unwrap()).collect();
            prop_assert_eq!(Money::checked_sum(shares.iter().copied()), Some(amount));
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            prop_assert!(most.micros() - least.micros() <= MICROS_PER_KOPECK);
            prop_assert!(shares.is_sorted_by(|a, b| a >= b));
        }

        /// Adding and taking away again changes nothing.
        #[test]
        fn subtraction_undoes_addition(a in any_money(), b in any_money()) {
            if let Some(sum) = a.checked_add(b) {
                prop_assert_eq!(sum.checked_sub(b), Some(a));
                prop_assert_eq!(sum.saturating_sub(b), a);
            } else {
                prop_assert!(a.micros() + b.micros() > MAX_MICROS);
            }
        }

        /// A share of an amount is the largest one that does not pass the exact ratio.
        #[test]
        fn a_ratio_never_rounds_up(amount in any_money(), num in 0..2_000u32, den in 1..2_000u32) {
            let exact = i128::from(amount.micros()) * i128::from(num);
            match amount.mul_ratio_floor(num, den) {
                Some(share) => {
                    let taken = i128::from(share.micros()) * i128::from(den);
                    prop_assert!(taken <= exact && exact < taken + i128::from(den));
                }
                None => prop_assert!(exact / i128::from(den) > i128::from(MAX_MICROS)),
            }
        }
    }
}
