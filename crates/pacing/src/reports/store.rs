//! The figures of a report.

use adspend_common::db::{Error, Tx};
use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use super::rules::Figures;
use crate::budgets::Entity;

// A row even when the day has none yet.
const FIGURES: &str = "-- reports.figures
SELECT h.limit_micros,
    coalesce(h.charged_micros, 0)::bigint,
    coalesce(h.late_micros, 0)::bigint,
    coalesce(h.reserved_micros, 0)::bigint,
    coalesce(h.charges, 0)::bigint,
    (SELECT coalesce(sum(opened_micros - reserved_micros - (charged_micros - late_micros)), 0)::bigint
        FROM hold
        WHERE account_no = $1 AND state = 2 AND expires_at > $5),
    ((SELECT coalesce(sum(charged_micros - acknowledged_micros), 0)
            FROM hold_spend
            WHERE account_no = $1 AND acknowledged_micros < charged_micros)
        + (SELECT coalesce(sum(price_micros), 0)
            FROM late_charge
            WHERE account_no = $1 AND NOT acknowledged))::bigint,
    (SELECT rate_parts FROM pace_reading
        WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND read_at < $6 AND day = $4
        ORDER BY read_at DESC LIMIT 1)
FROM (SELECT 1) AS one
LEFT JOIN headroom h ON h.account_no = $1 AND h.level = $2 AND h.entity_no = $3 AND h.day = $4";

/// Reads them as of this snapshot.
pub(super) async fn figures(
    snapshot: &Tx<'_>,
    entity: Entity,
    day: Day,
    now: DateTime<Utc>,
) -> Result<Figures, Error> {
    let Entity { account_no, level, entity_no } = entity;
    let row = snapshot
        .query_one(FIGURES, &[&account_no.0, &level, &entity_no, &day, &now, &day.end()])
        .await?;
    Ok(Figures {
        granted_under: row.try_get(0)?,
        charged: row.try_get(1)?,
        late: row.try_get(2)?,
        reserved: row.try_get(3)?,
        charges: row.try_get(4)?,
        free_hold: row.try_get(5)?,
        unsettled: row.try_get(6)?,
        rate_parts: row.try_get(7)?,
    })
}
