//! Leases, charges and settlement of many replicas in one process, against one database: replicas
//! crash anywhere, messages to billing are lost, repeated and late, billing is cut off, charges
//! come twice and after their time, clocks jump, midnight passes. After every admission no limit is passed
//! (I-5); at the end nothing is reserved, every acknowledged charge was booked once and reached
//! billing once (I-6), and every hold adds up (I-7).
//!
//! `ADSPEND_SIM_SEEDS=100` runs so many seeds instead of a few (`ADSPEND_SIM_FIRST=901` from there
//! on); a failure names its seed, and `ADSPEND_SIM_SEED=17` runs that one alone. `make sim` runs ten
//! thousand.

#![allow(clippy::unwrap_used, reason = "a test panics where something is not as it should be")]

mod billing;
mod checks;
mod days;
mod world;

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use adspend_common::config::HumanDuration;
use adspend_common::devpg::TestDatabase;
use adspend_pacing::{MIGRATIONS, leases};
use futures_util::future::join_all;
use rand::Rng;

use world::{UNIT, World};

/// Shortly before a Moscow midnight, so that a run passes it.
const START: &str = "2025-06-11T23:52:00+03:00";
const STEPS: usize = 300;

/// How far the clock of a host jumps at most, either way, in microseconds: two hosts are apart by less
/// than the grace.
const JUMP: i64 = 2 * UNIT;

fn seeds(few: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    match number("ADSPEND_SIM_SEED") {
        Some(seed) => vec![seed],
        None => {
            let first = number("ADSPEND_SIM_FIRST").unwrap_or(1);
            (first..first + number("ADSPEND_SIM_SEEDS").unwrap_or(few)).collect()
        }
    }
}

#[test]
fn no_fault_passes_a_limit_or_loses_a_charge() {
    let seeds = seeds(5);
    let workers = seeds.len().min(2 * thread::available_parallelism().map_or(1, usize::from));
    let left = Mutex::new(seeds.into_iter());
    let next = || left.lock().unwrap().next();
    // A world waits for the database most of the time.
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let mut database = TestDatabase::create(&MIGRATIONS).await;
                    while let Some(seed) = next() {
                        let named = Named(seed);
                        database = live(seed, database).await;
                        drop(named);
                    }
                });
            });
        }
    });
}

/// Says which seed it was that failed.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("this was ADSPEND_SIM_SEED={}", self.0);
        }
    }
}

/// One run; gives the database back, empty.
async fn live(seed: u64, database: TestDatabase) -> TestDatabase {
    let replicas = [1, 2, 4, 8, 16][usize::try_from(seed).unwrap() % 5];
    let mut world = World::new(database, seed, replicas, START).await;
    for _ in 0..STEPS {
        step(&mut world).await;
    }
    checks::limits_hold(&world).await;
    world.come_to_rest().await;
    checks::everything_adds_up(&world).await;
    let database = world.stop().await;
    world::emptied(&database).await;
    database
}

/// The control arm: were the money of a slice given back when the slice expires, and not when its
/// last token has, limits would be passed without any fault. So the check above can fail.
#[tokio::test]
#[should_panic(expected = "passes the limit of")]
async fn money_given_back_at_expiry_is_overspent() {
    let honest = world::settings();
    let lifetime = honest.admission_lifetime.get();
    let hasty = leases::Settings {
        admission_lifetime: HumanDuration::from_millis(0),
        grace: HumanDuration::from_millis(1),
        ..honest
    };
    let database = TestDatabase::create(&MIGRATIONS).await;
    let mut world = World::with(database, 1, 2, START, hasty, lifetime).await;
    world.bank.lock().unwrap().faulty = false;
    for _ in 0..STEPS {
        let replica = world.any_replica();
        for _ in 0..20 {
            world.ask(replica);
        }
        let leases = &world.replicas[replica].leases;
        leases.refill_once().await.unwrap();
        leases.exchange_once().await.unwrap();
        leases.resolve_once().await.unwrap();
        leases.treasure_once().await.unwrap();
        world.advance(UNIT);
    }
}

async fn step(world: &mut World) {
    let replica = world.any_replica();
    match world.rng.random_range(0..100) {
        0..45 => {
            for _ in 0..world.rng.random_range(1..30) {
                world.ask(replica);
            }
            // Whoever is asked for fetches, most of the time.
            if world.rng.random_bool(0.7) {
                let _ = world.replicas[replica].leases.refill_once().await;
            }
        }
        45..60 => {
            let _ = world.replicas[replica].leases.exchange_once().await;
        }
        60..66 => {
            let _ = world.replicas[replica].leases.resolve_once().await;
        }
        66..76 => {
            let _ = world.replicas[replica].leases.treasure_once().await;
        }
        76..84 => world.settle_some(0.3).await,
        84..86 => world.repeat_some().await,
        86..89 => world.settlement_round().await,
        89..93 => {
            let seconds = if world.rng.random_bool(0.1) { 90 } else { 5 };
            let micros = world.rng.random_range(0..seconds * UNIT);
            world.advance(micros);
        }
        93..95 => storm(world).await,
        95 => die_at_work(world, replica).await,
        96 => {
            let ahead = world.rng.random_range(-JUMP..JUMP);
            world.replicas[replica].host.jump_to(ahead);
        }
        97 => world.crash(replica).await,
        98 => {
            let link = &world.replicas[replica].link;
            link.cut.fetch_xor(true, Ordering::Relaxed);
        }
        _ => {
            world.link.cut.fetch_xor(true, Ordering::Relaxed);
        }
    }
}

/// Everybody does everything at once.
async fn storm(world: &mut World) {
    for replica in 0..world.replicas.len() {
        for _ in 0..10 {
            world.ask(replica);
        }
    }
    let turns = world.replicas.iter().map(|replica| async {
        let leases = &replica.leases;
        let _ = tokio::join!(
            leases.refill_once(),
            leases.exchange_once(),
            leases.resolve_once(),
            leases.treasure_once(),
        );
    });
    join_all(turns).await;
}

/// A replica dies in the middle of something: between any two of its round trips.
async fn die_at_work(world: &mut World, replica: usize) {
    for _ in 0..20 {
        world.ask(replica);
    }
    let limit = Duration::from_micros(world.rng.random_range(0..6_000));
    let what = world.rng.random_range(0..4);
    let leases = &world.replicas[replica].leases;
    let _ = match what {
        0 => tokio::time::timeout(limit, leases.refill_once()).await,
        1 => tokio::time::timeout(limit, leases.exchange_once()).await,
        2 => tokio::time::timeout(limit, leases.resolve_once()).await,
        _ => tokio::time::timeout(limit, leases.treasure_once()).await,
    };
    world.crash(replica).await;
}
