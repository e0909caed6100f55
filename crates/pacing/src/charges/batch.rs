//! The arithmetic of one group: which rows it needs, and what it writes to them. Pure, so that it
//! can be tried on values; `store` runs the statements, `writer` the order of things.
//!
//! 1. [`Plan::of`]: the slices and headroom rows to be locked.
//! 2. [`fold`]: a verdict for every item in the order given, and the sums of what they change. In
//!    a group without cancellations nothing is looked up for a charge: the unique indexes of its
//!    table recognise repeats, and the group is then folded again with all that is [`Known`].
//!
//! Cost: one hash look-up per charge on that way, and none where charges of one slice come
//! together.

use std::collections::BTreeMap;

use adspend_common::money::Money;
use adspend_common::time::Day;
use chrono::{DateTime, Utc};
use foldhash::{HashMap, HashMapExt};

use super::item::{Charge, Item, Target, Verdict, expected, reserved};
use super::rules::{self, Books, Effect, Ended, Recorded, Refused, Step};
use crate::admission::token::Token;

/// A slice that tokens of the group were cut from; a token names its campaign and day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SliceKey {
    pub(crate) account_no: i64,
    pub(crate) slice_no: i64,
    pub(crate) campaign_no: i64,
    pub(crate) day: Day,
}

/// A slice's row, locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SliceRow {
    pub(crate) hold_no: i64,
    pub(crate) books: Books,
    /// Some of its admissions were cancelled: a charge has to look whether its own was.
    pub(crate) has_cancellations: bool,
    /// Its campaign pays per conversion.
    pub(crate) is_conversion: bool,
}

/// A headroom row: level 1 is a campaign, level 2 the account itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HeadroomKey {
    pub(crate) account_no: i64,
    pub(crate) level: i16,
    pub(crate) entity_no: i64,
    pub(crate) day: Day,
}

/// The two headroom rows that a charge of a campaign counts in.
pub(super) fn levels(account_no: i64, campaign_no: i64, day: Day) -> [HeadroomKey; 2] {
    [
        HeadroomKey { account_no, level: 1, entity_no: campaign_no, day },
        HeadroomKey { account_no, level: 2, entity_no: account_no, day },
    ]
}

/// Stands for "no slice" among the positions of [`Plan::slice_of`].
const NO_SLICE: u32 = u32::MAX;

/// Which rows a group needs.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The day of conversions.
    pub(crate) today: Day,
    /// The slices, each once.
    pub(crate) slices: Vec<SliceKey>,
    /// The headroom rows, each once and in the order of locking.
    pub(crate) headroom: Vec<HeadroomKey>,
    /// Whether something is to be given back.
    pub(crate) has_cancels: bool,
    /// For every item the position of its slice.
    slice_of: Vec<u32>,
}

impl Plan {
    /// What may be a conversion that comes after its admission needs the rows of today, too.
    pub(crate) fn of(items: &[Item], now: DateTime<Utc>) -> Plan {
        let today = Day::of(now);
        let mut plan = Plan {
            today,
            slices: Vec::new(),
            headroom: Vec::new(),
            has_cancels: false,
            slice_of: Vec::with_capacity(items.len()),
        };
        let mut positions: HashMap<(i64, i64), u32> = HashMap::new();
        let mut latest = ((0, 0), NO_SLICE);
        for item in items {
            plan.has_cancels |= matches!(item, Item::Cancel(_));
            let Some(token) = item.token() else {
                if let Item::Charge(Charge {
                    target: Target::Late { account_no, campaign_no, .. },
                    ..
                }) = item
                {
                    plan.headroom.extend(levels(*account_no, *campaign_no, today));
                }
                plan.slice_of.push(NO_SLICE);
                continue;
            };
            if token.day != today && token.is_expired(now) {
                plan.headroom.extend(levels(token.account_no, token.campaign_no, today));
            }
            let key = (token.account_no, token.slice_no);
            if latest.0 != key || latest.1 == NO_SLICE {
                let next = u32::try_from(plan.slices.len()).expect("a group is a few thousand");
                let position = *positions.entry(key).or_insert_with(|| {
                    plan.slices.push(SliceKey {
                        account_no: token.account_no,
                        slice_no: token.slice_no,
                        campaign_no: token.campaign_no,
                        day: token.day,
                    });
                    next
                });
                latest = (key, position);
            }
            plan.slice_of.push(latest.1);
        }
        for slice in &plan.slices {
            plan.headroom.extend(levels(slice.account_no, slice.campaign_no, slice.day));
        }
        plan.headroom.sort_unstable();
        plan.headroom.dedup();
        plan
    }

    /// The position of an item's slice in [`Plan::slices`].
    pub(crate) fn slice_of(&self, item: usize) -> Option<usize> {
        let position = self.slice_of.get(item).copied().filter(|position| *position != NO_SLICE)?;
        usize::try_from(position).ok()
    }
}

/// What the database knows of the group's items.
#[derive(Debug, Default)]
pub(crate) struct Known<'a> {
    /// Whether everything was looked up. If not, only what a cancellation is about was, and the
    /// unique indexes answer for the rest.
    pub(crate) complete: bool,
    /// Charges by account and id.
    pub(crate) by_id: HashMap<(i64, &'a str), Recorded>,
    /// Ends of admissions by account, slice and number.
    pub(crate) ended: HashMap<(i64, i64, u32), Ended>,
    /// What the limits of today leave to conversions; nothing of a level without a limit.
    pub(crate) left: HashMap<HeadroomKey, Money>,
}

/// A conversion that becomes a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conversion {
    pub(crate) account_no: i64,
    pub(crate) campaign_no: i64,
    /// When its token expired or expires; none without an admission.
    pub(crate) expires_at_micros: Option<i64>,
    pub(crate) price: Money,
}

/// A charge that becomes a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewRow {
    /// The position of its item.
    pub(crate) item: usize,
    pub(crate) day: Day,
    pub(crate) late: bool,
    /// It goes to billing by itself: no hold stands behind it.
    pub(crate) without_hold: bool,
}

/// What a headroom row gains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Gain {
    pub(crate) effect: Effect,
    pub(crate) charges: i64,
    pub(crate) cancellations: i64,
    /// What admissions that ended in time had taken from their slices.
    pub(crate) ended: Money,
    /// What was charged when nothing was kept back for it any more.
    pub(crate) overdue: Money,
}

impl Gain {
    fn add(&mut self, other: Gain) -> Option<()> {
        self.effect = self.effect.plus(other.effect)?;
        self.charges = self.charges.checked_add(other.charges)?;
        self.cancellations = self.cancellations.checked_add(other.cancellations)?;
        self.ended = self.ended.checked_add(other.ended)?;
        self.overdue = self.overdue.checked_add(other.overdue)?;
        Some(())
    }
}

/// What a group writes. Maps, because rows are written in the order of their keys.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// One for each item.
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) rows: Vec<NewRow>,
    /// Positions of the items whose cancellation is new.
    pub(crate) cancelled: Vec<usize>,
    pub(crate) headroom: BTreeMap<HeadroomKey, Gain>,
    /// By account and hold.
    pub(crate) holds: BTreeMap<(i64, i64), Gain>,
    /// By account and slice.
    pub(crate) slices: BTreeMap<(i64, i64), Gain>,
    /// Charged, by account, hold and campaign.
    pub(crate) spends: BTreeMap<(i64, i64, i64), Money>,
    /// Those that teach how long conversions take.
    pub(crate) conversions: Vec<Conversion>,
    /// Whether an earlier answer was given again.
    pub(crate) replays: bool,
}

impl Folded {
    /// Whether there is nothing to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.cancelled.is_empty()
    }
}

/// A sum left what can be stored: the group cannot be written as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sum of the group leaves what can be stored")]
pub(crate) struct Overflow;

/// Decides every item and adds up what they change. `slices` are the locked rows of
/// [`Plan::slices`] in its order; `None` for one that is gone.
pub(crate) fn fold<'a>(
    items: &'a [Item],
    plan: &Plan,
    slices: &[Option<SliceRow>],
    known: Known<'a>,
    now: DateTime<Utc>,
) -> Result<Folded, Overflow> {
    // Whether ends of admissions matter beyond what the unique indexes see.
    let careful = known.complete
        || plan.has_cancels
        || slices.iter().flatten().any(|slice| slice.has_cancellations);
    let folded = Folded {
        verdicts: Vec::with_capacity(items.len()),
        rows: Vec::with_capacity(items.len()),
        ..Folded::default()
    };
    let by_slice = vec![Gain::default(); plan.slices.len()];
    let arrived = by_slice.clone();
    let mut fold = Fold { plan, slices, known, now, careful, by_slice, arrived, folded };
    for (position, item) in items.iter().enumerate() {
        let verdict = match item {
            Item::Charge(charge) => fold.charge(position, charge)?,
            Item::Cancel(token) => fold.cancel(position, token)?,
        };
        fold.folded.verdicts.push(verdict);
    }
    fold.spread()
}

struct Fold<'a, 'p> {
    plan: &'p Plan,
    slices: &'p [Option<SliceRow>],
    known: Known<'a>,
    now: DateTime<Utc>,
    careful: bool,
    /// What happened to each slice of the plan.
    by_slice: Vec<Gain>,
    /// The same of conversions that are booked on the day on which they come.
    arrived: Vec<Gain>,
    folded: Folded,
}

impl<'a> Fold<'a, '_> {
    fn charge(&mut self, position: usize, charge: &'a Charge) -> Result<Verdict, Overflow> {
        let step = if self.careful { judge(charge, &self.known) } else { Step::Book };
        match step {
            Step::Book => self.book(position, charge),
            Step::Replay(first) => {
                self.folded.replays = true;
                Ok(Verdict::Booked { day: first.day, late: first.late, replayed: true })
            }
            Step::Refuse(why) => Ok(Verdict::Refused(why)),
        }
    }

    /// A charge books on the day of its admission; without one, or when it is a conversion whose
    /// token is over, today.
    fn book(&mut self, position: usize, charge: &'a Charge) -> Result<Verdict, Overflow> {
        let at = self.plan.slice_of(position);
        let slice = at.and_then(|at| self.slices.get(at).copied().flatten());
        let (day, expired, reserved) = match &charge.target {
            Target::Admission(token) => (token.day, token.is_expired(self.now), reserved(token)),
            Target::Late { .. } => (self.plan.today, true, Money::ZERO),
        };
        let (effect, beyond) = match slice.map(|slice| self.books_now(at, slice.books)) {
            Some(books) => {
                let beyond = matches!(books, Books::Expected { left } if left < charge.price);
                (rules::settled(books, charge.price, reserved), beyond)
            }
            None => (rules::without_slice(charge.price), false),
        };
        let is_conversion = match &charge.target {
            Target::Admission(_) => slice.is_some_and(|slice| slice.is_conversion),
            Target::Late { is_conversion, .. } => *is_conversion,
        };
        if is_conversion {
            self.folded.conversions.push(conversion(charge));
        }
        let ended = match &charge.target {
            Target::Admission(token) if !expired => expected(token),
            Target::Admission(_) | Target::Late { .. } => Money::ZERO,
        };
        // A slice of conversions keeps no margin: what comes while its tokens live is mostly beyond it.
        if is_conversion && (expired || (beyond && day == self.plan.today)) {
            return self.arrive(position, charge, effect, ended);
        }
        let overdue = if expired { charge.price } else { effect.unreserved };
        // Beyond its slice nothing was reserved for it, though it comes in time.
        let late = expired || beyond;
        let gain = Gain { effect, charges: 1, cancellations: 0, ended, overdue };
        match at.and_then(|at| self.by_slice.get_mut(at)) {
            Some(sum) => sum.add(gain).ok_or(Overflow)?,
            None => {
                for key in levels(charge.account_no(), charge.said().campaign_no, day) {
                    self.folded.headroom.entry(key).or_default().add(gain).ok_or(Overflow)?;
                }
            }
        }
        if self.careful {
            remember(&mut self.known, charge, Recorded { said: charge.said(), day, late });
        }
        let without_hold = slice.is_none();
        self.folded.rows.push(NewRow { item: position, day, late, without_hold });
        Ok(Verdict::Booked { day, late, replayed: false })
    }

    /// How a slice stands after the items before.
    fn books_now(&self, at: Option<usize>, books: Books) -> Books {
        let Books::Expected { left } = books else { return books };
        let gone = |sums: &[Gain]| at.and_then(|at| sums.get(at)).map(|gain| gain.effect.freed);
        let take = |left: Money, gone: Option<Money>| {
            left.checked_sub(gone.unwrap_or_default()).unwrap_or(Money::ZERO)
        };
        Books::Expected { left: take(take(left, gone(&self.by_slice)), gone(&self.arrived)) }
    }

    /// A conversion whose token is over counts in the limits of today. It is expected
    /// on the day on which it comes, so it is late only where it passes a limit.
    fn arrive(
        &mut self,
        position: usize,
        charge: &'a Charge,
        effect: Effect,
        ended: Money,
    ) -> Result<Verdict, Overflow> {
        let (day, price) = (self.plan.today, charge.price);
        let mut late = charge.said().admission.is_none();
        for key in levels(charge.account_no(), charge.said().campaign_no, day) {
            let mut unreserved = Money::ZERO;
            if let Some(left) = self.known.left.get_mut(&key) {
                let covered = price.min(*left);
                unreserved = price.checked_sub(covered).ok_or(Overflow)?;
                *left = left.checked_sub(covered).ok_or(Overflow)?;
            }
            late |= !unreserved.is_zero();
            let effect = Effect { charged: price, unreserved, ..Effect::default() };
            let gain = Gain { effect, charges: 1, ..Gain::default() };
            self.folded.headroom.entry(key).or_default().add(gain).ok_or(Overflow)?;
        }
        let at = self.plan.slice_of(position);
        if let Some(sum) = at.and_then(|at| self.arrived.get_mut(at)) {
            sum.add(Gain { effect, charges: 1, ended, ..Gain::default() }).ok_or(Overflow)?;
        }
        if self.careful {
            remember(&mut self.known, charge, Recorded { said: charge.said(), day, late });
        }
        let without_hold = at.and_then(|at| self.slices.get(at).copied().flatten()).is_none();
        self.folded.rows.push(NewRow { item: position, day, late, without_hold });
        Ok(Verdict::Booked { day, late, replayed: false })
    }

    fn cancel(&mut self, position: usize, token: &Token) -> Result<Verdict, Overflow> {
        let key = (token.account_no, token.slice_no, token.admission_no);
        let ended = self.known.ended.get(&key).copied().unwrap_or(Ended::No);
        let released = reserved(token);
        let at = self.plan.slice_of(position);
        let row = at.and_then(|at| self.slices.get(at).copied().flatten());
        let sum = at.and_then(|at| self.by_slice.get_mut(at));
        match (rules::cancel(ended, token.is_expired(self.now)), row, sum) {
            (Step::Book, Some(row), Some(sum)) => {
                let effect = rules::cancelled(row.books, released);
                let ended = expected(token);
                let gain = Gain { effect, cancellations: 1, ended, ..Gain::default() };
                sum.add(gain).ok_or(Overflow)?;
                self.known.ended.insert(key, Ended::Cancelled);
                self.folded.cancelled.push(position);
                Ok(Verdict::Cancelled { released, replayed: false })
            }
            // A slice that is gone was resolved long ago.
            (Step::Book, _, _) => Ok(Verdict::Refused(Refused::TokenExpired)),
            (Step::Replay(()), _, _) => {
                self.folded.replays = true;
                Ok(Verdict::Cancelled { released, replayed: true })
            }
            (Step::Refuse(why), _, _) => Ok(Verdict::Refused(why)),
        }
    }

    /// Carries what happened to each slice on to its hold and its headroom rows.
    fn spread(mut self) -> Result<Folded, Overflow> {
        let folded = &mut self.folded;
        let sums = self.by_slice.iter().zip(&self.arrived);
        for ((key, row), (in_time, arrived)) in self.plan.slices.iter().zip(self.slices).zip(sums) {
            let mut gain = *in_time;
            gain.add(*arrived).ok_or(Overflow)?;
            if gain == Gain::default() {
                continue;
            }
            // What was kept back for a conversion is free on the day of its admission.
            let freed = Effect { freed: arrived.effect.freed, ..Effect::default() };
            let mut of_day = *in_time;
            of_day.add(Gain { effect: freed, ..Gain::default() }).ok_or(Overflow)?;
            if of_day != Gain::default() {
                for level in levels(key.account_no, key.campaign_no, key.day) {
                    folded.headroom.entry(level).or_default().add(of_day).ok_or(Overflow)?;
                }
            }
            let Some(row) = row else { continue };
            let slice = folded.slices.entry((key.account_no, key.slice_no)).or_default();
            slice.add(gain).ok_or(Overflow)?;
            let hold = folded.holds.entry((key.account_no, row.hold_no)).or_default();
            hold.add(gain).ok_or(Overflow)?;
            if !gain.effect.charged.is_zero() {
                let spent = (key.account_no, row.hold_no, key.campaign_no);
                let spend = folded.spends.entry(spent).or_default();
                *spend = spend.checked_add(gain.effect.charged).ok_or(Overflow)?;
            }
        }
        Ok(self.folded)
    }
}

fn judge(charge: &Charge, known: &Known<'_>) -> Step<Recorded> {
    let said = charge.said();
    let account_no = charge.account_no();
    let same_id = known.by_id.get(&(account_no, charge.id.as_str())).copied();
    let ended = said.admission.and_then(|(slice_no, admission_no)| {
        known.ended.get(&(account_no, slice_no, admission_no)).copied()
    });
    rules::charge(said, same_id, ended.unwrap_or(Ended::No))
}

fn conversion(charge: &Charge) -> Conversion {
    let expires_at_micros = match &charge.target {
        Target::Admission(token) => Some(token.expires_at_micros),
        Target::Late { .. } => None,
    };
    let (account_no, campaign_no) = (charge.account_no(), charge.said().campaign_no);
    Conversion { account_no, campaign_no, expires_at_micros, price: charge.price }
}

/// Later items of the group see what earlier ones did.
fn remember<'a>(known: &mut Known<'a>, charge: &'a Charge, recorded: Recorded) {
    let account_no = charge.account_no();
    if let Some((slice_no, admission_no)) = recorded.said.admission {
        known.ended.insert((account_no, slice_no, admission_no), Ended::Settled);
    }
    known.by_id.insert((account_no, charge.id.as_str()), recorded);
}
