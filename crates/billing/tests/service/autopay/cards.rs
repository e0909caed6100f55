//! Linking cards: five, masked, by tokens only.

use adspend_common::proto::adspend::billing::v1 as pb;
use tonic::Code;

use super::support::*;
use crate::support::*;

#[tokio::test]
async fn five_cards_are_linked_and_a_sixth_is_refused_until_one_is_unlinked_r_123() {
    let (world, simulator) = world().await;
    world.with_advertiser("store").await;
    let mut linked = Vec::new();
    for number in 1..=5 {
        let token = simulator.save_card(&format!("000{number}"));
        linked.push(world.link("store", &token).await.unwrap());
    }
    let sixth = simulator.save_card("0006");
    refusal(&world.link("store", &sixth).await.unwrap_err())
        .is(Code::FailedPrecondition, "TOO_MANY_CARDS");
    let masked: Vec<String> =
        world.cards("store").await.into_iter().map(|card| card.masked_number).collect();
    assert!(masked.iter().any(|number| number == "220000******0001"), "{masked:?}");
    assert_eq!(masked.len(), 5);

    let request = pb::UnlinkCardRequest { name: linked[2].name.clone(), request_id: fresh() };
    let unlinked = world.advertiser("store").autopay().unlink_card(request.clone()).await.unwrap();
    assert_eq!(unlinked.into_inner().card.unwrap().state(), pb::CardState::Unlinked);
    let again = world.advertiser("store").autopay().unlink_card(request).await.unwrap();
    assert!(again.into_inner().replayed);
    world.link("store", &sixth).await.unwrap();
    assert_eq!(world.cards("store").await.len(), 5);
    world.end().await;
}

#[tokio::test]
async fn concurrent_links_never_pass_five() {
    let (world, simulator) = world().await;
    world.with_advertiser("store").await;
    let tokens: Vec<String> = (0..8).map(|n| simulator.save_card(&format!("10{n:02}"))).collect();
    let links = tokens.iter().map(|token| world.link("store", token));
    let linked = futures_util::future::join_all(links).await;
    assert_eq!(linked.iter().filter(|link| link.is_ok()).count(), 5, "{linked:?}");
    assert_eq!(world.cards("store").await.len(), 5);
    world.end().await;
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_even_when_the_provider_has_gone() {
    let (world, simulator) = world().await;
    world.with_advertiser("store").await;
    let token = simulator.save_card("0053");
    let request = pb::LinkCardRequest {
        parent: name("store"),
        payment_method: token.clone(),
        request_id: "link".into(),
    };
    let store = world.advertiser("store");
    let first = store.autopay().link_card(request.clone()).await.unwrap().into_inner();
    simulator.away(true);
    let again = store.autopay().link_card(request).await.unwrap().into_inner();
    assert!(again.replayed && !first.replayed);
    assert_eq!(again.card, first.card);
    let other = simulator.save_card("0061");
    let refused = refusal(&world.link("store", &other).await.unwrap_err());
    refused.is(Code::Unavailable, "UNAVAILABLE");
    simulator.away(false);
    refusal(&world.link("store", &token).await.unwrap_err())
        .is(Code::AlreadyExists, "ALREADY_EXISTS");
    world.end().await;
}

#[tokio::test]
async fn only_a_saved_bank_card_that_can_be_charged_is_linked() {
    let (world, simulator) = world().await;
    world.with_advertiser("store").await;
    for (field, value) in [
        ("status", serde_json::json!("inactive")),
        ("status", serde_json::json!("pending")),
        ("saved", serde_json::json!(false)),
        ("type", serde_json::json!("yoo_money")),
        ("card", serde_json::json!(null)),
    ] {
        let token = simulator.save_card("0053");
        simulator.change_card(&token, field, value);
        let refused = refusal(&world.link("store", &token).await.unwrap_err());
        refused.is(Code::FailedPrecondition, "CARD_NOT_USABLE");
        assert_eq!(refused.metadata["refusals"], "NOT_CHARGEABLE", "{field}");
    }
    let unknown = world.link("store", "22e12f66-000f-5000-8000-18db351245c7").await;
    let refused = refusal(&unknown.unwrap_err());
    refused.is(Code::FailedPrecondition, "CARD_NOT_USABLE");
    assert_eq!(refused.metadata["refusals"], "UNKNOWN");
    world.end().await;
}

/// G15: no field takes a card number, and the answer does not repeat it.
#[tokio::test]
async fn card_numbers_are_refused_in_every_field() {
    let (world, _simulator) = world().await;
    world.with_advertiser("store").await;
    let number = "4111111111111111";
    let refused = refusal(&world.link("store", number).await.unwrap_err());
    refused.is(Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(refused.fields, ["payment_method"]);
    let request = pb::LinkCardRequest {
        parent: format!("accounts/{number}"),
        payment_method: "4111-1111-1111-1111".into(),
        request_id: number.into(),
    };
    let status = world.operator().autopay().link_card(request).await.unwrap_err();
    assert_eq!(refusal(&status).fields, ["parent", "payment_method", "request_id"]);
    let told = format!("{status:?}");
    assert!(!told.contains("4111"), "{told}");
    let mut named = account("other", pb::AccountKind::Advertiser, NORTH_INN);
    named.account.as_mut().unwrap().display_name = format!("card {number}");
    let status = world.operator().accounts().create_account(named).await.unwrap_err();
    assert_eq!(refusal(&status).fields, ["account.display_name"]);
    let recorded = payment("карта 4111 1111 1111 1111", "2000", NORTH_INN);
    let status = world.operator().payments().record_payment(recorded).await.unwrap_err();
    assert_eq!(refusal(&status).fields, ["purpose"]);
    world.end().await;
}

#[tokio::test]
async fn what_is_foreign_answers_as_what_is_absent() {
    let (world, simulator) = world().await;
    let (_, card) = world.low(&simulator, "store", ("5000", "0")).await;
    world.with_advertiser("other").await;
    let other = world.advertiser("other");
    let list = |parent: &str| pb::ListCardsRequest { parent: parent.to_owned() };
    let foreign = refused(other.autopay().list_cards(list("accounts/store")).await);
    foreign.is(Code::NotFound, "NOT_FOUND");
    let absent = refused(other.autopay().list_cards(list("accounts/stort")).await);
    assert_eq!(foreign.bytes.0.replace("store", "stort"), absent.bytes.0);
    let unlink = pb::UnlinkCardRequest { name: card.name.clone(), request_id: fresh() };
    refused(other.autopay().unlink_card(unlink).await).is(Code::NotFound, "NOT_FOUND");
    // A card of somebody else cannot be charged for oneself.
    let id = card.name.rsplit('/').next().unwrap();
    let set = world.set_autopay("other", &format!("accounts/other/cards/{id}"), ("100", "0")).await;
    refusal(&set.unwrap_err()).is(Code::NotFound, "NOT_FOUND");
    let set = world.set_autopay("other", &card.name, ("100", "0")).await;
    assert_eq!(refusal(&set.unwrap_err()).fields, ["card"]);
    world.end().await;
}

#[tokio::test]
async fn unlinking_and_switching_off_stop_it() {
    let (world, simulator) = world().await;
    let (_, card) = world.low(&simulator, "store", ("5000", "0")).await;
    let store = world.advertiser("store");
    let off = pb::DisableAutopayRequest { parent: name("store"), request_id: fresh() };
    let disabled = store.autopay().disable_autopay(off).await.unwrap().into_inner();
    let disabled = disabled.autopay.unwrap();
    assert!(!disabled.enabled);
    assert_eq!(disabled.disabled_reason(), pb::AutopayDisabledReason::ByOwner);
    let off = pb::DisableAutopayRequest { parent: name("store"), request_id: fresh() };
    refused(store.autopay().disable_autopay(off).await)
        .is(Code::FailedPrecondition, "ALREADY_IN_STATE");
    world.set_autopay("store", &card.name, ("5000", "0")).await.unwrap();
    let unlink = pb::UnlinkCardRequest { name: card.name.clone(), request_id: fresh() };
    store.autopay().unlink_card(unlink).await.unwrap();
    let autopay = world.autopay("store").await;
    assert_eq!(autopay.disabled_reason(), pb::AutopayDisabledReason::CardUnlinked);
    let _payer = Payer::start(&world).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    charged_once(&simulator, 0);
    let set = world.set_autopay("store", &card.name, ("5000", "0")).await;
    refusal(&set.unwrap_err()).is(Code::NotFound, "NOT_FOUND");
    world.end().await;
}
