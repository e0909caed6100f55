//! A world of replicas over one database, one bank and one clock that the simulation moves.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adspend_common::config::HumanDuration;
use adspend_common::db::Client;
use adspend_common::devpg::TestDatabase;
use adspend_common::id;
use adspend_common::identity::Caller;
use adspend_common::money::Money;
use adspend_common::time::{Clock, Day, HostClock, ManualClock};
use adspend_pacing::admission::feed::Feed;
use adspend_pacing::admission::{
    Admission, Asked, Decision, Moment, Opportunity, Reason, Token, Viewer,
};
use adspend_pacing::charges::{self, ChargeId, Charges, NewCharge, NewTarget};
use adspend_pacing::leases::{self, Leases};
use adspend_pacing::replicas::Count;
use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::billing::{Bank, Link};

pub(crate) const UNIT: i64 = 1_000_000;

/// Four in five of what is settled are charged, half of their price on average, and some are never
/// settled: less than half is charged, and slices are taken from by this chance.
const LIKELY_PPM: u32 = 450_000;

/// A limit of every day: the figure of a strict budget, or none.
pub(crate) type Limit = Option<i64>;

/// What the simulation knows of a campaign.
#[derive(Debug, Clone)]
pub(crate) struct Campaign {
    pub(crate) name: String,
    pub(crate) account_no: i64,
    pub(crate) campaign_no: i64,
    pub(crate) limit: Limit,
    pub(crate) account_limit: Limit,
    pub(crate) prices: std::ops::Range<i64>,
    /// What the caller says of the chance of a charge.
    pub(crate) chance_ppm: Option<u32>,
}

/// A replica: everything here dies with it.
pub(crate) struct Replica {
    pub(crate) admission: Arc<Admission>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) link: Arc<Link>,
    /// What time it thinks it is.
    pub(crate) clock: Clock,
    pub(crate) host: HostClock,
}

/// What became of an admission, as its caller knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    Charged { price: i64, late: bool },
    Cancelled,
}

#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) token: Token,
    pub(crate) fate: Fate,
    pub(crate) charge_id: String,
}

/// A strict budget of so many micro-units a day, in force from a day on, in the segment of a Monday.
pub(crate) async fn insert_budget(
    client: &Client,
    (account_no, level, entity_no): (i64, i16, i64),
    micros: i64,
    (in_force, monday): (Day, Day),
) {
    client
        .execute(
            "INSERT INTO budget (account_no, level, entity_no, mode, in_force_preset, in_force_unit,
                in_force_micros, in_force_day, segment_day, segment_began, marks_day, changes,
                daily_high_micros, weekly_old_micros)
            VALUES ($1, $2, $3, 2, 'strict', 'AVERAGE_DAILY', $4, $5, $6, 'MONDAY', $5, 0, 0, 0)",
            &[&account_no, &level, &entity_no, &micros, &in_force, &monday],
        )
        .await
        .unwrap();
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) database: TestDatabase,
    pub(crate) clock: Clock,
    pub(crate) hand: ManualClock,
    pub(crate) bank: Arc<Mutex<Bank>>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) campaigns: Vec<Campaign>,
    pub(crate) admitted: Vec<Admitted>,
    pub(crate) denied: HashMap<Reason, u64>,
    pub(crate) cold: u64,
    pub(crate) rng: StdRng,
    pub(crate) charges: [Charges; 2],
    pub(crate) charge_settings: charges::Settings,
    /// The way that settlements take.
    pub(crate) link: Arc<Link>,
    writers: TaskTracker,
    settings: leases::Settings,
    token_lifetime: Duration,
    count: u32,
    next_opportunity: u64,
}

/// Durations short enough that everything happens many times in one run.
pub(crate) fn settings() -> leases::Settings {
    let seconds = HumanDuration::from_secs;
    leases::Settings {
        admission_lifetime: seconds(60),
        grace: seconds(5),
        slice_ttl: seconds(10),
        idle_after: seconds(3),
        recheck: HumanDuration::from_millis(1),
        hold_ttl: seconds(300),
        hold_idle: seconds(60),
        hold_backoff: HumanDuration::from_millis(0),
        campaigns: 64,
        ..leases::Settings::default()
    }
}

/// An empty database; the same one for many worlds, for to make one takes longer than a world lives.
pub(crate) async fn emptied(database: &TestDatabase) {
    let client = database.pool.get().await.unwrap();
    let tables = client
        .query(
            "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables
            WHERE schemaname = 'public' AND tablename <> 'schema_migrations'",
            &[],
        )
        .await
        .unwrap();
    let tables: String = tables[0].get(0);
    client.batch_execute(&format!("TRUNCATE {tables} RESTART IDENTITY")).await.unwrap();
}

impl World {
    /// In an empty database.
    pub(crate) async fn new(
        database: TestDatabase,
        seed: u64,
        replicas: usize,
        start: &str,
    ) -> World {
        let settings = settings();
        let lifetime = settings.admission_lifetime.get();
        World::with(database, seed, replicas, start, settings, lifetime).await
    }

    /// The same with other settings; `token_lifetime` is what the replicas' tokens live for.
    pub(crate) async fn with(
        database: TestDatabase,
        seed: u64,
        replicas: usize,
        start: &str,
        settings: leases::Settings,
        token_lifetime: Duration,
    ) -> World {
        let start: DateTime<Utc> = start.parse().unwrap();
        let (clock, hand) = Clock::manual(start);
        let bank = Bank::new(clock.clone(), seed);
        let writers = TaskTracker::new();
        let charge_settings =
            charges::Settings { claim: HumanDuration::from_secs(5), ..Default::default() };
        let charges = [(); 2].map(|()| {
            let (charges, tasks) = charges::start(&database.pool, &clock, &charge_settings);
            tasks.into_iter().for_each(|task| drop(writers.spawn(task)));
            charges
        });
        let link = Link::to(&bank);
        let mut world = World {
            seed,
            database,
            clock,
            hand,
            bank,
            replicas: Vec::new(),
            campaigns: Vec::new(),
            admitted: Vec::new(),
            denied: HashMap::new(),
            cold: 0,
            rng: StdRng::seed_from_u64(seed),
            charges,
            charge_settings,
            link,
            writers,
            settings,
            token_lifetime,
            count: u32::try_from(replicas).unwrap(),
            next_opportunity: 0,
        };
        world.populate().await;
        for _ in 0..replicas {
            world.start_replica().await;
        }
        world
    }

    /// Two advertisers: one with limits on everything, one with little money and no limits.
    async fn populate(&mut self) {
        let shop = self.account("shop", 2_000 * UNIT, Some(300 * UNIT)).await;
        let kiosk = self.account("kiosk", 150 * UNIT, None).await;
        let few = Some(40 * UNIT);
        self.campaign(shop, "few-clicks", few, Some(300 * UNIT), 4 * UNIT..9 * UNIT).await;
        let many = Some(200 * UNIT);
        self.campaign(shop, "many-views", many, Some(300 * UNIT), UNIT / 10..UNIT).await;
        self.campaign(shop, "no-limit", None, Some(300 * UNIT), UNIT / 2..2 * UNIT).await;
        self.campaign(shop, "likely", Some(150 * UNIT), Some(300 * UNIT), UNIT..2 * UNIT).await;
        self.campaigns.last_mut().unwrap().chance_ppm = Some(LIKELY_PPM);
        self.campaign(kiosk, "poor", None, None, UNIT..3 * UNIT).await;
        self.campaign(kiosk, "poor-too", Some(100 * UNIT), None, UNIT / 2..UNIT).await;
    }

    async fn account(&mut self, name: &str, balance: i64, limit: Limit) -> i64 {
        self.bank.lock().unwrap().balances.insert(name.to_owned(), balance);
        let client = self.database.pool.get().await.unwrap();
        let row = client
            .query_one(
                "INSERT INTO account (name, tenant, currency, kind, state, checked_at)
                VALUES ($1, $1, 'RUB', 3, 1, $2) RETURNING account_no",
                &[&name, &self.clock.now()],
            )
            .await
            .unwrap();
        let account_no = row.get(0);
        self.budget(account_no, 2, account_no, limit).await;
        account_no
    }

    async fn campaign(
        &mut self,
        account_no: i64,
        name: &str,
        limit: Limit,
        account_limit: Limit,
        prices: std::ops::Range<i64>,
    ) {
        let client = self.database.pool.get().await.unwrap();
        let row = client
            .query_one(
                "INSERT INTO campaign (account_no, name, time_zone, payment_model, created_at, changed_at)
                VALUES ($1, $2, 'Europe/Moscow', 2, $3, $3) RETURNING campaign_no",
                &[&account_no, &name, &self.clock.now()],
            )
            .await
            .unwrap();
        let campaign_no = row.get(0);
        self.budget(account_no, 1, campaign_no, limit).await;
        let name = name.to_owned();
        self.campaigns.push(Campaign {
            name,
            account_no,
            campaign_no,
            limit,
            account_limit,
            prices,
            chance_ppm: None,
        });
    }

    async fn budget(&self, account_no: i64, level: i16, entity_no: i64, limit: Limit) {
        let Some(limit) = limit else { return };
        let client = self.database.pool.get().await.unwrap();
        let day = Day::of(self.clock.now());
        insert_budget(&client, (account_no, level, entity_no), limit, (day, day.week_start()))
            .await;
    }

    pub(crate) async fn start_replica(&mut self) {
        let db = self.database.pool.clone();
        let (clock, host) = self.hand.host();
        let admission = Arc::new(Admission::new(self.settings.campaigns, self.token_lifetime));
        Feed::new(db.clone(), clock.clone(), Arc::clone(&admission)).catch_up().await.unwrap();
        let link = Link::to(&self.bank);
        let leases = Leases::new(leases::Parts {
            db,
            clock: clock.clone(),
            billing: link.clone(),
            admission: Arc::clone(&admission),
            replica: id::new_uuid(self.clock.now()),
            replicas: Count::of(self.count),
            first_rate_parts: u32::MAX,
            settings: self.settings.clone(),
        });
        self.replicas.push(Replica { admission, leases, link, clock, host });
    }

    /// No report, no goodbye: what it held is in nobody's memory any more.
    pub(crate) async fn crash(&mut self, index: usize) {
        self.replicas.remove(index);
        self.start_replica().await;
    }

    pub(crate) fn any_replica(&mut self) -> usize {
        self.rng.random_range(0..self.replicas.len())
    }

    /// One opportunity at one replica. An admission is checked against every limit at once.
    pub(crate) fn ask(&mut self, replica: usize) {
        let campaign = self.campaigns[self.rng.random_range(0..self.campaigns.len())].clone();
        let price = self.rng.random_range(campaign.prices.clone());
        self.next_opportunity += 1;
        let opportunity = Opportunity {
            id: &format!("o-{}", self.next_opportunity),
            campaign: &campaign.name,
            max_price_micros: price,
            chance_ppm: campaign.chance_ppm,
        };
        let replica = &self.replicas[replica];
        let moment = Moment::of(&replica.clock);
        let view = replica.admission.view();
        match view.admit(&moment, Viewer::All, Asked::First, &opportunity) {
            Decision::Admitted(token) => {
                drop(view);
                assert_eq!(token.reserved_micros, price);
                let charge_id = format!("c-{}", self.next_opportunity);
                self.admitted.push(Admitted { token, fate: Fate::Open, charge_id });
                self.check_limits(&campaign, token.day);
            }
            Decision::Denied(denial) => *self.denied.entry(denial.reason).or_default() += 1,
            Decision::Cold(_) => self.cold += 1,
        }
    }

    /// I-5 as callers see it: what was charged in time and what can still be charged in time stay
    /// within the limit of the day, of the campaign and of the account.
    fn check_limits(&self, campaign: &Campaign, day: Day) {
        let now = self.clock.now();
        let (mut of_campaign, mut of_account) = (0, 0);
        for admitted in &self.admitted {
            let token = &admitted.token;
            if token.day != day || token.account_no != campaign.account_no {
                continue;
            }
            let used = match admitted.fate {
                Fate::Open if !token.is_expired(now) => token.expected_micros,
                Fate::Charged { price, late: false } => price,
                Fate::Open | Fate::Charged { late: true, .. } | Fate::Cancelled => 0,
            };
            of_account += used;
            if token.campaign_no == campaign.campaign_no {
                of_campaign += used;
            }
        }
        let within = |used: i64, limit: Limit| limit.is_none_or(|limit| used <= limit);
        let name = &campaign.name;
        assert!(within(of_campaign, campaign.limit), "{of_campaign} passes the limit of {name}");
        let limit = campaign.account_limit;
        assert!(
            within(of_account, limit),
            "{of_account} passes the limit of the account of {name}"
        );
    }

    /// Settles or cancels some open admissions; some of them twice, some at the same time.
    pub(crate) async fn settle_some(&mut self, chance: f64) {
        let open: Vec<usize> = (0..self.admitted.len())
            .filter(|&index| self.admitted[index].fate == Fate::Open)
            .filter(|_| self.rng.random_bool(chance))
            .collect();
        for index in open {
            let token = self.admitted[index].token;
            if self.rng.random_bool(0.2) {
                self.cancel(index).await;
                continue;
            }
            let price = self.rng.random_range(1..=token.reserved_micros);
            let id = self.admitted[index].charge_id.clone();
            let booked = if self.rng.random_bool(0.2) {
                let [first, second] = &self.charges;
                let (a, b) = tokio::join!(
                    charge(first, &id, token, price),
                    charge(second, &id, token, price)
                );
                assert_eq!(a.0, b.0, "both calls were of one charge");
                assert!(a.1 || b.1, "one of them was a repeat");
                a.0
            } else {
                let writer = self.rng.random_range(0..2);
                charge(&self.charges[writer], &id, token, price).await.0
            };
            // Or beyond its slice, where slices go by expectation.
            let expired = token.is_expired(self.clock.now());
            let may_go_beyond = token.expected_micros < token.reserved_micros;
            assert!(booked == expired || booked && may_go_beyond, "late iff the token has expired");
            self.admitted[index].fate = Fate::Charged { price, late: booked };
        }
    }

    async fn cancel(&mut self, index: usize) {
        let token = self.admitted[index].token;
        match self.charges[0].cancel(&Caller::operator(), token).await.unwrap() {
            Ok(_) => self.admitted[index].fate = Fate::Cancelled,
            Err(charges::Refusal::TokenExpired) => assert!(token.is_expired(self.clock.now())),
            Err(refusal) => panic!("{refusal}"),
        }
    }

    /// Charges of some admissions come once more, long after.
    pub(crate) async fn repeat_some(&mut self) {
        let charged: Vec<Admitted> = self.admitted.clone();
        for admitted in charged {
            let Fate::Charged { price, .. } = admitted.fate else { continue };
            if self.rng.random_bool(0.02) {
                let writer = &self.charges[self.rng.random_range(0..2)];
                let (_, replayed) =
                    charge(writer, &admitted.charge_id, admitted.token, price).await;
                assert!(replayed);
            }
        }
    }

    pub(crate) async fn settlement_round(&self) {
        let settings = &self.charge_settings;
        charges::settlement::round(&self.database.pool, &self.clock, &*self.link, settings)
            .await
            .unwrap();
    }

    pub(crate) fn advance(&self, micros: i64) {
        self.hand.advance(Duration::from_micros(micros.unsigned_abs()));
    }

    /// Heals everything and lets time pass until nothing moves any more.
    pub(crate) async fn come_to_rest(&mut self) {
        self.bank.lock().unwrap().faulty = false;
        self.link.cut.store(false, Ordering::Relaxed);
        for replica in &self.replicas {
            replica.link.cut.store(false, Ordering::Relaxed);
        }
        // They end in order and give back what they hold; the last one has known no demand.
        for replica in std::mem::take(&mut self.replicas) {
            let stop = CancellationToken::new();
            stop.cancel();
            replica.leases.run(stop).await;
        }
        self.start_replica().await;
        for _ in 0..12 {
            self.advance(60 * UNIT);
            for replica in &self.replicas {
                replica.leases.exchange_once().await.unwrap();
                replica.leases.resolve_once().await.unwrap();
            }
            self.settlement_round().await;
            self.replicas[0].leases.treasure_once().await.unwrap();
        }
    }

    pub(crate) async fn stop(self) -> TestDatabase {
        for charges in &self.charges {
            charges.close();
        }
        self.writers.close();
        self.writers.wait().await;
        self.database
    }
}

/// Whether it was late, and whether it was a repeat.
async fn charge(charges: &Charges, id: &str, token: Token, price: i64) -> (bool, bool) {
    let new = NewCharge {
        id: ChargeId::new(id.to_owned()).unwrap(),
        target: NewTarget::Admission(token),
        price: Money::from_micros(price).unwrap(),
    };
    let verdicts = charges.settle(&Caller::operator(), vec![new]).await.unwrap();
    let booked = verdicts.into_iter().next().unwrap().unwrap();
    (booked.late, booked.replayed)
}
