//! The SQL of audit records.

use adspend_common::db::{self, Client, Row, Tx};
use chrono::{DateTime, Utc};

use super::{
    Asked,
    chain::{Content, Head, Record},
    listing::{Listed, Names},
    rules,
};
use crate::ledger::AccountNo;

const INSERT: &str = "-- audit_records.insert
INSERT INTO audit_record (record_id, made_at, who, request_id, payload_hash, request, omitted, accounts)
SELECT nextval('audit_record_seq'), $1, ARRAY[$2::text], $3, $4, $5, $6, $7";

/// Records a call in the transaction of its effect.
pub(crate) async fn insert(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    asked: &Asked,
) -> Result<(), db::Error> {
    let Asked { actor, request_id, hash, request } = asked;
    let rules::Kept { request: kept, omitted } = rules::kept(actor.method, request);
    let omitted = (!omitted.is_empty()).then_some(omitted);
    let accounts = rules::accounts(&[request]);
    let (who, hash) = (actor.text(), hash.as_slice());
    let inserted =
        tx.execute(INSERT, &[&now, &who, request_id, &hash, &kept, &omitted, &accounts]).await?;
    db::exactly_one(inserted, "audit_records.insert")
}

fn record(row: &Row) -> Result<Record, db::Error> {
    let content = match row.try_get::<_, Option<String>>("request_id")? {
        Some(request_id) => Content::Call {
            request_id,
            hash: row.try_get("payload_hash")?,
            request: row.try_get("request")?,
            omitted: row.try_get::<_, Option<Vec<i32>>>("omitted")?.unwrap_or_default(),
            accounts: row.try_get("accounts")?,
        },
        None => {
            Content::Postings { calls: row.try_get("postings")?, digest: row.try_get("digest")? }
        }
    };
    Ok(Record {
        id: row.try_get("record_id")?,
        made_at: row.try_get("made_at")?,
        who: row.try_get("who")?,
        content,
    })
}

fn head_of(row: &Row) -> Result<Head, db::Error> {
    let hash: &[u8] = row.try_get("hash")?;
    let hash =
        hash.try_into().map_err(|_| db::Error::other("a link has a hash of another length"))?;
    Ok(Head { number: row.try_get("number")?, hash })
}

/// The transactions in progress at one moment, and the newest id of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Horizon {
    /// Every transaction before this one has ended.
    pub(super) oldest: i64,
    /// Every transaction from this one on had not begun.
    pub(super) newest: i64,
    /// The last id that was given to anybody.
    pub(super) id: i64,
}

const LAST_ID: &str = "-- audit_records.last_id
SELECT last_value FROM audit_record_seq";

const IN_PROGRESS: &str = "-- audit_records.in_progress
SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint
FROM (SELECT pg_current_snapshot() AS s) AS present";

/// The id is read first, by a statement of its own: whoever has it, or one before it, has a transaction number
/// by then, for records are the last that a transaction writes.
pub(super) async fn horizon(client: &Client) -> Result<Horizon, db::Error> {
    let id = client.query_one(LAST_ID, &[]).await?.try_get(0)?;
    let row = client.query_one(IN_PROGRESS, &[]).await?;
    Ok(Horizon { id, oldest: row.try_get(0)?, newest: row.try_get(1)? })
}

/// The lock of whoever links: a number that nothing else of ours locks.
const CHAIN_LOCK: i64 = 0x6175_6469_7400;

const LOCK_CHAIN: &str = "-- audit_records.lock_chain
SELECT pg_try_advisory_xact_lock($1)";

/// False when another replica links at the moment.
pub(super) async fn lock_chain(tx: &Tx<'_>) -> Result<bool, db::Error> {
    tx.query_one(LOCK_CHAIN, &[&CHAIN_LOCK]).await?.try_get(0).map_err(Into::into)
}

const HEAD: &str = "-- audit_records.head
SELECT number, hash, (SELECT max(record_id) FROM audit_link) AS last_record FROM audit_link
ORDER BY number DESC LIMIT 1";

/// The end of the chain, and the highest id that has a link.
pub(super) async fn head(tx: &Tx<'_>) -> Result<Option<(Head, i64)>, db::Error> {
    let row = tx.query_opt(HEAD, &[]).await?;
    row.map(|row| Ok((head_of(&row)?, row.try_get("last_record")?))).transpose()
}

const UNLINKED: &str = "-- audit_records.unlinked
SELECT r.record_id, r.made_at, r.who, r.request_id, r.payload_hash, r.request, r.omitted, r.accounts,
       r.postings, r.digest
FROM audit_record r
WHERE r.record_id > $1
  AND NOT EXISTS (SELECT FROM audit_link l WHERE l.record_id = r.record_id)
ORDER BY r.record_id LIMIT $2";

/// Records after this id that have no link.
pub(super) async fn unlinked(
    tx: &Tx<'_>,
    after: i64,
    limit: i64,
) -> Result<Vec<Record>, db::Error> {
    tx.query(UNLINKED, &[&after, &limit]).await?.iter().map(record).collect()
}

const LINK: &str = "-- audit_records.link
INSERT INTO audit_link (number, record_id, hash)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])";

/// Writes links, each with the id of its record.
pub(super) async fn link(tx: &Tx<'_>, links: &[(i64, Head)]) -> Result<(), db::Error> {
    if links.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = links.iter().map(|(_, head)| head.number).collect();
    let records: Vec<i64> = links.iter().map(|(record, _)| *record).collect();
    let hashes: Vec<&[u8]> = links.iter().map(|(_, head)| head.hash.as_slice()).collect();
    tx.execute(LINK, &[&numbers, &records, &hashes]).await?;
    Ok(())
}

const LINKED: &str = "-- audit_records.linked
SELECT l.number, l.hash, l.record_id AS linked_id, r.record_id, r.made_at, r.who, r.request_id,
       r.payload_hash, r.request, r.omitted, r.accounts, r.postings, r.digest
FROM audit_link l LEFT JOIN audit_record r ON r.record_id = l.record_id
WHERE l.number > $1 ORDER BY l.number LIMIT $2";

/// Links after a number with their records, in order; a record may be gone.
pub(super) async fn linked(
    tx: &Tx<'_>,
    after: i64,
    limit: i64,
) -> Result<Vec<(Head, i64, Option<Record>)>, db::Error> {
    let rows = tx.query(LINKED, &[&after, &limit]).await?;
    rows.iter()
        .map(|row| {
            let there: Option<i64> = row.try_get("record_id")?;
            let found = there.map(|_| record(row)).transpose()?;
            Ok((head_of(row)?, row.try_get("linked_id")?, found))
        })
        .collect()
}

// A row with postings is looked into for an account by its legs; everything else is filtered here.
const PAGE: &str = "-- audit_records.page
SELECT r.record_id, r.made_at, r.who, r.request_id, r.payload_hash, r.request, r.omitted, r.accounts,
       r.postings, r.digest, l.number, l.hash
FROM audit_record r LEFT JOIN audit_link l ON l.record_id = r.record_id
WHERE (r.made_at, r.record_id) <= ($1, $2)
  AND (r.made_at >= $3 OR $3 IS NULL) AND (r.made_at < $4 OR $4 IS NULL)
  AND EXISTS (SELECT FROM unnest(r.who) AS w
              WHERE ($5::text IS NULL OR split_part(w, ' ', 1) = $5)
                AND ($6::text IS NULL OR split_part(w, ' ', 2) = $6)
                AND ($7::text IS NULL OR split_part(w, ' ', 4) = $7))
  AND ($8::text IS NULL OR r.accounts IS NULL OR $8 = ANY(r.accounts))
ORDER BY r.made_at DESC, r.record_id DESC LIMIT $9";

/// Later than any record; the database has no larger years than these four digits need.
const END_OF_TIME: &DateTime<Utc> = &match DateTime::from_timestamp(253_402_300_799, 0) {
    Some(end) => end,
    None => DateTime::<Utc>::MAX_UTC,
};

/// Rows from a position on, newest first, each with its link when it has one.
pub(super) async fn page(
    tx: &Tx<'_>,
    listed: &Listed,
    limit: i64,
) -> Result<Vec<(Record, Option<Head>)>, db::Error> {
    let Listed { account, tenant, principal, method, start, end, after, .. } = listed;
    // After the calls of a row are told, the next one is wanted.
    let from = after.map_or((*END_OF_TIME, i64::MAX), |after| {
        (after.at, if after.calls > 0 { after.record } else { after.record.saturating_sub(1) })
    });
    let (account, tenant) = (account.as_ref(), tenant.as_ref());
    let rows = tx
        .query(PAGE, &[&from.0, &from.1, start, end, method, principal, &tenant, &account, &limit])
        .await?;
    rows.iter()
        .map(|row| {
            let linked: Option<i64> = row.try_get("number")?;
            Ok((record(row)?, linked.map(|_| head_of(row)).transpose()?))
        })
        .collect()
}

const NAMES: &str = "-- audit_records.names
SELECT account_id, name, currency FROM account WHERE account_id = ANY($1)";

/// Accounts by number.
pub(super) async fn names(tx: &Tx<'_>, numbers: &[AccountNo]) -> Result<Names, db::Error> {
    let numbers: Vec<i64> = numbers.iter().map(|number| number.0).collect();
    let rows = tx.query(NAMES, &[&numbers]).await?;
    rows.iter()
        .map(|row| {
            Ok((AccountNo(row.try_get(0)?), (row.try_get("name")?, row.try_get("currency")?)))
        })
        .collect()
}
