//! The report: Markdown for people, with what was promised, what was measured and where a rival wins.

use std::fmt::Write as _;

use super::{
    contest::{Contestant, Results, Size},
    hierarchy::MixResults,
    metrics::{Measured, spread},
    series::Series,
    stops::StopResults,
    summary::{Figure, mean_ranks},
    week::WeekResults,
    world::StopRule,
};

/// All that a report tells.
pub(crate) struct Told<'a> {
    pub(crate) size: Size,
    pub(crate) series: &'a [Series],
    pub(crate) missing: &'a [&'static str],
    pub(crate) figures: &'a [Figure],
    pub(crate) results: &'a [Results],
    pub(crate) weeks: &'a [WeekResults],
    pub(crate) stops: &'a [StopResults],
    pub(crate) mixes: &'a [MixResults],
}

const OPENING: &str = "# The evaluation of pacing

Written by `make eval`; the same command writes the same bytes. What is compared, from where the rivals'
rules come and what was chosen for them stands in `tests/src/eval/`; the series and their licences in
[README.md](README.md).

Each day of each scenario is lived by all controllers with the same opportunities, forecast, coins and
hard limit. The forecast is the production one, from the four weeks before. Numbers are means over days;
± is the standard deviation between seeds.
";

/// The report as Markdown.
pub(crate) fn write(told: &Told<'_>) -> String {
    let mut out = String::from(OPENING);
    series(&mut out, told);
    promised(&mut out, told.figures);
    ranking(&mut out, told.results);
    won_by_others(&mut out, told.results);
    scenarios(&mut out, told.results);
    weeks(&mut out, told.weeks);
    stops(&mut out, told.stops);
    mixes(&mut out, told.mixes);
    out
}

fn series(out: &mut String, told: &Told<'_>) {
    let Size { seeds, weeks } = told.size;
    let _ = writeln!(out, "\n{seeds} seeds, up to {weeks} weeks of each of these records:");
    for series in told.series {
        let _ = writeln!(out, "* {} ({} days)", series.name, series.days.len());
    }
    if !told.missing.is_empty() {
        let missing = told.missing.join(", ");
        let _ = writeln!(
            out,
            "\n**Incomplete:** not fetched and therefore not run: {missing}. Figures below are of what \
             was there."
        );
    }
}

fn promised(out: &mut String, figures: &[Figure]) {
    let _ = writeln!(out, "\n## What was promised\n");
    let _ = writeln!(out, "| figure of ours | value | target | |\n|---|---|---|---|");
    for figure in figures {
        let spread = figure.spread.map(|spread| format!(" ± {spread:.4}")).unwrap_or_default();
        let _ = writeln!(
            out,
            "| `{}`: {} | {:.4}{spread} | {} | {} |",
            figure.name,
            figure.about,
            figure.value,
            figure.target.written(),
            if figure.is_met() { "met" } else { "**missed**" }
        );
    }
}

fn header(out: &mut String, first: &str) {
    let names: Vec<&str> = Contestant::ALL.into_iter().map(Contestant::title).collect();
    let _ =
        writeln!(out, "| {first} | {} |\n|---{}|", names.join(" | "), "|---".repeat(names.len()));
}

fn ranking(out: &mut String, results: &[Results]) {
    let _ = writeln!(
        out,
        "\n## Ranking\n\nThe loss of a day, in shares of its money: distance from the hindsight curve \
         (RMSE) + what was left unspent (1 − utilisation) + overspend + the share of the day's demand \
         that came after an early stop. All weigh alike, and calmness is not in it. The rank in a \
         scenario is by mean loss over all days; equal losses share their rank.\n"
    );
    header(out, "mean loss (rank)");
    for results in results {
        let _ = write!(out, "| {} ", results.scenario.title);
        let ranks = results.ranks();
        let best = ranks.iter().map(|one| one.1).fold(f64::INFINITY, f64::min);
        for (one, rank) in ranks {
            let loss = results.mean(one, Measured::loss);
            let mark = if rank == best { "**" } else { "" };
            let _ = write!(out, "| {mark}{loss:.4} ({rank:.0}){mark} ");
        }
        let _ = writeln!(out, "|");
    }
    let _ = write!(out, "| **mean rank** ");
    for (_, rank) in mean_ranks(results) {
        let _ = write!(out, "| **{rank:.2}** ");
    }
    let _ = writeln!(
        out,
        "|\n\nOf each scenario's loss, the spread between seeds (ours): {}.",
        results
            .iter()
            .map(|results| {
                let losses = results.by_seed(Contestant::Adspend, Measured::loss);
                format!("{} ± {:.4}", results.scenario.title, spread(&losses).1)
            })
            .collect::<Vec<_>>()
            .join(", ")
    );
    let _ = writeln!(out, "\n![utilisation by scenario](utilisation.svg)\n");
    let _ = writeln!(out, "![distance from the hindsight curve by scenario](rmse.svg)\n");
    let _ = writeln!(out, "![cumulative spend of a day](spend.svg)\n");
    let _ = writeln!(out, "![rate over a day](rate.svg)");
}

fn won_by_others(out: &mut String, results: &[Results]) {
    let _ = writeln!(out, "\n## Where a rival wins\n");
    let mut none = true;
    for results in results {
        let loss = |one| results.mean(one, Measured::loss);
        let change = |one| results.mean(one, |day: &Measured| day.change);
        let ours = loss(Contestant::Adspend);
        let mut better: Vec<_> = Contestant::ALL
            .into_iter()
            .filter(|one| loss(*one) < ours)
            .map(|one| {
                let (loss, change) = (loss(one), change(one));
                format!("{} ({loss:.4}, changing the rate by {change:.4} a minute)", one.title())
            })
            .collect();
        if better.is_empty() {
            continue;
        }
        none = false;
        better.truncate(4);
        let _ = writeln!(
            out,
            "* {}: {}; ours {ours:.4}, {:.4} a minute.",
            results.scenario.title,
            better.join(", "),
            change(Contestant::Adspend)
        );
    }
    if none {
        let _ = writeln!(out, "Nowhere by this loss.");
    }
}

fn scenarios(out: &mut String, results: &[Results]) {
    let _ = writeln!(out, "\n## Scenarios");
    for results in results {
        let _ =
            writeln!(out, "\n### {}\n\nHere {}.\n", results.scenario.title, results.scenario.about);
        let _ = writeln!(
            out,
            "| | utilisation | RMSE hindsight | RMSE plan | early stops | overspend | change of the \
             rate a minute | admitted |\n|---|---|---|---|---|---|---|---|"
        );
        for one in Contestant::ALL {
            let pair = |figure: fn(&Measured) -> f64| {
                let (_, deviation) = spread(&results.by_seed(one, figure));
                format!("{:.4} ± {deviation:.4}", results.mean(one, figure))
            };
            let mean = |figure: fn(&Measured) -> f64| results.mean(one, figure);
            let _ = writeln!(
                out,
                "| {} | {} | {} | {:.4} | {:.1} % | {:.3} % | {:.4} | {:.2} % |",
                one.title(),
                pair(|day| day.utilisation),
                pair(|day| day.rmse),
                mean(|day| day.rmse_plan),
                100.0 * mean(|day| f64::from(day.early)),
                100.0 * mean(|day| day.overspend),
                mean(|day| day.change),
                100.0 * mean(|day| day.admitted),
            );
        }
    }
    by_series(out, results);
    first_day(out, results);
}

/// Records in the order of their runs.
fn records(results: &Results) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for run in results.runs(Contestant::Adspend) {
        if !names.contains(&run.series) {
            names.push(run.series);
        }
    }
    names
}

fn first_day(out: &mut String, results: &[Results]) {
    let Some(cold) = results.iter().find(|results| results.scenario.name == "cold_start") else {
        return;
    };
    let _ = writeln!(
        out,
        "\n### The first day of the cold start, by record (utilisation, RMSE hindsight)\n\nNobody knows \
         where the day's demand lies. Ours asks with each quarter hour which of the days that everybody \
         knows it is (the same evening in four time zones, an office day) and runs ahead of it: what ends \
         in the afternoon, as car parks do at half past four, shows it when it is too late. Further ahead \
         spends more on such a day and is further from the curve on those that go on until midnight. The \
         rivals keep the forecast of midnight.\n"
    );
    header(out, "record");
    let pair = |one, name: Option<&str>| {
        let runs = cold.runs(one).iter().filter(|run| name.is_none_or(|name| run.series == name));
        let first: Vec<&Measured> = runs.filter_map(|run| run.days.first()).collect();
        let mean = |figure: fn(&Measured) -> f64| {
            super::metrics::mean(first.iter().map(|day| figure(day)))
        };
        format!("{:.3}, {:.3}", mean(|day| day.utilisation), mean(|day| day.rmse))
    };
    let rows = records(cold).into_iter().map(|name| (name, Some(name)));
    for (title, name) in rows.chain([("**all**", None)]) {
        let _ = write!(out, "| {title} ");
        for one in Contestant::ALL {
            let _ = write!(out, "| {} ", pair(one, name));
        }
        let _ = writeln!(out, "|");
    }
}

fn by_series(out: &mut String, results: &[Results]) {
    let Some(calm) = results.iter().find(|results| results.scenario.name == "calm") else { return };
    let _ = writeln!(
        out,
        "\n### Calm, by record (RMSE hindsight)\n\nAll rules that follow a plan share the error of the \
         forecast's shape; it is what differs between records.\n"
    );
    header(out, "record");
    for name in records(calm) {
        let _ = write!(out, "| {name} ");
        for one in Contestant::ALL {
            let runs = calm.runs(one).iter().filter(|run| run.series == name);
            let rmse = super::metrics::mean(runs.flat_map(|run| &run.days).map(|day| day.rmse));
            let _ = write!(out, "| {rmse:.4} ");
        }
        let _ = writeln!(out, "|");
    }
}

fn weeks(out: &mut String, weeks: &[WeekResults]) {
    if weeks.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\n## The week plan\n\nSpend of the week over the best that hindsight could do under 1.3 × B a \
         day and 7 × B a week; ± between weeks. Spending all that the limits allow from Monday on is that \
         optimum of the sum (and leaves the weekend without money), so it is no column. Not part of the \
         ranking: the rivals plan days only.\n\n\
         | record | weeks | B over an average day | the same limit every day | **plan** |\n\
         |---|---|---|---|---|"
    );
    for results in weeks {
        let (fixed, fixed_spread) = results.of(|week| week.fixed);
        let (plan, plan_spread) = results.of(|week| week.plan);
        let _ = writeln!(
            out,
            "| {} | {} | {:.1} | {fixed:.4} ± {fixed_spread:.4} | **{plan:.4}** ± {plan_spread:.4} |",
            results.series,
            results.weeks.len(),
            results.budget,
        );
    }
}

fn stops(out: &mut String, stops: &[StopResults]) {
    let _ = writeln!(
        out,
        "\n## What to hold while clicks are open\n\nEverything is admitted until the limit stops it; \
         clicks come after a minute (median), 3 % of them after 20 to 40 minutes. Spent over the limit:\
         \n\n| clicks a day | held against the limit | mean | 99th percentile | days over |\n\
         |---|---|---|---|---|"
    );
    for one in stops {
        let rule = match one.rule {
            StopRule::Charged => "nothing",
            StopRule::Expected => "the expected charge",
            StopRule::Margin => "**expected and margin (ours)**",
        };
        let _ = writeln!(
            out,
            "| {:.0} | {rule} | {:.4} | {:.4} | {:.1} % |",
            one.clicks,
            one.mean(),
            one.p99(),
            100.0 * one.over()
        );
    }
}

fn mixes(out: &mut String, mixes: &[MixResults]) {
    let _ = writeln!(
        out,
        "\n## Two campaigns under an account\n\nLimits of 500 and 3 000 under an account's 1 000.\n\n\
         | demand | expected | spent | sum within 1 % |\n|---|---|---|---|"
    );
    for mix in mixes {
        let [a, b] = mix.spent;
        let _ = writeln!(
            out,
            "| {:.0} and {:.0} | {:.1} and {:.1} | {a:.1} and {b:.1} | {:.0} % of days |",
            mix.demand[0],
            mix.demand[1],
            mix.expected[0],
            mix.expected[1],
            100.0 * mix.within
        );
    }
}
