//! Which ledger entries an account's owner sees, and under which name (R-20..R-22).

use super::{Order, Range};
use crate::ledger::Kind;

/// The sort of a movement, as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionType {
    Deposit,
    Charge,
    DepositCredit,
    ChargeCredit,
    TransferIn,
    TransferOut,
    Adjustment,
    Refund,
    ChargeRefund,
    Correction,
}

impl TransactionType {
    /// All of them.
    pub(crate) const ALL: [TransactionType; 10] = [
        TransactionType::Deposit,
        TransactionType::Charge,
        TransactionType::DepositCredit,
        TransactionType::ChargeCredit,
        TransactionType::TransferIn,
        TransactionType::TransferOut,
        TransactionType::Adjustment,
        TransactionType::Refund,
        TransactionType::ChargeRefund,
        TransactionType::Correction,
    ];

    /// The word in an exported file; it never changes.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            TransactionType::Deposit => "deposit",
            TransactionType::Charge => "charge",
            TransactionType::DepositCredit => "deposit_credit",
            TransactionType::ChargeCredit => "charge_credit",
            TransactionType::TransferIn => "transfer_in",
            TransactionType::TransferOut => "transfer_out",
            TransactionType::Adjustment => "adjustment",
            TransactionType::Refund => "refund",
            TransactionType::ChargeRefund => "charge_refund",
            TransactionType::Correction => "correction",
        }
    }
}

/// Whether an entry adds money or takes it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    In,
    Out,
}

/// What an entry is called; none for money that only changes its place within the account.
pub(crate) const fn shown(kind: Kind, sign: Sign) -> Option<TransactionType> {
    use TransactionType as T;
    match (kind, sign) {
        (Kind::Transfer | Kind::AutoTopUp, Sign::In) => Some(T::TransferIn),
        (Kind::Transfer | Kind::AutoTopUp, Sign::Out) => Some(T::TransferOut),
        (Kind::Deposit | Kind::Allocation | Kind::CardDeposit, Sign::In | Sign::Out) => {
            Some(T::Deposit)
        }
        (Kind::PromiseTaken | Kind::DeferredIssued, Sign::In | Sign::Out) => Some(T::DepositCredit),
        (
            Kind::PromiseRepaid | Kind::PromiseCollected | Kind::DeferredRepaid,
            Sign::In | Sign::Out,
        ) => Some(T::ChargeCredit),
        (Kind::HoldSettled | Kind::LateCharge, Sign::In | Sign::Out) => Some(T::Charge),
        (Kind::MovedOut | Kind::MovedIn, Sign::In | Sign::Out) => Some(T::Adjustment),
        (Kind::Refund, Sign::In | Sign::Out) => Some(T::Refund),
        (Kind::ClickCredit, Sign::In | Sign::Out) => Some(T::ChargeRefund),
        (Kind::Reversal, Sign::In | Sign::Out) => Some(T::Correction),
        // Set aside, frozen or given back: the money stays the account's.
        (
            Kind::HoldOpened
            | Kind::HoldReleased
            | Kind::HoldExpired
            | Kind::LienTaken
            | Kind::LienReturned,
            Sign::In | Sign::Out,
        ) => None,
        // Between counter-accounts: no entry of an account.
        (Kind::UnallocatedIn | Kind::UnallocatedOut | Kind::DeferredPaid, Sign::In | Sign::Out) => {
            None
        }
    }
}

/// The kinds of entries with this sign that show as one of the types; all types when none is named.
pub(crate) fn kinds(types: &[TransactionType], sign: Sign) -> Vec<i16> {
    let wanted = |kind: &Kind| match shown(*kind, sign) {
        Some(shown) => types.is_empty() || types.contains(&shown),
        None => false,
    };
    Kind::ALL.iter().copied().filter(wanted).map(Kind::number).collect()
}

/// The part of a range that one page looks at: so many entries at its beginning.
pub(crate) fn window(range: Range, order: Order, most: i64) -> Range {
    match order {
        Order::NewestFirst => {
            Range { low: range.low.max(range.high.saturating_sub(most)), ..range }
        }
        Order::OldestFirst => {
            Range { high: range.high.min(range.low.saturating_add(most)), ..range }
        }
    }
}

/// What is left of a range after a page that looked at a part of it and ended early with the row `last`, if it
/// did; none at the end.
pub(crate) fn rest(
    range: Range,
    looked_at: Range,
    order: Order,
    last: Option<i64>,
) -> Option<Range> {
    let rest = match order {
        Order::NewestFirst => {
            Range { high: last.map_or(looked_at.low, |last| last.saturating_sub(1)), ..range }
        }
        Order::OldestFirst => Range { low: last.unwrap_or(looked_at.high), ..range },
    };
    (rest.high > rest.low).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the pages find, together they look at every entry once, in order, and end.
        #[test]
        fn pages_cover_a_range_once(
            (low, length, most) in (0..50_i64, 0..200_i64, 1..40_i64),
            ends in prop::collection::vec(proptest::option::of(0..40_i64), 0..400),
            oldest: bool,
        ) {
            let order = if oldest { Order::OldestFirst } else { Order::NewestFirst };
            let mut left = Some(Range { low, high: low + length });
            let mut seen = Vec::new();
            let mut ends = ends.into_iter();
            while let Some(range) = left.filter(|range| range.high > range.low) {
                let looked_at = window(range, order, most);
                prop_assert!(looked_at.high - looked_at.low <= most);
                let numbers: Vec<i64> = match order {
                    Order::NewestFirst => (looked_at.low + 1..=looked_at.high).rev().collect(),
                    Order::OldestFirst => (looked_at.low + 1..=looked_at.high).collect(),
                };
                let at = ends.next().flatten().filter(|at| *at < numbers.len() as i64);
                let shown = at.map_or(numbers.len(), |at| at as usize + 1);
                seen.extend_from_slice(&numbers[..shown]);
                left = rest(range, looked_at, order, at.map(|at| numbers[at as usize]));
            }
            if order == Order::NewestFirst {
                seen.reverse();
            }
            prop_assert_eq!(seen, (low + 1..=low + length).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_only_changes_its_place_is_not_shown() {
        for kind in [Kind::HoldOpened, Kind::HoldReleased, Kind::HoldExpired] {
            assert_eq!((shown(kind, Sign::In), shown(kind, Sign::Out)), (None, None));
        }
    }

    #[test]
    fn credit_money_has_types_of_its_own() {
        for (kind, sign, expected) in [
            (Kind::PromiseTaken, Sign::In, TransactionType::DepositCredit),
            (Kind::PromiseRepaid, Sign::Out, TransactionType::ChargeCredit),
            (Kind::PromiseCollected, Sign::Out, TransactionType::ChargeCredit),
            (Kind::DeferredIssued, Sign::In, TransactionType::DepositCredit),
            (Kind::DeferredRepaid, Sign::Out, TransactionType::ChargeCredit),
            (Kind::Deposit, Sign::In, TransactionType::Deposit),
            (Kind::Allocation, Sign::In, TransactionType::Deposit),
            (Kind::HoldSettled, Sign::Out, TransactionType::Charge),
            (Kind::LateCharge, Sign::Out, TransactionType::Charge),
            (Kind::ClickCredit, Sign::In, TransactionType::ChargeRefund),
            (Kind::Refund, Sign::Out, TransactionType::Refund),
            (Kind::Reversal, Sign::In, TransactionType::Correction),
            (Kind::Reversal, Sign::Out, TransactionType::Correction),
        ] {
            assert_eq!(shown(kind, sign), Some(expected), "{kind:?}");
        }
    }

    /// A filter by every single type finds together what no filter finds, and nothing twice.
    #[test]
    fn the_types_divide_what_is_shown() {
        for sign in [Sign::In, Sign::Out] {
            let mut one_by_one: Vec<i16> = Vec::new();
            for shown in TransactionType::ALL {
                one_by_one.extend(kinds(&[shown], sign));
            }
            one_by_one.sort_unstable();
            let mut all = kinds(&[], sign);
            all.sort_unstable();
            assert_eq!(one_by_one, all);
        }
    }
}
