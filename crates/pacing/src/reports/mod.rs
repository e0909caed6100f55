//! Reports: what pacing knows of an account or a campaign, read from its own database at one
//! moment, and what it expects.
//!
//! | report | read from |
//! |---|---|
//! | [`state`]: limits, charges, and why this rate | `headroom`, holds, `pace_reading` |
//! | [`conversions`]: what is still to come of them today | `conversion` |
//! | [`curve`]: the course of spend by the minute, eight weeks | `pace_hour` |
//! | [`suspensions`]: who stood still at a limit, 14 days | `suspension` |
//! | [`explain`]: the same decision again, with its numbers | the coin, `pace_reading`, `suspension` |
//! | [`simulate`]: a budget over a week, by seed | [`demand`] |
//! | [`preview`]: a change of a budget, with what to expect | [`demand`] |
//!
//! The limit of today and of days to come is the calendar's, with everything charged and reserved
//! counted as spent, as a grant of this moment would see it; that of a day that is over is the
//! highest that grants of it were cut under.
//!
//! Expectations are made by the code that paces: the forecasts and the plan of `pacer`, the
//! controller's own simulation. Not here: writing any of what is read (`pacer`, `leases`).

pub mod conversions;
pub mod curve;
mod demand;
pub mod explain;
pub mod preview;
pub mod reading;
mod rules;
pub mod simulate;
pub mod state;
mod store;
pub mod suspensions;

use adspend_common::db;
use adspend_common::identity::Caller;
use adspend_common::money::Currency;
use chrono::TimeDelta;

use crate::Services;
use crate::budgets::{self, Entity, Parent};
use crate::{accounts, campaigns};

/// How long readings and suspensions are kept.
const KEPT: TimeDelta = TimeDelta::days(14);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The account cannot be looked up.
    #[error("the account of the report")]
    Account(#[from] accounts::Error),
    /// The campaign cannot be looked up.
    #[error("the campaign of the report")]
    Campaign(#[from] campaigns::Error),
    /// The budget cannot be tried.
    #[error("the budget of the report")]
    Budget(#[from] budgets::Error),
    /// The admission token is not of this campaign and day.
    #[error("not the token of an admission of this campaign on that day")]
    Token,
    /// Too many simulations are asked for at once.
    #[error("as many simulations are waiting as may")]
    Overloaded,
    /// The database failed.
    #[error("the report could not be read")]
    Db(#[from] db::Error),
}

/// Whom a report is about.
#[derive(Debug, Clone, Copy)]
struct Subject {
    entity: Entity,
    currency: Currency,
}

impl Subject {
    /// The account that pays for it.
    fn account(&self) -> Entity {
        Entity::account(self.entity.account_no)
    }

    fn is_campaign(&self) -> bool {
        self.entity != self.account()
    }
}

/// Looks up a parent that the caller sees.
async fn subject(services: &Services, caller: &Caller, parent: &Parent) -> Result<Subject, Error> {
    let now = services.clock.now();
    Ok(match parent {
        Parent::Account(id) => {
            let account = accounts::find(services, now, caller, id).await?;
            Subject { entity: Entity::account(account.no), currency: account.currency }
        }
        Parent::Campaign(id) => {
            let listed = campaigns::get(services, caller, id).await?;
            Subject { entity: listed.campaign.entity(), currency: listed.account.currency }
        }
    })
}
