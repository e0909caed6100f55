//! R-26, the second half: what goes back for invalid clicks of a closed month may be spent, but not leave the
//! account.

use adspend_common::proto::adspend::billing::v1 as pb;
use pb::DocumentType;
use tonic::{Code, Response, Status};

use crate::{
    documents::{closing, made},
    support::*,
};

async fn charge(world: &World, campaign: &str, rubles: i64) {
    let item = pb::RecordChargeItem {
        account: name("shop"),
        campaign: format!("campaigns/{campaign}"),
        amount_micros: rubles * 1_000_000,
        day: None,
        request_id: fresh(),
    };
    let request = pb::RecordChargesRequest { requests: vec![item] };
    let answer = world.role("pacing", None).holds().record_charges(request).await.unwrap();
    assert!(answer.into_inner().results[0].error.is_none());
}

/// Gives the price of clicks on the spring campaign back; answers what of it may only be spent, in roubles.
async fn credit(world: &World, rubles: i64) -> (i64, String) {
    let request = pb::CreditInvalidClicksRequest {
        account: name("shop"),
        campaign: "campaigns/spring".to_owned(),
        amount_micros: rubles * 1_000_000,
        reason: "click farm".to_owned(),
        request_id: fresh(),
    };
    let holds = world.role("ad_server", None).holds();
    let done = holds.clone().credit_invalid_clicks(request).await.unwrap().into_inner();
    (done.spend_only_micros / 1_000_000, done.transaction)
}

async fn back(world: &World, amount: &str) -> Result<Response<pb::CreateTransferResponse>, Status> {
    let request = pb::CreateTransferRequest {
        source: name("shop"),
        destination: name("north"),
        amount: rub(amount),
        request_id: fresh(),
    };
    world.operator().transfers().create_transfer(request).await
}

async fn short(world: &World, amount: &str) {
    refused(back(world, amount).await).is(Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
}

/// What is available, and what of it may only be spent.
async fn figures(world: &World) -> [String; 2] {
    let balance = world.balance("shop").await;
    [text(&balance.available), text(&balance.spend_only)]
}

/// November is closed: the client had 100 charged for a campaign in it, and has 900 left.
async fn closed() -> World {
    let world = World::with(closing).await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "10000").await;
    world.transfer("north", "shop", "1000").await;
    charge(&world, "spring", 100).await;
    assert_eq!(credit(&world, 10).await.0, 0, "its month is open");
    back(&world, "10").await.unwrap();
    world.set("2026-12-01T00:00:00+03:00");
    made(&world, "north", &[DocumentType::Act], 1).await;
    world
}

#[tokio::test]
async fn what_goes_back_for_a_closed_month_is_spent_and_not_transferred() {
    let world = closed().await;
    charge(&world, "spring", 20).await;
    // 20 go back for December, the rest for November.
    assert_eq!(credit(&world, 50).await.0, 30);
    assert_eq!(figures(&world).await, ["930", "30"]);
    short(&world, "900.01").await;
    back(&world, "900").await.unwrap();
    // Charges use it up before anything else, whatever they are for.
    charge(&world, "autumn", 10).await;
    assert_eq!(figures(&world).await, ["20", "20"]);
    short(&world, "0.01").await;
    world.transfer("north", "shop", "100").await;
    short(&world, "100.01").await;
    back(&world, "100").await.unwrap();
    charge(&world, "autumn", 25).await;
    assert_eq!(figures(&world).await, ["-5", "0"]);
    world.transfer("north", "shop", "100").await;
    back(&world, "95").await.unwrap();
    world.end().await;
}

/// Money in a hold is about to be spent, so it is that money first.
#[tokio::test]
async fn a_hold_takes_it_and_its_spend_uses_it_up() {
    let world = closed().await;
    assert_eq!(credit(&world, 60).await.0, 60);
    let holds = world.role("pacing", None).holds();
    let hold = world.hold("shop", 40_000_000).await.name;
    // 960 less the 40 in the hold; 20 of the 60 stay.
    short(&world, "900.01").await;
    back(&world, "900").await.unwrap();
    let spent = pb::CampaignSpend {
        campaign: "campaigns/spring".to_owned(),
        cumulative_spent_micros: 30_000_000,
    };
    let item = pb::SettleHoldItem { hold: hold.clone(), sequence: 1, spends: vec![spent] };
    let settle = pb::SettleHoldsRequest { requests: vec![item] };
    holds.clone().settle_holds(settle).await.unwrap();
    let release = pb::ReleaseHoldsRequest { requests: vec![pb::ReleaseHoldItem { hold }] };
    holds.clone().release_holds(release).await.unwrap();
    assert_eq!(figures(&world).await, ["30", "30"]);
    short(&world, "0.01").await;
    world.end().await;
}

/// A credit that is reversed takes it along.
#[tokio::test]
async fn it_goes_with_its_credit() {
    let world = closed().await;
    let (kept, transaction) = credit(&world, 40).await;
    assert_eq!(kept, 40);
    assert_eq!(credit(&world, 15).await.0, 15);
    let reverse = pb::ReverseTransactionRequest {
        name: transaction,
        reason: "they were people".to_owned(),
        request_id: fresh(),
    };
    world.operator().transactions().reverse_transaction(reverse).await.unwrap();
    assert_eq!(figures(&world).await, ["915", "15"]);
    world.end().await;
}

/// An advertiser that joins an agency brings it along: the agency cannot draw it off, nor is it paid back before.
#[tokio::test]
async fn it_goes_with_its_account_and_is_not_refunded() {
    let world = World::with(closing).await;
    world.with_agency("north").await;
    world.create(account("shop", pb::AccountKind::Advertiser, OTHER_INN)).await;
    let payment = world.pay("shop", "1300").await;
    charge(&world, "spring", 100).await;
    world.set("2026-12-01T00:00:00+03:00");
    made(&world, "shop", &[DocumentType::Act], 1).await;
    assert_eq!(credit(&world, 50).await.0, 50);
    let refund = |amount| pb::RefundPaymentRequest {
        name: payment.name.clone(),
        amount: rub(amount),
        reason: "the contract ended".to_owned(),
        request_id: fresh(),
    };
    let above = world.operator().payments().refund_payment(refund("1200.01")).await;
    refused(above).is(Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
    world.operator().payments().refund_payment(refund("1200")).await.unwrap();
    let attach =
        pb::AttachClientRequest { name: name("shop"), agency: name("north"), request_id: fresh() };
    world.operator().accounts().attach_client(attach).await.unwrap();
    assert_eq!(figures(&world).await, ["50", "50"]);
    short(&world, "0.01").await;
    world.end().await;
}
