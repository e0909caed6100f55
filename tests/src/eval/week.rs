//! The week plan against hindsight, on every recorded week that can be tried.
//!
//! Hour by hour and in amounts, without single opportunities: what is asked is how the week's money is
//! laid over its days, and a day's curve is followed to a few thousandths by any of the controllers.
//! The plan is the production one: `water_fill` at midnight and every hour, the forecast from the four
//! past weeks by the production history, today's rest scaled by today's factor. The limits are those of
//! the rules: 1.3 × B a day, 7 × B a week.

use adspend_pacing::controller::{
    curve::{Profile, Window},
    demand::{DayDemand, History, Shape, Week, day_factor},
    plan::{DayRoom, water_fill},
};

use super::{
    contest::in_parallel,
    metrics::{mean, spread},
    series::{Day, Series},
};

/// A day's limit in average days.
const DAY_LIMIT: f64 = 1.3;
/// At most so many weeks of a record.
const MOST_WEEKS: usize = 56;
/// Hours of demand that today's factor is shrunk by; the pacer's figure for far demand.
const FACTOR_HOURS: f64 = 6.0;

/// What of a week was delivered, in shares of the hindsight optimum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeekShares {
    /// The same limit B every day.
    pub(crate) fixed: f64,
    /// Ours.
    pub(crate) plan: f64,
}

/// A record's weeks at one budget.
#[derive(Debug, Clone)]
pub(crate) struct WeekResults {
    pub(crate) series: &'static str,
    /// B over the average day of the past four weeks.
    pub(crate) budget: f64,
    pub(crate) weeks: Vec<WeekShares>,
}

impl WeekResults {
    /// Mean and spread over weeks.
    pub(crate) fn of(&self, figure: impl Fn(&WeekShares) -> f64) -> (f64, f64) {
        spread(&self.weeks.iter().map(figure).collect::<Vec<_>>())
    }
}

/// All records with weeks behind them, at two budgets.
pub(crate) fn run(series: &[Series]) -> Vec<WeekResults> {
    let mut items = Vec::new();
    for series in series.iter().filter(|series| !series.is_short) {
        items.extend([1.0, 0.8].map(|budget| (series, budget)));
    }
    in_parallel(&items, |(series, budget)| {
        let weeks = series.some_weeks(MOST_WEEKS);
        let weeks = weeks.into_iter().map(|first| week(series, first, *budget)).collect();
        WeekResults { series: series.name, budget: *budget, weeks }
    })
}

fn week(series: &Series, first: usize, budget: f64) -> WeekShares {
    let past = series.past(first);
    let whole = past.iter().filter(|day| day.whole).map(Day::total);
    let b = budget * mean(whole);
    let days = series.span(first, 7);
    let forecast = learned(&past);
    let (pot, cap) = (7.0 * b, DAY_LIMIT * b);
    let demand: Vec<f64> = days.iter().map(Day::total).collect();
    let best = demand.iter().map(|day| day.min(cap)).sum::<f64>().min(pot);
    let fixed: f64 = demand.iter().map(|day| day.min(b)).sum();
    WeekShares { fixed: fixed / best, plan: planned(days, &forecast, pot, cap) / best }
}

/// What the plan spends in the week.
fn planned(days: &[Day], forecast: &[Profile], pot: f64, cap: f64) -> f64 {
    let mut left = pot;
    for (index, day) in days.iter().enumerate() {
        let Some(today) = forecast.get(index) else { break };
        let (mut spent, mut seen) = (0.0, 0.0);
        for hour in 0..24 {
            let now = f64::from(hour) * 3_600.0;
            let prior = FACTOR_HOURS * today.average_hour();
            let factor = day_factor(seen, today.until(now), prior);
            let rest = factor * (today.total() - today.until(now));
            let mut rooms = vec![DayRoom { cap: (cap - spent).max(0.0), demand: rest }];
            let later = forecast.iter().take(days.len()).skip(index + 1);
            rooms.extend(later.map(|day| DayRoom { cap, demand: day.total() }));
            let plan = water_fill(&rooms, left);
            let target = plan.today((cap - spent).min(left).max(0.0));
            // The hour's share of what is left of the day, at most all that comes.
            let rate = if rest > 0.0 { (target / rest).min(1.0) } else { 1.0 };
            let minutes = day.minutes.iter().skip(hour as usize * 60).take(60);
            let came: f64 = minutes.sum();
            let spend = (rate * came).min(cap - spent).min(left).max(0.0);
            spent += spend;
            left -= spend;
            seen += came;
        }
    }
    pot - left
}

/// The profiles of the week to come, from four past ones.
fn learned(past: &[Day]) -> Vec<Profile> {
    let mut history = History::default();
    for days in past.chunks(7) {
        let mut week = Week::default();
        for (weekday, day) in days.iter().enumerate().filter(|(_, day)| day.whole) {
            let mut counted = DayDemand::default();
            counted.see(&Window::all(), 0.0, super::rivals::DAY);
            for (minute, traffic) in day.minutes.iter().enumerate() {
                // Many opportunities to the unit: the prior has no weight beside them.
                counted.offer(minute as f64 * 60.0, *traffic, traffic * 1_000.0);
            }
            week.set_day(u8::try_from(weekday).unwrap_or(0), &counted);
        }
        history.weeks.insert(0, week);
    }
    let forecast = history.forecast(&Shape::flat());
    (0..7).map(|weekday| forecast.profile(weekday, &Window::all())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::series::MINUTES;

    fn series(week: [f64; 7]) -> Series {
        let day = |total: f64| Day { minutes: vec![total / 1_440.0; MINUTES], whole: true };
        let days = (0..35).map(|index| day(week[index % 7])).collect();
        Series { name: "made", days, is_short: false }
    }

    #[test]
    fn a_week_like_the_last_ones_is_planned_as_well_as_in_hindsight() {
        let quiet_weekend = series([120.0, 120.0, 120.0, 120.0, 120.0, 50.0, 50.0]);
        let shares = week(&quiet_weekend, 28, 1.0);
        assert!(shares.plan > 0.999, "{shares:?}");
        assert!((shares.fixed - 600.0 / 700.0).abs() < 0.01, "{shares:?}");
    }

    #[test]
    fn limits_of_day_and_week_bind_the_plan() {
        let wild = series([1_000.0, 1_000.0, 10.0, 10.0, 10.0, 10.0, 10.0]);
        let days = wild.span(28, 7);
        let spent = planned(days, &learned(&wild.past(28)), 700.0, 130.0);
        assert!(spent <= 2.0 * 130.0 + 50.0 + 1e-6, "{spent}");
    }
}
