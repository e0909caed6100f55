//! Charges: what was really spent, booked once, durable before the answer (I-6).
//!
//! A charge settles an admission by its token and books on the day of the admission; that of a
//! campaign that pays per conversion, once its token is over, on the day on which it comes. A
//! late conversion names a campaign instead and books today. Both have an id, unique within the
//! account: a repeat gets the first answer again, the id with another content is refused, and one
//! admission is charged once. A cancellation gives an admission back. After the expiry of its
//! token an admission is still charged, marked late, and no longer cancelled. A charge that an
//! expected slice (see `leases`) has too little for is booked and marked late, too.
//!
//! | file | |
//! |---|---|
//! | `rules` | what may become of an admission, and what that changes in the books; pure |
//! | `item`, `batch` | the arithmetic of one group of charges; pure |
//! | `arrivals` | conversions: today's limits, and how long they took |
//! | `queue` | the handle that callers have, and the bound on what waits |
//! | `writer` | the group commit: tasks that write for all callers of this replica |
//! | `store`, `copy` | the statements of a group |
//! | `lags` | how long charges take, for the pacer |
//! | `settlement` | what was charged goes to billing, once |
//! | `audit` | whether the books agree with themselves |
//!
//! Limits: at most `queued_charges` wait per shard, the next caller is told `OVERLOADED`; accounts
//! are spread over `writers` shards by number, so what one replica is asked for one account is
//! written in the order of asking. Several replicas write to one account as well; the row locks of
//! a group keep them apart.

mod arrivals;
pub mod audit;
mod batch;
mod copy;
mod item;
mod lags;
mod metrics;
mod queue;
mod rules;
pub mod settlement;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

use std::time::Duration;

use adspend_common::config::HumanDuration;
use adspend_common::db;
use adspend_common::id::CampaignId;
use adspend_common::money::{Currency, Money};
use adspend_common::time::Day;
use serde::{Deserialize, Serialize};

use crate::admission::token::Token;
use rules::Refused;

pub use lags::{Lag, Lags};
pub use queue::{Charges, start};

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
    /// How long a token lives after its admission, on average; follows from the section `leases`.
    #[serde(skip)]
    pub token_life: Duration,
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
            token_life: Duration::from_secs(605),
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
