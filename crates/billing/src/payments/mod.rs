//! Money that arrives from outside (R-41..R-43, R-62): matched to an invoice, or kept until it is assigned.
//!
//! A matched payment credits the invoice's account and pays the invoice. Anything else becomes free funds
//! with the reason, in the tenant that the invoice number points at, else the one tenant whose owner has
//! the payer's INN, else the platform; also on the platform when the currency is not the account's, so that
//! a tenant's books stay in one currency. Whatever credits an account repays overdue promises first.
//!
//! Beside `rules.rs` and `store.rs`: `booking.rs`, which books any number of them in one transaction.
//!
//! Deliberately not here: reading bank statements (`statements`), refunds.

mod booking;
pub(crate) mod card;
pub(crate) mod refunds;
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
    accounts::{self, AccountKind},
    credit,
    events::{self, Event, PaymentFacts, Subject},
    invoices::{self, Method, Terms},
    ledger::{self, TenantNo},
    promised_payments::Debts,
    requests::{self, Begun, Call, Outcome},
    uuid_of,
};

use booking::Funds;
pub(crate) use booking::{Arrival, Once, book};
pub(crate) use rules::{Refusal, Unmatched};

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PaymentState {
    Credited,
    Unallocated,
    Allocated,
    /// All that did not repay promises was paid back.
    Refunded,
}

/// Who sent the money, as the bank gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payer {
    pub(crate) name: String,
    pub(crate) inn: String,
    pub(crate) kpp: String,
    pub(crate) bank_account: String,
    /// The code of its bank.
    pub(crate) bik: String,
}

/// A payment to be recorded.
#[derive(Debug, Clone)]
pub(crate) struct NewPayment {
    pub(crate) amount: Money,
    pub(crate) currency: Currency,
    pub(crate) payer: Payer,
    pub(crate) purpose: String,
    pub(crate) document_number: String,
    pub(crate) document_day: Option<Day>,
}

/// A payment as it is.
#[derive(Debug, Clone)]
pub(crate) struct Payment {
    pub(crate) id: Uuid,
    pub(crate) tenant: TenantNo,
    pub(crate) serial: i64,
    pub(crate) sent: NewPayment,
    pub(crate) state: PaymentState,
    pub(crate) reason: Option<Unmatched>,
    /// The account that it was credited to.
    pub(crate) account: Option<AccountId>,
    /// The invoice of that account that it pays.
    pub(crate) invoice: Option<Uuid>,
    pub(crate) collected: Money,
    /// What was paid back.
    pub(crate) refunded: Money,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) credited_at: Option<DateTime<Utc>>,
}

impl Payment {
    /// Its event: where it stands now.
    fn event(&self) -> (Subject<'_>, Event) {
        let account = self.account.as_ref();
        let invoice = account.zip(self.invoice.as_ref());
        let facts = PaymentFacts {
            payment: name(&self.id),
            amount: self.sent.amount,
            invoice: invoice.map(|(account, invoice)| invoices::name(account, invoice)),
            collected: self.collected,
            reason: self.reason.map(|reason| reason.name().to_owned()),
        };
        let event = match self.state {
            PaymentState::Credited => Event::PaymentCredited(facts),
            PaymentState::Unallocated => Event::PaymentUnallocated(facts),
            PaymentState::Allocated => Event::PaymentAllocated(facts),
            PaymentState::Refunded => Event::PaymentRefunded(facts),
        };
        (Subject { tenant: self.tenant, account, currency: self.sent.currency }, event)
    }
}

/// `payments/{payment}`.
pub(crate) fn name(id: &Uuid) -> String {
    format!("payments/{id}")
}

/// Why an operation on payments did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such payment, account or invoice, or not the caller's.
    #[error("{0} was not found")]
    NotFound(String),
    /// A rule says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The account was moved to another tenant between two looks; the next try sees it.
    #[error("the account has just moved")]
    Moved,
    /// The request is a repeat of another.
    #[error(transparent)]
    Request(#[from] requests::Error),
    /// The ledger said no.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The store failed.
    #[error("payment storage failed")]
    Db(#[from] db::Error),
}

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Error::Db(cause) => cause.is_contention(),
            Error::Request(cause) => cause.is_contention(),
            Error::Ledger(cause) => cause.is_contention(),
            Error::Moved => true,
            Error::NotFound(_) | Error::Refused(_) => false,
        }
    }
}

/// Books a payment that came by a method: credited when it matches, else free funds with the reason.
pub(crate) async fn record(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Payment>,
    new: (&NewPayment, Method),
) -> Result<Outcome<Payment>, Error> {
    db::retry("payments.record", requests::TRIES, || record_once(pool, now, call, new)).await
}

async fn record_once(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Payment>,
    (new, method): (&NewPayment, Method),
) -> Result<Outcome<Payment>, Error> {
    let mut client = pool.get().await?;
    let tx = match requests::begin(&mut client, call, now).await? {
        Begun::New(tx) => tx,
        Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
    };
    let (id, once) = (adspend_common::id::new_uuid(now), Once::of(call));
    let arrivals = vec![Arrival { id, once, sent: new.clone(), method }];
    let booked = booking::book(&tx, now, arrivals, None).await?.pop();
    let payment = booked.expect("one payment was given to be booked");
    Ok(requests::finish(tx, call, payment).await?)
}

/// Which free funds go where.
#[derive(Debug, Clone)]
pub(crate) struct Allocation {
    pub(crate) payment: ResourceId,
    pub(crate) account: AccountId,
    /// The invoice of the account that is marked paid.
    pub(crate) invoice: Option<ResourceId>,
}

/// Assigns an unallocated payment, whole.
pub(crate) async fn allocate(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Payment>,
    caller: &Caller,
    asked: &Allocation,
) -> Result<Outcome<Payment>, Error> {
    db::retry("payments.allocate", requests::TRIES, || {
        allocate_once(pool, now, call, caller, asked)
    })
    .await
}

async fn allocate_once(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Payment>,
    caller: &Caller,
    asked: &Allocation,
) -> Result<Outcome<Payment>, Error> {
    let mut client = pool.get().await?;
    let tx = match requests::begin(&mut client, call, now).await? {
        Begun::New(tx) => tx,
        Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
    };
    let absent = || Error::NotFound(format!("payments/{}", asked.payment));
    let id = uuid_of(&asked.payment).ok_or_else(absent)?;
    let account = accounts::store::find(&tx, &asked.account).await?;
    let account = account
        .filter(|account| caller.sees(&account.owner))
        .ok_or_else(|| Error::NotFound(asked.account.name()))?;
    let mut locked = ledger::lock(&tx, now, &[account.key]).await?;
    let mut payment = store::lock(&tx, id).await?.ok_or_else(absent)?;
    if payment.state != PaymentState::Unallocated {
        return Err(Refusal::NotUnallocated.into());
    }
    if account.kind == AccountKind::Client {
        return Err(Refusal::ClientOfAgency.into());
    }
    if account.currency != payment.sent.currency {
        let (expected, found) = (account.currency, payment.sent.currency);
        return Err(Refusal::Currency { expected, found }.into());
    }
    let from = payment.tenant;
    payment.credited_at = Some(now);
    let mut invoice = match &asked.invoice {
        None => None,
        Some(invoice) => {
            let absent = || Error::NotFound(format!("{}/invoices/{invoice}", account.id.name()));
            let id = uuid_of(invoice).ok_or_else(absent)?;
            let found = invoices::store::lock(&tx, account.key, id).await?.ok_or_else(absent)?;
            rules::payable(&found, payment.sent.amount)?;
            Some(found)
        }
    };
    let terms = invoice.as_ref().map_or(Terms::Prepaid, |invoice| invoice.terms);
    let mut debts = Debts::of(&tx, &[account.key], now).await?;
    let parts = (&mut locked, &mut debts);
    let funds = (Funds::Free(from), terms);
    booking::credit(parts, Once::of(call), (&mut payment, &account), funds)?;
    debts.write(&tx).await?;
    if let Some(invoice) = &mut invoice {
        booking::pay(&mut payment, invoice);
        invoices::store::set_state(&tx, account.key.tenant, invoice).await?;
        events::record(&tx, now, &account, &Event::InvoicePaid(invoice.facts())).await?;
    }
    if terms == Terms::Deferred {
        credit::repaid(&tx, now, &mut locked, &[account.key]).await?;
    }
    store::allocated(&tx, from, &payment, account.key).await?;
    ledger::write(&tx, locked).await?;
    let (subject, event) = payment.event();
    events::record(&tx, now, subject, &event).await?;
    Ok(requests::finish(tx, call, payment).await?)
}

/// One payment, of the tenant when one is given.
pub(crate) async fn get(
    pool: &Pool,
    tenant: Option<TenantNo>,
    id: &ResourceId,
) -> Result<Payment, Error> {
    let absent = || Error::NotFound(format!("payments/{id}"));
    let uuid = uuid_of(id).ok_or_else(absent)?;
    let client = pool.get().await?;
    let found = store::find(&client, uuid).await?;
    let seen = found.filter(|payment| tenant.is_none_or(|tenant| tenant == payment.tenant));
    seen.ok_or_else(absent)
}

/// Which payments a list shows.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    /// Only of this tenant.
    pub(crate) tenant: Option<TenantNo>,
    /// Only credited to this account, or traceable to it.
    pub(crate) account: Option<AccountId>,
    pub(crate) state: Option<PaymentState>,
    /// Before the payment with this serial.
    pub(crate) before: i64,
    pub(crate) limit: u32,
}

/// Payments, newest first.
pub(crate) async fn list(
    pool: &Pool,
    caller: &Caller,
    listed: &Listed,
) -> Result<Vec<Payment>, Error> {
    let client = pool.get().await?;
    let number = match &listed.account {
        None => None,
        Some(id) => match accounts::store::find(&client, id).await? {
            Some(account) if caller.sees(&account.owner) => Some(account.key.account),
            Some(_) | None => return Err(Error::NotFound(id.name())),
        },
    };
    Ok(store::list(&client, listed, number).await?)
}
