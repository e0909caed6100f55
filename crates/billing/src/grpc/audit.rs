//! `adspend.billing.v1.AuditService`: decode, call, encode; nothing is decided here.

use std::sync::Arc;

use adspend_common::{
    id::AccountId,
    identity::{Caller, caller},
    money::Currency,
    proto::adspend::billing::v1 as pb,
    rpc::{self, PageScope, Refusal, Violations},
};
use chrono::DateTime;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{Shared, split};
use crate::{
    audit_records::{
        chain::Head,
        listing::{self, Audited, Listed, Names, Position, What},
    },
    ledger::{
        Bucket, Place, Posted,
        audit::{self, Report},
    },
};

/// The service.
#[derive(Clone)]
pub(crate) struct Audit(pub(crate) Arc<Shared>);

/// The longest name of a principal or a method that is looked for.
const MAX_WORD_BYTES: usize = 128;
/// The package of the requests that records hold.
const PACKAGE: &str = "type.googleapis.com/adspend.billing.v1";

impl Audit {
    async fn verify(
        &self,
        caller: &Caller,
        request: &pb::VerifyLedgerRequest,
    ) -> Result<Report, Refusal> {
        let mut v = Violations::new();
        let account: Option<Option<AccountId>> = v.optional_name("account", &request.account);
        let head = decode_head(&mut v, &request.audit_chain_head);
        let (account, head) = v.all((account, head))?;
        let tenant = match account {
            Some(account) => Some(self.0.visible(caller, &account).await?.key.tenant),
            None => None,
        };
        Ok(audit::verify(&self.0.pool, tenant, self.0.clock.now(), head).await?)
    }

    async fn list(
        &self,
        caller: &Caller,
        request: &pb::ListAuditRecordsRequest,
    ) -> Result<pb::ListAuditRecordsResponse, Refusal> {
        let bare = pb::ListAuditRecordsRequest {
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let scope = PageScope::new("ListAuditRecords", caller).with(bare.encode_to_vec());
        let mut v = Violations::new();
        let account = v.optional_name("account", &request.account);
        let tenant = v.optional_name("tenant", &request.tenant);
        let principal = v.optional_text("principal", &request.principal, MAX_WORD_BYTES);
        let method = v.optional_text("method", &request.method, MAX_WORD_BYTES);
        let start = v.optional_timestamp("start_time", request.start_time.as_ref());
        let end = v.optional_timestamp("end_time", request.end_time.as_ref());
        if let (Some(Some(start)), Some(Some(end))) = (start, end)
            && end <= start
        {
            v.add("end_time", "must be after start_time");
        }
        let size = v.page_size(request.page_size);
        let token = v.page_token(&self.0.pages, &scope, &request.page_token);
        let (account, tenant, principal, method, start, end, size, token) =
            v.all((account, tenant, principal, method, start, end, size, token))?;
        let listed = Listed {
            account,
            tenant,
            principal: Some(principal).filter(|principal| !principal.is_empty()),
            method: Some(method).filter(|method| !method.is_empty()),
            start,
            end,
            after: token.as_deref().and_then(decode_position),
            limit: usize::try_from(size).unwrap_or(usize::MAX),
        };
        let page = listing::list(&self.0.pool, &listed).await?;
        let token = page.next.map(|next| self.0.pages.seal(&scope, &encode_position(next)));
        Ok(pb::ListAuditRecordsResponse {
            audit_records: page.records.iter().map(|row| encode_record(&page.names, row)).collect(),
            next_page_token: token.unwrap_or_default(),
        })
    }
}

fn decode_head(v: &mut Violations, head: &str) -> Option<Option<Head>> {
    if head.is_empty() {
        return Some(None);
    }
    head.parse().map(Some).map_err(|form: &str| v.add("audit_chain_head", form)).ok()
}

fn encode_position(position: Position) -> Vec<u8> {
    let Position { at, record, calls } = position;
    let mut bytes = at.timestamp_micros().to_be_bytes().to_vec();
    bytes.extend_from_slice(&record.to_be_bytes());
    bytes.extend_from_slice(&calls.to_be_bytes());
    bytes
}

fn decode_position(bytes: &[u8]) -> Option<Position> {
    let (at, rest) = bytes.split_first_chunk()?;
    let (record, rest) = rest.split_first_chunk()?;
    Some(Position {
        at: DateTime::from_timestamp_micros(i64::from_be_bytes(*at))?,
        record: i64::from_be_bytes(*record),
        calls: u32::from_be_bytes(rest.try_into().ok()?),
    })
}

fn encode_record(names: &Names, record: &Audited) -> pb::AuditRecord {
    let Audited { id, who, at, asked, link } = record;
    let name = match id {
        (row, None) => format!("auditRecords/{row}"),
        (row, Some(call)) => format!("auditRecords/{row}-{call}"),
    };
    let encoded = pb::AuditRecord {
        name,
        method: who.method.clone(),
        principal: who.principal.clone(),
        role: who.role.clone(),
        tenant: who.tenant.as_ref().map(|id| format!("accounts/{id}")).unwrap_or_default(),
        create_time: Some(rpc::timestamp(*at)),
        chain_number: link.map_or(0, |link| link.number),
        chain_hash: link.map(|link| link.hash.to_vec()).unwrap_or_default(),
        ..Default::default()
    };
    match asked {
        What::Request { request_id, hash, request, omitted, accounts } => pb::AuditRecord {
            request_id: request_id.clone(),
            request: Some(prost_types::Any {
                type_url: format!("{PACKAGE}.{}Request", who.method),
                value: request.clone(),
            }),
            omitted_fields: omitted.clone(),
            request_hash: hash.clone(),
            accounts: accounts.iter().map(|id| format!("accounts/{id}")).collect(),
            ..encoded
        },
        What::Postings(postings) => pb::AuditRecord {
            accounts: moved(names, postings),
            postings: postings.iter().map(|posted| encode_posting(names, posted)).collect(),
            ..encoded
        },
    }
}

/// The names of the accounts whose money moved, in order and each once.
fn moved(names: &Names, postings: &[Posted]) -> Vec<String> {
    let places = postings.iter().flat_map(|posted| &posted.legs);
    let places = places.flat_map(|posted| [posted.leg.from, posted.leg.to]);
    let mut moved: Vec<String> =
        places.filter_map(|place| names.get(&place.parts().0).map(|(id, _)| id.name())).collect();
    moved.sort_unstable();
    moved.dedup();
    moved
}

fn encode_posting(names: &Names, posted: &Posted) -> pb::AuditedPosting {
    let currency = |places: [Place; 2]| -> Option<Currency> {
        places.iter().find_map(|place| names.get(&place.parts().0).map(|(_, currency)| *currency))
    };
    let movement = |leg: &crate::ledger::Leg| pb::AuditedMovement {
        source: place(names, leg.from),
        destination: place(names, leg.to),
        amount: currency([leg.from, leg.to]).map(|currency| rpc::money(leg.amount, currency)),
        object: leg.object.as_deref().unwrap_or_default().to_owned(),
    };
    pb::AuditedPosting {
        posting_id: posted.id.to_string(),
        movements: posted.legs.iter().map(|posted| movement(&posted.leg)).collect(),
    }
}

/// A place in words: `accounts/north/main`, `revenue`.
fn place(names: &Names, place: Place) -> String {
    let (account, bucket) = place.parts();
    let word = match bucket {
        Bucket::Main => "main",
        Bucket::Held => "held",
        Bucket::Frozen => "frozen",
        Bucket::Bank => "bank",
        Bucket::Card => "card",
        Bucket::Unallocated => "unallocated",
        Bucket::Promised => "promised",
        Bucket::Deferred => "deferred",
        Bucket::Revenue => "revenue",
        Bucket::Refund => "refund",
        Bucket::Adjustment => "adjustment",
    };
    match names.get(&account) {
        Some((id, _)) => format!("{}/{word}", id.name()),
        None => word.to_owned(),
    }
}

fn encode(report: &Report) -> pb::VerifyLedgerResponse {
    let difference = |difference: &audit::Difference| pb::LedgerDifference {
        check: difference.check.to_owned(),
        object: difference.object.clone(),
        detail: difference.detail.clone(),
    };
    pb::VerifyLedgerResponse {
        ok: report.is_ok(),
        differences: report.differences.iter().map(difference).collect(),
        accounts: report.accounts,
        entries: report.entries,
        legs: report.legs,
        holds: report.holds,
        verify_time: Some(rpc::timestamp(report.at)),
        chained_audit_records: report.trail.linked,
        unchained_audit_records: report.trail.unlinked,
        audit_chain_head: report.trail.head.map(|head| head.to_string()).unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl pb::audit_service_server::AuditService for Audit {
    async fn verify_ledger(
        &self,
        request: Request<pb::VerifyLedgerRequest>,
    ) -> Result<Response<pb::VerifyLedgerResponse>, Status> {
        let caller = Arc::clone(caller(&request));
        let report = self.verify(&caller, request.get_ref()).await?;
        Ok(Response::new(encode(&report)))
    }

    async fn list_audit_records(
        &self,
        request: Request<pb::ListAuditRecordsRequest>,
    ) -> Result<Response<pb::ListAuditRecordsResponse>, Status> {
        let (caller, message) = split(request);
        Ok(Response::new(self.list(&caller, &message).await?))
    }
}
