//! How much work is in progress at once, in the whole process.
//!
//! More than `max_in_flight` calls wait, at most `max_queue_wait` and at most as many as are let
//! in; the rest is refused at once. Without a bound, goodput falls to nothing at five times the
//! capacity (reliability.md, Facts). tower's limits are per connection, so this is ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Code;

use crate::identity::Access;
use crate::rpc::{Deadline, Reason, Refusal, refuse};

/// How many streams may be open in the process. They are bounded apart from calls, because they
/// live long and do nothing most of the time.
const MAX_OPEN_STREAMS: usize = 4_096;

/// How many streams may be open whose callers need not say who they are: watchers of health. Apart
/// from the others, so that a stranger cannot take their places.
const MAX_OPEN_STREAMS_OF_ANYBODY: usize = 256;

#[derive(Debug)]
pub(super) struct Gate {
    calls: Semaphore,
    streams: Arc<Semaphore>,
    streams_of_anybody: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_in_flight: usize,
    max_wait: Duration,
}

/// A stream's place; free again when dropped.
pub(super) type StreamPlace = tokio::sync::OwnedSemaphorePermit;

impl Gate {
    pub(super) fn new(max_in_flight: usize, max_wait: Duration) -> Gate {
        Gate {
            calls: Semaphore::new(max_in_flight.min(Semaphore::MAX_PERMITS)),
            streams: Arc::new(Semaphore::new(MAX_OPEN_STREAMS)),
            streams_of_anybody: Arc::new(Semaphore::new(MAX_OPEN_STREAMS_OF_ANYBODY)),
            waiting: AtomicUsize::new(0),
            max_in_flight,
            max_wait,
        }
    }

    /// A call's place, at once in health.
    pub(super) async fn call(&self, deadline: Deadline) -> Result<SemaphorePermit<'_>, Refusal> {
        match self.calls.try_acquire() {
            Ok(place) => Ok(place),
            Err(_) => self.wait(deadline).await,
        }
    }

    async fn wait(&self, deadline: Deadline) -> Result<SemaphorePermit<'_>, Refusal> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.max_in_flight {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(self.overloaded());
        }
        let _waiting = Waiting(&self.waiting);
        let patience = self.max_wait.min(deadline.remaining());
        match tokio::time::timeout(patience, self.calls.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) if deadline.has_passed() => Err(Deadline::exceeded()),
            Ok(Err(_)) | Err(_) => Err(self.overloaded()),
        }
    }

    /// A stream's place; those of callers that nobody knows are few.
    pub(super) fn stream(&self, access: Access) -> Result<StreamPlace, Refusal> {
        let places = match access {
            Access::Roles(_) => &self.streams,
            Access::Anybody => &self.streams_of_anybody,
        };
        Arc::clone(places).try_acquire_owned().map_err(|_| self.overloaded())
    }

    /// Calls in progress.
    pub(super) fn in_flight(&self) -> usize {
        self.max_in_flight.saturating_sub(self.calls.available_permits())
    }

    /// Streams that are open, without the watchers of health.
    pub(super) fn open_streams(&self) -> usize {
        MAX_OPEN_STREAMS.saturating_sub(self.streams.available_permits())
    }

    fn overloaded(&self) -> Refusal {
        refuse(
            Code::ResourceExhausted,
            Reason::Overloaded,
            "the service is at its limit of work; come back later",
        )
        .retry_after(self.max_wait.saturating_mul(2))
    }
}

/// Counts one that waits, also when its caller goes meanwhile.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_gate_refuses_after_a_bounded_wait() {
        let gate = Gate::new(1, Duration::from_millis(50));
        let place = gate.call(Deadline::none()).await.unwrap();
        assert_eq!(gate.in_flight(), 1);
        let begin = tokio::time::Instant::now();
        let refusal = gate.call(Deadline::none()).await.unwrap_err();
        assert_eq!(begin.elapsed(), Duration::from_millis(50));
        assert_eq!((refusal.code, refusal.reason), (Code::ResourceExhausted, Reason::Overloaded));
        let refusal = gate.call(Deadline::after(Duration::from_millis(5))).await.unwrap_err();
        assert_eq!(refusal.code, Code::DeadlineExceeded);

        let (waited, ()) = tokio::join!(gate.call(Deadline::none()), async { drop(place) });
        assert!(waited.is_ok());
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_stranger_s_streams_leave_room_for_the_others() {
        let gate = Gate::new(1, Duration::ZERO);
        let held: Vec<_> = std::iter::from_fn(|| gate.stream(Access::Anybody).ok()).collect();
        assert_eq!(held.len(), MAX_OPEN_STREAMS_OF_ANYBODY);
        assert!(gate.stream(Access::Roles(1)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_are_let_in() {
        let gate = Gate::new(1, Duration::from_millis(50));
        let _place = gate.call(Deadline::none()).await.unwrap();
        let begin = tokio::time::Instant::now();
        let first = gate.call(Deadline::none());
        let second = async {
            let refusal = gate.call(Deadline::none()).await.unwrap_err();
            (begin.elapsed(), refusal)
        };
        let (_, (elapsed, refusal)) = tokio::join!(first, second);
        assert_eq!((elapsed, refusal.code), (Duration::ZERO, Code::ResourceExhausted));
    }
}
