//! When an autopayment fires, and what it books.

use adspend_common::proto::adspend::billing::v1 as pb;
use pb::AutopayRunState as State;
use tonic::Code;

use super::support::*;
use crate::support::*;

#[tokio::test]
async fn a_low_account_is_topped_up_once_and_the_payment_is_seen_everywhere() {
    let (world, simulator) = world().await;
    let (token, card) = world.low(&simulator, "store", ("5000", "1000")).await;
    let _payer = Payer::start(&world).await;
    world.available_is("store", "5000").await;
    let run = world.ends("store", State::Succeeded).await;
    assert_eq!((text(&run.amount), text(&run.balance), run.tries), ("5000".into(), "0".into(), 1));
    assert_eq!(run.card, card.name);
    let key = run.name.rsplit('/').next().unwrap().to_owned();
    assert_eq!(simulator.tries(), std::slice::from_ref(&key), "the key is the run's id");
    assert_eq!(simulator.charges(), [(key.clone(), "5000.00".to_owned())]);

    let body = simulator.last_try();
    assert_eq!(body["amount"], serde_json::json!({ "value": "5000.00", "currency": "RUB" }));
    assert_eq!(body["capture"], true);
    assert_eq!(body["payment_method_id"], token.as_str());
    assert_eq!(body["metadata"]["adspend_run"], key.as_str());

    let request = pb::GetPaymentRequest { name: run.payment.clone() };
    let payment = world.advertiser("store").payments().get_payment(request).await.unwrap();
    let payment = payment.into_inner().payment.unwrap();
    assert_eq!(payment.state(), pb::PaymentState::Credited);
    assert_eq!(
        (payment.account.as_str(), text(&payment.amount)),
        ("accounts/store", "5000".into())
    );
    assert_eq!(payment.document_number, run.provider_payment);
    let request = pb::ListTransactionsRequest { parent: name("store"), ..Default::default() };
    let rows = world.operator().transactions().list_transactions(request).await.unwrap();
    let rows = rows.into_inner().transactions;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].r#type(), pb::TransactionType::Deposit);
    world.end().await;
}

/// at the value and below it, not above; from a debit, within seconds.
#[tokio::test]
async fn it_fires_when_what_is_left_reaches_the_value_and_not_before() {
    let (world, simulator) = world().await;
    let (_, card) = world.low(&simulator, "store", ("5000", "0")).await;
    let _payer = Payer::start(&world).await;
    world.available_is("store", "5000").await;
    world.set_autopay("store", &card.name, ("2000", "1000")).await.unwrap();
    spend(&world, "store", "3999.99").await;
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(world.available("store").await, "1000.01", "a kopeck above the value");
    spend(&world, "store", "0.01").await;
    world.available_is("store", "3000").await;
    charged_once(&simulator, 2);
    world.end().await;
}

/// Money goes out as a hold that is spent.
async fn spend(world: &World, account: &str, amount: &str) {
    let micros = amount.parse::<adspend_common::money::Money>().unwrap().micros();
    let item = pb::OpenHoldItem {
        account: name(account),
        amount_micros: micros,
        min_amount_micros: micros,
        ttl: Some(prost_types::Duration { seconds: 900, nanos: 0 }),
        request_id: fresh(),
    };
    let request = pb::OpenHoldsRequest { requests: vec![item] };
    let opened = world.role("pacing", None).holds().open_holds(request).await.unwrap();
    let opened = opened.into_inner();
    assert!(format!("{opened:?}").contains("holds/"), "{opened:?}");
}

/// Still at the value after a payment: another one, each under a key of its own.
#[tokio::test]
async fn payments_follow_each_other_while_the_account_is_low_and_stop_at_the_days_limit() {
    let (world, simulator) = world_with(|terms| terms.max_payments_per_day = 4).await;
    world.low(&simulator, "store", ("100", "1000")).await;
    let _payer = Payer::start(&world).await;
    world.available_is("store", "400").await;
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    charged_once(&simulator, 4);
    assert!(world.autopay("store").await.enabled, "it waits for the next day");
    world.set("2026-11-20T23:59:59+03:00");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    charged_once(&simulator, 4);
    world.set("2026-11-21T00:00:00+03:00");
    world.available_is("store", "800").await;
    world.end().await;
}

#[tokio::test]
async fn only_direct_advertisers_from_russia_in_roubles_may_have_it_r_121() {
    let (world, simulator) = world().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    let mut foreign = account("kz", pb::AccountKind::Advertiser, NORTH_INN);
    foreign.account.as_mut().unwrap().legal_entity = Some(pb::LegalEntity {
        country_code: "KZ".into(),
        name: "KZ".into(),
        inn: "180740000".into(),
        ..Default::default()
    });
    world.create(foreign).await;
    let mut dollars = account("usd", pb::AccountKind::Advertiser, NORTH_INN);
    dollars.account.as_mut().unwrap().currency_code = "USD".into();
    world.create(dollars).await;
    let token = simulator.save_card("0053");
    for (account, why) in [
        ("north", "NOT_A_DIRECT_ADVERTISER"),
        ("shop", "NOT_A_DIRECT_ADVERTISER,REQUISITES_MISSING"),
        ("kz", "NOT_A_RESIDENT"),
        ("usd", "CURRENCY_NOT_SUPPORTED"),
    ] {
        let refused = refusal(&world.link(account, &token).await.unwrap_err());
        refused.is(Code::FailedPrecondition, "AUTOPAY_NOT_AVAILABLE");
        assert_eq!(refused.metadata["refusals"], why, "{account}");
    }
    world.end().await;
}

#[tokio::test]
async fn one_payment_brings_299_999_and_no_more_r_121() {
    let (world, simulator) = world().await;
    let (_, card) = world.low(&simulator, "store", ("299999", "0")).await;
    let over = world.set_autopay("store", &card.name, ("300000", "0")).await;
    let refused = refusal(&over.unwrap_err());
    refused.is(Code::FailedPrecondition, "AMOUNT_ABOVE_MAXIMUM");
    let over = world.set_autopay("store", &card.name, ("299999.01", "0")).await;
    refusal(&over.unwrap_err()).is(Code::FailedPrecondition, "AMOUNT_ABOVE_MAXIMUM");
    let _payer = Payer::start(&world).await;
    world.available_is("store", "299999").await;
    world.end().await;
}

#[tokio::test]
async fn it_is_off_without_a_provider_and_says_so() {
    let world = World::start().await;
    world.with_advertiser("store").await;
    let refused =
        refusal(&world.link("store", "22e12f66-000f-5000-8000-18db351245c7").await.unwrap_err());
    refused.is(Code::FailedPrecondition, "AUTOPAY_NOT_AVAILABLE");
    assert_eq!(refused.metadata["refusals"], "PROVIDER_NOT_CONFIGURED");
    assert!(world.cards("store").await.is_empty());
    assert!(!world.autopay("store").await.enabled);
    let page = crate::provider::notify(world.metrics, "{}", &[]).await;
    assert_eq!(page, 404, "nobody listens to notifications");
    world.end().await;
}

/// An advertiser that joins an agency is funded by it: the card is not charged any more.
#[tokio::test]
async fn joining_an_agency_switches_it_off() {
    let (world, simulator) = world().await;
    world.with_agency("north").await;
    world.low(&simulator, "store", ("5000", "0")).await;
    let request =
        pb::AttachClientRequest { name: name("store"), agency: name("north"), request_id: fresh() };
    world.operator().accounts().attach_client(request).await.unwrap();
    let _payer = Payer::start(&world).await;
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    charged_once(&simulator, 0);
    let request = pb::DetachClientRequest { name: name("store"), request_id: fresh() };
    world.operator().accounts().detach_client(request).await.unwrap();
    let autopay = world.autopay("store").await;
    assert_eq!(autopay.disabled_reason(), pb::AutopayDisabledReason::NotEligible);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    charged_once(&simulator, 0);
    world.end().await;
}

#[tokio::test]
async fn a_payment_under_way_arrives_where_the_account_is_now() {
    let (world, simulator) = world().await;
    world.with_agency("north").await;
    simulator.will([crate::provider::Act::StayPending]);
    world.low(&simulator, "store", ("5000", "0")).await;
    let _payer = Payer::start(&world).await;
    until("it was tried", async || !simulator.tries().is_empty()).await;
    let request =
        pb::AttachClientRequest { name: name("store"), agency: name("north"), request_id: fresh() };
    world.operator().accounts().attach_client(request).await.unwrap();
    let key = simulator.tries().remove(0);
    simulator.decide(&simulator.payment_of(&key).unwrap(), None).await;
    until("the money is booked", async || {
        world.pass(5);
        world.available("store").await == "5000"
    })
    .await;
    charged_once(&simulator, 1);
    world.end().await;
}

#[tokio::test]
async fn a_blocked_account_is_not_charged() {
    let (world, simulator) = world().await;
    world.low(&simulator, "store", ("5000", "0")).await;
    let request = pb::BlockAccountRequest { name: name("store"), request_id: fresh() };
    world.operator().accounts().block_account(request).await.unwrap();
    let _payer = Payer::start(&world).await;
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    charged_once(&simulator, 0);
    let request = pb::UnblockAccountRequest { name: name("store"), request_id: fresh() };
    world.operator().accounts().unblock_account(request).await.unwrap();
    world.available_is("store", "5000").await;
    world.end().await;
}
