//! Handing out, on PostgreSQL.

use std::{collections::HashMap, time::Duration};

use adspend_common::{
    config::Database,
    db::{Client, Pool},
    devpg::{Cluster, TestDatabase},
    server::Stop,
};
use chrono::TimeDelta;

use super::{
    tests::{event, in_tenant, start},
    *,
};
use crate::MIGRATIONS;

/// Patience with a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn write(pool: &Pool, tenant: i64, writer: i64, nth: i64, at: DateTime<Utc>) {
    let mut client = pool.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    record(&tx, at, in_tenant(tenant), &event(writer, nth)).await.unwrap();
    tx.commit().await.unwrap();
}

async fn watch(feed: &Feed, who: &str, tenant: Option<i64>, after: Option<i64>) -> Watch {
    feed.watch(who.to_owned(), tenant.map(TenantNo), after).await.unwrap()
}

/// The next event, waited for.
async fn next(watch: &mut Watch) -> Happened<Event> {
    let waiting = async {
        loop {
            if let Some(happened) = watch.next().await.unwrap() {
                return happened;
            }
            watch.news().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap()
}

/// Everything that can be had without waiting.
async fn places(watch: &mut Watch) -> Vec<i64> {
    let mut places = Vec::new();
    while let Some(happened) = watch.next().await.unwrap() {
        places.push(happened.place);
    }
    places
}

/// G8: whoever reads along while eight writers commit in two tenants sees every number once and in order,
/// by one replica or another, and after as many interruptions as it likes.
#[tokio::test(flavor = "multi_thread")]
async fn readers_see_every_number_in_order_while_writers_write() {
    const WRITERS: i64 = 8;
    const EACH: i64 = 150;
    let database = TestDatabase::create(&MIGRATIONS).await;
    let stop = Stop::new();
    let feeds = [Feed::new(&database.pool), Feed::new(&database.pool)];
    for feed in &feeds {
        tokio::spawn(feed.clone().run(stop.clone()));
    }
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let pool = database.pool.clone();
            tokio::spawn(async move {
                for nth in 0..EACH {
                    write(&pool, 1 + (writer + nth) % 2, writer, nth, start()).await;
                }
            })
        })
        .collect();
    let total = WRITERS * EACH;
    let readers: Vec<_> = [(Some(1), total / 2), (Some(2), total / 2), (None, total)]
        .into_iter()
        .map(|(tenant, expected)| {
            let feeds = feeds.clone();
            tokio::spawn(async move {
                let mut numbers = HashMap::from([(1, 0), (2, 0)]);
                let (mut seen, mut place, mut session) = (0, None, 0_usize);
                while seen < expected {
                    // Interrupted after a while, and resumed with another replica.
                    let mut watch =
                        watch(&feeds[session % 2], &format!("{tenant:?}"), tenant, place).await;
                    session += 1;
                    for _ in 0..session * 7 {
                        if seen == expected {
                            break;
                        }
                        let happened = next(&mut watch).await;
                        let of = tenant.unwrap_or_else(|| tenant_of(&happened));
                        let last = numbers.get_mut(&of).unwrap();
                        assert_eq!(happened.number, *last + 1, "no gap, no inversion");
                        *last = happened.number;
                        seen += 1;
                        place = Some(watch.place());
                    }
                }
                assert_eq!(numbers.values().sum::<i64>(), expected);
            })
        })
        .collect();
    for task in writers.into_iter().chain(readers) {
        tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    }
    // And once more from every position, by a process that has just begun.
    let feed = Feed::new(&database.pool);
    for place in (0..total / 2).chain([total / 2]) {
        let mut one = watch(&feed, "one", Some(1), Some(place)).await;
        let expected = (place < total / 2).then_some(place + 1);
        assert_eq!(one.next().await.unwrap().map(|happened| happened.number), expected);
    }
    for place in (0..total).step_by(37) {
        let mut all = watch(&feed, "all", None, Some(place)).await;
        assert_eq!(places(&mut all).await, (place + 1..=total).collect::<Vec<_>>());
    }
    stop.begin();
}

/// Writers and their tenants alternate.
fn tenant_of(happened: &Happened<Event>) -> i64 {
    let Event::InvoiceIssued(facts) = &happened.event else { panic!("{happened:?}") };
    let writer: i64 = facts.invoice.parse().unwrap();
    let nth: i64 = facts.number.parse().unwrap();
    1 + (writer + nth) % 2
}

/// What is old is forgotten from its beginning, so what is left has no gap; a reader that comes too late is
/// told so, and never finds out by a missing number.
#[tokio::test]
async fn old_events_are_forgotten_from_the_beginning() {
    let database = TestDatabase::create(&MIGRATIONS).await;
    let feed = Feed::new(&database.pool);
    let day = |days| start() + TimeDelta::days(days);
    // A clock a little behind does not make a hole: day 1 stays, because day 5 came before it.
    for (nth, at) in [day(0), day(0), day(5), day(1), day(6)].into_iter().enumerate() {
        write(&database.pool, 1, 1, i64::try_from(nth).unwrap(), at).await;
    }
    let seen = watch(&feed, "a", Some(1), None).await.next().await.unwrap().unwrap().place;
    assert_eq!(seen, 1);
    feed.forget(day(3)).await.unwrap();
    let mut afresh = watch(&feed, "a", Some(1), None).await;
    assert_eq!(
        places(&mut afresh).await,
        [3, 4, 5],
        "the oldest that is kept, and no gap after it"
    );
    let mut just_in_time = watch(&feed, "a", Some(1), Some(2)).await;
    assert_eq!(places(&mut just_in_time).await, [3, 4, 5]);
    for tenant in [Some(1), None] {
        let late = watch(&feed, "a", tenant, Some(seen)).await.next().await.unwrap_err();
        assert!(matches!(late, Refusal::Forgotten { expected: 2, next: 3 }), "{late}");
    }
    feed.forget(day(9)).await.unwrap();
    assert_eq!(places(&mut watch(&feed, "a", None, None).await).await, [0_i64; 0]);
    write(&database.pool, 1, 1, 9, day(9)).await;
    let mut afterwards = watch(&feed, "a", Some(1), Some(5)).await;
    assert_eq!(places(&mut afterwards).await, [6], "numbers go on");
}

#[tokio::test]
async fn a_caller_has_a_limited_number_of_streams() {
    let database = TestDatabase::create(&MIGRATIONS).await;
    let feed = Feed::new(&database.pool);
    let mut open = Vec::new();
    for _ in 0..STREAMS_OF_A_CALLER {
        open.push(watch(&feed, "greedy", None, None).await);
    }
    let refused = feed.watch("greedy".to_owned(), None, None).await.err();
    assert!(matches!(refused, Some(Refusal::TooMany)));
    watch(&feed, "modest", None, None).await;
    open.pop();
    watch(&feed, "greedy", None, None).await;
}

/// An event of a newer version ends the stream before it, and is not lost.
#[tokio::test]
async fn what_this_version_does_not_know_is_not_passed_over() {
    let database = TestDatabase::create(&MIGRATIONS).await;
    let feed = Feed::new(&database.pool);
    write(&database.pool, 1, 1, 1, start()).await;
    let client = database.pool.get().await.unwrap();
    let newer = "INSERT INTO event (tenant_id, account, currency, payload, occurred_at)
                 VALUES (1, '', 'RUB', '{\"event\": \"moon_landed\"}', $1)";
    client.execute(newer, &[&start()]).await.unwrap();
    let mut stream = watch(&feed, "a", Some(1), None).await;
    assert_eq!(stream.next().await.unwrap().unwrap().number, 1);
    assert!(matches!(stream.next().await.unwrap_err(), Refusal::Newer));
    assert_eq!(stream.place(), 1);
}

/// Asks until the answer is yes.
async fn until(client: &Client, question: &'static str) {
    for _ in 0..1_000 {
        if client.query_one(question, &[]).await.unwrap().get(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never so: {question}");
}

/// Reliability, commit and replay 6: an event whose commit no standby has is visible in the table, and is
/// not handed out.
#[tokio::test]
async fn an_event_that_a_failover_could_lose_is_not_handed_out() {
    let directory = std::env::temp_dir().join(format!("adspend-events-{}", std::process::id()));
    let cluster = Cluster::start(&directory, None).unwrap();
    cluster.create_database("billing").unwrap();
    let settings = Database::new(cluster.url("billing"));
    MIGRATIONS.up(&settings, start()).await.unwrap();
    let pool = Pool::new(&settings, "events-test").unwrap();
    let watcher = pool.get().await.unwrap();
    let standby = async |names: &str| {
        watcher.batch_execute(names).await.unwrap();
        watcher.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    };
    // A standby that does not exist: every commit waits for it.
    standby("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    until(&watcher, "SELECT current_setting('synchronous_standby_names') = 'nobody'").await;
    let writer = tokio::spawn({
        let pool = pool.clone();
        async move { write(&pool, 1, 1, 1, start()).await }
    });
    until(&watcher, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'").await;
    watcher
        .query(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
            &[],
        )
        .await
        .unwrap();
    assert!(writer.await.is_err(), "the writer is told that the outcome is not known");
    until(&watcher, "SELECT count(*) = 1 FROM event WHERE number = 1").await;

    let feed = Feed::new(&pool);
    let mut watching = tokio::spawn({
        let feed = feed.clone();
        async move { watch(&feed, "a", Some(1), None).await.next().await.unwrap() }
    });
    // The feed asks the database to make it safe, and waits for that.
    until(&watcher, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'").await;
    let early = tokio::time::timeout(Duration::from_millis(300), &mut watching).await;
    assert!(early.is_err(), "handed out: {early:?}");

    standby("ALTER SYSTEM RESET synchronous_standby_names").await;
    let given = tokio::time::timeout(PATIENCE, watching).await.unwrap().unwrap();
    assert_eq!(given.unwrap().number, 1);
    drop(watcher);
    pool.close();
    cluster.stop().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}
