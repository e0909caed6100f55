//! Who stood still because a limit was reached, and when it could go on.

use adspend_common::identity::Caller;
use adspend_common::money::Currency;
use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use super::store::{self, SuspensionFilter};
use super::{Error, KEPT, subject};
use crate::Services;
use crate::admission::{Level, Reason};
use crate::budgets::Parent;

/// What let it go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Midnight in Moscow.
    Midnight,
    /// A change of the budget.
    BudgetChange,
}

/// A time in which an account or a campaign stood still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// Who.
    pub parent: Parent,
    /// Whose limit it was: always its own.
    pub level: Level,
    /// The limit was that of the week, not of the day.
    pub by_week: bool,
    /// The day whose limit it was.
    pub day: Day,
    /// The limit, in micro-units.
    pub limit_micros: i64,
    /// Charged and reserved when it was reached.
    pub used_micros: i64,
    /// When it was reached.
    pub began_at: DateTime<Utc>,
    /// When it could go on and why; `None` while it stands, or when nobody has written it down.
    pub ended: Option<(DateTime<Utc>, End)>,
}

impl Suspension {
    /// What opportunities are denied for meanwhile.
    pub fn reason(&self) -> Reason {
        match (self.level, self.by_week) {
            (Level::Campaign, false) => Reason::CampaignDayLimit,
            (Level::Campaign, true) => Reason::CampaignWeekLimit,
            (Level::Account, false) => Reason::AccountDayLimit,
            (Level::Account, true) => Reason::AccountWeekLimit,
        }
    }

    /// Its end as of a moment: a suspension ends with its day, whenever that is written down.
    pub fn ended_by(&self, now: DateTime<Utc>) -> Option<(DateTime<Utc>, End)> {
        let midnight = (self.day.end(), End::Midnight);
        self.ended.or_else(|| (now >= midnight.0).then_some(midnight))
    }

    /// Whether it stood at a moment.
    pub fn stood_at(&self, at: DateTime<Utc>) -> bool {
        let end = self.ended.map_or(self.day.end(), |(end, _)| end);
        self.began_at <= at && at < end
    }
}

/// A part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub suspensions: Vec<Suspension>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<i64>,
    /// The currency of the amounts.
    pub currency: Currency,
    /// The moment of the answer.
    pub read_at: DateTime<Utc>,
}

/// A page of the last 14 days; `before` is where the last page ended.
pub async fn list(
    services: &Services,
    caller: &Caller,
    parent: &Parent,
    with_campaigns: bool,
    before: Option<i64>,
    limit: u32,
) -> Result<Page, Error> {
    let subject = subject(services, caller, parent).await?;
    let now = services.clock.now();
    let filter = SuspensionFilter {
        entity: subject.entity,
        with_campaigns: with_campaigns && !subject.is_campaign(),
        since: now - KEPT,
        before,
        limit: i64::from(limit) + 1,
    };
    let mut found = store::suspensions(&services.db.get().await?, &filter).await?;
    let more = found.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = found.last().filter(|_| more).map(|(no, _)| *no);
    let suspensions = found.into_iter().map(|(_, suspension)| suspension).collect();
    Ok(Page { suspensions, next, currency: subject.currency, read_at: now })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// it resumes at 00:00 in Moscow, whether or not somebody was there to write it down.
    #[test]
    fn a_suspension_ends_with_its_day() {
        let day: Day = "2025-06-11".parse().unwrap();
        let noon = day.start() + chrono::TimeDelta::hours(12);
        let open = Suspension {
            parent: Parent::Account(adspend_common::id::AccountId::parse("shop").unwrap()),
            level: Level::Account,
            by_week: true,
            day,
            limit_micros: 5,
            used_micros: 5,
            began_at: noon,
            ended: None,
        };
        assert_eq!(open.reason(), Reason::AccountWeekLimit);
        assert_eq!(open.ended_by(noon), None);
        assert_eq!(open.ended_by(day.end()), Some((day.end(), End::Midnight)));
        let changed = Suspension { ended: Some((noon, End::BudgetChange)), ..open.clone() };
        assert_eq!(changed.ended_by(day.end()), Some((noon, End::BudgetChange)));
        let before = noon - chrono::TimeDelta::microseconds(1);
        for (name, suspension, at, expected) in [
            ("before", &open, before, false),
            ("at its beginning", &open, noon, true),
            ("at midnight", &open, day.end(), false),
            ("at its end", &changed, noon, false),
        ] {
            assert_eq!(suspension.stood_at(at), expected, "{name}");
        }
    }
}
