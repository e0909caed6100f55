//! Invoices for prepayment: who must pay how much, under which number.
//!
//! An invoice has no expiry: `pay_by` is a recommendation. The amount includes VAT. The payer is
//! written down at the time of issue. What pays an invoice is decided by `payments`.
//!
//! Deliberately not here: deferred invoices and the PDF.

pub(crate) mod rules;
pub(crate) mod store;

use adspend_common::{
    db::{self, Pool},
    id::{AccountId, ResourceId},
    identity::Caller,
    money::{Currency, Money},
    time::Day,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    accounts::{self, Account},
    config,
    events::{self, Event, InvoiceFacts},
    payments,
    requests::{self, Begun, Call, Outcome},
    uuid_of,
};

pub(crate) use rules::Refusal;

/// Where an invoice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InvoiceState {
    Issued,
    Paid,
    Cancelled,
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
    pub(crate) state: InvoiceState,
    pub(crate) payer_name: String,
    pub(crate) payer_inn: String,
    pub(crate) payer_kpp: String,
    pub(crate) pay_by: Day,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) paid_at: Option<DateTime<Utc>>,
    pub(crate) payment: Option<Uuid>,
}

impl Invoice {
    /// `accounts/{account}/invoices/{invoice}`.
    pub(crate) fn name(&self) -> String {
        name(&self.account, &self.id)
    }

    /// What events say of it.
    pub(crate) fn facts(&self) -> InvoiceFacts {
        InvoiceFacts {
            invoice: self.name(),
            number: self.number.clone(),
            amount: self.amount,
            payment: self.payment.as_ref().map(payments::name),
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

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Error::Db(cause) => cause.is_contention(),
            Error::Request(cause) => cause.is_contention(),
            Error::Moved => true,
            Error::NotFound(_) | Error::Refused(_) | Error::Paid(_) | Error::Cancelled(_) => false,
        }
    }
}

/// The account named as the parent, when the caller may see it.
pub(crate) async fn parent(
    from: &impl accounts::store::Reader,
    caller: &Caller,
    id: &AccountId,
) -> Result<Account, Error> {
    match accounts::store::find(from, id).await? {
        Some(account) if caller.sees(&account.owner) => Ok(account),
        Some(_) | None => Err(Error::NotFound(id.name())),
    }
}

/// Issues an invoice to the account's payer.
pub(crate) async fn create(
    pool: &Pool,
    now: DateTime<Utc>,
    settings: &config::Invoices,
    call: &Call<Invoice>,
    caller: &Caller,
    (id, amount): (&AccountId, (Money, Currency)),
) -> Result<Outcome<Invoice>, Error> {
    db::retry("invoices.create", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let seen = parent(&tx, caller, id).await?;
        // Locked, so that it is not moved to another tenant while its invoice is being written.
        let account = accounts::store::lock(&tx, seen.key).await?.ok_or(Error::Moved)?;
        let day = Day::of(now);
        let least = settings.minimum_net(account.currency);
        let payer = rules::may_issue(&account, amount, least, day)?;
        let serial = store::next_serial(&tx).await?;
        let invoice = Invoice {
            id: adspend_common::id::new_uuid(now),
            account: account.id.clone(),
            serial,
            number: rules::number(serial, day),
            amount: amount.0,
            currency: amount.1,
            state: InvoiceState::Issued,
            payer_name: payer.name.clone(),
            payer_inn: payer.inn.clone(),
            payer_kpp: payer.kpp.clone(),
            pay_by: day.plus_days(i32::from(settings.pay_by_days)),
            created_at: now,
            paid_at: None,
            payment: None,
        };
        store::insert(&tx, account.key, &invoice).await?;
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
    caller: &Caller,
    (account, id): (&AccountId, &ResourceId),
) -> Result<Invoice, Error> {
    let client = pool.get().await?;
    let (seen, id) = in_account(&client, caller, account, id).await?;
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
    caller: &Caller,
    id: &AccountId,
    (before, limit): (i64, u32),
) -> Result<Vec<Invoice>, Error> {
    let client = pool.get().await?;
    let account = parent(&client, caller, id).await?;
    Ok(store::list(&client, account.key, before, limit).await?)
}
