//! The SQL of secrets.

use adspend_common::db::{self, Client};
use chrono::{DateTime, Utc};

const INSERT: &str = "-- secrets.insert
INSERT INTO service_secret (name, secret, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";

/// Keeps this secret unless there is one of that name.
pub(super) async fn insert(
    client: &Client,
    name: &str,
    secret: [u8; 32],
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    client.execute(INSERT, &[&name, &secret.as_slice(), &now]).await?;
    Ok(())
}

const FIND: &str = "-- secrets.find
SELECT secret FROM service_secret WHERE name = $1";

pub(super) async fn find(client: &Client, name: &str) -> Result<[u8; 32], db::Error> {
    let row = client.query_one(FIND, &[&name]).await?;
    let secret: &[u8] = row.try_get(0)?;
    secret.try_into().map_err(|_| db::Error::other("a secret has another length"))
}
