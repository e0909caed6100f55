//! The SQL of the warning of low balances. Reads the ledger, writes `balance_watch` and `spend_day`.

use adspend_common::{
    db::{self, Client, Tx},
    money::{Balance, Currency, Money},
    time::Day,
};

use super::rules;
use crate::ledger::{AccountKey, AccountNo, Kind, TenantNo};

/// The entries that are spend.
const SPEND: [i16; 2] = [Kind::HoldSettled.number(), Kind::LateCharge.number()];

/// An account under watch, locked, with the entries that were not counted yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched {
    pub(super) key: AccountKey,
    counted: i64,
    /// Up to which entry it is counted now.
    version: i64,
    caught_up: bool,
}

/// Entries of one account that one look counts.
const MOST_COUNTED: i64 = 5_000;

/// What decides whether a balance is low.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) key: AccountKey,
    pub(super) currency: Currency,
    /// Free and held.
    pub(super) balance: Balance,
    /// Over the days that count.
    pub(super) spent: Money,
    pub(super) was_low: bool,
    pub(super) crossings: i64,
    /// Every entry is counted; before that nothing is decided.
    pub(super) caught_up: bool,
    version: i64,
}

impl Standing {
    /// On which side of the line it is now.
    fn is_low(&self) -> bool {
        if self.caught_up { rules::is_low(self.balance, self.spent) } else { self.was_low }
    }

    /// Whether it has just become low.
    pub(super) fn crosses(&self) -> bool {
        self.is_low() && !self.was_low
    }
}

const MOVED: &str = "-- notices.moved
SELECT b.tenant_id, b.account_id, w.counted IS NOT NULL AS watched FROM ledger_balance b
LEFT JOIN balance_watch w ON w.tenant_id = b.tenant_id AND w.account_id = b.account_id
WHERE b.state = 1 AND (b.tenant_id, b.account_id) > ($1, $2)
  AND b.version > 0 AND (w.counted IS DISTINCT FROM b.version OR w.looked_at_day < $3)
ORDER BY b.tenant_id, b.account_id LIMIT $4";

/// Accounts whose balance has moved since they were looked at, or whose day has ended, in the order of keys,
/// and whether they are under watch.
pub(super) async fn moved(
    client: &Client,
    today: Day,
    after: Option<AccountKey>,
    limit: i64,
) -> Result<Vec<(AccountKey, bool)>, db::Error> {
    let (tenant, account) = after.map_or((i64::MIN, i64::MIN), |key| (key.tenant.0, key.account.0));
    let rows = client.query(MOVED, &[&tenant, &account, &today, &limit]).await?;
    rows.iter()
        .map(|row| {
            let (tenant, account) = (TenantNo(row.try_get(0)?), AccountNo(row.try_get(1)?));
            Ok((AccountKey { tenant, account }, row.try_get("watched")?))
        })
        .collect()
}

fn columns(keys: impl Iterator<Item = AccountKey>) -> (Vec<i64>, Vec<i64>) {
    keys.map(|key| (key.tenant.0, key.account.0)).unzip()
}

// The order keeps two replicas from waiting for each other.
const ENTER: &str = "-- notices.enter
INSERT INTO balance_watch (tenant_id, account_id, counted, looked_at_day)
SELECT k.tenant_id, k.account_id, k.counted, $4
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k (tenant_id, account_id, counted)
ORDER BY k.tenant_id, k.account_id
ON CONFLICT (tenant_id, account_id) DO NOTHING";

/// Puts accounts under watch, with the entry behind which counting begins.
pub(super) async fn enter(
    tx: &Tx<'_>,
    new: &[(AccountKey, i64)],
    first_day: Day,
) -> Result<(), db::Error> {
    if new.is_empty() {
        return Ok(());
    }
    let (tenants, accounts) = columns(new.iter().map(|(key, _)| *key));
    let counted: Vec<i64> = new.iter().map(|(_, counted)| *counted).collect();
    tx.execute(ENTER, &[&tenants, &accounts, &counted, &first_day]).await?;
    Ok(())
}

const LOCK: &str = "-- notices.lock
SELECT w.tenant_id, w.account_id FROM unnest($1::bigint[], $2::bigint[]) AS k (tenant_id, account_id)
JOIN balance_watch w ON w.tenant_id = k.tenant_id AND w.account_id = k.account_id
ORDER BY w.tenant_id, w.account_id
FOR NO KEY UPDATE OF w SKIP LOCKED";

const WATCHED: &str = "-- notices.watched
SELECT w.tenant_id, w.account_id, w.counted, b.version
FROM unnest($1::bigint[], $2::bigint[]) AS k (tenant_id, account_id)
JOIN balance_watch w ON w.tenant_id = k.tenant_id AND w.account_id = k.account_id
JOIN ledger_balance b ON b.tenant_id = k.tenant_id AND b.account_id = k.account_id";

/// Locks what nobody else looks at, and reads how far it was counted.
pub(super) async fn lock(tx: &Tx<'_>, keys: &[AccountKey]) -> Result<Vec<Watched>, db::Error> {
    let (tenants, accounts) = columns(keys.iter().copied());
    let mut locked: (Vec<i64>, Vec<i64>) = (Vec::new(), Vec::new());
    for row in tx.query(LOCK, &[&tenants, &accounts]).await? {
        locked.0.push(row.try_get(0)?);
        locked.1.push(row.try_get(1)?);
    }
    let rows = tx.query(WATCHED, &[&locked.0, &locked.1]).await?;
    rows.iter()
        .map(|row| {
            let (tenant, account) = (TenantNo(row.try_get(0)?), AccountNo(row.try_get(1)?));
            let key = AccountKey { tenant, account };
            let (counted, latest): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
            let version = latest.min(counted.saturating_add(MOST_COUNTED));
            Ok(Watched { key, counted, version, caught_up: version == latest })
        })
        .collect()
}

const COUNT: &str = "-- notices.count
INSERT INTO spend_day AS s (tenant_id, account_id, day, spent_micros)
SELECT e.tenant_id, e.account_id, (e.posted_at AT TIME ZONE 'Europe/Moscow')::date, -sum(e.amount_micros)
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
     AS k (tenant_id, account_id, counted, version)
JOIN ledger_entry e ON e.tenant_id = k.tenant_id AND e.account_id = k.account_id
     AND e.version > k.counted AND e.version <= k.version
WHERE e.kind = ANY($5) AND e.amount_micros < 0
GROUP BY 1, 2, 3
ON CONFLICT (tenant_id, account_id, day) DO UPDATE SET spent_micros = s.spent_micros + EXCLUDED.spent_micros";

const FORGET: &str = "-- notices.forget_days
DELETE FROM spend_day s USING unnest($1::bigint[], $2::bigint[]) AS k (tenant_id, account_id)
WHERE s.tenant_id = k.tenant_id AND s.account_id = k.account_id AND s.day < $3";

/// Adds what was spent since the last look to its days, and drops the days that count no more.
pub(super) async fn count(
    tx: &Tx<'_>,
    watched: &[Watched],
    first_day: Day,
) -> Result<(), db::Error> {
    let (tenants, accounts) = columns(watched.iter().map(|watched| watched.key));
    let counted: Vec<i64> = watched.iter().map(|watched| watched.counted).collect();
    let versions: Vec<i64> = watched.iter().map(|watched| watched.version).collect();
    let spend = SPEND.to_vec();
    tx.execute(COUNT, &[&tenants, &accounts, &counted, &versions, &spend]).await?;
    tx.execute(FORGET, &[&tenants, &accounts, &first_day]).await?;
    Ok(())
}

const STANDINGS: &str = "-- notices.standings
SELECT k.tenant_id, k.account_id, k.version, k.caught_up, a.currency, w.low, w.crossings,
       e.posted_micros, b.frozen_micros,
       coalesce((SELECT sum(s.spent_micros) FROM spend_day s
                 WHERE s.tenant_id = k.tenant_id AND s.account_id = k.account_id AND s.day >= $4), 0)::bigint
           AS spent_micros
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $5::bool[])
     AS k (tenant_id, account_id, version, caught_up)
JOIN balance_watch w ON w.tenant_id = k.tenant_id AND w.account_id = k.account_id
JOIN ledger_balance b ON b.tenant_id = k.tenant_id AND b.account_id = k.account_id
JOIN ledger_entry e ON e.tenant_id = k.tenant_id AND e.account_id = k.account_id AND e.version = k.version
JOIN account a ON a.account_id = k.account_id";

/// What decides, as of the entry up to which was counted.
pub(super) async fn standings(
    tx: &Tx<'_>,
    watched: &[Watched],
    first_day: Day,
) -> Result<Vec<Standing>, db::Error> {
    let (tenants, accounts) = columns(watched.iter().map(|watched| watched.key));
    let versions: Vec<i64> = watched.iter().map(|watched| watched.version).collect();
    let caught_up: Vec<bool> = watched.iter().map(|watched| watched.caught_up).collect();
    let params: db::Params<'_> = &[&tenants, &accounts, &versions, &first_day, &caught_up];
    let rows = tx.query(STANDINGS, params).await?;
    rows.iter()
        .map(|row| {
            let posted: Balance = row.try_get("posted_micros")?;
            let frozen: Money = row.try_get("frozen_micros")?;
            let (tenant, account) =
                (TenantNo(row.try_get("tenant_id")?), AccountNo(row.try_get("account_id")?));
            Ok(Standing {
                key: AccountKey { tenant, account },
                currency: row.try_get("currency")?,
                balance: posted.checked_sub(frozen).unwrap_or(posted),
                spent: row.try_get("spent_micros")?,
                was_low: row.try_get("low")?,
                crossings: row.try_get("crossings")?,
                caught_up: row.try_get("caught_up")?,
                version: row.try_get("version")?,
            })
        })
        .collect()
}

const WRITE: &str = "-- notices.write_watch
UPDATE balance_watch w SET counted = v.version, looked_at_day = $6, low = v.low, crossings = v.crossings
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bool[], $5::bigint[])
     AS v (tenant_id, account_id, version, low, crossings)
WHERE w.tenant_id = v.tenant_id AND w.account_id = v.account_id";

/// Writes what the look has found.
pub(super) async fn write(
    tx: &Tx<'_>,
    standings: &[Standing],
    today: Day,
) -> Result<(), db::Error> {
    let (tenants, accounts) = columns(standings.iter().map(|standing| standing.key));
    let versions: Vec<i64> = standings.iter().map(|standing| standing.version).collect();
    let lows: Vec<bool> = standings.iter().map(Standing::is_low).collect();
    let crossing = |s: &Standing| s.crossings.saturating_add(i64::from(s.crosses()));
    let crossings: Vec<i64> = standings.iter().map(crossing).collect();
    let written =
        tx.execute(WRITE, &[&tenants, &accounts, &versions, &lows, &crossings, &today]).await?;
    if usize::try_from(written) == Ok(standings.len()) {
        Ok(())
    } else {
        Err(db::Error::other("notices.write_watch did not touch every account"))
    }
}
