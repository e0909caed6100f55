//! The section `pacer` of the configuration.

use adspend_common::config::HumanDuration;
use serde::{Deserialize, Serialize};

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
