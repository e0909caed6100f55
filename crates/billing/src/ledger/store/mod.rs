//! The ledger's SQL. Nothing else in the project writes `ledger_balance` or `ledger_leg`; an entry is an end of
//! a leg (the view `ledger_entry`). Here: rows and locks. `write.rs` writes what was folded, `read.rs` reads what
//! is booked, `top_ups.rs` tells auto top-ups of money that went out.

mod read;
mod top_ups;
mod write;

use std::collections::HashMap;

use adspend_common::{
    db::{self, Client, Row as SqlRow, Tx},
    money::{Balance, Money},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    AccountKey, AccountNo, Actor, CreditLine, Kind, Leg, Place, Posted, Posting, Refusal, Row,
    State, TenantNo, journal::Journal, posting_id, rules::Fold,
};

pub(super) use read::any_booked;
pub(crate) use read::journaled;
pub use read::{Figures, Found, as_of, entry_at, find, replay};
pub use top_ups::set_top_up_at;
pub use write::write;
pub(super) use write::{Written, write_and_commit};

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
       b.frozen_micros, b.late_micros, b.overdraft_micros, b.hold_expires_at, b.state,
       b.top_up_at_micros, b.overdue, b.credit_at, b.spend_only_micros
FROM unnest($1::bigint[], $2::bigint[]) AS k (tenant_id, account_id)
JOIN ledger_balance b ON b.tenant_id = k.tenant_id AND b.account_id = k.account_id
ORDER BY b.account_id, b.tenant_id
FOR NO KEY UPDATE OF b";

/// By the place of each column in [`LOCK`]: finding columns by name costs more than the row.
fn row(sql: &SqlRow) -> Result<Row, db::Error> {
    let money = |column: usize| -> Result<Money, db::Error> {
        Money::from_micros(sql.get(column)).ok_or_else(|| broken("an amount"))
    };
    Ok(Row {
        key: AccountKey { tenant: TenantNo(sql.get(0)), account: AccountNo(sql.get(1)) },
        main: Balance::from_micros(sql.get(2)).ok_or_else(|| broken("a balance"))?,
        version: sql.get(3),
        last_at: sql.get(4),
        held: money(5)?,
        frozen: money(6)?,
        late: money(7)?,
        overdraft: money(8)?,
        hold_expires_at: sql.get(9),
        state: State::from_number(sql.get(10)).ok_or_else(|| broken("a state"))?,
        top_up_at: sql.get(11),
        overdue: sql.get(12),
        credit_at: sql.get(13),
        spend_only: money(14)?,
    })
}

/// Balance rows locked by a transaction, and what is to be written to them.
#[derive(Debug)]
pub struct Locked {
    now: DateTime<Utc>,
    fold: Fold,
    versions: HashMap<AccountKey, i64>,
    posted: Vec<(TenantNo, i64, Posted)>,
    journal: Journal,
    /// Accounts whose credit line is to be written.
    credit: Vec<AccountKey>,
    /// What has gone under the lien.
    liens: Vec<(AccountKey, Money)>,
}

impl Locked {
    /// The row as it stands after what was posted so far.
    pub fn row(&self, key: AccountKey) -> Option<&Row> {
        self.fold.row(key)
    }

    /// What is booked from here on is one call of this caller, until the next one begins. Without it, it is
    /// part of a feature's call, which has a record of its own.
    pub(crate) fn on_behalf_of(&mut self, actor: &Actor) {
        self.journal.begin(actor);
    }

    /// Books a posting in memory; [`write()`] makes it real. A refusal leaves no trace.
    pub fn post(&mut self, posting: &Posting) -> Result<Posted, Refusal> {
        let posted = self.fold.post(posting)?;
        self.booked(posting, &posted);
        Ok(posted)
    }

    fn booked(&mut self, posting: &Posting, posted: &Posted) {
        self.journal.add(posting.tenant, posting.payload_hash, posted);
        self.posted.push((posting.tenant, posting.payload_hash, posted.clone()));
    }

    /// Books all of a group or none of it.
    pub fn post_group(&mut self, postings: &[&Posting]) -> Vec<Result<Posted, Refusal>> {
        let verdicts = self.fold.post_group(postings);
        for (posting, verdict) in postings.iter().zip(&verdicts) {
            if let Ok(posted) = verdict {
                self.booked(posting, posted);
            }
        }
        verdicts
    }

    /// Says when the next hold of the account expires; the lock looks for expired holds from then on.
    pub fn set_hold_expiry(&mut self, key: AccountKey, at: Option<DateTime<Utc>>) {
        self.fold.set_hold_expiry(key, at);
    }

    /// Sets what the account's credit is from now on; [`write()`] makes it real. A threshold that grows is
    /// of use to later transactions only: the database sees this one's money before its credit.
    pub fn set_credit(&mut self, key: AccountKey, line: CreditLine) {
        self.fold.set_credit(key, line);
        if !self.credit.contains(&key) {
            self.credit.push(key);
        }
    }

    /// Sets how much of the account's money may only be spent; [`write()`] makes it real.
    pub fn set_spend_only(&mut self, key: AccountKey, amount: Money) {
        self.fold.set_spend_only(key, amount);
    }

    /// Free money of accounts with an overdue invoice goes under the lien, wherever in this
    /// transaction it came from.
    fn take_liens(&mut self) -> Result<(), db::Error> {
        let free = |row: &Row| row.main.as_money().filter(|free| row.overdue && !free.is_zero());
        let liens: Vec<(AccountKey, i64, Money)> = self
            .fold
            .rows()
            .iter()
            .filter_map(|row| Some((row.key, row.version, free(row)?)))
            .collect();
        if !liens.is_empty() {
            self.journal.begin_unasked();
        }
        for (key, version, amount) in liens {
            let subject = format!("{}/{version}", key.account.0);
            let posting = Posting {
                id: posting_id(key.tenant, "credit.take_lien", &subject),
                tenant: key.tenant,
                legs: vec![Leg {
                    kind: Kind::LienTaken,
                    from: Place::Main(key.account),
                    to: Place::Frozen(key.account),
                    amount,
                    object: None,
                }],
                payload_hash: 0,
            };
            self.post(&posting).map_err(|_| broken("free money that cannot be frozen"))?;
            self.liens.push((key, amount));
        }
        Ok(())
    }
}

/// Locks the balance rows of these accounts, in the order of their numbers, and gives back what holds of
/// theirs have had their time (expiry is a fact of time; no job needs to have run); what has fallen due of
/// their credit is booked the same way. Accounts without a row
/// are left out: posting to them is refused.
pub async fn lock(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    accounts: &[AccountKey],
) -> Result<Locked, db::Error> {
    let (tenants, numbers) = in_order(accounts);
    locked(tx, now, &tx.query(LOCK, &[&tenants, &numbers]).await?).await
}

/// Begins a transaction with the lock, on one way to the server and back.
pub(super) async fn begin_and_lock<'c>(
    client: &'c mut Client,
    now: DateTime<Utc>,
    accounts: &[AccountKey],
) -> Result<(Tx<'c>, Locked), db::Error> {
    let (tenants, numbers) = in_order(accounts);
    let (tx, rows) = client.transaction_with(LOCK, &[&tenants, &numbers]).await?;
    let locked = locked(&tx, now, &rows).await?;
    Ok((tx, locked))
}

fn in_order(accounts: &[AccountKey]) -> (Vec<i64>, Vec<i64>) {
    let mut keys: Vec<AccountKey> = accounts.to_vec();
    keys.sort_unstable();
    keys.dedup();
    keys.iter().map(|key| (key.tenant.0, key.account.0)).unzip()
}

/// What the rows are once everything that has fallen due is booked.
async fn locked(tx: &Tx<'_>, now: DateTime<Utc>, rows: &[SqlRow]) -> Result<Locked, db::Error> {
    let rows: Vec<Row> = rows.iter().map(row).collect::<Result<_, _>>()?;
    let versions = rows.iter().map(|row| (row.key, row.version)).collect();
    let due: Vec<AccountKey> = rows
        .iter()
        .filter(|row| row.hold_expires_at.is_some_and(|at| at <= now))
        .map(|row| row.key)
        .collect();
    let credit: Vec<AccountKey> = rows
        .iter()
        .filter(|row| row.credit_at.is_some_and(|at| at <= now))
        .map(|row| row.key)
        .collect();
    let mut locked = Locked {
        now,
        fold: Fold::new(now, rows),
        versions,
        posted: Vec::new(),
        journal: Journal::default(),
        credit: Vec::new(),
        liens: Vec::new(),
    };
    if !due.is_empty() {
        expire_holds(tx, now, &mut locked, &due).await?;
    }
    for key in credit {
        crate::credit::fall_due(tx, now, &mut locked, key).await?;
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
