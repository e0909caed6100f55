//! TransferService (R-80..R-88, R-31's worked split is in money).

use adspend_common::proto::adspend::billing::v1 as pb;
use pb::batch_create_transfers_result::Outcome;
use tonic::Code;

use crate::support::{World, fresh, money, name, refused, rub, text};

fn transfer(from: &str, to: &str, amount: &str) -> pb::CreateTransferRequest {
    pb::CreateTransferRequest {
        source: name(from),
        destination: name(to),
        amount: rub(amount),
        request_id: fresh(),
    }
}

async fn funded() -> World {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "boots").await;
    world.with_client("north", "hats").await;
    world.pay("north", "160000").await;
    world
}

/// R-81, worked: amount 10000.00 → client 23000.00, agency 150000.00.
#[tokio::test]
async fn the_answer_carries_both_balances_after() {
    let world = funded().await;
    let agency = world.agency("north");
    world.pay("north", "13000").await;
    agency.transfers().create_transfer(transfer("north", "boots", "13000")).await.unwrap();
    let answer = agency.transfers().create_transfer(transfer("north", "boots", "10000")).await;
    let done = answer.unwrap().into_inner().transfer.unwrap();
    assert_eq!(text(&done.amount), "10000");
    assert_eq!(text(&done.destination_balance), "23000");
    assert_eq!(text(&done.source_balance), "150000");
    let request = pb::GetTransferRequest { name: done.name.clone() };
    let read = agency.transfers().get_transfer(request).await.unwrap().into_inner();
    assert_eq!(read.transfer.unwrap(), done);
    world.end().await;
}

#[tokio::test]
async fn money_goes_to_any_client_and_back_and_nowhere_else() {
    let world = funded().await;
    world.create(crate::support::account("other", pb::AccountKind::Agency, "7743001840")).await;
    world.with_client("other", "foreign").await;
    let operator = world.operator();
    let done = |from, to, amount| {
        let mut client = operator.transfers();
        async move { client.create_transfer(transfer(from, to, amount)).await }
    };
    done("north", "boots", "500").await.unwrap();
    // More may come back than the agency once gave: any available money may (decision on R-80).
    done("boots", "north", "500").await.unwrap();
    for (from, to) in
        [("north", "foreign"), ("north", "other"), ("boots", "hats"), ("north", "north")]
    {
        refused(done(from, to, "1").await).is(Code::FailedPrecondition, "NOT_AN_AGENCY_CLIENT");
    }
    refused(done("boots", "north", "1").await).is(Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
    let dollars =
        pb::CreateTransferRequest { amount: money("1", "USD"), ..transfer("north", "boots", "1") };
    let refusal = refused(operator.transfers().create_transfer(dollars).await);
    refusal.is(Code::FailedPrecondition, "CURRENCY_MISMATCH");
    // A foreign client and one that does not exist are the same to an agency.
    let agency = world.agency("north");
    let foreign = agency.transfers().create_transfer(transfer("north", "foreign", "1")).await;
    let absent = agency.transfers().create_transfer(transfer("north", "nobody1", "1")).await;
    let (foreign, absent) = (refused(foreign), refused(absent));
    foreign.is(Code::NotFound, "NOT_FOUND");
    assert_eq!(foreign.bytes.0.replace("foreign", "nobody1"), absent.bytes.0);
    world.end().await;
}

#[tokio::test]
async fn held_money_does_not_leave() {
    let world = funded().await;
    world.transfer("north", "boots", "1000").await;
    let hold = pb::OpenHoldItem {
        account: name("boots"),
        amount_micros: 600_000_000,
        min_amount_micros: 1,
        ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        request_id: fresh(),
    };
    let request = pb::OpenHoldsRequest { requests: vec![hold] };
    world.operator().holds().open_holds(request).await.unwrap();
    let operator = world.operator();
    let answer = operator.transfers().create_transfer(transfer("boots", "north", "401")).await;
    refused(answer).is(Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
    operator.transfers().create_transfer(transfer("boots", "north", "400")).await.unwrap();
    world.end().await;
}

/// The matrix of I-4: done, repeated, with another payload in each field, after a refusal.
#[tokio::test]
async fn a_request_id_takes_effect_once() {
    let world = funded().await;
    let agency = world.agency("north");
    let asked = transfer("north", "boots", "100");
    let create = |request: pb::CreateTransferRequest| {
        let mut client = agency.transfers();
        async move { client.create_transfer(request).await }
    };
    let first = create(asked.clone()).await.unwrap().into_inner();
    let again = create(asked.clone()).await.unwrap().into_inner();
    assert!(!first.replayed && again.replayed);
    assert_eq!(first.transfer, again.transfer);
    for other in [
        pb::CreateTransferRequest { amount: rub("101"), ..asked.clone() },
        pb::CreateTransferRequest { destination: name("hats"), ..asked.clone() },
        pb::CreateTransferRequest {
            source: name("boots"),
            destination: name("north"),
            ..asked.clone()
        },
    ] {
        refused(create(other).await).is(Code::AlreadyExists, "REQUEST_ID_REUSED");
    }
    let too_much = transfer("north", "boots", "1000000");
    refused(create(too_much.clone()).await).is(Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
    let now = pb::CreateTransferRequest { amount: rub("1"), ..too_much };
    assert!(!create(now).await.unwrap().into_inner().replayed);
    assert_eq!(world.available("boots").await, "101");
    world.end().await;
}

async fn batch(
    world: &World,
    requests: Vec<pb::CreateTransferRequest>,
    atomic: bool,
) -> Vec<String> {
    let request = pb::BatchCreateTransfersRequest { requests, atomic };
    let answer = world.operator().transfers().batch_create_transfers(request).await.unwrap();
    let words = answer.into_inner().results.into_iter().map(|result| match result.outcome {
        Some(Outcome::Done(done)) if done.replayed => "REPLAYED".to_owned(),
        Some(Outcome::Done(_)) => "DONE".to_owned(),
        Some(Outcome::Error(error)) => error.reason,
        None => "NOTHING".to_owned(),
    });
    words.collect()
}

#[tokio::test]
async fn items_of_a_batch_have_a_verdict_each_unless_it_is_atomic() {
    let world = funded().await;
    let fine = transfer("north", "boots", "10");
    let items = vec![
        fine.clone(),
        transfer("boots", "north", "999999"),
        fine.clone(),
        pb::CreateTransferRequest { amount: rub("11"), ..fine.clone() },
        pb::CreateTransferRequest { amount: None, ..fine.clone() },
        transfer("north", "nobody", "1"),
        transfer("north", "hats", "5"),
    ];
    let verdicts = [
        "DONE",
        "INSUFFICIENT_FUNDS",
        "REPLAYED",
        "REQUEST_ID_REUSED",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "DONE",
    ];
    assert_eq!(batch(&world, items, false).await, verdicts);
    let atomic = vec![transfer("north", "boots", "7"), transfer("boots", "north", "999999")];
    assert_eq!(batch(&world, atomic, true).await, ["BATCH_ABORTED", "INSUFFICIENT_FUNDS"]);
    let atomic = vec![transfer("north", "boots", "7"), transfer("boots", "north", "17")];
    assert_eq!(batch(&world, atomic.clone(), true).await, ["DONE", "DONE"]);
    assert_eq!(batch(&world, atomic, true).await, ["REPLAYED", "REPLAYED"]);
    assert_eq!(world.available("boots").await, "0");
    assert_eq!(world.available("hats").await, "5");
    world.end().await;
}

#[tokio::test]
async fn a_batch_over_the_limit_is_refused_with_the_limit() {
    let world = funded().await;
    let requests = vec![transfer("north", "boots", "1"); 1_001];
    let request = pb::BatchCreateTransfersRequest { requests, atomic: false };
    let refusal = refused(world.operator().transfers().batch_create_transfers(request).await);
    refusal.is(Code::ResourceExhausted, "TOO_LARGE");
    assert_eq!(refusal.metadata["limit"], "1000");
    assert_eq!(world.available("boots").await, "0");
    world.end().await;
}

#[tokio::test]
async fn pages_stay_in_order_while_money_moves() {
    let world = funded().await;
    for amount in 1..=5 {
        world.transfer("north", "boots", &amount.to_string()).await;
    }
    let agency = world.agency("north");
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListTransfersRequest { parent: name("boots"), page_size: 2, page_token };
        let page = agency.transfers().list_transfers(request).await.unwrap().into_inner();
        seen.extend(page.transfers.iter().map(|transfer| text(&transfer.amount)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
        // What comes in between is newer than the page and moves nothing in it.
        world.transfer("north", "boots", "77").await;
    }
    assert_eq!(seen, ["5", "4", "3", "2", "1"]);
    world.end().await;
}

#[tokio::test]
async fn equal_transfers_from_many_callers_at_once_are_one() {
    let world = funded().await;
    let asked = transfer("north", "boots", "3");
    let calls = (0..16).map(|_| {
        let (mut client, asked) = (world.agency("north").transfers(), asked.clone());
        async move { client.create_transfer(asked).await.unwrap().into_inner().replayed }
    });
    let replayed = futures_util::future::join_all(calls).await;
    assert_eq!(replayed.iter().filter(|replayed| !**replayed).count(), 1);
    assert_eq!(world.available("boots").await, "3");
    world.end().await;
}
