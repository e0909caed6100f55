//! The SQL of promised payments. Reads payments for the turnover and the balance row for the terms.

use std::collections::HashMap;

use adspend_common::{
    db::{self, Client, Row, Tx},
    money::{Balance, Money},
    time::Day,
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{Promise, rules::Announced};
use crate::{
    accounts::store::Reader,
    ledger::{AccountKey, AccountNo, TenantNo},
};

/// Promises that are looked at for one decision. Activations are limited, so an agency has a handful.
const MOST: i64 = 500;

fn promise(row: &Row) -> Result<Promise, db::Error> {
    Ok(Promise {
        id: row.try_get("promise_id")?,
        amount: row.try_get("amount_micros")?,
        outstanding: row.try_get("outstanding_micros")?,
        due: row.try_get("due_day")?,
        created_at: row.try_get("created_at")?,
        repaid_at: row.try_get("repaid_at")?,
    })
}

const OF_ACCOUNT: &str = "-- promised_payments.of_account
SELECT promise_id, amount_micros, outstanding_micros, due_day, created_at, repaid_at
FROM promised_payment
WHERE tenant_id = $1 AND account_id = $2
ORDER BY outstanding_micros > 0 DESC, created_at DESC
LIMIT $3";

/// The promises of an account: the open ones, then the latest of the others.
pub(super) async fn of_account(
    from: &impl Reader,
    key: AccountKey,
) -> Result<Vec<Promise>, db::Error> {
    let rows = from.rows(OF_ACCOUNT, &[&key.tenant.0, &key.account.0, &MOST]).await?;
    rows.iter().map(promise).collect()
}

/// Overdue promises that one payment can repay: the legs of a posting are limited, and the deposit is one.
const MOST_COLLECTED: i64 = 60;

const OPEN: &str = "-- promised_payments.open
SELECT k.tenant_id, k.account_id, p.promise_id, p.amount_micros, p.outstanding_micros, p.due_day,
       p.created_at, p.repaid_at
FROM unnest($1::bigint[], $2::bigint[]) AS k (tenant_id, account_id)
CROSS JOIN LATERAL (
    SELECT * FROM promised_payment o
    WHERE o.tenant_id = k.tenant_id AND o.account_id = k.account_id AND o.outstanding_micros > 0
    ORDER BY o.due_day, o.created_at, o.promise_id
    LIMIT $3
) p
ORDER BY p.due_day, p.created_at, p.promise_id";

/// The open promises of accounts, the oldest due day first.
pub(super) async fn open(
    tx: &Tx<'_>,
    keys: &[AccountKey],
) -> Result<HashMap<AccountKey, Vec<Promise>>, db::Error> {
    let (tenants, accounts): (Vec<i64>, Vec<i64>) =
        keys.iter().map(|key| (key.tenant.0, key.account.0)).unzip();
    let mut open: HashMap<AccountKey, Vec<Promise>> = HashMap::new();
    for row in tx.query(OPEN, &[&tenants, &accounts, &MOST_COLLECTED]).await? {
        let tenant = TenantNo(row.try_get("tenant_id")?);
        let account = AccountNo(row.try_get("account_id")?);
        open.entry(AccountKey { tenant, account }).or_default().push(promise(&row)?);
    }
    Ok(open)
}

const FIND: &str = "-- promised_payments.find
SELECT promise_id, amount_micros, outstanding_micros, due_day, created_at, repaid_at
FROM promised_payment
WHERE tenant_id = $1 AND account_id = $2 AND promise_id = $3";

pub(super) async fn find(
    client: &Client,
    key: AccountKey,
    id: Uuid,
) -> Result<Option<Promise>, db::Error> {
    let row = client.query_opt(FIND, &[&key.tenant.0, &key.account.0, &id]).await?;
    row.as_ref().map(promise).transpose()
}

const LIST: &str = "-- promised_payments.list
SELECT promise_id, amount_micros, outstanding_micros, due_day, created_at, repaid_at
FROM promised_payment
WHERE tenant_id = $1 AND account_id = $2
  AND ($3::timestamptz IS NULL OR (created_at, promise_id) < ($3, $4::uuid))
ORDER BY created_at DESC, promise_id DESC
LIMIT $5";

pub(super) async fn list(
    client: &Client,
    key: AccountKey,
    before: Option<(DateTime<Utc>, Uuid)>,
    limit: u32,
) -> Result<Vec<Promise>, db::Error> {
    let (at, id) = before.unzip();
    let limit = i64::from(limit);
    let rows = client.query(LIST, &[&key.tenant.0, &key.account.0, &at, &id, &limit]).await?;
    rows.iter().map(promise).collect()
}

const TURNOVER: &str = "-- promised_payments.turnover
SELECT coalesce(sum(amount_micros - refunded_micros), 0)::bigint FROM payment
WHERE tenant_id = $1 AND account_id = $2 AND state <> 2 AND credited_at > $3 AND credited_at <= $4";

/// What was paid from outside in the last days, and not paid back since.
pub(super) async fn turnover(
    from: &impl Reader,
    key: AccountKey,
    now: DateTime<Utc>,
    days: u16,
) -> Result<Money, db::Error> {
    let since = now - TimeDelta::days(i64::from(days));
    let rows = from.rows(TURNOVER, &[&key.tenant.0, &key.account.0, &since, &now]).await?;
    rows.first().map_or(Ok(Money::ZERO), |row| Ok(row.try_get(0)?))
}

const POSTED: &str = "-- promised_payments.posted
SELECT main_micros + held_micros + frozen_micros FROM ledger_balance
WHERE tenant_id = $1 AND account_id = $2";

/// All money of the account.
pub(super) async fn posted(from: &impl Reader, key: AccountKey) -> Result<Balance, db::Error> {
    let rows = from.rows(POSTED, &[&key.tenant.0, &key.account.0]).await?;
    rows.first().map_or(Ok(Balance::ZERO), |row| Ok(row.try_get(0)?))
}

const INSERT: &str = "-- promised_payments.insert
INSERT INTO promised_payment (tenant_id, account_id, promise_id, amount_micros, outstanding_micros,
                              due_day, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)";

pub(super) async fn insert(
    tx: &Tx<'_>,
    key: AccountKey,
    promise: &Promise,
) -> Result<(), db::Error> {
    let Promise { id, amount, outstanding, due, created_at, repaid_at: _ } = promise;
    let (tenant, account) = (key.tenant.0, key.account.0);
    let inserted =
        tx.execute(INSERT, &[&tenant, &account, id, amount, outstanding, due, created_at]).await?;
    db::exactly_one(inserted, "promised_payments.insert")
}

const PAY: &str = "-- promised_payments.pay
WITH paid AS (
    UPDATE promised_payment SET outstanding_micros = $4, repaid_at = $5
    WHERE tenant_id = $1 AND promise_id = $2 AND outstanding_micros = $4 + $6::bigint
    RETURNING 1
)
INSERT INTO promised_repayment (tenant_id, promise_id, posting_id, account_id, amount_micros, repaid_at)
SELECT $1, $2, $3, $7, $6, $8 FROM paid";

/// Writes what is left of a promise after a part of it was paid, and that part.
pub(super) async fn pay(
    tx: &Tx<'_>,
    key: AccountKey,
    posting: Uuid,
    (promise, part): (&Promise, Money),
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    let Promise { id, outstanding, repaid_at, .. } = promise;
    let (tenant, account) = (key.tenant.0, key.account.0);
    let paid = tx
        .execute(PAY, &[&tenant, id, &posting, outstanding, repaid_at, &part, &account, &now])
        .await?;
    db::exactly_one(paid, "promised_payments.pay")
}

impl Announced {
    const fn number(self) -> i16 {
        match self {
            Announced::Nothing => 0,
            Announced::DueSoon => 1,
            Announced::Overdue => 2,
        }
    }

    const fn from_number(number: i16) -> Option<Announced> {
        match number {
            0 => Some(Announced::Nothing),
            1 => Some(Announced::DueSoon),
            2 => Some(Announced::Overdue),
            _ => None,
        }
    }
}

// The same conditions as in `rules::announcement`: a day is over before the one that a moment is in.
const TO_ANNOUNCE: &str = "-- promised_payments.to_announce
SELECT tenant_id, account_id, promise_id, amount_micros, outstanding_micros, due_day, created_at,
       repaid_at, announced
FROM promised_payment
WHERE outstanding_micros > 0 AND announced < 2
  AND (due_day < $1 OR (due_day < $2 AND announced < 1))
ORDER BY due_day LIMIT $3
FOR NO KEY UPDATE SKIP LOCKED";

/// Open promises with something to announce, locked, with what was announced of them.
pub(super) async fn to_announce(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    remind_before: TimeDelta,
    limit: i64,
) -> Result<Vec<(AccountKey, Promise, Announced)>, db::Error> {
    let unknown = || db::Error::other("a promise was announced by a newer version");
    let soon = now.checked_add_signed(remind_before).unwrap_or(now);
    let rows = tx.query(TO_ANNOUNCE, &[&Day::of(now), &Day::of(soon), &limit]).await?;
    rows.iter()
        .map(|row| {
            let (tenant, account) = (row.try_get("tenant_id")?, row.try_get("account_id")?);
            let key = AccountKey { tenant: TenantNo(tenant), account: AccountNo(account) };
            let announced = Announced::from_number(row.try_get("announced")?);
            Ok((key, promise(row)?, announced.ok_or_else(unknown)?))
        })
        .collect()
}

const SET_ANNOUNCED: &str = "-- promised_payments.set_announced
UPDATE promised_payment SET announced = $3 WHERE tenant_id = $1 AND promise_id = $2";

pub(super) async fn set_announced(
    tx: &Tx<'_>,
    key: AccountKey,
    promise: Uuid,
    announced: Announced,
) -> Result<(), db::Error> {
    let set = tx.execute(SET_ANNOUNCED, &[&key.tenant.0, &promise, &announced.number()]).await?;
    db::exactly_one(set, "promised_payments.set_announced")
}
