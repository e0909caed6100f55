//! What a month's documents say: VAT, the act, what a payment covers, advances, days (R-162..R-171).

use adspend_common::{
    money::{Balance, MICROS_PER_KOPECK, Money},
    time::Day,
};

use super::month::Month;

/// The VAT that a gross amount contains: `gross × r / (100 + r)`, half up to the kopeck, for a rate in
/// tenths of a percent.
pub(crate) fn included_vat(gross: Money, permille: u32) -> Money {
    let (gross, rate) = (i128::from(gross.micros()), i128::from(permille));
    let (over, under) = (gross * rate, (1_000 + rate) * i128::from(MICROS_PER_KOPECK));
    // Half up in whole numbers: twice the quotient plus one, halved, downwards.
    let kopecks = (2 * over + under) / (2 * under);
    let micros = i64::try_from(kopecks * i128::from(MICROS_PER_KOPECK)).ok();
    micros.and_then(Money::from_micros).expect("the part is less than the whole")
}

/// A rate as documents print it: `22%`, `7,7%`.
pub(crate) fn percent(permille: u32) -> String {
    match permille % 10 {
        0 => format!("{}%", permille / 10),
        tenth => format!("{},{tenth}%", permille / 10),
    }
}

/// A rate as it applies to a gross amount: `22/122`.
pub(crate) fn ratio(permille: u32) -> String {
    match permille % 10 {
        0 => format!("{0}/1{0:02}", permille / 10),
        tenth => format!("{0},{tenth}/1{0:02},{tenth}", permille / 10),
    }
}

/// The act of a month: whole kopecks of what was spent up to its end and is in no act yet, and what is left
/// for the next one. A month in which more was given back than spent has no act; the rest waits.
pub(crate) fn act_amount(carried: Balance, spent: Balance) -> Option<(Money, Balance)> {
    let sum = carried.checked_add(spent)?;
    let amount = sum.or_zero().floor_to_kopecks();
    Some((amount, sum.checked_sub(amount)?))
}

/// Money of the payer that its spend uses up, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) amount: Money,
    /// Gone to acts.
    pub(crate) used: Money,
    /// Gone back.
    pub(crate) returned: Money,
}

impl Receipt {
    /// What is neither spent nor given back.
    pub(crate) fn rest(&self) -> Money {
        self.amount.saturating_sub(self.used).saturating_sub(self.returned)
    }
}

/// Uses receipts for an amount, the oldest first: what each of them gave, and what none of them covers.
pub(crate) fn cover(receipts: &mut [Receipt], amount: Money) -> (Vec<Money>, Money) {
    let mut left = amount;
    let parts = receipts.iter_mut().map(|receipt| {
        let part = receipt.rest().min(left);
        receipt.used = receipt.used.checked_add(part).expect("a part of the amount");
        left = left.saturating_sub(part);
        part
    });
    let parts = parts.collect();
    (parts, left)
}

/// Takes money out of receipts that goes back: out of `own` first (a refund is of one payment, R-172), then out of
/// the newest. Gives what no receipt holds: money that was spent before it went.
pub(crate) fn give_back(receipts: &mut [Receipt], own: Option<usize>, amount: Money) -> Money {
    let mut left = amount;
    let newest_first = (0..receipts.len()).rev().filter(|at| Some(*at) != own);
    for at in own.into_iter().chain(newest_first) {
        let Some(receipt) = receipts.get_mut(at) else { continue };
        let part = receipt.rest().min(left);
        receipt.returned = receipt.returned.checked_add(part).expect("a part of the amount");
        left = left.saturating_sub(part);
    }
    left
}

/// The sum of the advance VAT invoice for a payment of the month: what was paid as an advance; on the
/// month's last day, only what the act of the same day left of it; none when all is spent. What the payment gave
/// for acts of earlier months (`for_debt`) was no advance.
pub(crate) fn advance(receipt: &Receipt, for_debt: Money, paid_on: Day) -> Option<Money> {
    let rest = receipt.rest();
    if rest.is_zero() {
        return None;
    }
    if paid_on == Month::of(paid_on).last() {
        return Some(rest);
    }
    Some(receipt.amount.saturating_sub(receipt.returned).saturating_sub(for_debt))
}

/// The day on which the regular reconciliation act of a month is made: the 15th of the next one.
pub(crate) fn reconciled_on(month: Month) -> Day {
    month.next().first().plus_days(14)
}

/// The last day on which documents formed on a day are mailed. Public holidays are not known here.
pub(crate) fn mailed_by(formed: Day) -> Day {
    let month = Month::of(formed);
    let sixteenth = month.first().plus_days(15);
    if formed < sixteenth {
        return working_day(sixteenth);
    }
    if formed < month.last() {
        return working_day(month.last());
    }
    let mut day = working_day(month.next().first());
    for _ in 1..7 {
        day = working_day(day.next());
    }
    day
}

/// The day itself, or Monday after a weekend.
fn working_day(day: Day) -> Day {
    match day.weekday0() {
        5 => day.plus_days(2),
        6 => day.next(),
        _ => day,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    /// Money that just came.
    fn receipt(amount: Money) -> Receipt {
        Receipt { amount, used: Money::ZERO, returned: Money::ZERO }
    }

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn included_vat_r_164() {
        for (gross, permille, vat) in [
            ("45000", 220, "8114.75"),
            ("122000", 220, "22000"),
            ("3540", 180, "540"),
            ("1200", 200, "200"),
            ("0.01", 220, "0"),
            ("0.03", 220, "0.01"),
            ("1000000000000", 220, "180327868852.46"),
            ("100", 0, "0"),
        ] {
            assert_eq!(included_vat(money(gross), permille), money(vat), "{gross} at {permille}");
        }
    }

    /// the gross amount stays when the rate changes, the net one is computed anew.
    #[test]
    fn twelve_hundred_gross_is_a_thousand_net_at_20_and_983_6_at_22() {
        let net = |permille| money("1200").saturating_sub(included_vat(money("1200"), permille));
        assert_eq!(net(200), money("1000"));
        assert_eq!(net(220), money("983.61"));
        assert_eq!(format!("{:.1}", 983.61), "983.6");
    }

    #[test]
    fn rates_are_printed_as_documents_print_them() {
        for (permille, shown, over) in
            [(220, "22%", "22/122"), (200, "20%", "20/120"), (77, "7,7%", "7,7/107,7")]
        {
            assert_eq!((percent(permille).as_str(), ratio(permille).as_str()), (shown, over));
        }
    }

    #[test]
    fn an_act_is_whole_kopecks_and_the_rest_goes_to_the_next_one() {
        for (carried, spent, amount, rest) in [
            (0, 12_345_678, 12_340_000, 5_678),
            (5_678, 4_322, 10_000, 0),
            (5_678, 4_321, 0, 9_999),
            (0, -3_000_000, 0, -3_000_000),
            (-3_000_000, 5_000_001, 2_000_000, 1),
        ] {
            let of = |micros| Balance::from_micros(micros).unwrap();
            let expected = (Money::from_micros(amount).unwrap(), of(rest));
            assert_eq!(act_amount(of(carried), of(spent)), Some(expected), "{carried} {spent}");
        }
    }

    #[test]
    fn spend_uses_the_oldest_money_first() {
        let mut receipts = [receipt(money("1000")), receipt(money("500"))];
        assert_eq!(
            cover(&mut receipts, money("1200")),
            (vec![money("1000"), money("200")], Money::ZERO)
        );
        assert_eq!(
            cover(&mut receipts, money("400")),
            (vec![Money::ZERO, money("300")], money("100"))
        );
    }

    #[test]
    fn what_goes_back_leaves_its_own_payment_first_then_the_newest() {
        let mut receipts = [receipt(money("1000")), receipt(money("500"))];
        assert_eq!(give_back(&mut receipts, Some(0), money("1100")), Money::ZERO);
        assert_eq!(receipts.map(|receipt| receipt.rest()), [Money::ZERO, money("400")]);
        assert_eq!(give_back(&mut receipts, None, money("450")), money("50"));
    }

    /// R-168, row by row.
    #[test]
    fn the_advance_vat_invoice_is_for_what_was_paid() {
        for (name, paid_on, amount, used, for_debt, sum) in [
            ("nothing spent", "2026-11-05", "10000", "0", "0", Some("10000")),
            ("partly spent: the actual payment", "2026-11-05", "10000", "7000", "0", Some("10000")),
            ("all spent within the month", "2026-11-05", "10000", "10000", "0", None),
            (
                "paid on the last day: less the act",
                "2026-11-30",
                "10000",
                "7000",
                "0",
                Some("3000"),
            ),
            ("all spent on the last day", "2026-11-30", "10000", "10000", "0", None),
            ("part of it was a debt", "2026-11-05", "10000", "3000", "3000", Some("7000")),
        ] {
            let receipt = Receipt { used: money(used), ..receipt(money(amount)) };
            let expected = sum.map(money);
            assert_eq!(advance(&receipt, money(for_debt), day(paid_on)), expected, "{name}");
        }
    }

    /// November 2026 begins on a Sunday.
    #[test]
    fn documents_are_mailed_in_three_waves() {
        for (formed, by) in [
            ("2026-11-01", "2026-11-16"),
            ("2026-11-15", "2026-11-16"),
            ("2026-11-16", "2026-11-30"),
            ("2026-11-29", "2026-11-30"),
            ("2026-11-30", "2026-12-09"),
            // The 16th of May 2026 is a Saturday, and so is its 30th day; the 31st is a Sunday.
            ("2026-05-03", "2026-05-18"),
            ("2026-05-20", "2026-06-01"),
            ("2026-05-31", "2026-06-09"),
        ] {
            assert_eq!(mailed_by(day(formed)), day(by), "{formed}");
        }
    }

    #[test]
    fn a_month_is_reconciled_on_the_15th_of_the_next() {
        assert_eq!(reconciled_on(Month::of(day("2025-12-31"))), day("2026-01-15"));
    }

    proptest! {
        /// Net and VAT make the gross, and the VAT is the kopeck nearest to the exact part.
        #[test]
        fn vat_is_the_nearest_kopeck(kopecks in 0..10_000_000_000i64, permille in 0..300u32) {
            let gross = Money::from_micros(kopecks * MICROS_PER_KOPECK).unwrap();
            let vat = included_vat(gross, permille);
            prop_assert!(vat.is_whole_kopecks() && vat <= gross);
            let whole = i128::from(1_000 + permille);
            let exact = i128::from(gross.micros()) * i128::from(permille);
            let error = (i128::from(vat.micros()) * whole - exact).abs();
            prop_assert!(error * 2 <= whole * i128::from(MICROS_PER_KOPECK));
        }

        /// Over any months acts take what was spent, but for less than a kopeck.
        #[test]
        fn acts_add_up_to_the_spend(months in prop::collection::vec(-50_000i64..5_000_000, 1..24)) {
            let (mut carried, mut acted) = (Balance::ZERO, 0i64);
            for spent in &months {
                let (amount, rest) =
                    act_amount(carried, Balance::from_micros(*spent).unwrap()).unwrap();
                acted += amount.micros();
                carried = rest;
                prop_assert!(amount.is_whole_kopecks() && rest.micros() < MICROS_PER_KOPECK);
            }
            prop_assert_eq!(acted + carried.micros(), months.iter().sum::<i64>());
        }

        /// What covers an amount and what does not add up to it.
        #[test]
        fn covering_loses_nothing(amounts in prop::collection::vec(0..1_000i64, 0..8), want in 0..6_000i64) {
            let of = |micros| Money::from_micros(micros).unwrap();
            let mut receipts: Vec<_> = amounts.iter().map(|amount| receipt(of(*amount))).collect();
            let (parts, left) = cover(&mut receipts, of(want));
            let given = Money::checked_sum(parts).unwrap();
            prop_assert_eq!(given.micros() + left.micros(), want);
            prop_assert!(left.is_zero() || receipts.iter().all(|receipt| receipt.rest().is_zero()));
        }
    }
}
