//! HoldService: the wire; the books themselves are tested in `src/holds/tests.rs`.

use adspend_common::proto::adspend::{billing::v1 as pb, r#type::v1::ItemError};
use pb::hold_result::Outcome;
use tonic::Code;

use crate::support::{World, fresh, name, refused, text};

fn ttl(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn ask(account: &str, micros: i64) -> pb::OpenHoldItem {
    pb::OpenHoldItem {
        account: name(account),
        amount_micros: micros,
        min_amount_micros: 1,
        ttl: ttl(60),
        request_id: fresh(),
    }
}

async fn funded() -> World {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "boots").await;
    world.pay("north", "5000").await;
    world.transfer("north", "boots", "1000").await;
    world
}

fn hold(result: &pb::HoldResult) -> pb::Hold {
    match result.outcome.clone() {
        Some(Outcome::Hold(hold)) => hold,
        other => panic!("{other:?}"),
    }
}

fn error(result: &pb::HoldResult) -> ItemError {
    match result.outcome.clone() {
        Some(Outcome::Error(error)) => error,
        other => panic!("{other:?}"),
    }
}

async fn open(world: &World, requests: Vec<pb::OpenHoldItem>) -> Vec<pb::HoldResult> {
    let pacing = world.role("pacing", None);
    let answer = pacing.holds().open_holds(pb::OpenHoldsRequest { requests }).await;
    answer.unwrap().into_inner().results
}

async fn settle(world: &World, hold: &str, sequence: i64, spent: &[(&str, i64)]) -> pb::HoldResult {
    let spend = |(campaign, micros): &(&str, i64)| pb::CampaignSpend {
        campaign: format!("campaigns/{campaign}"),
        cumulative_spent_micros: *micros,
    };
    let item = pb::SettleHoldItem {
        hold: hold.to_owned(),
        sequence,
        spends: spent.iter().map(spend).collect(),
    };
    let request = pb::SettleHoldsRequest { requests: vec![item] };
    let answer = world.role("pacing", None).holds().settle_holds(request).await.unwrap();
    answer.into_inner().results.remove(0)
}

#[tokio::test]
async fn a_hold_lives_from_its_opening_to_its_release() {
    let world = funded().await;
    let opened = hold(&open(&world, vec![ask("boots", 600_000_000)]).await[0]);
    assert_eq!(opened.state(), pb::HoldState::Open);
    assert_eq!((opened.opened_micros, opened.currency_code.as_str()), (600_000_000, "RUB"));
    let settled = hold(&settle(&world, &opened.name, 1, &[("a", 100), ("b", 50)]).await);
    assert_eq!((settled.settled_micros, settled.sequence), (150, 1));
    let item = pb::ReleaseHoldItem { hold: opened.name.clone() };
    let request = pb::ReleaseHoldsRequest { requests: vec![item.clone(), item] };
    let pacing = world.role("pacing", None);
    let released = pacing.holds().release_holds(request).await.unwrap().into_inner().results;
    assert!(!released[0].replayed && released[1].replayed);
    assert_eq!(hold(&released[0]).released_micros, 600_000_000 - 150);
    let request = pb::GetHoldRequest { name: opened.name.clone() };
    let read = pacing.holds().get_hold(request).await.unwrap().into_inner().hold.unwrap();
    assert_eq!(read, hold(&released[1]));
    assert_eq!(text(&world.balance("boots").await.held), "0");
    world.end().await;
}

#[tokio::test]
async fn an_expired_hold_says_so_and_its_late_spend_is_booked() {
    let world = funded().await;
    let opened = hold(&open(&world, vec![ask("boots", 600_000_000)]).await[0]);
    world.hand.advance(std::time::Duration::from_secs(60));
    let request = pb::GetHoldRequest { name: opened.name.clone() };
    let read = world.operator().holds().get_hold(request).await.unwrap().into_inner();
    assert_eq!(read.hold.unwrap().state(), pb::HoldState::Expired);
    let pacing = world.role("pacing", None);
    let item = pb::ExtendHoldItem { hold: opened.name.clone(), ttl: ttl(60) };
    let request = pb::ExtendHoldsRequest { requests: vec![item] };
    let extended = pacing.holds().extend_holds(request).await.unwrap().into_inner();
    assert_eq!(error(&extended.results[0]).reason, "HOLD_EXPIRED");
    let late = hold(&settle(&world, &opened.name, 1, &[("a", 1_200_000_000)]).await);
    assert_eq!((late.settled_micros, late.late_micros), (0, 1_200_000_000));
    assert_eq!(world.available("boots").await, "-200");
    world.end().await;
}

#[tokio::test]
async fn items_have_a_verdict_each_with_every_wrong_field() {
    let world = funded().await;
    let wrong = pb::OpenHoldItem {
        account: "accounts/".to_owned(),
        amount_micros: -1,
        min_amount_micros: 0,
        ttl: ttl(0),
        request_id: String::new(),
    };
    let greedy =
        pb::OpenHoldItem { min_amount_micros: 2_000_000_000, ..ask("boots", 3_000_000_000) };
    let results = open(&world, vec![wrong, ask("nobody", 1), ask("boots", 10), greedy]).await;
    let fields: Vec<_> =
        error(&results[0]).field_violations.into_iter().map(|wrong| wrong.field).collect();
    assert_eq!(fields, ["account", "amount_micros", "min_amount_micros", "ttl", "request_id"]);
    assert_eq!(error(&results[1]).reason, "NOT_FOUND");
    assert_eq!(hold(&results[2]).opened_micros, 10);
    assert_eq!(error(&results[3]).reason, "INSUFFICIENT_FUNDS");
    world.end().await;
}

#[tokio::test]
async fn a_retried_open_answers_with_the_same_hold_and_a_changed_one_is_refused() {
    let world = funded().await;
    let item = ask("boots", 100);
    let other = pb::OpenHoldItem { amount_micros: 101, ..item.clone() };
    let results = open(&world, vec![item.clone(), item, other]).await;
    assert_eq!(hold(&results[0]).name, hold(&results[1]).name);
    assert!(results[1].replayed);
    assert_eq!(error(&results[2]).reason, "REQUEST_ID_REUSED");
    assert_eq!(world.balance("boots").await.held.unwrap().nanos, 100_000);
    world.end().await;
}

#[tokio::test]
async fn charges_without_a_hold_are_booked_once() {
    let world = funded().await;
    let charge = pb::RecordChargeItem {
        account: name("boots"),
        campaign: "campaigns/a".to_owned(),
        amount_micros: 1_500_000_000,
        day: None,
        request_id: fresh(),
    };
    let wrong = pb::RecordChargeItem { amount_micros: 0, ..charge.clone() };
    let other = pb::RecordChargeItem { amount_micros: 7, ..charge.clone() };
    let request = pb::RecordChargesRequest { requests: vec![charge.clone(), charge, wrong, other] };
    let pacing = world.role("pacing", None);
    let results = pacing.holds().record_charges(request).await.unwrap().into_inner().results;
    let reasons: Vec<_> = results
        .iter()
        .map(|result| result.error.as_ref().map(|error| error.reason.as_str()))
        .collect();
    assert_eq!(reasons, [None, None, Some("INVALID_ARGUMENT"), Some("REQUEST_ID_REUSED")]);
    assert!(!results[0].replayed && results[1].replayed);
    assert_eq!(world.available("boots").await, "-500");
    world.end().await;
}

#[tokio::test]
async fn holds_are_listed_newest_first_and_open_ones_alone() {
    let world = funded().await;
    let mut names = Vec::new();
    for micros in 1..=5 {
        world.hand.advance(std::time::Duration::from_secs(1));
        names.insert(0, hold(&open(&world, vec![ask("boots", micros)]).await[0]).name);
    }
    let agency = world.agency("north");
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListHoldsRequest {
            parent: name("boots"),
            open_only: false,
            page_size: 2,
            page_token,
        };
        let page = agency.holds().list_holds(request).await.unwrap().into_inner();
        seen.extend(page.holds.into_iter().map(|hold| hold.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, names);
    world.hand.advance(std::time::Duration::from_secs(57));
    let request =
        pb::ListHoldsRequest { parent: name("boots"), open_only: true, ..Default::default() };
    let open = agency.holds().list_holds(request).await.unwrap().into_inner().holds;
    let open: Vec<_> = open.into_iter().map(|hold| hold.name).collect();
    assert_eq!(open, names[..3]);
    world.end().await;
}

#[tokio::test]
async fn only_pacing_and_operators_hold_money() {
    let world = funded().await;
    let request = pb::OpenHoldsRequest { requests: vec![ask("boots", 1)] };
    let answer = world.agency("north").holds().open_holds(request).await;
    refused(answer).is(Code::PermissionDenied, "PERMISSION_DENIED");
    world.end().await;
}
