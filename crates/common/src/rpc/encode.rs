//! Domain values as the wire's common messages.

use chrono::Datelike;
use chrono::{DateTime, Utc};
use prost_types::Timestamp;

use crate::money::{Balance, Currency, Money};
use crate::proto::google::r#type as pb;
use crate::time::Day;

/// An amount of a currency.
pub fn money(amount: Money, currency: Currency) -> pb::Money {
    balance(Balance::from(amount), currency)
}

/// A balance of a currency; units and nanos carry its sign both.
pub fn balance(balance: Balance, currency: Currency) -> pb::Money {
    let (units, nanos) = balance.to_wire();
    pb::Money { currency_code: currency.as_str().to_owned(), units, nanos }
}

/// A moment.
pub fn timestamp(moment: DateTime<Utc>) -> Timestamp {
    // A leap second is 1.x thousand million nanoseconds in chrono; on the wire it is the last
    // nanosecond of the minute.
    let nanos = moment.timestamp_subsec_nanos().min(999_999_999);
    Timestamp { seconds: moment.timestamp(), nanos: i32::try_from(nanos).unwrap_or(0) }
}

/// A whole day.
pub fn date(day: Day) -> pb::Date {
    let date = day.date();
    let small = |number: u32| i32::try_from(number).unwrap_or(0);
    pb::Date { year: date.year(), month: small(date.month()), day: small(date.day()) }
}

/// A length of time.
pub fn duration(length: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debt_has_its_sign_in_both_parts() {
        let wire = balance(Balance::from_micros(-1_750_000).unwrap(), Currency::RUB);
        assert_eq!(
            (wire.units, wire.nanos, wire.currency_code.as_str()),
            (-1, -750_000_000, "RUB")
        );
        let wire = money(Money::from_micros(1).unwrap(), Currency::USD);
        assert_eq!((wire.units, wire.nanos), (0, 1_000));
    }
}
