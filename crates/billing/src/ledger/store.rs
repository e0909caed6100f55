//! The ledger's SQL. Nothing else in the project writes `ledger_balance`, `ledger_leg` or `ledger_entry`.

use std::collections::HashMap;

use adspend_common::{
    db::{self, Client, Row as SqlRow, Tx},
    money::{Balance, Money},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    AccountKey, AccountNo, Bucket, Counter, Error, Kind, Leg, Place, Posted, PostedLeg, Posting,
    Refusal, Row, State, TenantNo, posting_id,
    rules::{Entry, Fold},
};

/// A stored number or amount that no code of ours writes: the row was made by something else.
fn broken(what: &'static str) -> db::Error {
    db::Error::other(format!("the ledger holds {what} that this version does not know"))
}

const OPEN_BALANCE: &str = "-- ledger.open_balance
INSERT INTO ledger_balance AS b (tenant_id, account_id, last_at) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, account_id) DO UPDATE SET state = 1 WHERE b.state = 4";

/// Gives an account its balance row in a tenant: a new one at zero, or the one it had there before it moved.
pub async fn open_balance(
    tx: &Tx<'_>,
    key: AccountKey,
    at: DateTime<Utc>,
) -> Result<(), db::Error> {
    tx.execute(OPEN_BALANCE, &[&key.tenant.0, &key.account.0, &at]).await?;
    Ok(())
}

const SET_STATE: &str = "-- ledger.set_state
UPDATE ledger_balance SET state = $3 WHERE tenant_id = $1 AND account_id = $2";

/// Sets whether money of the account may move. Call it with the row locked by [`lock`].
pub async fn set_state(tx: &Tx<'_>, key: AccountKey, state: State) -> Result<(), db::Error> {
    let set = tx.execute(SET_STATE, &[&key.tenant.0, &key.account.0, &state.number()]).await?;
    db::exactly_one(set, "ledger.set_state")
}

const LOCK: &str = "-- ledger.lock
SELECT b.tenant_id, b.account_id, b.main_micros, b.version, b.last_at, b.held_micros,
       b.frozen_micros, b.late_micros, b.overdraft_micros, b.hold_expires_at, b.state
FROM ledger_balance b
WHERE (b.tenant_id, b.account_id) IN (SELECT * FROM unnest($1::bigint[], $2::bigint[]))
ORDER BY b.account_id, b.tenant_id
FOR NO KEY UPDATE OF b";

fn row(sql: &SqlRow) -> Result<Row, db::Error> {
    let money = |column: &str| -> Result<Money, db::Error> {
        Money::from_micros(sql.get(column)).ok_or_else(|| broken("an amount"))
    };
    Ok(Row {
        key: AccountKey {
            tenant: TenantNo(sql.get("tenant_id")),
            account: AccountNo(sql.get("account_id")),
        },
        main: Balance::from_micros(sql.get("main_micros")).ok_or_else(|| broken("a balance"))?,
        held: money("held_micros")?,
        frozen: money("frozen_micros")?,
        overdraft: money("overdraft_micros")?,
        late: money("late_micros")?,
        version: sql.get("version"),
        last_at: sql.get("last_at"),
        state: State::from_number(sql.get("state")).ok_or_else(|| broken("a state"))?,
        hold_expires_at: sql.get("hold_expires_at"),
    })
}

/// Balance rows locked by a transaction, and what is to be written to them.
#[derive(Debug)]
pub struct Locked {
    fold: Fold,
    versions: HashMap<AccountKey, i64>,
    posted: Vec<(TenantNo, i64, Posted)>,
}

impl Locked {
    /// The row as it stands after what was posted so far.
    pub fn row(&self, key: AccountKey) -> Option<&Row> {
        self.fold.row(key)
    }

    /// Books a posting in memory; [`write()`] makes it real. A refusal leaves no trace.
    pub fn post(&mut self, posting: &Posting) -> Result<Posted, Refusal> {
        let posted = self.fold.post(posting)?;
        self.posted.push((posting.tenant, posting.payload_hash, posted.clone()));
        Ok(posted)
    }

    /// Books all of a group or none of it.
    pub fn post_group(&mut self, postings: &[&Posting]) -> Vec<Result<Posted, Refusal>> {
        let verdicts = self.fold.post_group(postings);
        for (posting, verdict) in postings.iter().zip(&verdicts) {
            if let Ok(posted) = verdict {
                self.posted.push((posting.tenant, posting.payload_hash, posted.clone()));
            }
        }
        verdicts
    }

    /// Says when the next hold of the account expires; the lock looks for expired holds from then on.
    pub fn set_hold_expiry(&mut self, key: AccountKey, at: Option<DateTime<Utc>>) {
        self.fold.set_hold_expiry(key, at);
    }
}

/// Locks the balance rows of these accounts, in the order of their numbers, and gives back what holds of
/// theirs have had their time (expiry is a fact of time; no job needs to have run). Accounts without a row
/// are left out: posting to them is refused.
pub async fn lock(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    accounts: &[AccountKey],
) -> Result<Locked, db::Error> {
    let mut keys: Vec<AccountKey> = accounts.to_vec();
    keys.sort_unstable();
    keys.dedup();
    let (tenants, numbers): (Vec<i64>, Vec<i64>) =
        keys.iter().map(|key| (key.tenant.0, key.account.0)).unzip();
    let rows = tx.query(LOCK, &[&tenants, &numbers]).await?;
    let rows: Vec<Row> = rows.iter().map(row).collect::<Result<_, _>>()?;
    let versions = rows.iter().map(|row| (row.key, row.version)).collect();
    let due: Vec<AccountKey> = rows
        .iter()
        .filter(|row| row.hold_expires_at.is_some_and(|at| at <= now))
        .map(|row| row.key)
        .collect();
    let mut locked = Locked { fold: Fold::new(now, rows), versions, posted: Vec::new() };
    if !due.is_empty() {
        expire_holds(tx, now, &mut locked, &due).await?;
    }
    Ok(locked)
}

const EXPIRE_HOLDS: &str = "-- ledger.expire_holds
UPDATE hold h SET state = 2, released_micros = h.opened_micros - h.settled_micros
FROM unnest($1::bigint[], $2::bigint[]) AS due (tenant_id, account_id)
WHERE h.tenant_id = due.tenant_id AND h.account_id = due.account_id
  AND h.state = 1 AND h.expires_at <= $3
RETURNING h.tenant_id, h.account_id, h.hold_id, h.released_micros";

const NEXT_EXPIRY: &str = "-- ledger.next_expiry
SELECT due.tenant_id, due.account_id,
       (SELECT min(h.expires_at) FROM hold h
        WHERE h.tenant_id = due.tenant_id AND h.account_id = due.account_id AND h.state = 1)
FROM unnest($1::bigint[], $2::bigint[]) AS due (tenant_id, account_id)";

async fn expire_holds(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    locked: &mut Locked,
    due: &[AccountKey],
) -> Result<(), db::Error> {
    let (tenants, numbers): (Vec<i64>, Vec<i64>) =
        due.iter().map(|key| (key.tenant.0, key.account.0)).unzip();
    for sql in tx.query(EXPIRE_HOLDS, &[&tenants, &numbers, &now]).await? {
        let (tenant, account) = (TenantNo(sql.get(0)), AccountNo(sql.get(1)));
        let hold: Uuid = sql.get(2);
        let rest = Money::from_micros(sql.get(3)).ok_or_else(|| broken("a hold's rest"))?;
        if rest.is_zero() {
            continue;
        }
        let posting = Posting {
            id: posting_id(tenant, "hold.expire", &hold.to_string()),
            tenant,
            legs: vec![Leg {
                kind: Kind::HoldExpired,
                from: Place::Held(account),
                to: Place::Main(account),
                amount: rest,
                object: None,
            }],
            payload_hash: 0,
        };
        locked.post(&posting).map_err(|_| broken("held money that differs from its holds"))?;
    }
    for sql in tx.query(NEXT_EXPIRY, &[&tenants, &numbers]).await? {
        let key = AccountKey { tenant: TenantNo(sql.get(0)), account: AccountNo(sql.get(1)) };
        locked.set_hold_expiry(key, sql.get(2));
    }
    Ok(())
}

const WRITE: &str = "-- ledger.write
WITH leg AS (
    INSERT INTO ledger_leg (tenant_id, from_account, to_account, amount_micros, from_version,
        to_version, payload_hash, posted_at, posting_id, leg, kind, from_bucket, to_bucket, object)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
        $6::bigint[], $7::bigint[], $8::timestamptz[], $9::uuid[], $10::smallint[],
        $11::smallint[], $12::smallint[], $13::smallint[], $14::text[])
    ON CONFLICT (tenant_id, posting_id, leg) DO NOTHING
    RETURNING 1
), entry AS (
    INSERT INTO ledger_entry (tenant_id, account_id, version, amount_micros, balance_micros,
        posted_micros, posted_at, posting_id, leg, kind, bucket)
    SELECT * FROM unnest($15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[],
        $20::bigint[], $21::timestamptz[], $22::uuid[], $23::smallint[], $24::smallint[],
        $25::smallint[])
), balance AS (
    UPDATE ledger_balance b
    SET main_micros = v.main, version = v.version, last_at = v.last_at, held_micros = v.held,
        frozen_micros = v.frozen, late_micros = v.late, hold_expires_at = v.hold_expires_at
    FROM unnest($26::bigint[], $27::bigint[], $28::bigint[], $29::bigint[], $30::bigint[],
        $31::timestamptz[], $32::bigint[], $33::bigint[], $34::bigint[], $35::timestamptz[])
        AS v (tenant_id, account_id, before, main, version, last_at, held, frozen, late,
              hold_expires_at)
    WHERE b.tenant_id = v.tenant_id AND b.account_id = v.account_id AND b.version = v.before
    RETURNING 1
)
SELECT (SELECT count(*) FROM leg), (SELECT count(*) FROM balance)";

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// All of it stands in the transaction.
    All,
    /// Some posting id exists already: roll back, and look which.
    Repeated,
}

/// Writes everything that was posted. An id that exists already is an error here: a feature that comes this
/// way has found its repeats by its request row.
pub async fn write(tx: &Tx<'_>, locked: Locked) -> Result<(), Error> {
    match write_new(tx, &locked).await? {
        Written::All => Ok(()),
        Written::Repeated => Err(Error::Refused(Refusal::RequestIdReused)),
    }
}

/// The fused write: one statement, arrays only, and counts that must match.
pub(super) async fn write_new(tx: &Tx<'_>, locked: &Locked) -> Result<Written, db::Error> {
    let legs = LegColumns::of(&locked.posted);
    let (rows, entries) = locked.fold.changes();
    let entries = EntryColumns::of(entries);
    let balances = BalanceColumns::of(rows, &locked.versions);
    if legs.ids.is_empty() && balances.tenants.is_empty() {
        return Ok(Written::All);
    }
    let counts = tx
        .query_one(
            WRITE,
            &[
                &legs.tenants,
                &legs.from,
                &legs.to,
                &legs.amounts,
                &legs.from_versions,
                &legs.to_versions,
                &legs.hashes,
                &legs.at,
                &legs.ids,
                &legs.numbers,
                &legs.kinds,
                &legs.from_buckets,
                &legs.to_buckets,
                &legs.objects,
                &entries.tenants,
                &entries.accounts,
                &entries.versions,
                &entries.amounts,
                &entries.balances,
                &entries.posted,
                &entries.at,
                &entries.ids,
                &entries.numbers,
                &entries.kinds,
                &entries.buckets,
                &balances.tenants,
                &balances.accounts,
                &balances.before,
                &balances.main,
                &balances.versions,
                &balances.last_at,
                &balances.held,
                &balances.frozen,
                &balances.late,
                &balances.expiry,
            ],
        )
        .await?;
    let (wrote_legs, wrote_rows): (i64, i64) = (counts.get(0), counts.get(1));
    if wrote_rows != i64::try_from(balances.tenants.len()).unwrap_or(i64::MAX) {
        return Err(db::Error::other("a locked balance changed under its lock".to_owned()));
    }
    let all = wrote_legs == i64::try_from(legs.ids.len()).unwrap_or(i64::MAX);
    Ok(if all { Written::All } else { Written::Repeated })
}

#[derive(Default)]
struct LegColumns<'a> {
    tenants: Vec<i64>,
    from: Vec<i64>,
    to: Vec<i64>,
    amounts: Vec<i64>,
    from_versions: Vec<i64>,
    to_versions: Vec<i64>,
    hashes: Vec<i64>,
    at: Vec<DateTime<Utc>>,
    ids: Vec<Uuid>,
    numbers: Vec<i16>,
    kinds: Vec<i16>,
    from_buckets: Vec<i16>,
    to_buckets: Vec<i16>,
    objects: Vec<Option<&'a str>>,
}

impl<'a> LegColumns<'a> {
    fn of(posted: &'a [(TenantNo, i64, Posted)]) -> LegColumns<'a> {
        let mut columns = LegColumns::default();
        for (tenant, hash, posted) in posted {
            for (number, PostedLeg { leg, from_version, to_version, .. }) in
                posted.legs.iter().enumerate()
            {
                let (from, from_bucket) = leg.from.parts();
                let (to, to_bucket) = leg.to.parts();
                columns.tenants.push(tenant.0);
                columns.from.push(from.0);
                columns.to.push(to.0);
                columns.amounts.push(leg.amount.micros());
                columns.from_versions.push(*from_version);
                columns.to_versions.push(*to_version);
                columns.hashes.push(*hash);
                columns.at.push(posted.at);
                columns.ids.push(posted.id);
                columns.numbers.push(i16::try_from(number).unwrap_or(i16::MAX));
                columns.kinds.push(leg.kind.number());
                columns.from_buckets.push(from_bucket.number());
                columns.to_buckets.push(to_bucket.number());
                columns.objects.push(leg.object.as_deref());
            }
        }
        columns
    }
}

#[derive(Default)]
struct EntryColumns {
    tenants: Vec<i64>,
    accounts: Vec<i64>,
    versions: Vec<i64>,
    amounts: Vec<i64>,
    balances: Vec<i64>,
    posted: Vec<i64>,
    at: Vec<DateTime<Utc>>,
    ids: Vec<Uuid>,
    numbers: Vec<i16>,
    kinds: Vec<i16>,
    buckets: Vec<i16>,
}

impl EntryColumns {
    fn of(entries: &[Entry]) -> EntryColumns {
        let mut columns = EntryColumns::default();
        for entry in entries {
            columns.tenants.push(entry.key.tenant.0);
            columns.accounts.push(entry.key.account.0);
            columns.versions.push(entry.version);
            columns.amounts.push(entry.amount_micros);
            columns.balances.push(entry.balance.micros());
            columns.posted.push(entry.posted.micros());
            columns.at.push(entry.at);
            columns.ids.push(entry.posting);
            columns.numbers.push(entry.leg);
            columns.kinds.push(entry.kind.number());
            columns.buckets.push(entry.bucket.number());
        }
        columns
    }
}

#[derive(Default)]
struct BalanceColumns {
    tenants: Vec<i64>,
    accounts: Vec<i64>,
    before: Vec<i64>,
    main: Vec<i64>,
    versions: Vec<i64>,
    last_at: Vec<DateTime<Utc>>,
    held: Vec<i64>,
    frozen: Vec<i64>,
    late: Vec<i64>,
    expiry: Vec<Option<DateTime<Utc>>>,
}

impl BalanceColumns {
    fn of<'a>(
        rows: impl Iterator<Item = &'a Row>,
        versions: &HashMap<AccountKey, i64>,
    ) -> BalanceColumns {
        let mut columns = BalanceColumns::default();
        for row in rows {
            columns.tenants.push(row.key.tenant.0);
            columns.accounts.push(row.key.account.0);
            columns.before.push(versions.get(&row.key).copied().unwrap_or(-1));
            columns.main.push(row.main.micros());
            columns.versions.push(row.version);
            columns.last_at.push(row.last_at);
            columns.held.push(row.held.micros());
            columns.frozen.push(row.frozen.micros());
            columns.late.push(row.late.micros());
            columns.expiry.push(row.hold_expires_at);
        }
        columns
    }
}

const REPLAY: &str = "-- ledger.replay
UPDATE ledger_leg l SET replays = l.replays + 1
FROM unnest($1::bigint[], $2::uuid[]) AS asked (tenant_id, posting_id)
WHERE l.tenant_id = asked.tenant_id AND l.posting_id = asked.posting_id
RETURNING l.tenant_id, l.posting_id, l.leg, l.kind, l.from_account, l.from_bucket, l.from_version,
    l.to_account, l.to_bucket, l.to_version, l.amount_micros, l.payload_hash, l.posted_at, l.object,
    (SELECT balance_micros FROM ledger_entry e WHERE e.tenant_id = l.tenant_id
        AND e.account_id = l.from_account AND e.version = l.from_version) AS from_balance,
    (SELECT balance_micros FROM ledger_entry e WHERE e.tenant_id = l.tenant_id
        AND e.account_id = l.to_account AND e.version = l.to_version) AS to_balance";

const FIND: &str = "-- ledger.find
SELECT l.tenant_id, l.posting_id, l.leg, l.kind, l.from_account, l.from_bucket, l.from_version,
    l.to_account, l.to_bucket, l.to_version, l.amount_micros, l.payload_hash, l.posted_at, l.object,
    f.balance_micros AS from_balance, t.balance_micros AS to_balance
FROM unnest($1::bigint[], $2::uuid[]) AS asked (tenant_id, posting_id)
JOIN ledger_leg l ON l.tenant_id = asked.tenant_id AND l.posting_id = asked.posting_id
LEFT JOIN ledger_entry f ON f.tenant_id = l.tenant_id AND f.account_id = l.from_account
    AND f.version = l.from_version
LEFT JOIN ledger_entry t ON t.tenant_id = l.tenant_id AND t.account_id = l.to_account
    AND t.version = l.to_version";

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
    let balance = |column: &str| -> Result<Option<Balance>, db::Error> {
        let micros: Option<i64> = sql.get(column);
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
        from_version: sql.get("from_version"),
        to_version: sql.get("to_version"),
        from_balance: balance("from_balance")?,
        to_balance: balance("to_balance")?,
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
