//! How the process is told to stop, and how it tells its long-lived parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal as listen};
use tokio_util::sync::CancellationToken;

/// The steps of stopping, in order. Kept as a number beside the tokens, because it is read on
/// every poll of a connection, where a token would take a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Serving, or not ready but still serving.
    Serving,
    /// No new work: connections say GOAWAY, request streams end.
    Stopping,
    /// Streams that have not ended are cut with `UNAVAILABLE`.
    Cutting,
    /// Connections are closed.
    Closed,
}

/// Tells long streams and jobs to end. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    phase: AtomicU8,
    stopping: CancellationToken,
    cutting: CancellationToken,
    closed: CancellationToken,
}

impl Stop {
    /// Nothing stops yet.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Cancelled when the server ends its streams: after the notice of the drain. A handler of a
    /// long stream, and a job, may select on it to end at a good place. A stream whose requests
    /// come as a stream needs no select: they simply end.
    pub fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Stopping,
            2 => Phase::Cutting,
            _ => Phase::Closed,
        }
    }

    /// The token that is cancelled when `phase` begins.
    pub(crate) fn token(&self, phase: Phase) -> &CancellationToken {
        match phase {
            Phase::Serving | Phase::Stopping => &self.0.stopping,
            Phase::Cutting => &self.0.cutting,
            Phase::Closed => &self.0.closed,
        }
    }

    /// Ends streams and jobs. [`super::Bound::run`] does it; by hand for tests without a server.
    pub fn begin(&self) {
        self.enter(Phase::Stopping);
    }

    pub(crate) fn cut(&self) {
        self.enter(Phase::Cutting);
    }

    pub(crate) fn close(&self) {
        self.enter(Phase::Closed);
    }

    fn enter(&self, phase: Phase) {
        self.0.phase.fetch_max(phase as u8, Ordering::AcqRel);
        for earlier in [Phase::Stopping, Phase::Cutting, Phase::Closed] {
            if earlier <= phase {
                self.token(earlier).cancel();
            }
        }
    }
}

/// Ends when the process is told to stop: SIGTERM, or SIGINT from a terminal.
pub async fn signal() {
    let interrupted = async {
        tokio::signal::ctrl_c().await.ok();
    };
    match listen(SignalKind::terminate()) {
        Ok(mut terminated) => tokio::select! {
            () = interrupted => {}
            _ = terminated.recv() => {}
        },
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be listened for");
            interrupted.await;
        }
    }
}
