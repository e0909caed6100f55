//! Fact 1 of dependencies.md, and what follows from it.

use std::time::Duration;

use adspend_common::config::{HumanDuration, Limits};
use adspend_common::rpc::Code;
use bytes::Bytes;
use tokio::time::Instant;

use crate::support::{STREAM_ADMIT, Setup, framed};

fn exceeded() -> (Code, String) {
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned())
}

#[tokio::test]
async fn a_caller_s_deadline_ends_the_call_in_our_words() {
    let server = Setup::default().start().await;
    let begin = Instant::now();
    let answer = server.connect().await.admit("hang", &[("grpc-timeout", "100m")]).await;
    assert_eq!(answer.refusal(), exceeded());
    assert!((100..2_000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    server.stopped().await;
}

#[tokio::test]
async fn a_call_without_a_deadline_gets_the_default_and_a_long_one_the_cap() {
    let limits = Limits {
        default_deadline: HumanDuration::from_millis(100),
        max_deadline: HumanDuration::from_millis(200),
        ..Limits::default()
    };
    let server = Setup { limits, ..Setup::default() }.start().await;
    let client = server.connect().await;
    let begin = Instant::now();
    assert_eq!(client.admit("hang", &[]).await.refusal(), exceeded());
    assert_eq!(client.admit("hang", &[("grpc-timeout", "99H")]).await.refusal(), exceeded());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    server.stopped().await;
}

#[tokio::test]
async fn a_handler_knows_what_is_left() {
    let server = Setup::default().start().await;
    let client = server.connect().await;
    let left: u64 = client.admit("left", &[("grpc-timeout", "3S")]).await.token().parse().unwrap();
    assert!((2_000..=3_000).contains(&left), "{left} ms");
    let left: u64 = client.admit("left", &[]).await.token().parse().unwrap();
    assert!((4_000..=5_000).contains(&left), "{left} ms of the default");
    server.stopped().await;
}

#[tokio::test]
async fn a_malformed_timeout_is_refused_and_an_expired_one_does_not_begin() {
    let server = Setup::default().start().await;
    let client = server.connect().await;
    for text in ["5", "S", "-1S", "123456789S", "1x"] {
        let answer = client.admit("hang", &[("grpc-timeout", text)]).await;
        let invalid = (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned());
        assert_eq!(answer.refusal(), invalid, "{text}");
    }
    assert_eq!(client.admit("panic", &[("grpc-timeout", "0S")]).await.refusal(), exceeded());
    server.stopped().await;
}

#[tokio::test]
async fn a_stream_is_cut_at_its_deadline_and_after_a_long_silence() {
    let limits =
        Limits { stream_idle_timeout: HumanDuration::from_millis(300), ..Limits::default() };
    let server = Setup { limits, ..Setup::default() }.start().await;
    let client = server.connect().await;
    // Sequence -1 makes the handler deaf, so that only the edge can end the stream.
    let deaf = framed(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    let answer = client.send(STREAM_ADMIT, &[("grpc-timeout", "100m")], deaf.clone()).await;
    assert_eq!(answer.refusal(), exceeded());
    let answer = client.send(STREAM_ADMIT, &[], deaf).await;
    assert_eq!(answer.refusal(), (Code::Unavailable, "UNAVAILABLE".to_owned()));
    let answer = client.send(STREAM_ADMIT, &[("grpc-timeout", "1x")], Bytes::new()).await;
    assert_eq!(answer.refusal().0, Code::InvalidArgument);
    server.stopped().await;
}
