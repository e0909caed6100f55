//! Many writers at many replicas, connections that break, and the books at the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adspend_common::identity::Caller;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::support::{Fixture, Slice, charge, late_conversion, replica, until_answered};
use crate::charges::{Charges, NewCharge, NewTarget, Refusal};

const WRITERS: u64 = 16;
const SLICES: usize = 4;
const RESERVED: i64 = 100;

/// What was acknowledged: price by charge id. A repeat with another price would show.
type Acknowledged = Arc<Mutex<BTreeMap<String, i64>>>;

/// Random charges, repeats, cancellations and late conversions; every answer is waited for, and
/// asked again when there is none.
async fn spend(
    charges: Charges,
    slices: Vec<Slice>,
    seed: u64,
    rounds: usize,
    acknowledged: Acknowledged,
) {
    let mut random = StdRng::seed_from_u64(seed);
    let caller = Caller::operator();
    let mut earlier: Vec<NewCharge> = Vec::new();
    for round in 0..rounds {
        let mut batch = Vec::new();
        for n in 0..random.random_range(1..40) {
            let slice = slices[random.random_range(0..slices.len())];
            // Writers meet at the same admissions now and then.
            let token = slice.token(random.random_range(0..20_000), RESERVED);
            let id = format!("c-{seed}-{round}-{n}");
            batch.push(match random.random_range(0..20) {
                0 if !earlier.is_empty() => earlier[random.random_range(0..earlier.len())].clone(),
                1 => late_conversion(&id, "campaign-0", 3),
                _ => charge(&id, token, random.random_range(1..=RESERVED)),
            });
        }
        if random.random_range(0..3) == 0 {
            let slice = slices[random.random_range(0..slices.len())];
            let token = slice.token(random.random_range(0..20_000), RESERVED);
            let answer = until_answered(|| charges.cancel(&caller, token)).await;
            assert!(matches!(answer.unwrap(), Ok(_) | Err(Refusal::TokenUsed)));
        }
        let answers = until_answered(|| charges.settle(&caller, batch.clone())).await.unwrap();
        for (charge, answer) in batch.iter().zip(answers) {
            if answer.is_ok() {
                let id = charge.id.0.clone();
                let price = charge.price.micros();
                let before = acknowledged.lock().unwrap().insert(id, price);
                assert!(before.is_none_or(|before| before == price));
            } else if let NewTarget::Campaign(_) = charge.target {
                panic!("a late conversion was refused: {answer:?}");
            }
        }
        earlier.extend(batch);
    }
}

/// Sixteen writers at four replicas; what they were told is what is booked.
async fn storm(rounds: usize, disturb: impl AsyncFn(&Fixture, usize)) {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let mut slices = Vec::new();
    for n in 0..SLICES {
        let campaign = books.campaign(shop, &format!("campaign-{n}")).await;
        slices.push(books.slice(shop, campaign, 20_000 * RESERVED).await);
    }
    books.finalise(slices[1], 20_000 * RESERVED).await;
    books.resolve(slices[2]).await;
    let acknowledged = Acknowledged::default();
    let replicas: Vec<Charges> = (0..4).map(|_| replica(&books.pool, &books.clock)).collect();
    let tasks: Vec<_> = (0..WRITERS)
        .map(|seed| {
            let charges = replicas[usize::try_from(seed).unwrap() % replicas.len()].clone();
            tokio::spawn(spend(charges, slices.clone(), seed, rounds, acknowledged.clone()))
        })
        .collect();
    for turn in 0.. {
        if tasks.iter().all(tokio::task::JoinHandle::is_finished) {
            break;
        }
        disturb(&books, turn).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    books.assert_books().await;
    let rows = books
        .client()
        .await
        .query("SELECT charge_id, price_micros FROM charge ORDER BY charge_id", &[])
        .await
        .unwrap();
    let booked: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(booked, *acknowledged.lock().unwrap());
    assert!(booked.len() > 1_000, "{} charges", booked.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sixteen_writers_were_told_is_what_is_booked() {
    storm(25, async |_, _| tokio::time::sleep(Duration::from_millis(20)).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_at_any_moment_lose_and_double_nothing() {
    storm(25, async |books, turn| {
        // Ever more rarely, so that a slow machine gets through as well.
        let pause = (5 + 2 * u64::try_from(turn).unwrap()).min(500);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        // Our own connection may be one that was cut before.
        if let Ok(client) = books.pool.get().await {
            let _ = client.query(cut, &[]).await;
        }
    })
    .await;
}
