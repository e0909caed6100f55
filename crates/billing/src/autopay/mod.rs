//! Autopayment by card (автоплатёж, R-120..R-128): a direct advertiser's account is topped up when what is
//! left reaches a value.
//!
//! ```text
//! runs::fire      a low account ── one transaction ──> run (the intent, G9)      one in flight: unique index
//! runs::advance   claim: the try is counted and the lease taken, committed
//!                 ── yookassa.rs: POST under the run's id, or a question ──>      no transaction is open
//!                 one transaction: card -> main and the run's end, or when to ask again
//! webhook.rs      a notification only makes the provider be asked at once
//! ```
//!
//! Invariants
//! - A card is charged once per run: every try carries the same key, an outcome that nobody knows is asked
//!   for and never tried under another key, and the run's row, locked, says whether its money is booked.
//! - No card number comes in, and of a card only the provider's token (sealed, `seal.rs`) and the masked number
//!   are kept (G15).
//! - No call to the provider is made inside a transaction.
//!
//! Lock order: the request, the balance row, the account's row, the run, the autopayment, the card.
//!
//! Cost: every look for low accounts reads each autopayment that is on with its balance row, some
//! microseconds each, by pages; tens of thousands of them fit into the half second between two looks.
//!
//! Beside `rules.rs` and `store.rs`: `cards.rs` (linking), `runs.rs` (payments), `booking.rs` (how one ends),
//! `yookassa.rs` (the provider's API), `webhook.rs`, `seal.rs`. Not here: paying back to a card.

mod booking;
pub(crate) mod cards;
pub(crate) mod rules;
pub(crate) mod runs;
mod seal;
mod store;
#[cfg(test)]
mod tests;
pub(crate) mod webhook;
mod yookassa;

use std::sync::Arc;

use adspend_common::{
    db::{self, Pool, Tx},
    id::{AccountId, ResourceId},
    identity::Caller,
    money::{Balance, Currency, Money},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    accounts::{self, Account},
    config::{self, ProviderError},
    events::{self, AutopayFacts, Event},
    ledger::{self, AccountKey},
    requests::{self, Begun, Call, Outcome},
    uuid_of,
};

pub(crate) use rules::{Cause, Refusal};

/// A linked card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) id: Uuid,
    pub(crate) slot: i16,
    pub(crate) face: Face,
    pub(crate) state: CardState,
    pub(crate) linked_at: DateTime<Utc>,
}

/// What may be known of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Face {
    /// Empty when the provider does not tell.
    pub(crate) first6: String,
    pub(crate) last4: String,
    pub(crate) brand: String,
    pub(crate) expiry_month: i16,
    pub(crate) expiry_year: i16,
}

impl Face {
    /// `220000******0053`.
    pub(crate) fn masked(&self) -> String {
        format!("{}******{}", self.first6, self.last4)
    }
}

/// Whether a card can be charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CardState {
    Active,
    Invalid,
    Unlinked,
}

/// An autopayment as it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) card: Uuid,
    pub(crate) amount: Money,
    pub(crate) threshold: Money,
    pub(crate) updated_at: DateTime<Utc>,
    /// Why it is off, and since when.
    pub(crate) off: Option<(Cause, DateTime<Utc>)>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunState {
    Pending,
    Succeeded,
    Failed,
}

/// A payment that an autopayment makes. Its id is its key at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) key: AccountKey,
    pub(crate) id: Uuid,
    pub(crate) card: Uuid,
    pub(crate) amount: Money,
    /// Free money when it fired.
    pub(crate) balance: Balance,
    pub(crate) state: RunState,
    pub(crate) failure: Option<Cause>,
    /// How often the card was, or may have been, tried.
    pub(crate) tries: u32,
    /// How often the provider was asked how it stands.
    pub(crate) looks: u32,
    pub(crate) first_tried_at: Option<DateTime<Utc>>,
    pub(crate) last_tried_at: Option<DateTime<Utc>>,
    /// A try has no known outcome.
    pub(crate) in_doubt: bool,
    pub(crate) provider_payment: Option<String>,
    pub(crate) provider_reason: Option<String>,
    pub(crate) payment: Option<Uuid>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
}

/// Something of an account, with what its answer needs.
#[derive(Debug, Clone)]
pub(crate) struct Of<T> {
    pub(crate) account: AccountId,
    pub(crate) currency: Currency,
    pub(crate) it: T,
}

impl<T> Of<T> {
    fn new(account: &Account, it: T) -> Of<T> {
        Of { account: account.id.clone(), currency: account.currency, it }
    }
}

/// The name of a card of an account.
pub(crate) fn card_name(account: &AccountId, card: &Uuid) -> String {
    format!("{}/cards/{card}", account.name())
}

/// The name of a run of an account.
pub(crate) fn run_name(account: &AccountId, run: &Uuid) -> String {
    format!("{}/autopayRuns/{run}", account.name())
}

/// Why an operation did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such account or card, or not the caller's.
    #[error("{0} was not found")]
    NotFound(String),
    /// A rule says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The provider gives no answer.
    #[error("the payment provider does not answer")]
    ProviderAway,
    /// The account was moved between two looks, or somebody was faster; the next try sees it.
    #[error("the account has just changed")]
    Moved,
    /// The request is a repeat of another.
    #[error(transparent)]
    Request(#[from] requests::Error),
    /// The ledger said no.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The store failed.
    #[error("autopayment storage failed")]
    Db(#[from] db::Error),
}

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Error::Db(cause) => cause.is_contention(),
            Error::Request(cause) => cause.is_contention(),
            Error::Ledger(cause) => cause.is_contention(),
            Error::Moved => true,
            Error::NotFound(_) | Error::Refused(_) | Error::ProviderAway => false,
        }
    }
}

/// The terms, and the provider when there is one.
#[derive(Debug, Clone)]
pub(crate) struct Autopay {
    pub(crate) terms: Arc<config::Autopay>,
    provider: Option<Arc<Provider>>,
}

#[derive(Debug)]
struct Provider {
    api: yookassa::Yookassa,
    seal: seal::Seal,
}

impl Autopay {
    /// Checks the settings of the provider. Nothing is asked of it yet.
    pub(crate) fn new(terms: &config::Autopay) -> Result<Autopay, ProviderError> {
        let provider = match &terms.provider {
            None => None,
            Some(settings) => Some(Arc::new(Provider {
                api: yookassa::Yookassa::new(settings)?,
                seal: seal::Seal::new(&settings.token_key).ok_or(ProviderError::TokenKey)?,
            })),
        };
        Ok(Autopay { terms: Arc::new(terms.clone()), provider })
    }
}

async fn parent(
    from: &impl accounts::store::Reader,
    caller: &Caller,
    id: &AccountId,
    asked: impl FnOnce() -> String,
) -> Result<Account, Error> {
    accounts::visible(from, caller, id).await?.ok_or_else(|| Error::NotFound(asked()))
}

/// The account of a run or an autopayment, in whichever tenant it is now.
async fn whereabouts(
    from: &impl accounts::store::Reader,
    key: AccountKey,
) -> Result<Option<Account>, db::Error> {
    Ok(accounts::store::find_numbers(from, &[key]).await?.into_values().next())
}

/// The account, locked against other changes of its cards and its autopayment.
async fn locked(
    tx: &Tx<'_>,
    caller: &Caller,
    id: &AccountId,
    asked: impl FnOnce() -> String,
) -> Result<Account, Error> {
    let seen = parent(tx, caller, id, asked).await?;
    accounts::store::lock(tx, seen.key).await?.ok_or(Error::Moved)
}

/// What an autopayment is to be.
#[derive(Debug, Clone)]
pub(crate) struct NewSetting {
    pub(crate) account: AccountId,
    pub(crate) card: ResourceId,
    pub(crate) amount: (Money, Currency),
    pub(crate) threshold: (Money, Currency),
}

/// Sets the autopayment and switches it on.
pub(crate) async fn set(
    autopay: &Autopay,
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Of<Setting>>,
    caller: &Caller,
    new: &NewSetting,
) -> Result<Outcome<Of<Setting>>, Error> {
    db::retry("autopay.set", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let account = locked(&tx, caller, &new.account, || new.account.name()).await?;
        rules::settable(&autopay.terms, &account, new.amount, new.threshold.1)?;
        let absent = || Error::NotFound(format!("{}/cards/{}", account.id.name(), new.card));
        let id = uuid_of(&new.card).ok_or_else(absent)?;
        let card = store::card_of(&tx, account.key, id).await?.ok_or_else(absent)?;
        match card.state {
            CardState::Active => {}
            CardState::Invalid => return Err(Refusal::CardNotUsable("INVALID").into()),
            CardState::Unlinked => return Err(absent()),
        }
        let (amount, threshold) = (new.amount.0, new.threshold.0);
        let setting = Setting { card: id, amount, threshold, updated_at: now, off: None };
        store::set(&tx, account.key, &setting).await?;
        events::record(&tx, now, &account, &Event::AutopayChanged(facts(&setting, None))).await?;
        Ok(requests::finish(tx, call, Of::new(&account, setting)).await?)
    })
    .await
}

/// Switches the autopayment off. A payment under way still comes to its end.
pub(crate) async fn disable(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Of<Setting>>,
    caller: &Caller,
    id: &AccountId,
) -> Result<Outcome<Of<Setting>>, Error> {
    db::retry("autopay.disable", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let account = locked(&tx, caller, id, || id.name()).await?;
        let setting = store::setting(&tx, account.key).await?.ok_or(Refusal::OffAlready)?;
        if !switch_off(&tx, now, &account, (Cause::ByOwner, None)).await? {
            return Err(Refusal::OffAlready.into());
        }
        let setting = Setting { off: Some((Cause::ByOwner, now)), ..setting };
        Ok(requests::finish(tx, call, Of::new(&account, setting)).await?)
    })
    .await
}

/// The autopayment of an account; none when it was never set.
pub(crate) async fn get(
    pool: &Pool,
    caller: &Caller,
    id: &AccountId,
) -> Result<Of<Option<Setting>>, Error> {
    let client = pool.get().await?;
    let account = parent(&client, caller, id, || id.name()).await?;
    let setting = store::setting(&client, account.key).await?;
    Ok(Of::new(&account, setting))
}

/// Switches off the autopayment of an account that is no direct advertiser any more.
pub(crate) async fn leave(
    tx: &Tx<'_>,
    account: &Account,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    switch_off(tx, now, account, (Cause::NotEligible, None)).await.map(drop)
}

/// Switches an autopayment that is on off, with whatever card or only with one, and tells of it. False when
/// it was not on.
async fn switch_off(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    account: &Account,
    (cause, with): (Cause, Option<Uuid>),
) -> Result<bool, db::Error> {
    let Some(setting) = store::lock(tx, account.key).await? else { return Ok(false) };
    let off = store::switch_off(tx, account.key, (cause, with), now).await?;
    if off {
        let event = Event::AutopayDisabled(facts(&setting, Some(cause)));
        events::record(tx, now, account, &event).await?;
    }
    Ok(off)
}

fn facts(setting: &Setting, cause: Option<Cause>) -> AutopayFacts {
    let reason = cause.map(|cause| cause.name().to_owned());
    AutopayFacts { amount: setting.amount, run: None, reason }
}
