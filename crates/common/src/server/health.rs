//! Whether this process is alive, and whether it should get calls.
//!
//! Over gRPC (`grpc.health.v1`): `liveness` is SERVING until the process ends; `readiness`, the
//! empty name and the name of every service follow the questions given to
//! [`super::Server::ready`], asked each second, and are NOT_SERVING from the moment the process is
//! told to stop. Over HTTP the same: `/healthz`, `/readyz`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

use super::edge::{Handler, Named};
use crate::identity::{Access, MethodInfo, Methods};

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take; silence is a no.
const PATIENCE: Duration = Duration::from_secs(2);

/// A question whose answer says whether calls can be served.
pub(super) type Ready = Box<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// What is told about the process.
#[derive(Clone)]
pub(super) struct Health {
    reporter: HealthReporter,
    names: Arc<[&'static str]>,
    questions: Arc<[Ready]>,
    ready: Arc<AtomicBool>,
}

impl Health {
    /// Health of these services, and the gRPC service that tells it. Not ready before the first
    /// answers.
    pub(super) fn new(services: &[&'static str], questions: Vec<Ready>) -> (Health, Named) {
        let (reporter, service) = health_reporter();
        let names: Vec<&'static str> =
            ["", "readiness"].into_iter().chain(services.iter().copied()).collect();
        let health = Health {
            reporter,
            names: names.into(),
            questions: questions.into(),
            ready: Arc::new(AtomicBool::new(false)),
        };
        (health, named(service))
    }

    /// Whether calls can be served.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Alive, and not ready before it has been asked: to be told before the first connection.
    pub(super) async fn begin(&self) {
        self.reporter.set_service_status("liveness", ServingStatus::Serving).await;
        self.tell(false).await;
    }

    /// Asks for ever.
    pub(super) async fn watch(self) {
        let mut before = false;
        loop {
            let ready = self.ask().await;
            if before != ready {
                tracing::info!(ready, "readiness");
                self.tell(ready).await;
                before = ready;
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn ask(&self) -> bool {
        for question in self.questions.iter() {
            if !tokio::time::timeout(PATIENCE, question()).await.unwrap_or(false) {
                return false;
            }
        }
        true
    }

    /// Not ready, for good: whoever watches must have been aborted before.
    pub(super) async fn stop(&self) {
        self.tell(false).await;
    }

    async fn tell(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in self.names.iter() {
            self.reporter.set_service_status(name, status).await;
        }
    }
}

/// A generated server with its name.
pub(super) fn named<S>(service: S) -> Named
where
    S: tonic::server::NamedService + Handler + 'static,
{
    (S::NAME, Arc::new(service))
}

/// Anybody may ask for health.
pub(super) fn add_methods(methods: &mut Methods) {
    for (method, server_streams) in [("Check", false), ("Watch", true), ("List", false)] {
        methods.0.push(MethodInfo {
            path: format!("/grpc.health.v1.Health/{method}"),
            access: Access::Anybody,
            client_streams: false,
            server_streams,
        });
    }
}
