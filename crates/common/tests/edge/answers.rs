//! What a broken request and a broken handler are answered with.

use adspend_common::proto::FILE_DESCRIPTOR_SET;
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::rpc::Code;
use bytes::Bytes;
use pb::admission_service_client::AdmissionServiceClient;
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic_reflection::pb::{v1, v1alpha};
use tonic_types::StatusExt;

use crate::support::{ADMIT, REFLECT, STREAM_ADMIT, Setup, admit, framed};

fn invalid() -> (Code, String) {
    (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned())
}

#[tokio::test]
async fn malformed_bytes_are_an_invalid_argument_without_field_names() {
    let server = Setup::default().start().await;
    let client = server.connect().await;
    let truncated = {
        let whole = framed(&admit("x").encode_to_vec());
        whole.slice(..whole.len() - 2)
    };
    for (name, body) in [
        ("a wrong wire type", framed(&[0x10, 0x01])),
        ("bad UTF-8", framed(&[0x0a, 0x02, 0xff, 0xfe])),
        ("a length beyond the end", framed(&[0x0a, 0x7f, 0x61])),
        ("a large message of nonsense", framed(&[0xff; 100 * 1024])),
        ("a flag that does not exist", Bytes::from_static(&[7, 0, 0, 0, 0])),
        ("compressed without saying how", Bytes::from_static(&[1, 0, 0, 0, 1, 0])),
        ("no message", Bytes::new()),
        ("half a header", Bytes::from_static(&[0, 0])),
        ("a truncated message", truncated),
    ] {
        for path in [ADMIT, STREAM_ADMIT] {
            if path == STREAM_ADMIT && name == "no message" {
                continue;
            }
            let answer = client.send(path, &[], body.clone()).await;
            assert_eq!(answer.refusal(), invalid(), "{name} to {path}: {answer:?}");
            let text = format!("{:?}", answer.status);
            assert!(!text.contains("opportunity") && !text.contains("wire"), "{name}: {text}");
        }
    }
    let broken_gzip = Bytes::from_static(&[1, 0, 0, 0, 3, 9, 9, 9]);
    let answer = client.send(ADMIT, &[("grpc-encoding", "gzip")], broken_gzip).await;
    assert_eq!(answer.refusal(), invalid());
    let answer = client.send(ADMIT, &[("grpc-encoding", "zstd")], framed(b"")).await;
    assert_eq!(answer.refusal().0, Code::Unimplemented);
    assert_eq!(client.admit("x", &[]).await.token(), "o", "the connection lives on");
    server.stopped().await;
}

#[tokio::test]
async fn a_message_of_five_mebibytes_is_told_the_limit() {
    let server = Setup::default().start().await;
    let client = server.connect().await;
    let mut message = admit("x");
    message.opportunity_id = "o".repeat(5 * 1024 * 1024);
    for path in [ADMIT, STREAM_ADMIT] {
        let answer = client.call(path, &[], &message).await;
        assert_eq!(answer.refusal(), (Code::ResourceExhausted, "TOO_LARGE".to_owned()), "{path}");
        let details = answer.status.get_error_details();
        assert_eq!(details.error_info().unwrap().metadata["limit"], "4194304");
        assert!(details.retry_info().is_some());
    }
    message.opportunity_id = "o".repeat(4 * 1024 * 1024 - 100);
    assert_eq!(client.call(ADMIT, &[], &message).await.status.code(), Code::Ok);
    server.stopped().await;
}

#[tokio::test]
async fn what_is_not_grpc_is_told_so() {
    let server = Setup::default().start().await;
    let answer =
        server.connect().await.send(ADMIT, &[("content-type", "text/html")], Bytes::new()).await;
    assert_eq!(answer.http, 415);
    server.stopped().await;
}

#[tokio::test]
async fn a_panic_and_a_bare_status_are_faults_with_a_trace_id_only() {
    let server = Setup::default().start().await;
    let client = server.connect().await;
    for campaign in ["panic", "bare"] {
        let answer = client.admit(campaign, &[]).await;
        assert_eq!(answer.refusal(), (Code::Internal, "INTERNAL".to_owned()));
        let details = answer.status.get_error_details();
        assert_eq!(details.error_info().unwrap().metadata["trace_id"].len(), 32);
        let text = format!("{:?}", answer.status);
        assert!(!text.contains("secret") && !text.contains("asked"), "{text}");
    }
    let panics = pb::StreamAdmitRequest { sequence: i64::MAX, requests: Vec::new() };
    let answer = client.call(STREAM_ADMIT, &[], &panics).await;
    assert_eq!(answer.refusal(), (Code::Internal, "INTERNAL".to_owned()));
    assert_eq!(client.admit("x", &[]).await.token(), "o", "the process lives on");
    server.stopped().await;
}

#[tokio::test]
async fn refusals_carry_their_details_over_the_wire() {
    let server = Setup::default().start().await;
    let client = server.connect().await;
    let answer = client.admit("wrong", &[]).await;
    assert_eq!(answer.refusal(), invalid());
    let details = answer.status.get_error_details();
    let fields: Vec<&str> = details
        .bad_request()
        .unwrap()
        .field_violations
        .iter()
        .map(|violation| violation.field.as_str())
        .collect();
    assert_eq!(fields, ["campaign", "max_price_micros"]);
    let answer = client.admit("forbidden", &[]).await;
    assert_eq!(answer.refusal(), (Code::FailedPrecondition, "ACCOUNT_BLOCKED".to_owned()));
    let details = answer.status.get_error_details();
    assert_eq!(details.precondition_failure().unwrap().violations[0].subject, "accounts/a");
    server.stopped().await;
}

#[tokio::test]
async fn gzip_is_accepted_and_given() {
    let server = Setup::default().start().await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", server.grpc))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = AdmissionServiceClient::new(channel)
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let request = pb::BatchAdmitRequest { requests: vec![admit("x"); 100] };
    let response = client.batch_admit(request).await.unwrap();
    assert_eq!(response.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(response.into_inner().responses.len(), 100);
    server.stopped().await;
}

/// Fact: grpcurl decodes error details only when the descriptors of google.rpc are registered.
#[tokio::test]
async fn reflection_of_both_versions_knows_our_services_and_the_error_details() {
    use v1::server_reflection_request::MessageRequest as Ask;
    use v1::server_reflection_response::MessageResponse as Tell;
    let server = Setup::default().start().await;
    let client = server.connect().await;
    let ask = async |path: &str, ask: Ask| {
        let request =
            v1::ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
        let answer = client.call(path, &[], &request).await;
        assert_eq!(answer.status.code(), Code::Ok, "{answer:?}");
        v1::ServerReflectionResponse::decode(&answer.body[5..]).unwrap().message_response.unwrap()
    };
    // The two versions differ in their package only.
    let _same: v1alpha::ServerReflectionRequest = Default::default();
    for path in [REFLECT.to_owned(), REFLECT.replace("v1", "v1alpha")] {
        let Tell::ListServicesResponse(list) = ask(&path, Ask::ListServices(String::new())).await
        else {
            panic!("no list from {path}");
        };
        let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
        for name in ["adspend.pacing.v1.AdmissionService", "grpc.health.v1.Health"] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        assert!(!names.contains(&"adspend.billing.v1.HoldService"), "not served here");
        for symbol in ["google.rpc.BadRequest", "adspend.pacing.v1.AdmissionService.Admit"] {
            let symbol = Ask::FileContainingSymbol(symbol.to_owned());
            assert!(matches!(ask(&path, symbol).await, Tell::FileDescriptorResponse(_)));
        }
    }
    assert!(!FILE_DESCRIPTOR_SET.is_empty());
    server.stopped().await;
}
