//! The statements of a group. Locks come first and in one order everywhere: headroom, holds,
//! slices, each by its key (then `hold_spend`, which only charges and acknowledgements write).

mod find;

use adspend_common::db::{Client, Error, Row, ToSql, Tx};
use adspend_common::money::Money;
use adspend_common::time::Day;
use chrono::{DateTime, Utc};
use futures_util::SinkExt;

use super::batch::{Folded, Gain, HeadroomKey, NewRow, SliceKey, SliceRow};
use super::copy;
use super::item::{Charge, Item};
use super::rules::Books;

pub(super) use find::{Named, campaigns, find_cancelled, find_charges, find_settled, payers};

const LOCK_HEADROOM: &str = "-- charges.lock_headroom
SELECT 1
FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::date[])
    AS k (account_no, level, entity_no, day)
JOIN headroom h USING (account_no, level, entity_no, day)
ORDER BY h.account_no, h.level, h.entity_no, h.day
FOR NO KEY UPDATE OF h";

/// Waits for the rows; gives how many of them there are.
pub(super) async fn lock_headroom(tx: &Tx<'_>, keys: &[HeadroomKey]) -> Result<usize, Error> {
    let columns = HeadroomColumns::of(keys.iter());
    Ok(tx.query(LOCK_HEADROOM, &columns.params()).await?.len())
}

const ADD_HEADROOM_ROWS: &str = "-- charges.add_headroom_rows
INSERT INTO headroom (account_no, level, entity_no, day)
SELECT account_no, level, entity_no, day
FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::date[])
    AS k (account_no, level, entity_no, day)
ORDER BY account_no, level, entity_no, day
ON CONFLICT DO NOTHING";

/// Makes the rows that a late conversion is the first of its day to need; a transaction of its
/// own, so that nobody waits for a group because of it.
pub(super) async fn add_headroom_rows(client: &Client, keys: &[HeadroomKey]) -> Result<(), Error> {
    let columns = HeadroomColumns::of(keys.iter());
    client.execute(ADD_HEADROOM_ROWS, &columns.params()).await.map(|_| ())
}

// A slice never changes its hold, so the slices may be read before they are locked.
const LOCK_HOLDS: &str = "-- charges.lock_holds
SELECT 1
FROM hold h
WHERE (h.account_no, h.hold_no) IN (
    SELECT s.account_no, s.hold_no
    FROM unnest($1::bigint[], $2::bigint[]) AS k (account_no, slice_no)
    JOIN slice s USING (account_no, slice_no))
ORDER BY h.account_no, h.hold_no
FOR NO KEY UPDATE OF h";

const LOCK_SLICES: &str = "-- charges.lock_slices
SELECT k.position, s.hold_no, s.state, s.cancellations > 0, s.is_expected,
    GREATEST(s.amount_micros - s.charged_micros, 0), c.payment_model = 3
FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS k (account_no, slice_no, position)
JOIN slice s USING (account_no, slice_no)
JOIN campaign c USING (account_no, campaign_no)
ORDER BY s.account_no, s.slice_no
FOR NO KEY UPDATE OF s";

/// Locks all that a group changes, headroom first, in one round trip. Gives how many headroom
/// rows there are, and the slices in their order.
pub(super) async fn lock(
    tx: &Tx<'_>,
    headroom: &[HeadroomKey],
    slices: &[SliceKey],
) -> Result<(usize, Vec<Option<SliceRow>>), Error> {
    // Prepared before any of them is sent: the order of sending is the order of locking.
    for sql in [LOCK_HEADROOM, LOCK_HOLDS, LOCK_SLICES] {
        tx.prepare_cached(sql).await?;
    }
    let accounts: Vec<i64> = slices.iter().map(|slice| slice.account_no).collect();
    let numbers: Vec<i64> = slices.iter().map(|slice| slice.slice_no).collect();
    let params: [&(dyn ToSql + Sync); 2] = [&accounts, &numbers];
    let (found, _, rows) = tokio::try_join!(
        biased;
        lock_headroom(tx, headroom),
        tx.query(LOCK_HOLDS, &params),
        tx.query(LOCK_SLICES, &params),
    )?;
    let mut locked = vec![None; slices.len()];
    for row in rows {
        if let Some(place) = locked.get_mut(find::position(&row)?) {
            *place = Some(slice_row(&row)?);
        }
    }
    Ok((found, locked))
}

fn slice_row(row: &Row) -> Result<SliceRow, Error> {
    let books = Books::from_number(row.try_get(2)?).ok_or_else(|| Error::other("unknown state"))?;
    let books = match (row.try_get(4)?, books) {
        (true, Books::Open | Books::Final) => Books::Expected { left: row.try_get(5)? },
        (_, books) => books,
    };
    Ok(SliceRow {
        hold_no: row.try_get(1)?,
        books,
        has_cancellations: row.try_get(3)?,
        is_conversion: row.try_get(6)?,
    })
}

pub(super) const COPY_CHARGES: &str = "-- charges.copy
COPY charge (account_no, charge_id, campaign_no, slice_no, admission_no, reserved_micros,
    price_micros, day, late, booked_at)
FROM STDIN BINARY";

async fn copy_charges(
    tx: &Tx<'_>,
    items: &[Item],
    rows: &[NewRow],
    now: DateTime<Utc>,
) -> Result<u64, Error> {
    let sink = tx.raw().copy_in(&tx.prepare_cached(COPY_CHARGES).await?).await?;
    let mut sink = std::pin::pin!(sink);
    sink.send(copy::rows(items, rows, now)).await?;
    Ok(sink.finish().await?)
}

const UPDATE_HEADROOM: &str = "-- charges.update_headroom
UPDATE headroom h
SET charged_micros = h.charged_micros + g.charged,
    reserved_micros = h.reserved_micros - g.freed,
    late_micros = h.late_micros + g.unreserved,
    charges = h.charges + g.charges,
    overdue_micros = h.overdue_micros + g.overdue
FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::date[],
        $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
    AS g (account_no, level, entity_no, day, charged, freed, unreserved, charges, overdue)
WHERE h.account_no = g.account_no AND h.level = g.level AND h.entity_no = g.entity_no
    AND h.day = g.day";

const UPDATE_HOLDS: &str = "-- charges.update_holds
UPDATE hold h
SET charged_micros = h.charged_micros + g.charged,
    reserved_micros = h.reserved_micros - g.freed,
    late_micros = h.late_micros + g.unreserved,
    used_at = GREATEST(h.used_at, $6)
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
    AS g (account_no, hold_no, charged, freed, unreserved)
WHERE h.account_no = g.account_no AND h.hold_no = g.hold_no";

const UPDATE_SLICES: &str = "-- charges.update_slices
UPDATE slice s
SET charged_micros = s.charged_micros + g.charged,
    closed_micros = s.closed_micros + g.closed,
    cancellations = s.cancellations + g.cancellations,
    ended_micros = s.ended_micros + g.ended
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
    AS g (account_no, slice_no, charged, closed, cancellations, ended)
WHERE s.account_no = g.account_no AND s.slice_no = g.slice_no";

// A spend that was settled completely begins to wait with this group.
const ADD_SPENDS: &str = "-- charges.add_spends
INSERT INTO hold_spend AS s (account_no, hold_no, campaign_no, charged_micros, unsettled_since)
SELECT account_no, hold_no, campaign_no, charged, $5
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
    AS g (account_no, hold_no, campaign_no, charged)
ORDER BY account_no, hold_no, campaign_no
ON CONFLICT (account_no, hold_no, campaign_no) DO UPDATE
SET charged_micros = s.charged_micros + EXCLUDED.charged_micros,
    unsettled_since = CASE WHEN s.acknowledged_micros < s.charged_micros
        THEN s.unsettled_since ELSE EXCLUDED.unsettled_since END";

const ADD_LATE_CHARGES: &str = "-- charges.add_late_charges
INSERT INTO late_charge
    (account_no, charge_id, campaign_no, price_micros, day, booked_at, claimed_until)
SELECT account_no, charge_id, campaign_no, price, day, $6, $6
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::date[])
    AS g (account_no, charge_id, campaign_no, price, day)";

const ADD_CANCELLATIONS: &str = "-- charges.add_cancellations
INSERT INTO cancellation (account_no, slice_no, admission_no, reserved_micros, cancelled_at)
SELECT account_no, slice_no, admission_no, reserved, $5
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
    AS g (account_no, slice_no, admission_no, reserved)";

// Nothing but this record makes the commit of a group of repeats wait for the disk and for a
// standby, as the commits did that it vouches for.
const VOUCH: &str = "-- charges.vouch
SELECT pg_logical_emit_message(true, 'adspend.charges', 'replay')";

/// Writes what a group changes: the rows of its charges, then everything else in one round trip.
pub(super) async fn write(
    tx: &Tx<'_>,
    items: &[Item],
    folded: &Folded,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if folded.is_empty() {
        if folded.replays {
            tx.query(VOUCH, &[]).await?;
        }
        return Ok(());
    }
    if !folded.rows.is_empty() {
        let copied = copy_charges(tx, items, &folded.rows, now).await?;
        expect(copied, folded.rows.len(), "charges.copy")?;
    }
    for sql in [UPDATE_HEADROOM, UPDATE_HOLDS, UPDATE_SLICES, ADD_SPENDS] {
        tx.prepare_cached(sql).await?;
    }
    // In the order of sending, so that what went wrong is heard before what it brought down.
    tokio::try_join!(
        biased;
        update_headroom(tx, folded),
        update_holds(tx, folded, now),
        update_slices(tx, folded),
        add_spends(tx, folded, now),
        add_late_charges(tx, items, folded, now),
        add_cancellations(tx, items, folded, now),
    )?;
    Ok(())
}

fn expect(touched: u64, expected: usize, statement: &str) -> Result<(), Error> {
    if usize::try_from(touched) == Ok(expected) {
        Ok(())
    } else {
        Err(Error::other(format!("{statement} touched {touched} rows instead of {expected}")))
    }
}

/// One column of gains.
fn column<'a, K: 'a>(
    gains: impl IntoIterator<Item = (&'a K, &'a Gain)>,
    value: impl Fn(&Gain) -> i64,
) -> Vec<i64> {
    gains.into_iter().map(|(_, gain)| value(gain)).collect()
}

async fn update_headroom(tx: &Tx<'_>, folded: &Folded) -> Result<(), Error> {
    let keys = HeadroomColumns::of(folded.headroom.keys());
    let [accounts, levels, entities, days] = keys.params();
    let charged = column(&folded.headroom, |gain| gain.effect.charged.micros());
    let freed = column(&folded.headroom, |gain| gain.effect.freed.micros());
    let unreserved = column(&folded.headroom, |gain| gain.effect.unreserved.micros());
    let charges = column(&folded.headroom, |gain| gain.charges);
    let overdue = column(&folded.headroom, |gain| gain.overdue.micros());
    let params: [&(dyn ToSql + Sync); 9] =
        [accounts, levels, entities, days, &charged, &freed, &unreserved, &charges, &overdue];
    let touched = tx.execute(UPDATE_HEADROOM, &params).await?;
    expect(touched, folded.headroom.len(), "charges.update_headroom")
}

async fn update_holds(tx: &Tx<'_>, folded: &Folded, now: DateTime<Utc>) -> Result<(), Error> {
    if folded.holds.is_empty() {
        return Ok(());
    }
    let accounts: Vec<i64> = folded.holds.keys().map(|key| key.0).collect();
    let holds: Vec<i64> = folded.holds.keys().map(|key| key.1).collect();
    let charged = column(&folded.holds, |gain| gain.effect.charged.micros());
    let freed = column(&folded.holds, |gain| gain.effect.freed.micros());
    let unreserved = column(&folded.holds, |gain| gain.effect.unreserved.micros());
    let params: [&(dyn ToSql + Sync); 6] = [&accounts, &holds, &charged, &freed, &unreserved, &now];
    let touched = tx.execute(UPDATE_HOLDS, &params).await?;
    expect(touched, folded.holds.len(), "charges.update_holds")
}

async fn update_slices(tx: &Tx<'_>, folded: &Folded) -> Result<(), Error> {
    if folded.slices.is_empty() {
        return Ok(());
    }
    let accounts: Vec<i64> = folded.slices.keys().map(|key| key.0).collect();
    let slices: Vec<i64> = folded.slices.keys().map(|key| key.1).collect();
    let charged = column(&folded.slices, |gain| gain.effect.charged.micros());
    let closed = column(&folded.slices, |gain| gain.effect.closed.micros());
    let cancellations = column(&folded.slices, |gain| gain.cancellations);
    let ended = column(&folded.slices, |gain| gain.ended.micros());
    let params: [&(dyn ToSql + Sync); 6] =
        [&accounts, &slices, &charged, &closed, &cancellations, &ended];
    let touched = tx.execute(UPDATE_SLICES, &params).await?;
    expect(touched, folded.slices.len(), "charges.update_slices")
}

async fn add_spends(tx: &Tx<'_>, folded: &Folded, now: DateTime<Utc>) -> Result<(), Error> {
    if folded.spends.is_empty() {
        return Ok(());
    }
    let accounts: Vec<i64> = folded.spends.keys().map(|key| key.0).collect();
    let holds: Vec<i64> = folded.spends.keys().map(|key| key.1).collect();
    let campaigns: Vec<i64> = folded.spends.keys().map(|key| key.2).collect();
    let charged: Vec<Money> = folded.spends.values().copied().collect();
    let touched = tx.execute(ADD_SPENDS, &[&accounts, &holds, &campaigns, &charged, &now]).await?;
    expect(touched, folded.spends.len(), "charges.add_spends")
}

async fn add_late_charges(
    tx: &Tx<'_>,
    items: &[Item],
    folded: &Folded,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let mut late: Vec<(&Charge, Day)> = Vec::new();
    for row in folded.rows.iter().filter(|row| row.without_hold) {
        if let Some(Item::Charge(charge)) = items.get(row.item) {
            late.push((charge, row.day));
        }
    }
    if late.is_empty() {
        return Ok(());
    }
    let accounts: Vec<i64> = late.iter().map(|(charge, _)| charge.account_no()).collect();
    let ids: Vec<&str> = late.iter().map(|(charge, _)| charge.id.as_str()).collect();
    let campaigns: Vec<i64> = late.iter().map(|(charge, _)| charge.said().campaign_no).collect();
    let prices: Vec<Money> = late.iter().map(|(charge, _)| charge.price).collect();
    let days: Vec<Day> = late.iter().map(|(_, day)| *day).collect();
    let params: [&(dyn ToSql + Sync); 6] = [&accounts, &ids, &campaigns, &prices, &days, &now];
    let touched = tx.execute(ADD_LATE_CHARGES, &params).await?;
    expect(touched, late.len(), "charges.add_late_charges")
}

async fn add_cancellations(
    tx: &Tx<'_>,
    items: &[Item],
    folded: &Folded,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let tokens: Vec<_> = folded.cancelled.iter().filter_map(|at| items.get(*at)?.token()).collect();
    if tokens.is_empty() {
        return Ok(());
    }
    let accounts: Vec<i64> = tokens.iter().map(|token| token.account_no).collect();
    let slices: Vec<i64> = tokens.iter().map(|token| token.slice_no).collect();
    let numbers: Vec<i64> = tokens.iter().map(|token| i64::from(token.admission_no)).collect();
    let reserved: Vec<i64> = tokens.iter().map(|token| token.reserved_micros).collect();
    let params: [&(dyn ToSql + Sync); 5] = [&accounts, &slices, &numbers, &reserved, &now];
    let touched = tx.execute(ADD_CANCELLATIONS, &params).await?;
    expect(touched, tokens.len(), "charges.add_cancellations")
}

/// The keys of headroom rows, a column each.
struct HeadroomColumns {
    accounts: Vec<i64>,
    levels: Vec<i16>,
    entities: Vec<i64>,
    days: Vec<Day>,
}

impl HeadroomColumns {
    fn of<'a>(keys: impl Iterator<Item = &'a HeadroomKey> + Clone) -> HeadroomColumns {
        HeadroomColumns {
            accounts: keys.clone().map(|key| key.account_no).collect(),
            levels: keys.clone().map(|key| key.level).collect(),
            entities: keys.clone().map(|key| key.entity_no).collect(),
            days: keys.map(|key| key.day).collect(),
        }
    }

    fn params(&self) -> [&(dyn ToSql + Sync); 4] {
        [&self.accounts, &self.levels, &self.entities, &self.days]
    }
}
