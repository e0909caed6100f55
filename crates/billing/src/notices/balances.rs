//! Warns of balances that run low: a job, once per crossing.
//!
//! What an account spends is summed by Moscow day, each ledger entry once: a row of `balance_watch` says up
//! to which entry an account has been counted. One pass looks at every account whose balance has moved since,
//! or whose day has ended, [`ACCOUNTS_AT_ONCE`] in one transaction; replicas share the work by skipping what
//! another has locked.
//!
//! The balance that counts is what the account has, held money included: pacing sets money aside well before
//! it is spent. Money under a lien cannot be spent and does not count; credit is not money.

use adspend_common::{
    db::{self, Pool},
    money::Money,
    time::Day,
};
use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Content, Notice, queue, rules,
    store_balances::{self as store, Standing},
};
use crate::ledger::{self, AccountKey};

/// Accounts that one transaction looks at.
const ACCOUNTS_AT_ONCE: i64 = 50;
/// Passes of one run: an account with a long week behind it is counted in pieces.
const PASSES: u32 = 20;

/// Looks at every account that may have crossed the line.
pub(crate) async fn warn(pool: &Pool, now: DateTime<Utc>) -> Result<(), db::Error> {
    for _ in 0..PASSES {
        let (mut after, mut behind) = (None, false);
        while let Some(looked) =
            db::retry("notices.warn", 5, || warn_some(pool, now, after)).await?
        {
            after = Some(looked.last);
            behind |= looked.behind;
        }
        if !behind {
            break;
        }
    }
    Ok(())
}

/// How far a pass has come.
struct Looked {
    last: AccountKey,
    /// Some account has entries that were not counted yet.
    behind: bool,
}

/// Looks at some accounts behind a key in the order of keys.
async fn warn_some(
    pool: &Pool,
    now: DateTime<Utc>,
    after: Option<AccountKey>,
) -> Result<Option<Looked>, db::Error> {
    let today = Day::of(now);
    let mut client = pool.get().await?;
    let moved = store::moved(&client, today, after, ACCOUNTS_AT_ONCE).await?;
    let Some((last, _)) = moved.last().copied() else { return Ok(None) };
    let first_day = today.plus_days(1 - rules::SPEND_DAYS);
    let mut new = Vec::new();
    for (key, _) in moved.iter().filter(|(_, watched)| !watched) {
        // What was spent before the days that count is passed over.
        let before = first_day.start() - TimeDelta::microseconds(1);
        new.push((*key, ledger::entry_at(&client, *key, before).await?));
    }
    let keys: Vec<AccountKey> = moved.into_iter().map(|(key, _)| key).collect();
    let tx = client.transaction().await?;
    store::enter(&tx, &new, first_day).await?;
    // Locked first, read by a later statement.
    let watched = store::lock(&tx, &keys).await?;
    store::count(&tx, &watched, first_day).await?;
    let standings = store::standings(&tx, &watched, first_day).await?;
    for standing in &standings {
        let Standing { key, currency, balance, spent, crossings, .. } = standing;
        if standing.crosses() {
            let daily: Money = rules::daily(*spent);
            let content = Content::BalanceLow { balance: *balance, daily, currency: *currency };
            let subject_key = format!("{}/{}", key.account.0, crossings.saturating_add(1));
            queue(&tx, now, &Notice { to: *key, subject_key, content }).await?;
        }
    }
    store::write(&tx, &standings, today).await?;
    tx.commit().await?;
    let behind = standings.iter().any(|standing| !standing.caught_up);
    Ok(Some(Looked { last, behind }))
}
