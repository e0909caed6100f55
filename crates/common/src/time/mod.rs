//! Time: one clock that is made in `main`, and the Moscow day.
//!
//! Nothing else in the project asks the machine what time it is: rules take `now` as an argument,
//! SQL takes it as a parameter, and `now` comes from a [`Clock`].

mod clock;
mod day;
mod simulated;
mod system;

use chrono::FixedOffset;

pub use clock::{Clock, HostClock, InvalidClock, ManualClock};
pub use day::Day;
pub use system::Anchored;

/// Moscow time: UTC+3 without daylight saving, the zone of budget days (rules.md, preface).
pub const MSK: FixedOffset =
    FixedOffset::east_opt(3 * 60 * 60).expect("three hours are less than a day");
