//! Filters, orders and exports of the history (R-20..R-22), while money moves.

use adspend_common::proto::adspend::billing::v1 as pb;
use futures_util::StreamExt as _;
use pb::{TransactionOrder as Order, TransactionType as T};
use tonic::Code;

use crate::support::*;

fn all(id: &str) -> pb::ListTransactionsRequest {
    pb::ListTransactionsRequest { parent: name(id), page_size: 1_000, ..Default::default() }
}

async fn list(world: &World, request: pb::ListTransactionsRequest) -> Vec<pb::Transaction> {
    let mut rows = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListTransactionsRequest { page_token, ..request.clone() };
        let page = world.operator().transactions().list_transactions(request).await.unwrap();
        let page = page.into_inner();
        rows.extend(page.transactions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return rows;
        }
    }
}

async fn export(world: &World, request: pb::ExportTransactionsRequest) -> String {
    let answer = world.operator().transactions().export_transactions(request).await.unwrap();
    let mut chunks = answer.into_inner();
    let mut file = Vec::new();
    while let Some(chunk) = chunks.next().await {
        file.extend(chunk.unwrap().content);
    }
    String::from_utf8(file).unwrap()
}

/// The numbers of the rows of a file, which has a first line.
fn numbers(file: &str) -> Vec<i64> {
    let cell =
        |line: &str| line.split(',').next().unwrap().rsplit('/').next().unwrap().parse().unwrap();
    file.lines().skip(1).map(cell).collect()
}

fn number(row: &pb::Transaction) -> i64 {
    row.name.rsplit('/').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn rows_are_found_by_object_counterparty_and_amount_in_either_order() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.with_client("north", "store").await;
    let payment = world.pay("north", "10000").await;
    world.transfer("north", "shop", "100").await;
    world.transfer("north", "store", "2500.50").await;
    world.transfer("shop", "north", "40").await;
    let amounts = async |request| {
        let rows = list(&world, request).await;
        rows.iter().map(|row| text(&row.amount)).collect::<Vec<_>>()
    };
    assert_eq!(amounts(all("north")).await, ["40", "-2500.50", "-100", "10000"]);
    let oldest = pb::ListTransactionsRequest { order: Order::OldestFirst.into(), ..all("north") };
    assert_eq!(amounts(oldest.clone()).await, ["10000", "-100", "-2500.50", "40"]);
    let paged = pb::ListTransactionsRequest { page_size: 1, ..oldest };
    assert_eq!(amounts(paged).await, ["10000", "-100", "-2500.50", "40"]);

    let of =
        |object: &str| pb::ListTransactionsRequest { object: object.to_owned(), ..all("north") };
    assert_eq!(amounts(of(&payment.name)).await, ["10000"]);
    let transfer = list(&world, all("north")).await[1].object.clone();
    assert_eq!(amounts(of(&transfer)).await, ["-2500.50"]);
    assert_eq!(amounts(of("campaigns/none")).await, [""; 0]);
    let with = |id: &str| pb::ListTransactionsRequest { counterparty: name(id), ..all("north") };
    assert_eq!(amounts(with("shop")).await, ["40", "-100"]);
    assert_eq!(amounts(with("nobody")).await, [""; 0]);
    let between = |least: &str, most: &str| pb::ListTransactionsRequest {
        min_amount: rub(least),
        max_amount: rub(most),
        ..all("north")
    };
    assert_eq!(amounts(between("100", "2500.50")).await, ["-2500.50", "-100"]);
    assert_eq!(amounts(between("0", "99.99")).await, ["40"]);
    let both =
        pb::ListTransactionsRequest { types: vec![T::TransferOut.into()], ..between("0", "100") };
    assert_eq!(amounts(both).await, ["-100"]);

    let dollars = pb::ListTransactionsRequest { min_amount: money("1", "USD"), ..all("north") };
    let dollars = world.operator().transactions().list_transactions(dollars).await;
    refused(dollars).is(Code::FailedPrecondition, "CURRENCY_MISMATCH");
    for (request, fields) in [
        (between("2", "1"), vec!["max_amount"]),
        (
            pb::ListTransactionsRequest { max_amount: money("9", "USD"), ..between("2", "9") },
            vec!["max_amount.currency_code"],
        ),
        (pb::ListTransactionsRequest { order: 9, ..all("north") }, vec!["order"]),
        (with("Not An Id"), vec!["counterparty"]),
    ] {
        let answer = world.operator().transactions().list_transactions(request).await;
        assert_eq!(refused(answer).fields, fields);
    }
    world.end().await;
}

#[tokio::test]
async fn an_export_says_what_the_list_says() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    let payment = world.pay("north", "10000").await;
    world.transfer("north", "shop", "2500.50").await;
    let request = pb::ExportTransactionsRequest { parent: name("north"), ..Default::default() };
    let transfer = list(&world, all("north")).await[0].object.clone();
    let header = "transaction,time,type,amount,balance,currency,object,counterparty";
    let lines = [
        header.to_owned(),
        format!(
            "accounts/north/transactions/2,2026-11-20T09:00:00.000000Z,transfer_out,-2500.50,7499.50,RUB,{transfer},accounts/shop"
        ),
        format!(
            "accounts/north/transactions/1,2026-11-20T09:00:00.000000Z,deposit,10000.00,10000.00,RUB,{},",
            payment.name
        ),
    ];
    let file = lines.map(|line| format!("{line}\r\n")).concat();
    assert_eq!(export(&world, request.clone()).await, file);
    let marked = pb::ExportTransactionsRequest { byte_order_mark: true, ..request.clone() };
    assert_eq!(export(&world, marked).await, format!("\u{feff}{file}"));
    let none = pb::ExportTransactionsRequest { types: vec![T::Refund.into()], ..request.clone() };
    assert_eq!(export(&world, none).await, format!("{header}\r\n"));

    let foreign = world.role("advertiser", Some("shop")).transactions();
    let status = foreign.clone().export_transactions(request).await.unwrap_err();
    refusal(&status).is(Code::NotFound, "NOT_FOUND");
    world.end().await;
}

/// Writers transfer while pages are turned and files are exported: each reading is the history as it was when
/// it began, without a gap and without a row twice.
#[tokio::test]
async fn readings_are_of_one_moment_while_money_moves() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "100000").await;
    for _ in 0..30 {
        world.transfer("north", "shop", "1").await;
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    let writer = async {
        let mut written = 0;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            world.transfer("north", "shop", "1").await;
            written += 1;
        }
        written
    };
    let readers = async {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            for page_size in [3, 10] {
                let order = order.into();
                let request = pb::ListTransactionsRequest { page_size, order, ..all("north") };
                let rows: Vec<i64> = list(&world, request).await.iter().map(number).collect();
                whole(rows, order);
            }
            let order = order.into();
            let parent = name("north");
            let request = pb::ExportTransactionsRequest { parent, order, ..Default::default() };
            whole(numbers(&export(&world, request).await), order);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (written, ()) = tokio::join!(writer, readers);
    assert!(written > 10, "{written} transfers were made meanwhile");
    world.end().await;
}

/// Every number from 1 to some end that is 31 at the least.
fn whole(mut rows: Vec<i64>, order: i32) {
    if order == i32::from(Order::NewestFirst) {
        rows.reverse();
    }
    assert!(rows.len() >= 31, "{rows:?}");
    assert_eq!(rows, (1..=rows.len() as i64).collect::<Vec<_>>());
}

/// More rows than one chunk holds, and the balance of each row is that of the moment after it (as of).
#[tokio::test]
async fn a_long_history_comes_in_chunks_and_ties_to_balances_as_of() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "100000").await;
    let caller = world.operator();
    for hour in 0..3 {
        world.set(&format!("2026-11-21T{:02}:00:00+03:00", hour + 1));
        let transfers = (0..300).map(|_| {
            let request = pb::CreateTransferRequest {
                source: name("north"),
                destination: name("shop"),
                amount: rub("1"),
                request_id: fresh(),
            };
            let mut transfers = caller.transfers();
            async move { transfers.create_transfer(request).await.unwrap() }
        });
        futures_util::future::join_all(transfers).await;
    }
    let request = pb::ExportTransactionsRequest { parent: name("north"), ..Default::default() };
    let answer = caller.transactions().export_transactions(request.clone()).await.unwrap();
    let chunks: Vec<_> = answer.into_inner().collect().await;
    assert!(chunks.len() >= 3, "{} chunks", chunks.len());
    assert!(chunks.iter().all(|chunk| chunk.as_ref().unwrap().content.len() < 128 * 1024));
    let file = export(&world, request).await;
    assert_eq!(numbers(&file), (1..=901).rev().collect::<Vec<_>>());
    for (as_of, number) in [
        ("2026-11-21T00:59:59.999999+03:00", 1),
        ("2026-11-21T01:00:00+03:00", 301),
        ("2026-11-21T02:30:00+03:00", 601),
        ("2026-11-21T03:00:00+03:00", 901),
    ] {
        let request = pb::GetBalanceRequest { name: name("north"), as_of: stamp(as_of) };
        let posted = caller.accounts().get_balance(request).await.unwrap().into_inner().posted;
        let wanted = format!("transactions/{number},");
        let line = file.lines().find(|line| line.contains(&wanted)).unwrap();
        let balance = line.split(',').nth(4).unwrap();
        assert_eq!(format!("{}.00", text(&posted)), balance, "{as_of}");
    }
    world.end().await;
}
