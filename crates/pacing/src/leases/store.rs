//! The SQL of slices. Locks are taken in one order everywhere: headroom by (account, level,
//! entity, day), holds by (account, hold), slices by (account, slice).

use std::collections::HashMap;

use adspend_common::db::{self, Client, Row, Tx};
use adspend_common::time::{Day, MSK};
use chrono::{DateTime, Timelike, Utc};
use uuid::Uuid;

use super::rules::{Books, SliceState};
use crate::budgets::Entity;

/// A row of headroom: a level's entity on a day.
pub(super) type RoomKey = (Entity, Day);
/// A hold of an account.
pub(super) type HoldKey = (i64, i64);

/// A set of headroom rows as columns, in the order of locking, each once.
struct RoomColumns {
    accounts: Vec<i64>,
    levels: Vec<i16>,
    entities: Vec<i64>,
    days: Vec<Day>,
}

impl RoomColumns {
    fn of<'a>(keys: impl Iterator<Item = &'a RoomKey>) -> RoomColumns {
        let mut keys: Vec<&RoomKey> = keys.collect();
        keys.sort_unstable();
        keys.dedup();
        RoomColumns {
            accounts: keys.iter().map(|key| key.0.account_no.0).collect(),
            levels: keys.iter().map(|key| key.0.level).collect(),
            entities: keys.iter().map(|key| key.0.entity_no).collect(),
            days: keys.iter().map(|key| key.1).collect(),
        }
    }
}

const CREATE_HEADROOM: &str = "-- leases.create_headroom
INSERT INTO headroom (account_no, level, entity_no, day)
SELECT account_no, level, entity_no, day
FROM UNNEST($1::bigint[], $2::smallint[], $3::bigint[], $4::date[]) AS k (account_no, level, entity_no, day)
ORDER BY account_no, level, entity_no, day
ON CONFLICT DO NOTHING";

/// Makes the rows that are not there yet, in a transaction of its own: an insert that waits for
/// another's would hold locks out of order.
pub(super) async fn create_headroom(client: &Client, keys: &[RoomKey]) -> Result<(), db::Error> {
    let RoomColumns { accounts, levels, entities, days } = RoomColumns::of(keys.iter());
    client.execute(CREATE_HEADROOM, &[&accounts, &levels, &entities, &days]).await.map(|_| ())
}

const LOCK_HEADROOM: &str = "-- leases.lock_headroom
SELECT h.account_no, h.level, h.entity_no, h.day, h.reserved_micros, h.charged_micros
FROM headroom h
JOIN UNNEST($1::bigint[], $2::smallint[], $3::bigint[], $4::date[]) AS k (account_no, level, entity_no, day)
    USING (account_no, level, entity_no, day)
ORDER BY h.account_no, h.level, h.entity_no, h.day
FOR NO KEY UPDATE OF h";

/// Charged and reserved of a locked row.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    pub(super) charged_micros: i64,
    pub(super) reserved_micros: i64,
}

/// Locks the rows and reads them.
pub(super) async fn lock_headroom(
    tx: &Tx<'_>,
    keys: impl Iterator<Item = &RoomKey>,
) -> Result<HashMap<RoomKey, Used>, db::Error> {
    let RoomColumns { accounts, levels, entities, days } = RoomColumns::of(keys);
    let rows = tx.query(LOCK_HEADROOM, &[&accounts, &levels, &entities, &days]).await?;
    rows.iter().map(used_from_row).collect()
}

fn entity_from_row(row: &Row) -> Result<Entity, db::Error> {
    Ok(Entity {
        account_no: crate::accounts::AccountNo(row.try_get("account_no")?),
        level: row.try_get("level")?,
        entity_no: row.try_get("entity_no")?,
    })
}

fn used_from_row(row: &Row) -> Result<(RoomKey, Used), db::Error> {
    let entity = entity_from_row(row)?;
    let used = Used {
        charged_micros: row.try_get("charged_micros")?,
        reserved_micros: row.try_get("reserved_micros")?,
    };
    Ok(((entity, row.try_get("day")?), used))
}

const LOCK_USABLE_HOLDS: &str = "-- leases.lock_usable_holds
SELECT account_no, hold_no, opened_micros - reserved_micros - charged_micros + late_micros AS room_micros
FROM hold
WHERE account_no = ANY ($1) AND state = 2 AND expires_at >= $2
ORDER BY account_no, hold_no
FOR NO KEY UPDATE";

/// Locks the open holds that last until `until` and gives their rooms by account, oldest first.
pub(super) async fn lock_usable_holds(
    tx: &Tx<'_>,
    accounts: &[i64],
    until: DateTime<Utc>,
) -> Result<HashMap<i64, Vec<super::rules::HoldRoom>>, db::Error> {
    let mut holds: HashMap<i64, Vec<super::rules::HoldRoom>> = HashMap::new();
    for row in tx.query(LOCK_USABLE_HOLDS, &[&accounts, &until]).await? {
        holds.entry(row.try_get("account_no")?).or_default().push(super::rules::HoldRoom {
            hold_no: row.try_get("hold_no")?,
            room_micros: row.try_get("room_micros")?,
        });
    }
    Ok(holds)
}

const LATE_HOURS: &str = "-- leases.late_hours
SELECT l.account_no, l.level, l.entity_no, max(l.late_micros) AS late_micros
FROM late_hour l
JOIN UNNEST($1::bigint[], $2::smallint[], $3::bigint[]) AS k (account_no, level, entity_no)
    USING (account_no, level, entity_no)
WHERE l.hour = $4 AND l.day BETWEEN $5 AND $6
GROUP BY l.account_no, l.level, l.entity_no";

/// For how many days late charges count.
const LATE_DAYS: i32 = 28;

/// What came late in this hour of the day, at most, on the days before this one.
pub(super) async fn late_hours(
    tx: &Tx<'_>,
    keys: &[RoomKey],
    now: DateTime<Utc>,
) -> Result<HashMap<Entity, i64>, db::Error> {
    let RoomColumns { accounts, levels, entities, .. } = RoomColumns::of(keys.iter());
    let hour = i16::try_from(now.with_timezone(&MSK).hour()).unwrap_or(0);
    let today = Day::of(now);
    let rows = tx
        .query(
            LATE_HOURS,
            &[&accounts, &levels, &entities, &hour, &today.plus_days(-LATE_DAYS), &today.prev()],
        )
        .await?;
    rows.iter().map(|row| Ok((entity_from_row(row)?, row.try_get("late_micros")?))).collect()
}

const ELSEWHERE: &str = "-- leases.elsewhere
SELECT s.account_no, s.campaign_no, max(s.expires_at) AS until
FROM slice s
JOIN UNNEST($1::bigint[], $2::bigint[]) AS k (account_no, campaign_no) USING (account_no, campaign_no)
WHERE s.state = 1 AND s.replica <> $3 AND s.expires_at > $4
GROUP BY s.account_no, s.campaign_no";

/// Until when other replicas have open slices of these campaigns.
pub(super) async fn elsewhere(
    tx: &Tx<'_>,
    campaigns: &[(i64, i64)],
    replica: Uuid,
    now: DateTime<Utc>,
) -> Result<HashMap<(i64, i64), DateTime<Utc>>, db::Error> {
    let (accounts, numbers): (Vec<i64>, Vec<i64>) = campaigns.iter().copied().unzip();
    let rows = tx.query(ELSEWHERE, &[&accounts, &numbers, &replica, &now]).await?;
    rows.iter().map(|row| Ok((campaign_from_row(row)?, row.try_get("until")?))).collect()
}

fn campaign_from_row(row: &Row) -> Result<(i64, i64), db::Error> {
    Ok((row.try_get("account_no")?, row.try_get("campaign_no")?))
}

/// A slice to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewSlice {
    pub(super) account_no: i64,
    pub(super) campaign_no: i64,
    pub(super) hold_no: i64,
    pub(super) amount_micros: i64,
    pub(super) is_expected: bool,
}

/// What all slices of one grant share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) replica: Uuid,
    pub(super) day: Day,
    pub(super) granted_at: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
    pub(super) resolves_at: DateTime<Utc>,
}

const INSERT_SLICES: &str = "-- leases.insert_slices
INSERT INTO slice (account_no, campaign_no, hold_no, amount_micros, replica, day, granted_at, expires_at,
    resolves_at, is_expected)
SELECT account_no, campaign_no, hold_no, amount_micros, $5, $6, $7, $8, $9, is_expected
FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $10::boolean[])
    AS s (account_no, campaign_no, hold_no, amount_micros, is_expected)
RETURNING account_no, campaign_no, slice_no";

/// Writes slices; at most one of a campaign. Gives their numbers by campaign.
pub(super) async fn insert_slices(
    tx: &Tx<'_>,
    slices: &[NewSlice],
    terms: &Terms,
) -> Result<HashMap<(i64, i64), i64>, db::Error> {
    let accounts: Vec<i64> = slices.iter().map(|slice| slice.account_no).collect();
    let campaigns: Vec<i64> = slices.iter().map(|slice| slice.campaign_no).collect();
    let holds: Vec<i64> = slices.iter().map(|slice| slice.hold_no).collect();
    let amounts: Vec<i64> = slices.iter().map(|slice| slice.amount_micros).collect();
    let expected: Vec<bool> = slices.iter().map(|slice| slice.is_expected).collect();
    let Terms { replica, day, granted_at, expires_at, resolves_at } = terms;
    let rows = tx
        .query(
            INSERT_SLICES,
            &[
                &accounts,
                &campaigns,
                &holds,
                &amounts,
                replica,
                day,
                granted_at,
                expires_at,
                resolves_at,
                &expected,
            ],
        )
        .await?;
    rows.iter().map(|row| Ok((campaign_from_row(row)?, row.try_get("slice_no")?))).collect()
}

const EXTEND_SLICES: &str = "-- leases.extend_slices
UPDATE slice s
SET amount_micros = s.amount_micros + e.more_micros, expires_at = GREATEST(s.expires_at, $4),
    resolves_at = GREATEST(s.resolves_at, $5)
FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) AS e (account_no, slice_no, more_micros)
WHERE s.account_no = e.account_no AND s.slice_no = e.slice_no AND s.state = 1";

/// Enlarges locked open slices by so much, and moves their end.
pub(super) async fn extend_slices(
    tx: &Tx<'_>,
    slices: &[(SliceKey, i64)],
    terms: &Terms,
) -> Result<(), db::Error> {
    if slices.is_empty() {
        return Ok(());
    }
    let accounts: Vec<i64> = slices.iter().map(|(key, _)| key.account_no).collect();
    let numbers: Vec<i64> = slices.iter().map(|(key, _)| key.slice_no).collect();
    let more: Vec<i64> = slices.iter().map(|(_, more)| *more).collect();
    let params: [&(dyn db::ToSql + Sync); 5] =
        [&accounts, &numbers, &more, &terms.expires_at, &terms.resolves_at];
    let touched = tx.execute(EXTEND_SLICES, &params).await?;
    all_touched(touched, slices.len(), "leases.extend_slices")
}

const MOVE_HEADROOM: &str = "-- leases.move_headroom
UPDATE headroom h
SET reserved_micros = h.reserved_micros + m.moved_micros,
    limit_micros = GREATEST(h.limit_micros, m.limit_micros)
FROM UNNEST($1::bigint[], $2::smallint[], $3::bigint[], $4::date[], $5::bigint[], $6::bigint[])
    AS m (account_no, level, entity_no, day, moved_micros, limit_micros)
WHERE h.account_no = m.account_no AND h.level = m.level AND h.entity_no = m.entity_no AND h.day = m.day";

/// How much is reserved more (or less), and the limit that it was cut under.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Move {
    pub(super) moved_micros: i64,
    pub(super) limit_micros: Option<i64>,
}

/// Reserves or gives back in locked headroom rows.
pub(super) async fn move_headroom(
    tx: &Tx<'_>,
    moves: &HashMap<RoomKey, Move>,
) -> Result<(), db::Error> {
    let accounts: Vec<i64> = moves.keys().map(|key| key.0.account_no.0).collect();
    let levels: Vec<i16> = moves.keys().map(|key| key.0.level).collect();
    let entities: Vec<i64> = moves.keys().map(|key| key.0.entity_no).collect();
    let days: Vec<Day> = moves.keys().map(|key| key.1).collect();
    let moved: Vec<i64> = moves.values().map(|moving| moving.moved_micros).collect();
    let limits: Vec<Option<i64>> = moves.values().map(|moving| moving.limit_micros).collect();
    let touched =
        tx.execute(MOVE_HEADROOM, &[&accounts, &levels, &entities, &days, &moved, &limits]).await?;
    all_touched(touched, moves.len(), "leases.move_headroom")
}

const MOVE_HOLDS: &str = "-- leases.move_holds
UPDATE hold h
SET reserved_micros = h.reserved_micros + m.moved_micros, used_at = GREATEST(h.used_at, $4)
FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) AS m (account_no, hold_no, moved_micros)
WHERE h.account_no = m.account_no AND h.hold_no = m.hold_no";

/// Reserves or gives back in locked holds; `used_at` is the moment of a use, if it is one.
pub(super) async fn move_holds(
    tx: &Tx<'_>,
    moves: &HashMap<HoldKey, i64>,
    used_at: Option<DateTime<Utc>>,
) -> Result<(), db::Error> {
    let accounts: Vec<i64> = moves.keys().map(|key| key.0).collect();
    let holds: Vec<i64> = moves.keys().map(|key| key.1).collect();
    let moved: Vec<i64> = moves.values().copied().collect();
    let touched = tx.execute(MOVE_HOLDS, &[&accounts, &holds, &moved, &used_at]).await?;
    all_touched(touched, moves.len(), "leases.move_holds")
}

fn all_touched(touched: u64, expected: usize, statement: &str) -> Result<(), db::Error> {
    if usize::try_from(touched) == Ok(expected) {
        return Ok(());
    }
    Err(db::Error::other(format!("{statement} touched {touched} rows instead of {expected}")))
}

/// Where a slice lies: what never changes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SliceKey {
    pub(super) account_no: i64,
    pub(super) slice_no: i64,
    pub(super) campaign_no: i64,
    pub(super) hold_no: i64,
    pub(super) day: Day,
}

fn key_from_row(row: &Row) -> Result<SliceKey, db::Error> {
    Ok(SliceKey {
        account_no: row.try_get("account_no")?,
        slice_no: row.try_get("slice_no")?,
        campaign_no: row.try_get("campaign_no")?,
        hold_no: row.try_get("hold_no")?,
        day: row.try_get("day")?,
    })
}

const OWN_SLICES: &str = "-- leases.own_slices
SELECT account_no, slice_no, campaign_no, hold_no, day, amount_micros, charged_micros, closed_micros,
    ended_micros
FROM slice WHERE replica = $1 AND state = 1 AND (NOT is_expected OR expires_at > $2)";

/// What the books say of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) amount_micros: i64,
    pub(super) charged_micros: i64,
    pub(super) closed_micros: i64,
    pub(super) ended_micros: i64,
}

/// The open slices of a replica; of expected ones those that were in use after a moment, for the
/// others have nothing to take back before they are extended.
pub(super) async fn own_slices(
    client: &Client,
    replica: Uuid,
    used_after: DateTime<Utc>,
) -> Result<Vec<(SliceKey, Reading)>, db::Error> {
    let rows = client.query(OWN_SLICES, &[&replica, &used_after]).await?;
    rows.iter().map(|row| Ok((key_from_row(row)?, reading_from_row(row)?))).collect()
}

fn reading_from_row(row: &Row) -> Result<Reading, db::Error> {
    Ok(Reading {
        amount_micros: row.try_get("amount_micros")?,
        charged_micros: row.try_get("charged_micros")?,
        closed_micros: row.try_get("closed_micros")?,
        ended_micros: row.try_get("ended_micros")?,
    })
}

const DUE_SLICES: &str = "-- leases.due_slices
SELECT account_no, slice_no, campaign_no, hold_no, day
FROM slice WHERE state IN (1, 2) AND resolves_at <= $1
ORDER BY resolves_at LIMIT $2";

/// Slices whose tokens are all over, the oldest first.
pub(super) async fn due_slices(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<SliceKey>, db::Error> {
    tx.query(DUE_SLICES, &[&now, &limit]).await?.iter().map(key_from_row).collect()
}

const LOCK_HOLDS: &str = "-- leases.lock_holds
SELECT h.hold_no
FROM hold h JOIN UNNEST($1::bigint[], $2::bigint[]) AS k (account_no, hold_no) USING (account_no, hold_no)
ORDER BY h.account_no, h.hold_no
FOR NO KEY UPDATE OF h";

/// Locks these holds.
pub(super) async fn lock_holds(
    tx: &Tx<'_>,
    keys: impl Iterator<Item = HoldKey>,
) -> Result<(), db::Error> {
    let mut keys: Vec<HoldKey> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    let (accounts, holds): (Vec<i64>, Vec<i64>) = keys.into_iter().unzip();
    tx.query(LOCK_HOLDS, &[&accounts, &holds]).await.map(|_| ())
}

const LOCK_SLICES: &str = "-- leases.lock_slices
SELECT s.account_no, s.slice_no, s.state, s.amount_micros, s.charged_micros, s.closed_micros, s.taken_micros,
    s.is_expected, s.ended_micros
FROM slice s JOIN UNNEST($1::bigint[], $2::bigint[]) AS k (account_no, slice_no) USING (account_no, slice_no)
ORDER BY s.account_no, s.slice_no
FOR NO KEY UPDATE OF s";

const LOCK_FREE_SLICES: &str = "-- leases.lock_free_slices
SELECT s.account_no, s.slice_no, s.state, s.amount_micros, s.charged_micros, s.closed_micros, s.taken_micros,
    s.is_expected, s.ended_micros
FROM slice s JOIN UNNEST($1::bigint[], $2::bigint[]) AS k (account_no, slice_no) USING (account_no, slice_no)
ORDER BY s.account_no, s.slice_no
FOR NO KEY UPDATE OF s SKIP LOCKED";

/// Whether a slice that somebody else has locked is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// It is: a report must not be lost.
    Wait,
    /// It is left for the next sweep.
    Skip,
}

/// Locks these slices and reads their books.
pub(super) async fn lock_slices(
    tx: &Tx<'_>,
    keys: impl Iterator<Item = (i64, i64)>,
    patience: Patience,
) -> Result<HashMap<(i64, i64), Books>, db::Error> {
    let (accounts, slices): (Vec<i64>, Vec<i64>) = keys.unzip();
    let rows = match patience {
        Patience::Wait => tx.query(LOCK_SLICES, &[&accounts, &slices]).await?,
        Patience::Skip => tx.query(LOCK_FREE_SLICES, &[&accounts, &slices]).await?,
    };
    rows.iter().map(books_from_row).collect()
}

fn books_from_row(row: &Row) -> Result<((i64, i64), Books), db::Error> {
    let state: i16 = row.try_get("state")?;
    let taken: Option<i64> = row.try_get("taken_micros")?;
    let state = match (state, taken) {
        (1, _) => SliceState::Open,
        (2, Some(taken_micros)) => SliceState::Final { taken_micros },
        (3, _) => SliceState::Resolved,
        (state, _) => return Err(db::Error::other(format!("a slice in state {state}"))),
    };
    let books = Books {
        state,
        amount_micros: row.try_get("amount_micros")?,
        charged_micros: row.try_get("charged_micros")?,
        closed_micros: row.try_get("closed_micros")?,
        is_expected: row.try_get("is_expected")?,
        ended_micros: row.try_get("ended_micros")?,
    };
    Ok(((row.try_get("account_no")?, row.try_get("slice_no")?), books))
}

const CLOSE_SLICES: &str = "-- leases.close_slices
UPDATE slice s
SET state = c.state, taken_micros = COALESCE(c.taken_micros, s.taken_micros), amount_micros = c.amount_micros
FROM UNNEST($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::bigint[])
    AS c (account_no, slice_no, state, taken_micros, amount_micros)
WHERE s.account_no = c.account_no AND s.slice_no = c.slice_no";

/// Moves locked slices on: to final, to resolved, or to a smaller amount.
pub(super) async fn close_slices(
    tx: &Tx<'_>,
    closed: &[(SliceKey, Books)],
) -> Result<(), db::Error> {
    let accounts: Vec<i64> = closed.iter().map(|(key, _)| key.account_no).collect();
    let slices: Vec<i64> = closed.iter().map(|(key, _)| key.slice_no).collect();
    let states: Vec<i16> = closed.iter().map(|(_, books)| state_number(books.state)).collect();
    let taken: Vec<Option<i64>> = closed.iter().map(|(_, books)| taken(books.state)).collect();
    let amounts: Vec<i64> = closed.iter().map(|(_, books)| books.amount_micros).collect();
    let touched =
        tx.execute(CLOSE_SLICES, &[&accounts, &slices, &states, &taken, &amounts]).await?;
    all_touched(touched, closed.len(), "leases.close_slices")
}

fn state_number(state: SliceState) -> i16 {
    match state {
        SliceState::Open => 1,
        SliceState::Final { .. } => 2,
        SliceState::Resolved => 3,
    }
}

fn taken(state: SliceState) -> Option<i64> {
    match state {
        SliceState::Final { taken_micros } => Some(taken_micros),
        SliceState::Open | SliceState::Resolved => None,
    }
}

const SWEEP_ALONE: &str = "-- leases.sweep_alone
SELECT pg_try_advisory_xact_lock(7206401, 1) AS alone";

/// Whether this transaction is the one that sweeps; others need not queue behind it.
pub(super) async fn sweep_alone(tx: &Tx<'_>) -> Result<bool, db::Error> {
    Ok(tx.query_one(SWEEP_ALONE, &[]).await?.try_get("alone")?)
}
