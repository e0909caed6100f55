//! Which payment pays which invoice.

use adspend_common::money::{Balance, Currency, Money};

use super::{NewPayment, Payment, PaymentState};
use crate::invoices::{Invoice, InvoiceState, Method, Terms};

/// Why a payment is not credited. Names go over the wire and into the database and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmatched {
    /// No number in the purpose, several, or one that is no invoice's.
    NumberNotFound,
    /// The invoice is cancelled.
    InvoiceCancelled,
    /// The invoice was paid before.
    AlreadyPaid,
    /// The payer's INN, or KPP where both have one, is not the invoice's.
    PayerMismatch,
    /// It came by another method than the invoice's.
    MethodMismatch,
    /// The invoice is in another currency.
    CurrencyMismatch,
    /// The amount is not the invoice's to the kopeck.
    AmountMismatch,
}

impl Unmatched {
    /// All of them.
    pub(crate) const ALL: [Unmatched; 7] = [
        Unmatched::NumberNotFound,
        Unmatched::InvoiceCancelled,
        Unmatched::AlreadyPaid,
        Unmatched::PayerMismatch,
        Unmatched::MethodMismatch,
        Unmatched::CurrencyMismatch,
        Unmatched::AmountMismatch,
    ];

    /// The name that callers get.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Unmatched::NumberNotFound => "NUMBER_NOT_FOUND",
            Unmatched::InvoiceCancelled => "INVOICE_CANCELLED",
            Unmatched::AlreadyPaid => "ALREADY_PAID",
            Unmatched::PayerMismatch => "PAYER_MISMATCH",
            Unmatched::MethodMismatch => "METHOD_MISMATCH",
            Unmatched::CurrencyMismatch => "CURRENCY_MISMATCH",
            Unmatched::AmountMismatch => "AMOUNT_MISMATCH",
        }
    }
}

/// The one invoice number in the purpose of a payment: `AS-26-000001`, in letters of either size, as a word
/// of its own. None when there is none or more than one: a payment order cannot pay several invoices.
pub(crate) fn invoice_number(purpose: &str) -> Option<String> {
    let mut only: Option<String> = None;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    for candidate in purpose.split(|c: char| !word(c)) {
        let candidate = candidate.trim_matches('-').to_ascii_uppercase();
        if !is_number(&candidate) {
            continue;
        }
        match &only {
            Some(known) if *known != candidate => return None,
            Some(_) | None => only = Some(candidate),
        }
    }
    only
}

/// `AS-`, two digits of a year, `-`, six digits or more.
fn is_number(text: &str) -> bool {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    match text.split('-').collect::<Vec<_>>().as_slice() {
        ["AS", year, serial] => {
            year.len() == 2 && digits(year) && (6..=19).contains(&serial.len()) && digits(serial)
        }
        _ => false,
    }
}

/// Whether the payment pays the invoice that it names; else the first reason against it, in the order of
/// the invoice's state, the payer, the method, the currency, the amount.
pub(crate) fn matches(
    (payment, method): (&NewPayment, Method),
    invoice: Option<&Invoice>,
) -> Result<(), Unmatched> {
    let Some(invoice) = invoice else { return Err(Unmatched::NumberNotFound) };
    match invoice.state {
        InvoiceState::Issued => {}
        InvoiceState::Paid => return Err(Unmatched::AlreadyPaid),
        InvoiceState::Cancelled => return Err(Unmatched::InvoiceCancelled),
    }
    let (inn, kpp) = (&payment.payer.inn, &payment.payer.kpp);
    let other_kpp = !kpp.is_empty() && !invoice.payer_kpp.is_empty() && *kpp != invoice.payer_kpp;
    if *inn != invoice.payer_inn || other_kpp {
        return Err(Unmatched::PayerMismatch);
    }
    if method != invoice.method {
        return Err(Unmatched::MethodMismatch);
    }
    if payment.currency != invoice.currency {
        return Err(Unmatched::CurrencyMismatch);
    }
    if payment.amount != invoice.amount {
        return Err(Unmatched::AmountMismatch);
    }
    Ok(())
}

/// Why free funds are not assigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the payment has no unallocated money")]
    NotUnallocated,
    #[error("a client of an agency is funded by its agency")]
    ClientOfAgency,
    #[error("the account's currency is {expected}, not {found}")]
    Currency { expected: Currency, found: Currency },
    #[error("the payment was not credited to an account")]
    NotCredited,
    #[error("{rest} of the payment is left to be paid back")]
    AboveRest { rest: Money },
    #[error("money of the account is held: its campaigns must stop first")]
    MoneyIsHeld,
    #[error("{own} of the account's own money is left, {needed} is needed")]
    NotOwn { own: Balance, needed: Money },
    #[error("the invoice is paid")]
    InvoicePaid,
    #[error("the invoice is cancelled")]
    InvoiceCancelled,
    #[error("a deferred invoice is repaid by its exact amount, {0}")]
    NotExact(Money),
}

/// Whether an invoice can be marked paid by an allocation. The amount of a prepaid one does not matter
/// a deferred one is a debt that is repaid to the kopeck.
pub(crate) fn payable(invoice: &Invoice, amount: Money) -> Result<(), Refusal> {
    match invoice.state {
        InvoiceState::Issued => match invoice.terms {
            Terms::Deferred if amount != invoice.amount => Err(Refusal::NotExact(invoice.amount)),
            Terms::Deferred | Terms::Prepaid => Ok(()),
        },
        InvoiceState::Paid => Err(Refusal::InvoicePaid),
        InvoiceState::Cancelled => Err(Refusal::InvoiceCancelled),
    }
}

/// The state that follows from what was paid back.
pub(crate) fn settled(payment: Payment) -> Payment {
    let gone = payment.refunded.checked_add(payment.collected);
    let all = !payment.refunded.is_zero() && gone == Some(payment.sent.amount);
    let state = if all { PaymentState::Refunded } else { payment.state };
    Payment { state, ..payment }
}

/// What an account has, as far as a refund needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Funds {
    pub(crate) main: Balance,
    pub(crate) held: Money,
    /// Open promises, unpaid deferred invoices, and what may only be spent: it is in `main`, and is
    /// not the account's own to take away.
    pub(crate) owed: Money,
}

/// The payment after a refund. First the payment: a credited one, its currency, what is left of it
/// (what repaid promises is spent). Then the account: nothing held, for campaigns stop first; and its own
/// money, without promises and without an overdraft, covers the amount.
pub(crate) fn refund(
    payment: &Payment,
    (amount, currency): (Money, Currency),
    funds: Funds,
) -> Result<Payment, Refusal> {
    match payment.state {
        PaymentState::Credited | PaymentState::Allocated | PaymentState::Refunded => {}
        PaymentState::Unallocated => return Err(Refusal::NotCredited),
    }
    if currency != payment.sent.currency {
        return Err(Refusal::Currency { expected: payment.sent.currency, found: currency });
    }
    let rest =
        payment.sent.amount.saturating_sub(payment.collected).saturating_sub(payment.refunded);
    let refunded = payment.refunded.checked_add(amount).filter(|_| amount <= rest);
    let refunded = refunded.ok_or(Refusal::AboveRest { rest })?;
    if !funds.held.is_zero() {
        return Err(Refusal::MoneyIsHeld);
    }
    let own = funds.main.checked_sub(funds.owed).unwrap_or(Balance::ZERO);
    if own < Balance::from(amount) {
        return Err(Refusal::NotOwn { own, needed: amount });
    }
    Ok(settled(Payment { refunded, ..payment.clone() }))
}

/// What the parts add up to; they are parts of one payment.
pub(crate) fn sum(parts: impl IntoIterator<Item = Money>) -> Money {
    Money::checked_sum(parts).expect("parts of a payment add up to it at most")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payments::Payer;
    use adspend_common::{id::AccountId, time::Day};
    use chrono::DateTime;
    use proptest::prelude::*;

    #[test]
    fn invoice_number_table() {
        for (purpose, number) in [
            ("AS-26-000001", Some("AS-26-000001")),
            ("Invoice AS-26-000001.", Some("AS-26-000001")),
            ("Оплата по счёту №AS-26-000001 от 20.11.2026, НДС 22%", Some("AS-26-000001")),
            ("as-26-000001", Some("AS-26-000001")),
            ("(AS-26-1234567)", Some("AS-26-1234567")),
            ("AS-26-000001, AS-26-000001", Some("AS-26-000001")),
            ("- AS-26-000001 -", Some("AS-26-000001")),
            ("AS-26-000001 AS-26-000002", None),
            ("AS-26-00001", None),
            ("AS-26-0000011-2", None),
            ("XAS-26-000001", None),
            ("AS-26-000001X", None),
            ("AS 26 000001", None),
            ("AS-2026-000001", None),
            ("", None),
        ] {
            assert_eq!(invoice_number(purpose).as_deref(), number, "{purpose}");
        }
    }

    fn invoice() -> Invoice {
        Invoice {
            id: uuid::Uuid::nil(),
            account: AccountId::parse("north").unwrap(),
            serial: 1,
            number: "AS-26-000001".into(),
            amount: Money::from_units(45_000),
            currency: Currency::RUB,
            terms: Terms::Prepaid,
            state: InvoiceState::Issued,
            payer_name: "North".into(),
            payer_inn: "7707083893".into(),
            payer_kpp: "773601001".into(),
            method: Method::BankTransfer,
            repayer: None,
            pay_by: Day::from_ymd(2026, 11, 25).unwrap(),
            created_at: DateTime::UNIX_EPOCH,
            paid_at: None,
            payment: None,
            repayment: None,
        }
    }

    fn payment(amount: &str, inn: &str, kpp: &str) -> NewPayment {
        NewPayment {
            amount: amount.parse().unwrap(),
            currency: Currency::RUB,
            payer: Payer {
                name: "North".into(),
                inn: inn.into(),
                kpp: kpp.into(),
                bank_account: String::new(),
                bik: String::new(),
            },
            purpose: "AS-26-000001".into(),
            document_number: String::new(),
            document_day: None,
        }
    }

    #[test]
    fn matching_table() {
        let inn = "7707083893";
        let with = |state| Invoice { state, ..invoice() };
        let bare = Invoice { payer_kpp: String::new(), ..invoice() };
        let dollars = Invoice { currency: Currency::USD, ..invoice() };
        for (name, payment, invoice, verdict) in [
            ("fits", payment("45000", inn, "773601001"), Some(invoice()), Ok(())),
            ("no KPP in the payment", payment("45000", inn, ""), Some(invoice()), Ok(())),
            ("no KPP in the invoice", payment("45000", inn, "770001001"), Some(bare), Ok(())),
            ("no invoice", payment("45000", inn, ""), None, Err(Unmatched::NumberNotFound)),
            (
                "another KPP",
                payment("45000", inn, "770001001"),
                Some(invoice()),
                Err(Unmatched::PayerMismatch),
            ),
            (
                "another payer and amount",
                payment("1", "7743001840", ""),
                Some(invoice()),
                Err(Unmatched::PayerMismatch),
            ),
            (
                "a kopeck short",
                payment("44999.99", inn, ""),
                Some(invoice()),
                Err(Unmatched::AmountMismatch),
            ),
            (
                "another currency",
                payment("45000", inn, ""),
                Some(dollars),
                Err(Unmatched::CurrencyMismatch),
            ),
            (
                "paid before, by anybody",
                payment("1", "7743001840", ""),
                Some(with(InvoiceState::Paid)),
                Err(Unmatched::AlreadyPaid),
            ),
            (
                "cancelled",
                payment("45000", inn, ""),
                Some(with(InvoiceState::Cancelled)),
                Err(Unmatched::InvoiceCancelled),
            ),
        ] {
            assert_eq!(
                matches((&payment, Method::BankTransfer), invoice.as_ref()),
                verdict,
                "{name}"
            );
        }
    }

    /// exact sum, payer and method; R-47: a prepaid invoice has but one.
    #[test]
    fn the_method_is_the_invoices() {
        use Method::{BankTransfer, Card};
        let paid = payment("45000", "7707083893", "");
        let by_card = Invoice { method: Card, terms: Terms::Deferred, ..invoice() };
        let other = Err(Unmatched::MethodMismatch);
        for (method, invoice, verdict) in [
            (BankTransfer, invoice(), Ok(())),
            (Card, invoice(), other),
            (Card, by_card.clone(), Ok(())),
            (BankTransfer, by_card.clone(), other),
        ] {
            assert_eq!(matches((&paid, method), Some(&invoice)), verdict, "{method:?}");
        }
        let nobody = payment("1", "7743001840", "");
        let first = matches((&nobody, BankTransfer), Some(&by_card));
        assert_eq!(first, Err(Unmatched::PayerMismatch), "the payer comes first");
    }

    #[test]
    fn reasons_have_names_of_the_catalogue() {
        use adspend_common::rpc::Reason;
        for reason in Unmatched::ALL {
            let name = format!("REASON_{}", reason.name());
            assert!(Reason::from_str_name(&name).is_some(), "{name}");
        }
    }

    fn credited(collected: &str, refunded: &str) -> Payment {
        settled(Payment {
            id: uuid::Uuid::nil(),
            tenant: crate::ledger::TenantNo(1),
            serial: 1,
            sent: payment("3540", "7707083893", ""),
            state: PaymentState::Credited,
            reason: None,
            account: Some(AccountId::parse("north").unwrap()),
            invoice: None,
            collected: collected.parse().unwrap(),
            refunded: refunded.parse().unwrap(),
            created_at: DateTime::UNIX_EPOCH,
            credited_at: Some(DateTime::UNIX_EPOCH),
        })
    }

    /// R-172, with R-22's deposit of 3 540 gross.
    #[test]
    fn refund_table() {
        let money = |text: &str| text.parse::<Money>().unwrap();
        let own = |own: i64, needed: &str| Refusal::NotOwn {
            own: Balance::from_micros(own * 1_000_000).unwrap(),
            needed: money(needed),
        };
        let (free, state) = (PaymentState::Unallocated, PaymentState::Credited);
        for (name, before, amount, (main, held, owed), expected) in [
            ("all, gross", credited("0", "0"), "3540", (3_540, 0, "0"), Ok(PaymentState::Refunded)),
            ("a part", credited("0", "0"), "40", (3_540, 0, "0"), Ok(state)),
            ("the rest", credited("0", "40"), "3500", (3_500, 0, "0"), Ok(PaymentState::Refunded)),
            (
                "more than is left of it, whatever the account has",
                credited("0", "40"),
                "3500.01",
                (9_999, 0, "0"),
                Err(Refusal::AboveRest { rest: money("3500") }),
            ),
            (
                "what repaid a promise is spent",
                credited("3000", "0"),
                "541",
                (9_999, 0, "0"),
                Err(Refusal::AboveRest { rest: money("540") }),
            ),
            (
                "all but that",
                credited("3000", "0"),
                "540",
                (9_999, 0, "0"),
                Ok(PaymentState::Refunded),
            ),
            (
                "again",
                credited("0", "3540"),
                "0.01",
                (9_999, 0, "0"),
                Err(Refusal::AboveRest { rest: Money::ZERO }),
            ),
            ("spent", credited("0", "0"), "3540", (3_539, 0, "0"), Err(own(3_539, "3540"))),
            ("held", credited("0", "0"), "1", (3_000, 1, "0"), Err(Refusal::MoneyIsHeld)),
            ("promised", credited("0", "0"), "541", (3_540, 0, "3000"), Err(own(540, "541"))),
            ("below zero", credited("0", "0"), "1", (-5, 0, "0"), Err(own(-5, "1"))),
            (
                "not credited",
                Payment { state: free, ..credited("0", "0") },
                "1",
                (9_999, 0, "0"),
                Err(Refusal::NotCredited),
            ),
        ] {
            let funds = Funds {
                main: Balance::from_micros(main * 1_000_000).unwrap(),
                held: Money::from_units(held),
                owed: money(owed),
            };
            let after = refund(&before, (money(amount), Currency::RUB), funds);
            assert_eq!(after.map(|payment| payment.state), expected, "{name}");
        }
        let funds = Funds {
            main: Balance::from_micros(9_000_000).unwrap(),
            held: Money::ZERO,
            owed: Money::ZERO,
        };
        let dollars = refund(&credited("0", "0"), (money("1"), Currency::USD), funds);
        let (expected, found) = (Currency::RUB, Currency::USD);
        assert_eq!(dollars.unwrap_err(), Refusal::Currency { expected, found });
    }

    proptest! {
        /// However a payment is paid back in parts, never more leaves than came.
        #[test]
        fn refunds_never_exceed_the_payment(parts in prop::collection::vec(1..2_000_u32, 0..20)) {
            let mut payment = credited("1000", "0");
            let funds = Funds {
                main: Balance::from_micros(9_000_000_000).unwrap(),
                held: Money::ZERO,
                owed: Money::ZERO,
            };
            for part in parts {
                let amount = Money::from_units(part);
                if let Ok(after) = refund(&payment, (amount, Currency::RUB), funds) {
                    payment = after;
                }
                prop_assert!(payment.refunded <= Money::from_units(2_540));
            }
        }

        /// Whatever stands around a number, it is found; and nothing panics.
        #[test]
        fn a_number_is_found_in_any_text(
            before in "[а-яА-Я .,№]{0,30}",
            serial in 0..99_999_999u32,
            after in "[ .,;:()а-я]{0,30}",
            noise in "\\PC{0,60}",
        ) {
            let number = format!("AS-26-{serial:06}");
            let found = invoice_number(&format!("{before}{number}{after}"));
            prop_assert_eq!(found.as_ref(), Some(&number));
            let _ = invoice_number(&noise);
        }

        /// Only the exact amount is credited.
        #[test]
        fn only_the_exact_amount_fits(kopecks in 1..100_000_000i64) {
            let mut paid = payment("1", "7707083893", "");
            paid.amount = Money::from_micros(kopecks * 10_000).unwrap();
            let exact = paid.amount == invoice().amount;
            prop_assert_eq!(matches((&paid, Method::BankTransfer), Some(&invoice())).is_ok(), exact);
        }
    }
}
