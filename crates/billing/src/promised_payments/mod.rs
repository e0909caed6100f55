//! Promised payments (обещанный платёж): money credited now that an agency promises to pay (R-60..R-75).
//!
//! Several may be open; each is repaid by itself. Until its due day is over, money that comes in does not
//! touch it; from 00:00 Moscow time of the next day the next external payment goes to it first
//! `payments` asks [`Debts::due_from`] and books what [`rules::collect`] says.
//!
//! Beside `rules.rs` and `store.rs`: `announce.rs`, which tells of what time alone brings.
//!
//! Promises of an agency change only under the lock of its balance row, so what is read after the lock holds.

mod announce;
pub(crate) mod rules;
pub(crate) mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use adspend_common::{
    db::{self, Pool, Tx},
    id::{AccountId, ResourceId},
    identity::Caller,
    money::{Balance, Currency, Money},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    accounts::{self, Account},
    auto_topups::{self, Wait},
    config,
    events::{self, Event, PromiseFacts},
    ledger::{self, AccountKey, Counter, Kind, Leg, Place, Posting},
    notices::{self, Content, Notice, Promised},
    requests::{self, Begun, Call, Outcome},
    uuid_of,
};

pub(crate) use announce::announce;
pub(crate) use rules::{NotRepaid, Offer, Promise, PromiseState, Refusal, Standing};

/// A promise with what its answer needs.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) account: AccountId,
    pub(crate) currency: Currency,
    pub(crate) promise: Promise,
    /// Where it stood when it was read.
    pub(crate) state: PromiseState,
}

impl Shown {
    fn new(account: &Account, promise: Promise, now: DateTime<Utc>) -> Shown {
        let state = promise.state(now);
        Shown { account: account.id.clone(), currency: account.currency, promise, state }
    }
}

/// The name of a promise of an account.
pub(crate) fn name(account: &AccountId, promise: &Uuid) -> String {
    format!("{}/promisedPayments/{promise}", account.name())
}

/// Why an operation on promises did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such account or promise, or not the caller's.
    #[error("{0} was not found")]
    NotFound(String),
    /// The terms say no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Repaying says no.
    #[error(transparent)]
    NotRepaid(#[from] NotRepaid),
    /// The request is a repeat of another.
    #[error(transparent)]
    Request(#[from] requests::Error),
    /// The ledger said no.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The store failed.
    #[error("promised payment storage failed")]
    Db(#[from] db::Error),
}

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Error::Db(cause) => cause.is_contention(),
            Error::Request(cause) => cause.is_contention(),
            Error::Ledger(cause) => cause.is_contention(),
            Error::NotFound(_) | Error::Refused(_) | Error::NotRepaid(_) => false,
        }
    }
}

async fn parent(
    from: &impl accounts::store::Reader,
    caller: &Caller,
    id: &AccountId,
    asked: impl FnOnce() -> String,
) -> Result<Account, Error> {
    accounts::visible(from, caller, id).await?.ok_or_else(|| Error::NotFound(asked()))
}

/// What the agency may take now, and why not.
pub(crate) async fn terms(
    pool: &Pool,
    now: DateTime<Utc>,
    settings: &config::PromisedPayments,
    caller: &Caller,
    id: &AccountId,
) -> Result<Offer, Error> {
    let mut client = pool.get().await?;
    let tx = client.snapshot().await?;
    let account = parent(&tx, caller, id, || id.name()).await?;
    let terms = settings.of(id.as_str());
    let promises = store::of_account(&tx, account.key).await?;
    let turnover = store::turnover(&tx, account.key, now, terms.turnover_days).await?;
    let posted = store::posted(&tx, account.key).await?;
    let standing = Standing { account: &account, promises: &promises, turnover, posted };
    Ok(rules::offer(&terms, standing, now))
}

/// Credits the amount at once and writes down the debt.
pub(crate) async fn take(
    pool: &Pool,
    now: DateTime<Utc>,
    settings: &config::PromisedPayments,
    call: &Call<Shown>,
    caller: &Caller,
    (id, (amount, currency)): (&AccountId, (Money, Currency)),
) -> Result<Outcome<Shown>, Error> {
    db::retry("promised_payments.take", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let account = parent(&tx, caller, id, || id.name()).await?;
        let mut locked = ledger::lock(&tx, now, &[account.key]).await?;
        let posted = locked.row(account.key).and_then(ledger::Row::posted).unwrap_or(Balance::ZERO);
        let terms = settings.of(id.as_str());
        let promises = store::of_account(&tx, account.key).await?;
        let turnover = store::turnover(&tx, account.key, now, terms.turnover_days).await?;
        let standing = Standing { account: &account, promises: &promises, turnover, posted };
        let offer = rules::offer(&terms, standing, now);
        rules::take(&offer, amount, currency)?;
        let promise = Promise {
            id: adspend_common::id::new_uuid(now),
            amount,
            outstanding: amount,
            due: offer.due,
            created_at: now,
            repaid_at: None,
        };
        let leg = Leg {
            kind: Kind::PromiseTaken,
            from: Place::Counter(Counter::Promised),
            to: Place::Main(account.key.account),
            amount,
            object: Some(name(id, &promise.id).into()),
        };
        post(&mut locked, call, account.key, vec![leg])?;
        store::insert(&tx, account.key, &promise).await?;
        ledger::write(&tx, locked).await?;
        tell(&tx, now, &account, &promise, Told::Taken).await?;
        let shown = Shown::new(&account, promise, now);
        Ok(requests::finish(tx, call, shown).await?)
    })
    .await
}

/// Repays one promise in full from the agency's own money, before or after its due day.
pub(crate) async fn repay(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Shown>,
    caller: &Caller,
    (id, promise): (&AccountId, &ResourceId),
) -> Result<Outcome<Shown>, Error> {
    db::retry("promised_payments.repay", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let absent = || format!("{}/promisedPayments/{promise}", id.name());
        let account = parent(&tx, caller, id, absent).await?;
        let mut locked = ledger::lock(&tx, now, &[account.key]).await?;
        let promises = store::of_account(&tx, account.key).await?;
        let promise = promises
            .iter()
            .find(|known| known.id.to_string() == promise.as_str())
            .ok_or_else(|| Error::NotFound(absent()))?;
        let available = locked.row(account.key).map_or(Balance::ZERO, ledger::Row::available);
        let others = rules::owed(promises.iter().filter(|other| other.id != promise.id));
        let amount = rules::repay(promise, others, available)?;
        let leg = Leg {
            kind: Kind::PromiseRepaid,
            from: Place::Main(account.key.account),
            to: Place::Counter(Counter::Promised),
            amount,
            object: Some(name(id, &promise.id).into()),
        };
        post(&mut locked, call, account.key, vec![leg])?;
        let repaid = promise.paid(amount, now);
        store::pay(&tx, account.key, call.posting_id(), (&repaid, amount), now).await?;
        auto_topups::wake(&tx, account.key, Wait::PromiseOverdue, now).await?;
        ledger::write(&tx, locked).await?;
        tell(&tx, now, &account, &repaid, Told::Repaid).await?;
        let shown = Shown::new(&account, repaid, now);
        Ok(requests::finish(tx, call, shown).await?)
    })
    .await
}

/// What the agency and its back office are told of a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Taken,
    DueSoon,
    Overdue,
    Repaid,
}

/// The e-mail, once for each promise and occasion, and the event where something happened.
async fn tell(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    account: &Account,
    promise: &Promise,
    told: Told,
) -> Result<(), db::Error> {
    let Promise { id, amount, outstanding, due, .. } = promise;
    let promised = Promised {
        amount: *amount,
        outstanding: *outstanding,
        currency: account.currency,
        due: *due,
    };
    let facts = PromiseFacts {
        promised_payment: name(&account.id, id),
        amount: *amount,
        outstanding: *outstanding,
        due: *due,
    };
    let (event, content) = match told {
        Told::Taken => (Some(Event::PromiseTaken(facts)), Content::PromiseTaken(promised)),
        Told::DueSoon => (None, Content::PromiseDueSoon(promised)),
        Told::Overdue => (Some(Event::PromiseOverdue(facts)), Content::PromiseOverdue(promised)),
        Told::Repaid => (Some(Event::PromiseRepaid(facts)), Content::PromiseRepaid(promised)),
    };
    let notice = Notice { to: account.key, subject_key: id.to_string(), content };
    notices::queue(tx, now, &notice).await?;
    match event {
        Some(event) => events::record(tx, now, account, &event).await,
        None => Ok(()),
    }
}

fn post<T>(
    locked: &mut ledger::Locked,
    call: &Call<T>,
    key: AccountKey,
    legs: Vec<Leg>,
) -> Result<(), Error> {
    let posting = Posting {
        id: call.posting_id(),
        tenant: key.tenant,
        legs,
        payload_hash: call.short_hash(),
    };
    locked.post(&posting).map_err(ledger::Error::Refused)?;
    Ok(())
}

/// One promise, as it stands now.
pub(crate) async fn get(
    pool: &Pool,
    now: DateTime<Utc>,
    caller: &Caller,
    (id, promise): (&AccountId, &ResourceId),
) -> Result<Shown, Error> {
    let client = pool.get().await?;
    let absent = || format!("{}/promisedPayments/{promise}", id.name());
    let account = parent(&client, caller, id, absent).await?;
    let uuid = uuid_of(promise).ok_or_else(|| Error::NotFound(absent()))?;
    let found = store::find(&client, account.key, uuid).await?;
    let found = found.ok_or_else(|| Error::NotFound(absent()))?;
    Ok(Shown::new(&account, found, now))
}

/// The promises of an agency, newest first, after the position of a page.
pub(crate) async fn list(
    pool: &Pool,
    now: DateTime<Utc>,
    caller: &Caller,
    id: &AccountId,
    (before, limit): (Option<(DateTime<Utc>, Uuid)>, u32),
) -> Result<Vec<Shown>, Error> {
    let client = pool.get().await?;
    let account = parent(&client, caller, id, || id.name()).await?;
    let promises = store::list(&client, account.key, before, limit).await?;
    Ok(promises.into_iter().map(|promise| Shown::new(&account, promise, now)).collect())
}

/// What an account owes on its promises. Call it with the account locked.
pub(crate) async fn owed(tx: &Tx<'_>, key: AccountKey) -> Result<Money, db::Error> {
    Ok(rules::owed(store::of_account(tx, key).await?.iter()))
}

/// The open promises of accounts whose balance rows are locked, to be repaid out of what comes in.
#[derive(Debug)]
pub(crate) struct Debts {
    now: DateTime<Utc>,
    open: HashMap<AccountKey, Vec<Promise>>,
    repaid: Vec<(Account, Uuid, Promise, Money)>,
}

impl Debts {
    /// What is open now.
    pub(crate) async fn of(
        tx: &Tx<'_>,
        keys: &[AccountKey],
        now: DateTime<Utc>,
    ) -> Result<Debts, db::Error> {
        let open = if keys.is_empty() { HashMap::new() } else { store::open(tx, keys).await? };
        Ok(Debts { now, open, repaid: Vec::new() })
    }

    /// The legs that repay overdue promises of an account out of an external payment.
    pub(crate) fn due_from(
        &mut self,
        account: &Account,
        payment: Money,
        posting: Uuid,
    ) -> Vec<Leg> {
        let Some(promises) = self.open.get_mut(&account.key) else { return Vec::new() };
        let mut legs = Vec::new();
        for (promise, part) in rules::collect(promises, payment, self.now) {
            let rest = promise.paid(part, self.now);
            legs.push(Leg {
                kind: Kind::PromiseCollected,
                from: Place::Main(account.key.account),
                to: Place::Counter(Counter::Promised),
                amount: part,
                object: Some(name(&account.id, &promise.id).into()),
            });
            promises.retain(|open| open.id != promise.id);
            if !rest.outstanding.is_zero() {
                promises.push(rest.clone());
            }
            self.repaid.push((account.clone(), posting, rest, part));
        }
        legs
    }

    /// Writes what was repaid, and tells of what is repaid in full.
    pub(crate) async fn write(self, tx: &Tx<'_>) -> Result<(), db::Error> {
        for (account, posting, promise, part) in &self.repaid {
            store::pay(tx, account.key, *posting, (promise, *part), self.now).await?;
            if promise.outstanding.is_zero() {
                tell(tx, self.now, account, promise, Told::Repaid).await?;
                auto_topups::wake(tx, account.key, Wait::PromiseOverdue, self.now).await?;
            }
        }
        Ok(())
    }
}

/// Whether a promise of the account is overdue. Call it with the account's balance row locked.
pub(crate) async fn any_overdue(
    tx: &Tx<'_>,
    key: AccountKey,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let open = store::open(tx, &[key]).await?;
    Ok(open.values().flatten().any(|promise| promise.state(now) == PromiseState::Overdue))
}
