//! What the leases said last of an entity that gets no more, and how long it counts.

use super::{Denial, Level, Moment, Reason};

/// The leases' last word on an entity: why it gets no more than it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Whose limit it is.
    pub level: Option<Level>,
    /// The limit.
    pub limit_micros: i64,
    /// Charged and reserved when it was cut.
    pub used_micros: i64,
    /// The Moscow day that it speaks of; it means nothing on another.
    pub day_no: i32,
    /// What the caller is told: asking again earlier is of no use.
    pub retry_at_micros: i64,
    /// It stands until then unless it is renewed: after a pause the leases are asked afresh.
    pub until_micros: i64,
    /// The smallest price that it refuses; for less, the leases are asked.
    pub least_micros: i64,
}

impl Refusal {
    pub(super) fn stands(&self, moment: &Moment, price_micros: i64) -> bool {
        self.day_no == moment.day_no
            && moment.micros < self.until_micros
            && price_micros >= self.least_micros
    }

    pub(super) fn denial(&self, moment: &Moment) -> Denial {
        Denial {
            reason: self.reason,
            level: self.level,
            limit_micros: self.limit_micros,
            used_micros: self.used_micros,
            retry_after_micros: self.retry_at_micros.saturating_sub(moment.micros).max(0),
        }
    }
}
