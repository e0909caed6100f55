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
