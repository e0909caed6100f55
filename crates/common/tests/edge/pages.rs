//! The HTTP port and what is counted.

use adspend_common::rpc::Code;
use prost::Message;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};

use crate::support::{CHECK, Setup, until};

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let server = Setup::default().start().await;
    let client = server.connect().await;
    for _ in 0..3 {
        client.admit("x", &[]).await;
    }
    client.admit("wrong", &[]).await;
    client.send("/no.Service/Method", &[], bytes::Bytes::new()).await;
    let (status, text) = server.page("/metrics").await;
    assert_eq!(status, 200);
    let count = |method: &str, code: &str, value: u32| {
        let line = format!(
            "rpc_server_call_duration_seconds_count{{rpc_method=\"{method}\",rpc_response_status_code=\"{code}\"}} {value}"
        );
        assert!(text.contains(&line), "no {line} in\n{text}");
    };
    count("adspend.pacing.v1.AdmissionService/Admit", "OK", 3);
    count("adspend.pacing.v1.AdmissionService/Admit", "INVALID_ARGUMENT", 1);
    count("unknown", "PERMISSION_DENIED", 1);
    assert!(text.contains("le=\"0.0001\"") && text.contains("le=\"10\""), "boundaries in seconds");
    assert!(text.contains("rpc_server_connections 1"), "{text}");
    server.stopped().await;
}

#[tokio::test]
async fn health_follows_the_questions_for_every_name() {
    for ready in [true, false] {
        let server = Setup { ready, ..Setup::default() }.start().await;
        let client = server.connect().await;
        let check = async |service: &str| {
            let request = HealthCheckRequest { service: service.to_owned() };
            let answer = client.call(CHECK, &[], &request).await;
            if answer.status.code() != Code::Ok {
                return Err(answer.status.code());
            }
            Ok(HealthCheckResponse::decode(&answer.body[5..]).unwrap().status())
        };
        let wanted = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in ["", "readiness", "adspend.pacing.v1.AdmissionService"] {
            until("the first answer", || async { check(name).await == Ok(wanted) }).await;
        }
        until("alive", || async { check("liveness").await == Ok(ServingStatus::Serving) }).await;
        assert_eq!(check("no.Service").await, Err(Code::NotFound));
        assert_eq!(server.page("/healthz").await.0, 200);
        assert_eq!(server.page("/readyz").await.0, if ready { 200 } else { 503 });
        server.stopped().await;
    }
}
