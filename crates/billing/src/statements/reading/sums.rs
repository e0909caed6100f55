//! Whether an account of a statement adds up: opening + in - out = closing, in what the bank says of
//! the account and in the entries that it lists.

use adspend_common::money::{Balance, Money};

use super::{Place, Section, Wrong};

/// What entries moved on an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Turnover {
    received: Money,
    written_off: Money,
}

impl Turnover {
    pub(super) fn receive(&mut self, at: Place, amount: Money) -> Result<(), Wrong> {
        self.received = sum(at, self.received, amount)?;
        Ok(())
    }

    pub(super) fn write_off(&mut self, at: Place, amount: Money) -> Result<(), Wrong> {
        self.written_off = sum(at, self.written_off, amount)?;
        Ok(())
    }
}

fn sum(at: Place, one: Money, other: Money) -> Result<Money, Wrong> {
    one.checked_add(other).map_or_else(|| super::malformed(at, "the sums are too large"), Ok)
}

/// Checks the sections of one account, in the order of the file, against its entries. A bank gives a section
/// for the whole time or one for each day. What it does not give is not checked.
pub(super) fn check(sections: &[&Section], entries: Turnover) -> Result<(), Wrong> {
    let [first, ..] = sections else { return Ok(()) };
    let mut received = Some(Money::ZERO);
    let mut written_off = Some(Money::ZERO);
    for section in sections {
        let add = |sum: Option<Money>, part: Option<Money>| match (sum, part) {
            (Some(sum), Some(part)) => self::sum(section.at, sum, part).map(Some),
            (None, _) | (_, None) => Ok(None),
        };
        received = add(received, section.received)?;
        written_off = add(written_off, section.written_off)?;
        if let (Some(opening), Some(received), Some(written_off), Some(closing)) =
            (section.opening, section.received, section.written_off, section.closing)
        {
            adds_up(section, opening, Turnover { received, written_off }, closing)?;
        }
    }
    for (said, listed, what) in [
        (received, entries.received, "received"),
        (written_off, entries.written_off, "written off"),
    ] {
        if let Some(said) = said.filter(|said| *said != listed) {
            let what = format!("{said} was {what}, the entries come to {listed}");
            return unbalanced(first, what);
        }
    }
    let last = sections.last().unwrap_or(first);
    match (first.opening, last.closing) {
        (Some(opening), Some(closing)) => adds_up(last, opening, entries, closing),
        (None, _) | (_, None) => Ok(()),
    }
}

fn adds_up(
    section: &Section,
    opening: Balance,
    moved: Turnover,
    closing: Balance,
) -> Result<(), Wrong> {
    let Turnover { received, written_off } = moved;
    let comes_to = opening.checked_add(received).and_then(|sum| sum.checked_sub(written_off));
    if comes_to == Some(closing) {
        return Ok(());
    }
    unbalanced(section, format!("{opening} + {received} - {written_off} is not {closing}"))
}

fn unbalanced(section: &Section, what: String) -> Result<(), Wrong> {
    Err(Wrong::Unbalanced { at: section.at, account: section.account.clone(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(figures: [Option<&str>; 4]) -> Section {
        let [opening, received, written_off, closing] = figures;
        Section {
            opening: opening.map(|text| text.parse().unwrap()),
            received: received.map(|text| text.parse().unwrap()),
            written_off: written_off.map(|text| text.parse().unwrap()),
            closing: closing.map(|text| text.parse().unwrap()),
            ..Section::new(Place::START, "40702810138250123017".to_owned())
        }
    }

    #[test]
    fn adding_up_table() {
        let day = |figures| section(figures);
        let (some, none) = (Some, None);
        for (name, sections, moved, fine) in [
            (
                "all",
                vec![day([some("100"), some("50"), some("30"), some("120")])],
                ("50", "30"),
                true,
            ),
            (
                "closing",
                vec![day([some("100"), some("50"), some("30"), some("121")])],
                ("50", "30"),
                false,
            ),
            (
                "a line lost",
                vec![day([some("100"), some("50"), some("30"), some("120")])],
                ("49", "30"),
                false,
            ),
            (
                "a line out lost",
                vec![day([some("100"), some("50"), some("30"), some("120")])],
                ("50", "0"),
                false,
            ),
            ("no sums", vec![day([some("100"), none, none, some("120")])], ("50", "30"), true),
            (
                "no sums, a line lost",
                vec![day([some("100"), none, none, some("120")])],
                ("50", "31"),
                false,
            ),
            ("below zero", vec![day([some("-5"), none, none, some("-25")])], ("0", "20"), true),
            (
                "no closing",
                vec![day([some("100"), some("50"), some("30"), none])],
                ("50", "30"),
                true,
            ),
            ("nothing said", vec![day([none, none, none, none])], ("50", "30"), true),
            (
                "two days",
                vec![
                    day([some("100"), some("50"), some("0"), some("150")]),
                    day([some("150"), some("0"), some("30"), some("120")]),
                ],
                ("50", "30"),
                true,
            ),
            (
                "two days, the first wrong",
                vec![
                    day([some("100"), some("50"), some("0"), some("151")]),
                    day([some("150"), some("0"), some("30"), some("120")]),
                ],
                ("50", "30"),
                false,
            ),
            (
                "two days with a gap between",
                vec![
                    day([some("100"), some("50"), some("0"), some("150")]),
                    day([some("160"), some("0"), some("30"), some("130")]),
                ],
                ("50", "30"),
                false,
            ),
        ] {
            let (received, written_off) = moved;
            let moved = Turnover {
                received: received.parse().unwrap(),
                written_off: written_off.parse().unwrap(),
            };
            let sections: Vec<&Section> = sections.iter().collect();
            assert_eq!(check(&sections, moved).is_ok(), fine, "{name}");
        }
    }
}
