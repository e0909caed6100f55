//! E-mail to owners of money (G9): exactly the notices of.
//!
//! [`queue`] makes a notice in the transaction of what it tells, once for each (tenant, kind, subject key):
//! a second one with the same key is not made, whoever asks and however often. The content is kept as
//! values; the words are those of the version that sends it. Without `mail.host` notices wait; those that
//! were not sent within `mail.give_up_after` are given up, whatever the reason.
//!
//! Beside `rules.rs` and `store.rs`: `balances.rs` with its own store finds low balances, `letter.rs` has the
//! words, `mailer.rs` speaks SMTP, `deliver.rs` claims, sends, and tries again.

mod balances;
mod deliver;
mod letter;
mod mailer;
mod rules;
mod store;
mod store_balances;
#[cfg(test)]
mod tests;

use adspend_common::{
    db::{self, Tx},
    id::AccountId,
    money::{Balance, Currency, Money},
    time::Day,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::ledger::AccountKey;

pub(crate) use balances::warn;
pub(crate) use deliver::Delivery;
pub(crate) use mailer::{Error as MailError, Mailer};

/// A notice to be made.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    /// Who is told: the account's address, or that of its agency when it has none.
    pub(crate) to: AccountKey,
    /// What it tells of, within its kind: a promise's id, a setting with its revision, a day.
    pub(crate) subject_key: String,
    pub(crate) content: Content,
}

/// What a notice says. Names of variants and fields are in the database and never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub(crate) enum Content {
    /// What is left covers three days of spend or less.
    BalanceLow { balance: Balance, daily: Money, currency: Currency },
    ///
    PromiseTaken(Promised),
    /// 24 hours before it is due.
    PromiseDueSoon(Promised),
    ///
    PromiseOverdue(Promised),
    ///
    PromiseRepaid(Promised),
    /// To the agency: it has less than a top-up of its client takes, so they went off.
    AutoTopUpOff { client: AccountId, client_name: String, amount: Money, currency: Currency },
    ///
    AutopayOff { cause: AutopayCause, amount: Money, currency: Currency, card: String },
}

/// Of a promised payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Promised {
    pub(crate) amount: Money,
    pub(crate) outstanding: Money,
    pub(crate) currency: Currency,
    pub(crate) due: Day,
}

/// Why autopayment went off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AutopayCause {
    LimitExceeded,
    AuthorizationError,
    Declined,
}

impl Content {
    /// The number that the database keeps.
    const fn kind(&self) -> i16 {
        match self {
            Content::BalanceLow { .. } => 1,
            Content::PromiseTaken(_) => 2,
            Content::PromiseDueSoon(_) => 3,
            Content::PromiseOverdue(_) => 4,
            Content::PromiseRepaid(_) => 5,
            Content::AutoTopUpOff { .. } => 6,
            Content::AutopayOff { .. } => 7,
        }
    }
}

/// Makes a notice in the transaction of what it tells; false when it was made before.
pub(crate) async fn queue(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    notice: &Notice,
) -> Result<bool, db::Error> {
    store::insert(tx, adspend_common::id::new_uuid(now), now, notice).await
}
