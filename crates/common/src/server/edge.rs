//! From a path to a handler: who calls, may they, until when, is there room.
//!
//! The order is a promise: an unknown caller learns nothing, a caller without the right learns
//! only that, and neither costs more than a look at two headers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::Code;
use tonic::server::NamedService;

use super::body::{Guard, Guarded, RequestBody, ResponseBody};
use super::call::{self, Observed};
use super::gate::Gate;
use super::metrics::{self, MethodMetrics};
use super::stop::{Phase, Stop};
use super::{Error, ServiceFuture, foreign, grpc_timeout};
use crate::config::Limits;
use crate::identity::{Access, Caller, Identity, Methods, Role};
use crate::rpc::{Context, Deadline, Reason, Refusal, invalid, refuse};
use crate::telemetry::Telemetry;

/// How long a watcher of health may hear nothing.
const HEALTH_IDLE_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest deadline that a stream can have: enough not to matter, and small enough to be added
/// to a moment.
const LONGEST_STREAM: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A service with its name.
pub(super) type Named = (&'static str, Arc<dyn Handler>);

/// A service, whatever its type.
pub(super) trait Handler: Send + Sync {
    /// Begins a call.
    fn begin(&self, request: Request<RequestBody>) -> ServiceFuture;
}

impl<S> Handler for S
where
    S: tower_service::Service<
            Request<RequestBody>,
            Response = Response<tonic::body::Body>,
            Error = std::convert::Infallible,
            Future = ServiceFuture,
        > + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
{
    fn begin(&self, request: Request<RequestBody>) -> ServiceFuture {
        // A generated server is always ready; a clone of it is a clone of an `Arc`.
        self.clone().call(request)
    }
}

/// What is known of one method before anybody calls it.
pub(super) struct Row {
    pub(super) path: &'static str,
    pub(super) metrics: MethodMetrics,
    access: Access,
    unary: bool,
    /// In which phase of stopping its streams are cut: one whose requests are a stream has ended
    /// those before, and gets time to answer what it has.
    cut_in: Phase,
    handler: Option<Arc<dyn Handler>>,
}

/// The way of every call.
pub(super) struct Edge {
    rows: HashMap<&'static str, Arc<Row>, foldhash::fast::RandomState>,
    /// Where calls of unknown methods are counted.
    unknown: Arc<Row>,
    anybody: Arc<Caller>,
    identity: Identity,
    gate: Arc<Gate>,
    stop: Stop,
    traces: bool,
    default_deadline: Duration,
    max_deadline: Duration,
    idle_limit: Duration,
    max_message_bytes: usize,
}

impl Edge {
    pub(super) fn new(
        methods: &Methods,
        services: &HashMap<&'static str, Arc<dyn Handler>>,
        identity: Identity,
        limits: &Limits,
        telemetry: &Telemetry,
        stop: Stop,
    ) -> Result<Edge, Error> {
        let meter = telemetry.meter();
        let durations = metrics::durations(&meter);
        let gate = Arc::new(Gate::new(limits.max_in_flight, limits.max_queue_wait.get()));
        metrics::in_progress(&meter, &gate);
        let mut rows = HashMap::default();
        for method in &methods.0 {
            // Made once per process and method, and read on every call.
            let path: &'static str = Box::leak(method.path.clone().into_boxed_str());
            let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
            let row = Row {
                path,
                metrics: MethodMetrics::new(path, &durations),
                access: method.access,
                unary: method.is_unary(),
                cut_in: if method.client_streams { Phase::Cutting } else { Phase::Stopping },
                handler: services.get(service).cloned(),
            };
            rows.insert(path, Arc::new(row));
        }
        let unknown = Row {
            path: "/unknown",
            metrics: MethodMetrics::new("unknown", &durations),
            access: Access::Roles(0),
            unary: true,
            cut_in: Phase::Stopping,
            handler: None,
        };
        Ok(Edge {
            rows,
            unknown: Arc::new(unknown),
            anybody: Arc::new(Caller {
                role: Role::Auditor,
                tenant: None,
                label: "anybody".to_owned(),
            }),
            identity,
            gate,
            stop,
            traces: telemetry.traces(),
            default_deadline: limits.default_deadline.get(),
            max_deadline: limits.max_deadline.get(),
            idle_limit: limits.stream_idle_timeout.get(),
            max_message_bytes: limits.max_message_bytes,
        })
    }

    /// Answers one call.
    pub(super) async fn call(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let begin = Instant::now();
        if !is_grpc(&request) {
            return not_grpc();
        }
        let row = self.rows.get(request.uri().path()).unwrap_or(&self.unknown);
        let mut observed = Observed::begin(row, begin);
        if self.traces {
            observed.trace(request.headers());
        }
        let answer = match row.unary {
            true => self.unary(row, request, &mut observed).await,
            // Boxed, so that a unary call does not carry room for it.
            false => Box::pin(self.stream(row, request, &mut observed)).await,
        };
        match answer {
            Ok(response) => response,
            Err(refusal) => {
                observed.end(refusal.code);
                let response: Response<tonic::body::Body> = refusal.status().into_http();
                response.map(|body| ResponseBody::Unary { body })
            }
        }
    }

    async fn unary(
        &self,
        row: &Row,
        request: Request<Incoming>,
        observed: &mut Observed,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let (handler, context) = self.admit(row, &request, observed)?;
        let deadline = context.deadline;
        // Health says how it is also when there is no room for work.
        let _place = match row.access {
            Access::Anybody => None,
            Access::Roles(_) => Some(self.gate.call(deadline).await?),
        };
        let mut request = request.map(RequestBody::unary);
        request.extensions_mut().insert(context);
        let response = call::run(handler.begin(request), deadline, observed).await?;
        if let Some(refusal) = foreign::in_headers(response.headers(), self.max_message_bytes) {
            return Err(refusal);
        }
        observed.end(call::code_of(&response));
        Ok(response.map(|body| ResponseBody::Unary { body }))
    }

    async fn stream(
        &self,
        row: &Row,
        request: Request<Incoming>,
        observed: &mut Observed,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let (handler, context) = self.admit(row, &request, observed)?;
        let deadline = context.deadline;
        let place = self.gate.stream(row.access)?;
        let ended_by_us = Arc::new(AtomicBool::new(false));
        let mut request =
            request.map(|body| RequestBody::stream(body, &self.stop, Arc::clone(&ended_by_us)));
        request.extensions_mut().insert(context);
        let response = call::run(handler.begin(request), deadline, observed).await?;
        if let Some(refusal) = foreign::in_headers(response.headers(), self.max_message_bytes) {
            return Err(refusal);
        }
        if call::code_of(&response) != Code::Ok {
            observed.end(call::code_of(&response));
            return Ok(response.map(|body| ResponseBody::Unary { body }));
        }
        let idle_limit = match row.access {
            // Who watches health may hear nothing for days.
            Access::Anybody => HEALTH_IDLE_LIMIT,
            Access::Roles(_) => self.idle_limit,
        };
        let observed = observed.hand_over();
        Ok(response.map(|body| ResponseBody::Stream {
            guarded: Box::pin(Guarded::new(
                body,
                Guard {
                    deadline,
                    idle_limit,
                    stop: &self.stop,
                    cut_in: row.cut_in,
                    ended_by_us,
                    max_message_bytes: self.max_message_bytes,
                    observed,
                    place,
                },
            )),
        }))
    }

    /// Who calls, whether they may, and until when: from the headers alone.
    fn admit<'r>(
        &self,
        row: &'r Row,
        request: &Request<Incoming>,
        observed: &mut Observed,
    ) -> Result<(&'r Arc<dyn Handler>, Context), Refusal> {
        let headers = request.headers();
        let caller = match row.access {
            Access::Anybody => Arc::clone(&self.anybody),
            Access::Roles(_) => self.identity.identify(headers)?,
        };
        observed.by(&caller);
        let (Some(handler), true) = (&row.handler, row.access.allows(caller.role)) else {
            return Err(denied(caller.role));
        };
        let asked = grpc_timeout::of(headers).map_err(|_malformed| {
            invalid("grpc-timeout", "must be at most eight digits and a unit of H, M, S, m, u, n")
        })?;
        let deadline = match (asked, row.unary) {
            (Some(wait), true) => Deadline::at(observed.began() + wait.min(self.max_deadline)),
            (None, true) => Deadline::at(observed.began() + self.default_deadline),
            (Some(wait), false) => Deadline::at(observed.began() + wait.min(LONGEST_STREAM)),
            (None, false) => Deadline::none(),
        };
        // What nobody waits for is not begun.
        if asked.is_some() && deadline.has_passed() {
            return Err(Deadline::exceeded());
        }
        Ok((handler, Context { caller, deadline }))
    }
}

fn denied(role: Role) -> Refusal {
    refuse(
        Code::PermissionDenied,
        Reason::PermissionDenied,
        format!("the role {role} may not call this method"),
    )
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// What is not gRPC gets what the protocol's specification says.
fn not_grpc() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Unary { body: tonic::body::Body::empty() });
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}
