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
//! Cost of a look: the entries of the account in the period, by their index, about a microsecond each: half a second
//! for 600 000 charges, in statements of a bounded length. Nothing is locked meanwhile.

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

#[cfg(test)]
mod tests {
    use super::{super::tests::advertiser, *};

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    /// The judgement on the morning of a day on what was spent by day, as the store adds it up.
    fn on(today: &str, policy: Policy, country: &str, spends: &[(&str, &str)]) -> Eligibility {
        let terms = Terms::of(policy, country).unwrap();
        let (first, last) = terms.days(day(today));
        let counts = |of: &str| first <= day(of) && day(of) <= last;
        let spent = spends.iter().filter(|(of, _)| counts(of)).map(|(_, amount)| money(amount));
        let spent = Balance::from(Money::checked_sum(spent).unwrap());
        let first_spend = spends.iter().map(|(of, _)| day(of)).min();
        let record = Record { first_spend, spent };
        let now = day(today).start();
        judge(&advertiser(), &Credit::default(), Some((terms, record)), now)
    }

    /// The worked figures of R-92: 13 000, 10 000 and 9 000 a month are enough; then 7 000 is not.
    #[test]
    fn the_older_terms_take_the_average_of_three_whole_months() {
        let spends = [
            ("2027-01-01", "13000"),
            ("2027-02-28", "10000"),
            ("2027-03-31", "9000"),
            ("2027-04-01", "7000"),
        ];
        let cases: [(&str, &[Why], &str); 4] = [
            ("2027-03-31", &[Why::PlacementTooShort, Why::SpendTooLow], "7666.666666"),
            ("2027-04-01", &[], "10666.666666"),
            ("2027-04-30", &[], "10666.666666"),
            ("2027-05-01", &[Why::SpendTooLow], "8666.666666"),
        ];
        for (today, short, average) in cases {
            let found = on(today, Policy::MonthlyAverage, "RU", &spends);
            let spend = found.spend.unwrap();
            assert_eq!(found.short, short, "{today}");
            assert_eq!(spend.amount, Balance::from(money(average)), "{today}");
            assert_eq!(spend.least, money("10000"));
        }
    }

    /// Cutting an average off to whole micro-units turns no verdict: 29 999.99 in three months are not 10 000 each.
    #[test]
    fn an_average_a_kopeck_short_is_short() {
        for (last, short) in [("9999.99", vec![Why::SpendTooLow]), ("10000", vec![])] {
            let spends = [("2027-01-01", "10000"), ("2027-02-01", "10000"), ("2027-03-01", last)];
            assert_eq!(on("2027-04-01", Policy::MonthlyAverage, "RU", &spends).short, short);
        }
    }

    /// R-92, country by country: the day before, the day itself, a kopeck less, the day after the period.
    #[test]
    fn placement_and_spend_table() {
        use Why::{PlacementTooShort as P, SpendTooLow as S};
        for (country, first, today, amount, short) in [
            ("RU", "2027-05-20", "2027-06-18", "2000", vec![P]),
            ("RU", "2027-05-20", "2027-06-19", "2000", vec![]),
            ("RU", "2027-05-20", "2027-06-19", "1999.99", vec![S]),
            ("RU", "2027-05-20", "2027-06-20", "2000", vec![S]),
            ("KZ", "2026-11-30", "2027-05-29", "44800", vec![P]),
            ("KZ", "2026-11-30", "2027-05-30", "44800", vec![]),
            ("KZ", "2026-11-30", "2027-05-30", "44799.99", vec![S]),
            // Six months before 31 May end on the last day of November as well.
            ("KZ", "2026-11-30", "2027-05-31", "44800", vec![]),
            ("KZ", "2026-11-30", "2027-06-01", "44800", vec![S]),
            ("BY", "2026-01-15", "2026-07-14", "360", vec![P]),
            ("BY", "2026-01-15", "2026-07-15", "360", vec![]),
            ("BY", "2026-01-15", "2026-07-15", "359.99", vec![S]),
            ("BY", "2026-01-15", "2026-07-16", "360", vec![S]),
        ] {
            for policy in [Policy::RecentSpend, Policy::MonthlyAverage] {
                if (policy, country) == (Policy::MonthlyAverage, "RU") {
                    continue;
                }
                let found = on(today, policy, country, &[(first, amount)]);
                assert_eq!(found.short, short, "{country} {first} {today} {amount}");
            }
        }
        let never = on("2027-06-19", Policy::RecentSpend, "RU", &[]);
        assert_eq!((never.short, never.placement), (vec![P, S], None));
        assert_eq!(Terms::of(Policy::RecentSpend, "TR"), None);
    }

    /// More that came back than was spent is less than nothing, not a panic nor enough.
    #[test]
    fn what_came_back_counts_against() {
        let terms = Terms::of(Policy::MonthlyAverage, "RU").unwrap();
        let spent = Balance::from_micros(-100).unwrap();
        let record = Record { first_spend: Some(day("2026-01-01")), spent };
        let now = day("2027-04-01").start();
        let found = judge(&advertiser(), &Credit::default(), Some((terms, record)), now);
        assert_eq!(found.short, [Why::SpendTooLow]);
        assert_eq!(found.spend.unwrap().amount.micros(), -34);
    }
}
