//! Jobs only make the books catch up with the time, and say how they stand.

use std::time::Duration;

use adspend_common::{config::HumanDuration, proto::adspend::billing::v1 as pb};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::*;

/// The page of metrics.
async fn metrics(world: &World) -> String {
    let mut stream = tokio::net::TcpStream::connect(world.metrics).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

fn value(page: &str, metric: &str) -> Option<f64> {
    let line = page.lines().find(|line| line.split([' ', '{']).next() == Some(metric))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Waits for a condition, at most a minute.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: not within a minute");
}

#[tokio::test]
async fn the_ledger_is_proved_and_expired_holds_are_given_back_by_themselves() {
    let world = World::with(|config| {
        config.jobs.enabled = true;
        config.jobs.release_holds_every = HumanDuration::from_millis(100);
        config.jobs.verify_ledger_every = Some(HumanDuration::from_millis(100));
    })
    .await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "5000").await;
    world.transfer("north", "shop", "3000").await;
    world.hold("shop", 300_000_000).await;

    world.set("2026-11-20T12:15:00+03:00");
    until("the expired hold is closed in the books", async || {
        let request = pb::ListHoldsRequest { parent: name("shop"), ..Default::default() };
        let holds = world.operator().holds().list_holds(request).await.unwrap().into_inner().holds;
        holds[0].released_micros == 300_000_000
    })
    .await;
    let now = world.hand.now().timestamp();
    until("the ledger is proved", async || {
        let page = metrics(&world).await;
        let at = value(&page, "billing_ledger_verified_at_seconds");
        at == Some(now as f64) && value(&page, "billing_ledger_differences") == Some(0.0)
    })
    .await;
    world.end().await;
}
