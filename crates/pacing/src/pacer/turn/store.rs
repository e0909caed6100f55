//! The statements of a turn. Arrays are counted from 1, as PostgreSQL does.

use adspend_common::db::{self, Client, Row, Tx};
use adspend_common::time::{Day, MSK};
use chrono::{DateTime, TimeDelta, Timelike, Utc};

use crate::budgets::Entity;
use crate::calendar::policy::PaymentModel;
use crate::campaigns::payment_from_number;
use crate::leases::Stopped;

use super::Blocks;

/// For how many days late charges are remembered.
const LATE_DAYS: i32 = 28;

/// The one kind of work so far.
const MINUTES: &str = "minutes";

const FIRST_TURN: &str = "-- pacer.first_turn
INSERT INTO pace_turn (work, done_at) VALUES ($1, $2) ON CONFLICT DO NOTHING";

/// Makes the row of the turns when it is missing.
pub(super) async fn first_turn(client: &Client, done_at: DateTime<Utc>) -> Result<(), db::Error> {
    client.execute(FIRST_TURN, &[&MINUTES, &done_at]).await.map(|_| ())
}

const LOCK_TURN: &str = "-- pacer.lock_turn
SELECT done_at FROM pace_turn WHERE work = $1 FOR NO KEY UPDATE SKIP LOCKED";

/// Up to when the work is done; `None` while another replica is doing it.
pub(super) async fn lock_turn(tx: &Tx<'_>) -> Result<Option<DateTime<Utc>>, db::Error> {
    match tx.query_opt(LOCK_TURN, &[&MINUTES]).await? {
        Some(row) => row.try_get("done_at").map(Some).map_err(db::Error::from),
        None => Ok(None),
    }
}

const TURN_DONE: &str = "-- pacer.turn_done
UPDATE pace_turn SET done_at = $2 WHERE work = $1";

/// The work is done up to this moment.
pub(super) async fn turn_done(tx: &Tx<'_>, done_at: DateTime<Utc>) -> Result<(), db::Error> {
    db::exactly_one(tx.execute(TURN_DONE, &[&MINUTES, &done_at]).await?, "pacer.turn_done")
}

/// A minute that is over, as its places in the tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Minute {
    pub(super) day: Day,
    hour: DateTime<Utc>,
    /// Its element in the arrays of the hour, from 1.
    element: i32,
    /// The hour of the day.
    pub(super) hour_of_day: i16,
    /// The element of its slot in the arrays of the day, from 1.
    slot: i32,
    /// Only what was reported after this has changed; at the start of an hour all of it.
    since: DateTime<Utc>,
}

impl Minute {
    pub(super) fn ending(end: DateTime<Utc>, done_at: DateTime<Utc>) -> Minute {
        let start = end - TimeDelta::minutes(1);
        let local = start.with_timezone(&MSK);
        let minute = i32::try_from(local.minute()).unwrap_or(0);
        let hour = i32::try_from(local.hour()).unwrap_or(0);
        let hour_of_day = i16::try_from(local.hour()).unwrap_or(0);
        let whole = minute == 0 || Day::of(done_at) != Day::of(start);
        Minute {
            day: Day::of(start),
            hour: start - TimeDelta::minutes(i64::from(minute)),
            element: minute + 1,
            hour_of_day,
            slot: hour * 4 + minute / 15 + 1,
            since: if whole { DateTime::<Utc>::MIN_UTC } else { done_at - TimeDelta::minutes(1) },
        }
    }

    /// PostgreSQL has no moment as early as chrono's first.
    fn since(&self) -> DateTime<Utc> {
        self.since.max(DateTime::<Utc>::UNIX_EPOCH)
    }
}

// A minute is a record of 44 bytes; the migration says of what. One that is all ff was not written.
const CARRY_HOURS: &str = "-- pacer.carry_hours
WITH seen AS (
    SELECT account_no, campaign_no, sum(offered_micros)::bigint AS offered_micros,
        sum(offered_count)::bigint AS offered_count, sum(admitted_count)::bigint AS admitted_count,
        max(reported_at) AS reported_at
    FROM demand_report WHERE day = $1 GROUP BY account_no, campaign_no
), entities AS (
    SELECT account_no, 1::smallint AS level, campaign_no AS entity_no, offered_micros, offered_count,
        admitted_count, reported_at
    FROM seen
    UNION ALL
    SELECT account_no, 2::smallint, account_no, sum(offered_micros)::bigint, sum(offered_count)::bigint,
        sum(admitted_count)::bigint, max(reported_at)
    FROM seen GROUP BY account_no
)
INSERT INTO pace_hour AS p (account_no, level, entity_no, hour, minutes, late_micros)
SELECT e.account_no, e.level, e.entity_no, $2,
    overlay(decode(repeat('ff', 2640), 'hex') PLACING
        int8send(coalesce(h.charged_micros, 0)) || int8send(e.offered_micros)
            || int8send(e.offered_count) || int8send(e.admitted_count)
            || int8send(coalesce(pace.due_micros, -1))
            || int4send(round(coalesce(pace.rate_parts, 4294967295) * 1000000.0 / 4294967295)::integer)
        FROM $3 * 44 - 43 FOR 44),
    coalesce(h.late_micros, 0)
FROM entities e
LEFT JOIN headroom h
    ON h.account_no = e.account_no AND h.level = e.level AND h.entity_no = e.entity_no AND h.day = $1
LEFT JOIN pace
    ON pace.account_no = e.account_no AND pace.level = e.level AND pace.entity_no = e.entity_no
WHERE e.reported_at >= $4
ORDER BY e.account_no, e.level, e.entity_no
ON CONFLICT ON CONSTRAINT pace_hour_pkey DO UPDATE
SET minutes = overlay(p.minutes PLACING substring(EXCLUDED.minutes FROM $3 * 44 - 43 FOR 44)
        FROM $3 * 44 - 43 FOR 44),
    late_micros = EXCLUDED.late_micros";

/// Writes the sums of the day as they are at the end of the minute.
pub(super) async fn carry_hours(tx: &Tx<'_>, minute: &Minute) -> Result<(), db::Error> {
    let Minute { day, hour, element, .. } = minute;
    tx.execute(CARRY_HOURS, &[day, hour, element, &minute.since()]).await.map(|_| ())
}

// What came in the hours before is written down already; what is more came in this one.
const NOTE_LATE: &str = "-- pacer.note_late
WITH seen AS (
    SELECT DISTINCT account_no, campaign_no FROM demand_report WHERE day = $1
), entities AS (
    SELECT account_no, 1::smallint AS level, campaign_no AS entity_no FROM seen
    UNION ALL
    SELECT DISTINCT account_no, 2::smallint, account_no FROM seen
), before AS (
    SELECT account_no, level, entity_no, sum(late_micros)::bigint AS late_micros
    FROM late_hour WHERE day = $1 GROUP BY account_no, level, entity_no
)
INSERT INTO late_hour AS l (account_no, level, entity_no, hour, day, late_micros)
SELECT account_no, level, entity_no, $2, $1, h.overdue_micros - coalesce(b.late_micros, 0)
FROM entities
JOIN headroom h USING (account_no, level, entity_no)
LEFT JOIN before b USING (account_no, level, entity_no)
WHERE h.day = $1 AND h.overdue_micros > coalesce(b.late_micros, 0)
ORDER BY account_no, level, entity_no
ON CONFLICT ON CONSTRAINT late_hour_pkey DO UPDATE
SET late_micros = l.late_micros + EXCLUDED.late_micros";

/// Writes down what came overdue in the hour of the minute.
pub(super) async fn note_late(tx: &Tx<'_>, minute: &Minute) -> Result<(), db::Error> {
    tx.execute(NOTE_LATE, &[&minute.day, &minute.hour_of_day]).await.map(|_| ())
}

const CARRY_DEMAND: &str = "-- pacer.carry_demand
WITH seen AS (
    SELECT account_no, campaign_no, sum(offered_micros)::bigint AS micros,
        sum(offered_count)::bigint AS count
    FROM demand_report WHERE day = $1 GROUP BY account_no, campaign_no
), entities AS (
    SELECT account_no, 1::smallint AS level, campaign_no AS entity_no, micros, count FROM seen
    UNION ALL
    SELECT account_no, 2::smallint, account_no, sum(micros)::bigint, sum(count)::bigint
    FROM seen GROUP BY account_no
    UNION ALL
    SELECT 0, 3::smallint, 0, sum(micros)::bigint, sum(count)::bigint FROM seen HAVING count(*) > 0
)
INSERT INTO demand_day AS d (account_no, level, entity_no, day, offered_micros, offered_count,
    known_seconds, total_micros, total_count)
SELECT account_no, level, entity_no, $1,
    array_fill(0::bigint, ARRAY[$2 - 1]) || micros || array_fill(0::bigint, ARRAY[96 - $2]),
    array_fill(0::bigint, ARRAY[$2 - 1]) || count || array_fill(0::bigint, ARRAY[96 - $2]),
    array_fill(0::real, ARRAY[96]), micros, count
FROM entities
ORDER BY account_no, level, entity_no
ON CONFLICT ON CONSTRAINT demand_day_pkey DO UPDATE
SET offered_micros[$2] = d.offered_micros[$2] + EXCLUDED.total_micros - d.total_micros,
    offered_count[$2] = d.offered_count[$2] + EXCLUDED.total_count - d.total_count,
    total_micros = EXCLUDED.total_micros, total_count = EXCLUDED.total_count
WHERE EXCLUDED.total_count > d.total_count";

/// Adds to the minute's slot what has come since the last turn.
pub(super) async fn carry_demand(tx: &Tx<'_>, minute: &Minute) -> Result<(), db::Error> {
    tx.execute(CARRY_DEMAND, &[&minute.day, &minute.slot]).await.map(|_| ())
}

const MARK_SEEN: &str = "-- pacer.mark_seen
WITH seen AS (
    SELECT * FROM UNNEST($4::bigint[], $5::bigint[], $6::real[]) AS s (account_no, campaign_no, seconds)
)
UPDATE demand_day d
SET known_seconds[$2] = CASE d.level WHEN 1 THEN s.seconds ELSE $3 END
FROM (
    SELECT account_no, 1::smallint AS level, campaign_no AS entity_no, seconds FROM seen
    UNION ALL
    SELECT DISTINCT account_no, 2::smallint, account_no, 0::real FROM seen
    UNION ALL
    SELECT 0, 3::smallint, 0, 0::real
) s
WHERE d.account_no = s.account_no AND d.level = s.level AND d.entity_no = s.entity_no AND d.day = $1";

/// For so many seconds of the slot that began then demand of these campaigns could be seen.
pub(super) async fn mark_seen(
    tx: &Tx<'_>,
    slot_start: DateTime<Utc>,
    whole: f32,
    seen: &[(i64, i64, f32)],
) -> Result<(), db::Error> {
    let slot = Minute::ending(slot_start + TimeDelta::minutes(1), slot_start).slot;
    let accounts: Vec<i64> = seen.iter().map(|seen| seen.0).collect();
    let campaigns: Vec<i64> = seen.iter().map(|seen| seen.1).collect();
    let seconds: Vec<f32> = seen.iter().map(|seen| seen.2).collect();
    let day = Day::of(slot_start);
    tx.execute(MARK_SEEN, &[&day, &slot, &whole, &accounts, &campaigns, &seconds]).await.map(|_| ())
}

const OPEN_DAY: &str = "-- pacer.open_day
INSERT INTO demand_day (account_no, level, entity_no, day, offered_micros, offered_count, known_seconds,
    total_micros, total_count)
SELECT DISTINCT account_no, level, entity_no, $1::date, array_fill(0::bigint, ARRAY[96]),
    array_fill(0::bigint, ARRAY[96]), array_fill(0::real, ARRAY[96]), 0, 0
FROM demand_day WHERE day BETWEEN $2 AND $3 AND total_count > 0
ON CONFLICT DO NOTHING";

/// A day begins for all who were asked for within a week: from now on silence is known, too.
pub(super) async fn open_day(tx: &Tx<'_>, day: Day) -> Result<(), db::Error> {
    tx.execute(OPEN_DAY, &[&day, &day.plus_days(-7), &day.prev()]).await.map(|_| ())
}

const BLOCKS: &str = "-- pacer.blocks
SELECT s.account_no, s.campaign_no, s.admitted_micros, s.admitted_count,
    coalesce(h.charged_micros, 0) AS charged_micros, coalesce(h.charges, 0) AS charges,
    c.payment_model, coalesce(p.kappa, 1) AS kappa, p.chance,
    CASE p.kappa_day WHEN $1 THEN p.kappa_admitted ELSE 0 END AS before_admitted,
    coalesce(p.chance_charges, 0) AS chance_charges, coalesce(p.chance_admitted, 0) AS chance_admitted
FROM (
    SELECT account_no, campaign_no, sum(admitted_micros)::bigint AS admitted_micros,
        sum(admitted_count)::bigint AS admitted_count
    FROM demand_report WHERE day = $1 GROUP BY account_no, campaign_no
) s
JOIN campaign c USING (account_no, campaign_no)
LEFT JOIN headroom h
    ON h.account_no = s.account_no AND h.level = 1 AND h.entity_no = s.campaign_no AND h.day = $1
LEFT JOIN pace p ON p.account_no = s.account_no AND p.level = 1 AND p.entity_no = s.campaign_no
WHERE c.payment_model <> 3
    AND (p.kappa_day IS DISTINCT FROM $1 OR s.admitted_micros > p.kappa_admitted)
    AND ($2 OR c.payment_model = 2 AND coalesce(p.chance_admitted, 0) < $3)";

/// What a campaign was admitted and charged, and what of it κ has learned from.
#[derive(Debug)]
pub(super) struct Block {
    account_no: i64,
    campaign_no: i64,
    pub(super) admitted_micros: i64,
    pub(super) admitted_count: i64,
    pub(super) charged_micros: i64,
    pub(super) charges: i64,
    pub(super) payment: PaymentModel,
    pub(super) kappa: f64,
    pub(super) chance: Option<f64>,
    pub(super) before_admitted: i64,
    /// What the chance was learned from.
    pub(super) chance_charges: i64,
    pub(super) chance_admitted: i64,
}

/// The campaigns that were admitted anything since they last taught. A chance is well known that was
/// learned from so many admissions.
pub(super) async fn blocks(
    tx: &Tx<'_>,
    day: Day,
    which: Blocks,
    well_known: i64,
) -> Result<Vec<Block>, db::Error> {
    let all = which == Blocks::All;
    tx.query(BLOCKS, &[&day, &all, &well_known]).await?.iter().map(block_from_row).collect()
}

fn block_from_row(row: &Row) -> Result<Block, db::Error> {
    Ok(Block {
        account_no: row.try_get("account_no")?,
        campaign_no: row.try_get("campaign_no")?,
        admitted_micros: row.try_get("admitted_micros")?,
        admitted_count: row.try_get("admitted_count")?,
        charged_micros: row.try_get("charged_micros")?,
        charges: row.try_get("charges")?,
        payment: payment_from_number(row.try_get("payment_model")?)?,
        kappa: row.try_get("kappa")?,
        chance: row.try_get("chance")?,
        before_admitted: row.try_get("before_admitted")?,
        chance_charges: row.try_get("chance_charges")?,
        chance_admitted: row.try_get("chance_admitted")?,
    })
}

const WRITE_LEARNED: &str = "-- pacer.write_learned
INSERT INTO pace AS p (account_no, level, entity_no, kappa, kappa_day, kappa_charged, kappa_admitted,
    chance, chance_charges, chance_admitted)
SELECT account_no, 1, campaign_no, kappa, $1, charged, admitted, chance, charges, admissions
FROM UNNEST($2::bigint[], $3::bigint[], $4::float8[], $5::bigint[], $6::bigint[], $7::float8[],
        $8::bigint[], $9::bigint[])
    AS l (account_no, campaign_no, kappa, charged, admitted, chance, charges, admissions)
ORDER BY account_no, campaign_no
ON CONFLICT ON CONSTRAINT pace_pkey DO UPDATE
SET kappa = EXCLUDED.kappa, kappa_day = EXCLUDED.kappa_day, kappa_charged = EXCLUDED.kappa_charged,
    kappa_admitted = EXCLUDED.kappa_admitted, chance = EXCLUDED.chance,
    chance_charges = EXCLUDED.chance_charges, chance_admitted = EXCLUDED.chance_admitted";

/// Writes κ and chances.
pub(super) async fn write_learned(
    tx: &Tx<'_>,
    day: Day,
    learned: &[(Block, f64, Option<f64>)],
) -> Result<(), db::Error> {
    let column = |value: fn(&Block) -> i64| -> Vec<i64> {
        learned.iter().map(|(block, _, _)| value(block)).collect()
    };
    let kappas: Vec<f64> = learned.iter().map(|(_, kappa, _)| *kappa).collect();
    let chances: Vec<Option<f64>> = learned.iter().map(|(_, _, chance)| *chance).collect();
    tx.execute(
        WRITE_LEARNED,
        &[
            &day,
            &column(|block| block.account_no),
            &column(|block| block.campaign_no),
            &kappas,
            &column(|block| block.charged_micros),
            &column(|block| block.admitted_micros),
            &chances,
            &column(|block| block.chance_charges),
            &column(|block| block.chance_admitted),
        ],
    )
    .await
    .map(|_| ())
}

const BEGIN_SUSPENSIONS: &str = "-- pacer.begin_suspensions
INSERT INTO suspension (account_no, level, entity_no, day, reason, limit_micros, used_micros, began_at)
SELECT account_no, level, entity_no, day, reason, limit_micros, used_micros, $1
FROM UNNEST($2::bigint[], $3::smallint[], $4::bigint[], $5::date[], $6::smallint[], $7::bigint[],
        $8::bigint[])
    AS s (account_no, level, entity_no, day, reason, limit_micros, used_micros)
WHERE day = $9
ON CONFLICT DO NOTHING";

/// Notes that limits were reached; who stands still already does so.
pub(super) async fn begin_suspensions(
    client: &Client,
    now: DateTime<Utc>,
    stopped: &[(Entity, Stopped)],
) -> Result<(), db::Error> {
    let accounts: Vec<i64> = stopped.iter().map(|(entity, _)| entity.account_no.0).collect();
    let levels: Vec<i16> = stopped.iter().map(|(entity, _)| entity.level).collect();
    let entities: Vec<i64> = stopped.iter().map(|(entity, _)| entity.entity_no).collect();
    let days: Vec<Day> = stopped.iter().map(|(_, stopped)| stopped.day).collect();
    let reasons: Vec<i16> =
        stopped.iter().map(|(_, stopped)| if stopped.by_week { 2 } else { 1 }).collect();
    let limits: Vec<i64> = stopped.iter().map(|(_, stopped)| stopped.limit_micros).collect();
    let used: Vec<i64> = stopped.iter().map(|(_, stopped)| stopped.used_micros).collect();
    let today = Day::of(now);
    client
        .execute(
            BEGIN_SUSPENSIONS,
            &[&now, &accounts, &levels, &entities, &days, &reasons, &limits, &used, &today],
        )
        .await
        .map(|_| ())
}

const END_SUSPENSIONS: &str = "-- pacer.end_suspensions
UPDATE suspension s SET ended_at = GREATEST(s.began_at, $1), ended_by = 2
FROM UNNEST($2::bigint[], $3::smallint[], $4::bigint[]) AS e (account_no, level, entity_no)
WHERE s.account_no = e.account_no AND s.level = e.level AND s.entity_no = e.entity_no
    AND s.ended_at IS NULL";

/// Their budgets changed.
pub(super) async fn end_suspensions(
    client: &Client,
    now: DateTime<Utc>,
    entities: &[Entity],
) -> Result<(), db::Error> {
    let accounts: Vec<i64> = entities.iter().map(|entity| entity.account_no.0).collect();
    let levels: Vec<i16> = entities.iter().map(|entity| entity.level).collect();
    let numbers: Vec<i64> = entities.iter().map(|entity| entity.entity_no).collect();
    client.execute(END_SUSPENSIONS, &[&now, &accounts, &levels, &numbers]).await.map(|_| ())
}

// A suspension ends with its own day, whenever somebody comes to write it down. Moscow is three
// hours ahead all year.
const END_AT_MIDNIGHT: &str = "-- pacer.end_at_midnight
UPDATE suspension
SET ended_at = GREATEST(began_at, (day + 1)::timestamp AT TIME ZONE INTERVAL '3 hours'), ended_by = 1
WHERE ended_at IS NULL AND day < $1";

/// Midnight has passed over them.
pub(super) async fn end_at_midnight(tx: &Tx<'_>, today: Day) -> Result<(), db::Error> {
    tx.execute(END_AT_MIDNIGHT, &[&today]).await.map(|_| ())
}

const PURGES: [&str; 6] = [
    "-- pacer.purge_reports
DELETE FROM demand_report WHERE day < $1",
    "-- pacer.purge_demand
DELETE FROM demand_day WHERE day < $1",
    "-- pacer.purge_curves
DELETE FROM pace_hour WHERE hour < $1",
    "-- pacer.purge_readings
DELETE FROM pace_reading WHERE read_at < $1",
    "-- pacer.purge_suspensions
DELETE FROM suspension WHERE ended_at < $1",
    "-- pacer.purge_late_hours
DELETE FROM late_hour WHERE day < $1",
];

/// Forgets what is old. An hour's worth at a time, so none of it is long.
pub(super) async fn purge(
    tx: &Tx<'_>,
    today: Day,
    curves: DateTime<Utc>,
    readings: DateTime<Utc>,
) -> Result<(), db::Error> {
    let [report, demand, curve, reading, suspension, late] = PURGES;
    tx.execute(report, &[&today.plus_days(-super::REPORT_DAYS)]).await?;
    tx.execute(demand, &[&today.plus_days(-super::DEMAND_DAYS)]).await?;
    tx.execute(curve, &[&curves]).await?;
    tx.execute(reading, &[&readings]).await?;
    tx.execute(suspension, &[&readings]).await?;
    tx.execute(late, &[&today.plus_days(-LATE_DAYS)]).await?;
    Ok(())
}
