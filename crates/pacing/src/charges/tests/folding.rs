//! Laws of the arithmetic of a group.

use std::collections::BTreeMap;

use adspend_common::money::Money;
use adspend_common::time::Day;
use chrono::{DateTime, Utc};
use proptest::prelude::*;

use crate::admission::token::Token;
use crate::charges::batch::{Folded, Gain, Known, NewRow, Plan, SliceRow, fold};
use crate::charges::item::{Charge, Item, Target, Verdict};
use crate::charges::rules::Books;

const SLICES: i64 = 3;

fn now() -> DateTime<Utc> {
    "2025-03-31T09:00:00Z".parse().unwrap()
}

fn token(slice_no: i64, admission_no: u32) -> Token {
    Token {
        account_no: 1,
        campaign_no: 10 + slice_no,
        slice_no,
        admission_no,
        day: Day::of(now()),
        reserved_micros: 100,
        expected_micros: 100,
        expires_at_micros: now().timestamp_micros() + 1,
    }
}

fn any_item() -> impl Strategy<Value = Item> {
    let admission = (0..SLICES, 0..6u32).prop_map(|(slice, number)| token(slice, number));
    let charge = (0..12u8, admission.clone(), 1..=100i64, prop::bool::weighted(0.1));
    prop_oneof![
        1 => admission.prop_map(Item::Cancel),
        4 => charge.prop_map(|(id, token, price, late)| Item::Charge(Charge {
            id: format!("c-{id}"),
            target: if late {
                Target::Late { account_no: 1, campaign_no: 10, is_conversion: false }
            } else {
                Target::Admission(token)
            },
            price: Money::from_micros(price).unwrap(),
        })),
    ]
}

fn folded(items: &[Item], books: Books) -> Folded {
    let plan = Plan::of(items, now());
    let row = SliceRow { hold_no: 1, books, has_cancellations: false, is_conversion: false };
    let slices = vec![Some(row); plan.slices.len()];
    let known = Known { complete: true, ..Known::default() };
    fold(items, &plan, &slices, known, now()).unwrap()
}

fn any_books() -> impl Strategy<Value = Books> {
    prop_oneof![Just(Books::Open), Just(Books::Final), Just(Books::Resolved)]
}

proptest! {
    /// A group that comes again in the same breath changes nothing, and what was done says so.
    #[test]
    fn a_group_twice_is_a_group_once(
        items in prop::collection::vec(any_item(), 1..40), books in any_books(),
    ) {
        let once = folded(&items, books);
        let twice = folded(&[items.clone(), items.clone()].concat(), books);
        prop_assert_eq!(&once.headroom, &twice.headroom);
        prop_assert_eq!((&once.holds, &once.slices), (&twice.holds, &twice.slices));
        prop_assert_eq!((&once.spends, &once.rows), (&twice.spends, &twice.rows));
        let (first, second) = twice.verdicts.split_at(items.len());
        prop_assert_eq!(first, once.verdicts.as_slice());
        for (before, after) in first.iter().zip(second) {
            let (before, after) = (*before, *after);
            match before {
                Verdict::Booked { day, late, .. } => {
                    prop_assert_eq!(after, Verdict::Booked { day, late, replayed: true });
                }
                Verdict::Cancelled { released, .. } => {
                    prop_assert_eq!(after, Verdict::Cancelled { released, replayed: true });
                }
                // Its id may be taken by now, so the reason may be another.
                Verdict::Refused(_) => prop_assert!(matches!(after, Verdict::Refused(_))),
            }
        }
    }

    /// Both levels, the rows and the sums of holds and slices tell of the same charges.
    #[test]
    fn every_sum_tells_of_the_same_charges(
        items in prop::collection::vec(any_item(), 1..40), books in any_books(),
    ) {
        let folded = folded(&items, books);
        let price = |row: &NewRow| match &items[row.item] {
            Item::Charge(charge) => charge.price.micros(),
            Item::Cancel(_) => 0,
        };
        let level = |level| -> (i64, i64) {
            let gains = folded.headroom.iter().filter(|(key, _)| key.level == level);
            gains.fold((0, 0), |sum, (_, gain)| {
                (sum.0 + gain.effect.charged.micros(), sum.1 + gain.charges)
            })
        };
        let booked: i64 = folded.rows.iter().map(price).sum();
        let count = i64::try_from(folded.rows.len()).unwrap();
        prop_assert_eq!((level(1), level(2)), ((booked, count), (booked, count)));
        let held: i64 = folded.rows.iter().filter(|row| !row.without_hold).map(price).sum();
        let sum = |gains: &BTreeMap<(i64, i64), Gain>| -> i64 {
            gains.values().map(|gain| gain.effect.charged.micros()).sum()
        };
        let spends: i64 = folded.spends.values().map(|spend| spend.micros()).sum();
        prop_assert_eq!((sum(&folded.holds), sum(&folded.slices), spends), (held, held, held));
    }

    /// Without a repeat in it, a group folds the same with nothing looked up.
    #[test]
    fn looking_nothing_up_changes_no_group_without_repeats(
        admissions in prop::collection::btree_set((0..SLICES, 0..100u32), 1..40),
        books in any_books(),
    ) {
        let items: Vec<Item> = admissions.iter().enumerate().map(|(n, (slice, number))| {
            let price = Money::from_micros(i64::try_from(n).unwrap() + 1).unwrap();
            let target = Target::Admission(token(*slice, *number));
            Item::Charge(Charge { id: format!("c-{n}"), target, price })
        }).collect();
        let plan = Plan::of(&items, now());
        let row = SliceRow { hold_no: 1, books, has_cancellations: false, is_conversion: false };
        let slices = vec![Some(row); plan.slices.len()];
        let quick = fold(&items, &plan, &slices, Known::default(), now()).unwrap();
        let whole = folded(&items, books);
        prop_assert_eq!((quick.verdicts, quick.rows), (whole.verdicts, whole.rows));
        prop_assert_eq!((quick.headroom, quick.slices), (whole.headroom, whole.slices));
    }
}
