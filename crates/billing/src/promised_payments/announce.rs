//! Announces what time alone brings: a promise is due soon, a promise is overdue. Nothing depends on it.
//!
//! A promise's row says what was announced. The rows are locked without the balance: nothing here changes what
//! is owed, and a promise that is being repaid at this moment is skipped and looked at again.

use adspend_common::db::{self, Pool};
use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Told,
    rules::{Announced, announcement},
    store, tell,
};
use crate::{accounts, ledger::AccountKey};

/// Promises that one transaction announces.
const AT_ONCE: i64 = 100;
/// Transactions of one run; what is left waits for the next.
const ROUNDS: u32 = 100;

/// Announces everything that is due, `remind_before` the end of the due day and after it.
pub(crate) async fn announce(
    pool: &Pool,
    now: DateTime<Utc>,
    remind_before: TimeDelta,
) -> Result<(), db::Error> {
    for _ in 0..ROUNDS {
        let announced =
            db::retry("promised_payments.announce", 5, || announce_some(pool, now, remind_before));
        if announced.await? < usize::try_from(AT_ONCE).unwrap_or(usize::MAX) {
            return Ok(());
        }
    }
    Ok(())
}

async fn announce_some(
    pool: &Pool,
    now: DateTime<Utc>,
    remind_before: TimeDelta,
) -> Result<usize, db::Error> {
    let mut client = pool.get().await?;
    let tx = client.transaction().await?;
    let due = store::to_announce(&tx, now, remind_before, AT_ONCE).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let mut keys: Vec<AccountKey> = due.iter().map(|(key, ..)| *key).collect();
    keys.sort_unstable();
    keys.dedup();
    let accounts = accounts::store::find_numbers(&tx, &keys).await?;
    for (key, promise, announced) in &due {
        let Some(next) = announcement(promise, *announced, remind_before, now) else { continue };
        let told = match next {
            Announced::Nothing => continue,
            Announced::DueSoon => Told::DueSoon,
            Announced::Overdue => Told::Overdue,
        };
        if let Some(account) = accounts.get(key) {
            tell(&tx, now, account, promise, told).await?;
        }
        store::set_announced(&tx, *key, promise.id, next).await?;
    }
    tx.commit().await?;
    Ok(due.len())
}
