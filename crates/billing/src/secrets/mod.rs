//! Secrets that all replicas share and nobody configures: made once, kept in the database.

mod store;

use adspend_common::db::{self, Client};
use chrono::{DateTime, Utc};

/// The secret with this name; the first that asks makes it.
pub(crate) async fn get(
    client: &Client,
    name: &'static str,
    now: DateTime<Utc>,
) -> Result<[u8; 32], db::Error> {
    store::insert(client, name, rand::random(), now).await?;
    store::find(client, name).await
}
