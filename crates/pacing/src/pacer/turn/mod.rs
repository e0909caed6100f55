//! The work of a minute that one replica does for all: the course of the day, learned demand, κ,
//! conversions, the ends of suspensions, and forgetting what is old.
//!
//! Whoever finds the row of `pace_turn` unlocked and the minute undone does it, in one transaction;
//! the others go on. With a clock so fast that minutes are skipped only the last one is written: the
//! sums in it are whole, and the minutes before it read as unchanged.

mod store;

use std::time::Duration;

use adspend_common::db::{self, Client, Pool};
use adspend_common::time::Day;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};

use super::conversions::{self, Whose};
use super::paced::second_of;
use super::store::BaseRow;
use crate::admission::{Admission, Standing};
use crate::budgets::Entity;
use crate::calendar::policy::PaymentModel;
use crate::controller::SLOT_SECONDS;
use crate::controller::demand::Kappa;
use crate::leases::Stopped;

const MINUTE: TimeDelta = TimeDelta::minutes(1);
/// The length of a slot of demand.
const SLOT: TimeDelta = TimeDelta::minutes(15);
/// How often late charges are written down, by the hour in which they came.
const HOUR: TimeDelta = TimeDelta::hours(1);
/// How often κ is learned (pacing.md, section 1).
const BLOCK: TimeDelta = TimeDelta::minutes(10);
/// How often what is old is removed.
const PURGE: TimeDelta = TimeDelta::hours(1);
/// A slot whose first turn came later than this after the turn before it was not seen whole.
const LATEST_TURN: TimeDelta = TimeDelta::minutes(5);

/// How long everything is kept.
const DEMAND_DAYS: i32 = 35;
const REPORT_DAYS: i32 = 2;
const CURVES_KEPT: TimeDelta = TimeDelta::weeks(8);
const READINGS_KEPT: TimeDelta = TimeDelta::days(14);

/// A chance is well known from so many admissions, or charges, of a day. Until it is, it is learned
/// every minute from those that there are: at first every admission counts as a charge, so the rate is
/// low, and only admissions show that they are none.
const CHANCE_ADMISSIONS: i64 = 50;
const CHANCE_CHARGES: i64 = 20;

/// The minute that runs.
pub(super) fn minute_of(now: DateTime<Utc>) -> DateTime<Utc> {
    floor(now, MINUTE)
}

fn floor(now: DateTime<Utc>, to: TimeDelta) -> DateTime<Utc> {
    // Moscow's offset is whole hours, so quarter hours are the same there.
    now.duration_trunc(to).unwrap_or(now)
}

/// Which campaigns teach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocks {
    /// All, at the end of ten minutes.
    All,
    /// Those whose chance of a charge is not well known, each minute.
    OfUnknownChance,
}

/// What of the campaigns stood unchanged since the last slot began: only those were seen whole.
#[derive(Debug, Default)]
pub(super) struct Versions {
    slot: Option<DateTime<Utc>>,
    by_seat: Vec<u32>,
}

impl Versions {
    /// The campaigns that were active throughout the slot that ended at `end`, with the seconds in
    /// which they were open; remembers the present for the next slot.
    fn seen(&mut self, admission: &Admission, end: DateTime<Utc>) -> Vec<(i64, i64, f32)> {
        let whole = self.slot == Some(end - SLOT);
        let day = Day::of(end - SLOT);
        let from = second_of(end - SLOT) / 60.0;
        let entities = admission.entities();
        let mut seen = Vec::new();
        for (seat, entity) in entities.iter().enumerate() {
            let unchanged = self.by_seat.get(seat) == Some(&entity.version());
            if !whole || !unchanged || entity.standing() != Standing::Active {
                continue;
            }
            let minutes = from as u16..from as u16 + 15;
            let open = match entity.schedule() {
                None => minutes.len(),
                Some(schedule) => {
                    let mask = schedule.mask(day);
                    minutes.filter(|minute| mask.is_open(*minute)).count()
                }
            };
            if open > 0 {
                seen.push((entity.account_no, entity.campaign_no, open as f32 * 60.0));
            }
        }
        self.slot = Some(end);
        self.by_seat = entities.iter().map(|entity| entity.version()).collect();
        seen
    }
}

/// Does what is due up to the minute that `now` has ended. True when this replica did it.
pub(super) async fn minute(
    db: &Pool,
    admission: &Admission,
    versions: &mut Versions,
    now: DateTime<Utc>,
    token_life: Duration,
) -> Result<bool, db::Error> {
    let end = minute_of(now);
    let mut client = db.get().await?;
    store::first_turn(&client, end - MINUTE).await?;
    // Every replica remembers the versions, for any of them may be the next to do the work.
    let slot_end = floor(end, SLOT);
    let seen = if versions.slot == Some(slot_end) {
        Vec::new()
    } else {
        versions.seen(admission, slot_end)
    };
    let tx = client.transaction().await?;
    let Some(done_at) = store::lock_turn(&tx).await? else {
        tx.rollback().await?;
        return Ok(false);
    };
    if done_at >= end {
        tx.rollback().await?;
        return Ok(false);
    }
    let minute = store::Minute::ending(end, done_at);
    store::carry_hours(&tx, &minute).await?;
    store::carry_demand(&tx, &minute).await?;
    conversions::carry(&tx, minute.day, minute.hour_of_day).await?;
    let crossed = |length: TimeDelta| floor(end, length) > floor(done_at, length);
    if crossed(SLOT) && slot_end - done_at <= LATEST_TURN {
        store::mark_seen(&tx, slot_end - SLOT, SLOT_SECONDS as f32, &seen).await?;
    }
    let blocks = if crossed(BLOCK) { Blocks::All } else { Blocks::OfUnknownChance };
    learn(&tx, minute.day, blocks).await?;
    if crossed(HOUR) {
        store::note_late(&tx, &minute).await?;
    }
    let today = Day::of(end);
    if Day::of(done_at) != today {
        store::open_day(&tx, today).await?;
        conversions::close_days(&tx, end).await?;
    }
    let whose = if crossed(BLOCK) { Whose::All } else { Whose::AskedSince(done_at - MINUTE) };
    conversions::look_ahead(&tx, whose, end, token_life).await?;
    store::end_at_midnight(&tx, today).await?;
    if crossed(PURGE) {
        store::purge(&tx, today, now - CURVES_KEPT, now - READINGS_KEPT).await?;
        conversions::purge(&tx, today).await?;
    }
    store::turn_done(&tx, end).await?;
    tx.commit().await?;
    Ok(true)
}

/// κ of every campaign with admissions since the last block, and the chance of a charge of those
/// that are paid per click; conversions come too late for that ([`conversions::close_days`]).
async fn learn(tx: &db::Tx<'_>, day: Day, blocks: Blocks) -> Result<(), db::Error> {
    let mut learned = Vec::new();
    for mut block in store::blocks(tx, day, blocks, CHANCE_ADMISSIONS).await? {
        let mut kappa = Kappa::new(block.kappa);
        if block.admitted_micros <= block.before_admitted {
            continue;
        }
        // Of the day so far: near a limit a block admits next to nothing, and what is charged in it
        // belongs to the blocks before.
        if blocks == Blocks::All {
            kappa.settle_block(block.admitted_micros as f64, block.charged_micros as f64);
        }
        let is_known = block.admitted_count >= CHANCE_ADMISSIONS || block.charges >= CHANCE_CHARGES;
        let is_first = block.chance_admitted < CHANCE_ADMISSIONS;
        let chance = match block.payment {
            PaymentModel::PerClick if is_known || is_first => {
                // As if one more had been admitted and charged: of few admissions it is too high.
                let admitted = (block.admitted_count + 1) as f64;
                block.chance_charges = block.charges;
                block.chance_admitted = block.admitted_count;
                Some(((block.charges + 1) as f64 / admitted).clamp(1e-6, 1.0))
            }
            PaymentModel::PerImpression | PaymentModel::PerClick | PaymentModel::PerConversion => {
                block.chance
            }
        };
        learned.push((block, kappa.value(), chance));
    }
    store::write_learned(tx, day, &learned).await
}

/// Entities that reached a limit stand still.
pub(super) async fn begin_suspensions(
    client: &Client,
    now: DateTime<Utc>,
    stopped: &[(Entity, Stopped)],
) -> Result<(), db::Error> {
    store::begin_suspensions(client, now, stopped).await
}

/// Budgets changed: whoever stood still may go on, or will be stopped again.
pub(super) async fn end_suspensions(
    client: &Client,
    now: DateTime<Utc>,
    changed: &[(Entity, BaseRow)],
) -> Result<(), db::Error> {
    let entities: Vec<Entity> = changed.iter().map(|(entity, _)| *entity).collect();
    store::end_suspensions(client, now, &entities).await
}
