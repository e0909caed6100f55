//! Migrations: embedded SQL, forward only, one runner at a time, never edited afterwards.
//!
//! `up` takes one advisory lock per service, so that replicas that start together run each
//! migration once; each is a transaction of its own, recorded with the SHA-256 of its text. A
//! record that differs from the binary, or that the binary does not know, stops everything: the
//! services call [`Migrations::verify`] before they serve.
//!
//! Deliberately not here: going back. A migration fits the code before and after it, so the way
//! back is another migration forward.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tokio_postgres::NoTls;

use super::connect::{SessionTimeouts, drive, parameters, set_up};
use super::{Busy, Client, Error as DbError, Row};
use crate::config::Database;

/// How long a runner waits for another one: longer than a Kubernetes start-up usually may take is
/// pointless, shorter gives up on an index that is being built.
const LOCK_WAIT: &str = "10min";
/// How long a migration waits for a table that somebody uses before it gives up: everybody else
/// queues behind that wait.
const TABLE_LOCK_WAIT: &str = "10s";

const WAIT_FOR_LOCK: &str = "-- migrate.lock
SELECT set_config('lock_timeout', $1, false)";

const LOCK: &str = "-- migrate.advisory_lock
SELECT pg_advisory_lock($1)";

const CREATE: &str = "-- migrate.create
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text CONSTRAINT schema_migrations_pkey PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL
)";

const EXISTS: &str = "-- migrate.exists
SELECT to_regclass('schema_migrations') IS NOT NULL";

const APPLIED: &str = "-- migrate.applied
SELECT name, checksum FROM schema_migrations";

const RECORD: &str = "-- migrate.record
INSERT INTO schema_migrations (name, checksum, applied_at) VALUES ($1, $2, $3)";

/// One step of a schema.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Such as `0001_ledger`; the order of the list is the order of the steps.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
}

/// The schema of a service, in steps.
#[derive(Debug, Clone, Copy)]
pub struct Migrations {
    service: &'static str,
    list: &'static [Migration],
}

/// What is known of one migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// How the binary and the database compare.
    pub state: State,
}

/// How the binary and the database compare on one migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Both have it, and it is the same.
    Applied,
    /// The binary has it, the database does not.
    Pending,
    /// Both have it, with different texts.
    Changed,
    /// The database has it, the binary does not.
    Unknown,
}

/// Why a schema cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Steps of this binary are missing: `migrate` runs them.
    #[error("the schema lacks {0}: run `migrate`")]
    Pending(String),
    /// The database has steps that this binary does not know: it is older than the schema.
    #[error("the schema has {0}, which this binary does not know")]
    Unknown(String),
    /// A step was edited after it had been applied.
    #[error("the migration {0} was changed after it had been applied")]
    Changed(String),
    /// Another runner did not finish in time.
    #[error("another migration has been running for {LOCK_WAIT}")]
    Locked,
    /// A step failed and was rolled back; those before it stand.
    #[error("the migration {name} failed")]
    Failed {
        /// The step.
        name: &'static str,
        /// Why.
        #[source]
        cause: DbError,
    },
    /// The database could not be asked.
    #[error("the state of the schema cannot be read")]
    Db(#[from] DbError),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Error {
        Error::Db(error.into())
    }
}

impl Migrations {
    /// The steps of a service, in order.
    pub const fn embedded(service: &'static str, list: &'static [Migration]) -> Migrations {
        Migrations { service, list }
    }

    /// The service.
    pub const fn service(&self) -> &'static str {
        self.service
    }

    /// One SHA-256 over all steps, in hex: two binaries with the same one have the same schema.
    pub fn checksum(&self) -> String {
        let mut all = Sha256::new();
        for migration in self.list {
            all.update(migration.name);
            all.update([0]);
            all.update(checksum(migration.sql));
        }
        hex(&all.finalize())
    }

    /// Runs what is missing and gives its names. `now` is what the steps are recorded with.
    pub async fn up(
        &self,
        database: &Database,
        now: DateTime<Utc>,
    ) -> Result<Vec<&'static str>, Error> {
        let (mut client, connection) =
            parameters(database, &format!("{}-migrate", self.service))?.connect(NoTls).await?;
        // Ends by itself when `client` is dropped at the end of this function.
        let driver = tokio::spawn(drive(connection, Arc::new(AtomicU64::new(0))));
        let result = self.up_on(&mut client, database, now).await;
        drop(client);
        // Waiting for it makes sure that the lock is free when we answer. It cannot fail but by a
        // panic, and then the connection is gone all the same.
        let _ = driver.await;
        result
    }

    async fn up_on(
        &self,
        client: &mut tokio_postgres::Client,
        database: &Database,
        now: DateTime<Utc>,
    ) -> Result<Vec<&'static str>, Error> {
        set_up(client, &SessionTimeouts::of(database).unbounded_statements()).await?;
        client.execute(WAIT_FOR_LOCK, &[&LOCK_WAIT]).await?;
        match client.execute(LOCK, &[&self.lock_key()]).await.map_err(DbError::from) {
            Err(DbError::Contention { busy: Busy::LockTimeout, .. }) => return Err(Error::Locked),
            other => other?,
        };
        client.execute(WAIT_FOR_LOCK, &[&TABLE_LOCK_WAIT]).await?;
        client.batch_execute(CREATE).await?;
        let statuses = self.compare(&client.query(APPLIED, &[]).await?)?;
        check(&statuses, Pending::IsFine)?;
        let pending: BTreeSet<&str> = statuses
            .iter()
            .filter(|status| status.state == State::Pending)
            .map(|status| status.name.as_str())
            .collect();
        let mut done = Vec::new();
        for migration in self.list.iter().filter(|migration| pending.contains(migration.name)) {
            apply(client, migration, now)
                .await
                .map_err(|cause| Error::Failed { name: migration.name, cause })?;
            tracing::info!(service = self.service, migration = migration.name, "migrated");
            done.push(migration.name);
        }
        Ok(done)
    }

    /// How binary and database compare, step by step, in order; unknown ones come last.
    pub async fn status(&self, client: &Client) -> Result<Vec<Status>, Error> {
        let exists: bool = client.query_one(EXISTS, &[]).await?.try_get(0)?;
        let rows = if exists { client.query(APPLIED, &[]).await? } else { Vec::new() };
        self.compare(&rows)
    }

    /// Makes sure that the schema is exactly the one that this binary was made for.
    pub async fn verify(&self, client: &Client) -> Result<(), Error> {
        check(&self.status(client).await?, Pending::IsAnError)
    }

    fn compare(&self, rows: &[Row]) -> Result<Vec<Status>, Error> {
        let mut recorded = BTreeMap::new();
        for row in rows {
            recorded.insert(row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?);
        }
        Ok(compare(self.list, recorded))
    }

    /// Different for each service, the same for all its versions.
    fn lock_key(&self) -> i64 {
        let digest = Sha256::digest(format!("adspend migrations of {}", self.service));
        let (first, _) = digest.split_at(size_of::<i64>());
        i64::from_be_bytes(first.try_into().expect("split at the size of an i64"))
    }
}

async fn apply(
    client: &mut tokio_postgres::Client,
    migration: &Migration,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let tx = client.transaction().await?;
    tx.batch_execute(migration.sql).await?;
    tx.execute(RECORD, &[&migration.name, &checksum(migration.sql), &now]).await?;
    tx.commit().await.map_err(|error| DbError::from(error).while_committing())
}

fn compare(list: &[Migration], mut recorded: BTreeMap<String, String>) -> Vec<Status> {
    let mut statuses = Vec::with_capacity(list.len());
    for migration in list {
        let state = match recorded.remove(migration.name) {
            None => State::Pending,
            Some(sum) if sum == checksum(migration.sql) => State::Applied,
            Some(_) => State::Changed,
        };
        statuses.push(Status { name: migration.name.to_owned(), state });
    }
    let unknown = recorded.into_keys().map(|name| Status { name, state: State::Unknown });
    statuses.extend(unknown);
    statuses
}

/// Whether a step that is missing is what we came for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    IsFine,
    IsAnError,
}

fn check(statuses: &[Status], pending: Pending) -> Result<(), Error> {
    let names = |state: State| {
        let names: Vec<&str> = statuses
            .iter()
            .filter(|status| status.state == state)
            .map(|status| status.name.as_str())
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    if let Some(names) = names(State::Changed) {
        return Err(Error::Changed(names));
    }
    if let Some(names) = names(State::Unknown) {
        return Err(Error::Unknown(names));
    }
    match names(State::Pending) {
        Some(names) if pending == Pending::IsAnError => Err(Error::Pending(names)),
        Some(_) | None => Ok(()),
    }
}

fn checksum(sql: &str) -> String {
    hex(&Sha256::digest(sql))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[Migration] = &[
        Migration { name: "0001_first", sql: "SELECT 1" },
        Migration { name: "0002_second", sql: "SELECT 2" },
    ];

    fn recorded(entries: &[(&str, &str)]) -> Vec<Status> {
        compare(LIST, entries.iter().map(|(n, sql)| ((*n).to_owned(), checksum(sql))).collect())
    }

    #[test]
    fn binary_and_database_are_compared_step_by_step() {
        let complete = [("0001_first", "SELECT 1"), ("0002_second", "SELECT 2")];
        assert!(check(&recorded(&complete), Pending::IsAnError).is_ok());
        let behind = recorded(&complete[..1]);
        assert!(check(&behind, Pending::IsFine).is_ok());
        assert_eq!(
            check(&behind, Pending::IsAnError).unwrap_err().to_string(),
            "the schema lacks 0002_second: run `migrate`"
        );
        let edited = recorded(&[("0001_first", "SELECT 3")]);
        assert!(matches!(check(&edited, Pending::IsFine), Err(Error::Changed(_))));
        let ahead = recorded(&[("0001_first", "SELECT 1"), ("0003_third", "SELECT 3")]);
        assert!(matches!(check(&ahead, Pending::IsFine), Err(Error::Unknown(_))));
    }

    #[test]
    fn the_checksum_follows_names_and_texts() {
        let sum = |list| Migrations::embedded("test", list).checksum();
        assert_eq!(sum(LIST).len(), 64);
        assert_ne!(sum(LIST), sum(&LIST[..1]));
        assert_ne!(
            sum(&[Migration { name: "a", sql: "b" }]),
            sum(&[Migration { name: "ab", sql: "" }])
        );
    }

    #[test]
    fn each_service_has_a_lock_of_its_own() {
        let key = |service| Migrations::embedded(service, &[]).lock_key();
        assert_ne!(key("billing"), key("pacing"));
        assert_eq!(key("billing"), key("billing"));
    }
}
