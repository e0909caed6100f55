//! Fetching slices for the entities that called.

use std::collections::HashSet;
use std::sync::Arc;

use adspend_common::db;
use adspend_common::time::Day;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::Leases;
use super::grant::{self, Answer, Answers, Ask, Form, Frame, Stop};
use super::in_flight::Granted;
use super::owner::{Memory, Question, Verdict, micros};
use super::reached::Stopped;
use super::rules::Bound;
use super::store::SliceKey;
use crate::admission::slice::Terms;
use crate::admission::{Entity, Level, Reason, Refusal, day_no};
use crate::replicas::clock_time;

/// How many campaigns one transaction serves: bounds its locks and its time.
const BATCH: usize = 500;

/// How much longer than a recheck a refusal stands: rechecks renew it while anybody asks.
const REFUSAL_STANDS_FOR: i32 = 4;

impl Leases {
    /// One turn: asks once for every entity that called since the last.
    pub async fn refill_once(&self) -> Result<(), db::Error> {
        let _granting = self.granting.lock().await;
        let mut called = self.admission.answer_calls();
        let asks = {
            let mut memory = self.memory();
            called.append(&mut memory.renewals);
            let mut seen = HashSet::new();
            called.retain(|entity| seen.insert(entity.seat));
            let (spend, now) = (self.settings.slice_spend.get(), Instant::now());
            let day = Day::of(self.clock.now());
            let mut asks = Vec::with_capacity(called.len());
            for entity in called {
                if let Question::Ask { form, need, least_price_micros } =
                    memory.question(&entity, spend, day, now)
                {
                    asks.push(Ask { entity, form, need, least_price_micros });
                }
            }
            asks
        };
        for batch in asks.chunks(BATCH) {
            self.fetch(batch).await?;
        }
        Ok(())
    }

    async fn fetch(&self, asks: &[Ask]) -> Result<(), db::Error> {
        let First { again, useless } = self.ask_and_install(asks, Pass::First).await?;
        if !again.is_empty() || useless {
            // What is lacking is in our own hands, or what others lack is.
            self.report().await?;
        }
        if !again.is_empty() {
            self.ask_and_install(&again, Pass::Second).await?;
        }
        Ok(())
    }

    async fn ask_and_install(&self, asks: &[Ask], pass: Pass) -> Result<First, db::Error> {
        // Both readings come before the question: the deadline counts from here.
        let monotonic_micros = self.clock.monotonic_micros();
        let now = self.clock.now();
        let Some(frame) = self.frame(now) else { return Ok(First::default()) };
        let Answers { answers, hold_rooms } = match grant::grant(&self.db, &frame, asks).await {
            Ok(answers) => answers,
            Err(error) => {
                // Slices that were cut all the same are found by the exchange.
                for ask in asks {
                    self.admission.call(&ask.entity);
                }
                return Err(error);
            }
        };
        let mut first = First::default();
        let mut memory = self.memory();
        for (account_no, room_micros) in hold_rooms {
            memory.purses.entry(account_no).or_default().room_micros = room_micros;
            let soon = memory.spend_in(account_no, 2 * self.settings.hold_interval.get());
            if room_micros < soon {
                self.need_of_money.notify_one();
            }
        }
        for (ask, answer) in asks.iter().zip(answers) {
            let entity = &ask.entity;
            match answer {
                Answer::Granted { slice_no, hold_no, amount_micros, then, extended, limited } => {
                    // Before its first tick a budget is not to be burnt.
                    if limited && entity.rate.start(self.first_rate_parts) {
                        self.newcomers.notify_one();
                    }
                    let key = SliceKey {
                        account_no: entity.account_no,
                        slice_no,
                        campaign_no: entity.campaign_no,
                        hold_no,
                        day: frame.day,
                    };
                    let terms = terms(&frame, monotonic_micros, slice_no, amount_micros, ask);
                    let granted = Granted {
                        key,
                        terms: &terms,
                        form: ask.form,
                        extended,
                        now_micros: now.timestamp_micros(),
                        forget_at_micros: frame.resolves_at.timestamp_micros(),
                    };
                    memory.open(entity, &granted);
                    // After the slice, so that nobody is refused what has just come. While there is
                    // more in our own hands, the last word is not spoken.
                    let then = then.filter(|_| memory.unreported(entity.account_no) == 0);
                    let verdict = verdict_of(&memory, entity);
                    let least = ask.least_price_micros;
                    let refusal = then.and_then(|stop| self.refusal(&frame, &stop, verdict, least));
                    entity.refuse(refusal);
                }
                Answer::Refused(stop) => {
                    if pass == Pass::First && may_help_itself(&mut memory, ask, &stop) {
                        first.again.push(ask.clone());
                        continue;
                    }
                    first.useless |= give_up_useless(&mut memory, ask, &stop);
                    self.refuse(&mut memory, &frame, ask, &stop);
                }
            }
        }
        Ok(first)
    }

    fn refuse(&self, memory: &mut Memory, frame: &Frame, ask: &Ask, stop: &Stop) {
        let (entity, least_micros) = (&ask.entity, ask.least_price_micros);
        if let Bound::Limit { level, by_week, limit_micros, used_micros, may_come_back: false } =
            stop.bound
        {
            let whose = match level {
                Level::Campaign => ask.campaign(),
                Level::Account => ask.account(),
            };
            let stopped = Stopped { day: frame.day, by_week, limit_micros, used_micros };
            self.reached.note(whose, stopped);
        }
        let now = Instant::now();
        let verdict = verdict_of(memory, entity);
        if stop.bound == Bound::Funds {
            let purse = memory.purses.entry(entity.account_no).or_default();
            if !purse.starved.iter().any(|other| other.seat == entity.seat) {
                purse.starved.push(Arc::clone(entity));
            }
            if purse.ask_again_at.is_none_or(|at| at <= now) {
                self.need_of_money.notify_one();
            }
        }
        if let Some(refusal) = self.refusal(frame, stop, verdict, least_micros) {
            entity.refuse(Some(refusal));
            memory.put_off(entity, now + self.settings.recheck.get(), least_micros);
        }
    }

    /// What an entity is told; nothing while it is not known whether there is money.
    fn refusal(
        &self,
        frame: &Frame,
        stop: &Stop,
        verdict: Verdict,
        least_micros: i64,
    ) -> Option<Refusal> {
        let now = frame.granted_at;
        let recheck = clock_time(&self.clock, self.settings.recheck.get());
        let soon = now + clock_time(&self.clock, self.settings.exchange_interval.get());
        let (reason, level, limit_micros, used_micros, retry_at) = match stop.bound {
            Bound::Limit { level, limit_micros, used_micros, may_come_back, .. } => {
                let release = stop.next_release.unwrap_or_else(|| frame.day.end());
                let retry_at = if may_come_back { soon } else { release };
                let reason = stop.bound.reason()?;
                (reason, Some(level), limit_micros, used_micros, retry_at)
            }
            Bound::Elsewhere { until } => {
                (Reason::Overloaded, Some(Level::Campaign), 0, 0, until.min(soon))
            }
            Bound::Funds => (funds_reason(verdict)?, Some(Level::Account), 0, 0, soon),
        };
        Some(Refusal {
            reason,
            level,
            limit_micros,
            used_micros,
            day_no: day_no(frame.day),
            retry_at_micros: retry_at.timestamp_micros(),
            until_micros: (now + recheck * REFUSAL_STANDS_FOR).timestamp_micros(),
            least_micros,
        })
    }

    /// `None` in the last instant of a day: a slice would not last at all.
    pub(super) fn frame(&self, now: DateTime<Utc>) -> Option<Frame> {
        let day = Day::of(now);
        let ttl = TimeDelta::from_std(self.settings.slice_ttl.get()).ok()?;
        let expires_at = (now + ttl).min(day.end());
        if expires_at <= now {
            return None;
        }
        let resolve_after = TimeDelta::from_std(self.settings.resolve_after()).ok()?;
        Some(Frame {
            replica: self.replica,
            replicas: self.replicas.count(),
            day,
            granted_at: now,
            expires_at,
            resolves_at: expires_at + resolve_after,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    First,
    Second,
}

/// What a pass leaves to do.
#[derive(Debug, Default)]
struct First {
    /// To be asked for once more, after our own reports.
    again: Vec<Ask>,
    /// Slices were closed that others may wait for.
    useless: bool,
}

fn terms(
    frame: &Frame,
    monotonic_micros: i64,
    slice_no: i64,
    amount_micros: i64,
    ask: &Ask,
) -> Terms {
    let lasts = micros((frame.expires_at - frame.granted_at).to_std().unwrap_or_default());
    Terms {
        slice_no,
        amount_micros,
        day_no: day_no(frame.day),
        expires_at_micros: frame.expires_at.timestamp_micros(),
        // A thousandth less, for clocks that run at different speeds (G4).
        deadline_monotonic_micros: monotonic_micros.saturating_add(lasts - lasts / 1_000),
        low_water_micros: (amount_micros / 2).max(ask.need.most_micros.min(amount_micros)),
        largest_micros: 0,
    }
}

fn verdict_of(memory: &Memory, entity: &Entity) -> Verdict {
    memory.purses.get(&entity.account_no).map_or(Verdict::Fine, |purse| purse.verdict)
}

fn funds_reason(verdict: Verdict) -> Option<Reason> {
    match verdict {
        Verdict::Fine => None,
        Verdict::NoFunds => Some(Reason::NoFunds),
        Verdict::Blocked => Some(Reason::AccountBlocked),
        Verdict::Away => Some(Reason::NoFundsConfirmed),
    }
}

/// Whether what is missing is in our own hands: in the entity's slice, which does not do and is
/// then closed, or in slices that are over and still to be reported.
fn may_help_itself(memory: &mut Memory, ask: &Ask, stop: &Stop) -> bool {
    // An expected slice is not closed for the sake of another: what is left of it is no money.
    let (least, own) = match ask.form {
        Form::Whole => {
            let least = ask.need.least_micros;
            (least, ask.entity.left().filter(|left| *left < least).unwrap_or(0))
        }
        Form::Expected => (ask.need.least_micros, 0),
        Form::Extended(_, need) => (need.least_micros, 0),
    };
    let over = memory.unreported(ask.entity.account_no);
    let remaining = match stop.bound {
        Bound::Limit { limit_micros, used_micros, .. } => limit_micros.saturating_sub(used_micros),
        // How much the holds have is not known here, only that it is not enough.
        Bound::Funds => least.saturating_sub(1),
        Bound::Elsewhere { .. } => return false,
    };
    let in_hand = own.saturating_add(over);
    let helps = in_hand > 0 && remaining.max(0).saturating_add(in_hand) >= least;
    if helps && own > 0 {
        memory.close_current(&ask.entity);
    }
    helps
}

/// A slice that has too little for anybody who asks here keeps others from putting the rest
/// together: it is closed, and what it has goes back.
fn give_up_useless(memory: &mut Memory, ask: &Ask, stop: &Stop) -> bool {
    let shared = match stop.bound {
        Bound::Limit { .. } | Bound::Elsewhere { .. } => true,
        Bound::Funds => false,
    };
    // An expected slice keeps what is in flight whether it admits or not.
    let whole = ask.form == Form::Whole;
    let useless = whole && ask.entity.left().is_some_and(|left| left < ask.need.least_micros);
    if shared && useless {
        memory.close_current(&ask.entity);
    }
    shared && useless
}
