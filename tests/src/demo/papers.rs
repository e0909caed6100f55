//! The documents of the month that has ended, downloaded to `documents/`, each held against the ledger
//! (R-162..R-171): an act is the sum of the entries that it cites.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use adspend_common::{
    proto::{
        adspend::billing::v1::{Document, DocumentSource, DocumentType, GetDocumentResponse},
        google::r#type::Date,
    },
    time::Day,
};
use chrono::Datelike as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{
    checks::{charges, micros},
    funds, mailbox,
    office::Office,
    scenario::{ACCOUNTS, AGENCY, CREDITED, MONO, SMALL_AGENCY},
    story::Story,
    table::roubles,
};
use crate::processes::Failure;

/// How long the job that closes months may take, in real time.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);
/// VAT of the replayed year in percent.
const VAT_PERCENT: i64 = 20;
const MICROS_PER_KOPECK: i64 = 10_000;

/// A document on disk.
#[derive(Debug, Clone, Serialize)]
pub struct Paper {
    /// Its file in `target/demo/documents`.
    pub file: String,
    /// `INVOICE`, `ACT`, `VAT_INVOICE`, `ADVANCE_VAT_INVOICE` or `RECONCILIATION_ACT`.
    pub kind: String,
    /// Its sum with VAT, in micro-units; zero for a reconciliation act.
    pub amount_micros: i64,
    /// The size of the PDF.
    pub bytes: usize,
}

/// Included VAT, half up to the kopeck.
fn vat_micros(gross_micros: i64) -> i64 {
    let kopecks = gross_micros / MICROS_PER_KOPECK;
    let (whole, of) = (kopecks * VAT_PERCENT, 100 + VAT_PERCENT);
    (2 * whole + of) / (2 * of) * MICROS_PER_KOPECK
}

impl Story<'_> {
    /// What is left when the traffic is over: the deferred invoice, the month's documents, the mail.
    pub(crate) async fn month_end(&mut self, folder: &Path) -> Result<(), Failure> {
        self.overdue().await?;
        self.seen.papers = fetch(self.office, Day::of(self.clock.now()), folder).await?;
        let bytes: usize = self.seen.papers.iter().map(|paper| paper.bytes).sum();
        self.say(&format!(
            "{} documents, {bytes} bytes, in {}; every sum is the ledger's",
            self.seen.papers.len(),
            folder.display()
        ));
        self.seen.top_ups = funds::tally(self).await?;
        for letter in mailbox::letters(self.sink) {
            println!("    mail to {}: {}", letter.to, letter.subject);
        }
        Ok(())
    }
}

/// Makes and fetches the documents of every owner for the month that has ended last.
pub(crate) async fn fetch(office: &Office, now: Day, folder: &Path) -> Result<Vec<Paper>, Failure> {
    let month = now.date().with_day(1).unwrap_or(now.date()).pred_opt().unwrap_or(now.date());
    let month = Date {
        year: month.year(),
        month: i32::try_from(month.month()).unwrap_or_default(),
        day: 0,
    };
    let agency = format!("accounts/{AGENCY}");
    closed(office, &agency, month).await?;
    // Those of an earlier run are not ours.
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mono = ACCOUNTS.get(MONO).map_or("", |account| account.id);
    let mut papers = Vec::new();
    for owner in [AGENCY, SMALL_AGENCY, mono, CREDITED] {
        let account = format!("accounts/{owner}");
        office.reconcile(&account, month, &format!("reconcile-{owner}")).await?;
        let documents = office.list_documents(&account).await?;
        for document in documents.iter().rev() {
            let found = office.document(&document.name).await?;
            tie(office, document, &found, &documents).await?;
            papers.push(save(office, owner, document, folder).await?);
        }
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for paper in &papers {
        *kinds.entry(&paper.kind).or_default() += 1;
    }
    if kinds.len() < 5 {
        return Err(format!("of some sort there is no document: {kinds:?}").into());
    }
    Ok(papers)
}

/// Waits until the month's act is made.
async fn closed(office: &Office, account: &str, month: Date) -> Result<(), Failure> {
    let by = Instant::now() + CLOSE_LIMIT;
    loop {
        let documents = office.list_documents(account).await?;
        let is_act = |document: &Document| {
            document.r#type() == DocumentType::Act && document.last_month == Some(month)
        };
        if documents.iter().any(is_act) {
            return Ok(());
        }
        if Instant::now() > by {
            return Err(format!("no act of {account} for {month:?} in {CLOSE_LIMIT:?}").into());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A document's sums are those of what it is about.
async fn tie(
    office: &Office,
    document: &Document,
    found: &GetDocumentResponse,
    all: &[Document],
) -> Result<(), Failure> {
    let gross = micros(document.amount.as_ref());
    let expected = match document.r#type() {
        DocumentType::Invoice => {
            let invoice = document.name.replace("/documents/", "/invoices/");
            micros(office.get_invoice(&invoice).await?.amount.as_ref())
        }
        DocumentType::Act => {
            let mut spent = micros(found.carried.as_ref());
            for source in &found.sources {
                spent += cited(office, source).await?;
            }
            // What is below a kopeck is the next month's.
            spent.div_euclid(MICROS_PER_KOPECK) * MICROS_PER_KOPECK
        }
        DocumentType::VatInvoice => {
            let act = all.iter().find(|other| {
                other.r#type() == DocumentType::Act && other.last_month == document.last_month
            });
            micros(act.and_then(|act| act.amount.as_ref()))
        }
        DocumentType::AdvanceVatInvoice => {
            micros(office.get_payment(&found.payment).await?.amount.as_ref())
        }
        // It has no sum of its own.
        DocumentType::ReconciliationAct | DocumentType::Unspecified => return Ok(()),
    };
    let vat = micros(document.vat.as_ref());
    if gross != expected || vat != vat_micros(gross) || gross == 0 {
        return Err(format!(
            "{}: {gross} micro-units with VAT of {vat}, the ledger gives {expected} and {}",
            document.title,
            vat_micros(expected)
        )
        .into());
    }
    Ok(())
}

/// What the entries that a document cites have charged, by the list of transactions.
async fn cited(office: &Office, source: &DocumentSource) -> Result<i64, Failure> {
    let range = source.first_entry..=source.last_entry;
    let mut spent = 0;
    for transaction in charges(office, &source.account).await? {
        let number = transaction.name.rsplit('/').next().and_then(|text| text.parse().ok());
        let number: i64 = number.ok_or_else(|| format!("{} has no number", transaction.name))?;
        if range.contains(&number) {
            spent -= micros(transaction.amount.as_ref());
        }
    }
    if spent == micros(source.amount.as_ref()) {
        Ok(spent)
    } else {
        Err(format!("{source:?}: its entries charged {spent} micro-units").into())
    }
}

async fn save(
    office: &Office,
    owner: &str,
    document: &Document,
    folder: &Path,
) -> Result<Paper, Failure> {
    let (first, bytes) = office.download(&document.name).await?;
    let whole = usize::try_from(first.size_bytes) == Ok(bytes.len());
    if !bytes.starts_with(b"%PDF-") || !whole || first.sha256 != Sha256::digest(&bytes).to_vec() {
        return Err(
            format!("{}: {} bytes that are no whole PDF", document.title, bytes.len()).into()
        );
    }
    let file = format!("{owner}-{}", first.file_name);
    let path = folder.join(&file);
    fs::write(&path, &bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    let kind = document.r#type().as_str_name().trim_start_matches("DOCUMENT_TYPE_").to_owned();
    let amount_micros = micros(document.amount.as_ref());
    let amount = if amount_micros == 0 { String::new() } else { roubles(amount_micros) };
    println!("    {file:<56}{amount:>12}{:>9} bytes", bytes.len());
    Ok(Paper { file, kind, amount_micros, bytes: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 200 with 20 % in it; half a kopeck goes up.
    #[test]
    fn included_vat_is_rounded_half_up_to_the_kopeck() {
        for (gross, vat) in
            [(1_200_000_000, 200_000_000), (60_000, 10_000), (30_000, 10_000), (20_000, 0)]
        {
            assert_eq!(vat_micros(gross), vat, "{gross}");
        }
    }
}
