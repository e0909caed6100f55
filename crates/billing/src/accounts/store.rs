//! The SQL of accounts. Reads balance rows and promises for figures; writes neither.

use std::collections::{HashMap, HashSet};

use adspend_common::{
    db::{self, Client, Params, Row, Tx},
    id::AccountId,
    money::{Balance, Money},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Account, AccountKind, AccountState, Error, Figures, LegalEntity, Listed, NewAccount};
use crate::ledger::{AccountKey, AccountNo, TenantNo, posting_id};

/// What reads by itself and what reads inside a transaction.
pub(crate) trait Reader {
    fn rows(
        &self,
        sql: &'static str,
        params: Params<'_>,
    ) -> impl Future<Output = Result<Vec<Row>, db::Error>> + Send;
}

impl Reader for Client {
    async fn rows(&self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, db::Error> {
        self.query(sql, params).await
    }
}

impl Reader for Tx<'_> {
    async fn rows(&self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, db::Error> {
        self.query(sql, params).await
    }
}

impl AccountKind {
    const fn number(self) -> i16 {
        match self {
            AccountKind::Agency => 1,
            AccountKind::Client => 2,
            AccountKind::Advertiser => 3,
        }
    }

    const fn from_number(number: i16) -> Option<AccountKind> {
        match number {
            1 => Some(AccountKind::Agency),
            2 => Some(AccountKind::Client),
            3 => Some(AccountKind::Advertiser),
            _ => None,
        }
    }
}

impl AccountState {
    const fn number(self) -> i16 {
        match self {
            AccountState::Active => 1,
            AccountState::Blocked => 2,
            AccountState::Closed => 3,
        }
    }

    const fn from_number(number: i16) -> Option<AccountState> {
        match number {
            1 => Some(AccountState::Active),
            2 => Some(AccountState::Blocked),
            3 => Some(AccountState::Closed),
            _ => None,
        }
    }
}

fn account(row: &Row) -> Result<Account, db::Error> {
    let unknown = || db::Error::other("an account has a kind or state of a newer version");
    let country: String = row.try_get("country")?;
    let legal_entity = (!country.is_empty()).then(|| LegalEntity {
        country,
        name: row.get("legal_name"),
        inn: row.get("inn"),
        kpp: row.get("kpp"),
        ogrn: row.get("ogrn"),
        address: row.get("address"),
    });
    Ok(Account {
        key: AccountKey {
            tenant: TenantNo(row.try_get("tenant_id")?),
            account: AccountNo(row.try_get("account_id")?),
        },
        id: row.try_get("name")?,
        kind: AccountKind::from_number(row.try_get("kind")?).ok_or_else(unknown)?,
        owner: row.try_get("owner")?,
        display_name: row.try_get("display_name")?,
        currency: row.try_get("currency")?,
        legal_entity,
        email: row.try_get("email")?,
        state: AccountState::from_number(row.try_get("state")?).ok_or_else(unknown)?,
        created_at: row.try_get("created_at")?,
        revision: row.try_get("revision")?,
    })
}

const FIND: &str = "-- accounts.find
SELECT a.tenant_id, a.account_id, a.name, a.kind, o.name AS owner, a.display_name, a.currency,
       a.state, a.country, a.legal_name, a.inn, a.kpp, a.ogrn, a.address, a.email, a.created_at,
       a.revision
FROM account a JOIN account o ON o.tenant_id = a.tenant_id AND o.account_id = a.tenant_id
WHERE a.name = $1";

/// The account with this id, whoever asks.
pub(crate) async fn find(from: &impl Reader, id: &AccountId) -> Result<Option<Account>, db::Error> {
    from.rows(FIND, &[id]).await?.first().map(account).transpose()
}

const FIND_NUMBERS: &str = "-- accounts.find_numbers
SELECT a.tenant_id, a.account_id, a.name, a.kind, o.name AS owner, a.display_name, a.currency,
       a.state, a.country, a.legal_name, a.inn, a.kpp, a.ogrn, a.address, a.email, a.created_at,
       a.revision
FROM account a JOIN account o ON o.tenant_id = a.tenant_id AND o.account_id = a.tenant_id
WHERE a.account_id = ANY($1)";

/// The accounts with these numbers, by where they are now.
pub(crate) async fn find_numbers(
    from: &impl Reader,
    keys: &[AccountKey],
) -> Result<HashMap<AccountKey, Account>, db::Error> {
    let numbers: Vec<i64> = keys.iter().map(|key| key.account.0).collect();
    let rows = from.rows(FIND_NUMBERS, &[&numbers]).await?;
    let accounts = rows.iter().map(|row| account(row).map(|account| (account.key, account)));
    accounts.collect()
}

const FIND_BY_INNS: &str = "-- accounts.find_by_inns
SELECT a.tenant_id, a.account_id, a.name, a.kind, a.name AS owner, a.display_name, a.currency,
       a.state, a.country, a.legal_name, a.inn, a.kpp, a.ogrn, a.address, a.email, a.created_at,
       a.revision
FROM unnest($1::text[]) AS asked (inn)
CROSS JOIN LATERAL (
    SELECT * FROM account f
    WHERE f.inn = asked.inn AND f.tenant_id = f.account_id AND f.inn <> '' LIMIT 2
) a";

/// The owners of tenants with these INNs, each where it is exactly one.
pub(crate) async fn only_owners_with_inns(
    from: &impl Reader,
    inns: &[&str],
) -> Result<HashMap<String, Account>, db::Error> {
    let mut owners: HashMap<String, Account> = HashMap::new();
    let mut shared: HashSet<String> = HashSet::new();
    for row in from.rows(FIND_BY_INNS, &[&inns]).await? {
        let inn: String = row.try_get("inn")?;
        if owners.insert(inn.clone(), account(&row)?).is_some() {
            shared.insert(inn);
        }
    }
    owners.retain(|inn, _| !shared.contains(inn));
    Ok(owners)
}

const LOCK: &str = "-- accounts.lock
SELECT a.tenant_id, a.account_id, a.name, a.kind, o.name AS owner, a.display_name, a.currency,
       a.state, a.country, a.legal_name, a.inn, a.kpp, a.ogrn, a.address, a.email, a.created_at,
       a.revision
FROM account a JOIN account o ON o.tenant_id = a.tenant_id AND o.account_id = a.tenant_id
WHERE a.tenant_id = $1 AND a.account_id = $2
FOR NO KEY UPDATE OF a";

/// The account, locked; none when it has left this tenant.
pub(crate) async fn lock(tx: &Tx<'_>, key: AccountKey) -> Result<Option<Account>, db::Error> {
    tx.rows(LOCK, &[&key.tenant.0, &key.account.0]).await?.first().map(account).transpose()
}

const INSERT: &str = "-- accounts.insert
WITH number AS (SELECT nextval('account_id_seq') AS id)
INSERT INTO account (tenant_id, account_id, name, kind, display_name, currency, country, legal_name,
                     inn, kpp, ogrn, address, email, created_at)
SELECT coalesce($1::bigint, number.id), number.id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13
FROM number
RETURNING tenant_id, account_id";

/// Creates the account in the tenant, or as a tenant of its own.
pub(super) async fn insert(
    tx: &Tx<'_>,
    tenant: Option<TenantNo>,
    new: &NewAccount,
    now: DateTime<Utc>,
) -> Result<Account, Error> {
    let NewAccount { id, kind, agency, display_name, currency, legal_entity, email } = new;
    let (tenant, kind_number) = (tenant.map(|tenant| tenant.0), kind.number());
    let none = LegalEntity {
        country: String::new(),
        name: String::new(),
        inn: String::new(),
        kpp: String::new(),
        ogrn: String::new(),
        address: String::new(),
    };
    let LegalEntity { country, name, inn, kpp, ogrn, address } =
        legal_entity.as_ref().unwrap_or(&none);
    let inserted = tx
        .query_one(
            INSERT,
            &[
                &tenant,
                id,
                &kind_number,
                display_name,
                currency,
                country,
                name,
                inn,
                kpp,
                ogrn,
                address,
                email,
                &now,
            ],
        )
        .await;
    let row = match inserted {
        Ok(row) => row,
        Err(error) if error.constraint() == Some("account_name_is_unique") => {
            return Err(Error::Exists(id.name()));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Account {
        key: AccountKey { tenant: TenantNo(row.get(0)), account: AccountNo(row.get(1)) },
        id: id.clone(),
        kind: *kind,
        owner: agency.clone().unwrap_or_else(|| id.clone()),
        display_name: display_name.clone(),
        currency: *currency,
        legal_entity: legal_entity.clone(),
        email: email.clone(),
        state: AccountState::Active,
        created_at: now,
        revision: 1,
    })
}

const UPDATE: &str = "-- accounts.update
UPDATE account SET display_name = $3, email = $4, country = $5, legal_name = $6, inn = $7, kpp = $8,
       ogrn = $9, address = $10, state = $11, revision = revision + 1
WHERE tenant_id = $1 AND account_id = $2
RETURNING revision";

/// Writes what may change of a locked account, and gives its new revision.
pub(super) async fn update(tx: &Tx<'_>, account: &Account) -> Result<i64, db::Error> {
    let entity = account.legal_entity.as_ref();
    let part = |get: fn(&LegalEntity) -> &String| entity.map_or("", |entity| get(entity).as_str());
    let row = tx
        .query_one(
            UPDATE,
            &[
                &account.key.tenant.0,
                &account.key.account.0,
                &account.display_name,
                &account.email,
                &part(|entity| &entity.country),
                &part(|entity| &entity.name),
                &part(|entity| &entity.inn),
                &part(|entity| &entity.kpp),
                &part(|entity| &entity.ogrn),
                &part(|entity| &entity.address),
                &account.state.number(),
            ],
        )
        .await?;
    Ok(row.get(0))
}

const MOVE: &str = "-- accounts.move
UPDATE account SET tenant_id = $3, kind = $4, revision = revision + 1
WHERE tenant_id = $1 AND account_id = $2";

const MOVE_INVOICES: &str = "-- accounts.move_invoices
UPDATE invoice SET tenant_id = $3 WHERE tenant_id = $1 AND account_id = $2";

/// Moves a locked account to another tenant as another kind. Its invoices go along: they are named after
/// the account, and one that is paid later credits the account where it is.
pub(super) async fn move_to(
    tx: &Tx<'_>,
    from: AccountKey,
    to: TenantNo,
    kind: AccountKind,
) -> Result<(), db::Error> {
    let (tenant, account) = (from.tenant.0, from.account.0);
    let moved = tx.execute(MOVE, &[&tenant, &account, &to.0, &kind.number()]).await?;
    db::exactly_one(moved, "accounts.move")?;
    tx.execute(MOVE_INVOICES, &[&tenant, &account, &to.0]).await?;
    Ok(())
}

const LIST_ALL: &str = "-- accounts.list_all
SELECT a.tenant_id, a.account_id, a.name, a.kind, o.name AS owner, a.display_name, a.currency,
       a.state, a.country, a.legal_name, a.inn, a.kpp, a.ogrn, a.address, a.email, a.created_at,
       a.revision
FROM account a JOIN account o ON o.tenant_id = a.tenant_id AND o.account_id = a.tenant_id
WHERE a.account_id > $1
ORDER BY a.account_id LIMIT $2";

const LIST_TENANT: &str = "-- accounts.list_tenant
SELECT a.tenant_id, a.account_id, a.name, a.kind, o.name AS owner, a.display_name, a.currency,
       a.state, a.country, a.legal_name, a.inn, a.kpp, a.ogrn, a.address, a.email, a.created_at,
       a.revision
FROM account a JOIN account o ON o.tenant_id = a.tenant_id AND o.account_id = a.tenant_id
WHERE a.tenant_id = $3 AND a.account_id > $1 AND NOT ($4 AND a.account_id = a.tenant_id)
ORDER BY a.account_id LIMIT $2";

/// Accounts in the order of their creation.
pub(crate) async fn list(client: &Client, listed: Listed) -> Result<Vec<Account>, db::Error> {
    let Listed { tenant, clients_only, after, limit } = listed;
    let limit = i64::from(limit);
    let rows = match tenant {
        None => client.query(LIST_ALL, &[&after, &limit]).await?,
        Some(tenant) => {
            client.query(LIST_TENANT, &[&after, &limit, &tenant.0, &clients_only]).await?
        }
    };
    rows.iter().map(account).collect()
}

const FIGURES: &str = "-- accounts.figures
SELECT b.main_micros, b.held_micros, b.frozen_micros, b.overdraft_micros, b.overdue,
       b.spend_only_micros,
       (SELECT coalesce(sum(h.opened_micros - h.settled_micros - h.released_micros), 0)::bigint
        FROM hold h WHERE h.tenant_id = b.tenant_id AND h.account_id = b.account_id
          AND h.state = 1 AND h.expires_at <= $3) AS expired_micros,
       (SELECT coalesce(sum(p.outstanding_micros), 0)::bigint
        FROM promised_payment p WHERE p.tenant_id = b.tenant_id AND p.account_id = b.account_id
          AND p.outstanding_micros > 0) AS promised_micros,
       (SELECT coalesce(sum(i.amount_micros), 0)::bigint
        FROM invoice i WHERE i.tenant_id = b.tenant_id AND i.account_id = b.account_id
          AND i.terms = 2 AND i.state = 1) AS deferred_micros
FROM ledger_balance b WHERE b.tenant_id = $1 AND b.account_id = $2";

/// The figures of this moment, in one snapshot.
pub(super) async fn figures(
    client: &Client,
    account: &Account,
    now: DateTime<Utc>,
) -> Result<Figures, db::Error> {
    let AccountKey { tenant, account: number } = account.key;
    let row = client.query_one(FIGURES, &[&tenant.0, &number.0, &now]).await?;
    let main: Balance = row.try_get("main_micros")?;
    let held: Money = row.try_get("held_micros")?;
    let expired: Money = row.try_get("expired_micros")?;
    let mut main = main.checked_add(expired).unwrap_or(main);
    let mut frozen: Money = row.try_get("frozen_micros")?;
    let mut overdraft: Money = row.try_get("overdraft_micros")?;
    if row.try_get("overdue")? {
        // Free money is under the lien, whether or not it is booked so yet.
        frozen = frozen.checked_add(main.or_zero()).unwrap_or(frozen);
        (main, overdraft) = (main.min(Balance::ZERO), Money::ZERO);
    }
    Ok(Figures {
        currency: account.currency,
        main,
        held: held.saturating_sub(expired),
        frozen,
        overdraft,
        promised_debt: row.try_get("promised_micros")?,
        deferred_debt: row.try_get("deferred_micros")?,
        spend_only: row.try_get("spend_only_micros")?,
        at: now,
    })
}

/// Expired holds that are looked through for a moment of the past: those that were released after it are
/// the last ones before it.
const MOST_EXPIRED: i64 = 1_000;

const EXPIRED_BY: &str = "-- accounts.expired_by
SELECT hold_id, opened_micros - settled_micros AS rest_micros, state
FROM hold
WHERE tenant_id = $1 AND account_id = $2 AND expires_at <= $3
  AND (state = 1 OR (state = 2 AND released_micros > 0))
ORDER BY expires_at DESC LIMIT $4";

const RELEASED_AFTER: &str = "-- accounts.released_after
SELECT coalesce(sum(amount_micros), 0)::bigint FROM ledger_leg
WHERE tenant_id = $1 AND posting_id = ANY($2) AND posted_at > $3";

/// Money whose hold had expired by a moment, but was given back in the books only later or not yet.
pub(super) async fn expired_by(
    client: &Client,
    key: AccountKey,
    at: DateTime<Utc>,
) -> Result<Money, db::Error> {
    let (tenant, account) = (key.tenant.0, key.account.0);
    let mut open = Money::ZERO;
    let mut released: Vec<Uuid> = Vec::new();
    for row in client.query(EXPIRED_BY, &[&tenant, &account, &at, &MOST_EXPIRED]).await? {
        let hold: Uuid = row.try_get("hold_id")?;
        if row.try_get::<_, i16>("state")? == 1 {
            open = open.checked_add(row.try_get("rest_micros")?).unwrap_or(open);
        } else {
            released.push(posting_id(key.tenant, "hold.expire", &hold.to_string()));
        }
    }
    if released.is_empty() {
        return Ok(open);
    }
    let later = client.query_one(RELEASED_AFTER, &[&tenant, &released, &at]).await?;
    Ok(open.checked_add(later.try_get(0)?).unwrap_or(open))
}

const PROMISED_DEBT_AT: &str = "-- accounts.promised_debt_at
SELECT (coalesce((SELECT sum(amount_micros) FROM promised_payment
            WHERE tenant_id = $1 AND account_id = $2 AND created_at <= $3), 0)
      - coalesce((SELECT sum(amount_micros) FROM promised_repayment
            WHERE tenant_id = $1 AND account_id = $2 AND repaid_at <= $3), 0))::bigint";

/// What was owed on promises at a moment.
pub(super) async fn promised_debt_at(
    client: &Client,
    key: AccountKey,
    at: DateTime<Utc>,
) -> Result<Money, db::Error> {
    let row = client.query_one(PROMISED_DEBT_AT, &[&key.tenant.0, &key.account.0, &at]).await?;
    Ok(row.try_get(0)?)
}

const DEFERRED_DEBT_AT: &str = "-- accounts.deferred_debt_at
SELECT coalesce(sum(amount_micros), 0)::bigint FROM invoice
WHERE tenant_id = $1 AND account_id = $2 AND terms = 2 AND created_at <= $3
  AND (paid_at IS NULL OR paid_at > $3)";

/// What was owed on deferred invoices at a moment.
pub(super) async fn deferred_debt_at(
    client: &Client,
    key: AccountKey,
    at: DateTime<Utc>,
) -> Result<Money, db::Error> {
    let row = client.query_one(DEFERRED_DEBT_AT, &[&key.tenant.0, &key.account.0, &at]).await?;
    Ok(row.try_get(0)?)
}
