//! The average daily and weekly budgets of accounts and campaigns (R-130..R-156).
//!
//! What may change when, and what limits follow, is in [`crate::calendar`]; here it meets the
//! database and the callers.
//!
//! **Changes and grants are serial.** A change locks the headroom rows of its entity for today and
//! tomorrow (`lock`) and takes the time under the lock; a grant locks the row of its day and
//! reads the budget in a later statement. So each grant sees a change wholly or not at all, and
//! one that waited for a change across midnight finds it dated before its own day.
//!
//! **The log tells the whole story**: `calendar::changes::replay` of it gives the stored state.
//!
//! Cost of a change: one transaction of nine statements. Reads take a snapshot and no lock.

mod rules;
mod store;
#[cfg(test)]
mod tests;

use adspend_common::db::{self, Tx};
use adspend_common::id::{AccountId, CampaignId};
use adspend_common::identity::Caller;
use adspend_common::money::{Currency, Money};
use adspend_common::time::{Clock, Day};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::Services;
use crate::accounts::{self, Account, AccountNo};
use crate::calendar::changes::{self, Kind, Refusal};
use crate::calendar::policy::{Figure, Level, Preset, Unit};
use crate::calendar::week::{Bound, WeekSpent};
use crate::campaigns::{self, CampaignNo};
use crate::requests::{self, Answer, Begun, Call};

pub use rules::{Limits, Mode, Warning};
#[cfg(test)]
pub(crate) use store::events;
pub(crate) use store::{mode_from_number, warnings_over};
pub use store::{states_for, weeks_for};

/// How often a transaction is tried when others are in its way.
const ATTEMPTS: u32 = 5;

/// Whose budget: a row of the tables `budget` and `headroom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity {
    /// The account that pays.
    pub account_no: AccountNo,
    /// 1 a campaign, 2 an account: the order in which rows are locked.
    pub level: i16,
    /// The number of the campaign or of the account.
    pub entity_no: i64,
}

impl Entity {
    /// An account.
    pub const fn account(no: AccountNo) -> Entity {
        Entity { account_no: no, level: 2, entity_no: no.0 }
    }

    /// A campaign of an account.
    pub const fn campaign(account_no: AccountNo, no: CampaignNo) -> Entity {
        Entity { account_no, level: 1, entity_no: no.0 }
    }

    /// The level as the calendar calls it.
    pub const fn level(&self) -> Level {
        if self.level == 1 { Level::Campaign } else { Level::Account }
    }
}

/// The policy of new budgets.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What a daily figure means, and any figure of an account (rules, section 14).
    pub daily_preset: DailyPreset,
}

/// The presets that a daily figure can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DailyPreset {
    /// At most 30 % more on one day, the average over the week.
    #[default]
    YandexAvgDaily,
    /// Never more than the figure on any day.
    Strict,
}

impl DailyPreset {
    const fn preset(self) -> Preset {
        match self {
            Self::YandexAvgDaily => Preset::YandexAvgDaily,
            Self::Strict => Preset::Strict,
        }
    }
}

/// The resource that a budget belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// An account.
    Account(AccountId),
    /// A campaign.
    Campaign(CampaignId),
}

impl Parent {
    /// Its resource name.
    pub fn name(&self) -> String {
        match self {
            Self::Account(id) => id.name(),
            Self::Campaign(id) => id.name(),
        }
    }
}

/// What somebody wants of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// This figure.
    Set {
        /// The amount.
        amount: Money,
        /// Its currency: must be the account's.
        currency: Currency,
        /// What it counts.
        unit: Unit,
        /// How to spread the spend; the mode that is stored when it is not said.
        mode: Option<Mode>,
    },
    /// No limit.
    Remove,
}

/// A figure and its first day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dated {
    /// The figure.
    pub figure: Figure,
    /// The first day on which it is in force.
    pub from_day: Day,
}

/// The most that may be spent on a day, as things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayCeiling {
    /// The day.
    pub day: Day,
    /// The most that may be spent on it; `None` is no limit.
    pub limit: Option<Money>,
    /// Which rule says so.
    pub bound: Bound,
    /// Charged and reserved.
    pub used: Money,
}

/// What binds an account or a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Whose it is.
    pub parent: Parent,
    /// The currency of its amounts.
    pub currency: Currency,
    /// What limits now.
    pub in_force: Option<Dated>,
    /// What will from a later day.
    pub pending: Option<Dated>,
    /// How spend is spread over the day.
    pub mode: Mode,
    /// Today and the other days to Sunday.
    pub ceilings: Vec<DayCeiling>,
    /// Changes counted today.
    pub changes_today: u8,
    /// Changes left today.
    pub changes_left: u8,
    /// What the owner should know.
    pub warnings: Vec<Warning>,
}

/// A line of the change log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number, from 1 on.
    pub no: i64,
    /// When it was accepted.
    pub at: DateTime<Utc>,
    /// What it was.
    pub kind: Kind,
    /// The new figure; none for a removal.
    pub figure: Option<Dated>,
    /// The figure that was in force.
    pub previous: Option<Dated>,
    /// Who asked.
    pub actor: String,
}

/// A part of the change log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    /// The currency of the amounts.
    pub currency: Currency,
    /// Newest first.
    pub changes: Vec<Change>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<i64>,
}

/// Why an operation on a budget is not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such campaign, or the caller may not see it.
    #[error("campaign {0} was not found")]
    CampaignNotFound(CampaignId),
    /// The account cannot be used.
    #[error("the account of the budget is not usable")]
    Account(#[from] accounts::Error),
    /// The amount is in another currency than the account.
    #[error("the amount is in {asked}, the account in {account}")]
    Currency {
        /// The currency of the amount.
        asked: Currency,
        /// The currency of the account.
        account: Currency,
    },
    /// The rules refuse the change.
    #[error("{refusal}")]
    Rule {
        /// Which.
        refusal: Refusal,
        /// When it was asked.
        at: DateTime<Utc>,
    },
    /// The request cannot begin.
    #[error("the request cannot begin")]
    Request(#[from] requests::Error),
    /// Budgets could not be read or written.
    #[error("the storage of budgets failed")]
    Db(#[from] db::Error),
}

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Self::Request(error) => error.is_contention(),
            Self::Db(error) => error.is_contention(),
            Self::CampaignNotFound(_)
            | Self::Account(_)
            | Self::Currency { .. }
            | Self::Rule { .. } => false,
        }
    }
}

/// The owner of a budget, looked up.
struct Owner {
    parent: Parent,
    entity: Entity,
    currency: Currency,
}

impl Owner {
    fn new(parent: Parent, entity: Entity, account: &Account) -> Owner {
        Owner { parent, entity, currency: account.currency }
    }
}

async fn owner(services: &Services, caller: &Caller, parent: &Parent) -> Result<Owner, Error> {
    match parent {
        Parent::Account(id) => {
            let account = accounts::find(services, services.clock.now(), caller, id).await?;
            Ok(Owner::new(parent.clone(), Entity::account(account.no), &account))
        }
        Parent::Campaign(id) => {
            let found = campaigns::find(&services.db.get().await?, id).await?;
            let listed = found
                .filter(|listed| caller.sees(&listed.account.tenant))
                .ok_or_else(|| Error::CampaignNotFound(id.clone()))?;
            Ok(Owner::new(parent.clone(), listed.campaign.entity(), &listed.account))
        }
    }
}

/// Sets, changes or removes a budget.
pub async fn change(
    services: &Services,
    caller: &Caller,
    call: &Call<Budget>,
    parent: &Parent,
    wish: Wish,
) -> Result<Answer<Budget>, Error> {
    if let Some(answer) = requests::replay(&services.db.get().await?, call).await? {
        return Ok(Answer::Replayed(answer));
    }
    let owner = owner(services, caller, parent).await?;
    let once = || change_once(services, caller, call, &owner, wish);
    let answer = db::retry("budgets.change", ATTEMPTS, once).await?;
    // What this replica was refused under the old figure it may ask for again.
    services.leases.budget_changed(owner.entity);
    services.pacer.hurry();
    Ok(answer)
}

async fn change_once(
    services: &Services,
    caller: &Caller,
    call: &Call<Budget>,
    owner: &Owner,
    wish: Wish,
) -> Result<Answer<Budget>, Error> {
    let mut client = services.db.get().await?;
    let tx = client.transaction().await?;
    if let Begun::Replay(answer) = requests::begin(&tx, call, services.clock.now()).await? {
        tx.commit().await?;
        return Ok(Answer::Replayed(answer));
    }
    let now = lock(&tx, &services.clock, owner.entity).await?;
    let before = store::read(&tx, owner.entity, Day::of(now)).await?;
    let preset = services.config.budgets.daily_preset.preset();
    let decided = rules::decide(&before.limits, now, owner, wish, preset)?;
    store::write(&tx, owner.entity, &decided, &actor(caller)).await?;
    let budget = rules::view(owner, &decided.limits, now, &before.usage);
    requests::finish(&tx, call, &budget).await?;
    tx.commit().await?;
    Ok(Answer::New(budget))
}

/// A change that was tried and not made.
#[derive(Debug, Clone)]
pub struct Tried {
    /// What [`change`] would answer.
    pub budget: Budget,
    /// What the limits would follow from.
    pub limits: Limits,
    /// Charged and reserved on the days of the week.
    pub week: WeekSpent,
    /// Whose budget it is.
    pub entity: Entity,
}

/// Tries a change at this moment; nothing is changed, and nothing waits.
pub async fn try_change(
    services: &Services,
    caller: &Caller,
    parent: &Parent,
    wish: Wish,
) -> Result<Tried, Error> {
    let owner = owner(services, caller, parent).await?;
    let now = services.clock.now();
    let before = read(services, owner.entity, now).await?;
    tried(services, &owner, &before, now, wish)
}

/// The same as the first budget ever, set at the midnight with which `day` begins.
pub async fn try_afresh(
    services: &Services,
    caller: &Caller,
    parent: &Parent,
    wish: Wish,
    day: Day,
) -> Result<Tried, Error> {
    let owner = owner(services, caller, parent).await?;
    let stored = read(services, owner.entity, services.clock.now()).await?;
    let limits = Limits::none(day, stored.limits.terms);
    let usage = rules::Usage { week: WeekSpent::default(), ..stored.usage };
    tried(services, &owner, &store::Stored { limits, usage }, day.start(), wish)
}

fn tried(
    services: &Services,
    owner: &Owner,
    before: &store::Stored,
    now: DateTime<Utc>,
    wish: Wish,
) -> Result<Tried, Error> {
    let preset = services.config.budgets.daily_preset.preset();
    let decided = rules::decide(&before.limits, now, owner, wish, preset)?;
    let budget = rules::view(owner, &decided.limits, now, &before.usage);
    Ok(Tried { budget, limits: decided.limits, week: before.usage.week, entity: owner.entity })
}

/// What is in force, what is pending, and the ceilings of the remaining days.
pub async fn get(services: &Services, caller: &Caller, parent: &Parent) -> Result<Budget, Error> {
    let owner = owner(services, caller, parent).await?;
    let now = services.clock.now();
    let stored = read(services, owner.entity, now).await?;
    Ok(rules::view(&owner, &stored.limits.roll(Day::of(now)), now, &stored.usage))
}

async fn read(
    services: &Services,
    entity: Entity,
    now: DateTime<Utc>,
) -> Result<store::Stored, Error> {
    let mut client = services.db.get().await?;
    let snapshot = client.snapshot().await?;
    Ok(store::read(&snapshot, entity, Day::of(now)).await?)
}

/// A page of the accepted changes, newest first; `before` is where the last page ended.
pub async fn list_changes(
    services: &Services,
    caller: &Caller,
    parent: &Parent,
    before: Option<i64>,
    limit: u32,
) -> Result<ChangePage, Error> {
    let owner = owner(services, caller, parent).await?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let db = services.db.get().await?;
    let mut changes = store::changes(&db, owner.entity, before, i64::from(limit) + 1).await?;
    let more = changes.len() > size;
    changes.truncate(size);
    let next = changes.last().filter(|_| more).map(|change| change.no);
    Ok(ChangePage { currency: owner.currency, changes, next })
}

/// Restarts the spend of the week, when the budget in force is one that does. The caller
/// holds [`lock`], and has written what the limits depend on.
pub(crate) async fn restart(
    tx: &Tx<'_>,
    entity: Entity,
    now: DateTime<Utc>,
    caller: &Caller,
) -> Result<(), db::Error> {
    let before = store::read(tx, entity, Day::of(now)).await?.limits;
    match changes::restart(&before.state, now) {
        Some(outcome) => {
            let decided = rules::decided(&before, outcome);
            store::write(tx, entity, &decided, &actor(caller)).await
        }
        None => Ok(()),
    }
}

/// Keeps grants of the entity out until the transaction ends, and gives the time under the lock.
///
/// Today's and tomorrow's rows: a transaction that begins before midnight may commit after it. When
/// midnight passes while it waits, it goes on to the next day's rows, still in their order.
pub(crate) async fn lock(
    tx: &Tx<'_>,
    clock: &Clock,
    entity: Entity,
) -> Result<DateTime<Utc>, db::Error> {
    loop {
        let day = Day::of(clock.now());
        store::lock_headroom(tx, entity, [day, day.next()]).await?;
        let now = clock.now();
        if Day::of(now) == day {
            return Ok(now);
        }
    }
}

/// Who asks, for the log.
fn actor(caller: &Caller) -> String {
    match &caller.tenant {
        Some(tenant) => format!("{} {}", caller.role, tenant.name()),
        None => caller.role.to_string(),
    }
}
