//! The SQL of the transaction list: reads the ledger, writes nothing.

use adspend_common::db::{self, Client, Row, Tx};

use super::{Asked, Filter, Narrowed, Order, Range, Sign, Transaction, rules};
use crate::{accounts::Account, ledger::Kind};

// Kinds differ by sign: a transfer in is another type than a transfer out. The other account of a posting is
// shown where there is one by nature: of a transfer, and of its reverse.
macro_rules! list {
    ($name:literal, $order:literal) => {
        concat!(
            "-- ",
            $name,
            "
SELECT e.version, e.amount_micros, e.posted_micros, e.posted_at, e.kind, e.posting_id, l.object,
       other.name AS counterparty
FROM ledger_entry e
JOIN ledger_leg l ON l.tenant_id = e.tenant_id AND l.posting_id = e.posting_id AND l.leg = e.leg
LEFT JOIN account other ON l.kind = ANY($7::smallint[]) AND other.account_id <> e.account_id
     AND other.account_id = CASE WHEN e.amount_micros > 0 THEN l.from_account ELSE l.to_account END
WHERE e.tenant_id = $1 AND e.account_id = $2 AND e.version > $3 AND e.version <= $4
  AND ((e.amount_micros > 0 AND e.kind = ANY($5::smallint[]))
    OR (e.amount_micros < 0 AND e.kind = ANY($6::smallint[])))
  AND ($9::text IS NULL OR l.object = $9)
  AND ($10::uuid IS NULL OR (e.posting_id = $10 AND e.kind = ($7::smallint[])[1]))
  AND ($11::bigint IS NULL OR other.account_id = $11)
  AND abs(e.amount_micros) BETWEEN $12 AND $13
ORDER BY e.version ",
            $order,
            " LIMIT $8"
        )
    };
}

const NEWEST: &str = list!("transactions.newest", "DESC");
const OLDEST: &str = list!("transactions.oldest", "ASC");

/// Kinds of two accounts; the first is that of transfers.
const BETWEEN_ACCOUNTS: [Kind; 3] = [Kind::Transfer, Kind::AutoTopUp, Kind::Reversal];

/// Entries of the range that are shown and wanted, in the order asked for.
pub(super) async fn list(
    client: &Client,
    account: &Account,
    range: Range,
    asked: &Asked,
    narrowed: &Narrowed,
) -> Result<Vec<Transaction>, db::Error> {
    let key = account.key;
    let Filter { types, least, most, .. } = &asked.filter;
    let (ins, outs) = (rules::kinds(types, Sign::In), rules::kinds(types, Sign::Out));
    let between = BETWEEN_ACCOUNTS.map(Kind::number).to_vec();
    let limit = i64::from(asked.limit);
    let counterparty = narrowed.counterparty.map(|account| account.0);
    let sql = match asked.order {
        Order::NewestFirst => NEWEST,
        Order::OldestFirst => OLDEST,
    };
    let rows = client
        .query(
            sql,
            &[
                &key.tenant.0,
                &key.account.0,
                &range.low,
                &range.high,
                &ins,
                &outs,
                &between,
                &limit,
                &narrowed.object,
                &narrowed.transfer,
                &counterparty,
                least,
                most,
            ],
        )
        .await?;
    rows.iter().map(|row| transaction(row, account)).collect()
}

const FIND: &str = "-- transactions.find
SELECT e.version, e.amount_micros, e.posted_micros, e.posted_at, e.kind, e.posting_id, l.object,
       other.name AS counterparty
FROM ledger_entry e
JOIN ledger_leg l ON l.tenant_id = e.tenant_id AND l.posting_id = e.posting_id AND l.leg = e.leg
LEFT JOIN account other ON l.kind = ANY($4::smallint[]) AND other.account_id <> e.account_id
     AND other.account_id = CASE WHEN e.amount_micros > 0 THEN l.from_account ELSE l.to_account END
WHERE e.tenant_id = $1 AND e.account_id = $2 AND e.version = $3";

pub(super) async fn find(
    tx: &Tx<'_>,
    account: &Account,
    number: i64,
) -> Result<Option<Transaction>, db::Error> {
    let key = account.key;
    let between = BETWEEN_ACCOUNTS.map(Kind::number).to_vec();
    let row = tx.query_opt(FIND, &[&key.tenant.0, &key.account.0, &number, &between]).await?;
    row.as_ref().map(|row| transaction(row, account)).transpose()
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
