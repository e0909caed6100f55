//! What may be given back, and what may be reversed: pure.

use adspend_common::money::Money;

use super::Spend;
use crate::ledger::{AccountNo, Kind, Leg, Place, PostedLeg};

/// Why a correction is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("of what the campaign was charged, {rest} is left to be given back")]
    AboveCharges { rest: Money },
    #[error("a transaction of this sort is corrected where it was made")]
    NotReversible,
    #[error("of this charge {credited} was given back for invalid clicks")]
    ChargeCredited { credited: Money },
    #[error("the transaction was reversed before")]
    AlreadyReversed,
    #[error("the other account has left the tenant")]
    HasLeft,
}

/// What stands after a credit: never more than was charged.
pub(crate) fn credit(spend: Spend, amount: Money) -> Result<Spend, Refusal> {
    let rest = spend.charged.saturating_sub(spend.credited);
    let credited = spend.credited.checked_add(amount).filter(|_| amount <= rest);
    let credited = credited.ok_or(Refusal::AboveCharges { rest })?;
    Ok(Spend { credited, ..spend })
}

/// The part of a credit that may only be spent: what is more than the charges of the open month, of which
/// nothing else went back.
pub(crate) fn spend_only(open: Spend, amount: Money) -> Money {
    amount.saturating_sub(open.charged.saturating_sub(open.credited))
}

/// Whether a charge may be taken back: what was given back must stay within the charges that remain.
pub(crate) fn uncharge(spend: Spend, amount: Money) -> Result<(), Refusal> {
    if spend.charged.saturating_sub(amount) < spend.credited {
        return Err(Refusal::ChargeCredited { credited: spend.credited });
    }
    Ok(())
}

/// Whether the reverse of a posting's legs undoes all of it: it has no state beside them, or one that is
/// corrected along with it (the limit of an auto top-up, R-116).
pub(crate) fn reversible(legs: &[Leg]) -> Result<(), Refusal> {
    let plain = |leg: &Leg| match leg.kind {
        Kind::Transfer | Kind::AutoTopUp | Kind::LateCharge | Kind::ClickCredit => true,
        Kind::Deposit
        | Kind::UnallocatedIn
        | Kind::Allocation
        | Kind::UnallocatedOut
        | Kind::PromiseTaken
        | Kind::PromiseRepaid
        | Kind::PromiseCollected
        | Kind::HoldOpened
        | Kind::HoldSettled
        | Kind::HoldReleased
        | Kind::HoldExpired
        | Kind::MovedOut
        | Kind::MovedIn
        | Kind::Refund
        | Kind::Reversal
        | Kind::DeferredIssued
        | Kind::DeferredPaid
        | Kind::DeferredRepaid
        | Kind::LienTaken
        | Kind::LienReturned
        | Kind::CardDeposit => false,
    };
    if legs.is_empty() || !legs.iter().all(plain) {
        return Err(Refusal::NotReversible);
    }
    Ok(())
}

/// Whether the posting is a transfer of an auto top-up.
pub(crate) fn is_top_up(legs: &[Leg]) -> bool {
    legs.iter().any(|leg| leg.kind == Kind::AutoTopUp)
}

/// The legs the other way, the last one first.
pub(crate) fn reverse(legs: &[Leg], object: &str) -> Vec<Leg> {
    let back = |leg: &Leg| Leg {
        kind: Kind::Reversal,
        from: leg.to,
        to: leg.from,
        amount: leg.amount,
        object: Some(object.into()),
    };
    legs.iter().rev().map(back).collect()
}

/// The accounts whose money the legs move.
pub(crate) fn accounts(legs: &[Leg]) -> impl Iterator<Item = AccountNo> {
    let owner = |place: Place| match place {
        Place::Main(account) | Place::Held(account) | Place::Frozen(account) => Some(account),
        Place::Counter(_) => None,
    };
    legs.iter().flat_map(move |leg| [leg.from, leg.to].into_iter().filter_map(owner))
}

/// The charges among the legs: whose, of what, how much; one line for each object.
pub(crate) fn charges(legs: &[Leg]) -> Vec<(AccountNo, &str, Money)> {
    let mut charges: Vec<(AccountNo, &str, Money)> = Vec::new();
    for leg in legs {
        let (Kind::LateCharge, Place::Main(account)) = (leg.kind, leg.from) else { continue };
        let object = leg.object.as_deref().unwrap_or_default();
        match charges.iter_mut().find(|(of, known, _)| (*of, *known) == (account, object)) {
            Some((_, _, sum)) => *sum = sum.checked_add(leg.amount).unwrap_or(Money::MAX),
            None => charges.push((account, object, leg.amount)),
        }
    }
    charges
}

/// The number of the last entry that the legs gave an account.
pub(crate) fn version(legs: &[PostedLeg], account: AccountNo) -> Option<i64> {
    let sides = legs.iter().flat_map(|posted| {
        [(posted.leg.from, posted.from_version), (posted.leg.to, posted.to_version)]
    });
    let own = sides.filter(|(place, _)| *place == Place::Main(account));
    own.map(|(_, version)| version).max()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::Counter;

    fn money(micros: i64) -> Money {
        Money::from_micros(micros).unwrap()
    }

    fn leg(kind: Kind, from: Place, to: Place, micros: i64) -> Leg {
        Leg { kind, from, to, amount: money(micros), object: Some("campaigns/a".into()) }
    }

    #[test]
    fn what_goes_back_stays_within_what_was_charged() {
        for (charged, credited, amount, expected) in [
            (100, 0, 1, Ok(1)),
            (100, 0, 100, Ok(100)),
            (100, 40, 60, Ok(100)),
            (100, 40, 61, Err(60)),
            (0, 0, 1, Err(0)),
            (100, 100, 1, Err(0)),
        ] {
            let spend = Spend { charged: money(charged), credited: money(credited) };
            let after = credit(spend, money(amount)).map(|spend| spend.credited.micros());
            let expected = expected.map_err(|rest| Refusal::AboveCharges { rest: money(rest) });
            assert_eq!(after, expected, "{charged} {credited} {amount}");
        }
    }

    /// of the open month 100 are charged.
    #[test]
    fn what_goes_back_for_closed_months_may_only_be_spent() {
        for (charged, credited, amount, expected) in [
            (100, 0, 100, 0),
            (100, 0, 101, 1),
            (100, 40, 60, 0),
            (100, 40, 90, 30),
            (100, 100, 5, 5),
            (0, 0, 7, 7),
        ] {
            let open = Spend { charged: money(charged), credited: money(credited) };
            assert_eq!(spend_only(open, money(amount)), money(expected), "{open:?} {amount}");
        }
    }

    #[test]
    fn a_charge_is_not_given_back_twice() {
        for (charged, credited, taken_back, allowed) in
            [(100, 0, 100, true), (100, 40, 60, true), (100, 40, 61, false), (100, 100, 1, false)]
        {
            let spend = Spend { charged: money(charged), credited: money(credited) };
            let verdict = uncharge(spend, money(taken_back));
            assert_eq!(verdict.is_ok(), allowed, "{charged} {credited} {taken_back}");
        }
    }

    /// Every kind: only what has no state beside the ledger, or one that is corrected along.
    #[test]
    fn only_plain_movements_are_reversed() {
        let (a, b) = (Place::Main(AccountNo(1)), Place::Main(AccountNo(2)));
        let reversed: Vec<Kind> = Kind::ALL
            .iter()
            .copied()
            .filter(|kind| reversible(&[leg(*kind, a, b, 1)]).is_ok())
            .collect();
        let plain = [Kind::Transfer, Kind::LateCharge, Kind::ClickCredit, Kind::AutoTopUp];
        assert_eq!(reversed, plain);
        assert_eq!(reversible(&[]), Err(Refusal::NotReversible));
        let mixed = [leg(Kind::LateCharge, a, b, 1), leg(Kind::HoldSettled, a, b, 1)];
        assert_eq!(reversible(&mixed), Err(Refusal::NotReversible));
    }

    #[test]
    fn charges_are_summed_by_what_was_charged() {
        let (main, revenue) = (Place::Main(AccountNo(1)), Place::Counter(Counter::Revenue));
        let legs = [
            leg(Kind::LateCharge, main, revenue, 3),
            leg(Kind::LateCharge, main, revenue, 4),
            leg(Kind::ClickCredit, revenue, main, 5),
        ];
        assert_eq!(charges(&legs), [(AccountNo(1), "campaigns/a", money(7))]);
    }

    proptest! {
        /// A posting and its reverse move nothing together.
        #[test]
        fn a_reverse_undoes_its_posting(amounts in prop::collection::vec((1..9_i64, 1..9_i64, 1..1_000_i64), 1..9)) {
            let legs: Vec<Leg> = amounts
                .iter()
                .filter(|(from, to, _)| from != to)
                .map(|(from, to, amount)| {
                    let (from, to) = (Place::Main(AccountNo(*from)), Place::Main(AccountNo(*to)));
                    leg(Kind::Transfer, from, to, *amount)
                })
                .collect();
            let mut sums = std::collections::HashMap::new();
            for leg in legs.iter().chain(&reverse(&legs, "accounts/a/transactions/1")) {
                *sums.entry(leg.from).or_insert(0) -= leg.amount.micros();
                *sums.entry(leg.to).or_insert(0) += leg.amount.micros();
            }
            prop_assert!(sums.values().all(|sum| *sum == 0));
        }
    }
}
