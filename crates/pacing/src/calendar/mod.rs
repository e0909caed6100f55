//! Days, weeks and the rules for changing a budget: every hard limit that pacing enforces.
//!
//! Pure: values in, values out. No clock (`now` is an argument), no SQL, no protobuf, no async.
//!
//! * [`policy`]: what a figure means (presets, units, minimums).
//! * [`changes`]: set, increase, decrease, take back, remove; a day passing; the change log.
//! * [`week`]: H(d), the most that a level may spend on a Moscow day, and which rule says so.
//! * [`schedule`]: a campaign's weekly hours in its own zone as a mask over a Moscow day.
//!
//! Always true here:
//! 1. A budget day is a Moscow day, whatever the campaign's zone.
//! 2. [`changes::BudgetState`] and [`changes::replay`] of its log say the same.
//! 3. H(d) depends on the state, the spend of earlier days of the week and nothing else, so any
//!    replica computes the same limit from the same rows.
//!
//! H(d) may fall below what day d has already spent: a set after hours without a figure, an
//! increase late in the week (its pot is one day's), a decrease that takes effect at once. Nothing
//! is left then, and overspend is measured against the highest H(d) that the day had.
//!
//! Where the rules leave room, the choice is (INFERRED):
//! * A change of preset (a campaign's daily figure to a weekly one, or back) is a set: at once, and
//!   its day keeps the higher of both day caps.
//! * An account's weekly figure is the average day W / 7 floored to 0.01, so one that means the same
//!   average as the figure in force is no change.
//! * The day of a restart takes the ordinary share of the old week and of the new one, 35 % when
//!   three or more days are scheduled; the old week is the highest one of that day. Conversion-paid
//!   campaigns take 100 % of both on that day only; other days follow the schedule's share.
//! * The weekly preset gives the whole W to the days from a set or restart to Sunday.
//! * `strict` takes a decrease at its word: R-145's highest figure of the day is not kept.
//! * Taking a decrease back is counted, for it changes what is pending.
//!
//! Not here: the share of demand that is let through (the controller), and the division of H(d)
//! among replicas (leases). Period budgets (R-157..R-160), `google` and `meta` have no preset yet.

pub mod changes;
pub mod policy;
pub mod schedule;
pub mod week;

#[cfg(test)]
mod tests_changes;
#[cfg(test)]
mod tests_laws;
#[cfg(test)]
mod tests_million;
#[cfg(test)]
mod tests_naive;
#[cfg(test)]
mod tests_reference;
#[cfg(test)]
mod tests_schedule;
#[cfg(test)]
mod tests_support;
#[cfg(test)]
mod tests_weekly;
