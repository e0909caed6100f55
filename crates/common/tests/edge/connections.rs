//! Connections that say nothing, the wrong thing, or are too many.

use std::time::Duration;

use adspend_common::config::{HumanDuration, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::support::Setup;

/// Reads to the end, and how long that took.
async fn closed(mut stream: TcpStream) -> Duration {
    let begin = Instant::now();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.unwrap().ok();
    begin.elapsed()
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let limits = Limits { handshake_timeout: HumanDuration::from_millis(200), ..Limits::default() };
    let server = Setup { limits, ..Setup::default() }.start().await;
    let silent = TcpStream::connect(server.grpc).await.unwrap();
    let mut slow = TcpStream::connect(server.grpc).await.unwrap();
    slow.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let mut browser = TcpStream::connect(server.grpc).await.unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let (silent, slow, browser) = tokio::join!(closed(silent), closed(slow), closed(browser));
    assert!(silent < Duration::from_secs(3), "{silent:?}");
    assert!(slow < Duration::from_secs(3), "{slow:?}");
    assert!(browser < Duration::from_secs(3), "{browser:?}");
    assert_eq!(server.connect().await.admit("x", &[]).await.token(), "o");
    server.stopped().await;
}

#[tokio::test]
async fn more_connections_than_a_peer_may_have_are_closed_at_once() {
    let limits = Limits { max_connections_per_peer: 2, ..Limits::default() };
    let server = Setup { limits, ..Setup::default() }.start().await;
    let (one, two) = (server.connect().await, server.connect().await);
    assert_eq!(one.admit("x", &[]).await.token(), "o");
    assert_eq!(two.admit("x", &[]).await.token(), "o");
    let third = TcpStream::connect(server.grpc).await.unwrap();
    assert!(closed(third).await < Duration::from_secs(3));
    assert!(server.page("/metrics").await.1.contains("rpc_server_connections_refused_total 1"));
    drop(one);
    let again = async || {
        let Ok(stream) = TcpStream::connect(server.grpc).await else { return false };
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let hands = hyper::client::conn::http2::handshake::<_, _, http_body_util::Full<bytes::Bytes>>(
            executor, io,
        );
        match hands.await {
            Ok((sender, connection)) => {
                let ended = timeout(Duration::from_millis(100), connection).await;
                drop(sender);
                ended.is_err()
            }
            Err(_) => false,
        }
    };
    crate::support::until("a place is free again", again).await;
    server.stopped().await;
}

#[tokio::test]
async fn headers_beyond_their_limit_do_not_reach_a_handler() {
    let server = Setup::default().start().await;
    let client = server.connect().await;
    let huge = "x".repeat(64 * 1024);
    let answer =
        client.try_send(crate::support::ADMIT, &[("x-huge", &huge)], bytes::Bytes::new()).await;
    assert!(answer.map_or(true, |answer| answer.http == 431), "refused by the protocol");
    assert_eq!(server.connect().await.admit("x", &[]).await.token(), "o");
    server.stopped().await;
}
