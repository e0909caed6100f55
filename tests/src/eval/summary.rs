//! The figures that are promised (section 8 of the design of pacing), each beside its target.

use serde_json::{Map, Value, json};

use super::{
    contest::{Contestant, Results},
    hierarchy::MixResults,
    metrics::{Measured, mean, p99, spread},
    week::WeekResults,
};

/// What a figure must keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    pub(crate) fn written(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::AtMost(most) => format!("≤ {most}"),
        }
    }
}

/// One promised figure of ours.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) value: f64,
    /// Standard deviation between seeds (of weeks: between weeks).
    pub(crate) spread: Option<f64>,
    pub(crate) target: Target,
}

impl Figure {
    pub(crate) fn is_met(&self) -> bool {
        self.target.is_met(self.value)
    }
}

/// Keys that the summary always has.
pub const KEYS: [&str; 12] = [
    "utilisation_300",
    "utilisation_30",
    "week_of_hindsight",
    "rmse_calm",
    "rmse_30_clicks",
    "rmse_late_feedback",
    "early_stop_share",
    "rate_change_per_minute",
    "all_traffic_share",
    "cold_start_day1_utilisation",
    "mean_rank",
    "charge_overspend_p99",
];

const OURS: Contestant = Contestant::Adspend;

fn of(
    results: &[Results],
    scenario: &str,
    figure: impl Fn(&Measured) -> f64,
) -> (f64, Option<f64>) {
    let found = results.iter().find(|results| results.scenario.name == scenario);
    let Some(results) = found else { return (f64::NAN, None) };
    let (_, deviation) = spread(&results.by_seed(OURS, &figure));
    (results.mean(OURS, &figure), Some(deviation))
}

/// Days of the cold start, counted from the first.
fn cold(
    results: &[Results],
    name: &str,
    days: std::ops::Range<usize>,
    figure: impl Fn(&Measured) -> f64,
) -> f64 {
    let cold = results.iter().filter(|results| results.scenario.name == name);
    let runs = cold.flat_map(|results| results.runs(OURS));
    mean(runs.flat_map(|run| run.days.iter().take(days.end).skip(days.start)).map(figure))
}

/// Overspend of ours on days with late clicks.
fn late_overspend(results: &[Results]) -> Vec<f64> {
    let late = results.iter().filter(|results| results.scenario.name.ends_with("late_clicks"));
    late.flat_map(|results| results.days(OURS)).map(|day| day.overspend).collect()
}

/// All promised figures, in the order of the report.
pub(crate) fn figures(
    results: &[Results],
    weeks: &[WeekResults],
    mixes: &[MixResults],
) -> Vec<Figure> {
    let figure = |name, about, (value, spread): (f64, Option<f64>), target| Figure {
        name,
        about,
        value,
        spread,
        target,
    };
    let one = |value: f64| (value, None);
    let average: Vec<f64> = weeks
        .iter()
        .filter(|week| week.budget == 1.0)
        .flat_map(|week| week.weeks.iter().map(|shares| shares.plan))
        .collect();
    let (week, week_spread) = spread(&average);
    let throttled: Vec<&Measured> =
        results.iter().flat_map(|results| results.days(OURS)).filter(|day| day.throttled).collect();
    let early = mean(throttled.iter().map(|day| f64::from(day.early)));
    let many = results.iter().filter(|results| !results.scenario.is_few());
    let many = many.flat_map(|results| results.days(OURS)).filter(|day| day.throttled);
    let gaps = mean(many.map(|day| f64::from(day.gaps > 0.0)));
    let late = late_overspend(results);
    let worst = late.iter().copied().fold(0.0, f64::max);
    let within = mixes.iter().map(|mix| mix.within).fold(f64::INFINITY, f64::min);
    use Target::{AtLeast, AtMost};
    vec![
        figure(
            "utilisation_300",
            "spent of min(limit, demand) at 300 charges a day",
            of(results, "300_charges", |day| day.utilisation),
            AtLeast(0.995),
        ),
        figure(
            "utilisation_30",
            "the same at 30 charges a day",
            of(results, "30_clicks", |day| day.utilisation),
            AtLeast(0.97),
        ),
        figure(
            "week_of_hindsight",
            "the week plan's spend over the best in hindsight",
            (week, Some(week_spread)),
            AtLeast(0.99),
        ),
        figure(
            "rmse_calm",
            "distance from the hindsight curve, share of the budget, calm",
            of(results, "calm", |day| day.rmse),
            AtMost(0.02),
        ),
        figure(
            "rmse_30_clicks",
            "the same at 30 charges a day",
            of(results, "30_clicks", |day| day.rmse),
            AtMost(0.04),
        ),
        figure(
            "rmse_late_feedback",
            "the same with feedback 15 minutes late",
            of(results, "late_feedback", |day| day.rmse),
            AtMost(0.03),
        ),
        figure(
            "early_stop_share",
            "throttled days of all scenarios that the limit ended before 23:00 with a charge still due",
            one(early),
            AtMost(0.005),
        ),
        figure(
            "rate_change_per_minute",
            "mean absolute change of the rate, calm",
            of(results, "calm", |day| day.change),
            AtMost(0.005),
        ),
        figure(
            "days_with_a_gap",
            "throttled days of 300 charges or more with ten minutes and 50 opportunities that the \
             money would have paid for, but no admission; below 100 charges a day they are not counted",
            one(gaps),
            AtMost(0.0),
        ),
        figure(
            "all_traffic_share",
            "admitted when the money is worth 1.05 of forecast and demand",
            of(results, "all_traffic", |day| day.admitted),
            AtLeast(0.999),
        ),
        figure(
            "cold_start_day1_utilisation",
            "first day of a campaign without history",
            one(cold(results, "cold_start", 0..1, |day| day.utilisation)),
            AtLeast(0.97),
        ),
        figure(
            "cold_start_day1_rmse",
            "its distance from the hindsight curve",
            one(cold(results, "cold_start", 0..1, |day| day.rmse)),
            AtMost(0.12),
        ),
        figure(
            "cold_start_week2_rmse",
            "the same in its second week",
            one(cold(results, "cold_start", 7..14, |day| day.rmse)),
            AtMost(0.03),
        ),
        figure(
            "cold_start_platform_day1_utilisation",
            "first day where the platform's shape is known",
            one(cold(results, "cold_start_platform", 0..1, |day| day.utilisation)),
            AtLeast(0.97),
        ),
        figure(
            "charge_overspend_p99",
            "late clicks: charged above the day's limit, 99th percentile of days",
            one(p99(&late)),
            AtMost(0.005),
        ),
        figure("charge_overspend_most", "the worst of these days", one(worst), AtMost(0.02)),
        figure(
            "hierarchy_within",
            "days on which two campaigns spend the account's limit within 1 %, worst mix",
            one(within),
            AtLeast(0.99),
        ),
    ]
}

/// Mean rank of each contestant over the scenarios.
pub(crate) fn mean_ranks(results: &[Results]) -> Vec<(Contestant, f64)> {
    let ranks: Vec<_> = results.iter().map(Results::ranks).collect();
    let of =
        |index: usize| mean(ranks.iter().filter_map(|ranks| ranks.get(index)).map(|one| one.1));
    Contestant::ALL.into_iter().enumerate().map(|(index, one)| (one, of(index))).collect()
}

/// For machines.
pub(crate) fn json(
    figures: &[Figure],
    results: &[Results],
    missing: &[&str],
    size: &super::contest::Size,
) -> Value {
    let mut summary = Map::new();
    for figure in figures {
        summary.insert(figure.name.into(), json!(rounded(figure.value)));
    }
    let ranks = mean_ranks(results).into_iter();
    let ranks: Map<String, Value> =
        ranks.map(|(one, rank)| (one.name().into(), json!(rounded(rank)))).collect();
    summary.insert("mean_rank".into(), Value::Object(ranks));
    let missed = figures.iter().filter(|figure| !figure.is_met()).map(|figure| figure.name);
    summary.insert("missed".into(), json!(missed.collect::<Vec<_>>()));
    summary.insert("missing_series".into(), json!(missing));
    summary.insert("seeds".into(), json!(size.seeds));
    summary.insert("weeks_of_a_series".into(), json!(size.weeks));
    Value::Object(summary)
}

fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_bind_on_their_side() {
        assert!(Target::AtLeast(0.97).is_met(0.97) && !Target::AtLeast(0.97).is_met(0.96));
        assert!(Target::AtMost(0.02).is_met(0.02) && !Target::AtMost(0.02).is_met(0.021));
        assert!(!Target::AtMost(0.02).is_met(f64::NAN));
    }
}
