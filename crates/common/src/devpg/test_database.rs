//! A database per test: cloned in a fraction of a second from a template that has the schema.
//!
//! The template is made once per schema, by whichever test process comes first, under an advisory
//! lock; its name holds the checksum of the migrations, so a new migration makes a new template.
//! It is migrated under another name and renamed when complete: a template that exists is whole.

use std::time::Duration;

use chrono::DateTime;
use rand::Rng;

use super::block_on;
use super::cluster::quoted;
use crate::config::{Database, HumanDuration};
use crate::db::{self, Client, Migrations, Pool};
use crate::time::Clock;

/// Holds the URL of the database `postgres` of a cluster, for a superuser.
pub const TEST_DATABASE_VARIABLE: &str = "ADSPEND_TEST_DATABASE_URL";

/// A test that was killed cannot drop its database; after this long somebody else does.
const STALE_AFTER: Duration = Duration::from_secs(60 * 60);
/// Making databases one after the other is slow on a busy machine, and tests come in dozens.
const PATIENCE: HumanDuration = HumanDuration::from_secs(120);
/// Connections that one test may open: many tests share the server's 200.
const POOL_SIZE: u16 = 8;
/// A template may vanish between looking and cloning when another schema is being tested.
const ATTEMPTS: u32 = 3;
/// "adspend test templates", as a number of our own.
const TEMPLATE_LOCK: i64 = 0x0ad5_9e4d_7e57;

/// What the name of a template ends in while it is being made.
const UNFINISHED: &str = "_unfinished";

const LOCK: &str = "-- devpg.lock_templates
SELECT pg_advisory_lock($1)";

const UNLOCK: &str = "-- devpg.unlock_templates
SELECT pg_advisory_unlock($1)";

const EXISTS: &str = "-- devpg.exists
SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)";

// The underscore is a wildcard in LIKE, so the prefix is compared as a text.
const NAMED_LIKE: &str = "-- devpg.named_like
SELECT datname FROM pg_database WHERE starts_with(datname, $1)";

/// A database with the schema of a service, and nothing in it. Dropped it is removed.
#[derive(Debug)]
pub struct TestDatabase {
    /// Connections to it.
    pub pool: Pool,
    name: String,
    server: String,
    config: Database,
}

impl TestDatabase {
    /// Makes one.
    ///
    /// # Panics
    /// When [`TEST_DATABASE_VARIABLE`] is not set or the server does not do as it is told: a test
    /// has nothing better to do.
    pub async fn create(migrations: &Migrations) -> TestDatabase {
        let Ok(server) = std::env::var(TEST_DATABASE_VARIABLE) else {
            panic!("{TEST_DATABASE_VARIABLE} is not set: `make test` starts a database and sets it")
        };
        match create(&server, migrations).await {
            Ok(database) => database,
            Err(error) => panic!("no test database: {}", with_causes(&error)),
        }
    }

    /// Its URL, for a superuser.
    pub fn url(&self) -> &str {
        self.config.url.expose()
    }

    /// Its settings, for a service that is started on it.
    pub fn config(&self) -> Database {
        self.config.clone()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for TestDatabase {
    /// As good as it goes: what remains is removed as stale by a later test.
    fn drop(&mut self) {
        self.pool.close();
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&self.name));
        let server = admin_config(&self.server);
        let _ = block_on(async {
            Pool::new(&server, "adspend-test-drop")?.get().await?.batch_execute(&statement).await
        });
    }
}

/// Why there is no test database.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the server refused")]
    Db(#[from] db::Error),
    #[error("the template cannot be migrated")]
    Migrate(#[from] db::migrate::Error),
}

async fn create(server: &str, migrations: &Migrations) -> Result<TestDatabase, Error> {
    let clock = Clock::system();
    let admin = Pool::new(&admin_config(server), "adspend-test")?.get().await?;
    let service = migrations.service();
    let template = format!("adspend_template_{service}_{}", &migrations.checksum()[..16]);
    let name = test_name(service, clock.now(), rand::rng().random());
    let clone = format!("CREATE DATABASE {} TEMPLATE {}", quoted(&name), quoted(&template));
    let mut attempt = 1;
    loop {
        if !exists(&admin, &template).await? {
            // The lock belongs to this connection; closing it on an error frees the lock.
            admin.execute(LOCK, &[&TEMPLATE_LOCK]).await?;
            make_template(&admin, server, migrations, &template, &clock).await?;
            admin.execute(UNLOCK, &[&TEMPLATE_LOCK]).await?;
        }
        match admin.batch_execute(&clone).await {
            Ok(()) => break,
            Err(error) if attempt == ATTEMPTS => return Err(error.into()),
            Err(_) => attempt += 1,
        }
    }
    let mut config = Database::new(database_url(server, &name));
    config.pool_size = POOL_SIZE;
    // Tests run many at a time on two cores: patience here hides no fault, it saves false alarms.
    config.pool_wait = HumanDuration::from_secs(30);
    config.connect_timeout = HumanDuration::from_secs(30);
    config.statement_timeout = HumanDuration::from_secs(30);
    config.lock_timeout = HumanDuration::from_secs(15);
    let pool = Pool::new(&config, "adspend-test")?;
    Ok(TestDatabase { pool, name, server: server.to_owned(), config })
}

/// Under the lock: looks again, tidies up, and makes it.
async fn make_template(
    admin: &Client,
    server: &str,
    migrations: &Migrations,
    template: &str,
    clock: &Clock,
) -> Result<(), Error> {
    if exists(admin, template).await? {
        return Ok(());
    }
    remove_stale(admin, migrations.service(), clock).await?;
    let unfinished = format!("{template}{UNFINISHED}");
    let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&unfinished));
    admin.batch_execute(&drop).await?;
    admin.batch_execute(&format!("CREATE DATABASE {}", quoted(&unfinished))).await?;
    let mut config = Database::new(database_url(server, &unfinished));
    config.connect_timeout = PATIENCE;
    migrations.up(&config, clock.now()).await?;
    let rename = format!("ALTER DATABASE {} RENAME TO {}", quoted(&unfinished), quoted(template));
    admin.batch_execute(&rename).await?;
    Ok(())
}

/// Removes templates of other schemas of this service, and databases of tests that were killed.
/// One that somebody is connected to stays.
async fn remove_stale(admin: &Client, service: &str, clock: &Clock) -> Result<(), Error> {
    let now = clock.now();
    let is_stale = |name: &str| match made_at(name) {
        Some(made_at) => {
            now.signed_duration_since(made_at).to_std().is_ok_and(|age| age > STALE_AFTER)
        }
        None => true,
    };
    let prefix = format!("adspend_template_{service}_");
    let mut stale = named_like(admin, &prefix).await?;
    // What follows is the checksum: the templates of `billing` are not those of `billing_x`.
    stale.retain(|name| is_checksum(name.trim_start_matches(&prefix)));
    let tests = named_like(admin, "adspend_test_").await?;
    stale.extend(tests.into_iter().filter(|name| is_stale(name)));
    for name in stale {
        if let Err(error) = admin.batch_execute(&format!("DROP DATABASE {}", quoted(&name))).await {
            tracing::debug!(name, %error, "a stale test database stays");
        }
    }
    Ok(())
}

async fn exists(admin: &Client, name: &str) -> Result<bool, db::Error> {
    Ok(admin.query_one(EXISTS, &[&name]).await?.try_get(0)?)
}

async fn named_like(admin: &Client, prefix: &str) -> Result<Vec<String>, db::Error> {
    let rows = admin.query(NAMED_LIKE, &[&prefix]).await?;
    rows.iter().map(|row| row.try_get(0).map_err(db::Error::from)).collect()
}

/// Says when it was made, in seconds, so that others can tell how old it is.
fn test_name(service: &str, now: DateTime<chrono::Utc>, random: u64) -> String {
    format!("adspend_test_{service}_{}_{random:016x}", now.timestamp())
}

fn is_checksum(text: &str) -> bool {
    text.trim_end_matches(UNFINISHED).bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn made_at(name: &str) -> Option<DateTime<chrono::Utc>> {
    let seconds = name.rsplit('_').nth(1)?.parse().ok()?;
    DateTime::from_timestamp(seconds, 0)
}

/// One connection, and the patience that making databases on a busy machine needs.
fn admin_config(server: &str) -> Database {
    let mut config = Database::new(server);
    config.pool_size = 1;
    config.connect_timeout = PATIENCE;
    config.statement_timeout = PATIENCE;
    config.lock_timeout = PATIENCE;
    config
}

/// The URL with another database.
fn database_url(server: &str, database: &str) -> String {
    let (address, options) = match server.split_once('?') {
        Some((address, options)) => (address, format!("?{options}")),
        None => (server, String::new()),
    };
    let address = address.rsplit_once('/').map_or(address, |(before, _)| before);
    format!("{address}/{database}{options}")
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_when_it_was_made() {
        let now = DateTime::from_timestamp(1_743_368_400, 0).unwrap();
        let name = test_name("billing", now, 0xabc);
        assert_eq!(name, "adspend_test_billing_1743368400_0000000000000abc");
        assert!(name.len() < 64, "PostgreSQL cuts longer names");
        assert_eq!(made_at(&name), Some(now));
        assert_eq!(made_at("adspend_test_billing"), None);
    }

    #[test]
    fn a_template_is_told_from_one_of_a_service_with_a_longer_name() {
        assert!(is_checksum("eec39294d1b6e2da") && is_checksum("eec39294d1b6e2da_unfinished"));
        assert!(!is_checksum("empty_e3b0c44298fc1c14"));
    }

    #[test]
    fn a_url_leads_to_another_database() {
        for (server, expected) in [
            ("postgres://u:p@127.0.0.1:5/postgres", "postgres://u:p@127.0.0.1:5/x"),
            ("postgres://h/postgres?sslmode=disable", "postgres://h/x?sslmode=disable"),
        ] {
            assert_eq!(database_url(server, "x"), expected);
        }
    }
}
