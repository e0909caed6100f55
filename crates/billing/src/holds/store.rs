//! The SQL of holds.

use std::collections::HashMap;

use adspend_common::{
    db::{self, Client, Row, Tx},
    money::Money,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Hold, HoldRef, HoldState, batch::Spends};
use crate::ledger::{AccountKey, AccountNo, TenantNo};

fn broken() -> db::Error {
    db::Error::other("a hold holds what this version does not know")
}

fn state_number(state: HoldState) -> i16 {
    match state {
        HoldState::Open => 1,
        HoldState::Expired => 2,
        HoldState::Released => 3,
    }
}

fn hold(row: &Row) -> Result<Hold, db::Error> {
    let money = |column: &str| Money::from_micros(row.get(column)).ok_or_else(broken);
    Ok(Hold {
        key: AccountKey {
            tenant: TenantNo(row.get("tenant_id")),
            account: AccountNo(row.get("account_id")),
        },
        id: row.get("hold_id"),
        opened: money("opened_micros")?,
        settled: money("settled_micros")?,
        released: money("released_micros")?,
        late: money("late_micros")?,
        sequence: row.get("sequence"),
        state: match row.get::<_, i16>("state") {
            1 => HoldState::Open,
            2 => HoldState::Expired,
            3 => HoldState::Released,
            _ => return Err(broken()),
        },
        opened_at: row.get("opened_at"),
        expires_at: row.get("expires_at"),
    })
}

const OPENED_BEFORE: &str = "-- holds.opened_before
SELECT h.tenant_id, h.account_id, h.hold_id, h.opened_micros, h.settled_micros, h.released_micros,
       h.late_micros, h.sequence, h.state, h.opened_at, h.expires_at, h.payload_hash
FROM hold h
WHERE (h.tenant_id, h.hold_id) IN (SELECT * FROM unnest($1::bigint[], $2::uuid[]))";

/// The holds that these requests opened before, with the hash of what they asked for.
pub(super) async fn opened_before(
    tx: &Tx<'_>,
    ids: &[(TenantNo, Uuid)],
) -> Result<HashMap<Uuid, (i64, Hold)>, db::Error> {
    let (tenants, ids): (Vec<i64>, Vec<Uuid>) =
        ids.iter().map(|(tenant, id)| (tenant.0, *id)).unzip();
    let rows = tx.query(OPENED_BEFORE, &[&tenants, &ids]).await?;
    rows.iter().map(|row| Ok((row.get("hold_id"), (row.get("payload_hash"), hold(row)?)))).collect()
}

const LOAD: &str = "-- holds.load
SELECT h.tenant_id, h.account_id, h.hold_id, h.opened_micros, h.settled_micros, h.released_micros,
       h.late_micros, h.sequence, h.state, h.opened_at, h.expires_at
FROM hold h
WHERE (h.tenant_id, h.account_id, h.hold_id)
    IN (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::uuid[]))";

fn columns(holds: &[HoldRef]) -> (Vec<i64>, Vec<i64>, Vec<Uuid>) {
    let tenants = holds.iter().map(|hold| hold.account.tenant.0).collect();
    let accounts = holds.iter().map(|hold| hold.account.account.0).collect();
    (tenants, accounts, holds.iter().map(|hold| hold.id).collect())
}

/// The holds of accounts that are locked.
pub(super) async fn load(
    tx: &Tx<'_>,
    holds: &[HoldRef],
) -> Result<HashMap<HoldRef, Hold>, db::Error> {
    let (tenants, accounts, ids) = columns(holds);
    let rows = tx.query(LOAD, &[&tenants, &accounts, &ids]).await?;
    rows.iter()
        .map(|row| {
            let hold = hold(row)?;
            Ok((HoldRef { account: hold.key, id: hold.id }, hold))
        })
        .collect()
}

/// One hold, for reading.
pub async fn find(client: &Client, id: HoldRef) -> Result<Option<Hold>, db::Error> {
    let (tenants, accounts, ids) = columns(&[id]);
    let row = client.query_opt(LOAD, &[&tenants, &accounts, &ids]).await?;
    row.as_ref().map(hold).transpose()
}

const LIST: &str = "-- holds.list
SELECT h.tenant_id, h.account_id, h.hold_id, h.opened_micros, h.settled_micros, h.released_micros,
       h.late_micros, h.sequence, h.state, h.opened_at, h.expires_at
FROM hold h
WHERE h.tenant_id = $1 AND h.account_id = $2
  AND ($3::timestamptz IS NULL OR (h.opened_at, h.hold_id) < ($3, $4::uuid))
  AND ($5::timestamptz IS NULL OR (h.state = 1 AND h.expires_at > $5))
ORDER BY h.opened_at DESC, h.hold_id DESC
LIMIT $6";

/// The holds of an account, newest first, after a position; only open ones when `open_at` is given.
pub async fn list(
    client: &Client,
    account: AccountKey,
    after: Option<(DateTime<Utc>, Uuid)>,
    open_at: Option<DateTime<Utc>>,
    limit: i64,
) -> Result<Vec<Hold>, db::Error> {
    let (after_at, after_id) = after.unzip();
    let rows = client
        .query(
            LIST,
            &[&account.tenant.0, &account.account.0, &after_at, &after_id, &open_at, &limit],
        )
        .await?;
    rows.iter().map(hold).collect()
}

const INSERT: &str = "-- holds.insert
INSERT INTO hold (tenant_id, account_id, hold_id, opened_micros, payload_hash, opened_at, expires_at)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::bigint[], $5::bigint[],
    $6::timestamptz[], $7::timestamptz[])";

/// Writes new holds, each with the hash of its request.
pub(super) async fn insert(tx: &Tx<'_>, holds: &[(Hold, i64)]) -> Result<(), db::Error> {
    if holds.is_empty() {
        return Ok(());
    }
    let each = || holds.iter();
    let tenants: Vec<i64> = each().map(|(hold, _)| hold.key.tenant.0).collect();
    let accounts: Vec<i64> = each().map(|(hold, _)| hold.key.account.0).collect();
    let ids: Vec<Uuid> = each().map(|(hold, _)| hold.id).collect();
    let opened: Vec<i64> = each().map(|(hold, _)| hold.opened.micros()).collect();
    let hashes: Vec<i64> = each().map(|(_, hash)| *hash).collect();
    let opened_at: Vec<DateTime<Utc>> = each().map(|(hold, _)| hold.opened_at).collect();
    let expires_at: Vec<DateTime<Utc>> = each().map(|(hold, _)| hold.expires_at).collect();
    tx.execute(INSERT, &[&tenants, &accounts, &ids, &opened, &hashes, &opened_at, &expires_at])
        .await?;
    Ok(())
}

const UPDATE: &str = "-- holds.update
UPDATE hold h
SET settled_micros = v.settled, released_micros = v.released, late_micros = v.late,
    sequence = v.sequence, state = v.state, expires_at = v.expires_at
FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::smallint[], $8::timestamptz[])
    AS v (tenant_id, hold_id, settled, released, late, sequence, state, expires_at)
WHERE h.tenant_id = v.tenant_id AND h.hold_id = v.hold_id";

/// Writes holds whose accounts are locked.
pub(super) async fn update(tx: &Tx<'_>, holds: &[&Hold]) -> Result<(), db::Error> {
    if holds.is_empty() {
        return Ok(());
    }
    let each = || holds.iter();
    let tenants: Vec<i64> = each().map(|hold| hold.key.tenant.0).collect();
    let ids: Vec<Uuid> = each().map(|hold| hold.id).collect();
    let settled: Vec<i64> = each().map(|hold| hold.settled.micros()).collect();
    let released: Vec<i64> = each().map(|hold| hold.released.micros()).collect();
    let late: Vec<i64> = each().map(|hold| hold.late.micros()).collect();
    let sequences: Vec<i64> = each().map(|hold| hold.sequence).collect();
    let states: Vec<i16> = each().map(|hold| state_number(hold.state)).collect();
    let expires_at: Vec<DateTime<Utc>> = each().map(|hold| hold.expires_at).collect();
    tx.execute(
        UPDATE,
        &[&tenants, &ids, &settled, &released, &late, &sequences, &states, &expires_at],
    )
    .await?;
    Ok(())
}

const SPENDS: &str = "-- holds.spends
SELECT s.hold_id, s.campaign, s.spent_micros, h.tenant_id, h.account_id
FROM hold_spend s
JOIN hold h ON h.tenant_id = s.tenant_id AND h.hold_id = s.hold_id
WHERE (h.tenant_id, h.account_id, h.hold_id)
    IN (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::uuid[]))";

/// What was reported so far.
pub(super) async fn spends(tx: &Tx<'_>, holds: &[HoldRef]) -> Result<Spends, db::Error> {
    let (tenants, accounts, ids) = columns(holds);
    let rows = tx.query(SPENDS, &[&tenants, &accounts, &ids]).await?;
    rows.iter()
        .map(|row| {
            let key = AccountKey {
                tenant: TenantNo(row.get("tenant_id")),
                account: AccountNo(row.get("account_id")),
            };
            let spent = Money::from_micros(row.get("spent_micros")).ok_or_else(broken)?;
            Ok(((key, row.get("hold_id"), row.get("campaign")), spent))
        })
        .collect()
}

const WRITE_SPENDS: &str = "-- holds.write_spends
INSERT INTO hold_spend AS s (tenant_id, hold_id, campaign, spent_micros)
SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::bigint[])
ON CONFLICT (tenant_id, hold_id, campaign) DO UPDATE SET spent_micros = excluded.spent_micros
WHERE s.spent_micros < excluded.spent_micros";

/// Writes what was reported; a figure never falls.
pub(super) async fn write_spends(tx: &Tx<'_>, spends: &Spends) -> Result<(), db::Error> {
    if spends.is_empty() {
        return Ok(());
    }
    let mut tenants = Vec::with_capacity(spends.len());
    let mut ids = Vec::with_capacity(spends.len());
    let mut campaigns = Vec::with_capacity(spends.len());
    let mut spent = Vec::with_capacity(spends.len());
    for ((key, id, campaign), amount) in spends {
        tenants.push(key.tenant.0);
        ids.push(*id);
        campaigns.push(campaign.as_str());
        spent.push(amount.micros());
    }
    tx.execute(WRITE_SPENDS, &[&tenants, &ids, &campaigns, &spent]).await?;
    Ok(())
}

const DUE: &str = "-- holds.due
SELECT DISTINCT tenant_id, account_id FROM (
    SELECT tenant_id, account_id FROM hold WHERE state = 1 AND expires_at <= $1
    ORDER BY expires_at LIMIT $2
) due";

/// Accounts with holds whose time is over.
pub(super) async fn due(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<AccountKey>, db::Error> {
    let rows = tx.query(DUE, &[&now, &limit]).await?;
    Ok(rows
        .iter()
        .map(|row| AccountKey { tenant: TenantNo(row.get(0)), account: AccountNo(row.get(1)) })
        .collect())
}

const MOVE_SPENDS: &str = "-- holds.move_spends
UPDATE hold_spend s SET tenant_id = $3 FROM hold h
WHERE h.tenant_id = $1 AND h.account_id = $2
  AND s.tenant_id = h.tenant_id AND s.hold_id = h.hold_id";

const MOVE: &str = "-- holds.move
UPDATE hold SET tenant_id = $3 WHERE tenant_id = $1 AND account_id = $2";

/// Takes the closed holds of an account along to another tenant, so that spend reported late still finds
/// them. Call it with the account locked and no hold open.
pub async fn move_to(tx: &Tx<'_>, from: AccountKey, to: TenantNo) -> Result<(), db::Error> {
    tx.execute(MOVE_SPENDS, &[&from.tenant.0, &from.account.0, &to.0]).await?;
    tx.execute(MOVE, &[&from.tenant.0, &from.account.0, &to.0]).await?;
    Ok(())
}
