//! Group commit: one task per shard writes what many callers want, in one transaction after the
//! other. While one is being written the next fills.
//!
//! | phase | statements | bound |
//! |---|---|---|
//! | gather | – | `group_charges`, and one wait of `linger` when the callers of the last group are about to come back |
//! | lock | headroom, holds, slices; one round trip | rows of the group's slices |
//! | look up | ids, ends; none for new charges of slices without cancellations | the group's items |
//! | fold | – | memory only |
//! | write | COPY of charges, then six statements in one round trip | the group's items |
//! | commit | one flush | |
//!
//! A repeat makes the COPY fail on a unique index; the group is then written again with every item
//! looked up first, and so are the next few. What no retry helps, such as a broken row of one
//! account, fails only the callers whose own part fails alone.

use std::time::Duration;

use adspend_common::db::{self, Pool, Tx};
use adspend_common::time::Clock;
use foldhash::{HashMap, HashMapExt};
use rand::Rng;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batch::{self, Folded, Known, Plan, SliceRow};
use super::item::{Item, Verdict};
use super::lags::Lags;
use super::metrics::Metrics;
use super::rules::Ended;
use super::{Error, Settings, arrivals, store};

/// How often a group is tried before its callers are told: contention ends within a few.
const ATTEMPTS: u32 = 6;
/// The longest wait before the second attempt; it doubles from attempt to attempt.
const FIRST_WAIT: Duration = Duration::from_millis(5);
/// How many groups after a repeat look everything up at once: repeats come in bursts.
const CAREFUL_GROUPS: u32 = 8;
/// Unique indexes whose violation means that a charge came before.
const REPEATS: [&str; 3] = ["charge_pkey", "charge_once_per_admission", "late_charge_pkey"];

/// A verdict for each item of a caller, or why there is none.
pub(super) type Answer = Result<Vec<Verdict>, Error>;

/// How many items a caller has, and where its answer goes.
type Caller = (usize, oneshot::Sender<Answer>);

/// What one caller wants.
pub(super) struct Work {
    pub(super) items: Vec<Item>,
    pub(super) reply: oneshot::Sender<Answer>,
    /// Its place in the queue; free again when the answer is there.
    pub(super) room: OwnedSemaphorePermit,
}

/// Writes the groups of one shard.
pub(super) struct Writer {
    pub(super) db: Pool,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    pub(super) queue: mpsc::UnboundedReceiver<Work>,
    pub(super) closed: CancellationToken,
    pub(super) metrics: Metrics,
    pub(super) lags: Lags,
    /// Items of the last group.
    pub(super) previous: usize,
    /// How many groups more look everything up.
    pub(super) careful: u32,
}

/// Works that are written together.
#[derive(Default)]
struct Group {
    items: Vec<Item>,
    /// In the order of their items.
    callers: Vec<Caller>,
    rooms: Vec<OwnedSemaphorePermit>,
}

impl Group {
    /// Work whose caller has gone is not begun.
    fn add(&mut self, work: Work) {
        if !work.reply.is_closed() {
            self.callers.push((work.items.len(), work.reply));
            self.items.extend(work.items);
            self.rooms.push(work.room);
        }
    }
}

/// Why an attempt came to nothing.
enum Failed {
    /// A unique index knows one of the charges.
    Repeat,
    /// Headroom rows were missing; they are there now.
    RowsAdded,
    Overflow,
    Db(db::Error),
}

impl From<db::Error> for Failed {
    fn from(error: db::Error) -> Failed {
        match error.constraint() {
            Some(name) if REPEATS.contains(&name) => Failed::Repeat,
            Some(_) | None => Failed::Db(error),
        }
    }
}

impl Writer {
    /// Runs until every handle is dropped, or the queue was closed, and all of it is answered.
    pub(super) async fn run(mut self) {
        while let Some(group) = self.next_group().await {
            if !group.items.is_empty() {
                self.answer(group).await;
            }
        }
    }

    async fn next_group(&mut self) -> Option<Group> {
        let first = tokio::select! {
            biased;
            work = self.queue.recv() => work?,
            () = self.closed.cancelled() => {
                self.queue.close();
                self.queue.recv().await?
            }
        };
        let mut group = Group::default();
        group.add(first);
        self.fill(&mut group);
        if group.items.len() < self.previous / 2 && !self.settings.linger.get().is_zero() {
            tokio::time::sleep(self.settings.linger.get()).await;
            self.fill(&mut group);
        }
        self.previous = group.items.len();
        Some(group)
    }

    fn fill(&mut self, group: &mut Group) {
        while group.items.len() < self.settings.group_charges {
            match self.queue.try_recv() {
                Ok(work) => group.add(work),
                Err(_) => break,
            }
        }
    }

    async fn answer(&mut self, group: Group) {
        let Group { items, callers, rooms } = group;
        let result = self.write(&items).await;
        match result {
            Ok(verdicts) => {
                let mut verdicts = verdicts.into_iter();
                for (count, reply) in callers {
                    // A caller that has gone asks again with the same id.
                    let _ = reply.send(Ok(verdicts.by_ref().take(count).collect()));
                }
            }
            Err(error) if error.is_about_content() && callers.len() > 1 => {
                self.answer_apart(&items, callers).await;
            }
            Err(error) => {
                for (_, reply) in callers {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
        drop(rooms);
    }

    /// Each caller for itself, because something in the group cannot be written.
    async fn answer_apart(&mut self, mut items: &[Item], callers: Vec<Caller>) {
        for (count, reply) in callers {
            let (own, rest) = items.split_at(count.min(items.len()));
            items = rest;
            let _ = reply.send(self.write(own).await);
        }
    }

    async fn write(&mut self, items: &[Item]) -> Result<Vec<Verdict>, Error> {
        let mut complete = self.careful > 0;
        self.careful = self.careful.saturating_sub(1);
        let mut unknown = None;
        let mut latest = None;
        let began = Instant::now();
        for attempt in 1..=ATTEMPTS {
            if latest.is_some() {
                tokio::time::sleep(jittered(attempt)).await;
            }
            match self.attempt(items, complete).await {
                Ok(folded) => {
                    self.metrics.wrote(&folded, began.elapsed());
                    self.lags.note(items, &folded.verdicts, self.clock.now());
                    return Ok(folded.verdicts);
                }
                Err(Failed::RowsAdded) => {}
                Err(Failed::Repeat) if !complete => {
                    complete = true;
                    self.careful = CAREFUL_GROUPS;
                }
                // Somebody else is writing the same charge at this moment.
                Err(Failed::Repeat) => {
                    latest = Some(db::Error::other("the same charges were written all the time"));
                }
                Err(Failed::Overflow) => return Err(Error::Overflow),
                Err(Failed::Db(error @ db::Error::Contention { .. })) => latest = Some(error),
                Err(Failed::Db(error @ db::Error::OutcomeUnknown(_))) => {
                    // The charges themselves tell whether they were written.
                    complete = true;
                    latest = Some(error.clone());
                    unknown = Some(error);
                }
                Err(Failed::Db(error @ db::Error::Unavailable(_))) if unknown.is_some() => {
                    latest = Some(error);
                }
                Err(Failed::Db(error)) => return Err(Error::Db(unknown.unwrap_or(error))),
            }
        }
        Err(Error::Db(unknown.or(latest).unwrap_or_else(|| db::Error::other("no attempt"))))
    }

    async fn attempt(&self, items: &[Item], complete: bool) -> Result<Folded, Failed> {
        let now = self.clock.now();
        let plan = Plan::of(items, now);
        let mut client = self.db.get().await?;
        let tx = client.transaction().await?;
        let (found, slices) = store::lock(&tx, &plan.headroom, &plan.slices).await?;
        if found < plan.headroom.len() {
            tx.rollback().await?;
            store::add_headroom_rows(&client, &plan.headroom).await?;
            return Err(Failed::RowsAdded);
        }
        let mut known = look_up(&tx, items, &plan, &slices, complete).await?;
        known.left = arrivals::left(&tx, items, &plan, &slices, now).await?;
        let folded =
            batch::fold(items, &plan, &slices, known, now).map_err(|_| Failed::Overflow)?;
        store::write(&tx, items, &folded, now).await?;
        let life = self.settings.token_life.as_micros();
        let life = i64::try_from(life).unwrap_or(i64::MAX);
        arrivals::add_delays(&tx, &folded.conversions, now, life).await?;
        tx.commit().await?;
        Ok(folded)
    }
}

/// What the database knows: of everything, or only of what a cancellation is about.
async fn look_up<'a>(
    tx: &Tx<'_>,
    items: &'a [Item],
    plan: &Plan,
    slices: &[Option<SliceRow>],
    complete: bool,
) -> Result<Known<'a>, db::Error> {
    let mut charges = Vec::new();
    let mut maybe_settled = Vec::new();
    let mut maybe_cancelled = Vec::new();
    for (position, item) in items.iter().enumerate() {
        if let (Item::Charge(charge), true) = (item, complete) {
            charges.push(charge);
        }
        let Some(token) = item.token() else { continue };
        let key = (token.account_no, token.slice_no, token.admission_no);
        let is_cancel = matches!(item, Item::Cancel(_));
        if complete || is_cancel {
            maybe_settled.push(key);
        }
        let slice = plan.slice_of(position).and_then(|at| slices.get(at).copied().flatten());
        if slice.is_some_and(|slice| slice.has_cancellations) {
            maybe_cancelled.push(key);
        }
    }
    let mut known = Known { complete, ..Known::default() };
    if charges.is_empty() && maybe_settled.is_empty() && maybe_cancelled.is_empty() {
        return Ok(known);
    }
    let (found, settled, cancelled) = tokio::try_join!(
        biased;
        async {
            if charges.is_empty() {
                Ok(Vec::new())
            } else {
                store::find_charges(tx, &charges).await
            }
        },
        store::find_settled(tx, &maybe_settled),
        store::find_cancelled(tx, &maybe_cancelled),
    )?;
    known.by_id = HashMap::with_capacity(found.len());
    for (position, recorded) in found {
        if let Some(charge) = charges.get(position) {
            known.by_id.insert((charge.account_no(), charge.id.as_str()), recorded);
        }
    }
    for key in settled.iter().filter_map(|at| maybe_settled.get(*at)) {
        known.ended.insert(*key, Ended::Settled);
    }
    for key in cancelled.iter().filter_map(|at| maybe_cancelled.get(*at)) {
        known.ended.insert(*key, Ended::Cancelled);
    }
    Ok(known)
}

/// Anywhere between nothing and the full wait, so that those who met do not meet again.
fn jittered(attempt: u32) -> Duration {
    let full = FIRST_WAIT.saturating_mul(1 << attempt.min(8));
    full.mul_f64(rand::rng().random_range(0.0..=1.0))
}
