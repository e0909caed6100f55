//! The plots of the report: a day of the calm scenario, and two tables over all scenarios.

use super::{
    contest::{self, Contestant, Results},
    metrics::{self, Measured},
    plot::{COLOURS, DayPlot, Line, Matrix, lines, matrix, panels},
    rivals, scenario,
    series::{MINUTES, Series},
    trial::Trial,
};

/// The day that is drawn: a Wednesday.
const DAY: usize = 2;

/// File names and contents.
pub(crate) fn all(series: &[Series], results: &[Results]) -> Vec<(&'static str, String)> {
    let mut plots = vec![("utilisation.svg", utilisation(results)), ("rmse.svg", rmse(results))];
    plots.extend(a_day(series));
    plots
}

/// Spend and rate of a calm day of bike sharing; of Open Bandit where that is not there.
fn a_day(series: &[Series]) -> Vec<(&'static str, String)> {
    let chosen = series.iter().find(|series| series.name == "bike sharing").or(series.first());
    let Some((chosen, first)) = chosen.and_then(|one| Some((one, *one.some_weeks(3).first()?)))
    else {
        return Vec::new();
    };
    let calm = scenario::calm();
    let trial = Trial::draw(&calm, chosen, first, 1);
    let Some(day) = trial.days.get(DAY) else { return Vec::new() };
    let hour = |minute: usize| (minute as f64 + 1.0) / 60.0;
    let whole = day.limit as f64;
    let (mut spend, mut rate) = (Vec::new(), Vec::new());
    for (contestant, colour) in Contestant::ALL.into_iter().zip(COLOURS) {
        let lived = contest::lives(contestant, &trial, &calm);
        let Some((_, record)) = lived.get(DAY) else { continue };
        let name = contestant.title().to_owned();
        if spend.is_empty() {
            let ideal = metrics::ideal(day, record);
            let every = |minute: &usize| minute % 5 == 4;
            let at = |minute: usize| ideal.get(minute).map(|due| (hour(minute), due / whole));
            let points = (0..MINUTES).filter(every).filter_map(at).collect();
            spend.push(Line { name: "hindsight".into(), colour: "#000000", dashed: true, points });
            let points = (0..=96)
                .map(|slot| f64::from(slot) / 4.0)
                .map(|at| (at, day.facts.share(at * rivals::DAY / 24.0)))
                .collect();
            spend.push(Line {
                name: "planned by forecast".into(),
                colour: "#999999",
                dashed: true,
                points,
            });
        }
        let charged = record.charged.iter().enumerate().skip(4).step_by(5);
        let points = charged.map(|(minute, spent)| (hour(minute), *spent as f64 / whole)).collect();
        spend.push(Line { name: name.clone(), colour, dashed: false, points });
        let rates = record.rate.iter().enumerate().skip(1).step_by(2);
        let points = rates.map(|(minute, rate)| (hour(minute), *rate)).collect();
        rate.push(Line { name, colour, dashed: false, points });
    }
    let title =
        |what: &str| format!("{what} on a calm day ({}, budget 30 % of demand)", chosen.name);
    vec![
        (
            "spend.svg",
            lines(&DayPlot {
                title: title("Cumulative spend"),
                vertical: "share of the day's budget spent",
                top: 1.0,
                lines: spend,
            }),
        ),
        (
            "rate.svg",
            panels(&DayPlot {
                title: title("Rate of admission"),
                vertical: "rate",
                top: 1.0,
                lines: rate,
            }),
        ),
    ]
}

fn table(
    results: &[Results],
    figure: impl Fn(&Measured) -> f64 + Copy,
) -> (Vec<&str>, Vec<(&str, Vec<f64>)>) {
    let columns = Contestant::ALL.into_iter().map(Contestant::title).collect();
    let rows = results.iter().map(|results| {
        let values = Contestant::ALL.into_iter().map(|one| results.mean(one, figure)).collect();
        (results.scenario.title, values)
    });
    (columns, rows.collect())
}

fn utilisation(results: &[Results]) -> String {
    let (columns, rows) = table(results, |day| day.utilisation);
    matrix(&Matrix {
        title: "Utilisation by scenario: spent of min(limit, demand)",
        columns,
        rows,
        worst: 0.9,
        best: 1.0,
        write: |value| format!("{:.1} %", 100.0 * value),
    })
}

fn rmse(results: &[Results]) -> String {
    let (columns, rows) = table(results, |day| day.rmse);
    matrix(&Matrix {
        title: "Distance from the hindsight curve (RMSE, share of the budget) by scenario",
        columns,
        rows,
        worst: 0.12,
        best: 0.0,
        write: |value| format!("{value:.3}"),
    })
}
