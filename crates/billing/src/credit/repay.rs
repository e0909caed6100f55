//! A deferred invoice repaid from the account's balance: frozen or main → deferred. An operator does it
//! when the owner asks.
//!
//! What follows is what follows a payment of the invoice, by the same function ([`super::repaid`]): T_eff grows
//! the overdue state ends with the last overdue invoice, what is left under the lien goes back the next day
//! the threshold is managed again a day later. A payment and a repayment at once meet at the lock
//! of the balance row: the second finds the invoice paid.
//!
//! For documents nothing happens: the payer's money came with its payments, and what was spent on credit has been
//! covered by them since (`documents::close`).

use adspend_common::{
    db::{self, Pool},
    id::{AccountId, ResourceId},
    money::{Currency, Money},
};
use chrono::{DateTime, Utc};

use super::{Error, repaid, rules};
use crate::{
    accounts,
    events::{self, Event},
    invoices::{self, Invoice, InvoiceState},
    ledger::{self, Counter, Kind, Leg, Place, Posting, State},
    requests::{self, Begun, Call, Outcome},
    uuid_of,
};

/// What is to be repaid.
#[derive(Debug, Clone)]
pub(crate) struct NewRepayment {
    pub(crate) account: AccountId,
    pub(crate) invoice: ResourceId,
    /// The invoice's amount.
    pub(crate) amount: (Money, Currency),
}

/// A repaid invoice.
#[derive(Debug, Clone)]
pub(crate) struct Repaid {
    pub(crate) invoice: Invoice,
    /// The numbers of the account's transactions that took the money.
    pub(crate) transactions: Vec<i64>,
}

/// Repays a deferred invoice in full from its account's balance.
pub(crate) async fn repay(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Repaid>,
    new: &NewRepayment,
) -> Result<Outcome<Repaid>, Error> {
    db::retry("credit.repay", requests::TRIES, || repay_once(pool, now, call, new)).await
}

async fn repay_once(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Repaid>,
    new: &NewRepayment,
) -> Result<Outcome<Repaid>, Error> {
    let mut client = pool.get().await?;
    let tx = match requests::begin(&mut client, call, now).await? {
        Begun::New(tx) => tx,
        Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
    };
    let absent = || Error::NotFound(format!("{}/invoices/{}", new.account.name(), new.invoice));
    let account = accounts::visible(&tx, &call.caller, &new.account).await?.ok_or_else(absent)?;
    let id = uuid_of(&new.invoice).ok_or_else(absent)?;
    // Balances before invoices, as payments lock them.
    let mut locked = ledger::lock(&tx, now, &[account.key]).await?;
    let row = locked.row(account.key).filter(|row| row.state != State::Moved);
    let funds = row.map(|row| (row.main, row.frozen)).ok_or(Error::Moved)?;
    let invoice = invoices::store::lock(&tx, account.key, id).await?.ok_or_else(absent)?;
    let parts = rules::may_repay(&invoice, new.amount, funds)?;
    let leg = |from, amount: Money| {
        (!amount.is_zero()).then(|| Leg {
            kind: Kind::DeferredRepaid,
            from,
            to: Place::Counter(Counter::Deferred),
            amount,
            object: Some(invoice.name().into()),
        })
    };
    let number = account.key.account;
    let out_of = [(Place::Frozen(number), parts.frozen), (Place::Main(number), parts.main)];
    let posting = Posting {
        id: call.posting_id(),
        tenant: account.key.tenant,
        legs: out_of.into_iter().filter_map(|(from, amount)| leg(from, amount)).collect(),
        payload_hash: call.short_hash(),
    };
    let posted = locked.post(&posting).map_err(ledger::Error::Refused)?;
    let invoice = Invoice {
        state: InvoiceState::Paid,
        paid_at: Some(now),
        repayment: Some(posting.id),
        ..invoice
    };
    invoices::store::set_state(&tx, account.key.tenant, &invoice).await?;
    repaid(&tx, now, &mut locked, &[account.key]).await?;
    ledger::write(&tx, locked).await?;
    events::record(&tx, now, &account, &Event::InvoicePaid(invoice.facts())).await?;
    let transactions = posted.legs.iter().map(|posted| posted.from_version).collect();
    Ok(requests::finish(tx, call, Repaid { invoice, transactions }).await?)
}
