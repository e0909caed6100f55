//! Money that arrives by card: credited at once, because whose it is was known before it was asked for.

use adspend_common::{db::Tx, money::Money};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    Error, NewPayment, Once, Payer, Payment, PaymentState,
    booking::{self, Booked, Funds},
    store,
};
use crate::{accounts::Account, events, invoices::Terms, ledger::Locked, promised_payments::Debts};

/// A card payment to be credited.
#[derive(Debug)]
pub(crate) struct CardPayment {
    pub(crate) once: Once,
    pub(crate) amount: Money,
    pub(crate) purpose: String,
    /// The provider's id of it.
    pub(crate) document_number: String,
}

/// Credits a card payment to a locked account; overdue promises are repaid out of it in the same posting
/// . Gives the id of the payment. The caller writes what is locked.
pub(crate) async fn credit(
    tx: &Tx<'_>,
    locked: &mut Locked,
    account: &Account,
    new: CardPayment,
    now: DateTime<Utc>,
) -> Result<Uuid, Error> {
    let CardPayment { once, amount, purpose, document_number } = new;
    let entity = account.legal_entity.as_ref();
    let mut payment = Payment {
        id: adspend_common::id::new_uuid(now),
        tenant: account.key.tenant,
        serial: store::next_serials(tx, 1).await?.pop().unwrap_or_default(),
        sent: NewPayment {
            amount,
            currency: account.currency,
            payer: Payer {
                name: entity.map_or_else(|| account.display_name.clone(), |e| e.name.clone()),
                inn: entity.map(|entity| entity.inn.clone()).unwrap_or_default(),
                kpp: entity.map(|entity| entity.kpp.clone()).unwrap_or_default(),
                bik: String::new(),
                bank_account: String::new(),
            },
            purpose,
            document_number,
            document_day: None,
        },
        state: PaymentState::Credited,
        reason: None,
        account: None,
        invoice: None,
        collected: Money::ZERO,
        refunded: Money::ZERO,
        created_at: now,
        credited_at: None,
    };
    let mut debts = Debts::of(tx, &[account.key], now).await?;
    booking::credit(
        (locked, &mut debts),
        once,
        (&mut payment, account),
        (Funds::Card, Terms::Prepaid),
    )?;
    debts.write(tx).await?;
    let (subject, event) = payment.event();
    events::record(tx, now, subject, &event).await?;
    let id = payment.id;
    let booked = Booked { payment, account: Some(account.key.account), traced: None };
    store::insert(tx, &[booked]).await?;
    Ok(id)
}
