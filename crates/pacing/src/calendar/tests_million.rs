//! A million random weeks: the production rules against the naive ones, no difference allowed.
//!
//! Weeks come in chains, so that what Sunday leaves behind meets its Monday. Few distinct sums, so
//! that requests often repeat a figure; odd kopecks, so that rounding matters; late charges, so
//! that a day may have spent more than it may.

use std::thread;

use adspend_common::money::Money;
use adspend_common::time::Day;

use super::changes::{BudgetState, Event, Kind, Refusal, Request, change, replay, restart};
use super::policy::{Figure, Level, PaymentModel, Preset, Terms, Unit};
use super::tests_naive::{Ask, Sort, Sum, Verdict, Week};
use super::tests_support::{monday, noon};
use super::week::{Bound, WeekSpent, limit};

const THREADS: u64 = 2;
const CHAINS_PER_THREAD: u64 = 25_000;
const WEEKS_PER_CHAIN: u64 = 20;

/// Xorshift: small, fast, the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pick<T: Copy, const N: usize>(&mut self, from: [T; N]) -> T {
        from[usize::try_from(self.roll(N as u64)).unwrap()]
    }
}

/// How often each thing happened, so that the test cannot become empty unnoticed.
#[derive(Debug, Default)]
struct Seen {
    weeks: u64,
    bounds: [u64; 4],
    kinds: [u64; 6],
    refusals: [u64; 2],
    overspent_days: u64,
}

impl Seen {
    fn bound(&mut self, bound: Bound) {
        self.bounds[bound as usize] += 1;
    }

    fn kind(&mut self, kind: Kind) {
        self.kinds[kind as usize] += 1;
    }

    fn add(&mut self, other: &Self) {
        let pairs = self.bounds.iter_mut().zip(other.bounds);
        let pairs = pairs.chain(self.kinds.iter_mut().zip(other.kinds));
        let pairs = pairs.chain(self.refusals.iter_mut().zip(other.refusals));
        pairs.for_each(|(all, part)| *all += part);
        self.weeks += other.weeks;
        self.overspent_days += other.overspent_days;
    }
}

/// Which sums a chain deals with.
#[derive(Debug, Clone, Copy)]
enum Deals {
    Average,
    Weekly,
    Strict,
    Mixed,
}

struct Chain {
    dice: Dice,
    deals: Deals,
    scale: i64,
    terms: Terms,
    state: BudgetState,
    log: Vec<Event>,
    naive: Week,
    spent: WeekSpent,
    day: Day,
}

impl Chain {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            dice.roll(2);
        }
        let scheduled_days = dice.pick([0, 1, 2, 3, 7]);
        let payment = dice.pick([PaymentModel::PerClick, PaymentModel::PerConversion]);
        let shares = match (scheduled_days, payment) {
            (1, PaymentModel::PerClick) => (100, 100),
            (1, _) => (100, 100),
            (2, PaymentModel::PerClick) => (50, 50),
            (2, _) => (50, 100),
            (_, PaymentModel::PerClick) => (35, 35),
            (_, _) => (35, 100),
        };
        Self {
            deals: dice.pick([
                Deals::Average,
                Deals::Average,
                Deals::Average,
                Deals::Weekly,
                Deals::Strict,
                Deals::Mixed,
            ]),
            scale: dice.pick([1, 7, 30_001, 100_003, 100_000_000_007]),
            terms: Terms { scheduled_days, payment },
            state: BudgetState::new(monday()),
            log: Vec::new(),
            naive: Week { at_monday: None, accepted: Vec::new(), shares },
            spent: WeekSpent::default(),
            day: monday(),
            dice,
        }
    }

    fn any_ask(&mut self) -> Ask {
        if self.dice.roll(10) == 0 {
            return Ask::Remove;
        }
        let sort = match self.deals {
            Deals::Average => Sort::Average,
            Deals::Weekly => Sort::Weekly,
            Deals::Strict => Sort::Strict,
            Deals::Mixed => self.dice.pick([Sort::Average, Sort::Weekly]),
        };
        if sort == Sort::Weekly && self.dice.roll(5) == 0 {
            return Ask::Restart;
        }
        let kopecks = self.scale * self.dice.pick([1, 2, 3, 4, 5, 8, 13]);
        Ask::Set(Sum { sort, kopecks })
    }

    /// Both answer a request alike.
    fn ask(&mut self, index: usize, seen: &mut Seen) {
        let ask = self.any_ask();
        let now = noon(self.day);
        let least = Money::from_micros(10_000).unwrap();
        let answer = match ask {
            Ask::Set(sum) => change(&self.state, now, Request::Set(figure(sum)), least),
            Ask::Remove => change(&self.state, now, Request::Remove, least),
            Ask::Restart => restart(&self.state, now).ok_or(Refusal::NoChange),
        };
        let verdict = match answer {
            Ok(outcome) => {
                seen.kind(outcome.event.kind);
                self.state = outcome.state;
                self.log.push(outcome.event);
                Verdict::Yes
            }
            Err(Refusal::NoChange) => Verdict::NoChange,
            Err(Refusal::TooManyChanges { .. }) => Verdict::TooMany,
            Err(refusal @ (Refusal::BelowMinimum { .. } | Refusal::StepMismatch { .. })) => {
                panic!("{ask:?}: {refusal}")
            }
        };
        assert_eq!(verdict, self.naive.verdict(index, ask), "{ask:?} on {index}: {:?}", self.naive);
        match verdict {
            Verdict::Yes => self.naive.accepted.push((index, ask)),
            Verdict::NoChange => seen.refusals[0] += 1,
            Verdict::TooMany => seen.refusals[1] += 1,
        }
    }

    /// The limit is the largest sum that the naive rules permit.
    fn compare(&self, index: usize, seen: &mut Seen) -> Option<i64> {
        let (h, bound) = limit(&self.state, self.day, &self.spent, self.terms);
        let story = self.naive.story(index);
        let permits = |micros| story.permits(&self.spent, micros);
        let agreed = match h {
            None => permits(0).is_none(),
            Some(h) => (h == 0 || permits(h) == Some(true)) && permits(h + 1) == Some(false),
        };
        assert!(agreed, "H({index}) = {h:?} after {:?}: {:?}", self.spent, self.naive);
        seen.bound(bound);
        h
    }

    fn week(&mut self, seen: &mut Seen) {
        for index in 0..7 {
            self.state = self.state.roll(self.day);
            let mut h = self.compare(index, seen);
            let asks = self.dice.pick([0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 5]);
            for _ in 0..asks {
                self.ask(index, seen);
                h = self.compare(index, seen);
            }
            let h = h.unwrap_or(self.scale * 30_000);
            let spend = match self.dice.roll(8) {
                0 => 0,
                1..=4 => h,
                5 | 6 => h / 100 * i64::try_from(self.dice.roll(101)).unwrap(),
                _ => h + h / 7 + 1,
            };
            seen.overspent_days += u64::from(spend > h);
            self.spent[index] = spend;
            self.day = self.day.next();
        }
        let at_monday = self.naive.next_monday();
        self.naive = Week { at_monday, accepted: Vec::new(), shares: self.naive.shares };
        self.spent = WeekSpent::default();
        seen.weeks += 1;
    }
}

fn figure(sum: Sum) -> Figure {
    let amount = Money::from_micros(sum.kopecks * 10_000).unwrap();
    match sum.sort {
        Sort::Average => {
            Figure::new(Level::Campaign, Unit::AverageDaily, amount, Preset::YandexAvgDaily)
        }
        Sort::Weekly => Figure::new(Level::Campaign, Unit::Weekly, amount, Preset::YandexAvgDaily),
        Sort::Strict => Figure::new(Level::Campaign, Unit::AverageDaily, amount, Preset::Strict),
    }
}

fn chains(thread: u64) -> Seen {
    let mut seen = Seen::default();
    for chain in 0..CHAINS_PER_THREAD {
        let mut chain = Chain::new(thread * CHAINS_PER_THREAD + chain + 1);
        for _ in 0..WEEKS_PER_CHAIN {
            chain.week(&mut seen);
        }
        let state = chain.state.roll(chain.day);
        assert_eq!(replay(monday(), &chain.log, chain.day), state, "the log tells another story");
    }
    seen
}

#[test]
fn a_million_random_weeks_have_the_limits_of_the_naive_reading() {
    let mut all = Seen::default();
    thread::scope(|scope| {
        let parts: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || chains(thread))).collect();
        for part in parts {
            all.add(&part.join().unwrap());
        }
    });
    assert_eq!(all.weeks, 1_000_000);
    let counts = all.bounds.iter().chain(&all.kinds).chain(&all.refusals);
    assert!(counts.chain([&all.overspent_days]).all(|count| *count > 10_000), "{all:?}");
}
