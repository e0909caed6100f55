//! Reads transfers back out of the ledger.

use adspend_common::{
    db::{self, Client, Row},
    id::AccountId,
    money::{Balance, Currency, Money},
};
use uuid::Uuid;

use super::Transfer;
use crate::ledger::{AccountKey, TenantNo};

fn transfer(row: &Row) -> Result<Transfer, db::Error> {
    let broken = || db::Error::other("a transfer holds what this version does not know");
    let balance = |column: &str| Balance::from_micros(row.get(column)).ok_or_else(broken);
    let account = |column: &str| AccountId::parse(row.get(column)).map_err(|_| broken());
    let currency: Currency = row.get("currency");
    Ok(Transfer {
        id: row.get("posting_id"),
        agency: account("agency")?,
        source: account("source")?,
        destination: account("destination")?,
        amount: Money::from_micros(row.get("amount_micros")).ok_or_else(broken)?,
        currency,
        at: row.get("posted_at"),
        source_balance: balance("source_balance")?,
        destination_balance: balance("destination_balance")?,
        replayed: false,
    })
}

const FIND: &str = "-- transfers.find
SELECT l.posting_id, l.amount_micros, l.posted_at, a.name AS agency, a.currency,
       s.name AS source, d.name AS destination,
       l.from_balance_micros AS source_balance, l.to_balance_micros AS destination_balance
FROM ledger_leg l
JOIN account a ON a.account_id = l.tenant_id
JOIN account s ON s.account_id = l.from_account
JOIN account d ON d.account_id = l.to_account
WHERE l.tenant_id = $1 AND l.posting_id = $2 AND l.kind = 1";

/// One transfer of an agency.
pub async fn find(
    client: &Client,
    tenant: TenantNo,
    id: Uuid,
) -> Result<Option<Transfer>, db::Error> {
    client.query_opt(FIND, &[&tenant.0, &id]).await?.as_ref().map(transfer).transpose()
}

const LIST: &str = "-- transfers.list
SELECT l.posting_id, l.amount_micros, l.posted_at, a.name AS agency, a.currency,
       s.name AS source, d.name AS destination,
       l.from_balance_micros AS source_balance, l.to_balance_micros AS destination_balance,
       e.version
FROM ledger_entry e
JOIN ledger_leg l ON l.tenant_id = e.tenant_id AND l.posting_id = e.posting_id AND l.leg = e.leg
JOIN account a ON a.account_id = l.tenant_id
JOIN account s ON s.account_id = l.from_account
JOIN account d ON d.account_id = l.to_account
WHERE e.tenant_id = $1 AND e.account_id = $2 AND e.kind = 1 AND e.version < $3
ORDER BY e.version DESC
LIMIT $4";

/// The transfers into and out of an account before an entry, newest first, each with its entry's number.
pub async fn list(
    client: &Client,
    account: AccountKey,
    before: i64,
    limit: i64,
) -> Result<Vec<(i64, Transfer)>, db::Error> {
    let rows =
        client.query(LIST, &[&account.tenant.0, &account.account.0, &before, &limit]).await?;
    rows.iter().map(|row| Ok((row.get("version"), transfer(row)?))).collect()
}
