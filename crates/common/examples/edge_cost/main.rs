//! What the edge adds to a call: an empty handler behind tonic's server and behind ours, with the
//! same messages, in alternating rounds. `cargo run --release -p adspend-common --example edge_cost`

#![allow(clippy::unwrap_used, reason = "a tool for developers")]

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use adspend_common::config::{Drain, Limits, Listen};
use adspend_common::identity::{Identity, MethodTable, Role};
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::server::Server;
use adspend_common::telemetry::Telemetry;
use futures_util::Stream;
use pb::admission_service_client::AdmissionServiceClient;
use pb::admission_service_server::{AdmissionService, AdmissionServiceServer};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

const METHODS: MethodTable = &[
    ("/adspend.pacing.v1.AdmissionService/Admit", &[Role::Operator]),
    ("/adspend.pacing.v1.AdmissionService/BatchAdmit", &[Role::Operator]),
    ("/adspend.pacing.v1.AdmissionService/StreamAdmit", &[Role::Operator]),
];
const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_secs(2);
const CALLERS: usize = 64;
const CHANNELS: usize = 2;

struct Empty;

#[tonic::async_trait]
impl AdmissionService for Empty {
    async fn admit(
        &self,
        _request: Request<pb::AdmitRequest>,
    ) -> Result<Response<pb::AdmitResponse>, Status> {
        Ok(Response::new(pb::AdmitResponse { decision: None }))
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
        Err(Status::unimplemented("not here"))
    }
}

#[tokio::main]
async fn main() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let incoming = TcpIncoming::bind(any).unwrap().with_nodelay(Some(true));
    let plain = incoming.local_addr().unwrap();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(AdmissionServiceServer::new(Empty))
            .serve_with_incoming(incoming),
    );
    let bound = Server::new(
        "edge-cost",
        &Listen { grpc: any, metrics: any },
        &Limits::default(),
        &Drain::default(),
    )
    .identity(Identity::development())
    .methods(METHODS)
    .telemetry(&Telemetry::for_tests())
    .service(AdmissionServiceServer::new(Empty))
    .bind()
    .await
    .unwrap();
    let edge = bound.grpc_addr();
    tokio::spawn(bound.run(std::future::pending()));

    // For callgrind: `edge_cost tonic 4000`, `edge_cost edge 4000`.
    let mut arguments = std::env::args().skip(1);
    if let (Some(server), Some(calls)) = (arguments.next(), arguments.next()) {
        let address = if server == "edge" { edge } else { plain };
        let mut client = connect(address).await;
        for _ in 0..calls.parse::<u32>().unwrap() {
            client.admit(request()).await.unwrap();
        }
        return;
    }

    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let order = if round % 2 == 0 { [plain, edge] } else { [edge, plain] };
        let mut per_second = [0.0; 2];
        let mut cpu_us = [0.0; 2];
        for address in order {
            let before = cpu();
            let rate = load(address).await;
            let server = usize::from(address == edge);
            per_second[server] = rate;
            cpu_us[server] = (cpu() - before).as_secs_f64() * 1e6 / (rate * ROUND.as_secs_f64());
        }
        // Processor time of client and server for a call: what other work on the machine disturbs
        // least.
        let ratio = cpu_us[0] / cpu_us[1];
        println!(
            "tonic {:>7.0}/s {:>6.2} us   edge {:>7.0}/s {:>6.2} us   ratio {ratio:.3}",
            per_second[0], cpu_us[0], per_second[1], cpu_us[1]
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.3}", ratios[ROUNDS / 2]);
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

async fn connect(address: SocketAddr) -> AdmissionServiceClient<tonic::transport::Channel> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    AdmissionServiceClient::new(endpoint.connect().await.unwrap())
}

fn request() -> pb::AdmitRequest {
    pb::AdmitRequest {
        opportunity_id: "opportunity-0001".to_owned(),
        campaign: "campaigns/spring".to_owned(),
        max_price_micros: 2_500_000,
        charge_probability_ppm: None,
    }
}

async fn load(address: SocketAddr) -> f64 {
    let mut clients = Vec::new();
    for _ in 0..CHANNELS {
        clients.push(connect(address).await);
    }
    let until = Instant::now() + ROUND;
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let mut client = clients[caller % CHANNELS].clone();
            tokio::spawn(async move {
                let mut calls = 0_u32;
                while Instant::now() < until {
                    client.admit(request()).await.unwrap();
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }
    f64::from(calls) / ROUND.as_secs_f64()
}
