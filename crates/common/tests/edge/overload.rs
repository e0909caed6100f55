//! More work than there is room for.

use std::time::Duration;

use adspend_common::config::{HumanDuration, Limits};
use adspend_common::rpc::Code;
use tokio::time::Instant;
use tonic_types::StatusExt;

use crate::support::{CHECK, Setup, framed, until};

#[tokio::test]
async fn beyond_its_limit_the_server_refuses_soon_says_when_to_come_back_and_tells_its_health() {
    let limits = Limits {
        max_in_flight: 2,
        max_queue_wait: HumanDuration::from_millis(50),
        ..Limits::default()
    };
    let server = Setup { limits, ..Setup::default() }.start().await;
    // Two connections: the limit is the process's, not a connection's (fact 9).
    let (one, two) = (server.connect().await, server.connect().await);
    let (first, second) = (server.connect().await, server.connect().await);
    let holders = [first, second].map(|client| {
        tokio::spawn(async move { client.admit("hang", &[("grpc-timeout", "1S")]).await })
    });
    until("both are in", || async {
        server.page("/metrics").await.1.contains("rpc_server_calls_in_flight 2")
    })
    .await;

    for client in [&one, &two] {
        let begin = Instant::now();
        let answer = client.admit("x", &[]).await;
        assert_eq!(answer.refusal(), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
        let details = answer.status.get_error_details();
        let delay = details.retry_info().unwrap().retry_delay.unwrap();
        assert_eq!(delay, Duration::from_millis(100));
        assert!(begin.elapsed() < Duration::from_millis(900), "{:?}", begin.elapsed());
        let health = client.send(CHECK, &[], framed(b"")).await;
        assert_eq!(health.status.code(), Code::Ok);
    }
    for holder in holders {
        assert_eq!(holder.await.unwrap().status.code(), Code::DeadlineExceeded);
    }
    assert_eq!(one.admit("x", &[]).await.token(), "o", "room again");
    server.stopped().await;
}

#[tokio::test]
async fn a_short_rush_waits_for_its_turn() {
    let limits = Limits {
        max_in_flight: 1,
        max_queue_wait: HumanDuration::from_secs(5),
        ..Limits::default()
    };
    let server = Setup { limits, ..Setup::default() }.start().await;
    let client = server.connect().await;
    let (first, second) = tokio::join!(client.admit("wait", &[]), client.admit("x", &[]));
    assert_eq!((first.status.code(), second.status.code()), (Code::Ok, Code::Ok));
    server.stopped().await;
}
