//! What a failure of the database is to a caller.

use tonic::Code;

use super::{Reason, Refusal, fault, unavailable};
use crate::db;

impl From<&db::Error> for Refusal {
    fn from(error: &db::Error) -> Refusal {
        match error {
            db::Error::Contention { .. } => Refusal::new(
                Code::Aborted,
                Reason::Contention,
                "lost against concurrent calls; retry with the same request id",
            ),
            // Never "failed": the commit may have happened (reliability.md, G7).
            db::Error::OutcomeUnknown(_) => Refusal::new(
                Code::Aborted,
                Reason::Contention,
                "the outcome is not known; retry with the same request id",
            ),
            db::Error::Unavailable(_) => {
                unavailable("the database is away; retry with the same request id")
            }
            db::Error::Constraint { .. } | db::Error::Refused(_) | db::Error::Other(_) => {
                fault(error)
            }
        }
    }
}

impl From<db::Error> for Refusal {
    fn from(error: db::Error) -> Refusal {
        Refusal::from(&error)
    }
}
