//! All controllers through all scenarios.
//!
//! A run is a scenario, a record, a week of it and a seed: its days are drawn once and every controller
//! lives them from its first day to its last. Runs are spread over threads and put back in order, so
//! that their number changes nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    metrics::{Measured, mean},
    ours::Adspend,
    rivals::{
        Controller, DailyCap, EvenSplit, LinkedIn, Mystique, ProportionalIntegral,
        RemainingForecast, SmartPacing,
    },
    scenario::Scenario,
    series::Series,
    trial::Trial,
    world::{self, Record, StopRule},
};

/// A controller of the contest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    Adspend,
    RemainingForecast,
    SmartPacing,
    Mystique,
    LinkedIn,
    ProportionalIntegral,
    EvenSplit,
    DailyCap,
}

impl Contestant {
    /// Ours first; then roughly from the newest to the plainest.
    pub(crate) const ALL: [Self; 8] = [
        Self::Adspend,
        Self::RemainingForecast,
        Self::SmartPacing,
        Self::Mystique,
        Self::LinkedIn,
        Self::ProportionalIntegral,
        Self::EvenSplit,
        Self::DailyCap,
    ];

    /// In the summary.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Adspend => "adspend",
            Self::RemainingForecast => "remaining_forecast",
            Self::SmartPacing => "smart_pacing",
            Self::Mystique => "mystique",
            Self::LinkedIn => "linkedin",
            Self::ProportionalIntegral => "pi",
            Self::EvenSplit => "even_split",
            Self::DailyCap => "daily_cap",
        }
    }

    /// In tables and plots.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Adspend => "adspend",
            Self::RemainingForecast => "budget / forecast",
            Self::SmartPacing => "Smart Pacing '15",
            Self::Mystique => "Mystique '24",
            Self::LinkedIn => "LinkedIn '14",
            Self::ProportionalIntegral => "PI",
            Self::EvenSplit => "even split",
            Self::DailyCap => "daily cap",
        }
    }

    fn controller(self) -> Box<dyn Controller> {
        match self {
            Self::Adspend => Box::<Adspend>::default(),
            Self::RemainingForecast => Box::<RemainingForecast>::default(),
            Self::SmartPacing => Box::<SmartPacing>::default(),
            Self::Mystique => Box::<Mystique>::default(),
            Self::LinkedIn => Box::<LinkedIn>::default(),
            Self::ProportionalIntegral => Box::<ProportionalIntegral>::default(),
            Self::EvenSplit => Box::<EvenSplit>::default(),
            Self::DailyCap => Box::new(DailyCap),
        }
    }
}

/// How much is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) seeds: u64,
    /// Weeks of each record.
    pub(crate) weeks: usize,
}

/// The days of one controller in one run.
#[derive(Debug, Clone)]
pub(crate) struct Lived {
    pub(crate) series: &'static str,
    pub(crate) seed: u64,
    pub(crate) days: Vec<Measured>,
}

/// One scenario's results: for each contestant in order, its runs in order.
#[derive(Debug, Clone)]
pub(crate) struct Results {
    pub(crate) scenario: Scenario,
    pub(crate) of: Vec<(Contestant, Vec<Lived>)>,
}

impl Results {
    pub(crate) fn runs(&self, contestant: Contestant) -> &[Lived] {
        let found = self.of.iter().find(|(one, _)| *one == contestant);
        found.map(|(_, runs)| runs.as_slice()).unwrap_or_default()
    }

    /// All days of a contestant.
    pub(crate) fn days(&self, contestant: Contestant) -> impl Iterator<Item = &Measured> {
        self.runs(contestant).iter().flat_map(|run| &run.days)
    }

    /// The mean of a figure over a contestant's days.
    pub(crate) fn mean(&self, contestant: Contestant, figure: impl Fn(&Measured) -> f64) -> f64 {
        mean(self.days(contestant).map(figure))
    }

    /// The mean of a figure for each seed: what its spread is taken over.
    pub(crate) fn by_seed(
        &self,
        contestant: Contestant,
        figure: impl Fn(&Measured) -> f64,
    ) -> Vec<f64> {
        let mut seeds: Vec<u64> = self.runs(contestant).iter().map(|run| run.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let of = |seed| {
            let runs = self.runs(contestant).iter().filter(move |run| run.seed == seed);
            mean(runs.flat_map(|run| &run.days).map(&figure))
        };
        seeds.into_iter().map(of).collect()
    }

    /// Ranks by mean loss, best first; equal losses (to 10⁻⁶) share their mean rank.
    pub(crate) fn ranks(&self) -> Vec<(Contestant, f64)> {
        let losses: Vec<(Contestant, f64)> = Contestant::ALL
            .into_iter()
            .map(|one| (one, (self.mean(one, Measured::loss) * 1e6).round()))
            .collect();
        let rank = |loss: f64| {
            let better = losses.iter().filter(|(_, other)| *other < loss).count();
            let equal = losses.iter().filter(|(_, other)| *other == loss).count();
            better as f64 + (equal as f64 + 1.0) / 2.0
        };
        losses.iter().map(|(one, loss)| (*one, rank(*loss))).collect()
    }
}

/// Lets one controller through a trial.
pub(crate) fn lives(
    contestant: Contestant,
    trial: &Trial,
    scenario: &Scenario,
) -> Vec<(Measured, Record)> {
    let mut controller = contestant.controller();
    let days = trial.days.iter().map(|day| {
        let record = world::live(controller.as_mut(), day, scenario.lag, StopRule::Margin);
        (Measured::of(day, &record), record)
    });
    days.collect()
}

/// Runs a scenario over all records.
pub(crate) fn run(scenario: &Scenario, series: &[Series], size: Size) -> Results {
    let mut runs = Vec::new();
    for series in series {
        for first in series.some_weeks(size.weeks) {
            runs.extend((1..=size.seeds).map(|seed| (series, first, seed)));
        }
    }
    let done = in_parallel(&runs, |(series, first, seed)| {
        let trial = Trial::draw(scenario, series, *first, *seed);
        Contestant::ALL.map(|contestant| {
            let days = lives(contestant, &trial, scenario);
            let days = days.into_iter().map(|(measured, _)| measured).collect();
            Lived { series: series.name, seed: *seed, days }
        })
    });
    let mut of: Vec<(Contestant, Vec<Lived>)> =
        Contestant::ALL.into_iter().map(|one| (one, Vec::new())).collect();
    for run in done {
        for ((_, runs), lived) in of.iter_mut().zip(run) {
            runs.push(lived);
        }
    }
    Results { scenario: scenario.clone(), of }
}

/// Maps over all cores; results in the order of the items.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(item) = items.get(index) else { break mine };
                        mine.push((index, work(item)));
                    }
                })
            })
            .collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().flat_map(join).collect()
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{
        scenario,
        series::{Day, MINUTES},
    };

    fn busy_noon() -> Series {
        let minutes: Vec<f64> = (0..MINUTES)
            .map(|minute| if (700..760).contains(&minute) { 9.0 } else { 1.0 })
            .collect();
        Series { name: "noon", days: vec![Day { minutes, whole: true }; 42], is_short: false }
    }

    /// no rate, however wrong, spends above the limit; late clicks are the only way.
    #[test]
    fn nobody_spends_above_the_limit_but_by_late_clicks() {
        for name in ["300_charges", "30_clicks", "few_late_clicks", "cold_start", "increase"] {
            let mut scenario = scenario::named(name);
            scenario.opportunities_per_day = scenario.opportunities_per_day.min(10_000.0);
            scenario.days = 2;
            let trial = Trial::draw(&scenario, &busy_noon(), 28, 3);
            for contestant in Contestant::ALL {
                for ((_, record), day) in
                    lives(contestant, &trial, &scenario).iter().zip(&trial.days)
                {
                    let limit = day.change.as_ref().map_or(day.limit, |change| change.limit);
                    assert!(record.spent - record.late <= limit, "{name} {contestant:?}");
                    assert!(record.charged.iter().all(|charged| charged - record.late <= limit));
                    assert!(record.rate.iter().all(|rate| (0.0..=1.0).contains(rate)));
                }
            }
        }
    }

    #[test]
    fn ours_keeps_to_a_busy_hour_it_knows() {
        let calm = scenario::named("calm");
        let trial = Trial::draw(&calm, &busy_noon(), 28, 1);
        let days = lives(Contestant::Adspend, &trial, &calm);
        let rmse = mean(days.iter().map(|(day, _)| day.rmse));
        let utilisation = mean(days.iter().map(|(day, _)| day.utilisation));
        assert!(rmse < 0.01 && utilisation > 0.995, "{rmse} {utilisation}");
    }

    #[test]
    fn parallel_results_keep_their_order() {
        let items: Vec<u64> = (0..1_000).collect();
        assert_eq!(
            in_parallel(&items, |item| item * 2),
            items.iter().map(|i| i * 2).collect::<Vec<_>>()
        );
    }
}
