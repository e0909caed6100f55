//! The rules of promised payments as tables and laws.

use adspend_common::{
    id::AccountId,
    money::{Balance, Currency, Money},
    time::Day,
};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use uuid::Uuid;

use super::rules::*;
use crate::{
    accounts::{Account, AccountKind, AccountState, LegalEntity},
    config::{Amount, PromiseTerms},
    ledger::{AccountKey, AccountNo, TenantNo},
};

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn noon() -> DateTime<Utc> {
    at("2026-11-20T12:00:00+03:00")
}

fn agency() -> Account {
    Account {
        key: AccountKey { tenant: TenantNo(1), account: AccountNo(1) },
        id: AccountId::parse("north").unwrap(),
        kind: AccountKind::Agency,
        owner: AccountId::parse("north").unwrap(),
        display_name: "North".into(),
        currency: Currency::RUB,
        legal_entity: Some(LegalEntity {
            country: "RU".into(),
            name: "North LLC".into(),
            inn: "7707083893".into(),
            kpp: String::new(),
            ogrn: String::new(),
            address: String::new(),
        }),
        email: String::new(),
        state: AccountState::Active,
        created_at: noon(),
        revision: 1,
    }
}

fn promise(id: u128, outstanding: &str, due: &str) -> Promise {
    let due: Day = due.parse().unwrap();
    let outstanding = money(outstanding);
    Promise {
        id: Uuid::from_u128(id),
        amount: Money::from_units(5_000),
        outstanding,
        due,
        created_at: due.start() - TimeDelta::days(5),
        repaid_at: outstanding.is_zero().then(|| due.start()),
    }
}

fn offered(promises: &[Promise], turnover: &str, posted: i64, now: DateTime<Utc>) -> Offer {
    let account = agency();
    let posted = Balance::from_micros(posted).unwrap();
    let standing = Standing { account: &account, promises, turnover: money(turnover), posted };
    offer(&PromiseTerms::default(), standing, now)
}

/// due at the end of the due day, Moscow, inclusive.
#[test]
fn state_table() {
    let open = promise(1, "3000", "2026-11-25");
    for (moment, state) in [
        ("2026-11-20T00:00:00+03:00", PromiseState::Active),
        ("2026-11-25T23:59:59.999+03:00", PromiseState::Active),
        ("2026-11-25T23:59:59.999999+03:00", PromiseState::Active),
        ("2026-11-26T00:00:00+03:00", PromiseState::Overdue),
        ("2026-11-25T20:59:59.999Z", PromiseState::Active),
        ("2026-11-25T21:00:00Z", PromiseState::Overdue),
    ] {
        assert_eq!(open.state(at(moment)), state, "{moment}");
    }
    let repaid = promise(1, "0", "2026-11-25");
    assert_eq!(repaid.state(at("2027-01-01T00:00:00Z")), PromiseState::Repaid);
}

/// 24 hours before the end of the due day, and when it is over; what was told is not told again.
#[test]
fn announcement_table() {
    use Announced::{DueSoon, Nothing, Overdue};
    let open = promise(1, "3000", "2026-11-25");
    let repaid = promise(1, "0", "2026-11-25");
    for (name, promise, told, moment, next) in [
        ("long before", &open, Nothing, "2026-11-20T12:00:00+03:00", None),
        ("just before", &open, Nothing, "2026-11-24T23:59:59.999999+03:00", None),
        ("24 hours before", &open, Nothing, "2026-11-25T00:00:00+03:00", Some(DueSoon)),
        ("told", &open, DueSoon, "2026-11-25T12:00:00+03:00", None),
        ("the last moment", &open, Nothing, "2026-11-25T23:59:59.999999+03:00", Some(DueSoon)),
        ("overdue", &open, DueSoon, "2026-11-26T00:00:00+03:00", Some(Overdue)),
        ("overdue, never reminded", &open, Nothing, "2026-12-31T00:00:00+03:00", Some(Overdue)),
        ("told of both", &open, Overdue, "2026-12-31T00:00:00+03:00", None),
        ("repaid", &repaid, Nothing, "2026-11-26T00:00:00+03:00", None),
    ] {
        let day = TimeDelta::hours(24);
        assert_eq!(announcement(promise, told, day, at(moment)), next, "{name}");
    }
}

/// the smaller of the cap and the share of the turnover, less what is owed.
#[test]
fn limit_table() {
    for (name, promises, turnover, available) in [
        ("30 % of the turnover", vec![], "100000", "30000"),
        ("one promise's most", vec![], "50000000", "1000000"),
        ("less what is owed", vec![promise(1, "5000", "2026-11-25")], "100000", "25000"),
        ("whole kopecks", vec![], "1000.05", "300.01"),
        ("exactly the least", vec![], "333.34", "100"),
    ] {
        let offer = offered(&promises, turnover, 1, noon());
        assert_eq!(offer.refusals, [], "{name}");
        assert_eq!(offer.available, money(available), "{name}");
    }
    let offer = offered(&[], "333.33", 1, noon());
    assert_eq!(offer.refusals, [Why::LimitReached], "a kopeck below the least");
    let capped = vec![promise(1, "2999950", "2026-11-25")];
    assert_eq!(offered(&capped, "900000000", 1, noon()).refusals, [Why::LimitReached]);
}

#[test]
fn the_due_day_is_the_term_away() {
    let offer = offered(&[], "100000", 0, at("2026-11-20T23:59:59.999+03:00"));
    assert_eq!(offer.due, Day::from_ymd(2026, 11, 25).unwrap());
    let offer = offered(&[], "100000", 0, at("2026-11-21T00:00:00+03:00"));
    assert_eq!(offer.due, Day::from_ymd(2026, 11, 26).unwrap());
}

#[test]
fn eligibility_table() {
    let terms = PromiseTerms::default();
    let why = |change: fn(&mut Account)| {
        let mut account = agency();
        change(&mut account);
        let (turnover, posted) = (money("100000"), Balance::ZERO);
        let standing = Standing { account: &account, promises: &[], turnover, posted };
        offer(&terms, standing, noon()).refusals
    };
    assert_eq!(why(|_| {}), []);
    assert_eq!(why(|a| a.kind = AccountKind::Advertiser), [Why::NotAnAgency]);
    assert_eq!(why(|a| a.kind = AccountKind::Client), [Why::NotAnAgency]);
    assert_eq!(why(|a| a.state = AccountState::Blocked), [Why::AccountBlocked]);
    assert_eq!(why(|a| a.legal_entity = None), [Why::RequisitesMissing]);
    assert_eq!(
        why(|a| a.legal_entity.as_mut().unwrap().country = "KZ".into()),
        [Why::NotAResident]
    );
    assert_eq!(why(|a| a.legal_entity.as_mut().unwrap().inn.clear()), [Why::RequisitesMissing]);
    assert_eq!(why(|a| a.currency = Currency::KZT), [Why::CurrencyNotSupported]);
    assert_eq!(
        why(|a| {
            a.kind = AccountKind::Advertiser;
            a.state = AccountState::Closed;
            a.currency = Currency::USD;
        }),
        [Why::NotAnAgency, Why::AccountBlocked, Why::CurrencyNotSupported]
    );
}

///
#[test]
fn history_table() {
    let now = at("2026-11-26T12:00:00+03:00");
    let repaid_at =
        |moment: &str| Promise { repaid_at: Some(at(moment)), ..promise(1, "0", "2026-11-18") };
    let old =
        |days| Promise { created_at: now - TimeDelta::days(days), ..promise(2, "0", "2026-11-30") };
    for (name, promises, posted, refusals) in [
        ("nothing", vec![], 0, vec![]),
        ("open and not due", vec![promise(1, "1000", "2026-11-26")], 1, vec![]),
        ("overdue", vec![promise(1, "1000", "2026-11-25")], 1, vec![Why::PromiseOverdue]),
        ("repaid in time", vec![repaid_at("2026-11-18T23:59:59+03:00")], 1, vec![]),
        (
            "repaid late",
            vec![repaid_at("2026-11-19T13:00:00+03:00")],
            1,
            vec![Why::RecentlyOverdue],
        ),
        ("repaid late, long ago", vec![repaid_at("2026-11-19T12:00:00+03:00")], 1, vec![]),
        (
            "the second without money",
            vec![promise(1, "1000", "2026-11-26")],
            0,
            vec![Why::BalanceNotPositive],
        ),
        ("the third", vec![old(27), old(1)], 1, vec![Why::TooManyPromises]),
        ("one has left the window", vec![old(28), old(1)], 1, vec![]),
        ("the first in the window needs no money", vec![old(28)], 0, vec![]),
    ] {
        assert_eq!(offered(&promises, "100000", posted, now).refusals, refusals, "{name}");
    }
}

#[test]
fn taking_table() {
    let sound = offered(&[], "100000", 0, noon());
    let refused = offered(&[], "0", 0, noon());
    let overdue = offered(&[promise(1, "1000", "2026-11-19")], "100000", 1, noon());
    let rub = Currency::RUB;
    for (name, offer, amount, currency, verdict) in [
        ("the least", &sound, "100", rub, Ok(())),
        ("the most", &sound, "30000", rub, Ok(())),
        ("below", &sound, "99.99", rub, Err(Refusal::BelowMinimum(money("100")))),
        ("above", &sound, "30000.01", rub, Err(Refusal::AboveMaximum(money("30000")))),
        (
            "another currency",
            &sound,
            "100",
            Currency::USD,
            Err(Refusal::Currency { expected: rub, found: Currency::USD }),
        ),
        ("no limit", &refused, "100", rub, Err(Refusal::NotAvailable(vec![Why::LimitReached]))),
        ("overdue", &overdue, "100", rub, Err(Refusal::Overdue(vec![Why::PromiseOverdue]))),
    ] {
        assert_eq!(take(offer, money(amount), currency), verdict, "{name}");
    }
}

/// all of it, out of money that is not another promise's.
#[test]
fn repaying_table() {
    let units = |units: i64| Balance::from_micros(units * 1_000_000).unwrap();
    let insufficient =
        |own| Err(NotRepaid::Insufficient { own: units(own), needed: Money::from_units(3_000) });
    for (name, outstanding, others, available, verdict) in [
        ("enough", "3000", 0, 3_000, Ok(Money::from_units(3_000))),
        ("a part is the others'", "3000", 2_000, 4_000, insufficient(2_000)),
        ("enough beside the others'", "3000", 2_000, 5_000, Ok(Money::from_units(3_000))),
        ("below zero", "3000", 0, -1, insufficient(-1)),
        ("repaid", "0", 0, 9_000, Err(NotRepaid::AlreadyRepaid)),
    ] {
        let promise = promise(1, outstanding, "2026-11-25");
        let others = Money::from_units(others);
        assert_eq!(repay(&promise, others, units(available)), verdict, "{name}");
    }
}

/// the oldest due day first, then the oldest; the rest stays overdue, the surplus stays on the balance.
#[test]
fn collecting_table() {
    let now = at("2026-11-26T12:00:00+03:00");
    let overdue = promise(1, "3000", "2026-11-25");
    let not_due = promise(2, "2000", "2026-11-26");
    let older = promise(3, "1000", "2026-11-24");
    let first_of_day = Promise {
        created_at: overdue.created_at - TimeDelta::hours(1),
        ..promise(4, "10", "2026-11-25")
    };
    for (name, promises, payment, parts) in [
        ("worked (R-71)", vec![&overdue, &not_due], "4000", vec![(1, "3000")]),
        ("a part", vec![&overdue], "2999.99", vec![(1, "2999.99")]),
        ("the older due day first", vec![&overdue, &older], "1500", vec![(3, "1000"), (1, "500")]),
        ("then the older promise", vec![&overdue, &first_of_day], "20", vec![(4, "10"), (1, "10")]),
        ("nothing is due", vec![&not_due], "4000", vec![]),
        ("repaid ones are done", vec![&promise(5, "0", "2026-11-20")], "4000", vec![]),
    ] {
        let promises: Vec<Promise> = promises.into_iter().cloned().collect();
        let collected: Vec<(u128, Money)> = collect(&promises, money(payment), now)
            .into_iter()
            .map(|(promise, part)| (promise.id.as_u128(), part))
            .collect();
        let parts: Vec<(u128, Money)> =
            parts.into_iter().map(|(id, part)| (id, money(part))).collect();
        assert_eq!(collected, parts, "{name}");
    }
}

fn any_promises() -> impl Strategy<Value = Vec<Promise>> {
    let any = (0..=5_000i64, -20..20i32, 0..1_000i64).prop_map(|(owed, due, age)| {
        let due = Day::of(noon()).plus_days(due);
        (owed, due, age)
    });
    prop::collection::vec(any, 0..12).prop_map(|all| {
        let promise = |(id, (owed, due, age)): (usize, (i64, Day, i64))| Promise {
            id: Uuid::from_u128(u128::try_from(id).unwrap()),
            amount: Money::from_units(5_000),
            outstanding: Money::from_micros(owed * 1_000_000).unwrap(),
            due,
            created_at: due.start() - TimeDelta::minutes(age),
            repaid_at: (owed == 0).then(|| due.start()),
        };
        all.into_iter().enumerate().map(promise).collect()
    })
}

proptest! {
    /// A payment is used up to the overdue debt, never beyond, and never past an older debt.
    #[test]
    fn a_payment_repays_as_much_as_it_can_in_order(
        promises in any_promises(),
        payment in 0..60_000i64,
    ) {
        let payment = Money::from_micros(payment * 1_000_000).unwrap();
        let overdue: Vec<&Promise> =
            promises.iter().filter(|p| p.state(noon()) == PromiseState::Overdue).collect();
        let debt = owed(overdue.iter().copied());
        let parts = collect(&promises, payment, noon());
        let sum = Money::checked_sum(parts.iter().map(|(_, part)| *part)).unwrap();
        prop_assert_eq!(sum, payment.min(debt));
        for (promise, part) in &parts {
            prop_assert!(!part.is_zero() && *part <= promise.outstanding);
            prop_assert_eq!(promise.state(noon()), PromiseState::Overdue);
        }
        // Only the last of them may be left with a rest, and whoever is older is done.
        for (promise, part) in parts.iter().rev().skip(1) {
            prop_assert_eq!(promise.outstanding, *part);
        }
        if let Some((last, _)) = parts.last() {
            for other in overdue {
                let older = (other.due, other.created_at) < (last.due, last.created_at);
                prop_assert!(!older || parts.iter().any(|(promise, _)| promise.id == other.id));
            }
        }
    }

    /// What is offered can be taken, and taking it never passes the limit.
    #[test]
    fn an_offer_holds(promises in any_promises(), turnover in 0..20_000_000i64) {
        let turnover = Money::from_micros(turnover * 1_000_000).unwrap();
        let account = agency();
        let terms = PromiseTerms { activations: 100, cap: Amount(money("50000")), ..Default::default() };
        let posted = Balance::from_micros(1).unwrap();
        let standing = Standing { account: &account, promises: &promises, turnover, posted };
        let offer = offer(&terms, standing, noon());
        prop_assert_eq!(offer.refusals.is_empty(), !offer.available.is_zero());
        if offer.refusals.is_empty() {
            prop_assert_eq!(take(&offer, offer.available, Currency::RUB), Ok(()));
            let after = offer.outstanding.checked_add(offer.available).unwrap();
            prop_assert!(after <= terms.cap.0 && after.micros() * 10 <= turnover.micros() * 3);
            let more = offer.available.checked_add(money("0.01")).unwrap();
            prop_assert!(take(&offer, more, Currency::RUB).is_err());
        } else {
            prop_assert!(take(&offer, offer.min, Currency::RUB).is_err());
        }
    }

    /// Time alone makes a promise overdue, and nothing but paying makes it anything else.
    #[test]
    fn a_promise_is_overdue_for_good(days in -10..10i32, later in 0..100_000i64) {
        let due = Day::of(noon()).plus_days(days);
        let promise = Promise { due, ..promise(1, "1", "2026-11-20") };
        let then = noon() + TimeDelta::minutes(later);
        let overdue = |at| promise.state(at) == PromiseState::Overdue;
        prop_assert_eq!(overdue(then), then >= due.end());
        prop_assert!(!overdue(noon()) || overdue(then));
        prop_assert_eq!(promise.paid(money("1"), then).state(then), PromiseState::Repaid);
    }
}
