//! The SQL of the transaction list: reads the ledger, writes nothing.

use adspend_common::db::{self, Client, Row};

use super::{Asked, Range, Sign, Transaction, rules};
use crate::{accounts::Account, ledger::Kind};

// Kinds differ by sign: a transfer in is another type than a transfer out.
const LIST: &str = "-- transactions.list
SELECT e.version, e.amount_micros, e.posted_micros, e.posted_at, e.kind, e.posting_id, l.object,
       other.name AS counterparty
FROM ledger_entry e
JOIN ledger_leg l ON l.tenant_id = e.tenant_id AND l.posting_id = e.posting_id AND l.leg = e.leg
LEFT JOIN account other ON l.kind = ANY($7::smallint[])
     AND other.account_id = CASE WHEN e.amount_micros > 0 THEN l.from_account ELSE l.to_account END
WHERE e.tenant_id = $1 AND e.account_id = $2 AND e.version > $3 AND e.version <= $4
  AND ((e.amount_micros > 0 AND e.kind = ANY($5::smallint[]))
    OR (e.amount_micros < 0 AND e.kind = ANY($6::smallint[])))
ORDER BY e.version DESC
LIMIT $8";

/// Entries of the range that are shown under the types asked for, newest first.
pub(super) async fn list(
    client: &Client,
    account: &Account,
    range: Range,
    asked: &Asked,
) -> Result<Vec<Transaction>, db::Error> {
    let key = account.key;
    let (ins, outs) = (rules::kinds(&asked.types, Sign::In), rules::kinds(&asked.types, Sign::Out));
    let limit = i64::from(asked.limit);
    let rows = client
        .query(
            LIST,
            &[
                &key.tenant.0,
                &key.account.0,
                &range.low,
                &range.high,
                &ins,
                &outs,
                &[Kind::Transfer.number(), Kind::AutoTopUp.number()].as_slice(),
                &limit,
            ],
        )
        .await?;
    rows.iter().map(|row| transaction(row, account)).collect()
}

fn transaction(row: &Row, account: &Account) -> Result<Transaction, db::Error> {
    let unknown = || db::Error::other("an entry has a kind of a newer version");
    let amount: adspend_common::money::Balance = row.try_get("amount_micros")?;
    let sign = if amount.is_negative() { Sign::Out } else { Sign::In };
    let kind = Kind::from_number(row.try_get("kind")?).ok_or_else(unknown)?;
    let object: Option<String> = if kind == Kind::Transfer {
        // A transfer is its posting, and the agency's resource.
        let id: uuid::Uuid = row.try_get("posting_id")?;
        Some(format!("{}/transfers/{id}", account.owner.name()))
    } else {
        row.try_get("object")?
    };
    Ok(Transaction {
        number: row.try_get("version")?,
        shown: rules::shown(kind, sign).ok_or_else(unknown)?,
        amount,
        balance: row.try_get("posted_micros")?,
        at: row.try_get("posted_at")?,
        object: object.filter(|object| !object.is_empty()),
        counterparty: row.try_get("counterparty")?,
    })
}
