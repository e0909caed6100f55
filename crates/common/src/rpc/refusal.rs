//! A "no" in one form, and its two spellings on the wire.
//!
//! The details go by the code, so that no caller of this module can forget one: `ErrorInfo`
//! always, `BadRequest` when there are violations, `RetryInfo` when trying again may help,
//! `PreconditionFailure` when a state forbids.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{DOMAIN, Reason};
use crate::proto::adspend::types::v1::{FieldViolation, ItemError};
use crate::telemetry;

/// When to come back after losing against concurrent writers: about the length of a few
/// transactions.
const RETRY_CONTENTION: Duration = Duration::from_millis(50);
/// When to come back to a service that is away: about the length of a reconnect.
const RETRY_UNAVAILABLE: Duration = Duration::from_millis(100);
/// When to come back to a service at its limit of work.
const RETRY_OVERLOAD: Duration = Duration::from_secs(1);

/// Why a call, or an item of a batch, is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC status code.
    pub code: Code,
    /// The reason of the catalogue.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// The numbers behind it.
    pub metadata: Vec<(&'static str, String)>,
    /// Every wrong field with what is wrong, when the reason is `INVALID_ARGUMENT`.
    pub violations: Vec<(String, String)>,
    /// When to come back; `None` takes the code's default.
    pub retry_after: Option<Duration>,
    /// The resource whose state forbids it, for `PreconditionFailure`.
    pub subject: Option<String>,
}

/// A refusal with this code and reason.
pub fn refuse(code: Code, reason: Reason, message: impl Into<String>) -> Refusal {
    Refusal::new(code, reason, message)
}

/// A refusal by rule: `FAILED_PRECONDITION`.
pub fn precondition(reason: Reason, message: impl Into<String>) -> Refusal {
    Refusal::new(Code::FailedPrecondition, reason, message)
}

/// A refusal of one wrong field: `INVALID_ARGUMENT`.
pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Refusal {
    Refusal::invalid(vec![(field.into(), description.into())])
}

/// There is no such object, or the caller may not see it: the same bytes for both.
///
/// `name` is what the caller sent; anything that was looked up must not get in here.
pub fn not_found(name: &str) -> Refusal {
    Refusal::new(Code::NotFound, Reason::NotFound, format!("{name} was not found"))
        .with("resource", name)
}

/// A dependency is away, or the server is going: `UNAVAILABLE`, to be retried.
pub fn unavailable(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::Unavailable, Reason::Unavailable, message)
}

/// Our own bug, or a failure that the caller can do nothing about: the log gets everything, once,
/// under a trace id; the caller gets the trace id.
pub fn fault(error: &(dyn Error + 'static)) -> Refusal {
    fault_text(&chain(error))
}

/// [`fault`] for what is no error value: a panic, a status that a library made.
pub(crate) fn fault_text(what: &str) -> Refusal {
    let trace_id = telemetry::current_trace_id();
    tracing::error!(%trace_id, error = what, "a call failed by a fault of ours");
    Refusal::new(
        Code::Internal,
        Reason::Internal,
        "an internal fault; it is logged under the trace id",
    )
    .with("trace_id", trace_id)
}

/// The error and its causes in one line, each level once.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Refusal {
    /// A refusal with this code and reason.
    pub fn new(code: Code, reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            reason,
            message: message.into(),
            metadata: Vec::new(),
            violations: Vec::new(),
            retry_after: None,
            subject: None,
        }
    }

    /// Wrong fields, each as (path, what is wrong).
    pub(super) fn invalid(violations: Vec<(String, String)>) -> Refusal {
        let message = match violations.as_slice() {
            [(field, description)] => format!("{field}: {description}"),
            all => format!("{} fields are wrong", all.len()),
        };
        let mut refusal = Refusal::new(Code::InvalidArgument, Reason::InvalidArgument, message);
        refusal.violations = violations;
        refusal
    }

    /// Adds a number behind the refusal.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Refusal {
        self.metadata.push((key, value.to_string()));
        self
    }

    /// Says whose state forbids it, such as `accounts/x`.
    #[must_use]
    pub fn about(mut self, subject: impl ToString) -> Refusal {
        self.subject = Some(subject.to_string());
        self
    }

    /// Says when to come back.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Refusal {
        self.retry_after = Some(wait);
        self
    }

    /// The name of the reason on the wire: that of the catalogue without its prefix.
    pub fn reason_name(&self) -> &'static str {
        let name = self.reason.as_str_name();
        name.strip_prefix("REASON_").unwrap_or(name)
    }

    /// The answer to a unary call.
    pub fn status(&self) -> Status {
        let mut details = ErrorDetails::new();
        let metadata: HashMap<String, String> =
            self.metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        details.set_error_info(self.reason_name(), DOMAIN, metadata);
        for (field, description) in &self.violations {
            details.add_bad_request_violation(field, description);
        }
        if let Some(wait) = self.retry_after.or(default_retry(self.code)) {
            details.set_retry_info(Some(wait));
        }
        if self.code == Code::FailedPrecondition {
            let subject = self.subject.as_deref().unwrap_or_default();
            details.add_precondition_failure_violation(
                self.reason_name(),
                subject,
                self.message.as_str(),
            );
        }
        Status::with_error_details(self.code, self.message.as_str(), details)
    }

    /// The verdict on one item of a batch.
    pub fn item(&self) -> ItemError {
        ItemError {
            code: self.code as i32,
            reason: self.reason_name().to_owned(),
            message: self.message.clone(),
            metadata: self
                .metadata
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
            field_violations: self
                .violations
                .iter()
                .map(|(field, description)| FieldViolation {
                    field: field.clone(),
                    description: description.clone(),
                })
                .collect(),
        }
    }
}

/// The codes that a client may try again after, and when.
fn default_retry(code: Code) -> Option<Duration> {
    match code {
        Code::Aborted => Some(RETRY_CONTENTION),
        Code::Unavailable => Some(RETRY_UNAVAILABLE),
        Code::ResourceExhausted => Some(RETRY_OVERLOAD),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => None,
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        refusal.status()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_details_follow_from_the_code() {
        for (code, retry, precondition) in [
            (Code::InvalidArgument, false, false),
            (Code::NotFound, false, false),
            (Code::FailedPrecondition, false, true),
            (Code::Aborted, true, false),
            (Code::Unavailable, true, false),
            (Code::ResourceExhausted, true, false),
            (Code::Internal, false, false),
        ] {
            let refusal = refuse(code, Reason::InsufficientFunds, "no").with("available", 7);
            let status = refusal.about("accounts/a").status();
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((status.code(), info.reason.as_str()), (code, "INSUFFICIENT_FUNDS"));
            assert_eq!((info.domain.as_str(), info.metadata["available"].as_str()), (DOMAIN, "7"));
            assert_eq!(details.retry_info().is_some(), retry, "{code:?}");
            let failure = details.precondition_failure();
            assert_eq!(failure.is_some(), precondition, "{code:?}");
            if let Some(failure) = failure {
                assert_eq!(failure.violations[0].subject, "accounts/a");
                assert_eq!(failure.violations[0].r#type, "INSUFFICIENT_FUNDS");
            }
        }
    }

    #[test]
    fn a_batch_item_says_what_a_unary_call_says() {
        let refusal = invalid("amount.units", "must be positive").with("limit", 5);
        let (status, item) = (refusal.status(), refusal.item());
        assert_eq!(item.code, status.code() as i32);
        assert_eq!(item.message, status.message());
        let details = status.get_error_details();
        assert_eq!(item.reason, details.error_info().unwrap().reason);
        assert_eq!(item.metadata, details.error_info().unwrap().metadata);
        let field = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(item.field_violations[0].field, field.field);
        assert_eq!(item.field_violations[0].description, field.description);
    }

    #[test]
    fn a_retry_hint_given_by_hand_wins() {
        let refusal = refuse(Code::ResourceExhausted, Reason::TooManyBudgetChanges, "no")
            .retry_after(Duration::from_secs(3_600));
        let info = refusal.status().get_error_details().retry_info().cloned().unwrap();
        assert_eq!(info.retry_delay, Some(Duration::from_secs(3_600)));
    }

    #[test]
    fn a_fault_tells_the_caller_a_trace_id_and_nothing_else() {
        let error = std::io::Error::other("password=secret");
        let status = fault(&error).status();
        let text = format!("{status:?}");
        assert!(!text.contains("secret"), "{text}");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((status.code(), info.reason.as_str()), (Code::Internal, "INTERNAL"));
        assert_eq!(info.metadata.len(), 1);
        assert_eq!(info.metadata["trace_id"].len(), 32);
    }

    #[test]
    fn what_is_not_found_is_named_as_the_caller_named_it() {
        let foreign = not_found("accounts/a").status();
        let absent = not_found("accounts/a").status();
        assert_eq!(foreign.details(), absent.details());
        assert_eq!(foreign.message(), absent.message());
    }
}
