//! What open clicks of campaigns that pay per conversion are expected to bring today: it is kept back
//! from grants (R-149, pacing.md section 6).
//!
//! Such a campaign has no hard limit: what was admitted days ago may be charged at any time. So
//! grants go on while S + due ≤ H, and stop while more is due than there is room for. Only admissions
//! whose tokens are over are due; the others are inside slices. The pacer writes what is due each
//! minute, for the day and for the next, so that there is no gap at midnight; with no word from it for
//! longer nothing is kept back, as if nothing were open.
//!
//! Not here: how much is due (`pacer::conversions`).

use std::collections::HashMap;

use adspend_common::db::{self, Tx};
use adspend_common::time::Day;

use crate::accounts::AccountNo;
use crate::budgets::Entity;

const DUE: &str = "-- leases.due
WITH due AS (
    SELECT v.account_no, v.campaign_no,
        CASE v.day WHEN $3 THEN v.due_micros ELSE v.next_due_micros END AS micros
    FROM conversion v JOIN campaign c USING (account_no, campaign_no)
    WHERE v.account_no = ANY ($1) AND v.day IN ($3, $4) AND c.payment_model = 3
)
SELECT account_no, 1::smallint AS level, campaign_no AS entity_no, micros
FROM due WHERE campaign_no = ANY ($2)
UNION ALL
SELECT account_no, 2::smallint, account_no, sum(micros)::bigint FROM due GROUP BY account_no";

/// What is due today of these campaigns, numbered with their accounts, and of the accounts; nothing is
/// due of those left out.
pub(super) async fn today(
    tx: &Tx<'_>,
    accounts: &[i64],
    campaigns: &[(i64, i64)],
    day: Day,
) -> Result<HashMap<Entity, i64>, db::Error> {
    let campaigns: Vec<i64> = campaigns.iter().map(|(_, campaign_no)| *campaign_no).collect();
    let rows = tx.query(DUE, &[&accounts, &campaigns, &day, &day.prev()]).await?;
    let mut due = HashMap::with_capacity(rows.len());
    for row in &rows {
        let entity = Entity {
            account_no: AccountNo(row.try_get("account_no")?),
            level: row.try_get("level")?,
            entity_no: row.try_get("entity_no")?,
        };
        due.insert(entity, row.try_get("micros")?);
    }
    Ok(due)
}
