//! Traces and metrics over OTLP, across a hop between two processes' worth of our code.
//!
//! One test in a file of its own, because it sets what is global to a process.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use adspend_common::client::{Channel, Settings};
use adspend_common::config::{self, Drain, HumanDuration, Limits, Listen};
use adspend_common::identity::{Identity, MethodTable, Role};
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::rpc::fault;
use adspend_common::server::Server;
use adspend_common::telemetry;
use futures_util::Stream;
use opentelemetry_proto::tonic::collector::metrics::v1 as metrics;
use opentelemetry_proto::tonic::collector::trace::v1 as traces;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use pb::admission_service_client::AdmissionServiceClient;
use pb::admission_service_server::{AdmissionService, AdmissionServiceServer};
use tokio::sync::oneshot;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tonic_types::StatusExt;
use tracing::Instrument;

const METHODS: MethodTable = &[
    ("/adspend.pacing.v1.AdmissionService/Admit", &[Role::Operator]),
    ("/adspend.pacing.v1.AdmissionService/BatchAdmit", &[Role::Operator]),
    ("/adspend.pacing.v1.AdmissionService/StreamAdmit", &[Role::Operator]),
];

/// What an OTLP endpoint was sent.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    instruments: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl traces::trace_service_server::TraceService for Collector {
    async fn export(
        &self,
        request: Request<traces::ExportTraceServiceRequest>,
    ) -> Result<Response<traces::ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            for scope in resource.scope_spans {
                self.spans.lock().unwrap().extend(scope.spans);
            }
        }
        Ok(Response::new(traces::ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl metrics::metrics_service_server::MetricsService for Collector {
    async fn export(
        &self,
        request: Request<metrics::ExportMetricsServiceRequest>,
    ) -> Result<Response<metrics::ExportMetricsServiceResponse>, Status> {
        for resource in request.into_inner().resource_metrics {
            for scope in resource.scope_metrics {
                let names = scope.metrics.into_iter().map(|metric| metric.name);
                self.instruments.lock().unwrap().extend(names);
            }
        }
        Ok(Response::new(metrics::ExportMetricsServiceResponse::default()))
    }
}

struct Faulty;

#[tonic::async_trait]
impl AdmissionService for Faulty {
    async fn admit(
        &self,
        _request: Request<pb::AdmitRequest>,
    ) -> Result<Response<pb::AdmitResponse>, Status> {
        async { Err(fault(&std::io::Error::other("broken")).into()) }
            .instrument(tracing::info_span!(target: "adspend_test", "inside"))
            .await
    }

    async fn batch_admit(
        &self,
        _request: Request<pb::BatchAdmitRequest>,
    ) -> Result<Response<pb::BatchAdmitResponse>, Status> {
        Ok(Response::new(pb::BatchAdmitResponse::default()))
    }

    type StreamAdmitStream =
        Pin<Box<dyn Stream<Item = Result<pb::StreamAdmitResponse, Status>> + Send>>;

    async fn stream_admit(
        &self,
        _request: Request<Streaming<pb::StreamAdmitRequest>>,
    ) -> Result<Response<Self::StreamAdmitStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fact 8 of dependencies.md: a parent that is set too late is ignored without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_spans_both_sides_of_a_call_and_names_its_fault() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let collector = Collector::default();
    let incoming = TcpIncoming::bind(any).unwrap();
    let endpoint = format!("http://{}", incoming.local_addr().unwrap());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(traces::trace_service_server::TraceServiceServer::new(collector.clone()))
            .add_service(metrics::metrics_service_server::MetricsServiceServer::new(
                collector.clone(),
            ))
            .serve_with_incoming(incoming),
    );
    let config = config::Telemetry { otlp_endpoint: Some(endpoint), ..Default::default() };
    let telemetry = telemetry::start("traces-test", &config).unwrap();

    let drain =
        Drain { notice: HumanDuration::from_millis(1), finish: HumanDuration::from_secs(5) };
    let listen = Listen { grpc: any, metrics: any };
    let bound = Server::new("traces-test", &listen, &Limits::default(), &drain)
        .identity(Identity::development())
        .methods(METHODS)
        .telemetry(&telemetry)
        .service(AdmissionServiceServer::new(Faulty))
        .bind()
        .await
        .unwrap();
    let settings = Settings::new(format!("http://{}", bound.grpc_addr()));
    let (end, ended) = oneshot::channel::<()>();
    let server = tokio::spawn(bound.run(async {
        ended.await.ok();
    }));

    let mut client = AdmissionServiceClient::new(Channel::connect(&settings).unwrap());
    let status = async { client.admit(pb::AdmitRequest::default()).await.unwrap_err() }
        .instrument(tracing::info_span!(target: "adspend_test", "outside"))
        .await;
    let told = status.get_error_details().error_info().unwrap().metadata["trace_id"].clone();

    drop(client);
    drop(end);
    server.await.unwrap();
    telemetry.shutdown().await;

    let spans = collector.spans.lock().unwrap().clone();
    let find = |name: &str| {
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}: {names:?}"))
    };
    let outside = find("outside");
    let call = find("adspend.pacing.v1.AdmissionService/Admit");
    let inside = find("inside");
    assert_eq!(call.parent_span_id, outside.span_id, "the caller's span is the parent");
    assert_eq!(inside.parent_span_id, call.span_id);
    assert_eq!(call.kind, SpanKind::Server as i32);
    assert_eq!(hex(&outside.trace_id), told, "the caller is told the trace it is in");
    let code = call.attributes.iter().find(|pair| pair.key == "rpc.response.status_code").unwrap();
    assert!(format!("{code:?}").contains("INTERNAL"), "{code:?}");

    let instruments = collector.instruments.lock().unwrap().clone();
    assert!(instruments.iter().any(|name| name == "rpc.server.call.duration"), "{instruments:?}");
}
