//! The treasurer: money that billing has set aside, opened ahead of need and given back after.
//!
//! A turn is a chain of small steps, each of which may fail without harm to the others:
//!
//! 1. write down what is to be asked (state 1), one question per account at a time;
//! 2. ask billing, all accounts in one call, and write its answers (2 open, 5 refused); questions
//!    of replicas that died are asked again with their own request ids;
//! 3. extend holds in use that come near their end;
//! 4. drain (3) holds that lie idle, are over, or are used up;
//! 5. release (4) drained holds whose slices are resolved and whose spend billing acknowledged.
//!
//! Any replica does this for any hold: every step's row update has the state that it expects, and
//! billing takes each repeat for what it is. In a steady state a turn comes every few seconds and
//! makes at most three calls, whatever the number of accounts and admissions.

mod store;

use std::collections::HashSet;
use std::time::Duration;

use adspend_common::db;
use adspend_common::id::{self, RequestId};
use adspend_common::rpc::Reason;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::Leases;
use super::owner::Verdict;
use crate::accounts::{self, AccountNo};
use crate::billing::{AccountState, Hold, HoldExtension, HoldState, MAX_BATCH, Refused};
use crate::replicas::clock_time;

use store::{Answered, Named, NewAsk, OpenAsk};

/// The most items of one call to billing.
const BATCH: i64 = MAX_BATCH as i64;

/// A question that old belongs to nobody any more (real).
const ORPHANED_AFTER: Duration = Duration::from_secs(10);

/// The first wait after a verdict that stops us; it doubles (real).
const FIRST_BACKOFF: Duration = Duration::from_millis(250);

/// How long refused questions are kept, by the clock.
const KEEP_REFUSED: TimeDelta = TimeDelta::days(1);

const MICROS_PER_UNIT: i64 = 1_000_000;

impl Leases {
    /// One turn of the treasurer.
    pub async fn treasure_once(&self) -> Result<(), db::Error> {
        let asked = self.write_asks().await?;
        self.ask(&asked).await?;
        self.extend().await?;
        self.drain_and_release().await
    }

    /// A usable hold lasts at least until then: a slice cut now fits into it.
    fn usable_until(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let lasts = self.settings.slice_ttl.get() + self.settings.resolve_after();
        now + TimeDelta::from_std(lasts).unwrap_or(TimeDelta::MAX)
    }

    /// Writes down what should be asked; gives the accounts that have a question of ours.
    async fn write_asks(&self) -> Result<Vec<i64>, db::Error> {
        let now = self.clock.now();
        let client = self.db.get().await?;
        let provisions = {
            let settings = &self.settings;
            let floor = i64::from(settings.hold_floor_units).saturating_mul(MICROS_PER_UNIT);
            let horizon = settings.hold_horizon.get();
            self.memory().provisions(horizon, floor, self.replicas.count(), Instant::now())
        };
        if provisions.is_empty() {
            return Ok(Vec::new());
        }
        let numbers: Vec<i64> = provisions.keys().copied().collect();
        let rooms = store::rooms(&client, &numbers, self.usable_until(now)).await?;
        let real_now = Instant::now();
        let mut asks = Vec::new();
        let mut urgent = false;
        {
            let mut memory = self.memory();
            for (account_no, provision) in provisions {
                let room = rooms.get(&account_no).copied().unwrap_or_default();
                let purse = memory.purses.entry(account_no).or_default();
                purse.room_micros = room.most_micros;
                let starved = !purse.starved.is_empty() && !purse.is_served_by(room.most_micros);
                if purse.ask_again_at.is_some_and(|at| real_now < at) {
                    continue;
                }
                urgent |= starved || room.all_micros < provision.below_micros;
                let enough_micros =
                    if starved { purse.least_micros.max(1) } else { provision.join_micros };
                if starved || room.all_micros < provision.join_micros {
                    asks.push(NewAsk {
                        account_no,
                        request_id: request_id(now),
                        asked_micros: provision.ask_micros,
                        least_micros: provision.least_micros,
                        enough_micros,
                    });
                }
            }
        }
        // Those that only join do not ask alone.
        if !urgent {
            asks.clear();
        }
        asks.truncate(MAX_BATCH);
        if !asks.is_empty() {
            let ttl = i32::try_from(self.settings.hold_ttl.get().as_secs()).unwrap_or(i32::MAX);
            store::write_asks(&client, &asks, ttl, now, self.usable_until(now)).await?;
        }
        self.wake_provided(&asks);
        Ok(asks.into_iter().map(|ask| ask.account_no).collect())
    }

    /// Another replica's hold may have come: whoever starved at an account that needs no question
    /// asks for a slice again.
    fn wake_provided(&self, asks: &[NewAsk]) {
        let asking: HashSet<i64> = asks.iter().map(|ask| ask.account_no).collect();
        let mut memory = self.memory();
        let mut woken = Vec::new();
        for (account_no, purse) in &mut memory.purses {
            let served = purse.is_served_by(purse.room_micros);
            if served && !purse.starved.is_empty() && !asking.contains(account_no) {
                purse.verdict = Verdict::Fine;
                purse.ask_again_at = None;
                woken.append(&mut purse.starved);
            }
        }
        for entity in &woken {
            memory.forget_refusal(entity);
            self.admission.call(entity);
        }
        if !woken.is_empty() {
            self.hurry();
        }
    }

    async fn ask(&self, accounts: &[i64]) -> Result<(), db::Error> {
        let sent_at = self.clock.now();
        let orphaned = sent_at - clock_time(&self.clock, ORPHANED_AFTER);
        let open = {
            let client = self.db.get().await?;
            store::open_asks(&client, accounts, orphaned, BATCH).await?
        };
        if open.is_empty() {
            return Ok(());
        }
        let asks = open.iter().map(|open| open.ask.clone()).collect();
        let verdicts = match self.billing.open_holds(asks).await {
            Ok(verdicts) if verdicts.len() == open.len() => verdicts,
            Ok(_) | Err(_) => {
                // The questions stay written and are asked again, with the same ids.
                self.learn(open.iter().map(|open| (open, Verdict::Away)));
                return Ok(());
            }
        };
        let mut answers = Vec::with_capacity(open.len());
        let mut learnt = Vec::with_capacity(open.len());
        for (open, verdict) in open.iter().zip(verdicts) {
            let (opened, lesson) = self.judge(verdict, sent_at);
            learnt.push((open, lesson));
            let OpenAsk { account_no, hold_no, .. } = *open;
            answers.push(Answered { account_no, hold_no, opened });
        }
        let client = self.db.get().await?;
        store::write_answers(&client, &answers, self.clock.now()).await?;
        for (open, lesson) in &learnt {
            if *lesson == Verdict::Blocked {
                let account_no = AccountNo(open.account_no);
                accounts::set_state(&client, account_no, AccountState::Blocked).await?;
            }
        }
        self.learn(learnt.into_iter());
        Ok(())
    }

    /// What an answer means for the hold's row and for the account.
    fn judge(
        &self,
        verdict: Result<Hold, Refused>,
        sent_at: DateTime<Utc>,
    ) -> (Option<(String, i64, DateTime<Utc>)>, Verdict) {
        match verdict {
            // A repeat may tell of a hold that is over by now: it is as if it had been refused,
            // but there may be money for another.
            Ok(hold) if hold.state == HoldState::Open && hold.opened_micros > 0 => {
                // By our clock or by billing's, whichever is earlier.
                let ours =
                    sent_at + TimeDelta::from_std(self.settings.hold_ttl.get()).unwrap_or_default();
                (Some((hold.name, hold.opened_micros, hold.expires_at.min(ours))), Verdict::Fine)
            }
            Ok(_) => (None, Verdict::Fine),
            Err(refused) if is(&refused, Reason::InsufficientFunds) => (None, Verdict::NoFunds),
            Err(refused)
                if is(&refused, Reason::AccountBlocked) || is(&refused, Reason::AccountUnknown) =>
            {
                (None, Verdict::Blocked)
            }
            Err(refused) => {
                tracing::warn!(
                    reason = refused.reason,
                    message = refused.message,
                    "billing refused a hold"
                );
                (None, Verdict::NoFunds)
            }
        }
    }

    /// Remembers verdicts and lets everybody who waits for them ask again.
    fn learn<'a>(&self, learnt: impl Iterator<Item = (&'a OpenAsk, Verdict)>) {
        let now = Instant::now();
        let mut memory = self.memory();
        let mut woken = Vec::new();
        for (open, verdict) in learnt {
            let purse = memory.purses.entry(open.account_no).or_default();
            purse.verdict = verdict;
            if verdict == Verdict::Fine {
                purse.backoff = Duration::ZERO;
                purse.ask_again_at = None;
            } else {
                let longest = self.settings.hold_backoff.get();
                purse.backoff = (purse.backoff * 2).clamp(FIRST_BACKOFF.min(longest), longest);
                purse.ask_again_at = Some(now + purse.backoff);
            }
            woken.append(&mut purse.starved);
        }
        // With money they get a slice, without it a refusal; both need a grant.
        for entity in &woken {
            memory.forget_delay(entity);
            self.admission.call(entity);
        }
        drop(memory);
        if !woken.is_empty() {
            self.hurry();
        }
    }

    async fn extend(&self) -> Result<(), db::Error> {
        let now = self.clock.now();
        let ttl = self.settings.hold_ttl.get();
        let half = TimeDelta::from_std(ttl / 2).unwrap_or_default();
        let until = (now + half).max(self.usable_until(now));
        let idle = TimeDelta::from_std(self.settings.hold_idle.get()).unwrap_or_default();
        let client = self.db.get().await?;
        let due = store::to_extend(&client, now, until, now - idle, BATCH).await?;
        if due.is_empty() {
            return Ok(());
        }
        let asked = due.iter().map(|hold| HoldExtension { hold: hold.name.clone(), ttl }).collect();
        drop(client);
        let Ok(verdicts) = self.billing.extend_holds(asked).await else { return Ok(()) };
        let ours = now + TimeDelta::from_std(ttl).unwrap_or_default();
        let (mut extended, mut over) = (Vec::new(), Vec::new());
        for (hold, verdict) in due.into_iter().zip(verdicts) {
            match verdict {
                Ok(answer) if answer.state == HoldState::Open => {
                    extended.push((hold, answer.expires_at.min(ours)));
                }
                Ok(_) => over.push(hold),
                Err(refused) => {
                    tracing::warn!(
                        reason = refused.reason,
                        hold = hold.name,
                        "a hold was not extended"
                    );
                    over.push(hold);
                }
            }
        }
        let client = self.db.get().await?;
        store::extend(&client, &extended).await?;
        store::drain_named(&client, &over).await
    }

    async fn drain_and_release(&self) -> Result<(), db::Error> {
        let now = self.clock.now();
        let idle = TimeDelta::from_std(self.settings.hold_idle.get()).unwrap_or_default();
        let prices: Vec<(i64, i64)> = {
            let memory = self.memory();
            let known = memory.purses.iter().filter(|(_, purse)| purse.price_micros > 0);
            known.map(|(no, purse)| (*no, purse.price_micros)).collect()
        };
        let due = {
            let client = self.db.get().await?;
            store::drain(&client, now - idle, now, &prices).await?;
            store::forget_refused(&client, now - KEEP_REFUSED).await?;
            store::to_release(&client, BATCH).await?
        };
        if due.is_empty() {
            return Ok(());
        }
        let names = due.iter().map(|hold| hold.name.clone()).collect();
        let Ok(verdicts) = self.billing.release_holds(names).await else { return Ok(()) };
        // A hold that is over already is closed as well.
        let closed: Vec<Named> = due
            .into_iter()
            .zip(verdicts)
            .filter(|(_, verdict)| match verdict {
                Ok(_) => true,
                Err(refused) => is(refused, Reason::HoldExpired) || is(refused, Reason::HoldClosed),
            })
            .map(|(hold, _)| hold)
            .collect();
        store::close(&self.db.get().await?, &closed).await
    }
}

fn request_id(now: DateTime<Utc>) -> RequestId {
    RequestId::parse(&id::new_uuid(now).to_string()).expect("a UUID is a request id")
}

/// Whether a refusal has this reason of the catalogue.
fn is(refused: &Refused, reason: Reason) -> bool {
    reason.as_str_name().strip_prefix("REASON_") == Some(refused.reason.as_str())
}
