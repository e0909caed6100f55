//! What an update makes of a campaign, and when it restarts the week. Pure.

use chrono::{DateTime, NaiveDate, Utc};

use super::{Changes, Profile};
use crate::calendar::schedule::Schedule;

/// A campaign would end before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the end {end} is before the start {start}")]
pub struct EndsBeforeStart {
    /// Its first day.
    pub start: NaiveDate,
    /// Its last day.
    pub end: NaiveDate,
}

/// Whether the dates fit together.
pub(crate) fn check_dates(
    start: Option<NaiveDate>,
    end: Option<NaiveDate>,
) -> Result<(), EndsBeforeStart> {
    match (start, end) {
        (Some(start), Some(end)) if end < start => Err(EndsBeforeStart { start, end }),
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

/// The profile after the changes.
pub(super) fn apply(before: &Profile, changes: &Changes) -> Result<Profile, EndsBeforeStart> {
    let Changes { display_name, zone, hours, start, end, payment } = changes;
    let schedule = Schedule {
        hours: hours.clone().unwrap_or_else(|| before.schedule.hours.clone()),
        zone: zone.unwrap_or(before.schedule.zone),
        start: start.unwrap_or(before.schedule.start),
        end: end.unwrap_or(before.schedule.end),
    };
    check_dates(schedule.start, schedule.end)?;
    Ok(Profile {
        display_name: display_name.clone().unwrap_or_else(|| before.display_name.clone()),
        schedule,
        payment: payment.unwrap_or(before.payment),
    })
}

/// Whether the change restarts the spend of the week: another payment model, or a start date moved
/// to the future, which is the future of the campaign's own zone. Nothing else does.
pub(super) fn restarts_week(before: &Profile, after: &Profile, now: DateTime<Utc>) -> bool {
    let today = now.with_timezone(&after.schedule.zone).date_naive();
    let moved_to_the_future = after.schedule.start != before.schedule.start
        && after.schedule.start.is_some_and(|start| start > today);
    before.payment != after.payment || moved_to_the_future
}
