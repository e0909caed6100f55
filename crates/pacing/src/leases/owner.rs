//! What a replica remembers: its slices, how fast its campaigns spend, how its accounts stand.
//! What is in flight of expected slices is in [`super::in_flight`].
//!
//! Behind one mutex that no decision touches and that is never held across an await. All opening,
//! crediting and closing of slices happens under it, so each slice has one owner at a time.

use std::collections::HashMap;
use std::sync::Arc;

use adspend_common::time::Day;
use tokio::time::{Duration, Instant};

use super::books::Report;
use super::grant::Form;
use super::rules::{self, Need, Provision};
use super::store::{Reading, SliceKey};
use crate::admission::rate::Rate;
use crate::admission::slice::Terms;
use crate::admission::{Demand, Entity, Unmet};
use crate::controller::inflight;
use crate::controller::pool::StakePool;

/// Demand is measured over at least this long: a burst is not a rate.
const SHORTEST_MEASURE: Duration = Duration::from_millis(250);

/// A campaign that nobody asked about for so long spends nothing.
const FORGET_RATE_AFTER: Duration = Duration::from_secs(15);

/// A slice of ours that is open.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) key: SliceKey,
    pub(super) entity: Arc<Entity>,
    amount_micros: i64,
    /// What was given back to it, as far as we have read.
    freed_micros: i64,
    pub(super) expires_at_micros: i64,
    /// What was left when it was last looked at, and since when nothing changed (clock).
    pub(super) seen_left: i64,
    pub(super) unused_since_micros: i64,
    /// What is in flight of it, when it is an expected one.
    pub(super) pool: Option<StakePool>,
    /// An expected one that is not admitted with: it keeps what is in flight.
    pub(super) rests: bool,
}

/// A slice of ours that is over, until its last report is written.
#[derive(Debug)]
struct Over {
    report: Report,
    /// What the report will give back.
    rest_micros: i64,
}

/// How a campaign spends.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) entity: Arc<Entity>,
    measured_at: Instant,
    demand: Demand,
    /// Of it, what was expected to be charged.
    expected: u64,
    /// What of each price was expected to be charged lately.
    pub(super) chance: f64,
    /// Micro-units a second of real time: prices, or expected charges where slices go by them.
    pub(super) rate: f64,
    /// The last prices that found too little.
    pub(super) unmet: Option<Unmet>,
    /// After a refusal of prices from the second on, not before the first.
    put_off: Option<(Instant, i64)>,
    pub(super) current: Option<i64>,
}

/// What billing last said about an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing that would stop us.
    Fine,
    /// It has no money.
    NoFunds,
    /// It is blocked or closed.
    Blocked,
    /// Billing did not answer.
    Away,
}

/// How an account stands.
#[derive(Debug)]
pub(super) struct Purse {
    pub(super) verdict: Verdict,
    /// After a verdict that stops us, not before.
    pub(super) ask_again_at: Option<Instant>,
    pub(super) backoff: Duration,
    /// What the roomiest of its usable holds had left when it was last looked at.
    pub(super) room_micros: i64,
    /// What its campaigns spend, in micro-units a second of real time.
    rate: f64,
    /// The largest price that was asked for lately.
    pub(super) price_micros: i64,
    /// The smallest that those who wait could use.
    pub(super) least_micros: i64,
    /// Campaigns that wait for a hold.
    pub(super) starved: Vec<Arc<Entity>>,
}

impl Default for Purse {
    fn default() -> Purse {
        Purse {
            verdict: Verdict::Fine,
            ask_again_at: None,
            backoff: Duration::ZERO,
            room_micros: 0,
            rate: 0.0,
            price_micros: 0,
            least_micros: 0,
            starved: Vec::new(),
        }
    }
}

impl Purse {
    /// Remembers prices: the largest fades, the smallest is that of those who wait now.
    fn asked_for(&mut self, unmet: &Unmet) {
        let faded = self.price_micros / 8 * 7;
        self.price_micros = unmet.most_micros.max(faded);
        self.least_micros = if self.starved.is_empty() {
            unmet.least_micros
        } else {
            self.least_micros.min(unmet.least_micros)
        };
    }

    /// Whether a hold with this much room serves those who wait.
    pub(super) fn is_served_by(&self, room_micros: i64) -> bool {
        room_micros >= self.least_micros.max(1)
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) owned: HashMap<(i64, i64), Owned>,
    over: HashMap<(i64, i64), Over>,
    pub(super) seats: HashMap<(i64, i64), Seat>,
    pub(super) purses: HashMap<i64, Purse>,
    pub(super) renewals: Vec<Arc<Entity>>,
}

/// Whether a question about an entity makes sense now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Ask for this.
    Ask {
        /// How it is to be met.
        form: Form,
        /// What a new slice should have.
        need: Need,
        /// The smallest price that would be of use.
        least_price_micros: i64,
    },
    /// It was refused a moment ago, or nobody wants anything.
    Wait,
}

impl Memory {
    /// What an entity that called needs.
    pub(super) fn question(
        &mut self,
        entity: &Arc<Entity>,
        slice_spend: Duration,
        day: Day,
        now: Instant,
    ) -> Question {
        let key = (entity.account_no, entity.campaign_no);
        let seat = self.seats.entry(key).or_insert_with(|| Seat::new(entity, now));
        let purse = self.purses.entry(entity.account_no).or_default();
        purse.rate += seat.measure(now);
        seat.unmet = entity.take_unmet().or(seat.unmet);
        let wanted = seat.unmet.map_or(i64::MAX, |unmet| unmet.least_micros);
        if seat.put_off.is_some_and(|(until, least)| now < until && wanted >= least) {
            return Question::Wait;
        }
        if let Some(unmet) = &seat.unmet {
            purse.asked_for(unmet);
        }
        // Only a slice that runs low: one more of the usual admissions.
        let Some(unmet) = seat.unmet.or_else(|| seat.usual()) else { return Question::Wait };
        let spend_micros = to_micros(seat.rate * slice_spend.as_secs_f64());
        let least_price_micros = unmet.least_micros;
        let in_hand = self.in_hand(key, day);
        let Some(seat) = self.seats.get(&key) else { return Question::Wait };
        let (form, need) = if in_hand.is_some() || seat.expects() {
            let need = super::in_flight::first_need(seat, &unmet, spend_micros);
            let extended =
                in_hand.map(|owned| Form::Extended(owned.key, owned.need(&unmet, spend_micros)));
            (extended.unwrap_or(Form::Expected), need)
        } else {
            let Unmet { least_micros, most_micros, .. } = unmet;
            (Form::Whole, Need { least_micros, most_micros, spend_micros })
        };
        Question::Ask { form, need, least_price_micros }
    }

    /// Opens a granted slice in its entity and closes the one before.
    pub(super) fn install(
        &mut self,
        key: SliceKey,
        entity: &Arc<Entity>,
        terms: &Terms,
        now_micros: i64,
    ) {
        let seat_key = (key.account_no, key.campaign_no);
        let Some(seat) = self.seats.get_mut(&seat_key) else { return };
        let left = entity.replace(terms);
        let old = seat.current.replace(key.slice_no);
        seat.unmet = None;
        seat.put_off = None;
        if let Some(old) = old {
            self.end((key.account_no, old), left);
        }
        let owned = Owned {
            key,
            entity: Arc::clone(entity),
            amount_micros: terms.amount_micros,
            freed_micros: 0,
            expires_at_micros: terms.expires_at_micros,
            seen_left: terms.amount_micros,
            unused_since_micros: now_micros,
            pool: None,
            rests: false,
        };
        self.owned.insert((key.account_no, key.slice_no), owned);
    }

    /// The entity was refused prices from the least on: they are not asked for again before this
    /// moment.
    pub(super) fn put_off(&mut self, entity: &Entity, until: Instant, least_micros: i64) {
        if let Some(seat) = self.seats.get_mut(&(entity.account_no, entity.campaign_no)) {
            seat.put_off = Some((until, least_micros));
        }
    }

    /// There is news: the entity may be asked for at once.
    pub(super) fn forget_delay(&mut self, entity: &Entity) {
        if let Some(seat) = self.seats.get_mut(&(entity.account_no, entity.campaign_no)) {
            seat.put_off = None;
        }
    }

    /// A refusal of the entity means nothing any more.
    pub(super) fn forget_refusal(&mut self, entity: &Entity) {
        self.forget_delay(entity);
        entity.refuse(None);
    }

    /// Takes the entity's slice out of use. Whether there was one with anything left.
    pub(super) fn close_current(&mut self, entity: &Entity) -> bool {
        let key = (entity.account_no, entity.campaign_no);
        let Some(seat) = self.seats.get_mut(&key) else { return false };
        let Some(slice_no) = seat.current else { return false };
        let left = entity.close();
        self.end((entity.account_no, slice_no), left);
        left.is_some_and(|left| left > 0)
    }

    /// A slice is not in use any more: an expected one rests, any other is over.
    pub(super) fn end(&mut self, key: (i64, i64), left: Option<i64>) {
        if self.rest(key, left) {
            return;
        }
        if let Some(owned) = self.owned.get(&key) {
            let seat = (owned.key.account_no, owned.key.campaign_no);
            if let Some(seat) = self.seats.get_mut(&seat).filter(|s| s.current == Some(key.1)) {
                seat.current = None;
            }
        }
        self.close(key, left);
    }

    fn close(&mut self, key: (i64, i64), left: Option<i64>) {
        let Some(owned) = self.owned.remove(&key) else { return };
        let rest_micros = left.unwrap_or(0);
        let whole = owned.amount_micros.saturating_add(owned.freed_micros);
        let taken_micros = whole.saturating_sub(rest_micros);
        let report = Report { slice: owned.key, taken_micros };
        self.over.insert(key, Over { report, rest_micros });
    }

    /// Takes in what was read back of a slice at a moment. False when it is none of those we know.
    pub(super) fn read_back(&mut self, key: &SliceKey, reading: &Reading, at_micros: i64) -> bool {
        let Some(owned) = self.owned.get_mut(&(key.account_no, key.slice_no)) else {
            return self.knows(key);
        };
        if owned.pool.is_some() {
            owned.read_back(reading, at_micros);
            return true;
        }
        let freed_micros = reading.closed_micros.saturating_sub(reading.charged_micros);
        let more = freed_micros.saturating_sub(owned.freed_micros);
        if more > 0 {
            owned.entity.credit(more);
            owned.freed_micros = freed_micros;
            // Given back is not unused.
            owned.seen_left = owned.seen_left.saturating_add(more);
        }
        true
    }

    pub(super) fn knows(&self, key: &SliceKey) -> bool {
        let key = (key.account_no, key.slice_no);
        self.owned.contains_key(&key) || self.over.contains_key(&key)
    }

    /// Closes what has expired or lies idle, and notes what should be renewed before it expires.
    pub(super) fn review(&mut self, now_micros: i64, idle_after: Duration, renew_ahead: Duration) {
        let idle_micros = micros(idle_after);
        let renew_micros = now_micros.saturating_add(micros(renew_ahead));
        let mut ended = Vec::new();
        for owned in self.owned.values_mut().filter(|owned| !owned.rests) {
            let left = owned.entity.left().unwrap_or(0);
            let used = left < owned.seen_left;
            if used {
                owned.unused_since_micros = now_micros;
            }
            owned.seen_left = left;
            let idle = now_micros.saturating_sub(owned.unused_since_micros) >= idle_micros;
            // Nobody can use it here, and while it is open others wait for what it might hold.
            let used_up = left == 0 && !used && owned.pool.is_none();
            if now_micros >= owned.expires_at_micros || idle || used_up {
                ended.push(Arc::clone(&owned.entity));
            } else if used && renew_micros >= owned.expires_at_micros {
                self.renewals.push(Arc::clone(&owned.entity));
            }
        }
        for entity in ended {
            self.close_current(&entity);
        }
        self.owned.retain(|_, owned| !owned.is_forgotten(now_micros));
    }

    /// Every last report that is due, at most `limit`.
    pub(super) fn reports(&self, limit: usize) -> Vec<Report> {
        self.over.values().map(|over| over.report).take(limit).collect()
    }

    /// What the slices of an account that are over, and not yet reported, will give back.
    pub(super) fn unreported(&self, account_no: i64) -> i64 {
        let of_account =
            self.over.values().filter(|over| over.report.slice.account_no == account_no);
        of_account.fold(0, |sum, over| over.rest_micros.saturating_add(sum))
    }

    /// They are written: forget the slices.
    pub(super) fn reported(&mut self, reports: &[Report]) {
        for report in reports {
            self.over.remove(&(report.slice.account_no, report.slice.slice_no));
        }
    }

    /// Closes everything: the process ends.
    pub(super) fn close_all(&mut self) {
        let entities: Vec<_> = self.seats.values().map(|seat| Arc::clone(&seat.entity)).collect();
        for entity in entities {
            self.close_current(&entity);
        }
    }

    /// What each account with spend or hunger should hold.
    pub(super) fn provisions(
        &mut self,
        horizon: Duration,
        floor_micros: i64,
        replicas: u32,
        now: Instant,
    ) -> HashMap<i64, Provision> {
        // Summed up anew, so that what rounding leaves behind does not grow.
        self.purses.values_mut().for_each(|purse| purse.rate = 0.0);
        for seat in self.seats.values_mut() {
            if now.duration_since(seat.measured_at) > FORGET_RATE_AFTER {
                seat.measure(now);
            }
            self.purses.entry(seat.entity.account_no).or_default().rate += seat.rate;
        }
        let wanting =
            self.purses.iter().filter(|(_, purse)| purse.rate > 0.0 || !purse.starved.is_empty());
        wanting
            .map(|(no, purse)| {
                let rate = purse.rate * f64::from(replicas);
                let spend = to_micros(rate * horizon.as_secs_f64());
                let prices = (purse.least_micros, purse.price_micros);
                (*no, rules::provision(spend, prices, floor_micros))
            })
            .collect()
    }

    /// What an account spends in so long, at the present rate of this replica.
    pub(super) fn spend_in(&self, account_no: i64, time: Duration) -> i64 {
        let rate = self.purses.get(&account_no).map_or(0.0, |purse| purse.rate);
        to_micros(rate * time.as_secs_f64())
    }

    /// How many slices are ours and open or not yet reported.
    pub(super) fn len(&self) -> usize {
        self.owned.len() + self.over.len()
    }
}

impl Seat {
    fn new(entity: &Arc<Entity>, now: Instant) -> Seat {
        Seat {
            entity: Arc::clone(entity),
            // As if the first call had come a second after nothing.
            measured_at: now.checked_sub(Duration::from_secs(1)).unwrap_or(now),
            demand: Demand::default(),
            expected: 0,
            chance: 1.0,
            rate: 0.0,
            unmet: None,
            put_off: None,
            current: None,
        }
    }

    /// Gives by how much the rate changed.
    fn measure(&mut self, now: Instant) -> f64 {
        let elapsed = now.duration_since(self.measured_at);
        if elapsed < SHORTEST_MEASURE {
            return 0.0;
        }
        let before = self.rate;
        let demand = self.entity.demand();
        let expected = self.entity.offer().offered_micros;
        let prices = demand.micros.wrapping_sub(self.demand.micros) as f64;
        let charges = expected.wrapping_sub(self.expected) as f64;
        if prices > 0.0 {
            self.chance = (charges / prices).clamp(0.0, 1.0);
        }
        self.expected = expected;
        let asked = if self.expects() { charges } else { prices };
        // Of what is asked for only the admitted share is spent.
        let share = f64::from(self.entity.rate.parts()) / f64::from(Rate::ALL);
        self.rate = rules::smooth(self.rate, asked * share / elapsed.as_secs_f64());
        if self.rate < 1.0 {
            self.rate = 0.0;
        }
        (self.demand, self.measured_at) = (demand, now);
        self.rate - before
    }

    /// The admission that is usual here.
    fn usual(&self) -> Option<Unmet> {
        let demand = self.entity.demand();
        let price = i64::try_from(demand.micros.checked_div(demand.count)?).ok()?;
        let expected = to_micros(price as f64 * self.chance).clamp(1, price.max(1));
        (price > 0).then_some(Unmet {
            least_micros: price,
            most_micros: price,
            least_expected_micros: expected,
            most_expected_micros: expected,
        })
    }

    /// Whether its next slice should go by what admissions are expected to cost: where most of them
    /// are charged it would keep back more than whole prices do.
    pub(super) fn expects(&self) -> bool {
        self.entity.expects() && !inflight::by_whole_prices(self.chance)
    }

    /// The price that is usual here.
    pub(super) fn usual_price(&self) -> Option<i64> {
        self.usual().map(|usual| usual.most_micros)
    }
}

/// A rate's product is an estimate: it is cut to what fits.
pub(super) fn to_micros(amount: f64) -> i64 {
    amount.clamp(0.0, 1e15) as i64
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
