//! The admission rate: how much of the offered demand an entity takes, so that its money lasts.
//!
//! Pure: values in, values out. `now` is an argument; no I/O, no async, no atomics. The same code
//! serves production (a tick of five seconds per entity), simulation and tests.
//!
//! * [`demand`]: what was offered, quarter hour by quarter hour, and the forecast made of it.
//! * [`shapes`]: days that everybody knows, for whom nothing is known of.
//! * [`plan`]: the week's money over its days: one common rate, water-filled under the day caps.
//! * [`curve`]: the day's money over its open minutes.
//! * `today`: the curve as the day goes: its shape follows the demand that came.
//! * [`rate`]: the controller, a tracking law with feed-forward.
//! * `alive`: the least that keeps delivery observable.
//! * [`hierarchy`]: the account's pass-through ceiling over its campaigns.
//! * [`inflight`]: money that admitted opportunities may still cost.
//! * [`pool`]: the same of one slice, as it is admitted, charged and forgotten.
//! * [`conversion`]: the same where charges come days later; [`projection`]: their week.
//! * [`few`]: which opportunities to take when a day has room for a handful.
//! * [`simulate`]: an entity's day or week with the very same controller, by seed.
//!
//! Units: money is f64 micro-units here. A rate, a forecast or a target that is off by a fraction
//! of a micro-unit does no harm, because nothing here is a limit: H(d) is computed by `calendar`
//! in whole micro-units and kept by `leases`. Times of day are seconds since Moscow midnight.
//!
//! Not here: limits (`calendar`), the coin and its atomics (`admission`), storage and the loop.

mod alive;
pub mod conversion;
pub mod curve;
pub mod demand;
pub mod few;
pub mod hierarchy;
pub mod inflight;
pub mod plan;
pub mod pool;
pub mod projection;
pub mod rate;
pub mod shapes;
pub mod simulate;
mod today;
mod totals;

#[cfg(test)]
mod tests_alive;
#[cfg(test)]
mod tests_conversions;
#[cfg(test)]
mod tests_demand;
#[cfg(test)]
mod tests_laws;
#[cfg(test)]
mod tests_money;
#[cfg(test)]
mod tests_plan;
#[cfg(test)]
mod tests_support;
#[cfg(test)]
mod tests_today;
#[cfg(test)]
mod tests_traps;
#[cfg(test)]
mod tests_worlds;

/// Seconds of a Moscow day; it has no daylight saving.
pub const DAY_SECONDS: f64 = 86_400.0;
/// Seconds of a slot, the grain of forecasts: a quarter hour.
pub const SLOT_SECONDS: f64 = 900.0;
/// Slots of a day.
pub const SLOTS_PER_DAY: usize = 96;
/// Slots of a week, Monday 00:00 Moscow time first.
pub const SLOTS: usize = 7 * SLOTS_PER_DAY;
/// How often a rate is set.
pub const TICK_SECONDS: f64 = 5.0;

/// One figure per slot of a day.
pub type DaySlots = [f64; SLOTS_PER_DAY];
/// One figure per slot of a week, Monday first.
pub type WeekSlots = [f64; SLOTS];
