//! The SQL of the payments that autopayments make.

use adspend_common::db::{self, Client, Row, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{balance, cause, unknown};
use crate::{
    accounts::store::Reader,
    autopay::{
        Cause, Run, RunState,
        rules::{Ask, Wait},
    },
    ledger::{AccountKey, AccountNo, TenantNo},
};

fn state(number: i16) -> Result<RunState, db::Error> {
    match number {
        1 => Ok(RunState::Pending),
        2 => Ok(RunState::Succeeded),
        3 => Ok(RunState::Failed),
        _ => Err(unknown()),
    }
}

fn count(row: &Row, column: &str) -> Result<u32, db::Error> {
    let number: i32 = row.try_get(column)?;
    Ok(u32::try_from(number).unwrap_or(0))
}

fn run_of(row: &Row) -> Result<Run, db::Error> {
    Ok(Run {
        key: AccountKey {
            tenant: TenantNo(row.try_get("tenant_id")?),
            account: AccountNo(row.try_get("account_id")?),
        },
        id: row.try_get("run_id")?,
        card: row.try_get("card_id")?,
        amount: row.try_get("amount_micros")?,
        balance: balance(row, "balance_micros")?,
        state: state(row.try_get("state")?)?,
        failure: cause(row.try_get("failure_reason")?)?,
        tries: count(row, "tries")?,
        looks: count(row, "looks")?,
        first_tried_at: row.try_get("first_tried_at")?,
        last_tried_at: row.try_get("last_tried_at")?,
        in_doubt: row.try_get("in_doubt")?,
        provider_payment: row.try_get("provider_payment_id")?,
        provider_reason: row.try_get("provider_reason")?,
        payment: row.try_get("payment_id")?,
        created_at: row.try_get("created_at")?,
        finished_at: row.try_get("finished_at")?,
    })
}

const INSERT: &str = "-- autopay.insert_run
INSERT INTO autopay_run (tenant_id, account_id, run_id, card_id, amount_micros, balance_micros, next_at,
                         created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
ON CONFLICT (tenant_id, account_id) WHERE state = 1 DO NOTHING";

/// Writes the intent of a payment; false when one is in flight.
pub(in crate::autopay) async fn insert_run(tx: &Tx<'_>, run: &Run) -> Result<bool, db::Error> {
    let Run { key, id, card, amount, balance, created_at, .. } = run;
    let (tenant, account) = (key.tenant.0, key.account.0);
    let inserted =
        tx.execute(INSERT, &[&tenant, &account, id, card, amount, balance, created_at]).await?;
    Ok(inserted == 1)
}

const SINCE: &str = "-- autopay.payments_since
SELECT count(*) FROM autopay_run
WHERE tenant_id = $1 AND account_id = $2 AND created_at >= $3 AND state <> 3";

/// Payments of the account since a moment, made or under way.
pub(in crate::autopay) async fn payments_since(
    tx: &Tx<'_>,
    key: AccountKey,
    since: DateTime<Utc>,
) -> Result<u32, db::Error> {
    let row = tx.query_one(SINCE, &[&key.tenant.0, &key.account.0, &since]).await?;
    let payments: i64 = row.try_get(0)?;
    Ok(u32::try_from(payments).unwrap_or(u32::MAX))
}

const DUE: &str = "-- autopay.due
SELECT tenant_id, account_id, run_id, card_id, amount_micros, balance_micros, state, failure_reason,
       tries, looks, first_tried_at, last_tried_at, in_doubt, provider_payment_id, provider_reason,
       payment_id, created_at, finished_at
FROM autopay_run
WHERE state = 1 AND next_at <= $1
ORDER BY next_at LIMIT 1
FOR UPDATE SKIP LOCKED";

const LEASE: &str = "-- autopay.lease
UPDATE autopay_run SET next_at = $2, tries = tries + $3, looks = looks + $4,
       in_doubt = in_doubt OR $3 > 0,
       first_tried_at = CASE WHEN $3 > 0 THEN coalesce(first_tried_at, $5) ELSE first_tried_at END,
       last_tried_at = CASE WHEN $3 > 0 THEN $5 ELSE last_tried_at END
WHERE run_id = $1";

/// The run that has been due longest and that nobody holds, locked.
pub(in crate::autopay) async fn claim(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
) -> Result<Option<Run>, db::Error> {
    tx.query_opt(DUE, &[&now]).await?.as_ref().map(run_of).transpose()
}

/// Writes what is about to be asked about a locked run, and until when nobody else should go on with it.
pub(in crate::autopay) async fn lease(
    tx: &Tx<'_>,
    run: &mut Run,
    asked: &Ask,
    (now, until): (DateTime<Utc>, DateTime<Utc>),
) -> Result<(), db::Error> {
    let (tries, looks): (i32, i32) = match asked {
        Ask::Pay => (1, 0),
        Ask::Look(_) | Ask::Search => (0, 1),
        Ask::Abandon => (0, 0),
    };
    let set = tx.execute(LEASE, &[&run.id, &until, &tries, &looks, &now]).await?;
    if tries > 0 {
        run.tries = run.tries.saturating_add(1);
        run.in_doubt = true;
        run.first_tried_at = run.first_tried_at.or(Some(now));
        run.last_tried_at = Some(now);
    }
    if looks > 0 {
        run.looks = run.looks.saturating_add(1);
    }
    db::exactly_one(set, "autopay.lease")
}

const RUN: &str = "-- autopay.run
SELECT tenant_id, account_id, run_id, card_id, amount_micros, balance_micros, state, failure_reason,
       tries, looks, first_tried_at, last_tried_at, in_doubt, provider_payment_id, provider_reason,
       payment_id, created_at, finished_at
FROM autopay_run WHERE run_id = $1";

pub(in crate::autopay) async fn run(
    from: &impl Reader,
    id: Uuid,
) -> Result<Option<Run>, db::Error> {
    from.rows(RUN, &[&id]).await?.first().map(run_of).transpose()
}

const LOCK_RUN: &str = "-- autopay.lock_run
SELECT tenant_id, account_id, run_id, card_id, amount_micros, balance_micros, state, failure_reason,
       tries, looks, first_tried_at, last_tried_at, in_doubt, provider_payment_id, provider_reason,
       payment_id, created_at, finished_at
FROM autopay_run WHERE run_id = $1 FOR UPDATE";

pub(in crate::autopay) async fn lock_run(tx: &Tx<'_>, id: Uuid) -> Result<Option<Run>, db::Error> {
    tx.query_opt(LOCK_RUN, &[&id]).await?.as_ref().map(run_of).transpose()
}

const BY_PROVIDER_PAYMENT: &str = "-- autopay.by_provider_payment
SELECT run_id FROM autopay_run WHERE provider_payment_id = $1";

/// The run that a payment of the provider is known to belong to.
pub(in crate::autopay) async fn by_provider_payment(
    client: &Client,
    payment: &str,
) -> Result<Option<Uuid>, db::Error> {
    let row = client.query_opt(BY_PROVIDER_PAYMENT, &[&payment]).await?;
    row.map_or(Ok(None), |row| Ok(row.try_get(0)?))
}

const WAIT: &str = "-- autopay.wait
UPDATE autopay_run SET next_at = $2, provider_payment_id = $3, provider_reason = $4, in_doubt = $5
WHERE run_id = $1";

/// Writes what an answer told about a locked run that goes on.
pub(in crate::autopay) async fn wait(tx: &Tx<'_>, run: Uuid, wait: &Wait) -> Result<(), db::Error> {
    let Wait { until, payment, reason, in_doubt, gives_up: _ } = wait;
    let set = tx.execute(WAIT, &[&run, until, payment, reason, in_doubt]).await?;
    db::exactly_one(set, "autopay.wait")
}

const SUCCEED: &str = "-- autopay.succeed
UPDATE autopay_run SET state = 2, provider_payment_id = $2, provider_reason = NULL, payment_id = $3,
       in_doubt = false, finished_at = $4
WHERE run_id = $1 AND state = 1";

/// Ends a locked run whose money is booked.
pub(in crate::autopay) async fn succeed(
    tx: &Tx<'_>,
    run: Uuid,
    (provider_payment, payment): (&str, Uuid),
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    let set = tx.execute(SUCCEED, &[&run, &provider_payment, &payment, &now]).await?;
    db::exactly_one(set, "autopay.succeed")
}

const FAIL: &str = "-- autopay.fail
UPDATE autopay_run SET state = 3, provider_payment_id = coalesce($2, provider_payment_id),
       failure_reason = $3, provider_reason = $4, in_doubt = false, finished_at = $5
WHERE run_id = $1 AND state = 1";

/// Ends a locked run that did not charge the card.
pub(in crate::autopay) async fn fail(
    tx: &Tx<'_>,
    run: Uuid,
    provider_payment: Option<&str>,
    (cause, reason): (Cause, &str),
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    let set = tx.execute(FAIL, &[&run, &provider_payment, &cause.number(), &reason, &now]).await?;
    db::exactly_one(set, "autopay.fail")
}

const LIST: &str = "-- autopay.list
SELECT tenant_id, account_id, run_id, card_id, amount_micros, balance_micros, state, failure_reason,
       tries, looks, first_tried_at, last_tried_at, in_doubt, provider_payment_id, provider_reason,
       payment_id, created_at, finished_at
FROM autopay_run
WHERE tenant_id = $1 AND account_id = $2
  AND ($3::timestamptz IS NULL OR (created_at, run_id) < ($3, $4::uuid))
ORDER BY created_at DESC, run_id DESC LIMIT $5";

/// The runs of an account, newest first, after the position of a page.
pub(in crate::autopay) async fn list(
    client: &Client,
    key: AccountKey,
    before: Option<(DateTime<Utc>, Uuid)>,
    limit: u32,
) -> Result<Vec<Run>, db::Error> {
    let (at, id) = before.unzip();
    let limit = i64::from(limit);
    let rows = client.query(LIST, &[&key.tenant.0, &key.account.0, &at, &id, &limit]).await?;
    rows.iter().map(run_of).collect()
}
