//! The errors of the features as refusals: the one file that knows both them and gRPC codes.

use adspend_common::rpc::{
    Code, Reason, Refusal, fault, invalid, not_found, precondition, refuse, unavailable,
};
use chrono::{DateTime, SecondsFormat, Utc};

use crate::calendar::changes;
use crate::{accounts, billing, budgets, campaigns, charges, reports, requests};

impl From<requests::Error> for Refusal {
    fn from(error: requests::Error) -> Refusal {
        match error {
            requests::Error::Reused => {
                refuse(Code::AlreadyExists, Reason::RequestIdReused, error.to_string())
            }
            requests::Error::Db(cause) => cause.into(),
        }
    }
}

impl From<billing::Error> for Refusal {
    fn from(error: billing::Error) -> Refusal {
        match error {
            billing::Error::Away(_) => unavailable("billing cannot be asked now"),
            billing::Error::Refused { .. } => fault(&error),
        }
    }
}

impl From<accounts::Error> for Refusal {
    fn from(error: accounts::Error) -> Refusal {
        match error {
            accounts::Error::NotFound(id) => not_found(&id.name()),
            accounts::Error::Billing(cause) => cause.into(),
            accounts::Error::Db(cause) => cause.into(),
        }
    }
}

impl From<campaigns::Error> for Refusal {
    fn from(error: campaigns::Error) -> Refusal {
        use campaigns::Error as E;
        let text = error.to_string();
        match error {
            E::NotFound(id) => not_found(&id.name()),
            E::AlreadyExists(id) => {
                refuse(Code::AlreadyExists, Reason::AlreadyExists, text).with("resource", id.name())
            }
            E::Account(cause) => cause.into(),
            E::AccountBlocked(id) => precondition(Reason::AccountBlocked, text).about(id.name()),
            E::EtagMismatch(id) => {
                refuse(Code::Aborted, Reason::EtagMismatch, text).with("resource", id.name())
            }
            E::Dates(_) => invalid("campaign.end_date", text),
            E::Request(cause) => cause.into(),
            E::Db(cause) => cause.into(),
        }
    }
}

impl From<budgets::Error> for Refusal {
    fn from(error: budgets::Error) -> Refusal {
        use budgets::Error as E;
        let text = error.to_string();
        match error {
            E::CampaignNotFound(id) => not_found(&id.name()),
            E::Account(cause) => cause.into(),
            E::Currency { asked, account } => precondition(Reason::CurrencyMismatch, text)
                .with("currency", asked)
                .with("account_currency", account),
            E::Rule { refusal, at } => rule(&refusal, at),
            E::Request(cause) => cause.into(),
            E::Db(cause) => cause.into(),
        }
    }
}

fn rule(refusal: &changes::Refusal, at: DateTime<Utc>) -> Refusal {
    use changes::Refusal as R;
    let text = refusal.to_string();
    match refusal {
        R::StepMismatch { .. } => invalid("amount", text),
        R::BelowMinimum { minimum } => {
            precondition(Reason::BudgetBelowMinimum, text).with("minimum", minimum)
        }
        R::NoChange => precondition(Reason::NoChange, text),
        R::TooManyChanges { limit, resets_at } => {
            refuse(Code::ResourceExhausted, Reason::TooManyBudgetChanges, text)
                .with("limit", limit)
                .with("resets_at", resets_at.to_rfc3339_opts(SecondsFormat::Secs, true))
                .retry_after((*resets_at - at).to_std().unwrap_or_default())
        }
    }
}

impl From<charges::Refusal> for Refusal {
    fn from(refusal: charges::Refusal) -> Refusal {
        use charges::Refusal as R;
        let text = refusal.to_string();
        match refusal {
            R::IdReused => refuse(Code::AlreadyExists, Reason::RequestIdReused, text),
            R::TokenUsed => precondition(Reason::TokenUsed, text),
            R::TokenExpired => precondition(Reason::TokenExpired, text),
            R::TokenInvalid => refuse(Code::InvalidArgument, Reason::TokenInvalid, text),
            R::PriceAboveReserved { price, reserved } => {
                precondition(Reason::PriceAboveReserved, text)
                    .with("price_micros", price.micros())
                    .with("reserved_micros", reserved.micros())
            }
            R::CampaignUnknown(id) => not_found(&id.name()),
        }
    }
}

impl From<charges::Error> for Refusal {
    fn from(error: charges::Error) -> Refusal {
        match error {
            charges::Error::Overloaded => {
                refuse(Code::ResourceExhausted, Reason::Overloaded, error.to_string())
            }
            charges::Error::Closed => unavailable("the server is draining"),
            charges::Error::Overflow => precondition(Reason::BalanceOverflow, error.to_string()),
            charges::Error::Db(cause) => cause.into(),
        }
    }
}

impl From<reports::Error> for Refusal {
    fn from(error: reports::Error) -> Refusal {
        match error {
            reports::Error::Account(cause) => cause.into(),
            reports::Error::Campaign(cause) => cause.into(),
            reports::Error::Budget(cause) => cause.into(),
            reports::Error::Token => invalid("token", error.to_string()),
            reports::Error::Overloaded => {
                refuse(Code::ResourceExhausted, Reason::Overloaded, error.to_string())
            }
            reports::Error::Db(cause) => cause.into(),
        }
    }
}
