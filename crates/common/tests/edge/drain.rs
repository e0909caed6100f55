//! How a server goes: announced, finishing what it has, and in time (fact 4 of dependencies.md).

use std::time::Duration;

use adspend_common::config::{Drain, HumanDuration};
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::rpc::Code;
use pb::admission_service_client::AdmissionServiceClient;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic_types::StatusExt;

use crate::support::{Running, Setup, until};

type Answers = Streaming<pb::StreamAdmitResponse>;

async fn stream(server: &Running) -> (mpsc::Sender<pb::StreamAdmitRequest>, Answers) {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", server.grpc))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let (requests, receiver) = mpsc::channel(16);
    let answers = AdmissionServiceClient::new(channel)
        .stream_admit(ReceiverStream::new(receiver))
        .await
        .unwrap();
    (requests, answers.into_inner())
}

fn request(sequence: i64) -> pb::StreamAdmitRequest {
    pb::StreamAdmitRequest { sequence, requests: Vec::new() }
}

#[tokio::test]
async fn a_drain_is_announced_lets_calls_finish_and_ends_streams() {
    let mut server = Setup::with_notice().start().await;
    let client = server.connect().await;
    until("ready", || async { server.page("/readyz").await.0 == 200 }).await;
    let (requests, mut answers) = stream(&server).await;
    requests.send(request(1)).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().sequence, 1);

    // Takes longer than the notice.
    let other = server.connect().await;
    let under_way = tokio::spawn(async move { other.admit("wait long", &[]).await });
    until("it is in", || async {
        server.page("/metrics").await.1.contains("rpc_server_calls_in_flight 1")
    })
    .await;
    server.stop();
    until("not ready", || async { server.page("/readyz").await.0 == 503 }).await;
    assert_eq!(client.admit("x", &[]).await.token(), "o", "it still serves during the notice");
    let late = server.connect().await;
    assert_eq!(late.admit("x", &[]).await.token(), "o", "and still accepts");
    requests.send(request(2)).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().sequence, 2);

    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "UNAVAILABLE");
    assert!(details.retry_info().is_some());
    assert_eq!(under_way.await.unwrap().status.code(), Code::Ok, "what was begun is finished");
    let address = server.grpc;
    server.stopped().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn answers_to_what_was_taken_come_before_the_end() {
    let mut server = Setup::with_notice().start().await;
    let (requests, mut answers) = stream(&server).await;
    for sequence in 1..=10 {
        requests.send(request(sequence)).await.unwrap();
    }
    server.stop();
    for sequence in 1..=10 {
        assert_eq!(answers.message().await.unwrap().unwrap().sequence, sequence);
    }
    assert_eq!(answers.message().await.unwrap_err().code(), Code::Unavailable);
    server.stopped().await;
}

#[tokio::test]
async fn a_stream_that_does_not_listen_and_a_call_that_hangs_do_not_hold_the_process() {
    let drain =
        Drain { notice: HumanDuration::from_millis(100), finish: HumanDuration::from_millis(600) };
    let mut server = Setup { drain, ..Setup::default() }.start().await;
    let (requests, mut answers) = stream(&server).await;
    requests.send(request(-1)).await.unwrap();
    let client = server.connect().await;
    let hanging = tokio::spawn(async move {
        let body = prost::Message::encode_to_vec(&crate::support::admit("hang"));
        let body = crate::support::framed(&body);
        client.try_send(crate::support::ADMIT, &[("grpc-timeout", "25S")], body).await
    });
    until("both are in", || async {
        let text = server.page("/metrics").await.1;
        text.contains("rpc_server_calls_in_flight 1") && text.contains("rpc_server_open_streams 1")
    })
    .await;
    let begin = Instant::now();
    server.stop();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::Unavailable);
    assert!(hanging.await.unwrap().is_err(), "cut off");
    server.stopped().await;
    let took = begin.elapsed();
    assert!((400..4_000).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn a_server_without_calls_goes_right_after_its_notice() {
    let drain =
        Drain { notice: HumanDuration::from_millis(100), finish: HumanDuration::from_secs(60) };
    let server = Setup { drain, ..Setup::default() }.start().await;
    // An idle connection is told GOAWAY and does not hold it.
    let idle = server.connect().await;
    assert_eq!(idle.admit("x", &[]).await.token(), "o");
    let begin = Instant::now();
    server.stopped().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}
