//! Changes of a figure: R-139..R-147, R-156, R-204, R-208.

use chrono::{DateTime, TimeDelta, Utc};

use super::changes::{Began, Kind, Refusal, Request, change, replay, restart};
use super::policy::{Figure, Level, PaymentModel, Preset, Unit};
use super::tests_support::*;
use super::week::Bound;
use adspend_common::money::Money;
use adspend_common::time::Day;

fn too_many(resets_at: DateTime<Utc>) -> Refusal {
    Refusal::TooManyChanges { limit: 3, resets_at }
}

#[test]
fn r139_the_fourth_change_of_a_day_is_refused_until_midnight() {
    let mut entity = Entity::under(Some(daily(10_000)));
    for (figure, left) in [(11_000, 2), (12_000, 1), (13_000, 0)] {
        assert_eq!(entity.set(daily(figure)).changes_left, left);
    }
    let before = entity.state;
    for request in [Request::Set(daily(14_000)), Request::Set(daily(9_000)), Request::Remove] {
        assert_eq!(entity.ask(request), Err(too_many(day(1).start())));
    }
    assert_eq!(entity.state, before);
    entity.go_to(day(1));
    assert_eq!(entity.set(daily(14_000)).changes_left, 2);
}

#[test]
fn r139_set_and_remove_count_and_a_no_op_does_not() {
    let mut entity = Entity::under(None);
    assert_eq!(entity.ask(Request::Remove), Err(Refusal::NoChange));
    assert_eq!(entity.set(daily(10_000)).changes_left, 2);
    assert_eq!(entity.ask(Request::Set(daily(10_000))), Err(Refusal::NoChange));
    assert_eq!(entity.set(daily(8_000)).changes_left, 1);
    assert_eq!(entity.ask(Request::Set(daily(8_000))), Err(Refusal::NoChange));
    assert_eq!(entity.ask(Request::Remove).unwrap().changes_left, 0);
    assert_eq!(entity.ask(Request::Remove), Err(Refusal::NoChange));
    assert_eq!(entity.ask(Request::Set(daily(8_000))), Err(too_many(day(1).start())));
}

#[test]
fn r139_asking_for_nothing_new_is_no_change_even_when_the_changes_are_used_up() {
    let mut entity = Entity::under(Some(daily(10_000)));
    for figure in [11_000, 12_000, 9_000] {
        entity.set(daily(figure));
    }
    assert_eq!(entity.ask(Request::Set(daily(9_000))), Err(Refusal::NoChange));
    // Taking the decrease back would change something, so it is the fourth.
    assert_eq!(entity.ask(Request::Set(daily(12_000))), Err(too_many(day(1).start())));
}

#[test]
fn r140_and_r141_say_from_which_day_a_change_holds() {
    let mut entity = Entity::under(None);
    for (request, kind, effective) in [
        (Request::Set(daily(10_000)), Kind::Set, day(0)),
        (Request::Set(daily(8_000)), Kind::Decrease, day(1)),
        (Request::Remove, Kind::Remove, day(0)),
    ] {
        let event = entity.ask(request).unwrap().event;
        assert_eq!((event.kind, event.day, event.effective_day), (kind, day(0), effective));
    }
    entity.go_to(day(1));
    for (request, kind, effective) in [
        (Request::Set(daily(10_000)), Kind::Set, day(1)),
        (Request::Set(daily(8_000)), Kind::Decrease, day(2)),
        (Request::Set(daily(12_000)), Kind::Increase, day(1)),
    ] {
        let event = entity.ask(request).unwrap().event;
        assert_eq!((event.kind, event.day, event.effective_day), (kind, day(1), effective));
    }
}

#[test]
fn r142_a_decrease_leaves_its_own_day_alone() {
    let mut entity = Entity::under(Some(daily(15_000)));
    entity.go_to(day(2));
    let before = (entity.limit_and_bound(), entity.state.segment);
    entity.set(daily(10_000));
    assert_eq!((entity.limit_and_bound(), entity.state.segment), before);
    entity.go_to(day(3));
    assert_eq!(entity.state.in_force, Some(daily(10_000)));
    assert_eq!((entity.state.segment.start, entity.state.segment.began), (day(3), Began::Decrease));
    assert_eq!(entity.state.pending, None);
}

#[test]
fn r144_what_the_day_spent_before_an_increase_counts_into_the_new_segment() {
    let mut entity = Entity::under(Some(daily(10_000)));
    entity.go_to(day(5));
    entity.spend_up_to(13_000);
    entity.set(daily(11_000));
    // Two days of 11 000, less Saturday's 13 000; the tail alone would give 11 000.
    entity.go_to(day(6));
    assert_eq!(entity.limit_and_bound(), (Some(units(9_000)), Bound::WeekPot));
}

#[test]
fn r145_a_later_change_replaces_a_pending_decrease() {
    let mut entity = Entity::under(Some(daily(15_000)));
    entity.set(daily(10_000));
    assert_eq!(entity.set(daily(12_000)).event.kind, Kind::Decrease);
    assert_eq!(entity.state.pending.unwrap().figure, daily(12_000));
    assert_eq!(entity.set(daily(16_000)).event.kind, Kind::Increase);
    assert_eq!(entity.state.pending, None);
    entity.go_to(day(1));
    assert_eq!(entity.state.in_force, Some(daily(16_000)));
}

#[test]
fn r145_taking_a_decrease_back_restores_the_segment_and_is_counted() {
    let mut entity = Entity::under(Some(daily(10_000)));
    entity.go_to(day(2));
    let before = entity.state;
    entity.set(daily(8_000));
    let outcome = entity.set(daily(10_000));
    assert_eq!((outcome.event.kind, outcome.changes_left), (Kind::TakeBack, 1));
    assert_eq!(entity.state.segment, before.segment);
    entity.go_to(day(3));
    assert_eq!(entity.state, before.roll(day(3)));
}

#[test]
fn r145_the_days_cap_is_that_of_its_highest_figure_even_after_a_removal() {
    let mut entity = Entity::under(Some(daily(10_000)));
    entity.go_to(day(1));
    entity.ask(Request::Remove).unwrap();
    assert_eq!(entity.limit_and_bound(), (None, Bound::NoLimit));
    entity.set(daily(5_000));
    // 13 000 of Tuesday's earlier figure, within six days of 5 000.
    assert_eq!(entity.limit_and_bound(), (Some(units(13_000)), Bound::DayCap));
    entity.go_to(day(2));
    assert_eq!(entity.limit(), Some(units(6_500)));
}

#[test]
fn r146_a_decrease_on_sunday_meets_a_whole_new_week() {
    let mut entity = Entity::under(Some(daily(10_000)));
    entity.go_to(day(6));
    entity.set(daily(8_000));
    entity.go_to(day(7));
    assert_eq!((entity.state.segment.start, entity.limit()), (day(7), Some(units(10_400))));
    let mut week = 0;
    for index in 7..14 {
        entity.go_to(day(index));
        week += entity.spend_up_to(PLENTY);
    }
    assert_eq!(week, units(56_000));
}

#[test]
fn r147_a_set_after_a_removal_begins_a_segment_on_its_day() {
    let mut entity = Entity::under(Some(daily(10_000)));
    entity.go_to(day(1));
    entity.ask(Request::Remove).unwrap();
    entity.go_to(day(4));
    assert_eq!(entity.limit(), None);
    entity.spend(units(50_000));
    entity.set(daily(1_000));
    // More is spent than a day allows: nothing is left of Friday, and of the segment's pot.
    assert_eq!(entity.limit(), Some(units(1_300)));
    assert_eq!(entity.ceiling().remaining(entity.spent_today()), Some(0));
    entity.go_to(day(5));
    assert_eq!(entity.limit(), Some(0));
    assert_eq!(entity.ceiling().next_release, Some(day(7).start()));
}

#[test]
fn r208_a_change_belongs_to_the_moscow_day_of_its_instant() {
    let last: DateTime<Utc> = "2025-03-31T20:59:59.999Z".parse().unwrap();
    let first: DateTime<Utc> = "2025-03-31T21:00:00Z".parse().unwrap();
    assert_eq!((Day::of(last), Day::of(first)), (day(0), day(1)));
    for (now, on) in [(last, day(0)), (first, day(1))] {
        let mut entity = Entity::under(Some(daily(10_000)));
        let event = entity.ask_at(now, Request::Set(daily(8_000))).unwrap().event;
        assert_eq!((event.at, event.day, event.effective_day), (now, on, on.next()));
        let state = entity.state.roll(day(1));
        assert_eq!(state.in_force, Some(daily(if on == day(0) { 8_000 } else { 10_000 })));
    }
    // Three before midnight leave three after it.
    let mut entity = Entity::under(Some(daily(10_000)));
    for figure in [11_000, 12_000, 13_000] {
        entity.ask_at(last, Request::Set(daily(figure))).unwrap();
    }
    assert_eq!(entity.ask_at(last, Request::Remove), Err(too_many(first)));
    assert_eq!(entity.ask_at(first, Request::Remove).unwrap().changes_left, 2);
}

#[test]
fn a_clock_that_is_behind_does_not_turn_the_day_back() {
    let mut entity = Entity::under(Some(daily(10_000)));
    entity.go_to(day(2));
    let event = entity
        .ask_at(day(2).start() - TimeDelta::milliseconds(1), Request::Set(daily(8_000)))
        .unwrap()
        .event;
    assert_eq!((event.day, event.effective_day), (day(2), day(3)));
    assert_eq!(entity.state.roll(day(1)), entity.state);
}

#[test]
fn r204_and_r132_sums_are_whole_kopecks_and_not_too_small() {
    let state = Entity::under(None).state;
    let ask = |amount_micros| {
        let amount = Money::from_micros(amount_micros).unwrap();
        let figure =
            Figure::new(Level::Account, Unit::AverageDaily, amount, Preset::YandexAvgDaily);
        change(&state, noon(day(0)), Request::Set(figure), money(1_000)).map(|_| ())
    };
    let step = Money::from_micros(10_000).unwrap();
    assert_eq!(ask(1_000_000_000), Ok(()));
    assert_eq!(ask(1_000_010_000), Ok(()));
    assert_eq!(ask(1_000_005_000), Err(Refusal::StepMismatch { step }));
    assert_eq!(ask(999_990_000), Err(Refusal::BelowMinimum { minimum: money(1_000) }));
    assert_eq!(ask(0), Err(Refusal::BelowMinimum { minimum: money(1_000) }));
}

#[test]
fn r150_a_week_that_means_the_same_average_is_no_change() {
    let mut entity = Entity::under(Some(daily(10_000)));
    let week = Figure::new(Level::Account, Unit::Weekly, money(70_000), Preset::YandexAvgDaily);
    assert_eq!(entity.ask(Request::Set(week)), Err(Refusal::NoChange));
}

#[test]
fn r156_a_new_payment_model_restarts_the_week_and_is_not_counted() {
    let mut entity = Entity::under(Some(weekly(7_000)));
    for index in 0..4 {
        entity.go_to(day(index));
        entity.spend_up_to(2_000);
    }
    assert_eq!(entity.limit(), Some(units(1_000)));
    let outcome = restart(&entity.state, noon(day(3))).unwrap();
    assert_eq!((outcome.event.kind, outcome.changes_left), (Kind::Restart, 3));
    entity.state = outcome.state;
    // The day of a restart: 35 % of the old week and 35 % of the new one.
    assert_eq!(entity.limit(), Some(units(4_900)));
    entity.terms.payment = PaymentModel::PerConversion;
    assert_eq!(entity.limit(), Some(units(7_000)));
    assert_eq!(restart(&Entity::under(Some(daily(1_000))).state, noon(day(3))), None);
    assert_eq!(restart(&Entity::under(None).state, noon(day(3))), None);
}

#[test]
fn a_change_of_preset_is_a_set_and_the_day_keeps_the_higher_cap() {
    let mut entity = Entity::under(Some(daily(1_000)));
    entity.go_to(day(1));
    let event = entity.set(weekly(700)).event;
    assert_eq!((event.kind, event.effective_day), (Kind::Set, day(1)));
    // 1 300 of the daily figure, within the 700 of the week.
    assert_eq!(entity.limit_and_bound(), (Some(units(700)), Bound::WeekPot));
    let event = entity.set(daily(500)).event;
    assert_eq!((event.kind, event.effective_day), (Kind::Set, day(1)));
    assert_eq!(entity.limit(), Some(units(1_300)));
    entity.go_to(day(2));
    assert_eq!(entity.limit(), Some(units(650)));
}

#[test]
fn r149_a_daily_figure_with_pay_per_conversion_warns() {
    assert!(daily(1_000).warns_for(PaymentModel::PerConversion));
    assert!(strict(1_000).warns_for(PaymentModel::PerConversion));
    assert!(!weekly(1_000).warns_for(PaymentModel::PerConversion));
    assert!(!daily(1_000).warns_for(PaymentModel::PerClick));
}

#[test]
fn the_log_alone_gives_the_state() {
    let mut entity = Entity::under(Some(daily(10_000)));
    for (index, figure) in [(1, 8_000), (1, 12_000), (3, 7_000), (9, 9_000), (9, 6_000)] {
        entity.go_to(day(index));
        entity.set(daily(figure));
        assert_eq!(replay(day(-9), &entity.log, entity.today), entity.state);
    }
    assert_eq!(replay(day(-9), &entity.log, day(10)), entity.state.roll(day(10)));
}

#[test]
fn stored_names_are_read_back() {
    for began in [Began::Monday, Began::SetOrIncrease, Began::Decrease] {
        assert_eq!(Began::parse(began.as_str()), Some(began));
    }
    for kind in
        [Kind::Set, Kind::Increase, Kind::Decrease, Kind::TakeBack, Kind::Remove, Kind::Restart]
    {
        assert_eq!(Kind::parse(kind.as_str()), Some(kind));
    }
    for preset in [Preset::YandexAvgDaily, Preset::YandexWeekly, Preset::Strict] {
        assert_eq!(Preset::parse(preset.as_str()), Some(preset));
    }
    for unit in [Unit::AverageDaily, Unit::Weekly] {
        assert_eq!(Unit::parse(unit.as_str()), Some(unit));
    }
    assert_eq!(Preset::parse("google"), None);
}
