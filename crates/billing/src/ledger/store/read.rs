//! Reads what is booked: postings by their id, figures of the past.

use std::collections::HashMap;

use adspend_common::{
    db::{self, Client, Row as SqlRow, Tx},
    money::{Balance, Money},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::broken;
use crate::ledger::{
    AccountKey, AccountNo, Bucket, Counter, Kind, Leg, Place, Posted, PostedLeg, TenantNo,
    journal::{self, Prefix},
};

const REPLAY: &str = "-- ledger.replay
UPDATE ledger_leg l SET replays = l.replays + 1
FROM unnest($1::bigint[], $2::uuid[]) AS asked (tenant_id, posting_id)
WHERE l.tenant_id = asked.tenant_id AND l.posting_id = asked.posting_id
RETURNING l.*";

const FIND: &str = "-- ledger.find
SELECT l.*
FROM unnest($1::bigint[], $2::uuid[]) AS asked (tenant_id, posting_id)
JOIN ledger_leg l ON l.tenant_id = asked.tenant_id AND l.posting_id = asked.posting_id";

const ANY_BOOKED: &str = "-- ledger.any_booked
SELECT EXISTS (
    SELECT FROM ledger_leg l
    JOIN unnest($1::bigint[], $2::uuid[]) AS asked (tenant_id, posting_id)
        ON l.tenant_id = asked.tenant_id AND l.posting_id = asked.posting_id
)";

/// Whether any of these postings is booked.
pub(in crate::ledger) async fn any_booked(
    tx: &Tx<'_>,
    ids: &[(TenantNo, Uuid)],
) -> Result<bool, db::Error> {
    let (tenants, ids): (Vec<i64>, Vec<Uuid>) =
        ids.iter().map(|(tenant, id)| (tenant.0, *id)).unzip();
    Ok(tx.query_one(ANY_BOOKED, &[&tenants, &ids]).await?.get(0))
}

/// A posting that was found, and the hash of what its request asked for.
pub type Found = HashMap<(TenantNo, Uuid), (i64, Posted)>;

/// Finds booked postings and counts the replay. It writes, so that the answer waits for the same flush
/// (and the same standby) as the first one did; a read could repeat an answer that a failover loses.
pub async fn replay(tx: &Tx<'_>, ids: &[(TenantNo, Uuid)]) -> Result<Found, db::Error> {
    let (tenants, ids): (Vec<i64>, Vec<Uuid>) =
        ids.iter().map(|(tenant, id)| (tenant.0, *id)).unzip();
    found(&tx.query(REPLAY, &[&tenants, &ids]).await?, true)
}

/// Finds booked postings, for reading.
pub async fn find(client: &Client, ids: &[(TenantNo, Uuid)]) -> Result<Found, db::Error> {
    let (tenants, ids): (Vec<i64>, Vec<Uuid>) =
        ids.iter().map(|(tenant, id)| (tenant.0, *id)).unzip();
    found(&client.query(FIND, &[&tenants, &ids]).await?, false)
}

const JOURNALED: &str = "-- ledger.journaled
SELECT l.*
FROM unnest($1::bigint[], $2::uuid[], $3::uuid[]) AS asked (tenant_id, low, high)
JOIN ledger_leg l ON l.tenant_id = asked.tenant_id
    AND l.posting_id >= asked.low AND l.posting_id <= asked.high";

/// The postings that a row of the journal names, each with its hash.
pub(crate) async fn journaled(
    tx: &Tx<'_>,
    keys: &[(TenantNo, Prefix)],
) -> Result<HashMap<(TenantNo, Prefix), Vec<(i64, Posted)>>, db::Error> {
    let tenants: Vec<i64> = keys.iter().map(|(tenant, _)| tenant.0).collect();
    let (low, high): (Vec<Uuid>, Vec<Uuid>) =
        keys.iter().map(|(_, prefix)| journal::range(*prefix)).unzip();
    let mut journaled: HashMap<_, Vec<_>> = HashMap::new();
    let rows = tx.query(JOURNALED, &[&tenants, &low, &high]).await?;
    for ((tenant, id), posted) in found(&rows, false)? {
        journaled.entry((tenant, journal::prefix(id))).or_default().push(posted);
    }
    Ok(journaled)
}

fn found(rows: &[SqlRow], replayed: bool) -> Result<Found, db::Error> {
    let mut numbered: HashMap<(TenantNo, Uuid), Vec<(i16, PostedLeg)>> = HashMap::new();
    let mut found = Found::new();
    for sql in rows {
        let id: Uuid = sql.get("posting_id");
        let key = (TenantNo(sql.get("tenant_id")), id);
        numbered.entry(key).or_default().push((sql.get("leg"), posted_leg(sql)?));
        let at = sql.get("posted_at");
        found.entry(key).or_insert_with(|| {
            (sql.get("payload_hash"), Posted { id, at, legs: Vec::new(), replayed })
        });
    }
    for (key, mut legs) in numbered {
        legs.sort_by_key(|(number, _)| *number);
        if let Some((_, posted)) = found.get_mut(&key) {
            posted.legs = legs.into_iter().map(|(_, leg)| leg).collect();
        }
    }
    Ok(found)
}

fn posted_leg(sql: &SqlRow) -> Result<PostedLeg, db::Error> {
    let (from_version, to_version): (i64, i64) = (sql.get("from_version"), sql.get("to_version"));
    // A counter-account has no running balance.
    let balance = |version: i64, column: &str| -> Result<Option<Balance>, db::Error> {
        let micros = (version > 0).then(|| sql.get(column));
        micros
            .map(|micros| Balance::from_micros(micros).ok_or_else(|| broken("a balance")))
            .transpose()
    };
    let object: Option<String> = sql.get("object");
    Ok(PostedLeg {
        leg: Leg {
            kind: Kind::from_number(sql.get("kind")).ok_or_else(|| broken("a kind"))?,
            from: place(AccountNo(sql.get("from_account")), sql.get("from_bucket"))?,
            to: place(AccountNo(sql.get("to_account")), sql.get("to_bucket"))?,
            amount: Money::from_micros(sql.get("amount_micros"))
                .ok_or_else(|| broken("an amount"))?,
            object: object.map(String::into_boxed_str),
        },
        from_version,
        to_version,
        from_balance: balance(from_version, "from_balance_micros")?,
        to_balance: balance(to_version, "to_balance_micros")?,
        from_posted: balance(from_version, "from_posted_micros")?,
        to_posted: balance(to_version, "to_posted_micros")?,
    })
}

fn place(account: AccountNo, bucket: i16) -> Result<Place, db::Error> {
    Ok(match Bucket::from_number(bucket).ok_or_else(|| broken("a bucket"))? {
        Bucket::Main => Place::Main(account),
        Bucket::Held => Place::Held(account),
        Bucket::Frozen => Place::Frozen(account),
        Bucket::Bank => Place::Counter(Counter::Bank),
        Bucket::Card => Place::Counter(Counter::Card),
        Bucket::Unallocated => Place::Counter(Counter::Unallocated),
        Bucket::Promised => Place::Counter(Counter::Promised),
        Bucket::Deferred => Place::Counter(Counter::Deferred),
        Bucket::Revenue => Place::Counter(Counter::Revenue),
        Bucket::Refund => Place::Counter(Counter::Refund),
        Bucket::Adjustment => Place::Counter(Counter::Adjustment),
    })
}

/// The three figures of an account at a moment of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Free money.
    pub main: Balance,
    /// In holds.
    pub held: Money,
    /// Under a lien.
    pub frozen: Money,
}

const VERSION_AT: &str = "-- ledger.entry_at
SELECT posted_at FROM ledger_entry WHERE tenant_id = $1 AND account_id = $2 AND version = $3";

const LATEST: &str = "-- ledger.latest_version
SELECT version FROM ledger_balance WHERE tenant_id = $1 AND account_id = $2";

/// The number of the last entry that was booked at or before a moment; 0 when there is none. Entries of an
/// account are in the order of time, so this is a binary search by the primary key.
pub async fn entry_at(
    client: &Client,
    key: AccountKey,
    at: DateTime<Utc>,
) -> Result<i64, db::Error> {
    let (tenant, account) = (key.tenant.0, key.account.0);
    let latest = client.query_opt(LATEST, &[&tenant, &account]).await?;
    let (mut low, mut high): (i64, i64) = (0, latest.map_or(0, |sql| sql.get(0)));
    while low < high {
        let middle = high.midpoint(low).max(low.saturating_add(1));
        let sql = client.query_one(VERSION_AT, &[&tenant, &account, &middle]).await?;
        let booked: DateTime<Utc> = sql.get(0);
        if booked <= at { low = middle } else { high = middle.saturating_sub(1) }
    }
    Ok(low)
}

const FIGURES: &str = "-- ledger.figures
SELECT bucket.number, (SELECT e.balance_micros FROM ledger_entry e
    WHERE e.tenant_id = $1 AND e.account_id = $2 AND e.version <= $3 AND e.bucket = bucket.number
    ORDER BY e.version DESC LIMIT 1)
FROM unnest(ARRAY[1, 2, 3]::smallint[]) AS bucket (number)";

/// The figures of an account as they stood at a moment.
pub async fn as_of(
    client: &Client,
    key: AccountKey,
    at: DateTime<Utc>,
) -> Result<Figures, db::Error> {
    let version = entry_at(client, key, at).await?;
    let mut figures = Figures { main: Balance::ZERO, held: Money::ZERO, frozen: Money::ZERO };
    for sql in client.query(FIGURES, &[&key.tenant.0, &key.account.0, &version]).await? {
        let micros: i64 = sql.get::<_, Option<i64>>(1).unwrap_or(0);
        let money = Money::from_micros(micros).ok_or_else(|| broken("an amount"));
        match sql.get::<_, i16>(0) {
            2 => figures.held = money?,
            3 => figures.frozen = money?,
            _ => {
                figures.main = Balance::from_micros(micros).ok_or_else(|| broken("a balance"))?;
            }
        }
    }
    Ok(figures)
}
