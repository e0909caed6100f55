//! What is counted of every call.
//!
//! `rpc.server.call.duration` in seconds by `rpc.method` and `rpc.response.status_code`, as the
//! semantic conventions of OpenTelemetry name it; beside it what is in progress.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundHistogram, Histogram, Meter};
use tonic::Code;

use super::gate::Gate;

/// From a tenth of a millisecond, where admission is, to the longest deadline.
const BOUNDARIES: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// How many status codes there are.
const CODES: usize = 17;

/// The name of a code on the wire of metrics: that of the gRPC specification.
pub(super) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The histogram that all methods share.
pub(super) fn durations(meter: &Meter) -> Histogram<f64> {
    meter
        .f64_histogram("rpc.server.call.duration")
        .with_unit("s")
        .with_description("How long calls took, from their headers to the end of the answer.")
        .with_boundaries(BOUNDARIES.to_vec())
        .build()
}

/// Gauges of what is in progress.
pub(super) fn in_progress(meter: &Meter, gate: &Arc<Gate>) {
    let counted = Arc::clone(gate);
    meter
        .u64_observable_gauge("rpc.server.calls_in_flight")
        .with_description("Unary calls that are being worked on.")
        .with_callback(move |gauge| gauge.observe(counted.in_flight() as u64, &[]))
        .build();
    let counted = Arc::clone(gate);
    meter
        .u64_observable_gauge("rpc.server.open_streams")
        .with_description("Streams that are open.")
        .with_callback(move |gauge| gauge.observe(counted.open_streams() as u64, &[]))
        .build();
}

/// The cells of one method. A cell is made when its code is first answered, so that codes that
/// never happen make no series, and found without hashing afterwards.
#[derive(Debug)]
pub(super) struct MethodMetrics {
    method: String,
    durations: Histogram<f64>,
    cells: [OnceLock<BoundHistogram<f64>>; CODES],
}

impl MethodMetrics {
    pub(super) fn new(method: &str, durations: &Histogram<f64>) -> MethodMetrics {
        MethodMetrics {
            method: method.trim_start_matches('/').to_owned(),
            durations: durations.clone(),
            cells: Default::default(),
        }
    }

    pub(super) fn record(&self, code: Code, took: Duration) {
        let Some(cell) = self.cells.get(code as usize) else { return };
        let cell = cell.get_or_init(|| {
            self.durations.bind(&[
                KeyValue::new("rpc.method", self.method.clone()),
                KeyValue::new("rpc.response.status_code", code_name(code)),
            ])
        });
        cell.record(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_cell() {
        for number in 0..CODES {
            let code = Code::from_i32(number as i32);
            assert_eq!(code as usize, number);
            assert!(!code_name(code).is_empty());
        }
        assert_eq!(Code::from_i32(CODES as i32), Code::Unknown);
    }
}
