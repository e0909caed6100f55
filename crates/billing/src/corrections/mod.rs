//! Corrections of what was booked: credits for invalid clicks and reversals by operators.
//!
//! Nothing is taken out of the books: a correction is a posting of its own, with a reason, and shows in the
//! history of every account that it touches. Both bounds hold under the accounts' locks: of a campaign no more
//! goes back than it was charged, and a posting is reversed once.
//!
//! A reversal takes money back only where there is some: what would leave less than nothing available is
//! refused (I-3), for the money is spent and its spending is no mistake. Whatever has a state of its own (a
//! payment, a promise, a hold, a document) is corrected by its feature, or its books would say otherwise than
//! the ledger. The reverse of an auto top-up gives the limit of its period back.
//!
//! A credit goes back for charges of the open month first, as if nothing had been charged. What is more goes back
//! for months whose documents are closed, and may only be spent: the ledger keeps it in the account
//! until charges have used it up. A charge that is reversed does not bring it back.

pub(crate) mod rules;
mod store;

use adspend_common::{
    db::{self, Pool},
    id::{AccountId, CampaignId},
    identity::Caller,
    money::{Currency, Money},
};
use chrono::{DateTime, Utc};

use crate::{
    accounts::{self, Account},
    auto_topups,
    events::{self, CorrectionFacts, Event},
    ledger::{self, AccountKey, Counter, Kind, Leg, Place, Posting, journal},
    requests::{self, Begun, Call, Outcome},
    transactions::{self, Transaction},
};

pub(crate) use rules::Refusal;

/// Why a correction did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such account or transaction, or not the caller's.
    #[error("{0} was not found")]
    NotFound(String),
    /// A rule says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
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
    #[error("correction storage failed")]
    Db(#[from] db::Error),
}

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Error::Db(cause) => cause.is_contention(),
            Error::Request(cause) => cause.is_contention(),
            Error::Ledger(cause) => cause.is_contention(),
            Error::Moved => true,
            Error::NotFound(_) | Error::Refused(_) => false,
        }
    }
}

/// A credit for invalid clicks, to be given.
#[derive(Debug, Clone)]
pub(crate) struct NewCredit {
    pub(crate) account: AccountId,
    pub(crate) campaign: CampaignId,
    pub(crate) amount: Money,
    pub(crate) reason: String,
}

/// What a campaign was charged, and what of it went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spend {
    pub(crate) charged: Money,
    pub(crate) credited: Money,
}

/// A credit that was given.
#[derive(Debug, Clone)]
pub(crate) struct Credit {
    pub(crate) account: AccountId,
    /// The number of the account's transaction.
    pub(crate) transaction: i64,
    /// This credit included.
    pub(crate) spend: Spend,
    /// The part of it that may only be spent.
    pub(crate) spend_only: Money,
    pub(crate) currency: Currency,
}

/// Gives the price of invalid clicks back.
pub(crate) async fn credit_clicks(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Credit>,
    new: &NewCredit,
) -> Result<Outcome<Credit>, Error> {
    db::retry("corrections.credit_clicks", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let account = visible(&tx, &call.caller, &new.account).await?;
        let Account { key, currency, .. } = account;
        let mut locked = ledger::lock(&tx, now, &[key]).await?;
        let campaign = new.campaign.name();
        let spend = rules::credit(store::spend(&tx, key, &campaign).await?, new.amount)?;
        let open = store::open_spend(&tx, key, &campaign).await?;
        let spend_only = rules::spend_only(open, new.amount);
        let leg = Leg {
            kind: Kind::ClickCredit,
            from: Place::Counter(Counter::Revenue),
            to: Place::Main(key.account),
            amount: new.amount,
            object: Some(campaign.as_str().into()),
        };
        let posted = post(&mut locked, call, key, vec![leg])?;
        store::insert_credit(&tx, key, posted.id, (&campaign, new, spend_only), now).await?;
        let kept = locked.row(key).ok_or(Error::Moved)?.spend_only;
        if !spend_only.is_zero() {
            let kept = kept.checked_add(spend_only).unwrap_or(Money::MAX);
            locked.set_spend_only(key, kept);
        }
        ledger::write(&tx, locked).await?;
        let (amount, reason) = (new.amount, new.reason.clone());
        let facts = CorrectionFacts { object: campaign, amount, reason };
        events::record(&tx, now, &account, &Event::ClicksCredited(facts)).await?;
        let transaction = posted.legs.first().map_or(0, |leg| leg.to_version);
        let credit = Credit { account: account.id, transaction, spend, spend_only, currency };
        Ok(requests::finish(tx, call, credit).await?)
    })
    .await
}

/// A transaction to be reversed.
#[derive(Debug, Clone)]
pub(crate) struct NewReversal {
    pub(crate) account: AccountId,
    /// The number of the account's transaction.
    pub(crate) transaction: i64,
    pub(crate) reason: String,
}

impl NewReversal {
    fn name(&self) -> String {
        transactions::name(&self.account, self.transaction)
    }
}

/// A reversal as the account sees it.
#[derive(Debug, Clone)]
pub(crate) struct Reversed {
    pub(crate) account: AccountId,
    pub(crate) currency: Currency,
    pub(crate) transaction: Transaction,
}

/// Books the exact reverse of a transaction's posting.
pub(crate) async fn reverse(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Reversed>,
    new: &NewReversal,
) -> Result<Outcome<Reversed>, Error> {
    db::retry("corrections.reverse", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let absent = || Error::NotFound(new.name());
        let account = accounts::store::find(&tx, &new.account).await?;
        let account =
            account.filter(|account| call.caller.sees(&account.owner)).ok_or_else(absent)?;
        let tenant = account.key.tenant;
        let id = store::posting_of(&tx, account.key, new.transaction).await?.ok_or_else(absent)?;
        let found = ledger::journaled(&tx, &[(tenant, journal::prefix(id))]).await?;
        let found = found.into_values().flatten().find(|(_, posted)| posted.id == id);
        let legs: Vec<Leg> = found
            .into_iter()
            .flat_map(|(_, posted)| posted.legs)
            .map(|posted| posted.leg)
            .collect();
        rules::reversible(&legs)?;
        let touched: Vec<AccountKey> =
            rules::accounts(&legs).map(|account| AccountKey { tenant, account }).collect();
        let mut locked = ledger::lock(&tx, now, &touched).await?;
        // A charge that is taken back no longer covers what was given back of it.
        for (of, campaign, amount) in rules::charges(&legs) {
            let key = AccountKey { tenant, account: of };
            rules::uncharge(store::spend(&tx, key, campaign).await?, amount)?;
        }
        if !store::insert_reversal(&tx, (tenant, id), call.posting_id(), &new.reason, now).await? {
            return Err(Refusal::AlreadyReversed.into());
        }
        if rules::is_top_up(&legs) {
            auto_topups::reversed(&tx, (tenant, id), now).await?;
        }
        let posted = post(&mut locked, call, account.key, rules::reverse(&legs, &new.name()))?;
        // A credit that is taken back takes along what of it could only be spent.
        if let Some((key, amount)) = store::spend_only_of(&tx, (tenant, id)).await? {
            let kept = locked.row(key).ok_or(Error::Moved)?.spend_only;
            locked.set_spend_only(key, kept.saturating_sub(amount));
        }
        ledger::write(&tx, locked).await?;
        let number = rules::version(&posted.legs, account.key.account).ok_or_else(absent)?;
        let transaction = transactions::find(&tx, &account, number).await?.ok_or_else(absent)?;
        let amount = legs.first().map_or(Money::ZERO, |leg| leg.amount);
        let facts = CorrectionFacts { object: new.name(), amount, reason: new.reason.clone() };
        events::record(&tx, now, &account, &Event::PostingReversed(facts)).await?;
        let Account { id: account, currency, .. } = account;
        let reversed = Reversed { account, currency, transaction };
        Ok(requests::finish(tx, call, reversed).await?)
    })
    .await
}

async fn visible(tx: &db::Tx<'_>, caller: &Caller, id: &AccountId) -> Result<Account, Error> {
    let account = accounts::store::find(tx, id).await?;
    account.filter(|account| caller.sees(&account.owner)).ok_or_else(|| Error::NotFound(id.name()))
}

fn post<T>(
    locked: &mut ledger::Locked,
    call: &Call<T>,
    key: AccountKey,
    legs: Vec<Leg>,
) -> Result<ledger::Posted, Error> {
    let posting = Posting {
        id: call.posting_id(),
        tenant: key.tenant,
        legs,
        payload_hash: call.short_hash(),
    };
    match locked.post(&posting) {
        Ok(posted) => Ok(posted),
        // The account that was asked for has moved: the next look finds it. Another one has gone for good.
        Err(ledger::Refusal::UnknownAccount(account)) if account == key.account => {
            Err(Error::Moved)
        }
        Err(ledger::Refusal::UnknownAccount(_)) => Err(Refusal::HasLeft.into()),
        Err(refusal) => Err(ledger::Error::Refused(refusal).into()),
    }
}
