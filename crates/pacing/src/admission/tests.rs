//! The order of checks, who sees what, and what a decision leaves behind.

use std::time::Duration;

use adspend_common::id::{AccountId, CampaignId};
use adspend_common::time::Day;

use super::slice::Terms;
use super::*;
use crate::calendar::schedule::{Interval, WeeklyHours};

const PRICE: i64 = 10;
const LIFETIME: Duration = Duration::from_secs(600);

fn at(text: &str) -> Moment {
    Moment::at(text.parse().unwrap(), 0)
}

fn noon() -> Moment {
    at("2025-04-02T12:00:00+03:00")
}

fn facts(no: i64, name: &str, tenant: &str) -> Facts {
    let hours = (0..7).map(|weekday0| Interval { weekday0, from_minute: 480, to_minute: 1_200 });
    Facts {
        account_no: 1,
        campaign_no: no,
        name: CampaignId::parse(name).unwrap(),
        tenant: AccountId::parse(tenant).unwrap(),
        standing: Standing::Active,
        pays_per_click: true,
        pays_per_conversion: false,
        schedule: Schedule {
            hours: WeeklyHours::new(hours).unwrap(),
            zone: chrono_tz::Europe::Moscow,
            start: None,
            end: "2025-04-30".parse().ok(),
        },
    }
}

fn admission(facts: &[Facts]) -> Admission {
    let admission = Admission::new(128, LIFETIME);
    assert_eq!(admission.apply(facts, noon().day), 0);
    admission
}

fn opportunity(campaign: &str) -> Opportunity<'_> {
    Opportunity { id: "o-1", campaign, max_price_micros: PRICE, chance_ppm: None }
}

fn give(entity: &Entity, moment: &Moment, amount_micros: i64) {
    entity.replace(&Terms {
        slice_no: 77,
        amount_micros,
        day_no: moment.day_no,
        expires_at_micros: moment.micros + 10_000_000,
        deadline_monotonic_micros: moment.monotonic_micros + 10_000_000,
        low_water_micros: amount_micros / 2,
        largest_micros: 0,
    });
}

fn refusal(reason: Reason, moment: &Moment) -> Refusal {
    Refusal {
        reason,
        level: Some(Level::Campaign),
        limit_micros: 100,
        used_micros: 95,
        day_no: moment.day_no,
        retry_at_micros: moment.micros + 5_000,
        until_micros: moment.micros + 1_000,
        least_micros: PRICE,
    }
}

fn reason(decision: &Decision) -> Option<Reason> {
    match decision {
        Decision::Denied(denial) => Some(denial.reason),
        Decision::Admitted(_) | Decision::Cold(_) => None,
    }
}

fn ask(admission: &Admission, moment: &Moment) -> Decision {
    admission.view().admit(moment, Viewer::All, Asked::First, &opportunity("spring"))
}

#[test]
fn the_first_failing_check_names_the_reason() {
    // Everything is wrong at first; each step repairs what the one before complained about.
    let mut facts = facts(1, "spring", "agency");
    facts.standing = Standing::AccountBlocked;
    let admission = admission(&[]);
    let (noon, night) = (noon(), at("2025-04-02T23:00:00+03:00"));
    let over = at("2025-05-01T12:00:00+03:00");
    assert_eq!(reason(&ask(&admission, &night)), Some(Reason::CampaignUnknown));

    admission.apply(std::slice::from_ref(&facts), noon.day);
    let entity = admission.entity(1, 1).unwrap();
    entity.refuse(Some(refusal(Reason::CampaignDayLimit, &noon)));
    entity.rate.set(0);
    assert_eq!(reason(&ask(&admission, &night)), Some(Reason::AccountBlocked));
    facts.standing = Standing::Paused;
    admission.apply(std::slice::from_ref(&facts), noon.day);
    assert_eq!(reason(&ask(&admission, &night)), Some(Reason::CampaignPaused));
    facts.standing = Standing::Active;
    admission.apply(&[facts], noon.day);
    assert_eq!(reason(&ask(&admission, &night)), Some(Reason::OutsideSchedule));
    assert_eq!(reason(&ask(&admission, &over)), Some(Reason::OutsideDates));
    assert_eq!(reason(&ask(&admission, &noon)), Some(Reason::CampaignDayLimit));
    entity.refuse(Some(refusal(Reason::NoFunds, &noon)));
    assert_eq!(reason(&ask(&admission, &noon)), Some(Reason::Throttled));
    entity.rate.set(rate::Rate::ALL);
    assert_eq!(reason(&ask(&admission, &noon)), Some(Reason::NoFunds));
    give(&entity, &noon, PRICE);
    assert!(matches!(ask(&admission, &noon), Decision::Admitted(_)));
    assert_eq!(reason(&ask(&admission, &noon)), Some(Reason::NoFunds), "the slice is used up");
}

#[test]
fn an_admission_carries_what_a_charge_needs() {
    let admission = admission(&[facts(1, "spring", "agency")]);
    let moment = noon();
    give(&admission.entity(1, 1).unwrap(), &moment, 100);
    let Decision::Admitted(token) = ask(&admission, &moment) else { panic!("admitted") };
    assert_eq!(
        token,
        Token {
            account_no: 1,
            campaign_no: 1,
            slice_no: 77,
            admission_no: 0,
            day: "2025-04-02".parse().unwrap(),
            reserved_micros: PRICE,
            expected_micros: PRICE,
            // All tokens of a slice expire together, one lifetime after the slice.
            expires_at_micros: moment.micros + 10_000_000 + 600_000_000,
        }
    );
}

#[test]
fn without_a_word_from_the_leases_an_entity_is_cold() {
    let admission = admission(&[facts(1, "spring", "agency")]);
    let moment = noon();
    assert!(matches!(ask(&admission, &moment), Decision::Cold(_)));
    let entity = admission.entity(1, 1).unwrap();
    entity.refuse(Some(refusal(Reason::CampaignDayLimit, &moment)));
    let Decision::Denied(denial) = ask(&admission, &moment) else { panic!("denied") };
    assert_eq!((denial.limit_micros, denial.used_micros), (100, 95));
    assert_eq!((denial.level, denial.retry_after_micros), (Some(Level::Campaign), 5_000));

    let dear = refusal(Reason::CampaignDayLimit, &moment);
    entity.refuse(Some(Refusal { least_micros: PRICE + 1, ..dear }));
    assert!(matches!(ask(&admission, &moment), Decision::Cold(_)), "it speaks of higher prices");
    entity.refuse(Some(dear));

    let later = Moment { micros: moment.micros + 1_000, ..moment };
    assert!(matches!(ask(&admission, &later), Decision::Cold(_)), "the refusal is too old");
    let tomorrow = at("2025-04-03T12:00:00+03:00");
    let stale = Refusal { until_micros: i64::MAX, ..refusal(Reason::CampaignDayLimit, &moment) };
    entity.refuse(Some(stale));
    assert!(matches!(ask(&admission, &tomorrow), Decision::Cold(_)), "it speaks of another day");
}

#[test]
fn a_tenant_sees_its_own_campaigns_only() {
    let admission = admission(&[facts(1, "spring", "agency"), facts(2, "autumn", "shop")]);
    let moment = noon();
    for (no, tenant, campaign, sees) in [
        (1, None, "spring", true),
        (2, Some("agency"), "spring", true),
        (3, Some("shop"), "spring", false),
        (4, Some("nobody"), "spring", false),
        (5, Some("shop"), "autumn", true),
    ] {
        let view = admission.view();
        let viewer = view.viewer(tenant);
        let decision = view.admit(&moment, viewer, Asked::First, &opportunity(campaign));
        let unknown = reason(&decision) == Some(Reason::CampaignUnknown);
        assert_eq!(unknown, !sees, "row {no}");
    }
    // The campaign moves to another tenant with its account.
    admission.apply(&[facts(1, "spring", "shop")], moment.day);
    let view = admission.view();
    assert_eq!(view.viewer(Some("shop")), Viewer::Tenant(1));
    let mine =
        view.admit(&moment, view.viewer(Some("agency")), Asked::First, &opportunity("spring"));
    assert_eq!(reason(&mine), Some(Reason::CampaignUnknown));
}

#[test]
fn what_an_entity_has_survives_a_new_directory() {
    let admission = admission(&[facts(1, "spring", "agency")]);
    let moment = noon();
    let before = admission.view();
    give(&admission.entity(1, 1).unwrap(), &moment, 2 * PRICE);
    assert!(matches!(ask(&admission, &moment), Decision::Admitted(_)));
    let others: Vec<_> = (2..100).map(|no| facts(no, &format!("c-{no}"), "agency")).collect();
    admission.apply(&others, moment.day);
    assert_eq!(admission.known(), 99);
    assert!(matches!(ask(&admission, &moment), Decision::Admitted(_)));
    // The old snapshot takes from the same slice.
    let old = before.admit(&moment, Viewer::All, Asked::First, &opportunity("spring"));
    assert!(matches!(old, Decision::Cold(_)));
    for no in 2..100 {
        let name = format!("c-{no}");
        let found = admission.view().admit(&moment, Viewer::All, Asked::First, &opportunity(&name));
        assert!(matches!(found, Decision::Cold(entity) if entity.campaign_no == no));
    }
}

#[test]
fn campaigns_beyond_the_capacity_are_left_out() {
    let admission = Admission::new(64, LIFETIME);
    let all: Vec<_> = (0..70).map(|no| facts(no, &format!("c-{no}"), "agency")).collect();
    assert_eq!(admission.apply(&all, noon().day), 6);
    assert_eq!(admission.known(), 64);
}

#[test]
fn demand_is_counted_once_and_only_when_it_could_be_served() {
    let admission = admission(&[facts(1, "spring", "agency")]);
    let entity = admission.entity(1, 1).unwrap();
    let view = admission.view();
    let night = at("2025-04-02T23:00:00+03:00");
    view.admit(&night, Viewer::All, Asked::First, &opportunity("spring"));
    assert_eq!(entity.demand(), Demand::default());
    view.admit(&noon(), Viewer::All, Asked::First, &opportunity("spring"));
    view.admit(&noon(), Viewer::All, Asked::Again, &opportunity("spring"));
    entity.rate.set(0);
    view.admit(&noon(), Viewer::All, Asked::First, &opportunity("spring"));
    assert_eq!(entity.demand(), Demand { micros: 2 * PRICE.unsigned_abs(), count: 2 });
}

#[test]
fn an_entity_calls_its_owner_once_until_it_is_answered() {
    let admission = admission(&[facts(1, "spring", "agency"), facts(2, "autumn", "agency")]);
    let moment = noon();
    assert!(admission.answer_calls().is_empty());
    ask(&admission, &moment);
    ask(&admission, &moment);
    let called = admission.answer_calls();
    let [entity] = called.as_slice() else { panic!("one call") };
    let unmet = Unmet {
        least_micros: PRICE,
        most_micros: PRICE,
        least_expected_micros: PRICE,
        most_expected_micros: PRICE,
    };
    assert_eq!(entity.take_unmet(), Some(unmet));
    assert_eq!(entity.take_unmet(), None);
    // A slice that runs low calls too, before it is empty.
    give(entity, &moment, 4 * PRICE);
    ask(&admission, &moment);
    ask(&admission, &moment);
    assert!(admission.answer_calls().is_empty());
    ask(&admission, &moment);
    assert_eq!(admission.answer_calls().len(), 1);
}

#[test]
fn masks_roll_with_the_day() {
    let admission = admission(&[facts(1, "spring", "agency")]);
    let week_later = noon().day.plus_days(7);
    let moment = Moment::at(week_later.start() + chrono::TimeDelta::hours(12), 0);
    assert!(
        matches!(ask(&admission, &moment), Decision::Cold(_)),
        "without a mask, by the schedule"
    );
    admission.roll(week_later);
    let entity = admission.entity(1, 1).unwrap();
    let first: Option<Day> =
        entity.hours().and_then(|hours| hours.as_ref().map(|hours| hours.first_day()));
    assert_eq!(first, Some(week_later));
    assert!(matches!(ask(&admission, &moment), Decision::Cold(_)));
}

/// Threads admit while the owner replaces slices: admissions never pass what was granted, and
/// what the owner finds at the end accounts for every one of them.
#[test]
fn concurrent_decisions_pass_no_slice() {
    let admission = std::sync::Arc::new(admission(&[facts(1, "spring", "agency")]));
    let moment = noon();
    let entity = admission.entity(1, 1).unwrap();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (admission, done) =
                (std::sync::Arc::clone(&admission), std::sync::Arc::clone(&done));
            std::thread::spawn(move || {
                let mut admitted = 0;
                while !done.load(Ordering::Relaxed) {
                    if let Decision::Admitted(token) = ask(&admission, &moment) {
                        admitted += token.reserved_micros;
                    }
                }
                admitted
            })
        })
        .collect();
    let (mut granted, mut left) = (0, 0);
    for _ in 0..3_000 {
        let terms = Terms {
            slice_no: 1,
            amount_micros: 95,
            day_no: moment.day_no,
            expires_at_micros: i64::MAX,
            deadline_monotonic_micros: i64::MAX,
            low_water_micros: 0,
            largest_micros: 0,
        };
        left += entity.replace(&terms).unwrap_or(0);
        granted += 95;
        std::thread::yield_now();
    }
    left += entity.close().unwrap();
    done.store(true, Ordering::Relaxed);
    let admitted: i64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(admitted + left, granted);
    assert!(admitted > 0);
}

/// Section 5: of a campaign that pays per click an expected slice gives what a click is expected to
/// cost, and the token says what it took; of any other, and where the chance is 1, the whole price.
#[test]
fn an_expected_slice_is_taken_from_by_chance_and_price() {
    let view_one = Facts { pays_per_click: false, ..facts(2, "views", "agency") };
    let admission = admission(&[facts(1, "clicks", "agency"), view_one]);
    let moment = noon();
    for (no, name, chance_ppm, kappa, expected) in [
        (1, "clicks", None, 1.0, 1_000_000),
        (1, "clicks", Some(20_000), 1.0, 20_000),
        (1, "clicks", Some(20_000), 0.5, 20_000),
        (1, "clicks", Some(20_000), 2.0, 40_000),
        (1, "clicks", Some(0), 1.0, 100),
        (1, "clicks", Some(CERTAIN_PPM), 2.0, 1_000_000),
        (2, "views", Some(20_000), 1.0, 1_000_000),
    ] {
        let entity = admission.entity(1, no).unwrap();
        entity.set_caution(kappa);
        let terms = Terms {
            slice_no: 77,
            amount_micros: 5_000_000,
            day_no: moment.day_no,
            expires_at_micros: moment.micros + 10_000_000,
            deadline_monotonic_micros: moment.monotonic_micros + 10_000_000,
            low_water_micros: 0,
            largest_micros: 1_000_000,
        };
        entity.replace(&terms);
        let asked = Opportunity { chance_ppm, max_price_micros: 1_000_000, ..opportunity(name) };
        let decision = admission.view().admit(&moment, Viewer::All, Asked::First, &asked);
        let Decision::Admitted(token) = decision else { panic!("admitted") };
        assert_eq!((token.reserved_micros, token.expected_micros), (1_000_000, expected), "{name}");
        assert_eq!(entity.left(), Some(5_000_000 - expected), "{name} {chance_ppm:?} {kappa}");
    }
}

/// A slice that is extended moves to the other place: no two of its admissions have one number.
#[test]
fn admissions_of_an_extended_slice_have_different_numbers() {
    let admission = admission(&[facts(1, "spring", "agency")]);
    let moment = noon();
    let entity = admission.entity(1, 1).unwrap();
    let mut numbers = std::collections::HashSet::new();
    for _ in 0..4 {
        entity.close();
        give(&entity, &moment, 3 * PRICE);
        for _ in 0..3 {
            let Decision::Admitted(token) = ask(&admission, &moment) else { panic!("admitted") };
            assert!(numbers.insert(token.admission_no), "{}", token.admission_no);
        }
    }
}
