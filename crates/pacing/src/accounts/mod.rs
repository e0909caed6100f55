//! What pacing knows about the accounts that pay: a copy of billing's facts.
//!
//! * An account gets its number here when somebody first names it, and keeps it.
//! * A copy younger than `facts_ttl` is taken as it is; an older one is read again from billing
//!   first, and taken all the same when billing is away: pacing works on.
//! * The background reads the copies again, so that a block, an unblock or a change of agency is
//!   noticed without a caller. Billing refuses holds of a blocked account at once, so the delay
//!   never spends money.
//!
//! Cost: one read on the warm path; in the background one billing call per account and
//! `refresh_after` at most, and no more than a batch per round.

mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

use adspend_common::config::HumanDuration;
use adspend_common::db;
use adspend_common::id::AccountId;
use adspend_common::identity::Caller;
use adspend_common::money::Currency;
use adspend_common::server::Stop;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::Services;
use crate::billing::{self, AccountKind, AccountState};
use crate::replicas::clock_time;

use store::Old;
pub(crate) use store::from_row;
pub use store::set_state;

/// How many accounts one round of [`refresh`] reads again; bounds the calls to billing.
const REFRESH_BATCH: i64 = 50;

/// The number of an account in pacing's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountNo(pub i64);

/// An account as of the last time that billing was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its number here.
    pub no: AccountNo,
    /// Its id at billing.
    pub id: AccountId,
    /// Who may see it: the agency, or the account itself.
    pub tenant: AccountId,
    /// The currency of its amounts.
    pub currency: Currency,
    /// What it is.
    pub kind: AccountKind,
    /// Whether its money may move.
    pub state: AccountState,
}

/// How long the copy of billing's facts is trusted.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The age, in real time, from which an account that is asked for is read again, and from
    /// which the background reads one again that is blocked or closed.
    pub facts_ttl: HumanDuration,
    /// The age, in real time, from which the background reads an active one again.
    pub refresh_after: HumanDuration,
    /// How often the background looks for copies of that age.
    pub refresh_interval: HumanDuration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            facts_ttl: HumanDuration::from_secs(60),
            refresh_after: HumanDuration::from_secs(300),
            refresh_interval: HumanDuration::from_secs(5),
        }
    }
}

/// Why an account is not given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Billing has none of this id, or the caller may not see it.
    #[error("account {0} was not found")]
    NotFound(AccountId),
    /// It is not known here, and billing cannot be asked.
    #[error("billing could not be asked about the account")]
    Billing(#[from] billing::Error),
    /// The copy could not be read or written.
    #[error("the storage of accounts failed")]
    Db(#[from] db::Error),
}

/// An account that the caller may see: from the copy, or from billing when it is unknown or old.
pub async fn find(
    services: &Services,
    now: DateTime<Utc>,
    caller: &Caller,
    id: &AccountId,
) -> Result<Account, Error> {
    let account = current(services, now, id).await?;
    match account {
        Some(account) if caller.sees(&account.tenant) => Ok(account),
        Some(_) | None => Err(Error::NotFound(id.clone())),
    }
}

async fn current(
    services: &Services,
    now: DateTime<Utc>,
    id: &AccountId,
) -> Result<Option<Account>, Error> {
    let known = store::by_id(&services.db.get().await?, id).await?;
    // In the clock's time: a simulated clock must not make every copy old.
    let ttl = clock_time(&services.clock, services.config.accounts.facts_ttl.get());
    let fresh_after = now - ttl;
    if let Some((account, checked_at)) = &known
        && *checked_at > fresh_after
    {
        return Ok(Some(account.clone()));
    }
    // No connection is held while billing is asked.
    match (services.billing.get_account(id).await, known) {
        (Ok(Some(facts)), _) => {
            Ok(Some(store::upsert(&services.db.get().await?, id, &facts, now).await?))
        }
        // Accounts are never deleted, so one that we know and billing does not is not vouched for.
        (Ok(None), _) => Ok(None),
        (Err(error), Some((account, _))) => {
            tracing::warn!(%error, account = %id, "an old copy of the account is used");
            Ok(Some(account))
        }
        (Err(error), None) => Err(error.into()),
    }
}

/// Reads old copies again, a bounded number each round, until the service stops.
pub(crate) async fn refresh(services: Services, stop: Stop) {
    let interval = services.config.accounts.refresh_interval.get();
    while !stopped_within(&stop, interval).await {
        if let Err(error) = refresh_once(&services).await {
            tracing::warn!(error = %error, "accounts were not read again");
        }
    }
}

/// Waits; true when the service is to stop.
async fn stopped_within(stop: &Stop, wait: Duration) -> bool {
    tokio::select! {
        () = stop.stopping().cancelled() => true,
        () = tokio::time::sleep(wait) => false,
    }
}

async fn refresh_once(services: &Services) -> Result<(), Error> {
    let now = services.clock.now();
    let settings = &services.config.accounts;
    let before = |age: HumanDuration| now - clock_time(&services.clock, age.get());
    let old = Old { active: before(settings.refresh_after), stopped: before(settings.facts_ttl) };
    let claimed = store::claim_old(&services.db.get().await?, old, now, REFRESH_BATCH).await?;
    for known in claimed {
        let Some(facts) = services.billing.get_account(&known.id).await? else { continue };
        store::upsert(&services.db.get().await?, &known.id, &facts, now).await?;
        if facts.state != known.state {
            services.leases.account_changed(known.no);
        }
    }
    Ok(())
}
