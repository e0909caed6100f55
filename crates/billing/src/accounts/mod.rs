//! Accounts: who owns money. Agencies, their clients, direct advertisers.
//!
//! A tenant is the agency with its clients, or a direct advertiser alone. Attaching and detaching move an
//! account between tenants; they are the only operations that touch two of them, and what stays behind
//! (entries, closed holds, payments) stays with the tenant in which it happened.
//!
//! Lock order: the request, then balance rows, then the account's row.
//!
//! Beside `rules.rs` and `store.rs`: `directory.rs`, the cache of what never changes about an account, for
//! paths that move money a thousand times a second; `relations.rs`, the moves between tenants.

mod directory;
mod relations;
pub(crate) mod rules;
pub(crate) mod store;

use adspend_common::{
    db::{self, Pool},
    id::AccountId,
    identity::Caller,
    money::{Balance, Currency, Money},
    requisites,
};
use chrono::{DateTime, Utc};

use crate::{
    auto_topups::{self, Wait},
    credit,
    events::{self, AccountFacts as Facts, Event},
    ledger::{self, AccountKey, State, TenantNo},
    requests::{self, Begun, Call, Outcome},
};

pub use directory::{AccountFacts, Directory};
pub(crate) use relations::{attach, detach};

/// Who owns the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountKind {
    /// Funds its clients.
    Agency,
    /// Belongs to one agency.
    Client,
    /// Pays for itself.
    Advertiser,
}

/// Whether money may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccountState {
    Active,
    Blocked,
    Closed,
}

/// The payer behind an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LegalEntity {
    pub(crate) country: String,
    pub(crate) name: String,
    pub(crate) inn: String,
    pub(crate) kpp: String,
    pub(crate) ogrn: String,
    pub(crate) address: String,
}

/// An account as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) key: AccountKey,
    pub(crate) id: AccountId,
    pub(crate) kind: AccountKind,
    /// The account that owns the tenant: the agency of a client, else itself.
    pub(crate) owner: AccountId,
    pub(crate) display_name: String,
    pub(crate) currency: Currency,
    pub(crate) legal_entity: Option<LegalEntity>,
    pub(crate) email: String,
    pub(crate) state: AccountState,
    pub(crate) created_at: DateTime<Utc>,
    /// Grows with every change; the etag is made of it.
    pub(crate) revision: i64,
}

impl Account {
    /// The agency of a client.
    pub(crate) fn agency(&self) -> Option<&AccountId> {
        (self.kind == AccountKind::Client).then_some(&self.owner)
    }

    /// What a caller sends back to change only what it has read.
    pub(crate) fn etag(&self) -> String {
        format!("r{}", self.revision)
    }
}

/// An account to be.
#[derive(Debug, Clone)]
pub(crate) struct NewAccount {
    pub(crate) id: AccountId,
    pub(crate) kind: AccountKind,
    pub(crate) agency: Option<AccountId>,
    pub(crate) display_name: String,
    pub(crate) currency: Currency,
    pub(crate) legal_entity: Option<LegalEntity>,
    pub(crate) email: String,
}

/// The new values of an account; none leaves the old one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    pub(crate) display_name: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) legal_name: Option<String>,
    pub(crate) kpp: Option<String>,
    pub(crate) ogrn: Option<String>,
    pub(crate) address: Option<String>,
    /// The whole payer, for an account that has none yet; the INN of one that is there cannot change.
    pub(crate) legal_entity: Option<LegalEntity>,
}

/// Why an operation on accounts did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such account, or not the caller's.
    #[error("{0} was not found")]
    NotFound(String),
    /// The id is taken.
    #[error("{0} exists")]
    Exists(String),
    /// The caller may not make such an account.
    #[error("only an operator creates agencies and advertisers")]
    NotYours,
    /// Operations never mix currencies.
    #[error("the account's currency is {expected}, not {found}")]
    CurrencyMismatch { expected: Currency, found: Currency },
    /// The account is blocked or closed.
    #[error("{0} is blocked")]
    Blocked(String),
    /// The fields do not fit each other.
    #[error("the account would not be sound")]
    Wrong(Vec<(String, &'static str)>),
    /// The account changed since it was read.
    #[error("the account has changed since it was read")]
    EtagMismatch,
    /// It is so already.
    #[error("{0} is in this state already")]
    AlreadyInState(String),
    /// Rules of attaching say no.
    #[error("{account} cannot be attached: {}", why.join(", "))]
    NotAttachable { account: String, why: Vec<&'static str> },
    /// Rules of detaching say no.
    #[error("{account} cannot be detached: {}", why.join(", "))]
    NotDetachable { account: String, why: Vec<&'static str> },
    /// The account was moved to another tenant between two looks; the next try sees it.
    #[error("the account has just moved")]
    Moved,
    /// The request is a repeat of another.
    #[error(transparent)]
    Request(#[from] requests::Error),
    /// The ledger said no.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The store failed.
    #[error("account storage failed")]
    Db(#[from] db::Error),
}

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Error::Db(cause) => cause.is_contention(),
            Error::Request(cause) => cause.is_contention(),
            Error::Ledger(cause) => cause.is_contention(),
            Error::Moved => true,
            Error::NotFound(_)
            | Error::Exists(_)
            | Error::NotYours
            | Error::CurrencyMismatch { .. }
            | Error::Blocked(_)
            | Error::Wrong(_)
            | Error::EtagMismatch
            | Error::AlreadyInState(_)
            | Error::NotAttachable { .. }
            | Error::NotDetachable { .. } => false,
        }
    }
}

/// The account when the caller may see it; absent and foreign are one answer (I-8). Every feature asks here.
pub(crate) async fn visible(
    from: &impl store::Reader,
    caller: &Caller,
    id: &AccountId,
) -> Result<Option<Account>, db::Error> {
    Ok(store::find(from, id).await?.filter(|account| caller.sees(&account.owner)))
}

/// The same, with its refusal.
pub(crate) async fn get(
    client: &impl store::Reader,
    caller: &Caller,
    id: &AccountId,
) -> Result<Account, Error> {
    visible(client, caller, id).await?.ok_or_else(|| Error::NotFound(id.name()))
}

/// Creates an account with a zero balance.
pub(crate) async fn create(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Account>,
    caller: &Caller,
    new: &NewAccount,
) -> Result<Outcome<Account>, Error> {
    db::retry("accounts.create", requests::TRIES, || create_once(pool, now, call, caller, new))
        .await
}

async fn create_once(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Account>,
    caller: &Caller,
    new: &NewAccount,
) -> Result<Outcome<Account>, Error> {
    let mut client = pool.get().await?;
    let tx = match requests::begin(&mut client, call, now).await? {
        Begun::New(tx) => tx,
        Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
    };
    let tenant = match (&new.agency, &caller.tenant) {
        (None, None) => None,
        (None, Some(_)) => return Err(Error::NotYours),
        (Some(agency), _) => {
            let found = get(&tx, caller, agency).await?;
            if found.kind != AccountKind::Agency {
                return Err(Error::NotFound(agency.name()));
            }
            if found.state != AccountState::Active {
                return Err(Error::Blocked(agency.name()));
            }
            if found.currency != new.currency {
                let (expected, found) = (found.currency, new.currency);
                return Err(Error::CurrencyMismatch { expected, found });
            }
            Some(found.key.tenant)
        }
    };
    let account = store::insert(&tx, tenant, new, now).await?;
    ledger::open_balance(&tx, account.key, now).await?;
    let event = Event::AccountCreated(facts(&account));
    events::record(&tx, now, &account, &event).await?;
    Ok(requests::finish(tx, call, account).await?)
}

/// Changes the fields that are given; with an etag, only what the caller has read.
pub(crate) async fn update(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Account>,
    caller: &Caller,
    (id, etag, changes): (&AccountId, &str, &Changes),
) -> Result<Outcome<Account>, Error> {
    db::retry("accounts.update", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let seen = get(&tx, caller, id).await?;
        let mut account = store::lock(&tx, seen.key).await?.ok_or(Error::Moved)?;
        if !etag.is_empty() && etag != account.etag() {
            return Err(Error::EtagMismatch);
        }
        apply(&mut account, changes)?;
        account.revision = store::update(&tx, &account).await?;
        let event = Event::AccountUpdated(facts(&account));
        events::record(&tx, now, &account, &event).await?;
        Ok(requests::finish(tx, call, account).await?)
    })
    .await
}

/// What events say of an account.
fn facts(account: &Account) -> Facts {
    Facts { agency: account.agency().cloned() }
}

/// The account with the changes; what they make of the payer must be sound as a whole.
fn apply(account: &mut Account, changes: &Changes) -> Result<(), Error> {
    let Changes { display_name, email, legal_name, kpp, ogrn, address, legal_entity } = changes;
    let set = |field: &mut String, new: &Option<String>| {
        if let Some(new) = new {
            field.clone_from(new);
        }
    };
    set(&mut account.display_name, display_name);
    set(&mut account.email, email);
    if let Some(new) = legal_entity {
        if account
            .legal_entity
            .as_ref()
            .is_some_and(|old| (&old.inn, &old.country) != (&new.inn, &new.country))
        {
            let wrong = "the INN and the country of an account never change (R-53)";
            return Err(Error::Wrong(vec![("account.legal_entity.inn".to_owned(), wrong)]));
        }
        account.legal_entity = Some(new.clone());
    }
    let part = [legal_name, kpp, ogrn, address].iter().any(|part| part.is_some());
    match &mut account.legal_entity {
        Some(entity) => {
            set(&mut entity.name, legal_name);
            set(&mut entity.kpp, kpp);
            set(&mut entity.ogrn, ogrn);
            set(&mut entity.address, address);
            let changed = part || legal_entity.is_some();
            let wrong = if changed { rules::wrong_requisites(entity) } else { Vec::new() };
            if wrong.is_empty() { Ok(()) } else { Err(within_entity(&wrong)) }
        }
        None if part => {
            let wrong = "the account has no legal entity yet: set all of it";
            Err(Error::Wrong(vec![("account.legal_entity".to_owned(), wrong)]))
        }
        None => Ok(()),
    }
}

fn within_entity(wrong: &[requisites::Wrong]) -> Error {
    let path = |(field, what): &requisites::Wrong| (format!("account.legal_entity.{field}"), *what);
    Error::Wrong(wrong.iter().map(path).collect())
}

/// Blocks an account, or lets its money move again.
pub(crate) async fn set_state(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Account>,
    caller: &Caller,
    (id, state): (&AccountId, AccountState),
) -> Result<Outcome<Account>, Error> {
    db::retry("accounts.set_state", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let seen = get(&tx, caller, id).await?;
        let locked = ledger::lock(&tx, now, &[seen.key]).await?;
        let mut account = store::lock(&tx, seen.key).await?.ok_or(Error::Moved)?;
        if account.state == state || account.state == AccountState::Closed {
            return Err(Error::AlreadyInState(id.name()));
        }
        account.state = state;
        account.revision = store::update(&tx, &account).await?;
        let facts = facts(&account);
        let (money, event) = match state {
            AccountState::Active => (State::Active, Event::AccountUnblocked(facts)),
            AccountState::Blocked => (State::Blocked, Event::AccountBlocked(facts)),
            AccountState::Closed => (State::Closed, Event::AccountUpdated(facts)),
        };
        ledger::set_state(&tx, account.key, money).await?;
        if state == AccountState::Active {
            auto_topups::wake(&tx, account.key, Wait::AccountBlocked, now).await?;
        }
        ledger::write(&tx, locked).await?;
        events::record(&tx, now, &account, &event).await?;
        Ok(requests::finish(tx, call, account).await?)
    })
    .await
}

/// Which accounts a list shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    /// Only of this tenant.
    pub(crate) tenant: Option<TenantNo>,
    /// Leaves out the account that owns the tenant.
    pub(crate) clients_only: bool,
    /// After the account with this number.
    pub(crate) after: i64,
    pub(crate) limit: u32,
}

/// The figures of an account: available = posted - held - frozen + overdraft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) currency: Currency,
    pub(crate) main: Balance,
    pub(crate) held: Money,
    pub(crate) frozen: Money,
    pub(crate) overdraft: Money,
    pub(crate) promised_debt: Money,
    pub(crate) deferred_debt: Money,
    /// What of it may be spent, but not leave the account.
    pub(crate) spend_only: Money,
    pub(crate) at: DateTime<Utc>,
}

impl Figures {
    /// All money of the account.
    pub(crate) fn posted(&self) -> Balance {
        let posted = self.main.checked_add(self.held).and_then(|sum| sum.checked_add(self.frozen));
        posted.expect("the ledger refuses postings whose sum leaves the range")
    }

    /// What may be moved now.
    pub(crate) fn available(&self) -> Balance {
        self.main.checked_add(self.overdraft).unwrap_or(self.main)
    }
}

/// The figures now, or at a moment of the past. Held money whose time is over counts as free although no
/// job has released it: expiry is a fact of time.
pub(crate) async fn balance(
    pool: &Pool,
    now: DateTime<Utc>,
    caller: &Caller,
    (id, as_of): (&AccountId, Option<DateTime<Utc>>),
) -> Result<Figures, Error> {
    let client = pool.get().await?;
    let account = get(&client, caller, id).await?;
    let Some(at) = as_of else {
        credit::refresh(pool, &client, now, account.key).await?;
        return Ok(store::figures(&client, &account, now).await?);
    };
    let past = ledger::as_of(&client, account.key, at).await?;
    let expired = store::expired_by(&client, account.key, at).await?;
    let free = past.main.checked_add(expired).unwrap_or(past.main);
    Ok(Figures {
        currency: account.currency,
        main: free,
        held: past.held.saturating_sub(expired),
        frozen: past.frozen,
        overdraft: Money::ZERO,
        promised_debt: store::promised_debt_at(&client, account.key, at).await?,
        deferred_debt: store::deferred_debt_at(&client, account.key, at).await?,
        spend_only: Money::ZERO,
        at,
    })
}
