//! What happened to an account's money, as its owner sees it (R-20..R-22, R-32).
//!
//! A transaction is a ledger entry; there is no second record. Its number is the entry's, so it never
//! changes, and the running balance was written with it. A page is a range of entry numbers that is fixed
//! when the first page is asked for, so pages stay put while money moves.
//!
//! Cost: two binary searches for the range, then the primary key, backwards or forwards. Accounts whose money
//! is set aside and given back all day have long stretches without a row to show: one page looks at
//! [`MOST_LOOKED_AT`] entries and may come back short with a token to go on.
//!
//! An export is the same pages one after the other, each read when the one before has been taken: it holds
//! one page in memory, keeps no transaction open, and ends where the history ended when it began.
//!
//! The history belongs to the tenant in which it happened: after an account is attached or detached, what
//! came before stays there.

pub(crate) mod csv;
pub(crate) mod rules;
mod store;

use adspend_common::{
    db::{self, Pool, Tx},
    id::AccountId,
    identity::Caller,
    money::{Balance, Currency, Money},
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    accounts::{self, Account},
    ledger::{self, AccountNo},
};

pub(crate) use rules::{Sign, TransactionType};

/// Entries that are looked at for one page.
const MOST_LOOKED_AT: i64 = 50_000;

/// The window without a start.
pub(crate) const DEFAULT_DAYS: i64 = 30;

/// One row of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    /// The number of the entry.
    pub(crate) number: i64,
    pub(crate) shown: TransactionType,
    /// Signed.
    pub(crate) amount: Balance,
    /// All money of the account right after.
    pub(crate) balance: Balance,
    pub(crate) at: DateTime<Utc>,
    pub(crate) object: Option<String>,
    pub(crate) counterparty: Option<AccountId>,
}

/// Entry numbers of a list: above `low`, up to `high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) low: i64,
    pub(crate) high: i64,
}

/// Which way through time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    NewestFirst,
    OldestFirst,
}

/// Which rows of a history are wanted.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    /// All when empty.
    pub(crate) types: Vec<TransactionType>,
    /// The object as rows show it.
    pub(crate) object: Option<String>,
    pub(crate) counterparty: Option<AccountId>,
    /// Whichever way the money went.
    pub(crate) least: Money,
    pub(crate) most: Money,
    /// What `least` and `most` are in.
    pub(crate) currency: Option<Currency>,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) account: AccountId,
    pub(crate) filter: Filter,
    pub(crate) order: Order,
    /// Booked at or after.
    pub(crate) start: DateTime<Utc>,
    /// Booked before; no bound without it.
    pub(crate) end: Option<DateTime<Utc>>,
    /// What is left of the range after the pages before this one.
    pub(crate) rest: Option<Range>,
    pub(crate) limit: u32,
}

/// A page of the history.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) account: AccountId,
    pub(crate) currency: Currency,
    pub(crate) rows: Vec<Transaction>,
    /// What is left of the range; none at the end.
    pub(crate) rest: Option<Range>,
}

/// Why a list is not given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such account, or not the caller's.
    #[error("{0} was not found")]
    NotFound(String),
    /// Amounts of another currency than the account's are asked for.
    #[error("the account is kept in {expected}, not in {found}")]
    Currency { expected: Currency, found: Currency },
    /// The store failed.
    #[error("transaction storage failed")]
    Db(#[from] db::Error),
}

/// `accounts/{account}/transactions/{transaction}`.
pub(crate) fn name(account: &AccountId, number: i64) -> String {
    format!("{}/transactions/{number}", account.name())
}

/// What the filter means for the store: numbers and ids instead of names.
#[derive(Debug, Default)]
struct Narrowed {
    /// The object of a leg.
    object: Option<String>,
    /// The posting that is the transfer asked for.
    transfer: Option<Uuid>,
    counterparty: Option<AccountNo>,
}

/// One page of an account's history.
pub(crate) async fn list(pool: &Pool, caller: &Caller, asked: &Asked) -> Result<Page, Error> {
    let client = pool.get().await?;
    let account = accounts::store::find(&client, &asked.account).await?;
    let account = account
        .filter(|account| caller.sees(&account.owner))
        .ok_or_else(|| Error::NotFound(asked.account.name()))?;
    if let Some(found) = asked.filter.currency.filter(|found| *found != account.currency) {
        return Err(Error::Currency { expected: account.currency, found });
    }
    let range = match asked.rest {
        Some(rest) => rest,
        None => {
            let before = |at: DateTime<Utc>| at - TimeDelta::microseconds(1);
            let low = ledger::entry_at(&client, account.key, before(asked.start)).await?;
            // Without an end: everything booked so far, even by a clock a little ahead of ours.
            let end = asked.end.unwrap_or(DateTime::<Utc>::MAX_UTC);
            let high = ledger::entry_at(&client, account.key, before(end)).await?;
            Range { low, high }
        }
    };
    let mut narrowed = narrow(&account, &asked.filter);
    if let Some(other) = &asked.filter.counterparty {
        let other = accounts::store::find(&client, other).await?;
        // Nobody's number: a stranger has no transfers with anybody.
        narrowed.counterparty = Some(other.map_or(AccountNo(-1), |other| other.key.account));
    }
    let looked_at = rules::window(range, asked.order, MOST_LOOKED_AT);
    let rows = store::list(&client, &account, looked_at, asked, &narrowed).await?;
    let full = rows.len() >= usize::try_from(asked.limit).unwrap_or(usize::MAX);
    let last = rows.last().filter(|_| full).map(|last| last.number);
    let rest = rules::rest(range, looked_at, asked.order, last);
    Ok(Page { account: account.id, currency: account.currency, rows, rest })
}

/// The object is a leg's, or names a transfer of the tenant, which is its posting.
fn narrow(account: &Account, filter: &Filter) -> Narrowed {
    let Some(object) = &filter.object else { return Narrowed::default() };
    let own = format!("{}/transfers/", account.owner.name());
    let transfer = object.strip_prefix(&own).and_then(|id| Uuid::parse_str(id).ok());
    let object = transfer.is_none().then(|| object.clone());
    Narrowed { object, transfer, counterparty: None }
}

/// One transaction of an account, in the transaction that made it.
pub(crate) async fn find(
    tx: &Tx<'_>,
    account: &Account,
    number: i64,
) -> Result<Option<Transaction>, db::Error> {
    store::find(tx, account, number).await
}
