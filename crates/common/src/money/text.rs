//! Amounts as text: `1103.34`. Read exactly, never rounded; printed with two to six decimals.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;

use super::round::exact_micros;
use super::{Balance, Money};

/// The longest text that can be an amount: a sign, 13 digits, a point and six digits.
const MAX_TEXT_BYTES: usize = 21;

/// The text is not an amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAmount {
    /// Not a decimal number such as `12` or `12.34`.
    #[error("not a decimal number")]
    NotANumber,
    /// More than six decimals, or beyond the largest amount.
    #[error("more than six decimals or beyond the largest amount")]
    NotRepresentable,
    /// Below zero where money is meant.
    #[error("money is not negative")]
    Negative,
}

impl FromStr for Money {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Money, InvalidAmount> {
        let micros = parse_micros(text)?;
        Money::from_micros(micros).ok_or(InvalidAmount::Negative)
    }
}

impl FromStr for Balance {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Balance, InvalidAmount> {
        Balance::from_micros(parse_micros(text)?).ok_or(InvalidAmount::NotRepresentable)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&print(self.to_decimal()))
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&print(self.to_decimal()))
    }
}

/// Only a sign, digits and one point with digits on both sides. `rust_decimal` would also take
/// `1_000`, `.5` and `1.`, which no statement or form of ours contains on purpose.
fn parse_micros(text: &str) -> Result<i64, InvalidAmount> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return Err(InvalidAmount::NotANumber);
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(InvalidAmount::NotRepresentable);
    }
    let value: Decimal = text.parse().map_err(|_| InvalidAmount::NotANumber)?;
    exact_micros(value).ok_or(InvalidAmount::NotRepresentable)
}

fn print(mut value: Decimal) -> String {
    if value.scale() < 2 {
        value.rescale(2);
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::MAX_MICROS;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_printed_with_two_to_six_decimals() {
        for (micros, text) in [
            (0, "0.00"),
            (1_103_340_000, "1103.34"),
            (1_000_000, "1.00"),
            (1, "0.000001"),
            (1_500, "0.0015"),
            (MAX_MICROS, "1000000000000.00"),
        ] {
            assert_eq!(Money::from_micros(micros).unwrap().to_string(), text);
        }
        assert_eq!(Balance::from_micros(-5_000).unwrap().to_string(), "-0.005");
    }

    #[test]
    fn texts_that_are_not_amounts_are_refused() {
        use InvalidAmount::{Negative, NotANumber, NotRepresentable};
        for (text, error) in [
            ("", NotANumber),
            ("-", NotANumber),
            (".5", NotANumber),
            ("1.", NotANumber),
            ("1_000", NotANumber),
            ("1,5", NotANumber),
            ("+1", NotANumber),
            (" 1", NotANumber),
            ("1e3", NotANumber),
            ("NaN", NotANumber),
            ("1.2.3", NotANumber),
            ("-0.01", Negative),
            ("0.0000001", NotRepresentable),
            ("1000000000000.000001", NotRepresentable),
            ("99999999999999999999999999999999", NotRepresentable),
        ] {
            assert_eq!(text.parse::<Money>(), Err(error), "{text:?}");
        }
        assert_eq!("1.500000".parse(), Ok(Money::from_micros(1_500_000).unwrap()));
        assert_eq!("-0".parse(), Ok(Money::ZERO));
    }

    proptest! {
        /// What is printed reads back as the same amount.
        #[test]
        fn text_reads_back(micros in -MAX_MICROS..=MAX_MICROS) {
            let balance = Balance::from_micros(micros).unwrap();
            prop_assert_eq!(balance.to_string().parse(), Ok(balance));
        }

        /// No text panics.
        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = text.parse::<Money>();
        }
    }
}
