//! `google.type.Money` carries whole units and billionths of a unit; we keep millionths.
//!
//! The functions take and give the two numbers, so that this module does not know generated types.

use super::{Balance, MICROS_PER_UNIT, Money};

/// Billionths of a unit in a micro-unit.
const NANOS_PER_MICRO: i32 = 1_000;
/// Billionths of a unit in a unit; a wire value stays below it on both sides.
const NANOS_PER_UNIT: i32 = 1_000_000_000;

/// Why the two numbers of a `google.type.Money` are not an amount. Each text fits behind the name
/// of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// `units` and `nanos` have different signs.
    #[error("units and nanos must have the same sign")]
    WrongSign,
    /// A digit below the micro-unit.
    #[error("at most six decimals are kept")]
    MoreThanSixDecimals,
    /// `nanos` is not below a unit, or the amount is above the largest.
    #[error("the amount is out of range")]
    OutOfRange,
    /// Below zero where money is meant.
    #[error("the amount must not be negative")]
    Negative,
}

impl Money {
    /// The amount that `units` and `nanos` say, exactly.
    pub fn from_wire(units: i64, nanos: i32) -> Result<Money, WireError> {
        let balance = Balance::from_wire(units, nanos)?;
        balance.as_money().ok_or(WireError::Negative)
    }

    /// `units` and `nanos` of the amount.
    pub fn to_wire(self) -> (i64, i32) {
        Balance::from(self).to_wire()
    }
}

impl Balance {
    /// The balance that `units` and `nanos` say, exactly.
    pub fn from_wire(units: i64, nanos: i32) -> Result<Balance, WireError> {
        if nanos <= -NANOS_PER_UNIT || nanos >= NANOS_PER_UNIT {
            return Err(WireError::OutOfRange);
        }
        if (units < 0 && nanos > 0) || (units > 0 && nanos < 0) {
            return Err(WireError::WrongSign);
        }
        if nanos % NANOS_PER_MICRO != 0 {
            return Err(WireError::MoreThanSixDecimals);
        }
        units
            .checked_mul(MICROS_PER_UNIT)
            .and_then(|micros| micros.checked_add(i64::from(nanos / NANOS_PER_MICRO)))
            .and_then(Balance::from_micros)
            .ok_or(WireError::OutOfRange)
    }

    /// `units` and `nanos` of the balance, both with its sign.
    pub fn to_wire(self) -> (i64, i32) {
        let below_unit = i32::try_from(self.micros() % MICROS_PER_UNIT)
            .expect("a remainder below a million fits an i32");
        let nanos = below_unit
            .checked_mul(NANOS_PER_MICRO)
            .expect("less than a million times a thousand fits an i32");
        (self.micros() / MICROS_PER_UNIT, nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MAX_MICROS;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wire_table() {
        use WireError::{MoreThanSixDecimals, Negative, OutOfRange, WrongSign};
        for (units, nanos, result) in [
            (0, 0, Ok(0)),
            (1, 500_000_000, Ok(1_500_000)),
            (0, 1_000, Ok(1)),
            (0, 1, Err(MoreThanSixDecimals)),
            (1, -1_000, Err(WrongSign)),
            (-1, 1_000, Err(WrongSign)),
            (-1, 0, Err(Negative)),
            (0, -1_000, Err(Negative)),
            (0, 1_000_000_000, Err(OutOfRange)),
            (0, i32::MIN, Err(OutOfRange)),
            (i64::MAX, 0, Err(OutOfRange)),
            (i64::MIN, 0, Err(OutOfRange)),
            (1_000_000_000_000, 0, Ok(MAX_MICROS)),
            (1_000_000_000_000, 1_000, Err(OutOfRange)),
        ] {
            let read = Money::from_wire(units, nanos).map(Money::micros);
            assert_eq!(read, result, "{units} units and {nanos} nanos");
        }
        assert_eq!(
            Balance::from_wire(-1, -500_000_000),
            Ok(Balance::from_micros(-1_500_000).unwrap())
        );
    }

    proptest! {
        /// What is written reads back.
        #[test]
        fn the_wire_reads_back(micros in -MAX_MICROS..=MAX_MICROS) {
            let balance = Balance::from_micros(micros).unwrap();
            let (units, nanos) = balance.to_wire();
            prop_assert_eq!(Balance::from_wire(units, nanos), Ok(balance));
        }

        /// No two numbers panic, and an answer stands for exactly those numbers.
        #[test]
        fn any_wire_value_is_answered(units: i64, nanos: i32) {
            if let Ok(money) = Money::from_wire(units, nanos) {
                prop_assert_eq!(money.to_wire(), (units, nanos));
            }
        }
    }
}
