//! The SQL of corrections.

use adspend_common::{
    db::{self, Tx},
    money::Money,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{NewCredit, Spend};
use crate::ledger::{AccountKey, AccountNo, TenantNo};

// What was reversed is neither charged nor given back. Index only, but as long as the campaign has charges.
const SPEND: &str = "-- corrections.spend
SELECT (SELECT coalesce(sum(l.amount_micros), 0)::bigint FROM ledger_leg l
        WHERE l.tenant_id = $1 AND l.from_account = $2 AND l.object = $3 AND l.kind IN (10, 13)
          AND NOT EXISTS (SELECT FROM reversal r
                          WHERE r.tenant_id = l.tenant_id AND r.posting_id = l.posting_id)),
       (SELECT coalesce(sum(c.amount_micros), 0)::bigint FROM click_credit c
        WHERE c.tenant_id = $1 AND c.account_id = $2 AND c.campaign = $3
          AND NOT EXISTS (SELECT FROM reversal r
                          WHERE r.tenant_id = c.tenant_id AND r.posting_id = c.posting_id))";

/// What a locked account was charged for a campaign, and what of it went back.
pub(super) async fn spend(
    tx: &Tx<'_>,
    key: AccountKey,
    campaign: &str,
) -> Result<Spend, db::Error> {
    let row = tx.query_one(SPEND, &[&key.tenant.0, &key.account.0, &campaign]).await?;
    Ok(Spend { charged: row.try_get(0)?, credited: row.try_get(1)? })
}

// After the last entry that a closed month's act is about; a month without an act has no documents.
const OPEN_SPEND: &str = "-- corrections.open_spend
WITH closed AS (
    SELECT coalesce(max(c.last_version), 0) AS last FROM closed_account c
    WHERE c.tenant_id = $1 AND c.account_id = $2
      AND EXISTS (SELECT FROM document d WHERE d.tenant_id = c.tenant_id AND d.kind = 2 AND d.month = c.month)
)
SELECT (SELECT coalesce(sum(l.amount_micros), 0)::bigint FROM ledger_leg l, closed
        WHERE l.tenant_id = $1 AND l.from_account = $2 AND l.object = $3 AND l.kind IN (10, 13)
          AND l.from_version > closed.last
          AND NOT EXISTS (SELECT FROM reversal r
                          WHERE r.tenant_id = l.tenant_id AND r.posting_id = l.posting_id)),
       (SELECT coalesce(sum(c.amount_micros - c.spend_only_micros), 0)::bigint
        FROM click_credit c
        JOIN ledger_leg l ON l.tenant_id = c.tenant_id AND l.posting_id = c.posting_id, closed
        WHERE c.tenant_id = $1 AND c.account_id = $2 AND c.campaign = $3 AND l.to_version > closed.last
          AND NOT EXISTS (SELECT FROM reversal r
                          WHERE r.tenant_id = c.tenant_id AND r.posting_id = c.posting_id))";

/// The same of what no closed month's documents are about; of credits the part that is not for spend only.
pub(super) async fn open_spend(
    tx: &Tx<'_>,
    key: AccountKey,
    campaign: &str,
) -> Result<Spend, db::Error> {
    let row = tx.query_one(OPEN_SPEND, &[&key.tenant.0, &key.account.0, &campaign]).await?;
    Ok(Spend { charged: row.try_get(0)?, credited: row.try_get(1)? })
}

const SPEND_ONLY_OF: &str = "-- corrections.spend_only_of
SELECT account_id, spend_only_micros FROM click_credit
WHERE tenant_id = $1 AND posting_id = $2 AND spend_only_micros > 0";

/// The account that a posting gave money for spend only, and how much of it.
pub(super) async fn spend_only_of(
    tx: &Tx<'_>,
    (tenant, posting): (TenantNo, Uuid),
) -> Result<Option<(AccountKey, Money)>, db::Error> {
    let row = tx.query_opt(SPEND_ONLY_OF, &[&tenant.0, &posting]).await?;
    row.map(|row| {
        let account = AccountNo(row.try_get(0)?);
        Ok((AccountKey { tenant, account }, row.try_get(1)?))
    })
    .transpose()
}

const INSERT_CREDIT: &str = "-- corrections.insert_credit
INSERT INTO click_credit (tenant_id, account_id, campaign, posting_id, amount_micros, reason, credited_at,
                          spend_only_micros)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

pub(super) async fn insert_credit(
    tx: &Tx<'_>,
    key: AccountKey,
    posting: Uuid,
    (campaign, new, spend_only): (&str, &NewCredit, Money),
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    let (tenant, account) = (key.tenant.0, key.account.0);
    let inserted = tx
        .execute(
            INSERT_CREDIT,
            &[&tenant, &account, &campaign, &posting, &new.amount, &new.reason, &now, &spend_only],
        )
        .await?;
    db::exactly_one(inserted, "corrections.insert_credit")
}

const POSTING_OF: &str = "-- corrections.posting_of
SELECT posting_id FROM ledger_entry WHERE tenant_id = $1 AND account_id = $2 AND version = $3";

/// The posting that made an entry of an account.
pub(super) async fn posting_of(
    tx: &Tx<'_>,
    key: AccountKey,
    number: i64,
) -> Result<Option<Uuid>, db::Error> {
    let row = tx.query_opt(POSTING_OF, &[&key.tenant.0, &key.account.0, &number]).await?;
    row.map(|row| row.try_get(0).map_err(db::Error::from)).transpose()
}

const INSERT_REVERSAL: &str = "-- corrections.insert_reversal
INSERT INTO reversal (tenant_id, posting_id, reversed_by, reason, reversed_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, posting_id) DO NOTHING";

/// False when the posting was reversed before.
pub(super) async fn insert_reversal(
    tx: &Tx<'_>,
    (tenant, posting): (TenantNo, Uuid),
    by: Uuid,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let inserted = tx.execute(INSERT_REVERSAL, &[&tenant.0, &posting, &by, &reason, &now]).await?;
    Ok(inserted == 1)
}
