//! The SQL of invoices.

use std::collections::HashMap;

use adspend_common::{
    db::{self, Client, Row, Tx},
    time::Day,
};
use uuid::Uuid;

use super::{Invoice, InvoiceState, Method, Repayer, Terms};
use crate::{
    accounts::store::Reader,
    ledger::{AccountKey, AccountNo, TenantNo},
};

impl InvoiceState {
    const fn number(self) -> i16 {
        match self {
            InvoiceState::Issued => 1,
            InvoiceState::Paid => 2,
            InvoiceState::Cancelled => 3,
        }
    }

    const fn from_number(number: i16) -> Option<InvoiceState> {
        match number {
            1 => Some(InvoiceState::Issued),
            2 => Some(InvoiceState::Paid),
            3 => Some(InvoiceState::Cancelled),
            _ => None,
        }
    }
}

impl Terms {
    const fn number(self) -> i16 {
        match self {
            Terms::Prepaid => 1,
            Terms::Deferred => 2,
        }
    }

    const fn from_number(number: i16) -> Option<Terms> {
        match number {
            1 => Some(Terms::Prepaid),
            2 => Some(Terms::Deferred),
            _ => None,
        }
    }
}

impl Method {
    const fn number(self) -> i16 {
        match self {
            Method::BankTransfer => 1,
            Method::Card => 2,
        }
    }

    const fn from_number(number: i16) -> Option<Method> {
        match number {
            1 => Some(Method::BankTransfer),
            2 => Some(Method::Card),
            _ => None,
        }
    }
}

fn invoice(row: &Row) -> Result<Invoice, db::Error> {
    let unknown =
        || db::Error::other("an invoice has terms, a state or a method of a newer version");
    let address: Option<String> = row.try_get("payer_address")?;
    let repayer = match (address, row.try_get("document_id")?) {
        (Some(address), Some(document)) => Some(Repayer { address, document }),
        (Some(_) | None, Some(_) | None) => None,
    };
    Ok(Invoice {
        id: row.try_get("invoice_id")?,
        account: row.try_get("account")?,
        serial: row.try_get("serial")?,
        number: row.try_get("number")?,
        amount: row.try_get("amount_micros")?,
        currency: row.try_get("currency")?,
        terms: Terms::from_number(row.try_get("terms")?).ok_or_else(unknown)?,
        state: InvoiceState::from_number(row.try_get("state")?).ok_or_else(unknown)?,
        payer_name: row.try_get("payer_name")?,
        payer_inn: row.try_get("payer_inn")?,
        payer_kpp: row.try_get("payer_kpp")?,
        method: Method::from_number(row.try_get("method")?).ok_or_else(unknown)?,
        repayer,
        pay_by: row.try_get("pay_by")?,
        created_at: row.try_get("created_at")?,
        paid_at: row.try_get("paid_at")?,
        payment: row.try_get("payment_id")?,
        repayment: row.try_get("repayment_id")?,
    })
}

const NEXT_SERIAL: &str = "-- invoices.next_serial
SELECT nextval('invoice_number_seq')";

pub(super) async fn next_serial(tx: &Tx<'_>) -> Result<i64, db::Error> {
    Ok(tx.query_one(NEXT_SERIAL, &[]).await?.try_get(0)?)
}

const INSERT: &str = "-- invoices.insert
INSERT INTO invoice (tenant_id, account_id, invoice_id, serial, number, amount_micros, currency, state,
                     payer_name, payer_inn, payer_kpp, pay_by, created_at, terms, month)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, date_trunc('month', $15::date)::date)";

pub(super) async fn insert(
    tx: &Tx<'_>,
    key: AccountKey,
    invoice: &Invoice,
    month: Option<Day>,
) -> Result<(), db::Error> {
    let Invoice { id, serial, number, amount, currency, state, pay_by, created_at, .. } = invoice;
    let inserted = tx
        .execute(
            INSERT,
            &[
                &key.tenant.0,
                &key.account.0,
                id,
                serial,
                number,
                amount,
                currency,
                &state.number(),
                &invoice.payer_name,
                &invoice.payer_inn,
                &invoice.payer_kpp,
                pay_by,
                created_at,
                &invoice.terms.number(),
                &month,
            ],
        )
        .await?;
    db::exactly_one(inserted, "invoices.insert")
}

const FIND: &str = "-- invoices.find
SELECT i.invoice_id, a.name AS account, i.serial, i.number, i.amount_micros, i.currency, i.terms, i.state,
       i.payer_name, i.payer_inn, i.payer_kpp, i.pay_by, i.created_at, i.paid_at, i.payment_id,
       i.repayment_id, i.method, i.payer_address, i.document_id
FROM invoice i JOIN account a ON a.tenant_id = i.tenant_id AND a.account_id = i.account_id
WHERE i.tenant_id = $1 AND i.account_id = $2 AND i.invoice_id = $3";

pub(super) async fn find(
    from: &impl Reader,
    key: AccountKey,
    id: Uuid,
) -> Result<Option<Invoice>, db::Error> {
    from.rows(FIND, &[&key.tenant.0, &key.account.0, &id]).await?.first().map(invoice).transpose()
}

const LOCK: &str = "-- invoices.lock
SELECT i.invoice_id, a.name AS account, i.serial, i.number, i.amount_micros, i.currency, i.terms, i.state,
       i.payer_name, i.payer_inn, i.payer_kpp, i.pay_by, i.created_at, i.paid_at, i.payment_id,
       i.repayment_id, i.method, i.payer_address, i.document_id
FROM invoice i JOIN account a ON a.tenant_id = i.tenant_id AND a.account_id = i.account_id
WHERE i.tenant_id = $1 AND i.account_id = $2 AND i.invoice_id = $3
FOR NO KEY UPDATE OF i";

/// An invoice of an account, locked.
pub(crate) async fn lock(
    tx: &Tx<'_>,
    key: AccountKey,
    id: Uuid,
) -> Result<Option<Invoice>, db::Error> {
    tx.rows(LOCK, &[&key.tenant.0, &key.account.0, &id]).await?.first().map(invoice).transpose()
}

const FIND_NUMBERS: &str = "-- invoices.find_numbers
SELECT tenant_id, account_id, invoice_id FROM invoice WHERE number = ANY($1)";

/// Where the invoices with these numbers are.
pub(crate) async fn find_numbers(
    tx: &Tx<'_>,
    numbers: &[String],
) -> Result<Vec<(AccountKey, Uuid)>, db::Error> {
    let mut found = Vec::new();
    for row in tx.query(FIND_NUMBERS, &[&numbers]).await? {
        let tenant = TenantNo(row.try_get("tenant_id")?);
        let account = AccountNo(row.try_get("account_id")?);
        found.push((AccountKey { tenant, account }, row.try_get("invoice_id")?));
    }
    Ok(found)
}

const LOCK_ALL: &str = "-- invoices.lock_all
SELECT i.tenant_id, i.account_id, i.invoice_id, a.name AS account, i.serial, i.number,
       i.amount_micros, i.currency, i.terms, i.state, i.payer_name, i.payer_inn, i.payer_kpp, i.pay_by,
       i.created_at, i.paid_at, i.payment_id, i.repayment_id, i.method, i.payer_address, i.document_id
FROM unnest($1::bigint[], $2::bigint[], $3::uuid[]) AS k (tenant_id, account_id, invoice_id)
JOIN invoice i ON i.tenant_id = k.tenant_id AND i.account_id = k.account_id
     AND i.invoice_id = k.invoice_id
JOIN account a ON a.tenant_id = i.tenant_id AND a.account_id = i.account_id
ORDER BY i.invoice_id
FOR NO KEY UPDATE OF i";

/// Invoices by their numbers, locked in the order of their ids; those that have left their tenant are left
/// out.
pub(crate) async fn lock_all(
    tx: &Tx<'_>,
    keys: &[(AccountKey, Uuid)],
) -> Result<HashMap<String, (AccountKey, Invoice)>, db::Error> {
    let tenants: Vec<i64> = keys.iter().map(|(key, _)| key.tenant.0).collect();
    let accounts: Vec<i64> = keys.iter().map(|(key, _)| key.account.0).collect();
    let ids: Vec<Uuid> = keys.iter().map(|(_, id)| *id).collect();
    let mut locked = HashMap::with_capacity(keys.len());
    for row in tx.query(LOCK_ALL, &[&tenants, &accounts, &ids]).await? {
        let tenant = TenantNo(row.try_get("tenant_id")?);
        let account = AccountNo(row.try_get("account_id")?);
        let found = invoice(&row)?;
        locked.insert(found.number.clone(), (AccountKey { tenant, account }, found));
    }
    Ok(locked)
}

const SET_STATE: &str = "-- invoices.set_state
UPDATE invoice SET state = $3, paid_at = $4, payment_id = $5, repayment_id = $6
WHERE tenant_id = $1 AND invoice_id = $2";

/// Writes the state of a locked invoice, and what paid it.
pub(crate) async fn set_state(
    tx: &Tx<'_>,
    tenant: TenantNo,
    invoice: &Invoice,
) -> Result<(), db::Error> {
    let Invoice { id, state, paid_at, payment, repayment, .. } = invoice;
    let params: db::Params<'_> = &[&tenant.0, id, &state.number(), paid_at, payment, repayment];
    let set = tx.execute(SET_STATE, params).await?;
    db::exactly_one(set, "invoices.set_state")
}

const SET_STATES: &str = "-- invoices.set_states
UPDATE invoice i SET state = v.state, paid_at = v.paid_at, payment_id = v.payment_id
FROM unnest($1::bigint[], $2::uuid[], $3::smallint[], $4::timestamptz[], $5::uuid[])
     AS v (tenant_id, invoice_id, state, paid_at, payment_id)
WHERE i.tenant_id = v.tenant_id AND i.invoice_id = v.invoice_id";

/// The same for many locked invoices that payments paid.
pub(crate) async fn set_states(
    tx: &Tx<'_>,
    invoices: &[(TenantNo, Invoice)],
) -> Result<(), db::Error> {
    let tenants: Vec<i64> = invoices.iter().map(|(tenant, _)| tenant.0).collect();
    let ids: Vec<Uuid> = invoices.iter().map(|(_, invoice)| invoice.id).collect();
    let states: Vec<i16> = invoices.iter().map(|(_, invoice)| invoice.state.number()).collect();
    let paid_at: Vec<_> = invoices.iter().map(|(_, invoice)| invoice.paid_at).collect();
    let payments: Vec<_> = invoices.iter().map(|(_, invoice)| invoice.payment).collect();
    let set = tx.execute(SET_STATES, &[&tenants, &ids, &states, &paid_at, &payments]).await?;
    db::exactly(set, invoices.len(), "invoices.set_states")
}

const SET_PAYER: &str = "-- invoices.set_payer
UPDATE invoice SET payer_name = $3, payer_inn = $4, payer_kpp = $5, payer_address = $6, document_id = $7,
       method = $8
WHERE tenant_id = $1 AND invoice_id = $2";

/// Writes the payer and the method of a locked invoice.
pub(super) async fn set_payer(
    tx: &Tx<'_>,
    tenant: TenantNo,
    invoice: &Invoice,
) -> Result<(), db::Error> {
    let Invoice { id, payer_name, payer_inn, payer_kpp, method, repayer, .. } = invoice;
    let address = repayer.as_ref().map(|repayer| repayer.address.as_str());
    let document = repayer.as_ref().map(|repayer| repayer.document);
    let set = tx
        .execute(
            SET_PAYER,
            &[
                &tenant.0,
                id,
                payer_name,
                payer_inn,
                payer_kpp,
                &address,
                &document,
                &method.number(),
            ],
        )
        .await?;
    db::exactly_one(set, "invoices.set_payer")
}

const LIST: &str = "-- invoices.list
SELECT i.invoice_id, a.name AS account, i.serial, i.number, i.amount_micros, i.currency, i.terms, i.state,
       i.payer_name, i.payer_inn, i.payer_kpp, i.pay_by, i.created_at, i.paid_at, i.payment_id,
       i.repayment_id, i.method, i.payer_address, i.document_id
FROM invoice i JOIN account a ON a.tenant_id = i.tenant_id AND a.account_id = i.account_id
WHERE i.tenant_id = $1 AND i.account_id = $2 AND i.serial < $3
ORDER BY i.serial DESC LIMIT $4";

pub(super) async fn list(
    client: &Client,
    key: AccountKey,
    before: i64,
    limit: u32,
) -> Result<Vec<Invoice>, db::Error> {
    let limit = i64::from(limit);
    let rows = client.query(LIST, &[&key.tenant.0, &key.account.0, &before, &limit]).await?;
    rows.iter().map(invoice).collect()
}
