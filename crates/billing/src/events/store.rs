//! The SQL of events.

use adspend_common::db::{self, Tx};
use chrono::{DateTime, Utc};

use super::{Event, Subject};

const INSERT: &str = "-- events.insert
INSERT INTO event (tenant_id, account, currency, payload, occurred_at)
SELECT tenant_id, account, currency, payload::jsonb, $5
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[])
     WITH ORDINALITY AS e (tenant_id, account, currency, payload, ordinal)
ORDER BY ordinal";

/// Writes events in the order given; their numbers come with the commit.
pub(super) async fn insert<'a>(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    events: impl IntoIterator<Item = (Subject<'a>, &'a Event)>,
) -> Result<(), db::Error> {
    let (mut tenants, mut accounts) = (Vec::new(), Vec::new());
    let (mut currencies, mut payloads) = (Vec::new(), Vec::new());
    for (Subject { tenant, account, currency }, event) in events {
        tenants.push(tenant.0);
        accounts.push(account.map_or("", |account| account.as_str()));
        currencies.push(currency);
        payloads.push(serde_json::to_string(event).map_err(|e| db::Error::other(e.to_string()))?);
    }
    tx.execute(INSERT, &[&tenants, &accounts, &currencies, &payloads, &now]).await?;
    Ok(())
}
