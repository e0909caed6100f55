//! What a document says: everything that its pages show, as it was when the document was made.
//!
//! This is what is stored. Requisites are copied, so a later change of an address or of a director changes no
//! document; amounts are computed once, by `rules.rs`, and never again.

use adspend_common::{
    money::{Balance, Currency, Money},
    time::Day,
};
use serde::{Deserialize, Serialize};

use crate::config::Executor;

/// The other side: the payer behind the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Party {
    pub(crate) name: String,
    pub(crate) inn: String,
    pub(crate) kpp: String,
    pub(crate) address: String,
}

/// Both sides, the number, the day and the currency: every document has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) number: String,
    pub(crate) day: Day,
    pub(crate) currency: Currency,
    pub(crate) executor: Executor,
    pub(crate) customer: Party,
}

/// A sum with the VAT that it contains; the rate is in tenths of a percent, zero without VAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub(crate) gross: Money,
    pub(crate) vat: Money,
    pub(crate) rate_permille: u32,
}

impl Sum {
    /// The sum at a rate.
    pub(crate) fn at(gross: Money, rate_permille: u32) -> Sum {
        Sum { gross, vat: super::rules::included_vat(gross, rate_permille), rate_permille }
    }

    /// Without VAT.
    pub(crate) fn net(&self) -> Money {
        self.gross.saturating_sub(self.vat)
    }
}

/// A row of an act: what was done under which invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) gross: Money,
}

/// A payment order: its number, empty when the bank gave none, and its day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) number: String,
    pub(crate) day: Day,
}

/// A row of a reconciliation act; a negative amount is on the other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) day: Day,
    pub(crate) name: String,
    /// Services rendered, and money given back: what the customer owes more.
    pub(crate) debit: Money,
    /// Money received: what the customer owes less.
    pub(crate) credit: Money,
}

/// A document by its sort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Content {
    /// Счёт на оплату.
    Invoice { head: Head, sum: Sum, pay_by: Day },
    /// Акт.
    Act { head: Head, sum: Sum, first_day: Day, lines: Vec<Line> },
    /// Счёт-фактура for services rendered.
    VatInvoice {
        head: Head,
        sum: Sum,
        name: String,
        /// The number of the act that it belongs to.
        act: String,
        orders: Vec<Order>,
    },
    /// Счёт-фактура for an advance.
    AdvanceVatInvoice { head: Head, sum: Sum, orders: Vec<Order> },
    /// Акт сверки.
    Reconciliation {
        head: Head,
        first_day: Day,
        /// What the customer owed before; negative when it had paid ahead.
        opening: Balance,
        rows: Vec<Row>,
        closing: Balance,
    },
}

impl Content {
    /// What every document has.
    pub(crate) fn head(&self) -> &Head {
        match self {
            Content::Invoice { head, .. }
            | Content::Act { head, .. }
            | Content::VatInvoice { head, .. }
            | Content::AdvanceVatInvoice { head, .. }
            | Content::Reconciliation { head, .. } => head,
        }
    }

    /// The sum of the document; a reconciliation act has none.
    pub(crate) fn sum(&self) -> Option<Sum> {
        match self {
            Content::Invoice { sum, .. }
            | Content::Act { sum, .. }
            | Content::VatInvoice { sum, .. }
            | Content::AdvanceVatInvoice { sum, .. } => Some(*sum),
            Content::Reconciliation { .. } => None,
        }
    }
}
