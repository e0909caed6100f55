//! The SQL of auto top-ups. The mark `due_at` is also set by the ledger, when money goes out.

use adspend_common::{
    db::{self, Client, Row, Tx},
    money::{Balance, Money},
    time::Day,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    Did, Off, Run, TopUp,
    rules::{Counter, Period, Settings, Wait},
};
use crate::{
    accounts::{Account, store::Reader},
    ledger::{self, AccountKey, AccountNo, TenantNo},
};

fn broken() -> db::Error {
    db::Error::other("an auto top-up holds what this version does not know")
}

const fn period_number(period: Period) -> i16 {
    match period {
        Period::Day => 1,
        Period::Week => 2,
        Period::Month => 3,
    }
}

fn period(number: i16) -> Result<Period, db::Error> {
    [Period::Day, Period::Week, Period::Month]
        .into_iter()
        .find(|period| period_number(*period) == number)
        .ok_or_else(broken)
}

const fn wait_number(wait: Wait) -> i16 {
    match wait {
        Wait::LimitUsedUp => 1,
        Wait::PromiseOverdue => 2,
        Wait::AccountBlocked => 3,
    }
}

fn wait(number: i16) -> Result<Wait, db::Error> {
    [Wait::LimitUsedUp, Wait::PromiseOverdue, Wait::AccountBlocked]
        .into_iter()
        .find(|wait| wait_number(*wait) == number)
        .ok_or_else(broken)
}

const fn off_number(off: Off) -> i16 {
    match off {
        Off::Requested => 1,
        Off::InsufficientFunds => 2,
        Off::Detached => 3,
    }
}

fn off(number: i16) -> Result<Off, db::Error> {
    [Off::Requested, Off::InsufficientFunds, Off::Detached]
        .into_iter()
        .find(|off| off_number(*off) == number)
        .ok_or_else(broken)
}

fn settings(row: &Row) -> Result<Settings, db::Error> {
    Ok(Settings {
        amount: row.try_get("amount_micros")?,
        threshold: row.try_get("threshold_micros")?,
        limit: row.try_get("limit_micros")?,
        period: period(row.try_get("period")?)?,
    })
}

fn top_up(row: &Row) -> Result<TopUp, db::Error> {
    let reason: Option<i16> = row.try_get("disabled_reason")?;
    let at: Option<DateTime<Utc>> = row.try_get("disabled_at")?;
    let waits_for: Option<i16> = row.try_get("waits_for")?;
    Ok(TopUp {
        key: AccountKey {
            tenant: TenantNo(row.try_get("tenant_id")?),
            account: AccountNo(row.try_get("account_id")?),
        },
        account: row.try_get("name")?,
        client_name: row.try_get("display_name")?,
        currency: row.try_get("currency")?,
        settings: settings(row)?,
        counter: Counter {
            start: row.try_get("period_start")?,
            used: row.try_get("used_micros")?,
            sequence: row.try_get("sequence")?,
        },
        runs: row.try_get("runs")?,
        off: reason
            .zip(at)
            .map(|(reason, at)| Ok::<_, db::Error>((off(reason)?, at)))
            .transpose()?,
        waits_for: waits_for.map(wait).transpose()?,
        due_at: row.try_get("due_at")?,
        changed_at: row.try_get("changed_at")?,
    })
}

const LOAD: &str = "-- auto_topups.load
SELECT t.tenant_id, t.account_id, a.name, a.display_name, a.currency, t.amount_micros,
       t.threshold_micros, t.limit_micros, t.period, t.period_start, t.used_micros, t.sequence,
       t.runs, t.disabled_reason, t.disabled_at, t.waits_for, t.due_at, t.changed_at
FROM auto_top_up t JOIN account a ON a.account_id = t.account_id
WHERE t.tenant_id = $1 AND t.account_id = ANY($2)
ORDER BY t.due_at, t.account_id";

/// The auto top-ups of these clients, the longest due first.
pub(super) async fn load(
    from: &impl Reader,
    tenant: TenantNo,
    accounts: &[AccountNo],
) -> Result<Vec<TopUp>, db::Error> {
    let accounts: Vec<i64> = accounts.iter().map(|account| account.0).collect();
    from.rows(LOAD, &[&tenant.0, &accounts]).await?.iter().map(top_up).collect()
}

const DUE: &str = "-- auto_topups.due
SELECT tenant_id, account_id FROM auto_top_up WHERE due_at <= $1
ORDER BY due_at, account_id LIMIT $2";

/// Whose time has come, the longest due first.
pub(super) async fn due(
    client: &Client,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<AccountKey>, db::Error> {
    let rows = client.query(DUE, &[&now, &limit]).await?;
    let key =
        |row: &Row| AccountKey { tenant: TenantNo(row.get(0)), account: AccountNo(row.get(1)) };
    Ok(rows.iter().map(key).collect())
}

const COUNT: &str = "-- auto_topups.count
SELECT coalesce(sum(amount_micros) FILTER (WHERE reversed_at IS NULL), 0)::bigint,
       coalesce(max(sequence) FILTER (WHERE period = $3 AND period_start = $4), 0)::bigint
FROM auto_top_up_run
WHERE tenant_id = $1 AND account_id = $2 AND run_at >= $5 AND outcome = 1";

/// The counter of a period of another length, from the history.
async fn count(
    tx: &Tx<'_>,
    key: AccountKey,
    period: Period,
    start: Day,
) -> Result<Counter, db::Error> {
    let (tenant, account) = (key.tenant.0, key.account.0);
    let number = period_number(period);
    let row = tx.query_one(COUNT, &[&tenant, &account, &number, &start, &start.start()]).await?;
    Ok(Counter { start, used: row.try_get(0)?, sequence: row.try_get(1)? })
}

const PUT: &str = "-- auto_topups.put
INSERT INTO auto_top_up (tenant_id, account_id, amount_micros, threshold_micros, limit_micros, period,
                         period_start, used_micros, sequence, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (tenant_id, account_id) DO UPDATE SET
    amount_micros = $3, threshold_micros = $4, limit_micros = $5, period = $6, period_start = $7,
    used_micros = $8, sequence = $9, changed_at = $10,
    disabled_reason = NULL, disabled_at = NULL, waits_for = NULL, due_at = NULL";

/// Writes settings and switches on; what the present period has used is kept.
pub(super) async fn put(
    tx: &Tx<'_>,
    account: &Account,
    settings: Settings,
    before: Option<TopUp>,
    now: DateTime<Utc>,
) -> Result<TopUp, db::Error> {
    let start = settings.period.start(Day::of(now));
    let runs = before.as_ref().map_or(0, |before| before.runs);
    let counter = match before {
        Some(before) if before.settings.period == settings.period => {
            before.counter.at(settings.period, now)
        }
        Some(_) => count(tx, account.key, settings.period, start).await?,
        None => Counter::new(start),
    };
    let Settings { amount, threshold, limit, period } = settings;
    let (tenant, number) = (account.key.tenant.0, account.key.account.0);
    let Counter { start, used, sequence } = counter;
    let period = period_number(period);
    let put = tx
        .execute(
            PUT,
            &[
                &tenant, &number, &amount, &threshold, &limit, &period, &start, &used, &sequence,
                &now,
            ],
        )
        .await?;
    db::exactly_one(put, "auto_topups.put")?;
    Ok(TopUp {
        key: account.key,
        account: account.id.clone(),
        client_name: account.display_name.clone(),
        currency: account.currency,
        settings,
        counter,
        runs,
        off: None,
        waits_for: None,
        due_at: None,
        changed_at: now,
    })
}

const UPDATE: &str = "-- auto_topups.update
UPDATE auto_top_up SET period_start = $3, used_micros = $4, sequence = $5, disabled_reason = $6,
    disabled_at = $7, waits_for = $8, due_at = $9, changed_at = $10, runs = $11
WHERE tenant_id = $1 AND account_id = $2";

/// Writes how it stands, and arms the balance row accordingly.
pub(super) async fn update(tx: &Tx<'_>, top_up: &TopUp) -> Result<(), db::Error> {
    let TopUp { key, counter, waits_for, due_at, changed_at, runs, .. } = top_up;
    let Counter { start, used, sequence } = counter;
    let (reason, at) = top_up.off.map(|(why, at)| (off_number(why), at)).unzip();
    let waits_for = waits_for.map(wait_number);
    let updated = tx
        .execute(
            UPDATE,
            &[
                &key.tenant.0,
                &key.account.0,
                start,
                used,
                sequence,
                &reason,
                &at,
                &waits_for,
                due_at,
                changed_at,
                runs,
            ],
        )
        .await?;
    db::exactly_one(updated, "auto_topups.update")?;
    ledger::set_top_up_at(tx, *key, top_up.armed_at()).await
}

const WAKE: &str = "-- auto_topups.wake
UPDATE auto_top_up SET due_at = $4
WHERE tenant_id = $1 AND waits_for = $3 AND ($2 = $1 OR account_id = $2)";

/// What waits for this cause is due: of one client, or of all clients of an agency.
pub(super) async fn wake(
    tx: &Tx<'_>,
    key: AccountKey,
    cause: Wait,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    let cause = wait_number(cause);
    if tx.execute(WAKE, &[&key.tenant.0, &key.account.0, &cause, &now]).await? > 0 {
        tx.wake_on_commit();
    }
    Ok(())
}

const INSERT_RUN: &str = "-- auto_topups.insert_run
INSERT INTO auto_top_up_run (tenant_id, account_id, run_id, number, run_at, period, period_start,
    sequence, outcome, reason, amount_micros, threshold_micros, limit_micros, used_micros, client_micros,
    agency_micros, posting_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
ON CONFLICT (tenant_id, account_id, period, period_start, reason) WHERE outcome = 2 DO NOTHING";

const TRANSFERRED: i16 = 1;
const SKIPPED: i16 = 2;
const SWITCHED_OFF: i16 = 3;
/// The reason of [`SWITCHED_OFF`]; those of [`SKIPPED`] are the numbers of [`Wait`].
const SHORT_OF_MONEY: i16 = 4;

/// Adds a row to the history; a skip that the period has told already is left out.
pub(super) async fn insert_run(tx: &Tx<'_>, key: AccountKey, run: &Run) -> Result<(), db::Error> {
    let Run { id, number, at, did, settings, period_start, used, client, agency, reversed_at: _ } =
        run;
    let (outcome, reason, sequence, posting) = match did {
        Did::Transferred { posting, sequence } => {
            (TRANSFERRED, None, Some(*sequence), Some(*posting))
        }
        Did::Skipped(wait) => (SKIPPED, Some(wait_number(*wait)), None, None),
        Did::SwitchedOff => (SWITCHED_OFF, Some(SHORT_OF_MONEY), None, None),
    };
    let period = period_number(settings.period);
    tx.execute(
        INSERT_RUN,
        &[
            &key.tenant.0,
            &key.account.0,
            id,
            number,
            at,
            &period,
            period_start,
            &sequence,
            &outcome,
            &reason,
            &settings.amount,
            &settings.threshold,
            &settings.limit,
            used,
            client,
            agency,
            &posting,
        ],
    )
    .await?;
    Ok(())
}

const REVERSE_RUN: &str = "-- auto_topups.reverse_run
UPDATE auto_top_up_run SET reversed_at = $3 WHERE tenant_id = $1 AND posting_id = $2
RETURNING account_id, amount_micros, run_at";

/// Marks the run that made a posting as reversed: whose it was, of how much, and when it ran.
pub(super) async fn reverse_run(
    tx: &Tx<'_>,
    (tenant, posting): (TenantNo, Uuid),
    now: DateTime<Utc>,
) -> Result<(AccountNo, Money, DateTime<Utc>), db::Error> {
    let row = tx.query_one(REVERSE_RUN, &[&tenant.0, &posting, &now]).await?;
    Ok((AccountNo(row.try_get(0)?), row.try_get(1)?, row.try_get(2)?))
}

const GIVE_BACK: &str = "-- auto_topups.give_back
UPDATE auto_top_up SET used_micros = $3 WHERE tenant_id = $1 AND account_id = $2";

/// Writes what the period has used after a reversal; nothing else of the row.
pub(super) async fn give_back(tx: &Tx<'_>, key: AccountKey, used: Money) -> Result<(), db::Error> {
    let updated = tx.execute(GIVE_BACK, &[&key.tenant.0, &key.account.0, &used]).await?;
    db::exactly_one(updated, "auto_topups.give_back")
}

const RUNS: &str = "-- auto_topups.runs
SELECT run_id, number, run_at, period, period_start, sequence, outcome, reason, amount_micros,
       threshold_micros, limit_micros, used_micros, client_micros, agency_micros, posting_id,
       reversed_at
FROM auto_top_up_run
WHERE tenant_id = $1 AND account_id = $2
  AND number < $3
ORDER BY number DESC
LIMIT $4";

/// What came of the top-ups of a client, newest first.
pub(super) async fn runs(
    client: &Client,
    key: AccountKey,
    before: i64,
    limit: u32,
) -> Result<Vec<Run>, db::Error> {
    let limit = i64::from(limit);
    let rows = client.query(RUNS, &[&key.tenant.0, &key.account.0, &before, &limit]).await?;
    rows.iter().map(run).collect()
}

fn run(row: &Row) -> Result<Run, db::Error> {
    let posting: Option<Uuid> = row.try_get("posting_id")?;
    let sequence: Option<i64> = row.try_get("sequence")?;
    let reason: Option<i16> = row.try_get("reason")?;
    let did = match (row.try_get::<_, i16>("outcome")?, posting.zip(sequence), reason) {
        (TRANSFERRED, Some((posting, sequence)), None) => Did::Transferred { posting, sequence },
        (SKIPPED, None, Some(reason)) => Did::Skipped(wait(reason)?),
        (SWITCHED_OFF, None, Some(SHORT_OF_MONEY)) => Did::SwitchedOff,
        _ => return Err(broken()),
    };
    Ok(Run {
        id: row.try_get("run_id")?,
        number: row.try_get("number")?,
        at: row.try_get("run_at")?,
        did,
        settings: settings(row)?,
        period_start: row.try_get("period_start")?,
        used: row.try_get::<_, Money>("used_micros")?,
        client: row.try_get::<_, Balance>("client_micros")?,
        agency: row.try_get::<_, Balance>("agency_micros")?,
        reversed_at: row.try_get("reversed_at")?,
    })
}
