//! PostgreSQL: the pool, transactions, errors by what a caller could do, retries, migrations.
//!
//! Every connection is set up the same way before anybody gets it ([`Pool`]), and a server that
//! could lose an acknowledged commit (`fsync` off, asynchronous commits) is refused.
//!
//! Statements are constants that begin with `-- feature.name`. Given as text to [`Client`] or
//! [`Tx`] they are prepared once per connection. Calls on one [`Tx`] that are polled together
//! (`tokio::join!`) travel together: a transaction of n statements need not be n round trips.
//!
//! Deliberately not here: TLS to the database (a mesh or the cluster's network is expected), and
//! cancelling: a connection that may be committing is dropped, never cancelled.

mod client;
mod connect;
mod error;
pub mod migrate;
mod pool;
mod retry;
mod types;

use chrono::{DateTime, Utc};

use crate::time::{Anchored, Clock};

pub use client::{Client, Params, Sql, Tx};
pub use error::{Busy, Error, exactly, exactly_one};
pub use migrate::{Migration, Migrations};
pub use pool::{Pool, PoolStatus};
pub use retry::{Contended, retry};
pub use tokio_postgres::types::{FromSql, ToSql, Type};
pub use tokio_postgres::{Row, Statement};

// The only statement that asks the database for the time: the clock is anchored to it.
const NOW: &str = "-- db.now
SELECT clock_timestamp()";

/// The time of the database. For [`anchor`]; everything else asks the clock.
pub async fn now(client: &Client) -> Result<DateTime<Utc>, Error> {
    let row = client.query_one(NOW, &[]).await?;
    row.try_get(0).map_err(Error::from)
}

/// Sets a system clock to the database's time, half of the round trip added. Services do it when
/// they start and about once a minute; `None` when the clock has a time of its own.
pub async fn anchor(pool: &Pool, clock: &Clock) -> Result<Option<Anchored>, Error> {
    let client = pool.get().await?;
    // The first call on a connection also prepares the statement: not a round trip to measure.
    client.prepare_cached(NOW).await?;
    let sent = clock.monotonic_micros();
    let database_now = now(&client).await?;
    let round_trip = clock.monotonic_micros().saturating_sub(sent);
    Ok(clock.anchor(database_now + chrono::TimeDelta::microseconds(round_trip / 2)))
}
