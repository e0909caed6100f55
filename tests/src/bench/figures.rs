//! What was measured: a figure beside its reference, the table for people, the summary for machines.

use std::{fmt::Write as _, fs, path::Path};

use serde_json::{Map, Value, json};

use super::Outcome;

/// What a figure must keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// Measured, and shown, without a promise.
    None,
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(least) => value >= least,
            Bound::AtMost(most) => value <= most,
            Bound::None => true,
        }
    }
}

/// One figure. Its value is the median of its rounds; with a reference, of the rounds' ratios, so that
/// a machine that is slow for a minute is slow for both sides.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    name: &'static str,
    unit: &'static str,
    bound: Bound,
    /// Ours, and the reference of the same round.
    rounds: Vec<(f64, Option<f64>)>,
}

impl Figure {
    pub(crate) fn new(name: &'static str, unit: &'static str, bound: Bound) -> Self {
        Self { name, unit, bound, rounds: Vec::new() }
    }

    /// A figure that was taken once.
    pub(crate) fn of(name: &'static str, unit: &'static str, bound: Bound, value: f64) -> Self {
        Self { name, unit, bound, rounds: vec![(value, None)] }
    }

    pub(crate) fn round(&mut self, ours: f64) {
        self.rounds.push((ours, None));
    }

    pub(crate) fn beside(&mut self, ours: f64, reference: f64) {
        self.rounds.push((ours, Some(reference)));
    }

    pub(crate) fn value(&self) -> f64 {
        median(self.rounds.iter().map(|(ours, reference)| match reference {
            Some(reference) => ours / reference,
            None => *ours,
        }))
    }

    fn ours(&self) -> f64 {
        median(self.rounds.iter().map(|(ours, _)| *ours))
    }

    fn reference(&self) -> Option<f64> {
        let references: Option<Vec<f64>> =
            self.rounds.iter().map(|(_, reference)| *reference).collect();
        references.map(|references| median(references.into_iter()))
    }

    /// Nothing measured is nothing kept.
    pub(crate) fn is_kept(&self) -> bool {
        let value = self.value();
        value.is_finite() && self.bound.holds(value)
    }

    fn json(&self) -> Value {
        let (bound, kind) = match self.bound {
            Bound::AtLeast(least) => (Some(least), Some("at least")),
            Bound::AtMost(most) => (Some(most), Some("at most")),
            Bound::None => (None, None),
        };
        json!({
            "name": self.name,
            "unit": self.unit,
            "value": self.value(),
            "ours": self.ours(),
            "reference": self.reference(),
            "bound": bound,
            "bound_kind": kind,
            "ok": self.is_kept(),
            "rounds": self.rounds.iter().map(|(ours, reference)| json!([ours, reference]))
                .collect::<Vec<_>>(),
        })
    }
}

/// The middle of the values; of an even number of them the lower middle. Not a number without any.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// All figures of a run, and where it ran.
#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    notes: Map<String, Value>,
}

impl Report {
    /// Adds figures, and prints each at once: a run takes minutes.
    pub(crate) fn add(&mut self, figures: impl IntoIterator<Item = Figure>) {
        for figure in figures {
            println!("  {}", line(&figure));
            self.figures.push(figure);
        }
    }

    /// Says something about the run that is no figure.
    pub(crate) fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.notes.insert(name.to_owned(), value.into());
    }

    /// The names of figures that missed their bounds.
    pub(crate) fn missed(&self) -> Vec<&'static str> {
        self.figures.iter().filter(|figure| !figure.is_kept()).map(|figure| figure.name).collect()
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "\n{:<36}{:>14}{:>14}{:>11}{:>11}\n",
            "figure", "ours", "reference", "value", "bound"
        );
        for figure in &self.figures {
            let _ = writeln!(text, "{}", line(figure));
        }
        text
    }

    /// Every value under its name, then the figures with their rounds.
    pub(crate) fn write(&self, path: &Path) -> Outcome<()> {
        let mut summary = Map::new();
        for figure in &self.figures {
            summary.insert(figure.name.to_owned(), json!(figure.value()));
        }
        summary.insert("missed".to_owned(), json!(self.missed()));
        summary.insert("run".to_owned(), Value::Object(self.notes.clone()));
        let figures: Vec<_> = self.figures.iter().map(Figure::json).collect();
        summary.insert("figures".to_owned(), json!(figures));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, format!("{:#}\n", Value::Object(summary)))?;
        Ok(())
    }
}

fn line(figure: &Figure) -> String {
    let reference = figure.reference().map(number).unwrap_or_default();
    let (bound, verdict) = match figure.bound {
        Bound::AtLeast(least) => (format!(">= {least}"), figure.is_kept()),
        Bound::AtMost(most) => (format!("<= {most}"), figure.is_kept()),
        Bound::None => (String::new(), true),
    };
    let verdict = match (figure.bound, verdict) {
        (_, false) => "MISS",
        (Bound::None, true) => "",
        (Bound::AtLeast(_) | Bound::AtMost(_), true) => "ok",
    };
    let value = figure.reference().map_or(String::new(), |_| format!("{:.3}", figure.value()));
    format!(
        "{:<36}{:>14}{reference:>14}{value:>11}{bound:>11}  {verdict:<4} {}",
        figure.name,
        number(figure.ours()),
        figure.unit,
    )
    .trim_end()
    .to_owned()
}

/// As many decimals as people read.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        small if small < 10.0 => 3,
        middle if middle < 1_000.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_its_rounds_and_not_the_ratio_of_medians() {
        let mut figure = Figure::new("x", "a second", Bound::AtLeast(2.0));
        for (ours, reference) in [(10.0, 5.0), (4.0, 1.0), (90.0, 30.0)] {
            figure.beside(ours, reference);
        }
        assert_eq!((figure.value(), figure.ours()), (3.0, 10.0));
        assert_eq!(figure.reference(), Some(5.0));
        assert!(figure.is_kept());
    }

    #[test]
    fn a_figure_that_was_never_taken_is_missed() {
        let figure = Figure::new("x", "", Bound::AtMost(1.0));
        assert!(!figure.is_kept());
        let mut report = Report::default();
        report.add([figure, Figure::of("y", "", Bound::AtMost(1.0), 1.0)]);
        assert_eq!(report.missed(), ["x"]);
        assert!(report.table().contains("MISS"));
    }
}
