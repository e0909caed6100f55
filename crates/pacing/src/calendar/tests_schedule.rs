//! Hours, dates and zones over Moscow days.

use adspend_common::time::Day;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use proptest::collection::vec;
use proptest::prelude::*;

use super::schedule::{
    BadInterval, Closed, DayMask, Interval, MINUTES_IN_DAY, Schedule, WeeklyHours, minute_of,
};
use super::tests_support::{day, monday, noon};

fn hours(intervals: &[(u8, u16, u16)]) -> WeeklyHours {
    WeeklyHours::new(intervals.iter().map(|(weekday0, from, to)| Interval {
        weekday0: *weekday0,
        from_minute: *from,
        to_minute: *to,
    }))
    .unwrap()
}

fn schedule(zone: Tz, hours: WeeklyHours) -> Schedule {
    Schedule { hours, zone, start: None, end: None }
}

/// Whole days except Sunday.
fn no_sunday() -> WeeklyHours {
    hours(&[0, 1, 2, 3, 4, 5].map(|weekday0| (weekday0, 0, MINUTES_IN_DAY)))
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[test]
fn r148_a_campaign_four_hours_east_without_sundays_serves_from_20_00_on_moscows_sunday() {
    let campaign = schedule(Tz::Asia__Novosibirsk, no_sunday());
    let sunday = campaign.mask(day(6));
    assert!(!sunday.is_open(19 * 60 + 59));
    assert!(sunday.is_open(20 * 60));
    assert_eq!((sunday.next_open(0), sunday.open_minutes_from(0)), (Some(20 * 60), 4 * 60));
    // Its Sunday began at 20:00 on Moscow's Saturday.
    let saturday = campaign.mask(day(5));
    assert!(saturday.is_open(19 * 60 + 59) && !saturday.is_open(20 * 60));
    assert_eq!(campaign.mask(day(7)), DayMask::OPEN);
    // 20:00:00 in Moscow, and that instant is of Sunday, not of Monday.
    let opens = instant("2025-04-06T17:00:00Z");
    assert_eq!(campaign.next_open(noon(day(6))), Some(opens));
    assert_eq!((Day::of(opens), campaign.is_open(opens)), (day(6), true));
    assert!(!campaign.is_open(opens - TimeDelta::milliseconds(1)));
}

#[test]
fn r148_two_hours_east_serves_the_last_two_hours_of_moscows_sunday() {
    let campaign = schedule(Tz::Asia__Yekaterinburg, no_sunday());
    assert_eq!(campaign.mask(day(6)).next_open(0), Some(22 * 60));
    assert_eq!(campaign.mask(day(6)).open_minutes_from(0), 2 * 60);
}

#[test]
fn r155_scheduled_days_are_weekdays_with_any_hour() {
    for (hours, days) in [
        (WeeklyHours::always(), 0),
        (hours(&[(2, 600, 601)]), 1),
        (hours(&[(2, 600, 601), (2, 700, 800), (6, 0, 1)]), 2),
        (no_sunday(), 6),
    ] {
        assert_eq!(hours.scheduled_days(), days);
    }
}

#[test]
fn overlapping_and_touching_hours_become_one() {
    let merged =
        hours(&[(1, 700, 800), (0, 500, 600), (1, 600, 700), (1, 650, 660), (0, 601, 602)]);
    assert_eq!(merged, hours(&[(0, 500, 600), (0, 601, 602), (1, 600, 800)]));
    assert_eq!(merged.intervals().len(), 3);
}

#[test]
fn hours_that_no_day_has_are_refused() {
    for (weekday0, from_minute, to_minute, error) in [
        (7, 0, 60, BadInterval::Weekday(7)),
        (0, 60, 60, BadInterval::Minutes { from: 60, to: 60 }),
        (0, 120, 60, BadInterval::Minutes { from: 120, to: 60 }),
        (0, 0, 1_441, BadInterval::Minutes { from: 0, to: 1_441 }),
    ] {
        let interval = Interval { weekday0, from_minute, to_minute };
        assert_eq!(WeeklyHours::new([interval]), Err(error));
    }
}

#[test]
fn a_mask_answers_about_each_minute_and_none_beyond_the_day() {
    assert_eq!(DayMask::OPEN.open_minutes_from(0), u32::from(MINUTES_IN_DAY));
    assert_eq!(DayMask::OPEN.open_minutes_from(1_439), 1);
    assert!(DayMask::OPEN.is_open(1_439) && !DayMask::OPEN.is_open(1_440));
    assert!(!DayMask::OPEN.is_open(u16::MAX));
    assert_eq!((DayMask::OPEN.next_open(1_440), DayMask::OPEN.open_minutes_from(1_440)), (None, 0));
    assert_eq!((DayMask::CLOSED.next_open(0), DayMask::CLOSED.open_minutes_from(0)), (None, 0));
    let mask = schedule(Tz::Europe__Moscow, hours(&[(0, 63, 65), (0, 1_000, 1_010)])).mask(day(0));
    for (minute, next, left) in
        [(0, Some(63), 12), (64, Some(64), 11), (65, Some(1_000), 10), (1_009, Some(1_009), 1)]
    {
        assert_eq!((mask.next_open(minute), mask.open_minutes_from(minute)), (next, left));
    }
    assert_eq!((mask.next_open(1_010), mask.open_minutes_from(1_010)), (None, 0));
}

#[test]
fn r208_the_minute_is_that_of_the_moscow_day() {
    assert_eq!(minute_of(instant("2025-03-31T20:59:59.999Z")), 1_439);
    assert_eq!(minute_of(instant("2025-03-31T21:00:00Z")), 0);
    assert_eq!(minute_of(instant("2025-04-01T08:59:59Z")), 11 * 60 + 59);
}

#[test]
fn foreign_summer_time_moves_the_hours_and_skips_or_doubles_some() {
    // Berlin is two hours behind Moscow in winter and one in summer.
    let office = schedule(Tz::Europe__Berlin, hours(&[0, 1, 2, 3, 4].map(|d| (d, 540, 1_080))));
    let winter = Day::from_ymd(2026, 3, 27).unwrap();
    let summer = Day::from_ymd(2026, 3, 30).unwrap();
    assert_eq!(office.mask(winter).next_open(0), Some(11 * 60));
    assert_eq!(office.mask(summer).next_open(0), Some(10 * 60));
    // 02:00 to 03:00 does not exist on 29 March and happens twice on 25 October.
    let night = schedule(Tz::Europe__Berlin, hours(&[(6, 120, 180)]));
    for (date, minutes) in [((2026, 3, 22), 60), ((2026, 3, 29), 0), ((2026, 10, 25), 120)] {
        let (year, month, of_month) = date;
        let sunday = Day::from_ymd(year, month, of_month).unwrap();
        assert_eq!(night.mask(sunday).open_minutes_from(0), minutes, "{sunday}");
    }
    // The Sunday that is skipped makes the wait two weeks long.
    let after = instant("2026-03-22T02:00:00Z");
    assert_eq!(night.next_open(after), Some(instant("2026-04-05T00:00:00Z")));
}

#[test]
fn dates_are_the_campaigns_own_and_the_last_is_inclusive() {
    let date = |of_month| NaiveDate::from_ymd_opt(2025, 4, of_month);
    let campaign = Schedule {
        hours: WeeklyHours::always(),
        zone: Tz::Asia__Novosibirsk,
        start: date(2),
        end: date(3),
    };
    // 2 April begins there at 20:00 in Moscow on 1 April.
    let opens = instant("2025-04-01T17:00:00Z");
    let closes = instant("2025-04-03T17:00:00Z");
    assert_eq!(campaign.mask(day(1)).next_open(0), Some(20 * 60));
    assert_eq!(campaign.mask(day(2)), DayMask::OPEN);
    assert_eq!(campaign.mask(day(3)).open_minutes_from(0), 20 * 60);
    assert_eq!(campaign.mask(day(4)), DayMask::CLOSED);
    let second = TimeDelta::seconds(1);
    assert_eq!(campaign.closed_because(opens - second), Some(Closed::BeforeStart));
    assert_eq!(campaign.closed_because(opens), None);
    assert_eq!(campaign.closed_because(closes - second), None);
    assert_eq!(campaign.closed_because(closes), Some(Closed::AfterEnd));
    // A start far ahead is found at once; after the end there is nothing to wait for.
    assert_eq!(campaign.next_open(instant("2020-01-01T00:00:00Z")), Some(opens));
    assert_eq!(campaign.next_open(opens), Some(opens));
    assert_eq!(campaign.next_open(closes), None);
}

#[test]
fn the_next_opening_is_within_the_minute_hours_begin() {
    let campaign = schedule(Tz::Europe__Moscow, hours(&[(0, 600, 660)]));
    let before = instant("2025-03-31T06:59:59.500Z");
    assert_eq!(campaign.next_open(before), Some(instant("2025-03-31T07:00:00Z")));
    assert_eq!(campaign.closed_because(before), Some(Closed::OutsideHours));
    let after = instant("2025-03-31T08:00:00Z");
    assert_eq!(campaign.next_open(after), Some(instant("2025-04-07T07:00:00Z")));
}

/// Zones of every kind: ahead, behind, half and quarter hours, half an hour of summer time, days
/// that begin late, two sides of the date line.
const ZONES: [Tz; 14] = [
    Tz::UTC,
    Tz::Europe__Moscow,
    Tz::Asia__Novosibirsk,
    Tz::Asia__Kamchatka,
    Tz::Europe__Berlin,
    Tz::America__New_York,
    Tz::America__St_Johns,
    Tz::America__Havana,
    Tz::Asia__Kathmandu,
    Tz::Asia__Gaza,
    Tz::Australia__Lord_Howe,
    Tz::Pacific__Chatham,
    Tz::Pacific__Kiritimati,
    Tz::Pacific__Pago_Pago,
];

fn any_interval() -> impl Strategy<Value = Interval> {
    (0..7_u8, 0..MINUTES_IN_DAY, 1..600_u16).prop_map(|(weekday0, from_minute, length)| Interval {
        weekday0,
        from_minute,
        to_minute: (from_minute + length).min(MINUTES_IN_DAY),
    })
}

/// Any schedule, and a day within two years, often beside a change of summer time.
fn any_case() -> impl Strategy<Value = (Schedule, Day)> {
    let date = prop_oneof![
        3 => 0..730_i32,
        1 => Just(363), // 2026-03-29, Europe.
        1 => Just(573), // 2026-10-25, Europe.
        1 => Just(342), // 2026-03-08, America.
        1 => Just(370), // 2026-04-05, Lord Howe and Chatham.
    ];
    let near = proptest::option::of(-2..3_i32);
    (0..ZONES.len(), vec(any_interval(), 0..12), date, near.clone(), near).prop_map(
        |(zone, intervals, after, start, end)| {
            let day = monday().plus_days(after);
            let schedule = Schedule {
                hours: WeeklyHours::new(intervals).unwrap(),
                zone: ZONES[zone],
                start: start.map(|days| day.plus_days(days).date()),
                end: end.map(|days| day.plus_days(days).date()),
            };
            (schedule, day)
        },
    )
}

/// Clocks change on some of these days; in Newfoundland and on Lord Howe in the middle of an hour of
/// Moscow's.
#[test]
fn a_mask_agrees_with_the_zone_on_days_when_clocks_change() {
    // A quarter in three, so that no shift of half an hour or an hour looks the same.
    let quarters = (0..7 * 96).step_by(3).map(|quarter: u16| Interval {
        weekday0: u8::try_from(quarter / 96).unwrap(),
        from_minute: quarter % 96 * 15,
        to_minute: quarter % 96 * 15 + 15,
    });
    let hours = WeeklyHours::new(quarters).unwrap();
    for zone in ZONES {
        let schedule = schedule(zone, hours.clone());
        for (month, of_month) in
            [(3, 8), (3, 27), (3, 29), (4, 4), (4, 5), (10, 3), (10, 24), (10, 25), (11, 1)]
        {
            let day = Day::from_ymd(2026, month, of_month).unwrap();
            let mask = schedule.mask(day);
            for minute in 0..MINUTES_IN_DAY {
                let instant = day.start() + TimeDelta::minutes(i64::from(minute));
                assert_eq!(mask.is_open(minute), schedule.is_open(instant), "{zone} {instant}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A mask says of each of its minutes what the zone's own calendar says of that instant.
    #[test]
    fn a_mask_agrees_with_the_zone_minute_by_minute((schedule, day) in any_case()) {
        let mask = schedule.mask(day);
        for minute in 0..MINUTES_IN_DAY {
            let instant = day.start() + TimeDelta::minutes(i64::from(minute));
            prop_assert_eq!(mask.is_open(minute), schedule.is_open(instant), "{}", instant);
        }
    }

    /// The next opening is open, and nothing between is.
    #[test]
    fn the_next_opening_is_the_first((schedule, day) in any_case(), minute in 0..MINUTES_IN_DAY) {
        let now = day.start() + TimeDelta::minutes(i64::from(minute));
        if let Some(opens) = schedule.next_open(now) {
            prop_assert!(schedule.is_open(opens));
            let mut between = now;
            while between < opens {
                prop_assert!(!schedule.is_open(between), "{} is open before {}", between, opens);
                between += TimeDelta::minutes(1);
            }
        }
    }
}
