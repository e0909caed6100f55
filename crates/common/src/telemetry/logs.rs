//! Log lines, and the spans that become traces.

use opentelemetry_sdk::trace::SdkTracer;
use tracing::Metadata;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use super::Error;
use crate::config::{self, LogFormat};

pub(super) fn start(config: &config::Telemetry, tracer: Option<SdkTracer>) -> Result<(), Error> {
    let filter = EnvFilter::builder().parse(&config.log)?;
    // Only our own spans: the exporter runs on tonic as well, and would export itself for ever.
    let traces = tracer.map(|tracer| {
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(filter_fn(is_ours))
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<_> + Send + Sync> = match config.log_format {
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => lines.with_filter(filter).boxed(),
    };
    Registry::default().with(traces).with(lines).try_init()?;
    Ok(())
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("adspend")
}
