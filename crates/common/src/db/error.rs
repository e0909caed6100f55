//! Database errors, sorted by what a caller could do about them.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use tokio_postgres::error::SqlState;

/// What happened below; shared, because one failed group commit fails many callers.
type Cause = Arc<dyn StdError + Send + Sync>;

/// One variant per thing that a caller could do. Cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Somebody else was in the way; nothing happened. Try again, see [`retry`](super::retry).
    #[error("contention in the database ({busy})")]
    Contention {
        /// In which way.
        busy: Busy,
        /// What the database said.
        #[source]
        cause: Cause,
    },
    /// The database cannot be used now; nothing happened. Try again later.
    #[error("the database is unavailable")]
    Unavailable(#[source] Cause),
    /// The connection was lost while committing, or the wait for the standby was cut short. It
    /// may have happened: ask again with the same request id, never report a failure.
    #[error("the outcome of the commit is unknown")]
    OutcomeUnknown(#[source] Cause),
    /// A constraint refused a row: its name says which rule.
    #[error("constraint {name} was violated")]
    Constraint {
        /// The name of the constraint or of the unique index.
        name: String,
        /// What the database said.
        #[source]
        cause: Cause,
    },
    /// The server or its settings must not be trusted with money, or the URL is wrong. A person
    /// has to change something.
    #[error("the database is refused: {0}")]
    Refused(String),
    /// A mistake of ours: a statement, a type, a row that is not there.
    #[error("a database operation failed")]
    Other(#[source] Cause),
}

/// The ways to be in somebody's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// SQLSTATE 40001.
    Serialization,
    /// SQLSTATE 40P01.
    Deadlock,
    /// SQLSTATE 55P03: the lock was not free within `lock_timeout`.
    LockTimeout,
    /// SQLSTATE 25P02: another statement of the same pipeline failed before this one, and its
    /// error was not the one that was looked at first. Statements that travel together fail
    /// together; trying again tells why, if it was not one of the above.
    Aborted,
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Busy::Serialization => "serialization failure",
            Busy::Deadlock => "deadlock",
            Busy::LockTimeout => "lock timeout",
            Busy::Aborted => "aborted by an earlier statement",
        })
    }
}

/// The text under an error that has no deeper cause.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Reason(String);

impl Error {
    /// The name of the constraint that refused a row.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Error::Constraint { name, .. } => Some(name),
            Error::Contention { .. }
            | Error::Unavailable(_)
            | Error::OutcomeUnknown(_)
            | Error::Refused(_)
            | Error::Other(_) => None,
        }
    }

    pub(super) fn unavailable(reason: impl Into<String>) -> Error {
        Error::Unavailable(Arc::new(Reason(reason.into())))
    }

    pub(super) fn outcome_unknown(reason: impl Into<String>) -> Error {
        Error::OutcomeUnknown(Arc::new(Reason(reason.into())))
    }

    /// A mistake of ours that the database did not notice.
    pub fn other(reason: impl Into<String>) -> Error {
        Error::Other(Arc::new(Reason(reason.into())))
    }

    /// The same error seen while committing: a lost connection leaves the outcome open.
    pub(super) fn while_committing(self) -> Error {
        match self {
            Error::Unavailable(cause) => Error::OutcomeUnknown(cause),
            Error::Contention { .. }
            | Error::OutcomeUnknown(_)
            | Error::Constraint { .. }
            | Error::Refused(_)
            | Error::Other(_) => self,
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Error {
        let Some(code) = error.code().cloned() else {
            return if is_connection_loss(&error) {
                Error::Unavailable(Arc::new(error))
            } else {
                Error::Other(Arc::new(error))
            };
        };
        let constraint = error.as_db_error().and_then(|said| said.constraint()).map(str::to_owned);
        let busy = busy(&code);
        let cause: Cause = Arc::new(error);
        if let Some(busy) = busy {
            Error::Contention { busy, cause }
        } else if code == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN {
            Error::OutcomeUnknown(cause)
        } else if is_unavailable(&code) {
            Error::Unavailable(cause)
        } else if let (Some(name), true) = (constraint, code.code().starts_with("23")) {
            Error::Constraint { name, cause }
        } else {
            Error::Other(cause)
        }
    }
}

fn busy(code: &SqlState) -> Option<Busy> {
    if *code == SqlState::T_R_SERIALIZATION_FAILURE {
        Some(Busy::Serialization)
    } else if *code == SqlState::T_R_DEADLOCK_DETECTED {
        Some(Busy::Deadlock)
    } else if *code == SqlState::LOCK_NOT_AVAILABLE {
        Some(Busy::LockTimeout)
    } else if *code == SqlState::IN_FAILED_SQL_TRANSACTION {
        Some(Busy::Aborted)
    } else {
        None
    }
}

/// States that pass by themselves or after a failover, and that leave no effect behind.
fn is_unavailable(code: &SqlState) -> bool {
    // 08: connection; 53: disk full, out of memory, too many connections; 57: shutting down,
    // starting up, and 57014, a statement that ran out of time; 58: the server's own disk.
    let class = &code.code()[..2];
    matches!(class, "08" | "53" | "57" | "58")
        // The primary has become a standby, or our transaction idled for too long.
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
}

fn is_connection_loss(error: &tokio_postgres::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(current) = cause {
        if current.is::<io::Error>() {
            return true;
        }
        cause = current.source();
    }
    // Its text is the only thing that tells a connect timeout from other errors without a cause.
    error.is_closed() || error.to_string().contains("connection timed out")
}

/// Checks that a statement touched the one row that it names. Zero or two is a mistake of ours.
pub fn exactly_one(count: u64, statement: &'static str) -> Result<(), Error> {
    if count == 1 {
        Ok(())
    } else {
        Err(Error::other(format!("{statement} touched {count} rows instead of one")))
    }
}

/// The statement touched so many rows, or something is wrong with it.
pub fn exactly(touched: u64, rows: usize, statement: &str) -> Result<(), Error> {
    if usize::try_from(touched) == Ok(rows) {
        return Ok(());
    }
    Err(Error::other(format!("{statement} touched {touched} rows instead of {rows}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_sorted_by_what_a_caller_could_do() {
        for (state, expected) in [
            ("40001", Some(Busy::Serialization)),
            ("40P01", Some(Busy::Deadlock)),
            ("55P03", Some(Busy::LockTimeout)),
            ("25P02", Some(Busy::Aborted)),
            ("23505", None),
            ("57014", None),
        ] {
            assert_eq!(busy(&SqlState::from_code(state)), expected, "{state}");
        }
        for (state, expected) in [
            ("08006", true),
            ("53300", true),
            ("53100", true),
            ("57014", true),
            ("57P01", true),
            ("57P03", true),
            ("25006", true),
            ("25P03", true),
            ("23505", false),
            ("42601", false),
            ("25P02", false),
        ] {
            assert_eq!(is_unavailable(&SqlState::from_code(state)), expected, "{state}");
        }
    }

    #[test]
    fn a_connection_lost_in_a_commit_leaves_the_outcome_open() {
        let lost = Error::unavailable("connection reset").while_committing();
        assert!(matches!(lost, Error::OutcomeUnknown(_)));
        let ours = Error::other("x").while_committing();
        assert!(matches!(ours, Error::Other(_)), "an answer is an answer");
    }

    #[test]
    fn only_one_row_is_one_row() {
        assert!(exactly_one(1, "accounts.block").is_ok());
        for count in [0, 2] {
            let error = exactly_one(count, "accounts.block").unwrap_err();
            let said = error.source().unwrap().to_string();
            assert_eq!(said, format!("accounts.block touched {count} rows instead of one"));
        }
    }
}
