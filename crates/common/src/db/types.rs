//! How our values are written to columns and read back. A column that holds something that the
//! type would refuse is an error, not a value: the database is not trusted more than a caller.

use std::error::Error as StdError;

use bytes::BytesMut;
use chrono::NaiveDate;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::id::{Collection, Id, RequestId, ResourceId};
use crate::money::{Balance, Currency, Money};
use crate::time::Day;

type Failure = Box<dyn StdError + Sync + Send>;

/// Writes and reads a type as another one that the driver knows.
macro_rules! column {
    ([$($generics:tt)*] $type:ty, as $as:ty, write $write:expr, read $read:expr) => {
        impl<$($generics)*> ToSql for $type {
            fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
                let write: fn(&Self) -> $as = $write;
                write(self).to_sql(ty, out)
            }

            fn accepts(ty: &Type) -> bool {
                <$as as ToSql>::accepts(ty)
            }

            to_sql_checked!();
        }

        impl<'row, $($generics)*> FromSql<'row> for $type {
            fn from_sql(ty: &Type, raw: &'row [u8]) -> Result<Self, Failure> {
                let read: fn($as) -> Result<Self, Failure> = $read;
                read(<$as as FromSql>::from_sql(ty, raw)?)
            }

            fn accepts(ty: &Type) -> bool {
                <$as as FromSql>::accepts(ty)
            }
        }
    };
}

column!([] Money, as i64, write |money| money.micros(),
    read |micros| Money::from_micros(micros).ok_or_else(|| format!("{micros} is not money").into()));
column!([] Balance, as i64, write |balance| balance.micros(),
    read |micros| Balance::from_micros(micros).ok_or_else(|| format!("{micros} is too large").into()));
column!([] Day, as NaiveDate, write |day| day.date(), read |date| Ok(Day::from_date(date)));
column!([] Currency, as &str, write |currency| currency.as_str(), read |text| Ok(text.parse()?));
column!([] ResourceId, as &str, write |id| id.as_str(), read |text| Ok(ResourceId::parse(text)?));
column!([] RequestId, as &str, write |id| id.as_str(), read |text| Ok(RequestId::parse(text)?));
column!([C: Collection] Id<C>, as &str, write |id| id.as_str(), read |text| Ok(Id::parse(text)?));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::AccountId;

    fn there_and_back<T>(ty: &Type, value: &T) -> T
    where
        T: ToSql + for<'a> FromSql<'a>,
    {
        let mut bytes = BytesMut::new();
        value.to_sql(ty, &mut bytes).unwrap();
        T::from_sql(ty, &bytes).unwrap()
    }

    #[test]
    fn values_read_back_from_their_columns() {
        let money = Money::from_units(5);
        assert_eq!(there_and_back(&Type::INT8, &money), money);
        let balance = Balance::from_micros(-1).unwrap();
        assert_eq!(there_and_back(&Type::INT8, &balance), balance);
        let day = Day::from_ymd(2025, 3, 31).unwrap();
        assert_eq!(there_and_back(&Type::DATE, &day), day);
        assert_eq!(there_and_back(&Type::TEXT, &Currency::KZT), Currency::KZT);
        let account = AccountId::parse("a-1").unwrap();
        assert_eq!(there_and_back(&Type::TEXT, &account), account);
        let accounts = vec![account.clone(), account];
        assert_eq!(there_and_back(&Type::TEXT_ARRAY, &accounts), accounts);
    }

    #[test]
    fn a_column_with_something_else_is_an_error() {
        assert!(Money::from_sql(&Type::INT8, &(-1i64).to_be_bytes()).is_err());
        assert!(Balance::from_sql(&Type::INT8, &i64::MIN.to_be_bytes()).is_err());
        assert!(Currency::from_sql(&Type::TEXT, b"XXX").is_err());
        assert!(AccountId::from_sql(&Type::TEXT, b"Not An Id").is_err());
        assert!(RequestId::from_sql(&Type::TEXT, b"").is_err());
        assert!(!<Money as FromSql>::accepts(&Type::INT4));
        assert!(!<Day as ToSql>::accepts(&Type::TIMESTAMPTZ));
    }
}
