//! Ours: the production controller behind the trait that the rivals share.
//!
//! Where nothing is known of the shape, it is asked for anew with every quarter hour, by what the day
//! has shown, as production plans anew every ten minutes what is new.

use adspend_pacing::controller::{
    SLOT_SECONDS,
    curve::{Mode, Profile},
    demand::{DayDemand, History},
    few::{self, Accumulator},
    rate::{Base, DayPlan, Pacer, Totals},
    shapes,
};

use super::rivals::{Controller, DayFacts, View};

/// One campaign's production pacer.
#[derive(Debug, Default)]
pub(crate) struct Adspend {
    pacer: Pacer,
    plan: Option<DayPlan>,
    few: Option<Accumulator>,
    /// Today, where its shape has to be learned.
    learning: Option<Learning>,
}

/// What a day without a known shape has shown.
#[derive(Debug, Default)]
struct Learning {
    today: DayDemand,
    offered: f64,
    until: f64,
}

impl Learning {
    /// The profile, when a quarter hour has ended.
    fn step(&mut self, plan: &DayPlan, view: &View) -> Option<Profile> {
        let seen = (view.now - view.lag).max(0.0);
        if seen < self.until + SLOT_SECONDS {
            return None;
        }
        let window = plan.profile.window();
        self.today.see(window, self.until, seen);
        self.today.offer(self.until, view.offered - self.offered, 0.0);
        (self.until, self.offered) = (seen, view.offered);
        let forecast = History::default().forecast(&shapes::likely(&self.today));
        Some(forecast.profile(plan.day.weekday0(), window))
    }
}

fn totals(plan: &DayPlan, view: &View) -> Totals {
    let seen = (view.now - view.lag).max(0.0);
    Totals {
        charged: view.charged,
        in_flight: view.in_flight,
        admitted: view.admitted,
        margin: view.margin,
        offered: view.offered,
        expected: plan.profile.until(seen),
        opportunities: view.opportunities,
        seen_seconds: plan.profile.window().open_seconds_until(seen),
        age_seconds: view.lag,
        feedback_lag_seconds: view.lag,
    }
}

impl Adspend {
    /// for few charges a count in place of a coin. Kept where it was already counting.
    fn choose(&mut self, facts: &DayFacts) {
        let is_few = few::is_few(facts.target, facts.charge);
        self.few = is_few.then(|| self.few.unwrap_or_default());
    }
}

impl Controller for Adspend {
    fn begin(&mut self, facts: &DayFacts) {
        self.choose(facts);
        self.learning = (!facts.shape_known).then(Learning::default);
        self.plan = Some(DayPlan {
            day: facts.day,
            target: facts.target,
            ceiling: facts.limit,
            profile: facts.profile.clone(),
            mode: Mode::Traffic,
            level_known: facts.level_known,
            charge: facts.charge,
            base: Base::default(),
        });
    }

    fn change(&mut self, facts: &DayFacts, view: &View) {
        self.choose(facts);
        if let Some(plan) = &mut self.plan {
            let totals = totals(plan, view);
            plan.change(view.now, facts.target, facts.limit, &totals);
        }
    }

    fn tick(&mut self, view: &View) -> f64 {
        let Some(plan) = &mut self.plan else { return 0.0 };
        if let Some(learning) = &mut self.learning
            && let Some(profile) = learning.step(plan, view)
        {
            plan.profile = profile;
        }
        self.pacer.tick(view.now, plan, &totals(plan, view)).rate
    }

    fn admits(&mut self, rate: f64, coin: f64) -> bool {
        match &mut self.few {
            Some(accumulator) => accumulator.admits(rate),
            None => coin < rate,
        }
    }
}
