//! The SQL of autopayments and of linked cards; `runs.rs` has that of the payments. Reads balance rows to
//! find low accounts.

mod runs;

use adspend_common::{
    db::{self, Client, Row, Tx},
    money::Balance,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Card, CardState, Cause, Face, Setting};
use crate::{
    accounts::store::Reader,
    ledger::{AccountKey, AccountNo, TenantNo},
};

pub(super) use runs::{
    by_provider_payment, claim, fail, insert_run, lease, list, lock_run, payments_since, run,
    succeed, wait,
};

impl CardState {
    const fn from_number(number: i16) -> Option<CardState> {
        match number {
            1 => Some(CardState::Active),
            2 => Some(CardState::Invalid),
            3 => Some(CardState::Unlinked),
            _ => None,
        }
    }
}

impl Cause {
    const fn number(self) -> i16 {
        match self {
            Cause::LimitExceeded => 1,
            Cause::AuthorizationError => 2,
            Cause::Declined => 3,
            Cause::ByOwner => 4,
            Cause::CardUnlinked => 5,
            Cause::NotEligible => 6,
        }
    }

    const fn from_number(number: i16) -> Option<Cause> {
        match number {
            1 => Some(Cause::LimitExceeded),
            2 => Some(Cause::AuthorizationError),
            3 => Some(Cause::Declined),
            4 => Some(Cause::ByOwner),
            5 => Some(Cause::CardUnlinked),
            6 => Some(Cause::NotEligible),
            _ => None,
        }
    }
}

fn unknown() -> db::Error {
    db::Error::other("an autopayment has a state or reason of a newer version")
}

fn cause(number: Option<i16>) -> Result<Option<Cause>, db::Error> {
    number.map(|number| Cause::from_number(number).ok_or_else(unknown)).transpose()
}

fn card(row: &Row) -> Result<Card, db::Error> {
    Ok(Card {
        id: row.try_get("card_id")?,
        slot: row.try_get("slot")?,
        face: Face {
            first6: row.try_get("first6")?,
            last4: row.try_get("last4")?,
            brand: row.try_get("brand")?,
            expiry_month: row.try_get("expiry_month")?,
            expiry_year: row.try_get("expiry_year")?,
        },
        state: CardState::from_number(row.try_get("state")?).ok_or_else(unknown)?,
        linked_at: row.try_get("linked_at")?,
    })
}

const CARDS: &str = "-- autopay.cards
SELECT card_id, slot, first6, last4, brand, expiry_month, expiry_year, state, linked_at
FROM autopay_card
WHERE tenant_id = $1 AND account_id = $2 AND state <> 3
ORDER BY linked_at, slot";

/// The cards that are linked, oldest first.
pub(super) async fn cards(from: &impl Reader, key: AccountKey) -> Result<Vec<Card>, db::Error> {
    let rows = from.rows(CARDS, &[&key.tenant.0, &key.account.0]).await?;
    rows.iter().map(card).collect()
}

const CARD: &str = "-- autopay.card
SELECT card_id, slot, first6, last4, brand, expiry_month, expiry_year, state, linked_at
FROM autopay_card
WHERE tenant_id = $1 AND account_id = $2 AND card_id = $3";

pub(super) async fn card_of(
    from: &impl Reader,
    key: AccountKey,
    id: Uuid,
) -> Result<Option<Card>, db::Error> {
    let rows = from.rows(CARD, &[&key.tenant.0, &key.account.0, &id]).await?;
    rows.first().map(card).transpose()
}

const TOKEN: &str = "-- autopay.token
SELECT token FROM autopay_card WHERE tenant_id = $1 AND account_id = $2 AND card_id = $3";

/// The sealed token of a card; none when it was forgotten.
pub(super) async fn token(
    from: &impl Reader,
    key: AccountKey,
    card: Uuid,
) -> Result<Option<Vec<u8>>, db::Error> {
    let rows = from.rows(TOKEN, &[&key.tenant.0, &key.account.0, &card]).await?;
    rows.first().map_or(Ok(None), |row| Ok(row.try_get(0)?))
}

const IS_LINKED: &str = "-- autopay.is_linked
SELECT 1 FROM autopay_card
WHERE tenant_id = $1 AND account_id = $2 AND token_hash = $3 AND state <> 3";

/// Whether a card with this token is linked to the account.
pub(super) async fn is_linked(
    from: &impl Reader,
    key: AccountKey,
    token_hash: &[u8],
) -> Result<bool, db::Error> {
    let rows = from.rows(IS_LINKED, &[&key.tenant.0, &key.account.0, &token_hash]).await?;
    Ok(!rows.is_empty())
}

const LINK: &str = "-- autopay.link
INSERT INTO autopay_card (tenant_id, account_id, card_id, slot, token, token_hash, first6, last4, brand,
                          expiry_month, expiry_year, state, linked_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 1, $12)";

/// Writes a card with its sealed token and the token's hash.
pub(super) async fn link(
    tx: &Tx<'_>,
    key: AccountKey,
    card: &Card,
    (token, token_hash): (&[u8], &[u8]),
) -> Result<(), db::Error> {
    let Card { id, slot, face, state: _, linked_at } = card;
    let Face { first6, last4, brand, expiry_month, expiry_year } = face;
    let linked = tx
        .execute(
            LINK,
            &[
                &key.tenant.0,
                &key.account.0,
                id,
                slot,
                &token,
                &token_hash,
                first6,
                last4,
                brand,
                expiry_month,
                expiry_year,
                linked_at,
            ],
        )
        .await?;
    db::exactly_one(linked, "autopay.link")
}

const UNLINK: &str = "-- autopay.unlink
UPDATE autopay_card SET state = 3, token = NULL, token_hash = NULL, ended_at = $4
WHERE tenant_id = $1 AND account_id = $2 AND card_id = $3 AND state <> 3";

/// Unlinks a card and forgets its token; false when it was unlinked before.
pub(super) async fn unlink(
    tx: &Tx<'_>,
    key: AccountKey,
    card: Uuid,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    Ok(tx.execute(UNLINK, &[&key.tenant.0, &key.account.0, &card, &now]).await? == 1)
}

const SPOIL: &str = "-- autopay.spoil
UPDATE autopay_card SET state = 2, ended_at = $4
WHERE tenant_id = $1 AND account_id = $2 AND card_id = $3 AND state = 1";

/// The provider refuses the card for good.
pub(super) async fn spoil(
    tx: &Tx<'_>,
    key: AccountKey,
    card: Uuid,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    tx.execute(SPOIL, &[&key.tenant.0, &key.account.0, &card, &now]).await?;
    Ok(())
}

fn setting_of(row: &Row) -> Result<Setting, db::Error> {
    let reason = cause(row.try_get("disabled_reason")?)?;
    let since: Option<DateTime<Utc>> = row.try_get("disabled_at")?;
    Ok(Setting {
        card: row.try_get("card_id")?,
        amount: row.try_get("amount_micros")?,
        threshold: row.try_get("threshold_micros")?,
        updated_at: row.try_get("updated_at")?,
        off: reason.zip(since),
    })
}

const SETTING: &str = "-- autopay.setting
SELECT card_id, amount_micros, threshold_micros, updated_at, disabled_reason, disabled_at
FROM autopay WHERE tenant_id = $1 AND account_id = $2";

pub(super) async fn setting(
    from: &impl Reader,
    key: AccountKey,
) -> Result<Option<Setting>, db::Error> {
    let rows = from.rows(SETTING, &[&key.tenant.0, &key.account.0]).await?;
    rows.first().map(setting_of).transpose()
}

const LOCK: &str = "-- autopay.lock
SELECT card_id, amount_micros, threshold_micros, updated_at, disabled_reason, disabled_at
FROM autopay WHERE tenant_id = $1 AND account_id = $2 FOR UPDATE";

pub(super) async fn lock(tx: &Tx<'_>, key: AccountKey) -> Result<Option<Setting>, db::Error> {
    let row = tx.query_opt(LOCK, &[&key.tenant.0, &key.account.0]).await?;
    row.as_ref().map(setting_of).transpose()
}

const SET: &str = "-- autopay.set
INSERT INTO autopay (tenant_id, account_id, card_id, amount_micros, threshold_micros, updated_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, account_id) DO UPDATE
SET card_id = $3, amount_micros = $4, threshold_micros = $5, updated_at = $6, disabled_reason = NULL,
    disabled_at = NULL";

/// Sets the autopayment and switches it on.
pub(super) async fn set(tx: &Tx<'_>, key: AccountKey, new: &Setting) -> Result<(), db::Error> {
    let Setting { card, amount, threshold, updated_at, off: _ } = new;
    let set = tx
        .execute(SET, &[&key.tenant.0, &key.account.0, card, amount, threshold, updated_at])
        .await?;
    db::exactly_one(set, "autopay.set")
}

const SWITCH_OFF: &str = "-- autopay.switch_off
UPDATE autopay SET disabled_reason = $3, disabled_at = $4
WHERE tenant_id = $1 AND account_id = $2 AND disabled_reason IS NULL
  AND ($5::uuid IS NULL OR card_id = $5)";

/// Switches an autopayment that is on off: with whatever card, or only with one. True when it was on.
pub(super) async fn switch_off(
    tx: &Tx<'_>,
    key: AccountKey,
    (why, with): (Cause, Option<Uuid>),
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let (tenant, account) = (key.tenant.0, key.account.0);
    Ok(tx.execute(SWITCH_OFF, &[&tenant, &account, &why.number(), &now, &with]).await? == 1)
}

const LOW: &str = "-- autopay.low
SELECT a.tenant_id, a.account_id, b.main_micros <= a.threshold_micros AND b.state = 1
       AND NOT EXISTS (SELECT 1 FROM autopay_run r WHERE r.tenant_id = a.tenant_id
                       AND r.account_id = a.account_id AND r.state = 1) AS is_low
FROM autopay a JOIN ledger_balance b ON b.tenant_id = a.tenant_id AND b.account_id = a.account_id
WHERE a.disabled_reason IS NULL AND (a.tenant_id, a.account_id) > ($1, $2)
ORDER BY a.tenant_id, a.account_id LIMIT $3";

/// A page of the autopayments that are on, after a position: which of them look low, and where it ended.
pub(super) async fn low(
    client: &Client,
    after: AccountKey,
    limit: i64,
) -> Result<(Vec<AccountKey>, Option<AccountKey>), db::Error> {
    let rows = client.query(LOW, &[&after.tenant.0, &after.account.0, &limit]).await?;
    let mut found = Vec::new();
    let mut last = None;
    for row in &rows {
        let key = AccountKey {
            tenant: TenantNo(row.try_get("tenant_id")?),
            account: AccountNo(row.try_get("account_id")?),
        };
        if row.try_get("is_low")? {
            found.push(key);
        }
        last = Some(key);
    }
    let full = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= limit;
    Ok((found, last.filter(|_| full)))
}

/// A balance as it is stored.
fn balance(row: &Row, column: &str) -> Result<Balance, db::Error> {
    Ok(row.try_get(column)?)
}
