//! Private clusters: what survives what. Each test makes one of its own, in about a second.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use adspend_common::config::Database;
use adspend_common::db::{self, Pool};
use adspend_common::devpg::{Cluster, Error};
use rustix::process::{Pid, Signal, kill_process};

/// A directory that is removed at the end of its test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("adspend-cluster-{}-{number}", std::process::id());
        Directory(std::env::temp_dir().join(name))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn server_pid(cluster: &Cluster) -> i32 {
    let file = fs::read_to_string(cluster.dir().join("data/postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}

fn pool(cluster: &Cluster, database: &str) -> Pool {
    Pool::new(&Database::new(cluster.url(database)), "cluster-test").unwrap()
}

async fn execute(cluster: &Cluster, sql: &str) {
    pool(cluster, "kept").get().await.unwrap().batch_execute(sql).await.unwrap();
}

async fn kept_number(cluster: &Cluster) -> i64 {
    let client = pool(cluster, "kept").get().await.unwrap();
    client.query_one("SELECT number FROM kept", &[]).await.unwrap().get(0)
}

fn start(directory: &Path) -> Cluster {
    Cluster::start(directory, None).unwrap()
}

#[tokio::test]
async fn data_survives_a_stop_and_a_crash() {
    let directory = Directory::new();
    let cluster = start(&directory.0);
    cluster.create_database("kept").unwrap();
    cluster.create_database("kept").unwrap();
    execute(&cluster, "CREATE TABLE kept (number bigint); INSERT INTO kept VALUES (7)").await;
    let port = cluster.port();
    cluster.stop().unwrap();

    let cluster = start(&directory.0);
    assert_eq!(cluster.port(), port, "URLs stay");
    assert_eq!(kept_number(&cluster).await, 7);
    let pid = Pid::from_raw(server_pid(&cluster)).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    cluster.keep_running();

    let cluster = start(&directory.0);
    assert_eq!(kept_number(&cluster).await, 7);
    assert_ne!(server_pid(&cluster), pid.as_raw_nonzero().get());
}

#[test]
fn a_second_start_says_who_runs_it() {
    let directory = Directory::new();
    let cluster = start(&directory.0);
    let error = Cluster::start(&directory.0, None).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(cluster);
    drop(start(&directory.0));
}

#[test]
fn a_server_that_outlived_its_starter_is_taken_over_and_stopped_at_the_end() {
    let directory = Directory::new();
    let cluster = start(&directory.0);
    let (pid, port) = (server_pid(&cluster), cluster.port());
    cluster.keep_running();
    let cluster = start(&directory.0);
    assert_eq!((server_pid(&cluster), cluster.port()), (pid, port));
    let pid_file = cluster.dir().join("data/postmaster.pid");
    cluster.stop().unwrap();
    assert!(!pid_file.exists());
}

#[tokio::test]
async fn a_commit_that_did_not_wait_for_its_standby_has_an_unknown_outcome() {
    let directory = Directory::new();
    let cluster = start(&directory.0);
    cluster.create_database("kept").unwrap();
    execute(&cluster, "CREATE TABLE kept (number bigint)").await;
    // A standby that does not exist: every commit waits for it.
    execute(&cluster, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    execute(&cluster, "SELECT pg_reload_conf()").await;
    let watcher = pool(&cluster, "postgres").get().await.unwrap();
    wait_for(
        &watcher,
        "SELECT count(*) > 0 FROM pg_settings
        WHERE name = 'synchronous_standby_names' AND setting = 'nobody'",
    )
    .await;

    let writer = pool(&cluster, "kept");
    let commit = tokio::spawn(async move {
        let mut client = writer.get().await?;
        let tx = client.transaction().await?;
        tx.execute("INSERT INTO kept VALUES (7)", &[]).await?;
        tx.commit().await
    });
    wait_for(&watcher, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        .await;
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    watcher.query(cancel, &[]).await.unwrap();
    let outcome = commit.await.unwrap();
    assert!(matches!(outcome, Err(db::Error::OutcomeUnknown(_))), "{outcome:?}");
}

/// Asks until the answer is yes.
async fn wait_for(client: &db::Client, question: &str) {
    for _ in 0..500 {
        if client.query_one(question, &[]).await.unwrap().get(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never so: {question}");
}
