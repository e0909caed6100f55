//! Work by the clock. Nothing depends on it having run: it only makes the books catch up with the time.

use std::{sync::Arc, time::Duration};

use adspend_common::{db, server::Stop};
use tokio_util::task::TaskTracker;

use crate::{grpc::Shared, holds};

/// Accounts whose expired holds are given back in one transaction.
const HOLD_BATCH: i64 = 500;

/// Starts every job; each ends when the service stops.
pub(crate) fn start(tracker: &TaskTracker, shared: &Arc<Shared>, stop: &Stop) {
    tracker.spawn(release_holds(Arc::clone(shared), stop.clone()));
    tracker.spawn(keep_time(Arc::clone(shared), stop.clone()));
}

/// Waits; false when the service stops.
async fn pause(stop: &Stop, length: Duration) -> bool {
    tokio::select! {
        () = stop.stopping().cancelled() => false,
        () = tokio::time::sleep(length) => true,
    }
}

async fn release_holds(shared: Arc<Shared>, stop: Stop) {
    while pause(&stop, shared.config.jobs.release_holds_every.get()).await {
        if let Err(error) = holds::expire_due(&shared.pool, &shared.clock, HOLD_BATCH).await {
            tracing::warn!(%error, "expired holds were not given back in the books");
        }
    }
}

async fn keep_time(shared: Arc<Shared>, stop: Stop) {
    while pause(&stop, shared.config.jobs.anchor_clock_every.get()).await {
        match db::anchor(&shared.pool, &shared.clock).await {
            Ok(Some(anchored)) => {
                let difference_micros = anchored.wall_difference_micros;
                if difference_micros.saturating_abs() > 1_000_000 {
                    tracing::warn!(difference_micros, "the host's clock is not the database's");
                }
            }
            Ok(None) => return,
            Err(error) => tracing::warn!(%error, "the clock could not be compared"),
        }
    }
}
