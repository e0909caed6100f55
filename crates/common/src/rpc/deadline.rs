//! The time a call has left, to be passed on: to the next hop, into `statement_timeout`, into a
//! wait for a place in a queue.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Request;

use super::{Context, Reason, Refusal, refuse};

/// What [`Deadline::remaining`] answers when there is no deadline: long enough not to matter, and
/// short enough to be added to any moment.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// The moment after which nobody waits for the answer. Counted on the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// The deadline that the edge gave to this call: the caller's, capped, or the default.
    ///
    /// A streaming call may have none; a request that did not come through the edge has none.
    pub fn of<T>(request: &Request<T>) -> Deadline {
        request.extensions().get::<Context>().map_or(Deadline::none(), |context| context.deadline)
    }

    /// A deadline this long from now.
    pub fn after(wait: Duration) -> Deadline {
        Deadline(Some(Instant::now() + wait.min(FAR)))
    }

    /// A deadline at this moment.
    pub fn at(instant: Instant) -> Deadline {
        Deadline(Some(instant))
    }

    /// No deadline.
    pub const fn none() -> Deadline {
        Deadline(None)
    }

    /// The moment, if there is one.
    pub const fn instant(self) -> Option<Instant> {
        self.0
    }

    /// What is left: zero when it has passed, a day when there is no deadline.
    pub fn remaining(self) -> Duration {
        match self.0 {
            Some(instant) => instant.saturating_duration_since(Instant::now()),
            None => FAR,
        }
    }

    /// Whether nobody waits any more.
    pub fn has_passed(self) -> bool {
        self.0.is_some_and(|instant| instant <= Instant::now())
    }

    /// The earlier of this deadline and one that long from now.
    pub fn within(self, wait: Duration) -> Deadline {
        let other = Instant::now() + wait.min(FAR);
        Deadline(Some(self.0.map_or(other, |instant| instant.min(other))))
    }

    /// Runs `work` until the deadline. The work is dropped when it passes, so whatever must not be
    /// cut in half belongs into a task of its own.
    pub async fn bound<F: Future>(self, work: F) -> Result<F::Output, Refusal> {
        match self.0 {
            Some(instant) => tokio::time::timeout_at(instant, work)
                .await
                .map_err(|_elapsed| Deadline::exceeded()),
            None => Ok(work.await),
        }
    }

    /// The refusal of a call whose deadline has passed.
    pub fn exceeded() -> Refusal {
        refuse(
            tonic::Code::DeadlineExceeded,
            Reason::DeadlineExceeded,
            "the deadline passed before the work was done",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_is_bounded_by_what_is_left() {
        let deadline = Deadline::after(Duration::from_millis(100));
        assert_eq!(deadline.remaining(), Duration::from_millis(100));
        assert_eq!(deadline.bound(async { 7 }).await.unwrap(), 7);
        let refusal = deadline.bound(std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(refusal.code, tonic::Code::DeadlineExceeded);
        assert!(deadline.has_passed());
        assert_eq!(deadline.remaining(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_deadline_wins() {
        let deadline = Deadline::after(Duration::from_secs(10));
        assert_eq!(deadline.within(Duration::from_secs(60)), deadline);
        assert_eq!(
            deadline.within(Duration::from_secs(1)),
            Deadline::after(Duration::from_secs(1))
        );
        assert!(Deadline::none().within(Duration::MAX).remaining() >= FAR);
        assert!(!Deadline::none().has_passed());
    }
}
