//! The rules of auto top-ups as tables and laws.

use adspend_common::{
    money::{Balance, Money},
    time::Day,
};
use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::rules::*;

fn money(units: u32) -> Money {
    Money::from_units(units)
}

fn balance(units: i64) -> Balance {
    Balance::from_micros(units * 1_000_000).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

fn settings(amount: u32, threshold: u32, limit: u32) -> Settings {
    Settings {
        amount: money(amount),
        threshold: money(threshold),
        limit: money(limit),
        period: Period::Day,
    }
}

fn look(client: i64, agency: i64) -> Look {
    Look { client: balance(client), agency: balance(agency), blocked: false, overdue: false }
}

/// R-111, worked: 500 at or below 0, 2 000 a day.
#[test]
fn it_fires_at_the_threshold_and_below_and_never_above_it() {
    let shop = settings(500, 0, 2_000);
    let fires = |used| Step::Fire { used: money(used) };
    for (name, settings, used, look, expected) in [
        ("at zero", shop, 0, look(0, 9_000), fires(500)),
        ("below zero, after a late charge", shop, 0, look(-3, 9_000), fires(500)),
        ("a balance of 10", shop, 0, look(10, 9_000), Step::Rest),
        ("at a threshold of 100", settings(500, 100, 2_000), 0, look(100, 9_000), fires(500)),
        ("above a threshold of 100", settings(500, 100, 2_000), 0, look(101, 9_000), Step::Rest),
        ("the fourth", shop, 1_500, look(0, 9_000), fires(2_000)),
        ("the fifth", shop, 2_000, look(0, 9_000), Step::Skip(Wait::LimitUsedUp)),
        (
            "never a part of it: 600 within 2 000 is three times",
            settings(600, 0, 2_000),
            1_800,
            look(0, 9_000),
            Step::Skip(Wait::LimitUsedUp),
        ),
        ("the agency has exactly enough", shop, 0, look(0, 500), fires(500)),
        ("the agency has 499", shop, 0, look(0, 499), Step::SwitchOff),
        ("the agency owes", shop, 0, look(0, -1), Step::SwitchOff),
        (
            "a limit that is used up does not ask the agency",
            shop,
            2_000,
            look(0, 0),
            Step::Skip(Wait::LimitUsedUp),
        ),
    ] {
        assert_eq!(step(&settings, money(used), look), expected, "{name}");
    }
}

/// what stands in the way is waited for; only want of money switches off.
#[test]
fn a_debt_or_a_block_is_waited_for() {
    let shop = settings(500, 0, 2_000);
    let overdue = Look { overdue: true, ..look(0, 0) };
    assert_eq!(step(&shop, Money::ZERO, overdue), Step::Skip(Wait::PromiseOverdue));
    let both = Look { blocked: true, ..overdue };
    assert_eq!(step(&shop, Money::ZERO, both), Step::Skip(Wait::AccountBlocked));
    let enough = Look { client: balance(1), ..both };
    assert_eq!(step(&shop, Money::ZERO, enough), Step::Rest);
}

#[test]
fn periods_begin_and_end_at_midnight_in_moscow() {
    for (period, on, start, end) in [
        (Period::Day, "2026-11-20", "2026-11-20", "2026-11-21T00:00:00+03:00"),
        (Period::Week, "2026-11-20", "2026-11-16", "2026-11-23T00:00:00+03:00"),
        (Period::Week, "2026-11-16", "2026-11-16", "2026-11-23T00:00:00+03:00"),
        (Period::Week, "2026-11-22", "2026-11-16", "2026-11-23T00:00:00+03:00"),
        (Period::Month, "2026-11-30", "2026-11-01", "2026-12-01T00:00:00+03:00"),
        (Period::Month, "2026-12-31", "2026-12-01", "2027-01-01T00:00:00+03:00"),
        (Period::Month, "2028-02-29", "2028-02-01", "2028-03-01T00:00:00+03:00"),
    ] {
        let begun = period.start(day(on));
        assert_eq!((begun, period.end(begun)), (day(start), at(end)), "{period:?} of {on}");
    }
}

///
#[test]
fn a_counter_starts_again_with_its_period_and_never_goes_back() {
    let full = Counter { start: day("2026-11-20"), used: money(2_000), sequence: 4 };
    for (period, now, expected) in [
        (Period::Day, "2026-11-20T23:59:59.999999+03:00", full),
        (Period::Day, "2026-11-21T00:00:00+03:00", Counter::new(day("2026-11-21"))),
        // A replica whose clock is a little behind.
        (Period::Day, "2026-11-19T23:59:59.999+03:00", full),
    ] {
        assert_eq!(full.at(period, at(now)), expected, "{now}");
    }
    let week = Counter { start: day("2026-11-16"), ..full };
    assert_eq!(week.at(Period::Week, at("2026-11-22T23:59:59.999+03:00")), week);
    let monday = at("2026-11-23T00:00:00+03:00");
    assert_eq!(week.at(Period::Week, monday), Counter::new(day("2026-11-23")));
    let month = Counter { start: day("2026-12-01"), ..full };
    assert_eq!(month.at(Period::Month, at("2026-12-31T23:59:59.999+03:00")), month);
    let year = at("2027-01-01T00:00:00+03:00");
    assert_eq!(month.at(Period::Month, year), Counter::new(day("2027-01-01")));
}

///
#[test]
fn a_limit_holds_at_least_one_top_up() {
    assert_eq!(wrong(&settings(500, 0, 500)), None);
    assert_eq!(wrong(&settings(500, 0, 499)).map(|(field, _)| field), Some("limit"));
}

proptest! {
    /// Taken to its end it fires at most limit / amount times, moves whole amounts out of money that the agency
    /// has, and leaves the client with at most threshold + amount of free money, or what it had before.
    #[test]
    fn firing_ends_within_its_bounds(
        amount in 1..1_000_u32,
        threshold in 0..1_000_u32,
        limit in 0..20_u32,
        client in -5_000..5_000_i64,
        agency in 0..20_000_i64,
    ) {
        let shop = settings(amount, threshold, amount * (1 + limit));
        let (mut used, mut fires) = (Money::ZERO, 0_i64);
        let mut now = look(client, agency);
        let last = loop {
            match step(&shop, used, now) {
                Step::Fire { used: after } => {
                    used = after;
                    fires += 1;
                    now.client = now.client.checked_add(shop.amount).unwrap();
                    now.agency = now.agency.checked_sub(shop.amount).unwrap();
                }
                last @ (Step::Rest | Step::Skip(_) | Step::SwitchOff) => break last,
            }
            prop_assert!(now.client <= balance(i64::from(threshold + amount)));
        };
        prop_assert!(fires <= i64::from(1 + limit));
        prop_assert!(used <= shop.limit);
        prop_assert_eq!(used, money(amount * u32::try_from(fires).unwrap()));
        prop_assert!(now.agency >= Balance::ZERO);
        if last == Step::Rest {
            prop_assert!(now.client > balance(i64::from(threshold)));
        }
    }
}

/// a reversal gives back within the period of the transfer, to the first moment of it, and never more
/// than was used.
#[test]
fn a_reversal_gives_back_in_its_own_period_only() {
    let counter = Counter { start: day("2026-11-20"), used: money(1_000), sequence: 2 };
    for (at_moment, amount, used) in [
        ("2026-11-20T12:00:00+03:00", 500, 500),
        ("2026-11-20T00:00:00+03:00", 500, 500),
        ("2026-11-19T23:59:59.999999+03:00", 500, 1_000),
        ("2026-11-20T12:00:00+03:00", 1_500, 0),
    ] {
        assert_eq!(given_back(counter, money(amount), at(at_moment)), money(used), "{at_moment}");
    }
}
