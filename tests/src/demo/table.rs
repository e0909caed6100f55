//! What people read at the end: for every account and campaign a row a day.

use adspend_common::time::{Day, MSK};
use chrono::{DateTime, Utc};

use super::{
    book::{Book, Ceiling, Cell, Who},
    events::LOGS,
    scenario::ACCOUNTS,
};

/// A moment as it is in Moscow.
pub(crate) fn moment(at: DateTime<Utc>) -> String {
    at.with_timezone(&MSK).format("%a %d %b %H:%M").to_string()
}

/// Roubles with two decimals, the rest cut, and thousands apart.
pub(crate) fn roubles(micros: i64) -> String {
    let kopecks = micros.unsigned_abs() / 10_000;
    let (units, rest) = ((kopecks / 100).to_string(), kopecks % 100);
    let mut grouped = String::new();
    for (number, digit) in units.chars().enumerate() {
        if number > 0 && (units.len() - number).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    let sign = if micros < 0 { "-" } else { "" };
    format!("{sign}{grouped}.{rest:02}")
}

/// The whole table.
pub(crate) fn table(book: &Book) -> String {
    let mut text = String::new();
    let days = book.days();
    for who in Who::all() {
        text.push_str(&heading(who));
        for day in &days {
            if let Some(cell) = book.cell(who, *day) {
                text.push_str(&row(*day, cell));
            }
        }
    }
    text
}

fn heading(who: Who) -> String {
    let name = match who {
        Who::Account(number) => {
            let account = ACCOUNTS.get(number);
            format!("account {}", account.map(|account| account.id).unwrap_or_default())
        }
        Who::Campaign(number) => {
            format!("campaign {}", LOGS.get(number).copied().unwrap_or_default())
        }
    };
    format!(
        "\n{name:<22}{:>10}{:>10}{:>10}{:>7}{:>10}{:>8}  denied\n",
        "limit", "target", "charged", "asked", "admitted", "late"
    )
}

fn row(day: Day, cell: &Cell) -> String {
    let limit = match cell.ceiling {
        Ceiling::Unknown => "?".to_owned(),
        Ceiling::NoLimit => "-".to_owned(),
        Ceiling::Micros(micros) => roubles(micros),
    };
    let target = cell.target_micros.map_or_else(|| "-".to_owned(), roubles);
    let late = if cell.late == 0 { String::new() } else { roubles(cell.late_micros) };
    let denied: Vec<_> =
        cell.denied.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    format!(
        "  {:<20}{limit:>10}{target:>10}{:>10}{:>7}{:>10}{late:>8}  {}\n",
        day.date().format("%a %d %b").to_string(),
        roubles(cell.charged_micros),
        cell.opportunities,
        cell.admitted,
        denied.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::book::{Charged, Reservation};

    #[test]
    fn money_is_cut_to_kopecks_and_grouped() {
        for (micros, text) in [
            (0, "0.00"),
            (9_999, "0.00"),
            (10_000, "0.01"),
            (1_300_000_000, "1 300.00"),
            (1_234_567_891_234, "1 234 567.89"),
            (-45_120_000, "-45.12"),
            (999_000_000, "999.00"),
        ] {
            assert_eq!(roubles(micros), text);
        }
    }

    #[test]
    fn a_row_holds_the_figures_of_its_day() {
        let day = Day::from_ymd(2019, 11, 25).unwrap();
        let mut book = Book::default();
        book.came(0, day);
        book.came(0, day);
        book.denied(0, day, "CAMPAIGN_DAY_LIMIT");
        let reservation = Reservation { campaign: 0, day: Some(day), micros: 600_000 };
        book.admitted(reservation, day);
        book.charging(reservation, 500_000);
        let (price_micros, late, counted) = (500_000, false, true);
        book.charged(Charged { campaign: 0, day, price_micros, late, counted });
        book.rule(Who::Campaign(0), day, Ceiling::Micros(390_000_000));
        book.target(Who::Campaign(0), day, Some(300_000_000));
        let text = table(&book);
        let row = text.lines().find(|line| line.contains("390.00")).unwrap();
        let words: Vec<_> = row.split_whitespace().collect();
        assert_eq!(
            words,
            ["Mon", "25", "Nov", "390.00", "300.00", "0.50", "2", "1", "CAMPAIGN_DAY_LIMIT", "1"]
        );
        assert!(text.contains("account atelier"));
    }

    #[test]
    fn moments_are_those_of_moscow() {
        let at = DateTime::from_timestamp(1_574_553_617, 0).unwrap();
        assert_eq!(moment(at), "Sun 24 Nov 03:00");
    }
}
