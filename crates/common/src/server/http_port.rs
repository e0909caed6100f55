//! The HTTP port: metrics for Prometheus, health for those that do not speak gRPC, and the pages that the
//! service adds for peers that speak only HTTP. Such a page knows its peer's address.

use std::net::SocketAddr;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::health::Health;
use super::stop::{Phase, Stop};
use crate::telemetry::Telemetry;

/// The version of the text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until the process is as good as gone, so that the drain can be watched.
pub(super) async fn serve(
    listener: TcpListener,
    telemetry: Telemetry,
    health: Health,
    stop: Stop,
    added: Router,
) {
    let pages = added
        .route("/metrics", get(async move || metrics(&telemetry)))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || readiness(&health)));
    let closed = stop.token(Phase::Closed).clone().cancelled_owned();
    let pages = pages.into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, pages).with_graceful_shutdown(closed).await {
        tracing::error!(%error, "the metrics port failed");
    }
}

fn metrics(telemetry: &Telemetry) -> Response {
    ([(header::CONTENT_TYPE, PROMETHEUS)], telemetry.prometheus_text()).into_response()
}

fn readiness(health: &Health) -> Response {
    if health.is_ready() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}
