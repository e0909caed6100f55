//! The statements of settlement.

use adspend_common::db::{Client, Error, Row, ToSql};
use adspend_common::id::{AccountId, CampaignId};
use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use super::{MAX_CALL, MAX_SPENDS};
use crate::billing::SpendReport;

/// A report that is to be sent.
#[derive(Debug, Clone)]
pub(super) struct DueReport {
    pub(super) account_no: i64,
    pub(super) hold_no: i64,
    pub(super) sequence: i64,
    pub(super) billing_name: String,
    /// Number, name and sum of each campaign.
    pub(super) spends: Vec<(i64, CampaignId, i64)>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) attempts: i32,
}

impl DueReport {
    pub(super) fn message(&self) -> SpendReport {
        SpendReport {
            hold: self.billing_name.clone(),
            sequence: self.sequence,
            spends: self.spends.iter().map(|spend| (spend.1.clone(), spend.2)).collect(),
        }
    }
}

/// A charge without a hold that is to be sent.
#[derive(Debug, Clone)]
pub(super) struct DueCharge {
    pub(super) account_no: i64,
    pub(super) charge_id: String,
    pub(super) account: AccountId,
    pub(super) campaign: CampaignId,
    pub(super) price_micros: i64,
    pub(super) day: Day,
    pub(super) attempts: i32,
}

// One maker at a time: a second one with an older snapshot could bring sums back that a report in
// between has already settled. Any number will do that no other part of the service takes.
const MAKE_ALONE: &str = "-- settlement.make_alone
SELECT pg_try_advisory_xact_lock(7411001)";

const MAKE: &str = "-- settlement.make
INSERT INTO settlement
    (account_no, hold_no, campaign_nos, spent_micros, created_at, claimed_until)
SELECT due.account_no, due.hold_no, sums.campaign_nos, sums.spent_micros, $1, $1
FROM (
    SELECT DISTINCT s.account_no, s.hold_no
    FROM hold_spend s
    WHERE s.acknowledged_micros < s.charged_micros AND NOT EXISTS (
        SELECT 1 FROM settlement r WHERE r.account_no = s.account_no AND r.hold_no = s.hold_no)
    LIMIT $2) AS due
CROSS JOIN LATERAL (
    SELECT array_agg(one.campaign_no) AS campaign_nos, array_agg(one.charged_micros) AS spent_micros
    FROM (
        SELECT s.campaign_no, s.charged_micros
        FROM hold_spend s
        WHERE s.account_no = due.account_no AND s.hold_no = due.hold_no
            AND s.acknowledged_micros < s.charged_micros
        ORDER BY s.campaign_no
        LIMIT $3) AS one) AS sums
ON CONFLICT DO NOTHING";

/// Makes reports of what was charged and has none, unless another replica is at it; gives how
/// many. They are there, and can be claimed, when this returns.
pub(super) async fn make_reports(client: &mut Client, now: DateTime<Utc>) -> Result<usize, Error> {
    let tx = client.transaction().await?;
    if !tx.query_one(MAKE_ALONE, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let made = tx.execute(MAKE, &[&now, &limit(), &MAX_SPENDS]).await?;
    tx.commit().await?;
    Ok(usize::try_from(made).unwrap_or(usize::MAX))
}

const CLAIM_REPORTS: &str = "-- settlement.claim_reports
UPDATE settlement r
SET claimed_until = $2, attempts = r.attempts + 1
FROM (
    SELECT account_no, hold_no
    FROM settlement
    WHERE claimed_until <= $1
    ORDER BY claimed_until
    LIMIT $3
    FOR UPDATE SKIP LOCKED) AS due
JOIN hold h USING (account_no, hold_no)
CROSS JOIN LATERAL (
    SELECT array_agg(c.name ORDER BY spent.position) AS names
    FROM settlement own
    CROSS JOIN LATERAL unnest(own.campaign_nos) WITH ORDINALITY AS spent (campaign_no, position)
    JOIN campaign c ON c.account_no = own.account_no AND c.campaign_no = spent.campaign_no
    WHERE own.account_no = due.account_no AND own.hold_no = due.hold_no) AS campaigns
WHERE r.account_no = due.account_no AND r.hold_no = due.hold_no AND h.billing_name IS NOT NULL
RETURNING r.account_no, r.hold_no, r.sequence, h.billing_name, r.campaign_nos, campaigns.names,
    r.spent_micros, r.created_at, r.attempts";

/// Takes reports that nobody is sending, until a moment.
pub(super) async fn claim_reports(
    client: &Client,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<DueReport>, Error> {
    let rows = client.query(CLAIM_REPORTS, &[&now, &until, &limit()]).await?;
    let mut reports = Vec::with_capacity(rows.len());
    for row in &rows {
        reports.extend(due_report(row)?);
    }
    Ok(reports)
}

/// None when a campaign of it is not there, which must not keep the others from being sent.
fn due_report(row: &Row) -> Result<Option<DueReport>, Error> {
    let (account_no, hold_no) = (row.try_get(0)?, row.try_get(1)?);
    let numbers: Vec<i64> = row.try_get(4)?;
    let names: Option<Vec<CampaignId>> = row.try_get(5)?;
    let names = names.unwrap_or_default();
    let sums: Vec<i64> = row.try_get(6)?;
    if numbers.len() != names.len() {
        tracing::error!(account_no, hold_no, "a campaign of a report of spend is not there");
        return Ok(None);
    }
    let spends = numbers.into_iter().zip(names).zip(sums);
    Ok(Some(DueReport {
        account_no,
        hold_no,
        sequence: row.try_get(2)?,
        billing_name: row.try_get(3)?,
        spends: spends.map(|((number, name), sum)| (number, name, sum)).collect(),
        created_at: row.try_get(7)?,
        attempts: row.try_get(8)?,
    }))
}

const POSTPONE_REPORTS: &str = "-- settlement.postpone_reports
UPDATE settlement r
SET claimed_until = $4
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k (account_no, hold_no, sequence)
WHERE r.account_no = k.account_no AND r.hold_no = k.hold_no AND r.sequence = k.sequence";

/// Lets go of reports; anybody may send them from a moment on.
pub(super) async fn postpone_reports(
    client: &Client,
    reports: &[DueReport],
    until: DateTime<Utc>,
) -> Result<(), Error> {
    let keys = ReportColumns::of(reports);
    let params: [&(dyn ToSql + Sync); 4] = [&keys.accounts, &keys.holds, &keys.sequences, &until];
    client.execute(POSTPONE_REPORTS, &params).await.map(|_| ())
}

// In the order in which groups of charges take the same rows.
const LOCK_SPENDS: &str = "-- settlement.lock_spends
SELECT 1
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k (account_no, hold_no, campaign_no)
JOIN hold_spend s USING (account_no, hold_no, campaign_no)
ORDER BY s.account_no, s.hold_no, s.campaign_no
FOR NO KEY UPDATE OF s";

// What was charged since the report was made waits since about then.
const ACKNOWLEDGE: &str = "-- settlement.acknowledge
UPDATE hold_spend s
SET acknowledged_micros = GREATEST(s.acknowledged_micros, k.spent),
    unsettled_since = GREATEST(s.unsettled_since, k.made_at)
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[])
    AS k (account_no, hold_no, campaign_no, spent, made_at)
WHERE s.account_no = k.account_no AND s.hold_no = k.hold_no AND s.campaign_no = k.campaign_no";

const DELETE_REPORTS: &str = "-- settlement.delete_reports
DELETE FROM settlement r
USING unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k (account_no, hold_no, sequence)
WHERE r.account_no = k.account_no AND r.hold_no = k.hold_no AND r.sequence = k.sequence";

/// Billing has booked these reports. Two replicas may say so of the same one.
pub(super) async fn acknowledge_reports(
    client: &mut Client,
    reports: &[DueReport],
) -> Result<(), Error> {
    if reports.is_empty() {
        return Ok(());
    }
    let (mut accounts, mut holds, mut campaigns) = (Vec::new(), Vec::new(), Vec::new());
    let (mut spent, mut made) = (Vec::new(), Vec::new());
    for report in reports {
        for (campaign_no, _, sum) in &report.spends {
            accounts.push(report.account_no);
            holds.push(report.hold_no);
            campaigns.push(*campaign_no);
            spent.push(*sum);
            made.push(report.created_at);
        }
    }
    let keys = ReportColumns::of(reports);
    let tx = client.transaction().await?;
    tx.query(LOCK_SPENDS, &[&accounts, &holds, &campaigns]).await?;
    tx.execute(ACKNOWLEDGE, &[&accounts, &holds, &campaigns, &spent, &made]).await?;
    tx.execute(DELETE_REPORTS, &[&keys.accounts, &keys.holds, &keys.sequences]).await?;
    tx.commit().await
}

const CLAIM_CHARGES: &str = "-- settlement.claim_charges
UPDATE late_charge l
SET claimed_until = $2, attempts = l.attempts + 1
FROM (
    SELECT account_no, charge_id
    FROM late_charge
    WHERE NOT acknowledged AND claimed_until <= $1
    ORDER BY claimed_until
    LIMIT $3
    FOR UPDATE SKIP LOCKED) AS due
JOIN account a USING (account_no), campaign c
WHERE l.account_no = due.account_no AND l.charge_id = due.charge_id
    AND c.account_no = l.account_no AND c.campaign_no = l.campaign_no
RETURNING l.account_no, l.charge_id, a.name, c.name, l.price_micros, l.day, l.attempts";

/// Takes charges without a hold that nobody is sending, until a moment.
pub(super) async fn claim_charges(
    client: &Client,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<DueCharge>, Error> {
    let rows = client.query(CLAIM_CHARGES, &[&now, &until, &limit()]).await?;
    rows.iter()
        .map(|row| {
            Ok(DueCharge {
                account_no: row.try_get(0)?,
                charge_id: row.try_get(1)?,
                account: row.try_get(2)?,
                campaign: row.try_get(3)?,
                price_micros: row.try_get(4)?,
                day: row.try_get(5)?,
                attempts: row.try_get(6)?,
            })
        })
        .collect()
}

const POSTPONE_CHARGES: &str = "-- settlement.postpone_charges
UPDATE late_charge l
SET claimed_until = $3
FROM unnest($1::bigint[], $2::text[]) AS k (account_no, charge_id)
WHERE l.account_no = k.account_no AND l.charge_id = k.charge_id";

/// Lets go of charges; anybody may send them from a moment on.
pub(super) async fn postpone_charges(
    client: &Client,
    charges: &[DueCharge],
    until: DateTime<Utc>,
) -> Result<(), Error> {
    let (accounts, ids) = charge_columns(charges);
    client.execute(POSTPONE_CHARGES, &[&accounts, &ids, &until]).await.map(|_| ())
}

const ACKNOWLEDGE_CHARGES: &str = "-- settlement.acknowledge_charges
UPDATE late_charge l
SET acknowledged = true
FROM unnest($1::bigint[], $2::text[]) AS k (account_no, charge_id)
WHERE l.account_no = k.account_no AND l.charge_id = k.charge_id";

/// Billing has booked these charges.
pub(super) async fn acknowledge_charges(
    client: &Client,
    charges: &[DueCharge],
) -> Result<(), Error> {
    if charges.is_empty() {
        return Ok(());
    }
    let (accounts, ids) = charge_columns(charges);
    client.execute(ACKNOWLEDGE_CHARGES, &[&accounts, &ids]).await.map(|_| ())
}

const UNSETTLED_SINCE: &str = "-- settlement.unsettled_since
SELECT LEAST(
    (SELECT min(unsettled_since) FROM hold_spend WHERE acknowledged_micros < charged_micros),
    (SELECT min(booked_at) FROM late_charge WHERE NOT acknowledged))";

/// How long something waits for billing; `None` when nothing does.
pub(super) async fn unsettled_since(client: &Client) -> Result<Option<DateTime<Utc>>, Error> {
    Ok(client.query_one(UNSETTLED_SINCE, &[]).await?.try_get(0)?)
}

/// What one round takes at most.
fn limit() -> i64 {
    i64::try_from(MAX_CALL).unwrap_or(i64::MAX)
}

struct ReportColumns {
    accounts: Vec<i64>,
    holds: Vec<i64>,
    sequences: Vec<i64>,
}

impl ReportColumns {
    fn of(reports: &[DueReport]) -> ReportColumns {
        ReportColumns {
            accounts: reports.iter().map(|report| report.account_no).collect(),
            holds: reports.iter().map(|report| report.hold_no).collect(),
            sequences: reports.iter().map(|report| report.sequence).collect(),
        }
    }
}

fn charge_columns(charges: &[DueCharge]) -> (Vec<i64>, Vec<&str>) {
    let accounts = charges.iter().map(|charge| charge.account_no).collect();
    (accounts, charges.iter().map(|charge| charge.charge_id.as_str()).collect())
}
