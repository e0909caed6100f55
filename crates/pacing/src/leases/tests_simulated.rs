//! SimulateBudget knows in-flight money as production does: one and the same day through the slices of
//! a replica ([`Memory`], its words and pools, [`rules::cut`]; only the database between them is
//! played) and through the holds of a simulated entity, whose leave is compared at every opportunity.
//!
//! Both see the same admissions and the same charges. Then they differ in when they forget an
//! admission that nobody ended, and in nothing else: both 630 to 650 seconds after it, by when its
//! terms began (ten seconds) and the rounding of a generation's end (ten more), and the simulation up
//! to ten later where no charge comes. What ended is set off against the oldest, which makes what is
//! in flight a queue whose head moves on by ends and by age; a head that is moved by age [`APART`]
//! seconds later is behind by at most what was admitted in so long. So the two leaves are apart by no
//! more than what can be expected of [`APART`] seconds of opportunities, and roundings.

use std::time::Duration;

use adspend_common::id::{AccountId, CampaignId};
use adspend_common::time::Day;
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::grant::Form;
use super::in_flight::Granted;
use super::owner::{Memory, Question};
use super::rules::{self, Books, Cut, HoldRoom, Room, Situation, SliceState};
use super::settings::Settings;
use super::store::{Reading, SliceKey};
use crate::admission::rate::Rate;
use crate::admission::slice::Terms;
use crate::admission::{
    Admission, Asked, Decision, Facts, Moment, Opportunity, Standing, Token, Viewer, day_no,
};
use crate::calendar::schedule::{Schedule, WeeklyHours};
use crate::controller::simulate::holds::Holds;
use crate::controller::simulate::{Charging, World};

const UNIT: i64 = 1_000_000;
const TICK_SECONDS: u32 = 5;
const TICKS: u32 = 86_400 / TICK_SECONDS;
/// Opportunities of a tick.
const OFFERED: u32 = 3;
const CHANCE_PPM: u32 = 20_000;
/// Every other one costs half as much again.
const PRICES: [i64; 2] = [UNIT, UNIT * 3 / 2];
const APART: u32 = 30;
/// A micro-unit for each admission in flight, and for each bound.
const ROUNDINGS: i64 = 2_500;

/// A replica of production: its memory, and the books that a database would keep.
struct Replica {
    admission: Admission,
    memory: Memory,
    settings: Settings,
    began: Instant,
    limit: i64,
    key: SliceKey,
    books: Option<Books>,
    /// Charged with a slice behind it, and without.
    late: i64,
}

impl Replica {
    fn new(day: Day) -> Replica {
        let settings = Settings::default();
        let admission = Admission::new(8, settings.admission_lifetime.get());
        let facts = Facts {
            account_no: 1,
            campaign_no: 1,
            name: CampaignId::parse("banner").unwrap(),
            tenant: AccountId::parse("shop").unwrap(),
            standing: Standing::Active,
            pays_per_click: true,
            pays_per_conversion: false,
            schedule: Schedule {
                hours: WeeklyHours::always(),
                zone: chrono_tz::Europe::Moscow,
                start: None,
                end: None,
            },
        };
        assert_eq!(admission.apply(&[facts], day), 0);
        admission.entity(1, 1).unwrap().rate.set(Rate::ALL);
        let key = SliceKey { account_no: 1, slice_no: 1, campaign_no: 1, hold_no: 1, day };
        Replica {
            admission,
            memory: Memory::default(),
            settings,
            began: Instant::now(),
            limit: 0,
            key,
            books: None,
            late: 0,
        }
    }

    fn admit(&mut self, now: DateTime<Utc>, price: i64) -> Option<Token> {
        for asked in [Asked::First, Asked::Again] {
            let opportunity = Opportunity {
                id: "o",
                campaign: "banner",
                max_price_micros: price,
                chance_ppm: Some(CHANCE_PPM),
            };
            let moment = Moment::at(now, now.timestamp_micros());
            let decision = self.admission.view().admit(&moment, Viewer::All, asked, &opportunity);
            match decision {
                Decision::Admitted(token) => {
                    self.refill(now);
                    return Some(token);
                }
                Decision::Cold(_) => self.refill(now),
                Decision::Denied(denial) => panic!("{denial:?}"),
            }
        }
        None
    }

    /// As `refill` and `grant` do, for whoever called.
    fn refill(&mut self, now: DateTime<Utc>) {
        let mut called = self.admission.answer_calls();
        called.append(&mut self.memory.renewals);
        let since = (now - self.key.day.start()).to_std().unwrap();
        for entity in called.into_iter().take(1) {
            let spend = self.settings.slice_spend.get();
            let at = self.began + since;
            let Question::Ask { form, need, .. } =
                self.memory.question(&entity, spend, self.key.day, at)
            else {
                continue;
            };
            let (need, reading) = match form {
                Form::Extended(_, need) => (need, self.reading()),
                Form::Expected => (need, None),
                Form::Whole => panic!("most of them are never charged"),
            };
            let holds = [HoldRoom { hold_no: 1, room_micros: i64::MAX / 4 }];
            let situation = Situation {
                campaign: self.room(),
                account: Room { limit_micros: None, ..self.room() },
                holds: &holds,
                replicas: 1,
                elsewhere_until: None,
            };
            let amount_micros = match rules::cut(&need, &situation) {
                Cut::Granted { amount_micros, .. } => amount_micros,
                Cut::Refused(_) if reading.is_some() && need.least_micros <= 0 => 0,
                Cut::Refused(_) => continue,
            };
            let books = self.books.get_or_insert(Books {
                state: SliceState::Open,
                amount_micros: 0,
                charged_micros: 0,
                closed_micros: 0,
                is_expected: true,
                ended_micros: 0,
            });
            books.amount_micros += amount_micros;
            let ends = now + TimeDelta::from_std(self.settings.slice_ttl.get()).unwrap();
            let over = ends + TimeDelta::from_std(self.settings.resolve_after()).unwrap();
            let terms = Terms {
                slice_no: 1,
                amount_micros,
                day_no: day_no(self.key.day),
                expires_at_micros: ends.timestamp_micros(),
                deadline_monotonic_micros: ends.timestamp_micros(),
                low_water_micros: 0,
                largest_micros: 0,
            };
            let granted = Granted {
                key: self.key,
                terms: &terms,
                form,
                extended: reading,
                now_micros: now.timestamp_micros(),
                forget_at_micros: over.timestamp_micros(),
            };
            self.memory.open(&entity, &granted);
        }
    }

    fn reading(&self) -> Option<Reading> {
        self.books.map(|books| Reading {
            amount_micros: books.amount_micros,
            charged_micros: books.charged_micros,
            closed_micros: books.closed_micros,
            ended_micros: books.ended_micros,
        })
    }

    fn charged(&self) -> i64 {
        self.late + self.books.map_or(0, |books| books.charged_micros)
    }

    fn room(&self) -> Room {
        Room {
            limit_micros: Some(self.limit),
            by_week: false,
            charged_micros: self.charged(),
            reserved_micros: self.books.map_or(0, |books| books.reserved_micros()),
            late_micros: 0,
            due_micros: 0,
        }
    }

    fn settle(&mut self, now: DateTime<Utc>, token: &Token) {
        match &mut self.books {
            Some(books) if now.timestamp_micros() < token.expires_at_micros => {
                books.charged_micros += token.reserved_micros;
                books.closed_micros += token.reserved_micros;
                books.ended_micros += token.expected_micros;
            }
            Some(_) | None => self.late += token.reserved_micros,
        }
    }

    /// As `exchange` does.
    fn exchange(&mut self, now: DateTime<Utc>) {
        let (idle, ahead) = (self.settings.idle_after.get(), Duration::from_secs(2));
        self.memory.review(now.timestamp_micros(), idle, ahead);
        if let Some(reading) = self.reading() {
            assert!(self.memory.read_back(&self.key, &reading, now.timestamp_micros()));
        }
        let told = self.memory.shrink(self.settings.slice_spend.get().as_secs_f64());
        for (_, amount_micros) in &told {
            self.books =
                self.books.map(|books| books.shrink(*amount_micros).map_or(books, |of| of.0));
        }
        self.memory.shrunk(&told);
        self.refill(now);
    }

    /// How much more expectation the limit bears, granted or not.
    fn leave(&self) -> Option<i64> {
        let owned = self.memory.owned.get(&(1, 1))?;
        let pool = owned.pool.as_ref()?;
        let left = if owned.rests { 0 } else { owned.entity.left().unwrap_or(0) };
        let room = (self.limit - self.charged()) as f64;
        let borne = crate::controller::inflight::most_expected(room, &pool.prices());
        Some(borne as i64 - pool.live_micros(left))
    }
}

/// When the charge of an admission comes, in seconds: after a minute on average or after half an
/// hour; never so near to the end of its token that it would be in time by one and late by another.
fn delay(random: &mut StdRng) -> Option<f64> {
    if !random.random_bool(f64::from(CHANCE_PPM) * 1e-6) {
        return None;
    }
    if random.random_bool(0.03) {
        return Some(1_800.0);
    }
    Some((-(1.0 - random.random::<f64>()).ln() * 60.0).min(560.0))
}

/// The limit rises by six or seven units each half hour and there is demand for three times as many,
/// so that it binds for most of the day.
#[test]
fn a_day_leaves_a_simulation_as_much_as_the_slices_of_production() {
    let day: Day = "2025-06-11".parse().unwrap();
    let world = World {
        opportunities: Vec::new(),
        price: (PRICES[0] + PRICES[1]) as f64 / 2.0,
        price_spread: 0.2,
        charging: Charging::clicks(f64::from(CHANCE_PPM) * 1e-6),
        feedback_lag_seconds: 0.0,
        replicas: 1,
        seed: 0,
    };
    let mut random = StdRng::seed_from_u64(5);
    let mut replica = Replica::new(day);
    let mut holds = Holds::new(&world, 0.0);
    let mut coming: Vec<(u32, Token)> = Vec::new();
    let mut charged = 0.0;
    let stake = |price: i64| price * i64::from(CHANCE_PPM) / UNIT;
    let apart = i64::from((APART / TICK_SECONDS + 1) * OFFERED) * stake(PRICES[1]) + ROUNDINGS;
    let (mut admitted, mut denied, mut farthest) = (0, 0, 0);
    for tick in 0..TICKS {
        let now = day.start() + TimeDelta::seconds(i64::from(tick * TICK_SECONDS));
        let limit = 20 * UNIT + i64::from(tick * TICK_SECONDS / 1_800) * 25 * UNIT / 4;
        replica.limit = limit;
        for (_, token) in coming.extract_if(.., |(at, _)| *at <= tick) {
            replica.settle(now, &token);
        }
        replica.exchange(now);
        charged += holds.advance(tick as usize, limit as f64).0;
        assert_eq!(charged as i64, replica.charged(), "both were charged the same");
        for number in 0..OFFERED {
            let price = PRICES[((tick + number) % 2) as usize];
            let simulated = holds.leave(charged as i64, limit);
            let leave = replica.leave();
            let got = replica.admit(now, price);
            let fits = holds.fits(tick as usize, charged, price as f64, limit as f64);
            if let Some(leave) = leave.filter(|_| tick > 2) {
                let between = (simulated - leave).abs();
                farthest = farthest.max(between);
                assert!(between <= apart, "{simulated} and {leave} at {now}");
                // One that only one of them has room for has next to none in the other.
                let near = (simulated - stake(price)).abs() <= apart;
                assert!(got.is_some() == fits || near, "{got:?}, {fits} at {now}");
            }
            let Some(token) = got else {
                denied += 1;
                continue;
            };
            admitted += 1;
            let after = delay(&mut random);
            holds.admit(tick as usize, price as f64, after);
            if let Some(seconds) = after {
                coming.push((tick + 1 + (seconds / f64::from(TICK_SECONDS)) as u32, token));
            }
        }
    }
    println!("{admitted} admitted, {denied} denied, at most {farthest} of {apart} apart");
    assert!(admitted > 10_000 && denied > 10_000, "the limit binds: {admitted}, {denied}");
    assert!(replica.charged() <= replica.limit, "{} charged", replica.charged());
}
