//! Weekly figures of accounts and campaigns, minimums, the strict policy.

use adspend_common::money::Currency;

use super::changes::Request;
use super::policy::{Figure, Level, PaymentModel, Preset, Terms, Unit, minimum};
use super::tests_support::*;
use super::week::Bound;

#[test]
fn r150_a_weekly_account_figure_is_seven_days_of_a_seventh() {
    let weekly = |amount| Figure::new(Level::Account, Unit::Weekly, amount, Preset::YandexAvgDaily);
    let entity = Entity::under(Some(weekly(money(70_000))));
    assert_eq!(entity.limit(), Some(units(13_000)));
    // 10 000 / 7 = 1 428.571...
    let odd = weekly(money(10_000));
    assert_eq!((odd.daily_micros(), odd.weekly_micros()), (1_428_570_000, 9_999_990_000));
}

#[test]
fn r132_and_r155_minimums_are_those_of_the_table() {
    use {Level as L, Unit as U};
    for (level, unit, currency, least) in [
        (L::Account, U::AverageDaily, Currency::RUB, 1_000),
        (L::Account, U::Weekly, Currency::RUB, 7_000),
        (L::Account, U::AverageDaily, Currency::KZT, 5_000),
        (L::Account, U::AverageDaily, Currency::BYN, 30),
        (L::Account, U::AverageDaily, Currency::USD, 15),
        (L::Account, U::AverageDaily, Currency::EUR, 15),
        (L::Account, U::AverageDaily, Currency::CHF, 15),
        (L::Account, U::AverageDaily, Currency::TRY, 50),
        (L::Campaign, U::AverageDaily, Currency::RUB, 300),
        (L::Campaign, U::Weekly, Currency::RUB, 300),
        (L::Campaign, U::AverageDaily, Currency::USD, 10),
        (L::Campaign, U::AverageDaily, Currency::KZT, 5_000),
    ] {
        assert_eq!(minimum(level, unit, currency), money(least), "{level:?} {unit:?} {currency}");
    }
    assert_eq!(minimum(L::Account, U::AverageDaily, Currency::UZS).micros(), 10_000);
}

#[test]
fn r155_a_day_takes_a_share_of_the_week_by_scheduled_days() {
    for (scheduled_days, share) in
        [(0, 3_500), (1, 10_000), (2, 5_000), (3, 3_500), (6, 3_500), (7, 3_500)]
    {
        let mut entity = Entity::under(Some(weekly(10_000)));
        entity.terms = Terms { scheduled_days, payment: PaymentModel::PerClick };
        assert_eq!(entity.limit(), Some(units(share)), "{scheduled_days} days");
    }
    let mut entity = Entity::under(Some(weekly(10_000)));
    for (index, allowed) in [3_500, 3_500, 3_000, 0, 0, 0, 0].into_iter().enumerate() {
        entity.go_to(day(i32::try_from(index).unwrap()));
        assert_eq!(entity.spend_up_to(PLENTY), units(allowed));
    }
    assert_eq!(entity.limit_and_bound().1, Bound::WeekPot);
}

#[test]
fn r156_a_change_on_thursday_restarts_the_week() {
    let mut entity = Entity::under(Some(weekly(7_000)));
    for index in 0..3 {
        entity.go_to(day(index));
        entity.spend_up_to(1_000);
    }
    entity.go_to(day(3));
    // Mon to Thu spent 4 000, the last thousand before the change.
    entity.spend_up_to(1_000);
    let outcome = entity.set(weekly(5_000));
    assert_eq!(outcome.event.effective_day, day(3));
    // 35 % of 7 000 and 35 % of 5 000.
    assert_eq!(entity.limit_and_bound(), (Some(units(4_200)), Bound::DayCap));
    let mut rest = entity.spend_up_to(PLENTY);
    assert_eq!(rest, units(4_200));
    for index in 4..7 {
        entity.go_to(day(index));
        rest += entity.spend_up_to(PLENTY);
    }
    assert_eq!(rest, units(5_000));
    entity.go_to(day(7));
    assert_eq!(entity.limit(), Some(units(5_000) * 35 / 100));
}

#[test]
fn r156_a_conversion_paid_day_of_change_takes_the_old_week_and_the_new_one() {
    let mut entity = Entity::under(Some(weekly(7_000)));
    entity.terms.payment = PaymentModel::PerConversion;
    entity.go_to(day(3));
    entity.set(weekly(5_000));
    // 100 % and 100 % is 12 000, but Thursday to Sunday together are 5 000.
    assert_eq!(entity.limit_and_bound(), (Some(units(5_000)), Bound::WeekPot));
    entity.go_to(day(4));
    assert_eq!(entity.limit_and_bound(), (Some(units(1_750)), Bound::DayCap));
}

#[test]
fn strict_takes_the_figure_each_day_and_knows_no_week() {
    let mut entity = Entity::under(Some(strict(1_000)));
    for index in 0..7 {
        entity.go_to(day(index));
        assert_eq!(entity.spend_up_to(PLENTY), units(1_000));
    }
    entity.ask(Request::Set(strict(600))).unwrap();
    assert_eq!(entity.limit_and_bound(), (Some(units(600)), Bound::DayCap));
    assert_eq!(entity.ceiling().remaining(entity.spent_today()), Some(0));
}
