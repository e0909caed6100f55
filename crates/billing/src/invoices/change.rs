//! Another payer or another payment method for an unpaid deferred invoice. No money moves.
//!
//! Until when, is decided by `rules.rs` alone: nothing waits for a job. A change and the closing of a month meet at
//! the lock of the account, a change and a payment at that of the invoice: a payment is held against the payer and
//! the method of before or of after, and a change after the payment finds the invoice paid.
//!
//! A document that names the payer of before stays as it was handed out. The invoice points at a document with a new
//! id, which is made as any invoice's is.

use adspend_common::{
    db::{self, Pool},
    id::{AccountId, ResourceId},
    identity::Caller,
};
use chrono::{DateTime, Utc};

use super::{Error, Invoice, Method, Repayer, in_account, name, rules, store};
use crate::{
    accounts::{self, Account, LegalEntity},
    credit, documents,
    events::{self, Event},
    requests::{self, Begun, Call, Outcome},
};

/// What an invoice is to become; what is not given stays.
#[derive(Debug, Clone)]
pub(crate) struct NewTerms {
    pub(crate) payer: Option<LegalEntity>,
    pub(crate) method: Option<Method>,
}

/// Changes a deferred invoice; gives it back with the moment of the change.
pub(crate) async fn change(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<(Invoice, DateTime<Utc>)>,
    caller: &Caller,
    (id, invoice, new): (&AccountId, &ResourceId, &NewTerms),
) -> Result<Outcome<(Invoice, DateTime<Utc>)>, Error> {
    db::retry("invoices.change", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let (seen, uuid) = in_account(&tx, caller, id, invoice).await?;
        let account = accounts::store::lock(&tx, seen.key).await?.ok_or(Error::Moved)?;
        let found = store::lock(&tx, account.key, uuid).await?;
        let mut invoice = found.ok_or_else(|| Error::NotFound(name(id, &uuid)))?;
        if let Some(payer) = &new.payer {
            rules::may_change_payer(&invoice, now)?;
            has_credit(&account, payer)?;
        }
        if let Some(method) = new.method {
            let last_act = documents::last_act(&tx, account.key.tenant).await?;
            rules::may_change_method(&invoice, method, last_act)?;
            invoice.method = method;
        }
        if let Some(payer) = &new.payer {
            invoice.payer_name.clone_from(&payer.name);
            invoice.payer_inn.clone_from(&payer.inn);
            invoice.payer_kpp.clone_from(&payer.kpp);
            let document = adspend_common::id::new_uuid(now);
            invoice.repayer = Some(Repayer { address: payer.address.clone(), document });
        }
        store::set_payer(&tx, account.key.tenant, &invoice).await?;
        events::record(&tx, now, &account, &Event::InvoiceUpdated(invoice.facts())).await?;
        Ok(requests::finish(tx, call, (invoice, now)).await?)
    })
    .await
}

/// Another payer must be where the account's own had to be, so the rate of VAT stays, too.
fn has_credit(account: &Account, payer: &LegalEntity) -> Result<(), Error> {
    let with = Account { legal_entity: Some(payer.clone()), ..account.clone() };
    match credit::rules::ineligible(&with) {
        why if why.is_empty() => Ok(()),
        why => Err(Error::Credit(credit::rules::Refusal::NotAvailable(why))),
    }
}
