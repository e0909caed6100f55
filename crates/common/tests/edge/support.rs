//! A service whose behaviour a request chooses, a server around it, and a client that can say
//! what no library would.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use adspend_common::config::{Auth, AuthMode, Drain, HumanDuration, Limits, Listen, TokenEntry};
use adspend_common::identity::{Identity, MethodTable, Role, caller};
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::rpc::{Code, Deadline, Reason, Violations, precondition};
use adspend_common::server::{self, MAX_MESSAGE_BYTES, Server};
use adspend_common::telemetry::Telemetry;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pb::admission_service_server::{AdmissionService, AdmissionServiceServer};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status, Streaming};

pub(crate) const ADMIT: &str = "/adspend.pacing.v1.AdmissionService/Admit";
pub(crate) const BATCH_ADMIT: &str = "/adspend.pacing.v1.AdmissionService/BatchAdmit";
pub(crate) const STREAM_ADMIT: &str = "/adspend.pacing.v1.AdmissionService/StreamAdmit";
pub(crate) const CHECK: &str = "/grpc.health.v1.Health/Check";
pub(crate) const REFLECT: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

pub(crate) const METHODS: MethodTable = &[
    (ADMIT, &[Role::Operator, Role::AdServer]),
    (BATCH_ADMIT, &[Role::Operator]),
    (STREAM_ADMIT, &[Role::Operator, Role::AdServer]),
];

/// Does what the campaign of the request says.
pub(crate) struct Script;

#[tonic::async_trait]
impl AdmissionService for Script {
    async fn admit(
        &self,
        request: Request<pb::AdmitRequest>,
    ) -> Result<Response<pb::AdmitResponse>, Status> {
        let left = Deadline::of(&request).remaining();
        let who = caller(&request).clone();
        let request = request.into_inner();
        let token = match request.campaign.as_str() {
            "hang" => std::future::pending().await,
            "wait" => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                String::new()
            }
            "wait long" => {
                tokio::time::sleep(Duration::from_millis(1_000)).await;
                String::new()
            }
            "panic" => panic!("as it was asked"),
            "bare" => return Err(Status::internal("a secret of the library")),
            "forbidden" => {
                let refusal = precondition(Reason::AccountBlocked, "the account is blocked");
                return Err(refusal.about("accounts/a").into());
            }
            "wrong" => {
                let mut v = Violations::new();
                v.add("campaign", "is wrong");
                v.add("max_price_micros", "is wrong too");
                v.check()?;
                String::new()
            }
            "left" => left.as_millis().to_string(),
            "who" => format!("{} {:?}", who.role, who.tenant.as_ref().map(|t| t.as_str())),
            _ => request.opportunity_id,
        };
        Ok(Response::new(admitted(token)))
    }

    async fn batch_admit(
        &self,
        request: Request<pb::BatchAdmitRequest>,
    ) -> Result<Response<pb::BatchAdmitResponse>, Status> {
        let responses = request.into_inner().requests.into_iter();
        let responses = responses.map(|one| admitted(one.opportunity_id)).collect();
        Ok(Response::new(pb::BatchAdmitResponse { responses }))
    }

    type StreamAdmitStream =
        Pin<Box<dyn Stream<Item = Result<pb::StreamAdmitResponse, Status>> + Send>>;

    /// Echoes the sequence. A negative sequence makes the handler deaf to the end of its requests,
    /// the largest makes it panic.
    async fn stream_admit(
        &self,
        request: Request<Streaming<pb::StreamAdmitRequest>>,
    ) -> Result<Response<Self::StreamAdmitStream>, Status> {
        let mut requests = request.into_inner();
        let (answers, stream) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let answer = match request {
                    Ok(request) if request.sequence < 0 => {
                        answers.closed().await;
                        return;
                    }
                    Ok(request) => Ok(pb::StreamAdmitResponse {
                        sequence: request.sequence,
                        responses: Vec::new(),
                    }),
                    Err(status) => Err(status),
                };
                if answers.send(answer).await.is_err() {
                    return;
                }
            }
        });
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream).inspect(|answer| {
            if answer.as_ref().is_ok_and(|answer| answer.sequence == i64::MAX) {
                panic!("as it was asked");
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

fn admitted(token: String) -> pb::AdmitResponse {
    let admission = pb::Admission { token: Bytes::from(token), expire_time: None };
    pb::AdmitResponse { decision: Some(pb::admit_response::Decision::Admitted(admission)) }
}

/// How a test's server differs from the usual one.
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) drain: Drain,
    pub(crate) auth: Auth,
    pub(crate) ready: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        let short = HumanDuration::from_millis(400);
        Setup {
            limits: Limits::default(),
            drain: Drain { notice: HumanDuration::from_millis(10), finish: short },
            auth: Auth { mode: AuthMode::Development, tokens: Vec::new() },
            ready: true,
        }
    }
}

impl Setup {
    /// A drain whose notice is long enough to look at, and shorter than the script's long wait.
    pub(crate) fn with_notice() -> Setup {
        let mut setup = Setup::default();
        setup.drain.notice = HumanDuration::from_millis(400);
        setup.drain.finish = HumanDuration::from_secs(5);
        setup
    }

    pub(crate) fn builder(&self) -> Server {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let ready = self.ready;
        let script = AdmissionServiceServer::new(Script)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip);
        Server::new("edge-test", &Listen { grpc: any, metrics: any }, &self.limits, &self.drain)
            .identity(Identity::from_config(&self.auth).unwrap())
            .methods(METHODS)
            .ready(move || async move { ready })
            .telemetry(&Telemetry::for_tests())
            .service(script)
    }

    pub(crate) async fn start(&self) -> Running {
        run(self.builder()).await
    }
}

/// A token in the configuration.
pub(crate) fn token(token: &str, role: &str, tenant: Option<&str>) -> TokenEntry {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
    TokenEntry { hash, role: role.to_owned(), tenant: tenant.map(str::to_owned) }
}

pub(crate) async fn run(server: Server) -> Running {
    let bound = server.bind().await.unwrap();
    let (grpc, metrics) = (bound.grpc_addr(), bound.metrics_addr());
    let (end, ended) = oneshot::channel::<()>();
    let task = tokio::spawn(bound.run(async {
        ended.await.ok();
    }));
    Running { grpc, metrics, end: Some(end), task }
}

/// A server that runs until the test ends it or is over.
pub(crate) struct Running {
    pub(crate) grpc: SocketAddr,
    pub(crate) metrics: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    /// Tells it to stop.
    pub(crate) fn stop(&mut self) {
        self.end.take();
    }

    /// Waits until it has stopped; fails the test when it does not.
    pub(crate) async fn stopped(mut self) {
        self.stop();
        tokio::time::timeout(Duration::from_secs(10), &mut self.task).await.unwrap().unwrap();
    }

    pub(crate) async fn connect(&self) -> Raw {
        Raw::connect(self.grpc).await
    }

    /// A page of the HTTP port.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = TcpStream::connect(self.metrics).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
    }
}

/// An HTTP/2 connection that sends any bytes under any headers.
pub(crate) struct Raw {
    sender: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
    authority: SocketAddr,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) http: u16,
    pub(crate) status: Status,
    pub(crate) body: Bytes,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).await.unwrap();
        let io = TokioIo::new(stream);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Raw { sender, authority: address }
    }

    pub(crate) async fn send(&self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
        self.try_send(path, headers, body).await.unwrap()
    }

    pub(crate) async fn try_send(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, hyper::Error> {
        let mut request = http::Request::post(format!("http://{}{path}", self.authority))
            .header("te", "trailers");
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).unwrap();
        let mut sender = self.sender.clone();
        sender.ready().await?;
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let collected = body.collect().await?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let status = Status::from_header_map(&parts.headers)
            .or_else(|| Status::from_header_map(&trailers))
            .unwrap_or_else(|| Status::unknown("no status came"));
        Ok(Answer { http: parts.status.as_u16(), status, body: collected.to_bytes() })
    }

    /// One message of a unary call.
    pub(crate) async fn call<M: Message>(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        message: &M,
    ) -> Answer {
        self.send(path, headers, framed(&message.encode_to_vec())).await
    }

    pub(crate) async fn admit(&self, campaign: &str, headers: &[(&str, &str)]) -> Answer {
        self.call(ADMIT, headers, &admit(campaign)).await
    }
}

impl Answer {
    /// The token of the one admission in the answer.
    pub(crate) fn token(&self) -> String {
        assert_eq!(self.status.code(), Code::Ok, "{:?}", self.status);
        let response = pb::AdmitResponse::decode(&self.body[5..]).unwrap();
        let Some(pb::admit_response::Decision::Admitted(admission)) = response.decision else {
            panic!("not admitted: {response:?}");
        };
        String::from_utf8(admission.token.to_vec()).unwrap()
    }

    /// Code and reason; every refusal has a reason of ours.
    pub(crate) fn refusal(&self) -> (Code, String) {
        use tonic_types::StatusExt;
        let details = self.status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {self:?}"));
        assert_eq!(info.domain, "adspend");
        (self.status.code(), info.reason.clone())
    }
}

pub(crate) fn admit(campaign: &str) -> pb::AdmitRequest {
    pb::AdmitRequest {
        opportunity_id: "o".to_owned(),
        campaign: campaign.to_owned(),
        max_price_micros: 1,
        charge_probability_ppm: None,
    }
}

/// A message as gRPC frames it, uncompressed.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap());
    bytes.put_slice(message);
    bytes.freeze()
}

/// Asks until the answer is yes; fails the test after ten seconds.
pub(crate) async fn until<A: Future<Output = bool>>(what: &str, ask: impl Fn() -> A) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(10);
    while !ask().await {
        assert!(tokio::time::Instant::now() < limit, "it never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// `server::Error` of a server that must not start.
pub(crate) async fn refused(server: Server) -> server::Error {
    match server.bind().await {
        Ok(_) => panic!("the server started"),
        Err(error) => error,
    }
}
