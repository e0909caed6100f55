//! The money: the only module that writes entries and balances.
//!
//! A [`Posting`] is made of [`Leg`]s, each from one ledger account to another with one amount, so it
//! cannot be unbalanced (I-1). Per owner there are three ledger accounts, `main`, `held` and `frozen`,
//! kept in one balance row; the counter-accounts of a tenant have no row to fight for, their balance is
//! the sum of their legs.
//!
//! | phase | statement | cost | bound |
//! |---|---|---|---|
//! | lock | BEGIN and one `SELECT … ORDER BY account_id FOR NO KEY UPDATE` | 1 round trip | [`MAX_POSTINGS`] |
//! | expire | holds of the locked accounts whose time is over | 0, or 1 round trip when there are any | |
//! | credit | a month that has ended, an invoice that fell due, a lien that ends | 0 but at those moments | |
//! | fold | none: [`rules::Fold`], a verdict per item, groups stand or fall together | memory only | |
//! | write | one fused insert of legs and update of balances, by arrays | with the commit | |
//! | mark | auto top-ups whose client's money is at its threshold now | 0, or 1 round trip when there are any | |
//! | commit | one flush for all items | 1 round trip | |
//!
//! Lock doctrine. Balance rows are locked before anything that a decision depends on is read, all of
//! them by one statement in the order of the account number, which is unique over tenants; so two
//! transactions cannot wait for each other. What is read afterwards is read by a later statement, whose
//! snapshot is younger than the locks. `FOR NO KEY UPDATE`, because foreign keys do not fight it.
//!
//! Two ways in. A feature that changes rows of its own takes [`lock`] and [`write()`] inside its own
//! transaction. Callers that only move money (transfers) go through [`batch::Poster`], which gathers
//! concurrent callers into one transaction. A posting never crosses tenants. A transaction of the
//! poster may carry postings of several tenants: on one PostgreSQL that is what makes ten thousand small
//! callers cost one flush; on a distributed one, poster shards follow the tenant.
//!
//! Not here: what an account may do (features decide), and when a hold expires a notice (jobs).

use adspend_common::{
    db,
    money::{Balance, Money},
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub mod audit;
pub mod batch;
pub(crate) mod journal;
pub mod rules;
mod store;
#[cfg(test)]
mod tests;

pub use journal::Actor;
pub use rules::{CreditLine, Refusal, Row};
pub(crate) use store::journaled;
pub use store::{
    Figures, Found, Locked, as_of, entry_at, find, lock, open_balance, replay, set_state,
    set_top_up_at, write,
};

/// Postings in one transaction, at most: bounds the locks, the memory and the time of one flush.
pub const MAX_POSTINGS: usize = 2_000;

/// The number of a tenant: the account number of its owner. [`TenantNo::PLATFORM`] owns what nobody else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantNo(pub i64);

impl TenantNo {
    /// Keeps payments whose payer nobody knows.
    pub const PLATFORM: TenantNo = TenantNo(0);
}

/// The number of an account, unique over all tenants. Number 0 means "the tenant itself".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountNo(pub i64);

/// An account in its tenant: the key of its balance row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountKey {
    /// Whose.
    pub tenant: TenantNo,
    /// Which.
    pub account: AccountNo,
}

/// One side of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Free money of an account.
    Main(AccountNo),
    /// Money of an account that is set aside in holds.
    Held(AccountNo),
    /// Money of an account under a lien.
    Frozen(AccountNo),
    /// A counter-account of the tenant.
    Counter(Counter),
}

/// The counter-accounts of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Money that arrived through the bank.
    Bank,
    /// Money that arrived by card.
    Card,
    /// Payments that wait to be assigned.
    Unallocated,
    /// Promised payments.
    Promised,
    /// Deferred invoices.
    Deferred,
    /// Spend on ads.
    Revenue,
    /// Money that was paid back.
    Refund,
    /// Balances that move with an account between tenants.
    Adjustment,
}

macro_rules! stored_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),* }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The number that the database keeps.
            pub const fn number(self) -> i16 {
                match self { $($name::$variant => $number),* }
            }

            /// Back from the number; none for a number of a newer version.
            pub const fn from_number(number: i16) -> Option<$name> {
                match number { $($number => Some($name::$variant),)* _ => None }
            }
        }
    };
}

stored_enum! {
    /// Why money moved. What the transaction list shows is made of it.
    Kind {
        /// Between an agency and its client.
        Transfer = 1,
        /// A matched payment: bank → main.
        Deposit = 2,
        /// A payment that matched nothing: bank → unallocated.
        UnallocatedIn = 3,
        /// Free funds assigned: unallocated → main.
        Allocation = 4,
        /// Free funds that left for another tenant: unallocated → bank.
        UnallocatedOut = 5,
        /// A promise taken: promised → main.
        PromiseTaken = 6,
        /// A promise repaid by the agency: main → promised.
        PromiseRepaid = 7,
        /// An overdue promise repaid out of a payment: main → promised.
        PromiseCollected = 8,
        /// A hold opened: main → held.
        HoldOpened = 9,
        /// Spend out of a hold: held → revenue.
        HoldSettled = 10,
        /// The rest of a hold given back: held → main.
        HoldReleased = 11,
        /// The rest of a hold whose time is over: held → main.
        HoldExpired = 12,
        /// Spend without cover: main → revenue.
        LateCharge = 13,
        /// A balance that leaves with its account: main → adjustment, or the other way when negative.
        MovedOut = 14,
        /// A balance that arrives with its account: adjustment → main, or the other way when negative.
        MovedIn = 15,
        /// Money of a payment paid back: main → refund.
        Refund = 40,
        /// The price of invalid clicks given back: revenue → main.
        ClickCredit = 41,
        /// The reverse of a leg of an earlier posting.
        Reversal = 42,
        /// An agency's auto top-up of its client.
        AutoTopUp = 16,
        /// A deferred invoice issued: deferred → main.
        DeferredIssued = 20,
        /// A deferred invoice paid: bank, card or unallocated → deferred.
        DeferredPaid = 21,
        /// Unspent money while a deferred invoice is overdue: main → frozen.
        LienTaken = 22,
        /// The same money back: frozen → main.
        LienReturned = 23,
        /// A deferred invoice repaid from the balance: frozen or main → deferred.
        DeferredRepaid = 24,
        /// A payment by card: card → main.
        CardDeposit = 43,
    }
}

stored_enum! {
    /// The ledger account within an owner or tenant, as the database keeps it.
    Bucket {
        /// Free money.
        Main = 1,
        /// In holds.
        Held = 2,
        /// Under a lien.
        Frozen = 3,
        /// [`Counter::Bank`].
        Bank = 10,
        /// [`Counter::Card`].
        Card = 11,
        /// [`Counter::Unallocated`].
        Unallocated = 12,
        /// [`Counter::Promised`].
        Promised = 13,
        /// [`Counter::Deferred`].
        Deferred = 14,
        /// [`Counter::Revenue`].
        Revenue = 15,
        /// [`Counter::Refund`].
        Refund = 16,
        /// [`Counter::Adjustment`].
        Adjustment = 17,
    }
}

stored_enum! {
    /// Whether money of a balance row may move.
    State {
        /// Everything may.
        Active = 1,
        /// Only what really happened is booked: charges, releases, payments.
        Blocked = 2,
        /// Nothing may.
        Closed = 3,
        /// The account lives in another tenant now.
        Moved = 4,
    }
}

impl Kind {
    /// A voluntary debit must be covered by what is available (I-3), and an account that is not active
    /// refuses it.
    pub(crate) const fn is_voluntary(self) -> bool {
        match self {
            Kind::Transfer
            | Kind::PromiseTaken
            | Kind::PromiseRepaid
            | Kind::HoldOpened
            | Kind::Refund
            | Kind::Reversal
            | Kind::DeferredRepaid
            | Kind::AutoTopUp => true,
            Kind::Deposit
            | Kind::UnallocatedIn
            | Kind::Allocation
            | Kind::UnallocatedOut
            | Kind::PromiseCollected
            | Kind::HoldSettled
            | Kind::HoldReleased
            | Kind::HoldExpired
            | Kind::LateCharge
            | Kind::MovedOut
            | Kind::MovedIn
            | Kind::ClickCredit
            | Kind::CardDeposit
            | Kind::DeferredIssued
            | Kind::DeferredPaid
            | Kind::LienTaken
            | Kind::LienReturned => false,
        }
    }
}

impl Kind {
    /// Takes money out of the account for good, other than for ads: not with what may only be spent.
    pub(crate) const fn is_withdrawal(self) -> bool {
        match self {
            Kind::Transfer | Kind::AutoTopUp | Kind::Refund => true,
            Kind::PromiseTaken
            | Kind::PromiseRepaid
            | Kind::HoldOpened
            | Kind::Reversal
            | Kind::Deposit
            | Kind::UnallocatedIn
            | Kind::Allocation
            | Kind::UnallocatedOut
            | Kind::PromiseCollected
            | Kind::HoldSettled
            | Kind::HoldReleased
            | Kind::HoldExpired
            | Kind::LateCharge
            | Kind::MovedOut
            | Kind::MovedIn
            | Kind::ClickCredit
            | Kind::CardDeposit
            | Kind::DeferredIssued
            | Kind::DeferredPaid
            | Kind::DeferredRepaid
            | Kind::LienTaken
            | Kind::LienReturned => false,
        }
    }
}

impl Place {
    /// The account number and bucket as the database keeps them.
    pub const fn parts(self) -> (AccountNo, Bucket) {
        match self {
            Place::Main(account) => (account, Bucket::Main),
            Place::Held(account) => (account, Bucket::Held),
            Place::Frozen(account) => (account, Bucket::Frozen),
            Place::Counter(counter) => (
                AccountNo(0),
                match counter {
                    Counter::Bank => Bucket::Bank,
                    Counter::Card => Bucket::Card,
                    Counter::Unallocated => Bucket::Unallocated,
                    Counter::Promised => Bucket::Promised,
                    Counter::Deferred => Bucket::Deferred,
                    Counter::Revenue => Bucket::Revenue,
                    Counter::Refund => Bucket::Refund,
                    Counter::Adjustment => Bucket::Adjustment,
                },
            ),
        }
    }
}

/// One movement of money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// Why.
    pub kind: Kind,
    /// Where the money comes from.
    pub from: Place,
    /// Where it goes.
    pub to: Place,
    /// How much; positive.
    pub amount: Money,
    /// What it belongs to, as a resource name: a payment, a promise, a campaign.
    pub object: Option<Box<str>>,
}

/// Legs that are booked together or not at all, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// Says which request this is; a second posting with the same id is the same request.
    pub id: Uuid,
    /// Whose money.
    pub tenant: TenantNo,
    /// At least one, at most [`MAX_LEGS`].
    pub legs: Vec<Leg>,
    /// Says what the request asked for: a repeat with another hash is refused.
    pub payload_hash: i64,
}

/// Legs in one posting, at most.
pub const MAX_LEGS: usize = 64;

/// The id of the posting that a request makes: the same for the same tenant, method and request id, and
/// for nothing else (a truncated BLAKE3 in a version 8 UUID, RFC 9562).
pub fn posting_id(tenant: TenantNo, method: &str, request_id: &str) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&tenant.0.to_be_bytes());
    hasher.update(&[0]);
    hasher.update(method.as_bytes());
    hasher.update(&[0]);
    hasher.update(request_id.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The hash of what a request asked for, from its canonical parts.
pub fn payload_hash(parts: &[&[u8]]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    i64::from_be_bytes(bytes)
}

/// What a leg did, as it stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostedLeg {
    /// The leg.
    pub leg: Leg,
    /// The version of the source account after it; 0 for a counter-account.
    pub from_version: i64,
    /// The version of the destination account after it; 0 for a counter-account.
    pub to_version: i64,
    /// The balance of the source bucket right after; none for a counter-account.
    pub from_balance: Option<Balance>,
    /// The balance of the destination bucket right after; none for a counter-account.
    pub to_balance: Option<Balance>,
    /// All money of the source account right after; none for a counter-account.
    pub from_posted: Option<Balance>,
    /// All money of the destination account right after; none for a counter-account.
    pub to_posted: Option<Balance>,
}

/// A posting that is booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Its id.
    pub id: Uuid,
    /// When it was booked.
    pub at: DateTime<Utc>,
    /// Its legs in order.
    pub legs: Vec<PostedLeg>,
    /// It had been booked before; this is the first answer again.
    pub replayed: bool,
}

/// Why a posting was not booked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rule says no; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The engine has as much waiting as it may; nothing was tried.
    #[error("the posting queue is full")]
    Overloaded,
    /// The engine is stopping; nothing was tried.
    #[error("the posting engine is stopping")]
    Stopping,
    /// The store failed.
    #[error("ledger storage failed")]
    Db(#[from] db::Error),
}

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Error::Db(cause) => cause.is_contention(),
            Error::Refused(_) | Error::Overloaded | Error::Stopping => false,
        }
    }
}
