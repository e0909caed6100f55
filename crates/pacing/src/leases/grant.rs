//! Cutting slices: one transaction for many campaigns. Lock, read, decide, write.
//!
//! Four round trips and a commit, whatever the number of campaigns: headroom is locked; holds are
//! locked and budgets read; the decisions are [`rules::cut`]; slices, headroom and holds are
//! written together. An expected slice in hand is
//! locked after the holds and enlarged in place, out of its own hold; where that cannot be, a new one
//! is cut. A budget change locks the same headroom rows first, so each grant sees it
//! wholly or not at all.

use std::collections::HashMap;
use std::sync::Arc;

use adspend_common::db::{self, Pool};
use adspend_common::time::Day;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::due;
use super::rules::{self, Books, Bound, Cut, HoldRoom, Need, Room, Situation, SliceState};
use super::store::{self, Move, NewSlice, Patience, Reading, RoomKey, SliceKey, Terms, Used};
use crate::accounts::AccountNo;
use crate::admission::{Entity, Level};
use crate::budgets::{self, Limits};
use crate::calendar::week::{self, WeekSpent};
use crate::campaigns::CampaignNo;

/// How often a grant is tried when others are in its way.
const ATTEMPTS: u32 = 5;

/// One question.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) entity: Arc<Entity>,
    pub(super) form: Form,
    /// In a new slice.
    pub(super) need: Need,
    /// The smallest price that would be of use.
    pub(super) least_price_micros: i64,
}

/// How a need is to be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A slice that is taken from by whole prices.
    Whole,
    /// One that is taken from by what admissions are expected to cost.
    Expected,
    /// The one in hand lasts longer and gets what it lacks for this need.
    Extended(SliceKey, Need),
}

impl Ask {
    pub(super) fn key(&self) -> (i64, i64) {
        (self.entity.account_no, self.entity.campaign_no)
    }

    pub(super) fn campaign(&self) -> budgets::Entity {
        let account = AccountNo(self.entity.account_no);
        budgets::Entity::campaign(account, CampaignNo(self.entity.campaign_no))
    }

    pub(super) fn account(&self) -> budgets::Entity {
        budgets::Entity::account(AccountNo(self.entity.account_no))
    }

    /// The slice that may be extended.
    fn in_hand(&self, day: Day) -> Option<(i64, i64)> {
        match self.form {
            Form::Extended(key, _) if key.day == day => Some((key.account_no, key.slice_no)),
            Form::Extended(..) | Form::Expected | Form::Whole => None,
        }
    }
}

/// What all questions of one grant share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) replica: Uuid,
    pub(super) replicas: u32,
    pub(super) day: Day,
    pub(super) granted_at: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
    pub(super) resolves_at: DateTime<Utc>,
}

/// What bounds an entity, with when its limit is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) bound: Bound,
    /// When more may be spent, if the limit is what bounds and nothing comes back.
    pub(super) next_release: Option<DateTime<Utc>>,
}

/// The answer to one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Granted {
        slice_no: i64,
        hold_no: i64,
        amount_micros: i64,
        then: Option<Stop>,
        /// What the books say of the slice that was extended; none of a new one.
        extended: Option<Reading>,
        /// The campaign or its account has a limit.
        limited: bool,
    },
    Refused(Stop),
}

/// The answers, in order, and how much room the roomiest hold of each account has left.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) answers: Vec<Answer>,
    pub(super) hold_rooms: HashMap<i64, i64>,
}

/// Answers questions about different campaigns.
pub(super) async fn grant(db: &Pool, frame: &Frame, asks: &[Ask]) -> Result<Answers, db::Error> {
    let keys = room_keys(asks, frame.day);
    let mut created = false;
    loop {
        let answers = db::retry("leases.grant", ATTEMPTS, || once(db, frame, asks, &keys)).await?;
        match answers {
            Some(answers) => return Ok(answers),
            None if created => return Err(db::Error::other("headroom rows that do not appear")),
            None => {
                store::create_headroom(&db.get().await?, &keys).await?;
                created = true;
            }
        }
    }
}

fn room_keys(asks: &[Ask], day: Day) -> Vec<RoomKey> {
    let mut keys: Vec<RoomKey> =
        asks.iter().flat_map(|ask| [(ask.campaign(), day), (ask.account(), day)]).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// `None` when headroom rows are missing.
async fn once(
    db: &Pool,
    frame: &Frame,
    asks: &[Ask],
    keys: &[RoomKey],
) -> Result<Option<Answers>, db::Error> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let used = store::lock_headroom(&tx, keys.iter()).await?;
    if used.len() < keys.len() {
        tx.rollback().await?;
        return Ok(None);
    }
    let mut accounts: Vec<i64> = asks.iter().map(|ask| ask.entity.account_no).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let entities: Vec<budgets::Entity> = keys.iter().map(|key| key.0).collect();
    let campaigns: Vec<(i64, i64)> = asks.iter().map(Ask::key).collect();
    let (holds, limits, weeks, elsewhere, late, due) = tokio::try_join!(
        store::lock_usable_holds(&tx, &accounts, frame.resolves_at),
        budgets::states_for(&tx, &entities, frame.day),
        budgets::weeks_for(&tx, &entities, frame.day),
        store::elsewhere(&tx, &campaigns, frame.replica, frame.granted_at),
        store::late_hours(&tx, keys, frame.granted_at),
        due::today(&tx, &accounts, &campaigns, frame.day),
    )?;
    let in_hand: Vec<(i64, i64)> = asks.iter().filter_map(|ask| ask.in_hand(frame.day)).collect();
    let in_hand = if in_hand.is_empty() {
        HashMap::new()
    } else {
        store::lock_slices(&tx, in_hand.into_iter(), Patience::Wait).await?
    };
    let levels = HashMap::new();
    let mut table = Table { day: frame.day, used, levels, holds, late, due, in_hand };
    for ((entity, limits), week) in entities.iter().zip(limits).zip(weeks) {
        table.levels.insert(*entity, (limits, week));
    }
    let mut cuts = Vec::with_capacity(asks.len());
    for ask in asks {
        cuts.push(table.decide(ask, frame.replicas, elsewhere.get(&ask.key()).copied()));
    }
    let numbers = write(&tx, frame, asks, &cuts, &table).await?;
    tx.commit().await?;
    let answers = asks.iter().zip(cuts);
    let answers = answers.map(|(ask, (cut, extends))| answer(ask, cut, extends, &numbers, &table));
    Ok(Some(Answers {
        answers: answers.collect::<Result<_, _>>()?,
        hold_rooms: table.hold_rooms(&accounts),
    }))
}

/// What a grant decides on: locked rows, and what it has given away of them so far.
struct Table {
    day: Day,
    used: HashMap<RoomKey, Used>,
    levels: HashMap<budgets::Entity, (Limits, WeekSpent)>,
    holds: HashMap<i64, Vec<HoldRoom>>,
    /// What may still come late.
    late: HashMap<budgets::Entity, i64>,
    /// What conversions are expected to cost today.
    due: HashMap<budgets::Entity, i64>,
    /// Slices that may be extended.
    in_hand: HashMap<(i64, i64), Books>,
}

/// A slice that is extended, and what the books say of it.
type Extended = Option<(SliceKey, Reading)>;

impl Table {
    fn decide(
        &mut self,
        ask: &Ask,
        replicas: u32,
        elsewhere: Option<DateTime<Utc>>,
    ) -> (Cut, Extended) {
        let holds = self.holds.get(&ask.entity.account_no).map(Vec::as_slice).unwrap_or_default();
        let situation = Situation {
            campaign: self.room(ask.campaign()),
            account: self.room(ask.account()),
            holds,
            replicas,
            elsewhere_until: elsewhere,
        };
        let decided = match ask.form {
            Form::Whole | Form::Expected => None,
            Form::Extended(key, need) => self.extend(&key, &need, &situation),
        };
        let (cut, extended) = decided.unwrap_or_else(|| (rules::cut(&ask.need, &situation), None));
        if let Cut::Granted { amount_micros, hold_no, .. } = cut {
            for entity in [ask.campaign(), ask.account()] {
                self.used.entry((entity, self.day)).or_default().reserved_micros += amount_micros;
            }
            let holds = self.holds.entry(ask.entity.account_no).or_default();
            if let Some(hold) = holds.iter_mut().find(|hold| hold.hold_no == hold_no) {
                hold.room_micros -= amount_micros;
            }
        }
        (cut, extended)
    }

    /// Extends a slice out of its own hold. `None` where that cannot be, and another is to be cut.
    fn extend(
        &self,
        key: &SliceKey,
        need: &Need,
        situation: &Situation<'_>,
    ) -> Option<(Cut, Extended)> {
        let books = self.in_hand.get(&(key.account_no, key.slice_no))?;
        let hold = situation.holds.iter().find(|hold| hold.hold_no == key.hold_no)?;
        if books.state != SliceState::Open || !books.is_expected {
            return None;
        }
        let holds = std::slice::from_ref(hold);
        let cut = match rules::cut(need, &Situation { holds, ..*situation }) {
            // It has what it needs: only its time is to be longer.
            Cut::Refused(_) if need.least_micros <= 0 => {
                Cut::Granted { amount_micros: 0, hold_no: key.hold_no, then: None }
            }
            Cut::Refused(Bound::Funds) => return None,
            cut @ (Cut::Granted { .. } | Cut::Refused(_)) => cut,
        };
        let reading = Reading {
            amount_micros: books.amount_micros,
            charged_micros: books.charged_micros,
            closed_micros: books.closed_micros,
            ended_micros: books.ended_micros,
        };
        Some((cut, Some((*key, reading))))
    }

    fn room(&self, entity: budgets::Entity) -> Room {
        let used = self.used.get(&(entity, self.day)).copied().unwrap_or_default();
        let (limit_micros, bound) = match self.levels.get(&entity) {
            Some((limits, week)) => week::limit(&limits.state, self.day, week, limits.terms),
            None => (Some(0), week::Bound::DayCap),
        };
        Room {
            limit_micros,
            by_week: bound.is_week(),
            charged_micros: used.charged_micros,
            reserved_micros: used.reserved_micros,
            late_micros: self.late.get(&entity).copied().unwrap_or(0),
            due_micros: self.due.get(&entity).copied().unwrap_or(0),
        }
    }

    /// The bound with the moment of renewal, when only that helps.
    fn stop(&self, ask: &Ask, bound: Bound) -> Stop {
        let next_release = match bound {
            Bound::Limit { level, may_come_back: false, .. } => {
                let entity = match level {
                    Level::Campaign => ask.campaign(),
                    Level::Account => ask.account(),
                };
                self.levels.get(&entity).and_then(|(limits, week)| {
                    week::ceiling(&limits.state, self.day, week, limits.terms).next_release
                })
            }
            Bound::Limit { .. } | Bound::Elsewhere { .. } | Bound::Funds => None,
        };
        Stop { bound, next_release }
    }

    fn hold_rooms(&self, accounts: &[i64]) -> HashMap<i64, i64> {
        let room = |account: &i64| {
            let holds = self.holds.get(account).map(Vec::as_slice).unwrap_or_default();
            holds.iter().map(|hold| hold.room_micros).max().unwrap_or(0)
        };
        accounts.iter().map(|account| (*account, room(account))).collect()
    }
}

async fn write(
    tx: &db::Tx<'_>,
    frame: &Frame,
    asks: &[Ask],
    cuts: &[(Cut, Extended)],
    table: &Table,
) -> Result<HashMap<(i64, i64), i64>, db::Error> {
    let mut slices = Vec::new();
    let mut extended = Vec::new();
    let mut rooms: HashMap<RoomKey, Move> = HashMap::new();
    let mut holds: HashMap<store::HoldKey, i64> = HashMap::new();
    for (ask, (cut, extends)) in asks.iter().zip(cuts) {
        let Cut::Granted { amount_micros, hold_no, .. } = *cut else { continue };
        let (account_no, campaign_no) = ask.key();
        let is_expected = ask.form != Form::Whole;
        match extends {
            Some((key, _)) => extended.push((*key, amount_micros)),
            None => slices.push(NewSlice {
                account_no,
                campaign_no,
                hold_no,
                amount_micros,
                is_expected,
            }),
        }
        *holds.entry((account_no, hold_no)).or_default() += amount_micros;
        for entity in [ask.campaign(), ask.account()] {
            let room = rooms.entry((entity, frame.day)).or_default();
            room.moved_micros += amount_micros;
            room.limit_micros = table.room(entity).limit_micros;
        }
    }
    if slices.is_empty() && extended.is_empty() {
        return Ok(HashMap::new());
    }
    let Frame { replica, day, granted_at, expires_at, resolves_at, .. } = *frame;
    let terms = Terms { replica, day, granted_at, expires_at, resolves_at };
    let (numbers, (), (), ()) = tokio::try_join!(
        store::insert_slices(tx, &slices, &terms),
        store::extend_slices(tx, &extended, &terms),
        store::move_headroom(tx, &rooms),
        store::move_holds(tx, &holds, Some(granted_at)),
    )?;
    Ok(numbers)
}

fn answer(
    ask: &Ask,
    cut: Cut,
    extends: Extended,
    numbers: &HashMap<(i64, i64), i64>,
    table: &Table,
) -> Result<Answer, db::Error> {
    match cut {
        Cut::Refused(bound) => Ok(Answer::Refused(table.stop(ask, bound))),
        Cut::Granted { amount_micros, hold_no, then } => {
            let slice_no = match extends {
                Some((key, _)) => Some(key.slice_no),
                None => numbers.get(&ask.key()).copied(),
            };
            let slice_no = slice_no.ok_or_else(|| db::Error::other("a slice without a number"))?;
            let then = then.map(|bound| table.stop(ask, bound));
            let limited = [ask.campaign(), ask.account()]
                .into_iter()
                .any(|entity| table.room(entity).limit_micros.is_some());
            let extended = extends.map(|(_, reading)| reading);
            Ok(Answer::Granted { slice_no, hold_no, amount_micros, then, extended, limited })
        }
    }
}
