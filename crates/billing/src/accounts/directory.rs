//! What never changes about an account, in memory: for paths that move money a thousand times a second.
//!
//! An entry that is out of date is harmless. The one thing that does change, the tenant, is checked under
//! the ledger's lock: the balance row of a moved account says so, and the caller comes back after
//! [`Directory::invalidate`]. Whether an account is blocked is not here, but in the balance row.
//!
//! Bounded by [`MOST`]; what is absent is never remembered, so that nobody can fill it with guesses.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use adspend_common::{
    db::{self, Pool},
    id::AccountId,
    money::Currency,
};

use super::{AccountKind, store};
use crate::ledger::{AccountKey, AccountNo, TenantNo};

/// Accounts in memory, at most: about 300 bytes each.
const MOST: usize = 200_000;

/// How long an entry is believed. It bounds how long another replica may still show an account to the
/// agency that it has left; money does not wait for it.
const BELIEVED: Duration = Duration::from_secs(300);

/// What never changes about an account while it stays in its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFacts {
    /// Its id.
    pub id: AccountId,
    /// The key of its balance row.
    pub key: AccountKey,
    /// Who owns it.
    pub kind: AccountKind,
    /// Its one currency.
    pub currency: Currency,
    /// The agency of a client.
    pub agency: Option<(AccountId, AccountNo)>,
}

impl AccountFacts {
    /// The account that owns the tenant: the agency of a client, else itself.
    pub fn owner(&self) -> &AccountId {
        self.agency.as_ref().map_or(&self.id, |(agency, _)| agency)
    }
}

/// Finds the facts of accounts. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    pool: Pool,
    known: Arc<RwLock<HashMap<AccountId, Known, foldhash::fast::RandomState>>>,
}

struct Known {
    facts: Arc<AccountFacts>,
    read_at: Instant,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Directory")
    }
}

impl Directory {
    /// Knows nothing yet.
    pub fn new(pool: Pool) -> Directory {
        Directory { pool, known: Arc::default() }
    }

    /// The facts of an account; none when there is no such account.
    pub async fn find(&self, id: &AccountId) -> Result<Option<Arc<AccountFacts>>, db::Error> {
        let read_at = Instant::now();
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(id)
            && read_at.saturating_duration_since(known.read_at) < BELIEVED
        {
            return Ok(Some(known.facts.clone()));
        }
        let client = self.pool.get().await?;
        let Some(account) = store::find(&client, id).await? else { return Ok(None) };
        let agency = (account.kind == AccountKind::Client)
            .then(|| (account.owner.clone(), AccountNo(account.key.tenant.0)));
        let facts = Arc::new(AccountFacts {
            id: account.id,
            key: account.key,
            kind: account.kind,
            currency: account.currency,
            agency,
        });
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            // Rare, and the accounts in use come back with one read each.
            known.clear();
        }
        known.insert(id.clone(), Known { facts: facts.clone(), read_at });
        Ok(Some(facts))
    }

    /// Whose request ids a caller uses: its own tenant's, or the platform's when it has none. No scope when
    /// the tenant's account does not exist.
    pub async fn scope(&self, tenant: Option<&AccountId>) -> Result<Option<TenantNo>, db::Error> {
        match tenant {
            None => Ok(Some(TenantNo::PLATFORM)),
            // The number of the account itself: it stays when the account is attached to an agency.
            Some(id) => Ok(self.find(id).await?.map(|facts| TenantNo(facts.key.account.0))),
        }
    }

    /// Forgets an account that has moved to another tenant.
    pub fn invalidate(&self, id: &AccountId) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}
