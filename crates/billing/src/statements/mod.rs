//! Bank statements (R-42, R-43, R-187..R-190): a file of the bank becomes payments, line by line.
//!
//! A file is spooled to disk and read twice. The first time it is only checked: form, sums, that it is of our
//! accounts. What is wrong is refused with its place, and nothing has changed. The second time its lines are
//! booked in order, [`settings::Statements::lines_per_transaction`] in one transaction, by the code that books
//! a payment that a person records. So memory holds two such portions, however long the file is.
//!
//! | a line is | when |
//! |---|---|
//! | credited | it pays the invoice that it names (R-42) |
//! | unallocated | it came in and pays none: free funds, with the reason (R-43) |
//! | duplicate | its natural key is known: own account, number, day, sum, payer's account (R-189) |
//! | ignored | it left, is between accounts of ours or of others, or is not booked |
//!
//! Repeats. The key is claimed first in the transaction that books the line, and the posting's id is made of
//! it, so a line is booked once whatever files it comes in. Each transaction also writes what became of its
//! lines and how far the file is: the same request goes on where it was interrupted and answers what was done
//! before as it did the first time; another request with the same file answers duplicates and does the rest.
//!
//! Lock order: the statement, then keys in their order, then what `payments` locks.
//!
//! Beside `rules.rs` and `store.rs`: `reading/`, the formats; `spool.rs`, the file; `settings.rs`.

pub(crate) mod reading;
pub(crate) mod rules;
pub(crate) mod settings;
pub(crate) mod spool;
mod store;

use std::{collections::HashMap, fs::File, sync::Arc};

use adspend_common::{
    db::{self, Pool},
    id::AccountId,
    money::{Balance, Money},
    server::Stop,
    time::Clock,
};
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    invoices::Method,
    ledger::{Actor, TenantNo, posting_id},
    payments::{self, Arrival, Once, PaymentState, Unmatched},
    requests::{self, Begun, Call, Outcome as Requested},
};
use reading::{Entry, Format, Item, Section, Statement, Way, Wrong};
use rules::{Ignored, NaturalKey};
use settings::Statements;

/// What postings of lines are named after.
const METHOD: &str = "statements.line";

/// Lines in one transaction, at most: each is a posting.
const MOST_AT_ONCE: u16 = 2_000;

/// Portions that are read ahead of the one that is being booked.
const AHEAD: usize = 1;

/// `statements/{statement}`.
pub(crate) fn name(id: &Uuid) -> String {
    format!("statements/{id}")
}

/// Why a statement is not imported, or not further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file is not what it should be.
    #[error(transparent)]
    Wrong(#[from] Wrong),
    /// The file is not ours to import.
    #[error(transparent)]
    Refused(#[from] rules::Refusal),
    /// The service stops; the same request goes on elsewhere.
    #[error("the service is stopping; the same request goes on where this one ended")]
    Stopping,
    /// A payment could not be booked.
    #[error(transparent)]
    Payments(#[from] payments::Error),
    /// The request is a repeat of another.
    #[error(transparent)]
    Request(#[from] requests::Error),
    /// The store failed.
    #[error("statement storage failed")]
    Db(#[from] db::Error),
}

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Error::Db(cause) => cause.is_contention(),
            Error::Request(cause) => cause.is_contention(),
            Error::Payments(cause) => cause.is_contention(),
            Error::Wrong(_) | Error::Refused(_) | Error::Stopping => false,
        }
    }
}

/// A file that is sound, and what it says of its accounts.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) format: Format,
    pub(crate) lines: i32,
    pub(crate) accounts: Vec<Figures>,
}

/// An account of the file.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) account: String,
    pub(crate) opening: Option<Balance>,
    pub(crate) received: Money,
    pub(crate) written_off: Money,
    pub(crate) closing: Option<Balance>,
}

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Credited { payment: Uuid, account: AccountId },
    Unallocated { payment: Uuid, reason: Unmatched },
    Duplicate { payment: Uuid },
    Ignored(Ignored),
}

impl Outcome {
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self {
            Outcome::Unallocated { reason, .. } => Some(reason.name()),
            Outcome::Ignored(why) => Some(why.name()),
            Outcome::Credited { .. } | Outcome::Duplicate { .. } => None,
        }
    }

    pub(crate) fn payment(&self) -> Option<Uuid> {
        match self {
            Outcome::Credited { payment, .. }
            | Outcome::Unallocated { payment, .. }
            | Outcome::Duplicate { payment } => Some(*payment),
            Outcome::Ignored(_) => None,
        }
    }
}

/// A line, by its place among the lines of the file, and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) position: i32,
    pub(crate) outcome: Outcome,
}

/// Lines that were done together, in the order of the file.
#[derive(Debug)]
pub(crate) struct Portion {
    pub(crate) lines: Vec<(Entry, Report)>,
    /// They had been done by an earlier call with the same request id.
    pub(crate) replayed: bool,
}

/// What an accepted import is known by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    pub(crate) id: Uuid,
}

/// Reads a whole file and changes nothing: it is sound, adds up, and is of our accounts.
pub(crate) async fn check(file: File, settings: Arc<Statements>) -> Result<(File, Checked), Error> {
    spool::blocking(move || {
        let mut statement = Statement::open(&file)?;
        let format = statement.format();
        let mut checked = Checked { format, lines: 0, accounts: Vec::new() };
        while let Some(item) = statement.next()? {
            match item {
                Item::Account(section) => {
                    rules::check_section(&section, &settings)?;
                    checked.add_account(&section);
                }
                Item::Entry(entry) => {
                    rules::check_entry(&entry, &settings)?;
                    checked.add_entry(&entry)?;
                }
            }
        }
        Ok((file, checked))
    })
    .await
}

impl Checked {
    /// A bank may give an account once for each day.
    fn add_account(&mut self, section: &Section) {
        let known = self.accounts.iter_mut().find(|known| known.account == section.account);
        match known {
            Some(known) => known.closing = section.closing,
            None => self.accounts.push(Figures {
                account: section.account.clone(),
                opening: section.opening,
                received: Money::ZERO,
                written_off: Money::ZERO,
                closing: section.closing,
            }),
        }
    }

    fn add_entry(&mut self, entry: &Entry) -> Result<(), Wrong> {
        let too_many = || Wrong::Malformed { at: entry.at, what: "too many lines".to_owned() };
        self.lines = self.lines.checked_add(1).ok_or_else(too_many)?;
        let Some(account) = self.accounts.iter_mut().find(|of| of.account == entry.account) else {
            return Ok(());
        };
        let sum = match entry.way {
            Way::In => &mut account.received,
            Way::Out => &mut account.written_off,
            Way::Elsewhere | Way::NotBooked => return Ok(()),
        };
        *sum = sum.checked_add(entry.amount).ok_or_else(too_many)?;
        Ok(())
    }
}

/// Takes on a sound file, or finds that the request has been here before.
pub(crate) async fn accept(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Accepted>,
    checked: &Checked,
) -> Result<Requested<Accepted>, Error> {
    db::retry("statements.accept", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Requested::Replayed(answer)),
        };
        let accepted = Accepted { id: adspend_common::id::new_uuid(now) };
        store::insert(&tx, accepted.id, checked, now).await?;
        Ok(requests::finish(tx, call, accepted).await?)
    })
    .await
}

/// What importing works with.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    pub(crate) id: Uuid,
    pub(crate) actor: Actor,
    pub(crate) pool: Pool,
    pub(crate) clock: Clock,
    pub(crate) settings: Arc<Statements>,
    pub(crate) stop: Stop,
}

impl Import {
    /// Books the lines of an accepted file in order, and tells of each portion. Nobody needs to listen.
    pub(crate) async fn run(self, file: File, tell: mpsc::Sender<Portion>) -> Result<(), Error> {
        let (send, portions) = mpsc::channel(AHEAD);
        let size = usize::from(self.settings.lines_per_transaction.clamp(1, MOST_AT_ONCE));
        let read = spool::blocking(move || read_portions(&file, size, &send));
        let (read, booked) = tokio::join!(read, self.book_all(portions, tell));
        booked?;
        Ok(read?)
    }

    /// When it fails, its end of the channel is gone, and reading ends too.
    async fn book_all(
        &self,
        mut portions: mpsc::Receiver<(i32, Vec<Entry>)>,
        tell: mpsc::Sender<Portion>,
    ) -> Result<(), Error> {
        while let Some((first, entries)) = portions.recv().await {
            if self.stop.stopping().is_cancelled() {
                return Err(Error::Stopping);
            }
            let booked = db::retry("statements.portion", requests::TRIES, || {
                self.portion(first, &entries, self.clock.now())
            });
            let (reports, replayed) = booked.await?;
            let lines = entries.into_iter().zip(reports).collect();
            // Who does not listen any more will ask again; who listens slowly is waited for.
            let _ = tell.send(Portion { lines, replayed }).await;
        }
        Ok(())
    }

    /// One transaction: the outcomes of lines that are done already, or those that they get now.
    async fn portion(
        &self,
        first: i32,
        entries: &[Entry],
        now: DateTime<Utc>,
    ) -> Result<(Vec<Report>, bool), Error> {
        let last = first.saturating_add(i32::try_from(entries.len()).unwrap_or(i32::MAX)) - 1;
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let done = store::lock(&tx, self.id).await?;
        // Portions may have had another size when the file was interrupted.
        let mut reports = match done >= first {
            true => store::lines(&tx, self.id, (first, done.min(last))).await?,
            false => Vec::new(),
        };
        let rest = entries.get(reports.len()..).unwrap_or_default();
        if rest.is_empty() {
            tx.commit().await?;
            return Ok((reports, true));
        }
        let begin = done.max(first - 1).saturating_add(1);
        let new = self.book(&tx, begin, rest, now).await?;
        store::done(&tx, self.id, &new, last).await?;
        tx.commit().await?;
        reports.extend(new);
        Ok((reports, false))
    }

    /// Claims the lines that are payments and books those that are new.
    async fn book(
        &self,
        tx: &db::Tx<'_>,
        begin: i32,
        entries: &[Entry],
        now: DateTime<Utc>,
    ) -> Result<Vec<Report>, Error> {
        let mut offered: Vec<(NaturalKey, Uuid)> = entries
            .iter()
            .filter(|entry| rules::ignored(entry, &self.settings).is_none())
            .map(|entry| (NaturalKey::of(entry), adspend_common::id::new_uuid(now)))
            .collect();
        offered.sort_unstable();
        offered.dedup_by(|one, other| one.0 == other.0);
        let known = match offered.is_empty() {
            true => HashMap::new(),
            false => store::claim(tx, &offered).await?,
        };
        let mut new: HashMap<&NaturalKey, Uuid> = HashMap::new();
        for (key, id) in &offered {
            if known.get(key) == Some(id) {
                new.insert(key, *id);
            }
        }
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut arrivals = Vec::with_capacity(new.len());
        for entry in entries {
            let outcome = match rules::ignored(entry, &self.settings) {
                Some(why) => Some(Outcome::Ignored(why)),
                None => {
                    let key = NaturalKey::of(entry);
                    // The first of its key in this portion is the payment, a second is a duplicate.
                    match (new.remove(&key), known.get(&key)) {
                        (Some(id), _) => {
                            arrivals.push(self.arrival(id, &key, entry));
                            None
                        }
                        (None, Some(payment)) => Some(Outcome::Duplicate { payment: *payment }),
                        (None, None) => {
                            return Err(db::Error::other("a claimed line has no payment").into());
                        }
                    }
                }
            };
            outcomes.push(outcome);
        }
        let mut booked = match arrivals.is_empty() {
            true => Vec::new(),
            false => payments::book(tx, now, arrivals, Some(&self.actor)).await?,
        }
        .into_iter();
        let report = |(outcome, position): (Option<Outcome>, i32)| {
            let outcome = outcome.or_else(|| outcome_of(&booked.next()?));
            let outcome = outcome.ok_or_else(|| db::Error::other("a line has no outcome"))?;
            Ok(Report { position, outcome })
        };
        outcomes.into_iter().zip(begin..).map(report).collect()
    }

    fn arrival(&self, id: Uuid, key: &NaturalKey, entry: &Entry) -> Arrival {
        let posting = posting_id(TenantNo::PLATFORM, METHOD, &key.text());
        let once = Once { posting, hash: key.hash() };
        let sent = rules::payment(entry, &self.settings);
        Arrival { id, once, sent, method: Method::BankTransfer }
    }
}

fn outcome_of(payment: &payments::Payment) -> Option<Outcome> {
    match payment.state {
        PaymentState::Credited | PaymentState::Allocated | PaymentState::Refunded => {
            let account = payment.account.clone()?;
            Some(Outcome::Credited { payment: payment.id, account })
        }
        PaymentState::Unallocated => {
            Some(Outcome::Unallocated { payment: payment.id, reason: payment.reason? })
        }
    }
}

/// Reads the entries again, in portions with the position of their first, until nobody takes them.
fn read_portions(
    file: &File,
    size: usize,
    send: &mpsc::Sender<(i32, Vec<Entry>)>,
) -> Result<(), Wrong> {
    let mut statement = Statement::open(file)?;
    let mut first: i32 = 1;
    let mut portion = Vec::with_capacity(size);
    loop {
        let item = statement.next()?;
        let ended = item.is_none();
        if let Some(Item::Entry(entry)) = item {
            portion.push(entry);
        }
        if portion.len() >= size || (ended && !portion.is_empty()) {
            let next = i32::try_from(portion.len()).unwrap_or(i32::MAX).saturating_add(first);
            let full = std::mem::replace(&mut portion, Vec::with_capacity(size));
            if send.blocking_send((first, full)).is_err() {
                return Ok(());
            }
            first = next;
        }
        if ended {
            return Ok(());
        }
    }
}
