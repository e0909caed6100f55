//! Booking what has arrived: each payment pays the invoice that it names, or becomes free funds with the
//! reason. One payment that a person records and many lines of a bank statement take the same way.
//!
//! | step | statements, for any number of payments |
//! |---|---|
//! | find the invoices of the numbers in the purposes | 1 |
//! | lock the balances of their accounts in id order, then the invoices | 2, or 3 when holds have expired |
//! | read the accounts, the owners of the other payers' INNs, the promises | 3 |
//! | decide one after another, in memory | 0 |
//! | write promises, invoices, payments, the ledger, events | 4, and a few for each promise repaid |
//!
//! A second payment of one invoice in the same transaction finds it paid by the first.

use std::collections::HashMap;

use adspend_common::{
    db::Tx,
    money::{Currency, Money},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Error, NewPayment, Payment, PaymentState, Unmatched, name, rules, store};
use crate::{
    accounts::{self, Account},
    credit,
    events::{self, Event, Subject},
    invoices::{self, Invoice, InvoiceState, Method, Terms},
    ledger::{
        self, AccountKey, AccountNo, Actor, Counter, Kind, Leg, Locked, Place, Posting, TenantNo,
    },
    promised_payments::Debts,
    requests::Call,
};

/// The request behind a posting: makes it happen once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Once {
    pub(crate) posting: Uuid,
    pub(crate) hash: i64,
}

impl Once {
    pub(crate) fn of<T>(call: &Call<T>) -> Once {
        Once { posting: call.posting_id(), hash: call.short_hash() }
    }
}

/// A payment that has arrived and is not booked yet.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) id: Uuid,
    pub(crate) once: Once,
    pub(crate) sent: NewPayment,
    pub(crate) method: Method,
}

/// A payment as it is written, with the numbers of the accounts that it belongs to or points at.
#[derive(Debug)]
pub(super) struct Booked {
    pub(super) payment: Payment,
    pub(super) account: Option<AccountNo>,
    pub(super) traced: Option<AccountNo>,
}

/// Where credited money comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Funds {
    /// Just arrived through the bank.
    Fresh,
    /// Just arrived by card.
    Card,
    /// Free funds of a tenant.
    Free(TenantNo),
}

/// Books payments in the order given: at most [`ledger::MAX_POSTINGS`] in one transaction.
///
/// On whose behalf is said where the request has its record in another transaction.
pub(crate) async fn book(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    arrivals: Vec<Arrival>,
    on_behalf_of: Option<&Actor>,
) -> Result<Vec<Payment>, Error> {
    let mut scene = Scene::lock(tx, now, &arrivals).await?;
    if let Some(actor) = on_behalf_of {
        scene.locked.on_behalf_of(actor);
    }
    let mut serials = store::next_serials(tx, arrivals.len()).await?.into_iter();
    let mut booked = Vec::with_capacity(arrivals.len());
    for Arrival { id, once, sent, method } in arrivals {
        let payment = Payment {
            id,
            tenant: TenantNo::PLATFORM,
            serial: serials.next().expect("a serial was made for each payment"),
            sent,
            state: PaymentState::Unallocated,
            reason: None,
            account: None,
            invoice: None,
            collected: Money::ZERO,
            refunded: Money::ZERO,
            created_at: now,
            credited_at: None,
        };
        booked.push(scene.take(once, payment, method)?);
    }
    let paid = scene.write(tx, now).await?;
    store::insert(tx, &booked).await?;
    let booked: Vec<Payment> = booked.into_iter().map(|booked| booked.payment).collect();
    tell(tx, now, &booked, &paid).await?;
    Ok(booked)
}

/// The events of payments and of the invoices that they paid.
async fn tell(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    booked: &[Payment],
    paid: &[(TenantNo, Invoice)],
) -> Result<(), Error> {
    let mut events: Vec<(Subject<'_>, Event)> = booked.iter().map(Payment::event).collect();
    events.extend(paid.iter().map(|(tenant, invoice)| {
        let Invoice { account, currency, .. } = invoice;
        let subject = Subject { tenant: *tenant, account: Some(account), currency: *currency };
        (subject, Event::InvoicePaid(invoice.facts()))
    }));
    Ok(events::record_all(tx, now, &events).await?)
}

/// Everything that the payments of one transaction touch: locked, read once, changed in memory.
struct Scene {
    locked: Locked,
    /// By number.
    invoices: HashMap<String, (AccountKey, Invoice)>,
    accounts: HashMap<AccountKey, Account>,
    /// The only owner with an INN, by INN.
    owners: HashMap<String, Account>,
    debts: Debts,
    paid: Vec<(TenantNo, Invoice)>,
}

impl Scene {
    async fn lock(tx: &Tx<'_>, now: DateTime<Utc>, arrivals: &[Arrival]) -> Result<Scene, Error> {
        let named = |arrival: &Arrival| rules::invoice_number(&arrival.sent.purpose);
        let mut numbers: Vec<String> = arrivals.iter().filter_map(named).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let found = match numbers.is_empty() {
            true => Vec::new(),
            false => invoices::store::find_numbers(tx, &numbers).await?,
        };
        let mut keys: Vec<AccountKey> = found.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        let locked = ledger::lock(tx, now, &keys).await?;
        let (invoices, accounts) = match keys.is_empty() {
            true => (HashMap::new(), HashMap::new()),
            false => {
                let invoices = invoices::store::lock_all(tx, &found).await?;
                (invoices, accounts::store::find_numbers(tx, &keys).await?)
            }
        };
        // Between the first look and the lock an account may have moved to another tenant.
        if invoices.len() != found.len() || keys.iter().any(|key| !accounts.contains_key(key)) {
            return Err(Error::Moved);
        }
        let lost = |arrival: &&Arrival| named(arrival).is_none_or(|n| !invoices.contains_key(&n));
        let mut inns: Vec<&str> = arrivals
            .iter()
            .filter(lost)
            .map(|arrival| arrival.sent.payer.inn.as_str())
            .filter(|inn| !inn.is_empty())
            .collect();
        inns.sort_unstable();
        inns.dedup();
        let owners = match inns.is_empty() {
            true => HashMap::new(),
            false => accounts::store::only_owners_with_inns(tx, &inns).await?,
        };
        let debts = Debts::of(tx, &keys, now).await?;
        Ok(Scene { locked, invoices, accounts, owners, debts, paid: Vec::new() })
    }

    /// Decides on one payment and posts it.
    fn take(&mut self, once: Once, mut payment: Payment, method: Method) -> Result<Booked, Error> {
        let (funds, counter) = match method {
            Method::BankTransfer => (Funds::Fresh, Counter::Bank),
            Method::Card => (Funds::Card, Counter::Card),
        };
        let number = rules::invoice_number(&payment.sent.purpose);
        let named = number.and_then(|number| self.invoices.get_mut(&number));
        let verdict = {
            let invoice = named.as_ref().map(|(_, invoice)| invoice);
            rules::matches((&payment.sent, method), invoice)
        };
        match (verdict, named) {
            (Ok(()), Some((key, invoice))) => {
                let key = *key;
                let account = self.accounts.get(&key).ok_or(Error::Moved)?;
                let parts = (&mut self.locked, &mut self.debts);
                credit(parts, once, (&mut payment, account), (funds, invoice.terms))?;
                pay(&mut payment, invoice);
                self.paid.push((key.tenant, invoice.clone()));
                Ok(Booked { payment, account: Some(key.account), traced: None })
            }
            (verdict, named) => {
                payment.reason = Some(verdict.err().unwrap_or(Unmatched::NumberNotFound));
                let owner = match named {
                    Some((key, _)) => self.accounts.get(key),
                    None => self.owners.get(&payment.sent.payer.inn),
                };
                if let Some(owner) = owner.filter(|owner| in_currency(owner, payment.sent.currency))
                {
                    payment.tenant = owner.key.tenant;
                }
                let traced = owner.map(|owner| owner.key.account);
                let leg = between(Kind::UnallocatedIn, (counter, Counter::Unallocated), &payment);
                post(&mut self.locked, once, payment.tenant, vec![leg])?;
                Ok(Booked { payment, account: None, traced })
            }
        }
    }

    /// Writes everything but the payments, and gives the invoices that were paid.
    async fn write(
        mut self,
        tx: &Tx<'_>,
        now: DateTime<Utc>,
    ) -> Result<Vec<(TenantNo, Invoice)>, Error> {
        self.debts.write(tx).await?;
        if !self.paid.is_empty() {
            invoices::store::set_states(tx, &self.paid).await?;
        }
        let deferred = self.invoices.values().filter(|(_, invoice)| {
            invoice.terms == Terms::Deferred
                && self.paid.iter().any(|(_, paid)| paid.id == invoice.id)
        });
        let mut repaid: Vec<AccountKey> = deferred.map(|(key, _)| *key).collect();
        repaid.sort_unstable();
        repaid.dedup();
        credit::repaid(tx, now, &mut self.locked, &repaid).await?;
        ledger::write(tx, self.locked).await?;
        Ok(self.paid)
    }
}

/// A tenant's books stay in one currency.
fn in_currency(owner: &Account, currency: Currency) -> bool {
    owner.currency == currency
}

/// Credits the whole payment to a locked account; overdue promises are repaid out of it in the same posting.
/// The money of a deferred invoice was credited when it was issued: its payment repays just that.
pub(super) fn credit(
    (locked, debts): (&mut Locked, &mut Debts),
    once: Once,
    (payment, account): (&mut Payment, &Account),
    (funds, terms): (Funds, Terms),
) -> Result<(), Error> {
    let AccountKey { tenant, account: number } = account.key;
    let now = payment.credited_at.unwrap_or(payment.created_at);
    let to = match terms {
        Terms::Prepaid => Place::Main(number),
        Terms::Deferred => Place::Counter(Counter::Deferred),
    };
    let kind = |prepaid| match terms {
        Terms::Prepaid => prepaid,
        Terms::Deferred => Kind::DeferredPaid,
    };
    let mut legs = match funds {
        Funds::Fresh => vec![leg(kind(Kind::Deposit), Place::Counter(Counter::Bank), to, payment)],
        Funds::Card => {
            vec![leg(kind(Kind::CardDeposit), Place::Counter(Counter::Card), to, payment)]
        }
        Funds::Free(of) => {
            let free = Place::Counter(Counter::Unallocated);
            let mut legs = Vec::new();
            if of != tenant {
                // Free funds of another tenant leave it and arrive here: two postings, one transaction.
                let (bank, free) = (Counter::Bank, Counter::Unallocated);
                let out = between(Kind::UnallocatedOut, (free, bank), payment);
                post(locked, once, of, vec![out])?;
                legs.push(between(Kind::UnallocatedIn, (bank, free), payment));
            }
            legs.push(leg(kind(Kind::Allocation), free, to, payment));
            legs
        }
    };
    let collected = match terms {
        Terms::Prepaid => debts.due_from(account, payment.sent.amount, once.posting),
        Terms::Deferred => Vec::new(),
    };
    payment.collected = rules::sum(collected.iter().map(|leg| leg.amount));
    legs.extend(collected);
    post(locked, once, tenant, legs)?;
    payment.tenant = tenant;
    payment.account = Some(account.id.clone());
    payment.credited_at = Some(now);
    payment.state = match funds {
        Funds::Fresh | Funds::Card => PaymentState::Credited,
        Funds::Free(_) => PaymentState::Allocated,
    };
    Ok(())
}

/// Ties a credited payment and the invoice that it pays to each other.
pub(super) fn pay(payment: &mut Payment, invoice: &mut Invoice) {
    payment.invoice = Some(invoice.id);
    invoice.state = InvoiceState::Paid;
    invoice.paid_at = payment.credited_at;
    invoice.payment = Some(payment.id);
}

fn leg(kind: Kind, from: Place, to: Place, payment: &Payment) -> Leg {
    let object = Some(name(&payment.id).into());
    Leg { kind, from, to, amount: payment.sent.amount, object }
}

fn between(kind: Kind, (from, to): (Counter, Counter), payment: &Payment) -> Leg {
    leg(kind, Place::Counter(from), Place::Counter(to), payment)
}

fn post(locked: &mut Locked, once: Once, tenant: TenantNo, legs: Vec<Leg>) -> Result<(), Error> {
    let posting = Posting { id: once.posting, tenant, legs, payload_hash: once.hash };
    match locked.post(&posting) {
        Ok(_) => Ok(()),
        Err(ledger::Refusal::UnknownAccount(_)) => Err(Error::Moved),
        Err(refusal) => Err(ledger::Error::Refused(refusal).into()),
    }
}
