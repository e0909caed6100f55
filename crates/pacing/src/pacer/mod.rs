//! The pacer: sets the rate of every campaign, from what all replicas have seen.
//!
//! Every five seconds of the clock, and at once when a budget changes or a campaign with a limit is
//! asked for the first time, each replica says what it has seen of its campaigns and reads the
//! totals back, in one statement ([`store::exchange`]). From the same totals every replica computes
//! the same rates (`controller`), and where another has written a rate down that is as good as its
//! own, it applies that one, so all apply the same.
//!
//! | step | cost |
//! |---|---|
//! | look at the counters of all campaigns | two cache lines a campaign |
//! | exchange | one statement: a written row for each campaign with news, read rows for the campaigns of the accounts that are asked for here |
//! | plan, when a budget or the day changed, and hourly | three reads for up to [`PLAN_BATCH`] accounts; not in the usual tick |
//! | rates | a few microseconds a campaign |
//! | readings | one statement for those that changed by a hundredth or are a minute old |
//!
//! Always true:
//! 1. Nothing here lets an admission pass a limit: a rate only refuses. H(d) is kept by `leases`.
//! 2. Without a limit at the campaign and at its account the rate is exactly 1: no coin is tossed.
//! 3. While the database is away the last rates stay; slices run out by themselves.
//! 4. Learned demand is in the database: a restart forgets nothing but the last minute.
//!
//! Choices: sums are of the Moscow day and what is counted between the last tick and midnight
//! counts for the new day. A mode alone changes the curve at once and does not begin it anew.
//!
//! Files beyond mod, rules, settings and store: `sight` is what this replica saw, `learned` the
//! forecasts, `conversions` what campaigns that pay per conversion have open, `paced` an entity under
//! control, `days` what an account has ahead, `accounts` the rates of an account, `turn` the work that
//! one replica does for all once a minute.
//!
//! Not here: the formulas (`controller`), the coin (`admission::rate`), the limits (`calendar`,
//! `leases`), reports of what is written here (`reports`).

mod accounts;
mod cause;
mod conversions;
mod days;
mod learned;
mod metrics;
mod paced;
mod rules;
mod settings;
mod sight;
mod store;
mod turn;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use adspend_common::db::{self, Pool};
use adspend_common::time::{Clock, Day};
use chrono::{DateTime, Utc};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::admission::{Admission, Entity};
use crate::budgets::{self, Limits};
use crate::calendar::week::WeekSpent;
use crate::charges::Lags;
use crate::controller::demand::Shape;
use crate::leases::Reached;

pub use cause::Cause;
pub use settings::Settings;
// For reports: the same forecasts and plans that rates are made of.
pub(crate) use learned::{of as learned_of, platform as platform_learned};
pub(crate) use paced::second_of;
pub(crate) use rules::{Outlook, mode as curve_mode, target, week_money};
pub(crate) use store::DemandRow;

use accounts::AccountState;
use metrics::Metrics;
use sight::Sights;
use store::Totals;

/// However fast the clock is, rates are set no more often (real time).
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// How long to wait after a failure (real time).
const AFTER_FAILURE: Duration = Duration::from_millis(250);

/// How many accounts are planned at once: bounds the rows of a read.
const PLAN_BATCH: usize = 200;

/// What the pacer works with.
pub struct Parts {
    /// The database.
    pub db: Pool,
    /// The time.
    pub clock: Clock,
    /// Whose rates it sets.
    pub admission: Arc<Admission>,
    /// How long charges take.
    pub lags: Lags,
    /// Which limits were reached.
    pub reached: Reached,
    /// Wakes the pacer before its time.
    pub news: Arc<Notify>,
    /// This process.
    pub replica: Uuid,
    /// How long a token lives after its admission, on average: the lifetime of admissions and
    /// half that of a slice.
    pub token_life: Duration,
    /// The section of the configuration.
    pub settings: Settings,
}

/// Sets the rates of this replica.
pub struct Pacer {
    parts: Parts,
    memory: Mutex<Memory>,
    metrics: Metrics,
}

#[derive(Default)]
struct Memory {
    sights: Sights,
    accounts: HashMap<i64, AccountState>,
    platform: Option<(Day, Shape)>,
    minute: Option<DateTime<Utc>>,
    versions: turn::Versions,
    /// When the last tick began.
    ticked_at: Option<DateTime<Utc>>,
}

impl Pacer {
    /// Knows nothing yet.
    pub fn new(parts: Parts) -> Arc<Pacer> {
        Arc::new(Pacer { parts, memory: Mutex::default(), metrics: Metrics::new() })
    }

    /// A budget changed here: set the rates now and not with the next tick.
    pub fn hurry(&self) {
        self.parts.news.notify_one();
    }

    /// Runs until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let clock = &self.parts.clock;
        loop {
            let mut pause = self.parts.settings.tick.get().max(clock.passes_in(SHORTEST_PAUSE));
            if let Err(error) = self.turn_once().await {
                tracing::warn!(%error, "rates could not be set and stay as they are");
                self.metrics.failed();
                pause = clock.passes_in(AFTER_FAILURE);
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.parts.news.notified() => tokio::time::sleep(SHORTEST_PAUSE).await,
                () = clock.sleep(pause) => {}
            }
        }
        // What was seen since the last tick is not lost with the process.
        if let Err(error) = self.tick_once().await {
            tracing::warn!(%error, "the last demand of this replica could not be reported");
        }
    }

    /// A tick, and the work of a minute when one is over.
    pub async fn turn_once(&self) -> Result<(), db::Error> {
        self.tick_once().await?;
        self.minute_once().await
    }

    /// One tick: says what was seen, reads the totals, sets the rates.
    pub async fn tick_once(&self) -> Result<(), db::Error> {
        let began = tokio::time::Instant::now();
        let mut memory = self.memory.lock().await;
        let memory = &mut *memory;
        let Parts { db, clock, admission, lags, replica, token_life, settings, .. } = &self.parts;
        let now = clock.now();
        self.metrics.lateness(memory.ticked_at.replace(now), now, settings.tick.get());
        memory.sights.look(&admission.entities(), lags.collect(), *token_life, now);
        let ours = memory.sights.active(now, settings.tick.get());
        let mut account_nos: Vec<i64> = ours.iter().map(|sight| sight.entity.account_no).collect();
        account_nos.sort_unstable();
        account_nos.dedup();
        if account_nos.is_empty() {
            return self.note_reached(now).await;
        }
        let rows = store::exchange(&db.get().await?, *replica, now, &account_nos, &ours).await?;
        let said: Vec<(i64, i64)> =
            ours.iter().map(|sight| (sight.entity.account_no, sight.entity.campaign_no)).collect();
        memory.sights.reported(&said);
        let mut by_account: BTreeMap<i64, Vec<Totals>> = BTreeMap::new();
        for row in rows {
            by_account.entry(row.entity.account_no.0).or_default().push(row);
        }
        let mut bases = self.plan(memory, &by_account, now).await?;
        let mut readings = Vec::new();
        for (account_no, rows) in &by_account {
            match memory.accounts.get_mut(account_no) {
                Some(account) => {
                    let sights = &memory.sights;
                    account.set_rates(rows, sights, now, settings.throttle, &mut readings);
                    bases.append(&mut account.bases);
                }
                None => accounts::release(admission, rows, &mut readings),
            }
        }
        self.metrics.ticked(&admission.entities(), began.elapsed());
        let client = db.get().await?;
        if !bases.is_empty() {
            store::rebase(&client, now, &bases).await?;
            turn::end_suspensions(&client, now, &bases).await?;
        }
        if !readings.is_empty() {
            store::write(&client, now, &readings).await?;
        }
        drop(client);
        self.note_reached(now).await
    }

    /// Plans the accounts that are new here, whose budgets changed, or whose plan is old.
    async fn plan(
        &self,
        memory: &mut Memory,
        by_account: &BTreeMap<i64, Vec<Totals>>,
        now: DateTime<Utc>,
    ) -> Result<Vec<(budgets::Entity, store::BaseRow)>, db::Error> {
        let mut due = Vec::new();
        for (account_no, rows) in by_account {
            if !rows.iter().any(|row| row.is_limited) {
                memory.accounts.remove(account_no);
            } else if memory
                .accounts
                .get(account_no)
                .is_none_or(|account| account.is_old(rows, now))
            {
                due.push(*account_no);
            }
        }
        let mut bases = Vec::new();
        for batch in due.chunks(PLAN_BATCH) {
            let plans = self.load(memory, by_account, batch, now).await?;
            for plan in plans {
                let rows = by_account.get(&plan.account_no).map(Vec::as_slice).unwrap_or_default();
                let account_no = plan.account_no;
                let old = memory.accounts.remove(&account_no);
                let account = AccountState::planned(old, plan, rows, now, &mut bases);
                if let Some(account) = account {
                    memory.accounts.insert(account_no, account);
                }
            }
        }
        Ok(bases)
    }

    async fn load(
        &self,
        memory: &mut Memory,
        by_account: &BTreeMap<i64, Vec<Totals>>,
        account_nos: &[i64],
        now: DateTime<Utc>,
    ) -> Result<Vec<accounts::Plan>, db::Error> {
        let day = Day::of(now);
        let rows = || account_nos.iter().filter_map(|no| by_account.get(no)).flatten();
        let entities: Vec<budgets::Entity> = rows().map(|row| row.entity).collect();
        let kappas: HashMap<(i64, i64), f64> = rows()
            .filter(|row| row.entity.level == 1)
            .map(|row| ((row.entity.account_no.0, row.entity.entity_no), row.kappa))
            .collect();
        let mut client = self.parts.db.get().await?;
        let snapshot = client.snapshot().await?;
        let mut fresh_platform = false;
        let known = memory.platform.take().filter(|(of, _)| *of == day);
        let platform = match known {
            Some((_, shape)) => shape,
            None => {
                let platform = learned::platform(&snapshot, day).await?;
                fresh_platform = platform.fresh;
                platform.forecast.shape()
            }
        };
        let limits = budgets::states_for(&snapshot, &entities, day).await?;
        let weeks = budgets::weeks_for(&snapshot, &entities, day).await?;
        let mut learned = learned::load(&snapshot, account_nos, day, &platform, &kappas).await?;
        let whose = conversions::Whose::Accounts(account_nos);
        let mut conversions: HashMap<(i64, i64), _> = conversions::load(&snapshot, whose, now)
            .await?
            .into_iter()
            .map(|conversions| (conversions.key(), conversions))
            .collect();
        // In its first week today teaches, too: it is asked for again with each plan.
        memory.platform = (!fresh_platform).then_some((day, platform));
        snapshot.rollback().await?;
        let mut budgets: HashMap<budgets::Entity, (Limits, WeekSpent)> =
            entities.iter().copied().zip(limits.into_iter().zip(weeks)).collect();
        let plans = account_nos.iter().map(|account_no| {
            let of_account = |entity: &budgets::Entity| entity.account_no.0 == *account_no;
            accounts::Plan {
                account_no: *account_no,
                budgets: budgets.extract_if(|entity, _| of_account(entity)).collect(),
                learned: learned.remove(account_no).unwrap_or_default(),
                conversions: conversions
                    .extract_if(|(of, _), _| of == account_no)
                    .map(|((_, campaign_no), conversions)| (campaign_no, conversions))
                    .collect(),
                admission: Arc::clone(&self.parts.admission),
            }
        });
        Ok(plans.collect())
    }

    /// Notes which limits were reached since the last tick.
    async fn note_reached(&self, now: DateTime<Utc>) -> Result<(), db::Error> {
        let reached = self.parts.reached.collect();
        if reached.is_empty() {
            return Ok(());
        }
        turn::begin_suspensions(&self.parts.db.get().await?, now, &reached).await
    }

    /// The work of the minute that is over, unless another replica has done it.
    async fn minute_once(&self) -> Result<(), db::Error> {
        let now = self.parts.clock.now();
        let minute = turn::minute_of(now);
        let mut memory = self.memory.lock().await;
        if memory.minute == Some(minute) {
            return Ok(());
        }
        let versions = &mut memory.versions;
        let Parts { db, admission, token_life, .. } = &self.parts;
        turn::minute(db, admission, versions, now, *token_life).await?;
        memory.minute = Some(minute);
        Ok(())
    }
}

/// The campaigns of an account as the directory knows them.
fn campaign(admission: &Admission, account_no: i64, campaign_no: i64) -> Option<Arc<Entity>> {
    admission.entity(account_no, campaign_no)
}
