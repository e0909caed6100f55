//! The currencies an account can have. The set is closed: a code that is not here is bad input.

use std::fmt;
use std::str::FromStr;

/// The ISO 4217 code of a currency that we keep accounts in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// The text is not the code of a currency that we keep accounts in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown currency, one of RUB, KZT, BYN, UAH, USD, EUR, CHF, TRY, UZS is expected")]
pub struct UnknownCurrency;

impl Currency {
    /// Russian rouble.
    pub const RUB: Currency = Currency(*b"RUB");
    /// Kazakhstani tenge.
    pub const KZT: Currency = Currency(*b"KZT");
    /// Belarusian rouble.
    pub const BYN: Currency = Currency(*b"BYN");
    /// Ukrainian hryvnia.
    pub const UAH: Currency = Currency(*b"UAH");
    /// United States dollar.
    pub const USD: Currency = Currency(*b"USD");
    /// Euro.
    pub const EUR: Currency = Currency(*b"EUR");
    /// Swiss franc.
    pub const CHF: Currency = Currency(*b"CHF");
    /// Turkish lira.
    pub const TRY: Currency = Currency(*b"TRY");
    /// Uzbekistani sum.
    pub const UZS: Currency = Currency(*b"UZS");

    /// Every currency, in the order of our documents.
    pub const ALL: [Currency; 9] = [
        Self::RUB,
        Self::KZT,
        Self::BYN,
        Self::UAH,
        Self::USD,
        Self::EUR,
        Self::CHF,
        Self::TRY,
        Self::UZS,
    ];

    /// The three capital letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("every currency is three ASCII letters")
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;

    /// Takes exactly the three capital letters: `rub` and ` RUB` are refused.
    fn from_str(text: &str) -> Result<Currency, UnknownCurrency> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or(UnknownCurrency)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_currency_reads_back_from_its_code() {
        for currency in Currency::ALL {
            assert_eq!(currency.to_string().parse(), Ok(currency));
            assert!(UnknownCurrency.to_string().contains(currency.as_str()), "{currency}");
        }
    }

    #[test]
    fn other_codes_and_other_spellings_are_refused() {
        for text in ["", "rub", " RUB", "RUB ", "RU", "RUBL", "XXX", "GBP", "РУБ"] {
            assert_eq!(text.parse::<Currency>(), Err(UnknownCurrency), "{text:?}");
        }
    }
}
