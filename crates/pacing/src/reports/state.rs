//! An account or a campaign on one day: limits, charges, money, and why its rate is what it is.

use adspend_common::identity::Caller;
use adspend_common::money::{Currency, Money};
use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use super::conversions::OpenConversions;
use super::reading::Reading;
use super::suspensions::Suspension;
use super::{Error, conversions, rules, store, subject};
use crate::Services;
use crate::budgets::{self, Parent};

/// An account or a campaign on one day.
#[derive(Debug, Clone, PartialEq)]
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
    /// The currency of all amounts.
    pub currency: Currency,
    /// Replicas seen alive.
    pub replicas: u32,
    /// The moment of the figures.
    pub read_at: DateTime<Utc>,
    /// The reading in force now, or at the end of a day that is over.
    pub reading: Option<Reading>,
    /// Of a campaign: its account's.
    pub account_reading: Option<Reading>,
    /// It stands still because it reached this limit.
    pub suspension: Option<Suspension>,
    /// Of today: what conversions are still to come; `None` where none are paid for.
    pub open_conversions: Option<OpenConversions>,
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
    let subject = subject(services, caller, parent).await?;
    let entity = subject.entity;
    // Of a day to come there is nothing; of one that is over, what was in force at its end.
    let as_of = if day < today { day.end() - chrono::TimeDelta::microseconds(1) } else { now };
    let mut client = services.db.get().await?;
    let snapshot = client.snapshot().await?;
    let limits = budgets::states_for(&snapshot, &[entity], day).await?;
    let weeks = budgets::weeks_for(&snapshot, &[entity], day).await?;
    let figures = store::figures(&snapshot, entity, day, now).await?;
    let (mut reading, mut account_reading, mut suspensions) = (None, None, Vec::new());
    if day <= today {
        reading = store::readings(&snapshot, entity, as_of).await?.into_iter().next();
        if subject.is_campaign() {
            let account = subject.account();
            account_reading = store::readings(&snapshot, account, as_of).await?.into_iter().next();
        }
        suspensions = store::suspended(&snapshot, entity, day, as_of, as_of).await?;
    }
    let limit = rules::limit(&figures, limits.first(), weeks.first(), day, today);
    let open_conversions = if day == today {
        conversions::open(&snapshot, entity, day, limit, figures.charged).await?
    } else {
        None
    };
    snapshot.rollback().await?;
    Ok(PacingState {
        day,
        limit,
        charged: figures.charged,
        late: figures.late,
        reserved: figures.reserved,
        charges: figures.charges,
        free_hold: figures.free_hold,
        unsettled: figures.unsettled,
        currency: subject.currency,
        replicas: services.replicas.count(),
        read_at: now,
        reading,
        account_reading,
        open_conversions,
        suspension: suspensions.into_iter().find(|suspension| suspension.parent == *parent),
    })
}
