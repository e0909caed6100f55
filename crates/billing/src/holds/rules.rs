//! What a hold grants, takes and gives back: pure.

use adspend_common::money::{Balance, Money};
use chrono::{DateTime, Utc};

use super::{Hold, HoldState};

/// What a hold of `asked` gets when `available` may be used: the lesser of the two, or nothing when that is
/// below `least`.
pub fn grant(asked: Money, least: Money, available: Balance) -> Option<Money> {
    let granted = asked.min(available.or_zero());
    (granted >= least && !granted.is_zero()).then_some(granted)
}

/// What a report adds for one campaign: the part that is booked out of the hold, and the part that the hold
/// does not cover and that is booked late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Out of held money.
    pub covered: Money,
    /// Out of the balance, even below zero.
    pub late: Money,
}

/// Splits what came new since the last report over what is left of the hold, in the order given. None when
/// the sums are out of range.
pub fn split(hold: &Hold, known: &[Money], reported: &[Money]) -> Option<Vec<Share>> {
    let mut left = hold.left();
    let mut shares = Vec::with_capacity(reported.len());
    for (known, reported) in known.iter().zip(reported) {
        // Reports are cumulative: a lesser figure is an old one and takes nothing back.
        let new = reported.saturating_sub(*known);
        let covered = new.min(left);
        left = left.checked_sub(covered)?;
        shares.push(Share { covered, late: new.checked_sub(covered)? });
    }
    Some(shares)
}

/// The hold as it is at a moment: past its time it holds nothing, whether or not a job has run.
pub fn at(hold: &Hold, now: DateTime<Utc>) -> Hold {
    let mut seen = hold.clone();
    if hold.state == HoldState::Open && hold.expires_at <= now {
        seen.released = hold.opened.saturating_sub(hold.settled);
        seen.state = HoldState::Expired;
    }
    seen
}

/// When a hold expires after it was extended: later than before or the same, never earlier.
pub fn extended(hold: &Hold, until: DateTime<Utc>) -> DateTime<Utc> {
    hold.expires_at.max(until)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::{AccountKey, AccountNo, TenantNo};

    fn money(units: u32) -> Money {
        Money::from_units(units)
    }

    fn hold(opened: u32, settled: u32) -> Hold {
        let at = DateTime::UNIX_EPOCH;
        Hold {
            key: AccountKey { tenant: TenantNo(1), account: AccountNo(1) },
            id: uuid::Uuid::nil(),
            opened: money(opened),
            settled: money(settled),
            released: Money::ZERO,
            late: Money::ZERO,
            sequence: 0,
            state: HoldState::Open,
            opened_at: at,
            expires_at: at + chrono::TimeDelta::seconds(60),
        }
    }

    #[test]
    fn a_hold_gets_what_is_there_or_nothing_below_its_minimum() {
        let balance = |units: i64| Balance::from_micros(units * 1_000_000).unwrap();
        for (name, asked, least, available, expected) in [
            ("all of it", 100, 1, 500, Some(100)),
            ("exactly all", 100, 1, 100, Some(100)),
            ("what is there", 100, 1, 40, Some(40)),
            ("the minimum", 100, 40, 40, Some(40)),
            ("below the minimum", 100, 41, 40, None),
            ("nothing there", 100, 1, 0, None),
            ("below zero", 100, 1, -5, None),
        ] {
            let got = grant(money(asked), money(least), balance(available));
            assert_eq!(got, expected.map(money), "{name}");
        }
    }

    #[test]
    fn a_report_takes_from_the_hold_first_and_then_from_the_balance() {
        for (name, opened, settled, known, reported, expected) in [
            ("within", 100, 0, vec![0, 0], vec![30, 20], vec![(30, 0), (20, 0)]),
            ("exactly", 100, 0, vec![0, 0], vec![60, 40], vec![(60, 0), (40, 0)]),
            ("beyond", 100, 0, vec![0, 0], vec![60, 50], vec![(60, 0), (40, 10)]),
            ("only what is new", 100, 30, vec![30], vec![50], vec![(20, 0)]),
            ("an old report", 100, 30, vec![30], vec![10], vec![(0, 0)]),
            ("nothing left", 100, 100, vec![100], vec![107], vec![(0, 7)]),
        ] {
            let of = |units: Vec<u32>| units.into_iter().map(money).collect::<Vec<_>>();
            let shares = split(&hold(opened, settled), &of(known), &of(reported)).unwrap();
            let expected: Vec<Share> = expected
                .into_iter()
                .map(|(covered, late)| Share { covered: money(covered), late: money(late) })
                .collect();
            assert_eq!(shares, expected, "{name}");
        }
    }

    #[test]
    fn a_hold_ends_with_its_time_and_not_with_a_job() {
        let hold = hold(100, 30);
        let before = at(&hold, hold.expires_at - chrono::TimeDelta::microseconds(1));
        assert_eq!((before.state, before.left()), (HoldState::Open, money(70)));
        let after = at(&hold, hold.expires_at);
        assert_eq!((after.state, after.left()), (HoldState::Expired, Money::ZERO));
        assert_eq!(after.released, money(70));
    }

    proptest! {
        /// However reports are repeated, reordered and cut, the sum booked is the highest figure reported.
        #[test]
        fn reports_in_any_order_book_the_same(
            opened in 1..1_000_u32,
            figures in proptest::collection::vec(0..2_000_u32, 1..12),
        ) {
            let mut hold = hold(opened, 0);
            let mut known = Money::ZERO;
            for figure in &figures {
                let share = split(&hold, &[known], &[money(*figure)]).unwrap()[0];
                hold.settled = hold.settled.checked_add(share.covered).unwrap();
                hold.late = hold.late.checked_add(share.late).unwrap();
                known = known.max(money(*figure));
                prop_assert!(hold.settled <= hold.opened);
                prop_assert_eq!(hold.settled.checked_add(hold.late).unwrap(), known);
            }
            prop_assert_eq!(known, money(figures.iter().copied().max().unwrap()));
        }
    }
}
