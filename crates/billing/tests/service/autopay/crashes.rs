//! The process that makes payments dies at every point of the machine; another goes on, and the card is
//! charged once and the money is booked once (G9).

use adspend_common::{db::Pool, proto::adspend::billing::v1 as pb};
use pb::AutopayRunState as State;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::time::Duration;

use super::support::*;
use crate::{
    provider::{Act, Simulator},
    support::*,
};

/// The lease of what the dead process was doing passes, and a new process brings the payment to its end.
async fn goes_on(world: &World, simulator: &Simulator, account: &str) {
    world.pass(60);
    let payer = Payer::start(world).await;
    until("the payment ends", async || {
        world.pass(10);
        world.charges_of(account).await.first().is_some_and(|run| run.state() == State::Succeeded)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.available(account).await, "5000");
    assert_eq!(world.charges_of(account).await.len(), 1);
    charged_once(simulator, 1);
    payer.kill();
}

#[tokio::test]
async fn after_the_intent_and_before_any_try() {
    let (world, simulator) = world().await;
    world.low(&simulator, "store", ("5000", "0")).await;
    // To a port where nobody listens: the intent is written, and no try arrives.
    let mut config = world.config.clone();
    config.jobs.enabled = true;
    config.autopay.provider.as_mut().unwrap().url = "http://127.0.0.1:9/v3".into();
    let payer = Payer::with(&world, config).await;
    until("the intent is written", async || !world.charges_of("store").await.is_empty()).await;
    payer.kill();
    assert!(simulator.tries().is_empty());
    goes_on(&world, &simulator, "store").await;
    world.end().await;
}

/// While a try is under way: before and after the card is charged.
#[tokio::test]
async fn during_a_try() {
    for act in [Act::Hang, Act::ChargeAndHang] {
        let (world, simulator) = world().await;
        simulator.will([act]);
        world.low(&simulator, "store", ("5000", "0")).await;
        let payer = Payer::start(&world).await;
        until("the try has arrived", async || !simulator.tries().is_empty()).await;
        payer.kill();
        goes_on(&world, &simulator, "store").await;
        let tries = simulator.tries();
        assert!(tries.len() >= 2 && tries.iter().all(|key| *key == tries[0]), "{tries:?}");
        world.end().await;
    }
}

/// Holds a lock that some statement of the machine waits for, and kills the process there.
async fn killed_at_lock(table: &str, act: Act, first: impl AsyncFn(&Simulator)) {
    let (world, simulator) = world().await;
    simulator.will([act]);
    world.low(&simulator, "store", ("5000", "0")).await;
    let pool = Pool::new(&world.config.database, "a test").unwrap();
    let mut client = pool.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    tx.batch_execute(&format!("LOCK TABLE {table} IN EXCLUSIVE MODE")).await.unwrap();
    let payer = Payer::start(&world).await;
    let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
        WHERE NOT l.granted AND d.datname = current_database()";
    first(&simulator).await;
    until("a statement waits for the lock", async || {
        let row = tx.query_one(waiting, &[]).await.unwrap();
        row.get::<_, i64>(0) > 0
    })
    .await;
    payer.kill();
    tx.rollback().await.unwrap();
    drop(client);
    pool.close();
    goes_on(&world, &simulator, "store").await;
    world.end().await;
}

/// In the middle of writing the intent; and when the answer has come, before booking and in the middle of it.
#[tokio::test]
async fn before_the_intent_and_between_the_answer_and_the_end_of_booking() {
    for table in ["ledger_balance", "payment", "ledger_leg"] {
        killed_at_lock(table, Act::Succeed, async |simulator| {
            until("the card is charged", async || {
                table == "ledger_balance" || !simulator.charges().is_empty()
            })
            .await;
        })
        .await;
    }
}

/// The provider has not decided: before its answer is written, and while it is asked again.
#[tokio::test]
async fn while_the_provider_decides() {
    let (world, simulator) = world().await;
    simulator.will([Act::StayPending]);
    world.low(&simulator, "store", ("5000", "0")).await;
    let payer = Payer::start(&world).await;
    until("the provider has it", async || {
        world.charges_of("store").await.first().is_some_and(|run| !run.provider_payment.is_empty())
    })
    .await;
    payer.kill();
    let payment = world.charges_of("store").await.remove(0).provider_payment;
    simulator.decide(&payment, None).await;
    goes_on(&world, &simulator, "store").await;
    assert_eq!(simulator.tries().len(), 1, "an undecided payment is asked for, not tried again");
    world.end().await;
}

/// After everything: nothing is left to do.
#[tokio::test]
async fn after_booking() {
    let (world, simulator) = world().await;
    world.low(&simulator, "store", ("5000", "0")).await;
    let payer = Payer::start(&world).await;
    world.ends("store", State::Succeeded).await;
    payer.kill();
    goes_on(&world, &simulator, "store").await;
    assert_eq!(simulator.tries().len(), 1);
    world.end().await;
}

/// Many accounts, two processes of which one dies every now and then, a provider that does what it likes and
/// notifies twice: every intent is charged at most once, and what was charged is what was booked.
#[tokio::test]
async fn a_storm_of_faults_charges_each_intent_once() {
    let seed: u64 =
        std::env::var("ADSPEND_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_121);
    println!("ADSPEND_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (world, simulator) = world_with(|terms| {
        terms.max_payments_per_day = 4;
        terms.tries = 8;
        let provider = terms.provider.as_mut().unwrap();
        provider.pay_timeout = adspend_common::config::HumanDuration::from_millis(300);
    })
    .await;
    simulator.notify(Some(world.metrics), 2);
    let accounts: Vec<String> = (0..12).map(|number| format!("store-{number}")).collect();
    for account in &accounts {
        world.low(&simulator, account, ("1000", "3999")).await;
    }
    let acts = (0..200).map(|_| match random.random_range(0..10) {
        0 => Act::Fail,
        1 => Act::ChargeAndFail,
        2 => Act::ChargeAndHang,
        3 => Act::Hang,
        4 => Act::Garble,
        5 => Act::NotifyFirst,
        6 => Act::Late(Duration::from_millis(random.random_range(0..600))),
        7 => Act::DeclineOnce("internal_timeout"),
        _ => Act::Succeed,
    });
    simulator.will(acts.collect::<Vec<_>>());
    let _steady = Payer::start(&world).await;
    let mut mortal = Payer::start(&world).await;
    let ended = async |world: &World| {
        for account in &accounts {
            let runs = world.charges_of(account).await;
            let open = runs.iter().any(|run| run.state() == State::Pending);
            let paid = runs.iter().filter(|run| run.state() == State::Succeeded).count();
            if open || (paid < 4 && world.autopay(account).await.enabled) {
                return false;
            }
        }
        true
    };
    for round in 0.. {
        assert!(round < 400, "the storm has not ended");
        world.pass(random.random_range(1..12));
        tokio::time::sleep(Duration::from_millis(random.random_range(20..120))).await;
        if random.random_range(0..8) == 0 {
            mortal.kill();
            mortal = Payer::start(&world).await;
        }
        if round % 5 == 4 && ended(&world).await {
            break;
        }
    }
    let mut booked = 0;
    for account in &accounts {
        let runs = world.charges_of(account).await;
        booked += runs.iter().filter(|run| run.state() == State::Succeeded).count();
        let paid = runs.iter().filter(|run| run.state() == State::Succeeded).count() * 1_000;
        assert_eq!(world.available(account).await, paid.to_string(), "{account}");
    }
    charged_once(&simulator, booked);
    assert!(booked >= 40, "{booked} of 48: most of them go through in the end");
    drop((_steady, mortal));
    world.end().await;
}
