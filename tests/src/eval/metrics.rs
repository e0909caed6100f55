//! What a day was worth (section 7 of the design of pacing), and means over days.

use super::{
    rivals::{DAY, DayFacts},
    series::MINUTES,
    trial::{DEAREST, PRICE, TrialDay},
    world::Record,
};

/// A limit that stops a campaign before this hour is an early stop; where traffic or the schedule ends
/// earlier, one hour before that.
const EARLY: f64 = 23.0 * 3_600.0;

/// One day of one controller.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Spent over what could be spent: min(limit, demand).
    pub(crate) utilisation: f64,
    /// max(0, spent − limit) / limit.
    pub(crate) overspend: f64,
    /// Root mean square distance of cumulative spend from the hindsight curve, share of the budget: the
    /// same money in proportion to the traffic that really came.
    pub(crate) rmse: f64,
    /// The same from the curve that was planned by the forecast.
    pub(crate) rmse_plan: f64,
    /// The demand was more than the limit.
    pub(crate) throttled: bool,
    /// Throttled, and the limit stopped it before 23:00 although more than the dearest charge was still
    /// due on the hindsight curve: money comes in charges, and the last one has to fall somewhere.
    pub(crate) early: bool,
    /// Share of the day's demand that came after an early stop.
    pub(crate) dark: f64,
    /// Mean absolute change of the rate from minute to minute, while the limit is not hit.
    pub(crate) change: f64,
    /// Share of opportunities admitted.
    pub(crate) admitted: f64,
    pub(crate) gaps: f64,
}

impl Measured {
    pub(crate) fn of(day: &TrialDay, record: &Record) -> Self {
        let limit = day.change.as_ref().map_or(day.limit, |change| change.limit);
        let demand = record.demand.last().copied().unwrap_or(0);
        let reachable = limit.min(demand).max(1) as f64;
        let end = day.facts.profile.window().end_second().min(record.last);
        let throttled = demand > limit;
        let after = |at: f64| 1.0 - at_minute(&record.demand, at) / demand.max(1) as f64;
        let early = throttled
            && record.hit.is_some_and(|at| {
                at < EARLY.min(end - 3_600.0) && after(at) * limit as f64 > DEAREST * PRICE
            });
        let dark = match record.hit {
            Some(at) if early => after(at),
            Some(_) | None => 0.0,
        };
        let hit = record.hit.map_or(MINUTES, |at| (at / 60.0) as usize);
        let open = minutes(&day.facts);
        Self {
            utilisation: record.spent as f64 / reachable,
            overspend: (record.spent - limit).max(0) as f64 / limit.max(1) as f64,
            rmse: distance(&record.charged, &ideal(day, record), reachable, &open),
            rmse_plan: distance(&record.charged, &planned(day, record), reachable, &open),
            throttled,
            early,
            dark,
            change: change(&record.rate, &open, hit),
            admitted: record.admitted as f64 / record.offered.max(1) as f64,
            gaps: record.gaps as f64,
        }
    }

    /// The loss by which controllers are ranked, in shares of the day's money.
    pub(crate) fn loss(&self) -> f64 {
        self.rmse + (1.0 - self.utilisation).max(0.0) + self.overspend + self.dark
    }
}

/// First and last open minute.
fn minutes(facts: &DayFacts) -> std::ops::Range<usize> {
    let window = facts.profile.window();
    let first = (0..MINUTES).find(|minute| window.is_open(*minute as f64 * 60.0));
    first.unwrap_or(0)..(window.end_second() / 60.0) as usize
}

fn at_minute(sums: &[i64], second: f64) -> f64 {
    sums.get((second / 60.0) as usize).or(sums.last()).copied().unwrap_or(0) as f64
}

/// The hindsight curve at the end of each minute. A change of the budget begins a new one where the
/// old one was.
pub(crate) fn ideal(day: &TrialDay, record: &Record) -> Vec<f64> {
    let total = record.demand.last().copied().unwrap_or(0) as f64;
    let share = |sum: f64| if total > 0.0 { sum / total } else { 0.0 };
    let reach = |limit: i64| (limit as f64).min(total);
    let curve = record.demand.iter().map(|sum| reach(day.limit) * share(*sum as f64));
    let Some(change) = &day.change else { return curve.collect() };
    let from = (change.second / 60.0) as usize;
    let gone = share(at_minute(&record.demand, change.second));
    let spent = reach(day.limit) * gone;
    let rest = reach(change.limit) - spent;
    curve
        .enumerate()
        .map(|(minute, before)| {
            let now = share(record.demand.get(minute).copied().unwrap_or(0) as f64);
            let part = if gone < 1.0 { (now - gone) / (1.0 - gone) } else { 1.0 };
            if minute < from { before } else { spent + rest * part }
        })
        .collect()
}

/// The planned curve at the end of each minute.
fn planned(day: &TrialDay, record: &Record) -> Vec<f64> {
    let total = record.demand.last().copied().unwrap_or(0) as f64;
    let limit = day.change.as_ref().map_or(day.limit, |change| change.limit);
    let reach = (limit as f64).min(total);
    let share = |minute: usize| day.facts.share((minute as f64 + 1.0) * 60.0);
    let from = day.change.as_ref().map(|change| (change.second / DAY, change));
    (0..MINUTES)
        .map(|minute| match from {
            None => reach * share(minute),
            Some((_, change)) => {
                let before = (day.limit as f64).min(total);
                let gone = day.facts.share(change.second);
                let now = share(minute);
                if now <= gone {
                    before * now
                } else {
                    before * gone + (reach - before * gone) * (now - gone) / (1.0 - gone)
                }
            }
        })
        .collect()
}

fn distance(charged: &[i64], curve: &[f64], whole: f64, open: &std::ops::Range<usize>) -> f64 {
    let pairs = charged.iter().zip(curve).skip(open.start).take(open.len());
    let squares: f64 = pairs.map(|(spent, due)| ((*spent as f64 - due) / whole).powi(2)).sum();
    (squares / open.len().max(1) as f64).sqrt()
}

fn change(rate: &[f64], open: &std::ops::Range<usize>, hit: usize) -> f64 {
    let until = open.end.min(hit);
    let lived = rate.get(open.start..until.max(open.start)).unwrap_or_default();
    let steps = lived.windows(2).filter_map(|pair| match pair {
        [before, after] => Some((after - before).abs()),
        _ => None,
    });
    mean(steps)
}

/// The mean; nought of nothing.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut number) = (0.0, 0.0);
    for value in values {
        sum += value;
        number += 1.0;
    }
    if number > 0.0 { sum / number } else { 0.0 }
}

/// Mean and standard deviation.
pub(crate) fn spread(values: &[f64]) -> (f64, f64) {
    let average = mean(values.iter().copied());
    let variance = mean(values.iter().map(|value| (value - average).powi(2)));
    (average, variance.sqrt())
}

/// The value that at most one in a hundred exceed (nearest rank).
pub(crate) fn p99(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (0.99 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{rivals::samples::even_day, trial::Opportunity};

    fn money(charges: f64) -> i64 {
        (charges * PRICE) as i64
    }

    /// A thousand opportunities of the usual price, one every 86.4 s, and a limit of 300.
    fn day() -> TrialDay {
        let opportunities = (0..1_000)
            .map(|index| Opportunity {
                at: f64::from(index) * 86.4,
                coin: 0.0,
                price: PRICE as i64,
                charged_after: Some(0.0),
            })
            .collect();
        let limit = money(300.0);
        TrialDay { facts: even_day(), limit, opportunities, change: None, probability: 1.0 }
    }

    fn record(spent: impl Fn(f64) -> f64, hit: Option<f64>) -> Record {
        let share = |minute: usize| (minute as f64 + 1.0) / 1_440.0;
        let charged: Vec<i64> = (0..MINUTES).map(|minute| money(spent(share(minute)))).collect();
        Record {
            spent: *charged.last().unwrap(),
            charged,
            rate: vec![0.3; MINUTES],
            demand: (0..MINUTES).map(|minute| money(1_000.0 * share(minute))).collect(),
            late: 0,
            hit,
            last: 86_313.6,
            admitted: 300,
            offered: 1_000,
            gaps: 0,
        }
    }

    #[test]
    fn spending_in_proportion_to_traffic_is_no_error() {
        let measured = Measured::of(&day(), &record(|share| 300.0 * share, None));
        assert!(measured.rmse < 0.004 && measured.utilisation == 1.0, "{measured:?}");
        assert_eq!((measured.early, measured.change, measured.overspend), (false, 0.0, 0.0));
        assert!(measured.loss() < 0.005);
    }

    #[test]
    fn spending_all_by_noon_is_a_stop_that_leaves_half_the_day_dark() {
        let spent = |share: f64| (600.0 * share).min(300.0);
        let measured = Measured::of(&day(), &record(spent, Some(43_200.0)));
        assert!(measured.early && (measured.dark - 0.5).abs() < 0.01, "{measured:?}");
        assert!((measured.rmse - (1.0f64 / 12.0).sqrt()).abs() < 0.01, "{measured:?}");
    }

    #[test]
    fn a_stop_before_the_last_charge_is_none() {
        let mut day = day();
        day.limit = money(1.4);
        let measured = Measured::of(&day, &record(|share| share.min(1.0), Some(79_200.0)));
        assert!(measured.throttled && !measured.early, "{measured:?}");
    }

    #[test]
    fn a_raised_budget_begins_a_new_curve_where_the_old_one_was() {
        let mut day = day();
        day.change = Some(crate::eval::trial::Change {
            second: 43_200.0,
            facts: even_day(),
            limit: money(500.0),
        });
        let curve = ideal(&day, &record(|share| 300.0 * share, None));
        for (minute, charges) in [(719, 150.0), (1_079, 325.0), (1_439, 500.0)] {
            let due = curve[minute] / PRICE;
            assert!((due - charges).abs() < 0.5, "minute {minute}: {due}");
        }
    }

    #[test]
    fn quantiles_and_spreads() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(p99(&values), 198.0);
        assert_eq!(spread(&[1.0, 3.0]), (2.0, 1.0));
    }
}
