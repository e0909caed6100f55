//! A channel over every address of a service.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::AUTHORIZATION;
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, Uri};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tower::ServiceExt;
use tower_service::Service;

use crate::config::{HumanDuration, Secret};
use crate::rpc::{Deadline, unavailable};
use crate::telemetry;

/// How long an address is left out after one broken call; doubled with each further one.
const EJECT_FIRST: Duration = Duration::from_millis(250);
/// The longest that an address is left out.
const EJECT_MOST: Duration = Duration::from_secs(10);
/// After how much silence a connection is probed, and how long the answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// Where a service is, and how it is spoken to.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `http://host:port` or `https://host:port`, several separated by commas. Every address that
    /// the names resolve to is used.
    pub target: String,
    /// The bearer token that says who we are.
    #[serde(default)]
    pub token: Option<Secret>,
    /// How long a connection may take to be made.
    #[serde(default = "Settings::default_connect_timeout")]
    pub connect_timeout: HumanDuration,
    /// How often the names are resolved again.
    #[serde(default = "Settings::default_resolve_every")]
    pub resolve_every: HumanDuration,
    /// The authority of the server's certificate, PEM; needed for `https`.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

impl Settings {
    /// The defaults with this target.
    pub fn new(target: impl Into<String>) -> Settings {
        Settings {
            target: target.into(),
            token: None,
            connect_timeout: Self::default_connect_timeout(),
            resolve_every: Self::default_resolve_every(),
            ca: None,
        }
    }

    fn default_connect_timeout() -> HumanDuration {
        HumanDuration::from_secs(1)
    }

    fn default_resolve_every() -> HumanDuration {
        HumanDuration::from_secs(5)
    }
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A target is not `http://host:port` or `https://host:port`.
    #[error("{0:?} is not http://host:port or https://host:port")]
    Target(String),
    /// The token has characters that a header cannot carry.
    #[error("the token cannot be sent in a header")]
    Token,
    /// The authority cannot be read.
    #[error("the authority {file} cannot be read")]
    Authority {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// `https` without an authority.
    #[error("https needs the authority of the server's certificate in `ca`")]
    NoAuthority,
}

/// A service of ours at all its addresses. Cheap to clone; connects when it is used. The addresses
/// are watched until the last clone is gone.
#[derive(Clone)]
pub struct Channel(Arc<Shared>);

struct Shared {
    targets: Vec<Target>,
    tls: Option<ClientTlsConfig>,
    authorization: Option<HeaderValue>,
    connect_timeout: Duration,
    /// The origin of the times in `Peer::out_until_ms`.
    epoch: Instant,
    peers: ArcSwap<Vec<Arc<Peer>>>,
    resolved: watch::Sender<bool>,
    next: AtomicUsize,
}

/// A name and a port, and how they were written.
struct Target {
    uri: Uri,
    host: String,
    port: u16,
}

/// One address.
struct Peer {
    /// The target whose name led here.
    target: usize,
    address: SocketAddr,
    channel: tonic::transport::Channel,
    broken_in_a_row: AtomicU32,
    out_until_ms: AtomicU64,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addresses: Vec<_> = self.0.peers.load().iter().map(|peer| peer.address).collect();
        f.debug_struct("Channel").field("addresses", &addresses).finish_non_exhaustive()
    }
}

impl Channel {
    /// Checks the settings and begins to resolve. Call it inside the runtime.
    pub fn connect(settings: &Settings) -> Result<Channel, Error> {
        let targets: Vec<Target> =
            settings.target.split(',').map(|text| target(text.trim())).collect::<Result<_, _>>()?;
        let https = targets.iter().any(|target| target.uri.scheme() == Some(&Scheme::HTTPS));
        let tls = if https { Some(tls(settings)?) } else { None };
        let shared = Arc::new(Shared {
            targets,
            tls,
            authorization: settings.token.as_ref().map(bearer).transpose()?,
            connect_timeout: settings.connect_timeout.get(),
            epoch: Instant::now(),
            peers: ArcSwap::default(),
            resolved: watch::Sender::new(false),
            next: AtomicUsize::new(rand::random::<u16>().into()),
        });
        tokio::spawn(keep_resolving(Arc::downgrade(&shared), settings.resolve_every.get()));
        Ok(Channel(shared))
    }

    /// The addresses that are known now.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.peers.load().iter().map(|peer| peer.address).collect()
    }
}

fn target(text: &str) -> Result<Target, Error> {
    let bad = || Error::Target(text.to_owned());
    let uri: Uri = text.parse().map_err(|_| bad())?;
    let known = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
    match (uri.host(), uri.port_u16()) {
        (Some(host), Some(port)) if known => {
            // Brackets of an IPv6 address belong to the URI, not to the name.
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            Ok(Target { host, port, uri })
        }
        _ => Err(bad()),
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, Error> {
    let mut value =
        HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| Error::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

fn tls(settings: &Settings) -> Result<ClientTlsConfig, Error> {
    let file = settings.ca.as_ref().ok_or(Error::NoAuthority)?;
    let pem = std::fs::read(file)
        .map_err(|source| Error::Authority { file: file.display().to_string(), source })?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
}

async fn keep_resolving(shared: Weak<Shared>, every: Duration) {
    while let Some(strong) = shared.upgrade() {
        let found = strong.resolve().await;
        if !found.is_empty() {
            strong.peers.store(Arc::new(found));
            strong.resolved.send_replace(true);
        }
        drop(strong);
        tokio::time::sleep(every).await;
    }
}

impl Shared {
    /// Every address of every target, with the connections that exist already. A name that does
    /// not resolve keeps the addresses it had: a resolver that is away must not end calls.
    async fn resolve(&self) -> Vec<Arc<Peer>> {
        let known = self.peers.load_full();
        let mut found: Vec<Arc<Peer>> = Vec::new();
        for (index, target) in self.targets.iter().enumerate() {
            match tokio::net::lookup_host((target.host.as_str(), target.port)).await {
                Ok(addresses) => {
                    for address in addresses {
                        let known = known.iter().find(|peer| peer.address == address);
                        found.extend(known.cloned().or_else(|| self.peer(index, target, address)));
                    }
                }
                Err(error) => {
                    tracing::warn!(host = target.host, %error, "a name does not resolve");
                    found.extend(known.iter().filter(|peer| peer.target == index).cloned());
                }
            }
        }
        // In one order, whatever the resolver's, and each once.
        found.sort_by_key(|peer| peer.address);
        found.dedup_by_key(|peer| peer.address);
        found
    }

    fn peer(&self, index: usize, target: &Target, address: SocketAddr) -> Option<Arc<Peer>> {
        let scheme = target.uri.scheme_str().unwrap_or("http");
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).ok()?;
        let mut endpoint = endpoint
            .origin(target.uri.clone())
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .keep_alive_while_idle(true);
        if let (Some(tls), "https") = (&self.tls, scheme) {
            endpoint = endpoint.tls_config(tls.clone().domain_name(target.host.as_str())).ok()?;
        }
        Some(Arc::new(Peer {
            target: index,
            address,
            channel: endpoint.connect_lazy(),
            broken_in_a_row: AtomicU32::new(0),
            out_until_ms: AtomicU64::new(0),
        }))
    }

    /// The next address that is not left out; when all are, the one that was out longest.
    async fn pick(&self) -> Option<Arc<Peer>> {
        if self.peers.load().is_empty() {
            let mut resolved = self.resolved.subscribe();
            let wait = resolved.wait_for(|resolved| *resolved);
            tokio::time::timeout(self.connect_timeout, wait).await.ok()?.ok()?;
        }
        let peers = self.peers.load();
        let now = self.now_ms();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..peers.len()).filter_map(|step| peers.get((first + step) % peers.len()));
        let mut least_out: Option<&Arc<Peer>> = None;
        for peer in in_turn {
            let until = peer.out_until_ms.load(Ordering::Relaxed);
            if until <= now {
                return Some(Arc::clone(peer));
            }
            if least_out.is_none_or(|other| until < other.out_until_ms.load(Ordering::Relaxed)) {
                least_out = Some(peer);
            }
        }
        least_out.map(Arc::clone)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What a call that got no answer is to its caller. tonic says `CANCELLED` both when its timer
    /// fires, which is not the address's fault, and when the connection goes under the call.
    fn translated(&self, peer: &Peer, error: tonic::codegen::StdError) -> Status {
        if is_timeout(error.as_ref()) {
            return Deadline::exceeded().status();
        }
        self.broke(peer);
        tracing::debug!(address = %peer.address, error, "a call broke");
        unavailable("the connection broke; retry with the same request id").status()
    }

    fn broke(&self, peer: &Peer) {
        let before = peer.broken_in_a_row.fetch_add(1, Ordering::Relaxed);
        let out = EJECT_FIRST.saturating_mul(1 << before.min(10)).min(EJECT_MOST);
        let until = self.now_ms().saturating_add(u64::try_from(out.as_millis()).unwrap_or(0));
        peer.out_until_ms.store(until, Ordering::Relaxed);
    }
}

/// Whether tonic's own timer ended the call.
fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut level = Some(error);
    while let Some(error) = level {
        if error.is::<tonic::TimeoutExpired>() {
            return true;
        }
        level = error.source();
    }
    false
}

impl Peer {
    fn worked(&self) {
        if self.broken_in_a_row.load(Ordering::Relaxed) != 0 {
            self.broken_in_a_row.store(0, Ordering::Relaxed);
            self.out_until_ms.store(0, Ordering::Relaxed);
        }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(authorization) = &self.0.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        telemetry::inject(request.headers_mut());
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let peer =
                shared.pick().await.ok_or_else(|| unavailable("no address is known").status())?;
            let channel = peer.channel.clone();
            match channel.oneshot(request).await {
                Ok(response) => {
                    peer.worked();
                    Ok(response)
                }
                Err(error) => Err(shared.translated(&peer, error.into())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_checked_at_the_start() {
        for (text, host) in [
            ("http://billing:50051", Some("billing")),
            ("https://127.0.0.1:1", Some("127.0.0.1")),
            ("http://[::1]:50051", Some("::1")),
            ("billing:50051", None),
            ("ftp://billing:50051", None),
            ("http://billing", None),
            ("", None),
        ] {
            assert_eq!(target(text).ok().map(|target| target.host).as_deref(), host, "{text:?}");
        }
    }

    #[tokio::test]
    async fn https_without_an_authority_is_refused() {
        let error = Channel::connect(&Settings::new("https://billing:1")).unwrap_err();
        assert!(matches!(error, Error::NoAuthority));
    }
}
