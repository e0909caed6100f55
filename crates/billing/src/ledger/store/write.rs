//! Writes what was folded, in one statement.

use std::collections::HashMap;

use adspend_common::db::{self, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Locked;
use crate::ledger::{AccountKey, Error, Posted, PostedLeg, Refusal, Row, TenantNo, rules::Entry};

const WRITE: &str = "-- ledger.write
WITH leg AS (
    INSERT INTO ledger_leg (tenant_id, from_account, to_account, amount_micros, from_version,
        to_version, payload_hash, posted_at, posting_id, leg, kind, from_bucket, to_bucket, object)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
        $6::bigint[], $7::bigint[], $8::timestamptz[], $9::uuid[], $10::smallint[],
        $11::smallint[], $12::smallint[], $13::smallint[], $14::text[])
), entry AS (
    INSERT INTO ledger_entry (tenant_id, account_id, version, amount_micros, balance_micros,
        posted_micros, posted_at, posting_id, leg, kind, bucket)
    SELECT * FROM unnest($15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[],
        $20::bigint[], $21::timestamptz[], $22::uuid[], $23::smallint[], $24::smallint[],
        $25::smallint[])
), journal AS (
    INSERT INTO audit_record (record_id, made_at, who, postings, digest)
    SELECT nextval('audit_record_seq'), $36::timestamptz, $37::text[], $38::bytea, $39::bytea
    WHERE $38::bytea IS NOT NULL
)
UPDATE ledger_balance b
SET main_micros = v.main, version = v.version, last_at = v.last_at, held_micros = v.held,
    frozen_micros = v.frozen, late_micros = v.late, hold_expires_at = v.hold_expires_at
FROM unnest($26::bigint[], $27::bigint[], $28::bigint[], $29::bigint[], $30::bigint[],
    $31::timestamptz[], $32::bigint[], $33::bigint[], $34::bigint[], $35::timestamptz[])
    AS v (tenant_id, account_id, before, main, version, last_at, held, frozen, late,
          hold_expires_at)
WHERE b.tenant_id = v.tenant_id AND b.account_id = v.account_id AND b.version = v.before";

/// Where a posting id that exists already shows. `ON CONFLICT DO NOTHING` would show it too, but makes every
/// row of every batch pay for it: a second look at the index, a speculative insertion and its confirmation
/// in the WAL.
const LEG_KEY: &str = "ledger_leg_pkey";

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ledger) enum Written {
    /// All of it stands in the transaction.
    All,
    /// Some posting id exists already: the transaction is lost; roll back, and look which.
    Repeated,
}

/// Writes everything that was posted. An id that exists already is an error here: a feature that comes this
/// way has found its repeats by its request row.
pub async fn write(tx: &Tx<'_>, locked: Locked) -> Result<(), Error> {
    match write_new(tx, &locked).await? {
        Written::All => Ok(()),
        Written::Repeated => Err(Error::Refused(Refusal::RequestIdReused)),
    }
}

/// The fused write: one statement, arrays only, and a count of balances that must match.
pub(in crate::ledger) async fn write_new(
    tx: &Tx<'_>,
    locked: &Locked,
) -> Result<Written, db::Error> {
    let legs = LegColumns::of(&locked.posted);
    let (rows, entries) = locked.fold.changes();
    let entries = EntryColumns::of(entries);
    let balances = BalanceColumns::of(rows, &locked.versions);
    let (who, postings, digest) = match locked.journal.row() {
        Some((who, postings, digest)) => (Some(who), Some(postings), Some(digest)),
        None => (None, None, None),
    };
    if legs.ids.is_empty() && balances.tenants.is_empty() {
        return Ok(Written::All);
    }
    let wrote = tx
        .execute(
            WRITE,
            &[
                &legs.tenants,
                &legs.from,
                &legs.to,
                &legs.amounts,
                &legs.from_versions,
                &legs.to_versions,
                &legs.hashes,
                &legs.at,
                &legs.ids,
                &legs.numbers,
                &legs.kinds,
                &legs.from_buckets,
                &legs.to_buckets,
                &legs.objects,
                &entries.tenants,
                &entries.accounts,
                &entries.versions,
                &entries.amounts,
                &entries.balances,
                &entries.posted,
                &entries.at,
                &entries.ids,
                &entries.numbers,
                &entries.kinds,
                &entries.buckets,
                &balances.tenants,
                &balances.accounts,
                &balances.before,
                &balances.main,
                &balances.versions,
                &balances.last_at,
                &balances.held,
                &balances.frozen,
                &balances.late,
                &balances.expiry,
                &locked.now,
                &who,
                &postings,
                &digest,
            ],
        )
        .await;
    match wrote {
        Ok(rows) if rows == balances.tenants.len() as u64 => Ok(Written::All),
        Ok(_) => Err(db::Error::other("a locked balance changed under its lock".to_owned())),
        Err(error) if error.constraint() == Some(LEG_KEY) => Ok(Written::Repeated),
        Err(error) => Err(error),
    }
}

#[derive(Default)]
struct LegColumns<'a> {
    tenants: Vec<i64>,
    from: Vec<i64>,
    to: Vec<i64>,
    amounts: Vec<i64>,
    from_versions: Vec<i64>,
    to_versions: Vec<i64>,
    hashes: Vec<i64>,
    at: Vec<DateTime<Utc>>,
    ids: Vec<Uuid>,
    numbers: Vec<i16>,
    kinds: Vec<i16>,
    from_buckets: Vec<i16>,
    to_buckets: Vec<i16>,
    objects: Vec<Option<&'a str>>,
}

impl<'a> LegColumns<'a> {
    fn of(posted: &'a [(TenantNo, i64, Posted)]) -> LegColumns<'a> {
        let mut columns = LegColumns::default();
        for (tenant, hash, posted) in posted {
            for (number, PostedLeg { leg, from_version, to_version, .. }) in
                posted.legs.iter().enumerate()
            {
                let (from, from_bucket) = leg.from.parts();
                let (to, to_bucket) = leg.to.parts();
                columns.tenants.push(tenant.0);
                columns.from.push(from.0);
                columns.to.push(to.0);
                columns.amounts.push(leg.amount.micros());
                columns.from_versions.push(*from_version);
                columns.to_versions.push(*to_version);
                columns.hashes.push(*hash);
                columns.at.push(posted.at);
                columns.ids.push(posted.id);
                columns.numbers.push(i16::try_from(number).unwrap_or(i16::MAX));
                columns.kinds.push(leg.kind.number());
                columns.from_buckets.push(from_bucket.number());
                columns.to_buckets.push(to_bucket.number());
                columns.objects.push(leg.object.as_deref());
            }
        }
        columns
    }
}

#[derive(Default)]
struct EntryColumns {
    tenants: Vec<i64>,
    accounts: Vec<i64>,
    versions: Vec<i64>,
    amounts: Vec<i64>,
    balances: Vec<i64>,
    posted: Vec<i64>,
    at: Vec<DateTime<Utc>>,
    ids: Vec<Uuid>,
    numbers: Vec<i16>,
    kinds: Vec<i16>,
    buckets: Vec<i16>,
}

impl EntryColumns {
    fn of(entries: &[Entry]) -> EntryColumns {
        let mut columns = EntryColumns::default();
        for entry in entries {
            columns.tenants.push(entry.key.tenant.0);
            columns.accounts.push(entry.key.account.0);
            columns.versions.push(entry.version);
            columns.amounts.push(entry.amount_micros);
            columns.balances.push(entry.balance.micros());
            columns.posted.push(entry.posted.micros());
            columns.at.push(entry.at);
            columns.ids.push(entry.posting);
            columns.numbers.push(entry.leg);
            columns.kinds.push(entry.kind.number());
            columns.buckets.push(entry.bucket.number());
        }
        columns
    }
}

#[derive(Default)]
struct BalanceColumns {
    tenants: Vec<i64>,
    accounts: Vec<i64>,
    before: Vec<i64>,
    main: Vec<i64>,
    versions: Vec<i64>,
    last_at: Vec<DateTime<Utc>>,
    held: Vec<i64>,
    frozen: Vec<i64>,
    late: Vec<i64>,
    expiry: Vec<Option<DateTime<Utc>>>,
}

impl BalanceColumns {
    fn of<'a>(
        rows: impl Iterator<Item = &'a Row>,
        versions: &HashMap<AccountKey, i64>,
    ) -> BalanceColumns {
        let mut columns = BalanceColumns::default();
        for row in rows {
            columns.tenants.push(row.key.tenant.0);
            columns.accounts.push(row.key.account.0);
            columns.before.push(versions.get(&row.key).copied().unwrap_or(-1));
            columns.main.push(row.main.micros());
            columns.versions.push(row.version);
            columns.last_at.push(row.last_at);
            columns.held.push(row.held.micros());
            columns.frozen.push(row.frozen.micros());
            columns.late.push(row.late.micros());
            columns.expiry.push(row.hold_expires_at);
        }
        columns
    }
}
