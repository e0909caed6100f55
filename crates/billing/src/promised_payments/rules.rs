//! Who may take a promised payment, when it is overdue, and what pays it (R-64..R-74).
//!
//! Whether a promise is overdue depends on the day alone; no stored state says so, and no job.

use adspend_common::{
    money::{Balance, Currency, Money},
    time::Day,
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    accounts::{Account, AccountKind, AccountState},
    config::PromiseTerms,
};

/// A promise as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Promise {
    pub(crate) id: Uuid,
    pub(crate) amount: Money,
    pub(crate) outstanding: Money,
    /// The last day of the term, inclusive.
    pub(crate) due: Day,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) repaid_at: Option<DateTime<Utc>>,
}

/// Where a promise stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PromiseState {
    Active,
    Overdue,
    Repaid,
}

impl Promise {
    /// Where it stands at a moment: overdue from 00:00 Moscow time after the due day.
    pub(crate) fn state(&self, now: DateTime<Utc>) -> PromiseState {
        if self.outstanding.is_zero() {
            PromiseState::Repaid
        } else if self.due < Day::of(now) {
            PromiseState::Overdue
        } else {
            PromiseState::Active
        }
    }

    /// The last moment at which it was overdue, for one that was.
    fn overdue_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let last = self.repaid_at.unwrap_or(now);
        (self.due < Day::of(last)).then_some(last)
    }

    /// The promise after so much of it was paid.
    pub(crate) fn paid(&self, amount: Money, at: DateTime<Utc>) -> Promise {
        let outstanding = self.outstanding.saturating_sub(amount);
        let repaid_at = outstanding.is_zero().then_some(at);
        Promise { outstanding, repaid_at, ..self.clone() }
    }
}

/// What an agency was told of an open promise as its day came, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Announced {
    Nothing,
    DueSoon,
    Overdue,
}

/// What is to be told now; none when it was, or when there is nothing to tell.
pub(crate) fn announcement(
    promise: &Promise,
    announced: Announced,
    remind_before: TimeDelta,
    now: DateTime<Utc>,
) -> Option<Announced> {
    let next = match promise.state(now) {
        PromiseState::Overdue => Announced::Overdue,
        PromiseState::Active if promise.due.end() - remind_before <= now => Announced::DueSoon,
        PromiseState::Active | PromiseState::Repaid => Announced::Nothing,
    };
    (next > announced).then_some(next)
}

/// Why no promise may be taken now. Names go over the wire and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    NotAnAgency,
    AccountBlocked,
    RequisitesMissing,
    NotAResident,
    CurrencyNotSupported,
    PromiseOverdue,
    RecentlyOverdue,
    TooManyPromises,
    BalanceNotPositive,
    LimitReached,
}

impl Why {
    /// The name that callers get.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Why::NotAnAgency => "NOT_AN_AGENCY",
            Why::AccountBlocked => "ACCOUNT_BLOCKED",
            Why::RequisitesMissing => "REQUISITES_MISSING",
            Why::NotAResident => "NOT_A_RESIDENT",
            Why::CurrencyNotSupported => "CURRENCY_NOT_SUPPORTED",
            Why::PromiseOverdue => "PROMISE_OVERDUE",
            Why::RecentlyOverdue => "PROMISE_RECENTLY_OVERDUE",
            Why::TooManyPromises => "TOO_MANY_PROMISES",
            Why::BalanceNotPositive => "BALANCE_NOT_POSITIVE",
            Why::LimitReached => "PROMISE_LIMIT_REACHED",
        }
    }
}

/// What the rules look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing<'a> {
    pub(crate) account: &'a Account,
    pub(crate) promises: &'a [Promise],
    /// What was paid from outside in the last `turnover_days`.
    pub(crate) turnover: Money,
    /// All money of the account.
    pub(crate) posted: Balance,
}

/// What may be taken now (R-64..R-69).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) currency: Currency,
    pub(crate) min: Money,
    pub(crate) max: Money,
    /// Nothing when there is a refusal.
    pub(crate) available: Money,
    pub(crate) due: Day,
    pub(crate) refusals: Vec<Why>,
    pub(crate) outstanding: Money,
}

/// The offer to an agency: every reason against it at once.
pub(crate) fn offer(terms: &PromiseTerms, standing: Standing<'_>, now: DateTime<Utc>) -> Offer {
    let Standing { account, promises, turnover, posted } = standing;
    let outstanding = owed(promises.iter());
    let share = turnover.mul_ratio_floor(terms.turnover_percent, 100).unwrap_or(Money::MAX);
    let limit = terms.cap.0.min(share).floor_to_kopecks();
    let room = terms.max.0.min(limit.saturating_sub(outstanding));
    let mut refusals = ineligible(terms, account);
    if promises.iter().any(|promise| promise.state(now) == PromiseState::Overdue) {
        refusals.push(Why::PromiseOverdue);
    }
    let block = TimeDelta::days(i64::from(terms.block_days));
    let recently = |promise: &Promise| {
        promise.repaid_at.is_some()
            && promise.overdue_until(now).is_some_and(|last| now < last + block)
    };
    if promises.iter().any(recently) {
        refusals.push(Why::RecentlyOverdue);
    }
    let window = now - TimeDelta::days(i64::from(terms.window_days));
    let taken = promises.iter().filter(|promise| promise.created_at > window).count();
    if taken >= usize::try_from(terms.activations).unwrap_or(usize::MAX) {
        refusals.push(Why::TooManyPromises);
    }
    if taken > 0 && posted <= Balance::ZERO {
        refusals.push(Why::BalanceNotPositive);
    }
    if room < terms.min.0 {
        refusals.push(Why::LimitReached);
    }
    Offer {
        currency: account.currency,
        min: terms.min.0,
        max: terms.max.0,
        available: if refusals.is_empty() { room } else { Money::ZERO },
        due: Day::of(now).plus_days(i32::from(terms.term_days.clamp(1, 30))),
        refusals,
        outstanding,
    }
}

/// Who may not take promises at all.
fn ineligible(terms: &PromiseTerms, account: &Account) -> Vec<Why> {
    let mut why = Vec::new();
    if account.kind != AccountKind::Agency {
        why.push(Why::NotAnAgency);
    }
    if account.state != AccountState::Active {
        why.push(Why::AccountBlocked);
    }
    match &account.legal_entity {
        None => why.push(Why::RequisitesMissing),
        Some(entity) if entity.country != terms.country => why.push(Why::NotAResident),
        Some(entity) if entity.inn.is_empty() => why.push(Why::RequisitesMissing),
        Some(_) => {}
    }
    if account.currency != terms.currency.0 {
        why.push(Why::CurrencyNotSupported);
    }
    why
}

/// Why an amount is not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the account's currency is {expected}, not {found}")]
    Currency { expected: Currency, found: Currency },
    #[error("a promised payment is overdue")]
    Overdue(Vec<Why>),
    #[error("no promised payment is available now")]
    NotAvailable(Vec<Why>),
    #[error("the least amount is {0}")]
    BelowMinimum(Money),
    #[error("the most that may be taken now is {0}")]
    AboveMaximum(Money),
}

/// Whether this amount is given under the offer.
pub(crate) fn take(offer: &Offer, amount: Money, currency: Currency) -> Result<(), Refusal> {
    if offer.currency != currency {
        return Err(Refusal::Currency { expected: offer.currency, found: currency });
    }
    if offer.refusals.contains(&Why::PromiseOverdue) {
        return Err(Refusal::Overdue(offer.refusals.clone()));
    }
    if !offer.refusals.is_empty() {
        return Err(Refusal::NotAvailable(offer.refusals.clone()));
    }
    if amount < offer.min {
        return Err(Refusal::BelowMinimum(offer.min));
    }
    if amount > offer.available {
        return Err(Refusal::AboveMaximum(offer.available));
    }
    Ok(())
}

/// The sum that is owed on promises.
pub(crate) fn owed<'a>(promises: impl Iterator<Item = &'a Promise>) -> Money {
    // More than can be stored cannot have been promised: each was posted to one balance.
    Money::checked_sum(promises.map(|promise| promise.outstanding)).unwrap_or(Money::MAX)
}

/// Why a promise is not repaid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotRepaid {
    #[error("the promised payment was repaid before")]
    AlreadyRepaid,
    #[error("{own} of the agency's own money is available, {needed} is needed")]
    Insufficient { own: Balance, needed: Money },
}

/// What repaying one promise takes: all of it, out of money that is not another promise's.
pub(crate) fn repay(
    promise: &Promise,
    others: Money,
    available: Balance,
) -> Result<Money, NotRepaid> {
    let needed = promise.outstanding;
    if needed.is_zero() {
        return Err(NotRepaid::AlreadyRepaid);
    }
    let own = available.checked_sub(others).unwrap_or(Balance::ZERO);
    if own < Balance::from(needed) {
        return Err(NotRepaid::Insufficient { own, needed });
    }
    Ok(needed)
}

/// Which overdue promises an external payment repays, and by how much: the oldest due day first, then the
/// oldest. What is left of the payment stays on the balance.
pub(crate) fn collect(
    promises: &[Promise],
    payment: Money,
    now: DateTime<Utc>,
) -> Vec<(Promise, Money)> {
    let mut overdue: Vec<&Promise> =
        promises.iter().filter(|promise| promise.state(now) == PromiseState::Overdue).collect();
    overdue.sort_by_key(|promise| (promise.due, promise.created_at, promise.id));
    let mut left = payment;
    let mut parts = Vec::new();
    for promise in overdue {
        let part = left.min(promise.outstanding);
        if part.is_zero() {
            break;
        }
        left = left.saturating_sub(part);
        parts.push((promise.clone(), part));
    }
    parts
}
