//! What may become of an admission, and what that changes in the books. Pure.
//!
//! An admission ends once: settled by one charge, or cancelled. What its end changes depends only
//! on how its slice stands (migration 0002 has the books of a slice): `settled` and `cancelled`
//! are sums, so the ends of many admissions of one slice are added up and written at once.

use adspend_common::money::Money;
use adspend_common::time::Day;

/// How a slice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Books {
    /// Its owner admits with it and takes closed reservations back by itself.
    Open,
    /// Its owner has reported all that it took.
    Final,
    /// Admissions took what they were expected to cost, so charges may come to more than it has.
    Expected {
        /// Reserved and not charged.
        left: Money,
    },
    /// Nothing is reserved for it any more.
    Resolved,
}

impl Books {
    /// Reads `slice.state`.
    pub(crate) fn from_number(number: i16) -> Option<Books> {
        match number {
            1 => Some(Books::Open),
            2 => Some(Books::Final),
            3 => Some(Books::Resolved),
            _ => None,
        }
    }
}

/// What ends of admissions change in the headroom rows, the hold and the slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Effect {
    /// Added to what is charged, everywhere.
    pub(crate) charged: Money,
    /// Of it, what had no reservation: added to the late sums of headroom and hold.
    pub(crate) unreserved: Money,
    /// Taken off what headroom and hold keep reserved.
    pub(crate) freed: Money,
    /// Added to the slice's closed reservations.
    pub(crate) closed: Money,
}

impl Effect {
    /// Both together; `None` when a sum leaves what can be stored.
    pub(crate) fn plus(self, other: Effect) -> Option<Effect> {
        Some(Effect {
            charged: self.charged.checked_add(other.charged)?,
            unreserved: self.unreserved.checked_add(other.unreserved)?,
            freed: self.freed.checked_add(other.freed)?,
            closed: self.closed.checked_add(other.closed)?,
        })
    }
}

/// A reservation of `reserved` was settled with a charge of `price`.
///
/// A charge that an [`Books::Expected`] slice has too little for is booked all the same: what is
/// beyond it had no reservation, like a late charge, and counts against the limit at once, so the
/// next slices are the smaller or there are none.
///
/// While the slice is open its owner learns of `closed` and takes the difference back itself, so
/// only the price leaves the reservation. A charge is booked even when nothing is reserved for it
/// any more: it happened.
pub(crate) fn settled(books: Books, price: Money, reserved: Money) -> Effect {
    let (unreserved, freed) = match books {
        Books::Open => (Money::ZERO, price),
        Books::Final => (Money::ZERO, reserved),
        Books::Expected { left } => {
            let covered = price.min(left);
            (price.checked_sub(covered).unwrap_or(Money::ZERO), covered)
        }
        Books::Resolved => (price, Money::ZERO),
    };
    Effect { charged: price, unreserved, freed, closed: reserved }
}

/// A reservation of `reserved` was given back unspent.
pub(crate) fn cancelled(books: Books, reserved: Money) -> Effect {
    let freed = match books {
        Books::Open | Books::Expected { .. } | Books::Resolved => Money::ZERO,
        Books::Final => reserved,
    };
    Effect { charged: Money::ZERO, unreserved: Money::ZERO, freed, closed: reserved }
}

/// A charge that no slice stands behind: a late conversion.
pub(crate) fn without_slice(price: Money) -> Effect {
    Effect { charged: price, unreserved: price, freed: Money::ZERO, closed: Money::ZERO }
}

/// Why the books refuse a charge or a cancellation. A refusal changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Another charge has the id.
    IdReused,
    /// The admission has ended in another way.
    TokenUsed,
    /// Too late to give it back.
    TokenExpired,
}

/// The end of an admission, by its slice and its number there; none for a late conversion.
pub(crate) type Admission = Option<(i64, u32)>;

/// What a charge says, apart from its id: a repeat must say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    /// The campaign that pays.
    pub(crate) campaign_no: i64,
    /// What it settles.
    pub(crate) admission: Admission,
    /// Its price.
    pub(crate) price: Money,
}

/// A charge that is booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// What it said.
    pub(crate) said: Said,
    /// The day that it is booked on.
    pub(crate) day: Day,
    /// Whether it was late.
    pub(crate) late: bool,
}

/// How the admission of a charge or of a cancellation has ended so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It has not.
    No,
    /// By a charge.
    Settled,
    /// By a cancellation.
    Cancelled,
}

/// What to do with a charge or a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<T> {
    /// Book it.
    Book,
    /// It is booked already: give the first answer again.
    Replay(T),
    /// Change nothing.
    Refuse(Refused),
}

/// The verdict on a charge: the id decides before the admission does, so that a repeat gets the
/// first answer.
pub(crate) fn charge(said: Said, same_id: Option<Recorded>, ended: Ended) -> Step<Recorded> {
    match (same_id, ended) {
        (Some(first), _) if first.said == said => Step::Replay(first),
        (Some(_), _) => Step::Refuse(Refused::IdReused),
        (None, Ended::Settled | Ended::Cancelled) => Step::Refuse(Refused::TokenUsed),
        (None, Ended::No) => Step::Book,
    }
}

/// The verdict on a cancellation: a repeat gets the first answer even after the expiry.
pub(crate) fn cancel(ended: Ended, expired: bool) -> Step<()> {
    match (ended, expired) {
        (Ended::Cancelled, _) => Step::Replay(()),
        (Ended::Settled, _) => Step::Refuse(Refused::TokenUsed),
        (Ended::No, true) => Step::Refuse(Refused::TokenExpired),
        (Ended::No, false) => Step::Book,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn money(micros: i64) -> Money {
        Money::from_micros(micros).unwrap()
    }

    fn effect(charged: i64, unreserved: i64, freed: i64, closed: i64) -> Effect {
        Effect {
            charged: money(charged),
            unreserved: money(unreserved),
            freed: money(freed),
            closed: money(closed),
        }
    }

    #[test]
    fn table_of_effects() {
        let (price, reserved) = (money(3), money(10));
        for (name, got, expected) in [
            (
                "open: the owner frees the rest",
                settled(Books::Open, price, reserved),
                effect(3, 0, 3, 10),
            ),
            (
                "final: the books free the rest",
                settled(Books::Final, price, reserved),
                effect(3, 0, 10, 10),
            ),
            (
                "resolved: nothing is reserved",
                settled(Books::Resolved, price, reserved),
                effect(3, 3, 0, 10),
            ),
            ("open: the owner frees all", cancelled(Books::Open, reserved), effect(0, 0, 0, 10)),
            ("final: the books free all", cancelled(Books::Final, reserved), effect(0, 0, 10, 10)),
            ("resolved: all is free", cancelled(Books::Resolved, reserved), effect(0, 0, 0, 10)),
            (
                "expected: what it has covers the charge",
                settled(Books::Expected { left: money(7) }, price, reserved),
                effect(3, 0, 3, 10),
            ),
            (
                "expected: what it lacks had no reservation",
                settled(Books::Expected { left: money(2) }, price, reserved),
                effect(3, 1, 2, 10),
            ),
            (
                "expected: the owner frees all",
                cancelled(Books::Expected { left: money(2) }, reserved),
                effect(0, 0, 0, 10),
            ),
            ("no slice: all is late", without_slice(price), effect(3, 3, 0, 0)),
        ] {
            assert_eq!(got, expected, "{name}");
        }
    }

    #[test]
    fn table_of_charges() {
        let said = Said { campaign_no: 1, admission: Some((7, 1)), price: money(3) };
        let day: Day = "2025-03-31".parse().unwrap();
        let first = |said| Some(Recorded { said, day, late: false });
        let replay = Step::Replay(Recorded { said, day, late: false });
        let refuse = Step::Refuse;
        for (name, same_id, ended, expected) in [
            ("new", None, Ended::No, Step::Book),
            ("a repeat", first(said), Ended::Settled, replay),
            (
                "another price",
                first(Said { price: money(4), ..said }),
                Ended::Settled,
                refuse(Refused::IdReused),
            ),
            (
                "another admission",
                first(Said { admission: Some((7, 2)), ..said }),
                Ended::No,
                refuse(Refused::IdReused),
            ),
            (
                "another campaign",
                first(Said { campaign_no: 2, ..said }),
                Ended::No,
                refuse(Refused::IdReused),
            ),
            (
                "was a late conversion",
                first(Said { admission: None, ..said }),
                Ended::No,
                refuse(Refused::IdReused),
            ),
            (
                "the id decides before the admission",
                first(Said { price: money(4), ..said }),
                Ended::Cancelled,
                refuse(Refused::IdReused),
            ),
            ("settled under another id", None, Ended::Settled, refuse(Refused::TokenUsed)),
            ("cancelled", None, Ended::Cancelled, refuse(Refused::TokenUsed)),
        ] {
            assert_eq!(charge(said, same_id, ended), expected, "{name}");
        }
    }

    #[test]
    fn table_of_cancellations() {
        for (name, ended, expired, expected) in [
            ("in time", Ended::No, false, Step::Book),
            ("too late", Ended::No, true, Step::Refuse(Refused::TokenExpired)),
            ("a repeat", Ended::Cancelled, false, Step::Replay(())),
            ("a repeat after the expiry", Ended::Cancelled, true, Step::Replay(())),
            ("settled", Ended::Settled, false, Step::Refuse(Refused::TokenUsed)),
            ("settled, and expired", Ended::Settled, true, Step::Refuse(Refused::TokenUsed)),
        ] {
            assert_eq!(cancel(ended, expired), expected, "{name}");
        }
    }

    proptest! {
        /// The books of an open and of a final slice stay what the migration says, whatever ends:
        /// `A - C` and `T - K` reserved.
        #[test]
        fn the_reserved_sum_follows_the_books(
            ends in prop::collection::vec((1..1_000i64, 0..=1_000i64), 1..40),
        ) {
            let taken: i64 = ends.iter().map(|(reserved, _)| reserved).sum();
            let amount = taken + 17;
            let mut open = Effect::default();
            let mut last = Effect::default();
            for (reserved, part) in ends {
                let price = reserved * part / 1_000;
                let end = |books| if price == 0 {
                    cancelled(books, money(reserved))
                } else {
                    settled(books, money(price), money(reserved))
                };
                open = open.plus(end(Books::Open)).unwrap();
                last = last.plus(end(Books::Final)).unwrap();
                prop_assert_eq!(amount - open.freed.micros(), amount - open.charged.micros());
                prop_assert_eq!(taken - last.freed.micros(), taken - last.closed.micros());
            }
            prop_assert!(open.charged <= open.closed && open.unreserved.is_zero());
        }
    }
}
