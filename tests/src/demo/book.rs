//! The driver's own record of what was admitted and charged, which the services' figures are held
//! against. It is made from answers only; nothing in it comes from the services' own reports except
//! the ceilings.
//!
//! How a passed limit is found: at any moment the sum of
//! - the reservations that were answered as admitted and neither reported nor expired, and
//! - the prices of reported charges
//!
//! is at most what the service has reserved and charged, because an answer comes after the grant and
//! a report is counted here before it is sent. Its highest value of a day is therefore a lower bound
//! of the service's own, and when it passes the day's ceiling a limit was passed for certain. Charges
//! that the service marks late stand outside: their money was no longer reserved.

use std::collections::BTreeMap;

use adspend_common::time::Day;

use super::scenario::{ACCOUNTS, CAMPAIGNS};

/// Whose limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    Account(usize),
    Campaign(usize),
}

impl Who {
    /// Every account, each followed by its campaigns.
    pub(crate) fn all() -> Vec<Who> {
        let mut all = Vec::new();
        for account in 0..ACCOUNTS.len() {
            all.push(Who::Account(account));
            let campaigns = CAMPAIGNS.iter().enumerate();
            all.extend(
                campaigns.filter(|(_, of)| of.account == account).map(|(no, _)| Who::Campaign(no)),
            );
        }
        all
    }

    /// Whether the scenario gives it a budget.
    pub(crate) fn has_budget(self) -> bool {
        match self {
            Who::Account(number) => {
                ACCOUNTS.get(number).is_some_and(|account| account.daily_roubles.is_some())
            }
            Who::Campaign(number) => {
                CAMPAIGNS.get(number).is_some_and(|campaign| campaign.budget.is_some())
            }
        }
    }
}

/// The highest ceiling of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Ceiling {
    /// Nobody knows.
    #[default]
    Unknown,
    Micros(i64),
    NoLimit,
}

/// One account or campaign on one day.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    pub(crate) opportunities: u64,
    pub(crate) admitted: u64,
    pub(crate) admitted_micros: i64,
    pub(crate) charges: u64,
    pub(crate) charged_micros: i64,
    pub(crate) late: u64,
    pub(crate) late_micros: i64,
    pub(crate) denied: BTreeMap<&'static str, u64>,
    /// The highest of the day by the rules.
    pub(crate) ceiling: Ceiling,
    /// The highest of the day that the service told.
    pub(crate) told: Ceiling,
    /// What the service meant the day to spend, in the end.
    pub(crate) target_micros: Option<i64>,
    /// Reserved and not reported, plus the prices of what was reported.
    used_micros: i64,
    pub(crate) highest_micros: i64,
}

impl Cell {
    /// By how much the highest use of the day passed its ceiling.
    pub(crate) fn over_limit_micros(&self) -> i64 {
        self.above(self.highest_micros)
    }

    /// By how much what was charged in time passed the day's ceiling.
    pub(crate) fn overspend_micros(&self) -> i64 {
        self.above(self.charged_micros - self.late_micros)
    }

    /// Whether the service told a ceiling above that of the rules.
    pub(crate) fn told_too_much(&self) -> bool {
        match (self.told, self.ceiling) {
            (Ceiling::Unknown, _) | (_, Ceiling::NoLimit) => false,
            (Ceiling::Micros(told), Ceiling::Micros(limit)) => told > limit,
            (Ceiling::NoLimit, Ceiling::Micros(_)) | (_, Ceiling::Unknown) => true,
        }
    }

    fn above(&self, micros: i64) -> i64 {
        match self.ceiling {
            Ceiling::Micros(limit) => (micros - limit).max(0),
            Ceiling::NoLimit => 0,
            // Without a ceiling nothing is proved: whatever was used counts as too much.
            Ceiling::Unknown => micros,
        }
    }
}

/// An admission of a day. The day is not known when the call went over midnight; such a reservation
/// is counted when its charge says which day it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) campaign: usize,
    pub(crate) day: Option<Day>,
    pub(crate) micros: i64,
}

/// The record of a run.
#[derive(Debug, Default)]
pub(crate) struct Book {
    cells: BTreeMap<(Who, Day), Cell>,
}

impl Book {
    fn both(&mut self, campaign: usize, day: Day, change: impl Fn(&mut Cell)) {
        let account = CAMPAIGNS.get(campaign).map_or(0, |campaign| campaign.account);
        for who in [Who::Campaign(campaign), Who::Account(account)] {
            change(self.cells.entry((who, day)).or_default());
        }
    }

    /// An opportunity came.
    pub(crate) fn came(&mut self, campaign: usize, day: Day) {
        self.both(campaign, day, |cell| cell.opportunities += 1);
    }

    /// It was denied.
    pub(crate) fn denied(&mut self, campaign: usize, day: Day, reason: &'static str) {
        self.both(campaign, day, |cell| *cell.denied.entry(reason).or_default() += 1);
    }

    /// It was admitted. `shown` is the day of the opportunity, under which it is counted; what is
    /// used is used on the day of the admission.
    pub(crate) fn admitted(&mut self, reservation: Reservation, shown: Day) {
        let Reservation { campaign, day, micros } = reservation;
        self.both(campaign, shown, |cell| {
            cell.admitted += 1;
            cell.admitted_micros += micros;
        });
        let Some(day) = day else { return };
        self.both(campaign, day, |cell| {
            cell.used_micros += micros;
            cell.highest_micros = cell.highest_micros.max(cell.used_micros);
        });
    }

    /// A reservation is about to be given back, or has expired.
    pub(crate) fn gone(&mut self, Reservation { campaign, day, micros }: Reservation) {
        let Some(day) = day else { return };
        self.both(campaign, day, |cell| cell.used_micros -= micros);
    }

    /// A charge is about to be reported.
    pub(crate) fn charging(&mut self, reservation: Reservation, price_micros: i64) {
        let Reservation { campaign, day, micros } = reservation;
        let Some(day) = day else { return };
        self.both(campaign, day, |cell| cell.used_micros += price_micros - micros);
    }

    /// A charge was acknowledged. `counted` says whether [`Book::charging`] counted its price.
    pub(crate) fn charged(&mut self, charge: Charged) {
        let Charged { campaign, day, price_micros, late, counted } = charge;
        self.both(campaign, day, |cell| {
            cell.charges += 1;
            cell.charged_micros += price_micros;
            if late {
                cell.late += 1;
                cell.late_micros += price_micros;
            }
            match (counted, late) {
                (true, true) => cell.used_micros -= price_micros,
                (false, false) => cell.used_micros += price_micros,
                (true, false) | (false, true) => {}
            }
        });
    }

    /// The ceiling by the rules; what the service tells must not lie above it.
    pub(crate) fn rule(&mut self, who: Who, day: Day, ceiling: Ceiling) {
        self.cells.entry((who, day)).or_default().ceiling = ceiling;
    }

    /// A ceiling as the service tells it at this moment.
    pub(crate) fn told(&mut self, who: Who, day: Day, limit_micros: Option<i64>) {
        let cell = self.cells.entry((who, day)).or_default();
        cell.told = match (cell.told, limit_micros) {
            (Ceiling::NoLimit, _) | (_, None) => Ceiling::NoLimit,
            (Ceiling::Unknown, Some(limit)) => Ceiling::Micros(limit),
            (Ceiling::Micros(before), Some(limit)) => Ceiling::Micros(before.max(limit)),
        };
    }

    /// What the service meant the day to spend.
    pub(crate) fn target(&mut self, who: Who, day: Day, micros: Option<i64>) {
        self.cells.entry((who, day)).or_default().target_micros = micros;
    }

    /// The cell of an account or a campaign on a day.
    pub(crate) fn cell(&self, who: Who, day: Day) -> Option<&Cell> {
        self.cells.get(&(who, day))
    }

    /// The days on which anything happened.
    pub(crate) fn days(&self) -> Vec<Day> {
        let mut days: Vec<_> = self
            .cells
            .iter()
            .filter(|(_, cell)| cell.opportunities > 0 || cell.charges > 0)
            .map(|((_, day), _)| *day)
            .collect();
        days.sort_unstable();
        days.dedup();
        days
    }

    /// All cells of the accounts, or of the campaigns.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (Who, Day, &Cell)> {
        self.cells.iter().map(|((who, day), cell)| (*who, *day, cell))
    }

    /// The sum over all accounts and days.
    pub(crate) fn total(&self) -> Cell {
        let mut total = Cell::default();
        for (who, _, cell) in self.cells() {
            if matches!(who, Who::Account(_)) {
                total.opportunities += cell.opportunities;
                total.admitted += cell.admitted;
                total.admitted_micros += cell.admitted_micros;
                total.charges += cell.charges;
                total.charged_micros += cell.charged_micros;
                total.late += cell.late;
                total.late_micros += cell.late_micros;
                for (reason, count) in &cell.denied {
                    *total.denied.entry(reason).or_default() += count;
                }
            }
        }
        total
    }
}

/// A charge that the service has acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Charged {
    pub(crate) campaign: usize,
    pub(crate) day: Day,
    pub(crate) price_micros: i64,
    pub(crate) late: bool,
    pub(crate) counted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAMPAIGN: usize = 0;

    fn day() -> Day {
        Day::from_ymd(2019, 11, 25).unwrap()
    }

    fn reservation(micros: i64) -> Reservation {
        Reservation { campaign: CAMPAIGN, day: Some(day()), micros }
    }

    fn paid(price_micros: i64, late: bool, counted: bool) -> Charged {
        Charged { campaign: CAMPAIGN, day: day(), price_micros, late, counted }
    }

    fn cell(book: &Book) -> &Cell {
        book.cell(Who::Campaign(CAMPAIGN), day()).unwrap()
    }

    #[test]
    fn reserving_above_the_ceiling_is_found_even_if_little_is_charged() {
        let mut book = Book::default();
        book.rule(Who::Campaign(CAMPAIGN), day(), Ceiling::Micros(10));
        for _ in 0..3 {
            book.admitted(reservation(4), day());
        }
        assert_eq!(cell(&book).over_limit_micros(), 2);
        for _ in 0..3 {
            book.charging(reservation(4), 3);
            book.charged(paid(3, false, true));
        }
        assert_eq!((cell(&book).over_limit_micros(), cell(&book).overspend_micros()), (2, 0));
    }

    #[test]
    fn what_was_given_back_or_expired_makes_room() {
        let mut book = Book::default();
        book.rule(Who::Campaign(CAMPAIGN), day(), Ceiling::Micros(10));
        for _ in 0..5 {
            book.admitted(reservation(8), day());
            book.gone(reservation(8));
        }
        assert_eq!(cell(&book).over_limit_micros(), 0);
        assert_eq!((cell(&book).admitted, cell(&book).admitted_micros), (5, 40));
    }

    #[test]
    fn a_late_charge_is_charged_but_not_overspent() {
        let mut book = Book::default();
        book.rule(Who::Campaign(CAMPAIGN), day(), Ceiling::Micros(10));
        book.admitted(reservation(10), day());
        book.gone(reservation(10));
        book.charged(paid(9, true, false));
        book.admitted(reservation(10), day());
        book.charging(reservation(10), 10);
        book.charged(paid(10, false, true));
        assert_eq!((cell(&book).charged_micros, cell(&book).late_micros), (19, 9));
        assert_eq!((cell(&book).over_limit_micros(), cell(&book).overspend_micros()), (0, 0));
    }

    #[test]
    fn without_a_ceiling_nothing_is_proved() {
        let mut book = Book::default();
        book.admitted(reservation(10), day());
        assert_eq!(cell(&book).over_limit_micros(), 10);
        book.rule(Who::Campaign(CAMPAIGN), day(), Ceiling::NoLimit);
        assert_eq!(cell(&book).over_limit_micros(), 0);
    }

    #[test]
    fn the_highest_ceiling_that_was_told_counts_and_may_not_pass_that_of_the_rules() {
        let mut book = Book::default();
        book.rule(Who::Campaign(CAMPAIGN), day(), Ceiling::Micros(12));
        for (told, kept, too_much) in [
            (Some(9), Ceiling::Micros(9), false),
            (Some(12), Ceiling::Micros(12), false),
            (Some(11), Ceiling::Micros(12), false),
            (Some(13), Ceiling::Micros(13), true),
            (None, Ceiling::NoLimit, true),
        ] {
            book.told(Who::Campaign(CAMPAIGN), day(), told);
            assert_eq!((cell(&book).told, cell(&book).told_too_much()), (kept, too_much));
        }
    }

    #[test]
    fn an_admission_over_midnight_is_counted_by_its_charge() {
        let mut book = Book::default();
        book.rule(Who::Campaign(CAMPAIGN), day(), Ceiling::Micros(10));
        let unknown = Reservation { day: None, ..reservation(8) };
        book.admitted(unknown, day());
        book.charging(unknown, 8);
        assert_eq!(cell(&book).highest_micros, 0);
        book.charged(paid(8, false, false));
        book.admitted(reservation(3), day());
        assert_eq!(cell(&book).over_limit_micros(), 1);
    }

    #[test]
    fn an_account_has_the_sum_of_its_campaigns_and_the_total_that_of_the_accounts() {
        let mut book = Book::default();
        for campaign in 0..CAMPAIGNS.len() {
            book.came(campaign, day());
            book.denied(campaign, day(), "NO_FUNDS");
        }
        let accounts = (0..ACCOUNTS.len()).map(|no| book.cell(Who::Account(no), day()).unwrap());
        assert_eq!(accounts.map(|cell| cell.opportunities).sum::<u64>(), 6);
        assert_eq!(book.total().opportunities, 6);
        assert_eq!(book.total().denied["NO_FUNDS"], 6);
        assert_eq!(book.days(), [day()]);
        assert_eq!(Who::all().len(), ACCOUNTS.len() + CAMPAIGNS.len());
    }
}
