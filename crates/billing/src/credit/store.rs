//! The SQL of credit. Reads the unpaid deferred invoices, which `invoices` writes, the moments at which the ledger
//! wants to look again, and what was spent.

use adspend_common::{
    db::{self, Client, Tx},
    money::Balance,
    time::Day,
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    eligibility::Record,
    rules::{Credit, Unpaid},
};
use crate::{
    accounts::store::Reader,
    ledger::{self, AccountKey, AccountNo, TenantNo},
};

const FIND: &str = "-- credit.find
SELECT c.granted_micros, c.threshold_micros, c.repaid_at, c.bill_at, c.unfreeze_at
FROM credit c WHERE c.tenant_id = $1 AND c.account_id = $2";

const UNPAID: &str = "-- credit.unpaid
SELECT invoice_id, number, amount_micros, pay_by, overdue_told FROM invoice
WHERE tenant_id = $1 AND account_id = $2 AND terms = 2 AND state = 1
ORDER BY pay_by, serial";

/// The credit of an account; nothing granted when nobody has. To decide on it, lock the balance row first.
pub(super) async fn find(from: &impl Reader, key: AccountKey) -> Result<Credit, db::Error> {
    let (tenant, account) = (key.tenant.0, key.account.0);
    let rows = from.rows(FIND, &[&tenant, &account]).await?;
    let Some(row) = rows.first() else { return Ok(Credit::default()) };
    let mut unpaid = Vec::new();
    for row in from.rows(UNPAID, &[&tenant, &account]).await? {
        unpaid.push(Unpaid {
            id: row.try_get("invoice_id")?,
            number: row.try_get("number")?,
            amount: row.try_get("amount_micros")?,
            due: row.try_get("pay_by")?,
            told: row.try_get("overdue_told")?,
        });
    }
    Ok(Credit {
        granted: row.try_get("granted_micros")?,
        threshold: row.try_get("threshold_micros")?,
        unpaid,
        repaid_at: row.try_get("repaid_at")?,
        bill_at: row.try_get("bill_at")?,
        unfreeze_at: row.try_get("unfreeze_at")?,
    })
}

const WRITE: &str = "-- credit.write
INSERT INTO credit (tenant_id, account_id, granted_micros, threshold_micros, repaid_at, bill_at, unfreeze_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant_id, account_id) DO UPDATE
SET granted_micros = excluded.granted_micros, threshold_micros = excluded.threshold_micros,
    repaid_at = excluded.repaid_at, bill_at = excluded.bill_at, unfreeze_at = excluded.unfreeze_at";

/// Writes the credit of an account whose balance row is locked.
pub(super) async fn write(tx: &Tx<'_>, key: AccountKey, credit: &Credit) -> Result<(), db::Error> {
    let Credit { granted, threshold, unpaid: _, repaid_at, bill_at, unfreeze_at } = credit;
    let (tenant, account) = (key.tenant.0, key.account.0);
    let written = tx
        .execute(WRITE, &[&tenant, &account, granted, threshold, repaid_at, bill_at, unfreeze_at])
        .await?;
    db::exactly_one(written, "credit.write")
}

const TOLD: &str = "-- credit.told
UPDATE invoice SET overdue_told = true WHERE tenant_id = $1 AND invoice_id = ANY($2)";

/// Remembers of which invoices it is booked that they are overdue.
pub(super) async fn told(tx: &Tx<'_>, key: AccountKey, invoices: &[Uuid]) -> Result<(), db::Error> {
    tx.execute(TOLD, &[&key.tenant.0, &invoices]).await?;
    Ok(())
}

const IS_DUE: &str = "-- credit.is_due
SELECT FROM ledger_balance WHERE tenant_id = $1 AND account_id = $2 AND credit_at <= $3";

/// Whether time has brought something that is not booked yet.
pub(super) async fn is_due(
    from: &impl Reader,
    key: AccountKey,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let rows = from.rows(IS_DUE, &[&key.tenant.0, &key.account.0, &now]).await?;
    Ok(!rows.is_empty())
}

const DUE: &str = "-- credit.due
SELECT tenant_id, account_id FROM ledger_balance
WHERE credit_at <= $1 ORDER BY credit_at, account_id LIMIT $2";

/// Accounts for which something is not booked yet, the most overdue first.
pub(super) async fn due(
    client: &Client,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<AccountKey>, db::Error> {
    let mut keys = Vec::new();
    for row in client.query(DUE, &[&now, &limit]).await? {
        let (tenant, account) = (TenantNo(row.try_get(0)?), AccountNo(row.try_get(1)?));
        keys.push(AccountKey { tenant, account });
    }
    Ok(keys)
}

const FIRST_SPEND: &str = "-- credit.first_spend
SELECT posted_at FROM ledger_leg
WHERE tenant_id = $1 AND from_account = $2 AND from_account <> 0 AND to_bucket = 15
ORDER BY from_version LIMIT 1";

// Both ends of legs are entries: what went to revenue, less what came back from it.
const SPENT: &str = "-- credit.spent
SELECT (coalesce((SELECT sum(amount_micros) FROM ledger_leg
            WHERE tenant_id = $1 AND from_account = $2 AND from_account <> 0
              AND from_version > $3 AND from_version <= $4 AND to_bucket = 15), 0)
      - coalesce((SELECT sum(amount_micros) FROM ledger_leg
            WHERE tenant_id = $1 AND to_account = $2 AND to_account <> 0
              AND to_version > $3 AND to_version <= $4 AND from_bucket = 15), 0))::bigint";

/// Entries that one statement adds up: about half a second, a tenth of what a statement may take.
const ENTRIES_AT_ONCE: i64 = 500_000;

/// When an account began to spend, and what it spent from a day to another, both inclusive.
pub(super) async fn record(
    client: &Client,
    key: AccountKey,
    (first, last): (Day, Day),
) -> Result<Record, db::Error> {
    let (tenant, account) = (key.tenant.0, key.account.0);
    let began = client.query_opt(FIRST_SPEND, &[&tenant, &account]).await?;
    let began: Option<DateTime<Utc>> = began.map(|row| row.try_get(0)).transpose()?;
    // Booked before a moment: what the ledger keeps is whole microseconds.
    let instant = TimeDelta::microseconds(1);
    let mut before = ledger::entry_at(client, key, first.start() - instant).await?;
    let until = ledger::entry_at(client, key, last.end() - instant).await?;
    let mut spent = Balance::ZERO;
    while before < until {
        let next = before.saturating_add(ENTRIES_AT_ONCE).min(until);
        let row = client.query_one(SPENT, &[&tenant, &account, &before, &next]).await?;
        let overflow = || db::Error::other("the spend of a period is beyond what can be stored");
        spent = spent.checked_add(row.try_get::<_, Balance>(0)?).ok_or_else(overflow)?;
        before = next;
    }
    Ok(Record { first_spend: began.map(Day::of), spent })
}
