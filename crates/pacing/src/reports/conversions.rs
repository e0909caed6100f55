//! What is still to come for conversions, and how likely it is too much.

use adspend_common::db::{Error, Tx};
use adspend_common::money::Money;
use adspend_common::time::Day;

use super::rules::money;
use crate::budgets::Entity;
use crate::controller::conversion::overshoot_probability;

/// What open admissions are expected to be charged, of an account all its campaigns together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenConversions {
    /// In all.
    pub open: Money,
    /// Of it, before the day is over.
    pub due: Money,
    /// How likely the day passes its limit, in parts of a million; `None` without a limit.
    pub overshoot_ppm: Option<i32>,
    /// What a conversion costs on average; `None` before the first.
    pub charge: Option<Money>,
}

const OPEN: &str = "-- reports.open_conversions
SELECT coalesce(sum(v.open_micros), 0)::bigint AS open,
    coalesce(sum(CASE v.day WHEN $4 THEN v.due_micros ELSE v.next_due_micros END), 0)::bigint AS due,
    coalesce(sum(v.came_micros), 0)::float8 AS came, coalesce(sum(v.came_charges), 0)::float8 AS charges,
    sum(v.expected_micros)::float8 / nullif(sum(v.expected_count), 0) AS expected
FROM conversion v JOIN campaign c USING (account_no, campaign_no)
WHERE v.account_no = $1 AND ($2 = 2::smallint OR v.campaign_no = $3) AND v.day IN ($4, $5)
    AND c.payment_model = 3
HAVING count(*) > 0";

/// What an entity has open today; `None` where nothing pays per conversion. `limit` and `charged`
/// are of today.
pub(super) async fn open(
    snapshot: &Tx<'_>,
    entity: Entity,
    today: Day,
    limit: Option<Money>,
    charged: Money,
) -> Result<Option<OpenConversions>, Error> {
    let Entity { account_no, level, entity_no } = entity;
    let params: [&(dyn adspend_common::db::ToSql + Sync); 5] =
        [&account_no.0, &level, &entity_no, &today, &today.prev()];
    let Some(row) = snapshot.query_opt(OPEN, &params).await? else { return Ok(None) };
    let (came, charges): (f64, f64) = (row.try_get("came")?, row.try_get("charges")?);
    let (open, due): (Money, Money) = (row.try_get("open")?, row.try_get("due")?);
    let charge = (charges > 0.0).then(|| came / charges);
    let expected: Option<f64> = row.try_get("expected")?;
    Ok(Some(OpenConversions {
        open,
        due,
        overshoot_ppm: limit.map(|limit| {
            // Before the first conversion what one costs is not known: what is due as one of them.
            let one = charge.or(expected).unwrap_or(due.micros() as f64);
            let [limit, charged, due] = [limit, charged, due].map(|money| money.micros() as f64);
            (overshoot_probability(limit, charged, due, one) * 1e6).round() as i32
        }),
        charge: charge.map(money),
    }))
}
