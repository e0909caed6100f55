//! Auto top-ups under many hands: once per crossing, never above the limit, nothing lost with a process.

use adspend_common::proto::adspend::billing::v1 as pb;
use pb::{AutoTopUpOutcome as Outcome, AutoTopUpPeriod as Period, AutoTopUpReason as Reason};

use crate::{
    support::*,
    top_ups::{firing, funded, rule},
};

/// Spends ten at a time through this caller.
async fn spend(caller: Caller, times: u32) {
    for _ in 0..times {
        let item = pb::RecordChargeItem {
            account: name("shop"),
            campaign: "campaigns/spring".to_owned(),
            amount_micros: 10_000_000,
            request_id: fresh(),
            ..Default::default()
        };
        let request = pb::RecordChargesRequest { requests: vec![item] };
        let done = caller.holds().record_charges(request).await.unwrap().into_inner();
        assert!(done.results[0].error.is_none(), "{done:?}");
    }
}

/// Twelve callers of three replicas spend 3 000 together.
async fn spend_everywhere(world: &World, replicas: &[Replica; 2]) {
    let callers = (0..12).map(|number| match number % 3 {
        0 => world.role("pacing", None),
        1 => replicas[0].role("pacing"),
        _ => replicas[1].role("pacing"),
    });
    let spenders: Vec<_> = callers.map(|caller| tokio::spawn(spend(caller, 25))).collect();
    for spender in spenders {
        spender.await.unwrap();
    }
}

fn transfers(runs: &[(Outcome, Reason, String)]) -> usize {
    runs.iter().filter(|(outcome, ..)| *outcome == Outcome::Transferred).count()
}

/// three replicas, twelve spenders, and settings that are written again and again meanwhile. 1 000
/// are there and 3 000 are spent. Each top-up starts at 0 or less, so 20 of them end at 0 at the most, and
/// at 0 the 21st follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_debits_and_replicas_fire_once_per_crossing() {
    let world = World::with(firing).await;
    funded(&world, "100000").await;
    world.set_top_up(rule("100", "0", "100000", Period::Month)).await;
    let replicas = [world.replica().await, world.replica().await];
    let set_again = async {
        for _ in 0..10 {
            world.set_top_up(rule("100", "0", "100000", Period::Month)).await;
        }
    };
    tokio::join!(spend_everywhere(&world, &replicas), set_again);
    let runs = world.until_runs(21).await;
    assert_eq!(transfers(&runs), 21);
    assert_eq!(runs.last().unwrap().2, "2100", "the sum of the month");
    assert_eq!(world.available("shop").await, "100");
    assert_eq!(world.available("north").await, "97900");
    for replica in replicas {
        replica.end().await;
    }
    world.end().await;
}

/// however many try, 750 / 100 = 7 times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_passes_the_limit() {
    let world = World::with(firing).await;
    funded(&world, "100000").await;
    world.set_top_up(rule("100", "50", "750", Period::Week)).await;
    let replicas = [world.replica().await, world.replica().await];
    spend_everywhere(&world, &replicas).await;
    let runs = world.until_runs(8).await;
    assert_eq!(transfers(&runs), 7);
    let last = (Outcome::Skipped, Reason::LimitUsedUp, "700".to_owned());
    assert_eq!(runs.last(), Some(&last));
    assert_eq!(world.available("shop").await, "-1300");
    for replica in replicas {
        replica.end().await;
    }
    world.end().await;
}

/// A process that commits the spend and ends before it fires loses nothing: whoever comes next fires, once.
#[tokio::test]
async fn a_crossing_outlives_the_process_that_saw_it() {
    let mut world = World::start().await;
    funded(&world, "100000").await;
    world.set_top_up(rule("500", "0", "2000", Period::Day)).await;
    spend(world.role("pacing", None), 100).await;
    assert_eq!(world.available("shop").await, "0");
    assert_eq!(world.runs().await, [], "this process fires nothing");

    world.succeeded_by(firing).await;
    let runs = world.until_runs(1).await;
    assert_eq!(transfers(&runs), 1);
    assert_eq!(world.available("shop").await, "500");
    world.end().await;
}

/// Several clients of one agency in one look: the money goes to whoever has waited longest, and the one that
/// it does not reach is switched off alone.
#[tokio::test]
async fn clients_share_what_the_agency_has() {
    let mut world = World::start().await;
    funded(&world, "1200").await;
    for id in ["cafe", "bank"] {
        world.with_client("north", id).await;
        world.transfer("purse", "north", "10").await;
        world.transfer("north", id, "10").await;
    }
    for id in ["shop", "cafe", "bank"] {
        let rule = rule("500", "0", "500", Period::Day);
        world.set_top_up(pb::SetAutoTopUpRequest { parent: name(id), ..rule }).await;
    }
    for (id, amount) in [("bank", "10"), ("shop", "1000"), ("cafe", "10")] {
        world.transfer(id, "north", amount).await;
        // What comes back is not there for the others.
        world.transfer("north", "purse", amount).await;
        world.hand.advance(std::time::Duration::from_secs(1));
    }
    world.succeeded_by(firing).await;
    world.until_runs(1).await;
    let mut told = Vec::new();
    for id in ["bank", "shop", "cafe"] {
        let request = pb::GetAutoTopUpRequest { parent: name(id) };
        let found = world.operator().top_ups().get_auto_top_up(request).await.unwrap();
        told.push(found.into_inner().auto_top_up.unwrap().disabled_reason());
    }
    let on = pb::AutoTopUpDisabledReason::Unspecified;
    let off = pb::AutoTopUpDisabledReason::InsufficientFunds;
    assert_eq!(told, [on, on, off]);
    assert_eq!(world.available("north").await, "200");
    world.end().await;
}
