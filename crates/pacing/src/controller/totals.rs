//! What the controller is told of an entity at a tick.

/// What an entity has done since midnight, over all replicas. Micro-units, κ applied.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// S, charged to this day.
    pub charged: f64,
    /// I, expected still to be charged for what was admitted ([`super::inflight`]).
    pub in_flight: f64,
    /// What was admitted, by expected charges. It rises with each admission.
    pub admitted: f64,
    /// What is kept back above I while holds may cost more ([`super::inflight::margin`]).
    pub margin: f64,
    /// What was offered, admitted or not.
    pub offered: f64,
    /// What the profile expected where demand could be seen: [`Profile::until`] of now, or
    /// [`Profile::seen_until`] after a pause or for an entity that began in mid-day.
    pub expected: f64,
    /// How many opportunities were offered.
    pub opportunities: f64,
    /// Seconds in which demand could be seen.
    pub seen_seconds: f64,
    /// How old all of these figures are, seconds.
    pub age_seconds: f64,
    /// How long a charge takes to be counted, seconds.
    pub feedback_lag_seconds: f64,
}

impl Totals {
    /// S + I.
    pub fn committed(&self) -> f64 {
        self.charged + self.in_flight
    }
}
