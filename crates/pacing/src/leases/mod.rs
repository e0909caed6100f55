//! Leases: how limits and money come to the replicas, and go back.
//!
//! A replica holds a *slice* of each campaign that is asked for: an amount that was reserved at
//! once in the campaign's headroom, the account's headroom and a hold, until a deadline and within
//! one Moscow day. `admission` takes from it without asking anybody. A campaign whose admissions are
//! mostly not charged has an *expected* slice ([`crate::controller::pool`]): it is taken from by expected charges, lasts
//! as long as there is demand, and keeps a margin. Four loops keep this going:
//!
//! | loop | when | what |
//! |---|---|---|
//! | refill | an entity calls, each tick | one transaction cuts or extends slices for all that called ([`grant`]) |
//! | exchange | about a second | reads back what closed and was not charged; reports slices that are over; makes expected ones smaller |
//! | sweep | about a second | resolves slices that nobody reported, of any replica |
//! | treasurer | about five seconds, at once when an account has nothing | opens, extends and releases holds at billing ([`holds`]) |
//!
//! Always true:
//! 1. Reserved plus charged of a level never passes H(d) by a grant, for rows are locked, read and
//!    written in one transaction, and what is reserved counts as spent (I-5). Reserved is the amount of
//!    slices; in an expected one it stands for expectation and margin, S + μ + x ≤ H (pacing.md,
//!    section 5), and not for whole prices.
//! 2. Money of a slice returns only by its owner's report or when its last token and the
//!    grace have passed (G5); a slice that nobody remembers stays reserved until then.
//! 3. A slice's own deadline is counted by the monotonic clock from before it was asked for, less
//!    a thousandth, so a wall clock that jumps prolongs nothing (G4).
//! 4. A hold outlives every token of every slice cut from it.
//! 5. Charges of an expected slice may come to more than its amount, about once in a thousand times;
//!    what is beyond it counts as late in headroom and hold, and leaves the less to be granted.
//! 6. From nine tenths of a limit on, what came late in this hour of four weeks is not granted.
//! 7. What conversions are expected to cost today is not granted either.
//! 8. Billing is never called inside a transaction; the row of a question is written first, so a
//!    crash at any point asks again with the same request id and holds nothing twice.
//!
//! Files beyond mod, rules and store: `grant` and `books` are the two transactions, `due` what
//! conversions need, `owner` is the memory and `in_flight` that of expected slices, `refill` and
//! `exchange` the loops over it, `holds` the treasurer; `reached` collects limits that are used up, for
//! the pacer.
//!
//! Not here: charges (they move reserved to charged under the same locks), the admission rate
//! (`pacer`).

mod books;
mod due;
mod exchange;
mod grant;
mod holds;
mod in_flight;
mod owner;
mod reached;
mod refill;
mod rules;
#[cfg(test)]
mod rules_tests;
mod settings;
mod store;
#[cfg(test)]
mod tests_simulated;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adspend_common::db::Pool;
use adspend_common::time::Clock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::accounts::AccountNo;
use crate::admission::Admission;
use crate::billing::Billing;
use crate::budgets;
use crate::calendar::policy::Level;
use crate::replicas;

pub use reached::{Reached, Stopped};
pub use settings::Settings;

use owner::Memory;

/// How long to wait after a failure, so that a database that is away is not asked in a circle.
const AFTER_FAILURE: Duration = Duration::from_millis(250);

/// What leases work with.
pub struct Parts {
    /// The database.
    pub db: Pool,
    /// The time.
    pub clock: Clock,
    /// The service that owns the money.
    pub billing: Arc<dyn Billing>,
    /// Where slices are taken from.
    pub admission: Arc<Admission>,
    /// This process; never used again by another.
    pub replica: Uuid,
    /// How many processes serve.
    pub replicas: replicas::Count,
    /// The rate of a campaign with a limit until the pacer has set it, in parts of 2^32.
    pub first_rate_parts: u32,
    /// The section of the configuration.
    pub settings: Settings,
}

/// The leases of this replica.
pub struct Leases {
    db: Pool,
    clock: Clock,
    billing: Arc<dyn Billing>,
    admission: Arc<Admission>,
    replica: Uuid,
    replicas: replicas::Count,
    first_rate_parts: u32,
    settings: Settings,
    memory: Mutex<Memory>,
    /// One grant at a time; whoever holds it knows that none is between its commit and our memory.
    granting: tokio::sync::Mutex<()>,
    hunger: Notify,
    need_of_money: Notify,
    reached: Reached,
    newcomers: Arc<Notify>,
}

impl Leases {
    /// No slices yet.
    pub fn new(parts: Parts) -> Arc<Leases> {
        let Parts { db, clock, billing, admission, replica, replicas, first_rate_parts, settings } =
            parts;
        Arc::new(Leases {
            db,
            clock,
            billing,
            admission,
            replica,
            replicas,
            first_rate_parts,
            settings,
            memory: Mutex::default(),
            granting: tokio::sync::Mutex::default(),
            hunger: Notify::new(),
            need_of_money: Notify::new(),
            reached: Reached::default(),
            newcomers: Arc::default(),
        })
    }

    /// Somebody waits for a slice: do not wait for the tick.
    pub fn hurry(&self) {
        self.hunger.notify_one();
    }

    /// The limits that this replica finds reached.
    pub fn reached(&self) -> Reached {
        self.reached.clone()
    }

    /// Wakes when a campaign with a limit is asked for that has no rate yet.
    pub fn newcomers(&self) -> Arc<Notify> {
        Arc::clone(&self.newcomers)
    }

    /// How long a caller may wait for a cold entity.
    pub fn cold_wait(&self) -> Duration {
        self.settings.cold_wait.get()
    }

    /// How many slices this replica has open or still has to report.
    pub fn slices(&self) -> usize {
        self.memory().len()
    }

    /// A budget changed: what was refused under the old one is asked for anew.
    pub fn budget_changed(&self, entity: budgets::Entity) {
        match entity.level() {
            Level::Account => self.account_changed(entity.account_no),
            Level::Campaign => {
                let found = self.admission.entity(entity.account_no.0, entity.entity_no);
                if let Some(found) = found {
                    self.memory().forget_refusal(&found);
                }
            }
        }
    }

    /// An account changed at billing: it was unblocked, or money came.
    pub fn account_changed(&self, account_no: AccountNo) {
        let mut memory = self.memory();
        if let Some(purse) = memory.purses.get_mut(&account_no.0) {
            purse.verdict = owner::Verdict::Fine;
            purse.ask_again_at = None;
        }
        for entity in self.admission.entities_of(account_no.0) {
            memory.forget_refusal(&entity);
        }
    }

    /// Runs all loops until `stop`, then gives every slice back.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::join!(
            self.refill_loop(&stop),
            self.exchange_loop(&stop),
            self.sweep_loop(&stop),
            self.treasurer_loop(&stop),
        );
        self.give_everything_back().await;
    }

    async fn refill_loop(&self, stop: &CancellationToken) {
        loop {
            let pause = match self.refill_once().await {
                Ok(()) => self.settings.tick.get(),
                Err(error) => {
                    tracing::warn!(%error, "slices could not be fetched");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.hunger.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn exchange_loop(&self, stop: &CancellationToken) {
        while pause(stop, self.settings.exchange_interval.get()).await {
            if let Err(error) = self.exchange_once().await {
                tracing::warn!(%error, "slices could not be read back and reported");
            }
        }
    }

    async fn sweep_loop(&self, stop: &CancellationToken) {
        while pause(stop, self.settings.sweep_interval.get()).await {
            if let Err(error) = self.resolve_once().await {
                tracing::warn!(%error, "due slices could not be resolved");
            }
        }
    }

    async fn treasurer_loop(&self, stop: &CancellationToken) {
        loop {
            let pause = match self.treasure_once().await {
                Ok(()) => self.settings.hold_interval.get(),
                Err(error) => {
                    tracing::warn!(%error, "holds could not be looked after");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.need_of_money.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits; false when it is time to stop.
async fn pause(stop: &CancellationToken, time: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}
