//! The tables `replica` and `secret`.

use adspend_common::db::{self, Client};
use chrono::{DateTime, Utc};
use rand::RngCore;
use uuid::Uuid;

/// The length of a shared key.
pub(super) const SECRET_BYTES: usize = 32;

// The count is of the rows before this statement, so its own row is counted apart.
const BEAT: &str = "-- replicas.beat
WITH gone AS (DELETE FROM replica WHERE seen_at < $3 AND replica <> $1),
own AS (
    INSERT INTO replica (replica, started_at, seen_at) VALUES ($1, $2, $2)
    ON CONFLICT ON CONSTRAINT replica_pkey DO UPDATE SET seen_at = EXCLUDED.seen_at)
SELECT count(*) + 1 AS live FROM replica WHERE seen_at >= $3 AND replica <> $1";

/// Notes that a replica lives, forgets those not seen since `gone`, and counts who is left.
pub(super) async fn beat(
    db: &Client,
    replica: Uuid,
    now: DateTime<Utc>,
    gone: DateTime<Utc>,
) -> Result<u32, db::Error> {
    let live: i64 = db.query_one(BEAT, &[&replica, &now, &gone]).await?.try_get("live")?;
    Ok(u32::try_from(live).unwrap_or(u32::MAX))
}

const LEAVE: &str = "-- replicas.leave
DELETE FROM replica WHERE replica = $1";

/// Strikes a replica off that ends in order.
pub(super) async fn leave(db: &Client, replica: Uuid) -> Result<(), db::Error> {
    db.execute(LEAVE, &[&replica]).await.map(|_| ())
}

const MAKE_SECRET: &str = "-- replicas.make_secret
INSERT INTO secret (name, value, made_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";

const SECRET: &str = "-- replicas.secret
SELECT value FROM secret WHERE name = $1";

/// A key that all replicas share: the first that asks makes it.
pub async fn secret(
    db: &Client,
    name: &str,
    now: DateTime<Utc>,
) -> Result<[u8; SECRET_BYTES], db::Error> {
    let mut fresh = [0; SECRET_BYTES];
    rand::rng().fill_bytes(&mut fresh);
    db.execute(MAKE_SECRET, &[&name, &fresh.as_slice(), &now]).await?;
    let row = db.query_one(SECRET, &[&name]).await?;
    let value: &[u8] = row.try_get("value")?;
    value.try_into().map_err(|_| db::Error::other(format!("the secret {name} has another length")))
}
