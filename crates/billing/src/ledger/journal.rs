//! On whose behalf money moved: the ledger's rows of the audit trail, one for each transaction that books
//! postings, written by the same statement.
//!
//! A row holds a dictionary of callers, the postings call by call, and the digest of everything that their
//! legs say. Postings of a feature's own transaction have no caller here: the feature's call has a record of
//! its own (see `audit_records`). So every leg that is ever booked stands in exactly one row, and a leg that
//! is changed afterwards no longer fits its digest.
//!
//! Cost: about 10 bytes and 200 ns a posting; the row's head is shared by the batch. A posting is named by
//! its tenant and the first half of its id, which is a hash: enough to find it, and the digest has all of it.

use std::sync::Arc;

use adspend_common::identity::Caller;
use uuid::Uuid;

use super::{Posted, TenantNo};

/// Who asks for what.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Who.
    pub caller: Arc<Caller>,
    /// The method, without its service.
    pub method: &'static str,
}

impl Actor {
    /// As a row of the trail holds it: `method principal role tenant`.
    pub(crate) fn text(&self) -> String {
        let Caller { role, tenant, label } = &*self.caller;
        let tenant = tenant.as_ref().map_or("-", |tenant| tenant.as_str());
        let label = label.replace(char::is_whitespace, "_");
        format!("{} {label} {role} {tenant}", self.method)
    }

    fn is(&self, other: &Actor) -> bool {
        self.method == other.method
            && (Arc::ptr_eq(&self.caller, &other.caller) || self.caller == other.caller)
    }
}

/// The half of a posting's id by which it is found.
pub(crate) type Prefix = [u8; 8];

/// The postings that one call made in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Booked {
    /// Its place in the row's dictionary; none for postings without a caller.
    pub(crate) who: Option<usize>,
    /// In the order of booking.
    pub(crate) postings: Vec<(TenantNo, Prefix)>,
}

/// Collects what a transaction books.
#[derive(Debug, Default)]
pub(super) struct Journal {
    actors: Vec<Actor>,
    calls: Vec<Booked>,
    /// The caller of what comes next, and whether a call of its begins.
    who: Option<usize>,
    begins: bool,
    digest: Digest,
}

impl Journal {
    /// What is booked next is one call of this caller.
    pub(super) fn begin(&mut self, actor: &Actor) {
        let known = self.actors.iter().rposition(|known| known.is(actor));
        self.who = Some(known.unwrap_or_else(|| {
            self.actors.push(actor.clone());
            self.actors.len().saturating_sub(1)
        }));
        self.begins = true;
    }

    /// What is booked next nobody asked for: time did.
    pub(super) fn begin_unasked(&mut self) {
        (self.who, self.begins) = (None, true);
    }

    pub(super) fn add(&mut self, tenant: TenantNo, payload_hash: i64, posted: &Posted) {
        if self.begins || self.calls.is_empty() {
            self.calls.push(Booked { who: self.who, postings: Vec::new() });
            self.begins = false;
        }
        if let Some(call) = self.calls.last_mut() {
            call.postings.push((tenant, prefix(posted.id)));
        }
        self.digest.add(tenant, payload_hash, posted);
    }

    /// The dictionary, the postings and the digest; none when nothing was booked.
    pub(super) fn row(&self) -> Option<(Vec<String>, Vec<u8>, Vec<u8>)> {
        if self.calls.is_empty() {
            return None;
        }
        let who = self.actors.iter().map(Actor::text).collect();
        Some((who, encode(&self.calls), self.digest.bytes().to_vec()))
    }
}

/// The hash of what legs say, posting after posting.
#[derive(Debug, Default)]
pub(crate) struct Digest(blake3::Hasher);

impl Digest {
    pub(crate) fn add(&mut self, tenant: TenantNo, payload_hash: i64, posted: &Posted) {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&tenant.0.to_be_bytes());
        bytes.extend_from_slice(posted.id.as_bytes());
        bytes.extend_from_slice(&posted.at.timestamp_micros().to_be_bytes());
        bytes.extend_from_slice(&payload_hash.to_be_bytes());
        bytes.extend_from_slice(&(posted.legs.len() as u64).to_be_bytes());
        for posted in &posted.legs {
            let leg = &posted.leg;
            for (place, version) in [(leg.from, posted.from_version), (leg.to, posted.to_version)] {
                let (account, bucket) = place.parts();
                bytes.extend_from_slice(&account.0.to_be_bytes());
                bytes.extend_from_slice(&bucket.number().to_be_bytes());
                bytes.extend_from_slice(&version.to_be_bytes());
            }
            bytes.extend_from_slice(&leg.kind.number().to_be_bytes());
            bytes.extend_from_slice(&leg.amount.micros().to_be_bytes());
            let object = leg.object.as_deref();
            let length = object.map_or(u64::MAX, |object| object.len() as u64);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(object.unwrap_or_default().as_bytes());
        }
        self.0.update(&bytes);
    }

    pub(crate) fn bytes(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

pub(crate) fn prefix(id: Uuid) -> Prefix {
    let mut prefix = Prefix::default();
    prefix.copy_from_slice(&id.as_bytes()[..8]);
    prefix
}

/// The ids that begin so: the first and the last of them.
pub(crate) fn range(prefix: Prefix) -> (Uuid, Uuid) {
    let with = |rest: [u8; 8]| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&prefix);
        bytes[8..].copy_from_slice(&rest);
        Uuid::from_bytes(bytes)
    };
    (with([0; 8]), with([u8::MAX; 8]))
}

/// Per call: its caller's place counted from 1 (0 for nobody) and whether it has one posting, as one number;
/// the number of postings when it is not one; per posting the tenant as the difference from the one before,
/// and the prefix. Numbers are LEB128, differences zigzag.
fn encode(calls: &[Booked]) -> Vec<u8> {
    let mut out = Vec::with_capacity(calls.len().saturating_mul(11));
    let mut tenant = 0_i64;
    for call in calls {
        let who = call.who.map_or(0, |who| who as u64 + 1);
        let one = call.postings.len() == 1;
        put(&mut out, who << 1 | u64::from(!one));
        if !one {
            put(&mut out, call.postings.len() as u64);
        }
        for (of, prefix) in &call.postings {
            let difference = of.0.wrapping_sub(tenant);
            put(&mut out, (difference << 1 ^ difference >> 63).cast_unsigned());
            tenant = of.0;
            out.extend_from_slice(prefix);
        }
    }
    out
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What [`encode`] wrote; none for bytes that it did not write.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Booked>> {
    let mut rest = bytes;
    let mut tenant = 0_i64;
    let mut calls = Vec::new();
    while !rest.is_empty() {
        let head = take(&mut rest)?;
        let count = if head & 1 == 0 { 1 } else { take(&mut rest)? };
        if count.checked_mul(9)? > rest.len() as u64 {
            return None;
        }
        let mut postings = Vec::new();
        for _ in 0..count {
            let zigzag = take(&mut rest)?;
            let difference = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
            tenant = tenant.wrapping_add(difference);
            let (prefix, after) = rest.split_first_chunk()?;
            rest = after;
            postings.push((TenantNo(tenant), *prefix));
        }
        let who = usize::try_from(head >> 1).ok()?.checked_sub(1);
        calls.push(Booked { who, postings });
    }
    Some(calls)
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call() -> impl Strategy<Value = Booked> {
        let postings =
            prop::collection::vec((any::<i64>().prop_map(TenantNo), any::<Prefix>()), 0..9);
        (proptest::option::of(0..1_000_usize), postings)
            .prop_map(|(who, postings)| Booked { who, postings })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(calls in prop::collection::vec(call(), 0..20)) {
            prop_assert_eq!(decode(&encode(&calls)), Some(calls));
        }

        /// Bytes of somebody else are an answer, not a panic.
        #[test]
        fn garbage_is_no_journal(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_posting_is_in_the_range_of_its_prefix(id: u128) {
            let id = Uuid::from_u128(id);
            let (low, high) = range(prefix(id));
            prop_assert!(low <= id && id <= high);
        }
    }

    /// The budget of the hot path: one transfer of one call, tenants of one installation.
    #[test]
    fn a_transfer_costs_eleven_bytes() {
        let call = |tenant| Booked { who: Some(0), postings: vec![(TenantNo(tenant), [7; 8])] };
        let calls: Vec<Booked> = (0..100).map(|at| call(1_000 + at * 37 % 64)).collect();
        assert!(encode(&calls).len() <= 1_101, "{}", encode(&calls).len());
    }
}
