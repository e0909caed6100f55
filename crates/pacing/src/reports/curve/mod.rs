//! The course of spend by the minute, up to eight weeks in one answer.
//!
//! Cost: 1 344 rows found by the key, 3.5 MB from the database, at most 80 640 points. As a message
//! they are below 3.3 MB whatever the numbers are: nine bytes at most for each of three sums of
//! money, less for the rest.

mod rules;

use adspend_common::identity::Caller;
use adspend_common::money::Currency;
use adspend_common::time::Day;
use chrono::{DateTime, TimeDelta, Utc};

use super::{Error, store, subject};
use crate::Services;
use crate::budgets::Parent;

pub use rules::{Columns, Grid};
use rules::{Layout, MINUTES_PER_DAY};

/// How far back, and how long, a curve may be.
pub const LONGEST: TimeDelta = TimeDelta::weeks(8);

/// Whether a day consists of whole steps of so many minutes.
pub const fn divides_a_day(step_minutes: u32) -> bool {
    step_minutes > 0 && MINUTES_PER_DAY.is_multiple_of(step_minutes)
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From when; today's midnight when not said.
    pub start: Option<DateTime<Utc>>,
    /// Until when; now when not said.
    pub end: Option<DateTime<Utc>>,
    /// Minutes between two points; [divides a day](divides_a_day).
    pub step_minutes: u32,
}

/// A span that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSpan {
    /// It ends before it begins.
    #[error("must not be before start_time")]
    Backwards,
    /// Nobody has so much.
    #[error("must be at most eight weeks after start_time")]
    TooLong,
}

impl Span {
    /// Its points as of now: what is older than eight weeks is gone, what is to come is not there.
    ///
    /// # Errors
    /// When it runs backwards or over more than eight weeks.
    pub fn grid(&self, now: DateTime<Utc>) -> Result<Grid, BadSpan> {
        let start = self.start.unwrap_or_else(|| Day::of(now).start());
        let end = self.end.unwrap_or_else(|| now.max(start));
        if end < start {
            return Err(BadSpan::Backwards);
        }
        if end - start > LONGEST {
            return Err(BadSpan::TooLong);
        }
        Ok(Grid::new(start.max(now - LONGEST), end.min(now), self.step_minutes))
    }
}

/// A curve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curve {
    /// Where its points are.
    pub grid: Grid,
    /// The points.
    pub columns: Columns,
    /// The currency of the amounts.
    pub currency: Currency,
}

/// The curve of a parent that the caller sees.
pub async fn spend_curve(
    services: &Services,
    caller: &Caller,
    parent: &Parent,
    grid: Grid,
) -> Result<Curve, Error> {
    let subject = subject(services, caller, parent).await?;
    let mut layout = Layout::new(grid);
    if grid.steps > 0 {
        let client = services.db.get().await?;
        let (from, to) = (grid.first_hour(), grid.end());
        store::hours(&client, subject.entity, from, to, |hour, minutes| {
            layout.hour(hour, minutes);
        })
        .await?;
    }
    Ok(Curve { grid, columns: layout.finish(), currency: subject.currency })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_eight_weeks_at_most_and_ends_now() {
        let now = Day::of(DateTime::UNIX_EPOCH).plus_days(20_000).start() + TimeDelta::hours(5);
        let span = |start: i64, end: i64| Span {
            start: Some(now + TimeDelta::hours(start)),
            end: Some(now + TimeDelta::hours(end)),
            step_minutes: 60,
        };
        let eight_weeks = 8 * 7 * 24;
        for (name, span, expected) in [
            ("today", Span { start: None, end: None, step_minutes: 60 }, Ok(5)),
            ("all there is", span(-eight_weeks, 0), Ok(eight_weeks as u32)),
            ("to come", span(-1, 7), Ok(1)),
            ("gone", span(-2 * eight_weeks, -eight_weeks - 1), Ok(0)),
            ("half gone", span(-eight_weeks - 10, -eight_weeks + 10), Ok(10)),
            ("nothing", span(-1, -1), Ok(0)),
            ("backwards", span(0, -1), Err(BadSpan::Backwards)),
            ("too long", span(-eight_weeks - 1, 0), Err(BadSpan::TooLong)),
        ] {
            assert_eq!(span.grid(now).map(|grid| grid.steps), expected, "{name}");
        }
    }
}
