//! What happened, for whoever keeps books beside ours (G8): a transactional outbox.
//!
//! [`record`] writes an event in the transaction in which it happened; a transaction that rolls back leaves
//! none. The numbers of a tenant run 1, 2, 3, … without gaps and in the order of the commits: a trigger
//! deferred to the commit takes them from the tenant's counter, so the counter's row is locked last of all
//! whenever `record` was called, and no feature has to think of it.
//!
//! Plain transfers and the traffic of holds are not here: their log is the ledger itself, and an event for
//! each would double what they write. Whatever a back office waits for is.
//!
//! Beside `store.rs`: `feed.rs`, which hands events out.
//!
//! To add one: a variant of [`Event`], a field of the proto's oneof, an arm in `grpc/events.rs`.

mod feed;
#[cfg(test)]
mod feed_tests;
mod store;
#[cfg(test)]
mod tests;

use adspend_common::{
    db::{self, Tx},
    id::AccountId,
    money::{Currency, Money},
    time::Day,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{accounts::Account, ledger::TenantNo};

pub(crate) use feed::{Feed, Refusal, STREAMS_OF_A_CALLER, Watch};

/// Whom an event is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// Whose stream it is in.
    pub(crate) tenant: TenantNo,
    /// The account; none for money whose owner nobody knows.
    pub(crate) account: Option<&'a AccountId>,
    /// Of the event's amounts.
    pub(crate) currency: Currency,
}

impl<'a> From<&'a Account> for Subject<'a> {
    fn from(account: &'a Account) -> Subject<'a> {
        let Account { key, id, currency, .. } = account;
        Subject { tenant: key.tenant, account: Some(id), currency: *currency }
    }
}

/// What happened. Names of variants and fields are in the database and never change; a new field has a
/// default. Resources are named in full (`accounts/north/invoices/…`); amounts are in the subject's currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    AccountCreated(AccountFacts),
    AccountUpdated(AccountFacts),
    AccountBlocked(AccountFacts),
    AccountUnblocked(AccountFacts),
    /// Recorded in the tenant that the account leaves and in the one that it joins.
    ClientAttached(AccountFacts),
    /// The same; the agency is the one that it left.
    ClientDetached(AccountFacts),
    InvoiceIssued(InvoiceFacts),
    InvoicePaid(InvoiceFacts),
    InvoiceCancelled(InvoiceFacts),
    InvoiceOverdue(InvoiceFacts),
    /// Another payer or method.
    InvoiceUpdated(InvoiceFacts),
    PaymentCredited(PaymentFacts),
    PaymentUnallocated(PaymentFacts),
    PaymentAllocated(PaymentFacts),
    PaymentRefunded(PaymentFacts),
    PromiseTaken(PromiseFacts),
    PromiseRepaid(PromiseFacts),
    PromiseOverdue(PromiseFacts),
    CreditTermsChanged(CreditFacts),
    OverdraftThresholdChanged(CreditFacts),
    LienTaken(LienFacts),
    LienReturned(LienFacts),
    AutoTopUpChanged(AutoTopUpFacts),
    AutoTopUpRun(AutoTopUpFacts),
    AutoTopUpDisabled(AutoTopUpFacts),
    AutopayChanged(AutopayFacts),
    /// Charged and credited.
    AutopayRun(AutopayFacts),
    /// A charge that came to nothing.
    AutopayFailed(AutopayFacts),
    AutopayDisabled(AutopayFacts),
    DocumentMade(DocumentFacts),
    /// Invalid clicks credited back.
    ClicksCredited(CorrectionFacts),
    PostingReversed(CorrectionFacts),
}

/// Of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccountFacts {
    pub(crate) agency: Option<AccountId>,
}

/// Of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InvoiceFacts {
    pub(crate) invoice: String,
    pub(crate) number: String,
    pub(crate) amount: Money,
    /// What paid it.
    pub(crate) payment: Option<String>,
    /// No payment did: the balance. Events of before do not have it.
    #[serde(default)]
    pub(crate) repaid_from_balance: bool,
}

/// Of a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PaymentFacts {
    pub(crate) payment: String,
    /// Of the payment, or the part that was refunded.
    pub(crate) amount: Money,
    /// The invoice that it pays.
    pub(crate) invoice: Option<String>,
    /// The part that went to overdue debts.
    pub(crate) collected: Money,
    /// Why it was not credited, or why it was refunded.
    pub(crate) reason: Option<String>,
}

/// Of a promised payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PromiseFacts {
    pub(crate) promised_payment: String,
    pub(crate) amount: Money,
    pub(crate) outstanding: Money,
    pub(crate) due: Day,
}

/// Of an account's credit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CreditFacts {
    /// What an operator granted.
    pub(crate) granted: Money,
    /// The overdraft threshold in force.
    pub(crate) threshold: Money,
}

/// Of money under a lien.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LienFacts {
    pub(crate) amount: Money,
    /// The overdue invoice behind it.
    pub(crate) invoice: Option<String>,
}

/// Of an automatic top-up of the account by its agency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AutoTopUpFacts {
    /// The setting's amount, or that of the run.
    pub(crate) amount: Money,
    /// The run, as a resource.
    pub(crate) run: Option<String>,
    /// Why it went off.
    pub(crate) reason: Option<String>,
}

/// Of autopayment by card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AutopayFacts {
    /// The setting's amount, or that of the charge.
    pub(crate) amount: Money,
    /// The run, as a resource.
    pub(crate) run: Option<String>,
    /// Why a charge failed or autopayment went off.
    pub(crate) reason: Option<String>,
}

/// Of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DocumentFacts {
    pub(crate) document: String,
    pub(crate) number: String,
    /// In the words of the contract, such as `ACT`.
    pub(crate) kind: String,
}

/// Of a correction of the books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CorrectionFacts {
    /// What was corrected, as a resource.
    pub(crate) object: String,
    pub(crate) amount: Money,
    pub(crate) reason: String,
}

/// An event as it is handed out.
#[derive(Debug, Clone)]
pub(crate) struct Happened<E> {
    /// Where it stands in its stream: its number in a tenant's, its position in that of all.
    pub(crate) place: i64,
    pub(crate) number: i64,
    /// The account that owns the tenant.
    pub(crate) tenant: Option<AccountId>,
    pub(crate) account: Option<AccountId>,
    pub(crate) currency: Currency,
    pub(crate) event: E,
    pub(crate) at: DateTime<Utc>,
}

/// Records an event in the transaction of what happened, before or after anything else in it.
pub(crate) async fn record<'a>(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    subject: impl Into<Subject<'a>>,
    event: &Event,
) -> Result<(), db::Error> {
    store::insert(tx, now, [(subject.into(), event)]).await
}

/// The same for many of one transaction, in one statement; their order is kept.
pub(crate) async fn record_all(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    events: &[(Subject<'_>, Event)],
) -> Result<(), db::Error> {
    if events.is_empty() {
        return Ok(());
    }
    store::insert(tx, now, events.iter().map(|(subject, event)| (*subject, event))).await
}
