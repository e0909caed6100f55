//! The world of one campaign for a day: opportunities come, a controller sets the rate, charges follow.
//!
//! Every five seconds the controller looks; between looks each opportunity is admitted by its coin and
//! then by the limit, which is kept as the service keeps it: a price that is certain is admitted only
//! while it fits, and of charges that may come later the expected sum and a margin are kept free
//! (production's `inflight`). A charge after its admission has expired (ten minutes) is booked to the
//! day of the admission all the same, above the limit if need be.
//!
//! Not here: replicas, slices and their loss, for which the chaos tests are.

use std::{cmp::Reverse, collections::BinaryHeap, collections::VecDeque};

use adspend_pacing::controller::inflight::{self, Live};

use super::{
    rivals::{Controller, DAY, TICK, View},
    series::MINUTES,
    trial::{Opportunity, TrialDay},
};

/// How long an admission is valid, in seconds: the service's default.
const LIFETIME: f64 = 600.0;

/// What is held against the limit for charges that may still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopRule {
    /// Nothing: the limit is compared with what is charged.
    Charged,
    /// What they are expected to cost.
    Expected,
    /// What they cost with at most one chance in a thousand (ours).
    Margin,
}

/// What happened on a day.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Charged by the end of each minute, in micro-units.
    pub(crate) charged: Vec<i64>,
    /// The rate at the end of each minute.
    pub(crate) rate: Vec<f64>,
    /// What all traffic would have been charged by the end of each minute.
    pub(crate) demand: Vec<i64>,
    /// Charged to the day in the end, late ones included.
    pub(crate) spent: i64,
    /// Of it, charged after its admission had expired.
    pub(crate) late: i64,
    /// The last admission, when the limit refused what the rate let through after it: from here on
    /// the campaign was stopped. What is refused for being too dear, or while clicks are open, and is
    /// followed by an admission, stopped nothing.
    pub(crate) hit: Option<f64>,
    /// The last opportunity of the day.
    pub(crate) last: f64,
    pub(crate) admitted: u64,
    pub(crate) offered: u64,
    /// Stretches of ten open minutes and fifty opportunities without an admission though the limit
    /// had room for each of them.
    pub(crate) gaps: u64,
}

/// A charge that will come, by the millisecond.
type Due = Reverse<(u64, i64)>;

/// An admission that may be charged, until it expires.
#[derive(Debug, Clone, Copy)]
struct Hold {
    expires: f64,
    price: i64,
}

struct World<'a> {
    day: &'a TrialDay,
    stop: StopRule,
    limit: i64,
    charged: i64,
    late: i64,
    live: Live,
    holds: VecDeque<Hold>,
    due: BinaryHeap<Due>,
    offered: f64,
    admitted: f64,
    opportunities: f64,
}

impl World<'_> {
    /// Charges and expiries up to a moment.
    fn settle(&mut self, now: f64) {
        while let Some(Reverse((millis, price))) = self.due.peek().copied()
            && millis as f64 <= now * 1_000.0
        {
            self.due.pop();
            self.charged += price;
        }
        while let Some(hold) = self.holds.front().copied()
            && hold.expires <= now
        {
            self.holds.pop_front();
            self.release(hold.price);
        }
    }

    /// A hold ends. One that was charged ends with the charge in production; here, where few are, it
    /// stays to its expiry, which keeps a little more back.
    fn release(&mut self, price: i64) {
        let (pi, price) = (self.day.probability, price as f64);
        self.live.expected = (self.live.expected - pi * price).max(0.0);
        self.live.variance = (self.live.variance - pi * (1.0 - pi) * price * price).max(0.0);
        self.live.chances = (self.live.chances - pi).max(0.0);
        self.live.reserved = (self.live.reserved - price).max(0.0);
        if self.holds.is_empty() {
            self.live = Live::default();
        }
    }

    fn with(&self, price: i64) -> Live {
        let (pi, price) = (self.day.probability, price as f64);
        Live {
            expected: self.live.expected + pi * price,
            variance: self.live.variance + pi * (1.0 - pi) * price * price,
            largest: self.live.largest.max(price),
            chances: self.live.chances + pi,
            reserved: self.live.reserved + price,
        }
    }

    /// Whether the limit leaves room for it.
    fn fits(&self, one: &Opportunity) -> bool {
        if self.day.probability >= 1.0 {
            return self.charged + one.price <= self.limit;
        }
        let held = match self.stop {
            StopRule::Charged => 0.0,
            StopRule::Expected => self.with(one.price).expected,
            StopRule::Margin => {
                let live = self.with(one.price);
                live.expected + inflight::margin(&live)
            }
        };
        let room = self.limit - self.charged;
        room > 0 && held <= room as f64
    }

    fn admit(&mut self, one: &Opportunity) {
        self.admitted += self.day.probability * one.price as f64;
        if self.day.probability >= 1.0 {
            self.charged += one.price;
            return;
        }
        self.live = self.with(one.price);
        self.holds.push_back(Hold { expires: one.at + LIFETIME, price: one.price });
        if let Some(after) = one.charged_after {
            self.due.push(Reverse((((one.at + after) * 1_000.0) as u64, one.price)));
            if after > LIFETIME {
                self.late += one.price;
            }
        }
    }

    fn view(&self, now: f64, lag: f64) -> View {
        View {
            now,
            charged: self.charged as f64,
            in_flight: self.live.expected,
            margin: match self.stop {
                StopRule::Margin => inflight::margin(&self.live),
                StopRule::Charged | StopRule::Expected => 0.0,
            },
            offered: self.offered,
            admitted: self.admitted,
            opportunities: self.opportunities,
            lag,
        }
    }
}

/// Counts stretches of ten open minutes and fifty opportunities without an admission, each of which
/// the limit had room for. What does not fit ends a stretch: without money there is nothing to admit
/// with. A stretch lasts to the last opportunity that was let pass: after it there is nothing to admit.
#[derive(Debug, Default)]
struct Gap {
    /// Open seconds of the day when the stretch began: an admission, or a price that did not fit.
    since: f64,
    /// ... and of the last opportunity that was let pass.
    until: f64,
    passed: u64,
    found: u64,
}

impl Gap {
    /// An opportunity is let pass that the limit has room for.
    fn pass(&mut self, open: f64) {
        self.until = open;
        self.passed += 1;
    }

    /// The stretch ends, and the next begins.
    fn close(&mut self, open: f64) {
        if self.until - self.since > 600.0 && self.passed >= 50 {
            self.found += 1;
        }
        (self.since, self.until, self.passed) = (open, open, 0);
    }
}

/// Lets a controller through a day. `lag`: how old the figures are that it sees, in seconds.
pub(crate) fn live(
    controller: &mut dyn Controller,
    day: &TrialDay,
    lag: f64,
    stop: StopRule,
) -> Record {
    let mut world = World {
        day,
        stop,
        limit: day.limit,
        charged: 0,
        late: 0,
        live: Live::default(),
        holds: VecDeque::new(),
        due: BinaryHeap::new(),
        offered: 0.0,
        admitted: 0.0,
        opportunities: 0.0,
    };
    let mut record = Record {
        charged: Vec::with_capacity(MINUTES),
        rate: Vec::with_capacity(MINUTES),
        demand: demand(day),
        spent: 0,
        late: 0,
        hit: None,
        last: day.opportunities.last().map_or(0.0, |one| one.at),
        admitted: 0,
        offered: day.opportunities.len() as u64,
        gaps: 0,
    };
    controller.begin(&day.facts);
    let mut change = day.change.as_ref();
    let mut coming = day.opportunities.iter().peekable();
    let mut past: VecDeque<View> = VecDeque::new();
    let mut gap = Gap::default();
    let mut last_admission = 0.0;
    let ticks = (DAY / TICK) as usize;
    for tick in 0..ticks {
        let now = tick as f64 * TICK;
        world.settle(now);
        past.push_back(world.view(now, lag));
        while past.len() as f64 > lag / TICK + 1.0 {
            past.pop_front();
        }
        let seen = match past.front() {
            // Before anything can be known the day is empty.
            Some(first) if now >= lag => View { now, ..*first },
            Some(_) | None => View {
                now,
                charged: 0.0,
                in_flight: 0.0,
                margin: 0.0,
                offered: 0.0,
                admitted: 0.0,
                opportunities: 0.0,
                lag,
            },
        };
        if let Some(due) = change.filter(|change| now >= change.second) {
            world.limit = due.limit;
            controller.change(&due.facts, &seen);
            change = None;
        }
        let rate = controller.tick(&seen);
        while let Some(one) = coming.next_if(|one| one.at < now + TICK) {
            world.settle(one.at);
            world.offered += day.probability * one.price as f64;
            world.opportunities += 1.0;
            let open = day.facts.open_until(one.at);
            let (wanted, fits) = (controller.admits(rate, one.coin), world.fits(one));
            match (wanted, fits) {
                (false, true) => gap.pass(open),
                (_, false) => gap.close(open),
                (true, true) => {}
            }
            if !wanted {
                continue;
            }
            if !fits {
                record.hit.get_or_insert(last_admission);
                continue;
            }
            world.admit(one);
            record.hit = None;
            record.admitted += 1;
            last_admission = one.at;
            gap.close(open);
        }
        if (tick + 1) % (60.0 / TICK) as usize == 0 {
            world.settle(now + TICK);
            record.charged.push(world.charged);
            record.rate.push(rate);
        }
    }
    controller.end();
    gap.close(DAY);
    // What is still due is charged to this day.
    world.settle(2.0 * DAY);
    record.spent = world.charged;
    record.late = world.late;
    record.gaps = gap.found;
    record
}

/// What all traffic would be charged by the end of each minute.
fn demand(day: &TrialDay) -> Vec<i64> {
    let mut minutes = vec![0i64; MINUTES];
    for one in &day.opportunities {
        if let Some(after) = one.charged_after {
            let minute = (((one.at + after) / 60.0) as usize).min(MINUTES - 1);
            if let Some(slot) = minutes.get_mut(minute) {
                *slot += one.price;
            }
        }
    }
    let mut sum = 0;
    for slot in &mut minutes {
        sum += *slot;
        *slot = sum;
    }
    minutes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{
        rivals::{DailyCap, samples::even_day},
        trial::PRICE,
    };

    fn day(limit: i64, probability: f64, each: &[(f64, i64, Option<f64>)]) -> TrialDay {
        TrialDay {
            facts: even_day(),
            limit,
            opportunities: each
                .iter()
                .map(|(at, price, after)| Opportunity {
                    at: *at,
                    coin: 0.5,
                    price: *price,
                    charged_after: *after,
                })
                .collect(),
            change: None,
            probability,
        }
    }

    #[test]
    fn a_price_that_does_not_fit_is_refused_and_a_smaller_one_is_not() {
        let day = day(10, 1.0, &[(1.0, 7, Some(0.0)), (2.0, 4, Some(0.0)), (3.0, 3, Some(0.0))]);
        let record = live(&mut DailyCap, &day, 0.0, StopRule::Margin);
        assert_eq!((record.spent, record.admitted, record.hit), (10, 2, None));
    }

    #[test]
    fn refused_to_the_end_is_stopped_since_the_last_admission() {
        let day = day(10, 1.0, &[(1.0, 9, Some(0.0)), (2.0, 4, Some(0.0)), (3.0, 3, Some(0.0))]);
        let record = live(&mut DailyCap, &day, 0.0, StopRule::Margin);
        assert_eq!((record.spent, record.hit, record.last), (9, Some(1.0), 3.0));
    }

    #[test]
    fn late_charges_are_booked_and_counted() {
        let day = day(PRICE as i64, 0.5, &[(60.0, 5, Some(700.0)), (70.0, 5, None)]);
        let record = live(&mut DailyCap, &day, 0.0, StopRule::Margin);
        assert_eq!((record.spent, record.late, record.admitted), (5, 5, 2));
        assert_eq!(record.charged[11], 0);
        assert_eq!(record.charged[12], 5);
    }

    /// Trap: money that may still come is not free money.
    #[test]
    fn with_money_in_flight_the_margin_keeps_the_limit_and_charged_only_does_not() {
        let each: Vec<_> = (0..2_000)
            .map(|index| (f64::from(index), 10, (index % 4 == 0).then_some(300.0)))
            .collect();
        let day = day(1_000, 0.25, &each);
        let of = |stop| live(&mut DailyCap, &day, 0.0, stop).spent;
        assert!(of(StopRule::Charged) > 1_300, "{}", of(StopRule::Charged));
        assert!(of(StopRule::Margin) <= 1_000, "{}", of(StopRule::Margin));
    }

    /// A controller that shows what it was shown.
    #[derive(Default)]
    struct Witness(Vec<(f64, f64)>);

    impl Controller for Witness {
        fn begin(&mut self, _: &super::super::rivals::DayFacts) {}
        fn change(&mut self, _: &super::super::rivals::DayFacts, _: &View) {}
        fn tick(&mut self, view: &View) -> f64 {
            self.0.push((view.now, view.charged));
            1.0
        }
    }

    #[test]
    fn late_feedback_shows_what_was_fifteen_minutes_ago() {
        let day = day(10, 1.0, &[(1.0, 7, Some(0.0))]);
        let mut witness = Witness::default();
        live(&mut witness, &day, 900.0, StopRule::Margin);
        let first = witness.0.iter().find(|(_, charged)| *charged > 0.0).unwrap();
        assert_eq!(first.0, 905.0);
    }

    /// Admits while the clock says so, at rate 1; refuses all in between.
    struct Between(f64, f64);

    impl Controller for Between {
        fn begin(&mut self, _: &super::super::rivals::DayFacts) {}
        fn change(&mut self, _: &super::super::rivals::DayFacts, _: &View) {}
        fn tick(&mut self, view: &View) -> f64 {
            f64::from(u8::from(view.now < self.0 || view.now >= self.1))
        }
    }

    fn gaps(limit: i64, every: f64, refused: (f64, f64)) -> u64 {
        let count = (DAY / every) as u32;
        let each: Vec<_> = (0..count).map(|n| (f64::from(n) * every, 10, Some(0.0))).collect();
        let day = day(limit, 1.0, &each);
        live(&mut Between(refused.0, refused.1), &day, 0.0, StopRule::Margin).gaps
    }

    /// Ten minutes and fifty opportunities without an admission are a gap while there is money, and
    /// none when the limit leaves no room for one of them.
    #[test]
    fn a_gap_needs_money() {
        let refused = (40_000.0, 41_000.0);
        assert_eq!(gaps(i64::MAX, 10.0, refused), 1);
        // The limit is used up to nine of the ten that one costs when the gap begins.
        assert_eq!(gaps(40_009, 10.0, refused), 0);
        assert_eq!(gaps(40_019, 10.0, refused), 1);
        // Used up long before the day ends: no gap, whatever the rate says.
        assert_eq!(gaps(20_000, 10.0, (DAY, DAY)), 0);
    }

    #[test]
    fn a_gap_has_ten_minutes_and_fifty_opportunities_that_were_let_pass() {
        assert_eq!(gaps(i64::MAX, 10.0, (40_000.0, 40_580.0)), 0, "short of ten minutes");
        assert_eq!(gaps(i64::MAX, 30.0, (40_000.0, 41_400.0)), 0, "47 of them");
        assert_eq!(gaps(i64::MAX, 30.0, (40_000.0, 41_600.0)), 1, "53 of them");
        // Fifty at once, then nobody for an hour: nothing was refused for ten minutes.
        let mut each: Vec<_> = (0..60).map(|n| (f64::from(n), 10, Some(0.0))).collect();
        each.push((3_600.0, 10, Some(0.0)));
        let day = day(i64::MAX, 1.0, &each);
        assert_eq!(live(&mut Between(1.0, 3_000.0), &day, 0.0, StopRule::Margin).gaps, 0);
    }
}
