//! What the process tells about itself: log lines, metrics, traces.
//!
//! - Logs are one JSON object a line on standard error (text for a person at a terminal). A panic
//!   is logged like everything else.
//! - Metrics are declared once on [`meter`] and read twice: at `/metrics` in Prometheus' text
//!   format, and, when an endpoint is configured, by OTLP.
//! - Traces exist only when an endpoint is configured: without one, no span is made and nothing is
//!   exported. `OTEL_TRACES_SAMPLER` and its neighbours choose what is kept.
//!
//! Cost: the SDK finds an instrument's cell by hashing its attributes, which is too slow for a path
//! of a few hundred nanoseconds. There, count with atomics and let an observable instrument read
//! them.
//!
//! Deliberately not here: the metrics of a feature. They stand beside what they count.

mod logs;
mod panics;
mod propagation;

use std::time::Duration;

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::{Registry, TextEncoder};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::config;

pub(crate) use panics::{take_logged_panic, text_of as panic_text};
pub use propagation::{inject, parent_of};

/// How long the last export may take at the end of the process.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// The name of our meter and tracer.
const SCOPE: &str = "adspend";

/// Telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The setting `telemetry.log` is not a filter.
    #[error("telemetry.log is not a filter of log lines")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The setting `telemetry.otlp_endpoint` is not usable.
    #[error("telemetry.otlp_endpoint is not usable")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The metrics registry refused us.
    #[error("the metrics registry did not start")]
    Metrics(#[from] opentelemetry_sdk::error::OTelSdkError),
    /// Somebody has set up logging before.
    #[error("logging is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// The running telemetry; [`Telemetry::shutdown`] sends what is left.
#[derive(Debug, Clone)]
pub struct Telemetry {
    registry: Registry,
    meters: SdkMeterProvider,
    tracers: Option<SdkTracerProvider>,
}

/// Starts logs, metrics and (with an endpoint) traces for the whole process. Call it once, inside
/// the runtime.
pub fn start(service: &'static str, config: &config::Telemetry) -> Result<Telemetry, Error> {
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let endpoint = config.otlp_endpoint.as_deref();
    let tracers = match endpoint {
        None => None,
        Some(endpoint) => {
            let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
            let tracers = SdkTracerProvider::builder()
                .with_batch_exporter(exporter)
                .with_resource(resource.clone())
                .build();
            Some(tracers)
        }
    };
    let (registry, meters) = metrics(resource, endpoint)?;
    logs::start(config, tracers.as_ref().map(|tracers| tracers.tracer(SCOPE)))?;
    panics::hook();
    global::set_meter_provider(meters.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());
    Ok(Telemetry { registry, meters, tracers })
}

/// A registry, and a provider whose instruments are read by it and, with an endpoint, by OTLP.
fn metrics(
    resource: Resource,
    endpoint: Option<&str>,
) -> Result<(Registry, SdkMeterProvider), Error> {
    let registry = Registry::new();
    let reader = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false)
        .without_target_info()
        .build()?;
    let mut meters = SdkMeterProvider::builder().with_resource(resource).with_reader(reader);
    if let Some(endpoint) = endpoint {
        let exporter = MetricExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        meters = meters.with_periodic_exporter(exporter);
    }
    Ok((registry, meters.build()))
}

/// Where instruments are declared. Before [`start`] they count nothing.
pub fn meter() -> Meter {
    global::meter(SCOPE)
}

impl Telemetry {
    /// Metrics of its own and nothing else: no logs, no global state.
    pub fn for_tests() -> Telemetry {
        let (registry, meters) = metrics(Resource::builder_empty().build(), None)
            .expect("an empty registry takes an exporter");
        Telemetry { registry, meters, tracers: None }
    }

    /// Where instruments are declared that belong to this telemetry alone; see [`meter`].
    pub fn meter(&self) -> Meter {
        self.meters.meter(SCOPE)
    }

    /// Whether spans go anywhere.
    pub fn traces(&self) -> bool {
        self.tracers.is_some()
    }

    /// All metrics in Prometheus' text format.
    pub fn prometheus_text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics could not be written as text");
            String::new()
        })
    }

    /// Sends what is left. The last thing a process does; bounded.
    pub async fn shutdown(self) {
        let flush = tokio::task::spawn_blocking(move || {
            if let Some(tracers) = self.tracers {
                tracers.shutdown_with_timeout(FLUSH_LIMIT).ok();
            }
            self.meters.shutdown_with_timeout(FLUSH_LIMIT).ok();
        });
        if tokio::time::timeout(FLUSH_LIMIT, flush).await.is_err() {
            tracing::warn!("the last traces and metrics could not be sent in time");
        }
    }
}

/// The id under which the current work is found: that of its trace, or a new one when it has none.
pub fn current_trace_id() -> String {
    let context = tracing::Span::current().context();
    let span = context.span();
    let span = span.span_context();
    if span.is_valid() { span.trace_id().to_string() } else { new_trace_id() }
}

fn new_trace_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instrument_is_read_as_prometheus_text() {
        let telemetry = Telemetry::for_tests();
        let counter = telemetry.meter().u64_counter("admissions").with_unit("{call}").build();
        counter.add(3, &[KeyValue::new("verdict", "admitted")]);
        let text = telemetry.prometheus_text();
        assert!(text.contains("admissions_total{verdict=\"admitted\"} 3"), "{text}");
    }

    #[test]
    fn work_without_a_trace_gets_an_id_of_its_own() {
        let (a, b) = (current_trace_id(), current_trace_id());
        assert_eq!((a.len(), b.len()), (32, 32));
        assert_ne!(a, b);
    }
}
