//! Reads: what is known of charges and admissions already, and who pays.

use adspend_common::db::{Client, Error, Row, Tx};
use adspend_common::id::{AccountId, CampaignId};
use adspend_common::money::Currency;

use crate::charges::item::Charge;
use crate::charges::rules::{Recorded, Said};

// LATERAL and OFFSET 0: one probe of the primary key per id, whatever the planner thinks of sizes.
const FIND_CHARGES: &str = "-- charges.find
SELECT k.position, c.campaign_no, c.slice_no, c.admission_no, c.price_micros, c.day, c.late
FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS k (account_no, charge_id, position)
CROSS JOIN LATERAL (
    SELECT campaign_no, slice_no, admission_no, price_micros, day, late
    FROM charge
    WHERE charge.account_no = k.account_no AND charge.charge_id = k.charge_id
    OFFSET 0) AS c";

/// Charges that have the id of one of these; with the position of that one.
pub(in crate::charges) async fn find_charges(
    tx: &Tx<'_>,
    charges: &[&Charge],
) -> Result<Vec<(usize, Recorded)>, Error> {
    let accounts: Vec<i64> = charges.iter().map(|charge| charge.account_no()).collect();
    let ids: Vec<&str> = charges.iter().map(|charge| charge.id.as_str()).collect();
    let rows = tx.query(FIND_CHARGES, &[&accounts, &ids]).await?;
    rows.iter().map(|row| Ok((position(row)?, recorded(row)?))).collect()
}

fn recorded(row: &Row) -> Result<Recorded, Error> {
    let slice_no: Option<i64> = row.try_get(2)?;
    let admission_no: Option<i64> = row.try_get(3)?;
    let admission = match slice_no.zip(admission_no) {
        Some((slice_no, admission_no)) => {
            let number = u32::try_from(admission_no)
                .map_err(|_| Error::other("an admission number that no token can have"))?;
            Some((slice_no, number))
        }
        None => None,
    };
    let said = Said { campaign_no: row.try_get(1)?, admission, price: row.try_get(4)? };
    Ok(Recorded { said, day: row.try_get(5)?, late: row.try_get(6)? })
}

const FIND_SETTLED: &str = "-- charges.find_settled
SELECT k.position
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY
    AS k (account_no, slice_no, admission_no, position)
CROSS JOIN LATERAL (
    SELECT 1
    FROM charge
    WHERE charge.account_no = k.account_no AND charge.slice_no = k.slice_no
        AND charge.admission_no = k.admission_no
    OFFSET 0) AS c";

const FIND_CANCELLED: &str = "-- charges.find_cancelled
SELECT k.position
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY
    AS k (account_no, slice_no, admission_no, position)
CROSS JOIN LATERAL (
    SELECT 1
    FROM cancellation
    WHERE cancellation.account_no = k.account_no AND cancellation.slice_no = k.slice_no
        AND cancellation.admission_no = k.admission_no
    OFFSET 0) AS c";

/// An admission: account, slice, number.
pub(in crate::charges) type AdmissionKey = (i64, i64, u32);

/// The positions of those that were settled.
pub(in crate::charges) async fn find_settled(
    tx: &Tx<'_>,
    admissions: &[AdmissionKey],
) -> Result<Vec<usize>, Error> {
    find(tx, FIND_SETTLED, admissions).await
}

/// The positions of those that were cancelled.
pub(in crate::charges) async fn find_cancelled(
    tx: &Tx<'_>,
    admissions: &[AdmissionKey],
) -> Result<Vec<usize>, Error> {
    find(tx, FIND_CANCELLED, admissions).await
}

async fn find(
    tx: &Tx<'_>,
    sql: &'static str,
    admissions: &[AdmissionKey],
) -> Result<Vec<usize>, Error> {
    if admissions.is_empty() {
        return Ok(Vec::new());
    }
    let accounts: Vec<i64> = admissions.iter().map(|key| key.0).collect();
    let slices: Vec<i64> = admissions.iter().map(|key| key.1).collect();
    let numbers: Vec<i64> = admissions.iter().map(|key| i64::from(key.2)).collect();
    let rows = tx.query(sql, &[&accounts, &slices, &numbers]).await?;
    rows.iter().map(position).collect()
}

/// `WITH ORDINALITY` counts from one.
pub(super) fn position(row: &Row) -> Result<usize, Error> {
    let position: i64 = row.try_get(0)?;
    usize::try_from(position - 1).map_err(|_| Error::other("a position below one"))
}

const ACCOUNTS: &str = "-- charges.accounts
SELECT account_no, currency, tenant
FROM account
WHERE account_no = ANY($1)";

/// What a charge has to know of the account that pays.
#[derive(Debug, Clone)]
pub(in crate::charges) struct Payer {
    pub(in crate::charges) account_no: i64,
    pub(in crate::charges) currency: Currency,
    pub(in crate::charges) tenant: AccountId,
}

/// The accounts that there are among these.
pub(in crate::charges) async fn payers(
    client: &Client,
    account_nos: &[i64],
) -> Result<Vec<Payer>, Error> {
    let rows = client.query(ACCOUNTS, &[&account_nos]).await?;
    rows.iter()
        .map(|row| {
            Ok(Payer {
                account_no: row.try_get(0)?,
                currency: row.try_get(1)?,
                tenant: row.try_get(2)?,
            })
        })
        .collect()
}

const CAMPAIGNS: &str = "-- charges.campaigns
SELECT c.name, c.account_no, c.campaign_no, a.tenant, c.payment_model = 3
FROM campaign c
JOIN account a USING (account_no)
WHERE c.name = ANY($1)";

/// A campaign that was named instead of an admission.
#[derive(Debug, Clone)]
pub(in crate::charges) struct Named {
    pub(in crate::charges) id: CampaignId,
    pub(in crate::charges) account_no: i64,
    pub(in crate::charges) campaign_no: i64,
    pub(in crate::charges) tenant: AccountId,
    /// It pays per conversion.
    pub(in crate::charges) is_conversion: bool,
}

/// The campaigns that there are among these.
pub(in crate::charges) async fn campaigns(
    client: &Client,
    ids: &[&str],
) -> Result<Vec<Named>, Error> {
    let rows = client.query(CAMPAIGNS, &[&ids]).await?;
    rows.iter()
        .map(|row| {
            Ok(Named {
                id: row.try_get(0)?,
                account_no: row.try_get(1)?,
                campaign_no: row.try_get(2)?,
                tenant: row.try_get(3)?,
                is_conversion: row.try_get(4)?,
            })
        })
        .collect()
}
