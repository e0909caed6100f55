//! How our values are written into JSON documents of the database and read back: amounts as whole
//! micro-units, days, currencies and ids as their texts. What the type would refuse is an error.
//!
//! Configuration has forms of its own: people write those.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::{AccountId, ResourceId};
use crate::money::{Balance, Currency, Money};
use crate::time::Day;

macro_rules! micros {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_i64(self.micros())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let micros = i64::deserialize(deserializer)?;
                <$type>::from_micros(micros).ok_or_else(|| wrong(micros))
            }
        }
    )*};
}

macro_rules! text {
    ($($type:ty, $parse:expr);* $(;)?) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let parse: fn(&str) -> Option<$type> = $parse;
                parse(&text).ok_or_else(|| wrong(&text))
            }
        }
    )*};
}

fn wrong<E: de::Error>(value: impl fmt::Display) -> E {
    E::custom(format_args!("{value} is not a value of this type"))
}

micros!(Money, Balance);
text!(
    Currency, |text| text.parse().ok();
    Day, |text| text.parse().ok();
    AccountId, |text| AccountId::parse(text).ok();
    ResourceId, |text| ResourceId::parse(text).ok();
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back_and_what_is_none_is_refused() {
        let day = Day::from_ymd(2026, 11, 20).unwrap();
        let money = Money::from_units(5);
        let account = AccountId::parse("north").unwrap();
        let written = serde_json::to_string(&(money, day, Currency::RUB, &account)).unwrap();
        assert_eq!(written, r#"[5000000,"2026-11-20","RUB","north"]"#);
        let read: (Money, Day, Currency, AccountId) = serde_json::from_str(&written).unwrap();
        assert_eq!(read, (money, day, Currency::RUB, account));
        let balance = Balance::from_micros(-1).unwrap();
        assert_eq!(serde_json::from_str::<Balance>("-1").unwrap(), balance);
        assert!(serde_json::from_str::<Money>("-1").is_err());
        assert!(serde_json::from_str::<Currency>("\"XXX\"").is_err());
        assert!(serde_json::from_str::<AccountId>("\"Not An Id\"").is_err());
        assert!(serde_json::from_str::<Day>("\"2026-02-30\"").is_err());
    }
}
