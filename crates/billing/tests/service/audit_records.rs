//! The audit trail: who did what when with which request.

use std::time::Duration;

use adspend_common::{config::HumanDuration, proto::adspend::billing::v1 as pb};
use tonic::Code;

use crate::support::*;

async fn list(
    caller: &Caller,
    request: pb::ListAuditRecordsRequest,
) -> (Vec<pb::AuditRecord>, String) {
    let page = caller.audit().list_audit_records(request).await.unwrap().into_inner();
    (page.audit_records, page.next_page_token)
}

/// All pages of this size, with something done between them.
async fn all(
    world: &World,
    request: pb::ListAuditRecordsRequest,
    mut between: impl AsyncFnMut(),
) -> Vec<pb::AuditRecord> {
    let mut records = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListAuditRecordsRequest { page_token, ..request.clone() };
        let (page, next) = list(&world.operator(), request).await;
        records.extend(page);
        page_token = next;
        if page_token.is_empty() {
            return records;
        }
        between().await;
    }
}

fn methods(records: &[pb::AuditRecord]) -> Vec<&str> {
    records.iter().map(|record| record.method.as_str()).collect()
}

fn request_of<M: prost::Message + Default>(record: &pb::AuditRecord) -> M {
    let request = record.request.as_ref().unwrap();
    let wanted = format!("type.googleapis.com/adspend.billing.v1.{}Request", record.method);
    assert_eq!(request.type_url, wanted);
    M::decode(request.value.as_slice()).unwrap()
}

/// An agency with money, a client, transfers of one and of many, and a hold that is spent from.
async fn busy() -> World {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "10000").await;
    world.transfer("north", "shop", "5000").await;
    let item = |amount: &str| pb::CreateTransferRequest {
        source: name("north"),
        destination: name("shop"),
        amount: rub(amount),
        request_id: fresh(),
    };
    let requests = vec![item("100"), item("200"), item("999999")];
    let batch = pb::BatchCreateTransfersRequest { requests, atomic: false };
    world.agency("north").transfers().batch_create_transfers(batch).await.unwrap();
    let holds = world.role("pacing", None).holds();
    let hold = world.hold("shop", 300_000_000).await.name;
    let item = pb::ReleaseHoldItem { hold };
    let release = pb::ReleaseHoldsRequest { requests: vec![item] };
    holds.clone().release_holds(release.clone()).await.unwrap();
    // The repeat changes nothing.
    holds.clone().release_holds(release).await.unwrap();
    let charge = pb::RecordChargeItem {
        account: name("shop"),
        campaign: "campaigns/spring".to_owned(),
        amount_micros: 7_000_000,
        day: None,
        request_id: fresh(),
    };
    let charges = pb::RecordChargesRequest { requests: vec![charge] };
    holds.clone().record_charges(charges).await.unwrap();
    world
}

#[tokio::test]
async fn every_changing_call_leaves_who_asked_for_what() {
    let world = busy().await;
    let records = all(&world, Default::default(), async || {}).await;
    assert_eq!(
        methods(&records),
        [
            "RecordCharges",
            "ReleaseHolds",
            "OpenHolds",
            "BatchCreateTransfers",
            "CreateTransfer",
            "RecordPayment",
            "CreateInvoice",
            "CreateAccount",
            "CreateAccount",
        ]
    );
    let who = |at: usize| {
        let pb::AuditRecord { role, tenant, principal, .. } = &records[at];
        assert_eq!(principal, "development");
        (role.as_str(), tenant.as_str())
    };
    assert_eq!(
        (who(0), who(3), who(8)),
        (("pacing", ""), ("agency", "accounts/north"), ("operator", ""))
    );

    // The request as it came, and what came of it.
    let created: pb::CreateAccountRequest = request_of(&records[7]);
    assert_eq!(
        (created.account_id.as_str(), &created.request_id),
        ("shop", &records[7].request_id)
    );
    assert_eq!(records[7].accounts, ["accounts/north", "accounts/shop"]);
    let paid: pb::RecordPaymentRequest = request_of(&records[5]);
    assert_eq!(text(&paid.amount), "10000");
    assert_eq!(records[5].accounts, ["accounts/north"], "only the answer names it");
    let opened: pb::OpenHoldsRequest = request_of(&records[2]);
    assert_eq!(opened.requests[0].amount_micros, 300_000_000);

    // Of transfers and charges the ledger says what was asked.
    let moved = |at: usize| -> Vec<(String, String, String, String)> {
        let postings = records[at].postings.iter().flat_map(|posting| &posting.movements);
        postings
            .map(|leg| {
                let pb::AuditedMovement { source, destination, amount, object } = leg.clone();
                (source, destination, text(&amount), object)
            })
            .collect()
    };
    let leg = |source: &str, destination: &str, amount: &str, object: &str| {
        (source.to_owned(), destination.to_owned(), amount.to_owned(), object.to_owned())
    };
    let (north, shop) = ("accounts/north/main", "accounts/shop/main");
    assert_eq!(moved(4), [leg(north, shop, "5000", "")]);
    assert_eq!(moved(3), [leg(north, shop, "100", ""), leg(north, shop, "200", "")]);
    assert_eq!(moved(0), [leg(shop, "revenue", "7", "campaigns/spring")]);
    let transfers = world.operator().transfers();
    let id = &records[4].postings[0].posting_id;
    let transfer = pb::GetTransferRequest { name: format!("accounts/north/transfers/{id}") };
    transfers.clone().get_transfer(transfer).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn what_changes_nothing_leaves_nothing() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    let before = all(&world, Default::default(), async || {}).await.len();
    // Refused: there is no money.
    let request = pb::CreateTransferRequest {
        source: name("north"),
        destination: name("shop"),
        amount: rub("1"),
        request_id: fresh(),
    };
    refused(world.operator().transfers().create_transfer(request.clone()).await);
    let invoice = pb::CreateInvoiceRequest {
        parent: name("shop"),
        amount: rub("2000"),
        terms: pb::InvoiceTerms::Prepaid.into(),
        request_id: fresh(),
    };
    refused(world.operator().invoices().create_invoice(invoice).await);
    assert_eq!(all(&world, Default::default(), async || {}).await.len(), before);
    // Repeated: one record for all of them.
    world.pay("north", "2000").await;
    for _ in 0..3 {
        world.operator().transfers().create_transfer(request.clone()).await.unwrap();
    }
    let create = account("north", pb::AccountKind::Agency, NORTH_INN);
    refused(world.operator().accounts().create_account(create).await);
    let records = all(&world, Default::default(), async || {}).await;
    assert_eq!(methods(&records)[..3], ["CreateTransfer", "RecordPayment", "CreateInvoice"]);
    assert_eq!(records.len(), before + 3);
    world.end().await;
}

#[tokio::test]
async fn records_are_found_by_account_tenant_principal_method_and_time() {
    let world = busy().await;
    world.create(account("south", pb::AccountKind::Agency, OTHER_INN)).await;
    world.set("2026-11-25T12:00:00+03:00");
    world.invoice("south", "2000").await;
    world.transfer("shop", "north", "1").await;
    let found = async |request: pb::ListAuditRecordsRequest| {
        let records = all(&world, request, async || {}).await;
        methods(&records).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let any = pb::ListAuditRecordsRequest::default;
    let of = |id: &str| pb::ListAuditRecordsRequest { account: name(id), ..any() };
    assert_eq!(found(of("south")).await, ["CreateInvoice", "CreateAccount"]);
    assert_eq!(
        found(of("shop")).await,
        [
            "CreateTransfer",
            "RecordCharges",
            "ReleaseHolds",
            "OpenHolds",
            "BatchCreateTransfers",
            "CreateTransfer",
            "CreateAccount",
        ]
    );
    let by = pb::ListAuditRecordsRequest { tenant: name("north"), ..any() };
    assert_eq!(found(by).await, ["BatchCreateTransfers", "CreateAccount"]);
    let by = pb::ListAuditRecordsRequest { principal: "development".to_owned(), ..any() };
    assert_eq!(found(by).await.len(), 12);
    let by = pb::ListAuditRecordsRequest { principal: "somebody".to_owned(), ..any() };
    assert_eq!(found(by).await, [""; 0]);
    let by = pb::ListAuditRecordsRequest { method: "CreateTransfer".to_owned(), ..any() };
    assert_eq!(found(by).await, ["CreateTransfer"; 2]);
    let by = pb::ListAuditRecordsRequest {
        method: "CreateTransfer".to_owned(),
        account: name("south"),
        ..any()
    };
    assert_eq!(found(by).await, [""; 0]);
    let within = |start: &str, end: &str| pb::ListAuditRecordsRequest {
        start_time: stamp(start),
        end_time: stamp(end),
        ..any()
    };
    let (start, set) = ("2026-11-20T12:00:00+03:00", "2026-11-25T12:00:00+03:00");
    assert_eq!(found(within(set, "2026-11-26T12:00:00+03:00")).await.len(), 2);
    assert_eq!(found(within(start, set)).await.len(), 10);
    let absent = world.operator().audit().list_audit_records(of("nobody")).await;
    refused(absent).is(Code::NotFound, "NOT_FOUND");
    world.end().await;
}

/// A row of the group commit holds many calls, and a page may end within it.
#[tokio::test]
async fn pages_stay_put_while_calls_are_made() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "2000").await;
    for _ in 0..6 {
        let caller = world.operator();
        let transfers = (0..5).map(|_| {
            let request = pb::CreateTransferRequest {
                source: name("north"),
                destination: name("shop"),
                amount: rub("1"),
                request_id: fresh(),
            };
            let mut transfers = caller.transfers();
            async move { transfers.create_transfer(request).await.unwrap() }
        });
        futures_util::future::join_all(transfers).await;
    }
    let names = |records: Vec<pb::AuditRecord>| -> Vec<String> {
        records.into_iter().map(|record| record.name).collect()
    };
    let whole = names(all(&world, Default::default(), async || {}).await);
    assert_eq!(whole.len(), 34);
    let one_more = async || world.transfer("north", "shop", "1").await;
    for page_size in [1, 3, 7] {
        let request = pb::ListAuditRecordsRequest { page_size, ..Default::default() };
        let whole = names(all(&world, Default::default(), async || {}).await);
        let paged = names(all(&world, request, one_more).await);
        assert_eq!(paged, whole, "{page_size} at a time");
        let mut once = paged.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), paged.len(), "nothing twice");
    }
    world.end().await;
}

#[tokio::test]
async fn operators_and_auditors_read_the_trail_and_nobody_else() {
    let world = busy().await;
    for (role, tenant) in
        [("agency", Some("north")), ("advertiser", Some("north")), ("pacing", None)]
    {
        let caller = world.role(role, tenant);
        let answer =
            caller.audit().list_audit_records(pb::ListAuditRecordsRequest::default()).await;
        refused(answer).is(Code::PermissionDenied, "PERMISSION_DENIED");
    }
    let auditor = world.role("auditor", None);
    assert_eq!(list(&auditor, Default::default()).await.0.len(), 9);
    world.end().await;
}

#[tokio::test]
async fn records_are_linked_and_a_kept_head_stays_in_the_chain() {
    let world = World::with(|config| {
        config.jobs.enabled = true;
        config.jobs.chain_audit_every = HumanDuration::from_millis(100);
    })
    .await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "2000").await;
    world.transfer("north", "shop", "1").await;
    let mut records = Vec::new();
    for _ in 0..600 {
        records = all(&world, Default::default(), async || {}).await;
        if records.iter().all(|record| record.chain_number > 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(records.iter().all(|record| record.chain_hash.len() == 32), "{records:#?}");
    let verify = async |audit_chain_head: String| {
        let request = pb::VerifyLedgerRequest { account: String::new(), audit_chain_head };
        world.operator().audit().verify_ledger(request).await
    };
    let first = verify(String::new()).await.unwrap().into_inner();
    assert!(first.ok && first.chained_audit_records >= 5, "{first:?}");
    assert_eq!(first.unchained_audit_records, 0);
    world.transfer("north", "shop", "1").await;
    assert!(verify(first.audit_chain_head.clone()).await.unwrap().into_inner().ok);
    // A head that this chain never had, and one that it has not reached.
    let (number, hash) = first.audit_chain_head.split_once(':').unwrap();
    let other = verify(format!("{number}:{}", "0".repeat(64))).await.unwrap().into_inner();
    assert_eq!(other.differences[0].check, "audit_chain_head");
    assert!(!verify(format!("9999:{hash}")).await.unwrap().into_inner().ok);
    assert_eq!(refused(verify("9999".to_owned()).await).fields, ["audit_chain_head"]);
    world.end().await;
}
