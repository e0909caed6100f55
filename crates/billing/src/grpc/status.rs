//! Our errors on the wire: this file and its part for the ledger, `ledger_status.rs`, alone name gRPC codes.

use adspend_common::{
    db,
    money::Currency,
    rpc::{self, Code, Reason, Refusal, Violations, precondition, refuse},
};

use crate::{
    accounts,
    audit_records::listing,
    auto_topups, autopay, corrections, credit, documents, events, invoices, payments,
    promised_payments,
    promised_payments::rules::Why,
    requests,
    statements::{self, reading::Place},
    transactions,
};

impl From<requests::Error> for Refusal {
    fn from(error: requests::Error) -> Refusal {
        let text = error.to_string();
        match error {
            requests::Error::Reused => refuse(Code::AlreadyExists, Reason::RequestIdReused, text),
            requests::Error::Db(cause) => cause.into(),
        }
    }
}

/// Lost against concurrent calls more often than is tried.
fn contention() -> Refusal {
    refuse(Code::Aborted, Reason::Contention, "lost against concurrent calls; retry")
}

fn currency_mismatch(text: String, expected: Currency, found: Currency) -> Refusal {
    precondition(Reason::CurrencyMismatch, text).with("expected", expected).with("found", found)
}

impl From<accounts::Error> for Refusal {
    fn from(error: accounts::Error) -> Refusal {
        use accounts::Error as E;
        let text = error.to_string();
        match error {
            E::NotFound(name) => rpc::not_found(&name),
            E::Exists(name) => {
                refuse(Code::AlreadyExists, Reason::AlreadyExists, text).with("resource", name)
            }
            E::NotYours => refuse(Code::PermissionDenied, Reason::PermissionDenied, text),
            E::CurrencyMismatch { expected, found } => currency_mismatch(text, expected, found),
            E::Blocked(name) => precondition(Reason::AccountBlocked, text).about(name),
            E::Wrong(fields) => {
                let mut violations = Violations::new();
                for (field, what) in &fields {
                    violations.add(field, *what);
                }
                match violations.check() {
                    Err(refusal) => refusal,
                    Ok(()) => rpc::fault(&E::Wrong(fields)),
                }
            }
            E::EtagMismatch => refuse(Code::Aborted, Reason::EtagMismatch, text),
            E::AlreadyInState(name) => precondition(Reason::AlreadyInState, text).about(name),
            E::NotAttachable { account, why } => precondition(Reason::NotAttachable, text)
                .about(account)
                .with("refusals", why.join(",")),
            E::NotDetachable { account, why } => precondition(Reason::NotDetachable, text)
                .about(account)
                .with("refusals", why.join(",")),
            E::Moved => contention(),
            E::Request(cause) => cause.into(),
            E::Ledger(cause) => cause.into(),
            E::Db(cause) => cause.into(),
        }
    }
}

impl From<events::Refusal> for Refusal {
    fn from(refusal: events::Refusal) -> Refusal {
        use events::Refusal as R;
        let text = refusal.to_string();
        match refusal {
            R::TooMany => refuse(Code::ResourceExhausted, Reason::TooManyStreams, text)
                .with("most", events::STREAMS_OF_A_CALLER),
            R::Forgotten { expected, next } => {
                refuse(Code::OutOfRange, Reason::EventsForgotten, text)
                    .with("expected", expected)
                    .with("next", next)
            }
            R::Newer => rpc::unavailable(text),
            R::Db(cause) => cause.into(),
        }
    }
}

impl From<invoices::Error> for Refusal {
    fn from(error: invoices::Error) -> Refusal {
        use invoices::{Error as E, Refusal as R};
        let text = error.to_string();
        match error {
            E::NotFound(name) => rpc::not_found(&name),
            E::Refused(refusal) => match refusal {
                R::Blocked => precondition(Reason::AccountBlocked, text),
                R::ClientOfAgency => precondition(Reason::ClientOfAgency, text),
                R::NoPayer => precondition(Reason::LegalEntityRequired, text),
                R::Currency { expected, found } => currency_mismatch(text, expected, found),
                R::BelowMinimum { gross, net } => precondition(Reason::AmountBelowMinimum, text)
                    .with("minimum", gross)
                    .with("minimum_without_vat", net),
                R::NotDeferred => precondition(Reason::InvoiceNotDeferred, text),
                R::Paid => precondition(Reason::AlreadyPaid, text),
                R::ActClosed(month) => {
                    precondition(Reason::ActClosed, text).with("month", month.first())
                }
                R::MonthClosed { since } => {
                    precondition(Reason::MonthClosed, text).with("since", since.to_rfc3339())
                }
                R::AboveMaximum(most) => {
                    precondition(Reason::AmountAboveMaximum, text).with("maximum", most)
                }
            },
            E::Paid(name) => precondition(Reason::AlreadyPaid, text).about(name),
            E::Cancelled(name) => precondition(Reason::InvoiceCancelled, text).about(name),
            E::Deferred(name) => precondition(Reason::InvoiceDeferred, text).about(name),
            E::Credit(refusal) => credit_refusal(refusal),
            E::Ledger(cause) => cause.into(),
            E::Moved => contention(),
            E::Request(cause) => cause.into(),
            E::Db(cause) => cause.into(),
        }
    }
}

impl From<payments::Error> for Refusal {
    fn from(error: payments::Error) -> Refusal {
        use payments::{Error as E, Refusal as R};
        let text = error.to_string();
        match error {
            E::NotFound(name) => rpc::not_found(&name),
            E::Refused(refusal) => match refusal {
                R::NotUnallocated => precondition(Reason::PaymentNotUnallocated, text),
                R::ClientOfAgency => precondition(Reason::ClientOfAgency, text),
                R::Currency { expected, found } => currency_mismatch(text, expected, found),
                R::NotCredited => precondition(Reason::PaymentNotCredited, text),
                R::AboveRest { rest } => {
                    precondition(Reason::AmountAboveMaximum, text).with("maximum", rest)
                }
                R::MoneyIsHeld => precondition(Reason::MoneyIsHeld, text),
                R::NotOwn { own, needed } => precondition(Reason::InsufficientFunds, text)
                    .with("available_micros", own.micros())
                    .with("needed_micros", needed.micros()),
                R::InvoicePaid => precondition(Reason::AlreadyPaid, text),
                R::InvoiceCancelled => precondition(Reason::InvoiceCancelled, text),
                R::NotExact(amount) => {
                    precondition(Reason::AmountMismatch, text).with("expected", amount)
                }
            },
            E::Moved => contention(),
            E::Request(cause) => cause.into(),
            E::Ledger(cause) => cause.into(),
            E::Db(cause) => cause.into(),
        }
    }
}

fn credit_refusal(refusal: credit::rules::Refusal) -> Refusal {
    use credit::rules::Refusal as R;
    let text = refusal.to_string();
    match refusal {
        R::Currency { expected, found } => currency_mismatch(text, expected, found),
        R::NotAvailable(why) => {
            let names: Vec<_> = why.iter().map(|why| why.name()).collect();
            precondition(Reason::CreditNotAvailable, text).with("refusals", names.join(","))
        }
        R::Overdue => precondition(Reason::DeferredOverdue, text),
        R::Locked { until } => {
            precondition(Reason::ThresholdLocked, text).with("until", until.to_rfc3339())
        }
        R::ThresholdOn => precondition(Reason::ThresholdOn, text),
        R::AboveMaximum(most) => {
            precondition(Reason::AmountAboveMaximum, text).with("maximum", most)
        }
        R::BelowDebt(least) => {
            precondition(Reason::ThresholdBelowDebt, text).with("minimum", least)
        }
        R::BalanceNotPositive => precondition(Reason::BalanceNotPositive, text),
        R::NotDeferred => precondition(Reason::InvoiceNotDeferred, text),
        R::AlreadyPaid => precondition(Reason::AlreadyPaid, text),
        R::NotExact(amount) => precondition(Reason::AmountMismatch, text).with("expected", amount),
        R::Insufficient { own, needed } => precondition(Reason::InsufficientFunds, text)
            .with("available_micros", own.micros())
            .with("needed_micros", needed.micros()),
    }
}

impl From<credit::Error> for Refusal {
    fn from(error: credit::Error) -> Refusal {
        use credit::Error as E;
        match error {
            E::NotFound(name) => rpc::not_found(&name),
            E::Refused(refusal) => credit_refusal(refusal),
            E::Moved => contention(),
            E::Request(cause) => cause.into(),
            E::Ledger(cause) => cause.into(),
            E::Db(cause) => cause.into(),
        }
    }
}

impl From<statements::Error> for Refusal {
    fn from(error: statements::Error) -> Refusal {
        use statements::{Error as E, reading::Wrong as W, rules::Refusal as R};
        let text = error.to_string();
        let at =
            |refusal: Refusal, at: Place| refusal.with("line", at.line).with("column", at.column);
        match error {
            E::Wrong(W::Malformed { at: place, .. }) => {
                at(refuse(Code::InvalidArgument, Reason::StatementMalformed, text), place)
            }
            E::Wrong(W::Unbalanced { at: place, account, .. }) => {
                at(refuse(Code::InvalidArgument, Reason::StatementUnbalanced, text), place)
                    .with("account", account)
            }
            E::Wrong(W::Io(cause)) => rpc::fault(&cause),
            E::Refused(R::ForeignAccount { at: place, account }) => {
                at(precondition(Reason::StatementAccountUnknown, text), place)
                    .with("account", account)
            }
            E::Refused(R::Currency { at: place, expected, found }) => {
                at(currency_mismatch(text, expected, found), place)
            }
            E::Stopping => rpc::unavailable(text),
            E::Payments(cause) => cause.into(),
            E::Request(cause) => cause.into(),
            E::Db(cause) => cause.into(),
        }
    }
}

impl From<promised_payments::Error> for Refusal {
    fn from(error: promised_payments::Error) -> Refusal {
        use promised_payments::{Error as E, NotRepaid as N, Refusal as R};
        let text = error.to_string();
        let names = |why: &[Why]| why.iter().map(|why| why.name()).collect::<Vec<_>>().join(",");
        match error {
            E::NotFound(name) => rpc::not_found(&name),
            E::Refused(refusal) => match refusal {
                R::Currency { expected, found } => currency_mismatch(text, expected, found),
                R::Overdue(why) => {
                    precondition(Reason::PromiseOverdue, text).with("refusals", names(&why))
                }
                R::NotAvailable(why) => {
                    precondition(Reason::PromiseNotAvailable, text).with("refusals", names(&why))
                }
                R::BelowMinimum(minimum) => {
                    precondition(Reason::AmountBelowMinimum, text).with("minimum", minimum)
                }
                R::AboveMaximum(maximum) => {
                    precondition(Reason::AmountAboveMaximum, text).with("maximum", maximum)
                }
            },
            E::NotRepaid(N::AlreadyRepaid) => precondition(Reason::PromiseAlreadyRepaid, text),
            E::NotRepaid(N::Insufficient { own, needed }) => {
                precondition(Reason::InsufficientFunds, text)
                    .with("available_micros", own.micros())
                    .with("needed_micros", needed.micros())
            }
            E::Request(cause) => cause.into(),
            E::Ledger(cause) => cause.into(),
            E::Db(cause) => cause.into(),
        }
    }
}

impl From<corrections::Error> for Refusal {
    fn from(error: corrections::Error) -> Refusal {
        use corrections::{Error as E, Refusal as R};
        let text = error.to_string();
        match error {
            E::NotFound(name) => rpc::not_found(&name),
            E::Refused(refusal) => match refusal {
                R::AboveCharges { rest } => {
                    precondition(Reason::AmountAboveMaximum, text).with("maximum", rest)
                }
                R::NotReversible | R::HasLeft => precondition(Reason::NotReversible, text),
                R::ChargeCredited { credited } => precondition(Reason::NotReversible, text)
                    .with("credited_micros", credited.micros()),
                R::AlreadyReversed => precondition(Reason::AlreadyReversed, text),
            },
            E::Moved => contention(),
            E::Request(cause) => cause.into(),
            E::Ledger(cause) => cause.into(),
            E::Db(cause) => cause.into(),
        }
    }
}

impl From<listing::Error> for Refusal {
    fn from(error: listing::Error) -> Refusal {
        match error {
            listing::Error::NotFound(name) => rpc::not_found(&name),
            listing::Error::Db(cause) => cause.into(),
        }
    }
}

impl From<auto_topups::Error> for Refusal {
    fn from(error: auto_topups::Error) -> Refusal {
        use auto_topups::Error as E;
        let text = error.to_string();
        match error {
            E::NotFound(name) => rpc::not_found(&name),
            E::NotAClient => precondition(Reason::NotAnAgencyClient, text),
            E::Currency { expected, found } => currency_mismatch(text, expected, found),
            E::AlreadyOff(name) => precondition(Reason::AlreadyInState, text).about(name),
            E::Moved => contention(),
            E::Request(cause) => cause.into(),
            E::Ledger(cause) => cause.into(),
            E::Db(cause) => cause.into(),
        }
    }
}

impl From<autopay::Error> for Refusal {
    fn from(error: autopay::Error) -> Refusal {
        use autopay::{Error as E, Refusal as R};
        let text = error.to_string();
        match error {
            E::NotFound(name) => rpc::not_found(&name),
            E::Refused(refusal) => match refusal {
                R::NotAvailable(why) => {
                    let names: Vec<_> = why.iter().map(|why| why.name()).collect();
                    precondition(Reason::AutopayNotAvailable, text)
                        .with("refusals", names.join(","))
                }
                R::Currency { expected, found } => currency_mismatch(text, expected, found),
                R::AboveMaximum(maximum) => {
                    precondition(Reason::AmountAboveMaximum, text).with("maximum", maximum)
                }
                R::TooManyCards => precondition(Reason::TooManyCards, text),
                R::LinkedAlready => refuse(Code::AlreadyExists, Reason::AlreadyExists, text),
                R::CardNotUsable(why) => {
                    precondition(Reason::CardNotUsable, text).with("refusals", why)
                }
                R::OffAlready => precondition(Reason::AlreadyInState, text),
            },
            E::ProviderAway => rpc::unavailable(text),
            E::Moved => contention(),
            E::Request(cause) => cause.into(),
            E::Ledger(cause) => cause.into(),
            E::Db(cause) => cause.into(),
        }
    }
}

impl From<transactions::Error> for Refusal {
    fn from(error: transactions::Error) -> Refusal {
        let text = error.to_string();
        match error {
            transactions::Error::NotFound(name) => rpc::not_found(&name),
            transactions::Error::Currency { expected, found } => {
                currency_mismatch(text, expected, found)
            }
            transactions::Error::Db(cause) => db::Error::into(cause),
        }
    }
}

impl From<documents::Error> for Refusal {
    fn from(error: documents::Error) -> Refusal {
        use documents::Error as E;
        let text = error.to_string();
        match error {
            E::NotFound(name) => rpc::not_found(&name),
            E::NoExecutor => precondition(Reason::ExecutorNotConfigured, text),
            E::NoPayer => precondition(Reason::LegalEntityRequired, text),
            E::ClientOfAgency => precondition(Reason::ClientOfAgency, text),
            E::NotClosed { first, last } => precondition(Reason::MonthNotClosed, text)
                .with("first_day", first)
                .with("last_day", last),
            E::Moved => contention(),
            error @ E::Unwritten(_) => rpc::fault(&error),
            E::Request(cause) => cause.into(),
            E::Db(cause) => cause.into(),
        }
    }
}
