//! Money of a payment that was paid back to its payer: main → refund.
//!
//! Per payment, gross, and in parts if need be; never more than is left of this payment, nor more than the
//! account has of its own: what is spent, held, promised, deferred or borrowed is not paid back. The transfer itself is
//! the operator's, by the same way and to the same requisites; here it is booked.

use adspend_common::{
    db::{self, Pool},
    id::ResourceId,
    money::{Currency, Money},
};
use chrono::{DateTime, Utc};

use super::{Error, Payment, Refusal, name, rules, store};
use crate::{
    accounts, credit,
    events::{self, Event, PaymentFacts},
    ledger::{self, Counter, Kind, Leg, Place, Posting},
    promised_payments,
    requests::{self, Begun, Call, Outcome},
    uuid_of,
};

/// What is paid back.
#[derive(Debug, Clone)]
pub(crate) struct NewRefund {
    pub(crate) payment: ResourceId,
    pub(crate) amount: Money,
    pub(crate) currency: Currency,
    pub(crate) reason: String,
}

/// Books a refund.
pub(crate) async fn refund(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Payment>,
    new: &NewRefund,
) -> Result<Outcome<Payment>, Error> {
    db::retry("payments.refund", requests::TRIES, || refund_once(pool, now, call, new)).await
}

async fn refund_once(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Payment>,
    new: &NewRefund,
) -> Result<Outcome<Payment>, Error> {
    let mut client = pool.get().await?;
    let tx = match requests::begin(&mut client, call, now).await? {
        Begun::New(tx) => tx,
        Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
    };
    let absent = || Error::NotFound(format!("payments/{}", new.payment));
    let id = uuid_of(&new.payment).ok_or_else(absent)?;
    // The account comes first in the order of locks; only an unallocated payment can still change it.
    let before = store::find_in(&tx, id).await?.ok_or_else(absent)?;
    let account = before.account.as_ref().ok_or(Refusal::NotCredited)?;
    let account = accounts::store::find(&tx, account).await?.ok_or(Error::Moved)?;
    if account.key.tenant != before.tenant {
        return Err(Refusal::ClientOfAgency.into());
    }
    let mut locked = ledger::lock(&tx, now, &[account.key]).await?;
    let payment = store::lock(&tx, id).await?.ok_or_else(absent)?;
    let promised = promised_payments::owed(&tx, account.key).await?;
    let deferred = credit::owed(&tx, account.key).await?;
    let row = locked.row(account.key).ok_or(Error::Moved)?;
    let funds = rules::Funds {
        main: row.main,
        held: row.held,
        owed: Money::checked_sum([promised, deferred, row.spend_only]).unwrap_or(Money::MAX),
    };
    let payment = rules::refund(&payment, (new.amount, new.currency), funds)?;
    let leg = Leg {
        kind: Kind::Refund,
        from: Place::Main(account.key.account),
        to: Place::Counter(Counter::Refund),
        amount: new.amount,
        object: Some(name(&id).into()),
    };
    let (posting_id, payload_hash) = (call.posting_id(), call.short_hash());
    let tenant = account.key.tenant;
    let posting = Posting { id: posting_id, tenant, legs: vec![leg], payload_hash };
    match locked.post(&posting) {
        Ok(_) => {}
        Err(ledger::Refusal::UnknownAccount(_)) => return Err(Error::Moved),
        Err(refusal) => return Err(ledger::Error::Refused(refusal).into()),
    }
    store::refunded(&tx, &payment, posting_id, new, now).await?;
    ledger::write(&tx, locked).await?;
    let facts = PaymentFacts {
        payment: name(&id),
        amount: new.amount,
        invoice: None,
        collected: Money::ZERO,
        reason: Some(new.reason.clone()),
    };
    events::record(&tx, now, &account, &Event::PaymentRefunded(facts)).await?;
    Ok(requests::finish(tx, call, payment).await?)
}
