//! The port to billing: what pacing asks of the service that owns the money.
//!
//! A trait, because a second implementation really runs: tests and the simulation put one in its
//! place that fails, delays and repeats on demand. [`connect`] gives the one that speaks gRPC.

mod client;

use std::time::Duration;

use adspend_common::config::{HumanDuration, Secret};
use adspend_common::id::{AccountId, CampaignId, RequestId};
use adspend_common::money::Currency;
use adspend_common::time::Day;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use client::connect;

/// The most items of one call.
pub const MAX_BATCH: usize = 1_000;

/// What an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountKind {
    /// Funds the accounts of its clients.
    Agency,
    /// Belongs to an agency.
    Client,
    /// Pays for itself.
    Advertiser,
}

/// Whether an account's money may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountState {
    /// It may.
    Active,
    /// Only charges of spend that happened are booked.
    Blocked,
    /// It never will again.
    Closed,
}

/// What pacing needs to know about an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFacts {
    /// The agency, or the account itself when it has none.
    pub tenant: AccountId,
    /// The currency of everything on it; never changes.
    pub currency: Currency,
    /// What it is.
    pub kind: AccountKind,
    /// Whether its money may move.
    pub state: AccountState,
}

/// Why there is no answer of use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It may be asked again, with the same request id.
    #[error("billing is away: {0}")]
    Away(String),
    /// An answer that we did not expect; asking again gives the same.
    #[error("billing refused with {code}: {message}")]
    Refused {
        /// The gRPC code.
        code: String,
        /// What it said.
        message: String,
    },
}

/// Asks for one hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldAsk {
    /// Whose money.
    pub account: AccountId,
    /// What would be good.
    pub amount_micros: i64,
    /// The least that is of use.
    pub least_micros: i64,
    /// For how long.
    pub ttl: Duration,
    /// Makes a repeat harmless; one id, one payload.
    pub request_id: RequestId,
}

/// Where a hold stands at billing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldState {
    /// Money is set aside.
    Open,
    /// Its time is over; the rest went back.
    Expired,
    /// It was closed; the rest went back.
    Released,
}

/// A hold as billing sees it: opened = settled + released + still held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// `accounts/{account}/holds/{hold}`.
    pub name: String,
    /// Where it stands.
    pub state: HoldState,
    /// What was set aside.
    pub opened_micros: i64,
    /// What was booked out of it.
    pub settled_micros: i64,
    /// What went back to the account.
    pub released_micros: i64,
    /// What was booked with reference to it but not out of it.
    pub late_micros: i64,
    /// The highest report that was booked.
    pub sequence: i64,
    /// From then on it holds nothing.
    pub expires_at: DateTime<Utc>,
}

/// The verdict on one refused item; it changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refused {
    /// The name of the reason in the catalogue, such as `INSUFFICIENT_FUNDS`.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// Keeps a hold open for longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldExtension {
    /// `accounts/{account}/holds/{hold}`.
    pub hold: String,
    /// For how long from now on.
    pub ttl: Duration,
}

/// What the campaigns have spent out of a hold since it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendReport {
    /// `accounts/{account}/holds/{hold}`.
    pub hold: String,
    /// Grows from report to report.
    pub sequence: i64,
    /// The sum of each campaign whose sum grew.
    pub spends: Vec<(CampaignId, i64)>,
}

/// A charge without a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateCharge {
    /// Whose money.
    pub account: AccountId,
    /// For which campaign.
    pub campaign: CampaignId,
    /// How much.
    pub amount_micros: i64,
    /// The day that it belongs to.
    pub day: Day,
    /// Makes a repeat harmless.
    pub request_id: RequestId,
}

/// A verdict for each item, in the order asked; or no answer at all.
pub type Verdicts<T> = Result<Vec<Result<T, Refused>>, Error>;

/// What billing does for pacing. Batches have at most [`MAX_BATCH`] items; a repeat of any call
/// changes nothing.
pub trait Billing: Send + Sync + 'static {
    /// What an account is; `None` when there is no such account.
    fn get_account<'a>(
        &'a self,
        id: &'a AccountId,
    ) -> BoxFuture<'a, Result<Option<AccountFacts>, Error>>;

    /// Sets money aside: min(asked, available) each, or nothing below the least.
    fn open_holds(&self, asks: Vec<HoldAsk>) -> BoxFuture<'_, Verdicts<Hold>>;

    /// Moves the expiry of open holds forward.
    fn extend_holds(&self, extensions: Vec<HoldExtension>) -> BoxFuture<'_, Verdicts<Hold>>;

    /// Closes holds, by name, and returns what is left to the accounts.
    fn release_holds(&self, holds: Vec<String>) -> BoxFuture<'_, Verdicts<Hold>>;

    /// Books spend against holds.
    fn settle_holds(&self, reports: Vec<SpendReport>) -> BoxFuture<'_, Verdicts<Hold>>;

    /// Books charges that have no hold.
    fn record_charges(&self, charges: Vec<LateCharge>) -> BoxFuture<'_, Verdicts<()>>;
}

/// How billing is reached.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// One or more addresses, separated by commas: `http://billing:7401`.
    pub endpoint: String,
    /// The bearer token that billing knows pacing by; none in its development mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// How long one call, with its repeats, may take.
    pub timeout: HumanDuration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            endpoint: "http://127.0.0.1:7401".to_owned(),
            token: None,
            timeout: HumanDuration::from_secs(3),
        }
    }
}
