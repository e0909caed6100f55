//! The SQL of documents: the documents themselves, their numbers and their files. `books.rs` is what closing a
//! month reads of the ledger and writes down.

mod books;

use adspend_common::{
    db::{self, Client, Row, Tx},
    money::Balance,
    time::Day,
};
use chrono::{DateTime, Datelike as _, Utc};
use uuid::Uuid;

use super::{
    Cited, Document, File, Issued, Kind, Listed, Month, New, Series, Sources,
    content::{Content, Party},
};
use crate::ledger::{AccountKey, TenantNo};

pub(super) use books::{
    acts_of, are_closed, balance_before, due, flows_of, insert_accounts, insert_month, last_act,
    last_closed, new_flows, open_flows, save_flows, spend, unreconciled,
};

impl Kind {
    const fn number(self) -> i16 {
        match self {
            Kind::Invoice => 1,
            Kind::Act => 2,
            Kind::VatInvoice => 3,
            Kind::AdvanceVatInvoice => 4,
            Kind::Reconciliation => 5,
        }
    }

    const fn from_number(number: i16) -> Option<Kind> {
        match number {
            1 => Some(Kind::Invoice),
            2 => Some(Kind::Act),
            3 => Some(Kind::VatInvoice),
            4 => Some(Kind::AdvanceVatInvoice),
            5 => Some(Kind::Reconciliation),
            _ => None,
        }
    }
}

impl Series {
    /// The number of its kind; of VAT invoices the first of the two.
    const fn number(self) -> i16 {
        match self {
            Series::Acts => Kind::Act.number(),
            Series::VatInvoices => Kind::VatInvoice.number(),
            Series::Reconciliations => Kind::Reconciliation.number(),
        }
    }
}

const NEXT_NUMBER: &str = "-- documents.next_number
INSERT INTO document_number AS n (issuer_inn, series, year, last) VALUES ($1, $2, $3, 1)
ON CONFLICT (issuer_inn, series, year) DO UPDATE SET last = n.last + 1
RETURNING last";

/// The next number of a series in the year of a day. Others wait for it until this transaction ends, and get the
/// same number when it fails: that is what leaves no gap.
pub(super) async fn next_number(
    tx: &Tx<'_>,
    issuer_inn: &str,
    series: Series,
    day: Day,
) -> Result<i64, db::Error> {
    let year = day.date().year();
    let row = tx.query_one(NEXT_NUMBER, &[&issuer_inn, &series.number(), &year]).await?;
    Ok(row.try_get(0)?)
}

const INSERT: &str = "-- documents.insert
INSERT INTO document (tenant_id, document_id, account_id, serial, kind, issuer_inn, number, day,
                      first_month, month, content, created_at)
VALUES ($1, $2, $3, nextval('document_serial_seq'), $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (tenant_id, document_id) DO NOTHING";

/// Stores a document, unless one with its id is there: two callers may make an invoice's at once.
pub(super) async fn insert(
    tx: &Tx<'_>,
    key: AccountKey,
    new: &New,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    let New { id, kind, months: (first, last), content } = new;
    let head = content.head();
    let json = serde_json::to_value(content)
        .map_err(|error| db::Error::other(format!("a document has no JSON: {error}")))?;
    tx.execute(
        INSERT,
        &[
            &key.tenant.0,
            id,
            &key.account.0,
            &kind.number(),
            &head.executor.inn,
            &head.number,
            &head.day,
            &first.first(),
            &last.first(),
            &json,
            &now,
        ],
    )
    .await?;
    Ok(())
}

fn document(row: &Row) -> Result<Document, db::Error> {
    let unknown = || db::Error::other("a document has a kind of a newer version");
    let content: serde_json::Value = row.try_get("content")?;
    let content: Content = serde_json::from_value(content)
        .map_err(|error| db::Error::other(format!("a document cannot be read: {error}")))?;
    Ok(Document {
        id: row.try_get("document_id")?,
        tenant: TenantNo(row.try_get("tenant_id")?),
        account: row.try_get("account")?,
        serial: row.try_get("serial")?,
        kind: Kind::from_number(row.try_get("kind")?).ok_or_else(unknown)?,
        first_month: Month::of(row.try_get("first_month")?),
        month: Month::of(row.try_get("month")?),
        content,
        created_at: row.try_get("created_at")?,
    })
}

const FIND: &str = "-- documents.find
SELECT d.tenant_id, d.document_id, a.name AS account, d.serial, d.kind, d.first_month, d.month,
       d.content, d.created_at
FROM document d JOIN account a ON a.account_id = d.account_id
WHERE d.tenant_id = $1 AND d.account_id = $2 AND d.document_id = $3";

pub(super) async fn find(
    client: &Client,
    key: AccountKey,
    id: Uuid,
) -> Result<Option<Document>, db::Error> {
    let row = client.query_opt(FIND, &[&key.tenant.0, &key.account.0, &id]).await?;
    row.as_ref().map(document).transpose()
}

const RECONCILIATION: &str = "-- documents.reconciliation
SELECT d.tenant_id, d.document_id, a.name AS account, d.serial, d.kind, d.first_month, d.month,
       d.content, d.created_at
FROM document d JOIN account a ON a.account_id = d.account_id
WHERE d.tenant_id = $1 AND d.account_id = $2 AND d.kind = 5 AND d.first_month = $3 AND d.month = $4";

/// The reconciliation act of a period.
pub(super) async fn reconciliation(
    tx: &Tx<'_>,
    key: AccountKey,
    (first, last): (Month, Month),
) -> Result<Option<Document>, db::Error> {
    let (first, last) = (first.first(), last.first());
    let row = tx.query_opt(RECONCILIATION, &[&key.tenant.0, &key.account.0, &first, &last]).await?;
    row.as_ref().map(document).transpose()
}

const LIST: &str = "-- documents.list
SELECT d.tenant_id, d.document_id, a.name AS account, d.serial, d.kind, d.first_month, d.month,
       d.content, d.created_at
FROM document d JOIN account a ON a.account_id = d.account_id
WHERE d.tenant_id = $1 AND d.account_id = $2 AND d.serial < $3
  AND (cardinality($4::smallint[]) = 0 OR d.kind = ANY($4))
  AND ($5::date IS NULL OR (d.first_month <= $5 AND d.month >= $5))
ORDER BY d.serial DESC LIMIT $6";

pub(super) async fn list(
    client: &Client,
    key: AccountKey,
    listed: &Listed,
) -> Result<Vec<Document>, db::Error> {
    let kinds: Vec<i16> = listed.kinds.iter().copied().map(Kind::number).collect();
    let month = listed.month.map(Month::first);
    let before = listed.before.unwrap_or(i64::MAX);
    let limit = i64::from(listed.limit);
    let rows = client
        .query(LIST, &[&key.tenant.0, &key.account.0, &before, &kinds, &month, &limit])
        .await?;
    rows.iter().map(document).collect()
}

const WITHOUT_DOCUMENT: &str = "-- documents.invoices_without
SELECT coalesce(i.document_id, i.invoice_id) AS document_id, i.number, i.amount_micros, i.currency,
       i.payer_name, i.payer_inn, i.payer_kpp, i.payer_address, i.pay_by, i.created_at
FROM invoice i
WHERE i.tenant_id = $1 AND i.account_id = $2 AND i.state <> 3
  AND ($3::uuid IS NULL OR coalesce(i.document_id, i.invoice_id) = $3)
  AND NOT EXISTS (SELECT FROM document d
                  WHERE d.tenant_id = i.tenant_id
                    AND d.document_id = coalesce(i.document_id, i.invoice_id))
ORDER BY i.serial LIMIT $4";

/// Invoices without a document that names their payer, oldest first. Cancelled ones need none any more.
pub(super) async fn without_document(
    client: &Client,
    key: AccountKey,
    only: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Issued>, db::Error> {
    let rows =
        client.query(WITHOUT_DOCUMENT, &[&key.tenant.0, &key.account.0, &only, &limit]).await?;
    let issued = rows.iter().map(|row| {
        let address: Option<String> = row.try_get("payer_address")?;
        Ok(Issued {
            id: row.try_get("document_id")?,
            is_own: address.is_none(),
            number: row.try_get("number")?,
            amount: row.try_get("amount_micros")?,
            currency: row.try_get("currency")?,
            payer: Party {
                name: row.try_get("payer_name")?,
                inn: row.try_get("payer_inn")?,
                kpp: row.try_get("payer_kpp")?,
                address: address.unwrap_or_default(),
            },
            pay_by: row.try_get("pay_by")?,
            created_at: row.try_get("created_at")?,
        })
    });
    issued.collect()
}

const FILE: &str = "-- documents.file
SELECT pdf, sha256 FROM document_file WHERE tenant_id = $1 AND document_id = $2";

/// The pages, if they were made.
pub(super) async fn file(
    client: &Client,
    (tenant, id): (TenantNo, Uuid),
) -> Result<Option<File>, db::Error> {
    let row = client.query_opt(FILE, &[&tenant.0, &id]).await?;
    row.map(|row| Ok(File { bytes: row.try_get("pdf")?, sha256: row.try_get("sha256")? }))
        .transpose()
}

const KEEP_FILE: &str = "-- documents.keep_file
INSERT INTO document_file (tenant_id, document_id, pdf, sha256, created_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, document_id) DO NOTHING";

/// Keeps the pages, unless there are some.
pub(super) async fn keep_file(
    client: &Client,
    (tenant, id): (TenantNo, Uuid),
    file: &File,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    let File { bytes, sha256 } = file;
    client.execute(KEEP_FILE, &[&tenant.0, &id, bytes, sha256, &now]).await?;
    Ok(())
}

const CITED: &str = "-- documents.cited
SELECT a.name AS account, min(c.first_version) AS first, max(c.last_version) AS last,
       sum(c.spent_micros)::bigint AS spent
FROM closed_account c JOIN account a ON a.account_id = c.account_id
WHERE c.tenant_id = $1 AND c.month >= $2 AND c.month <= $3
GROUP BY c.account_id, a.name
HAVING max(c.last_version) >= min(c.first_version)
ORDER BY c.account_id";

/// The entries that months are about, by account.
pub(super) async fn cited(
    client: &Client,
    tenant: TenantNo,
    (first, last): (Month, Month),
) -> Result<Vec<Cited>, db::Error> {
    let rows = client.query(CITED, &[&tenant.0, &first.first(), &last.first()]).await?;
    let cited = rows.iter().map(|row| {
        Ok(Cited {
            account: row.try_get("account")?,
            first: row.try_get("first")?,
            last: row.try_get("last")?,
            amount: row.try_get("spent")?,
        })
    });
    cited.collect()
}

const CARRIED: &str = "-- documents.carried
SELECT carried_micros FROM closed_month WHERE tenant_id = $1 AND month = $2";

/// What months before left for the act of a month.
pub(super) async fn carried(
    client: &Client,
    tenant: TenantNo,
    month: Month,
) -> Result<Balance, db::Error> {
    let row = client.query_opt(CARRIED, &[&tenant.0, &month.first()]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(Balance::ZERO))
}

const ADVANCE_SOURCE: &str = "-- documents.advance_source
SELECT a.name AS account, f.version, f.amount_micros, f.payment_id
FROM payer_flow f LEFT JOIN account a ON a.account_id = f.account_id
WHERE f.tenant_id = $1 AND f.document_id = $2";

/// The entry of an advance. A payment of a deferred invoice has none: its money had been credited before.
pub(super) async fn advance_source(
    client: &Client,
    tenant: TenantNo,
    document: Uuid,
) -> Result<Sources, db::Error> {
    let mut sources = Sources::default();
    for row in client.query(ADVANCE_SOURCE, &[&tenant.0, &document]).await? {
        sources.payment = row.try_get("payment_id")?;
        if let Some(account) = row.try_get("account")? {
            let version = row.try_get("version")?;
            let amount = row.try_get("amount_micros")?;
            sources.entries.push(Cited { account, first: version, last: version, amount });
        }
    }
    Ok(sources)
}

/// A month that a row names by its first day.
fn month(row: &Row, column: &str) -> Result<Month, db::Error> {
    Ok(Month::of(row.try_get(column)?))
}
