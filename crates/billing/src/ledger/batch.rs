//! Group commit: concurrent callers share one transaction, with a verdict each.
//!
//! While one batch is being written the next one fills, so a batch is as large as the load makes it; it
//! waits a millisecond at most ([`GATHER`]), and only for callers that the load has shown to be there. A
//! hot account costs nothing extra: its items are folded in memory and its row is updated once a batch.
//! Shards follow the tenant, so requests to one account keep their order.
//!
//! Repeats. A batch is written as if every id were new (an id that exists makes the counts differ); only
//! then is it rolled back and done again with a look at which ids exist. What is refused is looked for before
//! it is answered: it may repeat what was booked when there was more money. Equal ids within one batch are
//! one call. A lost connection during COMMIT leaves the outcome unknown: the batch is done again, and what had
//! been booked answers as replayed.
//!
//! Bounds: [`MAX_POSTINGS`] a transaction, [`MAX_WAITING`] postings a shard in the queue; more is refused at
//! once ([`Error::Overloaded`]), because a queue without a bound turns overload into silence.

use std::{
    collections::{HashMap, HashSet, hash_map},
    sync::Arc,
    time::Duration,
};

use adspend_common::{
    db::{self, Contended as _, Pool, Tx},
    time::Clock,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, sleep, timeout_at},
};
use uuid::Uuid;

use super::{
    AccountKey, Actor, Error, MAX_POSTINGS, Place, Posted, Posting, Refusal, TenantNo, store,
};

/// Postings that may wait in one shard: about half a second of work.
pub const MAX_WAITING: usize = 10_000;

/// How long a batch waits for callers that the last ones had and this one lacks: those who were answered
/// a moment ago and are about to ask again. Without it every other batch would hold the first of them to
/// come back and nobody else, at the price of a whole transaction. A caller that is alone never waits.
const GATHER: Duration = Duration::from_millis(1);

/// Tries of one batch against contention or a lost connection.
const TRIES: u32 = 8;

/// The verdict on one posting.
pub type Verdict = Result<Posted, Refusal>;

/// Whether items of one call stand or fall together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    /// All or none.
    Yes,
    /// Each for itself.
    No,
}

struct Work {
    actor: Actor,
    postings: Vec<Posting>,
    linked: Linked,
    reply: oneshot::Sender<Result<Vec<Verdict>, Error>>,
    _room: tokio::sync::OwnedSemaphorePermit,
}

struct Shard {
    queue: mpsc::Sender<Work>,
    room: Arc<Semaphore>,
}

/// The way in for callers that only move money. Cheap to clone; the last clone's drop ends the tasks.
#[derive(Clone)]
pub struct Poster {
    shards: Arc<[Shard]>,
}

impl std::fmt::Debug for Poster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poster").field("shards", &self.shards.len()).finish()
    }
}

impl Poster {
    /// Starts `shards` poster tasks (at least one). One or two are enough for one database.
    pub fn start(pool: &Pool, clock: &Clock, shards: usize) -> Poster {
        let shard = |_| {
            let (queue, works) = mpsc::channel(MAX_WAITING);
            let (pool, clock) = (pool.clone(), clock.clone());
            // Ends when the last sender is gone, after what was queued is answered.
            tokio::spawn(async move { run(pool, clock, works).await });
            Shard { queue, room: Arc::new(Semaphore::new(MAX_WAITING)) }
        };
        Poster { shards: (0..shards.max(1)).map(shard).collect() }
    }

    /// Books one posting.
    pub async fn post(&self, actor: Actor, posting: Posting) -> Result<Posted, Error> {
        let shard = self.shard(posting.tenant);
        let mut verdicts = self.submit(shard, actor, vec![posting], Linked::No)?.wait().await?;
        Ok(verdicts.pop().ok_or(Error::Stopping)??)
    }

    /// Books many: each for itself, or all or none (then of one tenant). Verdicts come in the order given.
    pub async fn post_all(
        &self,
        actor: Actor,
        postings: Vec<Posting>,
        linked: Linked,
    ) -> Result<Vec<Verdict>, Error> {
        let count = postings.len();
        let mut parts: HashMap<usize, (Vec<usize>, Vec<Posting>)> = HashMap::new();
        for (position, posting) in postings.into_iter().enumerate() {
            let shard = match linked {
                Linked::No => self.shard(posting.tenant),
                Linked::Yes => parts.keys().next().copied().unwrap_or(self.shard(posting.tenant)),
            };
            let part = parts.entry(shard).or_default();
            part.0.push(position);
            part.1.push(posting);
        }
        let mut waiting = Vec::with_capacity(parts.len());
        for (shard, (positions, postings)) in parts {
            waiting.push((positions, self.submit(shard, actor.clone(), postings, linked)?));
        }
        let mut verdicts: Vec<Option<Verdict>> = (0..count).map(|_| None).collect();
        for (positions, reply) in waiting {
            for (position, verdict) in positions.into_iter().zip(reply.wait().await?) {
                verdicts[position] = Some(verdict);
            }
        }
        verdicts.into_iter().collect::<Option<Vec<_>>>().ok_or(Error::Stopping)
    }

    fn shard(&self, tenant: TenantNo) -> usize {
        let shards = i64::try_from(self.shards.len()).unwrap_or(1);
        usize::try_from(tenant.0.rem_euclid(shards)).unwrap_or(0)
    }

    fn submit(
        &self,
        shard: usize,
        actor: Actor,
        postings: Vec<Posting>,
        linked: Linked,
    ) -> Result<Reply, Error> {
        let shard = &self.shards[shard];
        let room = u32::try_from(postings.len().min(MAX_WAITING)).unwrap_or(u32::MAX);
        let room =
            shard.room.clone().try_acquire_many_owned(room).map_err(|_| Error::Overloaded)?;
        let (reply, answer) = oneshot::channel();
        let work = Work { actor, postings, linked, reply, _room: room };
        shard.queue.try_send(work).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::Stopping,
        })?;
        Ok(Reply(answer))
    }
}

struct Reply(oneshot::Receiver<Result<Vec<Verdict>, Error>>);

impl Reply {
    async fn wait(self) -> Result<Vec<Verdict>, Error> {
        self.0.await.map_err(|_| Error::Stopping)?
    }
}

async fn run(pool: Pool, clock: Clock, mut works: mpsc::Receiver<Work>) {
    let mut next = None;
    // Postings of the last batches: what the present load fills a batch with.
    let mut usual = 0_usize;
    loop {
        let first = match next.take() {
            Some(work) => work,
            None => match works.recv().await {
                Some(work) => work,
                None => return,
            },
        };
        let (mut batch, rest) = gather(first, &mut usual, &mut works).await;
        next = rest;
        // A caller that has gone before its work began wants no effect.
        batch.retain(|work| !work.reply.is_closed());
        if !batch.is_empty() {
            answer(&pool, &clock, batch).await;
        }
    }
}

/// A batch that begins with this work, and work that does not fit into it any more.
async fn gather(
    first: Work,
    usual: &mut usize,
    works: &mut mpsc::Receiver<Work>,
) -> (Vec<Work>, Option<Work>) {
    let mut count = first.postings.len();
    let mut batch = vec![first];
    let mut rest = None;
    let mut until = None;
    loop {
        let work = match works.try_recv() {
            Ok(work) => work,
            Err(_) if count.saturating_mul(4) >= usual.saturating_mul(3) => break,
            Err(_) => {
                let until = *until.get_or_insert_with(|| Instant::now() + GATHER);
                match timeout_at(until, works.recv()).await {
                    Ok(Some(work)) => work,
                    Ok(None) | Err(_) => break,
                }
            }
        };
        if count.saturating_add(work.postings.len()) > MAX_POSTINGS {
            rest = Some(work);
            break;
        }
        count = count.saturating_add(work.postings.len());
        batch.push(work);
    }
    *usual = usual.midpoint(count);
    (batch, rest)
}

/// What one call asks for.
type Item<'a> = (&'a Actor, &'a [Posting], Linked);

async fn answer(pool: &Pool, clock: &Clock, batch: Vec<Work>) {
    let items: Vec<Item<'_>> =
        batch.iter().map(|work| (&work.actor, work.postings.as_slice(), work.linked)).collect();
    match post_with_retries(pool, clock, &items).await {
        Ok(verdicts) => {
            for (work, verdicts) in batch.into_iter().zip(verdicts) {
                let _ = work.reply.send(Ok(verdicts));
            }
        }
        Err(error) => {
            for work in batch {
                let _ = work.reply.send(Err(Error::Db(error.clone())));
            }
        }
    }
}

async fn post_with_retries(
    pool: &Pool,
    clock: &Clock,
    batch: &[Item<'_>],
) -> Result<Vec<Vec<Verdict>>, db::Error> {
    let mut look = Look::Skip;
    let mut tries = 0;
    loop {
        tries += 1;
        match post_once(pool, clock, batch, look).await {
            Ok(Some(verdicts)) => return Ok(verdicts),
            // Ids exist: look for them. Racing writers may make that happen again.
            Ok(None) if tries < TRIES => look = Look::First,
            Ok(None) => return Err(db::Error::other("a posting id keeps changing".to_owned())),
            Err(error) if tries < TRIES && error.is_contention() => {}
            Err(db::Error::OutcomeUnknown(_)) if tries < TRIES => look = Look::First,
            Err(error) => return Err(error),
        }
        if tries > 1 {
            let pause = rand::random_range(1..=2_u64.pow(tries.min(6)));
            sleep(Duration::from_millis(pause)).await;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Skip,
    First,
}

type Id = (TenantNo, Uuid);

/// One transaction. None when an id exists that was thought new.
async fn post_once(
    pool: &Pool,
    clock: &Clock,
    batch: &[Item<'_>],
    look: Look,
) -> Result<Option<Vec<Vec<Verdict>>>, db::Error> {
    let mut client = pool.get().await?;
    let all = || batch.iter().flat_map(|(_, postings, _)| postings.iter());
    let (tx, mut locked) =
        store::begin_and_lock(&mut client, clock.now(), &accounts(all())).await?;
    let mut known: HashMap<Id, (i64, Verdict)> = HashMap::new();
    if look == Look::First {
        let ids: HashSet<Id> = all().map(|posting| (posting.tenant, posting.id)).collect();
        let ids: Vec<Id> = ids.into_iter().collect();
        for (id, (hash, posted)) in store::replay(&tx, &ids).await? {
            known.insert(id, (hash, Ok(posted)));
        }
    }
    let mut verdicts = Vec::with_capacity(batch.len());
    for (actor, postings, linked) in batch {
        locked.on_behalf_of(actor);
        verdicts.push(match linked {
            Linked::No => {
                postings.iter().map(|posting| one(&mut locked, &mut known, posting)).collect()
            }
            Linked::Yes => group(&mut locked, &mut known, postings),
        });
    }
    if look == Look::Skip && any_refused_before(&tx, batch, &verdicts).await? {
        tx.rollback().await?;
        return Ok(None);
    }
    Ok(match store::write_and_commit(tx, locked).await? {
        store::Written::All => Some(verdicts),
        store::Written::Repeated => None,
    })
}

/// A posting that is refused now may be the repeat of one that was booked when there was more money: it must
/// get its first answer. Costs a round trip only when something was refused.
async fn any_refused_before(
    tx: &Tx<'_>,
    batch: &[Item<'_>],
    verdicts: &[Vec<Verdict>],
) -> Result<bool, db::Error> {
    let refused: HashSet<Id> = batch
        .iter()
        .zip(verdicts)
        .flat_map(|((_, postings, _), verdicts)| postings.iter().zip(verdicts))
        .filter(|(_, verdict)| verdict.is_err())
        .map(|(posting, _)| (posting.tenant, posting.id))
        .collect();
    if refused.is_empty() {
        return Ok(false);
    }
    let refused: Vec<Id> = refused.into_iter().collect();
    store::any_booked(tx, &refused).await
}

fn accounts<'a>(postings: impl Iterator<Item = &'a Posting>) -> Vec<AccountKey> {
    let mut keys = Vec::new();
    for posting in postings {
        for place in posting.legs.iter().flat_map(|leg| [leg.from, leg.to]) {
            let account = match place {
                Place::Main(account) | Place::Held(account) | Place::Frozen(account) => account,
                Place::Counter(_) => continue,
            };
            keys.push(AccountKey { tenant: posting.tenant, account });
        }
    }
    keys
}

fn one(
    locked: &mut store::Locked,
    known: &mut HashMap<Id, (i64, Verdict)>,
    posting: &Posting,
) -> Verdict {
    match known.entry((posting.tenant, posting.id)) {
        hash_map::Entry::Occupied(before) => repeat(before.get(), posting),
        hash_map::Entry::Vacant(new) => {
            let posted = locked.post(posting)?;
            // Only what is booked burns its id.
            new.insert((posting.payload_hash, Ok(posted.clone())));
            Ok(posted)
        }
    }
}

fn repeat((hash, verdict): &(i64, Verdict), posting: &Posting) -> Verdict {
    if *hash != posting.payload_hash {
        return Err(Refusal::RequestIdReused);
    }
    verdict.clone().map(|posted| Posted { replayed: true, ..posted })
}

/// A group is new as a whole or a repeat as a whole: when some of its ids are known, the known ones answer
/// and the others are booked with what was decided then.
fn group(
    locked: &mut store::Locked,
    known: &mut HashMap<Id, (i64, Verdict)>,
    postings: &[Posting],
) -> Vec<Verdict> {
    let mut seen: HashSet<Id> = HashSet::new();
    let reused = postings.iter().any(|posting| {
        known
            .get(&(posting.tenant, posting.id))
            .is_some_and(|(hash, _)| *hash != posting.payload_hash)
    });
    let new: Vec<&Posting> = postings
        .iter()
        .filter(|posting| {
            let id = (posting.tenant, posting.id);
            !known.contains_key(&id) && seen.insert(id)
        })
        .collect();
    if !reused {
        for (posting, verdict) in new.iter().zip(locked.post_group(&new)) {
            known.insert((posting.tenant, posting.id), (posting.payload_hash, verdict));
        }
    }
    let mut answered: HashSet<Id> = HashSet::new();
    let fresh: HashSet<Id> = new.iter().map(|posting| (posting.tenant, posting.id)).collect();
    postings
        .iter()
        .map(|posting| {
            let id = (posting.tenant, posting.id);
            match known.get(&id) {
                None => Err(Refusal::GroupAborted),
                Some(before) if fresh.contains(&id) && answered.insert(id) => before.1.clone(),
                Some(before) if reused && before.0 == posting.payload_hash => {
                    Err(Refusal::GroupAborted)
                }
                Some(before) => repeat(before, posting),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// One caller with one posting; what is in it does not matter here.
    fn work() -> Work {
        let posting =
            Posting { id: Uuid::nil(), tenant: TenantNo(1), legs: Vec::new(), payload_hash: 0 };
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let caller = Arc::new(adspend_common::identity::Caller::operator());
        Work {
            actor: Actor { caller, method: "Test" },
            postings: vec![posting],
            linked: Linked::No,
            reply: oneshot::channel().0,
            _room: room,
        }
    }

    #[tokio::test]
    async fn a_lone_caller_waits_for_nobody() {
        let (_queue, mut works) = mpsc::channel(8);
        let mut usual = 0;
        for _ in 0..3 {
            let gathered = gather(work(), &mut usual, &mut works).now_or_never();
            assert_eq!(gathered.map(|(batch, _)| batch.len()), Some(1));
        }
    }

    #[tokio::test]
    async fn a_batch_waits_only_for_callers_that_the_last_ones_had() {
        let (queue, mut works) = mpsc::channel(8);
        assert!(gather(work(), &mut 8, &mut works).now_or_never().is_none(), "seven are missing");
        for _ in 0..5 {
            assert!(queue.try_send(work()).is_ok());
        }
        let mut usual = 8;
        let gathered = gather(work(), &mut usual, &mut works).now_or_never();
        assert_eq!(gathered.map(|(batch, _)| batch.len()), Some(6), "three of four are enough");
        assert_eq!(usual, 7);
        // Who does not come back is waited for less and less.
        for usual_then in [4, 2, 1] {
            assert_eq!(gather(work(), &mut usual, &mut works).await.0.len(), 1);
            assert_eq!(usual, usual_then);
        }
    }
}
