//! The rates of an account and its campaigns: each campaign's own, under the account's ceiling.

use std::collections::HashMap;
use std::sync::Arc;

use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use super::cause::Cause;
use super::conversions::Conversions;
use super::days::AccountDays;
use super::learned::{AccountLearned, Learned};
use super::paced::{Facts, Paced, Seen, second_of};
use super::rules::{self, Throttle, parts, ppm};
use super::sight::Sights;
use super::store::{BaseRow, Totals, Written};
use crate::admission::rate::Rate;
use crate::admission::{Admission, CERTAIN_PPM, Entity, Moment, Standing};
use crate::budgets::{self, Limits};
use crate::calendar::week::WeekSpent;
use crate::controller::demand::DayDemand;
use crate::controller::hierarchy::{self, Share};
use crate::controller::rate::{self, Reading, Why};
use crate::controller::{DaySlots, SLOT_SECONDS};

/// What is needed to plan an account.
pub(super) struct Plan {
    pub(super) account_no: i64,
    pub(super) budgets: HashMap<budgets::Entity, (Limits, WeekSpent)>,
    pub(super) learned: AccountLearned,
    /// Of campaigns that pay per conversion and have had admissions.
    pub(super) conversions: HashMap<i64, Conversions>,
    pub(super) admission: Arc<Admission>,
}

/// An account under control.
#[derive(Debug)]
pub(super) struct AccountState {
    own: Paced,
    campaigns: HashMap<i64, CampaignState>,
    /// Curves that began anew and are to be written down.
    pub(super) bases: Vec<(budgets::Entity, BaseRow)>,
}

#[derive(Debug)]
struct CampaignState {
    entity: Arc<Entity>,
    paced: Paced,
    /// The directory's version of the campaign when it was planned.
    version: u32,
    /// In which share of each slot of today demand could be seen, until this second.
    known: DaySlots,
    known_until: f64,
}

/// Lets everything through: there is no limit any more, or there never was.
pub(super) fn release(admission: &Admission, rows: &[Totals], readings: &mut Vec<Written>) {
    for row in rows {
        if row.entity.level == 1 {
            let no = (row.entity.account_no.0, row.entity.entity_no);
            if let Some(entity) = admission.entity(no.0, no.1) {
                entity.rate.set(Rate::ALL);
                entity.rate.set_few(false);
                entity.set_chance(chance_ppm(row));
                entity.set_caution(row.kappa);
            }
        }
        if row.applied.is_some_and(|applied| applied.parts != Rate::ALL) {
            readings.push(no_budget(row));
        }
    }
}

fn chance_ppm(row: &Totals) -> u32 {
    row.chance.map_or(CERTAIN_PPM, |chance| rules::ppm(chance).unsigned_abs())
}

impl AccountState {
    /// Plans, keeping the controllers there are. `None` when the account's own rows are missing.
    pub(super) fn planned(
        old: Option<AccountState>,
        plan: Plan,
        rows: &[Totals],
        now: DateTime<Utc>,
        bases: &mut Vec<(budgets::Entity, BaseRow)>,
    ) -> Option<AccountState> {
        let (own_old, mut old) = match old {
            Some(old) => (Some(old.own), old.campaigns),
            None => (None, HashMap::new()),
        };
        let mut days = AccountDays::new(now);
        let mut campaigns = HashMap::new();
        let asked = rows.iter().filter(|row| row.entity.level == 1);
        for row in asked {
            let no = row.entity.entity_no;
            let entity = super::campaign(&plan.admission, plan.account_no, no);
            let (Some(entity), Some((limits, week))) = (entity, plan.budgets.get(&row.entity))
            else {
                continue;
            };
            let nothing;
            let learned = match (plan.learned.campaigns.get(&no), &plan.learned.shape) {
                (Some(learned), _) => learned,
                (None, Some(shape)) => {
                    nothing = Learned::nothing(shape);
                    &nothing
                }
                (None, None) => continue,
            };
            let version = entity.version();
            let (profile, later) = days.add(&learned.forecast, &entity);
            let payment = limits.terms.payment;
            let conversions = plan.conversions.get(&no);
            let projected = days.projected(&entity, payment, conversions, row);
            let facts = Facts {
                stamp: row.stamp,
                limits: *limits,
                week: *week,
                profile,
                later,
                level_known: learned.forecast.level_known,
                fresh: learned.fresh,
                projected,
            };
            let state = match old.remove(&no) {
                Some(mut state) => {
                    plan_anew(&mut state.paced, facts, now, row, bases);
                    CampaignState { version, ..state }
                }
                None => {
                    let paced = first_plan(facts, now, row, bases);
                    CampaignState {
                        entity,
                        paced,
                        version,
                        known: learned.known_today,
                        known_until: seen_from(&learned.known_today, now),
                    }
                }
            };
            campaigns.insert(no, state);
        }
        for (no, learned) in &plan.learned.campaigns {
            if campaigns.contains_key(no) {
                continue;
            }
            if let Some(entity) = super::campaign(&plan.admission, plan.account_no, *no) {
                days.add(&learned.forecast, &entity);
                if let Some(conversions) = plan.conversions.get(no) {
                    days.expect(conversions);
                }
            }
        }
        let row = rows.iter().find(|row| row.entity.level == 2)?;
        let (limits, week) = plan.budgets.get(&row.entity)?;
        let facts = days.facts(row, *limits, *week, campaigns.values().any(|c| c.paced.is_fresh()));
        let own = match own_old {
            Some(mut own) => {
                plan_anew(&mut own, facts, now, row, bases);
                own
            }
            None => first_plan(facts, now, row, bases),
        };
        Some(AccountState { own, campaigns, bases: Vec::new() })
    }

    /// Whether it is to be planned anew.
    pub(super) fn is_old(&self, rows: &[Totals], now: DateTime<Utc>) -> bool {
        rows.iter().any(|row| match row.entity.level {
            1 => self.campaigns.get(&row.entity.entity_no).is_none_or(|campaign| {
                campaign.paced.is_old(now, row.stamp)
                    || campaign.version != campaign.entity.version()
            }),
            _ => self.own.is_old(now, row.stamp),
        })
    }

    /// Sets the rate of every campaign, and adds the readings that are worth writing down.
    pub(super) fn set_rates(
        &mut self,
        rows: &[Totals],
        sights: &Sights,
        now: DateTime<Utc>,
        throttle: bool,
        readings: &mut Vec<Written>,
    ) {
        let moment = Moment::at(now, 0);
        let mut whole = Seen::default();
        let mut ticks: Vec<(&Totals, Reading, Seen)> = Vec::with_capacity(rows.len());
        let mut shares = Vec::new();
        for row in rows.iter().filter(|row| row.entity.level == 1) {
            let Some(campaign) = self.campaigns.get_mut(&row.entity.entity_no) else { continue };
            let seen = campaign.see(row, sights, now);
            whole.add(&seen);
            let reading = campaign.tick(row, &seen, now);
            if campaign.can_spend(&moment) && reading.bound != Why::HardStop {
                let (rate, demand) = (reading.rate, reading.demand_ahead);
                shares.push(Share { rate, demand, weight: 1.0 });
            }
            ticks.push((row, reading, seen));
        }
        let Some(row) = rows.iter().find(|row| row.entity.level == 2) else { return };
        let totals = self.own.totals(now, row, &whole);
        // Projections are no charges of a size that could be waited for.
        let charge = if self.own.projects() { 0.0 } else { mean_charge(row) };
        let own = self.own.tick(now, row.base, charge, &totals);
        let ceiling = hierarchy::ceiling(&mut shares, own.budget_ahead).min(1.0);
        let account = Reading { rate: ceiling, ..own };
        if self.own.is_limited() {
            let is_few = rules::is_few(row.applied.as_ref(), self.own.plan.target, charge);
            let rates = Rates { reading: &account, seen: &whole, ceiling, is_few, throttle };
            self.own.written(row, now, &rates, readings);
        } else if row.applied.is_some_and(|applied| applied.parts != Rate::ALL) {
            readings.push(no_budget(row));
        }
        for (row, reading, seen) in ticks {
            let Some(campaign) = self.campaigns.get_mut(&row.entity.entity_no) else { continue };
            // The smaller target of the two says how many charges there can be.
            let target = campaign.paced.plan.target.min(self.own.plan.target);
            let is_few = rules::is_few(row.applied.as_ref(), target, campaign.paced.plan.charge);
            let rates = Rates { reading: &reading, seen: &seen, ceiling, is_few, throttle };
            let limited = campaign.paced.is_limited() || self.own.is_limited();
            let throttle = if limited {
                campaign.paced.written(row, now, &rates, readings)
            } else {
                Throttle::NONE
            };
            campaign.entity.rate.set_few(throttle.is_few);
            campaign.entity.rate.set(throttle.parts);
            campaign.entity.set_chance(chance_ppm(row));
            campaign.entity.set_caution(row.kappa);
        }
    }
}

/// A controller's first plan. A figure that was set today begins its curve now: what the day would
/// have spent without it is no debt.
fn first_plan(
    facts: Facts,
    now: DateTime<Utc>,
    row: &Totals,
    bases: &mut Vec<(budgets::Entity, BaseRow)>,
) -> Paced {
    let set_today = facts.limits.in_force_day == Some(Day::of(now));
    let mut paced = Paced::new(row.entity, facts, now, row);
    let known = row.base.is_some_and(|base| Some(base.change_no) == row.stamp.1);
    if let (true, false, Some(change_no)) = (set_today, known, row.stamp.1) {
        let base = BaseRow { change_no, at: now, micros: row.charged_micros };
        paced.rebase(&base);
        bases.push((row.entity, base));
    }
    paced
}

fn plan_anew(
    paced: &mut Paced,
    facts: Facts,
    now: DateTime<Utc>,
    row: &Totals,
    bases: &mut Vec<(budgets::Entity, BaseRow)>,
) {
    if let Some(base) = paced.plan_anew(facts, now, row) {
        let known = row.base.is_some_and(|known| known.change_no >= base.change_no);
        if !known {
            bases.push((row.entity, base));
        }
    }
}

/// From where on this replica sees for itself: from now, or from the start of the slot when the
/// day before it is written down.
fn seen_from(known: &DaySlots, now: DateTime<Utc>) -> f64 {
    let second = second_of(now);
    if known.iter().any(|share| *share > 0.0) {
        (second / SLOT_SECONDS).floor() * SLOT_SECONDS
    } else {
        second
    }
}

fn mean_charge(row: &Totals) -> f64 {
    if row.charges > 0 { row.charged_micros as f64 / row.charges as f64 } else { 0.0 }
}

impl CampaignState {
    fn can_spend(&self, moment: &Moment) -> bool {
        self.entity.standing() == Standing::Active && self.entity.is_open(moment)
    }

    /// What all replicas have seen of it.
    fn see(&mut self, row: &Totals, sights: &Sights, now: DateTime<Utc>) -> Seen {
        let second = second_of(now);
        if second < self.known_until {
            // Midnight has passed.
            (self.known, self.known_until) = ([0.0; crate::controller::SLOTS_PER_DAY], 0.0);
        }
        let window = self.paced.plan.profile.window();
        let mut day = DayDemand { known: self.known, ..DayDemand::default() };
        if self.entity.standing() == Standing::Active {
            day.see(window, self.known_until, second);
        }
        (self.known, self.known_until) = (day.known, second);
        let key = (row.entity.account_no.0, row.entity.entity_no);
        let sums = sights.sums(key).plus(&row.others);
        let settled = sums.settled_count.max(1) as f64;
        let admitted = row.kappa * sums.admitted_micros as f64;
        if self.paced.projects() {
            return Seen {
                offered: row.kappa * sums.offered_micros as f64,
                expected: self.paced.plan.profile.seen_until(second, &self.known),
                opportunities: sums.offered_count as f64,
                seen_seconds: self.known.iter().sum::<f64>() * SLOT_SECONDS,
                projected: admitted,
                arrived: row.charged_micros as f64,
                ..Seen::default()
            };
        }
        Seen {
            offered: row.kappa * sums.offered_micros as f64,
            admitted,
            expected: self.paced.plan.profile.seen_until(second, &self.known),
            opportunities: sums.offered_count as f64,
            seen_seconds: self.known.iter().sum::<f64>() * SLOT_SECONDS,
            lag_seconds: sums.settled_seconds / settled,
            // Where every admission costs its price nothing is kept back in vain.
            may_return: if row.chance.is_some_and(|chance| chance < 1.0) {
                row.reserved_micros as f64
            } else {
                0.0
            },
            projected: 0.0,
            arrived: 0.0,
        }
    }

    fn tick(&mut self, row: &Totals, seen: &Seen, now: DateTime<Utc>) -> Reading {
        let totals: rate::Totals = self.paced.totals(now, row, seen);
        let usual = self.entity.demand();
        let price = usual.micros as f64 / usual.count.max(1) as f64;
        let charge = if self.paced.projects() {
            // What one admission is expected to bring.
            let offer = self.entity.offer();
            row.kappa * offer.offered_micros as f64 / offer.offered_count.max(1) as f64
        } else if row.charges > 0 {
            mean_charge(row)
        } else {
            price
        };
        self.paced.tick(now, row.base, charge, &totals)
    }
}

/// What a written rate is made of.
struct Rates<'a> {
    reading: &'a Reading,
    seen: &'a Seen,
    ceiling: f64,
    is_few: bool,
    throttle: bool,
}

impl Paced {
    /// What to apply: what another replica wrote if it is as good, else our own, which is then to
    /// be written.
    fn written(
        &self,
        row: &Totals,
        now: DateTime<Utc>,
        rates: &Rates<'_>,
        readings: &mut Vec<Written>,
    ) -> Throttle {
        let Rates { reading, seen, ceiling, is_few, throttle } = *rates;
        let own = if throttle {
            Throttle { parts: parts(reading.rate.min(ceiling)), is_few }
        } else {
            Throttle::NONE
        };
        if let Some(applied) = row.applied.filter(|applied| rules::stands(applied, own, now)) {
            let is_few = applied.is_few.unwrap_or(own.is_few);
            return Throttle { parts: applied.parts, is_few };
        }
        let limited = |value: f64| self.is_limited().then_some(value as i64);
        readings.push(Written {
            entity: self.entity,
            parts: own.parts,
            own_ppm: ppm(reading.rate),
            account_ppm: ppm(ceiling),
            cause: Cause::Why(reading.bound),
            mode: self.mode(),
            limit: self.limit_micros,
            target: limited(reading.target),
            due: limited(reading.due),
            due_ahead: limited(reading.due_ahead),
            charged: row.charged_micros,
            in_flight: reading.in_flight as i64,
            offered: seen.offered as i64,
            offered_count: seen.opportunities as i64,
            demand_ahead: reading.demand_ahead as i64,
            day_factor: reading.day_factor,
            kappa: row.kappa,
            latched: reading.latched,
            is_few: own.is_few,
        });
        own
    }
}

fn no_budget(row: &Totals) -> Written {
    Written {
        entity: row.entity,
        parts: Rate::ALL,
        own_ppm: ppm(1.0),
        account_ppm: ppm(1.0),
        cause: Cause::NoBudget,
        mode: None,
        limit: None,
        target: None,
        due: None,
        due_ahead: None,
        charged: row.charged_micros,
        in_flight: 0,
        offered: 0,
        offered_count: 0,
        demand_ahead: 0,
        day_factor: 1.0,
        kappa: row.kappa,
        latched: true,
        is_few: false,
    }
}
