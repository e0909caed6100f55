//! What may be invoiced, and what an invoice says.

use adspend_common::{
    money::{Currency, MICROS_PER_KOPECK, Money},
    time::Day,
};
use chrono::Datelike as _;

use super::InvoiceState;
use crate::accounts::{Account, AccountKind, AccountState, LegalEntity};

/// Why no invoice is issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the account is blocked")]
    Blocked,
    #[error("a client of an agency is funded by its agency")]
    ClientOfAgency,
    #[error("the account has no legal entity to be named as the payer")]
    NoPayer,
    #[error("the account's currency is {expected}, not {found}")]
    Currency { expected: Currency, found: Currency },
    #[error("the least amount is {gross}, which is {net} without VAT")]
    BelowMinimum { gross: Money, net: Money },
}

/// VAT by the payer's country: from which day, in tenths of a percent.
const VAT: [(&str, (i32, u32, u32), u32); 8] = [
    ("RU", (2019, 1, 1), 200),
    ("RU", (2026, 1, 1), 220),
    ("KZ", (2009, 1, 1), 120),
    ("KZ", (2026, 1, 1), 160),
    ("BY", (2010, 1, 1), 200),
    ("TR", (2023, 7, 10), 200),
    ("CH", (2018, 1, 1), 77),
    ("UZ", (2023, 1, 1), 120),
];

/// The rate in force on a day, in tenths of a percent; nothing where we do not collect VAT.
pub(crate) fn vat_permille(country: &str, day: Day) -> u32 {
    let mut rate = 0;
    for (of, (year, month, date), permille) in VAT {
        if of == country && Day::from_ymd(year, month, date).is_some_and(|from| from <= day) {
            rate = permille;
        }
    }
    rate
}

/// The least gross amount whose part without VAT is `net`, rounded up to the kopeck.
pub(crate) fn gross_of(net: Money, permille: u32) -> Money {
    let gross = net.mul_ratio_floor(permille.saturating_add(1_000), 1_000).unwrap_or(Money::MAX);
    let floor = gross.floor_to_kopecks();
    // Exact products are whole kopecks already; one below is cut off and must not be lost.
    let exact = i128::from(net.micros()) * i128::from(permille.saturating_add(1_000));
    if exact == i128::from(floor.micros()) * 1_000 {
        return floor;
    }
    Money::from_micros(MICROS_PER_KOPECK)
        .and_then(|kopeck| floor.checked_add(kopeck))
        .unwrap_or(Money::MAX)
}

/// The payer of an invoice of this amount, VAT included, or why there is none. `least_net` is the minimum
/// payment without VAT of the account's currency: R-48 gives it so, while amounts here are gross.
pub(crate) fn may_issue(
    account: &Account,
    (amount, currency): (Money, Currency),
    least_net: Money,
    day: Day,
) -> Result<&LegalEntity, Refusal> {
    match account.kind {
        AccountKind::Client => return Err(Refusal::ClientOfAgency),
        AccountKind::Agency | AccountKind::Advertiser => {}
    }
    match account.state {
        AccountState::Active => {}
        AccountState::Blocked | AccountState::Closed => return Err(Refusal::Blocked),
    }
    if account.currency != currency {
        return Err(Refusal::Currency { expected: account.currency, found: currency });
    }
    let payer = account.legal_entity.as_ref().ok_or(Refusal::NoPayer)?;
    let gross = gross_of(least_net, vat_permille(&payer.country, day));
    if amount < gross {
        return Err(Refusal::BelowMinimum { gross, net: least_net });
    }
    Ok(payer)
}

/// What the payer writes into the purpose: `AS-26-000001`.
pub(crate) fn number(serial: i64, day: Day) -> String {
    format!("AS-{:02}-{serial:06}", day.date().year().rem_euclid(100))
}

/// What becomes of an invoice that is cancelled.
pub(crate) fn cancel(state: InvoiceState) -> Result<InvoiceState, InvoiceState> {
    match state {
        InvoiceState::Issued => Ok(InvoiceState::Cancelled),
        InvoiceState::Paid | InvoiceState::Cancelled => Err(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn vat_follows_the_day() {
        for (country, on, permille) in [
            ("RU", "2025-12-31", 200),
            ("RU", "2026-01-01", 220),
            ("KZ", "2025-12-31", 120),
            ("KZ", "2026-11-21", 160),
            ("US", "2026-11-21", 0),
        ] {
            assert_eq!(vat_permille(country, day(on)), permille, "{country} {on}");
        }
    }

    #[test]
    fn the_least_invoice_is_the_minimum_with_vat_on_top() {
        for (net, permille, gross) in [
            ("1000", 220, "1220"),
            ("1000", 200, "1200"),
            ("15", 0, "15"),
            ("15", 77, "16.16"),
            ("0.01", 220, "0.02"),
        ] {
            assert_eq!(gross_of(money(net), permille), money(gross), "{net} {permille}");
        }
    }

    #[test]
    fn numbers_carry_the_year_and_never_cut_the_serial() {
        assert_eq!(number(1, day("2026-11-21")), "AS-26-000001");
        assert_eq!(number(1_234_567, day("2026-11-21")), "AS-26-1234567");
        assert_eq!(number(7, day("2105-01-01")), "AS-05-000007");
    }

    #[test]
    fn only_an_issued_invoice_is_cancelled() {
        assert_eq!(cancel(InvoiceState::Issued), Ok(InvoiceState::Cancelled));
        for state in [InvoiceState::Paid, InvoiceState::Cancelled] {
            assert_eq!(cancel(state), Err(state));
        }
    }

    proptest! {
        /// A kopeck less than the least gross amount is less than the minimum without VAT.
        #[test]
        fn the_least_gross_amount_is_the_least(kopecks in 1..100_000_000i64, permille in 0..300u32) {
            let net = Money::from_micros(kopecks * MICROS_PER_KOPECK).unwrap();
            let gross = gross_of(net, permille);
            let reaches = |gross: i64| {
                i128::from(gross) * 1_000 >= i128::from(net.micros()) * i128::from(permille + 1_000)
            };
            prop_assert!(gross.is_whole_kopecks());
            prop_assert!(reaches(gross.micros()));
            prop_assert!(!reaches(gross.micros() - MICROS_PER_KOPECK));
        }
    }
}
