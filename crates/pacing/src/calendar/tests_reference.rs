//! The table "Week limits: the reference" and the worked figures of section 8, to the kopeck.

use adspend_common::money::Money;

use super::policy::{Figure, Level, Preset, Unit};
use super::tests_support::*;
use super::week::{Bound, WeekSpent, remaining_days};

/// A change on a day of the week, Monday = 0; they come before the day's spend.
type Asked<'a> = &'a [(i32, i64)];

struct Row {
    name: &'static str,
    before: Option<i64>,
    asked: Asked<'static>,
    demand: [i64; 7],
    days: [i64; 7],
    week: i64,
}

const ALL: [i64; 7] = [PLENTY; 7];

const ROWS: [Row; 13] = [
    Row {
        name: "10 000, no change",
        before: Some(10_000),
        asked: &[],
        demand: ALL,
        days: [13_000, 13_000, 13_000, 13_000, 13_000, 5_000, 0],
        week: 70_000,
    },
    Row {
        name: "10 000, uneven demand",
        before: Some(10_000),
        asked: &[],
        demand: [2_000, 3_000, 20_000, 20_000, 20_000, 20_000, 1_000],
        days: [2_000, 3_000, 13_000, 13_000, 13_000, 13_000, 1_000],
        week: 58_000,
    },
    Row {
        name: "Wed 15 000 → 10 000",
        before: Some(15_000),
        asked: &[(2, 10_000)],
        demand: ALL,
        days: [19_500, 19_500, 19_500, 13_000, 13_000, 13_000, 1_000],
        week: 98_500,
    },
    Row {
        name: "Wed 10 000 → 15 000",
        before: Some(10_000),
        asked: &[(2, 15_000)],
        demand: ALL,
        days: [13_000, 13_000, 19_500, 19_500, 19_500, 16_500, 0],
        week: 101_000,
    },
    Row {
        name: "Wed 10 000 → 15 000, no demand on Wed",
        before: Some(10_000),
        asked: &[(2, 15_000)],
        demand: [PLENTY, PLENTY, 0, PLENTY, PLENTY, PLENTY, PLENTY],
        days: [13_000, 13_000, 0, 19_500, 19_500, 19_500, 1_500],
        week: 86_000,
    },
    Row {
        name: "set 1 000 on Thu after 500 a day without a figure",
        before: None,
        asked: &[(3, 1_000)],
        demand: [500, 500, 500, PLENTY, PLENTY, PLENTY, PLENTY],
        days: [500, 500, 500, 1_300, 1_300, 1_300, 100],
        week: 5_500,
    },
    Row {
        name: "Sun 10 000 → 8 000",
        before: Some(10_000),
        asked: &[(6, 8_000)],
        demand: ALL,
        days: [13_000, 13_000, 13_000, 13_000, 13_000, 5_000, 0],
        week: 70_000,
    },
    Row {
        name: "Sun 10 000 → 15 000",
        before: Some(10_000),
        asked: &[(6, 15_000)],
        demand: ALL,
        days: [13_000, 13_000, 13_000, 13_000, 13_000, 5_000, 15_000],
        week: 85_000,
    },
    Row {
        name: "Mon 10 000 → 15 000",
        before: Some(10_000),
        asked: &[(0, 15_000)],
        demand: ALL,
        days: [19_500, 19_500, 19_500, 19_500, 19_500, 7_500, 0],
        week: 105_000,
    },
    Row {
        name: "Wed 10 000 → 8 000 → 10 000",
        before: Some(10_000),
        asked: &[(2, 8_000), (2, 10_000)],
        demand: ALL,
        days: [13_000, 13_000, 13_000, 13_000, 13_000, 5_000, 0],
        week: 70_000,
    },
    Row {
        name: "Wed 10 000 → 15 000 → 8 000",
        before: Some(10_000),
        asked: &[(2, 15_000), (2, 8_000)],
        demand: ALL,
        days: [13_000, 13_000, 19_500, 10_400, 10_400, 10_400, 800],
        week: 77_500,
    },
    Row {
        name: "Fri 10 000 → 5 000",
        before: Some(10_000),
        asked: &[(4, 5_000)],
        demand: ALL,
        days: [13_000, 13_000, 13_000, 13_000, 13_000, 6_500, 3_500],
        week: 75_000,
    },
    Row {
        name: "Tue 10 000 → 6 000, Thu → 9 000",
        before: Some(10_000),
        asked: &[(1, 6_000), (3, 9_000)],
        demand: ALL,
        days: [13_000, 13_000, 7_800, 11_700, 11_700, 11_700, 900],
        week: 69_800,
    },
];

/// Plays a week: each day its changes, then its spend.
fn play(mut entity: Entity, asked: Asked<'_>, demand: [i64; 7]) -> Entity {
    for index in 0..7 {
        entity.go_to(day(index));
        for (_, amount) in asked.iter().filter(|(on, _)| *on == index) {
            entity.set(daily(*amount));
        }
        entity.spend_up_to(demand[usize::try_from(index).unwrap()]);
    }
    entity
}

#[test]
fn week_limits_are_those_of_the_reference_table() {
    for row in &ROWS {
        let entity = play(Entity::under(row.before.map(daily)), row.asked, row.demand);
        assert_eq!(entity.spent, row.days.map(units), "{}", row.name);
        assert_eq!(entity.spent.iter().sum::<i64>(), units(row.week), "{}", row.name);
    }
}

#[test]
fn the_outlook_of_a_day_is_what_the_week_then_brings() {
    for row in ROWS.iter().filter(|row| row.demand == ALL) {
        let mut entity = Entity::under(row.before.map(daily));
        for index in 0..7_usize {
            entity.go_to(day(i32::try_from(index).unwrap()));
            for (_, amount) in row.asked.iter().filter(|(on, _)| *on as usize == index) {
                entity.set(daily(*amount));
            }
            let outlook = remaining_days(&entity.state, entity.today, &entity.spent, entity.terms);
            assert_eq!(outlook.len(), 7 - index);
            assert_eq!(outlook[0].ceiling, entity.ceiling(), "{}", row.name);
            if row.asked.iter().all(|(on, _)| *on as usize <= index) {
                let foreseen: Vec<_> =
                    outlook.iter().map(|day| day.if_spent_fully_micros.unwrap()).collect();
                assert_eq!(
                    foreseen,
                    row.days[index..].iter().map(|d| units(*d)).collect::<Vec<_>>()
                );
            }
            entity.spend_up_to(PLENTY);
        }
    }
}

#[test]
fn r133_a_day_takes_at_most_thirty_percent_more_rounded_down_to_kopecks() {
    for (figure, cap) in [(15_000_000_000, 19_500_000_000), (10_000_000_000, 13_000_000_000)] {
        assert_eq!(Entity::under(Some(micros(figure))).limit(), Some(cap));
    }
    // 1.3 × 1 000.01 = 1 300.013.
    let (limit, bound) = Entity::under(Some(micros(1_000_010_000))).limit_and_bound();
    assert_eq!((limit, bound), (Some(1_300_010_000), Bound::DayCap));
    // 1.3 × 0.03 = 0.039.
    assert_eq!(Entity::under(Some(micros(30_000))).limit(), Some(30_000));
}

fn micros(figure: i64) -> Figure {
    let amount = Money::from_micros(figure).unwrap();
    Figure::new(Level::Account, Unit::AverageDaily, amount, Preset::YandexAvgDaily)
}

#[test]
fn r134_a_thousand_a_day_leaves_five_hundred_for_the_weekend() {
    let mut entity = Entity::under(Some(daily(1_000)));
    for index in 0..5 {
        entity.go_to(day(index));
        assert_eq!(entity.spend_up_to(PLENTY), units(1_300));
    }
    entity.go_to(day(5));
    assert_eq!(entity.limit_and_bound(), (Some(units(500)), Bound::WeekPot));
    entity.spend_up_to(200);
    entity.go_to(day(6));
    assert_eq!(entity.limit(), Some(units(300)));
    // nothing carries over.
    entity.go_to(day(7));
    assert_eq!(entity.limit_and_bound(), (Some(units(1_300)), Bound::DayCap));
}

#[test]
fn r201_on_a_tie_the_day_cap_is_named() {
    let mut entity = Entity::under(Some(daily(10_000)));
    entity.spend(units(57_000));
    entity.go_to(day(6));
    assert_eq!(entity.limit_and_bound(), (Some(units(13_000)), Bound::DayCap));
    assert_eq!(entity.ceiling().next_release, Some(day(7).start()));
}

#[test]
fn r142_after_a_decrease_thursday_to_sunday_take_at_most_four_days() {
    let entity = play(Entity::under(Some(daily(15_000))), &[(2, 10_000)], ALL);
    assert!(entity.spent[..3].iter().all(|day| *day == units(19_500)));
    assert_eq!(entity.spent[..3].iter().sum::<i64>(), units(58_500));
    assert_eq!(entity.spent[3..].iter().sum::<i64>(), units(40_000));
    assert!(entity.spent[3..].iter().all(|day| *day <= units(13_000)));
}

#[test]
fn r143_after_an_increase_both_readings_of_the_average_hold() {
    let entity = play(Entity::under(Some(daily(10_000))), &[(2, 15_000)], ALL);
    assert_eq!(entity.spent[..2], [units(13_000); 2]);
    assert_eq!(entity.spent[2..].iter().sum::<i64>(), units(75_000));
    let entity = play(
        Entity::under(Some(daily(10_000))),
        &[(2, 15_000)],
        [PLENTY, PLENTY, 0, PLENTY, PLENTY, PLENTY, PLENTY],
    );
    assert_eq!(entity.spent[3..].iter().sum::<i64>(), units(60_000));
    assert!(entity.spent[2..].iter().all(|day| *day <= units(19_500)));
}

#[test]
fn r143_the_days_after_an_increase_are_bound_by_the_tail() {
    let mut entity = Entity::under(Some(daily(10_000)));
    entity.go_to(day(2));
    entity.set(daily(15_000));
    for (index, bound) in
        [(3, Bound::DayCap), (4, Bound::DayCap), (5, Bound::DayCap), (6, Bound::SegmentTail)]
    {
        entity.go_to(day(index));
        assert_eq!(entity.limit_and_bound().1, bound, "day {index}");
        entity.spend_up_to(PLENTY);
    }
}

/// campaigns under an account, each taking all it may, the first before the second.
fn nested(account: i64, campaigns: [i64; 2]) -> (WeekSpent, [WeekSpent; 2]) {
    let mut account = Entity::under(Some(daily(account)));
    let mut campaigns = campaigns.map(|figure| Entity::under(Some(daily(figure))));
    for index in 0..7 {
        account.go_to(day(index));
        for campaign in &mut campaigns {
            campaign.go_to(day(index));
            let left = |entity: &Entity| entity.ceiling().remaining(entity.spent_today());
            let take = left(&account).min(left(campaign)).unwrap();
            account.spend(take);
            campaign.spend(take);
        }
    }
    (account.spent, campaigns.map(|campaign| campaign.spent))
}

#[test]
fn r138_the_stricter_of_account_and_campaign_wins() {
    for (limit, figures, weeks) in [
        (1_000, [500, 3_000], [3_500, 3_500]),
        (5_000, [2_000, 7_000], [14_000, 21_000]),
        (15_000, [2_000, 7_000], [14_000, 49_000]),
    ] {
        let (account, campaigns) = nested(limit, figures);
        for (spent, week) in campaigns.iter().zip(weeks) {
            assert_eq!(spent.iter().sum::<i64>(), units(week), "{figures:?} under {limit}");
        }
        assert!(account.iter().sum::<i64>() <= units(7 * limit));
        assert!(account.iter().all(|day| *day <= units(limit) * 13 / 10));
        assert!(campaigns[0].iter().all(|day| *day <= units(figures[0]) * 13 / 10));
    }
}

#[test]
fn a_used_up_limit_says_from_when_more_may_be_spent() {
    let midnight = |index| Some(day(index).start());
    let mut entity = Entity::under(Some(daily(10_000)));
    // The day cap: tomorrow.
    assert_eq!(entity.ceiling().next_release, midnight(1));
    for index in 0..4 {
        entity.go_to(day(index));
        entity.spend_up_to(PLENTY);
    }
    entity.go_to(day(4));
    assert_eq!(entity.ceiling().next_release, midnight(5));
    entity.spend_up_to(PLENTY);
    // Saturday has what is left of the week, then Monday comes.
    entity.go_to(day(5));
    assert_eq!(entity.ceiling().bound, Bound::WeekPot);
    assert_eq!(entity.ceiling().next_release, midnight(7));
    // A pending decrease begins a segment of its own on Sunday.
    entity.set(daily(2_000));
    assert_eq!(entity.ceiling().next_release, midnight(6));
    assert_eq!(Entity::under(None).ceiling().next_release, None);
}
