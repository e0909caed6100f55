//! Reconciliation acts: what was rendered and what was paid, over closed whole months.
//!
//! The regular one is made for each month on the 15th of the next, for payers with whom anything happened. Others
//! are made when they are asked for. A period is reconciled once: closed months do not change, so a second act
//! of the same period would say the same.

use adspend_common::{
    db::{self, Pool, Tx},
    id::AccountId,
    identity::Caller,
    money::Balance,
    time::Day,
};
use chrono::{DateTime, Utc};

use super::{
    Document, Error, Kind, Month, New, Series,
    close::lock_owner,
    content::{Content, Head, Row},
    executor::Executor,
    party, rules, store, visible, words,
};
use crate::{
    accounts::{self, Account, AccountKind},
    ledger::{AccountKey, TenantNo},
    requests::{self, Begun, Call, Outcome},
};

/// Regular acts that are looked for at once.
const ACTS_AT_ONCE: i64 = 100;
/// How many months back a regular act is still made: after a year nobody waits for it.
const MONTHS_BACK: i32 = 12;

/// Makes the reconciliation act of a period, or gives the one that is there.
pub(crate) async fn create(
    pool: &Pool,
    now: DateTime<Utc>,
    executor: Option<&Executor>,
    call: &Call<Document>,
    caller: &Caller,
    (account, months): (&AccountId, (Month, Month)),
) -> Result<Outcome<Document>, Error> {
    db::retry("documents.reconcile", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let seen = visible(&tx, caller, account, || account.name()).await?;
        if seen.kind == AccountKind::Client {
            return Err(Error::ClientOfAgency);
        }
        let executor = executor.ok_or(Error::NoExecutor)?;
        let owner = accounts::store::lock(&tx, seen.key).await?.ok_or(Error::Moved)?;
        let made = make(&tx, now, executor, (&owner, seen.key.tenant), months).await?;
        Ok(requests::finish(tx, call, made).await?)
    })
    .await
}

/// Makes the regular acts that are due: of months whose 15th day after has come.
pub(crate) async fn make_due(
    pool: &Pool,
    now: DateTime<Utc>,
    executor: &Executor,
) -> Result<u64, Error> {
    let last = Month::last_over(now);
    let last = if rules::reconciled_on(last) <= Day::of(now) { last } else { last.prev() };
    let first = (0..MONTHS_BACK).fold(last, |month, _| month.prev());
    let mut made = 0;
    loop {
        let mut client = pool.get().await?;
        let due = store::unreconciled(&client, (first, last), ACTS_AT_ONCE).await?;
        if due.is_empty() {
            return Ok(made);
        }
        for (tenant, month) in due {
            let tx = client.transaction().await?;
            let owner = lock_owner(&tx, tenant).await?;
            make(&tx, now, executor, (&owner, tenant), (month, month)).await?;
            tx.commit().await?;
            made += 1;
        }
    }
}

/// The act of a period of a tenant whose owner is locked.
async fn make(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    executor: &Executor,
    (owner, tenant): (&Account, TenantNo),
    (first, last): (Month, Month),
) -> Result<Document, Error> {
    let key = AccountKey { tenant, account: owner.key.account };
    if let Some(found) = store::reconciliation(tx, key, (first, last)).await? {
        return Ok(found);
    }
    let entity = owner.legal_entity.as_ref().ok_or(Error::NoPayer)?;
    if !store::are_closed(tx, tenant, (first, last)).await? {
        return Err(Error::NotClosed { first: first.first(), last: last.last() });
    }
    let opening = store::balance_before(tx, tenant, first).await?;
    let rows = rows(tx, tenant, (first, last)).await?;
    let closing = rows.iter().try_fold(opening, |sum, row| {
        sum.checked_add(row.debit).and_then(|sum| sum.checked_sub(row.credit))
    });
    let closing = closing.ok_or_else(|| db::Error::other("a balance beyond what can be stored"))?;
    let day = last.last();
    let number = store::next_number(tx, &executor.inn, Series::Reconciliations, day).await?;
    let head = Head {
        number: number.to_string(),
        day,
        currency: owner.currency,
        executor: executor.clone(),
        customer: party(entity),
    };
    let content =
        Content::Reconciliation { head, first_day: first.first(), opening, rows, closing };
    let id = adspend_common::id::new_uuid(now);
    let new = New { id, kind: Kind::Reconciliation, months: (first, last), content };
    store::insert(tx, key, &new, now).await?;
    let made = store::reconciliation(tx, key, (first, last)).await?;
    made.ok_or_else(|| db::Error::other("a document that was just stored is gone").into())
}

/// Acts and payments in the order of their days.
async fn rows(
    tx: &Tx<'_>,
    tenant: TenantNo,
    months: (Month, Month),
) -> Result<Vec<Row>, db::Error> {
    let mut rows = Vec::new();
    for flow in store::flows_of(tx, tenant, months).await? {
        let day = Day::of(flow.at);
        let came = !flow.amount.is_negative();
        let name = match (flow.is_payment, came) {
            (true, true) if flow.order.number.is_empty() => "Оплата".to_owned(),
            (true, true) => {
                let of = words::short_day(flow.order.day);
                format!("Оплата (п/п №\u{a0}{} от {of})", flow.order.number)
            }
            (true, false) => "Возврат оплаты".to_owned(),
            (false, _) => "Перенос остатка".to_owned(),
        };
        let (debit, credit) = (flow.amount.negated().or_zero(), flow.amount.or_zero());
        rows.push(Row { day, name, debit, credit });
    }
    for (month, acted, number) in store::acts_of(tx, tenant, months).await? {
        let name = match number {
            Some(number) => format!("Акт №\u{a0}{number} от {}", words::short_day(month.last())),
            None => "Услуги без акта".to_owned(),
        };
        rows.push(Row { day: month.last(), name, debit: acted, credit: Balance::ZERO.or_zero() });
    }
    rows.sort_by_key(|row| row.day);
    Ok(rows)
}
