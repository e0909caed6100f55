//! Charges: what was really spent, booked once, durable before the answer (I-6).
//!
//! A charge settles an admission by its token and books on the day of the admission; a late
//! conversion names a campaign instead and books today. Both have an id, unique within the
//! account: a repeat gets the first answer again, the id with another content is refused, and one
//! admission is charged once. A cancellation gives an admission back. After the expiry of its
//! token an admission is still charged, marked late, and no longer cancelled.
//!
//! | file | |
//! |---|---|
//! | `rules` | what may become of an admission, and what that changes in the books; pure |
//! | `batch` | the arithmetic of one group of charges; pure |
//! | `writer` | the group commit: tasks that write for all callers of this replica |
//! | `copy`, `store` | the statements of a group |
//! | `settlement` | what was charged goes to billing, once |
//! | `audit` | whether the books agree with themselves |
//!
//! Limits: at most `queued_charges` wait per shard, the next caller is told `OVERLOADED`; accounts
//! are spread over `writers` shards by number, so what one replica is asked for one account is
//! written in the order of asking. Several replicas write to one account as well; the row locks of
//! a group keep them apart.

pub mod audit;
mod batch;
mod copy;
mod metrics;
mod rules;
pub mod settlement;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use adspend_common::config::HumanDuration;
use adspend_common::db::{self, Pool};
use adspend_common::id::CampaignId;
use adspend_common::identity::Caller;
use adspend_common::money::{Currency, Money};
use adspend_common::time::{Clock, Day};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::admission::token::Token;
use batch::{Charge, Item, Target, Verdict};
use metrics::Metrics;
use rules::Refused;
use writer::{Work, Writer};

/// The most charges of one call, or of one message of a stream.
pub const MAX_BATCH: usize = 1_000;

/// How charges are written and sent on.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many tasks write; accounts are spread over them. More only wait for each other.
    pub writers: usize,
    /// A group takes no more work when it has so many charges.
    pub group_charges: usize,
    /// How long a group waits for callers that are about to come back, at most.
    pub linger: HumanDuration,
    /// How many charges may wait for each writer.
    pub queued_charges: usize,
    /// How many batches of one stream are worked on at a time.
    pub stream_batches: usize,
    /// How often unsettled charges are looked for, in real time.
    pub settle_every: HumanDuration,
    /// How long a replica has for sending a report to billing before another may, in real time.
    pub claim: HumanDuration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            writers: 2,
            group_charges: 4_096,
            linger: HumanDuration::from_millis(1),
            queued_charges: 65_536,
            stream_batches: 64,
            settle_every: HumanDuration::from_secs(1),
            claim: HumanDuration::from_secs(10),
        }
    }
}

/// The caller's id of a charge: 1 to 64 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeId(String);

impl ChargeId {
    /// The longest id.
    pub const MAX_BYTES: usize = 64;

    /// Takes the text as it is; `None` when it is not an id.
    pub fn new(text: String) -> Option<ChargeId> {
        let fits = (1..=ChargeId::MAX_BYTES).contains(&text.len());
        (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then_some(ChargeId(text))
    }
}

/// A charge that a caller wants to be booked.
#[derive(Debug, Clone)]
pub struct NewCharge {
    /// Its id.
    pub id: ChargeId,
    /// What it settles.
    pub target: NewTarget,
    /// Its price, above zero.
    pub price: Money,
}

/// What a charge settles.
#[derive(Debug, Clone)]
pub enum NewTarget {
    /// An admission.
    Admission(Token),
    /// A late conversion of a campaign.
    Campaign(CampaignId),
}

/// A charge that is booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Booked {
    /// The day that it is booked on.
    pub day: Day,
    /// Whether nothing was reserved for it any more.
    pub late: bool,
    /// Whether it had been booked before.
    pub replayed: bool,
    /// The currency of its price.
    pub currency: Currency,
}

/// An admission that was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled {
    /// What it had reserved.
    pub released: Money,
    /// Whether it had been cancelled before.
    pub replayed: bool,
}

/// Why a charge or a cancellation was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another charge has the id.
    #[error("the charge id was used for another charge")]
    IdReused,
    /// The admission has ended in another way.
    #[error("the admission was settled with another charge id, or cancelled")]
    TokenUsed,
    /// Too late to give it back.
    #[error("the admission has expired and cannot be cancelled")]
    TokenExpired,
    /// Not a token of ours, or of nobody whom the caller may see.
    #[error("the token is not one that this service made")]
    TokenInvalid,
    /// More than the admission allows.
    #[error("the price of {price} is above the {reserved} that were reserved")]
    PriceAboveReserved {
        /// What was asked for.
        price: Money,
        /// What the admission allows.
        reserved: Money,
    },
    /// There is no such campaign, or the caller may not see it.
    #[error("there is no campaign {0}")]
    CampaignUnknown(CampaignId),
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        match refused {
            Refused::IdReused => Refusal::IdReused,
            Refused::TokenUsed => Refusal::TokenUsed,
            Refused::TokenExpired => Refusal::TokenExpired,
        }
    }
}

/// Why there is no verdict. Asking again with the same ids is always right.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Too many charges wait already.
    #[error("too many charges are waiting to be written")]
    Overloaded,
    /// The service is stopping.
    #[error("charges are not taken any more")]
    Closed,
    /// The amounts are beyond what can be stored.
    #[error("the charges add up to more than can be stored")]
    Overflow,
    /// The database failed.
    #[error("charges could not be stored")]
    Db(#[from] db::Error),
}

impl Error {
    /// Whether it is about these charges, so that others may fare better without them.
    fn is_about_content(&self) -> bool {
        match self {
            Error::Overloaded | Error::Closed => false,
            Error::Overflow => true,
            Error::Db(error) => match error {
                db::Error::Constraint { .. } | db::Error::Other(_) => true,
                db::Error::Contention { .. }
                | db::Error::Unavailable(_)
                | db::Error::OutcomeUnknown(_)
                | db::Error::Refused(_) => false,
            },
        }
    }
}

/// The way to book charges. Cheap to clone; all clones share the writers.
#[derive(Clone)]
pub struct Charges(Arc<Inner>);

struct Inner {
    db: Pool,
    shards: Vec<Shard>,
    closed: CancellationToken,
    /// Currencies of accounts that were charged: an account never changes its own.
    currencies: RwLock<HashMap<i64, Currency>>,
}

struct Shard {
    queue: mpsc::UnboundedSender<Work>,
    /// Bounds the queue: one permit for each charge in it.
    room: Arc<Semaphore>,
}

/// Makes the handle and its writers. A writer ends when it has answered everything after
/// [`Charges::close`], or after the last handle was dropped.
pub fn start(
    db: &Pool,
    clock: &Clock,
    settings: &Settings,
) -> (Charges, Vec<BoxFuture<'static, ()>>) {
    let closed = CancellationToken::new();
    let mut shards = Vec::new();
    let mut writers: Vec<BoxFuture<'static, ()>> = Vec::new();
    for _ in 0..settings.writers.max(1) {
        let (sender, queue) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(settings.queued_charges.max(MAX_BATCH)));
        shards.push(Shard { queue: sender, room });
        let writer = Writer {
            db: db.clone(),
            clock: clock.clone(),
            settings: settings.clone(),
            queue,
            closed: closed.clone(),
            metrics: Metrics::new(),
            previous: 0,
            careful: 0,
        };
        writers.push(Box::pin(writer.run()));
    }
    let currencies = RwLock::new(HashMap::new());
    (Charges(Arc::new(Inner { db: db.clone(), shards, closed, currencies })), writers)
}

impl Charges {
    /// Lets the writers end when they have answered what waits; later calls are refused.
    pub fn close(&self) {
        self.0.closed.cancel();
    }

    /// Books charges, durably, with a verdict each in the order given.
    pub async fn settle(
        &self,
        caller: &Caller,
        charges: Vec<NewCharge>,
    ) -> Result<Vec<Result<Booked, Refusal>>, Error> {
        let named = self.named(caller, &charges).await?;
        let accounts = charges.iter().filter_map(|charge| match &charge.target {
            NewTarget::Admission(token) => Some(token.account_no),
            NewTarget::Campaign(id) => named.get(id).map(|named| named.0),
        });
        let currencies = self.currencies(caller, accounts.collect()).await?;
        let mut places = Vec::with_capacity(charges.len());
        let mut items = Vec::with_capacity(charges.len());
        for charge in charges {
            places.push(item_of(charge, &named, &currencies).map(|(item, currency)| {
                items.push(item);
                currency
            }));
        }
        let mut verdicts = self.write(items).await?.into_iter();
        let results = places.into_iter().map(|place| {
            let currency = place?;
            match verdicts.next() {
                Some(Verdict::Booked { day, late, replayed }) => {
                    Ok(Booked { day, late, replayed, currency })
                }
                Some(Verdict::Refused(why)) => Err(Refusal::from(why)),
                Some(Verdict::Cancelled { .. }) | None => {
                    unreachable!("a charge, and one for each")
                }
            }
        });
        Ok(results.collect())
    }

    /// Gives an admission back, durably.
    pub async fn cancel(
        &self,
        caller: &Caller,
        token: Token,
    ) -> Result<Result<Cancelled, Refusal>, Error> {
        if self.currencies(caller, vec![token.account_no]).await?.is_empty() {
            return Ok(Err(Refusal::TokenInvalid));
        }
        let verdicts = self.write(vec![Item::Cancel(token)]).await?;
        Ok(match verdicts.first() {
            Some(Verdict::Cancelled { released, replayed }) => {
                Ok(Cancelled { released: *released, replayed: *replayed })
            }
            Some(Verdict::Refused(why)) => Err(Refusal::from(*why)),
            Some(Verdict::Booked { .. }) | None => unreachable!("one verdict, on a cancellation"),
        })
    }

    /// The account and the number of campaigns that were named, as far as the caller sees them.
    async fn named(
        &self,
        caller: &Caller,
        charges: &[NewCharge],
    ) -> Result<HashMap<CampaignId, (i64, i64)>, Error> {
        let ids = charges.iter().filter_map(|charge| match &charge.target {
            NewTarget::Campaign(id) => Some(id.as_str()),
            NewTarget::Admission(_) => None,
        });
        let mut ids: Vec<&str> = ids.collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        ids.sort_unstable();
        ids.dedup();
        let mut named = store::campaigns(&self.0.db.get().await?, &ids).await?;
        named.retain(|named| caller.sees(&named.tenant));
        Ok(named
            .into_iter()
            .map(|named| (named.id, (named.account_no, named.campaign_no)))
            .collect())
    }

    /// The currencies of the accounts that there are and that the caller sees.
    async fn currencies(
        &self,
        caller: &Caller,
        mut accounts: Vec<i64>,
    ) -> Result<HashMap<i64, Currency>, Error> {
        accounts.sort_unstable();
        accounts.dedup();
        let mut known = HashMap::with_capacity(accounts.len());
        // What a tenant may see changes; what an account's currency is does not.
        if caller.tenant.is_none() {
            let cached = self.0.currencies.read().unwrap_or_else(PoisonError::into_inner);
            accounts.retain(|account_no| match cached.get(account_no) {
                Some(currency) => known.insert(*account_no, *currency).is_some(),
                None => true,
            });
        }
        if accounts.is_empty() {
            return Ok(known);
        }
        let payers = store::payers(&self.0.db.get().await?, &accounts).await?;
        let mut cached = self.0.currencies.write().unwrap_or_else(PoisonError::into_inner);
        for payer in payers {
            cached.insert(payer.account_no, payer.currency);
            if caller.sees(&payer.tenant) {
                known.insert(payer.account_no, payer.currency);
            }
        }
        Ok(known)
    }

    /// Has items written by the shards of their accounts, and waits for all verdicts.
    async fn write(&self, items: Vec<Item>) -> Result<Vec<Verdict>, Error> {
        let Some(first) = items.first().map(|item| self.shard_of(item)) else {
            return Ok(Vec::new());
        };
        if items.iter().all(|item| self.shard_of(item) == first) {
            return answer(self.queue(first, items)?).await;
        }
        let mut order = Vec::with_capacity(items.len());
        let mut parts: Vec<Vec<Item>> = self.0.shards.iter().map(|_| Vec::new()).collect();
        for item in items {
            let shard = self.shard_of(&item);
            order.push(shard);
            parts[shard].push(item);
        }
        // All are queued before one is waited for. What was queued is written even when another
        // part finds no room: the caller repeats, and repeats change nothing.
        let waiting: Vec<_> = parts
            .into_iter()
            .enumerate()
            .map(
                |(shard, part)| {
                    if part.is_empty() { Ok(None) } else { self.queue(shard, part).map(Some) }
                },
            )
            .collect();
        let mut verdicts = Vec::with_capacity(waiting.len());
        for waiting in waiting {
            verdicts.push(match waiting? {
                Some(waiting) => answer(waiting).await?.into_iter(),
                None => Vec::new().into_iter(),
            });
        }
        let in_order = order.into_iter().filter_map(|shard| verdicts.get_mut(shard)?.next());
        Ok(in_order.collect())
    }

    fn shard_of(&self, item: &Item) -> usize {
        let shards = u64::try_from(self.0.shards.len()).unwrap_or(1).max(1);
        usize::try_from(item.account_no().unsigned_abs() % shards).unwrap_or(0)
    }

    fn queue(
        &self,
        shard: usize,
        items: Vec<Item>,
    ) -> Result<oneshot::Receiver<Result<Vec<Verdict>, Error>>, Error> {
        if self.0.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        let shard = self.0.shards.get(shard).ok_or(Error::Closed)?;
        let charges = u32::try_from(items.len()).map_err(|_| Error::Overloaded)?;
        let room = Arc::clone(&shard.room)
            .try_acquire_many_owned(charges)
            .map_err(|_| Error::Overloaded)?;
        let (reply, waiting) = oneshot::channel();
        shard.queue.send(Work { items, reply, room }).map_err(|_| Error::Closed)?;
        Ok(waiting)
    }
}

/// A writer that ended without an answer was closed, or is a bug that its task has logged.
async fn answer(
    waiting: oneshot::Receiver<Result<Vec<Verdict>, Error>>,
) -> Result<Vec<Verdict>, Error> {
    waiting.await.unwrap_or(Err(Error::Closed))
}

/// What a writer needs of a charge, or why it need not be asked.
fn item_of(
    charge: NewCharge,
    named: &HashMap<CampaignId, (i64, i64)>,
    currencies: &HashMap<i64, Currency>,
) -> Result<(Item, Currency), Refusal> {
    let NewCharge { id, target, price } = charge;
    let (account_no, target) = match target {
        NewTarget::Admission(token) => {
            let reserved = batch::reserved(&token);
            if price > reserved {
                return Err(Refusal::PriceAboveReserved { price, reserved });
            }
            (token.account_no, Target::Admission(token))
        }
        NewTarget::Campaign(id) => match named.get(&id) {
            Some((account_no, campaign_no)) => {
                let (account_no, campaign_no) = (*account_no, *campaign_no);
                (account_no, Target::Late { account_no, campaign_no })
            }
            None => return Err(Refusal::CampaignUnknown(id)),
        },
    };
    // A token of an account that is not there, or not the caller's, is as good as a forged one.
    let currency = currencies.get(&account_no).copied().ok_or(Refusal::TokenInvalid)?;
    Ok((Item::Charge(Charge { id: id.0, target, price }), currency))
}
