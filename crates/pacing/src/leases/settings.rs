//! The section `leases` of the configuration.

use std::time::Duration;

use adspend_common::config::HumanDuration;
use serde::{Deserialize, Serialize};

/// Durations marked *real* pass by a wall clock even when the service's clock is simulated: they
/// are about round trips. The others are the clock's own.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long after its slice's end a token can be settled in time. All tokens of a slice
    /// expire together.
    pub admission_lifetime: HumanDuration,
    /// How much later a slice is resolved: covers differences between clocks and late messages.
    pub grace: HumanDuration,
    /// How long a slice may be admitted with. With a fast clock, make it seconds of real time.
    pub slice_ttl: HumanDuration,
    /// How much of its own spend an entity fetches at once (real).
    pub slice_spend: HumanDuration,
    /// How often calls for slices are looked at, at least (real).
    pub tick: HumanDuration,
    /// How often slices are read back and reported (real).
    pub exchange_interval: HumanDuration,
    /// How often due slices are looked for (real).
    pub sweep_interval: HumanDuration,
    /// A slice that nobody took from for so long is given back.
    pub idle_after: HumanDuration,
    /// How soon an entity that was refused is asked for again (real).
    pub recheck: HumanDuration,
    /// How long a hold is opened for, and extended to while in use.
    pub hold_ttl: HumanDuration,
    /// How much of an account's spend is held (real).
    pub hold_horizon: HumanDuration,
    /// The smallest hold that is asked for, in whole units of the account's currency.
    pub hold_floor_units: u32,
    /// A hold that was not used for so long is given back.
    pub hold_idle: HumanDuration,
    /// How often holds are looked after when nothing is urgent (real).
    pub hold_interval: HumanDuration,
    /// The longest wait between questions to billing about an account without money (real).
    pub hold_backoff: HumanDuration,
    /// How long a caller waits for a cold entity at most (real). Zero: not at all.
    pub cold_wait: HumanDuration,
    /// How many campaigns a replica knows at most; 400 bytes each when used.
    pub campaigns: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        let seconds = HumanDuration::from_secs;
        Settings {
            admission_lifetime: seconds(600),
            grace: seconds(30),
            slice_ttl: seconds(10),
            slice_spend: seconds(2),
            tick: HumanDuration::from_millis(25),
            exchange_interval: seconds(1),
            sweep_interval: seconds(1),
            idle_after: seconds(5),
            recheck: HumanDuration::from_millis(500),
            hold_ttl: seconds(1_800),
            hold_horizon: seconds(60),
            hold_floor_units: 1,
            hold_idle: seconds(300),
            hold_interval: seconds(5),
            hold_backoff: seconds(5),
            cold_wait: seconds(1),
            campaigns: 1 << 20,
        }
    }
}

impl Settings {
    /// How long a token lives on average: admissions fall anywhere into the life of a slice.
    pub fn token_life(&self) -> Duration {
        self.admission_lifetime.get() + self.slice_ttl.get() / 2
    }

    /// How long after its end a slice is resolved.
    pub(super) fn resolve_after(&self) -> Duration {
        self.admission_lifetime.get() + self.grace.get()
    }
}
