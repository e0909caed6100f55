//! The SQL of events.

use adspend_common::{
    db::{self, Client, Row, Tx},
    id::AccountId,
};
use chrono::{DateTime, Utc};

use super::{Event, Happened, Subject};
use crate::ledger::TenantNo;

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

const STANDING: &str = "-- events.standing
SELECT position, EXISTS (SELECT FROM event WHERE position IS NULL) AS pending FROM event_head";

/// How far events have been handed out by anybody, and whether there are others. Writes nothing.
pub(super) async fn standing(client: &Client) -> Result<(i64, bool), db::Error> {
    let row = client.query_one(STANDING, &[]).await?;
    Ok((row.try_get("position")?, row.try_get("pending")?))
}

const LOCK_HEAD: &str = "-- events.lock_head
SELECT position FROM event_head FOR NO KEY UPDATE";

// In every tenant positions follow numbers: what is seen of a tenant is a beginning of its numbers, because
// a number is given under the counter's lock, and what is claimed later gets a later position.
const CLAIM: &str = "-- events.claim
UPDATE event e SET position = $1 + due.nth
FROM (SELECT tenant_id, entry, row_number() OVER (ORDER BY tenant_id, number) AS nth
      FROM event WHERE position IS NULL
      ORDER BY tenant_id, number LIMIT $2) due
WHERE e.tenant_id = due.tenant_id AND e.entry = due.entry";

// Also when there is nothing to claim: the commit of this write waits for the standby, and so proves that
// what was read before it is there too.
const MOVE_HEAD: &str = "-- events.move_head
UPDATE event_head SET position = $1, claims = claims + 1";

/// Gives positions to events that have none, at most `limit`, behind the lock of the head; the position of the
/// last one, and whether there may be more. To be believed when the transaction is committed.
pub(super) async fn claim(tx: &Tx<'_>, limit: i64) -> Result<(i64, bool), db::Error> {
    let head: i64 = tx.query_one(LOCK_HEAD, &[]).await?.try_get(0)?;
    let claimed = i64::try_from(tx.execute(CLAIM, &[&head, &limit]).await?).unwrap_or(i64::MAX);
    let position = head.saturating_add(claimed);
    tx.execute(MOVE_HEAD, &[&position]).await?;
    Ok((position, claimed >= limit))
}

const ADVANCED: &str = "-- events.advanced
SELECT tenant_id, max(number) AS number FROM event WHERE position > $1 AND position <= $2
GROUP BY tenant_id";

/// The last number of each tenant that has events between two positions.
pub(super) async fn advanced(
    client: &Client,
    from: i64,
    to: i64,
) -> Result<Vec<(TenantNo, i64)>, db::Error> {
    let rows = client.query(ADVANCED, &[&from, &to]).await?;
    rows.iter()
        .map(|row| Ok((TenantNo(row.try_get("tenant_id")?), row.try_get("number")?)))
        .collect()
}

const OF_TENANT: &str = "-- events.of_tenant
SELECT e.number, e.number AS place, o.name AS tenant, e.account, e.currency,
       e.payload::text AS payload, e.occurred_at
FROM event e LEFT JOIN account o ON o.account_id = e.tenant_id
WHERE e.tenant_id = $4 AND e.number > $1 AND e.position <= $2
ORDER BY e.number LIMIT $3";

const OF_ALL: &str = "-- events.of_all
SELECT e.number, e.position AS place, o.name AS tenant, e.account, e.currency,
       e.payload::text AS payload, e.occurred_at
FROM event e LEFT JOIN account o ON o.account_id = e.tenant_id
WHERE e.position > $1 AND e.position <= $2
ORDER BY e.position LIMIT $3";

/// Events after a place, of those that were handed out up to a position: places are numbers within a tenant,
/// positions over all.
pub(super) async fn after(
    client: &Client,
    tenant: Option<TenantNo>,
    (place, position): (i64, i64),
    limit: i64,
) -> Result<Vec<Happened<Option<Event>>>, db::Error> {
    let rows = match tenant {
        Some(tenant) => client.query(OF_TENANT, &[&place, &position, &limit, &tenant.0]).await?,
        None => client.query(OF_ALL, &[&place, &position, &limit]).await?,
    };
    rows.iter().map(happened).collect()
}

/// The row; without its event when that is of a newer version.
fn happened(row: &Row) -> Result<Happened<Option<Event>>, db::Error> {
    let payload: &str = row.try_get("payload")?;
    let account: &str = row.try_get("account")?;
    Ok(Happened {
        place: row.try_get("place")?,
        number: row.try_get("number")?,
        tenant: row.try_get("tenant")?,
        account: AccountId::parse(account).ok(),
        currency: row.try_get("currency")?,
        event: serde_json::from_str(payload).ok(),
        at: row.try_get("occurred_at")?,
    })
}

// From the oldest on, up to the first that is kept: what is left of a tenant has no gap.
const FORGET: &str = "-- events.forget
WITH oldest AS (
    SELECT position, occurred_at FROM event WHERE position IS NOT NULL ORDER BY position LIMIT $2
), kept AS (
    SELECT min(position) AS position FROM oldest WHERE occurred_at >= $1
)
DELETE FROM event WHERE position IN (
    SELECT o.position FROM oldest o, kept k WHERE k.position IS NULL OR o.position < k.position)";

/// Deletes the oldest events, those before a moment, at most `limit`.
pub(super) async fn forget(
    client: &Client,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<u64, db::Error> {
    client.execute(FORGET, &[&before, &limit]).await
}
