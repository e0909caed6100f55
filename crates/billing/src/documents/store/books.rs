//! What closing a month reads of the ledger, and what it writes down. Entries and legs are only read here.

use adspend_common::{
    db::{self, Client, Row, Tx},
    money::{Balance, Money},
    time::Day,
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::month;
use crate::{
    documents::{
        Month,
        close::{Closed, Flow, Spent},
        content::Order,
        rules::Receipt,
    },
    ledger::{AccountNo, TenantNo},
};

const DUE: &str = "-- documents.due
SELECT b.tenant_id
FROM ledger_balance b JOIN account a ON a.account_id = b.account_id
WHERE b.tenant_id = b.account_id AND b.tenant_id > $1 AND a.created_at < $3
  AND NOT EXISTS (SELECT FROM closed_month m WHERE m.tenant_id = b.tenant_id AND m.month = $2)
ORDER BY b.tenant_id LIMIT $4";

/// Tenants that were there in a month which is not closed, by their number. A tenant whose owner has become an
/// agency's client is one still: it has a history of its own.
pub(in crate::documents) async fn due(
    client: &Client,
    last: Month,
    after: TenantNo,
    limit: i64,
) -> Result<Vec<TenantNo>, db::Error> {
    let rows = client.query(DUE, &[&after.0, &last.first(), &last.end(), &limit]).await?;
    rows.iter().map(|row| Ok(TenantNo(row.try_get(0)?))).collect()
}

const LAST_CLOSED: &str = "-- documents.last_closed
SELECT month, carried_micros, spent_micros, acted_micros, uncovered_micros
FROM closed_month WHERE tenant_id = $1 ORDER BY month DESC LIMIT 1";

pub(in crate::documents) async fn last_closed(
    tx: &Tx<'_>,
    tenant: TenantNo,
) -> Result<Option<Closed>, db::Error> {
    let Some(row) = tx.query_opt(LAST_CLOSED, &[&tenant.0]).await? else { return Ok(None) };
    Ok(Some(Closed {
        month: month(&row, "month")?,
        carried: row.try_get("carried_micros")?,
        spent: row.try_get("spent_micros")?,
        acted: row.try_get("acted_micros")?,
        uncovered: row.try_get("uncovered_micros")?,
    }))
}

const LAST_ACT: &str = "-- documents.last_act
SELECT max(month) AS month FROM closed_month WHERE tenant_id = $1 AND acted_micros > 0";

/// The last month with an act.
pub(in crate::documents) async fn last_act(
    tx: &Tx<'_>,
    tenant: TenantNo,
) -> Result<Option<Month>, db::Error> {
    let last: Option<Day> = tx.query_one(LAST_ACT, &[&tenant.0]).await?.try_get("month")?;
    Ok(last.map(Month::of))
}

// Both ends of legs are entries: money that leaves for revenue, or comes back from it. Only the account's own
// end of either is looked at, by its index.
const SPEND: &str = "-- documents.spend
SELECT b.account_id, before.last + 1 AS first, coalesce(entries.last, before.last) AS last,
       coalesce(entries.spent, 0)::bigint AS spent
FROM ledger_balance b
CROSS JOIN LATERAL (
    SELECT coalesce(max(c.last_version), 0) AS last
    FROM closed_account c WHERE c.tenant_id = b.tenant_id AND c.account_id = b.account_id
) before
CROSS JOIN LATERAL (
    SELECT max(e.version) AS last, sum(e.spent) AS spent
    FROM (
        SELECT l.from_version AS version,
               CASE WHEN l.to_bucket = 15 THEN l.amount_micros END AS spent
        FROM ledger_leg l
        WHERE l.tenant_id = b.tenant_id AND l.from_account = b.account_id AND l.from_account <> 0
          AND l.from_version > before.last AND l.posted_at < $2
        UNION ALL
        SELECT l.to_version, CASE WHEN l.from_bucket = 15 THEN -l.amount_micros END
        FROM ledger_leg l
        WHERE l.tenant_id = b.tenant_id AND l.to_account = b.account_id AND l.to_account <> 0
          AND l.to_version > before.last AND l.posted_at < $2
    ) e
) entries
WHERE b.tenant_id = $1
ORDER BY b.account_id";

/// What each account of a tenant spent by the end of a month, in entries that no month before was about.
pub(in crate::documents) async fn spend(
    tx: &Tx<'_>,
    tenant: TenantNo,
    of: Month,
) -> Result<Vec<Spent>, db::Error> {
    let rows = tx.query(SPEND, &[&tenant.0, &of.end()]).await?;
    let spent = rows.iter().map(|row| {
        Ok(Spent {
            account: AccountNo(row.try_get("account_id")?),
            first: row.try_get("first")?,
            last: row.try_get("last")?,
            amount: row.try_get("spent")?,
        })
    });
    spent.collect()
}

const NEW_FLOWS: &str = "-- documents.new_flows
SELECT l.posting_id, l.leg, greatest(l.from_account, l.to_account) AS account_id,
       greatest(l.from_version, l.to_version) AS version,
       CASE WHEN l.to_bucket IN (1, 2, 3, 14) THEN l.amount_micros ELSE -l.amount_micros END AS amount,
       l.posted_at, l.from_bucket <> 17 AND l.to_bucket <> 17 AS is_payment,
       0::bigint AS used, 0::bigint AS returned,
       p.payment_id, p.document_number, p.document_day, i.number AS invoice, i.created_at AS invoiced_at
FROM ledger_leg l
LEFT JOIN payment p ON p.payment_id
    = CASE WHEN l.object ~ '^payments/[0-9a-f-]{36}$' THEN substr(l.object, 10)::uuid END
LEFT JOIN invoice i ON i.tenant_id = l.tenant_id AND i.invoice_id = p.invoice_id
WHERE l.tenant_id = $1 AND l.posted_at >= $2 AND l.posted_at < $3
  AND (l.from_bucket IN (10, 11, 12, 16, 17) OR l.to_bucket IN (10, 11, 12, 16, 17))
  AND (l.from_bucket IN (1, 2, 3, 14) OR l.to_bucket IN (1, 2, 3, 14))
  AND NOT EXISTS (SELECT FROM payer_flow f WHERE f.tenant_id = l.tenant_id
                  AND f.posting_id = l.posting_id AND f.leg = l.leg)
ORDER BY l.posted_at, l.posting_id, l.leg";

const OPEN_FLOWS: &str = "-- documents.open_flows
SELECT f.posting_id, f.leg, f.account_id, f.version, f.amount_micros AS amount, f.posted_at,
       f.is_payment, f.used_micros AS used, f.returned_micros AS returned, f.payment_id,
       p.document_number, p.document_day, i.number AS invoice, i.created_at AS invoiced_at
FROM payer_flow f
LEFT JOIN payment p ON p.payment_id = f.payment_id
LEFT JOIN invoice i ON i.tenant_id = f.tenant_id AND i.invoice_id = p.invoice_id
WHERE f.tenant_id = $1 AND f.amount_micros > f.used_micros + f.returned_micros
ORDER BY f.posted_at, f.posting_id, f.leg";

const FLOWS_OF: &str = "-- documents.flows_of
SELECT f.posting_id, f.leg, f.account_id, f.version, f.amount_micros AS amount, f.posted_at,
       f.is_payment, f.used_micros AS used, f.returned_micros AS returned, f.payment_id,
       p.document_number, p.document_day, i.number AS invoice, i.created_at AS invoiced_at
FROM payer_flow f
LEFT JOIN payment p ON p.payment_id = f.payment_id
LEFT JOIN invoice i ON i.tenant_id = f.tenant_id AND i.invoice_id = p.invoice_id
WHERE f.tenant_id = $1 AND f.month >= $2 AND f.month <= $3
ORDER BY f.posted_at, f.posting_id, f.leg";

fn flow(row: &Row, is_new: bool) -> Result<Flow, db::Error> {
    let at: DateTime<Utc> = row.try_get("posted_at")?;
    let amount: Balance = row.try_get("amount")?;
    let invoice: Option<String> = row.try_get("invoice")?;
    let invoiced: Option<DateTime<Utc>> = row.try_get("invoiced_at")?;
    let number: Option<String> = row.try_get("document_number")?;
    let day: Option<Day> = row.try_get("document_day")?;
    Ok(Flow {
        posting: row.try_get("posting_id")?,
        leg: row.try_get("leg")?,
        account: AccountNo(row.try_get("account_id")?),
        version: row.try_get("version")?,
        amount,
        at,
        is_payment: row.try_get("is_payment")?,
        payment: row.try_get("payment_id")?,
        receipt: Receipt {
            amount: amount.or_zero(),
            used: row.try_get("used")?,
            returned: row.try_get("returned")?,
        },
        order: Order {
            number: number.unwrap_or_default(),
            day: day.unwrap_or_else(|| Day::of(at)),
        },
        invoice: invoice.zip(invoiced.map(Day::of)),
        document: None,
        is_new,
    })
}

/// Money of the payer that no month before took up. A day more than the month is looked at, for what committed
/// after its month was closed.
pub(in crate::documents) async fn new_flows(
    tx: &Tx<'_>,
    tenant: TenantNo,
    of: Month,
) -> Result<Vec<Flow>, db::Error> {
    let from = of.first().start() - TimeDelta::days(1);
    let rows = tx.query(NEW_FLOWS, &[&tenant.0, &from, &of.end()]).await?;
    rows.iter().map(|row| flow(row, true)).collect()
}

/// Money of the payer that is not used up, oldest first.
pub(in crate::documents) async fn open_flows(
    tx: &Tx<'_>,
    tenant: TenantNo,
) -> Result<Vec<Flow>, db::Error> {
    let rows = tx.query(OPEN_FLOWS, &[&tenant.0]).await?;
    rows.iter().map(|row| flow(row, false)).collect()
}

/// Money of the payer in closed months, in the order of time.
pub(in crate::documents) async fn flows_of(
    tx: &Tx<'_>,
    tenant: TenantNo,
    (first, last): (Month, Month),
) -> Result<Vec<Flow>, db::Error> {
    let rows = tx.query(FLOWS_OF, &[&tenant.0, &first.first(), &last.first()]).await?;
    rows.iter().map(|row| flow(row, false)).collect()
}

const INSERT_MONTH: &str = "-- documents.insert_month
INSERT INTO closed_month (tenant_id, month, carried_micros, spent_micros, acted_micros,
                          uncovered_micros, closed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)";

pub(in crate::documents) async fn insert_month(
    tx: &Tx<'_>,
    tenant: TenantNo,
    closed: &Closed,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    let Closed { month, carried, spent, acted, uncovered } = closed;
    let month = month.first();
    tx.execute(INSERT_MONTH, &[&tenant.0, &month, carried, spent, acted, uncovered, &now]).await?;
    Ok(())
}

const INSERT_ACCOUNTS: &str = "-- documents.insert_accounts
INSERT INTO closed_account (tenant_id, month, account_id, first_version, last_version, spent_micros)
SELECT $1, $2, * FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])";

pub(in crate::documents) async fn insert_accounts(
    tx: &Tx<'_>,
    tenant: TenantNo,
    month: Month,
    spent: &[Spent],
) -> Result<(), db::Error> {
    let column = |get: fn(&Spent) -> i64| spent.iter().map(get).collect::<Vec<i64>>();
    let accounts = column(|spent| spent.account.0);
    let (first, last) = (column(|spent| spent.first), column(|spent| spent.last));
    let amounts = column(|spent| spent.amount.micros());
    let month = month.first();
    tx.execute(INSERT_ACCOUNTS, &[&tenant.0, &month, &accounts, &first, &last, &amounts]).await?;
    Ok(())
}

const SAVE_FLOWS: &str = "-- documents.save_flows
INSERT INTO payer_flow AS f (tenant_id, month, posting_id, leg, account_id, version, amount_micros,
                             posted_at, is_payment, payment_id, document_id, used_micros,
                             returned_micros)
SELECT $1, $2, * FROM unnest($3::uuid[], $4::smallint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::timestamptz[], $9::boolean[], $10::uuid[], $11::uuid[], $12::bigint[], $13::bigint[])";

const USE_FLOWS: &str = "-- documents.use_flows
UPDATE payer_flow f SET used_micros = u.used, returned_micros = u.returned
FROM unnest($2::uuid[], $3::smallint[], $4::bigint[], $5::bigint[])
    AS u (posting_id, leg, used, returned)
WHERE f.tenant_id = $1 AND f.posting_id = u.posting_id AND f.leg = u.leg";

/// Writes down the flows that a month took up, and what it took of those before.
pub(in crate::documents) async fn save_flows(
    tx: &Tx<'_>,
    tenant: TenantNo,
    month: Month,
    flows: &[Flow],
) -> Result<(), db::Error> {
    let (new, old): (Vec<&Flow>, Vec<&Flow>) = flows.iter().partition(|flow| flow.is_new);
    let postings = |of: &[&Flow]| of.iter().map(|flow| flow.posting).collect::<Vec<Uuid>>();
    let legs = |of: &[&Flow]| of.iter().map(|flow| flow.leg).collect::<Vec<i16>>();
    let numbers =
        |of: &[&Flow], get: fn(&Flow) -> i64| of.iter().map(|flow| get(flow)).collect::<Vec<i64>>();
    let (used, returned) =
        (|flow: &Flow| flow.receipt.used.micros(), |flow: &Flow| flow.receipt.returned.micros());
    tx.execute(
        SAVE_FLOWS,
        &[
            &tenant.0,
            &month.first(),
            &postings(&new),
            &legs(&new),
            &numbers(&new, |flow| flow.account.0),
            &numbers(&new, |flow| flow.version),
            &numbers(&new, |flow| flow.amount.micros()),
            &new.iter().map(|flow| flow.at).collect::<Vec<DateTime<Utc>>>(),
            &new.iter().map(|flow| flow.is_payment).collect::<Vec<bool>>(),
            &new.iter().map(|flow| flow.payment).collect::<Vec<Option<Uuid>>>(),
            &new.iter().map(|flow| flow.document).collect::<Vec<Option<Uuid>>>(),
            &numbers(&new, used),
            &numbers(&new, returned),
        ],
    )
    .await?;
    let (used, returned) = (numbers(&old, used), numbers(&old, returned));
    tx.execute(USE_FLOWS, &[&tenant.0, &postings(&old), &legs(&old), &used, &returned]).await?;
    Ok(())
}

const UNRECONCILED: &str = "-- documents.unreconciled
SELECT m.tenant_id, m.month
FROM closed_month m JOIN account a ON a.account_id = m.tenant_id AND a.country <> ''
WHERE m.month >= $1 AND m.month <= $2
  AND (m.acted_micros > 0 OR EXISTS (SELECT FROM payer_flow f
                                     WHERE f.tenant_id = m.tenant_id AND f.month = m.month))
  AND NOT EXISTS (SELECT FROM document d WHERE d.tenant_id = m.tenant_id AND d.kind = 5
                  AND d.first_month = m.month AND d.month = m.month)
ORDER BY m.month, m.tenant_id LIMIT $3";

/// Closed months in which something happened, without a reconciliation act of their own.
pub(in crate::documents) async fn unreconciled(
    client: &Client,
    (first, last): (Month, Month),
    limit: i64,
) -> Result<Vec<(TenantNo, Month)>, db::Error> {
    let rows = client.query(UNRECONCILED, &[&first.first(), &last.first(), &limit]).await?;
    rows.iter().map(|row| Ok((TenantNo(row.try_get(0)?), month(row, "month")?))).collect()
}

const ARE_CLOSED: &str = "-- documents.are_closed
SELECT count(*) FROM closed_month WHERE tenant_id = $1 AND month >= $2 AND month <= $3";

/// Whether every month of a period is closed.
pub(in crate::documents) async fn are_closed(
    tx: &Tx<'_>,
    tenant: TenantNo,
    (first, last): (Month, Month),
) -> Result<bool, db::Error> {
    let row = tx.query_one(ARE_CLOSED, &[&tenant.0, &first.first(), &last.first()]).await?;
    let closed: i64 = row.try_get(0)?;
    let mut asked = 1;
    let mut month = first;
    while month < last && asked <= closed {
        asked += 1;
        month = month.next();
    }
    Ok(month >= last && closed == asked)
}

const BALANCE_BEFORE: &str = "-- documents.balance_before
SELECT (coalesce((SELECT sum(acted_micros) FROM closed_month
                  WHERE tenant_id = $1 AND month < $2), 0)
      - coalesce((SELECT sum(amount_micros) FROM payer_flow
                  WHERE tenant_id = $1 AND month < $2), 0))::bigint";

/// What the payer owed when a month began, by acts and payments; negative when it had paid ahead.
pub(in crate::documents) async fn balance_before(
    tx: &Tx<'_>,
    tenant: TenantNo,
    first: Month,
) -> Result<Balance, db::Error> {
    let row = tx.query_one(BALANCE_BEFORE, &[&tenant.0, &first.first()]).await?;
    Ok(row.try_get(0)?)
}

const ACTS_OF: &str = "-- documents.acts_of
SELECT m.month, m.acted_micros, d.number
FROM closed_month m LEFT JOIN document d
    ON d.tenant_id = m.tenant_id AND d.kind = 2 AND d.month = m.month
WHERE m.tenant_id = $1 AND m.month >= $2 AND m.month <= $3 AND m.acted_micros > 0
ORDER BY m.month";

/// The acts of closed months; without a number where the payer had no legal entity.
pub(in crate::documents) async fn acts_of(
    tx: &Tx<'_>,
    tenant: TenantNo,
    (first, last): (Month, Month),
) -> Result<Vec<(Month, Money, Option<String>)>, db::Error> {
    let rows = tx.query(ACTS_OF, &[&tenant.0, &first.first(), &last.first()]).await?;
    rows.iter()
        .map(|row| Ok((month(row, "month")?, row.try_get(1)?, row.try_get("number")?)))
        .collect()
}
