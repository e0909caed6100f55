//! Credit (порог отключения, счёт с отложенной оплатой): deferred invoices and the overdraft threshold
//! (R-90..R-104).
//!
//! An operator grants a sum. Its owner either takes deferred invoices, credited at once and repaid by the
//! payment of that very invoice alone, or sets a threshold, down to which spend may go below zero. What is
//! below zero at the end of a month becomes a deferred invoice, and the threshold is less by it until it is
//! paid: T_eff = T - unpaid deferred invoices.
//!
//! Nothing waits for a job. The balance row says when credit changes by time alone (`credit_at`), and
//! whoever locks the row after that moment first books what fell due, in order of time ([`fall_due`]): the
//! invoice of a month that has ended, the lien on unspent money when an invoice is overdue, its return. Nobody
//! can have moved the money in between, so the balance is still that of the moment. Whoever reads calls
//! [`refresh`] first. The job only makes the books of quiet accounts catch up.
//!
//! While an invoice is overdue there is no overdraft, and what comes in is frozen by the ledger in the
//! transaction in which it comes. The lien does not reduce the debt.
//!
//! Beside `rules.rs` and `store.rs`: `eligibility.rs`, which holds an account's record against R-92, and
//! `repay.rs`, which repays an invoice from the balance.
//!
//! Deliberately not here: charging a card for an invoice; another payer or method for a deferred one (`invoices`).

pub(crate) mod eligibility;
mod repay;
pub(crate) mod rules;
mod store;
#[cfg(test)]
mod tests;

use adspend_common::{
    db::{self, Pool, Tx},
    id::AccountId,
    identity::Caller,
    money::{Balance, Currency, Money},
    time::{Clock, Day},
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    accounts::{self, Account, store::Reader},
    events::{self, CreditFacts, Event, InvoiceFacts, LienFacts},
    invoices::{self, Issue, Terms},
    ledger::{self, AccountKey, Counter, Kind, Leg, Locked, Place, Posting, Row},
    requests::{self, Begun, Call, Outcome},
};

use eligibility::Policy;
pub(crate) use repay::{NewRepayment, Repaid, repay};
use rules::{Credit, Due, Refusal, Standing, Unpaid, Why};

/// The credit of an account as it stands at a moment.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) account: AccountId,
    pub(crate) currency: Currency,
    pub(crate) granted: Money,
    pub(crate) threshold: Money,
    /// What the threshold is worth now: less unpaid invoices, nothing while one is overdue.
    pub(crate) effective: Money,
    pub(crate) debt: Money,
    /// What the threshold, or a deferred invoice, may be at most.
    pub(crate) room: Money,
    pub(crate) overdue: bool,
    /// The last day of payment of the invoice that is due first.
    pub(crate) due: Option<Day>,
    pub(crate) locked_until: Option<DateTime<Utc>>,
    pub(crate) unfreeze_at: Option<DateTime<Utc>>,
    pub(crate) threshold_refusals: Vec<Why>,
    pub(crate) deferral_refusals: Vec<Why>,
}

impl Shown {
    fn new(account: &Account, credit: &Credit, now: DateTime<Utc>) -> Shown {
        let overdue = credit.is_overdue(now);
        Shown {
            account: account.id.clone(),
            currency: account.currency,
            granted: credit.granted,
            threshold: credit.threshold,
            effective: if overdue { Money::ZERO } else { credit.overdraft() },
            debt: credit.debt(),
            room: credit.room(),
            overdue,
            due: credit.unpaid.first().map(|invoice| invoice.due),
            locked_until: credit.locked_until(now),
            unfreeze_at: credit.unfreeze_at,
            threshold_refusals: rules::threshold_refusals(account, credit, now),
            deferral_refusals: rules::deferral_refusals(account, credit, now),
        }
    }
}

/// Why an operation on credit did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such account, or not the caller's.
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
    #[error("credit storage failed")]
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

async fn parent(from: &impl Reader, caller: &Caller, id: &AccountId) -> Result<Account, Error> {
    accounts::visible(from, caller, id).await?.ok_or_else(|| Error::NotFound(id.name()))
}

/// The credit of an account now.
pub(crate) async fn terms(
    pool: &Pool,
    now: DateTime<Utc>,
    caller: &Caller,
    id: &AccountId,
) -> Result<Shown, Error> {
    let mut client = pool.get().await?;
    let account = parent(&client, caller, id).await?;
    refresh(pool, &client, now, account.key).await?;
    let tx = client.snapshot().await?;
    let account = parent(&tx, caller, id).await?;
    let credit = store::find(&tx, account.key).await?;
    tx.rollback().await?;
    Ok(Shown::new(&account, &credit, now))
}

/// A sum to be granted.
#[derive(Debug, Clone)]
pub(crate) struct NewGrant {
    pub(crate) account: AccountId,
    pub(crate) amount: (Money, Currency),
    /// What an account's record is held against; nothing when the operator waives it.
    pub(crate) record: Option<Policy>,
}

/// Grants a sum to an account in place of what was granted before; zero takes it back. Only an operator.
pub(crate) async fn grant(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Shown>,
    caller: &Caller,
    new: &NewGrant,
) -> Result<Outcome<Shown>, Error> {
    let NewGrant { account: id, amount: granted, record } = new;
    db::retry("credit.grant", requests::TRIES, || async {
        // Before anything is locked: reading what was spent may take a while.
        let short = match record {
            Some(policy) => eligibility::of(pool, now, *policy, caller, id).await?.short,
            None => Vec::new(),
        };
        let to = (id, Event::CreditTermsChanged as fn(CreditFacts) -> Event);
        change(pool, now, call, caller, to, |account, credit, standing| {
            let threshold = rules::may_grant(account, credit, standing, *granted)?;
            rules::may_raise(account, credit, (granted.0, &short), now)?;
            credit.granted = granted.0;
            credit.set_threshold(threshold, now);
            Ok(())
        })
        .await
    })
    .await
}

/// Sets how far below zero spend may go; zero turns it off.
pub(crate) async fn set_threshold(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Shown>,
    caller: &Caller,
    (id, threshold): (&AccountId, (Money, Currency)),
) -> Result<Outcome<Shown>, Error> {
    db::retry("credit.set_threshold", requests::TRIES, || {
        let to = (id, Event::OverdraftThresholdChanged as fn(CreditFacts) -> Event);
        change(pool, now, call, caller, to, |account, credit, standing| {
            rules::may_set_threshold(account, credit, standing, threshold, now)?;
            credit.set_threshold(threshold.0, now);
            Ok(())
        })
    })
    .await
}

async fn change(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Shown>,
    caller: &Caller,
    (id, event): (&AccountId, fn(CreditFacts) -> Event),
    decide: impl FnOnce(&Account, &mut Credit, Standing) -> Result<(), Refusal>,
) -> Result<Outcome<Shown>, Error> {
    let mut client = pool.get().await?;
    let tx = match requests::begin(&mut client, call, now).await? {
        Begun::New(tx) => tx,
        Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
    };
    let seen = parent(&tx, caller, id).await?;
    let mut locked = ledger::lock(&tx, now, &[seen.key]).await?;
    let account = accounts::store::lock(&tx, seen.key).await?.ok_or(Error::Moved)?;
    let row = locked.row(seen.key).ok_or(Error::Moved)?;
    let posted = row.posted().unwrap_or(row.main);
    let standing = Standing { main: row.main, posted };
    let mut credit = store::find(&tx, seen.key).await?;
    decide(&account, &mut credit, standing)?;
    store::write(&tx, seen.key, &credit).await?;
    locked.set_credit(seen.key, credit.line());
    ledger::write(&tx, locked).await?;
    let facts = CreditFacts { granted: credit.granted, threshold: credit.threshold };
    events::record(&tx, now, &account, &event(facts)).await?;
    let shown = Shown::new(&account, &credit, now);
    Ok(requests::finish(tx, call, shown).await?)
}

/// What the posting of a deferred invoice is known by.
#[derive(Debug, Clone)]
pub(crate) struct Once {
    pub(crate) posting: Uuid,
    pub(crate) hash: i64,
}

/// Credits a deferred invoice that is being issued, in its transaction, with the balance row locked.
pub(crate) async fn defer(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    locked: &mut Locked,
    (account, once): (&Account, Once),
    (id, amount): (Uuid, Money),
) -> Result<(), Error> {
    let key = account.key;
    let mut credit = store::find(tx, key).await?;
    rules::may_defer(account, &credit, amount, now)?;
    let posting = credited(key, once, amount, invoices::name(&account.id, &id));
    locked.post(&posting).map_err(ledger::Error::Refused)?;
    let due = Day::of(now).plus_days(rules::TERM_DAYS);
    credit.owe(Unpaid { id, number: String::new(), amount, due, told: false });
    locked.set_credit(key, credit.line());
    Ok(())
}

fn credited(key: AccountKey, once: Once, amount: Money, object: String) -> Posting {
    Posting {
        id: once.posting,
        tenant: key.tenant,
        legs: vec![Leg {
            kind: Kind::DeferredIssued,
            from: Place::Counter(Counter::Deferred),
            to: Place::Main(key.account),
            amount,
            object: Some(object.into()),
        }],
        payload_hash: once.hash,
    }
}

/// Deferred invoices of these accounts have just been paid, in this transaction: their credit grows, and what
/// was frozen goes back the next day when nothing is overdue any more. Call it after the invoices are
/// written, with the balance rows locked.
pub(crate) async fn repaid(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    locked: &mut Locked,
    keys: &[AccountKey],
) -> Result<(), db::Error> {
    for key in keys {
        let mut credit = store::find(tx, *key).await?;
        let Some(row) = locked.row(*key) else { continue };
        credit.repaid(now, row.overdue, row.frozen);
        store::write(tx, *key, &credit).await?;
        locked.set_credit(*key, credit.line());
    }
    Ok(())
}

/// What an account owes on deferred invoices. Call it with the account locked.
pub(crate) async fn owed(tx: &Tx<'_>, key: AccountKey) -> Result<Money, db::Error> {
    Ok(store::find(tx, key).await?.debt())
}

/// Whether an account has a grant or owes on a deferred invoice: it stays in its tenant then.
pub(crate) async fn is_used(tx: &Tx<'_>, key: AccountKey) -> Result<bool, db::Error> {
    let credit = store::find(tx, key).await?;
    Ok(!credit.granted.is_zero() || !credit.unpaid.is_empty())
}

/// Books what time has brought to the credit of a locked account, in order of time. Called by the ledger's
/// lock; nobody else needs to.
pub(crate) async fn fall_due(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    locked: &mut Locked,
    key: AccountKey,
) -> Result<(), db::Error> {
    let broken = || db::Error::other("an account with credit is not where its balance is");
    let accounts = accounts::store::find_numbers(tx, &[key]).await?;
    let account = accounts.get(&key).ok_or_else(broken)?;
    let mut credit = store::find(tx, key).await?;
    let mut told = Vec::new();
    // Each round moves a moment of the credit beyond what it was, so it ends at `now`.
    while let Some(due) = credit.due(now) {
        match due {
            Due::MonthEnd(last) => {
                let posted = locked.row(key).and_then(Row::posted).unwrap_or(Balance::ZERO);
                if let Some(amount) = rules::bill(posted) {
                    credit.owe(bill_month(tx, now, locked, account, (last, amount)).await?);
                }
                credit.bill_at = Some(rules::month_end(last.next()));
            }
            Due::Overdue => {
                credit.unfreeze_at = None;
                if let Some(invoice) = credit.unpaid.iter_mut().find(|invoice| !invoice.told) {
                    invoice.told = true;
                    told.push(invoice.id);
                    let event = Event::InvoiceOverdue(facts(&account.id, invoice));
                    events::record(tx, now, account, &event).await?;
                }
            }
            Due::Unfreeze => {
                if let Some(amount) = return_lien(locked, key)? {
                    let event = Event::LienReturned(LienFacts { amount, invoice: None });
                    events::record(tx, now, account, &event).await?;
                }
                credit.unfreeze_at = None;
            }
        }
    }
    store::told(tx, key, &told).await?;
    store::write(tx, key, &credit).await?;
    locked.set_credit(key, credit.line());
    Ok(())
}

fn facts(account: &AccountId, invoice: &Unpaid) -> InvoiceFacts {
    InvoiceFacts {
        invoice: invoices::name(account, &invoice.id),
        number: invoice.number.clone(),
        amount: invoice.amount,
        payment: None,
        repaid_from_balance: false,
    }
}

/// Tells of money that has just gone under the lien. Called by the ledger, which takes it.
pub(crate) async fn frozen(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    liens: &[(AccountKey, Money)],
) -> Result<(), db::Error> {
    let keys: Vec<AccountKey> = liens.iter().map(|(key, _)| *key).collect();
    let accounts = accounts::store::find_numbers(tx, &keys).await?;
    for (key, amount) in liens {
        let Some(account) = accounts.get(key) else { continue };
        let invoice = store::find(tx, *key).await?.unpaid.into_iter().find(|one| one.told);
        let invoice = invoice.map(|invoice| invoices::name(&account.id, &invoice.id));
        let event = Event::LienTaken(LienFacts { amount: *amount, invoice });
        events::record(tx, now, account, &event).await?;
    }
    Ok(())
}

/// The invoice for a balance that was below zero at the end of a month, dated to its last day.
async fn bill_month(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    locked: &mut Locked,
    account: &Account,
    (last, amount): (Day, Money),
) -> Result<Unpaid, db::Error> {
    let broken = || db::Error::other("an account with a threshold has lost its payer");
    let key = account.key;
    let payer = account.legal_entity.as_ref().ok_or_else(broken)?;
    let due = last.plus_days(rules::TERM_DAYS);
    let issue = Issue {
        id: adspend_common::id::new_uuid(now),
        amount,
        terms: Terms::Deferred,
        pay_by: due,
        month: Some(last),
        at: last.end() - TimeDelta::microseconds(1),
    };
    let invoice = invoices::issue(tx, account, payer, issue).await?;
    let subject = format!("{}/{last}", key.account.0);
    let posting = ledger::posting_id(key.tenant, "credit.bill_month", &subject);
    let posting = credited(key, Once { posting, hash: 0 }, amount, invoice.name());
    locked.post(&posting).map_err(|refusal| {
        db::Error::other(format!("the invoice of a month cannot be booked: {refusal}"))
    })?;
    events::record(tx, now, account, &Event::InvoiceIssued(invoice.facts())).await?;
    Ok(Unpaid { id: invoice.id, number: invoice.number, amount, due, told: false })
}

/// What was frozen, given back; none when nothing was.
fn return_lien(locked: &mut Locked, key: AccountKey) -> Result<Option<Money>, db::Error> {
    let frozen = locked.row(key).map(|row| (row.frozen, row.version));
    let Some((frozen, version)) = frozen.filter(|(frozen, _)| !frozen.is_zero()) else {
        return Ok(None);
    };
    let subject = format!("{}/{version}", key.account.0);
    let posting = Posting {
        id: ledger::posting_id(key.tenant, "credit.return_lien", &subject),
        tenant: key.tenant,
        legs: vec![Leg {
            kind: Kind::LienReturned,
            from: Place::Frozen(key.account),
            to: Place::Main(key.account),
            amount: frozen,
            object: None,
        }],
        payload_hash: 0,
    };
    locked.post(&posting).map_err(|refusal| {
        db::Error::other(format!("money under a lien cannot be returned: {refusal}"))
    })?;
    Ok(Some(frozen))
}

/// Before a read: books what time has brought, when it has brought anything. Costs one look at the key.
pub(crate) async fn refresh(
    pool: &Pool,
    from: &impl Reader,
    now: DateTime<Utc>,
    key: AccountKey,
) -> Result<(), db::Error> {
    if store::is_due(from, key, now).await? { catch_up(pool, now, key).await } else { Ok(()) }
}

async fn catch_up(pool: &Pool, now: DateTime<Utc>, key: AccountKey) -> Result<(), db::Error> {
    db::retry("credit.catch_up", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = client.transaction().await?;
        let locked = ledger::lock(&tx, now, &[key]).await?;
        ledger::write(&tx, locked).await.map_err(|error| match error {
            ledger::Error::Db(cause) => cause,
            ledger::Error::Refused(_) | ledger::Error::Overloaded | ledger::Error::Stopping => {
                db::Error::other("what fell due was booked without its credit")
            }
        })?;
        tx.commit().await
    })
    .await
}

/// Books what time has brought to at most `limit` accounts, each in a transaction of its own, so that one that
/// cannot be booked does not hold up the others; answers how many there were.
pub(crate) async fn catch_up_due(
    pool: &Pool,
    clock: &Clock,
    limit: i64,
) -> Result<usize, db::Error> {
    let now = clock.now();
    let due = {
        let client = pool.get().await?;
        store::due(&client, now, limit).await?
    };
    let mut failed = None;
    for key in &due {
        if let Err(error) = catch_up(pool, now, *key).await {
            tracing::warn!(account = key.account.0, %error, "an account's credit was not booked");
            failed = Some(error);
        }
    }
    failed.map_or(Ok(due.len()), Err)
}
