//! What this folder adds to the calendar's rules: the currency, the mode, the dates of figures, the
//! warnings.

use adspend_common::id::AccountId;
use adspend_common::money::{Currency, Money};
use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use super::rules::{Usage, decide, view};
use super::{Dated, Entity, Error, Limits, Mode, Owner, Parent, Warning, Wish};
use crate::accounts::AccountNo;
use crate::calendar::changes::{Kind, Refusal};
use crate::calendar::policy::{Preset, Terms, Unit};
use crate::campaigns::CampaignNo;
use crate::tests_support::at;

const WEDNESDAY: &str = "2025-06-11T12:00:00+03:00";
const THURSDAY: &str = "2025-06-12T00:00:00+03:00";

fn owner(entity: Entity) -> Owner {
    let parent = Parent::Account(AccountId::parse("shop").unwrap());
    Owner { parent, entity, currency: Currency::RUB }
}

fn account() -> Owner {
    owner(Entity::account(AccountNo(1)))
}

fn campaign() -> Owner {
    owner(Entity::campaign(AccountNo(1), CampaignNo(1)))
}

fn set(units: u32, unit: Unit, mode: Option<Mode>) -> Wish {
    Wish::Set { amount: Money::from_units(units), currency: Currency::RUB, unit, mode }
}

fn daily(units: u32) -> Wish {
    set(units, Unit::AverageDaily, None)
}

fn day(text: &str) -> Day {
    Day::of(at(text))
}

fn none() -> Limits {
    Limits::none(day(WEDNESDAY), Terms::UNSCHEDULED)
}

fn after(before: &Limits, owner: &Owner, now: DateTime<Utc>, wish: Wish) -> Limits {
    decide(before, now, owner, wish, Preset::YandexAvgDaily).unwrap().limits
}

#[test]
fn an_amount_in_another_currency_is_refused() {
    let wish = Wish::Set {
        amount: Money::from_units(10_000),
        currency: Currency::USD,
        unit: Unit::AverageDaily,
        mode: None,
    };
    let refused = decide(&none(), at(WEDNESDAY), &account(), wish, Preset::YandexAvgDaily);
    let expected = (Currency::USD, Currency::RUB);
    let Err(Error::Currency { asked, account }) = refused else { panic!("{refused:?}") };
    assert_eq!((asked, account), expected);
}

#[test]
fn figures_are_dated_by_the_day_they_came_into_force() {
    let now = at(WEDNESDAY);
    let first = after(&none(), &account(), now, daily(15_000));
    assert_eq!(first.in_force_day, Some(day(WEDNESDAY)), "a set counts at once");

    let lower = after(&first, &account(), now, daily(10_000));
    assert_eq!(lower.in_force_day, Some(day(WEDNESDAY)), "the old figure goes on");
    assert_eq!(lower.state.pending.unwrap().from_day, day(THURSDAY));
    assert_eq!(lower.roll(day(THURSDAY)).in_force_day, Some(day(THURSDAY)));
    assert_eq!(lower.roll(day(WEDNESDAY)), lower, "the same day changes nothing");

    let back = after(&lower, &account(), now, daily(15_000));
    assert_eq!((back.in_force_day, back.state.pending), (Some(day(WEDNESDAY)), None));

    let later = lower.roll(day(THURSDAY).plus_days(20));
    let higher = after(&later, &account(), later.state.today.day.start(), daily(12_000));
    assert_eq!(higher.in_force_day, Some(day(THURSDAY).plus_days(20)));
    let removed = after(&higher, &account(), later.state.today.day.start(), Wish::Remove);
    assert_eq!((removed.in_force_day, removed.state.in_force), (None, None));
}

#[test]
fn the_log_names_the_figure_that_was_in_force_on_the_day_of_the_change() {
    let first = after(&none(), &account(), at(WEDNESDAY), daily(15_000));
    let lower = after(&first, &account(), at(WEDNESDAY), daily(10_000));
    let decided = decide(&lower, at(THURSDAY), &account(), daily(20_000), Preset::YandexAvgDaily);
    let (event, previous) = decided.unwrap().logged.unwrap();
    let Dated { figure, from_day } = previous.unwrap();
    assert_eq!(event.kind, Kind::Increase, "the decrease took effect at midnight");
    assert_eq!((figure.amount, from_day), (Money::from_units(10_000), day(THURSDAY)));
}

#[test]
fn the_mode_changes_alone_and_is_not_counted() {
    let now = at(WEDNESDAY);
    let first = after(&none(), &account(), now, daily(15_000));
    assert_eq!(first.mode, Mode::Traffic);
    let wish = set(15_000, Unit::AverageDaily, Some(Mode::Even));
    let decided = decide(&first, now, &account(), wish, Preset::YandexAvgDaily).unwrap();
    assert_eq!((decided.limits.mode, decided.logged), (Mode::Even, None));
    assert_eq!(decided.limits.state, first.state);

    let kept = after(&decided.limits, &account(), now, daily(16_000));
    assert_eq!(kept.mode, Mode::Even, "a mode that is not said stays");
    let again = decide(&kept, now, &account(), daily(16_000), Preset::YandexAvgDaily);
    let Err(Error::Rule { refusal, at: when }) = again else { panic!("{again:?}") };
    assert_eq!((refusal, when), (Refusal::NoChange, now));
}

#[test]
fn the_policy_of_a_figure_follows_its_level_and_unit() {
    let now = at(WEDNESDAY);
    for (name, owner, unit, configured, preset) in [
        ("daily", account(), Unit::AverageDaily, Preset::YandexAvgDaily, Preset::YandexAvgDaily),
        (
            "weekly of an account",
            account(),
            Unit::Weekly,
            Preset::YandexAvgDaily,
            Preset::YandexAvgDaily,
        ),
        (
            "weekly of a campaign",
            campaign(),
            Unit::Weekly,
            Preset::YandexAvgDaily,
            Preset::YandexWeekly,
        ),
        ("strict", campaign(), Unit::AverageDaily, Preset::Strict, Preset::Strict),
        ("weekly under strict", campaign(), Unit::Weekly, Preset::Strict, Preset::YandexWeekly),
    ] {
        let decided = decide(&none(), now, &owner, set(70_000, unit, None), configured).unwrap();
        assert_eq!(decided.limits.state.in_force.unwrap().preset, preset, "{name}");
    }
}

///
#[test]
fn warning_table() {
    for (name, owner, wish, conversions, warned) in [
        ("daily, clicks", account(), daily(10_000), false, false),
        ("daily, conversions", account(), daily(10_000), true, true),
        ("weekly of an account", account(), set(70_000, Unit::Weekly, None), true, true),
        ("daily of a campaign", campaign(), daily(10_000), true, true),
        ("weekly of a campaign", campaign(), set(70_000, Unit::Weekly, None), true, false),
    ] {
        let limits = after(&none(), &owner, at(WEDNESDAY), wish);
        let usage = Usage { week: [0; 7], pays_per_conversion: conversions };
        let warnings = view(&owner, &limits, at(WEDNESDAY), &usage).warnings;
        let expected: &[Warning] =
            if warned { &[Warning::DailyFigureWithConversions] } else { &[] };
        assert_eq!(warnings, expected, "{name}");
    }
}

#[test]
fn the_ceilings_run_from_today_to_sunday_with_what_is_used() {
    let monday = at("2025-06-09T10:00:00+03:00");
    let before = Limits::none(Day::of(monday), Terms::UNSCHEDULED);
    let limits = after(&before, &account(), monday, daily(10_000));
    let week = [13_000_000_000, 2_000_000_000, 1_000_000_000, 0, 0, 0, 0];
    let usage = Usage { week, pays_per_conversion: false };
    let now = at(WEDNESDAY);
    let budget = view(&account(), &limits.roll(Day::of(now)), now, &usage);
    let days: Vec<Day> = budget.ceilings.iter().map(|ceiling| ceiling.day).collect();
    assert_eq!(days, (0..5).map(|ahead| day(WEDNESDAY).plus_days(ahead)).collect::<Vec<_>>());
    assert_eq!(budget.ceilings[0].used, Money::from_units(1_000));
    assert_eq!(budget.ceilings[0].limit, Some(Money::from_units(13_000)));
    assert_eq!(budget.ceilings[1].used, Money::ZERO);
    assert_eq!((budget.changes_today, budget.changes_left), (0, 3), "Monday's change is over");
}
