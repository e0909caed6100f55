//! Work by the clock. Nothing that a caller is told depends on it: expiry and overdue are facts of time.
//!
//! | job | does |
//! |---|---|
//! | `release_holds` | gives back in the books what expired holds held |
//! | `top_up` | fires auto top-ups that are due; woken by the commit that made them due |
//! | `book_credit` | books the invoices of months that ended, liens and their return |
//! | `verify_ledger` | proves the ledger, and says when and with what result in two metrics |
//! | `anchor_clock` | sets the clock to the database's time |
//! | `chain_audit` | links new audit records into their chain |
//! | `close_months` | makes acts, VAT invoices and reconciliation acts of months that are over |
//! | `send_notices` | sends queued letters, and gives up those that are too old |
//! | `announce_promises` | tells of promises that are due soon or overdue |
//! | `warn_balances` | tells of balances that run low |
//! | `forget_answers` | deletes answers to requests that are older than they are kept |
//! | `forget_events` | deletes events that are older than they are kept |
//!
//! Every job does a bounded piece, waits, and backs off when it fails; replicas may all run all of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use adspend_common::{
    config::HumanDuration,
    db::{self, Pool},
    server::Stop,
    telemetry::Telemetry,
    time::{Anchored, Clock},
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{
    audit_records::chain::Chain,
    auto_topups,
    config::{self, Config},
    credit, documents,
    events::Feed,
    holds,
    ledger::audit,
    notices::{self, Delivery},
    promised_payments, requests,
};

/// Holds that one transaction gives back.
const HOLDS_AT_ONCE: i64 = 500;
/// Accounts whose credit one round books.
const CREDITS_AT_ONCE: i64 = 200;
/// Answers that one statement deletes.
const ANSWERS_AT_ONCE: i64 = 1_000;
/// How often old answers and events are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// The shortest wait of a job, however fast a simulated clock runs.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait of a job that keeps failing.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// A difference between the host's wall clock and ours that somebody should know of.
const WALL_DIFFERENCE_WARNING_MICROS: i64 = 1_000_000;

/// When the ledger was last proved, and whether it held.
#[derive(Debug)]
struct Verified {
    at_seconds: AtomicI64,
    /// -1 before the first time.
    differences: AtomicI64,
}

/// Parts of the service that jobs keep going.
#[derive(Clone)]
pub(crate) struct Works {
    pub(crate) feed: Feed,
    pub(crate) delivery: Delivery,
}

/// What jobs work with.
#[derive(Clone)]
pub(crate) struct Jobs {
    pool: Pool,
    clock: Clock,
    works: Works,
    settings: config::Jobs,
    executor: Option<config::Executor>,
    remind_before: HumanDuration,
    stop: Stop,
    verified: Arc<Verified>,
    chain: Arc<Chain>,
}

impl Jobs {
    /// Declares the metrics.
    pub(crate) fn new(
        pool: &Pool,
        clock: &Clock,
        works: Works,
        config: &Config,
        stop: &Stop,
        telemetry: &Telemetry,
    ) -> Jobs {
        let verified =
            Arc::new(Verified { at_seconds: AtomicI64::new(0), differences: AtomicI64::new(-1) });
        let (at, differences) = (verified.clone(), verified.clone());
        let meter = telemetry.meter();
        meter
            .i64_observable_gauge("billing.ledger.verified_at_seconds")
            .with_description("When the ledger was last proved, in seconds since 1970; 0 for never")
            .with_callback(move |gauge| gauge.observe(at.at_seconds.load(Ordering::Relaxed), &[]))
            .build();
        meter
            .i64_observable_gauge("billing.ledger.differences")
            .with_description("What differed when the ledger was last proved; -1 before that")
            .with_callback(move |gauge| {
                gauge.observe(differences.differences.load(Ordering::Relaxed), &[]);
            })
            .build();
        Jobs {
            pool: pool.clone(),
            clock: clock.clone(),
            settings: config.jobs.clone(),
            executor: config.documents.executor.clone(),
            works,
            remind_before: config.promised_payments.remind_before,
            stop: stop.clone(),
            verified,
            chain: Arc::default(),
        }
    }

    /// Starts every job that is switched on; the clock is kept only when it takes the database's time.
    pub(crate) fn start(&self, tasks: &TaskTracker, anchored: Option<Anchored>) {
        let Jobs { settings, .. } = self;
        if !settings.enabled {
            return;
        }
        let every = settings.release_holds_every.get();
        tasks.spawn(self.clone().repeat("release_holds", every, Jobs::release_holds));
        let (every, work) = (settings.top_up_every.get(), self.pool.work());
        tasks.spawn(self.clone().repeat_or("top_up", every, Some(work), Jobs::top_up));
        let every = settings.book_credit_every.get();
        tasks.spawn(self.clone().repeat("book_credit", every, Jobs::book_credit));
        if anchored.is_some() {
            let every = settings.anchor_clock_every.get();
            tasks.spawn(self.clone().repeat("anchor_clock", every, Jobs::anchor_clock));
        }
        let every = settings.chain_audit_every.get();
        tasks.spawn(self.clone().repeat("chain_audit", every, Jobs::chain_audit));
        if self.executor.is_some() {
            let every = settings.close_months_every.get();
            tasks.spawn(self.clone().repeat("close_months", every, Jobs::close_months));
        }
        let every = settings.send_notices_every.get();
        tasks.spawn(self.clone().repeat("send_notices", every, Jobs::send_notices));
        let every = settings.announce_promises_every.get();
        tasks.spawn(self.clone().repeat("announce_promises", every, Jobs::announce_promises));
        let every = settings.warn_balances_every.get();
        tasks.spawn(self.clone().repeat("warn_balances", every, Jobs::warn_balances));
        tasks.spawn(self.clone().repeat("forget_answers", FORGET_EVERY, Jobs::forget_answers));
        tasks.spawn(self.clone().repeat("forget_events", FORGET_EVERY, Jobs::forget_events));
        if let Some(every) = settings.verify_ledger_every {
            tasks.spawn(self.clone().repeat("verify_ledger", every.get(), Jobs::verify_ledger));
        }
    }

    /// Runs a job until the service stops: `every` of the clock's time, later after failures.
    async fn repeat<F, E>(self, name: &'static str, every: Duration, job: fn(Jobs) -> F)
    where
        F: Future<Output = Result<(), E>>,
        E: std::error::Error,
    {
        self.repeat_or(name, every, None, job).await;
    }

    /// The same, and at once when a commit of this process left work behind.
    async fn repeat_or<F, E>(
        self,
        name: &'static str,
        every: Duration,
        mut work: Option<watch::Receiver<()>>,
        job: fn(Jobs) -> F,
    ) where
        F: Future<Output = Result<(), E>>,
        E: std::error::Error,
    {
        let mut failures: u32 = 0;
        loop {
            let wait = self.clock.real_duration(every).max(SHORTEST_WAIT);
            let backoff = wait.saturating_mul(1 << failures.min(6)).min(LONGEST_BACKOFF.max(wait));
            let woken = async {
                match &mut work {
                    // The pool, which we hold, is what sends: an error cannot be.
                    Some(work) if failures == 0 => work.changed().await.is_ok(),
                    Some(_) | None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.stopping().cancelled() => return,
                () = tokio::time::sleep(backoff) => {}
                _ = woken => {}
            }
            match job(self.clone()).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(job = name, failures, %error, "a job failed; it is tried again");
                }
            }
        }
    }

    async fn release_holds(self) -> Result<(), db::Error> {
        let full = usize::try_from(HOLDS_AT_ONCE).unwrap_or(usize::MAX);
        while holds::expire_due(&self.pool, &self.clock, HOLDS_AT_ONCE).await? >= full {}
        Ok(())
    }

    async fn top_up(self) -> Result<(), db::Error> {
        while auto_topups::fire_due(&self.pool, self.clock.now()).await? > 0 {}
        Ok(())
    }

    async fn book_credit(self) -> Result<(), db::Error> {
        let full = usize::try_from(CREDITS_AT_ONCE).unwrap_or(usize::MAX);
        while credit::catch_up_due(&self.pool, &self.clock, CREDITS_AT_ONCE).await? >= full {}
        Ok(())
    }

    async fn verify_ledger(self) -> Result<(), db::Error> {
        let report = audit::verify(&self.pool, None, self.clock.now(), None).await?;
        let differences = i64::try_from(report.differences.len()).unwrap_or(i64::MAX);
        self.verified.at_seconds.store(report.at.timestamp(), Ordering::Relaxed);
        self.verified.differences.store(differences, Ordering::Relaxed);
        for audit::Difference { check, object, detail } in &report.differences {
            tracing::error!(check, object, detail, "the ledger does not hold");
        }
        Ok(())
    }

    async fn chain_audit(self) -> Result<(), db::Error> {
        self.chain.extend(&self.pool).await.map(|_| ())
    }

    async fn anchor_clock(self) -> Result<(), db::Error> {
        if let Some(anchored) = db::anchor(&self.pool, &self.clock).await? {
            let difference_micros = anchored.wall_difference_micros;
            if difference_micros.saturating_abs() > WALL_DIFFERENCE_WARNING_MICROS {
                tracing::warn!(difference_micros, "the host's clock is not the database's");
            }
        }
        Ok(())
    }

    async fn send_notices(self) -> Result<(), db::Error> {
        self.works.delivery.run().await
    }

    async fn announce_promises(self) -> Result<(), db::Error> {
        let before = TimeDelta::from_std(self.remind_before.get()).unwrap_or(TimeDelta::MAX);
        promised_payments::announce(&self.pool, self.clock.now(), before).await
    }

    async fn warn_balances(self) -> Result<(), db::Error> {
        notices::warn(&self.pool, self.clock.now()).await
    }

    async fn forget_events(self) -> Result<(), db::Error> {
        match self.ago(self.settings.keep_events) {
            Some(before) => self.works.feed.forget(before).await,
            None => Ok(()),
        }
    }

    /// So long before now; none for longer than there is time.
    fn ago(&self, kept: HumanDuration) -> Option<DateTime<Utc>> {
        let kept = TimeDelta::from_std(kept.get()).unwrap_or(TimeDelta::MAX);
        self.clock.now().checked_sub_signed(kept)
    }

    async fn close_months(self) -> Result<(), documents::Error> {
        let Some(executor) = &self.executor else { return Ok(()) };
        let now = self.clock.now();
        let closed = documents::close::close_due(&self.pool, now, executor).await?;
        let reconciled = documents::reconcile::make_due(&self.pool, now, executor).await?;
        if closed > 0 || reconciled > 0 {
            tracing::info!(closed, reconciled, "months of tenants were closed and reconciled");
        }
        Ok(())
    }

    async fn forget_answers(self) -> Result<(), db::Error> {
        let Some(before) = self.ago(self.settings.keep_answers) else { return Ok(()) };
        let full = u64::try_from(ANSWERS_AT_ONCE).unwrap_or(u64::MAX);
        loop {
            let client = self.pool.get().await?;
            if requests::forget(&client, before, ANSWERS_AT_ONCE).await? < full {
                return Ok(());
            }
        }
    }
}
