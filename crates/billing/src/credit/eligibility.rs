//! Whether an account's record is enough for deferred terms. Necessary, not sufficient: what is granted is an
//! operator's decision.
//!
//! | policy | country | placement since the first spend | spend, VAT included |
//! |---|---|---|---|
//! | `recent_spend` | RU | 30 days | 2 000 in the last 30 days |
//! | `monthly_average`, the older terms | RU | 3 months | 10 000 a month, over the last three whole months |
//! | both | KZ | 6 months | 44 800 in the last 6 months |
//! | both | BY | 6 months | 360 in the last 6 months |
//!
//! R-92 gives one period with the figures of KZ and BY; it is read, as in RU, as that of the placement and of the
//! spend. When the older terms ended is not known, so the setting `credit.eligibility` chooses, not a date.
//!
//! All but [`of`] is pure. Spend is what the ledger moved from the account to revenue less what came back, by the
//! time of booking; its money includes VAT. History of another tenant does not count: what an agency's client
//! spent was its agency's.
//!
//! Cost of a look: the entries of the account in the period, by their index. Nothing is locked meanwhile.

use adspend_common::{
    db::Pool,
    id::AccountId,
    identity::Caller,
    money::{Balance, Currency, Money},
    time::Day,
};
use chrono::{DateTime, Datelike as _, Months, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Error, parent,
    rules::{self, Credit, Why},
    store,
};
use crate::accounts::Account;

/// Which terms an account's record is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// What was spent lately.
    #[default]
    RecentSpend,
    /// The older terms: an average month.
    MonthlyAverage,
}

/// A stretch of days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Span {
    Days(i32),
    Months(u32),
}

impl Span {
    fn before(self, day: Day) -> Day {
        match self {
            Span::Days(days) => day.plus_days(days.saturating_neg()),
            Span::Months(months) => moved(day.date().checked_sub_months(Months::new(months))),
        }
    }

    fn after(self, day: Day) -> Day {
        match self {
            Span::Days(days) => day.plus_days(days),
            Span::Months(months) => moved(day.date().checked_add_months(Months::new(months))),
        }
    }
}

fn moved(date: Option<chrono::NaiveDate>) -> Day {
    Day::from_date(date.expect("a day of ours is far from the ends of the calendar"))
}

/// What of the spend is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// All of it from so long ago until now.
    Last(Span),
    /// The average of the last whole calendar months.
    AverageOf(u32),
}

/// The terms for a country.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    placement: Span,
    measure: Measure,
    least: Money,
}

impl Terms {
    /// None where credit is not offered.
    pub(super) fn of(policy: Policy, country: &str) -> Option<Terms> {
        let half_a_year = |least| {
            let span = Span::Months(6);
            Terms { placement: span, measure: Measure::Last(span), least: Money::from_units(least) }
        };
        match (policy, country) {
            (Policy::RecentSpend, "RU") => Some(Terms {
                placement: Span::Days(30),
                measure: Measure::Last(Span::Days(30)),
                least: Money::from_units(2_000),
            }),
            (Policy::MonthlyAverage, "RU") => Some(Terms {
                placement: Span::Months(3),
                measure: Measure::AverageOf(3),
                least: Money::from_units(10_000),
            }),
            (Policy::RecentSpend | Policy::MonthlyAverage, "KZ") => Some(half_a_year(44_800)),
            (Policy::RecentSpend | Policy::MonthlyAverage, "BY") => Some(half_a_year(360)),
            (Policy::RecentSpend | Policy::MonthlyAverage, _) => None,
        }
    }

    /// The days whose spend counts, both inclusive.
    pub(super) fn days(&self, today: Day) -> (Day, Day) {
        match self.measure {
            Measure::Last(span) => (span.before(today), today),
            Measure::AverageOf(months) => {
                let first = moved(today.date().with_day(1));
                (Span::Months(months).before(first), first.prev())
            }
        }
    }

    /// The figure that is held against the least: an average is cut off to whole micro-units.
    fn figure(&self, spent: Balance) -> Balance {
        match self.measure {
            Measure::Last(_) => spent,
            Measure::AverageOf(months) => {
                let average = spent.micros().checked_div_euclid(i64::from(months));
                average.and_then(Balance::from_micros).unwrap_or(spent)
            }
        }
    }
}

/// What the ledger says of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// The day of the first spend.
    pub(super) first_spend: Option<Day>,
    /// On the days that count.
    pub(super) spent: Balance,
}

/// The spend that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spend {
    pub(crate) first_day: Day,
    pub(crate) last_day: Day,
    pub(crate) amount: Balance,
    pub(crate) least: Money,
}

/// Whether more may be granted, with the figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Eligibility {
    pub(crate) currency: Currency,
    /// Who is excluded whatever its record.
    pub(crate) excluded: Vec<Why>,
    /// What the record lacks; an operator may waive it.
    pub(crate) short: Vec<Why>,
    /// The day of the first spend, and that from which the placement is long enough.
    pub(crate) placement: Option<(Day, Day)>,
    pub(crate) spend: Option<Spend>,
}

/// The judgement on an account; without terms there are no figures.
pub(super) fn judge(
    account: &Account,
    credit: &Credit,
    record: Option<(Terms, Record)>,
    now: DateTime<Utc>,
) -> Eligibility {
    let mut eligibility = Eligibility {
        currency: account.currency,
        excluded: rules::excluded(account, credit, now),
        short: Vec::new(),
        placement: None,
        spend: None,
    };
    let Some((terms, record)) = record else { return eligibility };
    let today = Day::of(now);
    eligibility.placement = record.first_spend.map(|day| (day, terms.placement.after(day)));
    if eligibility.placement.is_none_or(|(_, enough)| today < enough) {
        eligibility.short.push(Why::PlacementTooShort);
    }
    let (first_day, last_day) = terms.days(today);
    let amount = terms.figure(record.spent);
    if amount < Balance::from(terms.least) {
        eligibility.short.push(Why::SpendTooLow);
    }
    eligibility.spend = Some(Spend { first_day, last_day, amount, least: terms.least });
    eligibility
}

/// The judgement on an account that the caller may see.
pub(crate) async fn of(
    pool: &Pool,
    now: DateTime<Utc>,
    policy: Policy,
    caller: &Caller,
    id: &AccountId,
) -> Result<Eligibility, Error> {
    let client = pool.get().await?;
    let account = parent(&client, caller, id).await?;
    let credit = store::find(&client, account.key).await?;
    let country = account.legal_entity.as_ref().map(|entity| entity.country.as_str());
    let country = country.filter(|_| rules::ineligible(&account).is_empty());
    let record = match country.and_then(|country| Terms::of(policy, country)) {
        Some(terms) => {
            let days = terms.days(Day::of(now));
            Some((terms, store::record(&client, account.key, days).await?))
        }
        None => None,
    };
    Ok(judge(&account, &credit, record, now))
}
