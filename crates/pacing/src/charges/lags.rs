//! How long charges take after their admissions: sums that the pacer collects.
//!
//! A token does not say when it was admitted, only when it expires, so what is summed is the time
//! that was left; whoever knows the lifetime of tokens makes a lag of it. Charges without an
//! admission and those whose token is over say nothing here.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use foldhash::HashMap;

use super::item::{Item, Verdict};

/// Charges of a campaign since they were last collected.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Lag {
    /// How many.
    pub count: u64,
    /// The seconds that their tokens had left, in all.
    pub left_seconds: f64,
}

/// Sums by account and campaign. Cheap to clone; one lock for a group of charges.
#[derive(Debug, Clone, Default)]
pub struct Lags(Arc<Mutex<HashMap<(i64, i64), Lag>>>);

impl Lags {
    /// Adds a group that was written.
    pub(super) fn note(&self, items: &[Item], verdicts: &[Verdict], now: DateTime<Utc>) {
        let now_micros = now.timestamp_micros();
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (item, verdict) in items.iter().zip(verdicts) {
            let Verdict::Booked { late: false, replayed: false, .. } = verdict else { continue };
            let Some(token) = item.token().filter(|token| !token.is_expired(now)) else { continue };
            let sum = sums.entry((token.account_no, token.campaign_no)).or_default();
            sum.count += 1;
            sum.left_seconds += token.expires_at_micros.saturating_sub(now_micros) as f64 / 1e6;
        }
    }

    /// The sums since the last call.
    pub fn collect(&self) -> HashMap<(i64, i64), Lag> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
