//! What the pacer counts: its ticks, how late they come, and the rates that it has set.

use std::sync::Arc;
use std::time::Duration;

use adspend_common::telemetry;
use chrono::{DateTime, Utc};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram};

use crate::admission::Entity;
use crate::admission::rate::Rate;

/// Upper ends of the classes of rates.
const CLASSES: [(&str, f64); 5] =
    [("0", 0.0), ("below_0.05", 0.05), ("below_0.5", 0.5), ("below_0.95", 0.95), ("below_1", 1.0)];

pub(super) struct Metrics {
    ticks: Counter<u64>,
    took: Histogram<f64>,
    late: Gauge<f64>,
    rates: Gauge<u64>,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        let meter = telemetry::meter();
        Metrics {
            ticks: meter
                .u64_counter("pacing.ticks")
                .with_unit("{tick}")
                .with_description("Ticks of the controller, by whether the rates were set")
                .build(),
            took: meter
                .f64_histogram("pacing.tick.duration")
                .with_unit("s")
                .with_description("How long a tick took, until the rates were set")
                .build(),
            late: meter
                .f64_gauge("pacing.tick.lateness")
                .with_unit("s")
                .with_description("The clock's time between the last ticks beyond the interval")
                .build(),
            rates: meter
                .u64_gauge("pacing.campaigns")
                .with_unit("{campaign}")
                .with_description("Campaigns that were asked for here, by admission rate; budget constrained are those below 0.95")
                .build(),
        }
    }

    pub(super) fn lateness(
        &self,
        before: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        interval: Duration,
    ) {
        let passed = before.and_then(|before| (now - before).to_std().ok());
        if let Some(passed) = passed {
            self.late.record(passed.saturating_sub(interval).as_secs_f64(), &[]);
        }
    }

    pub(super) fn ticked(&self, entities: &[Arc<Entity>], took: Duration) {
        self.ticks.add(1, &[KeyValue::new("outcome", "set")]);
        self.took.record(took.as_secs_f64(), &[]);
        let mut counts = [0u64; CLASSES.len() + 1];
        for entity in entities.iter().filter(|entity| entity.offer().offered_count > 0) {
            let rate = f64::from(entity.rate.parts()) / f64::from(Rate::ALL);
            let class = CLASSES.iter().position(|(_, end)| rate < *end || rate == 0.0);
            if let Some(count) = counts.get_mut(class.unwrap_or(CLASSES.len())) {
                *count += 1;
            }
        }
        let names = CLASSES.iter().map(|(name, _)| *name).chain(["1"]);
        for (name, count) in names.zip(counts) {
            self.rates.record(count, &[KeyValue::new("rate", name)]);
        }
    }

    pub(super) fn failed(&self) {
        self.ticks.add(1, &[KeyValue::new("outcome", "failed")]);
    }
}
