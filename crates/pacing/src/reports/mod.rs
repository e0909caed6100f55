//! Reports: what pacing knows of an account or a campaign, read from its own database at one
//! moment.
//!
//! The limit of today and of days to come is the calendar's, with everything charged and reserved
//! counted as spent, as a grant of this moment would see it; that of a day that is over is the
//! highest that grants of it were cut under.
//!
//! The rate is that of the pacer's last reading of the day.

mod rules;
mod store;

use adspend_common::db;
use adspend_common::identity::Caller;
use adspend_common::money::{Currency, Money};
use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use crate::Services;
use crate::budgets::{self, Entity, Parent};
use crate::{accounts, campaigns};

/// An account or a campaign on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacingState {
    /// The day.
    pub day: Day,
    /// What may be spent on it as things stand; `None` without a limit.
    pub limit: Option<Money>,
    /// Charges of the day.
    pub charged: Money,
    /// Of them, those that nothing was reserved for any more.
    pub late: Money,
    /// Granted to replicas, and neither charged nor given back.
    pub reserved: Money,
    /// How many charges.
    pub charges: i64,
    /// Of the account: set aside at billing and granted to nobody.
    pub free_hold: Money,
    /// Of the account: charges that billing has not acknowledged.
    pub unsettled: Money,
    /// The admission rate in parts of a million: now, or when the day ended. Of an account: the
    /// ceiling over its campaigns.
    pub rate_ppm: i32,
    /// The currency of all amounts.
    pub currency: Currency,
    /// Replicas seen alive.
    pub replicas: u32,
    /// The moment of the figures.
    pub read_at: DateTime<Utc>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The account cannot be looked up.
    #[error("the account of the report")]
    Account(#[from] accounts::Error),
    /// The campaign cannot be looked up.
    #[error("the campaign of the report")]
    Campaign(#[from] campaigns::Error),
    /// The database failed.
    #[error("the report could not be read")]
    Db(#[from] db::Error),
}

/// The state of a parent that the caller sees, today when no day is given.
pub async fn pacing_state(
    services: &Services,
    caller: &Caller,
    parent: &Parent,
    day: Option<Day>,
) -> Result<PacingState, Error> {
    let now = services.clock.now();
    let today = Day::of(now);
    let day = day.unwrap_or(today);
    let (entity, currency) = match parent {
        Parent::Account(id) => {
            let account = accounts::find(services, now, caller, id).await?;
            (Entity::account(account.no), account.currency)
        }
        Parent::Campaign(id) => {
            let listed = campaigns::get(services, caller, id).await?;
            (listed.campaign.entity(), listed.account.currency)
        }
    };
    let mut client = services.db.get().await?;
    let snapshot = client.snapshot().await?;
    let limits = budgets::states_for(&snapshot, &[entity], day).await?;
    let weeks = budgets::weeks_for(&snapshot, &[entity], day).await?;
    let figures = store::figures(&snapshot, entity, day, now).await?;
    snapshot.rollback().await?;
    let limit = rules::limit(&figures, limits.first(), weeks.first(), day, today);
    Ok(PacingState {
        day,
        limit,
        charged: figures.charged,
        late: figures.late,
        reserved: figures.reserved,
        charges: figures.charges,
        free_hold: figures.free_hold,
        unsettled: figures.unsettled,
        rate_ppm: figures.rate_ppm(),
        currency,
        replicas: services.replicas.count(),
        read_at: now,
    })
}
