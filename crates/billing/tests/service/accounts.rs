//! Accounts: creation, reading, changing, blocking, figures.

use adspend_common::proto::adspend::billing::v1 as pb;
use tonic::Code;

use crate::support::*;

fn get(id: &str) -> pb::GetAccountRequest {
    pb::GetAccountRequest { name: name(id) }
}

fn update(account: pb::Account, paths: &[&str]) -> pb::UpdateAccountRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    pb::UpdateAccountRequest {
        account: Some(account),
        update_mask: Some(prost_types::FieldMask { paths }),
        request_id: fresh(),
    }
}

#[tokio::test]
async fn an_account_is_read_as_it_was_created() {
    let world = World::start().await;
    let request = account("north", pb::AccountKind::Agency, NORTH_INN);
    let created = world.create(request.clone()).await;
    let asked = request.account.unwrap();
    assert_eq!(created.name, "accounts/north");
    assert_eq!(created.legal_entity, asked.legal_entity);
    assert_eq!(created.notification_email, asked.notification_email);
    assert_eq!(created.state(), pb::AccountState::Active);
    assert_eq!(created.create_time, stamp(START));
    let found = world.operator().accounts().get_account(get("north")).await.unwrap();
    assert_eq!(found.into_inner().account.unwrap(), created);
    assert_eq!(world.available("north").await, "0");

    let again = account("north", pb::AccountKind::Advertiser, OTHER_INN);
    let refused = refused(world.operator().accounts().create_account(again).await);
    refused.is(Code::AlreadyExists, "ALREADY_EXISTS");
    world.end().await;
}

#[tokio::test]
async fn an_account_without_an_id_gets_one() {
    let world = World::start().await;
    let created = world.create(account("", pb::AccountKind::Agency, NORTH_INN)).await;
    let id = created.name.strip_prefix("accounts/").unwrap();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
    world.end().await;
}

#[tokio::test]
async fn an_agency_creates_its_own_clients_and_nothing_else() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.create(account("south", pb::AccountKind::Agency, OTHER_INN)).await;
    let mut accounts = world.agency("north").accounts();

    let mut implied = client("shop", "north");
    implied.account.as_mut().unwrap().agency.clear();
    let created = accounts.create_account(implied).await.unwrap().into_inner().account.unwrap();
    assert_eq!(
        (created.kind(), created.agency.as_str()),
        (pb::AccountKind::Client, "accounts/north")
    );

    let foreign = refused(accounts.create_account(client("other", "south")).await);
    foreign.is(Code::NotFound, "NOT_FOUND");
    for kind in [pb::AccountKind::Agency, pb::AccountKind::Advertiser] {
        let refused = refused(accounts.create_account(account("x", kind, OTHER_INN)).await);
        refused.is(Code::PermissionDenied, "PERMISSION_DENIED");
    }
    let mut dollars = client("dollars", "north");
    dollars.account.as_mut().unwrap().currency_code = "USD".to_owned();
    let refused = refused(accounts.create_account(dollars).await);
    refused.is(Code::FailedPrecondition, "CURRENCY_MISMATCH");
    world.end().await;
}

#[tokio::test]
async fn lists_show_what_the_caller_may_see_in_the_order_of_creation() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.create(account("south", pb::AccountKind::Agency, OTHER_INN)).await;
    for id in ["c1", "c2", "c3"] {
        world.with_client("north", id).await;
    }
    let names = |page: &pb::ListAccountsResponse| -> Vec<String> {
        page.accounts.iter().map(|account| account.name.replace("accounts/", "")).collect()
    };
    let list = async |caller: Caller, agency: &str, size: i32, token: &str| {
        let request = pb::ListAccountsRequest {
            agency: agency.to_owned(),
            page_size: size,
            page_token: token.to_owned(),
        };
        caller.accounts().list_accounts(request).await.map(|page| page.into_inner())
    };
    let all = list(world.operator(), "", 0, "").await.unwrap();
    assert_eq!(names(&all), ["north", "south", "c1", "c2", "c3"]);
    assert_eq!(all.next_page_token, "");
    let own = list(world.agency("north"), "", 0, "").await.unwrap();
    assert_eq!(names(&own), ["north", "c1", "c2", "c3"]);
    let first = list(world.agency("north"), "accounts/north", 2, "").await.unwrap();
    assert_eq!(names(&first), ["c1", "c2"]);
    let token = first.next_page_token.clone();
    let last = list(world.agency("north"), "accounts/north", 2, &token).await.unwrap();
    assert_eq!((names(&last), last.next_page_token.as_str()), (vec!["c3".to_owned()], ""));
    // A token is bound to who asks and what is asked.
    for (caller, agency) in [
        (world.operator(), "accounts/north"),
        (world.agency("north"), ""),
        (world.agency("south"), "accounts/north"),
    ] {
        let status = list(caller, agency, 2, &token).await.unwrap_err();
        assert_eq!(refusal(&status).fields, ["page_token"]);
    }
    world.end().await;
}

#[tokio::test]
async fn only_the_fields_of_the_mask_change() {
    let world = World::start().await;
    let before = world.with_agency("north").await;
    let new = pb::Account {
        name: name("north"),
        display_name: "North Media".to_owned(),
        notification_email: "not in the mask".to_owned(),
        legal_entity: Some(pb::LegalEntity {
            address: "Moscow".to_owned(),
            name: "ignored".to_owned(),
            ..Default::default()
        }),
        etag: before.etag.clone(),
        ..Default::default()
    };
    let mut accounts = world.agency("north").accounts();
    let request = update(new.clone(), &["display_name", "legal_entity.address"]);
    let after = accounts.update_account(request).await.unwrap().into_inner().account.unwrap();
    let mut expected = before.clone();
    expected.display_name = "North Media".to_owned();
    expected.legal_entity.as_mut().unwrap().address = "Moscow".to_owned();
    expected.etag.clone_from(&after.etag);
    assert_eq!(after, expected);
    assert_ne!(after.etag, before.etag);

    let stale = refused(accounts.update_account(update(new.clone(), &["display_name"])).await);
    stale.is(Code::Aborted, "ETAG_MISMATCH");
    let unknown = refused(accounts.update_account(update(new.clone(), &["currency_code"])).await);
    assert_eq!(unknown.fields, ["update_mask"]);
    let wrong = pb::Account {
        name: name("north"),
        legal_entity: Some(pb::LegalEntity {
            kpp: "1".to_owned(),
            ogrn: "2".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let request = update(wrong, &["legal_entity.kpp", "legal_entity.ogrn"]);
    let refused = refused(accounts.update_account(request).await);
    assert_eq!(refused.fields, ["account.legal_entity.kpp", "account.legal_entity.ogrn"]);
    world.end().await;
}

#[tokio::test]
async fn a_blocked_account_moves_no_money_until_it_is_unblocked() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "5000").await;
    let block = |id: &str| pb::BlockAccountRequest { name: name(id), request_id: fresh() };
    let unblock = |id: &str| pb::UnblockAccountRequest { name: name(id), request_id: fresh() };
    let mut accounts = world.operator().accounts();

    refused(accounts.unblock_account(unblock("shop")).await)
        .is(Code::FailedPrecondition, "ALREADY_IN_STATE");
    let blocked = accounts.block_account(block("shop")).await.unwrap().into_inner();
    assert_eq!(blocked.account.unwrap().state(), pb::AccountState::Blocked);
    refused(accounts.block_account(block("shop")).await)
        .is(Code::FailedPrecondition, "ALREADY_IN_STATE");
    let transfer = || pb::CreateTransferRequest {
        source: name("north"),
        destination: name("shop"),
        amount: rub("1000"),
        request_id: fresh(),
    };
    refused(world.operator().transfers().create_transfer(transfer()).await)
        .is(Code::FailedPrecondition, "ACCOUNT_BLOCKED");
    accounts.unblock_account(unblock("shop")).await.unwrap();
    world.operator().transfers().create_transfer(transfer()).await.unwrap();
    assert_eq!(world.available("shop").await, "1000");
    world.end().await;
}

/// R-24, with its worked figures: balance 3 000, hold 300. Expiry needs no job.
#[tokio::test]
async fn held_money_is_not_available_until_its_time_is_over() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "5000").await;
    world.transfer("north", "shop", "3000").await;
    let item = pb::OpenHoldItem {
        account: name("shop"),
        amount_micros: 300_000_000,
        min_amount_micros: 300_000_000,
        ttl: Some(prost_types::Duration { seconds: 900, nanos: 0 }),
        request_id: fresh(),
    };
    let request = pb::OpenHoldsRequest { requests: vec![item] };
    let opened = world.role("pacing", None).holds().open_holds(request).await.unwrap();
    assert_eq!(opened.into_inner().results.len(), 1);

    let figures = async |as_of: Option<&str>| {
        let request = pb::GetBalanceRequest { name: name("shop"), as_of: as_of.and_then(stamp) };
        let balance = world.operator().accounts().get_balance(request).await.unwrap().into_inner();
        [text(&balance.posted), text(&balance.held), text(&balance.available)]
    };
    assert_eq!(figures(None).await, ["3000", "300", "2700"]);
    world.set("2026-11-20T12:14:59.999999+03:00");
    assert_eq!(figures(None).await, ["3000", "300", "2700"]);
    world.set("2026-11-20T12:15:00+03:00");
    assert_eq!(figures(None).await, ["3000", "0", "3000"]);
    // All of it may be moved, which also books the expiry; the past does not change by that.
    world.set("2026-11-20T13:00:00+03:00");
    world.transfer("shop", "north", "3000").await;
    assert_eq!(figures(None).await, ["0", "0", "0"]);
    for (moment, expected) in [
        ("2026-11-20T11:59:59+03:00", ["0", "0", "0"]),
        ("2026-11-20T12:10:00+03:00", ["3000", "300", "2700"]),
        ("2026-11-20T12:30:00+03:00", ["3000", "0", "3000"]),
        ("2026-11-20T13:00:00+03:00", ["0", "0", "0"]),
    ] {
        assert_eq!(figures(Some(moment)).await, expected, "{moment}");
    }
    let future =
        pb::GetBalanceRequest { name: name("shop"), as_of: stamp("2026-11-21T12:00:00+03:00") };
    let refused = refused(world.operator().accounts().get_balance(future).await);
    assert_eq!(refused.fields, ["as_of"]);
    world.end().await;
}
