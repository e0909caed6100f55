//! Documents of our legal entity for its payers (R-162..R-177, R-180..R-183): invoices, acts, VAT invoices,
//! reconciliation acts, as PDF.
//!
//! | file | what |
//! |---|---|
//! | `content.rs` | what a document says; this is what is stored |
//! | `rules.rs`, `month.rs`, `words.rs`, `qr.rs` | sums, days, amounts in words, the payment code: pure |
//! | `close.rs` | a month's end: act, VAT invoice, advance VAT invoices |
//! | `reconcile.rs` | reconciliation acts of closed months |
//! | `executor.rs` | our requisites |
//! | `pdf/` | pages |
//!
//! Invariants. A document is made once and never changes: triggers refuse it. Numbers of acts and of VAT invoices
//! have no gaps within our legal entity and a year, because they are counted in the transaction that uses them.
//! A month's act is about ranges of entries that follow each other without a gap; with what was carried they give
//! its sum.
//!
//! The content is stored with the number, the PDF beside it when somebody first asks for it: thirty milliseconds of
//! typesetting have no place inside the transaction that every other document of the year waits for. From then on
//! the stored bytes are the document; content and a hash alone would not do, for the next version of a font or of
//! the PDF library makes other bytes, and a document that was sent must never look different.
//!
//! An invoice's document has the invoice's id; when a deferred invoice gets another payer, a new document with
//! an id of its own joins the one that was made before. It is made when it is first listed or asked for, out of the
//! invoice as it was issued, so whoever issues invoices need not know of documents.
//!
//! Acts go to the owner of the tenant: what an agency's clients spend is the agency's. Without our requisites in
//! the configuration nothing is made, months wait, and whoever asks is told so. A payer without a legal entity gets
//! no documents.
//!
//! Deliberately not here: corrections of issued documents, the electronic exchange of documents, the mail.

pub(crate) mod close;
mod content;
pub(crate) mod executor;
mod month;
mod pdf;
mod qr;
pub(crate) mod reconcile;
mod rules;
mod store;
pub(crate) mod words;

use adspend_common::{
    db::{self, Pool},
    id::{AccountId, ResourceId},
    identity::Caller,
    money::{Balance, Currency, Money},
    time::Day,
};
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    accounts::{self, Account, LegalEntity},
    invoices::rules::vat_permille,
    ledger::TenantNo,
    requests, uuid_of,
};
use content::{Content, Head, Party, Sum};
use executor::Executor;
pub(crate) use month::Month;

/// Invoices whose documents one list makes, at most; the next list makes the next ones.
const INVOICES_AT_ONCE: i64 = 200;

/// The sort of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Invoice,
    Act,
    VatInvoice,
    AdvanceVatInvoice,
    Reconciliation,
}

/// What is counted by itself; VAT invoices of both sorts are one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Series {
    Acts,
    VatInvoices,
    Reconciliations,
}

/// A document as it is.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) id: Uuid,
    pub(crate) tenant: TenantNo,
    pub(crate) account: AccountId,
    pub(crate) serial: i64,
    pub(crate) kind: Kind,
    pub(crate) first_month: Month,
    pub(crate) month: Month,
    pub(crate) content: Content,
    pub(crate) created_at: DateTime<Utc>,
}

impl Document {
    /// `accounts/{account}/documents/{document}`.
    pub(crate) fn name(&self) -> String {
        name(&self.account, &self.id)
    }

    /// What people call it.
    pub(crate) fn title(&self) -> String {
        pdf::title(&self.content)
    }

    pub(crate) fn number(&self) -> &str {
        &self.content.head().number
    }

    pub(crate) fn day(&self) -> Day {
        self.content.head().day
    }

    /// By when the signed original is sent.
    pub(crate) fn mail_by(&self) -> Day {
        rules::mailed_by(self.day())
    }

    pub(crate) fn currency(&self) -> Currency {
        self.content.head().currency
    }

    /// The sum with the VAT in it; a reconciliation act has none.
    pub(crate) fn sums(&self) -> Option<(Money, Money)> {
        self.content.sum().map(|sum| (sum.gross, sum.vat))
    }
}

/// The name of a document of an account.
pub(crate) fn name(account: &AccountId, id: &Uuid) -> String {
    format!("{}/documents/{id}", account.name())
}

/// Entries of an account that a document is about, and what they add to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cited {
    pub(crate) account: AccountId,
    /// The first entry's number.
    pub(crate) first: i64,
    /// The last entry's number.
    pub(crate) last: i64,
    pub(crate) amount: Balance,
}

/// The ledger behind a document: entries, and what months before left for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    pub(crate) entries: Vec<Cited>,
    pub(crate) carried: Balance,
    /// The payment of an advance.
    pub(crate) payment: Option<Uuid>,
}

/// A PDF.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sha256: Vec<u8>,
}

/// Why an operation on documents did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such account or document, or not the caller's.
    #[error("{0} was not found")]
    NotFound(String),
    /// Our requisites are not configured.
    #[error("documents cannot be made: documents.executor is not configured")]
    NoExecutor,
    /// The account has no legal entity.
    #[error("the account has no legal entity to make documents for")]
    NoPayer,
    /// A client's documents are its agency's.
    #[error("documents of an agency's client are made for its agency")]
    ClientOfAgency,
    /// A month of the period is not closed.
    #[error("the months from {first} to {last} are not all closed")]
    NotClosed { first: Day, last: Day },
    /// The account was moved to another tenant between two looks; the next try sees it.
    #[error("the account has just moved")]
    Moved,
    /// A document could not be written.
    #[error(transparent)]
    Unwritten(#[from] pdf::Unwritten),
    /// The request is a repeat of another.
    #[error(transparent)]
    Request(#[from] requests::Error),
    /// The store failed.
    #[error("document storage failed")]
    Db(#[from] db::Error),
}

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Error::Db(cause) => cause.is_contention(),
            Error::Request(cause) => cause.is_contention(),
            Error::Moved => true,
            Error::NotFound(_)
            | Error::NoExecutor
            | Error::NoPayer
            | Error::ClientOfAgency
            | Error::NotClosed { .. }
            | Error::Unwritten(_) => false,
        }
    }
}

/// The payer as documents name it.
fn party(entity: &LegalEntity) -> Party {
    Party {
        name: entity.name.clone(),
        inn: entity.inn.clone(),
        kpp: entity.kpp.clone(),
        address: entity.address.clone(),
    }
}

/// A document to be stored.
struct New {
    id: Uuid,
    kind: Kind,
    months: (Month, Month),
    content: Content,
}

/// An invoice whose document is not made.
struct Issued {
    /// Of the document.
    id: Uuid,
    /// The payer is the account's own.
    is_own: bool,
    number: String,
    amount: Money,
    currency: Currency,
    /// Without an address when it is the account's own.
    payer: Party,
    pay_by: Day,
    created_at: DateTime<Utc>,
}

impl Issued {
    fn document(self, executor: &Executor, account: &Account) -> New {
        let day = Day::of(self.created_at);
        let entity = account.legal_entity.as_ref();
        let rate = entity.map_or(0, |entity| vat_permille(&entity.country, day));
        let address = match self.is_own {
            true => entity.map(|entity| entity.address.clone()).unwrap_or_default(),
            false => self.payer.address.clone(),
        };
        let head = Head {
            number: self.number,
            day,
            currency: self.currency,
            executor: executor.clone(),
            customer: Party { address, ..self.payer },
        };
        let sum = Sum::at(self.amount, rate);
        let content = Content::Invoice { head, sum, pay_by: self.pay_by };
        let month = Month::of(day);
        New { id: self.id, kind: Kind::Invoice, months: (month, month), content }
    }
}

/// Makes the documents of invoices that have none: of one, or of the account's oldest.
async fn make_invoices(
    client: &mut db::Client,
    now: DateTime<Utc>,
    executor: &Executor,
    account: &Account,
    only: Option<Uuid>,
) -> Result<(), Error> {
    let issued = store::without_document(client, account.key, only, INVOICES_AT_ONCE).await?;
    if issued.is_empty() {
        return Ok(());
    }
    let tx = client.transaction().await?;
    for invoice in issued {
        let new = invoice.document(executor, account);
        store::insert(&tx, account.key, &new, now).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// The last month of a tenant that an act was made for. Lock the owner's account: months are closed under it.
pub(crate) async fn last_act(
    tx: &db::Tx<'_>,
    tenant: TenantNo,
) -> Result<Option<Month>, db::Error> {
    store::last_act(tx, tenant).await
}

async fn visible(
    from: &impl accounts::store::Reader,
    caller: &Caller,
    id: &AccountId,
    absent: impl FnOnce() -> String,
) -> Result<Account, Error> {
    accounts::visible(from, caller, id).await?.ok_or_else(|| Error::NotFound(absent()))
}

/// One document.
pub(crate) async fn get(
    pool: &Pool,
    now: DateTime<Utc>,
    executor: Option<&Executor>,
    caller: &Caller,
    (account, id): (&AccountId, &ResourceId),
) -> Result<Document, Error> {
    let mut client = pool.get().await?;
    let absent = || format!("{}/documents/{id}", account.name());
    let account = visible(&client, caller, account, absent).await?;
    let uuid = uuid_of(id).ok_or_else(|| Error::NotFound(absent()))?;
    if let Some(found) = store::find(&client, account.key, uuid).await? {
        return Ok(found);
    }
    if store::without_document(&client, account.key, Some(uuid), 1).await?.is_empty() {
        return Err(Error::NotFound(absent()));
    }
    let executor = executor.ok_or(Error::NoExecutor)?;
    make_invoices(&mut client, now, executor, &account, Some(uuid)).await?;
    let found = store::find(&client, account.key, uuid).await?;
    found.ok_or_else(|| Error::NotFound(absent()))
}

/// What the ledger says behind a document.
pub(crate) async fn sources(pool: &Pool, document: &Document) -> Result<Sources, Error> {
    let client = pool.get().await?;
    let Document { tenant, id, first_month, month, .. } = document;
    Ok(match document.kind {
        Kind::Invoice => Sources::default(),
        Kind::AdvanceVatInvoice => store::advance_source(&client, *tenant, *id).await?,
        Kind::Act | Kind::VatInvoice | Kind::Reconciliation => Sources {
            entries: store::cited(&client, *tenant, (*first_month, *month)).await?,
            carried: store::carried(&client, *tenant, *first_month).await?,
            payment: None,
        },
    })
}

/// The pages of a document: those that were stored, or new ones that are from now on.
pub(crate) async fn file(
    pool: &Pool,
    now: DateTime<Utc>,
    document: &Document,
) -> Result<File, Error> {
    let key = (document.tenant, document.id);
    let client = pool.get().await?;
    let kept = store::file(&client, key).await?;
    // Other calls need the connection more than a page being set.
    drop(client);
    if let Some(file) = kept {
        return Ok(file);
    }
    let content = document.content.clone();
    // Typesetting takes a while of one core; other calls go on beside it.
    let bytes = tokio::task::spawn_blocking(move || pdf::render(&content)).await;
    let bytes = bytes.map_err(|ended| db::Error::other(format!("typesetting: {ended}")))??;
    let sha256 = Sha256::digest(&bytes).to_vec();
    let client = pool.get().await?;
    store::keep_file(&client, key, &File { bytes, sha256 }, now).await?;
    // Another caller may have been first; there is one file.
    let kept = store::file(&client, key).await?;
    kept.ok_or_else(|| db::Error::other("a stored file is gone").into())
}

/// Which documents a list shows.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) account: AccountId,
    /// All when empty.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) month: Option<Month>,
    /// Before the document with this serial; none for the first page.
    pub(crate) before: Option<i64>,
    pub(crate) limit: u32,
}

/// Documents, newest first.
pub(crate) async fn list(
    pool: &Pool,
    now: DateTime<Utc>,
    executor: Option<&Executor>,
    caller: &Caller,
    listed: &Listed,
) -> Result<Vec<Document>, Error> {
    let mut client = pool.get().await?;
    let account = visible(&client, caller, &listed.account, || listed.account.name()).await?;
    // Only before the first page: later ones must not change under the reader.
    if let (None, Some(executor)) = (listed.before, executor) {
        make_invoices(&mut client, now, executor, &account, None).await?;
    }
    Ok(store::list(&client, account.key, listed).await?)
}
