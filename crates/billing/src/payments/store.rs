//! The SQL of payments.

use adspend_common::db::{self, Client, Row, Tx};
use uuid::Uuid;

use super::{Listed, NewPayment, Payer, Payment, PaymentState, Unmatched};
use crate::ledger::{AccountKey, AccountNo, TenantNo};

impl PaymentState {
    const fn number(self) -> i16 {
        match self {
            PaymentState::Credited => 1,
            PaymentState::Unallocated => 2,
            PaymentState::Allocated => 3,
        }
    }

    const fn from_number(number: i16) -> Option<PaymentState> {
        match number {
            1 => Some(PaymentState::Credited),
            2 => Some(PaymentState::Unallocated),
            3 => Some(PaymentState::Allocated),
            _ => None,
        }
    }
}

fn payment(row: &Row) -> Result<Payment, db::Error> {
    let unknown = || db::Error::other("a payment has a state or reason of a newer version");
    let reason: Option<&str> = row.try_get("reason")?;
    let reason = match reason {
        None => None,
        Some(name) => {
            let known = Unmatched::ALL.into_iter().find(|reason| reason.name() == name);
            Some(known.ok_or_else(unknown)?)
        }
    };
    Ok(Payment {
        id: row.try_get("payment_id")?,
        tenant: TenantNo(row.try_get("tenant_id")?),
        serial: row.try_get("serial")?,
        sent: NewPayment {
            amount: row.try_get("amount_micros")?,
            currency: row.try_get("currency")?,
            payer: Payer {
                name: row.try_get("payer_name")?,
                inn: row.try_get("payer_inn")?,
                kpp: row.try_get("payer_kpp")?,
                bank_account: row.try_get("payer_bank_account")?,
            },
            purpose: row.try_get("purpose")?,
            document_number: row.try_get("document_number")?,
            document_day: row.try_get("document_day")?,
        },
        state: PaymentState::from_number(row.try_get("state")?).ok_or_else(unknown)?,
        reason,
        account: row.try_get("account")?,
        invoice: row.try_get("invoice_id")?,
        collected: row.try_get("collected_micros")?,
        created_at: row.try_get("created_at")?,
        credited_at: row.try_get("credited_at")?,
    })
}

const NEXT_SERIAL: &str = "-- payments.next_serial
SELECT nextval('payment_serial_seq')";

pub(super) async fn next_serial(tx: &Tx<'_>) -> Result<i64, db::Error> {
    Ok(tx.query_one(NEXT_SERIAL, &[]).await?.try_get(0)?)
}

const INSERT: &str = "-- payments.insert
INSERT INTO payment (tenant_id, payment_id, serial, amount_micros, currency, state, reason, account_id,
                     invoice_id, traced_account_id, collected_micros, payer_name, payer_inn, payer_kpp,
                     payer_bank_account, purpose, document_number, document_day, created_at, credited_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT account_id FROM account WHERE name = $8), $9, $10, $11, $12,
        $13, $14, $15, $16, $17, $18, $19, $20)";

/// Writes a new payment, and the account that it points at when it was not credited.
pub(super) async fn insert(
    tx: &Tx<'_>,
    payment: &Payment,
    traced: Option<AccountNo>,
) -> Result<(), db::Error> {
    let Payment { id, tenant, serial, sent, state, reason, account, .. } = payment;
    let NewPayment { amount, currency, payer, purpose, document_number, document_day } = sent;
    let (reason, traced) = (reason.map(Unmatched::name), traced.map(|account| account.0));
    let inserted = tx
        .execute(
            INSERT,
            &[
                &tenant.0,
                id,
                serial,
                amount,
                currency,
                &state.number(),
                &reason,
                account,
                &payment.invoice,
                &traced,
                &payment.collected,
                &payer.name,
                &payer.inn,
                &payer.kpp,
                &payer.bank_account,
                purpose,
                document_number,
                document_day,
                &payment.created_at,
                &payment.credited_at,
            ],
        )
        .await?;
    db::exactly_one(inserted, "payments.insert")
}

const FIND: &str = "-- payments.find
SELECT p.tenant_id, p.payment_id, p.serial, p.amount_micros, p.currency, p.state, p.reason,
       a.name AS account, p.invoice_id, p.collected_micros, p.payer_name, p.payer_inn, p.payer_kpp,
       p.payer_bank_account, p.purpose, p.document_number, p.document_day, p.created_at, p.credited_at
FROM payment p LEFT JOIN account a ON a.account_id = p.account_id
WHERE p.payment_id = $1";

pub(super) async fn find(client: &Client, id: Uuid) -> Result<Option<Payment>, db::Error> {
    client.query_opt(FIND, &[&id]).await?.as_ref().map(payment).transpose()
}

const LOCK: &str = "-- payments.lock
SELECT p.tenant_id, p.payment_id, p.serial, p.amount_micros, p.currency, p.state, p.reason,
       a.name AS account, p.invoice_id, p.collected_micros, p.payer_name, p.payer_inn, p.payer_kpp,
       p.payer_bank_account, p.purpose, p.document_number, p.document_day, p.created_at, p.credited_at
FROM payment p LEFT JOIN account a ON a.account_id = p.account_id
WHERE p.payment_id = $1
FOR UPDATE OF p";

/// A payment, locked; for update of its key too, because an allocation may move it to another tenant.
pub(super) async fn lock(tx: &Tx<'_>, id: Uuid) -> Result<Option<Payment>, db::Error> {
    tx.query_opt(LOCK, &[&id]).await?.as_ref().map(payment).transpose()
}

const ALLOCATED: &str = "-- payments.allocated
UPDATE payment SET tenant_id = $3, state = $4, account_id = $5, invoice_id = $6, collected_micros = $7,
       credited_at = $8
WHERE tenant_id = $1 AND payment_id = $2";

/// Writes the allocation of a locked payment that was in the tenant `from`.
pub(super) async fn allocated(
    tx: &Tx<'_>,
    from: TenantNo,
    payment: &Payment,
    to: AccountKey,
) -> Result<(), db::Error> {
    let Payment { id, state, invoice, collected, credited_at, .. } = payment;
    let (tenant, account) = (to.tenant.0, to.account.0);
    let set = tx
        .execute(
            ALLOCATED,
            &[&from.0, id, &tenant, &state.number(), &account, invoice, collected, credited_at],
        )
        .await?;
    db::exactly_one(set, "payments.allocated")
}

const LIST: &str = "-- payments.list
SELECT p.tenant_id, p.payment_id, p.serial, p.amount_micros, p.currency, p.state, p.reason,
       a.name AS account, p.invoice_id, p.collected_micros, p.payer_name, p.payer_inn, p.payer_kpp,
       p.payer_bank_account, p.purpose, p.document_number, p.document_day, p.created_at, p.credited_at
FROM payment p LEFT JOIN account a ON a.account_id = p.account_id
WHERE p.serial < $1 AND ($2::bigint IS NULL OR p.tenant_id = $2)
  AND ($3::bigint IS NULL OR p.account_id = $3 OR (p.account_id IS NULL AND p.traced_account_id = $3))
  AND ($4::smallint IS NULL OR p.state = $4)
ORDER BY p.serial DESC LIMIT $5";

pub(super) async fn list(
    client: &Client,
    listed: &Listed,
    account: Option<AccountNo>,
) -> Result<Vec<Payment>, db::Error> {
    let tenant = listed.tenant.map(|tenant| tenant.0);
    let account = account.map(|account| account.0);
    let state = listed.state.map(PaymentState::number);
    let limit = i64::from(listed.limit);
    let rows = client.query(LIST, &[&listed.before, &tenant, &account, &state, &limit]).await?;
    rows.iter().map(payment).collect()
}
