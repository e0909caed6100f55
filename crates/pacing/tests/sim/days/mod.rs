//! Whole days of paced campaigns: replicas with skewed traffic over one database, a clock that the
//! test moves, charges at once. The pacer, the leases and the charges are the service's own.

mod clicks;
mod conversions;
mod tests;
mod week;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use adspend_common::config::HumanDuration;
use adspend_common::db::Client;
use adspend_common::devpg::TestDatabase;
use adspend_common::id;
use adspend_common::identity::Caller;
use adspend_common::money::Money;
use adspend_common::time::{Clock, Day, ManualClock};
use adspend_pacing::MIGRATIONS;
use adspend_pacing::admission::feed::Feed;
use adspend_pacing::admission::{Admission, Asked, Decision, Moment, Opportunity, Token, Viewer};
use adspend_pacing::charges::{self, ChargeId, Charges, NewCharge, NewTarget};
use adspend_pacing::leases::{self, Leases};
use adspend_pacing::pacer::{self, Pacer};
use adspend_pacing::replicas::Count;
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::task::TaskTracker;

use crate::billing::{Bank, Link};
use crate::world::{UNIT, insert_budget};

/// A Wednesday.
const DAY: &str = "2025-06-11";
/// The campaigns serve from 10 to 12 o'clock.
const OPENS_MINUTE: i16 = 600;
const CLOSES_MINUTE: i16 = 720;
/// How far the clock goes at once.
const STEP: u32 = 30;

struct Replica {
    admission: Arc<Admission>,
    leases: Arc<Leases>,
    pacer: Arc<Pacer>,
    /// Its part of the traffic.
    weight: f64,
}

struct Ad {
    name: String,
    campaign_no: i64,
    /// What all its opportunities of the window would cost.
    demand_micros: f64,
    price_micros: i64,
    /// What the caller says of the chance of a charge.
    chance_ppm: Option<u32>,
}

struct Days {
    database: TestDatabase,
    clock: Clock,
    hand: ManualClock,
    bank: Arc<Mutex<Bank>>,
    charges: Charges,
    writers: TaskTracker,
    replicas: Vec<Replica>,
    ads: Vec<Ad>,
    account_no: i64,
    rng: StdRng,
    next: u64,
    /// What was spent in all after each step.
    course: Vec<f64>,
    /// When the campaigns serve, in minutes of the day.
    window: (i16, i16),
    /// How far the clock goes at once, in seconds.
    pace: u32,
    /// In how many parts; the pacer has its turn after each.
    ticks: u32,
    /// How admissions become charges; none: all of them, at once.
    clicks: Option<Clicks>,
    /// Admissions that were clicked, by when their charges come.
    clicked: Vec<(DateTime<Utc>, Token)>,
}

/// Admissions that are charged when they are clicked, if they are.
#[derive(Debug, Clone, Copy)]
struct Clicks {
    /// The chance of a click.
    chance: f64,
    /// After how long it comes on average ...
    seconds: f64,
    /// ... but for this share, which comes after half an hour.
    tail: f64,
}

const TAIL: TimeDelta = TimeDelta::minutes(30);

fn settings() -> leases::Settings {
    leases::Settings {
        // Real time passes slowly here.
        slice_spend: HumanDuration::from_millis(20),
        recheck: HumanDuration::from_millis(1),
        hold_backoff: HumanDuration::from_millis(0),
        slice_ttl: HumanDuration::from_secs(2 * STEP),
        idle_after: HumanDuration::from_secs(STEP),
        campaigns: 64,
        ..leases::Settings::default()
    }
}

impl Days {
    async fn new(seed: u64, account_limit: Option<i64>) -> Days {
        Days::within((OPENS_MINUTE, CLOSES_MINUTE), seed, account_limit).await
    }

    async fn within(window: (i16, i16), seed: u64, account_limit: Option<i64>) -> Days {
        let database = TestDatabase::create(&MIGRATIONS).await;
        let day: Day = DAY.parse().unwrap();
        let (clock, hand) = Clock::manual(day.start() + TimeDelta::minutes(i64::from(window.0)));
        let bank = Bank::new(clock.clone(), seed);
        {
            let mut bank = bank.lock().unwrap();
            bank.faulty = false;
            bank.balances.insert("shop".to_owned(), 1_000_000 * UNIT);
        }
        let writers = TaskTracker::new();
        let (charges, tasks) =
            charges::start(&database.pool, &clock, &charges::Settings::default());
        tasks.into_iter().for_each(|task| drop(writers.spawn(task)));
        let client = database.pool.get().await.unwrap();
        let row = client
            .query_one(
                "INSERT INTO account (name, tenant, currency, kind, state, checked_at)
                VALUES ('shop', 'shop', 'RUB', 3, 1, $1) RETURNING account_no",
                &[&clock.now()],
            )
            .await
            .unwrap();
        let account_no = row.get(0);
        budget(&client, day, (account_no, 2, account_no), account_limit).await;
        drop(client);
        Days {
            database,
            clock,
            hand,
            bank,
            charges,
            writers,
            replicas: Vec::new(),
            ads: Vec::new(),
            account_no,
            rng: StdRng::seed_from_u64(seed),
            next: 0,
            course: Vec::new(),
            window,
            pace: STEP,
            ticks: 1,
            clicks: None,
            clicked: Vec::new(),
        }
    }

    /// A campaign whose demand and limit are whole units.
    async fn ad(&mut self, name: &str, limit: Option<i64>, demand: i64, price_micros: i64) {
        let client = self.database.pool.get().await.unwrap();
        let days: Vec<i16> = (0..7).collect();
        let row = client
            .query_one(
                "INSERT INTO campaign (account_no, name, time_zone, payment_model, created_at, changed_at,
                    weekdays, from_minutes, to_minutes, scheduled_days)
                VALUES ($1, $2, 'Europe/Moscow', 2, $3, $3, $4, $5, $6, 7) RETURNING campaign_no",
                &[
                    &self.account_no,
                    &name,
                    &self.clock.now(),
                    &days,
                    &vec![self.window.0; 7],
                    &vec![self.window.1; 7],
                ],
            )
            .await
            .unwrap();
        let campaign_no = row.get(0);
        budget(&client, Day::of(self.clock.now()), (self.account_no, 1, campaign_no), limit).await;
        let name = name.to_owned();
        self.ads.push(Ad {
            name,
            campaign_no,
            demand_micros: (demand * UNIT) as f64,
            price_micros,
            chance_ppm: None,
        });
    }

    /// Four weeks in which all demand of the platform was flat: what a campaign of which nothing is
    /// known leans on. Without them that is a typical day of the web, which rises until noon.
    async fn flat_before(&self) {
        let client = self.database.pool.get().await.unwrap();
        let sql = "INSERT INTO demand_day (account_no, level, entity_no, day, offered_micros,
                offered_count, known_seconds, total_micros, total_count)
            SELECT 0, 3, 0, $1::date - n, array_fill(1000000000::bigint, ARRAY[96]),
                array_fill(10000::bigint, ARRAY[96]), array_fill(900::real, ARRAY[96]),
                96000000000, 960000
            FROM generate_series(1, 28) AS n";
        client.execute(sql, &[&Day::of(self.clock.now())]).await.unwrap();
    }

    /// So many replicas, each with twice the traffic of the next.
    async fn start(&mut self, count: u32) {
        for index in 0..count {
            let (db, clock) = (self.database.pool.clone(), self.clock.clone());
            let admission = Arc::new(Admission::new(64, settings().admission_lifetime.get()));
            Feed::new(db.clone(), clock.clone(), Arc::clone(&admission)).catch_up().await.unwrap();
            let replica = id::new_uuid(self.clock.now());
            let leases = Leases::new(leases::Parts {
                db: db.clone(),
                clock: clock.clone(),
                billing: Link::to(&self.bank),
                admission: Arc::clone(&admission),
                replica,
                replicas: Count::of(count),
                first_rate_parts: pacer::Settings::default().first_rate_parts(),
                settings: settings(),
            });
            let pacer = Pacer::new(pacer::Parts {
                db,
                clock,
                admission: Arc::clone(&admission),
                lags: self.charges.lags(),
                reached: leases.reached(),
                news: leases.newcomers(),
                replica,
                token_life: settings().token_life(),
                settings: pacer::Settings::default(),
            });
            let weight = 0.5f64.powi(i32::try_from(index).unwrap());
            self.replicas.push(Replica { admission, leases, pacer, weight });
        }
    }

    /// Steps until then.
    async fn run_until(&mut self, until: DateTime<Utc>) {
        while self.clock.now() < until {
            self.step().await;
        }
    }

    fn closes(&self) -> DateTime<Utc> {
        Day::of(self.clock.now()).start() + TimeDelta::minutes(i64::from(self.window.1))
    }

    async fn step(&mut self) {
        let steps = f64::from(self.window.1 - self.window.0) * 60.0 / f64::from(self.pace);
        let weights: f64 = self.replicas.iter().map(|replica| replica.weight).sum();
        let mut tokens = Vec::new();
        for ad in 0..self.ads.len() {
            let Ad { name, demand_micros, price_micros, chance_ppm, .. } = &self.ads[ad];
            let chance_ppm = *chance_ppm;
            let expected = demand_micros / *price_micros as f64 / steps;
            let (name, price) = (name.clone(), *price_micros);
            let whole = expected.floor() as u64;
            let more = u64::from(self.rng.random_bool(expected.fract()));
            for _ in 0..whole + more {
                let mut at = self.rng.random_range(0.0..weights);
                let replica = self.replicas.iter().position(|replica| {
                    at -= replica.weight;
                    at < 0.0
                });
                self.next += 1;
                let id = format!("o-{}", self.next);
                let opportunity =
                    Opportunity { id: &id, campaign: &name, max_price_micros: price, chance_ppm };
                tokens.extend(self.ask(replica.unwrap_or(0), &opportunity).await);
            }
        }
        let tokens = self.charged_now(tokens);
        self.settle(tokens).await;
        for _ in 1..self.ticks {
            self.hand.advance(Duration::from_secs((self.pace / self.ticks).into()));
            for replica in &self.replicas {
                replica.pacer.turn_once().await.unwrap();
            }
        }
        self.hand.advance(Duration::from_secs((self.pace / self.ticks).into()));
        for replica in &self.replicas {
            replica.leases.exchange_once().await.unwrap();
            replica.leases.resolve_once().await.unwrap();
            replica.leases.treasure_once().await.unwrap();
            replica.leases.refill_once().await.unwrap();
        }
        for replica in &self.replicas {
            replica.pacer.turn_once().await.unwrap();
        }
        let spent = self.charged(2, self.account_no).await;
        self.course.push(spent);
    }

    /// Those that are charged in this step: new ones, or older ones whose click has come.
    fn charged_now(&mut self, tokens: Vec<Token>) -> Vec<Token> {
        let Some(Clicks { chance, seconds, tail }) = self.clicks else { return tokens };
        let now = self.clock.now();
        for token in tokens {
            if !self.rng.random_bool(chance) {
                continue;
            }
            let after = if self.rng.random_bool(tail) {
                TAIL
            } else {
                let luck: f64 = self.rng.random_range(f64::MIN_POSITIVE..1.0);
                TimeDelta::milliseconds((-luck.ln() * seconds * 1e3) as i64)
            };
            self.clicked.push((now + after, token));
        }
        let due = self.clicked.extract_if(.., |(at, _)| *at <= now);
        due.map(|(_, token)| token).collect()
    }

    async fn ask(&self, replica: usize, opportunity: &Opportunity<'_>) -> Option<Token> {
        let replica = &self.replicas[replica];
        for asked in [Asked::First, Asked::Again, Asked::Again] {
            let decision = {
                let view = replica.admission.view();
                view.admit(&Moment::of(&self.clock), Viewer::All, asked, opportunity)
            };
            match decision {
                Decision::Admitted(token) => return Some(token),
                Decision::Denied(_) => return None,
                Decision::Cold(_) => {
                    replica.leases.refill_once().await.unwrap();
                    replica.leases.treasure_once().await.unwrap();
                }
            }
        }
        None
    }

    async fn settle(&mut self, tokens: Vec<Token>) {
        for batch in tokens.chunks(500) {
            let charges = batch.iter().map(|token| NewCharge {
                id: ChargeId::new(format!("c-{}-{}", token.slice_no, token.admission_no)).unwrap(),
                target: NewTarget::Admission(*token),
                price: Money::from_micros(token.reserved_micros).unwrap(),
            });
            let verdicts = self.charges.settle(&Caller::operator(), charges.collect()).await;
            assert!(verdicts.unwrap().iter().all(Result::is_ok));
        }
    }

    /// The rate of a campaign on each replica, in parts of 2^32.
    fn rates(&self, campaign_no: i64) -> Vec<u32> {
        let rate = |replica: &Replica| {
            let entity = replica.admission.entity(self.account_no, campaign_no).unwrap();
            entity.rate.parts()
        };
        self.replicas.iter().map(rate).collect()
    }

    /// What a level has charged today, in units.
    async fn charged(&self, level: i16, entity_no: i64) -> f64 {
        self.figure(
            "SELECT coalesce(sum(charged_micros), 0)::float8 FROM headroom
            WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND day = $4",
            level,
            entity_no,
        )
        .await
    }

    /// What a level has reserved today, in units.
    async fn reserved(&self, level: i16, entity_no: i64) -> f64 {
        self.figure(
            "SELECT coalesce(sum(reserved_micros), 0)::float8 FROM headroom
            WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND day = $4",
            level,
            entity_no,
        )
        .await
    }

    async fn execute(&self, sql: &'static str, level: i16, entity_no: i64) {
        let client = self.database.pool.get().await.unwrap();
        client.execute(sql, &[&self.account_no, &level, &entity_no]).await.unwrap();
    }

    async fn figure(&self, sql: &'static str, level: i16, entity_no: i64) -> f64 {
        let today = Day::of(self.clock.now());
        let client = self.database.pool.get().await.unwrap();
        let rows =
            client.query(sql, &[&self.account_no, &level, &entity_no, &today]).await.unwrap();
        let row = rows.first().unwrap();
        row.get::<_, f64>(0) / UNIT as f64
    }

    /// The root of the mean square distance of the course from an even one, in shares of `target`.
    fn unevenness(&self, target: f64) -> f64 {
        let count = self.course.len() as f64;
        let squares = self.course.iter().enumerate().map(|(index, spent)| {
            let ideal = target * (index + 1) as f64 / count;
            ((spent - ideal) / target).powi(2)
        });
        (squares.sum::<f64>() / count).sqrt()
    }

    async fn stop(self) {
        self.charges.close();
        self.writers.close();
        self.writers.wait().await;
    }
}

/// A strict budget, set the day before.
async fn budget(client: &Client, day: Day, key: (i64, i16, i64), limit: Option<i64>) {
    let Some(limit) = limit else { return };
    insert_budget(client, key, limit * UNIT, (day.prev(), day.week_start())).await;
}
