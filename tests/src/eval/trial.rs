//! A trial: one campaign's days as all controllers will meet them, drawn once from a record, a
//! scenario and a seed.
//!
//! Arrivals are a Poisson process with the record's traffic as its rate, prices are uniform within half
//! and one and a half of the usual price. The forecast comes from our production code, which saw the
//! four weeks before with the same kind of noise (and of the present week what has passed); nothing of
//! the days to come enters it, nor the budget.

use adspend_common::time::Day;
use adspend_pacing::controller::{
    SLOT_SECONDS, SLOTS_PER_DAY,
    curve::Window,
    demand::{DayDemand, History, Shape, Week},
    shapes,
};

use super::{
    random::Random,
    rivals::DayFacts,
    scenario::{Budget, Charging, Prior, Scenario},
    series::{self, MINUTES, Series},
};

/// The usual price of a charge in micro-units: ten units of money.
pub(crate) const PRICE: f64 = 10_000_000.0;

/// The dearest charge over the usual one; the cheapest costs as much less.
pub(crate) const DEAREST: f64 = 1.5;

/// Opportunities a day of the platform whose shape is the prior.
const PLATFORM: f64 = 40_000.0;

/// One request for an ad.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opportunity {
    /// Seconds since midnight.
    pub(crate) at: f64,
    /// Admitted when below the rate.
    pub(crate) coin: f64,
    /// What a charge costs, in micro-units.
    pub(crate) price: i64,
    /// Seconds until it is charged, should it be admitted; none: it is never charged.
    pub(crate) charged_after: Option<f64>,
}

/// The budget changes within a day.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) second: f64,
    pub(crate) facts: DayFacts,
    pub(crate) limit: i64,
}

/// A day of a trial.
#[derive(Debug, Clone)]
pub(crate) struct TrialDay {
    pub(crate) facts: DayFacts,
    /// The hard limit in micro-units.
    pub(crate) limit: i64,
    /// In the order of time; only those inside the schedule.
    pub(crate) opportunities: Vec<Opportunity>,
    pub(crate) change: Option<Change>,
    /// Chance that an admitted opportunity is charged.
    pub(crate) probability: f64,
}

impl TrialDay {
    /// What all of it would have cost.
    pub(crate) fn demand(&self) -> i64 {
        self.opportunities
            .iter()
            .filter(|opportunity| opportunity.charged_after.is_some())
            .map(|opportunity| opportunity.price)
            .sum()
    }
}

/// Days of one campaign.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    pub(crate) days: Vec<TrialDay>,
}

/// What turns a record's traffic into opportunities.
struct Scale {
    /// Opportunities per unit of the record.
    factor: f64,
    /// Chance of a charge.
    probability: f64,
    /// An average past day's cost if all were admitted.
    usual: f64,
}

impl Trial {
    /// The days from `first` on.
    pub(crate) fn draw(scenario: &Scenario, series: &Series, first: usize, seed: u64) -> Self {
        let name = series
            .name
            .bytes()
            .fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut random = Random::of(&[seed, name, first as u64]);
        let past = series.past(first);
        let scale = scale(scenario, &past);
        let window = Window::of(|minute| {
            scenario.hours.is_none_or(|(from, to)| (from * 60..to * 60).contains(&minute))
        });
        let mut history = if scenario.cold.is_some() {
            History::default()
        } else {
            learned(&past, &scale, scenario.forecast_factor, &mut random)
        };
        let prior = if scenario.cold == Some(Prior::Nothing) {
            shapes::likely(&DayDemand::default())
        } else {
            let size =
                Scale { factor: scale.factor * PLATFORM / scenario.opportunities_per_day, ..scale };
            learned(&past, &size, 1.0, &mut random).forecast(&Shape::flat()).shape()
        };
        let monday = Day::from_ymd(2026, 1, 5).expect("a day of the calendar");
        let mut days = Vec::new();
        for (index, recorded) in series.span(first, scenario.days).iter().enumerate() {
            let weekday = index % 7;
            if index > 0 && weekday == 0 {
                history.roll();
            }
            let forecast = history.forecast(&prior);
            let weekday = u8::try_from(weekday).unwrap_or(0);
            let spike = scenario.spike.then(|| 10 + (random.unit() * 10.0) as usize);
            let opportunities = arrivals(recorded, &scale, &window, spike, scenario, &mut random);
            let day = monday.plus_days(i32::try_from(index).unwrap_or(0));
            let charge = PRICE;
            let facts = DayFacts {
                day,
                target: 0.0,
                limit: 0.0,
                profile: forecast.profile(weekday, &window),
                level_known: forecast.level_known,
                shape_known: forecast.level_known || scenario.cold != Some(Prior::Nothing),
                charge,
            };
            let mut day = TrialDay {
                facts,
                limit: 0,
                opportunities,
                change: None,
                probability: scale.probability,
            };
            set_budget(&mut day, scenario, scale.usual);
            history.current.set_day(weekday, &seen(&day, &window));
            days.push(day);
        }
        Self { days }
    }
}

fn scale(scenario: &Scenario, past: &[series::Day]) -> Scale {
    let whole: Vec<f64> = past.iter().filter(|day| day.whole).map(series::Day::total).collect();
    let mean = whole.iter().sum::<f64>() / whole.len().max(1) as f64;
    let probability = match scenario.charging {
        Charging::AtOnce => 1.0,
        Charging::Clicks { probability } => probability,
    };
    let per_day = scenario.opportunities_per_day;
    Scale {
        factor: if mean > 0.0 { per_day / mean } else { 0.0 },
        probability,
        usual: per_day * probability * PRICE,
    }
}

/// The past weeks as the service would have counted them.
fn learned(past: &[series::Day], scale: &Scale, factor: f64, random: &mut Random) -> History {
    let mut history = History::default();
    for days in past.chunks(7) {
        let mut week = Week::default();
        for (weekday, day) in days.iter().enumerate() {
            let mut counted = DayDemand::default();
            if day.whole {
                counted.see(&Window::all(), 0.0, super::rivals::DAY);
                for (slot, minutes) in day.minutes.chunks(MINUTES / SLOTS_PER_DAY).enumerate() {
                    let mean = minutes.iter().sum::<f64>() * scale.factor;
                    let count = poisson(mean, random) * factor;
                    let second = slot as f64 * SLOT_SECONDS;
                    counted.offer(second, count * scale.probability * PRICE, count);
                }
            }
            week.set_day(u8::try_from(weekday).unwrap_or(0), &counted);
        }
        history.weeks.insert(0, week);
    }
    history
}

/// A Poisson number: by its gaps when small, by the normal law when large.
fn poisson(mean: f64, random: &mut Random) -> f64 {
    if mean > 50.0 {
        return (mean + mean.sqrt() * random.normal()).round().max(0.0);
    }
    let (mut count, mut at) = (0.0, random.gap());
    while at < mean {
        count += 1.0;
        at += random.gap();
    }
    count
}

fn arrivals(
    day: &series::Day,
    scale: &Scale,
    window: &Window,
    spike: Option<usize>,
    scenario: &Scenario,
    random: &mut Random,
) -> Vec<Opportunity> {
    let mut opportunities = Vec::new();
    let mut left = random.gap();
    for (minute, traffic) in day.minutes.iter().enumerate() {
        let factor = if spike == Some(minute / 60) { 8.0 } else { 1.0 };
        let rate = traffic * scale.factor * factor;
        let mut done = 0.0;
        while rate - done >= left {
            done += left;
            left = random.gap();
            let at = (minute as f64 + done / rate).min(MINUTES as f64 - 1e-6) * 60.0;
            let opportunity = Opportunity {
                at,
                coin: random.unit(),
                price: (PRICE * (DEAREST - random.unit())) as i64,
                charged_after: charged_after(scenario.charging, random),
            };
            if window.is_open(at) {
                opportunities.push(opportunity);
            }
        }
        left -= rate - done;
    }
    opportunities
}

/// Clicks come after a minute (median), three in a hundred after 20 to 40 minutes.
fn charged_after(charging: Charging, random: &mut Random) -> Option<f64> {
    match charging {
        Charging::AtOnce => Some(0.0),
        Charging::Clicks { probability } => {
            if random.unit() >= probability {
                None
            } else if random.unit() < 0.03 {
                Some(1_200.0 + 1_200.0 * random.unit())
            } else {
                Some((60f64.ln() + random.normal()).exp().min(600.0))
            }
        }
    }
}

fn set_budget(day: &mut TrialDay, scenario: &Scenario, usual: f64) {
    let limit = match scenario.budget {
        Budget::Usual(share) => share * usual,
        Budget::ThisDay(share) => share * day.demand() as f64,
        Budget::Most(share) => share * day.facts.profile.total().max(day.demand() as f64),
    };
    let set = |facts: &mut DayFacts, limit: f64| {
        facts.limit = limit.floor();
        facts.target = facts.limit;
        facts.limit as i64
    };
    day.limit = set(&mut day.facts, limit);
    if let Some((hour, factor)) = scenario.increase {
        let mut facts = day.facts.clone();
        let limit = set(&mut facts, limit * factor);
        day.change = Some(Change { second: 3_600.0 * f64::from(hour), facts, limit });
    }
}

/// The day as the service would have counted it.
fn seen(day: &TrialDay, window: &Window) -> DayDemand {
    let mut counted = DayDemand::default();
    counted.see(window, 0.0, super::rivals::DAY);
    for opportunity in &day.opportunities {
        counted.offer(opportunity.at, day.probability * opportunity.price as f64, 1.0);
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::scenario;

    fn even(days: usize) -> Series {
        let day = series::Day { minutes: vec![1.0; MINUTES], whole: true };
        Series { name: "even", days: vec![day; days], is_short: false }
    }

    #[test]
    fn a_trial_repeats_by_its_seed() {
        let calm = scenario::named("calm");
        let draw = |seed| Trial::draw(&calm, &even(70), 28, seed).days[0].opportunities.len();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn arrivals_forecast_and_budget_have_the_scenarios_size() {
        let calm = scenario::named("calm");
        let trial = Trial::draw(&calm, &even(70), 28, 1);
        let day = &trial.days[0];
        let count = day.opportunities.len() as f64;
        assert!((count / calm.opportunities_per_day - 1.0).abs() < 0.02, "{count}");
        let forecast = day.facts.profile.total();
        assert!((forecast / day.demand() as f64 - 1.0).abs() < 0.03, "{forecast}");
        assert!((day.limit as f64 / day.demand() as f64 - 0.3).abs() < 0.01);
    }

    #[test]
    fn a_new_campaign_knows_no_level_on_its_first_day_only() {
        let cold = scenario::named("cold_start");
        let trial = Trial::draw(&cold, &even(70), 28, 1);
        assert!(!trial.days[0].facts.level_known);
        assert!(trial.days[1].facts.level_known);
    }

    #[test]
    fn nothing_is_offered_outside_the_schedule() {
        let dayparting = scenario::named("dayparting");
        let trial = Trial::draw(&dayparting, &even(70), 28, 1);
        let open = 9.0 * 3_600.0..18.0 * 3_600.0;
        assert!(trial.days[0].opportunities.iter().all(|one| open.contains(&one.at)));
    }
}
