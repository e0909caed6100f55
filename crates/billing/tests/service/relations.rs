//! An advertiser joins an agency and leaves it.

use adspend_common::proto::adspend::billing::v1 as pb;
use tonic::Code;

use crate::support::*;

fn attach(id: &str, agency: &str) -> pb::AttachClientRequest {
    pb::AttachClientRequest { name: name(id), agency: name(agency), request_id: fresh() }
}

fn detach(id: &str) -> pb::DetachClientRequest {
    pb::DetachClientRequest { name: name(id), request_id: fresh() }
}

async fn with_advertiser() -> World {
    let world = World::start().await;
    world.with_agency("north").await;
    world.create(account("shop", pb::AccountKind::Advertiser, OTHER_INN)).await;
    world
}

#[tokio::test]
async fn the_money_comes_along_and_the_agency_takes_over() {
    let world = with_advertiser().await;
    world.pay("shop", "5000").await;
    let mut accounts = world.operator().accounts();
    let attached = accounts.attach_client(attach("shop", "north")).await.unwrap().into_inner();
    let attached = attached.account.unwrap();
    assert_eq!(
        (attached.kind(), attached.agency.as_str()),
        (pb::AccountKind::Client, "accounts/north")
    );
    assert_eq!(world.available("shop").await, "5000");
    // The agency sees it, the former owner of the tenant does not.
    let get = || pb::GetAccountRequest { name: name("shop") };
    world.agency("north").accounts().get_account(get()).await.unwrap();
    refused(world.role("advertiser", Some("shop")).accounts().get_account(get()).await)
        .is(Code::NotFound, "NOT_FOUND");
    // Its history begins anew with what it brought along.
    let list = pb::ListTransactionsRequest { parent: name("shop"), ..Default::default() };
    let listed = world.agency("north").transactions().list_transactions(list).await.unwrap();
    let listed = listed.into_inner().transactions;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].r#type(), pb::TransactionType::Adjustment);
    assert_eq!((text(&listed[0].amount), text(&listed[0].balance)), ("5000".into(), "5000".into()));
    world.transfer("shop", "north", "5000").await;
    refused(accounts.attach_client(attach("shop", "north")).await)
        .is(Code::FailedPrecondition, "NOT_ATTACHABLE");
    world.end().await;
}

#[tokio::test]
async fn an_invoice_from_before_is_still_paid() {
    let world = with_advertiser().await;
    let invoice = world.invoice("shop", "5000").await;
    world.operator().accounts().attach_client(attach("shop", "north")).await.unwrap();
    let payment = world.record(&invoice.number, "5000", OTHER_INN).await;
    assert_eq!(
        (payment.state(), payment.account.as_str()),
        (pb::PaymentState::Credited, "accounts/shop")
    );
    assert_eq!(world.available("shop").await, "5000");
    world.end().await;
}

#[tokio::test]
async fn attaching_names_every_reason_against_it() {
    let world = with_advertiser().await;
    let mut dollars = account("dollars", pb::AccountKind::Advertiser, OTHER_INN);
    dollars.account.as_mut().unwrap().currency_code = "USD".to_owned();
    world.create(dollars).await;
    world.with_client("north", "own").await;
    let block = pb::BlockAccountRequest { name: name("dollars"), request_id: fresh() };
    world.operator().accounts().block_account(block).await.unwrap();
    for (id, agency, why) in [
        ("dollars", "north", "NOT_ACTIVE,CURRENCY_MISMATCH"),
        ("own", "north", "ATTACHED_ALREADY"),
        ("shop", "shop", "NOT_AN_AGENCY"),
        ("north", "north", "NOT_A_DIRECT_ADVERTISER"),
    ] {
        let refused = refused(world.operator().accounts().attach_client(attach(id, agency)).await);
        refused.is(Code::FailedPrecondition, "NOT_ATTACHABLE");
        assert_eq!(refused.metadata["refusals"], why, "{id} to {agency}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_client_leaves_without_money_and_can_come_back() {
    let world = with_advertiser().await;
    world.with_client("north", "own").await;
    world.pay("north", "5000").await;
    world.transfer("north", "own", "1000").await;
    let mut agency = world.agency("north").accounts();
    let positive = refused(agency.detach_client(detach("own")).await);
    positive.is(Code::FailedPrecondition, "NOT_DETACHABLE");
    assert_eq!(positive.metadata["refusals"], "BALANCE_IS_POSITIVE");
    world.transfer("own", "north", "1000").await;
    let detached = agency.detach_client(detach("own")).await.unwrap().into_inner().account.unwrap();
    assert_eq!((detached.kind(), detached.agency.as_str()), (pb::AccountKind::Advertiser, ""));
    refused(agency.detach_client(detach("own")).await).is(Code::NotFound, "NOT_FOUND");
    refused(world.operator().accounts().detach_client(detach("own")).await)
        .is(Code::FailedPrecondition, "NOT_DETACHABLE");
    let stranger = pb::CreateTransferRequest {
        source: name("north"),
        destination: name("own"),
        amount: rub("1"),
        request_id: fresh(),
    };
    refused(world.operator().transfers().create_transfer(stranger.clone()).await)
        .is(Code::FailedPrecondition, "NOT_AN_AGENCY_CLIENT");

    world.operator().accounts().attach_client(attach("own", "north")).await.unwrap();
    let again = pb::CreateTransferRequest { request_id: fresh(), ..stranger };
    world.operator().transfers().create_transfer(again).await.unwrap();
    assert_eq!(world.available("own").await, "1");
    world.end().await;
}

/// R-5 lets a client go with a balance below zero; the debt is its own.
#[tokio::test]
async fn a_debt_goes_along_with_the_client() {
    let world = with_advertiser().await;
    world.with_client("north", "own").await;
    world.late_charge("own", 1_500_000).await;
    assert_eq!(world.available("own").await, "-1.50");
    world.operator().accounts().detach_client(detach("own")).await.unwrap();
    assert_eq!(world.available("own").await, "-1.50");
    world.end().await;
}
