//! Notifications of the provider: hints, believed in nothing, harmless in any number and order.

use adspend_common::proto::adspend::billing::v1 as pb;
use pb::AutopayRunState as State;

use super::support::*;
use crate::provider::{Act, notify};

/// No time passes here, so nothing is polled: what is booked was booked by the notification.
#[tokio::test]
async fn a_notification_books_at_once_and_its_repeats_change_nothing() {
    let (world, simulator) = world().await;
    simulator.notify(Some(world.metrics), 3);
    simulator.will([Act::StayPending]);
    world.low(&simulator, "store", ("5000", "0")).await;
    let _payer = Payer::start(&world).await;
    until("the provider has it", async || {
        world.charges_of("store").await.first().is_some_and(|run| !run.provider_payment.is_empty())
    })
    .await;
    let payment = world.charges_of("store").await.remove(0).provider_payment;
    simulator.decide(&payment, None).await;
    assert_eq!(world.ends("store", State::Succeeded).await.tries, 1);
    assert_eq!(world.available("store").await, "5000");
    let storm = (0..8).map(|_| simulator.send(world.metrics, &payment, &[]));
    let answers = futures_util::future::join_all(storm).await;
    assert_eq!(answers, [200; 8]);
    assert_eq!(world.available("store").await, "5000");
    charged_once(&simulator, 1);
    world.end().await;
}

#[tokio::test]
async fn a_notification_before_the_reply_is_booked_once() {
    let (world, simulator) = world().await;
    simulator.notify(Some(world.metrics), 2);
    simulator.will([Act::NotifyFirst]);
    world.low(&simulator, "store", ("5000", "0")).await;
    let _payer = Payer::start(&world).await;
    world.available_is("store", "5000").await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(world.available("store").await, "5000");
    charged_once(&simulator, 1);
    world.end().await;
}

/// The reply never comes; the notification says what became of the try.
#[tokio::test]
async fn a_notification_stands_for_a_reply_that_was_lost() {
    let (world, simulator) = world().await;
    simulator.will([Act::ChargeAndHang]);
    world.low(&simulator, "store", ("5000", "0")).await;
    let _payer = Payer::start(&world).await;
    until("it was tried", async || !simulator.charges().is_empty()).await;
    let payment = simulator.payment_of(&simulator.tries()[0]).unwrap();
    assert_eq!(simulator.send(world.metrics, &payment, &[]).await, 200);
    assert_eq!(world.available("store").await, "5000", "booked by the notification");
    charged_once(&simulator, 1);
    world.end().await;
}

#[tokio::test]
async fn what_a_notification_says_is_not_believed() {
    let (world, simulator) = world().await;
    simulator.will([Act::StayPending]);
    world.low(&simulator, "store", ("5000", "0")).await;
    let _payer = Payer::start(&world).await;
    until("the provider has it", async || {
        world.charges_of("store").await.first().is_some_and(|run| !run.provider_payment.is_empty())
    })
    .await;
    let run = world.charges_of("store").await.remove(0);
    let id = run.name.rsplit('/').next().unwrap();
    let forged = |payment: &str| {
        format!(
            r#"{{"type":"notification","event":"payment.succeeded","object":{{"id":"{payment}",
            "status":"succeeded","amount":{{"value":"5000.00","currency":"RUB"}},"metadata":{{"adspend_run":"{id}"}}}}}}"#
        )
    };
    assert_eq!(notify(world.metrics, &forged(&run.provider_payment), &[]).await, 200);
    // One that the provider does not know: it gives no answer about it.
    assert_eq!(
        notify(world.metrics, &forged("2d0e12f6-000f-5000-9000-ffffffffffff"), &[]).await,
        503
    );
    assert_eq!(world.charges_of("store").await[0].state(), State::Pending);
    assert_eq!(world.available("store").await, "0");
    // A payment of the shop that is no run of ours, though it says so, and one of another run.
    world.low(&simulator, "other", ("700", "0")).await;
    world.available_is("other", "700").await;
    let foreign = world.charges_of("other").await.remove(0).provider_payment;
    assert_eq!(notify(world.metrics, &forged(&foreign), &[]).await, 200);
    assert_eq!(world.available("store").await, "0");
    for (body, status) in [
        ("", 400),
        ("{}", 400),
        (r#"{"event":"payment.succeeded","object":{"id":"../x"}}"#, 400),
        (r#"{"event":"refund.succeeded","object":{"id":"1"}}"#, 200),
    ] {
        assert_eq!(notify(world.metrics, body, &[]).await, status, "{body}");
    }
    assert_eq!(notify(world.metrics, &" ".repeat(70_000), &[]).await, 413);
    world.end().await;
}

#[tokio::test]
async fn a_notification_is_taken_from_the_providers_addresses_only() {
    let (world, simulator) = world_with(|terms| {
        terms.webhook = Default::default();
        terms.webhook.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let payment = "2d0e12f6-000f-5000-9000-000000000001";
    for (header, status) in [
        (&[][..], 403),
        (&[("x-forwarded-for", "8.8.8.8")], 403),
        (&[("x-forwarded-for", "185.71.76.5, 8.8.8.8")], 403),
        (&[("x-forwarded-for", "nonsense")], 403),
        (&[("x-forwarded-for", "8.8.8.8, 185.71.76.5")], 200),
        (&[("x-forwarded-for", "2a02:5180:0:1::7")], 200),
    ] {
        assert_eq!(simulator.send(world.metrics, payment, header).await, status, "{header:?}");
    }
    world.end().await;
}

/// The API is away when the notification comes: it is to be sent again, and polling does not wait for it.
#[tokio::test]
async fn a_notification_that_cannot_be_checked_is_asked_for_again() {
    let (world, simulator) = world().await;
    simulator.will([Act::StayPending]);
    world.low(&simulator, "store", ("5000", "0")).await;
    let _payer = Payer::start(&world).await;
    until("the provider has it", async || {
        world.charges_of("store").await.first().is_some_and(|run| !run.provider_payment.is_empty())
    })
    .await;
    let payment = world.charges_of("store").await.remove(0).provider_payment;
    simulator.decide(&payment, None).await;
    simulator.away(true);
    assert_eq!(simulator.send(world.metrics, &payment, &[]).await, 503);
    assert_eq!(world.available("store").await, "0");
    simulator.away(false);
    assert_eq!(simulator.send(world.metrics, &payment, &[]).await, 200);
    assert_eq!(world.available("store").await, "5000");
    world.end().await;
}
