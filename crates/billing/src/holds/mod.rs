//! Money set aside for a holder until a time, in batches with a verdict per item.
//!
//! A hold's books: opened = settled + released + still held (I-7), and what an account holds is what its
//! open holds hold. Hold rows change only under the lock of their account's balance row, so they need no lock
//! of their own. Past its time a hold holds nothing: the ledger's lock gives the rest back before anything
//! else is decided, whether or not a job has run. What is reported of an expired or released hold, or beyond
//! its amount, really happened: it is booked as a late charge on the balance (R-27, I-6).
//!
//! A batch leaves one record in the audit trail when any item of it took effect.
//!
//! Cost: one transaction per batch of at most [`MAX_ITEMS`]; five to seven statements whatever its size.

use adspend_common::{
    db::{self, Pool, Tx},
    money::Money,
    time::Clock,
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    audit_records::Asked,
    ledger::{self, AccountKey, Kind, Leg, Place, Posting, Refusal, TenantNo},
};

mod batch;
pub mod rules;
mod store;
#[cfg(test)]
mod tests;

pub use store::{find, list, move_to};

/// Items of one batch.
pub const MAX_ITEMS: usize = 1_000;
/// Campaigns in one report.
pub const MAX_CAMPAIGNS: usize = 1_000;
/// The longest that a hold may hold without being extended.
pub const MAX_TTL: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
/// Tries of one batch against contention.
const TRIES: u32 = 8;

/// Where a hold stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldState {
    /// Holds money.
    Open,
    /// Its time is over.
    Expired,
    /// Closed by its holder.
    Released,
}

/// Money set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Whose money.
    pub key: AccountKey,
    /// Which hold.
    pub id: Uuid,
    /// Set aside at the start.
    pub opened: Money,
    /// Booked as spent out of it.
    pub settled: Money,
    /// Given back.
    pub released: Money,
    /// Booked with reference to it, but out of the balance.
    pub late: Money,
    /// The highest sequence of a report.
    pub sequence: i64,
    /// Where it stands, as stored; see [`rules::at`].
    pub state: HoldState,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// From this moment on it holds nothing.
    pub expires_at: DateTime<Utc>,
}

impl Hold {
    /// What it still holds.
    pub fn left(&self) -> Money {
        self.opened.saturating_sub(self.settled).saturating_sub(self.released)
    }
}

/// Why an item was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such hold of this account.
    #[error("there is no such hold")]
    NotFound,
    /// Its time is over.
    #[error("the hold has expired")]
    Expired,
    /// It was released.
    #[error("the hold is closed")]
    Closed,
    /// The request id was used with another payload.
    #[error("the request id was used with another payload")]
    Reused,
    /// The ledger said no.
    #[error(transparent)]
    Refused(Refusal),
}

/// A hold, and whether the item had been done before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The hold after the item.
    pub hold: Hold,
    /// The first answer again.
    pub replayed: bool,
}

/// The verdict on one item.
pub type Verdict = Result<Done, Error>;

/// A request for a hold.
#[derive(Debug, Clone)]
pub struct Open {
    /// Whose money.
    pub account: AccountKey,
    /// What is asked for.
    pub amount: Money,
    /// The least that is of use.
    pub least: Money,
    /// For how long; at most [`MAX_TTL`].
    pub ttl: TimeDelta,
    /// Makes a repeat harmless.
    pub request_id: String,
}

impl Open {
    fn id(&self) -> Uuid {
        ledger::posting_id(self.account.tenant, "holds.open", &self.request_id)
    }

    fn hash(&self) -> i64 {
        ledger::payload_hash(&[
            &self.account.account.0.to_be_bytes(),
            &self.amount.micros().to_be_bytes(),
            &self.least.micros().to_be_bytes(),
            &self.ttl.num_milliseconds().to_be_bytes(),
        ])
    }
}

/// A hold by its account and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HoldRef {
    /// Whose.
    pub account: AccountKey,
    /// Which.
    pub id: Uuid,
}

/// A cumulative report of spend.
#[derive(Debug, Clone)]
pub struct Settle {
    /// Of which hold.
    pub hold: HoldRef,
    /// Grows with every report.
    pub sequence: i64,
    /// Per campaign (its resource name), all that was spent so far. No campaign twice.
    pub spends: Vec<(String, Money)>,
}

/// Opens holds.
pub async fn open(
    pool: &Pool,
    clock: &Clock,
    record: &Asked,
    items: &[Open],
) -> Result<Vec<Verdict>, db::Error> {
    db::retry("holds.open", TRIES, || batch::open(pool, clock, record, items)).await
}

/// Books reported spend.
pub async fn settle(
    pool: &Pool,
    clock: &Clock,
    record: &Asked,
    items: &[Settle],
) -> Result<Vec<Verdict>, db::Error> {
    db::retry("holds.settle", TRIES, || batch::settle(pool, clock, record, items)).await
}

/// Closes holds and gives back what is left.
pub async fn release(
    pool: &Pool,
    clock: &Clock,
    record: &Asked,
    items: &[HoldRef],
) -> Result<Vec<Verdict>, db::Error> {
    db::retry("holds.release", TRIES, || batch::release(pool, clock, record, items)).await
}

/// Moves the expiry of open holds forward to now plus the time given, never back.
pub async fn extend(
    pool: &Pool,
    clock: &Clock,
    record: &Asked,
    items: &[(HoldRef, TimeDelta)],
) -> Result<Vec<Verdict>, db::Error> {
    db::retry("holds.extend", TRIES, || batch::extend(pool, clock, record, items)).await
}

/// Gives back the money of holds whose time is over, for at most `limit` accounts; answers how many accounts
/// it looked at. Nothing depends on it: it only makes the books catch up with the time.
pub async fn expire_due(pool: &Pool, clock: &Clock, limit: i64) -> Result<usize, db::Error> {
    db::retry("holds.expire_due", TRIES, || async {
        let now = clock.now();
        let mut client = pool.get().await?;
        let tx = client.transaction().await?;
        let due = store::due(&tx, now, limit).await?;
        if !due.is_empty() {
            let locked = ledger::lock(&tx, now, &due).await?;
            write(&tx, locked).await?;
        }
        tx.commit().await?;
        Ok(due.len())
    })
    .await
}

/// A write whose posting ids are derived from hold rows that this transaction has under lock: one that
/// exists is a broken promise of ours, not a caller's repeat.
async fn write(tx: &Tx<'_>, locked: ledger::Locked) -> Result<(), db::Error> {
    ledger::write(tx, locked).await.map_err(|error| match error {
        ledger::Error::Db(cause) => cause,
        ledger::Error::Refused(_) | ledger::Error::Overloaded | ledger::Error::Stopping => {
            db::Error::other("a hold's posting exists without its hold")
        }
    })
}

/// Spend without a hold, as a posting for the ledger's poster: main → revenue, even below zero.
pub fn late_charge(
    account: AccountKey,
    campaign: &str,
    amount: Money,
    day: &str,
    request_id: &str,
) -> Posting {
    Posting {
        id: ledger::posting_id(account.tenant, "holds.record_charge", request_id),
        tenant: account.tenant,
        legs: vec![leg(
            Kind::LateCharge,
            Place::Main(account.account),
            Place::Counter(ledger::Counter::Revenue),
            amount,
            campaign,
        )],
        payload_hash: ledger::payload_hash(&[
            &account.account.0.to_be_bytes(),
            campaign.as_bytes(),
            &amount.micros().to_be_bytes(),
            day.as_bytes(),
        ]),
    }
}

fn leg(kind: Kind, from: Place, to: Place, amount: Money, object: &str) -> Leg {
    Leg { kind, from, to, amount, object: (!object.is_empty()).then(|| object.into()) }
}

/// The id of a posting about a hold.
fn about(tenant: TenantNo, method: &str, hold: Uuid, part: &str) -> Uuid {
    ledger::posting_id(tenant, method, &format!("{hold}/{part}"))
}
