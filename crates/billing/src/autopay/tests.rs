//! The rules as tables, and the law of the machine: whatever a provider that keeps its promises does, a card
//! is charged at most once per run, and a run ends as the money went.

use adspend_common::{
    config::{HumanDuration, Secret},
    money::{Balance, Money},
};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    CardState, Run, RunState,
    rules::{self, Answer, Ask, Cause, Next, Wait},
};
use crate::{
    config,
    ledger::{AccountKey, AccountNo, TenantNo},
};

fn terms() -> config::Autopay {
    config::Autopay::default()
}

fn now() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-11-20T12:00:00+03:00").unwrap().to_utc()
}

fn run() -> Run {
    Run {
        key: AccountKey { tenant: TenantNo(1), account: AccountNo(1) },
        id: Uuid::from_u128(7),
        card: Uuid::from_u128(8),
        amount: Money::from_units(5_000),
        balance: Balance::ZERO,
        state: RunState::Pending,
        failure: None,
        tries: 0,
        looks: 0,
        first_tried_at: None,
        last_tried_at: None,
        in_doubt: false,
        provider_payment: None,
        provider_reason: None,
        payment: None,
        created_at: now(),
        finished_at: None,
    }
}

/// After so many tries, each of which may have charged the card.
fn tried(tries: u32) -> Run {
    let at = Some(now());
    Run { tries, in_doubt: true, first_tried_at: at, last_tried_at: at, ..run() }
}

#[test]
fn it_fires_at_the_value_and_below_r_120() {
    let micros = |micros| Balance::from_micros(micros).unwrap();
    for (free, threshold, today, fires) in [
        (0, 0, 0, true),
        (1, 0, 0, false),
        (-1, 0, 0, true),
        (1_000_000_000, 1_000, 0, true),
        (1_000_000_001, 1_000, 0, false),
        (0, 1_000, 29, true),
        (0, 1_000, 30, false),
    ] {
        let verdict = rules::fires(&terms(), (micros(free), Money::from_units(threshold)), today);
        assert_eq!(verdict, fires, "{free} at {threshold} after {today}");
    }
}

#[test]
fn payments_of_today_are_those_of_the_moscow_day() {
    let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
    for (moment, begins) in [
        ("2026-11-20T23:59:59+03:00", "2026-11-20T00:00:00+03:00"),
        ("2026-11-21T00:00:00+03:00", "2026-11-21T00:00:00+03:00"),
    ] {
        assert_eq!(rules::day_begins(at(moment)), at(begins));
    }
}

#[test]
fn what_is_asked_next() {
    use CardState::{Active, Invalid, Unlinked};
    let pending = Run { provider_payment: Some("p".into()), ..tried(1) };
    let passing = Run {
        provider_payment: Some("p".into()),
        provider_reason: Some("internal_timeout".into()),
        in_doubt: false,
        ..tried(1)
    };
    let late = now() + TimeDelta::hours(23);
    for (name, run, card, consents, at, ask) in [
        ("the first try", run(), Active, true, now(), Ask::Pay),
        ("switched off before any try", run(), Active, false, now(), Ask::Abandon),
        ("unlinked before any try", run(), Unlinked, true, now(), Ask::Abandon),
        ("nobody knows: the same key again", tried(1), Active, true, now(), Ask::Pay),
        ("switched off with a try in doubt", tried(1), Active, false, now(), Ask::Pay),
        ("unlinked with a try in doubt", tried(1), Unlinked, true, now(), Ask::Search),
        ("spoilt with a try in doubt", tried(1), Invalid, true, now(), Ask::Search),
        ("tries have run out", tried(5), Active, true, now(), Ask::Search),
        ("the key may be forgotten", tried(1), Active, true, late, Ask::Search),
        ("undecided", pending.clone(), Active, true, now(), Ask::Look("p".into())),
        ("undecided and unlinked", pending, Unlinked, false, late, Ask::Look("p".into())),
        ("a passing reason", passing.clone(), Active, true, now(), Ask::Pay),
        ("a passing reason, unlinked", passing.clone(), Unlinked, true, now(), Ask::Abandon),
        ("a passing reason, too late", passing, Active, true, late, Ask::Abandon),
    ] {
        assert_eq!(rules::ask(&terms(), &run, (card, consents), at), ask, "{name}");
    }
}

fn wait_of(next: Next) -> Wait {
    match next {
        Next::Wait(wait) => wait,
        Next::Book { .. } | Next::Fail { .. } => panic!("{next:?} is an end"),
    }
}

#[test]
fn waits_double_up_to_the_longest() {
    let unknown = || Answer::Unknown { why: "" };
    for (tries, seconds) in [(1, 5), (2, 10), (3, 20), (4, 40)] {
        let next = rules::next(&terms(), &tried(tries), (&Ask::Pay, unknown()), true, now());
        assert_eq!(wait_of(next).until - now(), TimeDelta::seconds(seconds), "{tries}");
    }
    for (looks, seconds) in [(0, 3), (1, 6), (5, 96), (10, 600), (4_000_000_000, 600)] {
        let run = Run { looks, ..tried(5) };
        let next = rules::next(&terms(), &run, (&Ask::Search, unknown()), true, now());
        assert_eq!(wait_of(next).until - now(), TimeDelta::seconds(seconds), "{looks}");
    }
}

#[test]
fn only_the_last_try_without_an_answer_gives_up() {
    let unknown = || Answer::Unknown { why: "" };
    for (tries, asked, gives_up) in
        [(4, Ask::Pay, false), (5, Ask::Pay, true), (5, Ask::Search, false)]
    {
        let next = rules::next(&terms(), &tried(tries), (&asked, unknown()), true, now());
        let wait = wait_of(next);
        assert_eq!((wait.gives_up, wait.in_doubt), (gives_up, true), "{tries} {asked:?}");
    }
}

/// A request that is not taken says nothing about an earlier one that may have been.
#[test]
fn a_refusal_ends_a_run_only_when_nothing_is_in_doubt() {
    let refused = || Answer::Refused { code: "invalid_request".into() };
    let first = rules::next(&terms(), &tried(1), (&Ask::Pay, refused()), false, now());
    assert!(matches!(first, Next::Fail { cause: Cause::Declined, .. }), "{first:?}");
    let later = rules::next(&terms(), &tried(2), (&Ask::Pay, refused()), true, now());
    assert!(wait_of(later).in_doubt);
}

#[test]
fn what_the_list_lacks_was_never_made_an_hour_later() {
    let absent = |at| rules::next(&terms(), &tried(5), (&Ask::Search, Answer::Absent), true, at);
    let hour = now() + TimeDelta::hours(1);
    assert!(wait_of(absent(hour - TimeDelta::milliseconds(1))).in_doubt);
    let end = absent(hour);
    assert!(matches!(&end, Next::Fail { reason, .. } if reason == "not_made"), "{end:?}");
}

#[test]
fn a_provider_is_reached_safely_or_not_at_all() {
    let with = |url: &str, key: &str| {
        let provider = config::Provider {
            url: url.into(),
            shop_id: "1".into(),
            secret: Secret::from("s"),
            token_key: Secret::from(key),
            pay_timeout: HumanDuration::from_secs(1),
            ask_timeout: HumanDuration::from_secs(1),
        };
        super::Autopay::new(&config::Autopay { provider: Some(provider), ..terms() }).is_ok()
    };
    let key = "0123456789abcdef".repeat(4);
    for (url, sound) in [
        ("https://api.yookassa.ru/v3", true),
        ("http://127.0.0.1:8080/v3", true),
        ("http://api.yookassa.ru/v3", false),
        ("ftp://api.yookassa.ru", false),
        ("api.yookassa.ru", false),
    ] {
        assert_eq!(with(url, &key), sound, "{url}");
    }
    assert!(!with("https://api.yookassa.ru/v3", "short"));
}

/// What happens to one question.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    /// It arrives, and its answer is lost.
    AnswerLost,
    /// It does not arrive.
    Lost,
    /// The process dies with the answer unwritten.
    Crashed,
}

fn fates() -> impl Strategy<Value = Vec<(Fate, i64)>> {
    let fate = prop_oneof![
        Just(Fate::Answered),
        Just(Fate::AnswerLost),
        Just(Fate::Lost),
        Just(Fate::Crashed)
    ];
    prop::collection::vec((fate, 1..20_000_i64), 1..40)
}

/// How the provider decides a payment, at its first, second, … question about it.
fn verdicts() -> impl Strategy<Value = Vec<&'static str>> {
    let verdict = prop_oneof![
        Just("pending"),
        Just("succeeded"),
        Just("insufficient_funds"),
        Just("internal_timeout"),
        Just("permission_revoked"),
    ];
    prop::collection::vec(verdict, 1..6)
}

proptest! {
    /// The provider keeps a key for 24 hours and a payment for ever. It makes one payment per key while it
    /// knows the key; a run that asked later than that would pay twice, and this law would show it.
    #[test]
    fn a_run_ends_as_the_money_went(
        fates in fates(),
        verdicts in verdicts(),
        unlinked_at in prop::option::of(0..40_usize),
    ) {
        let terms = terms();
        let (mut run, mut at, mut payments) = (run(), now(), Vec::<(DateTime<Utc>, usize)>::new());
        let status = |asked: usize| verdicts[asked.min(verdicts.len() - 1)];
        let mut end = None;
        for (step, (fate, seconds)) in fates.into_iter().chain(std::iter::repeat_n((Fate::Answered, 4_000), 60)).enumerate() {
            at += TimeDelta::seconds(seconds);
            let card = if unlinked_at.is_some_and(|when| step >= when) { CardState::Unlinked } else { CardState::Active };
            let ask = rules::ask(&terms, &run, (card, true), at);
            let was_in_doubt = run.in_doubt;
            // What is asked is written first.
            match ask {
                Ask::Pay => {
                    run.tries += 1;
                    run.in_doubt = true;
                    run.first_tried_at = run.first_tried_at.or(Some(at));
                    run.last_tried_at = Some(at);
                }
                Ask::Look(_) | Ask::Search => run.looks += 1,
                Ask::Abandon => {}
            }
            let arrives = !matches!(fate, Fate::Lost);
            if arrives && ask == Ask::Pay {
                let known = payments.last().is_some_and(|(made, _)| at - *made < TimeDelta::hours(24));
                if !known {
                    payments.push((at, 0));
                }
            }
            // Final words stay.
            let said = payments.last_mut().map(|(_, asked)| {
                let word = status(*asked);
                if arrives && word == "pending" {
                    *asked += 1;
                }
                word
            });
            let answer = match (fate, &ask, said) {
                (Fate::Lost | Fate::AnswerLost, _, _) => Answer::Unknown { why: "lost" },
                (_, Ask::Search, None) => Answer::Absent,
                (_, _, None) => Answer::Unknown { why: "nothing" },
                (_, _, Some("pending")) => Answer::Pending { payment: "p".into() },
                (_, _, Some("succeeded")) => Answer::Succeeded { payment: "p".into() },
                (_, _, Some(reason)) => Answer::Canceled { payment: "p".into(), reason: reason.into() },
            };
            if matches!(fate, Fate::Crashed) {
                continue;
            }
            let next = if ask == Ask::Abandon {
                rules::abandoned(&run, card)
            } else {
                rules::next(&terms, &run, (&ask, answer), was_in_doubt, at)
            };
            match next {
                Next::Wait(wait) => {
                    run.provider_payment = wait.payment;
                    run.provider_reason = wait.reason;
                    run.in_doubt = wait.in_doubt;
                }
                ended @ (Next::Book { .. } | Next::Fail { .. }) => {
                    end = Some(ended);
                    break;
                }
            }
        }
        prop_assert!(payments.len() <= 1, "one payment per run: {payments:?}");
        let charged = payments.last().is_some_and(|(_, asked)| status(*asked) == "succeeded");
        match end {
            Some(Next::Book { .. }) => prop_assert!(charged),
            Some(Next::Fail { .. }) => prop_assert!(!charged, "failed, and the card was charged"),
            Some(Next::Wait(_)) => prop_assert!(false, "a wait is no end"),
            None => prop_assert_eq!(payments.last().map(|(_, asked)| status(*asked)), Some("pending")),
        }
    }
}
