//! A month's end: the act and the VAT invoice for what was spent, advance VAT invoices
//! for payments that are not spent.
//!
//! A month is closed once, tenant by tenant, oldest first, each in one transaction under the lock of the owner's
//! account row. What is spent is what entries moved to revenue, by the time of debit. An act is about all entries
//! booked before the month's end that no earlier act was about: should a call that began before midnight commit
//! after the month was closed, its entries are the next month's, never nobody's.
//!
//! Acts use up money of the payer, the oldest first. Promised and deferred money is not the payer's: what is
//! spent of it waits for the payment that comes later, and that payment is no advance to this extent.

use adspend_common::{
    db::{self, Pool, Tx},
    money::{Balance, Money},
    time::Day,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    Error, Kind, Month, New, Series,
    content::{Content, Head, Line, Order, Sum},
    executor::Executor,
    party, rules,
    rules::Receipt,
    store, words,
};
use crate::{
    accounts::{self, Account, LegalEntity},
    invoices::rules::vat_permille,
    ledger::{AccountKey, AccountNo, TenantNo},
    requests,
};

/// Tenants that are looked for at once.
const TENANTS_AT_ONCE: i64 = 100;

/// Money that came or went.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub(super) posting: Uuid,
    pub(super) leg: i16,
    pub(super) account: AccountNo,
    pub(super) version: i64,
    pub(super) amount: Balance,
    pub(super) at: DateTime<Utc>,
    pub(super) is_payment: bool,
    pub(super) payment: Option<Uuid>,
    pub(super) receipt: Receipt,
    /// The order it was paid by, and the invoice it pays.
    pub(super) order: Order,
    pub(super) invoice: Option<(String, Day)>,
    /// The advance VAT invoice for it.
    pub(super) document: Option<Uuid>,
    /// Taken up by this month.
    pub(super) is_new: bool,
}

/// What an account spent, and the entries that say so.
#[derive(Debug, Clone)]
pub(super) struct Spent {
    pub(super) account: AccountNo,
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) amount: Balance,
}

/// A closed month.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed {
    pub(super) month: Month,
    pub(super) carried: Balance,
    pub(super) spent: Balance,
    pub(super) acted: Money,
    pub(super) uncovered: Money,
}

impl Closed {
    /// What is left for the next act.
    fn left(&self) -> Balance {
        let sum = self.carried.checked_add(self.spent);
        sum.and_then(|sum| sum.checked_sub(self.acted)).unwrap_or(Balance::ZERO)
    }
}

/// Closes every month that is over, for every tenant. Says how many months of tenants it closed; a tenant that
/// fails does not stop the others, and the last failure is given back.
pub(crate) async fn close_due(
    pool: &Pool,
    now: DateTime<Utc>,
    executor: &Executor,
) -> Result<u64, Error> {
    let last = Month::last_over(now);
    let mut after = TenantNo::PLATFORM;
    let (mut closed, mut failed) = (0, None);
    loop {
        let client = pool.get().await?;
        let due = store::due(&client, last, after, TENANTS_AT_ONCE).await?;
        drop(client);
        let Some(&end) = due.last() else { break };
        after = end;
        for tenant in due {
            loop {
                match close_next(pool, now, executor, tenant).await {
                    Ok(Some(_)) => closed += 1,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(tenant = tenant.0, %error, "a month was not closed");
                        failed = Some(error);
                        break;
                    }
                }
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(closed),
    }
}

/// Closes the oldest open month of a tenant, if it is over.
async fn close_next(
    pool: &Pool,
    now: DateTime<Utc>,
    executor: &Executor,
    tenant: TenantNo,
) -> Result<Option<Month>, Error> {
    db::retry("documents.close", requests::TRIES, || close_once(pool, now, executor, tenant)).await
}

async fn close_once(
    pool: &Pool,
    now: DateTime<Utc>,
    executor: &Executor,
    tenant: TenantNo,
) -> Result<Option<Month>, Error> {
    let mut client = pool.get().await?;
    let tx = client.transaction().await?;
    let owner = lock_owner(&tx, tenant).await?;
    let before = store::last_closed(&tx, tenant).await?;
    let month = match &before {
        Some(before) => before.month.next(),
        None => Month::of(Day::of(owner.created_at)),
    };
    if month.end() > now {
        return Ok(None);
    }
    let spent = store::spend(&tx, tenant, month).await?;
    let carried = before.map_or(Balance::ZERO, |before| before.left());
    let overflow = || db::Error::other("the spend of a month is beyond what can be stored");
    let sum = spent.iter().try_fold(Balance::ZERO, |sum, spent| sum.checked_add(spent.amount));
    let sum = sum.ok_or_else(overflow)?;
    let (acted, _) = rules::act_amount(carried, sum).ok_or_else(overflow)?;

    let mut flows = store::open_flows(&tx, tenant).await?;
    flows.extend(store::new_flows(&tx, tenant, month).await?);
    let owed = before.map_or(Money::ZERO, |before| before.uncovered);
    let taken = take_up(&mut flows, owed, acted);
    let closed = Closed { month, carried, spent: sum, acted, uncovered: taken.uncovered };

    let documents = match &owner.legal_entity {
        Some(entity) => {
            let making = Making { executor, owner: &owner, entity, month, now };
            making.documents(&tx, acted, &mut flows, &taken).await?
        }
        None => Vec::new(),
    };
    store::insert_month(&tx, tenant, &closed, now).await?;
    store::insert_accounts(&tx, tenant, month, &spent).await?;
    store::save_flows(&tx, tenant, month, &flows).await?;
    let key = AccountKey { tenant, account: owner.key.account };
    for document in &documents {
        store::insert(&tx, key, document, now).await?;
    }
    tx.commit().await?;
    Ok(Some(month))
}

/// The account that owns a tenant, or did before it became an agency's client; locked, so that only one closes its
/// months.
pub(super) async fn lock_owner(tx: &Tx<'_>, tenant: TenantNo) -> Result<Account, Error> {
    let key = AccountKey { tenant, account: AccountNo(tenant.0) };
    let found = accounts::store::find_numbers(tx, &[key]).await?;
    let now_at = found.into_keys().next().ok_or(Error::Moved)?;
    accounts::store::lock(tx, now_at).await?.ok_or(Error::Moved)
}

/// What money gave for the acts.
struct Taken {
    /// For the month's act, flow by flow.
    parts: Vec<Money>,
    /// For acts of months before, flow by flow.
    for_debt: Vec<Money>,
    /// The part of the month's act that no money covers.
    on_credit: Money,
    /// The part of all acts that no money covers.
    uncovered: Money,
}

/// Lets new money pay what earlier acts left uncovered, takes back what went, and covers the month's act.
fn take_up(flows: &mut [Flow], owed: Money, acted: Money) -> Taken {
    let mut receipts: Vec<Receipt> = flows.iter().map(|flow| flow.receipt).collect();
    let mut for_debt = vec![Money::ZERO; flows.len()];
    let mut uncovered = owed;
    for at in 0..flows.len() {
        let flow = &flows[at];
        if !flow.is_new {
            continue;
        }
        if flow.amount.is_negative() {
            let own = flow.payment.and_then(|payment| {
                flows
                    .iter()
                    .position(|other| other.payment == Some(payment) && !other.amount.is_negative())
            });
            let gone = flow.amount.negated().or_zero();
            let left = rules::give_back(&mut receipts[..at], own.filter(|own| *own < at), gone);
            uncovered = uncovered.checked_add(left).unwrap_or(uncovered);
        } else {
            let (parts, left) = rules::cover(&mut receipts[at..=at], uncovered);
            for_debt[at] = parts.first().copied().unwrap_or_default();
            uncovered = left;
        }
    }
    let (parts, on_credit) = rules::cover(&mut receipts, acted);
    for (flow, receipt) in flows.iter_mut().zip(receipts) {
        flow.receipt = receipt;
    }
    let uncovered = uncovered.checked_add(on_credit).unwrap_or(uncovered);
    Taken { parts, for_debt, on_credit, uncovered }
}

/// A month's documents in the making.
struct Making<'a> {
    executor: &'a Executor,
    owner: &'a Account,
    entity: &'a LegalEntity,
    month: Month,
    now: DateTime<Utc>,
}

impl Making<'_> {
    async fn documents(
        &self,
        tx: &Tx<'_>,
        acted: Money,
        flows: &mut [Flow],
        taken: &Taken,
    ) -> Result<Vec<New>, Error> {
        let mut made = Vec::new();
        let rate = vat_permille(&self.entity.country, self.month.last());
        if !acted.is_zero() {
            let sum = Sum::at(acted, rate);
            let act = self.head(tx, Series::Acts).await?;
            let number = act.number.clone();
            let lines = self.lines(flows, taken);
            let first_day = self.month.first();
            let content = Content::Act { head: act, sum, first_day, lines };
            made.push(self.document(Kind::Act, content));
            if rate > 0 {
                let head = self.head(tx, Series::VatInvoices).await?;
                let (name, orders) = (self.service(), orders(flows, &taken.parts));
                let content = Content::VatInvoice { head, sum, name, act: number, orders };
                made.push(self.document(Kind::VatInvoice, content));
            }
        }
        for (flow, for_debt) in flows.iter_mut().zip(&taken.for_debt) {
            if !flow.is_new || !flow.is_payment || flow.amount.is_negative() {
                continue;
            }
            // The rate of the day on which the advance was paid.
            let paid_on = Day::of(flow.at);
            let rate = vat_permille(&self.entity.country, paid_on);
            let advance = rules::advance(&flow.receipt, *for_debt, paid_on);
            if let (Some(amount), true) = (advance, rate > 0) {
                let head = self.head(tx, Series::VatInvoices).await?;
                let (sum, orders) = (Sum::at(amount, rate), vec![flow.order.clone()]);
                let content = Content::AdvanceVatInvoice { head, sum, orders };
                let new = self.document(Kind::AdvanceVatInvoice, content);
                flow.document = Some(new.id);
                made.push(new);
            }
        }
        Ok(made)
    }

    fn document(&self, kind: Kind, content: Content) -> New {
        let id = adspend_common::id::new_uuid(self.now);
        New { id, kind, months: (self.month, self.month), content }
    }

    /// The head of a document of the month's last day, with the next number of its series.
    async fn head(&self, tx: &Tx<'_>, series: Series) -> Result<Head, Error> {
        let day = self.month.last();
        Ok(Head {
            number: store::next_number(tx, &self.executor.inn, series, day).await?.to_string(),
            day,
            currency: self.owner.currency,
            executor: self.executor.clone(),
            customer: party(self.entity),
        })
    }

    /// «Услуги по размещению рекламы за ноябрь 2026 г.»
    fn service(&self) -> String {
        format!("Услуги по размещению рекламы за {}", words::month(self.month.first()))
    }

    /// A line for each invoice whose money was used, and one for what was spent on credit (R-167: acts name
    /// invoices, no campaigns).
    fn lines(&self, flows: &[Flow], taken: &Taken) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        let mut add = |name: String, gross: Money| {
            if gross.is_zero() {
                return;
            }
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.gross = line.gross.checked_add(gross).unwrap_or(line.gross),
                None => lines.push(Line { name, gross }),
            }
        };
        let service = self.service();
        for (flow, part) in flows.iter().zip(&taken.parts) {
            let name = match &flow.invoice {
                Some((number, day)) => {
                    let day = words::short_day(*day);
                    format!("{service} по счёту №\u{a0}{number} от {day}")
                }
                None => format!("{service} (оплата от {})", words::short_day(flow.order.day)),
            };
            add(name, *part);
        }
        add(format!("{service} (в счёт последующей оплаты)"), taken.on_credit);
        lines
    }
}

/// The orders whose money was used.
fn orders(flows: &[Flow], parts: &[Money]) -> Vec<Order> {
    let used = flows.iter().zip(parts).filter(|(flow, part)| flow.is_payment && !part.is_zero());
    used.map(|(flow, _)| flow.order.clone()).collect()
}
