//! Who may have an autopayment, what a payment's end means, and what to do next about one under way
//! (R-120..R-128).
//!
//! A run is tried under one idempotence key, its own id, and never under another. A try whose outcome is not
//! known leaves it in doubt: the card may have been charged. From then on only an answer of the provider
//! about this payment ends the run; when tries have run out the autopayment goes off, and the run is looked
//! for until the provider shows it, or surely does not have it.

use adspend_common::{
    config::HumanDuration,
    money::{Balance, Currency, Money},
    time::Day,
};
use chrono::{DateTime, TimeDelta, Utc};

use super::{CardState, Run};
use crate::{
    accounts::{Account, AccountKind, AccountState},
    config,
};

/// Linked cards of an account, at most.
pub(crate) const MOST_CARDS: i16 = 5;

/// Why an account may not have an autopayment. Names go over the wire and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    ProviderNotConfigured,
    NotADirectAdvertiser,
    AccountBlocked,
    RequisitesMissing,
    NotAResident,
    CurrencyNotSupported,
}

impl Why {
    /// The name that callers get.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Why::ProviderNotConfigured => "PROVIDER_NOT_CONFIGURED",
            Why::NotADirectAdvertiser => "NOT_A_DIRECT_ADVERTISER",
            Why::AccountBlocked => "ACCOUNT_BLOCKED",
            Why::RequisitesMissing => "REQUISITES_MISSING",
            Why::NotAResident => "NOT_A_RESIDENT",
            Why::CurrencyNotSupported => "CURRENCY_NOT_SUPPORTED",
        }
    }
}

/// Everything that keeps an account from an autopayment.
pub(crate) fn ineligible(terms: &config::Autopay, account: &Account) -> Vec<Why> {
    let mut why = Vec::new();
    if terms.provider.is_none() {
        why.push(Why::ProviderNotConfigured);
    }
    if account.kind != AccountKind::Advertiser {
        why.push(Why::NotADirectAdvertiser);
    }
    if account.state != AccountState::Active {
        why.push(Why::AccountBlocked);
    }
    match &account.legal_entity {
        None => why.push(Why::RequisitesMissing),
        Some(entity) if entity.country != terms.country => why.push(Why::NotAResident),
        Some(_) => {}
    }
    if account.currency != terms.currency.0 {
        why.push(Why::CurrencyNotSupported);
    }
    why
}

/// Why an autopayment is not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("autopayment is not available to this account")]
    NotAvailable(Vec<Why>),
    #[error("the account's currency is {expected}, not {found}")]
    Currency { expected: Currency, found: Currency },
    #[error("one payment brings at most {0}")]
    AboveMaximum(Money),
    #[error("at most {MOST_CARDS} cards are linked")]
    TooManyCards,
    #[error("this card is linked")]
    LinkedAlready,
    #[error("the provider knows no such saved card, or it cannot be charged")]
    CardNotUsable(&'static str),
    #[error("the autopayment is off")]
    OffAlready,
}

/// Whether these figures may be set.
pub(crate) fn settable(
    terms: &config::Autopay,
    account: &Account,
    (amount, of): (Money, Currency),
    threshold_currency: Currency,
) -> Result<(), Refusal> {
    let why = ineligible(terms, account);
    if !why.is_empty() {
        return Err(Refusal::NotAvailable(why));
    }
    for found in [of, threshold_currency] {
        if found != account.currency {
            return Err(Refusal::Currency { expected: account.currency, found });
        }
    }
    if amount > terms.max_amount.0 {
        return Err(Refusal::AboveMaximum(terms.max_amount.0));
    }
    Ok(())
}

/// Whether the autopayment fires: free money has reached the value, and the day's payments are not
/// used up.
pub(crate) fn fires(
    terms: &config::Autopay,
    (free, threshold): (Balance, Money),
    payments_today: u32,
) -> bool {
    free <= Balance::from(threshold) && payments_today < terms.max_payments_per_day
}

/// Since when payments of today are counted.
pub(crate) fn day_begins(now: DateTime<Utc>) -> DateTime<Utc> {
    Day::of(now).start()
}

/// Why an autopayment goes off, or a payment of it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    LimitExceeded,
    AuthorizationError,
    Declined,
    ByOwner,
    CardUnlinked,
    NotEligible,
}

impl Cause {
    /// The name that events carry.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Cause::LimitExceeded => "LIMIT_EXCEEDED",
            Cause::AuthorizationError => "AUTHORIZATION_ERROR",
            Cause::Declined => "DECLINED",
            Cause::ByOwner => "BY_OWNER",
            Cause::CardUnlinked => "CARD_UNLINKED",
            Cause::NotEligible => "NOT_ELIGIBLE",
        }
    }
}

/// What a reason of the provider means. A reason that nobody knows is a decline.
pub(crate) fn cause(reason: &str) -> Cause {
    match reason {
        "payment_method_limit_exceeded" => Cause::LimitExceeded,
        "3d_secure_failed" | "invalid_csc" | "permission_revoked" | "identification_required" => {
            Cause::AuthorizationError
        }
        _ => Cause::Declined,
    }
}

/// Whether the same payment may yet go through.
pub(crate) fn is_passing(reason: &str) -> bool {
    matches!(reason, "internal_timeout" | "issuer_unavailable")
}

/// Whether the saved method is of no more use.
pub(crate) fn spoils_card(reason: &str) -> bool {
    matches!(reason, "permission_revoked" | "card_expired")
}

/// What the provider said of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The money is ours.
    Succeeded { payment: String },
    /// It has not decided.
    Pending { payment: String },
    /// The card was not charged.
    Canceled { payment: String, reason: String },
    /// It did not take the request; this try made no payment.
    Refused { code: String },
    /// No answer, or one that says nothing about the payment.
    Unknown { why: &'static str },
    /// Its list, complete, does not show the payment.
    Absent,
}

/// What to ask the provider about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Charge the card, under the run's key.
    Pay,
    /// How a payment stands.
    Look(String),
    /// Whether there is a payment of this run.
    Search,
    /// Nothing: the card may no longer be charged, and it surely was not.
    Abandon,
}

/// What to ask now. `consents` is whether the autopayment is still on with this card.
pub(crate) fn ask(
    terms: &config::Autopay,
    run: &Run,
    (card, consents): (CardState, bool),
    now: DateTime<Utc>,
) -> Ask {
    if let (Some(payment), None) = (&run.provider_payment, &run.provider_reason) {
        return Ask::Look(payment.clone());
    }
    let may_pay = match card {
        CardState::Active => consents || run.tries > 0,
        CardState::Invalid | CardState::Unlinked => false,
    };
    if may_pay && tries_left(terms, run, now) {
        Ask::Pay
    } else if run.in_doubt {
        Ask::Search
    } else {
        Ask::Abandon
    }
}

/// Under the same key, as often as is allowed, and no longer than the provider keeps the key: after that it
/// would be another payment.
fn tries_left(terms: &config::Autopay, run: &Run, now: DateTime<Utc>) -> bool {
    let key_lives = delta(terms.key_lives);
    run.tries < terms.tries && run.first_tried_at.is_none_or(|first| now - first < key_lives)
}

/// What becomes of a run after an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Book the money.
    Book { payment: String },
    /// The card was not charged: the run failed, and the autopayment goes off.
    Fail { payment: Option<String>, cause: Cause, reason: String, spoils_card: bool },
    /// Ask again later.
    Wait(Wait),
}

/// How a run goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) until: DateTime<Utc>,
    pub(crate) payment: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) in_doubt: bool,
    /// Tries have run out: the autopayment goes off already, although nobody knows how the run ends.
    pub(crate) gives_up: bool,
}

/// What becomes of a run that was asked `asked` and answered `answer`. `run` is as it was written when it
/// was asked: a try is counted in.
pub(crate) fn next(
    terms: &config::Autopay,
    run: &Run,
    (asked, answer): (&Ask, Answer),
    was_in_doubt: bool,
    now: DateTime<Utc>,
) -> Next {
    let tried = *asked == Ask::Pay;
    let out_of_tries = !tries_left(terms, run, now);
    let next_try = now + doubled(terms, terms.retry_after, run.tries.saturating_sub(1));
    let next_look = now + doubled(terms, terms.poll_after, run.looks);
    let again = || {
        Next::Wait(Wait {
            until: if tried { next_try } else { next_look },
            payment: run.provider_payment.clone(),
            reason: run.provider_reason.clone(),
            in_doubt: true,
            gives_up: tried && out_of_tries,
        })
    };
    match answer {
        Answer::Succeeded { payment } => Next::Book { payment },
        Answer::Pending { payment } => Next::Wait(Wait {
            until: next_look,
            payment: Some(payment),
            reason: None,
            in_doubt: true,
            gives_up: false,
        }),
        Answer::Canceled { payment, reason } if is_passing(&reason) && !out_of_tries => {
            Next::Wait(Wait {
                until: next_try,
                payment: Some(payment),
                reason: Some(reason),
                in_doubt: false,
                gives_up: false,
            })
        }
        Answer::Canceled { payment, reason } => Next::Fail {
            payment: Some(payment),
            cause: cause(&reason),
            spoils_card: spoils_card(&reason),
            reason,
        },
        // Only of this try: an earlier one may have been taken.
        Answer::Refused { code } if tried && !was_in_doubt => {
            Next::Fail { payment: None, cause: Cause::Declined, reason: code, spoils_card: false }
        }
        Answer::Refused { .. } | Answer::Unknown { .. } => again(),
        Answer::Absent => {
            let settled = run.last_tried_at.is_none_or(|at| now - at >= delta(terms.absent_after));
            if settled {
                let reason = run.provider_reason.clone().unwrap_or_else(|| "not_made".to_owned());
                Next::Fail { payment: None, cause: Cause::Declined, reason, spoils_card: false }
            } else {
                again()
            }
        }
    }
}

/// The end of a run that may not be tried any more, or not at all, and surely did not charge the card.
pub(crate) fn abandoned(run: &Run, card: CardState) -> Next {
    let cause = match (card, &run.provider_reason) {
        (CardState::Invalid | CardState::Unlinked, _) => Cause::CardUnlinked,
        (CardState::Active, Some(reason)) => cause(reason),
        (CardState::Active, None) => Cause::ByOwner,
    };
    let reason = run.provider_reason.clone().unwrap_or_else(|| "not_tried".to_owned());
    Next::Fail { payment: run.provider_payment.clone(), cause, reason, spoils_card: false }
}

/// A wait, doubled so many times, up to the longest.
fn doubled(terms: &config::Autopay, first: HumanDuration, times: u32) -> TimeDelta {
    let longest = delta(terms.longest_wait);
    let factor = 1_i32.checked_shl(times.min(20)).unwrap_or(i32::MAX);
    delta(first).checked_mul(factor).map_or(longest, |wait| wait.min(longest))
}

fn delta(duration: HumanDuration) -> TimeDelta {
    TimeDelta::from_std(duration.get()).unwrap_or(TimeDelta::MAX)
}
