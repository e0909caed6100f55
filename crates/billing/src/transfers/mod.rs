//! Money between an agency and its own clients, both ways (R-80..R-88).
//!
//! A transfer is one posting of one leg; its id is made of the tenant, the method and the request id, so
//! the ledger itself finds a repeat and there is no second record to keep in step. The scope of a request id
//! is therefore the tenant whose money moves. Held money does not leave an account: it is not in
//! `main`.
//!
//! Cost: a share of one group commit; see `ledger::batch`.

use std::sync::Arc;

use adspend_common::{
    db,
    id::{AccountId, RequestId},
    money::{Balance, Currency, Money},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    accounts::AccountFacts,
    ledger::{
        self, Actor, Kind, Leg, Place, Posted, Posting, Refusal,
        batch::{Linked, Poster},
    },
};

pub mod rules;
mod store;

pub use store::{find, list};

/// Transfers in one batch.
pub const MAX_BATCH: usize = 1_000;

/// Why a transfer was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not an agency and its own client.
    #[error("money moves between an agency and its own clients only")]
    NotAnAgencyClient,
    /// Another currency than the account's.
    #[error("the account is kept in {account}, not in {asked}")]
    Currency {
        /// The account's.
        account: Currency,
        /// The amount's.
        asked: Currency,
    },
    /// The transfers of an atomic batch belong to several agencies.
    #[error("an atomic batch moves the money of one agency")]
    SeveralAgencies,
    /// The ledger said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The ledger has as much waiting as it may.
    #[error("too many transfers are waiting")]
    Overloaded,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The store failed.
    #[error("transfer storage failed")]
    Db(DbFailure),
}

/// A storage failure that can be compared, for verdicts of batches.
#[derive(Debug, Clone)]
pub struct DbFailure(pub db::Error);

impl PartialEq for DbFailure {
    fn eq(&self, _: &DbFailure) -> bool {
        false
    }
}

impl Eq for DbFailure {}

impl std::fmt::Display for DbFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<ledger::Error> for Error {
    fn from(error: ledger::Error) -> Error {
        match error {
            ledger::Error::Refused(refusal) => Error::Refused(refusal),
            ledger::Error::Overloaded => Error::Overloaded,
            ledger::Error::Stopping => Error::Stopping,
            ledger::Error::Db(cause) => Error::Db(DbFailure(cause)),
        }
    }
}

/// A transfer that is asked for.
#[derive(Debug, Clone)]
pub struct NewTransfer {
    /// Where the money comes from.
    pub source: Arc<AccountFacts>,
    /// Where it goes.
    pub destination: Arc<AccountFacts>,
    /// How much; positive.
    pub amount: Money,
    /// The currency of the amount.
    pub currency: Currency,
    /// Makes a repeat harmless.
    pub request_id: RequestId,
}

/// A transfer that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Which.
    pub id: Uuid,
    /// The agency, whose resource it is.
    pub agency: AccountId,
    /// Where the money came from.
    pub source: AccountId,
    /// Where it went.
    pub destination: AccountId,
    /// How much.
    pub amount: Money,
    /// Of which currency.
    pub currency: Currency,
    /// When it was booked.
    pub at: DateTime<Utc>,
    /// The source's free money right after.
    pub source_balance: Balance,
    /// The destination's free money right after.
    pub destination_balance: Balance,
    /// The first answer again.
    pub replayed: bool,
}

/// Moves money; durable when it returns.
pub async fn create(poster: &Poster, actor: Actor, new: &NewTransfer) -> Result<Transfer, Error> {
    rules::check(&new.source, &new.destination, new.currency)?;
    let posted = poster.post(actor, posting(new)).await?;
    Ok(transfer(new, &posted))
}

/// Moves money many times: each for itself, or all or none. Verdicts come in the order given; what was
/// wrong with an item before (`Err`) stays its verdict.
pub async fn create_all(
    poster: &Poster,
    actor: Actor,
    items: Vec<Result<NewTransfer, Error>>,
    linked: Linked,
) -> Vec<Result<Transfer, Error>> {
    let checked: Vec<Result<NewTransfer, Error>> = items
        .into_iter()
        .map(|item| {
            let new = item?;
            rules::check(&new.source, &new.destination, new.currency)?;
            Ok(new)
        })
        .collect();
    if linked == Linked::Yes
        && let Some(refused) = refused_whole(&checked)
    {
        return refused;
    }
    let postings: Vec<Posting> = checked.iter().flatten().map(posting).collect();
    let mut verdicts = match poster.post_all(actor, postings, linked).await {
        Ok(verdicts) => verdicts.into_iter().map(|verdict| verdict.map_err(Error::from)).collect(),
        Err(error) => vec![Err(Error::from(error)); checked.iter().flatten().count()],
    }
    .into_iter();
    checked
        .into_iter()
        .map(|item| {
            let new = item?;
            let posted = verdicts.next().unwrap_or(Err(Error::Stopping))?;
            Ok(transfer(&new, &posted))
        })
        .collect()
}

/// An atomic batch with an item that is wrong by itself, or of several agencies, is refused before the
/// ledger sees it.
fn refused_whole(items: &[Result<NewTransfer, Error>]) -> Option<Vec<Result<Transfer, Error>>> {
    let mut tenants = items.iter().flatten().map(|new| new.source.key.tenant);
    let first = tenants.next();
    let several = tenants.any(|tenant| Some(tenant) != first);
    if !several && items.iter().all(Result::is_ok) {
        return None;
    }
    let aborted = Error::Refused(Refusal::GroupAborted);
    let verdict = |item: &Result<NewTransfer, Error>| match item {
        Err(error) => Err(error.clone()),
        Ok(_) if several => Err(Error::SeveralAgencies),
        Ok(_) => Err(aborted.clone()),
    };
    Some(items.iter().map(verdict).collect())
}

fn posting(new: &NewTransfer) -> Posting {
    let (from, to) = (new.source.key, new.destination.key);
    Posting {
        id: ledger::posting_id(from.tenant, "transfers.create", new.request_id.as_str()),
        tenant: from.tenant,
        legs: vec![Leg {
            kind: Kind::Transfer,
            from: Place::Main(from.account),
            to: Place::Main(to.account),
            amount: new.amount,
            object: None,
        }],
        payload_hash: ledger::payload_hash(&[
            &from.account.0.to_be_bytes(),
            &to.account.0.to_be_bytes(),
            &new.amount.micros().to_be_bytes(),
        ]),
    }
}

fn transfer(new: &NewTransfer, posted: &Posted) -> Transfer {
    let leg = posted.legs.first();
    let agency = if new.source.agency.is_none() { &new.source } else { &new.destination };
    Transfer {
        id: posted.id,
        agency: agency.id.clone(),
        source: new.source.id.clone(),
        destination: new.destination.id.clone(),
        amount: new.amount,
        currency: new.currency,
        at: posted.at,
        source_balance: leg.and_then(|leg| leg.from_balance).unwrap_or(Balance::ZERO),
        destination_balance: leg.and_then(|leg| leg.to_balance).unwrap_or(Balance::ZERO),
        replayed: posted.replayed,
    }
}
