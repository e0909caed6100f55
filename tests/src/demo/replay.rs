//! The traffic: every recorded impression becomes an opportunity at its time, every admission a
//! charge or a cancellation a little later, each on another replica than the one before.
//!
//! One loop turns every few milliseconds. A turn gathers what has become due, sends a batch to each
//! replica, and takes in the answers that have come. A call that fails is repeated on another
//! replica: an opportunity with the same id, a charge with the same charge id, until it is
//! acknowledged or the run gives up, which fails it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use adspend_common::{
    proto::adspend::pacing::v1::PaymentModel,
    time::{Clock, Day},
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::task::JoinSet;

use super::{
    agenda::{Agenda, Due},
    book::{Charged, Reservation},
    calls::{self, Answer, Asked, Cancelled, Reported, Settled, Verdict},
    events::Event,
    fleet::Fleet,
    record::{Record, add},
    scenario::{CAMPAIGNS, Habit, habit, price_micros, report_after},
};
use crate::processes::Failure;

/// How often the loop turns.
const TURN: Duration = Duration::from_millis(15);
/// Items of one batch, far below the service's 1 000.
const BATCH: usize = 250;
/// Calls in flight; beyond it work waits in the queue and is counted as behind.
const CALLS: usize = 96;
/// Cancellations are unary, so they have a share of their own.
const CANCELS: usize = 64;
/// How often an item is tried: with the pauses, half a minute of all replicas away.
const ATTEMPTS: u32 = 120;
/// How long an item that failed waits before it is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// How long after its expiry a late charge is reported: longer than any grace.
const LATENESS: TimeDelta = TimeDelta::hours(2);
/// After the last event: how long what is under way may take.
const FINISH: Duration = Duration::from_secs(40);

struct Replay<'a> {
    clock: &'a Clock,
    speed: u32,
    fleet: &'a Arc<Fleet>,
    record: &'a Record,
    /// No late charge is planned after this moment, so that the run comes to an end.
    late_until: DateTime<Utc>,
    due: Agenda,
    again: VecDeque<(Instant, Asked)>,
    calls: JoinSet<Answer>,
    cancels: JoinSet<(Cancelled, Verdict)>,
    refused: BTreeMap<String, u64>,
}

/// Replays the events; returns when everything that they caused is acknowledged.
pub(crate) async fn replay(
    clock: &Clock,
    speed: u32,
    fleet: &Arc<Fleet>,
    record: &Record,
    events: &[Event],
) -> Result<(), Failure> {
    let Some(last) = events.last() else { return Err("no events".to_owned().into()) };
    let mut replay = Replay {
        clock,
        speed,
        fleet,
        record,
        late_until: last.at - TimeDelta::hours(12),
        due: Agenda::default(),
        again: VecDeque::new(),
        calls: JoinSet::new(),
        cancels: JoinSet::new(),
        refused: BTreeMap::new(),
    };
    let mut coming = events.iter().copied().enumerate().peekable();
    let mut turns = tokio::time::interval(TURN);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut finish_by = None;
    loop {
        turns.tick().await;
        let now = clock.now();
        let mut asked = replay.take_repeats();
        while replay.has_room(asked.len())
            && let Some((number, event)) = coming.next_if(|(_, event)| event.at <= now)
        {
            let behind = clock.real_duration((now - event.at).to_std().unwrap_or_default());
            let behind = u64::try_from(behind.as_millis()).unwrap_or(u64::MAX);
            record.counters.most_behind_ms.fetch_max(behind, Ordering::Relaxed);
            asked.push(Asked { number, event, attempts: 0 });
        }
        replay.ask(asked, now);
        replay.report(now);
        replay.take_answers()?;
        if coming.peek().is_none() {
            let by = *finish_by.get_or_insert_with(|| Instant::now() + FINISH);
            if replay.is_done() {
                break;
            }
            if Instant::now() > by {
                return Err(format!(
                    "the replay did not finish in {FINISH:?} after its last event: {} reports, {} \
                     calls and {} repeats are open",
                    replay.due.len(),
                    replay.calls.len(),
                    replay.again.len()
                )
                .into());
            }
        }
    }
    if replay.refused.is_empty() {
        Ok(())
    } else {
        Err(format!("charges were refused: {:?}", replay.refused).into())
    }
}

impl Replay<'_> {
    fn has_room(&self, gathered: usize) -> bool {
        self.calls.len() < CALLS && gathered < BATCH * self.fleet.len()
    }

    /// Reservations that only wait for their expiry hold nobody up.
    fn is_done(&self) -> bool {
        self.again.is_empty()
            && self.calls.is_empty()
            && self.cancels.is_empty()
            && self.due.only_expiries()
    }

    fn take_repeats(&mut self) -> Vec<Asked> {
        let now = Instant::now();
        let mut repeated = Vec::new();
        while self.again.front().is_some_and(|(from, _)| *from <= now) {
            repeated.extend(self.again.pop_front().map(|(_, asked)| asked));
        }
        repeated
    }

    /// Sends opportunities, one replica after the other.
    fn ask(&mut self, asked: Vec<Asked>, now: DateTime<Utc>) {
        let mut batches: BTreeMap<usize, Vec<Asked>> = BTreeMap::new();
        {
            let mut book = self.record.book();
            for asked in asked {
                if asked.attempts == 0 {
                    book.came(asked.event.log, Day::of(asked.event.at));
                    add(&self.record.counters.sent, 1);
                }
                batches.entry(self.fleet.pick()).or_default().push(asked);
            }
        }
        for (replica, batch) in batches {
            add(&self.record.counters.admit_calls, 1);
            let (member, clock) = (self.fleet.member(replica), self.clock.clone());
            self.calls.spawn(calls::admit(member, replica, batch, now, clock));
        }
    }

    /// Sends the charges and cancellations that are due.
    fn report(&mut self, now: DateTime<Utc>) {
        let mut batches: BTreeMap<usize, Vec<Reported>> = BTreeMap::new();
        let mut gathered = 0;
        while self.calls.len() < CALLS
            && self.cancels.len() < CANCELS
            && gathered < BATCH * self.fleet.len()
            && let Some(due) = self.due.next_if_due(now)
        {
            match due {
                Due::Expire(reservation) => self.record.book().gone(reservation),
                Due::Charge(mut reported) => {
                    self.count(&mut reported, now);
                    let replica = self.fleet.pick_other(reported.replica);
                    reported.replica = replica;
                    batches.entry(replica).or_default().push(reported);
                    gathered += 1;
                }
                Due::Cancel(mut cancelled) => {
                    if !cancelled.counted {
                        self.record.book().gone(cancelled.reservation);
                        cancelled.counted = true;
                    }
                    let replica = self.fleet.pick_other(cancelled.replica);
                    cancelled.replica = replica;
                    self.cancels.spawn(calls::cancel(self.fleet.member(replica), cancelled));
                }
            }
        }
        for (replica, batch) in batches {
            add(&self.record.counters.settle_calls, 1);
            self.calls.spawn(calls::settle(self.fleet.member(replica), replica, batch));
        }
    }

    /// Puts the price of a charge in the place of its reservation, before it is reported first.
    fn count(&self, reported: &mut Reported, now: DateTime<Utc>) {
        if reported.counted || reported.reservation.day.is_none() {
            return;
        }
        if reported.expired(now) {
            // We were too slow: the reservation has ended, and the charge will be a late one.
            self.record.book().gone(reported.reservation);
            reported.reservation.day = None;
        } else {
            self.record.book().charging(reported.reservation, reported.price_micros);
            reported.counted = true;
        }
    }

    fn take_answers(&mut self) -> Result<(), Failure> {
        while let Some(answer) = self.calls.try_join_next() {
            match answer.map_err(|error| format!("a call: {error}"))? {
                Answer::Admitted(batch) => {
                    for (asked, replica, decision) in batch {
                        self.decided(asked, replica, decision);
                    }
                }
                Answer::Settled(batch) => {
                    for (reported, verdict) in batch {
                        self.settled(reported, verdict)?;
                    }
                }
                Answer::Refused(why) => return Err(why.into()),
                Answer::AskAgain { replica, why, batch } => {
                    self.failed(replica);
                    for asked in batch {
                        self.ask_again(asked, &why)?;
                    }
                }
                Answer::SettleAgain { replica, why, batch } => {
                    self.failed(replica);
                    for reported in batch {
                        self.settle_again(reported, &why)?;
                    }
                }
            }
        }
        while let Some(answer) = self.cancels.try_join_next() {
            let (cancelled, verdict) = answer.map_err(|error| format!("a call: {error}"))?;
            match verdict {
                Verdict::Done => add(&self.record.counters.cancelled, 1),
                // The admission expired on the way: nothing is left to be given back.
                Verdict::Refused(reason) if reason == "TOKEN_EXPIRED" => {
                    add(&self.record.counters.left_to_expire, 1);
                }
                Verdict::Refused(reason) => {
                    *self.refused.entry(format!("cancel {reason}")).or_default() += 1;
                }
                Verdict::Again => {
                    self.failed(cancelled.replica);
                    add(&self.record.counters.repeated_items, 1);
                    // It ends by itself, so its expiry bounds the repeats.
                    let at = self.clock.now() + self.pause();
                    self.due.push(at, Due::Cancel(cancelled));
                }
            }
        }
        Ok(())
    }

    fn failed(&self, replica: usize) {
        add(&self.record.counters.failed_calls, 1);
        self.fleet.rest(replica);
    }

    /// The pause in simulated time.
    fn pause(&self) -> TimeDelta {
        TimeDelta::from_std(PAUSE * self.speed).unwrap_or(TimeDelta::zero())
    }

    fn ask_again(&mut self, mut asked: Asked, why: &str) -> Result<(), Failure> {
        asked.attempts += 1;
        if asked.attempts > ATTEMPTS {
            return Err(format!("opportunity {} was not answered: {why}", asked.number).into());
        }
        add(&self.record.counters.repeated_items, 1);
        // The first repeat goes to another replica at once.
        let wait = if asked.attempts == 1 { Duration::ZERO } else { PAUSE };
        self.again.push_back((Instant::now() + wait, asked));
        Ok(())
    }

    fn settle_again(&mut self, mut reported: Reported, why: &str) -> Result<(), Failure> {
        reported.attempts += 1;
        if reported.attempts > ATTEMPTS {
            return Err(format!("charge {} was not acknowledged: {why}", reported.charge_id).into());
        }
        add(&self.record.counters.repeated_items, 1);
        let wait = if reported.attempts == 1 { TimeDelta::zero() } else { self.pause() };
        let at = self.clock.now() + wait;
        self.due.push(at, Due::Charge(reported));
        Ok(())
    }

    /// An opportunity was answered: what is admitted will be charged or given back.
    fn decided(&mut self, asked: Asked, replica: usize, decision: calls::Decision) {
        let Asked { number, event, .. } = asked;
        let shown = Day::of(event.at);
        let Some(campaign) = CAMPAIGNS.get(event.log) else { return };
        let admission = match decision {
            calls::Decision::Denied(reason) => {
                self.record.book().denied(event.log, shown, reason);
                return;
            }
            calls::Decision::Admitted(admission) => admission,
        };
        let micros = campaign.max_price_micros;
        let reservation = Reservation { campaign: event.log, day: admission.day, micros };
        self.record.book().admitted(reservation, shown);
        let charged = event.click || campaign.payment == PaymentModel::PerImpression;
        let mut at =
            event.at.max(admission.at) + report_after(number, campaign.payment, event.click);
        if charged {
            let mut reported = Reported {
                charge_id: format!("event-{number}"),
                token: admission.token,
                expires_at: admission.expires_at,
                reservation,
                price_micros: price_micros(number, micros),
                counted: false,
                replica,
                attempts: 0,
            };
            if habit(number) == Habit::Late && at < self.late_until {
                at = reported.expires_at + LATENESS;
                self.due.push(reported.expires_at, Due::Expire(reservation));
                // Its reservation ends without it.
                reported.reservation.day = None;
            }
            self.due.push(at, Due::Charge(reported));
        } else if habit(number) == Habit::Forgetful || at >= admission.expires_at {
            add(&self.record.counters.left_to_expire, 1);
            self.due.push(admission.expires_at, Due::Expire(reservation));
        } else {
            let cancelled = Cancelled {
                request_id: format!("cancel-{number}"),
                token: admission.token,
                reservation,
                counted: false,
                replica,
            };
            self.due.push(at, Due::Cancel(cancelled));
        }
    }

    fn settled(&mut self, reported: Reported, verdict: Settled) -> Result<(), Failure> {
        match verdict {
            Settled::Done { day, late, replayed } => {
                if replayed {
                    add(&self.record.counters.replayed_charges, 1);
                }
                self.record.book().charged(Charged {
                    campaign: reported.reservation.campaign,
                    day,
                    price_micros: reported.price_micros,
                    late,
                    counted: reported.counted,
                });
                Ok(())
            }
            Settled::Refused { reason, retriable } if retriable => {
                self.settle_again(reported, &reason)
            }
            Settled::Refused { reason, .. } => {
                *self.refused.entry(reason).or_default() += 1;
                Ok(())
            }
        }
    }
}
