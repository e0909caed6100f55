//! Writes what was folded, in one statement.

use std::collections::HashMap;

use adspend_common::{
    db::{self, ToSql, Tx},
    money::Balance,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Locked, top_ups};
use crate::ledger::{AccountKey, Error, Posted, Refusal, Row, TenantNo};

const WRITE: &str = "-- ledger.write
WITH leg AS (
    INSERT INTO ledger_leg (tenant_id, from_account, to_account, amount_micros, from_version,
        to_version, from_balance_micros, to_balance_micros, from_posted_micros, to_posted_micros,
        payload_hash, posted_at, posting_id, leg, kind, from_bucket, to_bucket, object)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
        $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[],
        $12::timestamptz[], $13::uuid[], $14::smallint[], $15::smallint[], $16::smallint[],
        $17::smallint[], $18::text[])
), journal AS (
    INSERT INTO audit_record (record_id, made_at, who, postings, digest)
    SELECT nextval('audit_record_seq'), $29::timestamptz, $30::text[], $31::bytea, $32::bytea
    WHERE $31::bytea IS NOT NULL
), balance AS (
UPDATE ledger_balance b
SET main_micros = v.main, version = v.version, last_at = v.last_at, held_micros = v.held,
    frozen_micros = v.frozen, late_micros = v.late, hold_expires_at = v.hold_expires_at
FROM unnest($19::bigint[], $20::bigint[], $21::bigint[], $22::bigint[], $23::bigint[],
    $24::timestamptz[], $25::bigint[], $26::bigint[], $27::bigint[], $28::timestamptz[])
    AS v (tenant_id, account_id, before, main, version, last_at, held, frozen, late,
          hold_expires_at)
WHERE b.tenant_id = v.tenant_id AND b.account_id = v.account_id AND b.version = v.before
RETURNING b.version
)
SELECT CASE WHEN count(*) = $33 THEN 0 ELSE (count(*) || ' balances changed under their lock')::int END
FROM balance";

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
pub async fn write(tx: &Tx<'_>, mut locked: Locked) -> Result<(), Error> {
    match write_new(tx, &mut locked).await? {
        Written::All => Ok(()),
        Written::Repeated => Err(Error::Refused(Refusal::RequestIdReused)),
    }
}

/// The fused write: one statement, arrays only, that fails when a balance is not what was locked. Another one
/// only when credit lines or money for spend only have changed.
async fn write_new(tx: &Tx<'_>, locked: &mut Locked) -> Result<Written, db::Error> {
    locked.take_liens()?;
    let columns = Columns::of(locked);
    if !columns.is_nothing() && is_repeated(tx.execute(WRITE, &columns.params()).await)? {
        return Ok(Written::Repeated);
    }
    write_others(tx, locked).await?;
    Ok(Written::All)
}

/// The same and the commit: on one way to the server and back when money is all that moved.
pub(in crate::ledger) async fn write_and_commit(
    tx: Tx<'_>,
    mut locked: Locked,
) -> Result<Written, db::Error> {
    if locked.moves_only_money() {
        let columns = Columns::of(&locked);
        if !columns.is_nothing() {
            let done = tx.execute_and_commit(WRITE, &columns.params()).await;
            return Ok(if is_repeated(done)? { Written::Repeated } else { Written::All });
        }
    }
    let written = write_new(&tx, &mut locked).await?;
    match written {
        Written::All => tx.commit().await?,
        Written::Repeated => tx.rollback().await?,
    }
    Ok(written)
}

fn is_repeated<T>(wrote: Result<T, db::Error>) -> Result<bool, db::Error> {
    match wrote {
        Ok(_) => Ok(false),
        Err(error) if error.constraint() == Some(LEG_KEY) => Ok(true),
        Err(error) => Err(error),
    }
}

/// What an auto top-up, a credit line and the like need to know of the money that moved.
async fn write_others(tx: &Tx<'_>, locked: &Locked) -> Result<(), db::Error> {
    write_credit(tx, locked).await?;
    write_spend_only(tx, locked).await?;
    top_ups::mark_due(tx, locked.now, locked.fold.changed()).await
}

impl Locked {
    /// Whether the legs and the balances are all there is to write.
    fn moves_only_money(&self) -> bool {
        self.credit.is_empty()
            && self.fold.spend_only().is_empty()
            && !self.fold.rows().iter().any(|row| row.overdue)
            && !self.fold.changed().any(Row::wants_top_up)
    }
}

/// The values of [`WRITE`].
struct Columns<'a> {
    legs: LegColumns<'a>,
    balances: BalanceColumns,
    now: DateTime<Utc>,
    count: i64,
    who: Option<Vec<String>>,
    postings: Option<Vec<u8>>,
    digest: Option<Vec<u8>>,
}

impl<'a> Columns<'a> {
    fn of(locked: &'a Locked) -> Columns<'a> {
        let balances = BalanceColumns::of(locked.fold.changed(), &locked.versions);
        let (who, postings, digest) = match locked.journal.row() {
            Some((who, postings, digest)) => (Some(who), Some(postings), Some(digest)),
            None => (None, None, None),
        };
        Columns {
            legs: LegColumns::of(&locked.posted),
            count: i64::try_from(balances.tenants.len()).unwrap_or(i64::MAX),
            balances,
            now: locked.now,
            who,
            postings,
            digest,
        }
    }

    fn is_nothing(&self) -> bool {
        self.legs.ids.is_empty() && self.balances.tenants.is_empty()
    }

    fn params(&self) -> [&(dyn ToSql + Sync); 33] {
        let Columns { legs, balances, now, count, who, postings, digest } = self;
        [
            &legs.tenants,
            &legs.from,
            &legs.to,
            &legs.amounts,
            &legs.from_versions,
            &legs.to_versions,
            &legs.from_balances,
            &legs.to_balances,
            &legs.from_posted,
            &legs.to_posted,
            &legs.hashes,
            &legs.at,
            &legs.ids,
            &legs.numbers,
            &legs.kinds,
            &legs.from_buckets,
            &legs.to_buckets,
            &legs.objects,
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
            now,
            who,
            postings,
            digest,
            count,
        ]
    }
}

const WRITE_CREDIT: &str = "-- ledger.write_credit
UPDATE ledger_balance SET overdraft_micros = $3, overdue = $4, credit_at = $5
WHERE tenant_id = $1 AND account_id = $2";

/// After the money: a threshold that sinks by an invoice sinks only when the invoice's money is there.
async fn write_credit(tx: &Tx<'_>, locked: &Locked) -> Result<(), db::Error> {
    for key in &locked.credit {
        let Some(row) = locked.fold.row(*key) else { continue };
        let (tenant, account) = (key.tenant.0, key.account.0);
        let Row { overdraft, overdue, credit_at, .. } = row;
        let set =
            tx.execute(WRITE_CREDIT, &[&tenant, &account, overdraft, overdue, credit_at]).await?;
        db::exactly_one(set, "ledger.write_credit")?;
    }
    if !locked.liens.is_empty() {
        crate::credit::frozen(tx, locked.now, &locked.liens).await?;
    }
    Ok(())
}

const WRITE_SPEND_ONLY: &str = "-- ledger.write_spend_only
UPDATE ledger_balance SET spend_only_micros = $3 WHERE tenant_id = $1 AND account_id = $2";

/// For the few accounts that have such money: everybody's write stays one statement.
async fn write_spend_only(tx: &Tx<'_>, locked: &Locked) -> Result<(), db::Error> {
    let mut keys = locked.fold.spend_only().to_vec();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let Some(row) = locked.fold.row(key) else { continue };
        let (tenant, account) = (key.tenant.0, key.account.0);
        let set = tx.execute(WRITE_SPEND_ONLY, &[&tenant, &account, &row.spend_only]).await?;
        db::exactly_one(set, "ledger.write_spend_only")?;
    }
    Ok(())
}

/// A counter-account has no running balance.
fn micros(balance: Option<Balance>) -> i64 {
    balance.map_or(0, Balance::micros)
}

#[derive(Default)]
struct LegColumns<'a> {
    tenants: Vec<i64>,
    from: Vec<i64>,
    to: Vec<i64>,
    amounts: Vec<i64>,
    from_versions: Vec<i64>,
    to_versions: Vec<i64>,
    from_balances: Vec<i64>,
    to_balances: Vec<i64>,
    from_posted: Vec<i64>,
    to_posted: Vec<i64>,
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
            for (number, posted_leg) in posted.legs.iter().enumerate() {
                let leg = &posted_leg.leg;
                let (from, from_bucket) = leg.from.parts();
                let (to, to_bucket) = leg.to.parts();
                columns.tenants.push(tenant.0);
                columns.from.push(from.0);
                columns.to.push(to.0);
                columns.amounts.push(leg.amount.micros());
                columns.from_versions.push(posted_leg.from_version);
                columns.to_versions.push(posted_leg.to_version);
                columns.from_balances.push(micros(posted_leg.from_balance));
                columns.to_balances.push(micros(posted_leg.to_balance));
                columns.from_posted.push(micros(posted_leg.from_posted));
                columns.to_posted.push(micros(posted_leg.to_posted));
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
