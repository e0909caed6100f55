//! Reading slices back, reporting those that are over, resolving those of the dead.

use std::time::Duration;

use adspend_common::db;
use chrono::TimeDelta;

use super::Leases;
use super::books::{self, Report};
use super::store;
use crate::replicas::clock_time;

/// Expected slices whose time was over so long ago have nothing to take back until they are
/// extended.
const RESTED: TimeDelta = TimeDelta::seconds(30);

impl Leases {
    /// One turn: takes back what was closed and not charged, and reports slices that are over.
    pub async fn exchange_once(&self) -> Result<(), db::Error> {
        let read_at = self.clock.now();
        let rows = {
            let client = self.db.get().await?;
            store::own_slices(&client, self.replica, read_at - RESTED).await?
        };
        let mut strange = Vec::new();
        {
            let mut memory = self.memory();
            let read_at_micros = read_at.timestamp_micros();
            for (key, reading) in rows {
                if !memory.read_back(&key, &reading, read_at_micros) {
                    strange.push(key);
                }
            }
            let now_micros = self.clock.now().timestamp_micros();
            memory.review(now_micros, self.settings.idle_after.get(), self.renew_ahead());
        }
        self.report().await?;
        self.shrink().await?;
        if strange.is_empty() {
            return Ok(());
        }
        // Ours, but not in memory: the grant failed after its commit, so nobody took from it.
        // Unless it is being installed this instant, which is over once we hold the turn.
        let _granting = self.granting.lock().await;
        let lost: Vec<Report> = {
            let memory = self.memory();
            let unknown = strange.into_iter().filter(|key| !memory.knows(key));
            unknown.map(|slice| Report { slice, taken_micros: 0 }).collect()
        };
        for batch in lost.chunks(books::BATCH) {
            books::finalise(&self.db, batch).await?;
        }
        Ok(())
    }

    /// Long enough before its end that a slice in use is replaced without a gap.
    fn renew_ahead(&self) -> Duration {
        let turn = clock_time(&self.clock, self.settings.exchange_interval.get());
        let turns = (turn * 2).to_std().unwrap_or_default();
        turns.min(self.settings.slice_ttl.get() / 2)
    }

    /// Writes every last report that is due.
    pub(super) async fn report(&self) -> Result<(), db::Error> {
        loop {
            let reports = self.memory().reports(books::BATCH);
            if reports.is_empty() {
                return Ok(());
            }
            books::finalise(&self.db, &reports).await?;
            self.memory().reported(&reports);
        }
    }

    /// Gives up what expected slices need no more.
    async fn shrink(&self) -> Result<(), db::Error> {
        // Nothing is enlarged meanwhile, or the books would take the enlargement back.
        let _granting = self.granting.lock().await;
        let seconds = self.settings.slice_spend.get().as_secs_f64();
        let smaller = self.memory().shrink(seconds);
        for batch in smaller.chunks(books::BATCH) {
            books::shrink(&self.db, batch).await?;
            self.memory().shrunk(batch);
        }
        Ok(())
    }

    /// One turn: resolves every slice that is due, of any replica.
    pub async fn resolve_once(&self) -> Result<(), db::Error> {
        while books::resolve(&self.db, self.clock.now()).await? == books::BATCH {}
        Ok(())
    }

    /// The process ends in order: its slices go back now and not after their time.
    pub(super) async fn give_everything_back(&self) {
        let _granting = self.granting.lock().await;
        self.memory().close_all();
        if let Err(error) = self.report().await {
            let slices = self.slices();
            tracing::warn!(%error, slices, "slices could not be given back and wait for their time");
        }
    }
}
