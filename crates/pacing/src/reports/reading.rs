//! A reading of the controller as it was written down: a rate with the numbers behind it.

use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use crate::admission::rate::Rate;
use crate::budgets::Mode;
use crate::controller::rate::Why;
use crate::pacer::Cause;

/// A rate of 1 in parts of a million.
pub const WHOLE_PPM: i32 = 1_000_000;

/// What decides a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// What decided the entity's own rate.
    Own(Cause),
    /// The account's ceiling is lower than the campaign's own rate.
    AccountCeiling,
}

/// A reading. Amounts are micro-units; what a budget gives is `None` without one.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Its moment; it applies from then to the next one.
    pub read_at: DateTime<Utc>,
    /// The Moscow day of its numbers.
    pub day: Day,
    /// What share is let through, in parts of 2^32; [`Rate::ALL`] is all.
    pub rate_parts: u32,
    /// The entity's own rate, in parts of a million.
    pub own_rate_ppm: i32,
    /// The ceiling of its account.
    pub account_rate_ppm: i32,
    /// What decided the entity's own rate.
    pub cause: Cause,
    /// How the day's money is spread.
    pub mode: Option<Mode>,
    /// H(d).
    pub limit_micros: Option<i64>,
    /// T(d).
    pub target_micros: Option<i64>,
    /// What of it was due.
    pub due_micros: Option<i64>,
    /// What of it was due at the horizon.
    pub due_ahead_micros: Option<i64>,
    /// Charged on the day.
    pub charged_micros: i64,
    /// Expected of what was admitted and not charged.
    pub in_flight_micros: i64,
    /// Offered since midnight.
    pub offered_micros: i64,
    /// Opportunities since midnight.
    pub offered_count: i64,
    /// Expected up to the horizon.
    pub demand_ahead_micros: i64,
    /// Demand against its forecast.
    pub day_factor: f64,
    /// Charges against their estimates.
    pub kappa: f64,
    /// All is let through until money gets short.
    pub latched: bool,
    /// Rates are added up and no coin is tossed; `None` where an older version wrote it.
    pub is_few: Option<bool>,
}

impl Reading {
    /// The rate that applies, in parts of a million.
    pub fn rate_ppm(&self) -> i32 {
        ppm(self.rate_parts)
    }

    /// What decided the rate that applies.
    pub fn bound(&self) -> Bound {
        let least = self.own_rate_ppm.min(self.account_rate_ppm);
        if self.rate_parts == Rate::ALL && least < WHOLE_PPM {
            // The setting `pacer.throttle` is off: all budgets are as if as soon as possible.
            return Bound::Own(Cause::Why(Why::Asap));
        }
        if self.account_rate_ppm < self.own_rate_ppm {
            Bound::AccountCeiling
        } else {
            Bound::Own(self.cause)
        }
    }
}

/// Parts of 2^32 as parts of a million, rounded to the nearest; only all of it is a million.
pub fn ppm(parts: u32) -> i32 {
    if parts == Rate::ALL {
        return WHOLE_PPM;
    }
    let all = u64::from(Rate::ALL);
    let rounded = (u64::from(parts) * 1_000_000 + all / 2) / all;
    i32::try_from(rounded).unwrap_or(WHOLE_PPM).min(WHOLE_PPM - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn reading(rate_parts: u32, own_rate_ppm: i32, account_rate_ppm: i32) -> Reading {
        let day: Day = "2025-06-11".parse().unwrap();
        Reading {
            read_at: day.start(),
            day,
            rate_parts,
            own_rate_ppm,
            account_rate_ppm,
            cause: Cause::Why(Why::Curve),
            mode: Some(Mode::Traffic),
            limit_micros: None,
            target_micros: None,
            due_micros: None,
            due_ahead_micros: None,
            charged_micros: 0,
            in_flight_micros: 0,
            offered_micros: 0,
            offered_count: 0,
            demand_ahead_micros: 0,
            day_factor: 1.0,
            kappa: 1.0,
            latched: false,
            is_few: Some(false),
        }
    }

    #[test]
    fn the_bound_is_that_of_the_rate_that_applies() {
        let (curve, asap) = (Cause::Why(Why::Curve), Cause::Why(Why::Asap));
        for (name, reading, expected) in [
            ("its own", reading(1 << 31, 500_000, 1_000_000), Bound::Own(curve)),
            ("the account's", reading(1 << 30, 500_000, 250_000), Bound::AccountCeiling),
            (
                "an account is its own ceiling",
                reading(1 << 30, 250_000, 250_000),
                Bound::Own(curve),
            ),
            ("pacing is off", reading(Rate::ALL, 500_000, 250_000), Bound::Own(asap)),
        ] {
            assert_eq!(reading.bound(), expected, "{name}");
        }
    }

    #[test]
    fn only_all_of_it_is_a_million() {
        assert_eq!((ppm(0), ppm(1 << 31), ppm(Rate::ALL - 1)), (0, 500_000, 999_999));
        assert_eq!(ppm(Rate::ALL), WHOLE_PPM);
    }
}
