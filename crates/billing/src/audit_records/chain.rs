//! The chain over the audit trail: link n hashes the hash of link n - 1 and a record, so that a record that is
//! changed, taken out or put between others no longer fits.
//!
//! Records are linked after they are written, by a job ([`Chain::extend`]) that one replica at a time runs:
//! posting never waits for the chain. The order is that of the records' ids; a record whose transaction ends
//! later than its neighbour's is linked later. What is not linked yet is the tail: it is counted, and a tail
//! too long, or a record far behind the chain's head without a link, is a finding of the audit.
//!
//! A tail that was cut off together with its records leaves a chain that is whole. Whoever keeps a head that
//! was printed before (`adspend-billing audit` prints it) and gives it to a later audit finds that too.
//!
//! On a database that is spread over several by tenant there would be a chain for each of them.

use std::sync::Mutex;

use adspend_common::db::{self, Pool, Tx};
use chrono::{DateTime, Utc};

use super::store;
use crate::ledger::{audit::Difference, journal};

/// Links that one transaction writes.
const LINKS_AT_ONCE: i64 = 1_000;
/// How far behind the head a record may still be linked after a restart: more records than are written
/// while one transaction lasts.
pub(crate) const REACH: i64 = 100_000;
/// A tail longer than this means that nobody links any more.
const MOST_UNLINKED: i64 = 100_000;
/// Postings whose legs are compared with their digests at once.
const POSTINGS_AT_ONCE: usize = 5_000;

/// A hash of the chain.
pub type Hash = [u8; 32];

/// Where the chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// How many links there are.
    pub number: i64,
    /// The hash of the last one; zeros for an empty chain.
    pub hash: Hash,
}

impl Head {
    /// The chain before its first link.
    const EMPTY: Head = Head { number: 0, hash: [0; 32] };

    fn next(self, record: &Record) -> Head {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.hash);
        hasher.update(&record.canonical());
        let number = self.number.saturating_add(1);
        Head { number, hash: *hasher.finalize().as_bytes() }
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.number, blake3::Hash::from_bytes(self.hash).to_hex())
    }
}

impl std::str::FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Head, Self::Err> {
        let form = "a head is written as its number, a colon and 64 hexadecimal digits";
        let (number, hash) = text.split_once(':').ok_or(form)?;
        let number = number.parse().ok().filter(|number| *number > 0).ok_or(form)?;
        let hash = blake3::Hash::from_hex(hash).map_err(|_| form)?;
        Ok(Head { number, hash: *hash.as_bytes() })
    }
}

/// A row of the trail as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: i64,
    pub(crate) made_at: DateTime<Utc>,
    pub(crate) who: Vec<String>,
    pub(crate) content: Content,
}

/// What a row of the trail tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// A call with its request.
    Call {
        request_id: String,
        hash: Vec<u8>,
        request: Vec<u8>,
        omitted: Vec<i32>,
        accounts: Vec<String>,
    },
    /// A transaction of the ledger.
    Postings { calls: Vec<u8>, digest: Vec<u8> },
}

impl Record {
    /// Everything that the row says, each part with its length.
    fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&self.made_at.timestamp_micros().to_be_bytes());
        let texts = |bytes: &mut Vec<u8>, texts: &[String]| {
            bytes.extend_from_slice(&(texts.len() as u64).to_be_bytes());
            for text in texts {
                put(bytes, text.as_bytes());
            }
        };
        texts(&mut bytes, &self.who);
        match &self.content {
            Content::Call { request_id, hash, request, omitted, accounts } => {
                bytes.push(1);
                for part in [request_id.as_bytes(), hash, request] {
                    put(&mut bytes, part);
                }
                bytes.extend_from_slice(&(omitted.len() as u64).to_be_bytes());
                for number in omitted {
                    bytes.extend_from_slice(&number.to_be_bytes());
                }
                texts(&mut bytes, accounts);
            }
            Content::Postings { calls, digest } => {
                bytes.push(2);
                put(&mut bytes, calls);
                put(&mut bytes, digest);
            }
        }
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
    bytes.extend_from_slice(part);
}

/// What the linking job remembers between its rounds.
#[derive(Debug, Default)]
pub(crate) struct Chain(Mutex<Seen>);

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    /// Records up to here are linked, or will never be there: their transactions have ended.
    settled: i64,
    /// Ids up to `id` were given to transactions below `horizon`.
    next: Option<store::Horizon>,
}

impl Chain {
    /// Links what is not linked yet; answers how many records it linked.
    pub(crate) async fn extend(&self, pool: &Pool) -> Result<usize, db::Error> {
        let mut client = pool.get().await?;
        let horizon = store::horizon(&client).await?;
        let seen = *self.seen();
        let mut linked = 0;
        loop {
            let tx = client.transaction().await?;
            if !store::lock_chain(&tx).await? {
                return Ok(linked);
            }
            let (mut head, last_record) = store::head(&tx).await?.unwrap_or((Head::EMPTY, 0));
            let floor = if seen.settled == 0 { last_record - REACH } else { seen.settled };
            let records = store::unlinked(&tx, floor, LINKS_AT_ONCE).await?;
            let links: Vec<(i64, Head)> = records
                .iter()
                .map(|record| {
                    head = head.next(record);
                    (record.id, head)
                })
                .collect();
            store::link(&tx, &links).await?;
            tx.commit().await?;
            linked += links.len();
            if links.len() < usize::try_from(LINKS_AT_ONCE).unwrap_or(usize::MAX) {
                break;
            }
        }
        // All that ended before this round's look is linked now; later rounds begin behind it.
        let mut now = self.seen();
        match seen.next {
            Some(next) if horizon.oldest >= next.newest => {
                now.settled = now.settled.max(next.id);
                now.next = Some(horizon);
            }
            Some(_) => {}
            None => now.next = Some(horizon),
        }
        Ok(linked)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What the audit found of the trail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// Records with a link.
    pub linked: i64,
    /// Records that wait for theirs.
    pub unlinked: i64,
    /// Where the chain ends; none while it is empty.
    pub head: Option<Head>,
}

/// Recomputes the chain from its beginning, and the digest of every transaction from its legs. `known` is a
/// head that somebody kept: the chain must still go through it.
pub(crate) async fn prove(
    tx: &Tx<'_>,
    known: Option<Head>,
    mut differs: impl FnMut(Difference),
) -> Result<Proof, db::Error> {
    let mut at = Head::EMPTY;
    let mut last_record = 0;
    let mut digests = Digests::default();
    let link = |number: i64| format!("audit link {number}");
    loop {
        let page = store::linked(tx, at.number, LINKS_AT_ONCE).await?;
        let Some((end, _, _)) = page.last() else { break };
        let end = end.number;
        for (stored, record_id, record) in page {
            let expected = at.number.saturating_add(1);
            if stored.number != expected {
                let detail = format!("link {expected} is gone");
                differs(finding("audit_chain", link(stored.number), detail));
            }
            match record {
                None => {
                    let detail = format!("its record {record_id} is gone");
                    differs(finding("audit_chain", link(stored.number), detail));
                }
                Some(record) => {
                    if at.next(&record).hash != stored.hash {
                        let detail = format!("its hash is not that of record {record_id}");
                        differs(finding("audit_chain", link(stored.number), detail));
                    }
                    digests.check(tx, record, &mut differs).await?;
                }
            }
            if known.is_some_and(|known| known.number == stored.number && known.hash != stored.hash)
            {
                let detail = "the head that was kept had another hash".to_owned();
                differs(finding("audit_chain_head", link(stored.number), detail));
            }
            // What comes after a break is judged by itself.
            at = stored;
            last_record = last_record.max(record_id);
        }
        debug_assert_eq!(at.number, end, "a page ends with its last link");
    }
    if let Some(known) = known.filter(|known| known.number > at.number) {
        let detail = format!("a kept head had {} links, there are {}", known.number, at.number);
        differs(finding("audit_chain_head", link(known.number), detail));
    }
    let mut proof = Proof { linked: at.number, unlinked: 0, head: (at.number > 0).then_some(at) };
    let mut after = 0;
    loop {
        let page = store::unlinked(tx, after, LINKS_AT_ONCE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for record in page {
            proof.unlinked = proof.unlinked.saturating_add(1);
            if record.id < last_record - REACH {
                let detail = format!("no link, and the chain is at record {last_record}");
                differs(finding("audit_chain", format!("audit record {}", record.id), detail));
            }
            digests.check(tx, record, &mut differs).await?;
        }
    }
    digests.finish(tx, &mut differs).await?;
    if proof.unlinked > MOST_UNLINKED {
        let detail = format!("{} records wait for a link, at most {MOST_UNLINKED}", proof.unlinked);
        differs(finding("audit_chain", "the tail".to_owned(), detail));
    }
    Ok(proof)
}

fn finding(check: &'static str, object: String, detail: String) -> Difference {
    Difference { check, object, detail }
}

/// Compares transactions with their legs, many at once.
#[derive(Default)]
struct Digests {
    waiting: Vec<(i64, Vec<journal::Booked>, Vec<u8>)>,
    postings: usize,
}

impl Digests {
    async fn check(
        &mut self,
        tx: &Tx<'_>,
        record: Record,
        differs: &mut impl FnMut(Difference),
    ) -> Result<(), db::Error> {
        let Content::Postings { calls, digest } = record.content else { return Ok(()) };
        let Some(calls) = journal::decode(&calls) else {
            let detail = "its postings do not read".to_owned();
            differs(finding("audit_digest", format!("audit record {}", record.id), detail));
            return Ok(());
        };
        self.postings += calls.iter().map(|call| call.postings.len()).sum::<usize>();
        self.waiting.push((record.id, calls, digest));
        if self.postings >= POSTINGS_AT_ONCE { self.finish(tx, differs).await } else { Ok(()) }
    }

    async fn finish(
        &mut self,
        tx: &Tx<'_>,
        differs: &mut impl FnMut(Difference),
    ) -> Result<(), db::Error> {
        let waiting = std::mem::take(&mut self.waiting);
        self.postings = 0;
        let keys =
            waiting.iter().flat_map(|(_, calls, _)| calls.iter().flat_map(|call| &call.postings));
        let keys: Vec<_> = keys.copied().collect();
        if keys.is_empty() {
            return Ok(());
        }
        let found = crate::ledger::journaled(tx, &keys).await?;
        for (id, calls, expected) in waiting {
            let mut digest = journal::Digest::default();
            for key in calls.iter().flat_map(|call| &call.postings) {
                for (hash, posted) in found.get(key).into_iter().flatten() {
                    digest.add(key.0, *hash, posted);
                }
            }
            if digest.bytes().as_slice() != expected {
                let detail = "the legs of its postings are not those that were booked".to_owned();
                differs(finding("audit_digest", format!("audit record {id}"), detail));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: i64) -> Record {
        Record {
            id,
            made_at: DateTime::UNIX_EPOCH,
            who: vec!["CreateInvoice token:1 agency north".to_owned()],
            content: Content::Call {
                request_id: "r".to_owned(),
                hash: vec![1],
                request: vec![2, 3],
                omitted: vec![],
                accounts: vec!["north".to_owned()],
            },
        }
    }

    /// Every single part of a row is in its hash, and so is where it stands.
    #[test]
    fn any_change_of_a_record_changes_its_hash() {
        let first = Head::EMPTY.next(&record(1));
        let changed = |change: fn(&mut Record)| {
            let mut other = record(1);
            change(&mut other);
            assert_ne!(Head::EMPTY.next(&other).hash, first.hash, "{other:?}");
        };
        changed(|record| record.id = 2);
        changed(|record| record.made_at += chrono::TimeDelta::microseconds(1));
        changed(|record| record.who[0].push('x'));
        changed(|record| record.who.push(String::new()));
        changed(|record| record.content = Content::Postings { calls: vec![], digest: vec![] });
        type Parts<'a> = (
            &'a mut String,
            &'a mut Vec<u8>,
            &'a mut Vec<u8>,
            &'a mut Vec<i32>,
            &'a mut Vec<String>,
        );
        let part = |change: fn(Parts<'_>)| {
            let mut other = record(1);
            if let Content::Call { request_id, hash, request, omitted, accounts } =
                &mut other.content
            {
                change((request_id, hash, request, omitted, accounts));
            }
            assert_ne!(Head::EMPTY.next(&other).hash, first.hash, "{other:?}");
        };
        part(|(request_id, ..)| request_id.push('1'));
        part(|(_, hash, ..)| hash.clear());
        // From one part into the next.
        part(|(_, hash, request, ..)| hash.push(request.remove(0)));
        part(|(.., omitted, _)| omitted.push(2));
        part(|(.., accounts)| accounts.clear());
        assert_ne!(first.next(&record(1)).hash, first.hash, "the place counts");
    }

    #[test]
    fn a_head_reads_back() {
        let head = Head::EMPTY.next(&record(1));
        assert_eq!(head.to_string().parse(), Ok(head));
        for wrong in ["", "1", "0:00", "1:zz", "-1:00"] {
            assert!(wrong.parse::<Head>().is_err(), "{wrong}");
        }
    }
}
