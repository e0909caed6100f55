//! The transaction list (R-20..R-22, R-32).

use adspend_common::proto::adspend::billing::v1 as pb;
use pb::TransactionType as T;

use crate::support::*;

fn all(id: &str) -> pb::ListTransactionsRequest {
    pb::ListTransactionsRequest { parent: name(id), ..Default::default() }
}

async fn list(world: &World, request: pb::ListTransactionsRequest) -> Vec<pb::Transaction> {
    let listed = world.operator().transactions().list_transactions(request).await.unwrap();
    listed.into_inner().transactions
}

fn rows(listed: &[pb::Transaction]) -> Vec<(T, String, String)> {
    listed.iter().map(|row| (row.r#type(), text(&row.amount), text(&row.balance))).collect()
}

fn row(shown: T, amount: &str, balance: &str) -> (T, String, String) {
    (shown, amount.to_owned(), balance.to_owned())
}

/// Everything that can happen to an agency and its client, as each of them sees it.
#[tokio::test]
async fn every_row_says_what_happened_and_what_was_there_after_it() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    let paid = world.pay("north", "10000").await;
    let promise = world.promise("north", "3000").await.unwrap();
    world.transfer("north", "shop", "5000").await;

    let holds = world.role("pacing", None).holds();
    let hold = world.hold("shop", 300_000_000).await;
    let spend = pb::CampaignSpend {
        campaign: "campaigns/spring".to_owned(),
        cumulative_spent_micros: 100_000_000,
    };
    let item = pb::SettleHoldItem { hold: hold.name.clone(), sequence: 1, spends: vec![spend] };
    holds.clone().settle_holds(pb::SettleHoldsRequest { requests: vec![item] }).await.unwrap();
    let item = pb::ReleaseHoldItem { hold: hold.name };
    holds.clone().release_holds(pb::ReleaseHoldsRequest { requests: vec![item] }).await.unwrap();
    world.transfer("shop", "north", "400").await;
    world.set("2026-11-26T00:00:00+03:00");
    world.pay("north", "4000").await;

    let north = list(&world, all("north")).await;
    assert_eq!(
        rows(&north),
        [
            row(T::ChargeCredit, "-3000", "9400"),
            row(T::Deposit, "4000", "12400"),
            row(T::TransferIn, "400", "8400"),
            row(T::TransferOut, "-5000", "8000"),
            row(T::DepositCredit, "3000", "13000"),
            row(T::Deposit, "10000", "10000"),
        ]
    );
    assert_eq!((&north[0].object, &north[4].object), (&promise.name, &promise.name));
    assert_eq!(north[5].object, paid.name);
    assert_eq!(north[3].counterparty, "accounts/shop");
    let transfer = pb::GetTransferRequest { name: north[3].object.clone() };
    world.operator().transfers().get_transfer(transfer).await.unwrap();

    // Setting money aside and giving it back is not shown, spending is.
    let shop = list(&world, all("shop")).await;
    assert_eq!(
        rows(&shop),
        [
            row(T::TransferOut, "-400", "4500"),
            row(T::Charge, "-100", "4900"),
            row(T::TransferIn, "5000", "5000"),
        ]
    );
    assert_eq!(shop[1].object, "campaigns/spring");
    assert_eq!(shop[2].counterparty, "accounts/north");
    world.end().await;
}

#[tokio::test]
async fn types_and_times_are_filters() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    for day in 20..25 {
        world.pay("north", "2000").await;
        world.transfer("north", "shop", "100").await;
        world.set(&format!("2026-11-{}T12:00:00+03:00", day + 1));
    }
    let count = async |request| list(&world, request).await.len();
    assert_eq!(count(all("north")).await, 10);
    let of = |types: &[T]| pb::ListTransactionsRequest {
        types: types.iter().map(|shown| i32::from(*shown)).collect(),
        ..all("north")
    };
    assert_eq!(count(of(&[T::Deposit])).await, 5);
    assert_eq!(count(of(&[T::TransferOut, T::TransferIn])).await, 5);
    assert_eq!(count(of(&[T::TransferIn])).await, 0);
    let within = |start: &str, end: &str| pb::ListTransactionsRequest {
        start_time: stamp(start),
        end_time: stamp(end),
        ..all("north")
    };
    // From the start inclusive, to the end exclusive.
    let (twenty, twenty_two) = ("2026-11-20T12:00:00+03:00", "2026-11-22T12:00:00+03:00");
    assert_eq!(count(within(twenty, twenty_two)).await, 4);
    assert_eq!(count(within("2026-11-20T12:00:00.000001+03:00", twenty_two)).await, 2);
    // Without a range: the last 30 days.
    world.set("2026-12-21T12:00:00+03:00");
    assert_eq!(count(all("north")).await, 8);
    world.end().await;
}

#[tokio::test]
async fn pages_stay_put_while_money_moves() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "2000").await;
    for _ in 0..6 {
        world.transfer("north", "shop", "1").await;
    }
    let expected: Vec<String> =
        list(&world, all("north")).await.into_iter().map(|row| row.name).collect();
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let request =
            pb::ListTransactionsRequest { page_size: 2, page_token: token, ..all("north") };
        let page = world.operator().transactions().list_transactions(request).await.unwrap();
        let page = page.into_inner();
        seen.extend(page.transactions.into_iter().map(|row| row.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        world.transfer("north", "shop", "1").await;
    }
    assert_eq!(seen, expected);
    world.end().await;
}
