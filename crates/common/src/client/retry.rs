//! One call: bounded in time, tried again when that may help.

use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;

use crate::rpc::Deadline;

/// What a call earns towards a retry, in thousandths: one retry in five calls in the long run.
const EARNED: i64 = 200;
/// What a retry costs.
const COST: i64 = 1_000;
/// The most that can be saved: a burst of a hundred retries.
const MOST: i64 = 100_000;

/// When a call is tried again. Make one for each service called and share it: it holds the budget
/// that keeps retries from becoming the load.
#[derive(Debug)]
pub struct Retry {
    attempts: u32,
    base: Duration,
    cap: Duration,
    attempt_timeout: Duration,
    budget: AtomicI64,
}

impl Default for Retry {
    /// Four attempts, 20 ms doubled up to a second, two seconds for each.
    fn default() -> Retry {
        Retry::new(4, Duration::from_millis(20), Duration::from_secs(1), Duration::from_secs(2))
    }
}

impl Retry {
    /// At most `attempts`, with waits from `base` doubled up to `cap` and drawn between nothing
    /// and that; an attempt that takes `attempt_timeout` is given up for the next.
    pub const fn new(
        attempts: u32,
        base: Duration,
        cap: Duration,
        attempt_timeout: Duration,
    ) -> Retry {
        Retry { attempts, base, cap, attempt_timeout, budget: AtomicI64::new(MOST) }
    }

    /// One attempt: for calls without a request id.
    pub const fn never() -> Retry {
        Retry::new(1, Duration::ZERO, Duration::ZERO, Duration::MAX)
    }

    fn earn(&self) {
        let more = |budget: i64| Some((budget + EARNED).min(MOST));
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok();
    }

    fn may_spend(&self) -> bool {
        let less = |budget: i64| (budget >= COST).then(|| budget - COST);
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// How long to wait before the attempt after `tried`: what the server asked for, or a random
    /// part of the doubled base.
    fn wait(&self, tried: u32, status: &Status) -> Duration {
        let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let most = self.base.saturating_mul(1 << tried.saturating_sub(1).min(16)).min(self.cap);
        let drawn = most.mul_f64(rand::random::<f64>());
        match asked {
            // Everybody was told the same, so everybody must not come back at once.
            Some(asked) => asked.min(self.cap).saturating_add(drawn),
            None => drawn,
        }
    }
}

/// A request that tells the server how long we wait.
pub fn request<M>(message: M, remaining: Duration) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(remaining);
    request
}

/// Calls until an answer, a refusal that repeating does not change, or the deadline.
///
/// `attempt` is given what is left for it and must send it along ([`request`]); each attempt must
/// carry the same request id. Retried are `UNAVAILABLE`, `ABORTED`, `RESOURCE_EXHAUSTED`, and an
/// attempt that took too long: all say that the outcome is nothing or not known.
pub async fn call<T, F, A>(
    deadline: Deadline,
    retry: &Retry,
    attempt: F,
) -> Result<Response<T>, Status>
where
    F: Fn(Duration) -> A,
    A: Future<Output = Result<Response<T>, Status>>,
{
    retry.earn();
    let mut tried = 0;
    loop {
        let left = deadline.remaining();
        if left.is_zero() {
            return Err(Deadline::exceeded().status());
        }
        tried += 1;
        let patience = left.min(retry.attempt_timeout);
        let status = match tokio::time::timeout(patience, attempt(patience)).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(status)) => status,
            Err(_elapsed) => Deadline::exceeded().status(),
        };
        if tried >= retry.attempts || !may_retry(status.code()) || !retry.may_spend() {
            return Err(status);
        }
        let wait = retry.wait(tried, &status);
        if wait >= deadline.remaining() {
            return Err(status);
        }
        tokio::time::sleep(wait).await;
    }
}

fn may_retry(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::Aborted | Code::ResourceExhausted | Code::DeadlineExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::{Reason, refuse, unavailable};
    use std::cell::Cell;

    async fn answers(
        deadline: Deadline,
        retry: &Retry,
        codes: &[Code],
    ) -> (Result<u32, Code>, u32) {
        let tried = Cell::new(0);
        let answer = call(deadline, retry, |_left| {
            let code = codes[usize::min(tried.get() as usize, codes.len() - 1)];
            tried.set(tried.get() + 1);
            async move {
                if code == Code::Ok {
                    return Ok(Response::new(7));
                }
                Err(refuse(code, Reason::Contention, "no").status())
            }
        })
        .await;
        (answer.map(Response::into_inner).map_err(|status| status.code()), tried.get())
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_and_a_refusal_is_not() {
        let retry = Retry::default();
        let soon = || Deadline::after(Duration::from_secs(30));
        for (codes, answer, tries) in [
            (&[Code::Ok][..], Ok(7), 1),
            (&[Code::Unavailable, Code::Aborted, Code::Ok], Ok(7), 3),
            (&[Code::Unavailable], Err(Code::Unavailable), 4),
            (&[Code::FailedPrecondition, Code::Ok], Err(Code::FailedPrecondition), 1),
            (&[Code::Internal, Code::Ok], Err(Code::Internal), 1),
        ] {
            assert_eq!(answers(soon(), &retry, codes).await, (answer, tries), "{codes:?}");
        }
        let once = Retry::never();
        assert_eq!(answers(soon(), &once, &[Code::Aborted]).await, (Err(Code::Aborted), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_ends_a_call_that_nobody_answers() {
        let begin = tokio::time::Instant::now();
        let deadline = Deadline::after(Duration::from_millis(300));
        let answer: Result<Response<()>, Status> =
            call(deadline, &Retry::default(), |_left| std::future::pending()).await;
        assert_eq!(answer.unwrap_err().code(), Code::DeadlineExceeded);
        assert_eq!(begin.elapsed(), Duration::from_millis(300));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_attempt_leaves_time_for_the_next() {
        let first = Cell::new(true);
        let retry = Retry::default();
        let answer = call(Deadline::after(Duration::from_secs(30)), &retry, |left| {
            let hangs = first.replace(false);
            assert!(left <= Duration::from_secs(2));
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok(Response::new(()))
            }
        });
        assert!(answer.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn retries_have_a_budget() {
        let retry = Retry::default();
        let mut tries = 0;
        for _ in 0..1_000 {
            let soon = Deadline::after(Duration::from_secs(30));
            tries += answers(soon, &retry, &[Code::Unavailable]).await.1;
        }
        assert!((1_000..1_400).contains(&tries), "{tries} attempts of 1000 calls");
    }

    #[test]
    fn a_retry_hint_is_respected() {
        let retry = Retry::default();
        let hint = Duration::from_millis(400);
        let wait = retry.wait(1, &unavailable("away").retry_after(hint).status());
        assert!(wait >= hint && wait <= hint + Duration::from_millis(20), "{wait:?}");
    }
}
