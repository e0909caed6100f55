//! The rules of an update.

use adspend_common::time::Day;
use chrono::NaiveDate;

use super::rules::{apply, restarts_week};
use super::{Changes, EndsBeforeStart, Profile};
use crate::calendar::policy::PaymentModel;
use crate::calendar::schedule::{Interval, Schedule, WeeklyHours};
use crate::tests_support::at;

fn date(month: u32, day: u32) -> NaiveDate {
    Day::from_ymd(2025, month, day).unwrap().date()
}

fn profile() -> Profile {
    let schedule = Schedule {
        hours: WeeklyHours::always(),
        zone: chrono_tz::Europe::Moscow,
        start: Some(date(6, 1)),
        end: None,
    };
    Profile { display_name: "Spring".to_owned(), schedule, payment: PaymentModel::PerClick }
}

#[test]
fn only_what_is_named_changes() {
    let changes = Changes { display_name: Some("Summer".to_owned()), ..Changes::default() };
    let after = apply(&profile(), &changes).unwrap();
    assert_eq!(after, Profile { display_name: "Summer".to_owned(), ..profile() });
    let changes = Changes { start: Some(None), ..Changes::default() };
    assert_eq!(apply(&profile(), &changes).unwrap().schedule.start, None);
    assert_eq!(apply(&profile(), &Changes::default()).unwrap(), profile());
}

#[test]
fn an_end_before_the_start_that_is_stored_is_refused() {
    let changes = Changes { end: Some(Some(date(5, 31))), ..Changes::default() };
    let error = EndsBeforeStart { start: date(6, 1), end: date(5, 31) };
    assert_eq!(apply(&profile(), &changes), Err(error));
    let one_day = Changes { end: Some(Some(date(6, 1))), ..Changes::default() };
    assert!(apply(&profile(), &one_day).is_ok());
}

/// nothing else restarts the week.
#[test]
fn restart_table() {
    let noon = at("2025-06-11T12:00:00+03:00");
    let hours = WeeklyHours::new([Interval { weekday0: 0, from_minute: 0, to_minute: 60 }]);
    let start = |day| Changes { start: Some(Some(day)), ..Changes::default() };
    for (name, changes, restarts) in [
        ("nothing", Changes::default(), false),
        ("its name", Changes { display_name: Some("x".to_owned()), ..Changes::default() }, false),
        ("its hours", Changes { hours: Some(hours.unwrap()), ..Changes::default() }, false),
        ("its end", Changes { end: Some(Some(date(7, 1))), ..Changes::default() }, false),
        (
            "the same payment",
            Changes { payment: Some(PaymentModel::PerClick), ..Changes::default() },
            false,
        ),
        (
            "another payment",
            Changes { payment: Some(PaymentModel::PerConversion), ..Changes::default() },
            true,
        ),
        ("no start", Changes { start: Some(None), ..Changes::default() }, false),
        ("the same start", start(date(6, 1)), false),
        ("a start in the past", start(date(6, 10)), false),
        ("a start today", start(date(6, 11)), false),
        ("a start tomorrow", start(date(6, 12)), true),
    ] {
        let after = apply(&profile(), &changes).unwrap();
        assert_eq!(restarts_week(&profile(), &after, noon), restarts, "{name}");
    }
}

#[test]
fn the_future_begins_in_the_zone_of_the_campaign() {
    let mut before = profile();
    before.schedule.zone = chrono_tz::Asia::Novosibirsk;
    let changes = Changes { start: Some(Some(date(6, 12))), ..Changes::default() };
    let after = apply(&before, &changes).unwrap();
    assert!(restarts_week(&before, &after, at("2025-06-11T19:59:59+03:00")), "23:59:59 there");
    assert!(!restarts_week(&before, &after, at("2025-06-11T20:00:00+03:00")), "the 12th there");
}
