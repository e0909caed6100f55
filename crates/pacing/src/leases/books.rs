//! Ending slices: the owner's last report, and resolving what nobody reported.
//!
//! Both give money back to headroom and hold, under the locks of all three rows. Only these two
//! do (G5): the report because the owner knows what it took, the sweep because the last token has
//! expired and the grace for clocks and messages is over, so what was not charged never will be
//! in time.

use std::collections::HashMap;

use adspend_common::db::{self, Pool, Tx};
use chrono::{DateTime, Utc};

use super::rules::Books;
use super::store::{self, Move, Patience, RoomKey, SliceKey};
use crate::accounts::AccountNo;
use crate::budgets;
use crate::campaigns::CampaignNo;

const ATTEMPTS: u32 = 5;

/// How many slices one transaction ends: bounds its locks and its time.
pub(super) const BATCH: usize = 500;

/// A last report: what was taken in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) slice: SliceKey,
    pub(super) taken_micros: i64,
}

/// Writes last reports; at most [`BATCH`]. A report that came before, or too late, changes
/// nothing.
pub(super) async fn finalise(db: &Pool, reports: &[Report]) -> Result<(), db::Error> {
    if reports.is_empty() {
        return Ok(());
    }
    db::retry("leases.finalise", ATTEMPTS, || async {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        let keys: Vec<SliceKey> = reports.iter().map(|report| report.slice).collect();
        let taken: HashMap<SliceKey, i64> =
            reports.iter().map(|report| (report.slice, report.taken_micros)).collect();
        end(&tx, &keys, Patience::Wait, |key, books| books.finalise(taken.get(key).copied()?))
            .await?;
        tx.commit().await
    })
    .await
}

/// Makes expected slices smaller: at most [`BATCH`]. Those that are as small change nothing.
pub(super) async fn shrink(db: &Pool, amounts: &[(SliceKey, i64)]) -> Result<(), db::Error> {
    if amounts.is_empty() {
        return Ok(());
    }
    db::retry("leases.shrink", ATTEMPTS, || async {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        let keys: Vec<SliceKey> = amounts.iter().map(|(key, _)| *key).collect();
        let wanted: HashMap<SliceKey, i64> = amounts.iter().copied().collect();
        end(&tx, &keys, Patience::Wait, |key, books| books.shrink(wanted.get(key).copied()?))
            .await?;
        tx.commit().await
    })
    .await
}

/// Resolves slices that are due; gives how many were looked at.
pub(super) async fn resolve(db: &Pool, now: DateTime<Utc>) -> Result<usize, db::Error> {
    db::retry("leases.resolve", ATTEMPTS, || async {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        if !store::sweep_alone(&tx).await? {
            tx.rollback().await?;
            return Ok(0);
        }
        let due = store::due_slices(&tx, now, i64::try_from(BATCH).unwrap_or(i64::MAX)).await?;
        end(&tx, &due, Patience::Skip, |_, books| books.resolve()).await?;
        tx.commit().await?;
        Ok(due.len())
    })
    .await
}

/// Locks headroom, holds and slices in this order and moves each slice on as `step` says.
async fn end(
    tx: &Tx<'_>,
    keys: &[SliceKey],
    patience: Patience,
    step: impl Fn(&SliceKey, Books) -> Option<(Books, i64)>,
) -> Result<(), db::Error> {
    if keys.is_empty() {
        return Ok(());
    }
    let rooms: Vec<RoomKey> = keys.iter().flat_map(room_keys).collect();
    store::lock_headroom(tx, rooms.iter()).await?;
    store::lock_holds(tx, keys.iter().map(|key| (key.account_no, key.hold_no))).await?;
    let numbers = keys.iter().map(|key| (key.account_no, key.slice_no));
    let books = store::lock_slices(tx, numbers, patience).await?;
    let mut ended = Vec::new();
    let mut rooms: HashMap<RoomKey, Move> = HashMap::new();
    let mut holds: HashMap<store::HoldKey, i64> = HashMap::new();
    for key in keys {
        let Some(books) = books.get(&(key.account_no, key.slice_no)) else { continue };
        let Some((after, returned_micros)) = step(key, *books) else { continue };
        ended.push((*key, after));
        for room in room_keys(key) {
            rooms.entry(room).or_default().moved_micros -= returned_micros;
        }
        *holds.entry((key.account_no, key.hold_no)).or_default() -= returned_micros;
    }
    if ended.is_empty() {
        return Ok(());
    }
    tokio::try_join!(
        store::close_slices(tx, &ended),
        store::move_headroom(tx, &rooms),
        store::move_holds(tx, &holds, None),
    )?;
    Ok(())
}

fn room_keys(key: &SliceKey) -> [RoomKey; 2] {
    let account = AccountNo(key.account_no);
    [
        (budgets::Entity::campaign(account, CampaignNo(key.campaign_no)), key.day),
        (budgets::Entity::account(account), key.day),
    ]
}
