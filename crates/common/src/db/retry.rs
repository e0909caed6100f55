//! Trying again after contention, and only then.

use std::future::Future;
use std::time::Duration;

use rand::Rng;

use super::Error;

/// The longest wait before the second attempt; it doubles from attempt to attempt.
const FIRST_WAIT: Duration = Duration::from_millis(5);
/// The longest wait before any attempt.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// Says of a feature's error whether it is contention in the database, so that [`retry`] can wrap
/// the feature's operation and not only its statements.
pub trait Contended {
    /// Whether nothing happened because somebody else was in the way.
    fn is_contention(&self) -> bool;
}

impl Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Error::Contention { .. } => true,
            Error::Unavailable(_)
            | Error::OutcomeUnknown(_)
            | Error::Constraint { .. }
            | Error::Refused(_)
            | Error::Other(_) => false,
        }
    }
}

/// Runs a transaction, again after contention, at most `limit` times in all. `name` is the one of
/// the transaction in logs. A lost connection is not retried: its effect may be there.
///
/// ```text
/// db::retry("transfers.create", 5, || once(&pool, &new)).await
/// ```
pub async fn retry<T, E, F>(
    name: &'static str,
    limit: u32,
    mut once: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Contended + std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut attempt = 1;
    loop {
        match once().await {
            Err(error) if error.is_contention() && attempt < limit => {
                let wait = jittered(attempt);
                tracing::debug!(transaction = name, attempt, ?wait, %error, "trying again");
                tokio::time::sleep(wait).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// Anywhere between nothing and the full wait, so that those who met do not meet again.
fn jittered(attempt: u32) -> Duration {
    let full = FIRST_WAIT.saturating_mul(1 << attempt.min(16)).min(LONGEST_WAIT);
    full.mul_f64(rand::rng().random_range(0.0..=1.0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::db::Busy;

    fn contention() -> Error {
        Error::Contention { busy: Busy::Deadlock, cause: Arc::new(std::io::Error::other("x")) }
    }

    async fn attempts(limit: u32, answers: Vec<Result<u32, Error>>) -> (Result<u32, Error>, usize) {
        let total = answers.len();
        let mut answers = answers.into_iter();
        let result = retry("test.retry", limit, || {
            let answer = answers.next().expect("not tried more often than there are answers");
            async move { answer }
        })
        .await;
        (result, total - answers.len())
    }

    #[tokio::test]
    async fn contention_is_tried_again_until_it_works() {
        let (result, tried) = attempts(5, vec![Err(contention()), Err(contention()), Ok(7)]).await;
        assert_eq!((result.unwrap(), tried), (7, 3));
    }

    #[tokio::test]
    async fn contention_ends_at_the_limit() {
        let answers = vec![Err(contention()), Err(contention()), Ok(7)];
        let (result, tried) = attempts(2, answers).await;
        assert!(result.unwrap_err().is_contention());
        assert_eq!(tried, 2);
    }

    #[tokio::test]
    async fn nothing_else_is_tried_again() {
        for error in [
            Error::unavailable("gone"),
            Error::outcome_unknown("gone in the commit"),
            Error::other("wrong"),
            Error::Refused("fsync is off".to_owned()),
        ] {
            let (result, tried) = attempts(5, vec![Err(error), Ok(7)]).await;
            assert!(result.is_err());
            assert_eq!(tried, 1);
        }
    }

    #[test]
    fn waits_are_bounded() {
        for attempt in [1, 2, 10, 40, u32::MAX] {
            assert!(jittered(attempt) <= LONGEST_WAIT);
        }
    }
}
