//! The ledger's, transfers' and holds' errors as refusals: part of [`status`](super::status), which alone
//! names codes.

use adspend_common::rpc::{Code, Reason, Refusal, fault, precondition, refuse, unavailable};

use crate::{holds, ledger, transfers};

impl From<ledger::Refusal> for Refusal {
    fn from(refusal: ledger::Refusal) -> Refusal {
        use ledger::Refusal as R;
        let text = refusal.to_string();
        match &refusal {
            R::RequestIdReused => refuse(Code::AlreadyExists, Reason::RequestIdReused, text),
            // The edge has found the account, so its row has moved in between: it may come again.
            R::UnknownAccount(_) => refuse(Code::Aborted, Reason::Contention, "the account moved"),
            R::Blocked(_) => precondition(Reason::AccountBlocked, "the account is blocked"),
            R::Insufficient { available, amount, .. } => {
                precondition(Reason::InsufficientFunds, text)
                    .with("available_micros", available.micros())
                    .with("needed_micros", amount.micros())
            }
            R::Overflow(_) => {
                precondition(Reason::BalanceOverflow, "the balance would be out of range")
            }
            R::GroupAborted => precondition(Reason::BatchAborted, text),
            R::Malformed => fault(&refusal),
        }
    }
}

impl From<ledger::Error> for Refusal {
    fn from(error: ledger::Error) -> Refusal {
        match error {
            ledger::Error::Refused(refusal) => refusal.into(),
            ledger::Error::Overloaded => overloaded(),
            ledger::Error::Stopping => unavailable("the service is stopping"),
            ledger::Error::Db(cause) => cause.into(),
        }
    }
}

fn overloaded() -> Refusal {
    refuse(Code::ResourceExhausted, Reason::Overloaded, "too many postings are waiting")
}

impl From<transfers::Error> for Refusal {
    fn from(error: transfers::Error) -> Refusal {
        use transfers::Error as E;
        let text = error.to_string();
        match error {
            E::NotAnAgencyClient => precondition(Reason::NotAnAgencyClient, text),
            E::Currency { account, asked } => precondition(Reason::CurrencyMismatch, text)
                .with("currency", asked)
                .with("account_currency", account),
            E::SeveralAgencies => refuse(Code::InvalidArgument, Reason::InvalidArgument, text),
            E::Refused(refusal) => refusal.into(),
            E::Overloaded => overloaded(),
            E::Stopping => unavailable(text),
            E::Db(transfers::DbFailure(cause)) => cause.into(),
        }
    }
}

/// The refusal of a hold item; `name` is what the caller sent, so that a foreign hold and an absent one
/// answer with the same bytes.
pub(super) fn hold_refusal(error: holds::Error, name: &str) -> Refusal {
    use holds::Error as E;
    let text = error.to_string();
    match error {
        E::NotFound => adspend_common::rpc::not_found(name),
        E::Expired => precondition(Reason::HoldExpired, text).about(name),
        E::Closed => precondition(Reason::HoldClosed, text).about(name),
        E::Reused => refuse(Code::AlreadyExists, Reason::RequestIdReused, text),
        E::Refused(refusal) => refusal.into(),
    }
}
