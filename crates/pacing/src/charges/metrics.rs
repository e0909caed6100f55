//! What the charges of this replica are counted by.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adspend_common::telemetry;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram};

use super::batch::Folded;
use super::item::Verdict;

/// Bounds of the sizes of groups.
const GROUP_SIZES: [f64; 9] = [1.0, 4.0, 16.0, 64.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];
/// Bounds of the times of groups.
const GROUP_SECONDS: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];

/// The instruments of a writer.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    charges: Counter<u64>,
    sizes: Histogram<u64>,
    seconds: Histogram<f64>,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        let meter = telemetry::meter();
        Metrics {
            charges: meter
                .u64_counter("pacing.charges")
                .with_unit("{charge}")
                .with_description("Verdicts on charges and cancellations, by outcome")
                .build(),
            sizes: meter
                .u64_histogram("pacing.charges.group.size")
                .with_unit("{charge}")
                .with_description("Charges and cancellations written in one transaction")
                .with_boundaries(GROUP_SIZES.to_vec())
                .build(),
            seconds: meter
                .f64_histogram("pacing.charges.group.duration")
                .with_unit("s")
                .with_description("From the start of a group's transaction to its commit")
                .with_boundaries(GROUP_SECONDS.to_vec())
                .build(),
        }
    }

    /// A group was committed.
    pub(super) fn wrote(&self, folded: &Folded, took: Duration) {
        let mut counts = [0u64; OUTCOMES.len()];
        for verdict in &folded.verdicts {
            counts[outcome(verdict)] += 1;
        }
        for (name, count) in OUTCOMES.iter().zip(counts) {
            if count > 0 {
                self.charges.add(count, &[KeyValue::new("outcome", *name)]);
            }
        }
        self.sizes.record(u64::try_from(folded.verdicts.len()).unwrap_or(u64::MAX), &[]);
        self.seconds.record(took.as_secs_f64(), &[]);
    }
}

const OUTCOMES: [&str; 5] = ["booked", "late", "cancelled", "replayed", "refused"];

fn outcome(verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Booked { replayed: true, .. } | Verdict::Cancelled { replayed: true, .. } => 3,
        Verdict::Booked { late: true, .. } => 1,
        Verdict::Booked { late: false, .. } => 0,
        Verdict::Cancelled { replayed: false, .. } => 2,
        Verdict::Refused(_) => 4,
    }
}

/// The age of what waits for billing.
#[derive(Debug, Clone)]
pub(super) struct Unsettled(Arc<AtomicU64>);

impl Unsettled {
    pub(super) fn new() -> Unsettled {
        let millis = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&millis);
        telemetry::meter()
            .f64_observable_gauge("pacing.unsettled.age")
            .with_unit("s")
            .with_description("How long the oldest charge waits for billing, in the clock's time")
            .with_callback(move |observer| {
                let millis = read.load(Ordering::Relaxed);
                observer.observe(Duration::from_millis(millis).as_secs_f64(), &[]);
            })
            .build();
        Unsettled(millis)
    }

    pub(super) fn set_age(&self, age: Duration) {
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.0.store(millis, Ordering::Relaxed);
    }
}
