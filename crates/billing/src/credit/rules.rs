//! What may be owed, by when, and what falls due by time alone (R-90..R-101): pure.

use adspend_common::{
    money::{Balance, Currency, MICROS_PER_KOPECK, Money},
    time::Day,
};
use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    accounts::{Account, AccountKind, AccountState},
    invoices::{Invoice, InvoiceState, Terms},
    ledger::CreditLine,
};

/// Calendar days from the date of a deferred invoice to its last day of payment.
pub(crate) const TERM_DAYS: i32 = 15;
/// The threshold is managed again so long after a deferred invoice was repaid.
pub(crate) const MANAGED_AGAIN: TimeDelta = TimeDelta::hours(24);
/// Where the payer must be, and the currency that the terms of R-92 are in there.
const COUNTRIES: [(&str, Currency); 3] =
    [("RU", Currency::RUB), ("KZ", Currency::KZT), ("BY", Currency::BYN)];

/// A deferred invoice that is not paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unpaid {
    pub(crate) id: Uuid,
    pub(crate) number: String,
    pub(crate) amount: Money,
    /// The last day of payment, inclusive.
    pub(crate) due: Day,
    /// The ledger has been told that it is overdue.
    pub(crate) told: bool,
}

/// What was granted to an account, and what it owes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Credit {
    /// By an operator.
    pub(crate) granted: Money,
    /// How far below zero its owner lets spend go; zero when off.
    pub(crate) threshold: Money,
    /// The earliest due day first.
    pub(crate) unpaid: Vec<Unpaid>,
    pub(crate) repaid_at: Option<DateTime<Utc>>,
    pub(crate) bill_at: Option<DateTime<Utc>>,
    pub(crate) unfreeze_at: Option<DateTime<Utc>>,
}

/// Something that time alone has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// A month has ended, with this last day: a negative balance is invoiced.
    MonthEnd(Day),
    /// A deferred invoice was not paid in its term: unspent money goes under the lien.
    Overdue,
    /// Money under the lien goes back.
    Unfreeze,
}

impl Credit {
    /// Unpaid deferred invoices, together.
    pub(crate) fn debt(&self) -> Money {
        // Each was posted to one balance, so their sum can be stored.
        Money::checked_sum(self.unpaid.iter().map(|invoice| invoice.amount)).unwrap_or(Money::MAX)
    }

    /// T_eff: the threshold less the unpaid deferred invoices.
    pub(crate) fn overdraft(&self) -> Money {
        self.threshold.saturating_sub(self.debt())
    }

    /// The most that the threshold may be set to, and a deferred invoice be issued for.
    pub(crate) fn room(&self) -> Money {
        self.granted.saturating_sub(self.debt())
    }

    /// From this moment on a deferred invoice is overdue: 00:00 in Moscow after its last day.
    pub(crate) fn overdue_at(&self) -> Option<DateTime<Utc>> {
        self.unpaid.first().map(|invoice| invoice.due.end())
    }

    /// Whether one is overdue.
    pub(crate) fn is_overdue(&self, now: DateTime<Utc>) -> bool {
        self.overdue_at().is_some_and(|at| at <= now)
    }

    /// Until when the threshold may not be changed.
    pub(crate) fn locked_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let until = self.repaid_at?.checked_add_signed(MANAGED_AGAIN)?;
        (now < until).then_some(until)
    }

    /// When the next invoice is overdue of which the ledger does not know it.
    fn next_overdue_at(&self) -> Option<DateTime<Utc>> {
        self.unpaid.iter().find(|invoice| !invoice.told).map(|invoice| invoice.due.end())
    }

    /// What the ledger is told.
    pub(crate) fn line(&self) -> CreditLine {
        let overdue = self.unpaid.iter().any(|invoice| invoice.told);
        let all = [self.bill_at, self.next_overdue_at(), self.unfreeze_at];
        CreditLine {
            overdraft: self.overdraft(),
            overdue,
            next_at: all.into_iter().flatten().min(),
        }
    }

    /// Adds an invoice to those that are owed.
    pub(crate) fn owe(&mut self, invoice: Unpaid) {
        self.unpaid.push(invoice);
        self.unpaid.sort_by_key(|invoice| invoice.due);
    }

    /// The earliest thing that has fallen due and is not done, when there is one.
    pub(crate) fn due(&self, now: DateTime<Utc>) -> Option<Due> {
        // At one moment the lien is taken before one ends, so that it goes on without a gap.
        let all = [
            self.bill_at.map(|at| (at, Due::MonthEnd(Day::of(at).prev()))),
            self.next_overdue_at().map(|at| (at, Due::Overdue)),
            self.unfreeze_at.map(|at| (at, Due::Unfreeze)),
        ];
        let due = all.into_iter().flatten().filter(|(at, _)| *at <= now);
        due.min_by_key(|(at, _)| *at).map(|(_, due)| due)
    }

    /// The credit after deferred invoices were repaid: `self` owes only what is left. Money under the lien
    /// goes back at 00:00 of the next day, when nothing is overdue any more.
    pub(crate) fn repaid(&mut self, now: DateTime<Utc>, was_overdue: bool, frozen: Money) {
        self.repaid_at = Some(now);
        if was_overdue && !self.is_overdue(now) && !frozen.is_zero() {
            self.unfreeze_at = Some(Day::of(now).end());
        }
    }

    /// Sets the threshold; while it is on, months are billed.
    pub(crate) fn set_threshold(&mut self, threshold: Money, now: DateTime<Utc>) {
        self.threshold = threshold;
        self.bill_at = match (threshold.is_zero(), self.bill_at) {
            (true, _) => None,
            (false, Some(at)) => Some(at),
            (false, None) => Some(month_end(Day::of(now))),
        };
    }
}

/// The first moment after the month of a day.
pub(crate) fn month_end(day: Day) -> DateTime<Utc> {
    let (year, month) = (day.date().year(), day.date().month());
    let (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    Day::from_ymd(year, month, 1).expect("every month has a first day").start()
}

/// The invoice for a balance at the end of a month: the debt, a part of a kopeck counting as a whole one.
pub(crate) fn bill(posted: Balance) -> Option<Money> {
    let debt = posted.negated().as_money()?;
    let floor = debt.floor_to_kopecks();
    let amount = match Money::from_micros(MICROS_PER_KOPECK) {
        Some(kopeck) if floor != debt => floor.checked_add(kopeck)?,
        Some(_) | None => floor,
    };
    (!amount.is_zero()).then_some(amount)
}

/// Why an account has no credit to use. Names go over the wire and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    NotADirectAdvertiser,
    LegalEntityRequired,
    CountryNotSupported,
    CurrencyNotSupported,
    PlacementTooShort,
    SpendTooLow,
    AccountBlocked,
    NotGranted,
    DeferredOverdue,
    RecentlyRepaid,
    ThresholdOn,
    LimitReached,
}

impl Why {
    /// The name that callers get.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Why::NotADirectAdvertiser => "NOT_A_DIRECT_ADVERTISER",
            Why::LegalEntityRequired => "LEGAL_ENTITY_REQUIRED",
            Why::CountryNotSupported => "COUNTRY_NOT_SUPPORTED",
            Why::CurrencyNotSupported => "CURRENCY_NOT_SUPPORTED",
            Why::PlacementTooShort => "PLACEMENT_TOO_SHORT",
            Why::SpendTooLow => "SPEND_TOO_LOW",
            Why::AccountBlocked => "ACCOUNT_BLOCKED",
            Why::NotGranted => "CREDIT_NOT_GRANTED",
            Why::DeferredOverdue => "DEFERRED_OVERDUE",
            Why::RecentlyRepaid => "RECENTLY_REPAID",
            Why::ThresholdOn => "THRESHOLD_ON",
            Why::LimitReached => "CREDIT_LIMIT_REACHED",
        }
    }
}

/// Why a change of credit, or a deferred invoice, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the account's currency is {expected}, not {found}")]
    Currency { expected: Currency, found: Currency },
    #[error("credit is not available to this account")]
    NotAvailable(Vec<Why>),
    #[error("a deferred invoice is overdue")]
    Overdue,
    #[error("the threshold is managed again 24 hours after a deferred invoice was repaid")]
    Locked { until: DateTime<Utc> },
    #[error("an overdraft threshold is on")]
    ThresholdOn,
    #[error("the most is {0}")]
    AboveMaximum(Money),
    #[error("the threshold cannot be below {0}, which covers the present debt")]
    BelowDebt(Money),
    #[error("the threshold is turned off at a positive balance only")]
    BalanceNotPositive,
    #[error("the invoice is not deferred")]
    NotDeferred,
    #[error("the invoice is paid")]
    AlreadyPaid,
    #[error("a deferred invoice is repaid by its exact amount, {0}")]
    NotExact(Money),
    #[error("{own} of the account's own money is free or frozen, {needed} is needed")]
    Insufficient { own: Balance, needed: Money },
}

/// Who may not have credit at all.
pub(crate) fn ineligible(account: &Account) -> Vec<Why> {
    let mut why = Vec::new();
    match account.kind {
        AccountKind::Advertiser => {}
        AccountKind::Agency | AccountKind::Client => why.push(Why::NotADirectAdvertiser),
    }
    match &account.legal_entity {
        None => why.push(Why::LegalEntityRequired),
        Some(entity) => match COUNTRIES.iter().find(|(country, _)| *country == entity.country) {
            None => why.push(Why::CountryNotSupported),
            Some((_, currency)) if *currency != account.currency => {
                why.push(Why::CurrencyNotSupported);
            }
            Some(_) => {}
        },
    }
    why
}

/// Who is granted nothing more, whatever its record.
pub(crate) fn excluded(account: &Account, credit: &Credit, now: DateTime<Utc>) -> Vec<Why> {
    let mut why = ineligible(account);
    if credit.is_overdue(now) {
        why.push(Why::DeferredOverdue);
    }
    why
}

/// Every reason against a change of the threshold now.
pub(crate) fn threshold_refusals(
    account: &Account,
    credit: &Credit,
    now: DateTime<Utc>,
) -> Vec<Why> {
    let mut why = in_use(account, credit, now);
    if credit.locked_until(now).is_some() {
        why.push(Why::RecentlyRepaid);
    }
    why
}

/// Every reason against a deferred invoice now.
pub(crate) fn deferral_refusals(
    account: &Account,
    credit: &Credit,
    now: DateTime<Utc>,
) -> Vec<Why> {
    let mut why = in_use(account, credit, now);
    if !credit.threshold.is_zero() {
        why.push(Why::ThresholdOn);
    }
    if !credit.granted.is_zero() && credit.room().is_zero() {
        why.push(Why::LimitReached);
    }
    why
}

fn in_use(account: &Account, credit: &Credit, now: DateTime<Utc>) -> Vec<Why> {
    let mut why = ineligible(account);
    if account.state != AccountState::Active {
        why.push(Why::AccountBlocked);
    }
    if credit.granted.is_zero() {
        why.push(Why::NotGranted);
    }
    if credit.is_overdue(now) {
        why.push(Why::DeferredOverdue);
    }
    why
}

/// The first of the reasons as a refusal of its own, or all of them together.
fn refuse(why: Vec<Why>, credit: &Credit, now: DateTime<Utc>) -> Result<(), Refusal> {
    match why.as_slice() {
        [] => Ok(()),
        [Why::DeferredOverdue, ..] => Err(Refusal::Overdue),
        [Why::ThresholdOn, ..] => Err(Refusal::ThresholdOn),
        [Why::RecentlyRepaid, ..] => match credit.locked_until(now) {
            Some(until) => Err(Refusal::Locked { until }),
            None => Ok(()),
        },
        [..] => Err(Refusal::NotAvailable(why)),
    }
}

/// What a balance is at the moment of a decision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// Free money; held money is out of it.
    pub(crate) main: Balance,
    /// All money.
    pub(crate) posted: Balance,
}

/// The least that the threshold may be set to: what free money is below zero by, and the invoices that
/// T_eff is less by. Nothing when it is not below zero.
pub(crate) fn least_threshold(credit: &Credit, main: Balance) -> Money {
    match main.negated().as_money() {
        Some(debt) if !debt.is_zero() => {
            let least = debt.checked_add(credit.debt()).unwrap_or(Money::MAX);
            bill(Balance::from(least).negated()).unwrap_or(least)
        }
        Some(_) | None => Money::ZERO,
    }
}

/// Whether the owner may set this threshold.
pub(crate) fn may_set_threshold(
    account: &Account,
    credit: &Credit,
    standing: Standing,
    (threshold, currency): (Money, Currency),
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    in_currency(account, currency)?;
    refuse(threshold_refusals(account, credit, now), credit, now)?;
    if threshold > credit.room() {
        return Err(Refusal::AboveMaximum(credit.room()));
    }
    let least = least_threshold(credit, standing.main);
    if threshold < least {
        return Err(Refusal::BelowDebt(least));
    }
    if threshold.is_zero() && standing.posted <= Balance::ZERO {
        return Err(Refusal::BalanceNotPositive);
    }
    Ok(())
}

/// Whether more may be granted than before: `short` is what the account's record lacks. Less may be at any time.
pub(crate) fn may_raise(
    account: &Account,
    credit: &Credit,
    (granted, short): (Money, &[Why]),
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    if granted <= credit.granted {
        return Ok(());
    }
    let mut why = excluded(account, credit, now);
    why.extend_from_slice(short);
    refuse(why, credit, now)
}

/// The threshold that is left under a new grant, when an operator may give it. A grant that sinks takes the
/// threshold along, but never below what is owed on it: to stop an account that owes, block it.
pub(crate) fn may_grant(
    account: &Account,
    credit: &Credit,
    standing: Standing,
    (granted, currency): (Money, Currency),
) -> Result<Money, Refusal> {
    in_currency(account, currency)?;
    // A month's invoice is a part of the threshold already: only a grant that sinks takes from it.
    let threshold = match granted < credit.granted {
        true => credit.threshold.min(granted),
        false => credit.threshold,
    };
    let least = least_threshold(credit, standing.main);
    if threshold < credit.threshold && threshold < least {
        return Err(Refusal::BelowDebt(least));
    }
    Ok(threshold)
}

/// Whether a deferred invoice of this amount may be issued.
pub(crate) fn may_defer(
    account: &Account,
    credit: &Credit,
    amount: Money,
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    refuse(deferral_refusals(account, credit, now), credit, now)?;
    if amount > credit.room() {
        return Err(Refusal::AboveMaximum(credit.room()));
    }
    Ok(())
}

/// What of a repayment comes out of the lien, and what out of free money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) frozen: Money,
    pub(crate) main: Money,
}

/// Whether an operator may repay an invoice from the balance, and with which money: that under the lien
/// first, for it is there for this debt, then free money. Neither held money nor the overdraft; and what free money
/// is below zero by is spent already, out of what is under the lien as well.
pub(crate) fn may_repay(
    invoice: &Invoice,
    (amount, currency): (Money, Currency),
    (main, frozen): (Balance, Money),
) -> Result<Parts, Refusal> {
    match (invoice.terms, invoice.state) {
        (Terms::Deferred, InvoiceState::Issued) => {}
        (Terms::Deferred, InvoiceState::Paid) => return Err(Refusal::AlreadyPaid),
        // A deferred one cannot be cancelled.
        (Terms::Deferred, InvoiceState::Cancelled)
        | (Terms::Prepaid, InvoiceState::Issued | InvoiceState::Paid | InvoiceState::Cancelled) => {
            return Err(Refusal::NotDeferred);
        }
    }
    if invoice.currency != currency {
        return Err(Refusal::Currency { expected: invoice.currency, found: currency });
    }
    if invoice.amount != amount {
        return Err(Refusal::NotExact(invoice.amount));
    }
    let own = main.checked_add(frozen).unwrap_or(main);
    if own < Balance::from(amount) {
        return Err(Refusal::Insufficient { own, needed: amount });
    }
    Ok(Parts { frozen: frozen.min(amount), main: amount.saturating_sub(frozen) })
}

fn in_currency(account: &Account, found: Currency) -> Result<(), Refusal> {
    let expected = account.currency;
    if expected == found { Ok(()) } else { Err(Refusal::Currency { expected, found }) }
}
