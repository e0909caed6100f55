//! The table `campaign`.

use adspend_common::db::{self, Client, Row, Tx};
use adspend_common::id::{AccountId, CampaignId};
use chrono::{DateTime, Utc};

use super::{Campaign, CampaignNo, CampaignState, Cursor, Filter, Listed, NewCampaign, Profile};
use crate::accounts::{self, AccountNo};
use crate::calendar::policy::PaymentModel;
use crate::calendar::schedule::{Interval, Schedule, WeeklyHours};

/// The number of a payment model in its column.
const fn payment_number(payment: PaymentModel) -> i16 {
    match payment {
        PaymentModel::PerImpression => 1,
        PaymentModel::PerClick => 2,
        PaymentModel::PerConversion => 3,
    }
}

/// The payment model of a column.
pub(crate) fn payment_from_number(number: i16) -> Result<PaymentModel, db::Error> {
    [PaymentModel::PerImpression, PaymentModel::PerClick, PaymentModel::PerConversion]
        .into_iter()
        .find(|payment| payment_number(*payment) == number)
        .ok_or_else(|| db::Error::other(format!("{number} is no payment model")))
}

const fn state_number(state: CampaignState) -> i16 {
    match state {
        CampaignState::Active => 1,
        CampaignState::Paused => 2,
    }
}

fn state_from_number(number: i16) -> Result<CampaignState, db::Error> {
    [CampaignState::Active, CampaignState::Paused]
        .into_iter()
        .find(|state| state_number(*state) == number)
        .ok_or_else(|| db::Error::other(format!("{number} is no state of a campaign")))
}

/// Weekly hours as columns.
struct Hours {
    weekdays: Vec<i16>,
    from: Vec<i16>,
    to: Vec<i16>,
    scheduled_days: i16,
}

impl Hours {
    fn of(hours: &WeeklyHours) -> Hours {
        // Minutes of a day fit: at most 1 440.
        let column = |part: fn(&Interval) -> u16| -> Vec<i16> {
            let parts = hours.intervals().iter().map(part);
            parts.map(|part| i16::try_from(part).unwrap_or(i16::MAX)).collect()
        };
        Hours {
            weekdays: column(|interval| u16::from(interval.weekday0)),
            from: column(|interval| interval.from_minute),
            to: column(|interval| interval.to_minute),
            scheduled_days: i16::from(hours.scheduled_days()),
        }
    }
}

fn hours_from_row(row: &Row) -> Result<WeeklyHours, db::Error> {
    let weekdays: Vec<i16> = row.try_get("weekdays")?;
    let from: Vec<i16> = row.try_get("from_minutes")?;
    let to: Vec<i16> = row.try_get("to_minutes")?;
    let mut intervals = Vec::with_capacity(weekdays.len());
    for ((weekday, from), to) in weekdays.iter().zip(&from).zip(&to) {
        let interval = (|| {
            Some(Interval {
                weekday0: u8::try_from(*weekday).ok()?,
                from_minute: u16::try_from(*from).ok()?,
                to_minute: u16::try_from(*to).ok()?,
            })
        })();
        intervals.push(interval.ok_or_else(|| db::Error::other("hours are negative"))?);
    }
    WeeklyHours::new(intervals).map_err(|error| db::Error::other(error.to_string()))
}

fn campaign_from_row(row: &Row) -> Result<Campaign, db::Error> {
    let zone: &str = row.try_get("time_zone")?;
    let zone = zone.parse().map_err(|_| db::Error::other(format!("{zone} is no time zone")))?;
    let schedule = Schedule {
        hours: hours_from_row(row)?,
        zone,
        start: row.try_get("start_date")?,
        end: row.try_get("end_date")?,
    };
    Ok(Campaign {
        no: CampaignNo(row.try_get("campaign_no")?),
        account_no: AccountNo(row.try_get("account_no")?),
        id: row.try_get("name")?,
        profile: Profile {
            display_name: row.try_get("display_name")?,
            schedule,
            payment: payment_from_number(row.try_get("payment_model")?)?,
        },
        state: state_from_number(row.try_get("state")?)?,
        created_at: row.try_get("created_at")?,
        revision: row.try_get("revision")?,
    })
}

fn listed_from_row(row: &Row) -> Result<Listed, db::Error> {
    let (campaign, account) = (campaign_from_row(row)?, accounts::from_row(row)?);
    Ok(Listed { campaign, account, warnings: Vec::new() })
}

const INSERT: &str = "-- campaigns.insert
INSERT INTO campaign (account_no, name, display_name, time_zone, weekdays, from_minutes, to_minutes,
    scheduled_days, payment_model, start_date, end_date, created_at, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)
ON CONFLICT ON CONSTRAINT campaign_name_is_unique DO NOTHING
RETURNING campaign_no, revision";

/// `None` when the id is taken.
pub(super) async fn insert(
    tx: &Tx<'_>,
    account_no: AccountNo,
    new: &NewCampaign,
    now: DateTime<Utc>,
) -> Result<Option<Campaign>, db::Error> {
    let Profile { display_name, schedule, payment } = &new.profile;
    let Hours { weekdays, from, to, scheduled_days } = Hours::of(&schedule.hours);
    let (zone, payment) = (schedule.zone.name(), payment_number(*payment));
    let (start, end) = (&schedule.start, &schedule.end);
    let row = tx
        .query_opt(
            INSERT,
            &[
                &account_no.0,
                &new.id,
                display_name,
                &zone,
                &weekdays,
                &from,
                &to,
                &scheduled_days,
                &payment,
                start,
                end,
                &now,
            ],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Campaign {
        no: CampaignNo(row.try_get("campaign_no")?),
        account_no,
        id: new.id.clone(),
        profile: new.profile.clone(),
        state: CampaignState::Active,
        created_at: now,
        revision: row.try_get("revision")?,
    }))
}

const FIND: &str = "-- campaigns.find
SELECT c.account_no, c.campaign_no, c.name, c.display_name, c.time_zone, c.weekdays, c.from_minutes,
    c.to_minutes, c.payment_model, c.start_date, c.end_date, c.state, c.created_at, c.revision,
    a.name AS account_name, a.tenant, a.currency, a.kind, a.state AS account_state
FROM campaign c JOIN account a USING (account_no) WHERE c.name = $1";

/// A campaign by its id, whoever may see it.
pub async fn find(db: &Client, id: &CampaignId) -> Result<Option<Listed>, db::Error> {
    db.query_opt(FIND, &[id]).await?.as_ref().map(listed_from_row).transpose()
}

/// The same inside a transaction, not locked.
pub(crate) async fn find_in(tx: &Tx<'_>, id: &CampaignId) -> Result<Option<Listed>, db::Error> {
    tx.query_opt(FIND, &[id]).await?.as_ref().map(listed_from_row).transpose()
}

// The account is not locked: what is read of it decides nothing here.
const LOCK: &str = "-- campaigns.lock
SELECT c.account_no, c.campaign_no, c.name, c.display_name, c.time_zone, c.weekdays, c.from_minutes,
    c.to_minutes, c.payment_model, c.start_date, c.end_date, c.state, c.created_at, c.revision,
    a.name AS account_name, a.tenant, a.currency, a.kind, a.state AS account_state
FROM campaign c JOIN account a USING (account_no)
WHERE c.account_no = $1 AND c.campaign_no = $2 FOR NO KEY UPDATE OF c";

/// A campaign that nobody else changes until the transaction ends.
pub(super) async fn lock(
    tx: &Tx<'_>,
    account_no: AccountNo,
    no: CampaignNo,
) -> Result<Listed, db::Error> {
    listed_from_row(&tx.query_one(LOCK, &[&account_no.0, &no.0]).await?)
}

const WRITE: &str = "-- campaigns.write
UPDATE campaign SET display_name = $3, time_zone = $4, weekdays = $5, from_minutes = $6,
    to_minutes = $7, scheduled_days = $8, payment_model = $9, start_date = $10, end_date = $11,
    state = $12, changed_at = $13, revision = revision + 1, changed_by = pg_current_xact_id()
WHERE account_no = $1 AND campaign_no = $2 RETURNING revision";

/// Writes a locked campaign back; gives its new revision.
pub(super) async fn write(
    tx: &Tx<'_>,
    campaign: &Campaign,
    now: DateTime<Utc>,
) -> Result<i64, db::Error> {
    let Profile { display_name, schedule, payment } = &campaign.profile;
    let Hours { weekdays, from, to, scheduled_days } = Hours::of(&schedule.hours);
    let (zone, payment) = (schedule.zone.name(), payment_number(*payment));
    let state = state_number(campaign.state);
    let row = tx
        .query_one(
            WRITE,
            &[
                &campaign.account_no.0,
                &campaign.no.0,
                display_name,
                &zone,
                &weekdays,
                &from,
                &to,
                &scheduled_days,
                &payment,
                &schedule.start,
                &schedule.end,
                &state,
                &now,
            ],
        )
        .await?;
    Ok(row.try_get("revision")?)
}

// Three statements instead of one with optional conditions: each has one good plan, and the planner
// may keep it.
const LIST: &str = "-- campaigns.list
SELECT c.account_no, c.campaign_no, c.name, c.display_name, c.time_zone, c.weekdays, c.from_minutes,
    c.to_minutes, c.payment_model, c.start_date, c.end_date, c.state, c.created_at, c.revision,
    a.name AS account_name, a.tenant, a.currency, a.kind, a.state AS account_state
FROM campaign c JOIN account a USING (account_no)
WHERE c.campaign_no > $1 ORDER BY c.campaign_no LIMIT $2";

const LIST_OF_ACCOUNT: &str = "-- campaigns.list_of_account
SELECT c.account_no, c.campaign_no, c.name, c.display_name, c.time_zone, c.weekdays, c.from_minutes,
    c.to_minutes, c.payment_model, c.start_date, c.end_date, c.state, c.created_at, c.revision,
    a.name AS account_name, a.tenant, a.currency, a.kind, a.state AS account_state
FROM campaign c JOIN account a USING (account_no)
WHERE c.campaign_no > $1 AND a.name = $3 ORDER BY c.campaign_no LIMIT $2";

const LIST_OF_TENANT: &str = "-- campaigns.list_of_tenant
SELECT c.account_no, c.campaign_no, c.name, c.display_name, c.time_zone, c.weekdays, c.from_minutes,
    c.to_minutes, c.payment_model, c.start_date, c.end_date, c.state, c.created_at, c.revision,
    a.name AS account_name, a.tenant, a.currency, a.kind, a.state AS account_state
FROM campaign c JOIN account a USING (account_no)
WHERE c.campaign_no > $1 AND a.tenant = $3 AND a.name = COALESCE($4, a.name)
ORDER BY c.campaign_no LIMIT $2";

/// One more than the limit, when there are more.
pub(super) async fn list(
    db: &Client,
    tenant: Option<&AccountId>,
    filter: &Filter,
) -> Result<Vec<Listed>, db::Error> {
    let after = filter.after.map_or(0, |no| no.0);
    let limit = i64::from(filter.limit) + 1;
    let rows = match (tenant, &filter.account) {
        (None, None) => db.query(LIST, &[&after, &limit]).await?,
        (None, Some(account)) => db.query(LIST_OF_ACCOUNT, &[&after, &limit, account]).await?,
        (Some(tenant), account) => {
            db.query(LIST_OF_TENANT, &[&after, &limit, &tenant, account]).await?
        }
    };
    rows.iter().map(listed_from_row).collect()
}

const OLDEST_RUNNING: &str = "-- campaigns.oldest_running
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin";

const CHANGED: &str = "-- campaigns.changed
SELECT c.account_no, c.campaign_no, c.name, c.display_name, c.time_zone, c.weekdays, c.from_minutes,
    c.to_minutes, c.payment_model, c.start_date, c.end_date, c.state, c.created_at, c.revision,
    a.name AS account_name, a.tenant, a.currency, a.kind, a.state AS account_state
FROM (
    SELECT account_no, campaign_no FROM campaign WHERE changed_by >= $1::text::xid8
    UNION
    SELECT c.account_no, c.campaign_no FROM account a JOIN campaign c USING (account_no)
    WHERE a.changed_by >= $1::text::xid8
) changed
JOIN campaign c USING (account_no, campaign_no) JOIN account a USING (account_no)
ORDER BY c.campaign_no";

/// Every campaign that changed, or whose account did, since the cursor, and the next cursor.
///
/// Misses nothing: the next cursor is the oldest transaction that was still running before the
/// rows were read, so whatever it had not committed by then is read the next time. A row may be
/// given more than once. Nothing changed: two index probes.
pub async fn changed_since(db: &Client, since: Cursor) -> Result<(Vec<Listed>, Cursor), db::Error> {
    let next = Cursor(db.query_one(OLDEST_RUNNING, &[]).await?.try_get("xmin")?);
    // A database restored into a new cluster counts transactions anew: read all of it.
    let since = if next.0 < since.0 { Cursor::START } else { since };
    let rows = db.query(CHANGED, &[&since.0.to_string()]).await?;
    let listed: Result<Vec<Listed>, db::Error> = rows.iter().map(listed_from_row).collect();
    Ok((listed?, next))
}
