//! From a listening socket to HTTP/2 connections.
//!
//! A connection must say what HTTP/2 begins with in time, there are only so many of them, in all
//! and from one address, and each says GOAWAY when the server stops.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use opentelemetry::metrics::Counter;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::edge::Edge;
use super::stop::{Phase, Stop};
use super::tls::Identity;
use crate::config::Limits;
use crate::telemetry::Telemetry;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long to wait when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Headers of a call in all: a token and a trace context take a few hundred bytes.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// How many streams a client may reset before we have seen them (CVE-2023-44487 and its family).
const MAX_PENDING_RESETS: usize = 20;
/// How many streams may be reset for the client's errors.
const MAX_ERROR_RESETS: usize = 100;
/// How much of one stream may be under way unread: a quarter of the largest message.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// How much of one connection may be under way unread.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Takes connections.
pub(super) struct Acceptor {
    edge: Arc<Edge>,
    http2: Builder<TokioExecutor>,
    tls: Option<Arc<Identity>>,
    handshake_timeout: Duration,
    places: Arc<Places>,
    stop: Stop,
    tracker: TaskTracker,
    refused: Counter<u64>,
}

impl Acceptor {
    pub(super) fn new(
        edge: Arc<Edge>,
        limits: &Limits,
        tls: Option<Arc<Identity>>,
        stop: Stop,
        tracker: TaskTracker,
        telemetry: &Telemetry,
    ) -> Acceptor {
        let mut http2 = Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_concurrent_streams)
            .keep_alive_interval(limits.keepalive_interval.get())
            .keep_alive_timeout(limits.keepalive_timeout.get())
            .max_header_list_size(MAX_HEADER_BYTES)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_ERROR_RESETS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .auto_date_header(false);
        let places = Arc::new(Places {
            most: limits.max_connections,
            most_per_peer: limits.max_connections_per_peer,
            taken: Mutex::default(),
        });
        let meter = telemetry.meter();
        let counted = Arc::clone(&places);
        meter
            .u64_observable_gauge("rpc.server.connections")
            .with_description("Connections that are open.")
            .with_callback(move |gauge| gauge.observe(counted.count() as u64, &[]))
            .build();
        let refused = meter
            .u64_counter("rpc.server.connections_refused")
            .with_description("Connections closed at once, because there were too many.")
            .build();
        Acceptor {
            edge,
            http2,
            tls,
            handshake_timeout: limits.handshake_timeout.get(),
            places,
            stop,
            tracker,
            refused,
        }
    }

    /// Takes connections for ever; dropping this closes the listener.
    pub(super) async fn run(self, listener: TcpListener) {
        let acceptor = Arc::new(self);
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => acceptor.take(stream, peer),
                Err(error) => {
                    // Out of sockets, mostly: it passes, and must not end the server.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Some(place) = Place::take(&self.places, peer.ip()) else {
            self.refused.add(1, &[]);
            return;
        };
        let acceptor = Arc::clone(self);
        self.tracker.spawn(async move {
            if let Err(error) = acceptor.serve(stream).await {
                tracing::debug!(%error, %peer, "a connection ended early");
            }
            drop(place);
        });
    }

    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let closed = self.stop.token(Phase::Closed).clone();
        match &self.tls {
            None => {
                let ready = self.in_time(begun(stream), &closed).await?;
                self.converse(ready).await;
            }
            Some(tls) => {
                let tls = tls.acceptor();
                let shake = async move { begun(tls.accept(stream).await?).await };
                let ready = self.in_time(shake, &closed).await?;
                self.converse(ready).await;
            }
        }
        Ok(())
    }

    async fn in_time<T>(
        &self,
        shake: impl Future<Output = io::Result<T>>,
        closed: &tokio_util::sync::CancellationToken,
    ) -> io::Result<T> {
        let shake = tokio::time::timeout(self.handshake_timeout, shake);
        match closed.run_until_cancelled(shake).await {
            Some(Ok(done)) => done,
            Some(Err(_)) => Err(io::ErrorKind::TimedOut.into()),
            None => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// Serves one connection until it ends.
    ///
    /// Polled very often, so the phase of stopping is read from an atomic; the tokens only wake.
    async fn converse<S>(&self, stream: Begun<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let edge = Arc::clone(&self.edge);
        let service = service_fn(move |request| {
            let edge = Arc::clone(&edge);
            async move { Ok::<_, std::convert::Infallible>(edge.call(request).await) }
        });
        let connection = self.http2.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut wakers = pin!(async {
            self.stop.token(Phase::Stopping).cancelled().await;
            self.stop.token(Phase::Closed).cancelled().await;
        });
        let mut seen = Phase::Serving;
        let mut first = true;
        std::future::poll_fn(|context| {
            let phase = self.stop.phase();
            // The tokens are asked at first, so that they wake us, and again while stopping.
            if first || phase > Phase::Serving {
                first = false;
                if seen == Phase::Serving && phase > Phase::Serving {
                    connection.as_mut().graceful_shutdown();
                }
                seen = phase;
                if phase == Phase::Closed || wakers.as_mut().poll(context).is_ready() {
                    return Poll::Ready(());
                }
            }
            connection.as_mut().poll(context).map(|_ended| ())
        })
        .await;
    }
}

/// Reads the preface; what comes instead of it is closed.
async fn begun<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<Begun<S>> {
    let mut said = [0; PREFACE.len()];
    stream.read_exact(&mut said).await?;
    if said != *PREFACE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP/2"));
    }
    Ok(Begun { stream, replayed: 0 })
}

pin_project! {
    /// A stream whose preface has been read and is read again.
    struct Begun<S> {
        #[pin]
        stream: S,
        replayed: usize,
    }
}

impl<S: AsyncRead> AsyncRead for Begun<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        match PREFACE.get(*this.replayed..) {
            Some(rest) if !rest.is_empty() => {
                let count = rest.len().min(buffer.remaining());
                buffer.put_slice(&rest[..count]);
                *this.replayed += count;
                Poll::Ready(Ok(()))
            }
            _ => this.stream.poll_read(context, buffer),
        }
    }
}

impl<S: AsyncWrite> AsyncWrite for Begun<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// How many connections there are, and whose.
struct Places {
    most: usize,
    most_per_peer: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
}

impl Places {
    fn count(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

/// A connection's place; free again when dropped.
struct Place {
    places: Arc<Places>,
    peer: IpAddr,
}

impl Place {
    fn take(places: &Arc<Places>, peer: IpAddr) -> Option<Place> {
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = taken.by_peer.get(&peer).copied().unwrap_or(0);
        if taken.all >= places.most || of_peer >= places.most_per_peer {
            return None;
        }
        taken.all += 1;
        taken.by_peer.insert(peer, of_peer + 1);
        Some(Place { places: Arc::clone(places), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        match taken.by_peer.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                taken.by_peer.remove(&self.peer);
            }
        }
    }
}
