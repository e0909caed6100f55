//! The SQL of notices.

use adspend_common::db::{self, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Notice;

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
