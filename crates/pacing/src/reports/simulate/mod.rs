//! A budget over a week of the demand that was learned, from the coming Monday on: the plan of the
//! pacer, the controller and the calendar's limits, run several times by seed.
//!
//! Cost: about 100 ms of one core in release, whatever the demand; beside the runtime's threads, and
//! one at a time, so that admission keeps the other cores.
//!
//! A campaign runs alone: its account may leave it less. Charges per conversion count at once.

mod rules;

use std::sync::Arc;

use adspend_common::config::HumanDuration;
use adspend_common::db;
use adspend_common::identity::Caller;
use adspend_common::money::{Currency, Money};
use adspend_common::time::Day;
use tokio::sync::Semaphore;

use super::preview::{Caution, cautions};
use super::{Error, demand};
use crate::Services;
use crate::budgets::{self, Parent, Warning, Wish};
use crate::calendar::week::WeekSpent;
use crate::controller::simulate::Tokens;
use rules::Serving;

pub use rules::{RUNS, SimulatedDay, Spread};

/// Simulations that run at the same time.
const AT_ONCE: usize = 1;

/// Simulations that wait or run; who comes then is told to come back.
const MOST_WAITING: usize = 8;

/// The room that simulations have. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Simulations {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Simulations {
    fn default() -> Simulations {
        Simulations {
            running: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
        }
    }
}

/// What a budget would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    /// From Monday on; empty where demand is not known.
    pub days: Vec<SimulatedDay>,
    /// All days together.
    pub spend: Option<Spread>,
    /// What the demand of all days would cost.
    pub demand: Option<Money>,
    /// The currency of the amounts.
    pub currency: Currency,
    /// The budget's own warnings.
    pub warnings: Vec<Warning>,
    /// Those of the forecast.
    pub cautions: Vec<Caution>,
}

/// Simulates a budget of a parent that the caller sees.
///
/// # Errors
/// `Overloaded` when as many wait as may; those of trying a budget.
pub async fn simulate(
    services: &Services,
    simulations: &Simulations,
    caller: &Caller,
    parent: &Parent,
    wish: Wish,
    days: u32,
) -> Result<Simulation, Error> {
    let today = Day::of(services.clock.now());
    let monday = today.week_end();
    let tried = budgets::try_afresh(services, caller, parent, wish, monday).await?;
    let mut simulation = Simulation {
        days: Vec::new(),
        spend: None,
        demand: None,
        currency: tried.budget.currency,
        warnings: tried.budget.warnings,
        cautions: vec![Caution::DemandUnknown],
    };
    let place = Arc::clone(&simulations.waiting).try_acquire_owned();
    let _place = place.map_err(|_| Error::Overloaded)?;
    let turn = Arc::clone(&simulations.running).acquire_owned().await;
    let turn = turn.map_err(|_| Error::Overloaded)?;
    let Some(demand) = demand::load(services, tried.entity, today).await? else {
        return Ok(simulation);
    };
    let limits = tried.limits;
    let serving = serving(services);
    let work = move || {
        // Kept until the work is done, even when the caller has gone.
        let _turn = turn;
        let coming = demand.days(monday, 7);
        let planned = demand::walk(&limits, &coming, WeekSpent::default());
        let simulated = rules::simulate(&limits, &demand, &serving, &coming);
        (simulated, cautions(demand.is_fresh, &planned))
    };
    let done = tokio::task::spawn_blocking(work).await;
    let (mut simulated, cautions) = done.map_err(|_| db::Error::other("a simulation panicked"))?;
    simulated.truncate(usize::try_from(days).unwrap_or(usize::MAX));
    let (spend, offered) = rules::together(&simulated);
    simulation.days = simulated;
    simulation.spend = Some(spend);
    simulation.demand = Some(offered);
    simulation.cautions = cautions;
    Ok(simulation)
}

fn serving(services: &Services) -> Serving {
    let settings = &services.config.leases;
    let seconds = |duration: HumanDuration| duration.get().as_secs_f64();
    let tokens = Tokens {
        terms_seconds: seconds(settings.slice_ttl),
        lifetime_seconds: seconds(settings.admission_lifetime),
        grace_seconds: seconds(settings.grace),
    };
    Serving { tokens, replicas: services.replicas.count() }
}
