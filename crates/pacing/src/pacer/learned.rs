//! Forecasts out of the stored days of demand.
//!
//! A campaign leans on the shape of its account, an account on that of the platform, the platform
//! on days that everybody knows ([`shapes`]). Histories are read, turned into forecasts and dropped: five weeks of slots are
//! 80 KB a campaign, the forecast is 5.

use std::collections::HashMap;

use adspend_common::db::{self, Tx};
use adspend_common::time::Day;

use super::store::{self, DemandRow};
use crate::controller::demand::{DayDemand, Forecast, History, Kappa, Shape, Week};
use crate::controller::{DaySlots, SLOT_SECONDS, SLOTS_PER_DAY, shapes};

/// The row of the platform in `demand_day`.
pub(super) const PLATFORM: i64 = 0;

/// What is known of an entity.
#[derive(Debug, Clone)]
pub(crate) struct Learned {
    pub(crate) forecast: Forecast,
    /// Less than a week has been closed: today teaches, too.
    pub(crate) fresh: bool,
    /// In which share of each slot of today demand could be seen, as far as it is written down.
    pub(super) known_today: DaySlots,
}

/// What is known of an account and its campaigns.
#[derive(Debug, Default)]
pub(super) struct AccountLearned {
    pub(super) campaigns: HashMap<i64, Learned>,
    /// The prior of campaigns of which nothing is known.
    pub(super) shape: Option<Shape>,
}

/// Reads the forecasts of accounts as of a day. `kappas` are by account and campaign.
pub(super) async fn load(
    tx: &Tx<'_>,
    accounts: &[i64],
    day: Day,
    platform: &Shape,
    kappas: &HashMap<(i64, i64), f64>,
) -> Result<HashMap<i64, AccountLearned>, db::Error> {
    let from = day.week_start().plus_days(-28);
    let mut rows = store::history(tx, accounts, from, day).await?;
    let mut learned = HashMap::with_capacity(accounts.len());
    for account_no in accounts {
        let mut by_entity: HashMap<(i16, i64), Vec<DemandRow>> = HashMap::new();
        for row in rows.remove(account_no).unwrap_or_default() {
            by_entity.entry((row.level, row.entity_no)).or_default().push(row);
        }
        let own = by_entity.remove(&(2, *account_no)).unwrap_or_default();
        let shape = of(&own, day, platform, Kappa::default()).forecast.shape();
        let campaigns = by_entity
            .into_iter()
            .filter(|((level, _), _)| *level == 1)
            .map(|((_, no), rows)| {
                let kappa = kappas.get(&(*account_no, no)).copied().unwrap_or(1.0);
                (no, of(&rows, day, &shape, Kappa::new(kappa)))
            })
            .collect();
        learned.insert(*account_no, AccountLearned { campaigns, shape: Some(shape) });
    }
    Ok(learned)
}

/// All demand. Where it has no past it leans on the day that today is likeliest to be.
pub(crate) async fn platform(tx: &Tx<'_>, day: Day) -> Result<Learned, db::Error> {
    let from = day.week_start().plus_days(-28);
    let mut rows = store::history(tx, &[PLATFORM], from, day).await?;
    let rows = rows.remove(&PLATFORM).unwrap_or_default();
    let today = rows.iter().find(|row| row.day == day).map(demand_of).unwrap_or_default();
    Ok(of(&rows, day, &shapes::likely(&today), Kappa::default()))
}

impl Learned {
    /// Of an entity that was never seen.
    pub(super) fn nothing(prior: &Shape) -> Learned {
        let forecast = History::default().forecast(prior);
        Learned { forecast, fresh: true, known_today: [0.0; SLOTS_PER_DAY] }
    }
}

/// What the stored days of an entity teach, as of a day.
pub(crate) fn of(rows: &[DemandRow], day: Day, prior: &Shape, kappa: Kappa) -> Learned {
    let monday = day.week_start();
    let mut history = History { kappa, ..History::default() };
    let mut known_today = [0.0; SLOTS_PER_DAY];
    for row in rows {
        let demand = demand_of(row);
        let week = monday.days_until(row.day).div_euclid(7);
        let index = usize::try_from(-1 - week).ok();
        match index {
            None => history.current.set_day(row.day.weekday0(), &demand),
            Some(index) => {
                while history.weeks.len() <= index {
                    history.weeks.push(Week::default());
                }
                if let Some(week) = history.weeks.get_mut(index) {
                    week.set_day(row.day.weekday0(), &demand);
                }
            }
        }
        if row.day == day {
            known_today = demand.known;
        }
    }
    let seen: f64 = history.weeks.iter().flat_map(|week| week.known.iter()).sum();
    let fresh = seen < crate::controller::SLOTS as f64;
    Learned { forecast: history.forecast(prior), fresh, known_today }
}

fn demand_of(row: &DemandRow) -> DayDemand {
    let mut demand = DayDemand::default();
    for (to, from) in demand.micros.iter_mut().zip(&row.micros) {
        *to = *from as f64;
    }
    for (to, from) in demand.count.iter_mut().zip(&row.count) {
        *to = *from as f64;
    }
    for (to, from) in demand.known.iter_mut().zip(&row.known_seconds) {
        *to = (f64::from(*from) / SLOT_SECONDS).clamp(0.0, 1.0);
    }
    demand
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(day: &str, micros: i64, known: f32) -> DemandRow {
        DemandRow {
            level: 1,
            entity_no: 1,
            day: day.parse().unwrap(),
            micros: vec![micros; SLOTS_PER_DAY],
            count: vec![100; SLOTS_PER_DAY],
            known_seconds: vec![known; SLOTS_PER_DAY],
        }
    }

    #[test]
    fn a_week_of_days_is_a_level() {
        let days = ["02", "03", "04", "05", "06", "07", "08"];
        let rows: Vec<_> =
            days.iter().map(|day| row(&format!("2025-06-{day}"), 1_000, 900.0)).collect();
        let today: Day = "2025-06-11".parse().unwrap();
        let learned = of(&rows, today, &Shape::flat(), Kappa::new(0.5));
        assert!(learned.forecast.level_known && !learned.fresh);
        let total: f64 = learned.forecast.slots.iter().sum();
        assert!((total - 672.0 * 500.0).abs() < 1.0, "{total}");
    }

    /// The trap of section 8: a paused or outside-schedule campaign must not learn zero demand.
    #[test]
    fn a_day_that_was_not_seen_teaches_no_zero() {
        let seen = of(
            &[row("2025-06-09", 1_000, 900.0)],
            "2025-06-11".parse().unwrap(),
            &Shape::flat(),
            Kappa::default(),
        );
        let silent = DemandRow { count: vec![0; SLOTS_PER_DAY], ..row("2025-06-10", 0, 0.0) };
        let paused = of(
            &[row("2025-06-09", 1_000, 900.0), silent],
            "2025-06-11".parse().unwrap(),
            &Shape::flat(),
            Kappa::default(),
        );
        assert!(seen.fresh);
        assert_eq!(seen.forecast, paused.forecast);
    }
}
