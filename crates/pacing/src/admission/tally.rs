//! How decisions fell, for metrics. Counted at the edge, read when somebody scrapes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use adspend_common::telemetry;
use opentelemetry::KeyValue;

use super::{Decision, Reason};

/// The outcomes by index; the last are the reasons of a denial in the order of [`Reason`].
const OUTCOMES: [&str; 14] = [
    "admitted",
    "campaign_unknown",
    "campaign_paused",
    "account_blocked",
    "outside_schedule",
    "outside_dates",
    "campaign_day_limit",
    "campaign_week_limit",
    "account_day_limit",
    "account_week_limit",
    "throttled",
    "no_funds",
    "no_funds_confirmed",
    "overloaded",
];

/// Counts of outcomes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<[AtomicU64; OUTCOMES.len()]>);

impl Tally {
    /// Counts that the metrics endpoint shows.
    pub fn published() -> Tally {
        let tally = Tally::default();
        let counts = tally.clone();
        telemetry::meter()
            .u64_observable_counter("pacing.decisions")
            .with_unit("{decision}")
            .with_description("Decisions about opportunities, by outcome")
            .with_callback(move |observer| {
                for (outcome, count) in OUTCOMES.iter().zip(counts.0.iter()) {
                    let count = count.load(Ordering::Relaxed);
                    observer.observe(count, &[KeyValue::new("outcome", *outcome)]);
                }
            })
            .build();
        tally
    }

    /// Counts the answers of a request or a batch.
    pub fn count<'a>(&self, decisions: impl IntoIterator<Item = &'a Decision>) {
        let mut counts = [0u64; OUTCOMES.len()];
        for decision in decisions {
            if let Some(count) = counts.get_mut(index(decision)) {
                *count += 1;
            }
        }
        for (total, count) in self.0.iter().zip(counts) {
            if count > 0 {
                total.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
}

fn index(decision: &Decision) -> usize {
    match decision {
        Decision::Admitted(_) => 0,
        Decision::Denied(denial) => of_reason(denial.reason),
        // Whoever stays cold is answered that we are overloaded.
        Decision::Cold(_) => of_reason(Reason::Overloaded),
    }
}

fn of_reason(reason: Reason) -> usize {
    match reason {
        Reason::CampaignUnknown => 1,
        Reason::CampaignPaused => 2,
        Reason::AccountBlocked => 3,
        Reason::OutsideSchedule => 4,
        Reason::OutsideDates => 5,
        Reason::CampaignDayLimit => 6,
        Reason::CampaignWeekLimit => 7,
        Reason::AccountDayLimit => 8,
        Reason::AccountWeekLimit => 9,
        Reason::Throttled => 10,
        Reason::NoFunds => 11,
        Reason::NoFundsConfirmed => 12,
        Reason::Overloaded => 13,
    }
}
