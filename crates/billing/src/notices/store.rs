//! The SQL of notices.

use adspend_common::db::{self, Client, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    Notice,
    deliver::{Claimed, Outcome},
};
use crate::ledger::{AccountKey, AccountNo, TenantNo};

/// The states of a notice as the database keeps them.
const QUEUED: i16 = 1;
const SENT: i16 = 2;
const FAILED: i16 = 3;
const NOBODY: i16 = 4;

const INSERT: &str = "-- notices.insert
INSERT INTO notice (tenant_id, notice_id, account_id, kind, subject_key, content, created_at, next_attempt_at)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $7)
ON CONFLICT (tenant_id, kind, subject_key) DO NOTHING";

/// False when there is one of this kind with this key. Waits for a transaction that makes the same one.
pub(super) async fn insert(
    tx: &Tx<'_>,
    id: Uuid,
    now: DateTime<Utc>,
    notice: &Notice,
) -> Result<bool, db::Error> {
    let Notice { to, subject_key, content } = notice;
    let kind = content.kind();
    let content = serde_json::to_string(content).map_err(|e| db::Error::other(e.to_string()))?;
    let (tenant, account) = (to.tenant.0, to.account.0);
    let inserted =
        tx.execute(INSERT, &[&tenant, &id, &account, &kind, subject_key, &content, &now]).await?;
    Ok(inserted == 1)
}

const CLAIM: &str = "-- notices.claim
UPDATE notice SET attempts = attempts + 1, next_attempt_at = $2
WHERE (tenant_id, notice_id) IN (
    SELECT tenant_id, notice_id FROM notice
    WHERE state = 1 AND next_attempt_at <= $1
    ORDER BY next_attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING tenant_id, notice_id, account_id, content::text AS content, attempts, created_at";

/// Takes notices that are due; nobody else takes them before the end of the lease.
pub(super) async fn claim(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Claimed>, db::Error> {
    let rows = tx.query(CLAIM, &[&now, &until, &limit]).await?;
    rows.iter()
        .map(|row| {
            let content: &str = row.try_get("content")?;
            Ok(Claimed {
                id: row.try_get("notice_id")?,
                to: AccountKey {
                    tenant: TenantNo(row.try_get("tenant_id")?),
                    account: AccountNo(row.try_get("account_id")?),
                },
                content: serde_json::from_str(content).ok(),
                attempt: row.try_get("attempts")?,
                created_at: row.try_get("created_at")?,
            })
        })
        .collect()
}

const FINISH: &str = "-- notices.finish
UPDATE notice SET state = $4, next_attempt_at = $5, finished_at = $6, recipient = $7, last_error = $8
WHERE tenant_id = $1 AND notice_id = $2 AND attempts = $3 AND state = 1";

/// Writes what became of an attempt; false when somebody else has taken the notice since.
pub(super) async fn finish(
    client: &Client,
    claimed: &Claimed,
    outcome: &Outcome,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let Claimed { id, to, attempt, .. } = claimed;
    let (state, next, finished, recipient, error): (i16, _, _, _, _) = match outcome {
        Outcome::Sent { recipient } => (SENT, None, Some(now), Some(recipient), None),
        Outcome::Again { at, why } => (QUEUED, Some(*at), None, None, Some(why)),
        Outcome::Failed { why } => (FAILED, None, Some(now), None, Some(why)),
        Outcome::Nobody => (NOBODY, None, Some(now), None, None),
    };
    let set = client
        .execute(FINISH, &[&to.tenant.0, id, attempt, &state, &next, &finished, &recipient, &error])
        .await?;
    Ok(set == 1)
}

const GIVE_UP: &str = "-- notices.give_up
UPDATE notice SET state = 3, next_attempt_at = NULL, finished_at = $2,
       last_error = coalesce(last_error, 'e-mail was off')
WHERE (tenant_id, notice_id) IN (
    SELECT tenant_id, notice_id FROM notice
    WHERE state = 1 AND next_attempt_at <= $2 AND created_at < $1
    LIMIT $3 FOR UPDATE SKIP LOCKED)";

/// Ends notices from before a moment that wait to be sent.
pub(super) async fn give_up(
    client: &Client,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<u64, db::Error> {
    client.execute(GIVE_UP, &[&before, &now, &limit]).await
}
