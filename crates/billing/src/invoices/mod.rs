//! Invoices: who must pay how much, under which number.
//!
//! A prepaid invoice has no expiry: `pay_by` is a recommendation. A deferred one is credited when it is
//! issued (`credit` decides whether it may be), and is overdue when `pay_by` is over: that is never stored. The
//! amount includes VAT. The payer is written down at the time of issue. What pays an invoice is decided by
//! `payments`, and by `credit` when it is repaid from the balance.
//!
//! Beside `rules.rs` and `store.rs`: `change.rs`, another payer or method for a deferred invoice.
//!
//! Deliberately not here: the PDF.

mod change;
pub(crate) mod rules;
pub(crate) mod store;

use adspend_common::{
    db::{self, Pool, Tx},
    id::{AccountId, ResourceId},
    identity::Caller,
    money::{Currency, Money},
    time::Day,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    accounts::{self, Account, LegalEntity},
    config, credit,
    events::{self, Event, InvoiceFacts},
    ledger, payments,
    requests::{self, Begun, Call, Outcome},
    uuid_of,
};

pub(crate) use change::{NewTerms, change};
pub(crate) use rules::Refusal;

/// Where an invoice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InvoiceState {
    Issued,
    Paid,
    Cancelled,
}

/// When the money of an invoice is credited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terms {
    /// When it is paid.
    Prepaid,
    /// When it is issued.
    Deferred,
}

/// How the money of an invoice comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// From a bank account; that of every invoice that was not changed.
    BankTransfer,
    Card,
}

/// Where an invoice stands at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Issued,
    Overdue,
    Paid,
    Cancelled,
}

/// What an invoice knows of a payer that took the place of the account's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repayer {
    pub(crate) address: String,
    /// The document that names it; those of payers before stay as they are.
    pub(crate) document: Uuid,
}

/// An invoice as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invoice {
    pub(crate) id: Uuid,
    pub(crate) account: AccountId,
    pub(crate) serial: i64,
    pub(crate) number: String,
    pub(crate) amount: Money,
    pub(crate) currency: Currency,
    pub(crate) terms: Terms,
    pub(crate) state: InvoiceState,
    pub(crate) payer_name: String,
    pub(crate) payer_inn: String,
    pub(crate) payer_kpp: String,
    pub(crate) method: Method,
    /// What came with another payer; nothing as long as the account's own pays.
    pub(crate) repayer: Option<Repayer>,
    /// Advice, or the last day of a deferred one.
    pub(crate) pay_by: Day,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) paid_at: Option<DateTime<Utc>>,
    /// The payment that paid it.
    pub(crate) payment: Option<Uuid>,
    /// The posting that repaid it from the balance; then there is no payment.
    pub(crate) repayment: Option<Uuid>,
}

impl Invoice {
    /// Where it stands: a deferred one is overdue from 00:00 in Moscow after its last day.
    pub(crate) fn standing(&self, now: DateTime<Utc>) -> Standing {
        match self.state {
            InvoiceState::Paid => Standing::Paid,
            InvoiceState::Cancelled => Standing::Cancelled,
            InvoiceState::Issued => match self.terms {
                Terms::Deferred if self.pay_by.end() <= now => Standing::Overdue,
                Terms::Deferred | Terms::Prepaid => Standing::Issued,
            },
        }
    }

    /// `accounts/{account}/invoices/{invoice}`.
    pub(crate) fn name(&self) -> String {
        name(&self.account, &self.id)
    }

    /// The document that names its payer: one with its own id, until the payer changes.
    pub(crate) fn document(&self) -> Uuid {
        self.repayer.as_ref().map_or(self.id, |repayer| repayer.document)
    }

    /// What events say of it.
    pub(crate) fn facts(&self) -> InvoiceFacts {
        InvoiceFacts {
            invoice: self.name(),
            number: self.number.clone(),
            amount: self.amount,
            payment: self.payment.as_ref().map(payments::name),
            repaid_from_balance: self.repayment.is_some(),
        }
    }
}

/// The name of an invoice of an account.
pub(crate) fn name(account: &AccountId, invoice: &Uuid) -> String {
    format!("{}/invoices/{invoice}", account.name())
}

/// Why an operation on invoices did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such account or invoice, or not the caller's.
    #[error("{0} was not found")]
    NotFound(String),
    /// A rule says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is paid.
    #[error("the invoice {0} is paid")]
    Paid(String),
    /// It is cancelled.
    #[error("the invoice {0} is cancelled")]
    Cancelled(String),
    /// Its money is credited already.
    #[error("the invoice {0} is deferred and credited")]
    Deferred(String),
    /// Credit says no.
    #[error(transparent)]
    Credit(credit::rules::Refusal),
    /// The ledger said no.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The account was moved to another tenant between two looks; the next try sees it.
    #[error("the account has just moved")]
    Moved,
    /// The request is a repeat of another.
    #[error(transparent)]
    Request(#[from] requests::Error),
    /// The store failed.
    #[error("invoice storage failed")]
    Db(#[from] db::Error),
}

impl Error {
    fn is_absence(&self) -> bool {
        matches!(self, Error::NotFound(_))
    }
}

impl From<credit::Error> for Error {
    fn from(error: credit::Error) -> Error {
        match error {
            credit::Error::NotFound(name) => Error::NotFound(name),
            credit::Error::Refused(refusal) => Error::Credit(refusal),
            credit::Error::Moved => Error::Moved,
            credit::Error::Request(cause) => Error::Request(cause),
            credit::Error::Ledger(cause) => Error::Ledger(cause),
            credit::Error::Db(cause) => Error::Db(cause),
        }
    }
}

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Error::Db(cause) => cause.is_contention(),
            Error::Request(cause) => cause.is_contention(),
            Error::Moved => true,
            Error::Ledger(cause) => cause.is_contention(),
            Error::NotFound(_)
            | Error::Refused(_)
            | Error::Paid(_)
            | Error::Cancelled(_)
            | Error::Deferred(_)
            | Error::Credit(_) => false,
        }
    }
}

/// The account named as the parent, when the caller may see it.
pub(crate) async fn parent(
    from: &impl accounts::store::Reader,
    caller: &Caller,
    id: &AccountId,
) -> Result<Account, Error> {
    accounts::visible(from, caller, id).await?.ok_or_else(|| Error::NotFound(id.name()))
}

/// An invoice to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Issue {
    pub(crate) id: Uuid,
    pub(crate) amount: Money,
    pub(crate) terms: Terms,
    pub(crate) pay_by: Day,
    /// The last day of the month whose negative balance it asks for.
    pub(crate) month: Option<Day>,
    /// The date on it.
    pub(crate) at: DateTime<Utc>,
}

/// Writes an invoice to a payer under the next number.
pub(crate) async fn issue(
    tx: &Tx<'_>,
    account: &Account,
    payer: &LegalEntity,
    Issue { id, amount, terms, pay_by, month, at }: Issue,
) -> Result<Invoice, db::Error> {
    let serial = store::next_serial(tx).await?;
    let invoice = Invoice {
        id,
        account: account.id.clone(),
        serial,
        number: rules::number(serial, Day::of(at)),
        amount,
        currency: account.currency,
        terms,
        state: InvoiceState::Issued,
        payer_name: payer.name.clone(),
        payer_inn: payer.inn.clone(),
        payer_kpp: payer.kpp.clone(),
        method: Method::BankTransfer,
        repayer: None,
        pay_by,
        created_at: at,
        paid_at: None,
        payment: None,
        repayment: None,
    };
    store::insert(tx, account.key, &invoice, month).await?;
    Ok(invoice)
}

/// An invoice that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) account: AccountId,
    pub(crate) amount: (Money, Currency),
    pub(crate) terms: Terms,
}

/// Issues an invoice to the account's payer; a deferred one is credited at once.
pub(crate) async fn create(
    pool: &Pool,
    now: DateTime<Utc>,
    settings: &config::Invoices,
    call: &Call<Invoice>,
    caller: &Caller,
    asked: &Asked,
) -> Result<Outcome<Invoice>, Error> {
    db::retry("invoices.create", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let seen = parent(&tx, caller, &asked.account).await?;
        // Balances before accounts: only a deferred invoice moves money.
        let locked = match asked.terms {
            Terms::Prepaid => None,
            Terms::Deferred => Some(ledger::lock(&tx, now, &[seen.key]).await?),
        };
        // Locked, so that it is not moved to another tenant while its invoice is being written.
        let account = accounts::store::lock(&tx, seen.key).await?.ok_or(Error::Moved)?;
        let day = Day::of(now);
        let least = settings.minimum_net(account.currency);
        let payer = rules::may_issue(&account, asked.amount, least, day)?;
        let id = adspend_common::id::new_uuid(now);
        let (amount, terms) = (asked.amount.0, asked.terms);
        let days = match terms {
            Terms::Prepaid => i32::from(settings.pay_by_days),
            Terms::Deferred => credit::rules::TERM_DAYS,
        };
        if let Some(mut locked) = locked {
            let once = credit::Once { posting: call.posting_id(), hash: call.short_hash() };
            credit::defer(&tx, now, &mut locked, (&account, once), (id, amount)).await?;
            ledger::write(&tx, locked).await?;
        }
        let pay_by = day.plus_days(days);
        let new = Issue { id, amount, terms, pay_by, month: None, at: now };
        let invoice = issue(&tx, &account, payer, new).await?;
        events::record(&tx, now, &account, &Event::InvoiceIssued(invoice.facts())).await?;
        Ok(requests::finish(tx, call, invoice).await?)
    })
    .await
}

/// Cancels an unpaid invoice.
pub(crate) async fn cancel(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Invoice>,
    caller: &Caller,
    (account, id): (&AccountId, &ResourceId),
) -> Result<Outcome<Invoice>, Error> {
    db::retry("invoices.cancel", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let (seen, id) = in_account(&tx, caller, account, id).await?;
        let found = store::lock(&tx, seen.key, id).await?;
        let mut invoice = found.ok_or_else(|| Error::NotFound(name(account, &id)))?;
        if invoice.terms == Terms::Deferred && invoice.state == InvoiceState::Issued {
            return Err(Error::Deferred(invoice.name()));
        }
        invoice.state = rules::cancel(invoice.state).map_err(|state| match state {
            InvoiceState::Paid => Error::Paid(invoice.name()),
            InvoiceState::Cancelled | InvoiceState::Issued => Error::Cancelled(invoice.name()),
        })?;
        store::set_state(&tx, seen.key.tenant, &invoice).await?;
        events::record(&tx, now, &seen, &Event::InvoiceCancelled(invoice.facts())).await?;
        Ok(requests::finish(tx, call, invoice).await?)
    })
    .await
}

/// One invoice.
pub(crate) async fn get(
    pool: &Pool,
    now: DateTime<Utc>,
    caller: &Caller,
    (account, id): (&AccountId, &ResourceId),
) -> Result<Invoice, Error> {
    let client = pool.get().await?;
    let (seen, id) = in_account(&client, caller, account, id).await?;
    credit::refresh(pool, &client, now, seen.key).await?;
    let found = store::find(&client, seen.key, id).await?;
    found.ok_or_else(|| Error::NotFound(name(account, &id)))
}

/// The account of a name, and the id in it; an id that cannot be ours is not found, whoever's account it is.
async fn in_account(
    from: &impl accounts::store::Reader,
    caller: &Caller,
    account: &AccountId,
    id: &ResourceId,
) -> Result<(Account, Uuid), Error> {
    let absent = || Error::NotFound(format!("{}/invoices/{id}", account.name()));
    let seen = parent(from, caller, account).await;
    let seen = seen.map_err(|error| if error.is_absence() { absent() } else { error })?;
    let id = uuid_of(id).ok_or_else(absent)?;
    Ok((seen, id))
}

/// The invoices of an account, newest first, before the one with the serial `before`.
pub(crate) async fn list(
    pool: &Pool,
    now: DateTime<Utc>,
    caller: &Caller,
    id: &AccountId,
    (before, limit): (i64, u32),
) -> Result<Vec<Invoice>, Error> {
    let client = pool.get().await?;
    let account = parent(&client, caller, id).await?;
    credit::refresh(pool, &client, now, account.key).await?;
    Ok(store::list(&client, account.key, before, limit).await?)
}
