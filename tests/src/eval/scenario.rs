//! The scenarios: what each changes against the calm one.

/// How an admitted opportunity becomes a charge.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Charging {
    /// At once and for certain: impressions, or clicks admitted as clicks.
    AtOnce,
    /// An impression that may be clicked later.
    Clicks { probability: f64 },
}

/// The day's limit, which is also its target.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Budget {
    /// Of what an average day of the past four weeks would have cost in full.
    Usual(f64),
    /// Of what this very day will cost in full. The limit only; no forecast knows it.
    ThisDay(f64),
    /// Of that or of its forecast, whichever is more.
    Most(f64),
}

/// What a campaign without history is thought to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prior {
    /// Nothing is known of anybody: the last resort of the production code.
    Nothing,
    /// Like the platform's whole traffic of the past weeks.
    Platform,
}

/// One scenario.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// In the summary and in file names.
    pub(crate) name: &'static str,
    /// In tables.
    pub(crate) title: &'static str,
    /// What is special, in one sentence.
    pub(crate) about: &'static str,
    pub(crate) opportunities_per_day: f64,
    pub(crate) budget: Budget,
    pub(crate) charging: Charging,
    /// The history is so many times what really was.
    pub(crate) forecast_factor: f64,
    /// Age of all figures a controller sees, in seconds.
    pub(crate) lag: f64,
    /// An hour of each day, between 10:00 and 20:00, has eight times its traffic.
    pub(crate) spike: bool,
    /// Without any history, at first.
    pub(crate) cold: Option<Prior>,
    /// Open from and to these hours.
    pub(crate) hours: Option<(u16, u16)>,
    /// At this hour the budget is multiplied.
    pub(crate) increase: Option<(u16, f64)>,
    pub(crate) days: usize,
}

impl Scenario {
    /// Below a hundred charges a day even distribution is not promised.
    pub(crate) fn is_few(&self) -> bool {
        let charged = match self.charging {
            Charging::AtOnce => 1.0,
            Charging::Clicks { probability } => probability,
        };
        let share = match self.budget {
            Budget::Usual(share) | Budget::ThisDay(share) | Budget::Most(share) => share,
        };
        self.opportunities_per_day * charged * share < 100.0
    }
}

const CALM: Scenario = Scenario {
    name: "calm",
    title: "calm",
    about: "40 000 opportunities a day, charged at once, a budget for 30 % of them",
    opportunities_per_day: 40_000.0,
    budget: Budget::Usual(0.3),
    charging: Charging::AtOnce,
    forecast_factor: 1.0,
    lag: 0.0,
    spike: false,
    cold: None,
    hours: None,
    increase: None,
    days: 7,
};

/// All of them, in the order of the report.
pub(crate) fn all() -> Vec<Scenario> {
    vec![
        CALM,
        Scenario {
            name: "300_charges",
            title: "300 charges",
            about: "1 000 opportunities a day, a budget of 300 charges",
            opportunities_per_day: 1_000.0,
            ..CALM
        },
        Scenario {
            name: "30_clicks",
            title: "30 clicks",
            about: "100 clicks a day asked for one by one, a budget of 30",
            opportunities_per_day: 100.0,
            ..CALM
        },
        Scenario {
            name: "late_feedback",
            title: "feedback 15 min late",
            about: "all figures that a controller sees are 15 minutes old",
            lag: 900.0,
            ..CALM
        },
        Scenario {
            name: "forecast_half",
            title: "forecast × 0.5",
            about: "the history shows half of the real traffic",
            forecast_factor: 0.5,
            ..CALM
        },
        Scenario {
            name: "forecast_double",
            title: "forecast × 2",
            about: "the history shows twice the real traffic",
            forecast_factor: 2.0,
            ..CALM
        },
        Scenario {
            name: "spike",
            title: "one hour × 8",
            about: "one hour of each day has eight times its traffic",
            spike: true,
            ..CALM
        },
        Scenario {
            name: "cold_start",
            title: "cold start",
            about: "no history, nor a platform's: two weeks from the first day on",
            cold: Some(Prior::Nothing),
            days: 14,
            ..CALM
        },
        Scenario {
            name: "cold_start_platform",
            title: "cold, known platform",
            about: "no history of its own; the shape of the platform's traffic is known",
            cold: Some(Prior::Platform),
            days: 14,
            ..CALM
        },
        Scenario {
            name: "all_traffic",
            title: "money for all",
            about: "a limit of 1.05 times what the day is forecast to cost and will cost in full",
            budget: Budget::Most(1.05),
            ..CALM
        },
        Scenario {
            name: "quieter_than_forecast",
            title: "money for all, unforeseen",
            about: "a limit of 1.05 times what the day will cost; where more was forecast, nobody knows \
                    that it is enough",
            budget: Budget::ThisDay(1.05),
            ..CALM
        },
        Scenario {
            name: "late_clicks",
            title: "late clicks",
            about: "impressions, 2.5 % are clicked: after a minute (median), 3 % of these after 20 to \
                    40; a budget of 500 clicks of 1 000",
            budget: Budget::Usual(0.5),
            charging: Charging::Clicks { probability: 0.025 },
            ..CALM
        },
        Scenario {
            name: "few_late_clicks",
            title: "30 late clicks",
            about: "as late clicks, with a budget of 30 clicks of 100 on 10 000 impressions",
            opportunities_per_day: 10_000.0,
            charging: Charging::Clicks { probability: 0.01 },
            ..CALM
        },
        Scenario {
            name: "increase",
            title: "budget + 50 % at 12:00",
            about: "the day's budget grows by half at noon",
            increase: Some((12, 1.5)),
            ..CALM
        },
        Scenario {
            name: "dayparting",
            title: "09:00 to 18:00 only",
            about: "a schedule of nine hours; the budget is 15 % of a whole day",
            budget: Budget::Usual(0.15),
            hours: Some((9, 18)),
            ..CALM
        },
    ]
}

/// The one that all others change.
pub(crate) fn calm() -> Scenario {
    CALM
}

/// One by its name.
#[cfg(test)]
pub(crate) fn named(name: &str) -> Scenario {
    all().into_iter().find(|scenario| scenario.name == name).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().into_iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
    }
}
