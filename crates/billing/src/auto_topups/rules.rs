//! When an auto top-up fires, and what it does when it does not (R-110..R-119).

use adspend_common::{
    money::{Balance, Money},
    time::Day,
};
use chrono::{DateTime, Datelike as _, Utc};

/// What the limit is counted over, Moscow time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Period {
    Day,
    /// Monday to Sunday.
    Week,
    /// A calendar month.
    Month,
}

impl Period {
    /// The first day of the period that a day is in.
    pub(crate) fn start(self, day: Day) -> Day {
        match self {
            Period::Day => day,
            Period::Week => day.week_start(),
            Period::Month => first_of_month(day.date().year(), day.date().month()),
        }
    }

    /// The first moment after the period that begins on a day.
    pub(crate) fn end(self, start: Day) -> DateTime<Utc> {
        match self {
            Period::Day => start.end(),
            Period::Week => start.week_end().start(),
            Period::Month => {
                let (year, month) = (start.date().year(), start.date().month());
                let (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                first_of_month(year, month).start()
            }
        }
    }
}

fn first_of_month(year: i32, month: u32) -> Day {
    Day::from_ymd(year, month, 1).expect("every month has a first day")
}

/// The four settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) amount: Money,
    /// Fires when the client's free money is this or less.
    pub(crate) threshold: Money,
    pub(crate) limit: Money,
    pub(crate) period: Period,
}

/// A field of the settings and what is wrong with it.
pub(crate) fn wrong(settings: &Settings) -> Option<(&'static str, &'static str)> {
    (settings.limit < settings.amount).then_some(("limit", "must be at least the amount (R-117)"))
}

/// What the transfers of the present period come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counter {
    /// The first day of the period.
    pub(crate) start: Day,
    pub(crate) used: Money,
    /// The number of the last one.
    pub(crate) sequence: i64,
}

impl Counter {
    /// Nothing yet in the period that begins on a day.
    pub(crate) fn new(start: Day) -> Counter {
        Counter { start, used: Money::ZERO, sequence: 0 }
    }

    /// The counter at a moment: a new one from the first moment of a new period. A clock behind the one
    /// that began the period does not bring the last period back.
    pub(crate) fn at(self, period: Period, now: DateTime<Utc>) -> Counter {
        let start = period.start(Day::of(now));
        if self.start < start { Counter::new(start) } else { self }
    }
}

/// What a period has used after the reversal of a transfer made at a moment: its amount is given back if it
/// is one of the period's.
pub(crate) fn given_back(counter: Counter, amount: Money, at: DateTime<Utc>) -> Money {
    if at < counter.start.start() { counter.used } else { counter.used.saturating_sub(amount) }
}

/// Why an auto top-up that is on does not fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// One more would be above the limit of the period.
    LimitUsedUp,
    /// The agency has an overdue promise.
    PromiseOverdue,
    /// The agency or the client is blocked.
    AccountBlocked,
}

/// What the decision looks at, all of it under the locks of both balance rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// The client's free money.
    pub(crate) client: Balance,
    /// What the agency may transfer.
    pub(crate) agency: Balance,
    pub(crate) blocked: bool,
    pub(crate) overdue: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: there is more than the threshold.
    Rest,
    /// Transfer the amount; then the period's transfers sum to `used`.
    Fire { used: Money },
    /// Stay on, and do nothing until that has changed.
    Skip(Wait),
    /// The agency cannot pay: switch off, and write to it.
    SwitchOff,
}

/// The next step. It is asked again after each transfer, at most limit / amount times, because every
/// transfer counts against the limit.
pub(crate) fn step(settings: &Settings, used: Money, look: Look) -> Step {
    if look.client > Balance::from(settings.threshold) {
        return Step::Rest;
    }
    let used = used.checked_add(settings.amount).unwrap_or(Money::MAX);
    if used > settings.limit {
        return Step::Skip(Wait::LimitUsedUp);
    }
    if look.blocked {
        return Step::Skip(Wait::AccountBlocked);
    }
    if look.overdue {
        return Step::Skip(Wait::PromiseOverdue);
    }
    if look.agency < Balance::from(settings.amount) {
        return Step::SwitchOff;
    }
    Step::Fire { used }
}
