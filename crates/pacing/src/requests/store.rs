//! The table `request`.

use adspend_common::db::{self, Client, Row, Tx};
use chrono::{DateTime, Utc};

use super::{Begun, Call, Error};

// The payload is compared here, so that an id used for something else counts no replay. `xmax` is
// zero in a row that this statement has inserted.
const BEGIN: &str = "-- requests.begin
INSERT INTO request AS known (tenant, method, request_id, payload_hash, answer, created_at)
VALUES ($1, $2, $3, $4, '', $5)
ON CONFLICT ON CONSTRAINT request_pkey DO UPDATE
SET replays = known.replays + (known.payload_hash = EXCLUDED.payload_hash)::int
RETURNING payload_hash, answer, xmax = 0 AS is_new";

/// The first statement of a changing transaction. A concurrent repeat waits in it until the first
/// call is committed or rolled back.
pub async fn begin<T>(tx: &Tx<'_>, call: &Call<T>, now: DateTime<Utc>) -> Result<Begun, Error> {
    let Call { tenant, method, id, payload_hash, encode: _ } = call;
    let hash = payload_hash.as_slice();
    let row = tx.query_one(BEGIN, &[tenant, method, id, &hash, &now]).await?;
    if row.try_get("is_new").map_err(db::Error::from)? {
        return Ok(Begun::New);
    }
    checked_answer(&row, payload_hash).map(Begun::Replay)
}

const FINISH: &str = "-- requests.finish
UPDATE request SET answer = $4 WHERE tenant = $1 AND method = $2 AND request_id = $3";

/// Keeps the answer, as the last statement before the commit.
pub async fn finish<T>(tx: &Tx<'_>, call: &Call<T>, outcome: &T) -> Result<(), db::Error> {
    let Call { tenant, method, id, payload_hash: _, encode } = call;
    let answer = encode(outcome);
    let count = tx.execute(FINISH, &[tenant, method, id, &answer]).await?;
    db::exactly_one(count, "requests.finish")
}

const REPLAY: &str = "-- requests.replay
UPDATE request SET replays = replays + (payload_hash = $4)::int
WHERE tenant = $1 AND method = $2 AND request_id = $3
RETURNING payload_hash, answer";

/// The answer of a call that was carried out before: for calls that ask another service first.
pub async fn replay<T>(db: &Client, call: &Call<T>) -> Result<Option<Vec<u8>>, Error> {
    let Call { tenant, method, id, payload_hash, encode: _ } = call;
    let row = db.query_opt(REPLAY, &[tenant, method, id, &payload_hash.as_slice()]).await?;
    row.map(|row| checked_answer(&row, payload_hash)).transpose()
}

fn checked_answer(row: &Row, payload_hash: &[u8]) -> Result<Vec<u8>, Error> {
    let hash: &[u8] = row.try_get("payload_hash").map_err(db::Error::from)?;
    if hash != payload_hash {
        return Err(Error::Reused);
    }
    Ok(row.try_get("answer").map_err(db::Error::from)?)
}

const PURGE: &str = "-- requests.purge
DELETE FROM request WHERE (tenant, method, request_id) IN (
    SELECT tenant, method, request_id FROM request WHERE created_at < $1
    LIMIT $2 FOR UPDATE SKIP LOCKED)";

pub(super) async fn purge(
    db: &Client,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<u64, db::Error> {
    db.execute(PURGE, &[&before, &limit]).await
}
