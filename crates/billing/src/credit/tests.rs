//! The rules of credit as tables and laws.

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
    invoices::{Invoice, InvoiceState, Terms},
    ledger::{AccountKey, AccountNo, TenantNo},
};

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

fn balance(units: i64) -> Balance {
    Balance::from_micros(units * 1_000_000).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn noon() -> DateTime<Utc> {
    at("2027-06-05T12:00:00+03:00")
}

pub(super) fn advertiser() -> Account {
    Account {
        key: AccountKey { tenant: TenantNo(1), account: AccountNo(1) },
        id: AccountId::parse("shop").unwrap(),
        kind: AccountKind::Advertiser,
        owner: AccountId::parse("shop").unwrap(),
        display_name: "Shop".into(),
        currency: Currency::RUB,
        legal_entity: Some(LegalEntity {
            country: "RU".into(),
            name: "Shop LLC".into(),
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

fn unpaid(amount: &str, due: &str) -> Unpaid {
    let (amount, due) = (money(amount), due.parse().unwrap());
    Unpaid { id: Uuid::nil(), number: String::new(), amount, due, told: false }
}

fn credit(granted: &str, threshold: &str, owed: &str) -> Credit {
    let mut credit = Credit { granted: money(granted), ..Credit::default() };
    if owed != "0" {
        credit.unpaid.push(unpaid(owed, "2027-06-15"));
    }
    credit.set_threshold(money(threshold), noon());
    credit
}

/// 50 000 granted, 5 000 or 30 000 unpaid; R-98: 10 000 less 1 500.
#[test]
fn the_room_is_the_grant_and_the_overdraft_the_threshold_less_unpaid_invoices() {
    for (granted, threshold, owed, room, overdraft) in [
        ("50000", "0", "0", "50000", "0"),
        ("50000", "45000", "5000", "45000", "40000"),
        ("50000", "20000", "30000", "20000", "0"),
        ("10000", "10000", "1500", "8500", "8500"),
        ("1000", "1000", "1500", "0", "0"),
    ] {
        let credit = credit(granted, threshold, owed);
        let got = (credit.room(), credit.overdraft());
        assert_eq!(got, (money(room), money(overdraft)), "{granted} {threshold} {owed}");
    }
}

#[test]
fn a_threshold_table() {
    let too_much = |most: &str| Err(Refusal::AboveMaximum(money(most)));
    let below = |least: &str| Err(Refusal::BelowDebt(money(least)));
    for (name, granted, owed, main, posted, asked, verdict) in [
        ("R-93: up to 45 000", "50000", "5000", 100, 100, "45000", Ok(())),
        ("R-93: not above", "50000", "5000", 100, 100, "45000.01", too_much("45000")),
        ("R-93: up to 20 000", "50000", "30000", 100, 100, "20000", Ok(())),
        ("R-95: covers the debt", "10000", "0", -4_000, -4_000, "4000", Ok(())),
        ("R-95: not below it", "10000", "0", -4_000, -4_000, "3999.99", below("4000")),
        ("an unpaid invoice takes from it", "10000", "1500", -4_000, -4_000, "5000", below("5500")),
        ("held money is promised", "10000", "0", -4_000, 100, "3999", below("4000")),
        ("off above zero", "10000", "0", 1, 1, "0", Ok(())),
        ("not off at zero", "10000", "0", 0, 0, "0", Err(Refusal::BalanceNotPositive)),
        ("not off below it", "10000", "0", -1, -1, "0", below("1")),
    ] {
        let credit = credit(granted, "0", owed);
        let standing = Standing { main: balance(main), posted: balance(posted) };
        let asked = (money(asked), Currency::RUB);
        let got = may_set_threshold(&advertiser(), &credit, standing, asked, noon());
        assert_eq!(got, verdict, "{name}");
    }
}

/// 24 hours after a repayment; R-101: not while overdue; R-94: no invoice with a threshold.
#[test]
fn what_stands_against_a_change_has_its_reason() {
    let standing = Standing { main: balance(1), posted: balance(1) };
    let asked = (money("100"), Currency::RUB);
    let set = |credit: &Credit, now| may_set_threshold(&advertiser(), credit, standing, asked, now);
    let mut repaid = credit("1000", "0", "0");
    repaid.repaid(noon(), false, Money::ZERO);
    let until = noon() + TimeDelta::hours(24);
    assert_eq!(set(&repaid, until - TimeDelta::microseconds(1)), Err(Refusal::Locked { until }));
    assert_eq!(set(&repaid, until), Ok(()));

    let owing = credit("1000", "0", "500");
    let overdue = at("2027-06-16T00:00:00+03:00");
    assert_eq!(set(&owing, overdue - TimeDelta::microseconds(1)), Ok(()));
    assert_eq!(set(&owing, overdue), Err(Refusal::Overdue));
    let defer = |credit: &Credit, amount, now| may_defer(&advertiser(), credit, money(amount), now);
    assert_eq!(defer(&owing, "500", noon()), Ok(()));
    assert_eq!(defer(&owing, "500.01", noon()), Err(Refusal::AboveMaximum(money("500"))));
    assert_eq!(defer(&owing, "1", overdue), Err(Refusal::Overdue));
    assert_eq!(defer(&credit("1000", "1", "0"), "1", noon()), Err(Refusal::ThresholdOn));

    let blocked = Account { state: AccountState::Blocked, ..advertiser() };
    let why = deferral_refusals(&blocked, &credit("0", "0", "0"), noon());
    assert_eq!(why, [Why::AccountBlocked, Why::NotGranted]);
}

/// three countries; R-92: neither agencies nor their clients.
#[test]
fn who_may_have_credit() {
    let abroad = |country: &str| {
        let mut account = advertiser();
        account.legal_entity.as_mut().unwrap().country = country.to_owned();
        account
    };
    let paying_in = |currency, country| Account { currency, ..abroad(country) };
    for (account, why) in [
        (abroad("RU"), vec![]),
        (paying_in(Currency::KZT, "KZ"), vec![]),
        (paying_in(Currency::BYN, "BY"), vec![]),
        (abroad("KZ"), vec![Why::CurrencyNotSupported]),
        (paying_in(Currency::USD, "RU"), vec![Why::CurrencyNotSupported]),
        (abroad("TR"), vec![Why::CountryNotSupported]),
        (Account { kind: AccountKind::Agency, ..advertiser() }, vec![Why::NotADirectAdvertiser]),
        (
            Account { kind: AccountKind::Client, legal_entity: None, ..advertiser() },
            vec![Why::NotADirectAdvertiser, Why::LegalEntityRequired],
        ),
    ] {
        assert_eq!(ineligible(&account), why);
    }
}

/// more needs a record and no overdue debt; less and the same need nothing.
#[test]
fn what_stands_against_a_larger_grant() {
    let agency = Account { kind: AccountKind::Agency, ..advertiser() };
    let direct = advertiser();
    let owing = credit("1000", "0", "500");
    let overdue = at("2027-06-16T00:00:00+03:00");
    let not_available = |why: &[Why]| Err(Refusal::NotAvailable(why.to_vec()));
    let short = [Why::SpendTooLow];
    for (name, account, granted, short, now, verdict) in [
        ("more with a record", &direct, "1000.01", &[][..], noon(), Ok(())),
        ("more without one", &direct, "1000.01", &short, noon(), not_available(&short)),
        ("the same without one", &direct, "1000", &short, noon(), Ok(())),
        ("less without one", &direct, "999", &short, noon(), Ok(())),
        ("more while overdue", &direct, "1000.01", &[], overdue, Err(Refusal::Overdue)),
        ("less while overdue", &direct, "0", &short, overdue, Ok(())),
        ("an agency", &agency, "2000", &[], noon(), not_available(&[Why::NotADirectAdvertiser])),
        ("an agency loses it", &agency, "0", &[], noon(), Ok(())),
    ] {
        let got = may_raise(account, &owing, (money(granted), short), now);
        assert_eq!(got, verdict, "{name}");
    }
}

/// the lien first, then free money; not the overdraft, and not money that is spent.
#[test]
fn a_repayment_table() {
    let invoice = |terms, state| Invoice {
        id: Uuid::nil(),
        account: AccountId::parse("shop").unwrap(),
        serial: 1,
        number: "AS-27-000001".into(),
        amount: money("1000"),
        currency: Currency::RUB,
        terms,
        state,
        payer_name: String::new(),
        payer_inn: String::new(),
        payer_kpp: String::new(),
        method: crate::invoices::Method::BankTransfer,
        repayer: None,
        pay_by: "2027-06-15".parse().unwrap(),
        created_at: noon(),
        paid_at: None,
        payment: None,
        repayment: None,
    };
    let open = invoice(Terms::Deferred, InvoiceState::Issued);
    let parts = |frozen, main| Ok(Parts { frozen: money(frozen), main: money(main) });
    let short = |own| Err(Refusal::Insufficient { own: balance(own), needed: money("1000") });
    for (name, main, frozen, verdict) in [
        ("free money alone", 1_500, "0", parts("0", "1000")),
        ("to the kopeck", 1_000, "0", parts("0", "1000")),
        ("the lien alone", 0, "1700", parts("1000", "0")),
        ("the lien first", 900, "700", parts("700", "300")),
        ("both are not enough", 299, "700", short(999)),
        ("below zero is spent", -200, "1100", short(900)),
        ("below zero, and enough", -200, "1200", parts("1000", "0")),
        ("nothing", -8_500, "0", short(-8_500)),
    ] {
        let funds = (balance(main), money(frozen));
        let got = may_repay(&open, (money("1000"), Currency::RUB), funds);
        assert_eq!(got, verdict, "{name}");
    }
    let plenty = (balance(9_000), Money::ZERO);
    let asked = (money("1000"), Currency::RUB);
    for (invoice, asked, refusal) in [
        (invoice(Terms::Deferred, InvoiceState::Paid), asked, Refusal::AlreadyPaid),
        (invoice(Terms::Prepaid, InvoiceState::Issued), asked, Refusal::NotDeferred),
        (invoice(Terms::Prepaid, InvoiceState::Paid), asked, Refusal::NotDeferred),
        (open.clone(), (money("999.99"), Currency::RUB), Refusal::NotExact(money("1000"))),
        (
            open,
            (money("1000"), Currency::USD),
            Refusal::Currency { expected: Currency::RUB, found: Currency::USD },
        ),
    ] {
        assert_eq!(may_repay(&invoice, asked, plenty), Err(refusal));
    }
}

#[test]
fn months_end_at_midnight_in_moscow() {
    for (day, end) in [
        ("2027-05-31", "2027-06-01T00:00:00+03:00"),
        ("2027-06-01", "2027-07-01T00:00:00+03:00"),
        ("2027-12-31", "2028-01-01T00:00:00+03:00"),
        ("2028-02-29", "2028-03-01T00:00:00+03:00"),
    ] {
        assert_eq!(month_end(day.parse().unwrap()), at(end), "{day}");
    }
    let due: Day = "2027-05-31".parse().unwrap();
    assert_eq!(due.plus_days(TERM_DAYS), "2027-06-15".parse().unwrap(), "R-98");
}

#[test]
fn a_month_is_billed_to_the_next_kopeck_and_only_below_zero() {
    for (micros, amount) in [
        (-1_500_000_000, Some("1500")),
        (-1, Some("0.01")),
        (-10_000, Some("0.01")),
        (-10_001, Some("0.02")),
        (0, None),
        (700_000_000, None),
    ] {
        let posted = Balance::from_micros(micros).unwrap();
        assert_eq!(bill(posted), amount.map(money), "{micros}");
    }
}

/// What falls due, in order of time; at one moment the lien is taken before another ends.
#[test]
fn time_brings_one_thing_after_the_other() {
    let mut credit = credit("10000", "10000", "1500");
    credit.bill_at = Some(at("2027-06-01T00:00:00+03:00"));
    let overdue = at("2027-06-16T00:00:00+03:00");
    let june = at("2027-06-01T00:00:00+03:00");
    assert_eq!(credit.due(june - TimeDelta::microseconds(1)), None);
    let may: Day = "2027-05-31".parse().unwrap();
    assert_eq!(credit.due(overdue), Some(Due::MonthEnd(may)));
    credit.bill_at = Some(month_end("2027-06-01".parse().unwrap()));
    assert_eq!(credit.due(overdue), Some(Due::Overdue));
    credit.unfreeze_at = Some(overdue);
    assert_eq!(credit.due(overdue), Some(Due::Overdue), "the lien goes on without a gap");
    assert_eq!((credit.line().overdue, credit.line().next_at), (false, Some(overdue)));
    credit.unpaid[0].told = true;
    assert_eq!(credit.due(overdue), Some(Due::Unfreeze));
    credit.unfreeze_at = None;
    assert_eq!(credit.due(overdue), None, "known");
    assert_eq!((credit.line().overdue, credit.line().overdraft), (true, money("8500")));
}

/// paid on day d, back at the beginning of d + 1.
#[test]
fn frozen_money_goes_back_on_the_day_after_the_last_overdue_invoice_is_paid() {
    let paid = at("2027-06-20T23:59:59.999+03:00");
    let mut credit = credit("10000", "0", "0");
    credit.unpaid.push(unpaid("100", "2027-06-19"));
    credit.repaid(paid, true, money("700"));
    assert_eq!(credit.unfreeze_at, None, "another one is overdue");
    credit.unpaid[0].due = "2027-06-20".parse().unwrap();
    credit.repaid(paid, true, money("700"));
    assert_eq!(credit.unfreeze_at, Some(at("2027-06-21T00:00:00+03:00")));
}

proptest! {
    /// Whatever an owner may set, it covers what is below zero, and with the invoices it is not above the grant.
    #[test]
    fn a_threshold_that_may_be_set_covers_the_debt(
        granted in 0..20_000u32,
        owed in 0..5_000u32,
        main in -20_000..5_000i64,
        asked in 0..20_000u32,
    ) {
        let mut credit = Credit { granted: Money::from_units(granted), ..Credit::default() };
        if owed > 0 {
            credit.unpaid.push(unpaid(&owed.to_string(), "2027-06-15"));
        }
        let standing = Standing { main: balance(main), posted: balance(main) };
        let asked = Money::from_units(asked);
        let allowed =
            may_set_threshold(&advertiser(), &credit, standing, (asked, Currency::RUB), noon());
        if allowed.is_ok() {
            credit.set_threshold(asked, noon());
            prop_assert!(balance(main).checked_add(credit.overdraft()).unwrap() >= Balance::ZERO);
            let exposed = credit.overdraft().checked_add(credit.debt()).unwrap();
            prop_assert!(exposed <= credit.granted.max(credit.debt()));
        }
    }

    /// Booking what fell due moves on: after it nothing is due, and a month later something may be.
    #[test]
    fn time_always_comes_to_an_end(days in 0..800i64, owed in 0..2u32) {
        let mut credit = credit("1000", "500", if owed == 0 { "0" } else { "100" });
        let now = noon() + TimeDelta::days(days);
        let mut steps = 0;
        while let Some(due) = credit.due(now) {
            steps += 1;
            prop_assert!(steps <= 30);
            match due {
                Due::MonthEnd(last) => credit.bill_at = Some(month_end(last.next())),
                Due::Overdue => credit.unpaid[0].told = true,
                Due::Unfreeze => credit.unfreeze_at = None,
            }
        }
        prop_assert!(credit.line().next_at.is_none_or(|at| at > now));
    }
}
