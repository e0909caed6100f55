//! Changing a figure, and what a passing day does to it (R-139..R-147, R-156).
//!
//! The state is small and `Copy`, one row per entity. It is enough to compute every later limit;
//! the log of events is for people and for [`replay`], which proves the state.

use adspend_common::money::Money;
use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use super::policy::{BUDGET_STEP_MICROS, Figure, MAX_CHANGES_PER_DAY, PeriodRule, Takes};

/// Everything the limits of an entity follow from, as of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetState {
    /// The figure that limits now; `None` is no limit.
    pub in_force: Option<Figure>,
    /// The run of days to Sunday that the figure in force is averaged over.
    pub segment: Segment,
    /// What the earlier changes of one day leave behind until its midnight.
    pub today: Marks,
    /// A decrease that waits for its day.
    pub pending: Option<Pending>,
}

/// A run of days to Sunday under one figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Its first day, from 00:00: what that day spent before the change counts.
    pub start: Day,
    /// Why it began.
    pub began: Began,
}

/// Why a segment began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Began {
    /// A week began.
    Monday,
    /// A set, an increase or a restart took effect.
    SetOrIncrease,
    /// A decrease took effect.
    Decrease,
}

impl Began {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Monday => "MONDAY",
            Self::SetOrIncrease => "SET_OR_INCREASE",
            Self::Decrease => "DECREASE",
        }
    }

    /// The reason of a stored name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Monday, Self::SetOrIncrease, Self::Decrease]
            .into_iter()
            .find(|began| began.as_str() == text)
    }
}

/// What a day remembers of its own earlier changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// The day.
    pub day: Day,
    /// Changes of the figure so far.
    pub changes: u8,
    /// The highest daily figure that was in force earlier on this day and was replaced.
    pub daily_high_micros: i64,
    /// The same for weekly figures: the "old" of R-156.
    pub weekly_old_micros: i64,
}

impl Marks {
    const fn clean(day: Day) -> Self {
        Self { day, changes: 0, daily_high_micros: 0, weekly_old_micros: 0 }
    }

    /// Remembers a figure that was in force on this day and no longer is.
    fn keep(&mut self, replaced: Option<Figure>) {
        let Some(figure) = replaced else { return };
        let mark = match figure.preset.policy().period {
            PeriodRule::WeekRestart => &mut self.weekly_old_micros,
            PeriodRule::WeekSegments | PeriodRule::None => &mut self.daily_high_micros,
        };
        *mark = (*mark).max(figure.basis_micros());
    }
}

/// A decrease that waits for its day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// The figure to come.
    pub figure: Figure,
    /// The first day under it.
    pub from_day: Day,
}

impl BudgetState {
    /// An entity without a figure.
    pub fn new(day: Day) -> Self {
        Self {
            in_force: None,
            segment: Segment { start: day.week_start(), began: Began::Monday },
            today: Marks::clean(day),
            pending: None,
        }
    }

    /// The same budget on a later day: a pending decrease takes effect on its day, a Monday
    /// begins a new segment, a new day has its changes before it. An earlier or the same
    /// day changes nothing, so a late caller cannot turn time back.
    #[must_use]
    pub fn roll(mut self, day: Day) -> Self {
        if day <= self.today.day {
            return self;
        }
        if let Some(pending) = self.pending.filter(|pending| pending.from_day <= day) {
            self.in_force = Some(pending.figure);
            self.segment = Segment { start: pending.from_day, began: Began::Decrease };
            self.pending = None;
        }
        let monday = day.week_start();
        if self.segment.start < monday {
            self.segment = Segment { start: monday, began: Began::Monday };
        }
        self.today = Marks::clean(day);
        self
    }

    /// How many changes the day of this state still allows.
    pub const fn changes_left(&self) -> u8 {
        MAX_CHANGES_PER_DAY.saturating_sub(self.today.changes)
    }
}

/// What somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// This figure: a set, an increase, a decrease or a change of mind, as the state decides.
    Set(Figure),
    /// No limit.
    Remove,
}

/// What a request turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A figure where there was none, or one of another preset; at once.
    Set,
    /// A higher figure; at once.
    Increase,
    /// A lower figure; when its preset says.
    Decrease,
    /// The figure in force again: the pending decrease is dropped.
    TakeBack,
    /// No figure; at once.
    Remove,
    /// The week starts anew under the same figure.
    Restart,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Set, Self::Increase, Self::Decrease, Self::TakeBack, Self::Remove, Self::Restart];

    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Increase => "INCREASE",
            Self::Decrease => "DECREASE",
            Self::TakeBack => "TAKE_BACK",
            Self::Remove => "REMOVE",
            Self::Restart => "RESTART",
        }
    }

    /// The kind of a stored name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One line of the change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When it was accepted.
    pub at: DateTime<Utc>,
    /// The Moscow day of `at`.
    pub day: Day,
    /// What it was.
    pub kind: Kind,
    /// The figure asked for; the figure in force for a restart; none for a removal.
    pub figure: Option<Figure>,
    /// The first day under it.
    pub effective_day: Day,
}

/// An accepted change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The state after it.
    pub state: BudgetState,
    /// Its line of the log.
    pub event: Event,
    /// Changes that the day still allows.
    pub changes_left: u8,
}

/// Why a request is refused. When several apply, the first in this order is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    ///
    #[error("a budget is a multiple of {step}")]
    StepMismatch {
        /// The step.
        step: Money,
    },
    ///
    #[error("a budget is at least {minimum}")]
    BelowMinimum {
        /// The minimum.
        minimum: Money,
    },
    /// The same figure in force and the same pending; it is not counted.
    #[error("the budget is this already")]
    NoChange,
    ///
    #[error("a budget changes at most {limit} times a day, again from {resets_at}")]
    TooManyChanges {
        /// The limit of a day.
        limit: u8,
        /// The next Moscow midnight.
        resets_at: DateTime<Utc>,
    },
}

/// Decides a request at `now`; `minimum` is [`super::policy::minimum`] for a figure.
///
/// A refusal leaves the budget as it was.
pub fn change(
    before: &BudgetState,
    now: DateTime<Utc>,
    request: Request,
    minimum: Money,
) -> Result<Outcome, Refusal> {
    let day = Day::of(now);
    let state = before.roll(day);
    let (kind, figure) = match request {
        Request::Set(figure) => {
            check_amount(figure.amount, minimum)?;
            (kind_of(&state, &figure).ok_or(Refusal::NoChange)?, Some(figure))
        }
        Request::Remove if state.in_force.is_some() => (Kind::Remove, None),
        Request::Remove => return Err(Refusal::NoChange),
    };
    if state.changes_left() == 0 {
        let resets_at = state.today.day.next().start();
        return Err(Refusal::TooManyChanges { limit: MAX_CHANGES_PER_DAY, resets_at });
    }
    Ok(accept(state, now, kind, figure))
}

/// Restarts the spend of the week: the payment model changed, or the start date moved to the
/// future. Not a change of the sum, so not counted; `None` when the figure in force, if
/// any, does not restart.
pub fn restart(before: &BudgetState, now: DateTime<Utc>) -> Option<Outcome> {
    let state = before.roll(Day::of(now));
    let figure = state.in_force?;
    let restarts = figure.preset.policy().period == PeriodRule::WeekRestart;
    restarts.then(|| accept(state, now, Kind::Restart, Some(figure)))
}

/// The state on `day` from the log alone; `first_day` is any day not after the first event.
pub fn replay(first_day: Day, log: &[Event], day: Day) -> BudgetState {
    let mut state = BudgetState::new(first_day);
    for event in log {
        state = apply(state.roll(event.day), event.kind, event.figure);
    }
    state.roll(day)
}

fn check_amount(amount: Money, minimum: Money) -> Result<(), Refusal> {
    if amount.micros() % BUDGET_STEP_MICROS != 0 {
        let step = Money::from_micros(BUDGET_STEP_MICROS).unwrap_or(Money::ZERO);
        return Err(Refusal::StepMismatch { step });
    }
    if amount < minimum || amount.is_zero() {
        return Err(Refusal::BelowMinimum { minimum });
    }
    Ok(())
}

/// What asking for this figure means; `None` when it means nothing.
fn kind_of(state: &BudgetState, asked: &Figure) -> Option<Kind> {
    let Some(in_force) = &state.in_force else { return Some(Kind::Set) };
    if in_force.limits_like(asked) {
        return state.pending.is_some().then_some(Kind::TakeBack);
    }
    if state.pending.is_some_and(|pending| pending.figure.limits_like(asked)) {
        return None;
    }
    // Sums of two presets do not compare; a change of preset is a set (INFERRED).
    if in_force.preset != asked.preset {
        return Some(Kind::Set);
    }
    let grows = asked.basis_micros() > in_force.basis_micros();
    Some(if grows { Kind::Increase } else { Kind::Decrease })
}

fn accept(state: BudgetState, now: DateTime<Utc>, kind: Kind, figure: Option<Figure>) -> Outcome {
    let day = state.today.day;
    let state = apply(state, kind, figure);
    let effective_day = match state.pending {
        Some(pending) if kind == Kind::Decrease => pending.from_day,
        Some(_) | None => day,
    };
    let event = Event { at: now, day, kind, figure, effective_day };
    Outcome { state, event, changes_left: state.changes_left() }
}

/// What an accepted change makes of the state of its day.
fn apply(mut state: BudgetState, kind: Kind, figure: Option<Figure>) -> BudgetState {
    let day = state.today.day;
    match (kind, figure) {
        (Kind::Decrease, Some(figure)) if figure.preset.policy().decrease == Takes::NextDay => {
            state.pending = Some(Pending { figure, from_day: day.next() });
        }
        (Kind::TakeBack, _) => state.pending = None,
        (Kind::Set | Kind::Increase | Kind::Decrease | Kind::Restart | Kind::Remove, figure) => {
            state.today.keep(state.in_force);
            state.in_force = figure;
            state.pending = None;
            state.segment = Segment { start: day, began: Began::SetOrIncrease };
        }
    }
    match kind {
        Kind::Restart => {}
        Kind::Set | Kind::Increase | Kind::Decrease | Kind::TakeBack | Kind::Remove => {
            state.today.changes = state.today.changes.saturating_add(1);
        }
    }
    state
}
