//! What is expected: the demand of coming days, forecast as the pacer does, and what a budget makes
//! of it.
//!
//! A campaign has its own forecast inside its hours. An account is the sum over its active
//! campaigns, each of them no more than its own budget plans to take (R-138: the stricter wins). Of
//! an account with more than [`MOST_CAMPAIGNS`] the largest stand for themselves, and the rest is
//! what the account's own forecast has above them.

use std::collections::HashMap;

use adspend_common::db;
use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use super::store;
use crate::Services;
use crate::admission::{Entity as Campaign, Standing};
use crate::budgets::{self, Entity, Limits, Mode};
use crate::calendar::week::WeekSpent;
use crate::controller::curve::{Profile, Window};
use crate::controller::demand::{Forecast, Kappa};
use crate::controller::{DAY_SECONDS, DaySlots, SLOT_SECONDS};
use crate::pacer::{self, DemandRow, Outlook};

/// So many campaigns of an account are forecast one by one: bounds the rows that are read.
const MOST_CAMPAIGNS: usize = 50;

/// Days of demand that forecasts are made of.
const LEARNED_DAYS: i32 = 28;

/// What was offered to a campaign in the last weeks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Learning {
    pub(super) campaign_no: i64,
    /// Expected charges of all of it.
    pub(super) micros: i64,
    /// Opportunities; never 0.
    pub(super) count: i64,
    /// Charges against their estimates.
    pub(super) kappa: f64,
    /// The chance that an admission is charged, where it was learned.
    pub(super) chance: Option<f64>,
}

/// A part of an account's demand.
#[derive(Debug, Clone)]
struct Part {
    forecast: Forecast,
    campaign: Option<std::sync::Arc<Campaign>>,
    /// Its own budget, with what this week has charged and reserved.
    budget: Option<(Limits, WeekSpent)>,
}

/// The demand of a campaign or of an account.
#[derive(Debug, Clone)]
pub(super) struct Demand {
    parts: Vec<Part>,
    /// Less than a week of it was seen.
    pub(super) is_fresh: bool,
    /// What an opportunity is expected to be charged, micro-units; positive.
    pub(super) charge: f64,
    /// The chance of a charge, above 0 and at most 1.
    pub(super) chance: f64,
    /// The chances that callers state, in multiples of the true ones; at least 1.
    pub(super) overstated: f64,
}

/// Reads the demand of an entity as of today; `None` when nothing was ever offered, or when what
/// was is not enough to know its level.
pub(super) async fn load(
    services: &Services,
    entity: Entity,
    today: Day,
) -> Result<Option<Demand>, db::Error> {
    let account_no = entity.account_no.0;
    let only = (entity.level == 1).then_some(entity.entity_no);
    let since = today.week_start().plus_days(-LEARNED_DAYS);
    let mut client = services.db.get().await?;
    let snapshot = client.snapshot().await?;
    let learning = store::learning(&snapshot, account_no, since, only).await?;
    let single: Vec<Learning> = learning
        .iter()
        .filter(|learned| {
            let known = services.admission.entity(account_no, learned.campaign_no);
            let active = known.is_some_and(|known| known.standing() == Standing::Active);
            active || only.is_some()
        })
        .take(MOST_CAMPAIGNS)
        .copied()
        .collect();
    let numbers: Vec<i64> = single.iter().map(|learned| learned.campaign_no).collect();
    let platform = pacer::platform_learned(&snapshot, today).await?.forecast.shape();
    let rows = store::days(&snapshot, account_no, &numbers, since, today).await?;
    let entities: Vec<Entity> =
        numbers.iter().map(|no| Entity { level: 1, entity_no: *no, ..entity }).collect();
    let limits = budgets::states_for(&snapshot, &entities, today).await?;
    let weeks = budgets::weeks_for(&snapshot, &entities, today).await?;
    snapshot.rollback().await?;

    let mut by_entity: HashMap<(i16, i64), Vec<DemandRow>> = HashMap::new();
    for row in rows {
        by_entity.entry((row.level, row.entity_no)).or_default().push(row);
    }
    let own = by_entity.remove(&(2, account_no)).unwrap_or_default();
    let all = pacer::learned_of(&own, today, &platform, Kappa::new(mean_kappa(&learning)));
    let shape = all.forecast.shape();
    let (mut parts, mut is_fresh) = (Vec::new(), false);
    for (learned, budget) in single.iter().zip(limits.into_iter().zip(weeks)) {
        let rows = by_entity.remove(&(1, learned.campaign_no)).unwrap_or_default();
        let known = pacer::learned_of(&rows, today, &shape, Kappa::new(learned.kappa));
        if !known.forecast.level_known {
            continue;
        }
        is_fresh |= known.fresh;
        parts.push(Part {
            forecast: known.forecast,
            campaign: services.admission.entity(account_no, learned.campaign_no),
            budget: only.is_none().then_some(budget),
        });
    }
    if only.is_none() && learning.len() > MOST_CAMPAIGNS && all.forecast.level_known {
        parts.push(rest(&all.forecast, &parts, today));
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let (charge, chance) = mean_charge(&single);
    let overstated = (1.0 / mean_kappa(&single)).max(1.0);
    Ok(Some(Demand { parts, is_fresh, charge, chance, overstated }))
}

/// What an account's forecast has above those of its campaigns.
fn rest(all: &Forecast, parts: &[Part], monday: Day) -> Part {
    let mut slots = all.slots;
    for part in parts {
        let week = (0..7).flat_map(|ahead| {
            let day = monday.week_start().plus_days(ahead);
            let open = part.window(day).shares();
            let slots = part.forecast.day(day.weekday0());
            slots.into_iter().zip(open).map(|(slot, open)| slot * open)
        });
        for (slot, taken) in slots.iter_mut().zip(week) {
            *slot = (*slot - taken).max(0.0);
        }
    }
    Part { forecast: Forecast { slots, level_known: true }, campaign: None, budget: None }
}

fn mean_kappa(learning: &[Learning]) -> f64 {
    let all: f64 = learning.iter().map(|learned| learned.micros as f64).sum();
    let charged: f64 = learning.iter().map(|learned| learned.micros as f64 * learned.kappa).sum();
    if all > 0.0 { charged / all } else { 1.0 }
}

/// What an opportunity is expected to be charged, and the chance that it is.
fn mean_charge(learning: &[Learning]) -> (f64, f64) {
    let count: f64 = learning.iter().map(|learned| learned.count as f64).sum();
    let charged: f64 = learning.iter().map(|learned| learned.micros as f64 * learned.kappa).sum();
    let charges: f64 =
        learning.iter().map(|learned| learned.count as f64 * learned.chance.unwrap_or(1.0)).sum();
    ((charged / count.max(1.0)).max(1.0), (charges / count.max(1.0)).clamp(1e-6, 1.0))
}

impl Part {
    fn window(&self, day: Day) -> Window {
        match self.campaign.as_ref().and_then(|campaign| campaign.schedule()) {
            None => Window::all(),
            Some(schedule) => {
                let mask = schedule.mask(day);
                Window::of(|minute| mask.is_open(minute))
            }
        }
    }

    fn slots(&self, day: Day) -> DaySlots {
        self.forecast.day(day.weekday0())
    }
}

/// A coming day: its demand, and from which second on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ComingDay {
    pub(super) day: Day,
    pub(super) profile: Profile,
    from_second: f64,
}

impl ComingDay {
    /// What is still to come of it at rate 1, micro-units.
    pub(super) fn demand(&self) -> f64 {
        self.profile.between(self.from_second, DAY_SECONDS)
    }

    /// The same day with so many times the demand.
    pub(super) fn scaled(&self, factor: f64) -> ComingDay {
        let mut slots = self.profile.window().shares();
        for (index, slot) in slots.iter_mut().enumerate() {
            let start = index as f64 * SLOT_SECONDS;
            let demand = self.profile.between(start, start + SLOT_SECONDS);
            *slot = if *slot > 0.0 { factor * demand / *slot } else { 0.0 };
        }
        let profile = Profile::new(&slots, self.profile.window());
        ComingDay { profile, ..*self }
    }
}

impl Demand {
    /// Days from a midnight on; campaigns under budgets of their own offer what these plan to take.
    pub(super) fn days(&self, first: Day, count: usize) -> Vec<ComingDay> {
        self.coming(first, None, count)
    }

    /// The rest of today and the days to Sunday.
    pub(super) fn days_from(&self, now: DateTime<Utc>) -> Vec<ComingDay> {
        let today = Day::of(now);
        self.coming(today, Some(pacer::second_of(now)), usize::from(7 - today.weekday0()))
    }

    /// `now` is the second of the first day that it is, of a week under way.
    fn coming(&self, first: Day, now: Option<f64>, count: usize) -> Vec<ComingDay> {
        let from_second = now.unwrap_or(0.0);
        let mut sums: Vec<Vec<Profile>> = vec![Vec::new(); count];
        for part in &self.parts {
            let mut days = Vec::with_capacity(count);
            let mut day = first;
            for index in 0..count {
                let profile = Profile::new(&part.slots(day), &part.window(day));
                let from_second = if index == 0 { from_second } else { 0.0 };
                days.push(ComingDay { day, profile, from_second });
                day = day.next();
            }
            let planned = part.budget.as_ref().map(|(limits, week)| {
                walk(limits, &days, if now.is_some() { *week } else { [0; 7] })
            });
            for (index, (sum, day)) in sums.iter_mut().zip(days).enumerate() {
                let plan = planned.as_ref().and_then(|plan| plan.get(index));
                let share = plan.map_or(1.0, |plan| plan.admitted());
                let slots = part.slots(day.day).map(|slot| slot * share);
                sum.push(Profile::new(&slots, day.profile.window()));
            }
        }
        let mut day = first;
        let mut coming = Vec::with_capacity(count);
        for (index, parts) in sums.iter().enumerate() {
            let from_second = if index == 0 { from_second } else { 0.0 };
            coming.push(ComingDay { day, profile: Profile::sum(parts), from_second });
            day = day.next();
        }
        coming
    }
}

/// What a budget makes of a coming day, micro-units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PlannedDay {
    pub(super) day: Day,
    /// H(d); `None` without a limit.
    pub(super) ceiling: Option<i64>,
    /// T(d).
    pub(super) target: Option<f64>,
    /// What is still to come at rate 1.
    pub(super) demand: f64,
    /// Spent by its end, with what is spent already.
    pub(super) expected: f64,
    spent_before: f64,
}

impl PlannedDay {
    /// What share of what is still to come is expected to be admitted.
    pub(super) fn admitted(&self) -> f64 {
        if self.demand > 0.0 {
            ((self.expected - self.spent_before) / self.demand).clamp(0.0, 1.0)
        } else {
            1.0
        }
    }
}

/// Goes through coming days as the pacer would plan them, if each brings what is forecast. `spent`
/// is the week of the first day.
pub(super) fn walk(limits: &Limits, days: &[ComingDay], mut spent: WeekSpent) -> Vec<PlannedDay> {
    let mut planned = Vec::with_capacity(days.len());
    for (index, coming) in days.iter().enumerate() {
        if index > 0 && coming.day.weekday0() == 0 {
            spent = [0; 7];
        }
        let weekday = usize::from(coming.day.weekday0());
        let before = spent.get(weekday).copied().unwrap_or(0) as f64;
        let target = target(limits, coming, days.get(index + 1..).unwrap_or_default(), &spent);
        let demand = coming.demand();
        let room = target.map_or(f64::INFINITY, |(_, target)| (target - before).max(0.0));
        let expected = before + demand.min(room);
        if let Some(today) = spent.get_mut(weekday) {
            *today = expected as i64;
        }
        planned.push(PlannedDay {
            day: coming.day,
            ceiling: target.map(|(ceiling, _)| ceiling),
            target: target.map(|(_, target)| target),
            demand,
            expected,
            spent_before: before,
        });
    }
    planned
}

/// H and T of a day; `None` without a limit. `later` are the days after it.
pub(super) fn target(
    limits: &Limits,
    coming: &ComingDay,
    later: &[ComingDay],
    spent: &WeekSpent,
) -> Option<(i64, f64)> {
    let money = pacer::week_money(limits, coming.day, spent)?;
    let ceiling = money.today_micros;
    if limits.mode == Mode::Asap {
        return Some((ceiling, ceiling as f64));
    }
    let sunday = coming.day.week_end();
    let later = later.iter().filter(|day| day.day < sunday).map(ComingDay::demand).collect();
    let outlook = Outlook { rest_of_today: coming.demand(), later, level_known: true };
    let weekday = usize::from(coming.day.weekday0());
    let committed = spent.get(weekday).copied().unwrap_or(0) as f64;
    Some((ceiling, pacer::target(&money, &outlook, committed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::changes::{BudgetState, Request, change};
    use crate::calendar::policy::{Figure, Level, Preset, Terms, Unit};
    use adspend_common::money::Money;

    const UNIT: f64 = 1e6;

    fn monday() -> Day {
        "2025-06-09".parse().unwrap()
    }

    fn limits(units: u32) -> Limits {
        let amount = Money::from_units(units);
        let figure =
            Figure::new(Level::Account, Unit::AverageDaily, amount, Preset::YandexAvgDaily);
        let state = BudgetState::new(monday());
        let set = change(&state, monday().start(), Request::Set(figure), Money::from_units(1));
        let none = Limits::none(monday(), Terms::UNSCHEDULED);
        Limits { state: set.unwrap().state, ..none }
    }

    /// Seven times so many units a day.
    fn demand(units: f64, own: Option<Limits>) -> Part {
        let slots = [units * UNIT / 96.0; 672];
        Part {
            forecast: Forecast { slots, level_known: true },
            campaign: None,
            budget: own.map(|own| (own, [0; 7])),
        }
    }

    fn of(parts: Vec<Part>) -> Demand {
        Demand { parts, is_fresh: false, charge: UNIT, chance: 1.0, overstated: 1.0 }
    }

    fn whole(planned: &[PlannedDay]) -> Vec<i64> {
        planned.iter().map(|day| (day.expected / UNIT).round() as i64).collect()
    }

    #[test]
    fn a_week_of_plenty_spends_the_average_each_day_and_all_of_it() {
        let days = of(vec![demand(5_000.0, None)]).days(monday(), 7);
        let planned = walk(&limits(1_000), &days, [0; 7]);
        assert_eq!(whole(&planned), [1_000; 7]);
        assert_eq!(planned[0].ceiling, Some(1_300_000_000));
        assert!((planned[0].admitted() - 0.2).abs() < 1e-6);
    }

    #[test]
    fn where_demand_is_short_all_of_it_is_admitted() {
        let days = of(vec![demand(600.0, None)]).days(monday(), 7);
        let planned = walk(&limits(1_000), &days, [0; 7]);
        assert_eq!(whole(&planned), [600; 7]);
        assert!((planned[3].admitted() - 1.0).abs() < 1e-9);
        assert_eq!(planned[0].target, Some(1_300.0 * UNIT), "nothing is saved for");
    }

    /// R-138, worked: campaigns of 2 000 and 7 000 under an account of 15 000 stay at their own.
    #[test]
    fn campaigns_offer_their_account_what_their_own_budgets_take() {
        let parts =
            vec![demand(50_000.0, Some(limits(2_000))), demand(50_000.0, Some(limits(7_000)))];
        let of_account = of(parts);
        let days = of_account.days(monday(), 7);
        assert_eq!(whole(&walk(&limits(15_000), &days, [0; 7])), [9_000; 7]);
        assert_eq!(whole(&walk(&limits(5_000), &days, [0; 7])), [5_000; 7]);
        let none = Limits::none(monday(), Terms::UNSCHEDULED);
        let free = walk(&none, &days, [0; 7]);
        assert_eq!((free[0].ceiling, free[0].target), (None, None));
        assert_eq!(whole(&free), [9_000; 7]);
    }

    /// R-134, worked: five days at the cap leave 500 for the weekend.
    #[test]
    fn what_is_spent_counts_and_monday_begins_anew() {
        let friday = monday().plus_days(4);
        let days = of(vec![demand(5_000.0, None)]).days(friday, 10);
        let spent =
            [1_300_000_000, 1_300_000_000, 1_300_000_000, 1_300_000_000, 1_300_000_000, 0, 0];
        let spends = whole(&walk(&limits(1_000), &days, spent));
        assert_eq!(spends[..3], [1_300, 250, 250]);
        assert_eq!(spends[3..], [1_000; 7]);
    }

    #[test]
    fn as_soon_as_possible_takes_what_the_day_allows() {
        let days = of(vec![demand(5_000.0, None)]).days(monday(), 7);
        let asap = Limits { mode: Mode::Asap, ..limits(1_000) };
        assert_eq!(whole(&walk(&asap, &days, [0; 7])), [1_300, 1_300, 1_300, 1_300, 1_300, 500, 0]);
    }

    #[test]
    fn what_more_campaigns_offer_than_are_looked_at_is_not_lost() {
        let all = Forecast { slots: [10.0; 672], level_known: true };
        let part = Part {
            forecast: Forecast { slots: [4.0; 672], level_known: true },
            ..demand(0.0, None)
        };
        let rest = rest(&all, &[part.clone(), part], monday());
        assert!(rest.forecast.slots.iter().all(|slot| (slot - 2.0).abs() < 1e-9));
    }
}
