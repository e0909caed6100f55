//! The table `account`.

use adspend_common::db::{self, Client, Row};
use adspend_common::id::AccountId;
use chrono::{DateTime, Utc};

use super::{Account, AccountNo};
use crate::billing::{AccountFacts, AccountKind, AccountState};

impl AccountKind {
    const fn number(self) -> i16 {
        match self {
            Self::Agency => 1,
            Self::Client => 2,
            Self::Advertiser => 3,
        }
    }

    fn from_number(number: i16) -> Result<Self, db::Error> {
        [Self::Agency, Self::Client, Self::Advertiser]
            .into_iter()
            .find(|kind| kind.number() == number)
            .ok_or_else(|| db::Error::other(format!("{number} is no kind of account")))
    }
}

impl AccountState {
    const fn number(self) -> i16 {
        match self {
            Self::Active => 1,
            Self::Blocked => 2,
            Self::Closed => 3,
        }
    }

    fn from_number(number: i16) -> Result<Self, db::Error> {
        [Self::Active, Self::Blocked, Self::Closed]
            .into_iter()
            .find(|state| state.number() == number)
            .ok_or_else(|| db::Error::other(format!("{number} is no state of an account")))
    }
}

/// The account of a row with the columns `account_no`, `account_name`, `tenant`, `currency`,
/// `kind` and `account_state`.
pub(crate) fn from_row(row: &Row) -> Result<Account, db::Error> {
    Ok(Account {
        no: AccountNo(row.try_get("account_no")?),
        id: row.try_get("account_name")?,
        tenant: row.try_get("tenant")?,
        currency: row.try_get("currency")?,
        kind: AccountKind::from_number(row.try_get("kind")?)?,
        state: AccountState::from_number(row.try_get("account_state")?)?,
    })
}

const BY_ID: &str = "-- accounts.by_id
SELECT account_no, name AS account_name, tenant, currency, kind, state AS account_state, checked_at
FROM account WHERE name = $1";

/// The copy and its age.
pub(super) async fn by_id(
    db: &Client,
    id: &AccountId,
) -> Result<Option<(Account, DateTime<Utc>)>, db::Error> {
    let Some(row) = db.query_opt(BY_ID, &[id]).await? else { return Ok(None) };
    Ok(Some((from_row(&row)?, row.try_get("checked_at")?)))
}

// A copy that says the same does not count as a change: the directories of all replicas would read
// it again.
const UPSERT: &str = "-- accounts.upsert
INSERT INTO account AS known (name, tenant, currency, kind, state, checked_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT ON CONSTRAINT account_name_is_unique DO UPDATE
SET tenant = EXCLUDED.tenant, kind = EXCLUDED.kind, state = EXCLUDED.state,
    checked_at = EXCLUDED.checked_at,
    changed_by = CASE
        WHEN (known.tenant, known.kind, known.state)
            = (EXCLUDED.tenant, EXCLUDED.kind, EXCLUDED.state) THEN known.changed_by
        ELSE pg_current_xact_id() END
RETURNING account_no, name AS account_name, tenant, currency, kind, state AS account_state";

/// Writes the copy as of `now`. The currency of an account never changes, so the first one stays.
pub(super) async fn upsert(
    db: &Client,
    id: &AccountId,
    facts: &AccountFacts,
    now: DateTime<Utc>,
) -> Result<Account, db::Error> {
    let AccountFacts { tenant, currency, kind, state } = facts;
    let (kind, state) = (kind.number(), state.number());
    from_row(&db.query_one(UPSERT, &[id, tenant, currency, &kind, &state, &now]).await?)
}

const SET_STATE: &str = "-- accounts.set_state
UPDATE account SET state = $2, changed_by = pg_current_xact_id()
WHERE account_no = $1 AND state <> $2";

/// Notes a state that billing has let slip, such as by refusing a hold of a blocked account. The
/// next reading of the account corrects it.
pub async fn set_state(db: &Client, no: AccountNo, state: AccountState) -> Result<(), db::Error> {
    db.execute(SET_STATE, &[&no.0, &state.number()]).await.map(|_| ())
}

// The age is set before billing is asked, so that the replicas share the work, and an account that
// billing cannot tell about does not come up again at once. Two scans, an index each.
const CLAIM_OLD: &str = "-- accounts.claim_old
UPDATE account SET checked_at = $3
WHERE account_no IN (
    SELECT account_no FROM account
    WHERE checked_at <= $1 OR (state <> 1 AND checked_at <= $2)
    ORDER BY checked_at LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING account_no, name AS account_name, tenant, currency, kind, state AS account_state";

/// From when on a copy is old.
#[derive(Debug, Clone, Copy)]
pub(super) struct Old {
    /// Read before this.
    pub(super) active: DateTime<Utc>,
    /// The same of an account that is blocked or closed: its owner waits for it to serve again.
    pub(super) stopped: DateTime<Utc>,
}

/// Takes some of the oldest copies on.
pub(super) async fn claim_old(
    db: &Client,
    old: Old,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Account>, db::Error> {
    let rows = db.query(CLAIM_OLD, &[&old.active, &old.stopped, &now, &limit]).await?;
    rows.iter().map(from_row).collect()
}
