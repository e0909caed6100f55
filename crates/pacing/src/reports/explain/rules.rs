//! What became of an opportunity, from what is written down. Pure.
//!
//! In the order in which admission asks: known and active, schedule and dates, limits,
//! rate, funds. What is not written down is named, and where it decides, nothing is claimed.

use crate::admission::rate::Rate;
use crate::admission::{Level, Reason};
use crate::calendar::schedule::Closed;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing that is written down stood against it.
    Admitted,
    /// Denied: by the rate, or before it was asked.
    Denied(Reason),
    /// What is written down does not decide it.
    CannotBeKnown,
}

/// What is not written down and may have decided otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Rates were added up and no coin was tossed, or may have been.
    FewCharges,
    /// There is no reading in force.
    NoReading,
    /// The rate changed within seconds.
    RateChanging,
    /// Whether the replica had money in hand.
    Funds,
    /// The campaign was changed since.
    CampaignChanged,
    /// The account is blocked or closed now.
    AccountBlocked,
    /// A limit was reached or released within seconds, or had room for the price.
    LimitChanging,
}

/// The campaign and its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// It existed.
    pub(super) existed: bool,
    /// It has not been changed since then, nor within seconds before.
    pub(super) is_unchanged: bool,
    /// It is paused, as of now.
    pub(super) is_paused: bool,
    /// Its account may not spend, as of now.
    pub(super) is_blocked: bool,
    /// Its schedule says so, as it is now.
    pub(super) closed: Option<Closed>,
}

/// A limit that was reached, at the time or within seconds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) reason: Reason,
    pub(super) level: Level,
    /// Throughout the seconds around the time.
    pub(super) throughout: bool,
    /// What the limit had left.
    pub(super) left_micros: i64,
}

/// What a replica may still have gone by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// The reading has been in force for longer than it takes to get around.
    Same,
    /// This rate, from the reading before.
    Rate(Went),
    /// There was no reading before: what a replica starts with is not written down.
    Nothing,
}

/// A rate, and how it was gone by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Went {
    /// In parts of 2^32.
    pub(super) parts: u32,
    /// It was added up, or nobody can say that it was not.
    pub(super) maybe_few: bool,
}

/// The rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rates {
    /// In force at the time; `None` without a reading.
    pub(super) in_force: Option<Went>,
    /// In force seconds before.
    pub(super) before: Before,
}

/// What is known of the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Evidence {
    /// There is a token of it.
    pub(super) has_token: bool,
    pub(super) standing: Standing,
    pub(super) reached: Option<Reached>,
    /// `None` where nobody says.
    pub(super) price_micros: Option<i64>,
    pub(super) coin: u32,
    pub(super) rates: Rates,
}

/// The verdict, whose limit it was, and what may have decided otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) level: Option<Level>,
    pub(super) unknowns: Vec<Unknown>,
}

/// Judges.
pub(super) fn judge(evidence: &Evidence) -> Judgement {
    let certain = |verdict| Judgement { verdict, level: None, unknowns: Vec::new() };
    if evidence.has_token {
        return certain(Verdict::Admitted);
    }
    let standing = &evidence.standing;
    if !standing.existed {
        return certain(Verdict::Denied(Reason::CampaignUnknown));
    }
    let mut unknowns = Vec::new();
    if standing.is_blocked {
        unknowns.push(Unknown::AccountBlocked);
    }
    if !standing.is_unchanged {
        unknowns.push(Unknown::CampaignChanged);
    }
    let stopped = match standing.closed {
        _ if standing.is_paused => Some(Reason::CampaignPaused),
        Some(Closed::BeforeStart | Closed::AfterEnd) => Some(Reason::OutsideDates),
        Some(Closed::OutsideHours) => Some(Reason::OutsideSchedule),
        None => None,
    };
    match stopped {
        Some(reason) if standing.is_unchanged => {
            return Judgement { verdict: Verdict::Denied(reason), level: None, unknowns };
        }
        Some(_) => return Judgement { verdict: Verdict::CannotBeKnown, level: None, unknowns },
        None => {}
    }
    if let Some(reached) = &evidence.reached {
        let fits = evidence.price_micros.is_some_and(|price| price <= reached.left_micros);
        if reached.throughout && !fits {
            let verdict = Verdict::Denied(reached.reason);
            return Judgement { verdict, level: Some(reached.level), unknowns };
        }
        unknowns.push(Unknown::LimitChanging);
    }
    let verdict = by_rate(evidence, &mut unknowns);
    Judgement { verdict, level: None, unknowns }
}

fn by_rate(evidence: &Evidence, unknowns: &mut Vec<Unknown>) -> Verdict {
    let Rates { in_force, before } = evidence.rates;
    let Some(went) = in_force else {
        unknowns.push(Unknown::NoReading);
        return Verdict::CannotBeKnown;
    };
    let passes = |parts: u32| parts == Rate::ALL || evidence.coin < parts;
    // At all and at nothing the sum and the coin say the same.
    let tosses = |went: Went| !went.maybe_few || went.parts == Rate::ALL || went.parts == 0;
    let (differs, added_up) = match before {
        Before::Same => (false, false),
        Before::Rate(before) => (passes(before.parts) != passes(went.parts), !tosses(before)),
        Before::Nothing => (true, false),
    };
    if added_up || !tosses(went) {
        unknowns.push(Unknown::FewCharges);
        return Verdict::CannotBeKnown;
    }
    if differs {
        unknowns.push(Unknown::RateChanging);
        return Verdict::CannotBeKnown;
    }
    if !passes(went.parts) {
        return Verdict::Denied(Reason::Throttled);
    }
    unknowns.push(Unknown::Funds);
    if unknowns.contains(&Unknown::LimitChanging) {
        // Whoever passed the coin met the limit, or not.
        return Verdict::CannotBeKnown;
    }
    Verdict::Admitted
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: u32 = 1 << 31;

    fn tossed(parts: u32) -> Went {
        Went { parts, maybe_few: false }
    }

    fn added(parts: u32) -> Went {
        Went { parts, maybe_few: true }
    }

    fn usual() -> Evidence {
        Evidence {
            has_token: false,
            standing: Standing {
                existed: true,
                is_unchanged: true,
                is_paused: false,
                is_blocked: false,
                closed: None,
            },
            reached: None,
            price_micros: Some(100),
            coin: HALF - 1,
            rates: Rates { in_force: Some(tossed(HALF)), before: Before::Same },
        }
    }

    fn with(change: impl FnOnce(&mut Evidence)) -> Evidence {
        let mut evidence = usual();
        change(&mut evidence);
        evidence
    }

    fn limit(throughout: bool, left_micros: i64) -> Option<Reached> {
        let (reason, level) = (Reason::AccountDayLimit, Level::Account);
        Some(Reached { reason, level, throughout, left_micros })
    }

    #[test]
    fn the_order_is_that_of_admission() {
        use Unknown as U;
        use Verdict::{Admitted, CannotBeKnown, Denied};
        let throttled = |evidence: &mut Evidence| evidence.coin = HALF;
        for (name, evidence, verdict, unknowns) in [
            ("below the rate", usual(), Admitted, vec![U::Funds]),
            ("at the rate", with(throttled), Denied(Reason::Throttled), vec![]),
            ("a token", with(|e| (e.has_token, e.coin) = (true, HALF)), Admitted, vec![]),
            (
                "before its time",
                with(|e| e.standing.existed = false),
                Denied(Reason::CampaignUnknown),
                vec![],
            ),
            (
                "paused, and a limit",
                with(|e| (e.standing.is_paused, e.reached) = (true, limit(true, 0))),
                Denied(Reason::CampaignPaused),
                vec![],
            ),
            (
                "paused since",
                with(|e| (e.standing.is_paused, e.standing.is_unchanged) = (true, false)),
                CannotBeKnown,
                vec![U::CampaignChanged],
            ),
            (
                "changed since and throttled",
                with(|e| (e.coin, e.standing.is_unchanged) = (HALF, false)),
                Denied(Reason::Throttled),
                vec![U::CampaignChanged],
            ),
            (
                "closed",
                with(|e| e.standing.closed = Some(Closed::OutsideHours)),
                Denied(Reason::OutsideSchedule),
                vec![],
            ),
            (
                "a limit before the rate",
                with(|e| (e.coin, e.reached) = (HALF, limit(true, 99))),
                Denied(Reason::AccountDayLimit),
                vec![],
            ),
            (
                "a limit with room for the price",
                with(|e| e.reached = limit(true, 100)),
                CannotBeKnown,
                vec![U::LimitChanging, U::Funds],
            ),
            (
                "a limit reached within seconds, and throttled",
                with(|e| (e.coin, e.reached) = (HALF, limit(false, 0))),
                Denied(Reason::Throttled),
                vec![U::LimitChanging],
            ),
            ("no reading", with(|e| e.rates.in_force = None), CannotBeKnown, vec![U::NoReading]),
            (
                "few charges",
                with(|e| e.rates.in_force = Some(added(HALF))),
                CannotBeKnown,
                vec![U::FewCharges],
            ),
            (
                "few charges until seconds before",
                with(|e| e.rates.before = Before::Rate(added(HALF))),
                CannotBeKnown,
                vec![U::FewCharges],
            ),
            (
                "few charges, and nothing is let through",
                with(|e| e.rates.in_force = Some(added(0))),
                Denied(Reason::Throttled),
                vec![],
            ),
            (
                "a rate that rose past the coin",
                with(|e| e.rates.before = Before::Rate(tossed(HALF - 1))),
                CannotBeKnown,
                vec![U::RateChanging],
            ),
            (
                "a rate that rose from below it",
                with(|e| e.rates.before = Before::Rate(tossed(HALF + 9))),
                Admitted,
                vec![U::Funds],
            ),
            (
                "the first reading",
                with(|e| e.rates.before = Before::Nothing),
                CannotBeKnown,
                vec![U::RateChanging],
            ),
            (
                "a blocked account",
                with(|e| e.standing.is_blocked = true),
                Admitted,
                vec![U::AccountBlocked, U::Funds],
            ),
        ] {
            let got = judge(&evidence);
            assert_eq!((got.verdict, got.unknowns), (verdict, unknowns), "{name}");
        }
        assert_eq!(judge(&with(|e| e.reached = limit(true, 0))).level, Some(Level::Account));
    }
}
