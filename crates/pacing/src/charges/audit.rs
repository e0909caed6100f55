//! Whether the books of charges agree with themselves: every stored sum is counted again from the
//! rows below it, in one snapshot. For tests, and for whoever doubts.
//!
//! Cost: reads all of it. Not for a busy hour.

use adspend_common::db::{Client, Error};

/// A sum that is stored otherwise than it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which rule does not hold.
    pub what: &'static str,
    /// The row.
    pub key: String,
    /// What the row says.
    pub stored: i64,
    /// What its parts add up to.
    pub counted: i64,
}

/// Every check: what it is about, and a query for the rows that break it. What a slice keeps reserved
/// stands in migrations 0002 and 0004.
const CHECKS: [(&str, &str); 12] = [
    (
        "headroom.charged is the sum of its charges",
        "-- charges.audit.headroom_charged
WITH counted AS (
    SELECT account_no, 1 AS level, campaign_no AS entity_no, day, sum(price_micros) AS amount
    FROM charge GROUP BY account_no, campaign_no, day
    UNION ALL
    SELECT account_no, 2, account_no, day, sum(price_micros) FROM charge GROUP BY account_no, day)
SELECT concat_ws('/', account_no, level, entity_no, day),
    coalesce(h.charged_micros, 0)::bigint, coalesce(c.amount, 0)::bigint
FROM headroom h FULL JOIN counted c USING (account_no, level, entity_no, day)
WHERE coalesce(h.charged_micros, 0) <> coalesce(c.amount, 0)",
    ),
    (
        "headroom.charges is their number",
        "-- charges.audit.headroom_charges
WITH counted AS (
    SELECT account_no, 1 AS level, campaign_no AS entity_no, day, count(*) AS amount
    FROM charge GROUP BY account_no, campaign_no, day
    UNION ALL
    SELECT account_no, 2, account_no, day, count(*) FROM charge GROUP BY account_no, day)
SELECT concat_ws('/', account_no, level, entity_no, day),
    coalesce(h.charges, 0)::bigint, coalesce(c.amount, 0)::bigint
FROM headroom h FULL JOIN counted c USING (account_no, level, entity_no, day)
WHERE coalesce(h.charges, 0) <> coalesce(c.amount, 0)",
    ),
    (
        "headroom.reserved is what its slices keep",
        "-- charges.audit.headroom_reserved
WITH kept AS (
    SELECT account_no, campaign_no, day, sum(CASE WHEN state = 3 THEN 0
        WHEN is_expected THEN GREATEST(amount_micros - charged_micros, 0)
        WHEN state = 1 THEN amount_micros - charged_micros ELSE taken_micros - closed_micros END) AS amount
    FROM slice GROUP BY account_no, campaign_no, day),
counted AS (
    SELECT account_no, 1 AS level, campaign_no AS entity_no, day, amount FROM kept
    UNION ALL
    SELECT account_no, 2, account_no, day, sum(amount) FROM kept GROUP BY account_no, day)
SELECT concat_ws('/', account_no, level, entity_no, day),
    coalesce(h.reserved_micros, 0)::bigint, coalesce(c.amount, 0)::bigint
FROM headroom h FULL JOIN counted c USING (account_no, level, entity_no, day)
WHERE coalesce(h.reserved_micros, 0) <> coalesce(c.amount, 0)",
    ),
    (
        "hold.reserved is what its slices keep",
        "-- charges.audit.hold_reserved
WITH counted AS (
    SELECT account_no, hold_no, sum(CASE WHEN state = 3 THEN 0
        WHEN is_expected THEN GREATEST(amount_micros - charged_micros, 0)
        WHEN state = 1 THEN amount_micros - charged_micros ELSE taken_micros - closed_micros END) AS amount
    FROM slice GROUP BY account_no, hold_no)
SELECT concat_ws('/', account_no, hold_no),
    coalesce(h.reserved_micros, 0)::bigint, coalesce(c.amount, 0)::bigint
FROM hold h FULL JOIN counted c USING (account_no, hold_no)
WHERE coalesce(h.reserved_micros, 0) <> coalesce(c.amount, 0)",
    ),
    (
        "hold.charged is the sum of its slices",
        "-- charges.audit.hold_charged
WITH counted AS (
    SELECT account_no, hold_no, sum(charged_micros) AS amount
    FROM slice GROUP BY account_no, hold_no)
SELECT concat_ws('/', account_no, hold_no),
    coalesce(h.charged_micros, 0)::bigint, coalesce(c.amount, 0)::bigint
FROM hold h FULL JOIN counted c USING (account_no, hold_no)
WHERE coalesce(h.charged_micros, 0) <> coalesce(c.amount, 0)",
    ),
    (
        "hold.charged is the sum of its spends",
        "-- charges.audit.hold_spends
WITH counted AS (
    SELECT account_no, hold_no, sum(charged_micros) AS amount
    FROM hold_spend GROUP BY account_no, hold_no)
SELECT concat_ws('/', account_no, hold_no),
    coalesce(h.charged_micros, 0)::bigint, coalesce(c.amount, 0)::bigint
FROM hold h FULL JOIN counted c USING (account_no, hold_no)
WHERE coalesce(h.charged_micros, 0) <> coalesce(c.amount, 0)",
    ),
    (
        "hold_spend.charged is the sum of its charges",
        "-- charges.audit.spend_charged
WITH counted AS (
    SELECT s.account_no, s.hold_no, c.campaign_no, sum(c.price_micros) AS amount
    FROM charge c JOIN slice s USING (account_no, slice_no)
    GROUP BY s.account_no, s.hold_no, c.campaign_no)
SELECT concat_ws('/', account_no, hold_no, campaign_no),
    coalesce(h.charged_micros, 0)::bigint, coalesce(c.amount, 0)::bigint
FROM hold_spend h FULL JOIN counted c USING (account_no, hold_no, campaign_no)
WHERE coalesce(h.charged_micros, 0) <> coalesce(c.amount, 0)",
    ),
    (
        "slice.charged is the sum of its charges",
        "-- charges.audit.slice_charged
WITH counted AS (
    SELECT account_no, slice_no, sum(price_micros) AS amount
    FROM charge WHERE slice_no IS NOT NULL GROUP BY account_no, slice_no)
SELECT concat_ws('/', account_no, slice_no),
    s.charged_micros::bigint, coalesce(c.amount, 0)::bigint
FROM slice s LEFT JOIN counted c USING (account_no, slice_no)
WHERE s.charged_micros <> coalesce(c.amount, 0)",
    ),
    (
        "slice.closed is the sum of what ended",
        "-- charges.audit.slice_closed
WITH ended AS (
    SELECT account_no, slice_no, reserved_micros FROM charge WHERE slice_no IS NOT NULL
    UNION ALL
    SELECT account_no, slice_no, reserved_micros FROM cancellation),
counted AS (
    SELECT account_no, slice_no, sum(reserved_micros) AS amount
    FROM ended GROUP BY account_no, slice_no)
SELECT concat_ws('/', account_no, slice_no),
    s.closed_micros::bigint, coalesce(c.amount, 0)::bigint
FROM slice s LEFT JOIN counted c USING (account_no, slice_no)
WHERE s.closed_micros <> coalesce(c.amount, 0)",
    ),
    (
        "slice.cancellations is their number",
        "-- charges.audit.slice_cancellations
WITH counted AS (
    SELECT account_no, slice_no, count(*) AS amount
    FROM cancellation GROUP BY account_no, slice_no)
SELECT concat_ws('/', account_no, slice_no),
    s.cancellations::bigint, coalesce(c.amount, 0)::bigint
FROM slice s LEFT JOIN counted c USING (account_no, slice_no)
WHERE s.cancellations <> coalesce(c.amount, 0)",
    ),
    (
        "an admission is settled or cancelled",
        "-- charges.audit.ended_twice
SELECT concat_ws('/', account_no, slice_no, admission_no), 1::bigint, 2::bigint
FROM charge JOIN cancellation USING (account_no, slice_no, admission_no)",
    ),
    (
        "a charge without a hold goes to billing by itself",
        "-- charges.audit.late_charges
WITH counted AS (
    SELECT c.account_no, c.charge_id, c.price_micros
    FROM charge c LEFT JOIN slice s USING (account_no, slice_no) WHERE s.slice_no IS NULL)
SELECT concat_ws('/', account_no, charge_id),
    coalesce(l.price_micros, 0)::bigint, coalesce(c.price_micros, 0)::bigint
FROM late_charge l FULL JOIN counted c USING (account_no, charge_id)
WHERE coalesce(l.price_micros, 0) <> coalesce(c.price_micros, 0)",
    ),
];

/// Every difference that there is; none when the books agree.
pub async fn audit(client: &mut Client) -> Result<Vec<Difference>, Error> {
    let snapshot = client.snapshot().await?;
    let mut differences = Vec::new();
    for (what, sql) in CHECKS {
        for row in snapshot.query(sql, &[]).await? {
            differences.push(Difference {
                what,
                key: row.try_get(0)?,
                stored: row.try_get(1)?,
                counted: row.try_get(2)?,
            });
        }
    }
    snapshot.rollback().await?;
    Ok(differences)
}
