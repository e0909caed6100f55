//! Which ledger entries an account's owner sees, and under which name (R-20..R-22).

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
        (Kind::Transfer, Sign::In) => Some(T::TransferIn),
        (Kind::Transfer, Sign::Out) => Some(T::TransferOut),
        (Kind::Deposit | Kind::Allocation | Kind::CardDeposit, Sign::In | Sign::Out) => {
            Some(T::Deposit)
        }
        (Kind::PromiseTaken, Sign::In | Sign::Out) => Some(T::DepositCredit),
        (Kind::PromiseRepaid | Kind::PromiseCollected, Sign::In | Sign::Out) => {
            Some(T::ChargeCredit)
        }
        (Kind::HoldSettled | Kind::LateCharge, Sign::In | Sign::Out) => Some(T::Charge),
        (Kind::MovedOut | Kind::MovedIn, Sign::In | Sign::Out) => Some(T::Adjustment),
        // Set aside or given back: the money stays the account's.
        (Kind::HoldOpened | Kind::HoldReleased | Kind::HoldExpired, Sign::In | Sign::Out) => None,
        // Between counter-accounts: no entry of an account.
        (Kind::UnallocatedIn | Kind::UnallocatedOut, Sign::In | Sign::Out) => None,
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

#[cfg(test)]
mod tests {
    use super::*;

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
            (Kind::Deposit, Sign::In, TransactionType::Deposit),
            (Kind::Allocation, Sign::In, TransactionType::Deposit),
            (Kind::HoldSettled, Sign::Out, TransactionType::Charge),
            (Kind::LateCharge, Sign::Out, TransactionType::Charge),
        ] {
            assert_eq!(shown(kind, sign), Some(expected), "{kind:?}");
        }
    }

    /// A filter by every single type finds together what no filter finds, and nothing twice.
    #[test]
    fn the_types_divide_what_is_shown() {
        use TransactionType as T;
        for sign in [Sign::In, Sign::Out] {
            let mut one_by_one: Vec<i16> = Vec::new();
            for shown in [
                T::Deposit,
                T::Charge,
                T::DepositCredit,
                T::ChargeCredit,
                T::TransferIn,
                T::TransferOut,
                T::Adjustment,
            ] {
                one_by_one.extend(kinds(&[shown], sign));
            }
            one_by_one.sort_unstable();
            let mut all = kinds(&[], sign);
            all.sort_unstable();
            assert_eq!(one_by_one, all);
        }
    }
}
