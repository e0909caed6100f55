//! The SQL of requests.

use std::sync::Arc;

use adspend_common::db::{self, Client, Tx};
use chrono::{DateTime, Utc};

use super::{Call, PayloadHash};
use crate::{audit_records::rules, ledger::Actor};

const CLAIM: &str = "-- requests.claim
INSERT INTO request (tenant_id, method, request_id, payload_hash, answer, created_at)
VALUES ($1, $2, $3, $4, '', $5)
ON CONFLICT (tenant_id, method, request_id) DO NOTHING";

/// True when the id is new. Waits for a transaction that has claimed the same id and not ended.
pub(super) async fn claim<T>(
    tx: &Tx<'_>,
    call: &Call<T>,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let Call { scope, method, id, hash, .. } = call;
    let inserted = tx.execute(CLAIM, &[&scope.0, method, id, &hash.as_slice(), &now]).await?;
    Ok(inserted == 1)
}

const REPLAY: &str = "-- requests.replay
UPDATE request SET replays = replays + 1
WHERE tenant_id = $1 AND method = $2 AND request_id = $3
RETURNING payload_hash, answer";

/// The hash and the answer of a request that was answered before.
pub(super) async fn replay<T>(
    tx: &Tx<'_>,
    call: &Call<T>,
) -> Result<(PayloadHash, Vec<u8>), db::Error> {
    let row = tx.query_one(REPLAY, &[&call.scope.0, &call.method, &call.id]).await?;
    let hash: &[u8] = row.get(0);
    // A hash of another length is of another version of us: no payload of today equals it.
    Ok((hash.try_into().unwrap_or([0; 32]), row.get(1)))
}

// The record is made at the moment at which the request began.
const ANSWER: &str = "-- requests.answer
WITH answered AS (
    UPDATE request SET answer = $4 WHERE tenant_id = $1 AND method = $2 AND request_id = $3
    RETURNING request_id, payload_hash, created_at
)
INSERT INTO audit_record (record_id, made_at, who, request_id, payload_hash, request, omitted, accounts)
SELECT nextval('audit_record_seq'), created_at, ARRAY[$5::text], request_id, payload_hash, $6, $7, $8
FROM answered";

/// Writes the answer, and the record of who asked for what.
pub(super) async fn answer<T>(
    tx: &Tx<'_>,
    call: &Call<T>,
    answer: Vec<u8>,
) -> Result<(), db::Error> {
    let Call { caller, scope, method, id, request, .. } = call;
    let who = Actor { caller: Arc::clone(caller), method }.text();
    let accounts = rules::accounts(&[request, &answer]);
    let rules::Kept { request, omitted } = rules::kept(method, request);
    let omitted = (!omitted.is_empty()).then_some(omitted);
    let written = tx
        .execute(ANSWER, &[&scope.0, method, id, &answer, &who, &request, &omitted, &accounts])
        .await?;
    db::exactly_one(written, "requests.answer")
}

const FORGET: &str = "-- requests.forget
DELETE FROM request WHERE (tenant_id, method, request_id) IN (
    SELECT tenant_id, method, request_id FROM request WHERE created_at < $1
    LIMIT $2 FOR UPDATE SKIP LOCKED)";

/// Deletes answers older than a moment, at most `limit` of them.
pub(crate) async fn forget(
    client: &Client,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<u64, db::Error> {
    client.execute(FORGET, &[&before, &limit]).await
}
