//! The one place where an amount loses digits: a rate was applied, or a text is coarser than us.

use rust_decimal::{Decimal, RoundingStrategy};

use super::{Balance, MAX_MICROS, Money};

/// Decimal places of a micro-unit.
pub(super) const MICRO_PLACES: u32 = 6;

/// Which way an amount between two steps goes. Money is not negative, so "up" is away from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To the lower step.
    Down,
    /// To the higher step.
    Up,
    /// To the nearer step, the middle up: how taxes are rounded.
    HalfUp,
    /// To the nearer step, the middle to the even one.
    HalfEven,
}

/// What an amount is rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A millionth of the unit.
    Micro,
    /// A hundredth of the unit.
    Kopeck,
}

impl Money {
    /// The amount nearest to `value` in the direction asked for; `None` when the result is
    /// negative or above [`MAX_MICROS`].
    pub fn rounded(value: Decimal, to: Step, way: Rounding) -> Option<Money> {
        let places = match to {
            Step::Micro => MICRO_PLACES,
            Step::Kopeck => 2,
        };
        let strategy = match way {
            Rounding::Down => RoundingStrategy::ToZero,
            Rounding::Up => RoundingStrategy::AwayFromZero,
            Rounding::HalfUp => RoundingStrategy::MidpointAwayFromZero,
            Rounding::HalfEven => RoundingStrategy::MidpointNearestEven,
        };
        Money::from_micros(exact_micros(value.round_dp_with_strategy(places, strategy))?)
    }

    /// The amount in units, exactly.
    pub fn to_decimal(self) -> Decimal {
        Decimal::new(self.micros(), MICRO_PLACES).normalize()
    }
}

impl Balance {
    /// The balance in units, exactly.
    pub fn to_decimal(self) -> Decimal {
        Decimal::new(self.micros(), MICRO_PLACES).normalize()
    }
}

/// The micro-units in a number of units; `None` when there is a finer digit or it is too large.
pub(super) fn exact_micros(value: Decimal) -> Option<i64> {
    let mut value = value.normalize();
    if value.scale() > MICRO_PLACES {
        return None;
    }
    // Too large to be scaled is too large to be money: the mantissa has 96 bits.
    if value.abs() > Decimal::from_i128_with_scale(i128::from(MAX_MICROS), MICRO_PLACES) {
        return None;
    }
    value.rescale(MICRO_PLACES);
    i64::try_from(value.mantissa()).ok()
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails, as it should")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rounding_table() {
        use Rounding::{Down, HalfEven, HalfUp, Up};
        for (value, to, way, result) in [
            ("1.005", Step::Kopeck, Down, "1"),
            ("1.005", Step::Kopeck, Up, "1.01"),
            ("1.005", Step::Kopeck, HalfUp, "1.01"),
            ("1.005", Step::Kopeck, HalfEven, "1"),
            ("1.015", Step::Kopeck, HalfEven, "1.02"),
            ("1.0049999", Step::Kopeck, HalfUp, "1"),
            ("1.0000001", Step::Micro, Up, "1.000001"),
            ("1.0000009", Step::Micro, Down, "1"),
            ("1", Step::Micro, Up, "1"),
        ] {
            let rounded = Money::rounded(value.parse().unwrap(), to, way);
            assert_eq!(rounded, Some(result.parse().unwrap()), "{value} {to:?} {way:?}");
        }
    }

    #[test]
    fn values_that_are_not_money_are_not_rounded_into_it() {
        for value in ["-0.01", "1000000000000.01", "79228162514264337593543950335"] {
            let value: Decimal = value.parse().unwrap();
            assert_eq!(Money::rounded(value, Step::Kopeck, Rounding::HalfUp), None, "{value}");
        }
        let hair_below_zero: Decimal = "-0.001".parse().unwrap();
        assert_eq!(
            Money::rounded(hair_below_zero, Step::Kopeck, Rounding::HalfUp),
            Some(Money::ZERO),
            "what rounds to zero is zero"
        );
    }

    proptest! {
        /// Down never exceeds, up never falls short, and both are within one step.
        #[test]
        fn the_direction_is_kept(mantissa in 0..1_000_000_000_000i64, scale in 0..12u32) {
            let value = Decimal::new(mantissa, scale);
            let down = Money::rounded(value, Step::Kopeck, Rounding::Down).unwrap();
            let up = Money::rounded(value, Step::Kopeck, Rounding::Up).unwrap();
            prop_assert!(down.to_decimal() <= value && value <= up.to_decimal());
            prop_assert!(up.to_decimal() - down.to_decimal() <= Decimal::new(1, 2));
        }

        /// Units and micro-units say the same.
        #[test]
        fn decimals_are_exact(micros in 0..=MAX_MICROS) {
            let money = Money::from_micros(micros).unwrap();
            prop_assert_eq!(exact_micros(money.to_decimal()), Some(micros));
        }
    }
}
