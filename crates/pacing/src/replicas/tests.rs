//! Who counts as alive, and what all share.

use std::time::Duration;

use adspend_common::time::Clock;
use chrono::TimeDelta;
use uuid::Uuid;

use super::{clock_time, gone_after, secret, store};
use crate::tests_support::{TestApp, at};

#[tokio::test]
async fn a_replica_counts_until_it_leaves_or_is_not_seen() {
    let app = TestApp::start().await;
    let (db, patience) = (app.services.db.get().await.unwrap(), gone_after(&app.services));
    let beat = async |replica: u128, now| {
        store::beat(&db, Uuid::from_u128(replica), now, now - patience).await.unwrap()
    };
    let start = app.clock.now();
    // The service under test is a replica itself, whether it has beaten yet or not.
    super::beat(&app.services).await.unwrap();
    assert_eq!(beat(1, start).await, 2);
    assert_eq!(beat(2, start).await, 3);
    assert_eq!(beat(1, start).await, 3, "a beat again is no replica more");
    store::leave(&db, Uuid::from_u128(2)).await.unwrap();
    assert_eq!(beat(1, start).await, 2);
    assert_eq!(beat(1, start + patience).await, 2, "at the end of its patience");
    assert_eq!(beat(1, start + patience + TimeDelta::microseconds(1)).await, 1);
}

#[tokio::test]
async fn a_secret_is_made_once_and_is_the_same_for_all() {
    let app = TestApp::start().await;
    let (db, now) = (app.services.db.get().await.unwrap(), app.clock.now());
    let first = secret(&db, "a", now).await.unwrap();
    assert_eq!(secret(&db, "a", now).await.unwrap(), first);
    assert_ne!(secret(&db, "b", now).await.unwrap(), first);
    assert_ne!(first, [0; 32]);
}

#[test]
fn the_time_of_a_simulated_clock_passes_faster() {
    let simulated = Clock::parse("simulated:2025-06-11T12:00:00+03:00,3600").unwrap();
    assert_eq!(clock_time(&simulated, Duration::from_secs(10)), TimeDelta::hours(10));
    let (manual, _) = Clock::manual(at("2025-06-11T12:00:00+03:00"));
    assert_eq!(clock_time(&manual, Duration::from_secs(10)), TimeDelta::seconds(10));
}
