//! The days of an account: the demand of its campaigns together, and what those that pay per
//! conversion have open.
//!
//! An account with such campaigns is paced by projections, too: of these it counts what today's
//! admissions are expected to bring, of the others what was charged. Their part of its demand is taken
//! to be their part of its active campaigns: enough to say how much of what is spent now comes later.

use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use super::conversions::Conversions;
use super::paced::Facts;
use super::rules::Projected;
use super::store::Totals;
use crate::admission::{Entity, Standing};
use crate::budgets::Limits;
use crate::calendar::policy::PaymentModel;
use crate::calendar::week::WeekSpent;
use crate::controller::curve::{Profile, Window};
use crate::controller::demand::Forecast;

/// The demand of an account's days: the sum over its active campaigns.
pub(super) struct AccountDays {
    now: DateTime<Utc>,
    day: Day,
    known: Vec<(Profile, Vec<f64>)>,
    unknown: Vec<(Profile, Vec<f64>)>,
    /// The campaigns that pay per conversion together, and how many of all there are.
    projected: Option<Projected>,
    converting: f64,
    campaigns: f64,
}

impl AccountDays {
    pub(super) fn new(now: DateTime<Utc>) -> AccountDays {
        AccountDays {
            now,
            day: Day::of(now),
            known: Vec::new(),
            unknown: Vec::new(),
            projected: None,
            converting: 0.0,
            campaigns: 0.0,
        }
    }

    /// What a campaign that pays per conversion has open; without an admission so far, nothing.
    pub(super) fn projected(
        &mut self,
        entity: &Entity,
        payment: PaymentModel,
        conversions: Option<&Conversions>,
        row: &Totals,
    ) -> Option<Projected> {
        if payment != PaymentModel::PerConversion {
            return None;
        }
        let nothing = Conversions::nothing(row.entity, self.day);
        let mut own = self.expect(conversions.unwrap_or(&nothing));
        own.charged = row.charged_micros as f64;
        if let Some(whole) = &mut self.projected {
            whole.charged += own.charged;
        }
        if entity.standing() == Standing::Active {
            self.converting += 1.0;
        }
        Some(own)
    }

    /// Adds what a campaign has open to that of the account, and gives its own.
    pub(super) fn expect(&mut self, conversions: &Conversions) -> Projected {
        let sunday = self.day.week_end().start();
        let left = (sunday - self.now).as_seconds_f64();
        let own = Projected {
            today: conversions.projected(self.day),
            charged: 0.0,
            due: conversions.due_by(self.now, sunday),
            share: conversions.curve.mean_share(left),
            charge: conversions.charge(),
            part: 1.0,
        };
        let whole = self.projected.get_or_insert(Projected { today: 0.0, due: 0.0, ..own });
        whole.today += own.today;
        whole.due += own.due;
        // The slowest and the dearest: the rest of the week brings no more than they say.
        whole.share = whole.share.min(own.share);
        whole.charge = whole.charge.max(own.charge);
        own
    }

    /// Adds a campaign, and gives its demand of today and of the days after.
    pub(super) fn add(&mut self, forecast: &Forecast, entity: &Entity) -> (Profile, Vec<f64>) {
        let schedule = entity.schedule();
        let window = |day: Day| match &schedule {
            None => Window::all(),
            Some(schedule) => {
                let mask = schedule.mask(day);
                Window::of(|minute| mask.is_open(minute))
            }
        };
        let profile = forecast.profile(self.day.weekday0(), &window(self.day));
        let mut later = Vec::new();
        let mut day = self.day.next();
        while day < self.day.week_end() {
            later.push(forecast.profile(day.weekday0(), &window(day)).total());
            day = day.next();
        }
        if entity.standing() == Standing::Active {
            self.campaigns += 1.0;
            let days = if forecast.level_known { &mut self.known } else { &mut self.unknown };
            days.push((profile.clone(), later.clone()));
        }
        (profile, later)
    }

    /// Where no level is known, the shapes together; else what is known, which the controller's
    /// day factor corrects until the rest is known, too.
    pub(super) fn facts(
        &self,
        row: &Totals,
        limits: Limits,
        week: WeekSpent,
        fresh: bool,
    ) -> Facts {
        let level_known = !self.known.is_empty();
        let parts = if level_known { &self.known } else { &self.unknown };
        let mut later = vec![0.0; usize::from(6 - self.day.weekday0().min(6))];
        for (_, days) in parts {
            for (sum, demand) in later.iter_mut().zip(days) {
                *sum += demand;
            }
        }
        let profile = if parts.is_empty() {
            Profile::new(&[0.0; crate::controller::SLOTS_PER_DAY], &Window::all())
        } else {
            Profile::sum(parts.iter().map(|(profile, _)| profile))
        };
        let part = (self.converting / self.campaigns.max(1.0)).min(1.0);
        let projected = self.projected.map(|projected| Projected { part, ..projected });
        Facts { stamp: row.stamp, limits, week, profile, later, level_known, fresh, projected }
    }
}
