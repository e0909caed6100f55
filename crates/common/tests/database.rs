//! The pool, transactions, errors, retries and migrations, on a real server.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use adspend_common::config::{Database, HumanDuration};
use adspend_common::db::migrate::{self, Migration, Migrations, State};
use adspend_common::db::{self, Busy, Error, Pool};
use adspend_common::devpg::TestDatabase;
use adspend_common::id::AccountId;
use adspend_common::money::{Balance, Currency, Money};
use adspend_common::time::{Clock, Day};
use chrono::{DateTime, Utc};

const MIGRATIONS: Migrations = Migrations::embedded(
    "common",
    &[Migration {
        name: "0001_accounts",
        sql: "CREATE TABLE accounts (
                  id text CONSTRAINT accounts_pkey PRIMARY KEY,
                  balance bigint NOT NULL CONSTRAINT accounts_balance_check CHECK (balance >= 0),
                  day date
              );
              INSERT INTO accounts VALUES ('a', 100, NULL), ('b', 100, NULL)",
    }],
);

async fn database() -> TestDatabase {
    TestDatabase::create(&MIGRATIONS).await
}

fn some_day() -> DateTime<Utc> {
    "2025-03-31T00:00:00Z".parse().unwrap()
}

#[tokio::test]
async fn every_connection_is_set_up() {
    let database = database().await;
    let mut settings = database.config();
    settings.statement_timeout = HumanDuration::from_millis(4_321);
    settings.lock_timeout = HumanDuration::from_millis(1_234);
    let pool = Pool::new(&settings, "database-test").unwrap();
    let client = pool.get().await.unwrap();
    for (name, expected) in [
        ("statement_timeout", "4321ms"),
        ("lock_timeout", "1234ms"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("application_name", "database-test"),
        ("TimeZone", "UTC"),
        ("jit", "off"),
    ] {
        let row = client.query_one("SELECT current_setting($1)", &[&name]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), expected, "{name}");
    }
}

#[tokio::test]
async fn a_server_that_may_lose_commits_is_refused() {
    let database = database().await;
    let client = database.pool.get().await.unwrap();
    let statement = format!("ALTER DATABASE {} SET synchronous_commit = off", database.name());
    client.batch_execute(&statement).await.unwrap();
    let refused = Pool::new(&database.config(), "test").unwrap().get().await.unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused:?}");
    assert!(refused.to_string().contains("synchronous_commit is off"), "{refused}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let mut settings = Database::new("postgres://nobody@127.0.0.1:1/nothing");
    settings.connect_timeout = HumanDuration::from_millis(500);
    let error = Pool::new(&settings, "test").unwrap().ping().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn the_wait_for_a_connection_is_bounded() {
    let database = database().await;
    let mut settings = database.config();
    settings.pool_size = 1;
    settings.pool_wait = HumanDuration::from_millis(50);
    let pool = Pool::new(&settings, "test").unwrap();
    let held = pool.get().await.unwrap();
    let error = pool.get().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    assert_eq!((pool.status().size, pool.status().available), (1, 0));
    drop(held);
    pool.ping().await.unwrap();
    pool.close();
    assert!(matches!(pool.ping().await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_violated_constraint_is_named() {
    let database = database().await;
    let client = database.pool.get().await.unwrap();
    for (sql, name) in [
        ("INSERT INTO accounts VALUES ('a', 1)", "accounts_pkey"),
        ("UPDATE accounts SET balance = -1", "accounts_balance_check"),
    ] {
        let error = client.execute(sql, &[]).await.unwrap_err();
        assert_eq!(error.constraint(), Some(name), "{error:?}");
    }
    let mistake = client.execute("SELECT nonsense", &[]).await.unwrap_err();
    assert!(matches!(mistake, Error::Other(_)), "{mistake:?}");
}

#[tokio::test]
async fn a_transaction_that_is_dropped_did_nothing() {
    let database = database().await;
    let mut client = database.pool.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    assert_eq!(tx.execute("UPDATE accounts SET balance = 1", &[]).await.unwrap(), 2);
    drop(tx);
    let row = client.query_one("SELECT sum(balance)::bigint FROM accounts", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 200);
}

#[tokio::test]
async fn a_lock_that_is_not_free_is_contention() {
    let database = database().await;
    let mut settings = database.config();
    settings.lock_timeout = HumanDuration::from_millis(50);
    let pool = Pool::new(&settings, "test").unwrap();
    let (mut first, mut second) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let holder = first.transaction().await.unwrap();
    holder.execute("UPDATE accounts SET balance = 1 WHERE id = 'a'", &[]).await.unwrap();
    let waiter = second.transaction().await.unwrap();
    let error =
        waiter.execute("UPDATE accounts SET balance = 2 WHERE id = 'a'", &[]).await.unwrap_err();
    assert!(matches!(error, Error::Contention { busy: Busy::LockTimeout, .. }), "{error:?}");
}

/// Locks two rows, waits until the other has one too, and wants the other one.
async fn cross(
    pool: &Pool,
    order: [&str; 2],
    met: &tokio::sync::Barrier,
    tries: &AtomicU32,
) -> Result<(), Error> {
    const DEBIT: &str = "-- test.debit\nUPDATE accounts SET balance = balance - 1 WHERE id = $1";
    let first_try = tries.fetch_add(1, Ordering::Relaxed) == 0;
    let mut client = pool.get().await?;
    let tx = client.transaction().await?;
    db::exactly_one(tx.execute(DEBIT, &[&order[0]]).await?, "test.debit")?;
    if first_try {
        met.wait().await;
    }
    db::exactly_one(tx.execute(DEBIT, &[&order[1]]).await?, "test.debit")?;
    tx.commit().await
}

#[tokio::test]
async fn a_deadlock_is_tried_again_and_takes_effect_once() {
    let database = database().await;
    let met = tokio::sync::Barrier::new(2);
    let (left, right) = (AtomicU32::new(0), AtomicU32::new(0));
    let (one, other) = tokio::join!(
        db::retry("test.cross", 5, || cross(&database.pool, ["a", "b"], &met, &left)),
        db::retry("test.cross", 5, || cross(&database.pool, ["b", "a"], &met, &right)),
    );
    one.unwrap();
    other.unwrap();
    assert_eq!(left.into_inner() + right.into_inner(), 3, "one of the two was tried again");
    let client = database.pool.get().await.unwrap();
    let rows = client.query("SELECT balance FROM accounts", &[]).await.unwrap();
    assert!(rows.iter().all(|row| row.get::<_, i64>(0) == 98));
}

#[tokio::test]
async fn a_statement_that_takes_too_long_ends() {
    let database = database().await;
    let mut client = database.pool.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    tx.statement_timeout(Duration::from_millis(50)).await.unwrap();
    let error = tx.query("SELECT pg_sleep(30)", &[]).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    drop(tx);
    let row = client.query_one("SELECT current_setting('statement_timeout')", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "30s", "the limit ended with its transaction");
}

#[tokio::test]
async fn a_connection_lost_in_a_commit_has_an_unknown_outcome_and_is_not_used_again() {
    let database = database().await;
    let mut client = database.pool.get().await.unwrap();
    // Runs when the transaction commits, and ends its own connection.
    client
        .batch_execute(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM pg_terminate_backend(pg_backend_pid());
                 RETURN NULL;
             END $$;
             CREATE CONSTRAINT TRIGGER die AFTER UPDATE ON accounts
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()",
        )
        .await
        .unwrap();
    let tx = client.transaction().await.unwrap();
    tx.execute("UPDATE accounts SET balance = 1 WHERE id = 'a'", &[]).await.unwrap();
    let error = tx.commit().await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown(_)), "{error:?}");
    let lost = client.query("SELECT 1", &[]).await.unwrap_err();
    assert!(matches!(lost, Error::Unavailable(_)), "{lost:?}");
    drop(client);
    database.pool.ping().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_sees_one_moment_and_writes_nothing() {
    let database = database().await;
    let (mut reader, writer) =
        (database.pool.get().await.unwrap(), database.pool.get().await.unwrap());
    let snapshot = reader.snapshot().await.unwrap();
    let sum = "SELECT sum(balance)::bigint FROM accounts";
    assert_eq!(snapshot.query_one(sum, &[]).await.unwrap().get::<_, i64>(0), 200);
    writer.execute("UPDATE accounts SET balance = 1", &[]).await.unwrap();
    assert_eq!(snapshot.query_one(sum, &[]).await.unwrap().get::<_, i64>(0), 200);
    assert!(snapshot.execute("UPDATE accounts SET balance = 1", &[]).await.is_err());
}

#[tokio::test]
async fn our_values_travel_to_columns_and_arrays_and_back() {
    let database = database().await;
    let client = database.pool.get().await.unwrap();
    let ids: Vec<AccountId> = ["x", "y"].iter().map(|id| AccountId::parse(id).unwrap()).collect();
    let balances = vec![Money::from_units(1), Money::MAX];
    let day = Day::from_ymd(2025, 3, 31).unwrap();
    let insert = "-- test.insert
        INSERT INTO accounts (id, balance, day)
        SELECT id, balance, $3 FROM UNNEST($1::text[], $2::bigint[]) AS new (id, balance)";
    assert_eq!(client.execute(insert, &[&ids, &balances, &day]).await.unwrap(), 2);
    let select = "SELECT id, balance, day FROM accounts WHERE id = ANY($1) ORDER BY id";
    let rows = client.query(select, &[&ids]).await.unwrap();
    for (row, (id, money)) in rows.iter().zip(ids.iter().zip(&balances)) {
        assert_eq!(&row.get::<_, AccountId>(0), id);
        assert_eq!(&row.get::<_, Money>(1), money);
        assert_eq!(row.get::<_, Option<Day>>(2), Some(day));
    }
    let row = client.query_one("SELECT -5::bigint, 'KZT'::text", &[]).await.unwrap();
    assert_eq!(row.get::<_, Balance>(0), Balance::from_micros(-5).unwrap());
    assert_eq!(row.get::<_, Currency>(1), Currency::KZT);
    assert!(row.try_get::<_, Money>(0).is_err(), "a negative amount is not money");
}

#[tokio::test]
async fn the_clock_is_anchored_to_the_databases_time() {
    let database = database().await;
    let clock = Clock::system();
    let anchored = db::anchor(&database.pool, &clock).await.unwrap().unwrap();
    assert!(anchored.moved_micros.abs() < 1_000_000, "one machine, one time: {anchored:?}");
    let client = database.pool.get().await.unwrap();
    let apart = db::now(&client).await.unwrap() - clock.now();
    assert!(apart.num_milliseconds().abs() < 500, "{apart}");
    let (manual, _) = Clock::manual(some_day());
    assert_eq!(db::anchor(&database.pool, &manual).await.unwrap(), None);
}

const TWO_STEPS: &[Migration] = &[
    Migration { name: "0001_first", sql: "CREATE TABLE first (n int); SELECT pg_sleep(0.1)" },
    Migration { name: "0002_second", sql: "CREATE TABLE second (n int)" },
];

/// A database without any migration.
async fn empty_database() -> TestDatabase {
    TestDatabase::create(&Migrations::embedded("common_empty", &[])).await
}

#[tokio::test]
async fn two_runners_at_once_run_each_step_once() {
    let database = empty_database().await;
    let steps = Migrations::embedded("common", TWO_STEPS);
    let config = database.config();
    let (one, other) = tokio::join!(steps.up(&config, some_day()), steps.up(&config, some_day()));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.len() + other.len(), 2, "{one:?} and {other:?}");
    steps.verify(&database.pool.get().await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_step_that_fails_is_undone_and_those_before_it_stand() {
    let database = empty_database().await;
    const STEPS: &[Migration] = &[
        TWO_STEPS[0],
        Migration { name: "0002_bad", sql: "CREATE TABLE half (n int); SELECT 1/0" },
    ];
    let steps = Migrations::embedded("common", STEPS);
    let error = steps.up(&database.config(), some_day()).await.unwrap_err();
    assert!(matches!(error, migrate::Error::Failed { name: "0002_bad", .. }), "{error}");
    let client = database.pool.get().await.unwrap();
    let states: Vec<State> =
        steps.status(&client).await.unwrap().into_iter().map(|status| status.state).collect();
    assert_eq!(states, [State::Applied, State::Pending]);
    let row = client.query_one("SELECT to_regclass('half') IS NULL", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
}

#[tokio::test]
async fn a_schema_that_is_not_the_binarys_is_refused() {
    let database = empty_database().await;
    let client = database.pool.get().await.unwrap();
    let both = Migrations::embedded("common", TWO_STEPS);
    assert!(matches!(both.verify(&client).await, Err(migrate::Error::Pending(_))));
    both.up(&database.config(), some_day()).await.unwrap();

    const OLDER: &[Migration] = &[TWO_STEPS[0]];
    let older = Migrations::embedded("common", OLDER);
    assert!(matches!(older.verify(&client).await, Err(migrate::Error::Unknown(_))));
    let refused = older.up(&database.config(), some_day()).await;
    assert!(matches!(refused, Err(migrate::Error::Unknown(_))));
    const EDITED: &[Migration] =
        &[TWO_STEPS[0], Migration { name: "0002_second", sql: "SELECT 2" }];
    let edited = Migrations::embedded("common", EDITED);
    assert!(matches!(edited.verify(&client).await, Err(migrate::Error::Changed(_))));
}

#[tokio::test]
async fn test_databases_are_separate_and_vanish_with_their_tests() {
    let (one, other) = tokio::join!(database(), database());
    assert_ne!(one.name(), other.name());
    let client = one.pool.get().await.unwrap();
    client.execute("DELETE FROM accounts", &[]).await.unwrap();
    let name = one.name().to_owned();
    drop((client, one));
    let client = other.pool.get().await.unwrap();
    let row = client
        .query_one(
            "SELECT (SELECT count(*) FROM accounts),
                    (SELECT count(*) FROM pg_database WHERE datname = $1)",
            &[&name],
        )
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (2, 0));
}
