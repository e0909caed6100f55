//! Campaigns: who pays, when they serve, what is charged.
//!
//! * A campaign belongs to one account for ever and is never deleted; a caller sees it when it
//!   sees the account.
//! * Each change bumps the revision, which is the etag, and marks the row for the admission
//!   directories of all replicas ([`changed_since`]).
//! * A change that an open week depends on takes the budget's locks first, so that grants see it
//!   wholly or not at all, and restarts a weekly budget.

mod rules;
mod store;
#[cfg(test)]
mod tests;

use adspend_common::db;
use adspend_common::id::{AccountId, CampaignId};
use adspend_common::identity::Caller;
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use crate::Services;
use crate::accounts::{self, Account, AccountNo};
use crate::billing::AccountState;
use crate::budgets::{self, Entity, Warning};
use crate::calendar::policy::PaymentModel;
use crate::calendar::schedule::{Schedule, WeeklyHours};
use crate::requests::{self, Answer, Begun, Call};

pub use rules::EndsBeforeStart;
pub(crate) use rules::check_dates;
pub(crate) use store::payment_from_number;
pub use store::{changed_since, find};

/// How often a transaction is tried when others are in its way.
const ATTEMPTS: u32 = 5;

/// The number of a campaign in pacing's tables, unique over all accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CampaignNo(pub i64);

/// Whether a campaign takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CampaignState {
    /// Within its schedule, dates and limits.
    Active,
    /// Paused by hand.
    Paused,
}

/// What the owner of a campaign decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// For people.
    pub display_name: String,
    /// When it serves.
    pub schedule: Schedule,
    /// What is charged.
    pub payment: PaymentModel,
}

/// A campaign as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// Its number.
    pub no: CampaignNo,
    /// The number of its account.
    pub account_no: AccountNo,
    /// Its id.
    pub id: CampaignId,
    /// What its owner decided.
    pub profile: Profile,
    /// Whether it takes part.
    pub state: CampaignState,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// Counts its changes.
    pub revision: i64,
}

impl Campaign {
    /// Changes with every change of the campaign.
    pub fn etag(&self) -> String {
        format!("{:x}-{:x}", self.no.0, self.revision)
    }

    /// Whose budget it is.
    pub const fn entity(&self) -> Entity {
        Entity::campaign(self.account_no, self.no)
    }
}

/// A campaign and the account that pays for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The campaign.
    pub campaign: Campaign,
    /// Its account.
    pub account: Account,
    /// What its owner should know; only after a change of the campaign.
    pub warnings: Vec<Warning>,
}

/// How far a reader of changes has come; only [`changed_since`] makes sense of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(i64);

impl Cursor {
    /// Before every change: all campaigns.
    pub const START: Cursor = Cursor(0);
}

/// A campaign to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCampaign {
    /// Its id.
    pub id: CampaignId,
    /// Who pays.
    pub account: AccountId,
    /// What its owner decided.
    pub profile: Profile,
}

/// What an update changes: a field that is `None` stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// For people.
    pub display_name: Option<String>,
    /// The zone of its hours and dates.
    pub zone: Option<Tz>,
    /// Its weekly hours.
    pub hours: Option<WeeklyHours>,
    /// Its first day, or none.
    pub start: Option<Option<NaiveDate>>,
    /// Its last day, or none.
    pub end: Option<Option<NaiveDate>>,
    /// What is charged.
    pub payment: Option<PaymentModel>,
}

/// An update as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Which campaign.
    pub id: CampaignId,
    /// The etag that it must have.
    pub etag: Option<String>,
    /// What changes.
    pub changes: Changes,
}

/// Which campaigns a list holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Only those of this account.
    pub account: Option<AccountId>,
    /// Only those created after this one.
    pub after: Option<CampaignNo>,
    /// How many at most.
    pub limit: u32,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order of creation.
    pub campaigns: Vec<Listed>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<CampaignNo>,
}

/// Why an operation on campaigns is not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none of this id, or the caller may not see it.
    #[error("campaign {0} was not found")]
    NotFound(CampaignId),
    /// The id is taken.
    #[error("there is a campaign {0} already")]
    AlreadyExists(CampaignId),
    /// The account that is to pay is not usable.
    #[error("the account of the campaign is not usable")]
    Account(#[from] accounts::Error),
    /// The account that is to pay is blocked or closed.
    #[error("account {0} is blocked or closed")]
    AccountBlocked(AccountId),
    /// It changed since the caller read it.
    #[error("campaign {0} changed since it was read")]
    EtagMismatch(CampaignId),
    /// The dates do not fit together.
    #[error(transparent)]
    Dates(#[from] EndsBeforeStart),
    /// The request cannot begin.
    #[error("the request cannot begin")]
    Request(#[from] requests::Error),
    /// Campaigns could not be read or written.
    #[error("the storage of campaigns failed")]
    Db(#[from] db::Error),
}

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Self::Request(error) => error.is_contention(),
            Self::Db(error) => error.is_contention(),
            Self::NotFound(_)
            | Self::AlreadyExists(_)
            | Self::Account(_)
            | Self::AccountBlocked(_)
            | Self::EtagMismatch(_)
            | Self::Dates(_) => false,
        }
    }
}

/// Creates a campaign. Billing is asked about the account before the transaction begins.
pub async fn create(
    services: &Services,
    caller: &Caller,
    call: &Call<Listed>,
    new: &NewCampaign,
) -> Result<Answer<Listed>, Error> {
    if let Some(answer) = requests::replay(&services.db.get().await?, call).await? {
        return Ok(Answer::Replayed(answer));
    }
    let account = accounts::find(services, services.clock.now(), caller, &new.account).await?;
    match account.state {
        AccountState::Active => {}
        AccountState::Blocked | AccountState::Closed => {
            return Err(Error::AccountBlocked(account.id));
        }
    }
    db::retry("campaigns.create", ATTEMPTS, || create_once(services, call, &account, new)).await
}

async fn create_once(
    services: &Services,
    call: &Call<Listed>,
    account: &Account,
    new: &NewCampaign,
) -> Result<Answer<Listed>, Error> {
    let mut client = services.db.get().await?;
    let tx = client.transaction().await?;
    let now = services.clock.now();
    if let Begun::Replay(answer) = requests::begin(&tx, call, now).await? {
        tx.commit().await?;
        return Ok(Answer::Replayed(answer));
    }
    let Some(campaign) = store::insert(&tx, account.no, new, now).await? else {
        return Err(Error::AlreadyExists(new.id.clone()));
    };
    let mut listed = Listed { campaign, account: account.clone(), warnings: Vec::new() };
    warn(&tx, &mut listed, now).await?;
    requests::finish(&tx, call, &listed).await?;
    tx.commit().await?;
    Ok(Answer::New(listed))
}

/// A campaign that the caller may see.
pub async fn get(services: &Services, caller: &Caller, id: &CampaignId) -> Result<Listed, Error> {
    seen(find(&services.db.get().await?, id).await?, caller, id)
}

fn seen(found: Option<Listed>, caller: &Caller, id: &CampaignId) -> Result<Listed, Error> {
    found
        .filter(|listed| caller.sees(&listed.account.tenant))
        .ok_or_else(|| Error::NotFound(id.clone()))
}

/// A page of the campaigns that the caller may see, in the order of creation.
pub async fn list(services: &Services, caller: &Caller, filter: &Filter) -> Result<Page, Error> {
    let size = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let db = services.db.get().await?;
    let mut campaigns = store::list(&db, caller.tenant.as_ref(), filter).await?;
    let more = campaigns.len() > size;
    campaigns.truncate(size);
    let next = campaigns.last().filter(|_| more).map(|listed| listed.campaign.no);
    Ok(Page { campaigns, next })
}

/// Changes the fields that are named, and restarts the week's spend when they say so.
pub async fn update(
    services: &Services,
    caller: &Caller,
    call: &Call<Listed>,
    update: &Update,
) -> Result<Answer<Listed>, Error> {
    let once = || update_once(services, caller, call, update);
    let answer = db::retry("campaigns.update", ATTEMPTS, once).await?;
    announce(services, &answer).await;
    Ok(answer)
}

/// Lets admission on this replica know at once; the others find it within a moment, and so does
/// this one when it fails here.
async fn announce(services: &Services, answer: &Answer<Listed>) {
    let Answer::New(listed) = answer else { return };
    if let Err(error) = services.feed.catch_up().await {
        tracing::warn!(%error, "a change of a campaign was not announced");
    }
    services.leases.budget_changed(listed.campaign.entity());
    services.pacer.hurry();
}

async fn update_once(
    services: &Services,
    caller: &Caller,
    call: &Call<Listed>,
    update: &Update,
) -> Result<Answer<Listed>, Error> {
    let mut client = services.db.get().await?;
    let tx = client.transaction().await?;
    if let Begun::Replay(answer) = requests::begin(&tx, call, services.clock.now()).await? {
        tx.commit().await?;
        return Ok(Answer::Replayed(answer));
    }
    let found = seen(store::find_in(&tx, &update.id).await?, caller, &update.id)?;
    let now = budgets::lock(&tx, &services.clock, found.campaign.entity()).await?;
    let mut listed = store::lock(&tx, found.campaign.account_no, found.campaign.no).await?;
    if update.etag.as_ref().is_some_and(|etag| *etag != listed.campaign.etag()) {
        return Err(Error::EtagMismatch(update.id.clone()));
    }
    let after = rules::apply(&listed.campaign.profile, &update.changes)?;
    if after != listed.campaign.profile {
        let restarts = rules::restarts_week(&listed.campaign.profile, &after, now);
        listed.campaign.profile = after;
        listed.campaign.revision = store::write(&tx, &listed.campaign, now).await?;
        if restarts {
            budgets::restart(&tx, listed.campaign.entity(), now, caller).await?;
        }
    }
    warn(&tx, &mut listed, now).await?;
    requests::finish(&tx, call, &listed).await?;
    tx.commit().await?;
    Ok(Answer::New(listed))
}

/// What the owner of a campaign should know of the budgets that it is under.
async fn warn(tx: &db::Tx<'_>, listed: &mut Listed, now: DateTime<Utc>) -> Result<(), db::Error> {
    let Campaign { account_no, profile, .. } = &listed.campaign;
    let budgets = [listed.campaign.entity(), Entity::account(*account_no)];
    listed.warnings = budgets::warnings_over(tx, &budgets, profile.payment, now).await?;
    Ok(())
}

/// Pauses or resumes. A campaign that is in the state already stays as it is.
pub async fn set_state(
    services: &Services,
    caller: &Caller,
    call: &Call<Listed>,
    id: &CampaignId,
    state: CampaignState,
) -> Result<Answer<Listed>, Error> {
    let once = || set_state_once(services, caller, call, id, state);
    let answer = db::retry("campaigns.set_state", ATTEMPTS, once).await?;
    announce(services, &answer).await;
    Ok(answer)
}

async fn set_state_once(
    services: &Services,
    caller: &Caller,
    call: &Call<Listed>,
    id: &CampaignId,
    state: CampaignState,
) -> Result<Answer<Listed>, Error> {
    let mut client = services.db.get().await?;
    let tx = client.transaction().await?;
    let now = services.clock.now();
    if let Begun::Replay(answer) = requests::begin(&tx, call, now).await? {
        tx.commit().await?;
        return Ok(Answer::Replayed(answer));
    }
    let found = seen(store::find_in(&tx, id).await?, caller, id)?.campaign;
    let mut listed = store::lock(&tx, found.account_no, found.no).await?;
    if listed.campaign.state != state {
        listed.campaign.state = state;
        listed.campaign.revision = store::write(&tx, &listed.campaign, now).await?;
    }
    requests::finish(&tx, call, &listed).await?;
    tx.commit().await?;
    Ok(Answer::New(listed))
}
