//! Conversions: what the limits of today leave to them, and how long they took.
//!
//! A campaign that pays per conversion is charged hours or days after its admissions. Such a charge
//! is a fact of the day on which it comes and is never refused; what of it a limit of that day
//! does not cover counts as late. The same holds for one that comes at once and finds too little in
//! its slice: slices of conversions keep no margin, for what is expected of a day is kept back.
//!
//! How long a conversion took is written with it, by the hour: a token is made one token's life before
//! it expires, give or take half the life of its slice.
//!
//! Not here: what is expected of open admissions, and how it is kept back (`pacer`, `leases`).

use std::collections::BTreeMap;

use adspend_common::db::{Error, ToSql, Tx};
use adspend_common::money::Money;
use adspend_common::time::Day;
use chrono::{DateTime, Utc};
use foldhash::HashMap;

use super::batch::{Conversion, HeadroomKey, Plan, SliceRow, levels};
use super::item::{Charge, Item, Target};
use super::rules::Books;
use crate::accounts::AccountNo;
use crate::budgets::{self, Entity};
use crate::calendar::week;
use crate::controller::conversion::DELAY_HOURS;

const MICROS_PER_HOUR: i64 = 3_600_000_000;

const CHARGED: &str = "-- charges.charged_today
SELECT account_no, level, entity_no, charged_micros
FROM unnest($1::bigint[], $2::smallint[], $3::bigint[]) AS k (account_no, level, entity_no)
JOIN headroom h USING (account_no, level, entity_no)
WHERE h.day = $4";

/// What the limits of today leave, of the levels that a conversion of the group counts in. Their
/// headroom is locked. Nothing is read where there is no conversion.
pub(super) async fn left(
    tx: &Tx<'_>,
    items: &[Item],
    plan: &Plan,
    slices: &[Option<SliceRow>],
    now: DateTime<Utc>,
) -> Result<HashMap<HeadroomKey, Money>, Error> {
    let arrives = |(position, item): (usize, &Item)| {
        let Item::Charge(Charge { target, .. }) = item else { return None };
        match target {
            Target::Late { account_no, campaign_no, is_conversion } => {
                is_conversion.then_some((*account_no, *campaign_no))
            }
            Target::Admission(token) => {
                let slice =
                    plan.slice_of(position).and_then(|at| slices.get(at).copied().flatten());
                let slice = slice.filter(|slice| slice.is_conversion)?;
                let may_go_beyond = matches!(slice.books, Books::Expected { .. });
                (token.is_expired(now) || (may_go_beyond && token.day == plan.today))
                    .then_some((token.account_no, token.campaign_no))
            }
        }
    };
    let mut keys: Vec<HeadroomKey> = items
        .iter()
        .enumerate()
        .filter_map(arrives)
        .flat_map(|(account_no, campaign_no)| levels(account_no, campaign_no, plan.today))
        .collect();
    if keys.is_empty() {
        return Ok(HashMap::default());
    }
    keys.sort_unstable();
    keys.dedup();
    let entities: Vec<Entity> = keys
        .iter()
        .map(|key| {
            let HeadroomKey { account_no, level, entity_no, .. } = *key;
            Entity { account_no: AccountNo(account_no), level, entity_no }
        })
        .collect();
    let accounts: Vec<i64> = keys.iter().map(|key| key.account_no).collect();
    let numbers: Vec<i64> = keys.iter().map(|key| key.entity_no).collect();
    let level_nos: Vec<i16> = keys.iter().map(|key| key.level).collect();
    let params: [&(dyn ToSql + Sync); 4] = [&accounts, &level_nos, &numbers, &plan.today];
    let (limits, weeks, rows) = tokio::try_join!(
        budgets::states_for(tx, &entities, plan.today),
        budgets::weeks_for(tx, &entities, plan.today),
        tx.query(CHARGED, &params),
    )?;
    let mut charged: HashMap<(i64, i16, i64), Money> = HashMap::default();
    for row in &rows {
        charged.insert((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?), row.try_get(3)?);
    }
    let mut left = HashMap::default();
    for ((key, limits), spent) in keys.iter().zip(limits).zip(weeks) {
        let (limit, _) = week::limit(&limits.state, plan.today, &spent, limits.terms);
        let Some(limit) = limit.and_then(Money::from_micros) else { continue };
        let charged = charged.get(&(key.account_no, key.level, key.entity_no)).copied();
        let room =
            limit.checked_sub(charged.unwrap_or_default()).filter(|room| *room > Money::ZERO);
        left.insert(*key, room.unwrap_or(Money::ZERO));
    }
    Ok(left)
}

/// Whole hours from the admission; -1 where it is not known.
fn hours(conversion: &Conversion, now: DateTime<Utc>, token_life_micros: i64) -> i16 {
    let Some(expires_at) = conversion.expires_at_micros else { return -1 };
    let admitted_at = expires_at.saturating_sub(token_life_micros);
    let hours = now.timestamp_micros().saturating_sub(admitted_at).max(0) / MICROS_PER_HOUR;
    let last = DELAY_HOURS - 1;
    i16::try_from(usize::try_from(hours).unwrap_or(last).min(last)).unwrap_or(-1)
}

const ADD_DELAYS: &str = "-- charges.add_delays
INSERT INTO conversion_delay AS d (account_no, campaign_no, day, hours, charges, micros)
SELECT account_no, campaign_no, $6, hours, charges, micros
FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::bigint[])
    AS g (account_no, campaign_no, hours, charges, micros)
ORDER BY account_no, campaign_no, hours
ON CONFLICT (account_no, campaign_no, day, hours) DO UPDATE
SET charges = d.charges + EXCLUDED.charges, micros = d.micros + EXCLUDED.micros";

/// Writes how long the conversions of a group took.
pub(super) async fn add_delays(
    tx: &Tx<'_>,
    conversions: &[Conversion],
    now: DateTime<Utc>,
    token_life_micros: i64,
) -> Result<(), Error> {
    if conversions.is_empty() {
        return Ok(());
    }
    let mut sums: BTreeMap<(i64, i64, i16), (i64, i64)> = BTreeMap::new();
    for conversion in conversions {
        let hours = hours(conversion, now, token_life_micros);
        let key = (conversion.account_no, conversion.campaign_no, hours);
        let (charges, micros) = sums.entry(key).or_default();
        *charges += 1;
        *micros = micros.saturating_add(conversion.price.micros());
    }
    let accounts: Vec<i64> = sums.keys().map(|key| key.0).collect();
    let campaigns: Vec<i64> = sums.keys().map(|key| key.1).collect();
    let hours: Vec<i16> = sums.keys().map(|key| key.2).collect();
    let charges: Vec<i64> = sums.values().map(|sum| sum.0).collect();
    let micros: Vec<i64> = sums.values().map(|sum| sum.1).collect();
    tx.execute(ADD_DELAYS, &[&accounts, &campaigns, &hours, &charges, &micros, &Day::of(now)])
        .await
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r149_a_delay_is_counted_from_the_admission_in_whole_hours() {
        let now: DateTime<Utc> = "2025-06-11T12:00:00Z".parse().unwrap();
        let life = 605_000_000;
        let hour = MICROS_PER_HOUR;
        for (name, ago, expected) in [
            ("at once", Some(0), 0),
            ("within the hour", Some(hour - 1), 0),
            ("a day", Some(24 * hour), 24),
            ("later than is told apart", Some(400 * hour), 335),
            ("a clock that is behind", Some(-hour), 0),
            ("no admission", None, -1),
        ] {
            let expires_at_micros = ago.map(|ago| now.timestamp_micros() - ago + life);
            let price = Money::from_units(1);
            let conversion = Conversion { account_no: 1, campaign_no: 2, expires_at_micros, price };
            assert_eq!(hours(&conversion, now, life), expected, "{name}");
        }
    }
}
