//! Tables and laws of the slice rules.

use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::rules::*;
use crate::admission::{Level, Reason};

const FREE: Room = Room {
    limit_micros: None,
    by_week: false,
    charged_micros: 0,
    reserved_micros: 0,
    late_micros: 0,
    due_micros: 0,
};

fn room(limit: i64, charged: i64, reserved: i64) -> Room {
    Room {
        limit_micros: Some(limit),
        by_week: false,
        charged_micros: charged,
        reserved_micros: reserved,
        late_micros: 0,
        due_micros: 0,
    }
}

fn need(price: i64, spend: i64) -> Need {
    Need { least_micros: price, most_micros: price, spend_micros: spend }
}

fn hold(room_micros: i64) -> [HoldRoom; 1] {
    [HoldRoom { hold_no: 5, room_micros }]
}

fn granted(cut: Cut) -> i64 {
    match cut {
        Cut::Granted { amount_micros, .. } => amount_micros,
        Cut::Refused(bound) => panic!("refused: {bound:?}"),
    }
}

fn reason(cut: Cut) -> Option<Reason> {
    match cut {
        Cut::Granted { .. } => panic!("granted"),
        Cut::Refused(bound) => bound.reason(),
    }
}

#[test]
fn sizes() {
    for (name, campaign, held, replicas, need, expected) in [
        ("two seconds of spend", FREE, 10_000, 1, need(10, 400), 400),
        ("eight where there is plenty", FREE, 10_000, 1, need(10, 156), 624),
        ("plenty is shared", FREE, 10_000, 2, need(10, 156), 156),
        ("at least one admission", FREE, 10_000, 1, need(10, 0), 10),
        ("at most a share of the limit", room(1_000, 0, 0), 10_000, 2, need(10, 900), 250),
        ("at most a share of the hold", FREE, 1_000, 2, need(10, 900), 250),
        (
            "slices halve as the limit comes near",
            room(1_000, 600, 200),
            9_999,
            2,
            need(10, 900),
            50,
        ),
        ("one admission is above a share", room(100, 70, 0), 9_999, 4, need(10, 900), 15),
        (
            "the whole remainder when less than one stays",
            room(100, 85, 0),
            9_999,
            1,
            need(10, 0),
            15,
        ),
        ("what stays of a hold is of use to others", FREE, 15, 1, need(10, 0), 10),
        ("reserved counts as spent", room(100, 0, 90), 9_999, 1, need(10, 0), 10),
    ] {
        let holds = hold(held);
        let situation =
            Situation { campaign, account: FREE, holds: &holds, replicas, elsewhere_until: None };
        assert_eq!(granted(cut(&need, &situation)), expected, "{name}");
    }
}

#[test]
fn the_first_level_without_room_names_the_refusal() {
    let full = room(100, 95, 0);
    let week = Room { by_week: true, ..full };
    for (name, campaign, account, held, expected) in [
        ("campaign before account", full, week, 0, Some(Reason::CampaignDayLimit)),
        ("campaign's week", week, full, 0, Some(Reason::CampaignWeekLimit)),
        ("account before funds", FREE, full, 0, Some(Reason::AccountDayLimit)),
        ("account's week", FREE, week, 0, Some(Reason::AccountWeekLimit)),
        ("funds last", FREE, FREE, 9, None),
    ] {
        let holds = hold(held);
        let situation =
            Situation { campaign, account, holds: &holds, replicas: 1, elsewhere_until: None };
        assert_eq!(reason(cut(&need(10, 0), &situation)), expected, "{name}");
    }
}

#[test]
fn a_budget_of_few_admissions_stays_with_one_replica() {
    let until: DateTime<Utc> = "2025-04-01T09:00:00Z".parse().unwrap();
    let holds = hold(100_000);
    let situation = |remaining: i64, replicas, elsewhere_until| Situation {
        campaign: room(1_000, 1_000 - remaining, 0),
        account: FREE,
        holds: &holds,
        replicas,
        elsewhere_until,
    };
    // Forty admissions among two replicas: each may have some.
    assert_eq!(granted(cut(&need(10, 0), &situation(400, 2, Some(until)))), 10);
    // Three admissions: the other has them.
    let refused = cut(&need(10, 0), &situation(30, 2, Some(until)));
    assert_eq!(refused, Cut::Refused(Bound::Elsewhere { until }));
    // Nobody has them: one takes them as if it were alone.
    assert_eq!(granted(cut(&need(10, 900), &situation(38, 2, None))), 19);
}

#[test]
fn the_last_slice_says_what_comes_after_it() {
    let holds = hold(100_000);
    let situation = |charged, reserved| Situation {
        campaign: room(100, charged, reserved),
        account: FREE,
        holds: &holds,
        replicas: 1,
        elsewhere_until: None,
    };
    let then = |charged, reserved| match cut(&need(10, 1_000), &situation(charged, reserved)) {
        Cut::Granted { then, .. } => then,
        Cut::Refused(bound) => panic!("refused: {bound:?}"),
    };
    assert_eq!(then(0, 0), None);
    let last = |may_come_back| {
        Some(Bound::Limit {
            level: Level::Campaign,
            by_week: false,
            limit_micros: 100,
            used_micros: 100,
            may_come_back,
        })
    };
    assert_eq!(then(85, 0), last(true), "the slice itself may come back");
    assert_eq!(then(0, 85), last(true));
}

#[test]
fn old_holds_are_used_up_first() {
    let holds =
        [(1, 4), (2, 12), (3, 500)].map(|(hold_no, room_micros)| HoldRoom { hold_no, room_micros });
    let situation = Situation {
        campaign: FREE,
        account: FREE,
        holds: &holds,
        replicas: 1,
        elsewhere_until: None,
    };
    for (least, most, expected) in [(4, 4, 1), (5, 10, 2), (10, 100, 3), (3, 501, 1)] {
        let need = Need { least_micros: least, most_micros: most, spend_micros: 0 };
        let Cut::Granted { hold_no, amount_micros, .. } = cut(&need, &situation) else {
            panic!("granted")
        };
        assert_eq!(hold_no, expected, "{least}..{most}");
        assert!(amount_micros >= least);
    }
}

const UNTOUCHED: Books = Books {
    state: SliceState::Open,
    amount_micros: 100,
    charged_micros: 0,
    closed_micros: 0,
    is_expected: false,
    ended_micros: 0,
};

/// Charges may come to more than an expected slice has: it never gives back what it has not.
#[test]
fn what_an_expected_slice_keeps_reserved() {
    let open = Books { is_expected: true, charged_micros: 20, closed_micros: 900, ..UNTOUCHED };
    assert_eq!(open.reserved_micros(), 80);
    let (smaller, returned) = open.shrink(50).unwrap();
    assert_eq!((smaller.reserved_micros(), returned), (30, 50));
    assert_eq!(smaller.shrink(50), None, "a second time is no news");
    let (none, returned) = open.shrink(10).unwrap();
    assert_eq!((none.reserved_micros(), returned), (0, 80), "charged beyond what was kept");
    assert_eq!(open.resolve().unwrap().1, 80);
    let over = Books { charged_micros: 130, ..open };
    assert_eq!((over.reserved_micros(), over.resolve().unwrap().1), (0, 0));
    assert_eq!(Books { is_expected: false, ..open }.shrink(50), None);
    let (unused, returned) = Books { is_expected: true, ..UNTOUCHED }.finalise(0).unwrap();
    assert_eq!((unused.reserved_micros(), returned), (1, 99));
}

/// Section 5: late charges of the hour are kept back once nine tenths are spent, and not before: a
/// slice is half of what remains.
#[test]
fn what_may_come_late_is_kept_back_near_the_limit() {
    let late = |charged| Room { late_micros: 40, ..room(1_000, charged, 0) };
    for (charged, expected) in [(900, 50), (901, 29), (950, 5), (955, 2)] {
        let holds = hold(10_000);
        let situation = Situation {
            campaign: late(charged),
            account: FREE,
            holds: &holds,
            replicas: 1,
            elsewhere_until: None,
        };
        assert_eq!(granted(cut(&need(1, 10_000), &situation)), expected, "{charged} charged");
    }
    let full = Situation {
        campaign: late(960),
        account: FREE,
        holds: &hold(10_000),
        replicas: 1,
        elsewhere_until: None,
    };
    let Cut::Refused(bound) = cut(&need(1, 10), &full) else { panic!("refused") };
    let expected = (Some(Reason::CampaignDayLimit), true);
    let comes_back = matches!(bound, Bound::Limit { may_come_back: true, .. });
    assert_eq!((bound.reason(), comes_back), expected, "the limit is not reached yet");
}

#[test]
fn what_a_slice_keeps_reserved() {
    let open = Books {
        state: SliceState::Open,
        amount_micros: 100,
        charged_micros: 20,
        closed_micros: 30,
        ..UNTOUCHED
    };
    assert_eq!((open.reserved_micros(), open.freed_micros()), (80, 10));
    let (reported, returned) = open.finalise(50).unwrap();
    assert_eq!(returned, 60, "(100 - 20) - (50 - 30)");
    assert_eq!(reported.reserved_micros(), 20);
    assert_eq!(reported.finalise(50), None, "a second report is no news");
    assert_eq!(reported.resolve().unwrap().1, 20);
    let (resolved, returned) = open.resolve().unwrap();
    assert_eq!((returned, resolved.reserved_micros()), (80, 0));
    assert_eq!((resolved.finalise(50), resolved.resolve()), (None, None), "a late report");
    assert_eq!(open.finalise(0).unwrap().1, 80, "never below what was closed");
}

#[test]
fn provisions() {
    let table = [
        ("a horizon of spend", (6_000, (5, 10), 1_000), (6_000, 5, 3_000, 4_800)),
        ("never less than the floor", (0, (10, 10), 1_000), (1_000, 10, 500, 800)),
        ("never less than some admissions", (0, (9, 100), 1_000), (1_600, 9, 800, 1_280)),
    ];
    for (name, (spend, prices, floor), (ask, least, below, join)) in table {
        let expected = Provision {
            ask_micros: ask,
            least_micros: least,
            below_micros: below,
            join_micros: join,
        };
        assert_eq!(provision(spend, prices, floor), expected, "{name}");
    }
}

fn any_room() -> impl Strategy<Value = Room> {
    (proptest::option::of(0..5_000i64), any::<bool>(), 0..3_000i64, 0..3_000i64).prop_map(
        |(limit_micros, by_week, charged_micros, reserved_micros)| Room {
            limit_micros,
            by_week,
            charged_micros,
            reserved_micros,
            late_micros: 0,
            due_micros: 0,
        },
    )
}

proptest! {
    /// No slice passes a limit or a hold, none is useless, and a refusal means that some room is
    /// below one admission or that the rest is elsewhere.
    #[test]
    fn a_slice_fits_everywhere_and_is_of_use(
        campaign in any_room(),
        account in any_room(),
        rooms in proptest::collection::vec(0..2_000i64, 0..4),
        replicas in 1..20u32,
        prices in (1..300i64, 0..300i64),
        spend_micros in 0..100_000i64,
        elsewhere: bool,
    ) {
        let need = Need {
            least_micros: prices.0,
            most_micros: prices.0 + prices.1,
            spend_micros,
        };
        let holds: Vec<_> = (0..)
            .zip(&rooms)
            .map(|(hold_no, &room_micros)| HoldRoom { hold_no, room_micros })
            .collect();
        let elsewhere_until = elsewhere.then_some(DateTime::<Utc>::UNIX_EPOCH);
        let situation = Situation { campaign, account, holds: &holds, replicas, elsewhere_until };
        let fits = |room: &Room, amount| {
            room.limit_micros.is_none_or(|limit| room.used_micros() + amount <= limit)
        };
        match cut(&need, &situation) {
            Cut::Granted { amount_micros, hold_no, .. } => {
                prop_assert!(fits(&campaign, amount_micros) && fits(&account, amount_micros));
                prop_assert!(amount_micros <= rooms[hold_no as usize]);
                prop_assert!(amount_micros >= need.least_micros);
            }
            Cut::Refused(Bound::Limit { level: Level::Campaign, .. }) => {
                prop_assert!(!fits(&campaign, need.least_micros));
            }
            Cut::Refused(Bound::Limit { level: Level::Account, .. }) => {
                prop_assert!(!fits(&account, need.least_micros));
            }
            Cut::Refused(Bound::Elsewhere { .. }) => prop_assert!(elsewhere),
            Cut::Refused(Bound::Funds) => {
                prop_assert!(rooms.iter().all(|room| *room < need.least_micros));
            }
        }
    }

    /// Whatever is settled and cancelled before the report, between it and the end: what a slice
    /// gives back in all is its amount less what was charged of it in time.
    #[test]
    fn a_slice_returns_all_but_its_charges(
        amount in 1..1_000i64,
        takes in proptest::collection::vec((1..50i64, 0..=100i64, any::<bool>()), 0..40),
        reports: bool,
    ) {
        let mut books = Books { amount_micros: amount, ..UNTOUCHED };
        let (mut left, mut taken, mut freed, mut returned) = (amount, 0, 0, 0);
        let mut pending = Vec::new();
        let close = |books: &mut Books, returned: &mut i64, reserved: i64, price: i64| {
            let before = books.reserved_micros();
            books.charged_micros += price;
            books.closed_micros += reserved;
            *returned += before - books.reserved_micros() - price;
        };
        for (price, percent, at_once) in takes {
            if price > left { continue; }
            left -= price;
            taken += price;
            let charge = price * percent / 100;
            if at_once {
                close(&mut books, &mut returned, price, charge);
                // The owner reads back and takes it again.
                left += books.freed_micros() - freed;
                freed = books.freed_micros();
            } else {
                pending.push((price, charge));
            }
        }
        prop_assert_eq!(taken, amount + freed - left, "what the owner knows");
        if reports {
            let (after, back) = books.finalise(taken).unwrap();
            prop_assert!(back >= 0);
            books = after;
            returned += back;
        }
        for (reserved, charge) in pending {
            close(&mut books, &mut returned, reserved, charge);
            prop_assert!(books.reserved_micros() >= 0);
        }
        let charged = books.charged_micros;
        let (_, back) = books.resolve().unwrap();
        prop_assert!(back >= 0 && charged <= amount);
        prop_assert_eq!(returned + back + charged, amount);
    }
}

/// what open clicks are expected to cost today is kept back all day, of the campaign and of
/// its account, and when more is due than there is room for, nothing is granted until it fades.
#[test]
fn r149_what_is_due_of_conversions_is_not_granted() {
    let due = |due_micros| Room { due_micros, ..room(1_000, 100, 200) };
    let holds = hold(10_000);
    let situation = |campaign, account| Situation {
        campaign,
        account,
        holds: &holds,
        replicas: 1,
        elsewhere_until: None,
    };
    for (due_micros, expected) in [(0, 350), (300, 200), (690, 5)] {
        let of_campaign = situation(due(due_micros), FREE);
        assert_eq!(granted(cut(&need(1, 10_000), &of_campaign)), expected, "{due_micros} due");
        let of_account = situation(FREE, due(due_micros));
        assert_eq!(granted(cut(&need(1, 10_000), &of_account)), expected, "{due_micros} due");
    }
    for due_micros in [700, 5_000] {
        let verdict = cut(&need(1, 10), &situation(due(due_micros), FREE));
        let Cut::Refused(bound) = verdict else { panic!("{due_micros} due: {verdict:?}") };
        // The limit is not reached: what is due may not come.
        assert!(matches!(bound, Bound::Limit { may_come_back: true, .. }), "{bound:?}");
    }
}
