//! The outbox on PostgreSQL.

use adspend_common::{db::Pool, devpg::TestDatabase};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::MIGRATIONS;

pub(super) fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

pub(super) fn in_tenant(tenant: i64) -> Subject<'static> {
    Subject { tenant: TenantNo(tenant), account: None, currency: Currency::RUB }
}

/// An event that says who made it and as which one.
pub(super) fn event(writer: i64, nth: i64) -> Event {
    Event::InvoiceIssued(InvoiceFacts {
        invoice: writer.to_string(),
        number: nth.to_string(),
        amount: Money::from_micros(nth).unwrap(),
        payment: None,
        repaid_from_balance: false,
    })
}

async fn numbers(pool: &Pool, tenant: i64) -> Vec<(i64, String, i64)> {
    let client = pool.get().await.unwrap();
    let sql = "SELECT number, payload ->> 'invoice', (payload ->> 'amount')::bigint FROM event
               WHERE tenant_id = $1 ORDER BY number";
    let rows = client.query(sql, &[&tenant]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

/// G8: whoever commits later has the larger number; no number is missing, whatever rolls back, and no two
/// transactions over several tenants wait for each other.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_have_no_gap_under_concurrent_writers() {
    const WRITERS: i64 = 8;
    const EACH: i64 = 60;
    let database = TestDatabase::create(&MIGRATIONS).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let pool = database.pool.clone();
            tokio::spawn(async move {
                let mut rng = StdRng::seed_from_u64(u64::try_from(writer).unwrap());
                let mut kept = 0;
                for nth in 0..EACH {
                    let mut client = pool.get().await.unwrap();
                    let tx = client.transaction().await.unwrap();
                    // Tenants in any order; the odd writers begin with the other one.
                    let tenants = if writer % 2 == 0 { [1, 2] } else { [2, 1] };
                    for tenant in tenants {
                        for part in 0..rng.random_range(1..4) {
                            let event = event(writer, nth * 10 + part);
                            record(&tx, start(), in_tenant(tenant), &event).await.unwrap();
                            kept += i64::from(nth % 5 != 0);
                        }
                    }
                    if nth % 5 == 0 {
                        tx.rollback().await.unwrap();
                    } else {
                        tx.commit().await.unwrap();
                    }
                }
                kept
            })
        })
        .collect();
    let mut kept = 0;
    for writer in writers {
        kept += writer.await.unwrap();
    }
    let mut found = 0;
    for tenant in [1, 2] {
        let rows = numbers(&database.pool, tenant).await;
        found += i64::try_from(rows.len()).unwrap();
        let mut last_of = std::collections::HashMap::new();
        for (index, (number, writer, made)) in rows.into_iter().enumerate() {
            assert_eq!(number, i64::try_from(index).unwrap() + 1, "no gap");
            // A writer's commits follow each other, and the events within one keep their order.
            let last = last_of.insert(writer, made);
            assert!(last.is_none_or(|last| last < made), "{last:?} before {made}");
        }
    }
    assert_eq!(found, kept, "what was rolled back left nothing");
}

/// The counter is locked by the commit, not by the recording: a transaction that has recorded and still
/// works holds nobody up.
#[tokio::test]
async fn recording_early_holds_nobody_up() {
    let database = TestDatabase::create(&MIGRATIONS).await;
    let (mut one, mut two) =
        (database.pool.get().await.unwrap(), database.pool.get().await.unwrap());
    let early = one.transaction().await.unwrap();
    record(&early, start(), in_tenant(1), &event(1, 1)).await.unwrap();
    let late = two.transaction().await.unwrap();
    record(&late, start(), in_tenant(1), &event(2, 1)).await.unwrap();
    late.commit().await.unwrap();
    early.commit().await.unwrap();
    let rows = numbers(&database.pool, 1).await;
    let order: Vec<&str> = rows.iter().map(|(_, writer, _)| writer.as_str()).collect();
    assert_eq!(order, ["2", "1"], "the order of the commits");
}

/// A bank statement's worth of events in one transaction costs the commit no more than their number.
#[tokio::test]
async fn thousands_in_one_transaction_are_numbered_in_their_order() {
    let database = TestDatabase::create(&MIGRATIONS).await;
    let mut client = database.pool.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let events: Vec<_> = (0..4_000).map(|nth| (in_tenant(1), event(1, nth))).collect();
    record_all(&tx, start(), &events).await.unwrap();
    tx.commit().await.unwrap();
    let rows = numbers(&database.pool, 1).await;
    let expected: Vec<_> = (0..4_000).map(|nth| (nth + 1, "1".to_owned(), nth)).collect();
    assert_eq!(rows, expected);
}
