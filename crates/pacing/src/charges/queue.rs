//! The handle: what callers ask, spread over the writers, and a bound on what waits.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use adspend_common::db::Pool;
use adspend_common::id::CampaignId;
use adspend_common::identity::Caller;
use adspend_common::money::Currency;
use adspend_common::time::Clock;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::item::{Charge, Item, Target, Verdict, reserved};
use super::lags::Lags;
use super::metrics::Metrics;
use super::store::Named;
use super::writer::{Answer, Work, Writer};
use super::{Booked, Cancelled, Error, MAX_BATCH, NewCharge, NewTarget, Refusal, Settings, store};
use crate::admission::token::Token;

/// The way to book charges. Cheap to clone; all clones share the writers.
#[derive(Clone)]
pub struct Charges(Arc<Inner>);

struct Inner {
    db: Pool,
    shards: Vec<Shard>,
    closed: CancellationToken,
    lags: Lags,
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
    let lags = Lags::default();
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
            lags: lags.clone(),
            previous: 0,
            careful: 0,
        };
        writers.push(Box::pin(writer.run()));
    }
    let currencies = RwLock::new(HashMap::new());
    (Charges(Arc::new(Inner { db: db.clone(), shards, closed, lags, currencies })), writers)
}

impl Charges {
    /// Lets the writers end when they have answered what waits; later calls are refused.
    pub fn close(&self) {
        self.0.closed.cancel();
    }

    /// How long charges have taken that were booked here.
    pub fn lags(&self) -> Lags {
        self.0.lags.clone()
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
            NewTarget::Campaign(id) => named.get(id).map(|named| named.account_no),
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
    ) -> Result<HashMap<CampaignId, Named>, Error> {
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
        Ok(named.into_iter().map(|named| (named.id.clone(), named)).collect())
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

    fn queue(&self, shard: usize, items: Vec<Item>) -> Result<oneshot::Receiver<Answer>, Error> {
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
async fn answer(waiting: oneshot::Receiver<Answer>) -> Result<Vec<Verdict>, Error> {
    waiting.await.unwrap_or(Err(Error::Closed))
}

/// What a writer needs of a charge, or why it need not be asked.
fn item_of(
    charge: NewCharge,
    named: &HashMap<CampaignId, Named>,
    currencies: &HashMap<i64, Currency>,
) -> Result<(Item, Currency), Refusal> {
    let NewCharge { id, target, price } = charge;
    let (account_no, target) = match target {
        NewTarget::Admission(token) => {
            let most = reserved(&token);
            if price > most {
                return Err(Refusal::PriceAboveReserved { price, reserved: most });
            }
            (token.account_no, Target::Admission(token))
        }
        NewTarget::Campaign(id) => match named.get(&id) {
            Some(named) => {
                let Named { account_no, campaign_no, is_conversion, .. } = *named;
                (account_no, Target::Late { account_no, campaign_no, is_conversion })
            }
            None => return Err(Refusal::CampaignUnknown(id)),
        },
    };
    // A token of an account that is not there, or not the caller's, is as good as a forged one.
    let currency = currencies.get(&account_no).copied().ok_or(Refusal::TokenInvalid)?;
    Ok((Item::Charge(Charge { id: id.0, target, price }), currency))
}
