//! Laws of the week limits: true whatever is asked and spent, in any order.

use proptest::collection::vec;
use proptest::prelude::*;

use super::changes::{Began, BudgetState, Kind, Request};
use super::policy::{Figure, PeriodRule};
use super::tests_support::*;
use super::week::{WeekSpent, ceiling, limit, remaining_days};

/// One step of a story.
#[derive(Debug, Clone, Copy)]
enum Step {
    Ask(Request),
    /// This share of what the day has left, in percent.
    Spend(i64),
    Pass(i32),
}

fn any_figure() -> impl Strategy<Value = Figure> {
    (1..60_i64, 0..4_u8).prop_map(|(size, preset)| match preset {
        0 | 1 => daily(size * 100),
        2 => weekly(size * 500),
        _ => strict(size * 100),
    })
}

fn any_step(figure: impl Strategy<Value = Figure>) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => figure.prop_map(|figure| Step::Ask(Request::Set(figure))),
        1 => Just(Step::Ask(Request::Remove)),
        4 => (0..=100_i64).prop_map(Step::Spend),
        2 => Just(Step::Spend(100)),
        4 => (1..4_i32).prop_map(Step::Pass),
    ]
}

fn only_daily() -> impl Strategy<Value = Figure> {
    (1..60_i64).prop_map(|size| daily(size * 100))
}

/// Any state, with the week it has spent and its day.
fn any_entity() -> impl Strategy<Value = Entity> {
    vec(any_step(any_figure()), 0..25).prop_map(|steps| {
        let mut entity = Entity::under(None);
        for step in steps {
            take(&mut entity, step);
        }
        entity
    })
}

fn take(entity: &mut Entity, step: Step) {
    match step {
        // A refusal is an answer too.
        Step::Ask(request) => drop(entity.ask(request)),
        Step::Spend(percent) => {
            let left = entity.ceiling().remaining(entity.spent_today()).unwrap_or(units(1_000));
            entity.spend(left / 100 * percent);
        }
        Step::Pass(days) => entity.go_to(entity.today.plus_days(days)),
    }
}

proptest! {
    /// a figure that stays is a cap of 1.3 for the day and of 7 for the week, and
    /// demand that is always there gets all of it.
    #[test]
    fn an_unchanged_week_takes_at_most_seven_days(
        kopecks in 1..10_000_000_i64,
        percents in prop::array::uniform7(0..=150_i64),
        greedy in any::<bool>(),
    ) {
        let amount = adspend_common::money::Money::from_micros(kopecks * 10_000).unwrap();
        let mut entity = Entity::under(Some(Figure { amount, ..daily(1) }));
        let b = kopecks * 10_000;
        let mut week = 0;
        for percent in percents {
            let wish = if greedy { b * 2 } else { b * percent / 100 };
            let h = entity.limit().unwrap();
            prop_assert!(h * 10 <= b * 13);
            entity.spend(wish.min(h));
            week += entity.spent_today();
            entity.go_to(entity.today.next());
        }
        prop_assert!(week <= 7 * b);
        // 1.3 kopecks are one kopeck, so the least figures cannot use up the week by day caps.
        if greedy && kopecks >= 10 {
            prop_assert_eq!(week, 7 * b);
        }
    }

    /// no order of changes gives a day more than 1.3 of its highest figure.
    #[test]
    fn a_day_never_exceeds_its_highest_figure_by_more_than_thirty_percent(
        steps in vec(any_step(only_daily()), 1..60),
    ) {
        let mut entity = Entity::under(None);
        let mut highest = 0;
        for step in steps {
            take(&mut entity, step);
            if let Step::Pass(_) = step {
                highest = 0;
            }
            let in_force = entity.state.in_force;
            highest = highest.max(in_force.map_or(0, |figure| figure.daily_micros()));
            if let Some(h) = entity.limit() {
                prop_assert!(h * 10 <= highest * 13, "{h} over {highest}");
            }
        }
    }

    /// what a segment spends within its ceilings is within its average, and so is
    /// what the days after a set or an increase spend. Only spend from before the segment's first
    /// figure can be above it, for nothing is clawed back.
    #[test]
    fn a_segment_never_exceeds_its_average(steps in vec(any_step(only_daily()), 1..60)) {
        let mut entity = Entity::under(None);
        let mut before = 0;
        for step in steps {
            let segment = entity.state.segment;
            take(&mut entity, step);
            if entity.state.segment != segment || matches!(step, Step::Ask(_)) {
                let start = usize::from(entity.state.segment.start.weekday0());
                before = entity.spent[start..].iter().sum();
            }
            let Some(figure) = entity.state.in_force else { continue };
            let start = usize::from(entity.state.segment.start.weekday0());
            let days = i64::try_from(7 - start).unwrap();
            let spent: i64 = entity.spent[start..].iter().sum();
            prop_assert!(spent <= before.max(figure.daily_micros() * days));
            if entity.state.segment.began == Began::SetOrIncrease && start > 0 {
                let after: i64 = entity.spent[start + 1..].iter().sum();
                prop_assert!(after <= figure.daily_micros() * (days - 1));
            }
        }
    }

    /// a decrease and its taking back leave the day's limit where it was.
    #[test]
    fn a_decrease_of_an_average_does_not_touch_its_day(
        entity in any_entity(),
        lower in 1..60_i64,
    ) {
        let mut after = entity.clone();
        if let Ok(outcome) = after.ask(Request::Set(daily(lower * 100)))
            && matches!(outcome.event.kind, Kind::Decrease | Kind::TakeBack)
        {
            prop_assert_eq!(after.limit_and_bound(), entity.limit_and_bound());
            prop_assert_eq!(after.state.segment, entity.state.segment);
        }
    }

    /// Days may pass one by one or all at once.
    #[test]
    fn rolling_in_steps_is_rolling_at_once(entity in any_entity(), gaps in vec(0..10_i32, 1..5)) {
        let (mut state, mut day) = (entity.state, entity.today);
        for gap in gaps {
            day = day.plus_days(gap);
            state = state.roll(day);
        }
        prop_assert_eq!(state, entity.state.roll(day));
        prop_assert_eq!(state.roll(day), state);
    }

    /// Spending more on one day never raises the limit of another, and a day's own spend does not
    /// move its limit.
    #[test]
    fn more_spend_never_means_a_higher_limit(
        entity in any_entity(),
        on in 0..7_usize,
        more in 1..units(10_000),
    ) {
        let mut dearer: WeekSpent = entity.spent;
        dearer[on] += more;
        let less = limit(&entity.state, entity.today, &dearer, entity.terms);
        let same = entity.limit_and_bound();
        prop_assert!(less.0 <= same.0);
        if on >= usize::from(entity.today.weekday0()) {
            prop_assert_eq!(less, same);
        }
    }

    /// The promised moment is the first at which anything may be spent.
    #[test]
    fn nothing_is_released_before_the_promised_midnight(entity in any_entity()) {
        let mut entity = entity;
        let promised = entity.ceiling().next_release;
        let Some(h) = entity.limit() else {
            prop_assert_eq!(promised, None);
            return Ok(());
        };
        entity.spend((h - entity.spent_today()).max(0));
        for _ in 0..8 {
            entity.go_to(entity.today.next());
            if entity.limit() != Some(0) {
                prop_assert_eq!(promised, Some(entity.today.start()));
                return Ok(());
            }
        }
        prop_assert!(false, "nothing is released in eight days");
    }

    /// The outlook's last column is what the days bring when each takes all it may.
    #[test]
    fn the_outlook_comes_true(entity in any_entity()) {
        let mut entity = entity;
        let outlook = remaining_days(&entity.state, entity.today, &entity.spent, entity.terms);
        prop_assert_eq!(outlook.len(), 7 - usize::from(entity.today.weekday0()));
        let spent = entity.spent;
        for foreseen in outlook {
            entity.go_to(foreseen.day);
            prop_assert_eq!(entity.limit(), foreseen.if_spent_fully_micros);
            let quiet = ceiling(&entity.state, foreseen.day, &spent, entity.terms);
            prop_assert_eq!(quiet, foreseen.ceiling);
            entity.spend((entity.limit().unwrap_or(0) - entity.spent_today()).max(0));
        }
    }

    /// A limit is never negative, and is absent exactly when no figure is in force.
    #[test]
    fn a_limit_is_absent_only_without_a_figure(entity in any_entity()) {
        let state: BudgetState = entity.state;
        prop_assert_eq!(entity.limit().is_none(), state.in_force.is_none());
        prop_assert!(entity.limit().is_none_or(|h| h >= 0));
        if let Some(pending) = state.pending {
            // Only averages wait for their day.
            prop_assert_eq!(pending.figure.preset.policy().period, PeriodRule::WeekSegments);
            prop_assert_eq!(pending.from_day, state.today.day.next());
        }
    }
}
