//! A change at the last moment of a Moscow day, and at the first of the next.

use super::{daily, figure, limits};
use crate::tests_support::{TestApp, at};

const SHOP: &str = "accounts/shop";

/// The change, which limits it leaves for the day it was made on, and from when it counts.
#[tokio::test]
async fn a_change_belongs_to_the_day_whose_last_millisecond_it_was_made_in() {
    for (name, moment, change, in_force, pending, today) in [
        (
            "a decrease before",
            "2025-06-18T23:59:59.999+03:00",
            10_000,
            (15_000, 16),
            Some((10_000, 19)),
            19_500,
        ),
        (
            "a decrease after",
            "2025-06-19T00:00:00+03:00",
            10_000,
            (15_000, 16),
            Some((10_000, 20)),
            19_500,
        ),
        ("an increase before", "2025-06-18T23:59:59.999+03:00", 20_000, (20_000, 18), None, 26_000),
        ("an increase after", "2025-06-19T00:00:00+03:00", 20_000, (20_000, 19), None, 26_000),
    ] {
        let app = TestApp::start().await;
        app.clock.set(at("2025-06-16T09:00:00+03:00"));
        app.set(daily(SHOP, 15_000)).await.unwrap();
        app.clock.set(at(moment));
        let budget = app.set(daily(SHOP, change)).await.unwrap();
        assert_eq!(figure(budget.in_force.as_ref()), Some(in_force), "{name}");
        assert_eq!(figure(budget.pending.as_ref()), pending, "{name}");
        assert_eq!(limits(&budget)[0], today, "{name}");
        assert_eq!(budget.changes_today, 1, "{name}");
    }
}

#[tokio::test]
async fn the_changes_of_a_day_are_counted_until_its_last_millisecond() {
    let app = TestApp::start().await;
    app.clock.set(at("2025-06-18T23:59:59.999+03:00"));
    for amount in [2_000, 3_000, 4_000] {
        app.set(daily(SHOP, amount)).await.unwrap();
    }
    assert!(app.set(daily(SHOP, 5_000)).await.is_err());
    app.clock.set(at("2025-06-19T00:00:00+03:00"));
    assert_eq!(app.set(daily(SHOP, 5_000)).await.unwrap().changes_left, 2);
}

/// A change that waited for a grant across midnight is dated when it got its turn: what was granted
/// on the new day meanwhile was granted before it.
#[tokio::test]
async fn a_change_that_waits_across_midnight_belongs_to_the_new_day() {
    let app = TestApp::start().await;
    app.clock.set(at("2025-06-16T09:00:00+03:00"));
    app.set(daily(SHOP, 15_000)).await.unwrap();
    app.clock.set(at("2025-06-18T23:59:59.999+03:00"));
    app.set(daily(SHOP, 16_000)).await.unwrap();

    let mut grant = app.services.db.get().await.unwrap();
    let tx = grant.transaction().await.unwrap();
    let lock = "SELECT FROM headroom WHERE level = 2 AND day = '2025-06-19' FOR NO KEY UPDATE";
    assert_eq!(tx.query(lock, &[]).await.unwrap().len(), 1, "tomorrow's row is there already");
    let mut budgets = app.budgets();
    let change = tokio::spawn(async move { budgets.set_budget(daily(SHOP, 10_000)).await });
    let waiting = "SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let watch = app.services.db.get().await.unwrap();
    for attempt in 0.. {
        if !watch.query(waiting, &[]).await.unwrap().is_empty() {
            break;
        }
        assert!(attempt < 500, "the change never waited for the grant");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    app.clock.set(at("2025-06-19T00:00:00.001+03:00"));
    tx.commit().await.unwrap();
    let budget = change.await.unwrap().unwrap().into_inner().budget.unwrap();
    assert_eq!(figure(budget.in_force.as_ref()), Some((16_000, 18)));
    assert_eq!(figure(budget.pending.as_ref()), Some((10_000, 20)), "a decrease of the 19th");
    assert_eq!(budget.changes_today, 1);
}
