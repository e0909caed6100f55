//! The section `pacer` of the configuration.

use adspend_common::config::HumanDuration;
use serde::{Deserialize, Serialize};

use super::rules::parts;
use crate::controller::rate::RATE_UNKNOWN;

/// How rates are set.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether rates throttle. False: every rate is 1 and only limits and money stop a campaign, as
    /// if all budgets had the mode ASAP; demand is learned and the course of days is kept all the
    /// same.
    pub throttle: bool,
    /// How often rates are set, in the clock's time; with a fast clock every 50 ms of real time.
    pub tick: HumanDuration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { throttle: true, tick: HumanDuration::from_secs(5) }
    }
}

impl Settings {
    /// The rate of a campaign with a limit until its first tick, in parts of 2^32.
    pub fn first_rate_parts(&self) -> u32 {
        parts(if self.throttle { RATE_UNKNOWN } else { 1.0 })
    }
}
