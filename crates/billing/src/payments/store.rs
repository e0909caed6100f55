//! The SQL of payments.

use adspend_common::db::{self, Client, Row, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    Listed, NewPayment, Payer, Payment, PaymentState, Unmatched, booking::Booked,
    refunds::NewRefund, rules,
};
use crate::ledger::{AccountKey, AccountNo, TenantNo};

impl PaymentState {
    const fn number(self) -> i16 {
        match self {
            PaymentState::Credited => 1,
            PaymentState::Unallocated => 2,
            PaymentState::Allocated => 3,
            // Never stored: it follows from the amounts.
            PaymentState::Refunded => 4,
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
    let payment = Payment {
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
                bik: row.try_get("payer_bik")?,
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
        refunded: row.try_get("refunded_micros")?,
        created_at: row.try_get("created_at")?,
        credited_at: row.try_get("credited_at")?,
    };
    Ok(rules::settled(payment))
}

const NEXT_SERIALS: &str = "-- payments.next_serials
SELECT nextval('payment_serial_seq') FROM generate_series(1, $1::bigint)";

pub(super) async fn next_serials(tx: &Tx<'_>, count: usize) -> Result<Vec<i64>, db::Error> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let rows = tx.query(NEXT_SERIALS, &[&count]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

const INSERT: &str = "-- payments.insert
INSERT INTO payment (tenant_id, payment_id, serial, amount_micros, currency, state, reason, account_id,
                     invoice_id, traced_account_id, collected_micros, payer_name, payer_inn, payer_kpp,
                     payer_bank_account, payer_bik, purpose, document_number, document_day, created_at,
                     credited_at)
SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::text[], $6::smallint[],
                     $7::text[], $8::bigint[], $9::uuid[], $10::bigint[], $11::bigint[], $12::text[],
                     $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
                     $19::date[], $20::timestamptz[], $21::timestamptz[])";

/// Writes new payments, with the accounts that they point at when they were not credited.
pub(super) async fn insert(tx: &Tx<'_>, booked: &[Booked]) -> Result<(), db::Error> {
    fn column<'b, T>(booked: &'b [Booked], of: impl Fn(&'b Booked) -> T) -> Vec<T> {
        booked.iter().map(of).collect()
    }
    let inserted = tx
        .execute(
            INSERT,
            &[
                &column(booked, |row| row.payment.tenant.0),
                &column(booked, |row| row.payment.id),
                &column(booked, |row| row.payment.serial),
                &column(booked, |row| row.payment.sent.amount),
                &column(booked, |row| row.payment.sent.currency),
                &column(booked, |row| row.payment.state.number()),
                &column(booked, |row| row.payment.reason.map(Unmatched::name)),
                &column(booked, |row| row.account.map(|account| account.0)),
                &column(booked, |row| row.payment.invoice),
                &column(booked, |row| row.traced.map(|account| account.0)),
                &column(booked, |row| row.payment.collected),
                &column(booked, |row| row.payment.sent.payer.name.as_str()),
                &column(booked, |row| row.payment.sent.payer.inn.as_str()),
                &column(booked, |row| row.payment.sent.payer.kpp.as_str()),
                &column(booked, |row| row.payment.sent.payer.bank_account.as_str()),
                &column(booked, |row| row.payment.sent.payer.bik.as_str()),
                &column(booked, |row| row.payment.sent.purpose.as_str()),
                &column(booked, |row| row.payment.sent.document_number.as_str()),
                &column(booked, |row| row.payment.sent.document_day),
                &column(booked, |row| row.payment.created_at),
                &column(booked, |row| row.payment.credited_at),
            ],
        )
        .await?;
    db::exactly(inserted, booked.len(), "payments.insert")
}

const FIND: &str = "-- payments.find
SELECT p.tenant_id, p.payment_id, p.serial, p.amount_micros, p.currency, p.state, p.reason,
       a.name AS account, p.invoice_id, p.collected_micros, p.refunded_micros, p.payer_name, p.payer_inn, p.payer_kpp,
       p.payer_bank_account, p.payer_bik, p.purpose, p.document_number, p.document_day, p.created_at, p.credited_at
FROM payment p LEFT JOIN account a ON a.account_id = p.account_id
WHERE p.payment_id = $1";

pub(super) async fn find(client: &Client, id: Uuid) -> Result<Option<Payment>, db::Error> {
    client.query_opt(FIND, &[&id]).await?.as_ref().map(payment).transpose()
}

const LOCK: &str = "-- payments.lock
SELECT p.tenant_id, p.payment_id, p.serial, p.amount_micros, p.currency, p.state, p.reason,
       a.name AS account, p.invoice_id, p.collected_micros, p.refunded_micros, p.payer_name, p.payer_inn, p.payer_kpp,
       p.payer_bank_account, p.payer_bik, p.purpose, p.document_number, p.document_day, p.created_at, p.credited_at
FROM payment p LEFT JOIN account a ON a.account_id = p.account_id
WHERE p.payment_id = $1
FOR UPDATE OF p";

/// A payment, locked; for update of its key too, because an allocation may move it to another tenant.
pub(super) async fn lock(tx: &Tx<'_>, id: Uuid) -> Result<Option<Payment>, db::Error> {
    tx.query_opt(LOCK, &[&id]).await?.as_ref().map(payment).transpose()
}

/// A payment as a transaction sees it, not locked.
pub(super) async fn find_in(tx: &Tx<'_>, id: Uuid) -> Result<Option<Payment>, db::Error> {
    tx.query_opt(FIND, &[&id]).await?.as_ref().map(payment).transpose()
}

const REFUNDED: &str = "-- payments.refunded
WITH refund AS (
    INSERT INTO payment_refund (tenant_id, payment_id, posting_id, amount_micros, reason, refunded_at)
    VALUES ($1, $2, $3, $4, $5, $6)
)
UPDATE payment SET refunded_micros = $7 WHERE tenant_id = $1 AND payment_id = $2";

/// Writes a refund of a locked payment.
pub(super) async fn refunded(
    tx: &Tx<'_>,
    payment: &Payment,
    posting: Uuid,
    new: &NewRefund,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    let Payment { tenant, id, refunded, .. } = payment;
    let set = tx
        .execute(REFUNDED, &[&tenant.0, id, &posting, &new.amount, &new.reason, &now, refunded])
        .await?;
    db::exactly_one(set, "payments.refunded")
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
       a.name AS account, p.invoice_id, p.collected_micros, p.refunded_micros, p.payer_name, p.payer_inn, p.payer_kpp,
       p.payer_bank_account, p.payer_bik, p.purpose, p.document_number, p.document_day, p.created_at, p.credited_at
FROM payment p LEFT JOIN account a ON a.account_id = p.account_id
WHERE p.serial < $1 AND ($2::bigint IS NULL OR p.tenant_id = $2)
  AND ($3::bigint IS NULL OR p.account_id = $3 OR (p.account_id IS NULL AND p.traced_account_id = $3))
  AND ($4::smallint IS NULL OR $4 = CASE
      WHEN p.refunded_micros > 0 AND p.refunded_micros + p.collected_micros = p.amount_micros THEN 4
      ELSE p.state END)
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
