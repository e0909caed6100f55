//! What the provider may answer, and what becomes of the payment: declined, undecided, or not known at all.

use adspend_common::proto::adspend::billing::v1 as pb;
use pb::{AutopayDisabledReason as Why, AutopayRunState as State};
use std::time::Duration;

use super::support::*;
use crate::{provider::Act, support::*};

/// every reason of the provider is one of three causes; two of them spoil the card.
#[tokio::test]
async fn a_declined_payment_switches_it_off_for_its_cause() {
    let (world, simulator) = world().await;
    let _payer = Payer::start(&world).await;
    for (number, (reason, cause)) in [
        ("payment_method_limit_exceeded", Why::LimitExceeded),
        ("3d_secure_failed", Why::AuthorizationError),
        ("invalid_csc", Why::AuthorizationError),
        ("permission_revoked", Why::AuthorizationError),
        ("identification_required", Why::AuthorizationError),
        ("call_issuer", Why::Declined),
        ("canceled_by_merchant", Why::Declined),
        ("card_expired", Why::Declined),
        ("country_forbidden", Why::Declined),
        ("expired_on_capture", Why::Declined),
        ("expired_on_confirmation", Why::Declined),
        ("fraud_suspected", Why::Declined),
        ("general_decline", Why::Declined),
        ("insufficient_funds", Why::Declined),
        ("invalid_card_number", Why::Declined),
        ("payment_expired", Why::Declined),
        ("payment_method_restricted", Why::Declined),
        ("a_reason_of_tomorrow", Why::Declined),
    ]
    .into_iter()
    .enumerate()
    {
        let account = format!("store-{number}");
        simulator.will([Act::Decline(reason)]);
        world.low(&simulator, &account, ("5000", "0")).await;
        let run = world.ends(&account, State::Failed).await;
        assert_eq!((run.failure_reason(), run.provider_reason.as_str()), (cause, reason));
        let autopay = world.autopay(&account).await;
        assert_eq!((autopay.enabled, autopay.disabled_reason()), (false, cause), "{reason}");
        let spoilt = ["permission_revoked", "card_expired"].contains(&reason);
        let card = world.cards(&account).await.remove(0);
        assert_eq!(card.state() == pb::CardState::Invalid, spoilt, "{reason}");
        let again = world.set_autopay(&account, &card.name, ("5000", "0")).await;
        if spoilt {
            refusal(&again.unwrap_err()).is(tonic::Code::FailedPrecondition, "CARD_NOT_USABLE");
        } else {
            world.available_is(&account, "5000").await;
        }
    }
    charged_once(&simulator, 16);
    world.end().await;
}

/// Lets time pass in steps until the run has ended so.
async fn ends_in_time(world: &World, account: &str, state: State) -> pb::AutopayRun {
    until(&format!("the run of {account} ends {state:?}"), async || {
        world.pass(20);
        world.charges_of(account).await.first().is_some_and(|run| run.state() == state)
    })
    .await;
    world.charges_of(account).await.remove(0)
}

/// Whatever happens to an answer, the same key is tried again and the card is charged once (G9).
#[tokio::test]
async fn an_unknown_outcome_is_asked_for_again_under_the_same_key() {
    let (world, simulator) = world().await;
    let _payer = Payer::start(&world).await;
    for (number, act) in [
        Act::Fail,
        Act::ChargeAndFail,
        Act::Garble,
        Act::Hang,
        Act::ChargeAndHang,
        Act::Late(Duration::from_secs(4)),
        Act::Refuse(401, "invalid_credentials"),
        Act::Refuse(429, "too_many_requests"),
        Act::DeclineOnce("internal_timeout"),
        Act::DeclineOnce("issuer_unavailable"),
    ]
    .into_iter()
    .enumerate()
    {
        let account = format!("store-{number}");
        let tries = simulator.tries().len();
        simulator.will([act.clone()]);
        world.low(&simulator, &account, ("5000", "0")).await;
        let run = ends_in_time(&world, &account, State::Succeeded).await;
        let tried = simulator.tries().split_off(tries);
        assert!(tried.len() >= 2 && tried.iter().all(|key| run.name.ends_with(key)), "{act:?}");
        assert!(run.tries >= 2, "{act:?}");
        assert_eq!(world.available(&account).await, "5000", "{act:?}");
    }
    charged_once(&simulator, 10);
    world.end().await;
}

/// a passing reason is tried again under the same key as often as is allowed, then it is off. The real
/// provider gives the same payment for the same key each time.
#[tokio::test]
async fn tries_after_a_passing_reason_are_bounded() {
    let (world, simulator) = world().await;
    simulator.will([Act::Decline("internal_timeout")]);
    world.low(&simulator, "store", ("5000", "0")).await;
    let _payer = Payer::start(&world).await;
    let run = ends_in_time(&world, "store", State::Failed).await;
    assert_eq!((run.tries, run.provider_reason.as_str()), (5, "internal_timeout"));
    assert_eq!(run.failure_reason(), Why::Declined);
    assert_eq!(world.autopay("store").await.disabled_reason(), Why::Declined);
    let tries = simulator.tries();
    assert!(tries.iter().all(|key| *key == tries[0]), "{tries:?}");
    charged_once(&simulator, 0);
    world.end().await;
}

/// No answer to any try, but the card was charged: off, and the money is found and booked all the same.
#[tokio::test]
async fn money_that_was_taken_is_found_when_no_try_was_answered() {
    let (world, simulator) = world().await;
    simulator.will([Act::ChargeAndFail, Act::Fail, Act::Fail, Act::Fail, Act::Fail]);
    world.low(&simulator, "store", ("5000", "0")).await;
    simulator.away(true);
    let _payer = Payer::start(&world).await;
    until("tries have run out", async || {
        world.pass(20);
        !world.autopay("store").await.enabled
    })
    .await;
    assert_eq!(world.autopay("store").await.disabled_reason(), Why::Declined);
    let run = world.charges_of("store").await.remove(0);
    assert_eq!((run.state(), run.tries), (State::Pending, 5), "nobody knows how it ends");
    // Another payment does not start while nobody knows.
    world.set_autopay("store", &run.card, ("100", "0")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(simulator.tries().len(), 5);
    assert_eq!(world.available("store").await, "0");
    simulator.away(false);
    ends_in_time(&world, "store", State::Succeeded).await;
    assert_eq!(world.available("store").await, "5000");
    assert!(world.autopay("store").await.enabled, "it was set again meanwhile");
    charged_once(&simulator, 1);
    world.end().await;
}

/// No answer to any try, and no payment in the provider's list long after: the card was not charged.
#[tokio::test]
async fn a_payment_that_the_provider_does_not_have_was_never_made() {
    let (world, simulator) = world().await;
    simulator.will([Act::Fail, Act::Fail, Act::Fail, Act::Fail, Act::Fail]);
    world.low(&simulator, "store", ("5000", "0")).await;
    let _payer = Payer::start(&world).await;
    until("tries have run out", async || {
        world.pass(20);
        !world.autopay("store").await.enabled
    })
    .await;
    let looks = simulator.looks();
    until("it is looked for", async || {
        world.pass(5);
        simulator.looks() > looks
    })
    .await;
    assert_eq!(world.charges_of("store").await[0].state(), State::Pending, "the list may be late");
    world.pass(3_600);
    let run = ends_in_time(&world, "store", State::Failed).await;
    assert_eq!((run.tries, run.provider_reason.as_str()), (5, "not_made"));
    charged_once(&simulator, 0);
    world.end().await;
}

#[tokio::test]
async fn a_request_that_is_not_taken_ends_at_once() {
    let (world, simulator) = world().await;
    simulator.will([Act::Refuse(400, "invalid_request")]);
    world.low(&simulator, "store", ("5000", "0")).await;
    let _payer = Payer::start(&world).await;
    let run = world.ends("store", State::Failed).await;
    assert_eq!((run.tries, run.provider_reason.as_str()), (1, "invalid_request"));
    assert_eq!(world.autopay("store").await.disabled_reason(), Why::Declined);
    world.end().await;
}

/// The provider has not decided, and no notification comes: it is asked until it has.
#[tokio::test]
async fn an_undecided_payment_is_asked_for_until_it_is_decided() {
    let (world, simulator) = world().await;
    let _payer = Payer::start(&world).await;
    for (account, reason) in [("paid", None), ("declined", Some("insufficient_funds"))] {
        simulator.will([Act::StayPending]);
        world.low(&simulator, account, ("5000", "0")).await;
        until("the provider has it", async || {
            world
                .charges_of(account)
                .await
                .first()
                .is_some_and(|run| !run.provider_payment.is_empty())
        })
        .await;
        let looks = simulator.looks();
        until("it is asked for", async || {
            world.pass(10);
            simulator.looks() >= looks + 3
        })
        .await;
        let run = world.charges_of(account).await.remove(0);
        assert_eq!((run.state(), run.tries), (State::Pending, 1), "one in flight (R-128)");
        simulator.decide(&run.provider_payment, reason).await;
        let state = if reason.is_none() { State::Succeeded } else { State::Failed };
        ends_in_time(&world, account, state).await;
    }
    assert_eq!(world.available("paid").await, "5000");
    assert_eq!(world.available("declined").await, "0");
    charged_once(&simulator, 1);
    world.end().await;
}

/// A card that is unlinked before its first try is not charged; later, the try that was made counts.
#[tokio::test]
async fn an_unlinked_card_is_not_tried_again() {
    let (world, simulator) = world().await;
    simulator.will([Act::Hang]);
    let (_, card) = world.low(&simulator, "store", ("5000", "0")).await;
    let _payer = Payer::start(&world).await;
    until("it was tried", async || !simulator.tries().is_empty()).await;
    let unlink = pb::UnlinkCardRequest { name: card.name, request_id: fresh() };
    world.operator().autopay().unlink_card(unlink).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.pass(4_000);
    let run = ends_in_time(&world, "store", State::Failed).await;
    assert_eq!((run.tries, simulator.tries().len()), (1, 1));
    charged_once(&simulator, 0);
    world.end().await;
}
