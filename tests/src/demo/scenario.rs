//! Who spends what: the accounts, the campaigns that the logs of the data stand for, their prices and
//! budgets, and what happens when in the week. Values only; `story` and `replay` act on them.
//!
//! The figures are chosen so that every kind of limit binds on some day: a campaign's day and week,
//! the account's day and week, and the money itself.

use adspend_common::{
    proto::adspend::pacing::v1::{BudgetUnit, PaymentModel},
    time::{Day, MSK},
};
use chrono::{DateTime, Duration, NaiveDate, TimeZone as _, Utc};

use super::events::LOGS;

/// One account that spends, as an index into [`ACCOUNTS`].
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// The agency of a client; none for a direct advertiser.
    pub(crate) agency: Option<&'static str>,
    /// Average daily roubles for the whole account.
    pub(crate) daily_roubles: Option<i64>,
}

/// The agencies: one with money, one that runs short of it.
pub(crate) const AGENCY: &str = "north";
pub(crate) const SMALL_AGENCY: &str = "south";
/// A direct advertiser that takes credit and advertises nowhere.
pub(crate) const CREDITED: &str = "cedar";

/// A client with an account budget, a client without one, a direct advertiser with little money, and a
/// client whose agency tops it up.
pub(crate) const ACCOUNTS: [Account; 4] = [
    Account { id: "atelier", title: "Atelier", agency: Some(AGENCY), daily_roubles: Some(1_000) },
    Account { id: "boutique", title: "Boutique", agency: Some(AGENCY), daily_roubles: None },
    Account { id: "mono", title: "Mono", agency: None, daily_roubles: None },
    Account { id: "kiosk", title: "Kiosk", agency: Some(SMALL_AGENCY), daily_roubles: None },
];
pub(crate) const ATELIER: usize = 0;
pub(crate) const BOUTIQUE: usize = 1;
pub(crate) const MONO: usize = 2;
pub(crate) const KIOSK: usize = 3;

/// Whoever has money, as resources: those that spend it, and the owners that do not.
pub(crate) fn everybody() -> impl Iterator<Item = String> {
    let owners = [AGENCY, SMALL_AGENCY, CREDITED].map(|id| format!("accounts/{id}"));
    (0..ACCOUNTS.len()).map(account_name).chain(owners)
}

/// A campaign: one for each log, in the order of [`LOGS`], and called like it.
#[derive(Debug)]
pub(crate) struct Campaign {
    pub(crate) account: usize,
    pub(crate) payment: PaymentModel,
    /// The most that one impression or click may cost.
    pub(crate) max_price_micros: i64,
    pub(crate) budget: Option<(i64, BudgetUnit)>,
    /// Serves only between these hours of the day.
    pub(crate) hours: Option<(i32, i32)>,
    /// The last day of the campaign.
    pub(crate) last_day: Option<(i32, u32, u32)>,
}

const IMPRESSION: PaymentModel = PaymentModel::PerImpression;
const CLICK: PaymentModel = PaymentModel::PerClick;
const DAILY: BudgetUnit = BudgetUnit::AverageDaily;
const ANY: Campaign = Campaign {
    account: ATELIER,
    payment: IMPRESSION,
    max_price_micros: 600_000,
    budget: None,
    hours: None,
    last_day: None,
};

pub(crate) const CAMPAIGNS: [Campaign; LOGS.len()] = [
    // Its day limit binds every evening; the increase on Wednesday lifts it, and the week ends it.
    Campaign { budget: Some((300, DAILY)), ..ANY },
    // Binds on nothing of its own: what is left of the account's day and week is its limit.
    Campaign { hours: Some((7, 24)), ..ANY },
    // Spends its week in three days of 35 % at most.
    Campaign { budget: Some((1_500, BudgetUnit::Weekly)), ..ANY },
    // Few and dear clicks: whole reservations fill the day long before charges do.
    Campaign {
        account: BOUTIQUE,
        payment: CLICK,
        max_price_micros: 18_000_000,
        budget: Some((900, DAILY)),
        ..ANY
    },
    // Dear impressions: the account runs dry within a day, and again after every top-up.
    Campaign { account: KIOSK, max_price_micros: 2_000_000, ..ANY },
    // The account runs dry in mid-week. The campaign ends one night before the data does.
    Campaign { account: MONO, last_day: Some((2019, 11, 30)), ..ANY },
];

/// The name of a campaign's resource.
pub(crate) fn campaign_name(campaign: usize) -> String {
    format!("campaigns/{}", LOGS.get(campaign).copied().unwrap_or_default())
}

/// The name of an account's resource.
pub(crate) fn account_name(account: usize) -> String {
    format!("accounts/{}", ACCOUNTS.get(account).map(|account| account.id).unwrap_or_default())
}

/// What happens during the week, beside the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    TakePromise,
    TransferMore,
    Increase,
    Decrease,
    Kill,
    Restart,
    RanDry,
    WrongPayer,
    Pause,
    Statement,
    Resume,
    Allocate,
    RepayPromise,
    Block,
    Unblock,
    TransferBack,
}

/// The acts by Moscow time, in order.
const ACTS: [(u32, u32, u32, Act); 16] = [
    (11, 25, 12, Act::TakePromise),
    (11, 26, 10, Act::TransferMore),
    (11, 27, 10, Act::Decrease),
    (11, 27, 12, Act::Increase),
    (11, 27, 15, Act::Kill),
    (11, 27, 18, Act::Restart),
    (11, 27, 23, Act::RanDry),
    (11, 28, 10, Act::WrongPayer),
    (11, 28, 12, Act::Pause),
    (11, 28, 13, Act::Statement),
    (11, 28, 18, Act::Resume),
    (11, 29, 11, Act::Allocate),
    (11, 29, 15, Act::RepayPromise),
    (11, 30, 12, Act::Block),
    (11, 30, 18, Act::Unblock),
    (11, 30, 20, Act::TransferBack),
];

/// The acts that fall on the days from `first` to `last`.
pub(crate) fn acts(first: Day, last: Day) -> Vec<(DateTime<Utc>, Act)> {
    ACTS.iter()
        .map(|&(month, day, hour, act)| (moscow(2019, month, day, hour), act))
        .filter(|(at, _)| (first.start()..last.end()).contains(at))
        .collect()
}

/// A full hour in Moscow.
fn moscow(year: i32, month: u32, day: u32, hour: u32) -> DateTime<Utc> {
    let date = NaiveDate::from_ymd_opt(year, month, day).expect("written in this file");
    let midnight = MSK.from_local_datetime(&date.and_time(chrono::NaiveTime::MIN)).single();
    let midnight = midnight.expect("a fixed offset has every time once");
    midnight.with_timezone(&Utc) + Duration::hours(i64::from(hour))
}

/// What an impression or click costs in the end: between 60 and 100 % of the most it may, the same in
/// every run, and a whole number of micro-units only.
pub(crate) fn price_micros(event: usize, max_price_micros: i64) -> i64 {
    let share = 600_000 + i64::try_from(mixed(event, 1) % 400_001).unwrap_or_default();
    (max_price_micros / 1_000).saturating_mul(share) / 1_000
}

/// How long after the impression the ad server reports it, in Moscow minutes.
pub(crate) fn report_after(event: usize, payment: PaymentModel, click: bool) -> Duration {
    let seconds = |from: u64, to: u64| {
        let wide = mixed(event, 2) % (to - from);
        Duration::seconds(i64::try_from(from + wide).unwrap_or_default())
    };
    match (payment, click) {
        // A click comes while the page is open.
        (PaymentModel::PerClick, true) => seconds(60, 1_200),
        // Without one the reservation is given back when the page is likely closed.
        (PaymentModel::PerClick, false) => seconds(600, 900),
        (
            PaymentModel::PerImpression | PaymentModel::PerConversion | PaymentModel::Unspecified,
            _,
        ) => seconds(30, 300),
    }
}

/// What an ad server does badly, now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Reports in time.
    Punctual,
    /// Reports a charge only after its admission has expired.
    Late,
    /// Forgets to give an admission back.
    Forgetful,
}

/// One charge of a thousand comes late, one reservation of twenty is left to expire.
pub(crate) fn habit(event: usize) -> Habit {
    let drawn = mixed(event, 3);
    if drawn.is_multiple_of(1_000) {
        Habit::Late
    } else if drawn % 20 == 1 {
        Habit::Forgetful
    } else {
        Habit::Punctual
    }
}

/// SplitMix64 of the event and a stream: the same numbers in every run.
fn mixed(event: usize, stream: u64) -> u64 {
    let mut z = (event as u64)
        .wrapping_mul(8)
        .wrapping_add(stream)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_within_what_was_reserved_and_the_same_every_time() {
        for event in 0..10_000 {
            let price = price_micros(event, 600_000);
            assert!((360_000..=600_000).contains(&price), "{price}");
            assert_eq!(price, price_micros(event, 600_000));
        }
        let distinct: std::collections::BTreeSet<_> =
            (0..100).map(|event| price_micros(event, 600_000)).collect();
        assert!(distinct.len() > 90, "prices vary: {}", distinct.len());
    }

    #[test]
    fn most_reports_are_punctual() {
        let late = (0..60_000).filter(|event| habit(*event) == Habit::Late).count();
        let forgotten = (0..60_000).filter(|event| habit(*event) == Habit::Forgetful).count();
        assert!((30..120).contains(&late), "{late}");
        assert!((2_000..4_000).contains(&forgotten), "{forgotten}");
    }

    #[test]
    fn the_acts_of_a_week_stand_in_the_order_of_time() {
        let day = |month, day| Day::from_ymd(2019, month, day).unwrap();
        let week = acts(day(11, 24), day(12, 1));
        assert_eq!(week.len(), ACTS.len());
        assert!(week.is_sorted_by_key(|(at, _)| *at));
        let wednesday: Vec<_> =
            acts(day(11, 27), day(11, 27)).into_iter().map(|(_, act)| act).collect();
        assert_eq!(wednesday, [Act::Decrease, Act::Increase, Act::Kill, Act::Restart, Act::RanDry]);
    }

    #[test]
    fn every_campaign_spends_from_an_account_that_exists() {
        assert!(CAMPAIGNS.iter().all(|campaign| campaign.account < ACCOUNTS.len()));
        assert_eq!(campaign_name(0), "campaigns/all-bts");
        assert_eq!(account_name(MONO), "accounts/mono");
    }
}
