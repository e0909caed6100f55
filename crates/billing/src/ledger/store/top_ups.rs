//! The balance row arms an auto top-up; the write that takes its money to the threshold marks it as due.

use adspend_common::{
    db::{self, Tx},
    money::Money,
};
use chrono::{DateTime, Utc};

use crate::ledger::{AccountKey, Row};

const SET_TOP_UP_AT: &str = "-- ledger.set_top_up_at
UPDATE ledger_balance SET top_up_at_micros = $3
WHERE tenant_id = $1 AND account_id = $2 AND top_up_at_micros IS DISTINCT FROM $3";

/// Sets at how much free money or less the account's auto top-up is due; none disarms it. Call it with the
/// row locked by [`lock`](super::lock).
pub async fn set_top_up_at(
    tx: &Tx<'_>,
    key: AccountKey,
    at: Option<Money>,
) -> Result<(), db::Error> {
    tx.execute(SET_TOP_UP_AT, &[&key.tenant.0, &key.account.0, &at]).await?;
    Ok(())
}

const MARK_DUE: &str = "-- ledger.mark_top_ups_due
UPDATE auto_top_up t SET due_at = $3
FROM unnest($1::bigint[], $2::bigint[]) AS low (tenant_id, account_id)
WHERE t.tenant_id = low.tenant_id AND t.account_id = low.account_id AND t.due_at IS NULL";

/// Marks the auto top-ups of accounts whose money is at or below the threshold, in the transaction that
/// took it there. A statement only when there are any. Rows that are marked here are armed, so nobody else
/// changes them without the lock that this transaction has: no deadlock, in whatever order.
pub(super) async fn mark_due<'a>(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    rows: impl Iterator<Item = &'a Row>,
) -> Result<(), db::Error> {
    let low = rows.filter(|row| row.wants_top_up());
    let (tenants, accounts): (Vec<i64>, Vec<i64>) =
        low.map(|row| (row.key.tenant.0, row.key.account.0)).unzip();
    if tenants.is_empty() {
        return Ok(());
    }
    tx.execute(MARK_DUE, &[&tenants, &accounts, &now]).await?;
    tx.wake_on_commit();
    Ok(())
}
