//! The SQL of statements.

use std::collections::HashMap;

use adspend_common::{
    db::{self, Row, Tx},
    id::AccountId,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Checked, Outcome, Report, reading::Format, rules::Ignored, rules::NaturalKey};
use crate::{ledger::TenantNo, payments::Unmatched};

/// Bank accounts are the platform's.
const TENANT: i64 = TenantNo::PLATFORM.0;

const INSERT: &str = "-- statements.insert
INSERT INTO statement (tenant_id, statement_id, format, lines, created_at) VALUES ($1, $2, $3, $4, $5)";

pub(super) async fn insert(
    tx: &Tx<'_>,
    id: Uuid,
    checked: &Checked,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    let format: i16 = match checked.format {
        Format::OneC => 1,
        Format::Camt => 2,
    };
    let inserted = tx.execute(INSERT, &[&TENANT, &id, &format, &checked.lines, &now]).await?;
    db::exactly_one(inserted, "statements.insert")
}

const LOCK: &str = "-- statements.lock
SELECT done FROM statement WHERE tenant_id = $1 AND statement_id = $2 FOR NO KEY UPDATE";

/// Up to which line a statement is done; nobody else goes on with it until the transaction ends.
pub(super) async fn lock(tx: &Tx<'_>, id: Uuid) -> Result<i32, db::Error> {
    Ok(tx.query_one(LOCK, &[&TENANT, &id]).await?.try_get(0)?)
}

const CLAIM: &str = "-- statements.claim
INSERT INTO bank_line (tenant_id, own_account, document_day, document_number, amount_micros,
                       payer_account, payment_id)
SELECT $1, v.* FROM unnest($2::text[], $3::date[], $4::text[], $5::bigint[], $6::text[], $7::uuid[]) AS v
ON CONFLICT ON CONSTRAINT a_bank_line_is_booked_once DO NOTHING
RETURNING payment_id";

const KNOWN: &str = "-- statements.known
SELECT b.own_account, b.document_day, b.document_number, b.amount_micros, b.payer_account, b.payment_id
FROM unnest($2::text[], $3::date[], $4::text[], $5::bigint[], $6::text[])
     AS v (own_account, document_day, document_number, amount_micros, payer_account)
JOIN bank_line b ON b.tenant_id = $1 AND b.own_account = v.own_account
     AND b.document_day = v.document_day AND b.document_number = v.document_number
     AND b.amount_micros = v.amount_micros AND b.payer_account = v.payer_account";

/// The payment of each line: the one that is offered with a key that nobody has used, else the one that has
/// used it. Waits for others who are claiming the same keys; the keys must come in their order, so that two
/// who claim many do not wait for each other.
pub(super) async fn claim(
    tx: &Tx<'_>,
    offered: &[(NaturalKey, Uuid)],
) -> Result<HashMap<NaturalKey, Uuid>, db::Error> {
    let keys: Vec<&NaturalKey> = offered.iter().map(|(key, _)| key).collect();
    let accounts: Vec<&str> = keys.iter().map(|key| key.own_account.as_str()).collect();
    let days: Vec<_> = keys.iter().map(|key| key.day).collect();
    let numbers: Vec<&str> = keys.iter().map(|key| key.number.as_str()).collect();
    let amounts: Vec<_> = keys.iter().map(|key| key.amount).collect();
    let payers: Vec<&str> = keys.iter().map(|key| key.payer_account.as_str()).collect();
    let ids: Vec<Uuid> = offered.iter().map(|(_, id)| *id).collect();
    let claimed =
        tx.query(CLAIM, &[&TENANT, &accounts, &days, &numbers, &amounts, &payers, &ids]).await?;
    if claimed.len() == offered.len() {
        return Ok(offered.iter().cloned().collect());
    }
    let known = tx.query(KNOWN, &[&TENANT, &accounts, &days, &numbers, &amounts, &payers]).await?;
    known.iter().map(key).collect()
}

fn key(row: &Row) -> Result<(NaturalKey, Uuid), db::Error> {
    let key = NaturalKey {
        own_account: row.try_get("own_account")?,
        day: row.try_get("document_day")?,
        number: row.try_get("document_number")?,
        amount: row.try_get("amount_micros")?,
        payer_account: row.try_get("payer_account")?,
    };
    Ok((key, row.try_get("payment_id")?))
}

const DONE: &str = "-- statements.done
WITH line AS (
    INSERT INTO statement_line (tenant_id, statement_id, position, outcome, reason, payment_id)
    SELECT $1, $2, v.* FROM unnest($3::integer[], $4::smallint[], $5::text[], $6::uuid[]) AS v
)
UPDATE statement SET done = $7 WHERE tenant_id = $1 AND statement_id = $2 AND done < $7";

/// Writes what became of lines, the last of which is `last`.
pub(super) async fn done(
    tx: &Tx<'_>,
    id: Uuid,
    reports: &[Report],
    last: i32,
) -> Result<(), db::Error> {
    let positions: Vec<i32> = reports.iter().map(|report| report.position).collect();
    let outcomes: Vec<i16> = reports.iter().map(|report| number(&report.outcome)).collect();
    let reasons: Vec<Option<&str>> = reports.iter().map(|report| report.outcome.reason()).collect();
    let payments: Vec<Option<Uuid>> =
        reports.iter().map(|report| report.outcome.payment()).collect();
    let set = tx
        .execute(DONE, &[&TENANT, &id, &positions, &outcomes, &reasons, &payments, &last])
        .await?;
    db::exactly_one(set, "statements.done")
}

const fn number(outcome: &Outcome) -> i16 {
    match outcome {
        Outcome::Credited { .. } => 1,
        Outcome::Unallocated { .. } => 2,
        Outcome::Duplicate { .. } => 3,
        Outcome::Ignored(_) => 4,
    }
}

const LINES: &str = "-- statements.lines
SELECT l.position, l.outcome, l.reason, l.payment_id, a.name AS account
FROM statement_line l
LEFT JOIN payment p ON l.outcome = 1 AND p.payment_id = l.payment_id
LEFT JOIN account a ON a.account_id = p.account_id
WHERE l.tenant_id = $1 AND l.statement_id = $2 AND l.position BETWEEN $3 AND $4
ORDER BY l.position";

/// What became of lines that are done.
pub(super) async fn lines(
    tx: &Tx<'_>,
    id: Uuid,
    (first, last): (i32, i32),
) -> Result<Vec<Report>, db::Error> {
    let rows = tx.query(LINES, &[&TENANT, &id, &first, &last]).await?;
    rows.iter().map(report).collect()
}

fn report(row: &Row) -> Result<Report, db::Error> {
    let unknown = || db::Error::other("a statement's line has an outcome of a newer version");
    let reason: Option<&str> = row.try_get("reason")?;
    let payment: Option<Uuid> = row.try_get("payment_id")?;
    let account: Option<AccountId> = row.try_get("account")?;
    let unmatched = Unmatched::ALL.into_iter().find(|why| Some(why.name()) == reason);
    let ignored = Ignored::ALL.into_iter().find(|why| Some(why.name()) == reason);
    let outcome = match (row.try_get::<_, i16>("outcome")?, payment) {
        (1, Some(payment)) => Outcome::Credited { payment, account: account.ok_or_else(unknown)? },
        (2, Some(payment)) => {
            Outcome::Unallocated { payment, reason: unmatched.ok_or_else(unknown)? }
        }
        (3, Some(payment)) => Outcome::Duplicate { payment },
        (4, None) => Outcome::Ignored(ignored.ok_or_else(unknown)?),
        _ => return Err(unknown()),
    };
    Ok(Report { position: row.try_get("position")?, outcome })
}
