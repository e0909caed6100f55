//! How large a slice is, what it gives back, and what a refusal says. Pure.
//!
//! Amounts are micro-units. A slice is bounded by three rooms at once: the campaign's limit, the
//! account's limit and a hold. Sizes follow the entity's own spend rate, so that one question
//! serves about two seconds, and shrink with what is left, so that the last money is not caught
//! in one replica while another could use it.

use chrono::{DateTime, Utc};

use crate::admission::slice::MAX_SLICE_MICROS;
use crate::admission::{Level, Reason};

/// Where there is plenty a slice serves so many times longer: its price is the transaction that cuts it, and
/// what one replica has too much of is little.
const PLENTY_SERVES: i64 = 4;

/// There is plenty when a fair share has room for so many of the long slices.
const PLENTY: i64 = 8;

/// What an entity needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// The smallest admission that would be of use.
    pub(super) least_micros: i64,
    /// The largest that was asked for.
    pub(super) most_micros: i64,
    /// What it spends in the time that a slice should serve.
    pub(super) spend_micros: i64,
}

/// What one level allows today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// H(d); none is no limit.
    pub(super) limit_micros: Option<i64>,
    /// Whether it is the week that bounds the day.
    pub(super) by_week: bool,
    /// What was charged today.
    pub(super) charged_micros: i64,
    /// What is reserved today, by anybody.
    pub(super) reserved_micros: i64,
    /// What came late in this hour of the last four weeks, at most.
    pub(super) late_micros: i64,
    /// What open clicks are expected to cost today, where conversions are paid for.
    pub(super) due_micros: i64,
}

impl Room {
    /// Charged and reserved: what is not known to be unspent counts as spent.
    pub(super) fn used_micros(&self) -> i64 {
        self.charged_micros.saturating_add(self.reserved_micros)
    }

    /// What may still be reserved. From nine tenths of the limit on so much is kept back as late
    /// charges may still come: 99 hundredths of the hours of four weeks are all of them. What is due
    /// of conversions is kept back all day.
    fn remaining(&self) -> i64 {
        let Some(limit) = self.limit_micros else { return i64::MAX };
        let near = i128::from(self.charged_micros) * 10 > i128::from(limit) * 9;
        let kept_back = if near { self.late_micros } else { 0 };
        let kept_back = kept_back.saturating_add(self.due_micros);
        limit.saturating_sub(self.used_micros()).saturating_sub(kept_back).max(0)
    }
}

/// A hold that a slice may be cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HoldRoom {
    /// Which.
    pub(super) hold_no: i64,
    /// What of it is neither reserved nor charged.
    pub(super) room_micros: i64,
}

/// Everything that decides about one slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation<'a> {
    /// The campaign's limit.
    pub(super) campaign: Room,
    /// The account's limit.
    pub(super) account: Room,
    /// The account's holds, the oldest first.
    pub(super) holds: &'a [HoldRoom],
    /// How many replicas serve.
    pub(super) replicas: u32,
    /// Another replica has an open slice of the campaign until then.
    pub(super) elsewhere_until: Option<DateTime<Utc>>,
}

/// What bounds an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// A limit of a level.
    Limit {
        /// Whose.
        level: Level,
        /// Of the week rather than the day.
        by_week: bool,
        /// The limit of the day.
        limit_micros: i64,
        /// Charged and reserved, this slice included.
        used_micros: i64,
        /// What is reserved may come back: more may be had before the limit is renewed.
        may_come_back: bool,
    },
    /// Another replica has the few admissions that are left.
    Elsewhere {
        /// Until then, unless it gives them back before.
        until: DateTime<Utc>,
    },
    /// No hold has enough.
    Funds,
}

impl Bound {
    /// The reason of a denial; funds have several, which only the treasurer can tell apart.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self {
            Bound::Limit { level: Level::Campaign, by_week: false, .. } => {
                Some(Reason::CampaignDayLimit)
            }
            Bound::Limit { level: Level::Campaign, by_week: true, .. } => {
                Some(Reason::CampaignWeekLimit)
            }
            Bound::Limit { level: Level::Account, by_week: false, .. } => {
                Some(Reason::AccountDayLimit)
            }
            Bound::Limit { level: Level::Account, by_week: true, .. } => {
                Some(Reason::AccountWeekLimit)
            }
            Bound::Elsewhere { .. } => Some(Reason::Overloaded),
            Bound::Funds => None,
        }
    }
}

/// The verdict on one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// A slice.
    Granted {
        /// How much.
        amount_micros: i64,
        /// Out of which hold.
        hold_no: i64,
        /// It takes the last of something: what to say when it is used up.
        then: Option<Bound>,
    },
    /// Nothing.
    Refused(Bound),
}

/// Cuts a slice. The first level without room names the refusal.
pub(super) fn cut(need: &Need, situation: &Situation<'_>) -> Cut {
    let levels = [(Level::Campaign, &situation.campaign), (Level::Account, &situation.account)];
    for (level, room) in levels {
        if room.remaining() < need.least_micros {
            return Cut::Refused(bound(level, room, 0, need));
        }
    }
    let limits = situation.campaign.remaining().min(situation.account.remaining());
    let one = one_admission(need, limits);
    let few = is_few(one, limits, situation.replicas);
    if let (true, Some(until)) = (few, situation.elsewhere_until) {
        return Cut::Refused(Bound::Elsewhere { until });
    }
    let Some(hold) = choose(situation.holds, need, one) else {
        return Cut::Refused(Bound::Funds);
    };
    let one = one.min(one_admission(need, hold.room_micros));
    let remaining = limits.min(hold.room_micros);
    let sharers = if few { 1 } else { situation.replicas };
    let wanted = size(need, one, remaining, sharers);
    // What would stay behind of the campaign's own limit is of no use to anybody; what stays of
    // the account's or the hold may be, to another campaign.
    let rest = situation.campaign.remaining();
    let useless = rest.saturating_sub(wanted) < need.least_micros;
    let amount_micros = if useless { rest.min(remaining) } else { wanted }.min(MAX_SLICE_MICROS);
    let then = levels
        .into_iter()
        .find(|(_, room)| room.remaining().saturating_sub(amount_micros) < need.least_micros)
        .map(|(level, room)| bound(level, room, amount_micros, need));
    Cut::Granted { amount_micros, hold_no: hold.hold_no, then }
}

/// One admission: the largest price asked for, or the smallest when only that fits.
fn one_admission(need: &Need, remaining: i64) -> i64 {
    if need.most_micros <= remaining { need.most_micros } else { need.least_micros }
}

/// Whether a fair share is less than one admission: such a budget stays with one replica at a
/// time, for divided it would serve nobody.
fn is_few(one: i64, remaining: i64, replicas: u32) -> bool {
    share(remaining, replicas) < one
}

/// What one replica may take at once, so that all of them find something as the end comes near.
fn share(remaining: i64, replicas: u32) -> i64 {
    remaining / i64::from(replicas.max(1)).saturating_mul(2)
}

/// The oldest hold with enough for one admission: old money first, so that holds come to an end.
fn choose<'a>(holds: &'a [HoldRoom], need: &Need, one: i64) -> Option<&'a HoldRoom> {
    holds
        .iter()
        .find(|hold| hold.room_micros >= one)
        .or_else(|| holds.iter().find(|hold| hold.room_micros >= need.least_micros))
}

/// `one <= remaining`. At least one admission, at most a share.
fn size(need: &Need, one: i64, remaining: i64, sharers: u32) -> i64 {
    let share = share(remaining, sharers);
    let long = need.spend_micros.saturating_mul(PLENTY_SERVES);
    let wanted = if long <= share / PLENTY { long } else { need.spend_micros };
    wanted.max(one).min(share.max(one))
}

fn bound(level: Level, room: &Room, taking: i64, need: &Need) -> Bound {
    let limit_micros = room.limit_micros.unwrap_or(i64::MAX);
    Bound::Limit {
        level,
        by_week: room.by_week,
        limit_micros,
        used_micros: room.used_micros().saturating_add(taking),
        may_come_back: room.charged_micros.saturating_add(need.least_micros) <= limit_micros,
    }
}

/// Where a slice stands in the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SliceState {
    /// Its owner admits with it.
    Open,
    /// Its owner has reported so much as taken in all.
    Final {
        /// All reservations ever taken.
        taken_micros: i64,
    },
    /// Nothing of it is reserved any more.
    Resolved,
}

/// A slice in the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Books {
    /// Where it stands.
    pub(super) state: SliceState,
    /// Its size.
    pub(super) amount_micros: i64,
    /// What was charged.
    pub(super) charged_micros: i64,
    /// The reservations that were settled or cancelled.
    pub(super) closed_micros: i64,
    /// Admissions take what they are expected to cost: charges may come to more than the amount.
    pub(super) is_expected: bool,
    /// What admissions had taken that were settled or cancelled in time.
    pub(super) ended_micros: i64,
}

impl Books {
    /// What it keeps reserved in its headroom rows and its hold.
    pub(super) fn reserved_micros(&self) -> i64 {
        match self.state {
            SliceState::Open | SliceState::Final { .. } if self.is_expected => {
                (self.amount_micros - self.charged_micros).max(0)
            }
            SliceState::Open => self.amount_micros - self.charged_micros,
            SliceState::Final { taken_micros } => taken_micros - self.closed_micros,
            SliceState::Resolved => 0,
        }
    }

    /// What its owner may take again: closed and not charged. The exchange reads it by SQL.
    #[cfg(test)]
    pub(super) fn freed_micros(&self) -> i64 {
        self.closed_micros - self.charged_micros
    }

    /// The owner needs no more of an open slice than so much. `None` when it has no more.
    pub(super) fn shrink(self, amount_micros: i64) -> Option<(Books, i64)> {
        let open = self.is_expected && self.state == SliceState::Open;
        if !open || amount_micros >= self.amount_micros {
            return None;
        }
        let after = Books { amount_micros: amount_micros.max(1), ..self };
        Some((after, self.reserved_micros() - after.reserved_micros()))
    }

    /// The owner reports what was taken in all. `None` when that is no news: it was reported or
    /// resolved before. Gives the books after it and what returns to the rooms.
    pub(super) fn finalise(self, taken_micros: i64) -> Option<(Books, i64)> {
        match self.state {
            SliceState::Open => {
                // Everything closed was taken, whatever a report says.
                let taken_micros = taken_micros.max(self.closed_micros);
                // An expected slice is reported only when nobody took from it.
                let amount_micros =
                    if self.is_expected { self.charged_micros.max(1) } else { self.amount_micros };
                let state = SliceState::Final { taken_micros };
                let after = Books { state, amount_micros, ..self };
                Some((after, self.reserved_micros() - after.reserved_micros()))
            }
            SliceState::Final { .. } | SliceState::Resolved => None,
        }
    }

    /// No token of it can be settled in time any more.
    pub(super) fn resolve(self) -> Option<(Books, i64)> {
        match self.state {
            SliceState::Open | SliceState::Final { .. } => {
                Some((Books { state: SliceState::Resolved, ..self }, self.reserved_micros()))
            }
            SliceState::Resolved => None,
        }
    }
}

/// The rate at which an entity asks, smoothed: quick to rise, slow to fall.
pub(super) fn smooth(rate: f64, measured: f64) -> f64 {
    if measured >= rate { measured } else { rate + (measured - rate) * 0.3 }
}

/// How much to hold for an account, and below which room to ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Provision {
    /// To be asked for.
    pub(super) ask_micros: i64,
    /// The least that is of use.
    pub(super) least_micros: i64,
    /// Ask when less than this is left: half of it may go while the question is under way.
    pub(super) below_micros: i64,
    /// Join when others ask and less than this is left: one call for many accounts.
    pub(super) join_micros: i64,
}

/// The provision for an account that spends so much in the time that a hold should serve, and is
/// asked for prices from the smallest to the largest.
pub(super) fn provision(
    horizon_spend: i64,
    (least_price, most_price): (i64, i64),
    floor_micros: i64,
) -> Provision {
    let price = most_price.max(1);
    let ask_micros = horizon_spend
        .max(floor_micros)
        .max(price.saturating_mul(16))
        .clamp(1, 1_000_000_000_000_000);
    Provision {
        ask_micros,
        least_micros: least_price.clamp(1, ask_micros),
        below_micros: (ask_micros / 2).max(price),
        join_micros: (ask_micros / 5 * 4).max(price),
    }
}
