//! What may be invoiced, what an invoice says, and what of it may change.

use adspend_common::{
    money::{Currency, MICROS_PER_KOPECK, Money},
    time::Day,
};
use chrono::{DateTime, Datelike as _, Utc};

use super::{Invoice, InvoiceState, Method, Terms};
use crate::{
    accounts::{Account, AccountKind, AccountState, LegalEntity},
    documents::Month,
};

/// The day of the next month at whose beginning a month is closed in accounting.
const CLOSED_ON: i32 = 15;
/// The most that a card pays, in roubles.
const MOST_BY_CARD: Money = Money::from_units(299_999);

/// Why no invoice is issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the account is blocked")]
    Blocked,
    #[error("a client of an agency is funded by its agency")]
    ClientOfAgency,
    #[error("the account has no legal entity to be named as the payer")]
    NoPayer,
    #[error("the currency is {expected}, not {found}")]
    Currency { expected: Currency, found: Currency },
    #[error("the least amount is {gross}, which is {net} without VAT")]
    BelowMinimum { gross: Money, net: Money },
    #[error("the invoice is prepaid: issue a new one")]
    NotDeferred,
    #[error("the invoice is paid")]
    Paid,
    #[error("an act is closed for the month that begins on {}", .0.first())]
    ActClosed(Month),
    #[error("the month of the invoice is closed in accounting since {since}")]
    MonthClosed { since: DateTime<Utc> },
    #[error("a card pays at most {0}")]
    AboveMaximum(Money),
}

/// VAT by the payer's country: from which day, in tenths of a percent.
const VAT: [(&str, (i32, u32, u32), u32); 8] = [
    ("RU", (2019, 1, 1), 200),
    ("RU", (2026, 1, 1), 220),
    ("KZ", (2009, 1, 1), 120),
    ("KZ", (2026, 1, 1), 160),
    ("BY", (2010, 1, 1), 200),
    ("TR", (2023, 7, 10), 200),
    ("CH", (2018, 1, 1), 77),
    ("UZ", (2023, 1, 1), 120),
];

/// The rate in force on a day, in tenths of a percent; nothing where we do not collect VAT.
pub(crate) fn vat_permille(country: &str, day: Day) -> u32 {
    let mut rate = 0;
    for (of, (year, month, date), permille) in VAT {
        if of == country && Day::from_ymd(year, month, date).is_some_and(|from| from <= day) {
            rate = permille;
        }
    }
    rate
}

/// The least gross amount whose part without VAT is `net`, rounded up to the kopeck.
pub(crate) fn gross_of(net: Money, permille: u32) -> Money {
    let gross = net.mul_ratio_floor(permille.saturating_add(1_000), 1_000).unwrap_or(Money::MAX);
    let floor = gross.floor_to_kopecks();
    // Exact products are whole kopecks already; one below is cut off and must not be lost.
    let exact = i128::from(net.micros()) * i128::from(permille.saturating_add(1_000));
    if exact == i128::from(floor.micros()) * 1_000 {
        return floor;
    }
    Money::from_micros(MICROS_PER_KOPECK)
        .and_then(|kopeck| floor.checked_add(kopeck))
        .unwrap_or(Money::MAX)
}

/// The payer of an invoice of this amount, VAT included, or why there is none. `least_net` is the minimum
/// payment without VAT of the account's currency: R-48 gives it so, while amounts here are gross.
pub(crate) fn may_issue(
    account: &Account,
    (amount, currency): (Money, Currency),
    least_net: Money,
    day: Day,
) -> Result<&LegalEntity, Refusal> {
    match account.kind {
        AccountKind::Client => return Err(Refusal::ClientOfAgency),
        AccountKind::Agency | AccountKind::Advertiser => {}
    }
    match account.state {
        AccountState::Active => {}
        AccountState::Blocked | AccountState::Closed => return Err(Refusal::Blocked),
    }
    if account.currency != currency {
        return Err(Refusal::Currency { expected: account.currency, found: currency });
    }
    let payer = account.legal_entity.as_ref().ok_or(Refusal::NoPayer)?;
    let gross = gross_of(least_net, vat_permille(&payer.country, day));
    if amount < gross {
        return Err(Refusal::BelowMinimum { gross, net: least_net });
    }
    Ok(payer)
}

/// What the payer writes into the purpose: `AS-26-000001`.
pub(crate) fn number(serial: i64, day: Day) -> String {
    format!("AS-{:02}-{serial:06}", day.date().year().rem_euclid(100))
}

/// What becomes of an invoice that is cancelled.
pub(crate) fn cancel(state: InvoiceState) -> Result<InvoiceState, InvoiceState> {
    match state {
        InvoiceState::Issued => Ok(InvoiceState::Cancelled),
        InvoiceState::Paid | InvoiceState::Cancelled => Err(state),
    }
}

/// The month whose services a deferred invoice is for: that of its date. The invoice for a month's negative balance
/// is dated to that month's last day.
fn service_month(invoice: &Invoice) -> Month {
    Month::of(Day::of(invoice.created_at))
}

/// From when on a month is closed in accounting: 00:00 in Moscow of the 15th of the next month, so the 14th is the
/// last day of changes. On the 15th reconciliation acts for the month are made.
pub(crate) fn closed_in_accounting(month: Month) -> DateTime<Utc> {
    month.next().first().plus_days(CLOSED_ON - 1).start()
}

/// Whether anything of an invoice may change: an unpaid deferred one, overdue or not.
fn may_change(invoice: &Invoice) -> Result<(), Refusal> {
    match (invoice.terms, invoice.state) {
        (Terms::Deferred, InvoiceState::Issued) => Ok(()),
        (Terms::Deferred, InvoiceState::Paid) => Err(Refusal::Paid),
        // A deferred one cannot be cancelled.
        (Terms::Deferred, InvoiceState::Cancelled)
        | (Terms::Prepaid, InvoiceState::Issued | InvoiceState::Paid | InvoiceState::Cancelled) => {
            Err(Refusal::NotDeferred)
        }
    }
}

/// Whether an invoice may be paid by another payer: until its month is closed in accounting.
pub(crate) fn may_change_payer(invoice: &Invoice, now: DateTime<Utc>) -> Result<(), Refusal> {
    may_change(invoice)?;
    let since = closed_in_accounting(service_month(invoice));
    if now < since { Ok(()) } else { Err(Refusal::MonthClosed { since }) }
}

/// Whether an invoice may be paid by this method: no act is closed for its month or a later one (`last_act` is the
/// last month that has one), since acts of later months spend its money too; and the method may bring so much.
pub(crate) fn may_change_method(
    invoice: &Invoice,
    method: Method,
    last_act: Option<Month>,
) -> Result<(), Refusal> {
    may_change(invoice)?;
    if let Some(act) = last_act.filter(|act| *act >= service_month(invoice)) {
        return Err(Refusal::ActClosed(act));
    }
    match method {
        Method::BankTransfer => Ok(()),
        Method::Card if invoice.currency != Currency::RUB => {
            Err(Refusal::Currency { expected: Currency::RUB, found: invoice.currency })
        }
        Method::Card if invoice.amount > MOST_BY_CARD => Err(Refusal::AboveMaximum(MOST_BY_CARD)),
        Method::Card => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn vat_follows_the_day() {
        for (country, on, permille) in [
            ("RU", "2025-12-31", 200),
            ("RU", "2026-01-01", 220),
            ("KZ", "2025-12-31", 120),
            ("KZ", "2026-11-21", 160),
            ("US", "2026-11-21", 0),
        ] {
            assert_eq!(vat_permille(country, day(on)), permille, "{country} {on}");
        }
    }

    #[test]
    fn the_least_invoice_is_the_minimum_with_vat_on_top() {
        for (net, permille, gross) in [
            ("1000", 220, "1220"),
            ("1000", 200, "1200"),
            ("15", 0, "15"),
            ("15", 77, "16.16"),
            ("0.01", 220, "0.02"),
        ] {
            assert_eq!(gross_of(money(net), permille), money(gross), "{net} {permille}");
        }
    }

    #[test]
    fn numbers_carry_the_year_and_never_cut_the_serial() {
        assert_eq!(number(1, day("2026-11-21")), "AS-26-000001");
        assert_eq!(number(1_234_567, day("2026-11-21")), "AS-26-1234567");
        assert_eq!(number(7, day("2105-01-01")), "AS-05-000007");
    }

    #[test]
    fn only_an_issued_invoice_is_cancelled() {
        assert_eq!(cancel(InvoiceState::Issued), Ok(InvoiceState::Cancelled));
        for state in [InvoiceState::Paid, InvoiceState::Cancelled] {
            assert_eq!(cancel(state), Err(state));
        }
    }

    fn deferred(at: &str, amount: &str) -> Invoice {
        Invoice {
            id: uuid::Uuid::nil(),
            account: adspend_common::id::AccountId::parse("shop").unwrap(),
            serial: 1,
            number: "AS-27-000001".into(),
            amount: money(amount),
            currency: Currency::RUB,
            terms: Terms::Deferred,
            state: InvoiceState::Issued,
            payer_name: "Shop".into(),
            payer_inn: "7707083893".into(),
            payer_kpp: "773601001".into(),
            method: Method::BankTransfer,
            repayer: None,
            pay_by: day("2027-06-15"),
            created_at: moment(at),
            paid_at: None,
            payment: None,
            repayment: None,
        }
    }

    fn moment(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    /// R-102, over the ends of months and of a year, in Moscow's days.
    #[test]
    fn the_payer_may_change_until_the_fifteenth_begins() {
        for (issued, now, allowed) in [
            ("2027-05-20T12:00:00+03:00", "2027-05-20T12:00:00+03:00", true),
            ("2027-05-20T12:00:00+03:00", "2027-06-14T23:59:59.999999+03:00", true),
            ("2027-05-20T12:00:00+03:00", "2027-06-15T00:00:00+03:00", false),
            ("2027-05-01T00:00:00+03:00", "2027-06-14T23:59:59+03:00", true),
            ("2027-05-31T23:59:59.999999+03:00", "2027-06-15T00:00:00+03:00", false),
            ("2027-06-01T00:00:00+03:00", "2027-06-15T00:00:00+03:00", true),
            ("2027-12-31T23:59:59+03:00", "2028-01-14T23:59:59+03:00", true),
            ("2027-12-31T23:59:59+03:00", "2028-01-15T00:00:00+03:00", false),
        ] {
            let verdict = may_change_payer(&deferred(issued, "5000"), moment(now));
            assert_eq!(verdict.is_ok(), allowed, "{issued} {now}: {verdict:?}");
        }
        let closed = may_change_payer(
            &deferred("2027-05-20T12:00:00+03:00", "5000"),
            moment("2027-07-01T00:00:00+03:00"),
        );
        assert_eq!(closed, Err(Refusal::MonthClosed { since: moment("2027-06-14T21:00:00Z") }));
    }

    #[test]
    fn the_method_may_change_while_no_act_is_closed() {
        let month = |text: &str| Month::of(day(text));
        let (may, june) = (month("2027-05-01"), month("2027-06-01"));
        let change = |last_act| {
            let invoice = deferred("2027-05-31T23:59:59.999999+03:00", "5000");
            may_change_method(&invoice, Method::Card, last_act)
        };
        assert_eq!(change(None), Ok(()));
        assert_eq!(change(Some(month("2027-04-30"))), Ok(()));
        assert_eq!(change(Some(may)), Err(Refusal::ActClosed(may)));
        assert_eq!(change(Some(june)), Err(Refusal::ActClosed(june)), "it spends the money too");
    }

    /// a limit of the method, to the kopeck.
    #[test]
    fn a_card_has_a_limit_and_a_currency_and_the_bank_has_none() {
        let invoice = |amount: &str| deferred("2027-05-20T12:00:00+03:00", amount);
        let above = Err(Refusal::AboveMaximum(money("299999")));
        for (amount, method, verdict) in [
            ("299999", Method::Card, Ok(())),
            ("299999.01", Method::Card, above),
            ("299999.01", Method::BankTransfer, Ok(())),
        ] {
            assert_eq!(may_change_method(&invoice(amount), method, None), verdict, "{amount}");
        }
        let tenge = Invoice { currency: Currency::KZT, ..invoice("5000") };
        let (expected, found) = (Currency::RUB, Currency::KZT);
        let refused = Err(Refusal::Currency { expected, found });
        assert_eq!(may_change_method(&tenge, Method::Card, None), refused);
    }

    #[test]
    fn only_an_unpaid_deferred_invoice_changes() {
        use InvoiceState::{Cancelled, Issued, Paid};
        for (terms, state, verdict) in [
            (Terms::Deferred, Issued, Ok(())),
            (Terms::Deferred, Paid, Err(Refusal::Paid)),
            (Terms::Prepaid, Issued, Err(Refusal::NotDeferred)),
            (Terms::Prepaid, Paid, Err(Refusal::NotDeferred)),
            (Terms::Prepaid, Cancelled, Err(Refusal::NotDeferred)),
        ] {
            let invoice = Invoice { terms, state, ..deferred("2027-05-20T12:00:00+03:00", "5000") };
            assert_eq!(may_change_payer(&invoice, invoice.created_at), verdict);
            assert_eq!(may_change_method(&invoice, Method::BankTransfer, None), verdict);
        }
    }

    proptest! {
        /// A kopeck less than the least gross amount is less than the minimum without VAT.
        #[test]
        fn the_least_gross_amount_is_the_least(kopecks in 1..100_000_000i64, permille in 0..300u32) {
            let net = Money::from_micros(kopecks * MICROS_PER_KOPECK).unwrap();
            let gross = gross_of(net, permille);
            let reaches = |gross: i64| {
                i128::from(gross) * 1_000 >= i128::from(net.micros()) * i128::from(permille + 1_000)
            };
            prop_assert!(gross.is_whole_kopecks());
            prop_assert!(reaches(gross.micros()));
            prop_assert!(!reaches(gross.micros() - MICROS_PER_KOPECK));
        }
    }
}
