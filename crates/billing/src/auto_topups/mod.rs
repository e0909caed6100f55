//! Auto top-ups (автопополнение): an agency funds a client by itself when the client's money runs low
//! (R-110..R-119).
//!
//! **Which figure counts.** "Balance" in R-111 is the client's free money, `main`: what may still be spent,
//! with held money already out of it. A hold is money that serving will spend, and serving stops when free
//! money ends, so that is when a top-up must be there. Counted with held money, a threshold of 0
//! would fire only after the last hold was spent and reported, with the client silent in between; and a rest
//! in a hold that no ad fits into would keep it from firing at all. The price is that it may fire earlier
//! by what is held. That is bounded: right after a top-up there is never more free money than threshold +
//! amount, so holders cannot draw money over that they do not hold.
//!
//! **When it fires.** `ledger_balance.top_up_at_micros` arms the account: every way to post reads it under
//! the lock that it takes anyway, and a write that leaves free money at or below it marks `due_at` here, in
//! the same transaction ([`crate::ledger`]). Nothing else is asked of the hot path. The commit wakes the job of
//! its process, which fires in a transaction of its own; any other replica finds `due_at` within a quarter
//! of a second, so a process that dies between the two loses nothing. A transaction of its own, because the
//! agency's row may come before the client's in the order of locks. Whoever fires looks again
//! under the locks of both rows; of two that try, the second finds more money there.
//!
//! **What it waits for.** While the limit is used up, a promise of the agency is overdue, or
//! an account is blocked, the account is disarmed: it costs postings nothing. `due_at` is then the next
//! period, or is set by [`wake`] from what ends the cause.
//!
//! Rows here change under the lock of the client's balance row or the agency's; who fires or sets has both.
//! Cost of firing: one transaction for at most [`ACCOUNTS_AT_ONCE`] clients of an agency.

mod fire;
pub(crate) mod rules;
mod store;
#[cfg(test)]
mod tests;

use adspend_common::{
    db::{self, Pool, Tx},
    id::AccountId,
    identity::Caller,
    money::{Balance, Currency, Money},
    time::Day,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    accounts::{self, Account, AccountKind},
    events::{self, AutoTopUpFacts, Event, Subject},
    ledger::{self, AccountKey, AccountNo, TenantNo},
    requests::{self, Begun, Call, Outcome},
};

pub(crate) use fire::fire_due;
pub(crate) use rules::{Counter, Period, Settings, Wait};

/// Clients of one agency that one transaction looks at.
const ACCOUNTS_AT_ONCE: usize = 20;
/// Transfers to one client in one transaction; what is left is due again.
const FIRES_AT_ONCE: usize = 50;

/// Why an auto top-up is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Off {
    Requested,
    /// The agency was short of money.
    InsufficientFunds,
    /// The client has left the agency.
    Detached,
}

impl Off {
    /// As callers know it.
    const fn name(self) -> &'static str {
        match self {
            Off::Requested => "REQUESTED",
            Off::InsufficientFunds => "INSUFFICIENT_FUNDS",
            Off::Detached => "DETACHED",
        }
    }
}

/// The auto top-up of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopUp {
    pub(crate) key: AccountKey,
    pub(crate) account: AccountId,
    /// What people call the client.
    pub(crate) client_name: String,
    pub(crate) currency: Currency,
    pub(crate) settings: Settings,
    pub(crate) counter: Counter,
    /// The number of its last run.
    pub(crate) runs: i64,
    pub(crate) off: Option<(Off, DateTime<Utc>)>,
    /// On, but not firing until this has changed.
    pub(crate) waits_for: Option<Wait>,
    pub(crate) due_at: Option<DateTime<Utc>>,
    pub(crate) changed_at: DateTime<Utc>,
}

impl TopUp {
    /// The free money at or below which it fires; none while it would not.
    fn armed_at(&self) -> Option<Money> {
        (self.off.is_none() && self.waits_for.is_none()).then_some(self.settings.threshold)
    }

    /// Whom events are about: the client, in its agency's stream.
    fn subject(&self) -> Subject<'_> {
        let TopUp { key, account, currency, .. } = self;
        Subject { tenant: key.tenant, account: Some(account), currency: *currency }
    }

    /// What its switching off is told as.
    fn disabled(&self, why: Off, run: Option<String>) -> Event {
        let reason = Some(why.name().to_owned());
        Event::AutoTopUpDisabled(AutoTopUpFacts { amount: self.settings.amount, run, reason })
    }

    fn switch_off(&mut self, why: Off, now: DateTime<Utc>) {
        self.off = Some((why, now));
        self.waits_for = None;
        self.due_at = None;
        self.changed_at = now;
    }
}

/// What an evaluation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Did {
    /// Moved the amount to the client: the posting, and its number in the period.
    Transferred { posting: Uuid, sequence: i64 },
    /// Did not fire; told once a period.
    Skipped(Wait),
    /// The agency was short of money.
    SwitchedOff,
}

/// One row of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) id: Uuid,
    /// In the order in which they happened.
    pub(crate) number: i64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) did: Did,
    /// What was set then.
    pub(crate) settings: Settings,
    pub(crate) period_start: Day,
    /// What the period's transfers sum to afterwards.
    pub(crate) used: Money,
    /// The client's free money afterwards.
    pub(crate) client: Balance,
    /// What the agency may transfer afterwards.
    pub(crate) agency: Balance,
    pub(crate) reversed_at: Option<DateTime<Utc>>,
}

/// The name of a run of an account.
pub(crate) fn run_name(account: &AccountId, run: &Uuid) -> String {
    format!("{}/autoTopUpRuns/{run}", account.name())
}

/// The name of the auto top-up of an account.
pub(crate) fn name(account: &AccountId) -> String {
    format!("{}/autoTopUp", account.name())
}

/// Why an operation on auto top-ups did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such account, or not the caller's; or nothing is set for it.
    #[error("{0} was not found")]
    NotFound(String),
    /// Only the client of an agency is topped up.
    #[error("only the client of an agency is topped up")]
    NotAClient,
    /// Operations never mix currencies.
    #[error("the account's currency is {expected}, not {found}")]
    Currency { expected: Currency, found: Currency },
    /// It is off already.
    #[error("{0} is off already")]
    AlreadyOff(String),
    /// The account has moved between two looks; the next try sees it.
    #[error("the account has just moved")]
    Moved,
    /// The request is a repeat of another.
    #[error(transparent)]
    Request(#[from] requests::Error),
    /// The ledger said no.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The store failed.
    #[error("auto top-up storage failed")]
    Db(#[from] db::Error),
}

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Error::Db(cause) => cause.is_contention(),
            Error::Request(cause) => cause.is_contention(),
            Error::Ledger(cause) => cause.is_contention(),
            Error::Moved => true,
            Error::NotFound(_)
            | Error::NotAClient
            | Error::Currency { .. }
            | Error::AlreadyOff(_) => false,
        }
    }
}

async fn parent(
    from: &impl accounts::store::Reader,
    caller: &Caller,
    id: &AccountId,
) -> Result<Account, Error> {
    accounts::visible(from, caller, id).await?.ok_or_else(|| Error::NotFound(id.name()))
}

/// Sets the four settings and switches on; fires at once as often as they say. What the
/// present period has used is kept.
pub(crate) async fn set(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<TopUp>,
    caller: &Caller,
    (id, settings, currency): (&AccountId, Settings, Currency),
) -> Result<Outcome<TopUp>, Error> {
    db::retry("auto_topups.set", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let account = parent(&tx, caller, id).await?;
        if account.kind != AccountKind::Client {
            return Err(Error::NotAClient);
        }
        if account.currency != currency {
            return Err(Error::Currency { expected: account.currency, found: currency });
        }
        let tenant = account.key.tenant;
        let mut round = fire::Round::begin(&tx, now, tenant, &[account.key.account]).await?;
        let before = store::load(&tx, tenant, &[account.key.account]).await?.pop();
        let top_up = store::put(&tx, &account, settings, before, now).await?;
        let facts = AutoTopUpFacts { amount: settings.amount, run: None, reason: None };
        events::record(&tx, now, &account, &Event::AutoTopUpChanged(facts)).await?;
        round.evaluate(top_up)?;
        let top_up = round.end().await?.pop().ok_or(Error::Moved)?;
        Ok(requests::finish(tx, call, top_up).await?)
    })
    .await
}

/// Switches off by request.
pub(crate) async fn disable(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<TopUp>,
    caller: &Caller,
    id: &AccountId,
) -> Result<Outcome<TopUp>, Error> {
    db::retry("auto_topups.disable", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let account = parent(&tx, caller, id).await?;
        let mut top_up = locked_one(&tx, now, account.key).await?;
        let top_up = top_up.as_mut().ok_or_else(|| Error::NotFound(name(id)))?;
        if top_up.off.is_some() {
            return Err(Error::AlreadyOff(name(id)));
        }
        top_up.switch_off(Off::Requested, now);
        store::update(&tx, top_up).await?;
        let event = top_up.disabled(Off::Requested, None);
        events::record(&tx, now, top_up.subject(), &event).await?;
        Ok(requests::finish(tx, call, top_up.clone()).await?)
    })
    .await
}

async fn locked_one(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    key: AccountKey,
) -> Result<Option<TopUp>, Error> {
    let agency = AccountKey { tenant: key.tenant, account: AccountNo(key.tenant.0) };
    let locked = ledger::lock(tx, now, &[agency, key]).await?;
    let found = store::load(tx, key.tenant, &[key.account]).await?.pop();
    // The lock may have given back what expired holds held.
    ledger::write(tx, locked).await?;
    Ok(found)
}

/// What is set, with the counter of the present period.
pub(crate) async fn get(
    pool: &Pool,
    now: DateTime<Utc>,
    caller: &Caller,
    id: &AccountId,
) -> Result<TopUp, Error> {
    let client = pool.get().await?;
    let account = parent(&client, caller, id).await?;
    let found = store::load(&client, account.key.tenant, &[account.key.account]).await?.pop();
    let found = found.ok_or_else(|| Error::NotFound(name(id)))?;
    let counter = found.counter.at(found.settings.period, now);
    Ok(TopUp { counter, ..found })
}

/// What came of it, newest first, before the run with a number.
pub(crate) async fn runs(
    pool: &Pool,
    caller: &Caller,
    id: &AccountId,
    (before, limit): (i64, u32),
) -> Result<(Account, Vec<Run>), Error> {
    let client = pool.get().await?;
    let account = parent(&client, caller, id).await?;
    let runs = store::runs(&client, account.key, before, limit).await?;
    Ok((account, runs))
}

/// What the top-ups of an agency's clients, or of one client, may have waited for is over: they are looked at
/// again. Call it in the transaction that ends the cause, with the balance row of that account locked.
pub(crate) async fn wake(
    tx: &Tx<'_>,
    key: AccountKey,
    cause: Wait,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    store::wake(tx, key, cause, now).await
}

/// A transfer of an auto top-up is being reversed: the limit gets its amount back within the same period
/// and what waited for the limit is looked at again. Call it with the balance rows of both locked.
///
/// An auto top-up that is on, with the client again at the threshold, fires again.
pub(crate) async fn reversed(
    tx: &Tx<'_>,
    (tenant, posting): (TenantNo, Uuid),
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    let (account, amount, at) = store::reverse_run(tx, (tenant, posting), now).await?;
    let key = AccountKey { tenant, account };
    let Some(top_up) = store::load(tx, tenant, &[account]).await?.pop() else { return Ok(()) };
    store::give_back(tx, key, rules::given_back(top_up.counter, amount, at)).await?;
    wake(tx, key, Wait::LimitUsedUp, now).await
}

/// The client leaves its agency, which has nothing to pay for any more. Call it with the client's balance
/// row locked.
pub(crate) async fn leave(
    tx: &Tx<'_>,
    key: AccountKey,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    let found = store::load(tx, key.tenant, &[key.account]).await?.pop();
    match found {
        Some(mut top_up) if top_up.off.is_none() => {
            top_up.switch_off(Off::Detached, now);
            store::update(tx, &top_up).await?;
            let event = top_up.disabled(Off::Detached, None);
            events::record(tx, now, top_up.subject(), &event).await
        }
        Some(_) | None => Ok(()),
    }
}
