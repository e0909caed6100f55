//! Notices on PostgreSQL.

use adspend_common::devpg::TestDatabase;

use super::*;
use crate::{
    MIGRATIONS,
    ledger::{AccountNo, TenantNo},
};

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

fn low(tenant: i64, key: &str) -> Notice {
    let to = AccountKey { tenant: TenantNo(tenant), account: AccountNo(tenant) };
    let content = Content::BalanceLow {
        balance: Balance::from_micros(-1).unwrap(),
        daily: Money::from_units(7),
        currency: Currency::RUB,
    };
    Notice { to, subject_key: key.to_owned(), content }
}

/// Whoever asks, however often and at once: one notice for a key, and none of a transaction that fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_made_once() {
    let database = TestDatabase::create(&MIGRATIONS).await;
    let askers: Vec<_> = (0..12)
        .map(|asker| {
            let pool = database.pool.clone();
            tokio::spawn(async move {
                let mut client = pool.get().await.unwrap();
                let tx = client.transaction().await.unwrap();
                let made = queue(&tx, start(), &low(1, "day 1")).await.unwrap();
                if asker % 3 == 0 {
                    tx.rollback().await.unwrap();
                    return 0;
                }
                tx.commit().await.unwrap();
                u32::from(made)
            })
        })
        .collect();
    let mut made = 0;
    for asker in askers {
        made += asker.await.unwrap();
    }
    assert_eq!(made, 1);

    let mut client = database.pool.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    assert!(!queue(&tx, start(), &low(1, "day 1")).await.unwrap(), "made before");
    assert!(queue(&tx, start(), &low(1, "day 2")).await.unwrap(), "another key");
    assert!(queue(&tx, start(), &low(2, "day 1")).await.unwrap(), "another tenant");
    tx.commit().await.unwrap();
}
