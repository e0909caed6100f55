//! Which payment pays which invoice.

use adspend_common::money::{Currency, Money};

use super::NewPayment;
use crate::invoices::{Invoice, InvoiceState};

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
    /// The invoice is in another currency.
    CurrencyMismatch,
    /// The amount is not the invoice's to the kopeck.
    AmountMismatch,
}

impl Unmatched {
    /// All of them.
    pub(crate) const ALL: [Unmatched; 6] = [
        Unmatched::NumberNotFound,
        Unmatched::InvoiceCancelled,
        Unmatched::AlreadyPaid,
        Unmatched::PayerMismatch,
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
/// the invoice's state, the payer, the currency, the amount.
pub(crate) fn matches(payment: &NewPayment, invoice: Option<&Invoice>) -> Result<(), Unmatched> {
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
    #[error("the invoice is paid")]
    InvoicePaid,
    #[error("the invoice is cancelled")]
    InvoiceCancelled,
}

/// Whether an invoice can be marked paid by an allocation. Its amount does not matter.
pub(crate) fn payable(invoice: &Invoice) -> Result<(), Refusal> {
    match invoice.state {
        InvoiceState::Issued => Ok(()),
        InvoiceState::Paid => Err(Refusal::InvoicePaid),
        InvoiceState::Cancelled => Err(Refusal::InvoiceCancelled),
    }
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
            state: InvoiceState::Issued,
            payer_name: "North".into(),
            payer_inn: "7707083893".into(),
            payer_kpp: "773601001".into(),
            pay_by: Day::from_ymd(2026, 11, 25).unwrap(),
            created_at: DateTime::UNIX_EPOCH,
            paid_at: None,
            payment: None,
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
            assert_eq!(matches(&payment, invoice.as_ref()), verdict, "{name}");
        }
    }

    #[test]
    fn reasons_have_names_of_the_catalogue() {
        use adspend_common::rpc::Reason;
        for reason in Unmatched::ALL {
            let name = format!("REASON_{}", reason.name());
            assert!(Reason::from_str_name(&name).is_some(), "{name}");
        }
    }

    proptest! {
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
            prop_assert_eq!(matches(&paid, Some(&invoice())).is_ok(), exact);
        }
    }
}
