//! What this replica has seen of its campaigns today: the sums that it reports.

use std::sync::Arc;
use std::time::Duration;

use adspend_common::time::Day;
use chrono::{DateTime, Utc};
use foldhash::HashMap;

use crate::admission::{Entity, Offer};
use crate::charges::Lag;

/// A campaign that nobody asked about for so long is left alone until somebody does. A rate that
/// stands for a minute does no harm: its next tick comes within seconds of the next opportunity.
const ACTIVE_FOR: Duration = Duration::from_secs(120);

/// Sums since midnight, of one replica or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sums {
    /// Expected charges of what was offered.
    pub(super) offered_micros: i64,
    /// Opportunities.
    pub(super) offered_count: i64,
    /// Expected charges of what was admitted.
    pub(super) admitted_micros: i64,
    /// Admissions.
    pub(super) admitted_count: i64,
    /// Charges in time.
    pub(super) settled_count: i64,
    /// How long they took in all.
    pub(super) settled_seconds: f64,
}

impl Sums {
    /// Both together.
    pub(super) fn plus(&self, other: &Sums) -> Sums {
        Sums {
            offered_micros: self.offered_micros.saturating_add(other.offered_micros),
            offered_count: self.offered_count.saturating_add(other.offered_count),
            admitted_micros: self.admitted_micros.saturating_add(other.admitted_micros),
            admitted_count: self.admitted_count.saturating_add(other.admitted_count),
            settled_count: self.settled_count.saturating_add(other.settled_count),
            settled_seconds: self.settled_seconds + other.settled_seconds,
        }
    }

    fn add_offer(&mut self, before: &Offer, now: &Offer) {
        let more = |now: u64, before: u64| i64::try_from(now.wrapping_sub(before)).unwrap_or(0);
        let add = |sum: &mut i64, more: i64| *sum = sum.saturating_add(more);
        add(&mut self.offered_micros, more(now.offered_micros, before.offered_micros));
        add(&mut self.offered_count, more(now.offered_count, before.offered_count));
        add(&mut self.admitted_micros, more(now.admitted_micros, before.admitted_micros));
        let admitted = now.admitted_count.wrapping_sub(before.admitted_count);
        add(&mut self.admitted_count, i64::from(admitted));
    }
}

/// One campaign here.
#[derive(Debug)]
pub(super) struct Sight {
    /// It.
    pub(super) entity: Arc<Entity>,
    /// Of today, by this replica.
    pub(super) sums: Sums,
    /// There is something that was not reported.
    pub(super) is_news: bool,
    read: Offer,
    asked_at: DateTime<Utc>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sights {
    day: Option<Day>,
    by_key: HashMap<(i64, i64), Sight>,
}

impl Sights {
    /// Reads the counters of every campaign. What came between the last reading and midnight
    /// counts for the new day: a tick's worth.
    pub(super) fn look(
        &mut self,
        entities: &[Arc<Entity>],
        lags: HashMap<(i64, i64), Lag>,
        slice_life: Duration,
        now: DateTime<Utc>,
    ) {
        let day = Day::of(now);
        if self.day.replace(day) != Some(day) {
            for sight in self.by_key.values_mut() {
                sight.sums = Sums::default();
                sight.is_news = false;
            }
        }
        for entity in entities {
            let offer = entity.offer();
            if offer.offered_count == 0 {
                continue;
            }
            let sight =
                self.by_key.entry((entity.account_no, entity.campaign_no)).or_insert_with(|| {
                    let read = Offer::default();
                    let entity = Arc::clone(entity);
                    Sight { entity, sums: Sums::default(), is_news: false, read, asked_at: now }
                });
            if sight.read != offer {
                sight.sums.add_offer(&sight.read, &offer);
                (sight.read, sight.is_news, sight.asked_at) = (offer, true, now);
            }
        }
        for (key, lag) in lags {
            // What is charged here may have been admitted elsewhere; then it is said elsewhere.
            let Some(sight) = self.by_key.get_mut(&key) else { continue };
            let took = lag.count as f64 * slice_life.as_secs_f64() - lag.left_seconds;
            sight.sums.settled_count = sight.sums.settled_count.saturating_add_unsigned(lag.count);
            sight.sums.settled_seconds += took.max(0.0);
            sight.is_news = true;
        }
    }

    /// Campaigns that are asked for, or have something to report.
    pub(super) fn active(&self, now: DateTime<Utc>, tick: Duration) -> Vec<&Sight> {
        let since = now - ACTIVE_FOR.max(tick * 3);
        let active = |sight: &&Sight| sight.is_news || sight.asked_at >= since;
        self.by_key.values().filter(active).collect()
    }

    /// This replica's sums of a campaign.
    pub(super) fn sums(&self, key: (i64, i64)) -> Sums {
        self.by_key.get(&key).map(|sight| sight.sums).unwrap_or_default()
    }

    /// They are written.
    pub(super) fn reported(&mut self, keys: &[(i64, i64)]) {
        for key in keys {
            if let Some(sight) = self.by_key.get_mut(key) {
                sight.is_news = false;
            }
        }
    }
}
