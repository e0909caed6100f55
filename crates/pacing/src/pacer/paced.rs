//! An account or a campaign under control: its plan of the day and the controller that keeps to it.
//!
//! Memory: about 8 KB each, of campaigns that are asked for. The plan is made from limits and
//! forecasts by [`super::rules`]; the rate by [`crate::controller::rate`].

use adspend_common::time::{Day, MSK};
use chrono::{DateTime, Timelike, Utc};

use super::rules::{self, Outlook, Projected};
use super::store::{BaseRow, Stamp, Totals as Row};
use crate::budgets::{Entity, Limits};
use crate::calendar::week::WeekSpent;
use crate::controller::curve::{Mode, Profile};
use crate::controller::inflight::Fading;
use crate::controller::rate::{Base, DayPlan, Pacer, Reading, Totals};

/// What is known of an entity when its day is planned.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) stamp: Stamp,
    pub(super) limits: Limits,
    pub(super) week: WeekSpent,
    /// Today's demand in its window.
    pub(super) profile: Profile,
    /// That of the days after it.
    pub(super) later: Vec<f64>,
    pub(super) level_known: bool,
    pub(super) fresh: bool,
    /// Of a campaign that pays per conversion, or an account with such campaigns.
    pub(super) projected: Option<Projected>,
}

/// An entity under control.
#[derive(Debug)]
pub(super) struct Paced {
    pub(super) entity: Entity,
    facts: Facts,
    pub(super) plan: DayPlan,
    planned_at: DateTime<Utc>,
    pacer: Pacer,
    in_flight: InFlight,
    pub(super) reading: Option<Reading>,
    /// H of today, as of the last plan; `None` without a limit.
    pub(super) limit_micros: Option<i64>,
}

/// What is in flight of the day.
#[derive(Debug, Clone, Copy, Default)]
struct InFlight {
    fading: Fading,
    at: Option<DateTime<Utc>>,
}

impl InFlight {
    /// `admitted_micros` is the day's sum; after midnight it begins anew and what was in flight
    /// belongs to yesterday.
    fn step(&mut self, now: DateTime<Utc>, admitted_micros: f64, lag_seconds: f64) -> f64 {
        let since = self.at.replace(now);
        match since.filter(|since| Day::of(*since) == Day::of(now)) {
            Some(since) => self.fading.step(seconds(now - since), admitted_micros, lag_seconds),
            None => self.fading.begin(admitted_micros),
        }
        self.fading.micros()
    }
}

fn seconds(duration: chrono::TimeDelta) -> f64 {
    duration.num_microseconds().unwrap_or(i64::MAX) as f64 / 1e6
}

/// The second of the Moscow day.
pub(crate) fn second_of(now: DateTime<Utc>) -> f64 {
    let local = now.with_timezone(&MSK);
    f64::from(local.num_seconds_from_midnight()) + f64::from(local.nanosecond()) / 1e9
}

impl Paced {
    /// Plans the day of an entity that is new here.
    pub(super) fn new(entity: Entity, facts: Facts, now: DateTime<Utc>, row: &Row) -> Paced {
        let day = Day::of(now);
        let plan = DayPlan {
            day,
            target: f64::INFINITY,
            ceiling: f64::INFINITY,
            profile: facts.profile.clone(),
            mode: Mode::Traffic,
            level_known: facts.level_known,
            charge: 0.0,
            base: Base::default(),
        };
        let mut paced = Paced {
            entity,
            facts,
            plan,
            planned_at: now,
            pacer: Pacer::new(),
            in_flight: InFlight::default(),
            reading: None,
            limit_micros: None,
        };
        paced.solve(now, row);
        paced
    }

    /// Plans with new facts. Gives where the curve begins anew, if the budget has changed.
    pub(super) fn plan_anew(
        &mut self,
        facts: Facts,
        now: DateTime<Utc>,
        row: &Row,
    ) -> Option<BaseRow> {
        let changed = facts.stamp.1 != self.facts.stamp.1;
        self.facts = facts;
        if self.plan.day != Day::of(now) {
            self.plan.day = Day::of(now);
            self.plan.base = Base::default();
        }
        self.solve(now, row);
        let change_no = self.facts.stamp.1.filter(|_| changed)?;
        let spent = self.committed(row);
        self.plan.base = Base { second: second_of(now), spent };
        Some(BaseRow { change_no, at: now, micros: spent as i64 })
    }

    /// Whether it was planned too long ago, or under another budget.
    pub(super) fn is_old(&self, now: DateTime<Utc>, stamp: Stamp) -> bool {
        self.facts.stamp != stamp || rules::is_plan_old(self.planned_at, now, self.facts.fresh)
    }

    fn solve(&mut self, now: DateTime<Utc>, row: &Row) {
        let day = Day::of(now);
        let mut spent = self.facts.week;
        let used = row.charged_micros.saturating_add(row.reserved_micros);
        if let Some(today) = spent.get_mut(usize::from(day.weekday0())) {
            *today = used;
        }
        let committed = self.committed(row);
        self.planned_at = now;
        self.plan.profile = self.facts.profile.clone();
        self.plan.level_known = self.facts.level_known;
        self.plan.mode = rules::mode(self.facts.limits.mode);
        let Some(money) = rules::week_money(&self.facts.limits, day, &spent) else {
            (self.plan.target, self.plan.ceiling) = (f64::INFINITY, f64::INFINITY);
            self.limit_micros = None;
            return;
        };
        let rest = self.plan.profile.between(second_of(now), crate::controller::DAY_SECONDS);
        let factor = self.reading.map_or(1.0, |reading| reading.day_factor.clamp(1.0 / 3.0, 3.0));
        let factor = if self.facts.level_known { factor } else { 1.0 };
        let outlook = Outlook {
            rest_of_today: rest * factor,
            later: self.facts.later.clone(),
            level_known: self.facts.level_known,
        };
        self.plan.target = match &self.facts.projected {
            None => rules::target(&money, &outlook, committed),
            Some(projected) => {
                let usual = rules::usual_day(&self.facts.limits, day).unwrap_or(0.0);
                let spent = self.spent(row);
                let days = seconds(day.week_end().start() - now) / crate::controller::DAY_SECONDS;
                let week = (usual, days);
                rules::projected_target(&money, &outlook, (committed, spent), projected, week)
            }
        };
        self.plan.ceiling = money.today_micros as f64;
        self.limit_micros = Some(money.today_micros);
    }

    /// Charged and in flight today.
    fn spent(&self, row: &Row) -> f64 {
        row.charged_micros as f64 + self.in_flight.fading.micros()
    }

    /// Charged and in flight today, as the curve counts it: conversions when they are projected.
    fn committed(&self, row: &Row) -> f64 {
        let spent = self.spent(row);
        self.facts.projected.map_or(spent, |of| spent - of.charged + of.today)
    }

    /// Whether it is paced by what is projected.
    pub(super) fn projects(&self) -> bool {
        self.facts.projected.is_some()
    }

    /// The curve begins anew.
    pub(super) fn rebase(&mut self, base: &BaseRow) {
        self.plan.base = Base { second: second_of(base.at), spent: base.micros as f64 };
    }

    /// Whether it has been seen for less than a week.
    pub(super) fn is_fresh(&self) -> bool {
        self.facts.fresh
    }

    /// Whether a limit is in force today.
    pub(super) fn is_limited(&self) -> bool {
        self.limit_micros.is_some()
    }

    /// The number of its mode; none without a limit.
    pub(super) fn mode(&self) -> Option<i16> {
        self.facts.stamp.0.filter(|_| self.is_limited())
    }

    /// The figures of this moment. `offered` and `admitted` are with κ applied.
    /// What conversions were charged today counts on the day of their admission, when it was
    /// projected; nothing of it is in flight.
    pub(super) fn totals(&mut self, now: DateTime<Utc>, row: &Row, sums: &Seen) -> Totals {
        let in_flight = self.in_flight.step(now, sums.admitted, sums.lag_seconds);
        // What may still be charged is reserved: no more than that is in flight.
        let in_flight = in_flight.min(row.reserved_micros as f64);
        Totals {
            charged: row.charged_micros as f64 - sums.arrived + sums.projected,
            in_flight,
            admitted: sums.admitted,
            // The limits count margins, leave that is not used, and whole prices.
            margin: (sums.may_return - in_flight).max(0.0),
            offered: sums.offered,
            expected: sums.expected,
            opportunities: sums.opportunities,
            seen_seconds: sums.seen_seconds,
            // A tick reads them.
            age_seconds: 0.0,
            feedback_lag_seconds: sums.lag_seconds,
        }
    }

    /// Sets the rate of this moment.
    pub(super) fn tick(
        &mut self,
        now: DateTime<Utc>,
        base: Option<BaseRow>,
        charge: f64,
        totals: &Totals,
    ) -> Reading {
        let base = base.filter(|base| Day::of(base.at) == Day::of(now));
        if let Some(base) = base {
            // Whoever saw the change first said where the curve begins, for all replicas.
            self.rebase(&base);
        }
        self.plan.charge = charge;
        let reading = self.pacer.tick(second_of(now), &self.plan, totals);
        self.reading = Some(reading);
        reading
    }
}

/// What was seen of an entity today, over all replicas, κ applied.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) offered: f64,
    pub(super) admitted: f64,
    pub(super) expected: f64,
    pub(super) opportunities: f64,
    pub(super) seen_seconds: f64,
    pub(super) lag_seconds: f64,
    /// Reserved where most admissions are never charged.
    pub(super) may_return: f64,
    /// Expected of today's admissions of campaigns that pay per conversion, and charged to these.
    pub(super) projected: f64,
    pub(super) arrived: f64,
}

impl Seen {
    /// An account's, from those of its campaigns; the lag is that of the slowest.
    pub(super) fn add(&mut self, other: &Seen) {
        self.offered += other.offered;
        self.admitted += other.admitted;
        self.expected += other.expected;
        self.opportunities += other.opportunities;
        self.seen_seconds = self.seen_seconds.max(other.seen_seconds);
        self.lag_seconds = self.lag_seconds.max(other.lag_seconds);
        self.may_return += other.may_return;
        self.projected += other.projected;
        self.arrived += other.arrived;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_flight_fades_with_the_lag_of_charges() {
        let noon: DateTime<Utc> = "2025-06-11T12:00:00+03:00".parse().unwrap();
        let mut in_flight = InFlight::default();
        assert_eq!(in_flight.step(noon, 1_000.0, 60.0), 0.0, "what came before is not known");
        let minute = chrono::TimeDelta::seconds(60);
        let after = in_flight.step(noon + minute, 2_000.0, 60.0);
        assert!((after - 1_000.0 / 1f64.exp()).abs() < 1e-6, "{after}");
        assert!(in_flight.step(noon + minute * 30, 2_000.0, 60.0) < 1e-6);
        let midnight = Day::of(noon).end();
        assert_eq!(in_flight.step(midnight, 50.0, 60.0), 0.0, "a new day has its own");
    }
}
