//! What happened to an account's money, as its owner sees it (R-20..R-22, R-32).
//!
//! A transaction is a ledger entry; there is no second record. Its number is the entry's, so it never
//! changes, and the running balance was written with it. A page is a range of entry numbers that is fixed
//! when the first page is asked for, so pages stay put while money moves.
//!
//! Cost: two binary searches for the range, then the primary key backwards. Accounts whose money is set
//! aside and given back all day have long stretches without a row to show: one page looks at
//! [`MOST_LOOKED_AT`] entries and may come back short with a token to go on.
//!
//! The history belongs to the tenant in which it happened: after an account is attached or detached, what
//! came before stays there.

pub(crate) mod rules;
mod store;

use adspend_common::{
    db::{self, Pool},
    id::AccountId,
    identity::Caller,
    money::{Balance, Currency},
};
use chrono::{DateTime, TimeDelta, Utc};

use crate::{accounts, ledger};

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

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) account: AccountId,
    pub(crate) types: Vec<TransactionType>,
    /// Booked at or after.
    pub(crate) start: DateTime<Utc>,
    /// Booked before; no bound without it.
    pub(crate) end: Option<DateTime<Utc>>,
    /// What is left of the range after the pages before this one.
    pub(crate) rest: Option<Range>,
    pub(crate) limit: u32,
}

/// A page of the history, newest first.
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
    /// The store failed.
    #[error("transaction storage failed")]
    Db(#[from] db::Error),
}

/// One page of an account's history.
pub(crate) async fn list(pool: &Pool, caller: &Caller, asked: &Asked) -> Result<Page, Error> {
    let client = pool.get().await?;
    let account = accounts::store::find(&client, &asked.account).await?;
    let account = account
        .filter(|account| caller.sees(&account.owner))
        .ok_or_else(|| Error::NotFound(asked.account.name()))?;
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
    let floor = range.low.max(range.high.saturating_sub(MOST_LOOKED_AT));
    let looked_at = Range { low: floor, high: range.high };
    let rows = store::list(&client, &account, looked_at, asked).await?;
    let full = rows.len() >= usize::try_from(asked.limit).unwrap_or(usize::MAX);
    let next = match rows.last() {
        Some(last) if full => last.number.saturating_sub(1),
        Some(_) | None => floor,
    };
    let rest = (next > range.low).then_some(Range { low: range.low, high: next });
    Ok(Page { account: account.id, currency: account.currency, rows, rest })
}
