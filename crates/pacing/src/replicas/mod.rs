//! What the replicas of the service know of each other: that they live, and the keys they share.
//!
//! Nothing is safe or unsafe by the count: it only shapes the sizes of slices. A replica that died
//! is counted for ten missed beats more.

mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use adspend_common::db;
use adspend_common::server::Stop;
use adspend_common::telemetry;
use adspend_common::time::Clock;
use chrono::TimeDelta;

use crate::Services;

pub use store::secret;

/// How often a replica says that it lives, in real time.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Beats that may be missed before a replica counts as gone.
const MISSED_BEATS: u32 = 10;

/// How many replicas serve, as of the last beat; at least one.
#[derive(Debug, Clone)]
pub struct Count(Arc<AtomicU32>);

impl Count {
    pub(crate) fn new() -> Count {
        Count(Arc::new(AtomicU32::new(1)))
    }

    /// A number that somebody else knows. For simulations.
    pub fn of(count: u32) -> Count {
        Count(Arc::new(AtomicU32::new(count.max(1))))
    }

    /// The number of replicas.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps this replica's row and the count until the service stops, then removes the row.
pub(crate) async fn keep(services: Services, stop: Stop) {
    let gauge = telemetry::meter()
        .u64_gauge("pacing.replicas")
        .with_unit("{process}")
        .with_description("Processes that serve, as this one sees it")
        .build();
    loop {
        match beat(&services).await {
            Ok(count) => {
                services.replicas.0.store(count.max(1), Ordering::Relaxed);
                gauge.record(count.into(), &[]);
            }
            Err(error) => tracing::warn!(%error, "this replica could not be noted"),
        }
        tokio::select! {
            () = stop.stopping().cancelled() => break,
            () = tokio::time::sleep(BEAT_INTERVAL) => {}
        }
    }
    if let Err(error) = leave(&services).await {
        tracing::warn!(%error, "this replica could not be struck off; it will count as gone");
    }
}

async fn beat(services: &Services) -> Result<u32, db::Error> {
    let now = services.clock.now();
    store::beat(&services.db.get().await?, services.replica, now, now - gone_after(services)).await
}

async fn leave(services: &Services) -> Result<(), db::Error> {
    store::leave(&services.db.get().await?, services.replica).await
}

/// Beats come in real time, the moments in the rows are the clock's.
fn gone_after(services: &Services) -> TimeDelta {
    clock_time(&services.clock, BEAT_INTERVAL * MISSED_BEATS)
}

/// How much of the clock's time passes in so much real time: more of a simulated clock's.
pub(crate) fn clock_time(clock: &Clock, real: Duration) -> TimeDelta {
    // Speeds are whole numbers; an hour is long enough to tell them apart.
    let hour = Duration::from_secs(3_600);
    let speed = (hour.as_secs_f64() / clock.real_duration(hour).as_secs_f64()).round();
    let passed = Duration::try_from_secs_f64(real.as_secs_f64() * speed).unwrap_or(Duration::MAX);
    TimeDelta::from_std(passed).unwrap_or(TimeDelta::MAX)
}
