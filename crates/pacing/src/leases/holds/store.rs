//! The SQL of holds.

use std::collections::HashMap;

use adspend_common::db::{self, Client, Row};
use adspend_common::id::{AccountId, RequestId};
use chrono::{DateTime, Utc};

use crate::billing::HoldAsk;

/// A question to be written down.
#[derive(Debug, Clone)]
pub(super) struct NewAsk {
    pub(super) account_no: i64,
    pub(super) request_id: RequestId,
    pub(super) asked_micros: i64,
    pub(super) least_micros: i64,
    /// Not asked when a hold has this much room already: another replica was quicker.
    pub(super) enough_micros: i64,
}

const WRITE_ASKS: &str = "-- leases.write_asks
INSERT INTO hold (account_no, request_id, asked_micros, least_micros, ttl_seconds, asked_at, used_at)
SELECT a.account_no, a.request_id, a.asked_micros, a.least_micros, $6, $7, $7
FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
    AS a (account_no, request_id, asked_micros, least_micros, enough_micros)
WHERE a.enough_micros > COALESCE((
    SELECT max(h.opened_micros - h.reserved_micros - h.charged_micros + h.late_micros)
    FROM hold h WHERE h.account_no = a.account_no AND h.state = 2 AND h.expires_at >= $8), 0)
ORDER BY a.account_no
ON CONFLICT (account_no) WHERE state = 1 DO NOTHING";

/// Writes questions down before billing hears them; one at a time for an account.
pub(super) async fn write_asks(
    client: &Client,
    asks: &[NewAsk],
    ttl_seconds: i32,
    now: DateTime<Utc>,
    usable_until: DateTime<Utc>,
) -> Result<u64, db::Error> {
    let accounts: Vec<i64> = asks.iter().map(|ask| ask.account_no).collect();
    let requests: Vec<&str> = asks.iter().map(|ask| ask.request_id.as_str()).collect();
    let asked: Vec<i64> = asks.iter().map(|ask| ask.asked_micros).collect();
    let least: Vec<i64> = asks.iter().map(|ask| ask.least_micros).collect();
    let enough: Vec<i64> = asks.iter().map(|ask| ask.enough_micros).collect();
    client
        .execute(
            WRITE_ASKS,
            &[&accounts, &requests, &asked, &least, &enough, &ttl_seconds, &now, &usable_until],
        )
        .await
}

/// A question without an answer yet.
#[derive(Debug, Clone)]
pub(super) struct OpenAsk {
    pub(super) account_no: i64,
    pub(super) hold_no: i64,
    pub(super) ask: HoldAsk,
}

const OPEN_ASKS: &str = "-- leases.open_asks
SELECT h.account_no, h.hold_no, h.request_id, h.asked_micros, h.least_micros, h.ttl_seconds, a.name
FROM hold h JOIN account a USING (account_no)
WHERE h.state = 1 AND (h.account_no = ANY ($1) OR h.asked_at <= $2)
ORDER BY h.account_no LIMIT $3";

/// The questions of these accounts, and those so old that whoever asked must have died.
pub(super) async fn open_asks(
    client: &Client,
    accounts: &[i64],
    orphaned_before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<OpenAsk>, db::Error> {
    let rows = client.query(OPEN_ASKS, &[&accounts, &orphaned_before, &limit]).await?;
    rows.iter().map(ask_from_row).collect()
}

fn ask_from_row(row: &Row) -> Result<OpenAsk, db::Error> {
    let ttl: i32 = row.try_get("ttl_seconds")?;
    let account: AccountId = row.try_get("name")?;
    Ok(OpenAsk {
        account_no: row.try_get("account_no")?,
        hold_no: row.try_get("hold_no")?,
        ask: HoldAsk {
            account,
            amount_micros: row.try_get("asked_micros")?,
            least_micros: row.try_get("least_micros")?,
            ttl: std::time::Duration::from_secs(u64::try_from(ttl).unwrap_or(1)),
            request_id: row.try_get("request_id")?,
        },
    })
}

/// What billing answered to a question.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) account_no: i64,
    pub(super) hold_no: i64,
    /// Name, amount and expiry of the hold; none when it was refused.
    pub(super) opened: Option<(String, i64, DateTime<Utc>)>,
}

const WRITE_ANSWERS: &str = "-- leases.write_answers
UPDATE hold h
SET state = CASE WHEN a.billing_name IS NULL THEN 5 ELSE 2 END,
    billing_name = a.billing_name, opened_micros = COALESCE(a.opened_micros, 0), expires_at = a.expires_at,
    used_at = $6
FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::timestamptz[])
    AS a (account_no, hold_no, billing_name, opened_micros, expires_at)
WHERE h.account_no = a.account_no AND h.hold_no = a.hold_no AND h.state = 1";

/// Writes answers down; those that another replica wrote before stay as they are.
pub(super) async fn write_answers(
    client: &Client,
    answers: &[Answered],
    now: DateTime<Utc>,
) -> Result<u64, db::Error> {
    let accounts: Vec<i64> = answers.iter().map(|answer| answer.account_no).collect();
    let holds: Vec<i64> = answers.iter().map(|answer| answer.hold_no).collect();
    let opened: Vec<_> = answers.iter().map(|answer| answer.opened.as_ref()).collect();
    let names: Vec<Option<&str>> =
        opened.iter().map(|hold| hold.map(|(name, _, _)| name.as_str())).collect();
    let amounts: Vec<Option<i64>> =
        opened.iter().map(|hold| hold.map(|(_, amount, _)| *amount)).collect();
    let expiries: Vec<Option<DateTime<Utc>>> =
        opened.iter().map(|hold| hold.map(|(_, _, expires_at)| *expires_at)).collect();
    client.execute(WRITE_ANSWERS, &[&accounts, &holds, &names, &amounts, &expiries, &now]).await
}

/// A hold and what billing calls it.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) account_no: i64,
    pub(super) hold_no: i64,
    pub(super) name: String,
}

fn named_from_row(row: &Row) -> Result<Named, db::Error> {
    Ok(Named {
        account_no: row.try_get("account_no")?,
        hold_no: row.try_get("hold_no")?,
        name: row.try_get("billing_name")?,
    })
}

const TO_EXTEND: &str = "-- leases.holds_to_extend
SELECT account_no, hold_no, billing_name FROM hold
WHERE state IN (2, 3) AND expires_at > $1 AND expires_at <= $2 AND (reserved_micros > 0 OR used_at > $3)
ORDER BY expires_at LIMIT $4";

/// Holds in use that expire by `until`.
pub(super) async fn to_extend(
    client: &Client,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    used_after: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Named>, db::Error> {
    let rows = client.query(TO_EXTEND, &[&now, &until, &used_after, &limit]).await?;
    rows.iter().map(named_from_row).collect()
}

// Several holds in one statement are locked in the order of their key, as grants and charges lock
// them; an update alone would lock in the order of its join and meet them in a deadlock.
const EXTEND: &str = "-- leases.extend_holds
WITH extended AS (
    SELECT h.account_no, h.hold_no, e.expires_at FROM hold h
    JOIN UNNEST($1::bigint[], $2::bigint[], $3::timestamptz[]) AS e (account_no, hold_no, expires_at)
        USING (account_no, hold_no)
    WHERE h.state IN (2, 3)
    ORDER BY h.account_no, h.hold_no
    FOR NO KEY UPDATE OF h)
UPDATE hold h SET expires_at = GREATEST(h.expires_at, e.expires_at) FROM extended e
WHERE h.account_no = e.account_no AND h.hold_no = e.hold_no AND h.state IN (2, 3)";

/// Notes later expiries.
pub(super) async fn extend(
    client: &Client,
    extended: &[(Named, DateTime<Utc>)],
) -> Result<(), db::Error> {
    let accounts: Vec<i64> = extended.iter().map(|(hold, _)| hold.account_no).collect();
    let holds: Vec<i64> = extended.iter().map(|(hold, _)| hold.hold_no).collect();
    let expiries: Vec<DateTime<Utc>> = extended.iter().map(|(_, expires_at)| *expires_at).collect();
    client.execute(EXTEND, &[&accounts, &holds, &expiries]).await.map(|_| ())
}

const DRAIN_NAMED: &str = "-- leases.drain_named
WITH ended AS (
    SELECT h.account_no, h.hold_no FROM hold h
    JOIN UNNEST($1::bigint[], $2::bigint[]) AS d (account_no, hold_no) USING (account_no, hold_no)
    WHERE h.state = 2
    ORDER BY h.account_no, h.hold_no
    FOR NO KEY UPDATE OF h)
UPDATE hold h SET state = 3 FROM ended AS d
WHERE h.account_no = d.account_no AND h.hold_no = d.hold_no AND h.state = 2";

/// No more slices from these: billing says that they are over.
pub(super) async fn drain_named(client: &Client, holds: &[Named]) -> Result<(), db::Error> {
    let accounts: Vec<i64> = holds.iter().map(|hold| hold.account_no).collect();
    let numbers: Vec<i64> = holds.iter().map(|hold| hold.hold_no).collect();
    client.execute(DRAIN_NAMED, &[&accounts, &numbers]).await.map(|_| ())
}

// Nothing is reserved in an idle hold, so the condition needs no lock but the row's own. An update
// alone would lock in the order of the table and meet grants, which lock in that of the key; a hold
// that somebody works with can wait for the next turn.
const DRAIN: &str = "-- leases.drain_holds
WITH due AS (
    SELECT h.account_no, h.hold_no FROM hold h
    WHERE h.state = 2 AND (
        (h.reserved_micros = 0 AND (h.used_at <= $1 OR h.expires_at <= $2))
        OR h.opened_micros - h.charged_micros + h.late_micros < COALESCE(
            (SELECT p.price_micros
             FROM UNNEST($3::bigint[], $4::bigint[]) AS p (account_no, price_micros)
             WHERE p.account_no = h.account_no), 1))
    ORDER BY h.account_no, h.hold_no
    FOR NO KEY UPDATE OF h SKIP LOCKED)
UPDATE hold h SET state = 3 FROM due
WHERE h.account_no = due.account_no AND h.hold_no = due.hold_no AND h.state = 2";

/// No more slices from holds that lie idle, are over, or are used up.
pub(super) async fn drain(
    client: &Client,
    idle_since: DateTime<Utc>,
    now: DateTime<Utc>,
    prices: &[(i64, i64)],
) -> Result<u64, db::Error> {
    let (accounts, prices): (Vec<i64>, Vec<i64>) = prices.iter().copied().unzip();
    client.execute(DRAIN, &[&idle_since, &now, &accounts, &prices]).await
}

const TO_RELEASE: &str = "-- leases.holds_to_release
SELECT h.account_no, h.hold_no, h.billing_name FROM hold h
WHERE h.state = 3 AND h.reserved_micros = 0
    AND NOT EXISTS (
        SELECT FROM hold_spend s WHERE s.account_no = h.account_no AND s.hold_no = h.hold_no
            AND s.acknowledged_micros < s.charged_micros)
    AND NOT EXISTS (
        SELECT FROM settlement t WHERE t.account_no = h.account_no AND t.hold_no = h.hold_no)
ORDER BY h.account_no, h.hold_no LIMIT $1";

/// Drained holds whose slices are all resolved and whose spend billing has acknowledged.
pub(super) async fn to_release(client: &Client, limit: i64) -> Result<Vec<Named>, db::Error> {
    client.query(TO_RELEASE, &[&limit]).await?.iter().map(named_from_row).collect()
}

const CLOSE: &str = "-- leases.close_holds
WITH ended AS (
    SELECT h.account_no, h.hold_no FROM hold h
    JOIN UNNEST($1::bigint[], $2::bigint[]) AS c (account_no, hold_no) USING (account_no, hold_no)
    WHERE h.state = 3
    ORDER BY h.account_no, h.hold_no
    FOR NO KEY UPDATE OF h)
UPDATE hold h SET state = 4 FROM ended AS c
WHERE h.account_no = c.account_no AND h.hold_no = c.hold_no AND h.state = 3";

/// Billing has closed these.
pub(super) async fn close(client: &Client, holds: &[Named]) -> Result<(), db::Error> {
    let accounts: Vec<i64> = holds.iter().map(|hold| hold.account_no).collect();
    let numbers: Vec<i64> = holds.iter().map(|hold| hold.hold_no).collect();
    client.execute(CLOSE, &[&accounts, &numbers]).await.map(|_| ())
}

const FORGET_REFUSED: &str = "-- leases.forget_refused
DELETE FROM hold WHERE state = 5 AND asked_at <= $1";

/// Refused questions are kept for people to see, and not for ever.
pub(super) async fn forget_refused(
    client: &Client,
    before: DateTime<Utc>,
) -> Result<u64, db::Error> {
    client.execute(FORGET_REFUSED, &[&before]).await
}

const ROOMS: &str = "-- leases.account_rooms
SELECT account_no, sum(room_micros)::bigint AS all_micros, max(room_micros) AS most_micros
FROM (
    SELECT account_no, opened_micros - reserved_micros - charged_micros + late_micros AS room_micros
    FROM hold WHERE account_no = ANY ($1) AND state = 2 AND expires_at >= $2
) usable
GROUP BY account_no";

/// How much room the usable holds of an account have.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rooms {
    /// Together.
    pub(super) all_micros: i64,
    /// In the one with most: a slice is cut from one hold.
    pub(super) most_micros: i64,
}

/// The rooms of these accounts.
pub(super) async fn rooms(
    client: &Client,
    accounts: &[i64],
    usable_until: DateTime<Utc>,
) -> Result<HashMap<i64, Rooms>, db::Error> {
    let rows = client.query(ROOMS, &[&accounts, &usable_until]).await?;
    rows.iter().map(rooms_from_row).collect()
}

fn rooms_from_row(row: &Row) -> Result<(i64, Rooms), db::Error> {
    let rooms =
        Rooms { all_micros: row.try_get("all_micros")?, most_micros: row.try_get("most_micros")? };
    Ok((row.try_get("account_no")?, rooms))
}
