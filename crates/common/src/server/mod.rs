//! One gRPC server with everything that a stranger on the network makes necessary.
//!
//! ```text
//! socket ── accept.rs: connection caps, TLS, HTTP/2 preface in time, GOAWAY on drain
//!        ── edge.rs:   path → row of the method table → identity → deadline → gate → handler
//!        ── call.rs:   deadline, panic, foreign statuses, metric, access log, span: one layer
//! ```
//!
//! Why a loop of our own over hyper instead of tonic's `Server`: tonic's reads `grpc-timeout`
//! itself and answers `CANCELLED`, closes the listener at once and then waits for ever while a
//! stream is open, never closes a connection that says nothing, and boxes every call twice on its
//! way through a router that we do not need, because the method table knows every path.
//!
//! Invariants:
//! - A method is called only by a role of its row; who calls is decided before anything of the
//!   request but its headers is read.
//! - Every status that leaves carries our `ErrorInfo` (`foreign.rs`).
//! - After [`Bound::run`] is told to stop it returns within `drain.notice + drain.finish` and a
//!   little.
//!
//! Cost: what this adds to a unary call is some hundred nanoseconds: one hash of the path, one of
//! the token, one insertion into the extensions, one histogram cell. No span is made without an
//! exporter, no line is written above the level `debug`.
//!
//! Deliberately not here: retries (the caller's), rate limits per tenant (a later issue).

mod accept;
mod body;
mod call;
mod edge;
mod error;
mod foreign;
mod gate;
mod grpc_timeout;
mod health;
mod http_port;
mod metrics;
mod reflection;
mod stop;
mod tls;

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tonic::server::NamedService;

pub use body::RequestBody;
pub use error::Error;
pub use stop::{Stop, signal};

use crate::config::{Drain, Limits, Listen, Tls};
use crate::identity::{Identity, MethodTable, Methods};
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::telemetry::Telemetry;
use edge::{Edge, Handler, Named};
use health::{Health, Ready};

/// The largest message either way: pass it to `max_decoding_message_size` of every service.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// What a generated server's `call` gives.
type ServiceFuture = Pin<
    Box<
        dyn Future<Output = Result<http::Response<tonic::body::Body>, std::convert::Infallible>>
            + Send,
    >,
>;

/// A server being put together.
pub struct Server {
    name: &'static str,
    listen: Listen,
    limits: Limits,
    drain: Drain,
    tls: Option<Tls>,
    stop: Stop,
    identity: Option<Identity>,
    methods: MethodTable,
    descriptors: &'static [u8],
    ready: Vec<Ready>,
    telemetry: Option<Telemetry>,
    services: Vec<Named>,
    pages: axum::Router,
}

impl Server {
    /// A server without services. The name is for the log.
    pub fn new(name: &'static str, listen: &Listen, limits: &Limits, drain: &Drain) -> Server {
        Server {
            name,
            listen: listen.clone(),
            limits: limits.clone(),
            drain: drain.clone(),
            tls: None,
            stop: Stop::new(),
            identity: None,
            methods: &[],
            descriptors: FILE_DESCRIPTOR_SET,
            ready: Vec::new(),
            telemetry: None,
            services: Vec::new(),
            pages: axum::Router::new(),
        }
    }

    /// Tells this `Stop` when the server drains.
    #[must_use]
    pub fn stop(mut self, stop: &Stop) -> Server {
        self.stop = stop.clone();
        self
    }

    /// Serves TLS.
    #[must_use]
    pub fn tls(mut self, tls: Option<&Tls>) -> Server {
        self.tls = tls.cloned();
        self
    }

    /// How callers are known. Without it the server does not start.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Server {
        self.identity = Some(identity);
        self
    }

    /// Who may call what: a row for every method of every service added.
    #[must_use]
    pub fn methods(mut self, methods: MethodTable) -> Server {
        self.methods = methods;
        self
    }

    /// The descriptors of the services, when they are not those of `proto/`: for tests.
    #[must_use]
    pub fn descriptors(mut self, descriptors: &'static [u8]) -> Server {
        self.descriptors = descriptors;
        self
    }

    /// Asked each second; the server is ready while every such question says yes.
    #[must_use]
    pub fn ready<F, A>(mut self, ask: F) -> Server
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        self.ready.push(Box::new(move || Box::pin(ask())));
        self
    }

    /// Where the metrics of calls go, and whether spans are made.
    #[must_use]
    pub fn telemetry(mut self, telemetry: &Telemetry) -> Server {
        self.telemetry = Some(telemetry.clone());
        self
    }

    /// Adds a generated server.
    #[must_use]
    pub fn service<S>(mut self, service: S) -> Server
    where
        S: tower_service::Service<
                http::Request<RequestBody>,
                Response = http::Response<tonic::body::Body>,
                Error = std::convert::Infallible,
                Future = ServiceFuture,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.services.push((S::NAME, Arc::new(service)));
        self
    }

    /// Adds pages to the HTTP port, beside metrics and health. Who may ask is theirs to decide; their handlers
    /// may take `ConnectInfo<SocketAddr>`.
    #[must_use]
    pub fn pages(mut self, pages: axum::Router) -> Server {
        self.pages = self.pages.merge(pages);
        self
    }

    /// Checks the method table and opens the sockets. Nothing is served before [`Bound::run`].
    pub async fn bind(self) -> Result<Bound, Error> {
        let names: Vec<&'static str> = self.services.iter().map(|(name, _)| *name).collect();
        let mut methods = Methods::checked(&names, self.descriptors, self.methods)?;
        let identity = self.identity.ok_or(Error::NoIdentity)?;
        let telemetry = self.telemetry.ok_or(Error::NoTelemetry)?;
        let (health, health_service) = Health::new(&names, self.ready);
        let mut services: HashMap<&'static str, Arc<dyn Handler>> =
            self.services.into_iter().collect();
        services.extend([health_service]);
        services.extend(reflection::services(&names, self.descriptors)?);
        health::add_methods(&mut methods);
        reflection::add_methods(&mut methods, identity.is_development());

        let tls = self.tls.as_ref().map(|files| tls::Identity::load(files, &telemetry));
        let tls = tls.transpose()?.map(Arc::new);
        let tracker = TaskTracker::new();
        let edge =
            Edge::new(&methods, &services, identity, &self.limits, &telemetry, self.stop.clone())?;
        let grpc = listen(self.listen.grpc).await?;
        let http = listen(self.listen.metrics).await?;
        Ok(Bound {
            name: self.name,
            grpc_addr: address(&grpc)?,
            metrics_addr: address(&http)?,
            grpc,
            http,
            acceptor: accept::Acceptor::new(
                Arc::new(edge),
                &self.limits,
                tls.clone(),
                self.stop.clone(),
                tracker.clone(),
                &telemetry,
            ),
            tls,
            tracker,
            health,
            telemetry,
            drain: self.drain,
            stop: self.stop,
            pages: self.pages,
        })
    }
}

async fn listen(at: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(at).await.map_err(|source| Error::Listen { at, source })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(Error::Address)
}

/// A server whose sockets are open.
pub struct Bound {
    name: &'static str,
    grpc_addr: SocketAddr,
    metrics_addr: SocketAddr,
    grpc: TcpListener,
    http: TcpListener,
    acceptor: accept::Acceptor,
    tls: Option<Arc<tls::Identity>>,
    tracker: TaskTracker,
    health: Health,
    telemetry: Telemetry,
    drain: Drain,
    stop: Stop,
    pages: axum::Router,
}

impl Bound {
    /// Where gRPC is served, with the port that was taken.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc_addr
    }

    /// Where metrics are served, with the port that was taken.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.metrics_addr
    }

    /// Serves until `shutdown` ends, then drains: not ready → a while for callers to go elsewhere
    /// → no new connection, GOAWAY, streams end → a while for calls to finish → gone.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Bound { name, grpc_addr, metrics_addr, .. } = self;
        tracing::info!(service = name, %grpc_addr, %metrics_addr, "serving");
        self.health.begin().await;
        let watching = tokio::spawn(self.health.clone().watch());
        let renewing = self.tls.map(|identity| tokio::spawn(identity.watch()));
        let pages = tokio::spawn(http_port::serve(
            self.http,
            self.telemetry.clone(),
            self.health.clone(),
            self.stop.clone(),
            self.pages,
        ));
        let accepting = tokio::spawn(self.acceptor.run(self.grpc));

        shutdown.await;
        let (notice, finish) = (self.drain.notice.get(), self.drain.finish.get());
        tracing::info!(service = name, ?notice, ?finish, "stopping: not ready any more");
        watching.abort();
        self.health.stop().await;
        tokio::time::sleep(notice).await;

        accepting.abort();
        if let Some(renewing) = renewing {
            renewing.abort();
        }
        self.tracker.close();
        self.stop.begin();
        let half = finish / 2;
        if tokio::time::timeout(half, self.tracker.wait()).await.is_err() {
            self.stop.cut();
            if tokio::time::timeout(finish - half, self.tracker.wait()).await.is_err() {
                tracing::warn!(service = name, open = self.tracker.len(), "closing connections");
            }
        }
        self.stop.close();
        self.tracker.wait().await;
        pages.abort();
        tracing::info!(service = name, "stopped");
    }
}
