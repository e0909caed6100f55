//! The statements of a tick: what was seen goes out and the totals come back in one of them.

use std::collections::HashMap;

use adspend_common::db::{self, Client, Row, Tx};
use adspend_common::time::Day;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::cause::Cause;
use super::rules::Applied;
use super::sight::{Sight, Sums};
use crate::accounts::AccountNo;
use crate::budgets::Entity;

// `ours` are the campaigns that are asked for here; only what is news is written. The sums of this
// replica are known here, so only those of others are read.
const EXCHANGE: &str = "-- pacer.exchange
WITH ours AS (
    SELECT * FROM UNNEST($5::bigint[], $6::bigint[], $7::boolean[], $8::bigint[], $9::bigint[],
            $10::bigint[], $11::bigint[], $12::bigint[], $13::float8[])
        AS o (account_no, campaign_no, is_news, offered_micros, offered_count, admitted_micros,
            admitted_count, settled_count, settled_seconds)
), written AS (
    INSERT INTO demand_report AS r (account_no, campaign_no, day, replica, offered_micros, offered_count,
        admitted_micros, admitted_count, settled_count, settled_seconds, reported_at)
    SELECT account_no, campaign_no, $1, $2, offered_micros, offered_count, admitted_micros,
        admitted_count, settled_count, settled_seconds, $3
    FROM ours WHERE is_news ORDER BY account_no, campaign_no
    ON CONFLICT ON CONSTRAINT demand_report_pkey DO UPDATE
    SET offered_micros = GREATEST(r.offered_micros, EXCLUDED.offered_micros),
        offered_count = GREATEST(r.offered_count, EXCLUDED.offered_count),
        admitted_micros = GREATEST(r.admitted_micros, EXCLUDED.admitted_micros),
        admitted_count = GREATEST(r.admitted_count, EXCLUDED.admitted_count),
        settled_count = GREATEST(r.settled_count, EXCLUDED.settled_count),
        settled_seconds = GREATEST(r.settled_seconds, EXCLUDED.settled_seconds),
        reported_at = GREATEST(r.reported_at, EXCLUDED.reported_at)
), others AS (
    SELECT account_no, campaign_no, sum(offered_micros)::bigint AS offered_micros,
        sum(offered_count)::bigint AS offered_count, sum(admitted_micros)::bigint AS admitted_micros,
        sum(admitted_count)::bigint AS admitted_count, sum(settled_count)::bigint AS settled_count,
        sum(settled_seconds) AS settled_seconds
    FROM demand_report
    WHERE account_no = ANY ($4) AND day = $1 AND replica <> $2
    GROUP BY account_no, campaign_no
), keys AS (
    SELECT account_no, 1::smallint AS level, campaign_no AS entity_no FROM others
    UNION
    SELECT account_no, 1::smallint, campaign_no FROM ours
    UNION ALL
    SELECT account_no, 2::smallint, account_no FROM UNNEST($4) AS a (account_no)
)
SELECT k.account_no, k.level, k.entity_no,
    coalesce(o.offered_micros, 0) AS offered_micros, coalesce(o.offered_count, 0) AS offered_count,
    coalesce(o.admitted_micros, 0) AS admitted_micros, coalesce(o.admitted_count, 0) AS admitted_count,
    coalesce(o.settled_count, 0) AS settled_count, coalesce(o.settled_seconds, 0) AS settled_seconds,
    coalesce(h.charged_micros, 0) AS charged_micros, coalesce(h.reserved_micros, 0) AS reserved_micros,
    coalesce(h.charges, 0) AS charges, b.mode, b.last_change_no, b.in_force_micros IS NOT NULL AS is_limited,
    p.read_at, p.rate_parts, p.is_few, coalesce(p.kappa, 1) AS kappa, p.chance, p.base_change_no, p.base_at,
    p.base_micros
FROM keys k
LEFT JOIN others o ON k.level = 1 AND o.account_no = k.account_no AND o.campaign_no = k.entity_no
LEFT JOIN headroom h
    ON h.account_no = k.account_no AND h.level = k.level AND h.entity_no = k.entity_no AND h.day = $1
LEFT JOIN budget b
    ON b.account_no = k.account_no AND b.level = k.level AND b.entity_no = k.entity_no
LEFT JOIN pace p ON p.account_no = k.account_no AND p.level = k.level AND p.entity_no = k.entity_no";

/// Which budget an entity had when it was read.
pub(super) type Stamp = (Option<i16>, Option<i64>);

/// Where the curve of a day began anew.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BaseRow {
    pub(super) change_no: i64,
    pub(super) at: DateTime<Utc>,
    pub(super) micros: i64,
}

/// What the database says of an entity today.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Totals {
    pub(super) entity: Entity,
    /// Of all replicas but this one; of an account nothing.
    pub(super) others: Sums,
    pub(super) charged_micros: i64,
    pub(super) reserved_micros: i64,
    pub(super) charges: i64,
    pub(super) stamp: Stamp,
    /// A figure is in force or was when the budget last changed.
    pub(super) is_limited: bool,
    pub(super) applied: Option<Applied>,
    pub(super) kappa: f64,
    pub(super) chance: Option<f64>,
    pub(super) base: Option<BaseRow>,
}

/// Writes what is news of `ours` and reads the totals of every campaign of these accounts that
/// was asked for today, here or elsewhere, and of the accounts.
pub(super) async fn exchange(
    db: &Client,
    replica: Uuid,
    now: DateTime<Utc>,
    accounts: &[i64],
    ours: &[&Sight],
) -> Result<Vec<Totals>, db::Error> {
    let column = |value: fn(&Sums) -> i64| -> Vec<i64> {
        ours.iter().map(|sight| value(&sight.sums)).collect()
    };
    let account_nos: Vec<i64> = ours.iter().map(|sight| sight.entity.account_no).collect();
    let campaign_nos: Vec<i64> = ours.iter().map(|sight| sight.entity.campaign_no).collect();
    let news: Vec<bool> = ours.iter().map(|sight| sight.is_news).collect();
    let seconds: Vec<f64> = ours.iter().map(|sight| sight.sums.settled_seconds).collect();
    let rows = db
        .query(
            EXCHANGE,
            &[
                &Day::of(now),
                &replica,
                &now,
                &accounts,
                &account_nos,
                &campaign_nos,
                &news,
                &column(|sums| sums.offered_micros),
                &column(|sums| sums.offered_count),
                &column(|sums| sums.admitted_micros),
                &column(|sums| sums.admitted_count),
                &column(|sums| sums.settled_count),
                &seconds,
            ],
        )
        .await?;
    rows.iter().map(totals_from_row).collect()
}

fn totals_from_row(row: &Row) -> Result<Totals, db::Error> {
    let applied = match (row.try_get("rate_parts")?, row.try_get("read_at")?) {
        (Some(parts), Some(read_at)) => {
            let parts: i64 = parts;
            let parts = u32::try_from(parts).unwrap_or(u32::MAX);
            Some(Applied { parts, is_few: row.try_get("is_few")?, read_at })
        }
        (None, _) | (_, None) => None,
    };
    let base = match row.try_get("base_change_no")? {
        Some(change_no) => Some(BaseRow {
            change_no,
            at: row.try_get("base_at")?,
            micros: row.try_get("base_micros")?,
        }),
        None => None,
    };
    Ok(Totals {
        entity: Entity {
            account_no: AccountNo(row.try_get("account_no")?),
            level: row.try_get("level")?,
            entity_no: row.try_get("entity_no")?,
        },
        others: Sums {
            offered_micros: row.try_get("offered_micros")?,
            offered_count: row.try_get("offered_count")?,
            admitted_micros: row.try_get("admitted_micros")?,
            admitted_count: row.try_get("admitted_count")?,
            settled_count: row.try_get("settled_count")?,
            settled_seconds: row.try_get("settled_seconds")?,
        },
        charged_micros: row.try_get("charged_micros")?,
        reserved_micros: row.try_get("reserved_micros")?,
        charges: row.try_get("charges")?,
        stamp: (row.try_get("mode")?, row.try_get("last_change_no")?),
        is_limited: row.try_get("is_limited")?,
        applied,
        kappa: row.try_get("kappa")?,
        chance: row.try_get("chance")?,
        base,
    })
}

const HISTORY: &str = "-- pacer.history
SELECT account_no, level, entity_no, day, offered_micros, offered_count, known_seconds
FROM demand_day
WHERE account_no = ANY ($1) AND day BETWEEN $2 AND $3
ORDER BY account_no, level, entity_no, day";

/// A day of demand as it is stored.
#[derive(Debug)]
pub(crate) struct DemandRow {
    pub(crate) level: i16,
    pub(crate) entity_no: i64,
    pub(crate) day: Day,
    pub(crate) micros: Vec<i64>,
    pub(crate) count: Vec<i64>,
    pub(crate) known_seconds: Vec<f32>,
}

impl DemandRow {
    pub(crate) fn from_row(row: &Row) -> Result<DemandRow, db::Error> {
        Ok(DemandRow {
            level: row.try_get("level")?,
            entity_no: row.try_get("entity_no")?,
            day: row.try_get("day")?,
            micros: row.try_get("offered_micros")?,
            count: row.try_get("offered_count")?,
            known_seconds: row.try_get("known_seconds")?,
        })
    }
}

/// The learned demand of accounts and their campaigns, by account; account 0 is the platform.
pub(super) async fn history(
    tx: &Tx<'_>,
    accounts: &[i64],
    from: Day,
    to: Day,
) -> Result<HashMap<i64, Vec<DemandRow>>, db::Error> {
    let mut found: HashMap<i64, Vec<DemandRow>> = HashMap::new();
    for row in tx.query(HISTORY, &[&accounts, &from, &to]).await? {
        let of_account = found.entry(row.try_get("account_no")?).or_default();
        of_account.push(DemandRow::from_row(&row)?);
    }
    Ok(found)
}

/// A reading to be written: the columns of `pace_reading`.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) entity: Entity,
    pub(super) parts: u32,
    pub(super) own_ppm: i32,
    pub(super) account_ppm: i32,
    pub(super) cause: Cause,
    pub(super) mode: Option<i16>,
    pub(super) limit: Option<i64>,
    pub(super) target: Option<i64>,
    pub(super) due: Option<i64>,
    pub(super) due_ahead: Option<i64>,
    pub(super) charged: i64,
    pub(super) in_flight: i64,
    pub(super) offered: i64,
    pub(super) offered_count: i64,
    pub(super) demand_ahead: i64,
    pub(super) day_factor: f64,
    pub(super) kappa: f64,
    pub(super) latched: bool,
    pub(super) is_few: bool,
}

// Of two replicas that write at the same time the later moment stays in `pace`.
const WRITE: &str = "-- pacer.write
WITH read AS (
    SELECT * FROM UNNEST($3::bigint[], $4::smallint[], $5::bigint[], $6::bigint[], $7::integer[],
            $8::integer[], $9::smallint[], $10::smallint[], $11::bigint[], $12::bigint[], $13::bigint[],
            $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[],
            $20::float8[], $21::float8[], $22::boolean[], $23::boolean[])
        AS r (account_no, level, entity_no, rate_parts, own_rate_ppm, account_rate_ppm, why, mode,
            limit_micros, target_micros, due_micros, due_ahead_micros, charged_micros, in_flight_micros,
            offered_micros, offered_count, demand_ahead_micros, day_factor, kappa, latched,
            is_few)
), paced AS (
    INSERT INTO pace AS p (account_no, level, entity_no, read_at, rate_parts, due_micros, target_micros,
        is_few)
    SELECT account_no, level, entity_no, $1, rate_parts, due_micros, target_micros, is_few FROM read
    ORDER BY account_no, level, entity_no
    ON CONFLICT ON CONSTRAINT pace_pkey DO UPDATE
    SET read_at = EXCLUDED.read_at, rate_parts = EXCLUDED.rate_parts,
        due_micros = EXCLUDED.due_micros, target_micros = EXCLUDED.target_micros, is_few = EXCLUDED.is_few
    WHERE p.read_at IS NULL OR p.read_at <= EXCLUDED.read_at
)
INSERT INTO pace_reading (account_no, level, entity_no, read_at, day, rate_parts, own_rate_ppm,
    account_rate_ppm, why, mode, limit_micros, target_micros, due_micros, due_ahead_micros,
    charged_micros, in_flight_micros, offered_micros, offered_count, demand_ahead_micros, day_factor,
    kappa, latched, is_few)
SELECT account_no, level, entity_no, $1, $2, rate_parts, own_rate_ppm, account_rate_ppm, why, mode,
    limit_micros, target_micros, due_micros, due_ahead_micros, charged_micros, in_flight_micros,
    offered_micros, offered_count, demand_ahead_micros, day_factor, kappa, latched, is_few
FROM read
ON CONFLICT ON CONSTRAINT pace_reading_pkey DO NOTHING";

/// Writes readings of this moment.
pub(super) async fn write(
    db: &Client,
    now: DateTime<Utc>,
    readings: &[Written],
) -> Result<(), db::Error> {
    fn column<T>(readings: &[Written], value: impl Fn(&Written) -> T) -> Vec<T> {
        readings.iter().map(value).collect()
    }
    let rows = readings;
    db.execute(
        WRITE,
        &[
            &now,
            &Day::of(now),
            &column(rows, |row| row.entity.account_no.0),
            &column(rows, |row| row.entity.level),
            &column(rows, |row| row.entity.entity_no),
            &column(rows, |row| i64::from(row.parts)),
            &column(rows, |row| row.own_ppm),
            &column(rows, |row| row.account_ppm),
            &column(rows, |row| row.cause.number()),
            &column(rows, |row| row.mode),
            &column(rows, |row| row.limit),
            &column(rows, |row| row.target),
            &column(rows, |row| row.due),
            &column(rows, |row| row.due_ahead),
            &column(rows, |row| row.charged),
            &column(rows, |row| row.in_flight),
            &column(rows, |row| row.offered),
            &column(rows, |row| row.offered_count),
            &column(rows, |row| row.demand_ahead),
            &column(rows, |row| row.day_factor),
            &column(rows, |row| row.kappa),
            &column(rows, |row| row.latched),
            &column(rows, |row| row.is_few),
        ],
    )
    .await
    .map(|_| ())
}

const REBASE: &str = "-- pacer.rebase
INSERT INTO pace AS p (account_no, level, entity_no, base_change_no, base_at, base_micros)
SELECT account_no, level, entity_no, change_no, $6, base_micros
FROM UNNEST($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[])
    AS b (account_no, level, entity_no, change_no, base_micros)
ORDER BY account_no, level, entity_no
ON CONFLICT ON CONSTRAINT pace_pkey DO UPDATE
SET base_change_no = EXCLUDED.base_change_no, base_at = EXCLUDED.base_at,
    base_micros = EXCLUDED.base_micros
WHERE p.base_change_no IS NULL OR p.base_change_no < EXCLUDED.base_change_no";

/// Notes where curves begin anew; the first replica to see a change decides for all.
pub(super) async fn rebase(
    db: &Client,
    now: DateTime<Utc>,
    bases: &[(Entity, BaseRow)],
) -> Result<(), db::Error> {
    let accounts: Vec<i64> = bases.iter().map(|(entity, _)| entity.account_no.0).collect();
    let levels: Vec<i16> = bases.iter().map(|(entity, _)| entity.level).collect();
    let entities: Vec<i64> = bases.iter().map(|(entity, _)| entity.entity_no).collect();
    let changes: Vec<i64> = bases.iter().map(|(_, base)| base.change_no).collect();
    let micros: Vec<i64> = bases.iter().map(|(_, base)| base.micros).collect();
    db.execute(REBASE, &[&accounts, &levels, &entities, &changes, &micros, &now]).await.map(|_| ())
}
