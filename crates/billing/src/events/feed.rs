//! Hands events out: at least once, in the order of each tenant, and only what cannot be lost any more.
//!
//! An event is visible as soon as its commit is, but a commit whose wait for the standby was cut short is
//! visible too, and a failover may lose it. So the feed writes before it hands out: [`Feed::publish`] gives
//! positions to what has none, moves the head, and commits. That commit waits for the standby, behind every
//! commit that was read; when it succeeds, what stands up to the head is safe. Every process hands out only
//! up to the head that it has itself committed.
//!
//! | who | does | how often |
//! |---|---|---|
//! | the feed's task | looks whether anything is new: one read of one row | every [`LOOK_EVERY`], while somebody watches |
//! | the same | claims what is new: one small transaction | when there is something, [`CLAIMED_AT_ONCE`] at once |
//! | a watcher | reads a page of its events | when its tenant has new ones |
//!
//! Nothing runs while nobody watches: events wait for their first position.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use adspend_common::{
    db::{self, Pool},
    server::Stop,
    telemetry::Telemetry,
};
use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};

use super::{Event, Happened, store};
use crate::{ledger::TenantNo, requests::detached};

/// How often the feed looks for new events: most of the delay between a commit and its event.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long it waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Events that one transaction claims.
const CLAIMED_AT_ONCE: i64 = 1_000;
/// Events that a watcher reads at once: bounds what a slow reader keeps in memory.
const PAGE: i64 = 200;
/// Events that one statement deletes.
const FORGOTTEN_AT_ONCE: i64 = 1_000;
/// The head before this process has committed one.
const NOTHING_YET: i64 = -1;
/// Streams of one caller: a client that forgets to end its own must not take everybody's places.
pub(crate) const STREAMS_OF_A_CALLER: usize = 10;

/// Why a stream ends, or does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The caller has its streams already.
    #[error("this caller has {STREAMS_OF_A_CALLER} streams open")]
    TooMany,
    /// What comes after the token is not kept any more.
    #[error(
        "events after the resume token are not kept any more: the next one is {next}, not {expected}"
    )]
    Forgotten { expected: i64, next: i64 },
    /// The next event was recorded by a newer version than this replica is of.
    #[error("the next event is of a newer version; another replica knows it")]
    Newer,
    /// The store failed.
    #[error("event storage failed")]
    Db(#[from] db::Error),
}

/// Hands events out. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Feed(Arc<Inner>);

struct Inner {
    pool: Pool,
    /// The head that this process has committed.
    head: watch::Sender<i64>,
    /// One claim at a time.
    claiming: tokio::sync::Mutex<()>,
    /// The last number of each tenant with new events, since this process began to publish.
    last: Mutex<HashMap<TenantNo, i64>>,
    /// Open streams by caller.
    streams: Mutex<HashMap<String, usize>>,
    arrived: Notify,
    sent: AtomicU64,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Feed")
    }
}

impl Feed {
    /// Hands nothing out until somebody watches.
    pub(crate) fn new(pool: &Pool) -> Feed {
        Feed(Arc::new(Inner {
            pool: pool.clone(),
            head: watch::Sender::new(NOTHING_YET),
            claiming: tokio::sync::Mutex::default(),
            last: Mutex::default(),
            streams: Mutex::default(),
            arrived: Notify::new(),
            sent: AtomicU64::new(0),
        }))
    }

    /// Looks for new events while somebody watches, until the service stops.
    pub(crate) async fn run(self, stop: Stop) {
        loop {
            let wait = async {
                if self.streams() == 0 {
                    self.0.arrived.notified().await;
                }
                let published = detached(self.clone().publish()).await;
                if let Err(error) = &published {
                    tracing::warn!(%error, "events could not be handed out; it is tried again");
                }
                let pause = if published.is_ok() { LOOK_EVERY } else { AFTER_FAILURE };
                tokio::time::sleep(pause).await;
            };
            tokio::select! {
                () = stop.stopping().cancelled() => return,
                () = wait => {}
            }
        }
    }

    /// Declares the metrics.
    pub(crate) fn observe(&self, telemetry: &Telemetry) {
        let meter = telemetry.meter();
        let (streams, sent) = (self.clone(), self.clone());
        meter
            .u64_observable_gauge("billing.events.streams")
            .with_description("Streams of events that are open")
            .with_callback(move |gauge| gauge.observe(streams.streams() as u64, &[]))
            .build();
        meter
            .u64_observable_counter("billing.events.sent")
            .with_description("Events that were sent, counted once for each stream")
            .with_callback(move |counter| counter.observe(sent.0.sent.load(Ordering::Relaxed), &[]))
            .build();
    }

    /// Open streams, of everybody.
    fn streams(&self) -> usize {
        self.0.streams.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Makes everything that is committed now safe to hand out, and gives the head.
    async fn publish(self) -> Result<i64, db::Error> {
        let Inner { pool, head, claiming, .. } = &*self.0;
        let _one_at_a_time = claiming.lock().await;
        let mut client = pool.get().await?;
        loop {
            let known = *head.borrow();
            let (reached, pending) = store::standing(&client).await?;
            if reached == known && !pending {
                return Ok(known);
            }
            let tx = client.transaction().await?;
            let (position, more) = store::claim(&tx, CLAIMED_AT_ONCE).await?;
            tx.commit().await?;
            // What came before the first stream is read by each stream itself.
            let advanced = match known {
                NOTHING_YET => Vec::new(),
                _ => store::advanced(&client, known, position).await?,
            };
            self.0.last.lock().unwrap_or_else(PoisonError::into_inner).extend(advanced);
            head.send_replace(position);
            if !more {
                return Ok(position);
            }
        }
    }

    /// Whether a stream of the tenant may have more than up to a place, at this head.
    fn may_have_more(&self, tenant: Option<TenantNo>, place: i64, head: i64) -> bool {
        match tenant {
            None => place < head,
            Some(tenant) => {
                let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
                last.get(&tenant).is_some_and(|last| place < *last)
            }
        }
    }

    /// Deletes events from before a moment.
    pub(crate) async fn forget(&self, before: DateTime<Utc>) -> Result<(), db::Error> {
        // What nobody has watched has no position yet, and is forgotten in the same order.
        detached(self.clone().publish()).await?;
        let full = u64::try_from(FORGOTTEN_AT_ONCE).unwrap_or(u64::MAX);
        let client = self.0.pool.get().await?;
        while store::forget(&client, before, FORGOTTEN_AT_ONCE).await? >= full {}
        Ok(())
    }

    /// A stream of what a caller sees, after a place.
    pub(crate) async fn watch(
        &self,
        caller: String,
        tenant: Option<TenantNo>,
        after: Option<i64>,
    ) -> Result<Watch, Refusal> {
        let place = Stream::open(self, caller)?;
        self.0.arrived.notify_one();
        // Before the look at the head: what is published from here on is noticed.
        let heads = self.0.head.subscribe();
        let began_at = detached(self.clone().publish()).await?;
        Ok(Watch {
            feed: self.clone(),
            _stream: place,
            heads,
            tenant,
            place: after.unwrap_or(0),
            // Without a token the oldest that is kept may have any number.
            contiguous: after.is_some(),
            began_at,
            read_up_to: NOTHING_YET,
            page: VecDeque::new(),
        })
    }
}

/// The place of a stream among its caller's; free again when dropped.
struct Stream {
    feed: Feed,
    caller: String,
}

impl Stream {
    fn open(feed: &Feed, caller: String) -> Result<Stream, Refusal> {
        let mut streams = feed.0.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let open = streams.entry(caller.clone()).or_default();
        if *open >= STREAMS_OF_A_CALLER {
            return Err(Refusal::TooMany);
        }
        *open += 1;
        Ok(Stream { feed: feed.clone(), caller })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut streams = self.feed.0.streams.lock().unwrap_or_else(PoisonError::into_inner);
        match streams.get_mut(&self.caller) {
            Some(open) if *open > 1 => *open -= 1,
            Some(_) | None => {
                streams.remove(&self.caller);
            }
        }
    }
}

/// One stream of events.
pub(crate) struct Watch {
    feed: Feed,
    _stream: Stream,
    heads: watch::Receiver<i64>,
    tenant: Option<TenantNo>,
    /// Of the last event that was given.
    place: i64,
    /// Whether the next event must be the one after `place`.
    contiguous: bool,
    /// The head when the stream began.
    began_at: i64,
    /// The head up to which everything was read.
    read_up_to: i64,
    page: VecDeque<Happened<Option<Event>>>,
}

impl Watch {
    /// Where the stream stands: the place of the last event that it gave.
    pub(crate) fn place(&self) -> i64 {
        self.place
    }

    /// The next event that can be given without waiting for one to happen.
    pub(crate) async fn next(&mut self) -> Result<Option<Happened<Event>>, Refusal> {
        if self.page.is_empty() {
            self.read().await?;
        }
        let Some(happened) = self.page.pop_front() else { return Ok(None) };
        let expected = self.place.saturating_add(1);
        if self.contiguous && happened.place != expected {
            return Err(Refusal::Forgotten { expected, next: happened.place });
        }
        let Some(event) = happened.event else { return Err(Refusal::Newer) };
        self.contiguous = true;
        self.place = happened.place;
        self.feed.0.sent.fetch_add(1, Ordering::Relaxed);
        let Happened { place, number, tenant, account, currency, at, event: _ } = happened;
        Ok(Some(Happened { place, number, tenant, account, currency, event, at }))
    }

    /// Whether everything that had happened when the stream began has been given.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.page.is_empty() && self.read_up_to >= self.began_at
    }

    async fn read(&mut self) -> Result<(), Refusal> {
        let head = *self.heads.borrow_and_update();
        // The first look reads what happened before; later ones only when there is something.
        if self.has_caught_up() && !self.feed.may_have_more(self.tenant, self.place, head) {
            return Ok(());
        }
        let client = self.feed.0.pool.get().await?;
        let page = store::after(&client, self.tenant, (self.place, head), PAGE).await?;
        if i64::try_from(page.len()).unwrap_or(i64::MAX) < PAGE {
            self.read_up_to = head;
        }
        self.page = page.into();
        Ok(())
    }

    /// Waits until something new has been published, for whomever.
    pub(crate) async fn news(&mut self) {
        // The feed lives as long as its streams, so the sender is there.
        let _ = self.heads.changed().await;
    }
}
