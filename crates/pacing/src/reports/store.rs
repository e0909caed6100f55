//! What reports read. Nothing is written here.

use adspend_common::db::{Client, Error, Row, Tx};
use adspend_common::id::{AccountId, CampaignId};
use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use super::KEPT;
use super::demand::Learning;
use super::reading::Reading;
use super::rules::Figures;
use super::suspensions::{End, Suspension};
use crate::budgets::{Entity, Parent, mode_from_number};
use crate::pacer::{Cause, DemandRow};

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
            WHERE account_no = $1 AND NOT acknowledged))::bigint
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
    let row = snapshot.query_one(FIGURES, &[&account_no.0, &level, &entity_no, &day, &now]).await?;
    Ok(Figures {
        granted_under: row.try_get(0)?,
        charged: row.try_get(1)?,
        late: row.try_get(2)?,
        reserved: row.try_get(3)?,
        charges: row.try_get(4)?,
        free_hold: row.try_get(5)?,
        unsettled: row.try_get(6)?,
    })
}

const READINGS: &str = "-- reports.readings
SELECT read_at, day, rate_parts, own_rate_ppm, account_rate_ppm, why, mode, limit_micros, target_micros,
    due_micros, due_ahead_micros, charged_micros, in_flight_micros, offered_micros, offered_count,
    demand_ahead_micros, day_factor, kappa, latched, is_few
FROM pace_reading
WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND read_at <= $4 AND read_at > $5
ORDER BY read_at DESC LIMIT 2";

/// The reading in force at a moment, and the one before it; fewer when there are no more.
pub(super) async fn readings(
    snapshot: &Tx<'_>,
    entity: Entity,
    at: DateTime<Utc>,
) -> Result<Vec<Reading>, Error> {
    let Entity { account_no, level, entity_no } = entity;
    let rows =
        snapshot.query(READINGS, &[&account_no.0, &level, &entity_no, &at, &(at - KEPT)]).await?;
    rows.iter().map(reading_from_row).collect()
}

fn reading_from_row(row: &Row) -> Result<Reading, Error> {
    let (parts, why): (i64, i16) = (row.try_get("rate_parts")?, row.try_get("why")?);
    let cause = Cause::from_number(why)
        .ok_or_else(|| Error::other(format!("{why} is no reason of a rate")))?;
    let mode: Option<i16> = row.try_get("mode")?;
    Ok(Reading {
        read_at: row.try_get("read_at")?,
        day: row.try_get("day")?,
        rate_parts: u32::try_from(parts).unwrap_or(u32::MAX),
        own_rate_ppm: row.try_get("own_rate_ppm")?,
        account_rate_ppm: row.try_get("account_rate_ppm")?,
        cause,
        mode: mode.map(mode_from_number).transpose()?,
        limit_micros: row.try_get("limit_micros")?,
        target_micros: row.try_get("target_micros")?,
        due_micros: row.try_get("due_micros")?,
        due_ahead_micros: row.try_get("due_ahead_micros")?,
        charged_micros: row.try_get("charged_micros")?,
        in_flight_micros: row.try_get("in_flight_micros")?,
        offered_micros: row.try_get("offered_micros")?,
        offered_count: row.try_get("offered_count")?,
        demand_ahead_micros: row.try_get("demand_ahead_micros")?,
        day_factor: row.try_get("day_factor")?,
        kappa: row.try_get("kappa")?,
        latched: row.try_get("latched")?,
        is_few: row.try_get("is_few")?,
    })
}

// The row before the first tells the rate that it began with.
const HOURS: &str = "-- reports.hours
(SELECT hour, minutes FROM pace_hour
    WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND hour < $4
    ORDER BY hour DESC LIMIT 1)
UNION ALL
(SELECT hour, minutes FROM pace_hour
    WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND hour >= $4 AND hour < $5
    ORDER BY hour)";

/// Hands over the hours from a moment to another, in order, and the last one before them.
pub(super) async fn hours(
    db: &Client,
    entity: Entity,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    mut take: impl FnMut(DateTime<Utc>, &[u8]),
) -> Result<(), Error> {
    let Entity { account_no, level, entity_no } = entity;
    db.for_each_row(HOURS, &[&account_no.0, &level, &entity_no, &from, &to], |row| {
        take(row.try_get("hour")?, row.try_get("minutes")?);
        Ok(())
    })
    .await
}

const SUSPENSIONS: &str = "-- reports.suspensions
SELECT s.suspension_no, s.level, s.day, s.reason, s.limit_micros, s.used_micros, s.began_at, s.ended_at,
    s.ended_by, a.name AS account_name, c.name AS campaign_name
FROM suspension s
JOIN account a USING (account_no)
LEFT JOIN campaign c ON s.level = 1 AND c.account_no = s.account_no AND c.campaign_no = s.entity_no
WHERE s.account_no = $1 AND ($4 OR (s.level = $2 AND s.entity_no = $3))
    AND (s.ended_at IS NULL OR s.ended_at > $5) AND s.suspension_no < $6
ORDER BY s.suspension_no DESC LIMIT $7";

/// What of the log of suspensions is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct SuspensionFilter {
    pub(super) entity: Entity,
    /// All of the account.
    pub(super) with_campaigns: bool,
    /// Not those that ended by then.
    pub(super) since: DateTime<Utc>,
    /// Only those with smaller numbers.
    pub(super) before: Option<i64>,
    pub(super) limit: i64,
}

/// Suspensions with their numbers, newest first.
pub(super) async fn suspensions(
    db: &Client,
    filter: &SuspensionFilter,
) -> Result<Vec<(i64, Suspension)>, Error> {
    let SuspensionFilter { entity, with_campaigns, since, before, limit } = filter;
    let Entity { account_no, level, entity_no } = entity;
    let before = before.unwrap_or(i64::MAX);
    let rows = db
        .query(
            SUSPENSIONS,
            &[&account_no.0, level, entity_no, with_campaigns, since, &before, limit],
        )
        .await?;
    let numbered = |row: &Row| Ok((row.try_get("suspension_no")?, suspension_from_row(row)?));
    rows.iter().map(numbered).collect()
}

const SUSPENDED: &str = "-- reports.suspended
SELECT s.level, s.day, s.reason, s.limit_micros, s.used_micros, s.began_at, s.ended_at, s.ended_by,
    a.name AS account_name, c.name AS campaign_name
FROM suspension s
JOIN account a USING (account_no)
LEFT JOIN campaign c ON s.level = 1 AND c.account_no = s.account_no AND c.campaign_no = s.entity_no
WHERE s.account_no = $1 AND ((s.level = $2 AND s.entity_no = $3) OR (s.level = 2 AND s.entity_no = $1))
    AND s.day = $4 AND s.began_at <= $6 AND (s.ended_at IS NULL OR s.ended_at > $5)
ORDER BY s.level, s.began_at DESC";

/// Suspensions of an entity and of its account for a day's limits that touch a span of time; the
/// campaign's first, as admission asks it first.
pub(super) async fn suspended(
    snapshot: &Tx<'_>,
    entity: Entity,
    day: Day,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Suspension>, Error> {
    let Entity { account_no, level, entity_no } = entity;
    let rows =
        snapshot.query(SUSPENDED, &[&account_no.0, &level, &entity_no, &day, &from, &to]).await?;
    rows.iter().map(suspension_from_row).collect()
}

fn suspension_from_row(row: &Row) -> Result<Suspension, Error> {
    let campaign: Option<CampaignId> = row.try_get("campaign_name")?;
    let account: AccountId = row.try_get("account_name")?;
    let (reason, ended_by): (i16, Option<i16>) = (row.try_get("reason")?, row.try_get("ended_by")?);
    let ended_at: Option<DateTime<Utc>> = row.try_get("ended_at")?;
    let by = if ended_by == Some(2) { End::BudgetChange } else { End::Midnight };
    Ok(Suspension {
        level: if campaign.is_some() {
            crate::admission::Level::Campaign
        } else {
            crate::admission::Level::Account
        },
        parent: campaign.map_or(Parent::Account(account), Parent::Campaign),
        by_week: reason == 2,
        day: row.try_get("day")?,
        limit_micros: row.try_get("limit_micros")?,
        used_micros: row.try_get("used_micros")?,
        began_at: row.try_get("began_at")?,
        ended: ended_at.map(|at| (at, by)),
    })
}

const PAST: &str = "-- reports.past
SELECT c.changed_at,
    EXISTS (SELECT FROM budget_change b
        WHERE b.account_no = $1 AND b.changed_at <= $3
            AND ((b.level = 1 AND b.entity_no = $2) OR (b.level = 2 AND b.entity_no = $1))) AS had_budget,
    coalesce(h.charged_micros, 0) AS charged_micros, coalesce(h.charges, 0) AS charges
FROM campaign c
LEFT JOIN headroom h
    ON h.account_no = c.account_no AND h.level = 1 AND h.entity_no = c.campaign_no AND h.day = $4
WHERE c.account_no = $1 AND c.campaign_no = $2";

/// What the tables still know of a campaign at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past {
    /// Its last change.
    pub(super) changed_at: DateTime<Utc>,
    /// It or its account had had a budget by then.
    pub(super) had_budget: bool,
    /// Of that day.
    pub(super) charged_micros: i64,
    pub(super) charges: i64,
}

/// Reads it.
pub(super) async fn past(
    snapshot: &Tx<'_>,
    entity: Entity,
    at: DateTime<Utc>,
) -> Result<Past, Error> {
    let Entity { account_no, entity_no, .. } = entity;
    let row = snapshot.query_one(PAST, &[&account_no.0, &entity_no, &at, &Day::of(at)]).await?;
    Ok(Past {
        changed_at: row.try_get("changed_at")?,
        had_budget: row.try_get("had_budget")?,
        charged_micros: row.try_get("charged_micros")?,
        charges: row.try_get("charges")?,
    })
}

// The largest first; who was never asked for has no row.
const LEARNING: &str = "-- reports.learning
SELECT d.entity_no, d.micros, d.count, coalesce(p.kappa, 1) AS kappa, p.chance
FROM (
    SELECT entity_no, sum(total_micros)::bigint AS micros, sum(total_count)::bigint AS count
    FROM demand_day
    WHERE account_no = $1 AND level = 1 AND day >= $2 AND ($3::bigint IS NULL OR entity_no = $3)
    GROUP BY entity_no
) d
LEFT JOIN pace p ON p.account_no = $1 AND p.level = 1 AND p.entity_no = d.entity_no
WHERE d.count > 0
ORDER BY d.micros DESC, d.entity_no";

/// What was offered since a day to the campaigns of an account, or to one of them.
pub(super) async fn learning(
    snapshot: &Tx<'_>,
    account_no: i64,
    since: Day,
    campaign_no: Option<i64>,
) -> Result<Vec<Learning>, Error> {
    let rows = snapshot.query(LEARNING, &[&account_no, &since, &campaign_no]).await?;
    let learning = |row: &Row| {
        Ok(Learning {
            campaign_no: row.try_get("entity_no")?,
            micros: row.try_get("micros")?,
            count: row.try_get("count")?,
            kappa: row.try_get("kappa")?,
            chance: row.try_get("chance")?,
        })
    };
    rows.iter().map(learning).collect()
}

const DAYS: &str = "-- reports.days
SELECT level, entity_no, day, offered_micros, offered_count, known_seconds
FROM demand_day
WHERE account_no = $1 AND ((level = 1 AND entity_no = ANY ($2)) OR level = 2) AND day BETWEEN $3 AND $4
ORDER BY level, entity_no, day";

/// The stored demand of an account (level 2) and of these of its campaigns.
pub(super) async fn days(
    snapshot: &Tx<'_>,
    account_no: i64,
    campaigns: &[i64],
    from: Day,
    to: Day,
) -> Result<Vec<DemandRow>, Error> {
    let rows = snapshot.query(DAYS, &[&account_no, &campaigns, &from, &to]).await?;
    rows.iter().map(DemandRow::from_row).collect()
}
