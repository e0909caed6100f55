//! Credit under concurrent callers: the end of a month is booked once, and a threshold never lets more go
//! than it says.

use std::sync::Arc;

use adspend_common::{config::HumanDuration, proto::adspend::billing::v1 as pb};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tonic::Code;

use crate::support::*;

async fn credited(world: &World, id: &str, inn: &str, threshold: &str) {
    world.create(account(id, pb::AccountKind::Advertiser, inn)).await;
    let request = pb::SetCreditTermsRequest {
        name: name(id),
        granted_amount: rub("1000"),
        waive_record: true,
        request_id: fresh(),
    };
    world.operator().credit().set_credit_terms(request).await.unwrap();
    set(&world.operator(), id, threshold).await.unwrap();
}

async fn set(caller: &Caller, id: &str, threshold: &str) -> Result<(), Refused> {
    let request = pb::SetOverdraftThresholdRequest {
        name: name(id),
        threshold: rub(threshold),
        request_id: fresh(),
    };
    let set = caller.credit().set_overdraft_threshold(request).await;
    set.map(drop).map_err(|status| refusal(&status))
}

/// Opens a hold, spends a part of it, and gives back the rest; false when nothing was available.
async fn spend(caller: &Caller, id: &str, asked: i64, part: i64) -> bool {
    let item = pb::OpenHoldItem {
        account: name(id),
        amount_micros: asked,
        min_amount_micros: asked,
        ttl: Some(prost_types::Duration { seconds: 86_400, nanos: 0 }),
        request_id: fresh(),
    };
    let request = pb::OpenHoldsRequest { requests: vec![item] };
    let mut answer = caller.holds().open_holds(request).await.unwrap().into_inner();
    let hold = match answer.results.remove(0).outcome.unwrap() {
        pb::hold_result::Outcome::Hold(hold) => hold,
        pb::hold_result::Outcome::Error(error) => {
            assert_eq!(error.reason, "INSUFFICIENT_FUNDS");
            return false;
        }
    };
    let spends = vec![pb::CampaignSpend {
        campaign: "campaigns/spring".to_owned(),
        cumulative_spent_micros: part,
    }];
    let item = pb::SettleHoldItem { hold: hold.name.clone(), sequence: 1, spends };
    let settle = pb::SettleHoldsRequest { requests: vec![item] };
    caller.holds().settle_holds(settle).await.unwrap();
    let request =
        pb::ReleaseHoldsRequest { requests: vec![pb::ReleaseHoldItem { hold: hold.name }] };
    caller.holds().release_holds(request).await.unwrap();
    true
}

fn micros(money: &Option<adspend_common::proto::google::r#type::Money>) -> i64 {
    let money = money.as_ref().unwrap();
    money.units * 1_000_000 + i64::from(money.nanos / 1_000)
}

/// Spenders, readers and the job of two replicas meet at the end of the month: one invoice each, of exactly
/// what was owed, and then no more than the rest of the threshold is spent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_month_is_booked_once_whoever_comes_first() {
    let world = World::with(|config| {
        config.jobs.enabled = true;
        config.jobs.book_credit_every = HumanDuration::from_millis(100);
    })
    .await;
    let ids: Arc<Vec<String>> = Arc::new((0..6).map(|n| format!("shop{n}")).collect());
    for id in ids.iter() {
        credited(&world, id, OTHER_INN, "1000").await;
        assert!(spend(&world.role("pacing", None), id, 400_000_000, 400_000_000).await);
    }
    world.set("2026-11-30T23:59:59.99+03:00");
    let callers = (0..12).map(|seed| {
        let (pacing, reader, ids) = (world.role("pacing", None), world.operator(), ids.clone());
        let hand = world.hand.clone();
        tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed);
            for round in 0..20 {
                if seed == 0 && round == 5 {
                    hand.set(at("2026-12-01T00:00:00+03:00"));
                }
                let id = &ids[rng.random_range(0..ids.len())];
                if rng.random() {
                    spend(&pacing, id, 7_000_000, 0).await;
                } else {
                    let request = pb::GetBalanceRequest { name: name(id), as_of: None };
                    let figures = reader.accounts().get_balance(request).await.unwrap();
                    let figures = figures.into_inner();
                    let (posted, debt) = (micros(&figures.posted), micros(&figures.deferred_debt));
                    assert_eq!(
                        posted - debt,
                        -400_000_000,
                        "owed once, here or there: {figures:?}"
                    );
                }
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    for id in ids.iter() {
        let request = pb::ListInvoicesRequest { parent: name(id), ..Default::default() };
        let listed = world.operator().invoices().list_invoices(request).await.unwrap();
        let listed = listed.into_inner().invoices;
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(text(&listed[0].amount), "400");
        assert!(!spend(&world.role("pacing", None), id, 600_000_001, 0).await);
        assert!(spend(&world.role("pacing", None), id, 600_000_000, 0).await);
    }
    world.end().await;
}

/// A threshold that goes up and down under spenders: free money is never further below zero than it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_threshold_that_changes_under_holds_is_never_passed() {
    let world = World::start().await;
    credited(&world, "shop", OTHER_INN, "1000").await;
    let spenders = (0..8).map(|seed| {
        let pacing = world.role("pacing", None);
        tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut granted = 0;
            for _ in 0..25 {
                let asked = rng.random_range(1..200) * 1_000_000;
                granted += u32::from(
                    spend(&pacing, "shop", asked, rng.random_range(0..2) * asked / 8).await,
                );
            }
            granted
        })
    });
    let owners = (0..4).map(|seed| {
        let operator = world.operator();
        tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(100 + seed);
            let mut set_now = 0;
            for _ in 0..25 {
                let threshold = rng.random_range(1..=1_000).to_string();
                match set(&operator, "shop", &threshold).await {
                    Ok(()) => set_now += 1,
                    Err(refused) => refused.is(Code::FailedPrecondition, "THRESHOLD_BELOW_DEBT"),
                }
                let request = pb::GetBalanceRequest { name: name("shop"), as_of: None };
                let figures = operator.accounts().get_balance(request).await.unwrap().into_inner();
                assert!(micros(&figures.available) >= 0, "{figures:?}");
            }
            set_now
        })
    });
    let (spenders, owners): (Vec<_>, Vec<_>) = (spenders.collect(), owners.collect());
    let (mut granted, mut set_now) = (0, 0);
    for spender in spenders {
        granted += spender.await.unwrap();
    }
    for owner in owners {
        set_now += owner.await.unwrap();
    }
    assert!(granted > 10 && set_now > 5, "{granted} holds, {set_now} changes: nothing was tested");
    world.end().await;
}
